/* Numbers become codes: see `enum form` in native.h. Included by kernels.c.
 *
 * The outputs of a group stand side by side in lanes, as they do in a record.
 */

#define MOST 15.0f /* of codes of 4 bits */
/* So many scales are tried for a block of codes of 4 bits, in such steps, from the first on. They are
 * by how much the range of its numbers goes into MOST. */
#define TRIES 12
#define FIRST_TRY 14.0f
#define TRY_STEP 0.15f

/* A block of a group: numbers [CODED, GROUP], and integers that stand for them. */
struct block {
    vector numbers[CODED][PARTS];
    int8_t integers[CODED * GROUP];
};

/* A number for each output of a group. */
struct lanes {
    vector part[PARTS];
};

static inline vector chosen(integers mask, vector yes, vector no) {
    return (vector)((mask & (integers)yes) | (~mask & (integers)no));
}

static inline vector greater(vector a, vector b) { return chosen(a > b, a, b); }

static inline vector size_of(vector a) { return (vector)((integers)a & 0x7fffffff); }

/* 1 / a, or 0. */
static inline vector inverse_of(vector a) { return chosen(a != 0, 1.0f / a, (vector){0}); }

/* As float16 has them. */
static inline vector rounded_scale(vector scale) {
    for (int lane = 0; lane < LANES; lane++)
        scale[lane] = from_float16(to_float16(scale[lane]));
    return scale;
}

/* The nearest of the integers from `least` to `most`. */
static inline vector rounded_between(vector value, float least, float most) {
    value = chosen(value < most, value, all_of(most));
    value = chosen(value > least, value, all_of(least));
    return value + 0x1.8p23f - 0x1.8p23f; /* which leaves no room for a fraction */
}

/* The integers that are nearest to (number + offset) * factor. */
static inline void round_block(struct block *block, const struct lanes *factors,
                               const struct lanes *offsets, float least, float most) {
    for (int each = 0; each < CODED; each++)
        for (int part = 0; part < PARTS; part++) {
            const vector value = (block->numbers[each][part] + offsets->part[part]) * factors->part[part];
            store_small((uint8_t *)block->integers + each * GROUP + part * LANES,
                        rounded_between(value, least, most));
        }
}

static inline vector integers_of(const struct block *block, int each, int part) {
    return small_integers((const uint8_t *)block->integers + each * GROUP + part * LANES, 1);
}

/* Codes of 8 bits: the greatest number reaches 127, or what is better by least squares. */
static void code_8(struct block *block, struct lanes *scales) {
    struct lanes inverses, best, errors = {{{0}}}, none = {{{0}}};
    for (int part = 0; part < PARTS; part++) {
        vector greatest = {0}, excess = {0};
        for (int each = 0; each < CODED; each++) {
            greatest = greater(size_of(block->numbers[each][part]), greatest);
            excess += block->numbers[each][part] * 0; /* what is no number makes the scale none */
        }
        best.part[part] = rounded_scale(greatest / 127 + excess);
    }
    for (int try = 0; try < 2; try++) {
        struct lanes scale = best;
        if (try)
            for (int part = 0; part < PARTS; part++) {
                vector both = {0}, squares = {0};
                for (int each = 0; each < CODED; each++) {
                    const vector value = integers_of(block, each, part);
                    both += block->numbers[each][part] * value, squares += value * value;
                }
                scale.part[part] = rounded_scale(both * inverse_of(squares));
            }
        for (int part = 0; part < PARTS; part++)
            inverses.part[part] = inverse_of(scale.part[part]);
        round_block(block, &inverses, &none, -127, 127);
        for (int part = 0; part < PARTS; part++) {
            vector error = {0};
            for (int each = 0; each < CODED; each++) {
                const vector rest =
                    block->numbers[each][part] - integers_of(block, each, part) * scale.part[part];
                error += rest * rest;
            }
            const integers is_better = try ? error < errors.part[part] : (integers){0} - 1;
            errors.part[part] = chosen(is_better, error, errors.part[part]);
            best.part[part] = chosen(is_better, scale.part[part], best.part[part]);
        }
    }
    for (int part = 0; part < PARTS; part++)
        inverses.part[part] = inverse_of(best.part[part]);
    round_block(block, &inverses, &none, -127, 127);
    *scales = best;
}

