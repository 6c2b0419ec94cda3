/* The kernels for one kind of NUMBER; kernels.c includes this once for each.
 *
 * An OPERAND is what a product takes: the same numbers, as its instructions want them.
 * PAIRED: `pack_values` puts two numbers of a column side by side, as `tiles` takes them then. Else
 * both take what LOAD gives: as many numbers as there are lanes.
 */

struct NAMED(conversion) {
    const void *from;
    int64_t kind, count;
    NUMBER *to;
};

static void NAMED(convert_part)(struct team *team, void *given) {
    const struct NAMED(conversion) *task = given;
    int64_t first, last;
    share(team, task->count, &first, &last);
    for (int64_t each = first; each < last; each++)
        task->to[each] = WRITE(read_number(task->from, task->kind, each));
}

/* `count` numbers of a kind as NUMBERs. */
void NAMED(convert)(struct pool *pool, int threads, const void *from, int64_t kind, int64_t count,
                    NUMBER *to) {
    pool_run(pool, threads, NAMED(convert_part), &(struct NAMED(conversion)){from, kind, count, to});
}

#include "dots.h"

#if !CODES
/* `rows` times `blocks` outputs, into sums [rows, BLOCK or more], `sums_stride` apart. Both are
 * constants where it is called, so that all sums stay in registers. Fetches what is read next
 * meanwhile. */
static inline __attribute__((always_inline)) void NAMED(multiply)(
    const int rows, const int blocks, const OPERAND *input, int64_t stride, int64_t inputs,
    const NUMBER *weights, float *restrict sums, int64_t sums_stride, const char *ahead,
    int64_t ahead_stride) {
    vector sum[TILE_ROWS][2 * VECTORS];
    for (int row = 0; row < rows; row++)
        for (int place = 0; place < blocks * VECTORS; place++)
            sum[row][place] = (vector){0};
#if PAIRED
    for (int64_t pair = 0; pair < inputs / 2; pair++)
        for (int block = 0; block < blocks; block++) {
            const NUMBER *at = weights + block * BLOCK * inputs + pair * BLOCK * 2;
            __builtin_prefetch(ahead + pair * ahead_stride + block * LINE, 0, 3);
#if HAS_DOT
            __m512bh both = (__m512bh)_mm512_loadu_si512(at);
            for (int row = 0; row < rows; row++) {
                int32_t two;
                memcpy(&two, input + row * stride + 2 * pair, sizeof two);
                sum[row][block] = (vector)_mm512_dpbf16_ps(
                    (__m512)sum[row][block], (__m512bh)_mm512_set1_epi32(two), both);
            }
#else
            for (int which = 0; which < 2; which++) {
                vector weight[VECTORS];
                for (int place = 0; place < VECTORS; place++) {
                    integers both;
                    memcpy(&both, at + place * LANES * 2, sizeof both);
                    weight[place] = (vector)(which ? both & -65536 : both << 16);
                }
                for (int row = 0; row < rows; row++) {
                    const vector one = all_of(input[row * stride + 2 * pair + which]);
                    for (int place = 0; place < VECTORS; place++)
                        sum[row][block * VECTORS + place] += weight[place] * one;
                }
            }
#endif
        }
#else
    for (int64_t each = 0; each < inputs; each++)
        for (int block = 0; block < blocks; block++) {
            const NUMBER *at = weights + block * BLOCK * inputs + each * BLOCK;
            __builtin_prefetch(ahead + each * ahead_stride + block * LINE, 0, 3);
            vector weight[VECTORS];
            for (int place = 0; place < VECTORS; place++)
                weight[place] = LOAD(at + place * LANES);
            for (int row = 0; row < rows; row++) {
                const vector one = all_of(input[row * stride + each]);
                for (int place = 0; place < VECTORS; place++)
                    sum[row][block * VECTORS + place] += weight[place] * one;
            }
        }
#endif
    for (int row = 0; row < rows; row++)
        for (int place = 0; place < blocks * VECTORS; place++)
            store(sums + row * sums_stride + place * LANES, sum[row][place]);
}

#define WITH_ROWS(rows)                                                                            \
    case rows:                                                                                     \
        if (rows <= WIDE_ROWS && blocks == 2)                                                      \
            NAMED(multiply)(rows, 2, input, stride, inputs, weights, sums, 2 * BLOCK, ahead,       \
                            ahead_stride);                                                         \
        else                                                                                       \
            for (int64_t block = 0; block < blocks; block++)                                       \
                NAMED(multiply)(rows, 1, input, stride, inputs, weights + block * BLOCK * inputs,  \
                                sums + block * BLOCK, blocks * BLOCK, ahead + block * LINE,        \
                                ahead_stride);                                                     \
        break;

/* `rows`, TILE_ROWS at most, times `blocks` outputs, 1 or 2, into sums [rows, blocks * BLOCK]. */
static void NAMED(tile)(int64_t rows, int64_t blocks, const OPERAND *input, int64_t stride,
                        int64_t inputs, const NUMBER *weights, float *sums, const char *ahead,
                        int64_t ahead_stride) {
    switch (rows) {
        WITH_ROWS(1)
        WITH_ROWS(2)
        WITH_ROWS(3)
#if TILE_ROWS > 3
        WITH_ROWS(4)
        WITH_ROWS(5)
        WITH_ROWS(6)
#endif
#if TILE_ROWS > 6
        WITH_ROWS(7)
        WITH_ROWS(8)
        WITH_ROWS(9)
        WITH_ROWS(10)
        WITH_ROWS(11)
        WITH_ROWS(12)
#endif
    }
}
#undef WITH_ROWS

/* The same for any number of rows, in tiles of equal size as far as possible. All of what is read
 * next, from `ahead` on, `ahead_stride` bytes for each line of a block, is fetched meanwhile. */
