/* Products with weights that are stored as codes; see `enum form` in native.h.
 *
 * Inputs become integers of 16 bits, in the same blocks. So the sum of a block is exact in any order,
 * whatever the instructions; it is multiplied by both scales and added in float32, block after block.
 * Outputs stand side by side in lanes, so nothing is ever summed across lanes.
 */

/* So many rows are multiplied with so many groups of outputs at once, so that sums stay in registers. */
#if LANES == 16
#define CODED_ROWS 8
#define CODED_GROUPS 2
#elif LANES == 8
#define CODED_ROWS 4
#define CODED_GROUPS 1
#else
#define CODED_ROWS 2
#define CODED_GROUPS 1
#endif
#define PARTS (GROUP / LANES) /* vectors of a group */
#define CODES_AHEAD 4096 /* bytes between what is read and what is fetched then */
#define LARGEST 32767.0f

typedef int16_t shorts __attribute__((vector_size(4 * LANES)));

/* Rows of inputs as integers. */
struct coded_rows {
    int16_t *codes; /* [rows, blocks, CODED] */
    float *scales;  /* [rows, blocks] */
    float *totals;  /* [rows, blocks], of the numbers */
};

static inline int64_t blocks_of(int64_t inputs) { return (inputs + CODED - 1) / CODED; }

/* Bytes of the codes of a record, of a record, of a header, and from a group to the next. */
struct layout {
    int64_t codes, record, header, step;
};

static inline struct layout layout_of(int64_t form, int64_t scaling, int64_t inputs) {
    const int64_t blocks = blocks_of(inputs);
    struct layout layout;
    layout.codes = GROUP * CODED * (form == CODES_4 ? 4 : 8) / 8;
    layout.record = layout.codes + (scaling == MINIMUM ? 4 : scaling == ZERO_POINT ? 3 : 2) * GROUP;
    layout.header = 0;
    if (scaling >= SUPER)
        layout.header = (blocks + BLOCKS_IN_SUPER - 1) / BLOCKS_IN_SUPER * 4 * GROUP;
    layout.step = layout.header + blocks * layout.record;
    return layout;
}

/* Some numbers as the integers and the scale that stand for them; what is beyond `count` is 0. What is
 * not a number makes the scale none. */
static inline void code_inputs(const float *from, int64_t count, int16_t *codes, float *scale,
                               float *total) {
    int32_t sum = 0;
    float block[CODED] = {0}, greatest = 0, excess = 0;
    memcpy(block, from, count * sizeof *from);
#pragma omp simd reduction(max : greatest) reduction(+ : excess)
    for (int each = 0; each < CODED; each++) {
        greatest = fabsf(block[each]) > greatest ? fabsf(block[each]) : greatest;
        excess += block[each] * 0; /* infinite ones too are none then */
    }
    *scale = greatest / LARGEST + excess;
    const float inverse = *scale > 0x1p-126f ? 1 / *scale : 0; /* less does not count */
#pragma omp simd reduction(+ : sum)
    for (int each = 0; each < CODED; each++) {
        const float value = rintf(block[each] * inverse);
        const int32_t code = value > LARGEST ? LARGEST : value > -LARGEST ? value : -LARGEST;
        codes[each] = code, sum += code;
    }
    *total = *scale * sum;
}

/* Sums of two products each, added. */
static inline __attribute__((always_inline)) integers add_products(integers sum, shorts a, shorts b) {
#if LANES == 16 && defined(__AVX512VNNI__)
    return (integers)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif LANES == 16
    return sum + (integers)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif LANES == 8 && defined(__AVXVNNI__)
    return (integers)_mm256_dpwssd_avx_epi32((__m256i)sum, (__m256i)a, (__m256i)b);
#elif LANES == 8
    return sum + (integers)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
    return sum + (integers)_mm_madd_epi16((__m128i)a, (__m128i)b);
#elif defined(__aarch64__)
    const int16x8_t first = (int16x8_t)a, second = (int16x8_t)b;
    return sum + (integers)vpaddq_s32(vmull_s16(vget_low_s16(first), vget_low_s16(second)),
                                      vmull_high_s16(first, second));
#else
    const integers first = (integers)a, second = (integers)b;
    return sum + (first << 16 >> 16) * (second << 16 >> 16) + (first >> 16) * (second >> 16);
#endif
}