/* Codes of 4 bits: the scale and the minimum whose error is least, each minimum by least squares. */
static void range_of(const struct block *block, struct lanes *scales, struct lanes *minima) {
    for (int part = 0; part < PARTS; part++) {
        vector least = {0}, greatest = {0}, sum = {0}, squares = {0}, lowest;
        vector best_scale = {0}, best_minimum = {0}, excess = {0};
        for (int each = 0; each < CODED; each++) {
            const vector number = block->numbers[each][part];
            least = chosen(number < least, number, least);
            greatest = greater(number, greatest);
            sum += number, squares += number * number, excess += number * 0;
        }
        /* Without any search; it is all that there is where all codes are the same. */
        best_scale = (greatest - least) / MOST, best_minimum = -least, lowest = (vector){0};
        for (int each = 0; each < CODED; each++) {
            const vector number = block->numbers[each][part] - least;
            const vector code = rounded_between(number * inverse_of(best_scale), 0, MOST);
            lowest += (number - code * best_scale) * (number - code * best_scale);
        }
        for (int try = 0; try < TRIES; try++) {
            const vector factor = (FIRST_TRY + TRY_STEP * try) * inverse_of(greatest - least);
            vector codes = {0}, codes_squared = {0}, products = {0};
            for (int each = 0; each < CODED; each++) {
                const vector number = block->numbers[each][part];
                const vector code = rounded_between((number - least) * factor, 0, MOST);
                codes += code, codes_squared += code * code, products += code * number;
            }
            const vector spread = inverse_of(CODED * codes_squared - codes * codes);
            vector scale = (CODED * products - sum * codes) * spread;
            vector minimum = (codes * products - codes_squared * sum) * spread;
            const integers is_below = minimum < 0;
            scale = chosen(is_below, products * inverse_of(codes_squared), scale);
            minimum = chosen(is_below, (vector){0}, minimum);
            const vector error = squares - 2 * (scale * products - minimum * sum) +
                                 scale * scale * codes_squared - 2 * scale * minimum * codes +
                                 CODED * minimum * minimum;
            const integers is_better = (error < lowest) & (scale > 0);
            lowest = chosen(is_better, error, lowest);
            best_scale = chosen(is_better, scale, best_scale);
            best_minimum = chosen(is_better, minimum, best_minimum);
        }
        scales->part[part] = best_scale + excess; /* none, where there is what is no number */
        minima->part[part] = best_minimum;
    }
}

struct coding {
    const void *from; /* numbers [outputs, inputs] */
    int64_t kind, outputs, inputs, form;
    uint8_t *to;
};

/* A block of a group as floats; what is beyond the weights is 0. */
static void read_block(const struct coding *task, int64_t output, int64_t input, struct block *block) {
    float rows[GROUP][CODED] = {{0}};
    for (int64_t lane = 0; lane < smaller(GROUP, task->outputs - output); lane++) {
        const int64_t start = (output + lane) * task->inputs + input;
        const int64_t count = smaller(CODED, task->inputs - input);
        if (task->kind == BFLOAT16)
            for (int64_t each = 0; each < count; each++)
                rows[lane][each] = from_bfloat16(((const uint16_t *)task->from)[start + each]);
        else
            for (int64_t each = 0; each < count; each++)
                rows[lane][each] = read_number(task->from, task->kind, start + each);
    }
    for (int each = 0; each < CODED; each++) {
        float turned[GROUP];
        for (int lane = 0; lane < GROUP; lane++)
            turned[lane] = rows[lane][each];
        memcpy(block->numbers[each], turned, sizeof turned);
    }
}

static void write_float16(uint8_t *to, const struct lanes *numbers) {
    for (int lane = 0; lane < GROUP; lane++) {
        const uint16_t number = to_float16(numbers->part[lane / LANES][lane % LANES]);
        memcpy(to + 2 * lane, &number, sizeof number);
    }
}

