/* Products of rows with weights as they stand in a file; included once for each kind of NUMBER that
 * OPERANDs are multiplied with, see step.h.
 */

/* Where a number of a row stands among the operands of `dots`. */
static inline int64_t NAMED(place)(int64_t each) {
#if SPLIT
    return each / STEP * STEP + each % 2 * LANES + each % STEP / 2;
#else
    return each;
#endif
}

/* Operands of a row that `dots` takes: what is beyond `size` is 0. */
static inline void NAMED(end_row)(OPERAND *row, int64_t size) {
    for (int64_t each = size; each < PADDED(size); each++)
        row[NAMED(place)(each)] = 0;
}

/* STEP numbers of each of `outputs` weights times those of each of `rows` inputs, added to sums. */
static inline __attribute__((always_inline)) void NAMED(dot_step)(
    const int rows, const int outputs, const OPERAND *input, int64_t stride, const NUMBER *weights,
    int64_t weights_stride, vector sum[DOT_ROWS][DOT_OUTPUTS]) {
#if HAS_DOT && PAIRED
    __m512bh each[DOT_ROWS];
    for (int row = 0; row < rows; row++)
        each[row] = (__m512bh)_mm512_loadu_si512(input + row * stride);
    for (int output = 0; output < outputs; output++) {
        const __m512bh weight = (__m512bh)_mm512_loadu_si512(weights + output * weights_stride);
        for (int row = 0; row < rows; row++)
            sum[row][output] =
                (vector)_mm512_dpbf16_ps((__m512)sum[row][output], each[row], weight);
    }
#elif SPLIT
    for (int output = 0; output < outputs; output++) {
        integers both;
        memcpy(&both, weights + output * weights_stride, sizeof both);
        const vector even = (vector)(both << 16), odd = (vector)(both & -65536);
        for (int row = 0; row < rows; row++) {
            sum[row][output] += even * load(input + row * stride);
            sum[row][output] += odd * load(input + row * stride + LANES);
        }
    }
#else
    for (int output = 0; output < outputs; output++) {
        const vector weight = LOAD(weights + output * weights_stride);
        for (int row = 0; row < rows; row++)
            sum[row][output] += weight * load(input + row * stride);
    }
#endif
}

/* `rows` inputs times `outputs` weights, [size] each, into sums [rows, DOT_OUTPUTS]. Both are
 * constants where it is called, so that all sums stay in registers. Fetches what is read next
 * meanwhile. */
static inline __attribute__((always_inline)) void NAMED(dot)(
    const int rows, const int outputs, const OPERAND *input, int64_t stride, int64_t size,
    const NUMBER *weights, int64_t weights_stride, float *restrict sums, const NUMBER *ahead) {
    vector sum[DOT_ROWS][DOT_OUTPUTS];
    for (int row = 0; row < rows; row++)
        for (int output = 0; output < outputs; output++)
            sum[row][output] = (vector){0};
    int64_t at = 0;
    for (; at + STEP <= size; at += STEP) {
        for (int output = 0; output < outputs; output++)
            __builtin_prefetch(ahead + output * weights_stride + at, 0, 3);
        NAMED(dot_step)(rows, outputs, input + at, stride, weights + at, weights_stride, sum);
    }
    if (at < size) {
        NUMBER rest[DOT_OUTPUTS * STEP] = {0};
        for (int output = 0; output < outputs; output++)
            memcpy(rest + output * STEP, weights + output * weights_stride + at,
                   (size - at) * sizeof *rest);
        NAMED(dot_step)(rows, outputs, input + at, stride, rest, STEP, sum);
    }
    for (int row = 0; row < rows; row++)
        for (int output = 0; output < outputs; output++)
            sums[row * DOT_OUTPUTS + output] = sum_of(sum[row][output]);
}

#define WITH_ROWS(rows)                                                                            \
    case rows:                                                                                     \
        if (outputs == DOT_OUTPUTS && !(IN_TURN && rows == 1))                                     \
            NAMED(dot)(rows, DOT_OUTPUTS, input, stride, size, weights, weights_stride, sums, ahead); \
        else                                                                                       \
            for (int64_t output = 0; output < outputs; output++) {                                 \
                const NUMBER *own = weights + output * weights_stride;                             \
                NAMED(dot)(rows, 1, input, stride, size, own, weights_stride, sums + output,       \
                           own + AHEAD);                                                           \
            }                                                                                      \
        break;

/* Any number of rows times `outputs`, DOT_OUTPUTS at most, into sums [rows, DOT_OUTPUTS]. A sum
 * does not depend on which others are computed. */
static void NAMED(dots)(int64_t rows, int64_t outputs, const OPERAND *input, int64_t stride,
                        int64_t size, const void *given, int64_t weights_stride, float *sums,
                        const void *next) {
    const NUMBER *weights = given, *ahead = next;
    for (int64_t done = 0; done < rows;) {
        const int64_t now = smaller(DOT_ROWS, rows - done);
        switch (now) {
            WITH_ROWS(1)
            WITH_ROWS(2)
#if DOT_ROWS > 2
            WITH_ROWS(3)
            WITH_ROWS(4)
#endif
#if DOT_ROWS > 4
            WITH_ROWS(5)
            WITH_ROWS(6)
#endif
        }
        done += now, input += now * stride, sums += now * DOT_OUTPUTS, ahead = weights;
    }
}
#undef WITH_ROWS
