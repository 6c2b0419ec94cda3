/* Checks the kernels by themselves, for machines that have no Python here: run it under an emulator.
 *
 * Products are what they are in double precision, to the last bits the same in any company and with
 * any number of threads. Prints what differs; returns how much does.
 */
#include "kernels.c"

#include <stdio.h>

static uint32_t state = 12345;

static float some(void) {
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / (1 << 24) - 0.5f;
}

enum { ROWS = 13, OUTPUTS = 9, INPUTS = 150 };

static const char *const names[] = {"float32", "bfloat16", "float16"};
static const double precisions[] = {1e-5, 0.03, 0.004};

static void write_number(enum form kind, void *to, int64_t at, float value) {
    if (kind == FLOAT32)
        ((float *)to)[at] = value;
    else
        ((uint16_t *)to)[at] = kind == BFLOAT16 ? to_bfloat16(value) : to_float16(value);
}

static void linear(enum form kind, struct pool *pool, int threads, const struct product *product,
                   const void *input, int64_t rows, void *outputs) {
    int failed;
    if (kind == FLOAT32)
        failed = linear_float32(pool, threads, product, input, rows, outputs, product->outputs, 0);
    else if (kind == BFLOAT16)
        failed = linear_bfloat16(pool, threads, product, input, rows, outputs, product->outputs, 0);
    else if (kind == FLOAT16)
        failed = linear_float16(pool, threads, product, input, rows, outputs, product->outputs, 0);
    else
        failed = linear_codes(pool, threads, product, input, rows, outputs, product->outputs, 0);
    if (failed)
        printf("no memory\n"), exit(1);
}

static int check(struct pool *pool, enum form kind, int64_t rows, int64_t outputs, int64_t inputs) {
    static float input[ROWS * INPUTS], weights[OUTPUTS * INPUTS], bias[OUTPUTS];
    static float all[ROWS * OUTPUTS], alone[OUTPUTS];
    for (int64_t each = 0; each < rows * inputs; each++)
        write_number(kind, input, each, some());
    for (int64_t each = 0; each < outputs * inputs; each++)
        write_number(kind, weights, each, some());
    for (int64_t each = 0; each < outputs; each++)
        write_number(kind, bias, each, some());
    const struct product product = {weights, bias, NULL, outputs, inputs, kind, 0};
    const int64_t row_size = inputs * (kind == FLOAT32 ? 4 : 2);
    int wrong = 0;
    for (int threads = 1; threads <= 3; threads++) {
        linear(kind, pool, threads, &product, input, rows, all);
        for (int64_t row = 0; row < rows; row++) {
            linear(kind, pool, 1, &product, (const char *)input + row * row_size, 1, alone);
            for (int64_t output = 0; output < outputs; output++) {
                double sum = read_number(bias, kind, output);
                for (int64_t each = 0; each < inputs; each++)
                    sum += (double)read_number(input, kind, row * inputs + each) *
                           read_number(weights, kind, output * inputs + each);
                const float found = read_number(all, kind, row * outputs + output);
                const float lonely = read_number(alone, kind, output);
                const double error = found > sum ? found - sum : sum - found;
                if (memcmp(&found, &lonely, sizeof found) || !(error < precisions[kind])) {
                    printf("%s [%d, %d, %d], %d threads: %.9g alone %.9g, is %.9g\n", names[kind],
                           (int)rows, (int)outputs, (int)inputs, threads, found, lonely, sum);
                    wrong++;
                }
            }
        }
    }
    return wrong;
}

/* Weights of any kind that stand beside codes. */
static int check_beside(struct pool *pool, enum form kind, int64_t rows, int64_t outputs, int64_t inputs) {
    static float input[ROWS * INPUTS], weights[OUTPUTS * INPUTS], bias[OUTPUTS];
    static float all[ROWS * OUTPUTS], alone[OUTPUTS];
    for (int64_t each = 0; each < rows * inputs; each++)
        input[each] = some();
    for (int64_t each = 0; each < outputs * inputs; each++)
        write_number(kind, weights, each, some());
    for (int64_t each = 0; each < outputs; each++)
        bias[each] = some();
    const struct product product = {weights, bias, NULL, outputs, inputs, kind, 0};
    int wrong = 0;
    linear(CODES_8, pool, 2, &product, input, rows, all);
    for (int64_t row = 0; row < rows; row++) {
        linear(CODES_8, pool, 1, &product, input + row * inputs, 1, alone);
        for (int64_t output = 0; output < outputs; output++) {
            double sum = bias[output];
            for (int64_t each = 0; each < inputs; each++)
                sum += (double)input[row * inputs + each] * read_number(weights, kind, output * inputs + each);
            const float found = all[row * outputs + output];
            if (memcmp(&found, &alone[output], sizeof found) || !(fabs(found - sum) < 1e-5)) {
                printf("%s beside codes [%d, %d, %d]: %.9g alone %.9g, is %.9g\n", names[kind], (int)rows,
                       (int)outputs, (int)inputs, found, alone[output], sum);
                wrong++;
            }
        }
    }
    return wrong;
}

