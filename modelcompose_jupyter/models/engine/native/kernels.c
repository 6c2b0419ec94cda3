/* A step of a decoder on a processor: everything between tokens and scores in one call.
 *
 * A token costs reading the weights. So they are packed once in the order in which they are read, and
 * nothing between two products leaves the processor's cache. Attention reads the keys that there are.
 */
#include "native.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* So many rows are multiplied at once, so that all sums stay in registers: TILE_ROWS with one block of
 * outputs, WIDE_ROWS with two. */
#if defined(__AVX512F__)
#define LANES 16
#define TILE_ROWS 12
#define WIDE_ROWS 12
#elif defined(__AVX2__)
#define LANES 8
#define TILE_ROWS 6
#define WIDE_ROWS 3
#elif defined(__aarch64__)
#define LANES 4
#define TILE_ROWS 6
#define WIDE_ROWS 3
#else
#define LANES 4
#define TILE_ROWS 3
#define WIDE_ROWS 1
#endif

#if defined(__AVX512F__)
#include <immintrin.h>
#endif
#if defined(__AVX512BF16__) && defined(__AVX512F__)
#define HAS_DOT 1
#else
#define HAS_DOT 0
#endif

/* Weights are packed in blocks of so many outputs. */
#define BLOCK 16
#define VECTORS (BLOCK / LANES)
#define LINE 64 /* bytes of the cache */
/* So many keys, and so many values, are packed for the queries that share them. */
#define KEYS (2 * BLOCK)
#define VALUES 64
/* So many rows are multiplied with one panel of weights before the next is read. */
#define ROWS_AT_ONCE 96
/* So many queries share keys and values that were packed once. */
#define QUERIES 24

typedef float vector __attribute__((vector_size(4 * LANES)));
typedef int32_t integers __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));

static inline vector load(const float *from) {
    vector values;
    memcpy(&values, from, sizeof values);
    return values;
}

static inline void store(float *to, vector values) { memcpy(to, &values, sizeof values); }

static inline vector all_of(float value) { return value - (vector){0}; }

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static inline float from_bfloat16(uint16_t stored) {
    uint32_t bits = (uint32_t)stored << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint16_t to_bfloat16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : (uint16_t)rounded; /* not a number stays so */
}

/* e to the power of x, to about the precision of float32; vectorises, as the library's need not. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x; /* not a number stays so */
    float whole = rintf(x * 1.44269504f);
    float rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    float power = 1.9875691500e-4f;
    power = power * rest + 1.3981999507e-3f;
    power = power * rest + 8.3334519073e-3f;
    power = power * rest + 4.1665795894e-2f;
    power = power * rest + 1.6666665459e-1f;
    power = power * rest + 5.0000001201e-1f;
    power = power * rest * rest + rest + 1.0f;
    int32_t bits = ((int32_t)whole + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return x != x ? x : power * scale;
}

static inline float highest_of(const float *values, int64_t begin, int64_t end) {
    float highest = values[begin];
#pragma omp simd reduction(max : highest)
    for (int64_t at = begin; at < end; at++)
        highest = values[at] > highest ? values[at] : highest;
    return highest;
}

/* Scores from `begin` to `end` become parts of a sum, which it returns; what is around them in
 * [first, last), whose ends are multiples of LANES, becomes 0. Places alone say in which order. */
static float soften(float *scores, int64_t first, int64_t begin, int64_t end, int64_t last) {
    const float highest = highest_of(scores, begin, end);
    for (int64_t at = first; at < begin; at++)
        scores[at] = -INFINITY;
    for (int64_t at = end; at < last; at++)
        scores[at] = -INFINITY;
#pragma omp simd
    for (int64_t at = first; at < last; at++)
        scores[at] = scores[at] == -INFINITY ? 0.0f : exponential(scores[at] - highest);
    vector sums = {0};
    for (int64_t at = first; at < last; at += LANES)
        sums += load(scores + at);
    float sum = 0;
    for (int lane = 0; lane < LANES; lane++)
        sum += sums[lane];
    return sum;
}

/* Rows and columns of LANES words each change places. */
static inline void transpose(words *rows) {
    for (int step = 1; step < LANES; step *= 2) {
        words low, high;
        for (int lane = 0; lane < LANES; lane++) {
            low[lane] = lane & step ? LANES + lane - step : lane;
            high[lane] = lane & step ? LANES + lane : lane + step;
        }
        for (int row = 0; row < LANES; row++)
            if (!(row & step)) {
                const words one = rows[row], other = rows[row + step];
                rows[row] = __builtin_shuffle(one, other, low);
                rows[row + step] = __builtin_shuffle(one, other, high);
            }
    }
}

/* Rows [count, size] of words, `stride` words apart, as columns of [size, BLOCK]; rows that there
 * are not are 0. */
static void pack_columns(const uint32_t *from, int64_t count, int64_t stride, int64_t size,
                         uint32_t *packed) {
    for (int64_t row = 0; row < BLOCK; row += LANES) {
        int64_t at = 0;
        for (; at + LANES <= size; at += LANES) {
            words square[LANES];
            for (int each = 0; each < LANES; each++) {
                square[each] = (words){0};
                if (row + each < count)
                    memcpy(&square[each], from + (row + each) * stride + at, sizeof(words));
            }
            transpose(square);
            for (int each = 0; each < LANES; each++)
                memcpy(packed + (at + each) * BLOCK + row, &square[each], sizeof(words));
        }
        for (; at < size; at++)
            for (int each = 0; each < LANES; each++)
                packed[at * BLOCK + row + each] =
                    row + each < count ? from[(row + each) * stride + at] : 0;
    }
}

static inline float activate(int64_t activation, float x) {
    if (activation == SILU)
        return x / (1.0f + exponential(-x));
    float inner = 0.79788456f * (x + 0.044715f * x * x * x);
    return x / (1.0f + exponential(-2.0f * inner)); /* x (1 + tanh(inner)) / 2 */
}

/* The range of `count` things that is this thread's. */
static inline void share(int64_t count, int64_t *from, int64_t *to) {
    int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
    *from = count * thread / threads;
    *to = count * (thread + 1) / threads;
}

#define NUMBER float
#define OPERAND float
#define NAMED(name) name##_float32
#define READ(x) (x)
#define WRITE(x) (x)
#define WRITE_OPERAND(x) (x)
#define PAIRED 0
#include "step.h"

#define NUMBER uint16_t
#define NAMED(name) name##_bfloat16
#define READ(x) from_bfloat16(x)
#define WRITE(x) to_bfloat16(x)
#if HAS_DOT
#define OPERAND uint16_t
#define WRITE_OPERAND(x) to_bfloat16(x)
#else
#define OPERAND float
#define WRITE_OPERAND(x) from_bfloat16(to_bfloat16(x))
#endif
#define PAIRED 1
#include "step.h"