static void NAMED(tiles)(int64_t rows, int64_t blocks, const OPERAND *input, int64_t stride,
                         int64_t inputs, const NUMBER *weights, float *sums, const char *ahead,
                         int64_t ahead_stride) {
    const int64_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    const int64_t bytes = ahead_stride * inputs / (1 + PAIRED);
    for (int64_t tile = 0; tile < tiles; tile++) {
        const int64_t from = rows * tile / tiles, to = rows * (tile + 1) / tiles;
        NAMED(tile)(to - from, blocks, input + from * stride, stride, inputs, weights,
                    sums + from * blocks * BLOCK, ahead + bytes * tile / tiles,
                    ahead_stride / tiles);
    }
}
#endif

/* What products take: rows of operands, PADDED apart. */
struct NAMED(inputs) {
    OPERAND *operands;
    struct coded_rows coded; /* the same, for weights that are codes */
};

/* Room for rows; `there` is what was got so far, 0 if there was no memory. */
static int NAMED(make_inputs)(struct NAMED(inputs) *inputs, int64_t rows, int64_t widest) {
    inputs->operands = malloc(rows * PADDED(widest) * sizeof(OPERAND));
    inputs->coded = (struct coded_rows){NULL, NULL, NULL};
#if CODES
    inputs->coded.codes = malloc(rows * blocks_of(widest) * CODED * sizeof(int16_t));
    inputs->coded.scales = malloc(rows * blocks_of(widest) * sizeof(float));
    inputs->coded.totals = malloc(rows * blocks_of(widest) * sizeof(float));
    return inputs->operands && inputs->coded.codes && inputs->coded.scales && inputs->coded.totals;
#else
    return inputs->operands != NULL;
#endif
}

static void NAMED(free_inputs)(struct NAMED(inputs) *inputs) {
    free(inputs->operands), free(inputs->coded.codes), free(inputs->coded.scales);
    free(inputs->coded.totals);
}

/* Operands of a row are there, from a column on, whose number is a multiple of CODED, to another. */
static inline void NAMED(end_inputs)(const struct NAMED(inputs) *inputs, int64_t row, int64_t size,
                                     int64_t from, int64_t to) {
    if (to == size)
        NAMED(end_row)(inputs->operands + row * PADDED(size), size);
#if CODES
    for (; from < to; from += CODED) {
        const int64_t block = row * blocks_of(size) + from / CODED;
        code_inputs(inputs->operands + row * PADDED(size) + from, smaller(CODED, to - from),
                    inputs->coded.codes + block * CODED, inputs->coded.scales + block,
                    inputs->coded.totals + block);
    }
#else
    (void)from;
#endif
}

/* What becomes of the sums of a product. */
struct NAMED(target) {
    NUMBER *numbers; /* [rows, ...], rows `stride` apart */
    int64_t stride;
    int add;       /* to what is there */
    float *scores; /* or float32 instead, rounded as a NUMBER is */
};

/* Sums of a row, for outputs from `output` on, go where they belong. */
static inline void NAMED(deliver)(const struct product *product, int64_t row, int64_t output,
                                  int64_t count, float *sum, const struct NAMED(target) *to) {
    const NUMBER *bias = product->bias;
    const int64_t place = row * to->stride + output;
    if (bias)
        for (int64_t each = 0; each < count; each++)
            sum[each] += READ(bias[output + each]);
    if (to->scores)
        for (int64_t each = 0; each < count; each++)
            to->scores[place + each] = READ(WRITE(sum[each]));
    else if (to->add)
        for (int64_t each = 0; each < count; each++)
            to->numbers[place + each] = WRITE(READ(to->numbers[place + each]) + sum[each]);
    else
        for (int64_t each = 0; each < count; each++)
            to->numbers[place + each] = WRITE(sum[each]);
}

#if CODES
/* This thread's part of a product with codes. */
static void coded_product(struct team *team, const struct product *product,
                          const struct coded_rows *inputs, int64_t rows, struct NAMED(target) to) {
    const int64_t width = CODED_GROUPS * GROUP, outputs = product->outputs;
    const struct values values = values_of(product);
    float sums[ROWS_AT_ONCE * CODED_GROUPS * GROUP];
    int64_t first, last;
    share(team, (outputs + width - 1) / width, &first, &last);
    for (int64_t from = 0; from < rows; from += ROWS_AT_ONCE) {
        const int64_t count = smaller(ROWS_AT_ONCE, rows - from);
        for (int64_t output = first * width; output < smaller(last * width, outputs);
             output += width) {
            const int64_t there = smaller(width, outputs - output);
            coded_dots(count, (there + GROUP - 1) / GROUP, inputs, from, product, output, &values, sums);
            for (int64_t row = 0; row < count; row++)
                NAMED(deliver)(product, from + row, output, there, sums + row * width, &to);
        }
    }
}
#endif

/* This thread's part of input [rows, inputs] times weights. */
static void NAMED(product)(struct team *team, const struct product *product,
                           const struct NAMED(inputs) *inputs, int64_t rows,
                           struct NAMED(target) to) {
#if CODES
    if (product->form >= CODES_8) {
        coded_product(team, product, &inputs->coded, rows, to);
        return;
    }
#endif
    const char *weights = product->weights;
    int64_t row_bytes = product->inputs * sizeof(NUMBER);
    void (*dots)(int64_t, int64_t, const OPERAND *, int64_t, int64_t, const void *, int64_t, float *,
                 const void *) = NAMED(dots);
#if CODES
    if (product->form != FLOAT32)
        dots = product->form == FLOAT16 ? dots_float16 : dots_wider, row_bytes /= 2;
#endif
    const int64_t size = product->inputs, outputs = product->outputs;
    float sums[ROWS_AT_ONCE * DOT_OUTPUTS];
    int64_t first, last;
    share(team, (outputs + DOT_OUTPUTS - 1) / DOT_OUTPUTS, &first, &last);
    for (int64_t from = 0; from < rows; from += ROWS_AT_ONCE) {
        const int64_t count = smaller(ROWS_AT_ONCE, rows - from);
        for (int64_t output = first * DOT_OUTPUTS; output < smaller(last * DOT_OUTPUTS, outputs);
             output += DOT_OUTPUTS) {
            const int64_t width = smaller(DOT_OUTPUTS, outputs - output);
            const char *own = weights + output * row_bytes;
            dots(count, width, inputs->operands + from * PADDED(size), PADDED(size), size, own, size,
                 sums, own + DOT_OUTPUTS * row_bytes);
            for (int64_t row = 0; row < count; row++)
                NAMED(deliver)(product, from + row, output, width, sums + row * DOT_OUTPUTS, &to);
        }
    }
}