enum { CODED_OUTPUTS = 39, LONGEST = 300 };
static const int8_t values[16] = {-128, -90, -60, -41, -30, -19, -8, -1, 0, 7, 20, 31, 44, 70, 99, 127};

/* Codes of any form, of random bytes but for numbers in float16, give the products of their numbers. */
static int check_codes(struct pool *pool, int form, int scaling, int64_t rows, int64_t outputs,
                       int64_t inputs) {
    static float input[ROWS * LONGEST], bias[CODED_OUTPUTS], weights[LONGEST];
    static float all[ROWS * CODED_OUTPUTS], alone[CODED_OUTPUTS];
    const struct layout layout = layout_of(form, scaling, inputs);
    const int64_t groups = (outputs + GROUP - 1) / GROUP;
    uint8_t *codes = malloc(groups * layout.step);
    for (int64_t at = 0; at < groups * layout.step; at++)
        codes[at] = (state = state * 1664525u + 1013904223u) >> 24;
    for (int64_t at = 0; at < groups * layout.step; at += 2) {
        const int64_t in_group = at % layout.step, place = in_group - layout.header;
        const int64_t after_codes = place % layout.record - layout.codes;
        const int is_scale =
            scaling < SUPER && after_codes >= 0 && !(scaling == ZERO_POINT && after_codes >= 2 * GROUP);
        const uint16_t number = to_float16(0.01f * some());
        if (place < 0 || is_scale)
            memcpy(codes + at, &number, sizeof number);
    }
    for (int64_t each = 0; each < rows * inputs; each++)
        input[each] = some();
    for (int64_t each = 0; each < outputs; each++)
        bias[each] = some();
    const struct product product = {codes, bias, values, outputs, inputs, form, scaling};
    int wrong = 0;
    for (int threads = 1; threads <= 3; threads++) {
        linear(CODES_8, pool, threads, &product, input, rows, all);
        for (int64_t row = 0; row < rows; row++) {
            linear(CODES_8, pool, 1, &product, input + row * inputs, 1, alone);
            for (int64_t output = 0; output < outputs; output++) {
                double sum = bias[output], size = 0;
                read_weights(&product, output, weights);
                for (int64_t each = 0; each < inputs; each++) {
                    sum += (double)input[row * inputs + each] * weights[each];
                    size += fabs((double)weights[each]);
                }
                const float found = all[row * outputs + output], lonely = alone[output];
                if (memcmp(&found, &lonely, sizeof found) || !(fabs(found - sum) < 3e-5 * (1 + size))) {
                    printf("codes %d, %d [%d, %d, %d], %d threads: %.9g alone %.9g, is %.9g\n", form,
                           scaling, (int)rows, (int)outputs, (int)inputs, threads, found, lonely, sum);
                    wrong++;
                }
            }
        }
    }
    free(codes);
    return wrong;
}