/* Codes of 8 bits, each block scaled by itself. */
static void code_group_8(const struct coding *task, int64_t output, uint8_t *to) {
    const struct layout layout = layout_of(CODES_8, SCALE, task->inputs);
    struct block block;
    struct lanes scales;
    for (int64_t at = 0; at < blocks_of(task->inputs); at++, to += layout.record) {
        read_block(task, output, at * CODED, &block);
        code_8(&block, &scales);
        for (int each = 0; each < CODED; each++)
            for (int lane = 0; lane < GROUP; lane++)
                to[each / 2 * 2 * GROUP + lane * 2 + each % 2] = block.integers[each * GROUP + lane];
        write_float16(to + layout.codes, &scales);
    }
}

/* What stands for some positive numbers: unsigned integers of 8 bits, and what all are multiplied by. */
static void code_scales(struct lanes *numbers, int64_t count, uint8_t *header, uint8_t *to,
                        int64_t stride) {
    struct lanes super, inverse;
    for (int part = 0; part < PARTS; part++) {
        vector greatest = {0}, excess = {0};
        for (int64_t each = 0; each < count; each++) {
            greatest = greater(numbers[each].part[part], greatest);
            excess += numbers[each].part[part] * 0;
        }
        super.part[part] = rounded_scale(greatest / 255 + excess);
        inverse.part[part] = inverse_of(super.part[part]);
    }
    write_float16(header, &super);
    for (int64_t each = 0; each < count; each++)
        for (int part = 0; part < PARTS; part++) {
            const vector found =
                rounded_between(numbers[each].part[part] * inverse.part[part], 0, 255);
            numbers[each].part[part] = found * super.part[part];
            store_small(to + each * stride + part * LANES, found);
        }
}

/* Codes of 4 bits, blocks scaled together. */
static void code_group_4(const struct coding *task, int64_t output, uint8_t *to) {
    const struct layout layout = layout_of(CODES_4, SUPER, task->inputs);
    const int64_t blocks = blocks_of(task->inputs);
    struct block block;
    struct lanes scales[BLOCKS_IN_SUPER], minima[BLOCKS_IN_SUPER], factors;
    for (int64_t first = 0; first < blocks; first += BLOCKS_IN_SUPER) {
        const int64_t count = smaller(BLOCKS_IN_SUPER, blocks - first);
        uint8_t *header = to + first / BLOCKS_IN_SUPER * 4 * GROUP;
        uint8_t *records = to + layout.header + first * layout.record;
        for (int64_t each = 0; each < count; each++) {
            read_block(task, output, (first + each) * CODED, &block);
            range_of(&block, scales + each, minima + each);
        }
        code_scales(scales, count, header, records + layout.codes, layout.record);
        code_scales(minima, count, header + 2 * GROUP, records + layout.codes + GROUP, layout.record);
        for (int64_t at = 0; at < count; at++, records += layout.record) {
            for (int part = 0; part < PARTS; part++)
                factors.part[part] = inverse_of(scales[at].part[part]);
            read_block(task, output, (first + at) * CODED, &block);
            round_block(&block, &factors, minima + at, 0, MOST);
            for (int each = 0; each < CODED / 2; each++)
                for (int lane = 0; lane < GROUP; lane++)
                    records[each / 2 * 2 * GROUP + lane * 2 + each % 2] =
                        block.integers[each * GROUP + lane] |
                        block.integers[(each + CODED / 2) * GROUP + lane] << 4;
        }
    }
}

static void code_part(struct team *team, void *given) {
    const struct coding *task = given;
    const int64_t scaling = task->form == CODES_8 ? SCALE : SUPER;
    const int64_t step = layout_of(task->form, scaling, task->inputs).step;
    int64_t first, last;
    share(team, (task->outputs + GROUP - 1) / GROUP, &first, &last);
    for (int64_t group = first; group < last; group++)
        (task->form == CODES_8 ? code_group_8 : code_group_4)(task, group * GROUP, task->to + group * step);
}

/* Numbers [outputs, inputs] as codes: of 8 bits with SCALE; of 4 bits with SUPER, which are their own
 * values. */
void code_weights(struct pool *pool, int threads, const void *from, int64_t kind, int64_t outputs,
                  int64_t inputs, int64_t form, uint8_t *to) {
    pool_run(pool, threads, code_part, &(struct coding){from, kind, outputs, inputs, form, to});
}