struct NAMED(product_task) {
    const struct product *product;
    const NUMBER *input;
    int64_t rows;
    struct NAMED(target) to;
    struct NAMED(inputs) inputs;
};

static void NAMED(linear_part)(struct team *team, void *given) {
    const struct NAMED(product_task) *task = given;
    const int64_t size = task->product->inputs;
    int64_t first, last;
    share(team, task->rows, &first, &last);
    for (int64_t row = first; row < last; row++) {
        OPERAND *own = task->inputs.operands + row * PADDED(size);
        for (int64_t each = 0; each < size; each++)
            own[NAMED(place)(each)] = WRITE_OPERAND(READ(task->input[row * size + each]));
        NAMED(end_inputs)(&task->inputs, row, size, 0, size);
    }
    barrier(team);
    NAMED(product)(team, task->product, &task->inputs, task->rows, task->to);
}

/* A product by itself, of numbers [rows, inputs] to outputs in rows `stride` apart. Returns 0, or 1 if
 * there was no memory. */
int NAMED(linear)(struct pool *pool, int threads, const struct product *product,
                  const NUMBER *input, int64_t rows, NUMBER *outputs, int64_t stride, int add) {
    struct NAMED(product_task) task = {
        .product = product, .input = input, .rows = rows, .to = {outputs, stride, add, NULL}};
    const int failed = !NAMED(make_inputs)(&task.inputs, rows, product->inputs);
    if (!failed)
        pool_run(pool, threads, NAMED(linear_part), &task);
    NAMED(free_inputs)(&task.inputs);
    return failed;
}

/* What normalising takes off a number and multiplies it by then. */
struct NAMED(moments) {
    float mean, factor;
};

static inline struct NAMED(moments) NAMED(moments)(const NUMBER *row, const struct norm *norm,
                                                   float epsilon) {
    const int64_t size = norm->size;
    float mean = 0, squares = 0;
    if (norm->kind == DEVIATION) {
#pragma omp simd reduction(+ : mean)
        for (int64_t each = 0; each < size; each++)
            mean += READ(row[each]);
        mean /= size;
#pragma omp simd reduction(+ : squares)
        for (int64_t each = 0; each < size; each++)
            squares += (READ(row[each]) - mean) * (READ(row[each]) - mean);
    } else {
#pragma omp simd reduction(+ : squares)
        for (int64_t each = 0; each < size; each++)
            squares += READ(row[each]) * READ(row[each]);
    }
    return (struct NAMED(moments)){mean, 1.0f / sqrtf(squares / size + epsilon)};
}

static inline float NAMED(normalised)(const NUMBER *row, const struct norm *norm,
                                      struct NAMED(moments) moments, int64_t each) {
    const float value = (READ(row[each]) - moments.mean) * moments.factor * norm->weights[each];
    return norm->bias ? value + norm->bias[each] : value;
}

/* A row of `size` numbers becomes operands, normalised if there is a norm. */
static void NAMED(normalise)(const NUMBER *row, const struct norm *norm, int64_t size, float epsilon,
                             OPERAND *out) {
    if (norm->weights) {
        const struct NAMED(moments) moments = NAMED(moments)(row, norm, epsilon);
        for (int64_t each = 0; each < size; each++)
            out[NAMED(place)(each)] = WRITE_OPERAND(NAMED(normalised)(row, norm, moments, each));
    } else {
        for (int64_t each = 0; each < size; each++)
            out[NAMED(place)(each)] = WRITE_OPERAND(READ(row[each]));
    }
}

/* Numbers, normalised in place if there is a norm, as many at a time as it is of. */
static void NAMED(normalise_here)(NUMBER *row, const struct norm *norm, int64_t size, float epsilon) {
    if (!norm->weights)
        return;
    for (NUMBER *part = row; part < row + size; part += norm->size) {
        const struct NAMED(moments) moments = NAMED(moments)(part, norm, epsilon);
        for (int64_t each = 0; each < norm->size; each++)
            part[each] = WRITE(NAMED(normalised)(part, norm, moments, each));
    }
}

/* Heads, normalised in place if there is a norm: each by itself, or all together where it is of all. */
static void NAMED(normalise_heads)(const struct heads *heads, int64_t count, int64_t size,
                                   const struct norm *norm, float epsilon, NUMBER *qkv) {
    if (norm->size != size)
        NAMED(normalise_here)(qkv + heads->first, norm, count * size, epsilon);
    else
        for (int64_t head = 0; head < count; head++)
            NAMED(normalise_here)(qkv + head_place(heads, head, size), norm, size, epsilon);
}