/* Numbers become codes that are near. */
static int check_coding(struct pool *pool, int form, int64_t outputs, int64_t inputs) {
    static float numbers[CODED_OUTPUTS * LONGEST], found[LONGEST];
    const int scaling = form == CODES_8 ? SCALE : SUPER;
    const int64_t groups = (outputs + GROUP - 1) / GROUP;
    static const int8_t places[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    uint8_t *codes = malloc(groups * layout_of(form, scaling, inputs).step);
    double error = 0, size = 0;
    for (int64_t each = 0; each < outputs * inputs; each++)
        numbers[each] = some();
    code_weights(pool, 2, numbers, FLOAT32, outputs, inputs, form, codes);
    const struct product product = {codes, NULL, places, outputs, inputs, form, scaling};
    for (int64_t output = 0; output < outputs; output++) {
        read_weights(&product, output, found);
        for (int64_t each = 0; each < inputs; each++) {
            error += pow(found[each] - numbers[output * inputs + each], 2);
            size += pow(numbers[output * inputs + each], 2);
        }
    }
    numbers[inputs / 2] = NAN; /* stays none, and so does its block */
    code_weights(pool, 2, numbers, FLOAT32, outputs, inputs, form, codes);
    read_weights(&product, 0, found);
    const int is_lost = found[inputs / 2] == found[inputs / 2];
    free(codes);
    if (is_lost)
        printf("codes %d [%d, %d] lose what is no number\n", form, (int)outputs, (int)inputs);
    if (is_lost)
        return 1;
    if (sqrt(error / size) < (form == CODES_8 ? 0.005 : 0.08))
        return 0;
    printf("codes %d [%d, %d] are off by %g\n", form, (int)outputs, (int)inputs, sqrt(error / size));
    return 1;
}

/* Each number of 16 bits comes back as it was; lanes are read as single numbers are. */
static int check_conversions(struct pool *pool) {
    int wrong = 0;
    for (uint32_t bits = 0; bits < 1 << 16; bits++) {
        const uint16_t stored = bits;
        uint16_t again, lanes[LANES];
        float wide;
        convert_float32(pool, 2, &stored, BFLOAT16, 1, &wide);
        convert_bfloat16(pool, 2, &wide, FLOAT32, 1, &again);
        wrong += wide == wide ? again != stored : again != 0x7fc0;
        convert_float32(pool, 2, &stored, FLOAT16, 1, &wide);
        convert_float16(pool, 2, &wide, FLOAT32, 1, &again);
        wrong += wide == wide ? again != stored : again != 0x7e00;
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] = stored;
        const float last = load_float16(lanes)[LANES - 1];
        wrong += wide == wide ? memcmp(&last, &wide, sizeof wide) != 0 : last == last;
    }
    return wrong;
}

/* Numbers between two of float16 become the nearest, of two that are as near the even one. */
static int check_rounding(void) {
    int wrong = 0;
    for (uint16_t bits = 0; bits < 0x7bff; bits++) {
        const float low = from_float16(bits), high = from_float16(bits + 1);
        const float middle = low + (high - low) / 2;
        wrong += to_float16(middle) != bits + (bits & 1);
        wrong += to_float16(nextafterf(middle, low)) != bits;
        wrong += to_float16(-nextafterf(middle, high)) != (0x8000 | (bits + 1));
    }
    wrong += to_float16(nextafterf(65520.0f, 0)) != 0x7bff;
    wrong += to_float16(65520.0f) != 0x7c00 || to_float16(-INFINITY) != 0xfc00;
    return wrong;
}

/* Activations, and what bounds scores, are what they are in double precision. */
static int check_activations(void) {
    enum { COUNT = 4001 };
    static float found[5][COUNT];
    int wrong = 0;
    for (int each = 0; each < COUNT; each++)
        for (int kind = 0; kind < 5; kind++)
            found[kind][each] = (each - 2000) / 100.0f;
    for (int kind = SILU; kind <= RELU; kind++)
        activate(kind, found[kind], COUNT);
    soften_to(3.0f, found[4], COUNT);
    for (int each = 0; each < COUNT; each++) {
        const double x = (each - 2000) / 100.0f;
        const double inner = sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x);
        const double right[5] = {x / (1 + exp(-x)), x * (1 + tanh(inner)) / 2,
                                 x * erfc(-x / sqrt(2)) / 2, x < 0 ? 0 : x, 3 * tanh(x / 3)};
        for (int kind = 0; kind < 5; kind++)
            if (!(fabs(found[kind][each] - right[kind]) <= 3e-7 * (fabs(x) + 0.01))) {
                printf("activation %d of %g: %.9g, is %.9g\n", kind, x, found[kind][each], right[kind]);
                wrong++;
            }
    }
    float odd[] = {NAN, NAN, INFINITY};
    activate(GELU, odd, 1), activate(RELU, odd + 1, 1), activate(GELU, odd + 2, 1);
    wrong += odd[0] == odd[0] || odd[1] == odd[1] || odd[2] != INFINITY;
    return wrong;
}

