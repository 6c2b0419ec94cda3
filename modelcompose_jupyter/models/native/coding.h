/* Numbers become codes: see `enum form` in native.h. Included by kernels.c.
 *
 * The outputs of a group stand side by side in lanes, as they do in a record.
 */

#define PLACES 16 /* of values of codes of 4 bits */
/* So many scales are tried for a block of codes of 4 bits, on each side of the one that reaches. */
#define TRIES 7

typedef int8_t octets __attribute__((vector_size(LANES)));
typedef int8_t many_octets __attribute__((vector_size(4 * LANES)));

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

/* The integers that are nearest to the numbers times some factors, `least` to 127. */
static inline void round_block(struct block *block, const struct lanes *factors, float least) {
    for (int each = 0; each < CODED; each++)
        for (int part = 0; part < PARTS; part++) {
            vector value = block->numbers[each][part] * factors->part[part];
            value = chosen(value < 127, value, all_of(127));
            value = chosen(value > least, value, all_of(least));
            /* Adding this leaves no room for a fraction. */
            const integers bits = (integers)(value + 0x1.8p23f) - 0x4b400000;
            const octets narrow = __builtin_convertvector(bits, octets);
            memcpy(block->integers + each * GROUP + part * LANES, &narrow, sizeof narrow);
        }
}

/* Integers become places among the values that are nearest to them. */
static inline void nearest_places(const int8_t *integers, const int8_t *values, int8_t *places) {
    for (int at = 0; at < CODED * GROUP; at += sizeof(many_octets)) {
        many_octets all, found = {0};
        memcpy(&all, integers + at, sizeof all);
        for (int place = 1; place < PLACES; place++)
            found -= all > (int8_t)((values[place - 1] + values[place]) >> 1); /* rounded down */
        memcpy(places + at, &found, sizeof found);
    }
}

/* Integers become the values that are nearest to them. */
static inline void nearest_values(int8_t *integers, const int8_t *values) {
    for (int at = 0; at < CODED * GROUP; at += sizeof(many_octets)) {
        many_octets all, found = values[0] - (many_octets){0};
        memcpy(&all, integers + at, sizeof all);
        for (int place = 1; place < PLACES; place++)
            found += (all > (int8_t)((values[place - 1] + values[place]) >> 1)) &
                     (int8_t)(values[place] - values[place - 1]);
        memcpy(integers + at, &found, sizeof found);
    }
}

static inline vector integers_of(const struct block *block, int each, int part) {
    octets narrow;
    memcpy(&narrow, block->integers + each * GROUP + part * LANES, sizeof narrow);
    return __builtin_convertvector(__builtin_convertvector(narrow, integers), vector);
}

/* Codes of 8 bits: the greatest number reaches 127, or what is better by least squares. */
static void code_8(struct block *block, struct lanes *scales) {
    struct lanes inverses, best, errors = {{{0}}};
    for (int part = 0; part < PARTS; part++) {
        vector greatest = {0};
        for (int each = 0; each < CODED; each++)
            greatest = greater(size_of(block->numbers[each][part]), greatest);
        best.part[part] = rounded_scale(greatest / 127);
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
        round_block(block, &inverses, -127);
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
    round_block(block, &inverses, -127);
    *scales = best;
}

/* Codes of 4 bits: the scale whose error, weighted by the numbers' squares, is least. */
static void code_4(struct block *block, const int8_t *values, struct lanes *scales) {
    struct lanes furthest, most = {{{0}}}, factors;
    for (int part = 0; part < PARTS; part++) {
        furthest.part[part] = (vector){0};
        for (int each = 0; each < CODED; each++) {
            const vector number = block->numbers[each][part];
            furthest.part[part] = chosen(size_of(number) > size_of(furthest.part[part]), number,
                                         furthest.part[part]);
        }
        furthest.part[part] = inverse_of(furthest.part[part]);
        scales->part[part] = (vector){0};
    }
    for (int try = -TRIES; try <= TRIES + 1; try++) {
        const float reach = try <= TRIES ? values[0] + try : values[PLACES - 1];
        for (int part = 0; part < PARTS; part++)
            factors.part[part] = reach * furthest.part[part];
        round_block(block, &factors, -128);
        nearest_values(block->integers, values);
        for (int part = 0; part < PARTS; part++) {
            vector both = {0}, squares = {0};
            for (int each = 0; each < CODED; each++) {
                const vector number = block->numbers[each][part];
                const vector product = number * integers_of(block, each, part);
                both += number * number * product, squares += product * product;
            }
            const vector gain = both * both * inverse_of(squares);
            const integers is_better = gain > most.part[part];
            most.part[part] = chosen(is_better, gain, most.part[part]);
            scales->part[part] =
                chosen(is_better, both * inverse_of(squares), scales->part[part]);
        }
    }
    for (int part = 0; part < PARTS; part++) {
        scales->part[part] = rounded_scale(scales->part[part]);
        factors.part[part] = inverse_of(scales->part[part]);
    }
    round_block(block, &factors, -128);
    nearest_places(block->integers, values, block->integers);
}

struct coding {
    const void *from; /* numbers [outputs, inputs] */
    int64_t kind, outputs, inputs, form;
    const int8_t *values;
    uint8_t *records;
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

static void code_part(struct team *team, void *given) {
    const struct coding *task = given;
    const int64_t blocks = blocks_of(task->inputs), record = record_of(task->form);
    struct block block;
    struct lanes scales;
    int64_t first, last;
    share(team, (task->outputs + GROUP - 1) / GROUP, &first, &last);
    for (int64_t at = first * blocks; at < last * blocks; at++) {
        uint8_t *to = task->records + at * record;
        const int8_t *codes = block.integers;
        read_block(task, at / blocks * GROUP, at % blocks * CODED, &block);
        if (task->form == CODES_8) {
            code_8(&block, &scales);
            for (int each = 0; each < CODED; each++)
                for (int lane = 0; lane < GROUP; lane++)
                    to[each / 2 * 2 * GROUP + lane * 2 + each % 2] = codes[each * GROUP + lane];
        } else {
            code_4(&block, task->values, &scales);
            for (int each = 0; each < CODED / 2; each++)
                for (int lane = 0; lane < GROUP; lane++)
                    to[each / 2 * 2 * GROUP + lane * 2 + each % 2] =
                        codes[each * GROUP + lane] | codes[(each + CODED / 2) * GROUP + lane] << 4;
        }
        for (int lane = 0; lane < GROUP; lane++) {
            const uint16_t scale = to_float16(scales.part[lane / LANES][lane % LANES]);
            memcpy(to + record - 2 * GROUP + 2 * lane, &scale, sizeof scale);
        }
    }
}

/* Numbers [outputs, inputs] as records. */
void code_weights(struct pool *pool, int threads, const void *from, int64_t kind, int64_t outputs,
                  int64_t inputs, int64_t form, const int8_t *values, uint8_t *records) {
    pool_run(pool, threads, code_part,
             &(struct coding){from, kind, outputs, inputs, form, values, records});
}
