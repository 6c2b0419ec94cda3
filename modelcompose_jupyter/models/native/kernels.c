/* A step of a decoder on a processor: everything between tokens and scores in one call.
 *
 * A token costs reading the weights. So they are read in the order in which a file has them, once for
 * all tokens of the step, and nothing between two products leaves the processor's cache.
 */
#include "native.h"
#include "pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* So many rows are multiplied at once, so that all sums stay in registers: DOT_ROWS with DOT_OUTPUTS
 * weights; of values in attention TILE_ROWS with one block of columns, WIDE_ROWS with two. */
#define DOT_OUTPUTS 4
#if defined(__AVX512F__)
#define LANES 16
#define DOT_ROWS 6
#define TILE_ROWS 12
#define WIDE_ROWS 12
#elif defined(__AVX2__)
#define LANES 8
#define DOT_ROWS 2
#define TILE_ROWS 6
#define WIDE_ROWS 3
#elif defined(__aarch64__)
#define LANES 4
#define DOT_ROWS 4
#define TILE_ROWS 6
#define WIDE_ROWS 3
#else
#define LANES 4
#define DOT_ROWS 2
#define TILE_ROWS 3
#define WIDE_ROWS 1
#endif

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
#if defined(__AVX512BF16__) && defined(__AVX512F__)
#define HAS_DOT 1
#else
#define HAS_DOT 0
#endif

/* Values are packed in blocks of so many columns. */
#define BLOCK 16
#define VECTORS (BLOCK / LANES)
#define LINE 64 /* bytes of the cache */
/* So many values are packed for the queries that share them. */
#define VALUES 64
/* One row goes through weights one after the other: memory is quickest in order. Shorter vectors
 * would wait for their sums, so they go through DOT_OUTPUTS side by side. */
#define IN_TURN (LANES == 16)
#define AHEAD 4096 /* numbers between what is read and what is fetched then */
/* So many rows are multiplied with some weights before the next are read. */
#define ROWS_AT_ONCE 96
/* So many queries share keys and values that were packed once. */
#define QUERIES 24
/* So many numbers are activated or capped at once. */
#define AT_ONCE 256

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

static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

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

static inline float from_float16(uint16_t stored) {
    const uint32_t sign = (uint32_t)(stored & 0x8000) << 16, rest = stored & 0x7fff;
    uint32_t bits = sign | ((rest << 13) + (rest >= 0x7c00 ? 0x70000000 : 0x38000000));
    float value;
    if (rest < 0x400) { /* less than the least that has a leading one */
        value = rest * 0x1p-24f;
        return sign ? -value : value;
    }
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint16_t to_float16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint16_t sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000)
        return 0x7e00; /* not a number stays so */
    if (bits >= 0x477ff000)
        return sign | 0x7c00; /* beyond the greatest: infinite */
    if (bits < 0x38800000) /* less than the least that has a leading one */
        return sign | (uint16_t)rintf(fabsf(value) * 0x1p24f);
    return sign | (uint16_t)((bits - 0x38000000 + 0xfff + (bits >> 13 & 1)) >> 13);
}

/* A number of a kind, in float32. */
static inline float read_number(const void *from, int64_t form, int64_t at) {
    return form == FLOAT32    ? ((const float *)from)[at]
           : form == BFLOAT16 ? from_bfloat16(((const uint16_t *)from)[at])
                              : from_float16(((const uint16_t *)from)[at]);
}

static inline vector load_float16(const uint16_t *from) {
#if defined(__AVX512F__)
    return (vector)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from));
#elif defined(__AVX2__)
    return (vector)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from));
#elif defined(__aarch64__)
    return (vector)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from)));
#else
    vector values;
    for (int lane = 0; lane < LANES; lane++)
        values[lane] = from_float16(from[lane]);
    return values;
#endif
}

static inline vector load_bfloat16(const uint16_t *from) {
    halves some;
    memcpy(&some, from, sizeof some);
    return (vector)(__builtin_convertvector(some, words) << 16);
}