/* Two inputs, in all lanes. */
static inline __attribute__((always_inline)) shorts two_inputs(const int16_t *codes) {
    int32_t both;
    memcpy(&both, codes, sizeof both);
    return (shorts)(both - (integers){0});
}

/* Integers of 8 bits, wider. */
static inline __attribute__((always_inline)) shorts wider(const int8_t *codes) {
#if LANES == 16
    return (shorts)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)codes));
#elif LANES == 8
    return (shorts)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)codes));
#elif defined(__SSE4_1__)
    return (shorts)_mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)codes));
#elif defined(__aarch64__)
    return (shorts)vmovl_s8(vld1_s8(codes));
#else
    shorts values;
    for (int each = 0; each < 2 * LANES; each++)
        values[each] = codes[each];
    return values;
#endif
}

/* The values of codes of 4 bits. */
struct values {
    int8_t own[16];
    int16_t wide[32]; /* twice */
};

/* A pair of inputs of a group from the lower halves of bytes, and one from the upper ones. */
static inline __attribute__((always_inline)) void look_up(const uint8_t *codes, const struct values *values,
                                                          shorts low[PARTS], shorts high[PARTS]) {
#if LANES == 16
    /* Only five bits say which of the 32 places is taken; the last of them is of no account. */
    const __m512i both = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)codes));
    const __m512i table = _mm512_loadu_si512(values->wide);
    low[0] = (shorts)_mm512_permutexvar_epi16(both, table);
    high[0] = (shorts)_mm512_permutexvar_epi16(_mm512_srli_epi16(both, 4), table);
#elif LANES == 8
    const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)values->own));
    const __m256i both = _mm256_loadu_si256((const __m256i *)codes), mask = _mm256_set1_epi8(15);
    const __m256i lower = _mm256_shuffle_epi8(table, _mm256_and_si256(both, mask));
    const __m256i upper = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(both, 4), mask));
    low[0] = (shorts)_mm256_cvtepi8_epi16(_mm256_castsi256_si128(lower));
    low[1] = (shorts)_mm256_cvtepi8_epi16(_mm256_extracti128_si256(lower, 1));
    high[0] = (shorts)_mm256_cvtepi8_epi16(_mm256_castsi256_si128(upper));
    high[1] = (shorts)_mm256_cvtepi8_epi16(_mm256_extracti128_si256(upper, 1));
#elif defined(__SSE4_1__)
    const __m128i table = _mm_loadu_si128((const __m128i *)values->own), mask = _mm_set1_epi8(15);
    for (int half = 0; half < 2; half++) {
        const __m128i both = _mm_loadu_si128((const __m128i *)codes + half);
        const __m128i lower = _mm_shuffle_epi8(table, _mm_and_si128(both, mask));
        const __m128i upper = _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16(both, 4), mask));
        low[2 * half] = (shorts)_mm_cvtepi8_epi16(lower);
        low[2 * half + 1] = (shorts)_mm_cvtepi8_epi16(_mm_srli_si128(lower, 8));
        high[2 * half] = (shorts)_mm_cvtepi8_epi16(upper);
        high[2 * half + 1] = (shorts)_mm_cvtepi8_epi16(_mm_srli_si128(upper, 8));
    }
#elif defined(__aarch64__)
    const int8x16_t table = vld1q_s8(values->own);
    for (int half = 0; half < 2; half++) {
        const uint8x16_t both = vld1q_u8(codes + 16 * half);
        const int8x16_t lower = vqtbl1q_s8(table, vandq_u8(both, vdupq_n_u8(15)));
        const int8x16_t upper = vqtbl1q_s8(table, vshrq_n_u8(both, 4));
        low[2 * half] = (shorts)vmovl_s8(vget_low_s8(lower));
        low[2 * half + 1] = (shorts)vmovl_high_s8(lower);
        high[2 * half] = (shorts)vmovl_s8(vget_low_s8(upper));
        high[2 * half + 1] = (shorts)vmovl_high_s8(upper);
    }
#else
    for (int each = 0; each < 2 * GROUP; each++) {
        low[each / (2 * LANES)][each % (2 * LANES)] = values->own[codes[each] & 15];
        high[each / (2 * LANES)][each % (2 * LANES)] = values->own[codes[each] >> 4];
    }
