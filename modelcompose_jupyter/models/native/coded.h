/* Products with weights that are stored as codes; step.h includes this for each kind of NUMBER.
 *
 * Codes become the numbers that `dots` multiplies, which have them exactly. The sum of a block is
 * multiplied by its scale; even and odd blocks have sums of their own, which need not wait.
 */

/* A block of CODED weights, in the order of operands. */
#if HAS_DOT && PAIRED
typedef __m512bh NAMED(block);
#else
typedef struct {
    vector part[CODED / LANES];
} NAMED(block);
#endif

static inline __attribute__((always_inline)) NAMED(block) NAMED(block_of)(const int8_t *codes) {
#if HAS_DOT && PAIRED
    const __m512i low = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)codes));
    const __m512i high = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(codes + 16)));
    return _mm512_cvtne2ps_pbh(_mm512_cvtepi32_ps(high), _mm512_cvtepi32_ps(low));
#else
    NAMED(block) block;
#if SPLIT
    for (int part = 0; part < CODED / LANES; part += 2) {
        shorts both;
        memcpy(&both, codes + part * LANES, sizeof both);
        const shorts even = both << 8 >> 8, odd = both >> 8;
        block.part[part] = __builtin_convertvector(__builtin_convertvector(even, integers), vector);
        block.part[part + 1] =
            __builtin_convertvector(__builtin_convertvector(odd, integers), vector);
    }
#else
    for (int part = 0; part < CODED / LANES; part++) {
        octets some;
        memcpy(&some, codes + part * LANES, sizeof some);
        block.part[part] = __builtin_convertvector(__builtin_convertvector(some, integers), vector);
    }
#endif
    return block;
#endif
}

/* Two blocks, in CODED bytes. */
static inline __attribute__((always_inline)) void NAMED(blocks_of_halves)(
    const uint8_t *codes, const struct values *values, NAMED(block) * block) {
#if HAS_DOT && PAIRED
    /* Only five bits say which of the 32 places is taken; the last of them is of no account. */
    const __m512i both = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)codes));
    const __m512i table = _mm512_loadu_si512(values->bfloat16);
    block[0] = (__m512bh)_mm512_permutexvar_epi16(both, table);
    block[1] = (__m512bh)_mm512_permutexvar_epi16(_mm512_srli_epi16(both, 4), table);
#else
    int8_t first[CODED], second[CODED];
    look_up(codes, values->own, first, second);
    block[0] = NAMED(block_of)(first);
    block[1] = NAMED(block_of)(second);
#endif
}

static inline __attribute__((always_inline)) vector NAMED(block_sum)(const OPERAND *input,
                                                                     NAMED(block) block) {
#if HAS_DOT && PAIRED
    return (vector)_mm512_dpbf16_ps(_mm512_setzero_ps(), (__m512bh)_mm512_loadu_si512(input), block);
#else
    vector sum = load(input) * block.part[0];
    for (int part = 1; part < CODED / LANES; part++)
        sum += load(input + part * LANES) * block.part[part];
    return sum;
#endif
}

/* `rows` inputs times `outputs` weights from `first` on, into sums [rows, DOT_OUTPUTS]. Constants
 * where it is called, but for `first`. */
static inline __attribute__((always_inline)) void NAMED(coded_dot)(
    const int form, const int rows, const int outputs, const OPERAND *input, int64_t stride,
    const struct product *product, int64_t first, const struct values *values, float *restrict sums) {
    const int64_t blocks = product->inputs / CODED, width = form == CODES_4 ? CODED / 2 : CODED;
    const uint8_t *codes = (const uint8_t *)product->weights + first * blocks * width;
    const uint16_t *scales = product->scales + first * blocks;
    vector sum[2][DOT_ROWS][CODED_OUTPUTS];
    for (int row = 0; row < rows; row++)
        for (int output = 0; output < outputs; output++)
            sum[0][row][output] = sum[1][row][output] = (vector){0};
    for (int64_t from = 0; from < blocks; from += SCALES) {
        const int64_t count = smaller(SCALES, blocks - from);
        float scale[CODED_OUTPUTS][SCALES + LANES];
        for (int output = 0; output < outputs; output++)
            widen(scales + output * blocks + from, count, scale[output]);
        for (int64_t at = 0; at < count; at += 2)
            for (int output = 0; output < outputs; output++) {
                const uint8_t *own = codes + (output * blocks + from + at) * width;
                NAMED(block) block[2];
                __builtin_prefetch(own + CODES_AHEAD, 0, 3);
                if (form == CODES_4) {
                    NAMED(blocks_of_halves)(own, values, block);
                } else {
                    block[0] = NAMED(block_of)((const int8_t *)own);
                    block[1] = NAMED(block_of)((const int8_t *)own + CODED);
                }
                for (int which = 0; which < 2; which++) {
                    const vector one = all_of(scale[output][at + which]);
                    for (int row = 0; row < rows; row++)
                        sum[which][row][output] +=
                            NAMED(block_sum)(input + row * stride + (from + at + which) * CODED,
                                             block[which]) *
                            one;
                }
            }
    }
    for (int row = 0; row < rows; row++)
        for (int output = 0; output < outputs; output++)
            sums[row * DOT_OUTPUTS + output] = sum_of(sum[0][row][output] + sum[1][row][output]);
}

#define WITH_ROWS(rows)                                                                            \
    case rows:                                                                                     \
        for (int64_t output = 0; output < outputs;)                                                \
            if (rows > 1 && outputs - output >= CODED_OUTPUTS) {                                   \
                NAMED(coded_dot)(form, rows, CODED_OUTPUTS, input, stride, product, first + output, \
                                 values, sums + output);                                           \
                output += CODED_OUTPUTS;                                                           \
            } else {                                                                               \
                NAMED(coded_dot)(form, rows, 1, input, stride, product, first + output, values,    \
                                 sums + output);                                                   \
                output++;                                                                          \
            }                                                                                      \
        break;

static inline __attribute__((always_inline)) void NAMED(coded_dots_of)(
    const int form, int64_t rows, int64_t outputs, const OPERAND *input, int64_t stride,
    const struct product *product, int64_t first, const struct values *values, float *sums) {
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
        done += now, input += now * stride, sums += now * DOT_OUTPUTS;
    }
}
#undef WITH_ROWS

/* As `dots`, of weights that are codes. */
static void NAMED(coded_dots)(int64_t rows, int64_t outputs, const OPERAND *input, int64_t stride,
                              const struct product *product, int64_t first,
                              const struct values *values, float *sums) {
    if (product->form == CODES_8)
        NAMED(coded_dots_of)(CODES_8, rows, outputs, input, stride, product, first, values, sums);
    else
        NAMED(coded_dots_of)(CODES_4, rows, outputs, input, stride, product, first, values, sums);
}
