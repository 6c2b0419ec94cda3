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

#if defined(__AVX512F__)
#define LANES 16
#define TILE_ROWS 12
#elif defined(__AVX2__)
#define LANES 8
#define TILE_ROWS 4
#else
#define LANES 4
#define TILE_ROWS 4
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
/* So many queries share the reading of keys, so many vectors of a value are summed up at once. */
#define QUERIES 4
#define PARTS 4
/* So many rows are multiplied with one panel of weights before the next is read. */
#define ROWS_AT_ONCE 96

typedef float vector __attribute__((vector_size(4 * LANES)));
typedef int32_t integers __attribute__((vector_size(4 * LANES)));
typedef uint32_t bits32 __attribute__((vector_size(4 * LANES)));
typedef uint16_t bits16 __attribute__((vector_size(2 * LANES)));

static inline vector load(const float *from) {
    vector values;
    memcpy(&values, from, sizeof values);
    return values;
}

static inline void store(float *to, vector values) { memcpy(to, &values, sizeof values); }

static inline float total(vector values) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)values);
#else
    float sum = 0;
    for (int lane = 0; lane < LANES; lane++)
        sum += values[lane];
    return sum;
#endif
}

static inline vector read_float32(const float *from) { return load(from); }

static inline vector read_bfloat16(const uint16_t *from) {
    bits16 stored;
    memcpy(&stored, from, sizeof stored);
    return (vector)(__builtin_convertvector(stored, bits32) << 16);
}

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

/* Scores from `begin` to `end` as shares of 1. */
static void soften(float *scores, int64_t begin, int64_t end) {
    float highest = scores[begin], sum = 0;
#pragma omp simd reduction(max : highest)
    for (int64_t at = begin; at < end; at++)
        highest = scores[at] > highest ? scores[at] : highest;
#pragma omp simd reduction(+ : sum)
    for (int64_t at = begin; at < end; at++) {
        scores[at] = exponential(scores[at] - highest);
        sum += scores[at];
    }
    for (int64_t at = begin; at < end; at++)
        scores[at] /= sum;
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
#define READ_OPERAND(x) (x)
#define WRITE_OPERAND(x) (x)
#define PAIRED 0
#include "step.h"

#define NUMBER uint16_t
#define NAMED(name) name##_bfloat16
#define READ(x) from_bfloat16(x)
#define WRITE(x) to_bfloat16(x)
#if HAS_DOT
#define OPERAND uint16_t
#define READ_OPERAND(x) from_bfloat16(x)
#define WRITE_OPERAND(x) to_bfloat16(x)
#else
#define OPERAND float
#define READ_OPERAND(x) (x)
#define WRITE_OPERAND(x) from_bfloat16(to_bfloat16(x))
#endif
#define PAIRED 1
#include "step.h"