/* Norms are what they are in double precision, by part and as operands. */
static int check_norms(void) {
    enum { SIZE = 74, TIMES = 2 };
    float weights[SIZE], bias[SIZE], row[SIZE * TIMES], operands[SIZE + 64];
    int wrong = 0;
    for (int kind = ROOT_MEAN_SQUARE; kind <= DEVIATION; kind++)
        for (int64_t size = 2; size <= SIZE; size += 24) {
            double right[SIZE * TIMES];
            for (int64_t each = 0; each < size; each++)
                weights[each] = 1 + some(), bias[each] = some();
            for (int64_t each = 0; each < TIMES * size; each++)
                row[each] = 3 + some();
            for (int64_t part = 0; part < TIMES; part++) {
                double mean = 0, squares = 0;
                for (int64_t each = 0; each < size; each++)
                    mean += kind == DEVIATION ? (double)row[part * size + each] / size : 0;
                for (int64_t each = 0; each < size; each++)
                    squares += pow(row[part * size + each] - mean, 2) / size;
                for (int64_t each = 0; each < size; each++)
                    right[part * size + each] =
                        (row[part * size + each] - mean) / sqrt(squares + 1e-5) * weights[each] +
                        (kind == DEVIATION ? bias[each] : 0);
            }
            const struct norm norm = {weights, kind == DEVIATION ? bias : NULL, size, kind};
            normalise_float32(row, &norm, size, 1e-5f, operands);
            normalise_here_float32(row, &norm, TIMES * size, 1e-5f);
            for (int64_t each = 0; each < TIMES * size; each++)
                wrong += !(fabs(row[each] - right[each]) < 3e-5) ||
                         (each < size && !(fabs(operands[each] - right[each]) < 3e-5));
        }
    if (wrong)
        printf("%d numbers of norms\n", wrong);
    return wrong;
}

/* Tokens at a block of columns of a state are what they are in double precision. */
static int check_state(int64_t rule) {
    enum { SIZE = 66, TOKENS = 20 };
    static float state[SIZE * COLUMNS], query[SIZE], key[SIZE], values[COLUMNS];
    static double right[SIZE * COLUMNS];
    int wrong = 0;
    for (int64_t size = 2; size <= SIZE; size += 32) {
        for (int64_t each = 0; each < size * COLUMNS; each++)
            right[each] = state[each] = some();
        for (int token = 0; token < TOKENS; token++) {
            const float kept = 0.75f + some() / 2, rate = 0.5f + some();
            double given[COLUMNS];
            for (int64_t row = 0; row < size; row++)
                query[row] = some(), key[row] = some() / sqrtf(size);
            for (int column = 0; column < COLUMNS; column++)
                given[column] = values[column] = some();
            update_state(rule, state, size, query, key, kept, rate, values);
            for (int column = 0; column < COLUMNS; column++) {
                double said = 0, out = 0;
                for (int64_t row = 0; rule == DELTA && row < size; row++)
                    said += right[row * COLUMNS + column] * kept * key[row];
                for (int64_t row = 0; row < size; row++) {
                    double *at = right + row * COLUMNS + column;
                    *at = *at * kept + key[row] * rate * (given[column] - said);
                    out += *at * query[row];
                }
                wrong += !(fabs(values[column] - out) < 3e-5);
            }
        }
    }
    if (wrong)
        printf("%d numbers of states by rule %d\n", wrong, (int)rule);
    return wrong;
}

int main(void) {
    struct pool *pool = pool_make();
    int wrong = check_conversions(pool) + check_rounding() + check_activations() + check_norms() +
                check_state(DELTA) + check_state(SUM);
    int products = 0;
    for (enum form kind = FLOAT32; kind <= FLOAT16; kind++)
        for (int64_t rows = 1; rows <= ROWS; rows += 3)
            for (int64_t outputs = 1; outputs <= OUTPUTS; outputs += 2)
                for (int64_t inputs = 2; inputs <= INPUTS; inputs += 14, products++)
                    wrong += check(pool, kind, rows, outputs, inputs) +
                             check_beside(pool, kind, rows, outputs, inputs);
    for (int form = CODES_8; form <= CODES_4; form++)
        for (int64_t outputs = 1; outputs <= CODED_OUTPUTS; outputs += 19)
            for (int64_t inputs = 2; inputs <= LONGEST; inputs += 74) {
                wrong += check_coding(pool, form, outputs, inputs);
                for (int scaling = SCALE; scaling <= HALF_SCALES; scaling++)
                    for (int64_t rows = 1; rows <= ROWS; rows += 4, products++)
                        if (form == CODES_8 || scaling != HALF_SCALES)
                            wrong += check_codes(pool, form, scaling, rows, outputs, inputs);
            }
    pool_end(pool);
    printf("%d products, %d differences\n", products, wrong);
    return wrong != 0;
}