/* Turn a head by its position, in place. */
static void NAMED(turn)(const struct model *model, const struct layer *layer, int64_t position,
                        NUMBER *head) {
    if (!layer->cosines)
        return;
    const int64_t half = layer->rotary_size / 2;
    const float *cosine = layer->cosines + position * half, *sine = layer->sines + position * half;
    if (model->rotary == PAIRS) {
        for (int64_t each = 0; each < half; each++) {
            const float first = READ(head[2 * each]), second = READ(head[2 * each + 1]);
            head[2 * each] = WRITE(first * cosine[each] - second * sine[each]);
            head[2 * each + 1] = WRITE(second * cosine[each] + first * sine[each]);
        }
        return;
    }
    for (int64_t each = 0; each < half; each++) {
        const float first = READ(head[each]), second = READ(head[half + each]);
        head[each] = WRITE(first * cosine[each] - second * sine[each]);
        head[half + each] = WRITE(second * cosine[each] + first * sine[each]);
    }
}

/* A head's key or value becomes a record, normalised if there is a norm; `room` is for as many floats. */
static inline void NAMED(keep)(const struct model *model, int64_t size, const NUMBER *numbers,
                               const struct norm *norm, void *record, float *room) {
    struct NAMED(moments) moments = {0};
    if (norm->weights)
        moments = NAMED(moments)(numbers, norm, model->epsilon);
    for (int64_t each = 0; each < size; each++)
        room[each] = READ(norm->weights ? WRITE(NAMED(normalised)(numbers, norm, moments, each))
                                        : numbers[each]);
    if (model->coded_cache) {
        code_head(room, size, record);
    } else {
        KEPT_NUMBER *to = record;
        for (int64_t each = 0; each < size; each++)
            to[each] = WRITE_KEPT(room[each]);
    }
}

/* Records of codes, one after the other, become numbers [count, size]. */
static void NAMED(widen)(const void *records, int64_t record, int64_t count, int64_t size,
                         WIDE_NUMBER *to) {
    for (int64_t row = 0; row < count; row++, to += size) {
        const int8_t *codes = (const int8_t *)records + row * record;
        const uint16_t *scale = scales_of((void *)codes, size);
        for (int64_t from = 0; from < size; from += CODED, scale++) {
            const float factor = from_float16(*scale);
            const int64_t end = smaller(from + CODED, size);
            for (int64_t each = from; each < end; each++)
                to[each] = WRITE_WIDE(codes[each] * factor);
        }
    }
}

/* Queries, keys and values of a token in `qkv`: normalise and turn them, and keep keys and values,
 * which may be the same before. */
static void NAMED(prepare)(const struct model *model, const struct layer *layer,
                           const struct token *token, NUMBER *qkv, float *room) {
    const int64_t size = layer->head_size, position = token->position;
    NAMED(normalise_heads)(&layer->queries, layer->query_heads, size, &layer->query_norm,
                           model->epsilon, qkv);
    for (int64_t head = 0; head < layer->query_heads; head++)
        NAMED(turn)(model, layer, position, qkv + head_place(&layer->queries, head, size));
    if (layer->shares)
        return;
    for (int64_t head = 0; head < layer->key_heads; head++)
        NAMED(keep)(model, size, qkv + head_place(&layer->values, head, size), &layer->value_norm,
                    kept_at(token, layer->values_at, head, position, layer->record), room);
    NAMED(normalise_heads)(&layer->keys, layer->key_heads, size, &layer->key_norm, model->epsilon,
                           qkv);
    for (int64_t head = 0; head < layer->key_heads; head++) {
        NUMBER *key = qkv + head_place(&layer->keys, head, size);
        NAMED(turn)(model, layer, position, key);
        NAMED(keep)(model, size, key, &none,
                    kept_at(token, layer->keys_at, head, position, layer->record), room);
    }
}

#if !CODES
/* Values [count, size] as blocks of BLOCK columns; those that there are not, up to VALUES, are 0. */
static void NAMED(pack_values)(const NUMBER *values, int64_t count, int64_t size, NUMBER *packed) {
    const NUMBER nothing[BLOCK] = {0};
    NUMBER some[2][BLOCK];
    for (int64_t column = 0; column < size; column += BLOCK)
        for (int64_t at = 0; at < VALUES; at += 1 + PAIRED, packed += BLOCK * (1 + PAIRED)) {
            const NUMBER *rows[2] = {nothing, nothing};
            for (int64_t each = 0; each < 1 + PAIRED && at + each < count; each++) {
                rows[each] = values + (at + each) * size + column;
                if (column + BLOCK > size) {
                    memcpy(some[each], nothing, sizeof nothing);
                    memcpy(some[each], rows[each], (size - column) * sizeof(NUMBER));
                    rows[each] = some[each];
                }
            }
#if PAIRED
            for (int64_t lane = 0; lane < BLOCK; lane += LANES) {
                halves first, second;
                memcpy(&first, rows[0] + lane, sizeof first);
                memcpy(&second, rows[1] + lane, sizeof second);
                const words both = __builtin_convertvector(first, words) |
                                   __builtin_convertvector(second, words) << 16;
                memcpy(packed + 2 * lane, &both, sizeof both);
            }
#else
            memcpy(packed, rows[0], BLOCK * sizeof(NUMBER));
#endif
        }
}
#endif

/* Attention of `count` tokens of a sequence, one after the other, for one head of keys and `group`
 * queries of each, QUERIES at most. `scratch` is of `scratch_size`. */