/* The sum of all lanes, always in the same order. */
static inline float sum_of(vector values) {
#if LANES == 16
    values += __builtin_shufflevector(values, values, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    values += __builtin_shufflevector(values, values, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3);
    values += __builtin_shufflevector(values, values, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1);
#elif LANES == 8
    values += __builtin_shufflevector(values, values, 4, 5, 6, 7, 0, 1, 2, 3);
    values += __builtin_shufflevector(values, values, 2, 3, 0, 1, 2, 3, 0, 1);
#else
    values += __builtin_shufflevector(values, values, 2, 3, 0, 1);
#endif
    return values[0] + values[1];
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
    vector lanes = all_of(values[begin]);
    int64_t at = begin;
    for (; at + LANES <= end; at += LANES) {
        const vector here = load(values + at);
        const integers above = here > lanes;
        lanes = (vector)((above & (integers)here) | (~above & (integers)lanes));
    }
    float highest = lanes[0];
    for (int lane = 1; lane < LANES; lane++)
        highest = lanes[lane] > highest ? lanes[lane] : highest;
    for (; at < end; at++)
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

/* The share of a normal distribution that is below x, to about the precision of float32. What is
 * beyond x, for x > 0, is the density times a polynomial of 1 / (1 + 0.3 x), fitted to 1e-7 of it. */
static inline float normal_share(float x) {
    const float t = 1.0f / (1.0f + 0.3f * fabsf(x));
    float beyond = 3.6194731e-2f;
    beyond = beyond * t - 1.5937778e-1f;
    beyond = beyond * t + 2.1011746e-1f;
    beyond = beyond * t - 5.7166494e-2f;
    beyond = beyond * t + 1.3041599e-1f;
    beyond = beyond * t + 9.9347264e-2f;
    beyond = beyond * t + 1.2084555e-1f;
    beyond = beyond * t + 1.1962327e-1f;
    beyond *= t * exponential(-0.5f * x * x);
    return x < 0 ? beyond : 1.0f - beyond;
}

/* The hyperbolic tangent, to about the precision of float32; near 0 by its series. */
static inline float tangent(float x) {
    const float square = x * x;
    float near = 2.1869489e-2f;
    near = near * square - 5.3968254e-2f;
    near = near * square + 1.3333333e-1f;
    near = near * square - 3.3333333e-1f;
    near = near * square * x + x;
    return fabsf(x) < 0.25f ? near : 1.0f - 2.0f / (1.0f + exponential(2.0f * x));
}

/* Values become what an activation makes of them. */
static void activate(int64_t activation, float *values, int64_t count) {
    if (activation == SILU)
#pragma omp simd
        for (int64_t each = 0; each < count; each++)
            values[each] = values[each] / (1.0f + exponential(-values[each]));
    else if (activation == GELU_TANH)
#pragma omp simd
        for (int64_t each = 0; each < count; each++) {
            const float x = values[each], inner = 0.79788456f * (x + 0.044715f * x * x * x);
            values[each] = x / (1.0f + exponential(-2.0f * inner)); /* x (1 + tanh(inner)) / 2 */
        }
    else if (activation == GELU)
#pragma omp simd
        for (int64_t each = 0; each < count; each++)
            values[each] = values[each] * normal_share(values[each]);
    else
        for (int64_t each = 0; each < count; each++)
            values[each] = values[each] < 0 ? 0 : values[each]; /* not a number stays so */
}

/* Values, none of them more than a cap, nor less than its negative. */
static void soften_to(float cap, float *values, int64_t count) {
#pragma omp simd
    for (int64_t each = 0; each < count; each++)
        values[each] = cap * tangent(values[each] / cap);
}

/* Where a head begins among the outputs of qkv. */
static inline int64_t head_place(const struct heads *heads, int64_t head, int64_t size) {
    return heads->first + head / heads->group * heads->stride + head % heads->group * size;
}

static const struct norm none = {0};

/* Where pieces begin of tokens that attend together: of one text, each after the last, `most` at a time.
 * Returns how many; `starts` has the end, too. */
static int64_t find_pieces(const struct token *tokens, int64_t count, int64_t most, int64_t *starts) {
    int64_t pieces = 0;
    for (int64_t each = 0; each < count; each++) {
        const struct token *token = tokens + each;
        if (!each || token->kept != token[-1].kept || token->position < token[-1].position ||
            each - starts[pieces - 1] >= most)
            starts[pieces++] = each;
    }
    starts[pieces] = count;
    return pieces;
}

/* How many outputs qkv has. */
static inline int64_t qkv_width(const struct layer *layer) {
    return layer->qkv[0].outputs + layer->qkv[1].outputs + layer->qkv[2].outputs +
           layer->qkv[3].outputs;
}

#include "recurrent_state.h"

#include "coded.h"
#include "coding.h"
#include "kept.h"

/* Operands of so many numbers, whole steps. */
#define PADDED(size) (((size) + STEP - 1) / STEP * STEP)

/* Keys and values are kept as KEPT numbers: their functions are those for that kind. From codes they
 * become WIDE ones. */
#define CODES 0
#define KEPT_NUMBER NUMBER
#define KEPT NAMED
#define WRITE_KEPT WRITE
#define WIDE_NUMBER NUMBER
#define WIDE NAMED
#define WRITE_WIDE WRITE

#define NUMBER float
#define OPERAND float
#define SPLIT 0 /* whether even and odd inputs of a step stand apart among operands */
#define STEP LANES
#define NAMED(name) name##_float32
#define LOAD(x) load(x)
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
#define SPLIT 0
#else
#define OPERAND float
#define SPLIT 1
#define WRITE_OPERAND(x) from_bfloat16(to_bfloat16(x))
#endif
#define PAIRED 1
#define STEP (2 * LANES)
#include "step.h"

#undef WIDE_NUMBER
#undef WIDE
#undef WRITE_WIDE
#define WIDE_NUMBER float
#define WIDE(name) name##_float32
#define WRITE_WIDE(x) (x)
#define NUMBER uint16_t
#define OPERAND float
#define SPLIT 0
#define STEP LANES
#define NAMED(name) name##_float16
#define LOAD(x) load_float16(x)
#define READ(x) from_float16(x)
#define WRITE(x) to_float16(x)
#define WRITE_OPERAND(x) from_float16(to_float16(x))
#define PAIRED 0
#include "step.h"

/* Weights that are codes; and beside them such as stay in bfloat16, or float16 as above. */
#define NUMBER uint16_t
#define OPERAND float
#define SPLIT 0
#define STEP LANES
#define NAMED(name) name##_wider
#define LOAD(x) load_bfloat16(x)
#define PAIRED 0
#include "dots.h"
#undef NUMBER
#undef OPERAND
#undef SPLIT
#undef STEP
#undef NAMED
#undef LOAD
#undef PAIRED
#undef CODES
#undef KEPT_NUMBER
#undef KEPT
#undef WRITE_KEPT
#define CODES 1
#define KEPT_NUMBER uint16_t
#define KEPT(name) name##_float16
#define WRITE_KEPT(x) to_float16(x)
#define NUMBER float
#define OPERAND float
#define SPLIT 0
#define STEP LANES
#define NAMED(name) name##_codes
#define LOAD(x) load(x)
#define READ(x) (x)
#define WRITE(x) (x)
#define WRITE_OPERAND(x) (x)
#define PAIRED 0
#include "step.h"