#endif
}

static inline __attribute__((always_inline)) void add_pair(
    const int rows, const int group, const int16_t *input, int64_t stride, const shorts weights[PARTS],
    integers sum[CODED_ROWS][CODED_GROUPS * PARTS]) {
    for (int row = 0; row < rows; row++)
        for (int part = 0; part < PARTS; part++)
            sum[row][group * PARTS + part] =
                add_products(sum[row][group * PARTS + part], weights[part], two_inputs(input + row * stride));
}

/* Integers of 8 bits as floats. Compilers take lane by lane what they are not told. */
static inline __attribute__((always_inline)) vector small_integers(const uint8_t *from, int is_signed) {
#if LANES == 16
    const __m128i values = _mm_loadu_si128((const __m128i *)from);
    return (vector)_mm512_cvtepi32_ps(is_signed ? _mm512_cvtepi8_epi32(values)
                                                : _mm512_cvtepu8_epi32(values));
#elif LANES == 8
    const __m128i values = _mm_loadl_epi64((const __m128i *)from);
    return (vector)_mm256_cvtepi32_ps(is_signed ? _mm256_cvtepi8_epi32(values)
                                                : _mm256_cvtepu8_epi32(values));
#elif defined(__SSE4_1__)
    int32_t four;
    memcpy(&four, from, sizeof four);
    const __m128i values = _mm_cvtsi32_si128(four);
    return (vector)_mm_cvtepi32_ps(is_signed ? _mm_cvtepi8_epi32(values) : _mm_cvtepu8_epi32(values));
#elif defined(__aarch64__)
    uint32_t four;
    memcpy(&four, from, sizeof four);
    const uint8x8_t values = vcreate_u8(four);
    if (is_signed)
        return (vector)vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(values)))));
    return (vector)vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(values))));
#else
    vector values;
    for (int lane = 0; lane < LANES; lane++)
        values[lane] = is_signed ? (int8_t)from[lane] : from[lane];
    return values;
#endif
}

/* The other way round, of numbers from -128 to 255 that are integers. */
static inline __attribute__((always_inline)) void store_small(uint8_t *to, vector values) {
#if LANES == 16
    _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32((__m512)values)));
#else
    const integers wide = __builtin_convertvector(values, integers);
#if LANES == 8
    const __m256i places = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8,
                                            12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m256i both = _mm256_shuffle_epi8((__m256i)wide, places);
    const int32_t halves[2] = {_mm256_extract_epi32(both, 0), _mm256_extract_epi32(both, 4)};
    memcpy(to, halves, sizeof halves);
#else
    for (int lane = 0; lane < LANES; lane++)
        to[lane] = wide[lane];
#endif
#endif
}

/* What the sum of a block, or half of one, is multiplied by, for a part of a group. */
static inline __attribute__((always_inline)) vector factor_of(
    const int scaling, const uint8_t *scales, const uint8_t *super, int half, int part) {
    const int place = part * LANES;
    if (scaling < SUPER)
        return load_float16((const uint16_t *)scales + place);
    return small_integers(scales + half * GROUP + place, scaling == HALF_SCALES) *
           load_float16((const uint16_t *)super + place);
}

/* What is taken away for each unit of the inputs. */
static inline __attribute__((always_inline)) vector minimum_of(const int scaling, const uint8_t *scales,
                                                               const uint8_t *super, int part) {
    const int place = GROUP + part * LANES;
    if (scaling == MINIMUM)
        return load_float16((const uint16_t *)scales + place);
    if (scaling == ZERO_POINT)
        return small_integers(scales + GROUP + place, 1) *
               load_float16((const uint16_t *)scales + place - GROUP);
    return small_integers(scales + place, 0) * load_float16((const uint16_t *)super + place);
}

/* `rows` inputs from `first` on times `groups` of outputs into sums [rows, CODED_GROUPS * GROUP].
 * Constants where it is called, but for `first` and `weights`, where the first of the groups begins. */