static void NAMED(attend)(const struct model *model, const struct layer *layer,
                          const struct token *tokens, int64_t count, int64_t head, int64_t query,
                          int64_t group, const NUMBER *qkv, OPERAND *attended, float *scratch) {
    const int64_t size = layer->head_size, rows = count * group;
    const int64_t all = layer->query_heads, width = qkv_width(layer);
    const int64_t end = tokens[count - 1].position + 1, window = layer->window;
    const int64_t seen = window && window <= tokens->position ? tokens->position - window + 1 : 0;
    const int64_t first = seen / VALUES * VALUES, last = (end + VALUES - 1) / VALUES * VALUES;
    const int64_t stride = last - first, padded = (size + BLOCK - 1) / BLOCK * BLOCK;
    const char *keys = kept_at(tokens, layer->keys_at, head, 0, layer->record);
    const char *values = kept_at(tokens, layer->values_at, head, 0, layer->record);
    float *scores = scratch, *outs = scores + QUERIES * stride;
    float *sums = outs + QUERIES * padded, *totals = sums + QUERIES * 2 * BLOCK;
    OPERAND *queries = (OPERAND *)(totals + QUERIES), *shares = queries + QUERIES * PADDED(size);
    void *packed = shares + QUERIES * stride;
    WIDE_NUMBER *wide = (WIDE_NUMBER *)((float *)packed + VALUES * (size + BLOCK));
    query += head * (all / layer->key_heads);
    for (int64_t row = 0; row < rows; row++) {
        const NUMBER *own =
            qkv + row / group * width + head_place(&layer->queries, query + row % group, size);
        for (int64_t each = 0; each < size; each++)
            queries[row * PADDED(size) + NAMED(place)(each)] = WRITE_OPERAND(READ(own[each]));
        NAMED(end_row)(queries + row * PADDED(size), size);
    }
    for (int64_t at = first; at < end; at += DOT_OUTPUTS) {
        const int64_t there = smaller(DOT_OUTPUTS, end - at);
        if (model->coded_cache) {
            NAMED(widen)(keys + at * layer->record, layer->record, there, size, wide);
            WIDE(dots)(rows, there, queries, PADDED(size), size, wide, size, sums, wide);
        } else {
            const KEPT_NUMBER *own = (const KEPT_NUMBER *)(keys + at * layer->record);
            KEPT(dots)(rows, there, queries, PADDED(size), size, own, size, sums,
                       own + DOT_OUTPUTS * size);
        }
        for (int64_t row = 0; row < rows; row++)
            for (int64_t each = 0; each < there; each++)
                scores[row * stride + at - first + each] =
                    sums[row * DOT_OUTPUTS + each] * layer->scaling;
    }
    for (int64_t row = 0; row < rows; row++) {
        const int64_t until = tokens[row / group].position + 1 - first;
        const int64_t from = window && window < until + first ? until - window : 0;
        float *score = scores + row * stride;
        if (model->attention_cap)
            soften_to(model->attention_cap, score + from, until - from);
        totals[row] = soften(score, 0, from, until, stride);
        for (int64_t at = 0; at < stride; at++)
            shares[row * stride + at] = WRITE_OPERAND(score[at]);
    }
    memset(outs, 0, rows * padded * sizeof *outs);
    for (int64_t at = first; at < end; at += VALUES) {
        const int64_t there = smaller(VALUES, end - at);
        const void *own = values + at * layer->record;
        if (model->coded_cache) {
            NAMED(widen)(own, layer->record, there, size, wide);
            WIDE(pack_values)(wide, there, size, packed);
        } else {
            KEPT(pack_values)(own, there, size, packed);
        }
        for (int64_t column = 0; column < padded; column += 2 * BLOCK) {
            const int64_t blocks = column + BLOCK < padded ? 2 : 1;
            if (model->coded_cache)
                WIDE(tiles)(rows, blocks, shares + at - first, stride, VALUES,
                            (WIDE_NUMBER *)packed + column * VALUES, sums, packed, 0);
            else
                KEPT(tiles)(rows, blocks, shares + at - first, stride, VALUES,
                            (KEPT_NUMBER *)packed + column * VALUES, sums, packed, 0);
            for (int64_t row = 0; row < rows; row++)
                for (int64_t each = 0; each < blocks * BLOCK; each++)
                    outs[row * padded + column + each] += sums[row * blocks * BLOCK + each];
        }
    }
    for (int64_t row = 0; row < rows; row++) {
        OPERAND *to = attended + row / group * PADDED(all * size);
        const int64_t start = (query + row % group) * size;
        float *out = outs + row * padded;
        for (int64_t each = 0; each < size; each++)
            out[each] /= totals[row];
        if (layer->gates.group) {
            const NUMBER *gates =
                qkv + row / group * width + head_place(&layer->gates, query + row % group, size);
            for (int64_t each = 0; each < size; each++)
                out[each] /= 1.0f + exponential(-READ(gates[each]));
        }
        for (int64_t each = 0; each < size; each++)
            to[NAMED(place)(start + each)] = WRITE_OPERAND(out[each]);
    }
}

/* Bytes for `attend` to work in, for heads of a size, a position and those before it. */
static int64_t NAMED(scratch_size)(int64_t head_size, int64_t position) {
    const int64_t longest = position + 2 * VALUES, size = head_size + BLOCK;
    const int64_t floats = QUERIES * (longest + size + 2 * BLOCK + 1);
    const int64_t operands = QUERIES * (PADDED(size) + longest), numbers = 2 * VALUES * size;
    return (floats * sizeof(float) + operands * sizeof(OPERAND) + numbers * sizeof(float) + 63) / 64 *
           64;
}

/* Add a product to `hidden`, normalised and scaled first where the model does. All is multiplied by
 * `scale` then. */
static void NAMED(add)(struct team *team, const struct model *model, const struct product *product,
                       const struct NAMED(inputs) *inputs, int64_t count, const struct norm *norm,
                       NUMBER *apart, NUMBER *hidden, float scale) {
    const int64_t size = model->hidden;
    const int direct = !norm->weights && model->residual_scale == 1 && scale == 1;
    NAMED(product)(team, product, inputs, count,
                   (struct NAMED(target)){direct ? hidden : apart, size, direct, NULL});
    barrier(team);
    if (direct)
        return;
    int64_t first, last;
    share(team, count, &first, &last);
    for (int64_t row = first; row < last; row++) {
        NUMBER *own = apart + row * size, *to = hidden + row * size;
        NAMED(normalise_here)(own, norm, size, model->epsilon);
        for (int64_t each = 0; each < size; each++) {
            const float added = READ(WRITE(READ(own[each]) * model->residual_scale));
            to[each] = WRITE(READ(WRITE(READ(to[each]) + added)) * scale);
        }
    }
    barrier(team);
}

