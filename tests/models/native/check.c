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

static float rounded(float value, int bfloat16) {
    return bfloat16 ? from_bfloat16(to_bfloat16(value)) : value;
}

enum { ROWS = 13, OUTPUTS = 9, INPUTS = 150 };

static int check(struct pool *pool, int bfloat16, int64_t rows, int64_t outputs, int64_t inputs) {
    static float input[ROWS * INPUTS], weights[OUTPUTS * INPUTS], bias[OUTPUTS];
    static uint16_t input16[ROWS * INPUTS], weights16[OUTPUTS * INPUTS], bias16[OUTPUTS];
    static float all[ROWS * OUTPUTS], alone[OUTPUTS], operands[ROWS * (INPUTS + 64)];
    static uint16_t all16[ROWS * OUTPUTS], alone16[OUTPUTS];
    for (int64_t each = 0; each < rows * inputs; each++)
        input16[each] = to_bfloat16(input[each] = rounded(some(), bfloat16));
    for (int64_t each = 0; each < outputs * inputs; each++)
        weights16[each] = to_bfloat16(weights[each] = rounded(some(), bfloat16));
    for (int64_t each = 0; each < outputs; each++)
        bias16[each] = to_bfloat16(bias[each] = rounded(some(), bfloat16));
    const struct product product = {weights, bias, outputs, inputs};
    const struct product product16 = {weights16, bias16, outputs, inputs};
    int wrong = 0;
    for (int threads = 1; threads <= 3; threads++) {
        if (bfloat16)
            linear_bfloat16(pool, threads, &product16, input16, rows, all16, outputs, 0,
                            (void *)operands);
        else
            linear_float32(pool, threads, &product, input, rows, all, outputs, 0, operands);
        for (int64_t row = 0; row < rows; row++) {
            if (bfloat16)
                linear_bfloat16(pool, 1, &product16, input16 + row * inputs, 1, alone16, outputs, 0,
                                (void *)operands);
            else
                linear_float32(pool, 1, &product, input + row * inputs, 1, alone, outputs, 0,
                               operands);
            for (int64_t output = 0; output < outputs; output++) {
                double sum = bias[output];
                for (int64_t each = 0; each < inputs; each++)
                    sum += (double)input[row * inputs + each] * weights[output * inputs + each];
                const int64_t at = row * outputs + output;
                const float found = bfloat16 ? from_bfloat16(all16[at]) : all[at];
                const float lonely = bfloat16 ? from_bfloat16(alone16[output]) : alone[output];
                const double error = found > sum ? found - sum : sum - found;
                if (memcmp(&found, &lonely, sizeof found) || !(error < (bfloat16 ? 0.03 : 1e-5))) {
                    printf("%s [%d, %d, %d], %d threads: %.9g alone %.9g, is %.9g\n",
                           bfloat16 ? "bfloat16" : "float32", (int)rows, (int)outputs, (int)inputs,
                           threads, found, lonely, sum);
                    wrong++;
                }
            }
        }
    }
    return wrong;
}

static int check_conversions(struct pool *pool) {
    int wrong = 0;
    for (uint32_t bits = 0; bits < 1 << 16; bits++) {
        const uint16_t stored = bits;
        uint16_t again;
        float wide;
        convert_float32(pool, 2, &stored, BFLOAT16, 1, &wide);
        convert_bfloat16(pool, 2, &wide, FLOAT32, 1, &again);
        wrong += wide == wide ? again != stored : again != 0x7fc0;
    }
    return wrong;
}

int main(void) {
    struct pool *pool = pool_make();
    int wrong = check_conversions(pool), products = 0;
    for (int bfloat16 = 0; bfloat16 < 2; bfloat16++)
        for (int64_t rows = 1; rows <= ROWS; rows += 3)
            for (int64_t outputs = 1; outputs <= OUTPUTS; outputs += 2)
                for (int64_t inputs = 2; inputs <= INPUTS; inputs += 14, products++)
                    wrong += check(pool, bfloat16, rows, outputs, inputs);
    pool_end(pool);
    printf("%d products, %d differences\n", products, wrong);
    return wrong != 0;
}