static inline __attribute__((always_inline)) void coded_dot(
    const int form, const int scaling, const int rows, const int groups, const struct coded_rows *inputs,
    int64_t blocks, int64_t first, const uint8_t *weights, const struct values *values,
    float *restrict sums) {
    const int64_t stride = blocks * CODED;
    const struct layout layout = layout_of(form, scaling, stride);
    const int16_t *input = inputs->codes + first * stride;
    const float *scales = inputs->scales + first * blocks, *totals = inputs->totals + first * blocks;
    const int halves = scaling == HALF_SCALES ? 2 : 1;
    const int has_minimum = scaling != SCALE && scaling != HALF_SCALES;
    vector sum[CODED_ROWS][CODED_GROUPS * PARTS];
    for (int row = 0; row < rows; row++)
        for (int place = 0; place < groups * PARTS; place++)
            sum[row][place] = (vector){0};
    for (int64_t block = 0; block < blocks; block++) {
        const uint8_t *own = weights + layout.header + block * layout.record;
        const uint8_t *super = weights + block / BLOCKS_IN_SUPER * 4 * GROUP;
        if (rows == 1 || first == 0)
            for (int line = 0; line < layout.record / LINE * groups; line++)
                __builtin_prefetch(own + line % groups * layout.step + CODES_AHEAD + line / groups * LINE, 0, 3);
        for (int half = 0; half < halves; half++) {
            integers exact[CODED_ROWS][CODED_GROUPS * PARTS];
            for (int row = 0; row < rows; row++)
                for (int place = 0; place < groups * PARTS; place++)
                    exact[row][place] = (integers){0};
            const int pairs = (form == CODES_4 ? 8 : 16) / halves;
            for (int pair = half * pairs; pair < (half + 1) * pairs; pair++)
                for (int group = 0; group < groups; group++) {
                    const uint8_t *codes = own + group * layout.step + pair * 2 * GROUP;
                    const int16_t *at = input + block * CODED + 2 * pair;
                    shorts some[PARTS], others[PARTS];
                    if (form == CODES_4) {
                        look_up(codes, values, some, others);
                        add_pair(rows, group, at + CODED / 2, stride, others, exact);
                    } else {
                        for (int part = 0; part < PARTS; part++)
                            some[part] = wider((const int8_t *)codes + part * 2 * LANES);
                    }
                    add_pair(rows, group, at, stride, some, exact);
                }
            for (int place = 0; place < groups * PARTS; place++) {
                const int64_t group = place / PARTS * layout.step;
                const vector factor = factor_of(scaling, own + group + layout.codes, super + group, half,
                                                place % PARTS);
                for (int row = 0; row < rows; row++)
                    sum[row][place] += __builtin_convertvector(exact[row][place], vector) *
                                       all_of(scales[row * blocks + block]) * factor;
            }
        }
        for (int place = 0; has_minimum && place < groups * PARTS; place++) {
            const int64_t group = place / PARTS * layout.step;
            const vector minimum = minimum_of(scaling, own + group + layout.codes, super + group, place % PARTS);
            for (int row = 0; row < rows; row++)
                sum[row][place] -= minimum * all_of(totals[row * blocks + block]);
        }
    }
    for (int row = 0; row < rows; row++)
        for (int place = 0; place < groups * PARTS; place++)
            store(sums + row * CODED_GROUPS * GROUP + place * LANES, sum[row][place]);
}

#define WITH_ROWS(rows)                                                                            \
    case rows:                                                                                     \
        if (rows > 1 && groups == CODED_GROUPS)                                                    \
            coded_dot(form, scaling, rows, CODED_GROUPS, inputs, blocks, from, weights, values,    \
                      own);                                                                        \
        else                                                                                       \
            for (int64_t group = 0; group < groups; group++)                                       \
                coded_dot(form, scaling, rows, 1, inputs, blocks, from, weights + group * step,    \
                          values, own + group * GROUP);                                            \
        break;