struct NAMED(step_task) {
    const struct model *model;
    const struct token *tokens;
    int64_t count;
    const int64_t *wanted;
    int64_t wanted_count;
    float *scores;
    NUMBER *hidden, *qkv, *gate_up, *apart;
    NUMBER *layer_inputs; /* [tokens, layers * size] */
    struct NAMED(inputs) inputs;
    char *scratch; /* `scratch_size` bytes for each thread */
    int64_t scratch_size;
    const int64_t *starts; /* of pieces: tokens of a sequence that attend together */
    int64_t pieces;
    int64_t keeping; /* layers from this one on keep nothing */
    const struct NAMED(step_task) *rest; /* so they compute the wanted tokens alone */
    const int64_t *text_starts; /* all tokens of a text, one text after the other */
    int64_t texts;
    const int64_t *text_of; /* where a token's text starts */
    float *channels;        /* of recurrences */
};

/* Rows of hidden numbers, normalised, become operands; each thread does its share of the rows. */
static void NAMED(normalise_rows)(struct team *team, const struct NAMED(step_task) *task,
                                  const int64_t *rows, int64_t count, const struct norm *norm) {
    const int64_t size = task->model->hidden;
    int64_t first, last;
    share(team, count, &first, &last);
    for (int64_t row = first; row < last; row++) {
        NAMED(normalise)(task->hidden + (rows ? rows[row] : row) * size, norm, size,
                         task->model->epsilon, task->inputs.operands + row * PADDED(size));
        NAMED(end_inputs)(&task->inputs, row, size, 0, size);
    }
    barrier(team);
}

/* Operands of all rows are there, `size` of each. */
static void NAMED(end_all)(struct team *team, const struct NAMED(step_task) *task, int64_t size) {
#if CODES
    const int64_t blocks = blocks_of(size);
    int64_t first, last;
    share(team, task->count * blocks, &first, &last);
    for (int64_t item = first; item < last; item++)
        NAMED(end_inputs)(&task->inputs, item / blocks, size, item % blocks * CODED,
                          smaller(item % blocks * CODED + CODED, size));
    barrier(team);
#else
    (void)team, (void)task, (void)size;
#endif
}

static void NAMED(attend_all)(struct team *team, const struct NAMED(step_task) *task,
                              const struct layer *layer) {
    const struct model *model = task->model;
    const int64_t attended = layer->query_heads * layer->head_size, width = qkv_width(layer);
    const int64_t group = layer->query_heads / layer->key_heads;
    float *scratch = (float *)(task->scratch + team->thread * task->scratch_size);
    int64_t first, last;
    share(team, task->count, &first, &last);
    for (int64_t row = first; row < last; row++) {
        NAMED(prepare)(model, layer, task->tokens + row, task->qkv + row * width,
                       scratch);
        NAMED(end_row)(task->inputs.operands + row * PADDED(attended), attended);
    }
    barrier(team);
    /* In turns: later tokens see more. */
    for (int64_t item = team->thread; item < task->pieces * layer->key_heads;
         item += team->threads) {
        const int64_t start = task->starts[item / layer->key_heads];
        const int64_t count = task->starts[item / layer->key_heads + 1] - start;
        for (int64_t query = 0; query < group; query += QUERIES)
            NAMED(attend)(model, layer, task->tokens + start, count,
                          item % layer->key_heads, query, smaller(QUERIES, group - query),
                          task->qkv + start * width,
                          task->inputs.operands + start * PADDED(attended), scratch);
    }
    barrier(team);
    NAMED(end_all)(team, task, attended);
}

#include "convolution.h"
#include "recurrence.h"

/* Several products of the same operands, into rows of `to`: their outputs stand side by side. */
static void NAMED(products)(struct team *team, const struct NAMED(step_task) *task,
                            const struct product *products, int count, NUMBER *to, int64_t stride) {
    for (; count--; to += products++->outputs)
        NAMED(product)(team, products, &task->inputs, task->count,
                       (struct NAMED(target)){to, stride, 0, NULL});
}

/* Rows of `inner` numbers become operands: activated, and times what they let through, if anything. */
static void NAMED(gate)(struct team *team, const struct NAMED(step_task) *task, int64_t inner,
                        const NUMBER *gates, int64_t stride, const NUMBER *through,
                        int64_t through_stride) {
    const int64_t parts = (inner + AT_ONCE - 1) / AT_ONCE;
    int64_t first, last;
    share(team, task->count * parts, &first, &last);
    for (int64_t item = first; item < last; item++) {
        const int64_t row = item / parts, from = item % parts * AT_ONCE;
        const int64_t count = smaller(AT_ONCE, inner - from);
        const NUMBER *gate = gates + row * stride + from;
        OPERAND *own = task->inputs.operands + row * PADDED(inner);
        float active[AT_ONCE];
        for (int64_t each = 0; each < count; each++)
            active[each] = READ(gate[each]);
        activate(task->model->activation, active, count);
        if (through) {
            const NUMBER *input = through + row * through_stride + from;
            for (int64_t each = 0; each < count; each++)
                active[each] = READ(WRITE(active[each])) * READ(input[each]);
        }
        for (int64_t each = 0; each < count; each++)
            own[NAMED(place)(from + each)] = WRITE_OPERAND(active[each]);
        NAMED(end_inputs)(&task->inputs, row, inner, from, from + count);
    }
    barrier(team);
}

