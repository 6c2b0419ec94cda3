/* Threads that compute together. Those that wait look again for some microseconds, then sleep.
 *
 * Looking on for longer would take the processor from whoever one waits for, where other programs
 * compute as well; sleeping at once would cost more than most waits take.
 */
#ifndef MODELCOMPOSE_POOL_H
#define MODELCOMPOSE_POOL_H

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#endif

#define MOST_THREADS 256
#define LOOKS 2000 /* before a thread sleeps: some ten microseconds */

/* A word that threads wait for, alone in its line of the cache. */
struct signal {
    _Alignas(64) uint32_t value;
};

struct team;
typedef void work(struct team *team, void *task);

struct pool {
    struct signal called[MOST_THREADS]; /* counts the tasks that a worker was called to */
    struct signal phase;                /* counts the barriers that were passed */
    struct signal arrived;
    struct signal sleeping;
    work *work; /* NULL: the workers end */
    void *task;
    int threads; /* of the task */
    int workers; /* there are, beside the caller's thread; they have the numbers from 1 */
    pid_t process;
    pthread_t ids[MOST_THREADS];
};

/* A thread at its task. */
struct team {
    struct pool *pool;
    int thread, threads;
};

static inline void look_again(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void wait_while(struct pool *pool, struct signal *signal, uint32_t value) {
    for (int look = 0; look < LOOKS; look++) {
        if (__atomic_load_n(&signal->value, __ATOMIC_ACQUIRE) != value)
            return;
        look_again();
    }
    __atomic_fetch_add(&pool->sleeping.value, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&signal->value, __ATOMIC_SEQ_CST) == value) {
#if defined(__linux__)
        syscall(SYS_futex, &signal->value, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
#else
        usleep(50);
#endif
    }
    __atomic_fetch_sub(&pool->sleeping.value, 1, __ATOMIC_SEQ_CST);
}

static void advance(struct pool *pool, struct signal *signal) {
    __atomic_fetch_add(&signal->value, 1, __ATOMIC_SEQ_CST);
#if defined(__linux__)
    if (__atomic_load_n(&pool->sleeping.value, __ATOMIC_SEQ_CST))
        syscall(SYS_futex, &signal->value, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
#else
    (void)pool;
#endif
}

/* Go on when all threads of the task have come here. */
static void barrier(struct team *team) {
    struct pool *pool = team->pool;
    if (team->threads == 1)
        return;
    const uint32_t phase = __atomic_load_n(&pool->phase.value, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&pool->arrived.value, 1, __ATOMIC_ACQ_REL) < (uint32_t)team->threads) {
        wait_while(pool, &pool->phase, phase);
        return;
    }
    __atomic_store_n(&pool->arrived.value, 0, __ATOMIC_RELAXED);
    advance(pool, &pool->phase);
}

/* The range of `count` things that is this thread's. */
static inline void share(const struct team *team, int64_t count, int64_t *from, int64_t *to) {
    *from = count * team->thread / team->threads;
    *to = count * (team->thread + 1) / team->threads;
}

struct worker {
    struct pool *pool;
    int number;
};

static void *worker_main(void *given) {
    struct pool *pool = ((struct worker *)given)->pool;
    const int number = ((struct worker *)given)->number;
    free(given);
    for (uint32_t tasks = 0;; tasks++) {
        wait_while(pool, &pool->called[number], tasks);
        if (!pool->work)
            return NULL;
        struct team team = {pool, number, pool->threads};
        pool->work(&team, pool->task);
        barrier(&team);
    }
}

struct pool *pool_make(void) {
    struct pool *pool = aligned_alloc(64, (sizeof *pool + 63) / 64 * 64);
    if (pool) {
        __builtin_memset(pool, 0, sizeof *pool);
        pool->process = getpid();
    }
    return pool;
}

/* Have so many threads, the caller's included; fewer where the system has no more. */
static int pool_reach(struct pool *pool, int threads) {
    threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
    if (pool->process != getpid())
        return 1; /* the workers are in the process that this one was forked from */
    while (pool->workers + 1 < threads) {
        struct worker *worker = malloc(sizeof *worker);
        if (!worker)
            break;
        *worker = (struct worker){pool, pool->workers + 1};
        if (pthread_create(&pool->ids[worker->number], NULL, worker_main, worker)) {
            free(worker);
            break;
        }
        pool->workers++;
    }
    return threads < pool->workers + 1 ? threads : pool->workers + 1;
}

/* Do a task with some threads; returns when all have done their parts. One caller at a time. */
static void pool_run(struct pool *pool, int threads, work *work, void *task) {
    threads = pool_reach(pool, threads);
    pool->work = work, pool->task = task, pool->threads = threads;
    for (int number = 1; number < threads; number++)
        advance(pool, &pool->called[number]);
    struct team team = {pool, 0, threads};
    work(&team, task);
    barrier(&team);
}

void pool_end(struct pool *pool) {
    if (pool->process == getpid()) {
        pool->work = NULL;
        for (int number = 1; number <= pool->workers; number++)
            advance(pool, &pool->called[number]);
        for (int number = 1; number <= pool->workers; number++)
            pthread_join(pool->ids[number], NULL);
    }
    free(pool);
}

#endif