static inline __attribute__((always_inline)) void coded_dots_of(
    const int form, const int scaling, int64_t rows, int64_t groups, const struct coded_rows *inputs,
    int64_t first, const struct product *product, int64_t output, const struct values *values,
    float *sums) {
    const int64_t tiles = (rows + CODED_ROWS - 1) / CODED_ROWS, blocks = blocks_of(product->inputs);
    const int64_t step = layout_of(form, scaling, product->inputs).step;
    const uint8_t *weights = (const uint8_t *)product->weights + output / GROUP * step;
    for (int64_t tile = 0; tile < tiles; tile++) {
        const int64_t start = rows * tile / tiles, from = first + start;
        float *own = sums + start * CODED_GROUPS * GROUP;
        switch (rows * (tile + 1) / tiles - start) {
            WITH_ROWS(1)
            WITH_ROWS(2)
#if CODED_ROWS > 2
            WITH_ROWS(3)
            WITH_ROWS(4)
#endif
#if CODED_ROWS > 4
            WITH_ROWS(5)
            WITH_ROWS(6)
            WITH_ROWS(7)
            WITH_ROWS(8)
#endif
        }
    }
}
#undef WITH_ROWS

/* `rows` inputs from `first` on times `groups` of outputs, CODED_GROUPS at most, from `output` on, into
 * sums [rows, CODED_GROUPS * GROUP]. */
static void coded_dots(int64_t rows, int64_t groups, const struct coded_rows *inputs, int64_t first,
                       const struct product *product, int64_t output, const struct values *values,
                       float *sums) {
#define WITH(form_, scaling_)                                                                      \
    if (product->form == form_ && product->scaling == scaling_)                                    \
        coded_dots_of(form_, scaling_, rows, groups, inputs, first, product, output, values, sums);
    WITH(CODES_8, SCALE)
    WITH(CODES_8, MINIMUM)
    WITH(CODES_8, ZERO_POINT)
    WITH(CODES_8, SUPER)
    WITH(CODES_8, HALF_SCALES)
    WITH(CODES_4, SCALE)
    WITH(CODES_4, MINIMUM)
    WITH(CODES_4, ZERO_POINT)
    WITH(CODES_4, SUPER)
#undef WITH
}

static inline struct values values_of(const struct product *product) {
    struct values values;
    memset(&values, 0, sizeof values);
    for (int each = 0; product->values && each < 32; each++) {
        values.own[each % 16] = product->values[each % 16];
        values.wide[each] = product->values[each % 16];
    }
    return values;
}

/* The weights of an output, as numbers. */
static void read_weights(const struct product *product, int64_t output, float *to) {
    const int64_t inputs = product->inputs, form = product->form, scaling = product->scaling;
    if (form < CODES_8) {
        for (int64_t each = 0; each < inputs; each++)
            to[each] = read_number(product->weights, form, output * inputs + each);
        return;
    }
    const struct layout layout = layout_of(form, scaling, inputs);
    const uint8_t *group = (const uint8_t *)product->weights + output / GROUP * layout.step;
    const int64_t lane = output % GROUP;
    for (int64_t block = 0; block < blocks_of(inputs); block++) {
        const uint8_t *codes = group + layout.header + block * layout.record;
        const uint8_t *scales = codes + layout.codes;
        float factors[2], minimum = 0;
        if (scaling < SUPER) {
            factors[0] = factors[1] = read_number(scales, FLOAT16, lane);
            if (scaling == MINIMUM)
                minimum = read_number(scales, FLOAT16, GROUP + lane);
            else if (scaling == ZERO_POINT)
                minimum = factors[0] * (int8_t)scales[2 * GROUP + lane];
        } else {
            const uint8_t *super = group + block / BLOCKS_IN_SUPER * 4 * GROUP;
            const float factor = read_number(super, FLOAT16, lane);
            factors[0] = factor * (scaling == HALF_SCALES ? (int8_t)scales[lane] : scales[lane]);
            factors[1] = scaling == HALF_SCALES ? factor * (int8_t)scales[GROUP + lane] : factors[0];
            if (scaling == SUPER)
                minimum = read_number(super, FLOAT16, GROUP + lane) * scales[GROUP + lane];
        }
        for (int64_t each = 0; each < smaller(CODED, inputs - block * CODED); each++) {
            const int64_t pair = each / 2;
            const uint8_t code = codes[(form == CODES_4 ? pair % 8 : pair) * 2 * GROUP + lane * 2 + each % 2];
            const int8_t value = form == CODES_8 ? (int8_t)code
                                                 : product->values[pair < 8 ? code & 15 : code >> 4];
            to[block * CODED + each] = factors[pair / 8] * value - minimum;
        }
    }
}