/* The hidden numbers of the tokens before the first layer. */
static void NAMED(embed)(struct team *team, const struct NAMED(step_task) *task) {
    const struct model *model = task->model;
    const int64_t size = model->hidden;
    int64_t first, last;
    share(team, task->count, &first, &last);
    for (int64_t row = first; row < last; row++) {
        const struct token *token = task->tokens + row;
        float *numbers = (float *)(task->scratch + team->thread * task->scratch_size);
        NUMBER *to = task->hidden + row * size;
        read_weights(&model->embedding, token->id, numbers);
        for (int64_t each = 0; each < size; each++)
            to[each] = WRITE(numbers[each] * model->embedding_scale);
        if (model->positions) {
            const NUMBER *place = (const NUMBER *)model->positions + token->position * size;
            for (int64_t each = 0; each < size; each++)
                to[each] = WRITE(READ(to[each]) + READ(place[each]));
        }
    }
    barrier(team);
}

/* What layers get of the tokens beside the hidden numbers, if anything. */
static void NAMED(make_layer_inputs)(struct team *team, const struct NAMED(step_task) *task) {
    const struct layer_inputs *inputs = &task->model->inputs;
    const int64_t all = inputs->projection.outputs;
    if (!all)
        return;
    NAMED(normalise_rows)(team, task, NULL, task->count, &none);
    NAMED(product)(team, &inputs->projection, &task->inputs, task->count,
                   (struct NAMED(target)){task->layer_inputs, all, 0, NULL});
    barrier(team);
    int64_t first, last;
    share(team, task->count, &first, &last);
    for (int64_t row = first; row < last; row++) {
        float *numbers = (float *)(task->scratch + team->thread * task->scratch_size);
        NUMBER *own = task->layer_inputs + row * all;
        read_weights(&inputs->table, task->tokens[row].id, numbers);
        for (int64_t each = 0; each < all; each++)
            own[each] = WRITE(READ(own[each]) * inputs->projection_scale);
        NAMED(normalise_here)(own, &inputs->norm, all, task->model->epsilon);
        for (int64_t each = 0; each < all; each++) {
            const float entry = READ(WRITE(READ(WRITE(numbers[each])) * inputs->table_scale));
            own[each] = WRITE(READ(WRITE(READ(own[each]) + entry)) * inputs->scale);
        }
    }
    barrier(team);
}

/* Scale and cap the scores where the model does; in parts that begin where they always do. */
static void NAMED(finish)(struct team *team, const struct NAMED(step_task) *task) {
    const struct model *model = task->model;
    const int64_t outputs = model->head.outputs, parts = (outputs + AT_ONCE - 1) / AT_ONCE;
    if (model->score_scale == 1 && !model->score_cap)
        return;
    int64_t first, last;
    barrier(team);
    share(team, task->wanted_count * parts, &first, &last);
    for (int64_t item = first; item < last; item++) {
        const int64_t from = item % parts * AT_ONCE, count = smaller(AT_ONCE, outputs - from);
        float *scores = task->scores + item / parts * outputs + from;
        for (int64_t each = 0; each < count; each++)
            scores[each] = READ(WRITE(scores[each] * model->score_scale));
        if (model->score_cap)
            soften_to(model->score_cap, scores, count);
        for (int64_t each = 0; each < count; each++)
            scores[each] = READ(WRITE(scores[each]));
    }
}

/* Numbers of the wanted tokens become those of the rest of the step. */
static void NAMED(take_wanted)(struct team *team, const struct NAMED(step_task) *task) {
    const int64_t size = task->model->hidden, inputs = task->model->inputs.projection.outputs;
    int64_t first, last;
    share(team, task->wanted_count, &first, &last);
    for (int64_t row = first; row < last; row++) {
        const int64_t from = task->wanted[row];
        memcpy(task->rest->hidden + row * size, task->hidden + from * size, size * sizeof(NUMBER));
        if (inputs)
            memcpy(task->rest->layer_inputs + row * inputs, task->layer_inputs + from * inputs,
                   inputs * sizeof(NUMBER));
    }
    barrier(team);
}

static void NAMED(step_part)(struct team *team, void *given) {
    const struct NAMED(step_task) *task = given;
    const struct model *model = task->model;
    int64_t count = task->count;
    NAMED(embed)(team, task);
    NAMED(make_layer_inputs)(team, task);
    for (int64_t number = 0; number < model->layer_count; number++) {
        if (number == task->keeping) {
            NAMED(take_wanted)(team, task);
            task = task->rest, count = task->count;
        }
        const struct layer *layer = model->layers + number;
        const int64_t inner = layer->gate_up[0].outputs + layer->gate_up[1].outputs;
        const int64_t input = layer->input_gate.outputs;
        NAMED(normalise_rows)(team, task, NULL, count, &layer->before_attention);
        NAMED(products)(team, task, layer->qkv, 4, task->qkv, qkv_width(layer));
        if (layer->parallel) {
            barrier(team);
            if (layer->before_mlp.weights)
                NAMED(normalise_rows)(team, task, NULL, count, &layer->before_mlp);
            NAMED(products)(team, task, layer->gate_up, 2, task->gate_up, inner);
        }
        barrier(team);
        if (layer->taps)
            NAMED(convolve_all)(team, task, layer);
        else if (layer->recurrence.value_heads)
            NAMED(recur_all)(team, task, layer);
        else
            NAMED(attend_all)(team, task, layer);
        NAMED(add)(team, model, &layer->output, &task->inputs, count, &layer->after_attention,
                   task->apart, task->hidden, 1);
        if (!layer->parallel) {
            NAMED(normalise_rows)(team, task, NULL, count, &layer->before_mlp);
            NAMED(products)(team, task, layer->gate_up, 2, task->gate_up, inner);
            barrier(team);
        }
        NAMED(gate)(team, task, layer->down.inputs, task->gate_up, inner,
                    layer->gate_up[1].outputs ? task->gate_up + layer->down.inputs : NULL, inner);
        NAMED(add)(team, model, &layer->down, &task->inputs, count, &layer->after_mlp, task->apart,
                   task->hidden, input ? 1 : layer->output_scale);
        if (!input)
            continue;
        NAMED(normalise_rows)(team, task, NULL, count, &none);
        NAMED(products)(team, task, &layer->input_gate, 1, task->gate_up, input);
        barrier(team);
        NAMED(gate)(team, task, input, task->gate_up, input, task->layer_inputs + number * input,
                    model->inputs.projection.outputs);
        NAMED(add)(team, model, &layer->input_output, &task->inputs, count, &layer->after_input,
                   task->apart, task->hidden, layer->output_scale);
    }
    NAMED(normalise_rows)(team, task, task->wanted, task->wanted_count, &model->norm);
    NAMED(product)(team, &model->head, &task->inputs, task->wanted_count,
                   (struct NAMED(target)){NULL, model->head.outputs, 0, task->scores});
    NAMED(finish)(team, task);
}

