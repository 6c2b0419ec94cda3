/* Numbers become codes: see `enum form` in native.h. Included by kernels.c. */

/* Between -127 and 113, closer where weights are more frequent: about normally distributed. */
#define CODE_VALUES 16

/* How many scales are tried for a block of codes of 4 bits, on each side of the one that reaches. */
#define TRIES 7

struct coding {
    const void *from; /* numbers [outputs, inputs] */
    int64_t kind, outputs, inputs, form;
    const int8_t *values;
    uint8_t *codes;
    uint16_t *scales;
};

static void read_block(const struct coding *task, int64_t at, float *block) {
    for (int each = 0; each < CODED; each++)
        block[each] = task->kind == FLOAT32    ? ((const float *)task->from)[at + each]
                      : task->kind == BFLOAT16 ? from_bfloat16(((const uint16_t *)task->from)[at + each])
                                               : from_float16(((const uint16_t *)task->from)[at + each]);
}

static inline float greatest_of(const float *block) {
    float greatest = 0;
#pragma omp simd reduction(max : greatest)
    for (int each = 0; each < CODED; each++)
        greatest = fabsf(block[each]) > greatest ? fabsf(block[each]) : greatest;
    return greatest;
}

/* The scale that is best for some values of codes, by least squares, as float16. */
static inline uint16_t best_scale(const float *block, const float *values) {
    float both = 0, squares = 0;
#pragma omp simd reduction(+ : both, squares)
    for (int each = 0; each < CODED; each++)
        both += block[each] * values[each], squares += values[each] * values[each];
    return to_float16(squares > 0 ? both / squares : 0);
}

static inline float error_of(const float *block, const float *values, float scale) {
    float error = 0;
#pragma omp simd reduction(+ : error)
    for (int each = 0; each < CODED; each++)
        error += (block[each] - scale * values[each]) * (block[each] - scale * values[each]);
    return error;
}

/* Integers that stand for a block at a scale. */
static inline void round_8(const float *block, float scale, float *values) {
    const float inverse = scale ? 1 / scale : 0;
    for (int each = 0; each < CODED; each++) {
        const float value = rintf(block[each] * inverse);
        values[each] = value > 127 ? 127 : value < -127 ? -127 : value;
    }
}

static uint16_t code_8(const float *block, int8_t *codes) {
    float values[CODED], better[CODED];
    uint16_t scale = to_float16(greatest_of(block) / 127);
    round_8(block, from_float16(scale), values);
    const uint16_t other = best_scale(block, values);
    round_8(block, from_float16(other), better);
    const int is_better = error_of(block, better, from_float16(other)) <
                          error_of(block, values, from_float16(scale));
    for (int each = 0; each < CODED; each++)
        codes[each] = is_better ? better[each] : values[each];
    return is_better ? other : scale;
}

/* The nearest of 16 values to each number of a block times `inverse`. */
static inline void nearest(const float *block, float inverse, const float *table, float *values) {
    for (int each = 0; each < CODED; each++)
        values[each] = table[0];
    for (int place = 1; place < CODE_VALUES; place++) {
        const float middle = (table[place - 1] + table[place]) / 2;
        const float step = table[place] - table[place - 1];
#pragma omp simd
        for (int each = 0; each < CODED; each++)
            values[each] += block[each] * inverse > middle ? step : 0.0f;
    }
}

/* A block as places in the table: the scale whose error, weighted by the numbers' squares, is least. */
static uint16_t code_4(const float *block, const float *table, uint8_t *codes) {
    float furthest = 0, values[CODED], best[CODED] = {0}, most = 0, inverse = 0;
    for (int each = 0; each < CODED; each++)
        furthest = fabsf(block[each]) > fabsf(furthest) ? block[each] : furthest;
    for (int try = -TRIES; furthest && try <= TRIES + 1; try++) {
        const float now = (try <= TRIES ? table[0] + try : table[CODE_VALUES - 1]) / furthest;
        float both = 0, squares = 0;
        nearest(block, now, table, values);
#pragma omp simd reduction(+ : both, squares)
        for (int each = 0; each < CODED; each++) {
            const float weight = block[each] * block[each];
            both += weight * block[each] * values[each];
            squares += weight * values[each] * values[each];
        }
        if (squares > 0 && both * both > most * squares) {
            most = both * both / squares, inverse = squares / both;
            memcpy(best, values, sizeof best);
        }
    }
    const uint16_t scale = to_float16(inverse ? 1 / inverse : 0);
    for (int each = 0; each < CODED; each++) {
        codes[each] = 0;
        for (int place = 1; place < CODE_VALUES; place++)
            codes[each] += best[each] >= table[place];
    }
    return scale;
}

static void code_part(struct team *team, void *given) {
    const struct coding *task = given;
    const int64_t blocks = task->inputs / CODED;
    float block[CODED], table[CODE_VALUES];
    uint8_t halves[2][CODED];
    int64_t first, last;
    share(team, task->outputs, &first, &last);
    for (int each = 0; task->form == CODES_4 && each < CODE_VALUES; each++)
        table[each] = task->values[each];
    for (int64_t at = first * blocks; at < last * blocks; at++) {
        read_block(task, at * CODED, block);
        if (task->form == CODES_8) {
            task->scales[at] = code_8(block, (int8_t *)task->codes + at * CODED);
            continue;
        }
        task->scales[at] = code_4(block, table, halves[at % 2]);
        for (int each = 0; at % 2 && each < CODED; each++)
            task->codes[at / 2 * CODED + each] = halves[0][each] | halves[1][each] << 4;
    }
}

/* Weights as codes; `inputs` is a multiple of 2 * CODED. */
void code_weights(struct pool *pool, int threads, const void *from, int64_t kind, int64_t outputs,
                  int64_t inputs, int64_t form, const int8_t *values, uint8_t *codes,
                  uint16_t *scales) {
    pool_run(pool, threads, code_part,
             &(struct coding){from, kind, outputs, inputs, form, values, codes, scales});
}