/* One pass: scores [wanted, vocabulary] of what comes after these tokens.
 *
 * Tokens of a sequence come in order. `wanted` are their numbers, `wanted_count` of them.
 * Returns 0, or 1 if there was no memory.
 */
int NAMED(step)(struct pool *pool, int threads, const struct model *model,
                const struct token *tokens, int64_t count, const int64_t *wanted,
                int64_t wanted_count, float *scores) {
    const int64_t size = model->hidden;
    int64_t widest = size, width = 0, inner = 0, head_size = 0, most = QUERIES, longest = 0;
    int64_t channels = 0;
    for (int64_t each = 0; each < model->layer_count; each++) {
        const struct layer *layer = model->layers + each;
        widest = larger(widest, larger(layer->output.inputs, layer->down.inputs));
        width = larger(width, qkv_width(layer));
        inner = larger(inner, layer->gate_up[0].outputs + layer->gate_up[1].outputs);
        inner = larger(inner, layer->input_gate.outputs);
        widest = larger(widest, layer->input_gate.outputs);
        head_size = larger(head_size, layer->head_size);
        channels = larger(channels, prepared_width(&layer->recurrence));
        if (layer->key_heads)
            most = smaller(most, QUERIES / (layer->query_heads / layer->key_heads));
    }
    for (int64_t each = 0; each < count; each++)
        longest = larger(longest, tokens[each].position);
    threads = pool_reach(pool, threads);
    const int64_t inputs = model->inputs.projection.outputs;
    const int64_t row_size = (larger(size, inputs) * sizeof(float) + 63) / 64 * 64;
    const int64_t scratch_size = larger(row_size, NAMED(scratch_size)(head_size, longest));
    int64_t keeping = model->layer_count;
    while (keeping && model->layers[keeping - 1].shares)
        keeping--;
    /* What follows the layers that keep something has as many rows as there are wanted tokens. */
    const int64_t rest = keeping < model->layer_count ? wanted_count : 0;
    int64_t *starts = malloc((count + rest + 2) * sizeof *starts);
    int64_t *text_starts = malloc((2 * count + 1) * sizeof *text_starts);
    struct token *rest_tokens = malloc((rest + 1) * sizeof *rest_tokens);
    struct NAMED(step_task) task = {
        .model = model, .tokens = tokens, .count = count,
        .wanted = wanted, .wanted_count = wanted_count, .scores = scores,
        .hidden = malloc((count + rest) * size * sizeof(NUMBER)),
        .qkv = malloc(count * width * sizeof(NUMBER)),
        .gate_up = malloc(count * inner * sizeof(NUMBER)),
        .apart = malloc(count * size * sizeof(NUMBER)),
        .layer_inputs = inputs ? malloc((count + rest) * inputs * sizeof(NUMBER)) : NULL,
        .scratch = aligned_alloc(64, threads * scratch_size), .scratch_size = scratch_size,
        .starts = starts, .keeping = keeping,
        .text_starts = text_starts, .text_of = text_starts + count + 1,
        .channels = malloc(larger(1, count * channels) * sizeof(float)),
    };
    const int failed = !NAMED(make_inputs)(&task.inputs, count, widest) || !task.hidden ||
                       !task.qkv || !task.gate_up || !task.apart || !task.scratch || !starts ||
                       !text_starts || !rest_tokens || !task.channels ||
                       (inputs && !task.layer_inputs);
    if (!failed) {
        task.pieces = find_pieces(tokens, count, most, starts);
        task.texts = find_pieces(tokens, count, count, text_starts);
        for (int64_t text = 0; text < task.texts; text++)
            for (int64_t each = text_starts[text]; each < text_starts[text + 1]; each++)
                text_starts[count + 1 + each] = text_starts[text];
        for (int64_t each = 0; each < rest; each++)
            rest_tokens[each] = tokens[wanted[each]];
        struct NAMED(step_task) after = task;
        after.tokens = rest_tokens, after.count = rest, after.wanted = NULL;
        after.hidden += count * size, after.starts += count + 1;
        after.layer_inputs = inputs ? task.layer_inputs + count * inputs : NULL;
        after.pieces = find_pieces(rest_tokens, rest, most, starts + count + 1);
        task.rest = &after;
        pool_run(pool, threads, NAMED(step_part), &task);
    }
    free(task.hidden), free(task.qkv), free(task.gate_up), free(task.apart), free(task.layer_inputs);
    NAMED(free_inputs)(&task.inputs), free(task.scratch), free(starts), free(rest_tokens);
    free(text_starts), free(task.channels);
    return failed;
}

#undef NUMBER
#undef OPERAND
#undef NAMED
#undef LOAD
#undef READ
#undef WRITE
#undef WRITE_OPERAND
#undef PAIRED
#undef SPLIT
#undef STEP
