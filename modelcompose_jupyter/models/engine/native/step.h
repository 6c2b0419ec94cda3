/* The kernels for one kind of NUMBER; kernels.c includes this once for each.
 *
 * An OPERAND is what a product takes: the same numbers, as its instructions want them.
 * PAIRED: two inputs after another of the same output lie side by side in packed weights.
 */

/* Weights [outputs, inputs] as blocks of [inputs, BLOCK], or [inputs / 2, BLOCK, 2] if PAIRED. */
void NAMED(pack)(const NUMBER *weights, int64_t outputs, int64_t inputs, NUMBER *packed,
                 int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t block = 0; block < (outputs + BLOCK - 1) / BLOCK; block++)
        for (int64_t lane = 0; lane < BLOCK; lane++) {
            int64_t output = block * BLOCK + lane;
            for (int64_t input = 0; input < inputs; input++) {
                int64_t place = PAIRED ? (input / 2 * BLOCK + lane) * 2 + input % 2
                                       : input * BLOCK + lane;
                packed[block * BLOCK * inputs + place] =
                    output < outputs ? weights[output * inputs + input] : 0;
            }
        }
}

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
                weight[place] = load(at + place * LANES);
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

/* What becomes of the sums of a product. */
struct NAMED(target) {
    NUMBER *numbers; /* [rows, outputs] */
    int add;         /* to what is there */
    float *scores;   /* or float32 instead, rounded as a NUMBER is */
};

/* This thread's part of input [rows, inputs] times weights. */
static void NAMED(product)(const struct product *product, const OPERAND *input, int64_t rows,
                           struct NAMED(target) to) {
    const NUMBER *weights = product->weights, *bias = product->bias;
    const int64_t inputs = product->inputs, outputs = product->outputs;
    float sums[ROWS_AT_ONCE * 2 * BLOCK];
    int64_t first, last;
    share((outputs + BLOCK - 1) / BLOCK, &first, &last);
    for (int64_t from = 0; from < rows; from += ROWS_AT_ONCE) {
        const int64_t count = smaller(ROWS_AT_ONCE, rows - from);
        for (int64_t block = first; block < last; block += 2) {
            const int64_t blocks = smaller(2, last - block);
            const int64_t output = block * BLOCK, width = smaller(blocks * BLOCK, outputs - output);
            const NUMBER *panel = weights + output * inputs;
            NAMED(tiles)(count, blocks, input + from * inputs, inputs, inputs, panel, sums,
                         (const char *)(panel + 2 * BLOCK * inputs), 2 * LINE);
            for (int64_t row = 0; row < count; row++) {
                float *sum = sums + row * blocks * BLOCK;
                const int64_t place = (from + row) * outputs + output;
                if (bias)
                    for (int64_t each = 0; each < width; each++)
                        sum[each] += READ(bias[output + each]);
                if (to.scores)
                    for (int64_t each = 0; each < width; each++)
                        to.scores[place + each] = READ(WRITE(sum[each]));
                else if (to.add)
                    for (int64_t each = 0; each < width; each++)
                        to.numbers[place + each] = WRITE(READ(to.numbers[place + each]) + sum[each]);
                else
                    for (int64_t each = 0; each < width; each++)
                        to.numbers[place + each] = WRITE(sum[each]);
            }
        }
    }
}

/* A product by itself, of numbers [rows, inputs]; `operands` is room for as many. */
void NAMED(linear)(const struct product *product, const NUMBER *input, int64_t rows,
                   NUMBER *outputs, int add, OPERAND *operands, int threads) {
#pragma omp parallel num_threads(threads)
    {
        int64_t from, to;
        share(rows * product->inputs, &from, &to);
        for (int64_t each = from; each < to; each++)
            operands[each] = WRITE_OPERAND(READ(input[each]));
#pragma omp barrier
        NAMED(product)(product, operands, rows, (struct NAMED(target)){outputs, add, NULL});
    }
}

static float NAMED(inverse_root)(const NUMBER *row, int64_t size, float epsilon) {
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t each = 0; each < size; each++)
        squares += READ(row[each]) * READ(row[each]);
    return 1.0f / sqrtf(squares / size + epsilon);
}

static void NAMED(normalise)(const NUMBER *row, const float *weight, int64_t size, float epsilon,
                             OPERAND *out) {
    const float factor = NAMED(inverse_root)(row, size, epsilon);
    for (int64_t each = 0; each < size; each++)
        out[each] = WRITE_OPERAND(READ(row[each]) * factor * weight[each]);
}

static void NAMED(add_normalised)(const NUMBER *row, const float *weight, int64_t size,
                                  float epsilon, NUMBER *to) {
    const float factor = NAMED(inverse_root)(row, size, epsilon);
    for (int64_t each = 0; each < size; each++)
        to[each] = WRITE(READ(to[each]) + READ(WRITE(READ(row[each]) * factor * weight[each])));
}

/* Normalise a head and turn it by its position, in place. */
static void NAMED(turn)(const struct model *model, const struct layer *layer, const float *norm,
                        int64_t position, NUMBER *head) {
    if (norm) {
        const float factor = NAMED(inverse_root)(head, model->head_size, model->epsilon);
        for (int64_t each = 0; each < model->head_size; each++)
            head[each] = WRITE(READ(head[each]) * factor * norm[each]);
    }
    if (!layer->cosines)
        return;
    const int64_t half = model->rotary_size / 2;
    const float *cosine = layer->cosines + position * half, *sine = layer->sines + position * half;
    for (int64_t each = 0; each < half; each++) {
        const float first = READ(head[each]), second = READ(head[half + each]);
        head[each] = WRITE(first * cosine[each] - second * sine[each]);
        head[half + each] = WRITE(second * cosine[each] + first * sine[each]);
    }
}

/* Queries, keys and values of a token in `qkv`: turn them, and keep keys and values. */
static void NAMED(prepare)(const struct model *model, const struct layer *layer, int64_t number,
                           const struct token *token, NUMBER *qkv) {
    const int64_t size = model->head_size;
    NUMBER *key = qkv + model->query_heads * size, *value = key + model->key_heads * size;
    NUMBER *row = (NUMBER *)token->row + number * token->layer_size;
    for (int64_t head = 0; head < model->query_heads; head++)
        NAMED(turn)(model, layer, layer->query_norm, token->position, qkv + head * size);
    for (int64_t head = 0; head < model->key_heads; head++) {
        NAMED(turn)(model, layer, layer->key_norm, token->position, key + head * size);
        NUMBER *to = row + head * token->head_stride + token->position * size;
        memcpy(to, key + head * size, size * sizeof(NUMBER));
        memcpy(to + token->to_values, value + head * size, size * sizeof(NUMBER));
    }
}

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

/* Attention of `count` tokens of a sequence, one after the other, for one head of keys and `group`
 * queries of each, QUERIES at most. `scratch` is of `scratch_size`. */
static void NAMED(attend)(const struct model *model, const struct layer *layer, int64_t number,
                          const struct token *tokens, int64_t count, int64_t head, int64_t query,
                          int64_t group, const NUMBER *qkv, OPERAND *attended, float *scratch) {
    const int64_t size = model->head_size, rows = count * group;
    const int64_t all = model->query_heads, width = (all + 2 * model->key_heads) * size;
    const int64_t end = tokens[count - 1].position + 1, window = layer->window;
    const int64_t seen = window && window <= tokens->position ? tokens->position - window + 1 : 0;
    const int64_t first = seen / VALUES * VALUES, last = (end + VALUES - 1) / VALUES * VALUES;
    const int64_t stride = last - first, padded = (size + BLOCK - 1) / BLOCK * BLOCK;
    const NUMBER *keys =
        (NUMBER *)tokens->row + number * tokens->layer_size + head * tokens->head_stride;
    const NUMBER *values = keys + tokens->to_values;
    float *scores = scratch, *outs = scores + QUERIES * stride;
    float *sums = outs + QUERIES * padded, *totals = sums + QUERIES * 2 * BLOCK;
    OPERAND *queries = (OPERAND *)(totals + QUERIES), *shares = queries + QUERIES * size;
    NUMBER *packed = (NUMBER *)(shares + QUERIES * stride);
    query += head * (all / model->key_heads);
    for (int64_t row = 0; row < rows; row++) {
        const NUMBER *own = qkv + row / group * width + (query + row % group) * size;
        for (int64_t each = 0; each < size; each++)
            queries[row * size + each] = WRITE_OPERAND(READ(own[each]));
    }
    for (int64_t at = first; at < end; at += KEYS) {
        const int64_t there = smaller(KEYS, end - at), words = size * sizeof(NUMBER) / 4;
        for (int64_t block = 0; block < KEYS; block += BLOCK)
            pack_columns((const uint32_t *)(keys + (at + block) * size), there - block, words, words,
                         (uint32_t *)(packed + block * size));
        NAMED(tiles)(rows, KEYS / BLOCK, queries, size, size, packed, sums,
                     (const char *)(keys + (at + KEYS) * size), KEYS * sizeof(NUMBER) * (1 + PAIRED));
        for (int64_t row = 0; row < rows; row++)
            for (int64_t each = 0; each < KEYS; each++)
                scores[row * stride + at - first + each] = sums[row * KEYS + each] * layer->scaling;
    }
    for (int64_t row = 0; row < rows; row++) {
        const int64_t until = tokens[row / group].position + 1 - first;
        const int64_t from = window && window < until + first ? until - window : 0;
        float *score = scores + row * stride;
        totals[row] = soften(score, 0, from, until, stride);
        for (int64_t at = 0; at < stride; at++)
            shares[row * stride + at] = WRITE_OPERAND(score[at]);
    }
    memset(outs, 0, rows * padded * sizeof *outs);
    for (int64_t at = first; at < end; at += VALUES) {
        NAMED(pack_values)(values + at * size, smaller(VALUES, end - at), size, packed);
        for (int64_t column = 0; column < padded; column += 2 * BLOCK) {
            const int64_t blocks = column + BLOCK < padded ? 2 : 1;
            NAMED(tiles)(rows, blocks, shares + at - first, stride, VALUES, packed + column * VALUES,
                         sums, (const char *)packed, 0);
            for (int64_t row = 0; row < rows; row++)
                for (int64_t each = 0; each < blocks * BLOCK; each++)
                    outs[row * padded + column + each] += sums[row * blocks * BLOCK + each];
        }
    }
    for (int64_t row = 0; row < rows; row++) {
        OPERAND *to = attended + (row / group * all + query + row % group) * size;
        for (int64_t each = 0; each < size; each++)
            to[each] = WRITE_OPERAND(outs[row * padded + each] / totals[row]);
    }
}

/* Bytes for `attend` to work in, for a position and those before it. */
static int64_t NAMED(scratch_size)(const struct model *model, int64_t position) {
    const int64_t longest = position + 2 * VALUES, size = model->head_size + BLOCK;
    const int64_t floats = QUERIES * (longest + size + 2 * BLOCK + 1);
    const int64_t operands = QUERIES * (size + longest), numbers = VALUES * size;
    return (floats * sizeof(float) + operands * sizeof(OPERAND) + numbers * sizeof(NUMBER) + 63) /
           64 * 64;
}

/* Add a product to `hidden`, normalised first where the model does. */
static void NAMED(add)(const struct model *model, const struct product *product,
                       const OPERAND *input, int64_t count, const float *norm, NUMBER *apart,
                       NUMBER *hidden) {
    const int64_t size = model->hidden;
    if (!norm) {
        NAMED(product)(product, input, count, (struct NAMED(target)){hidden, 1, NULL});
#pragma omp barrier
        return;
    }
    NAMED(product)(product, input, count, (struct NAMED(target)){apart, 0, NULL});
#pragma omp barrier
#pragma omp for schedule(static)
    for (int64_t row = 0; row < count; row++)
        NAMED(add_normalised)(apart + row * size, norm, size, model->epsilon, hidden + row * size);
}

/* One pass: scores [wanted, vocabulary] of what comes after these tokens.
 *
 * Tokens of a sequence come in order. `wanted` are their numbers, `wanted_count` of them.
 * Returns 0, or 1 if there was no memory.
 */
int NAMED(step)(const struct model *model, const struct token *tokens, int64_t count,
                const int64_t *wanted, int64_t wanted_count, float *scores, int threads) {
    const int64_t size = model->hidden, inner = model->intermediate, head = model->head_size;
    const int64_t heads = model->query_heads + 2 * model->key_heads;
    int64_t widest = size > model->query_heads * head ? size : model->query_heads * head;
    widest = widest > inner ? widest : inner;
    int64_t longest = 0;
    for (int64_t each = 0; each < count; each++)
        longest = tokens[each].position > longest ? tokens[each].position : longest;
    const int64_t scratch_size = NAMED(scratch_size)(model, longest);
    NUMBER *hidden = malloc(count * size * sizeof *hidden);
    NUMBER *qkv = malloc(count * heads * head * sizeof *qkv);
    NUMBER *gate_up = malloc(count * 2 * inner * sizeof *gate_up);
    NUMBER *apart = malloc(count * size * sizeof *apart);
    OPERAND *operands = malloc(count * widest * sizeof *operands);
    char *all_scratch = aligned_alloc(64, threads * scratch_size);
    int64_t *starts = malloc((count + 1) * sizeof *starts);
    const int failed = !hidden || !qkv || !gate_up || !apart || !operands || !all_scratch || !starts;
    if (failed)
        goto end;
    /* Tokens of a sequence attend together, as far as they may. */
    const int64_t group = model->query_heads / model->key_heads, most = QUERIES / group;
    int64_t pieces = 0;
    for (int64_t each = 0; each < count; each++)
        if (!each || tokens[each].row != tokens[each - 1].row || each - starts[pieces - 1] >= most)
            starts[pieces++] = each;
    starts[pieces] = count;
#pragma omp parallel num_threads(threads)
    {
        float *scratch = (float *)(all_scratch + omp_get_thread_num() * scratch_size);
#pragma omp for schedule(static)
        for (int64_t row = 0; row < count; row++) {
            const NUMBER *from = (const NUMBER *)model->embedding + tokens[row].id * size;
            for (int64_t each = 0; each < size; each++)
                hidden[row * size + each] = WRITE(READ(from[each]) * model->embedding_scale);
        }
        for (int64_t number = 0; number < model->layer_count; number++) {
            const struct layer *layer = model->layers + number;
#pragma omp for schedule(static)
            for (int64_t row = 0; row < count; row++)
                NAMED(normalise)(hidden + row * size, layer->before_attention, size, model->epsilon,
                                 operands + row * size);
            NAMED(product)(&layer->qkv, operands, count, (struct NAMED(target)){qkv, 0, NULL});
#pragma omp barrier
#pragma omp for schedule(static)
            for (int64_t row = 0; row < count; row++)
                NAMED(prepare)(model, layer, number, tokens + row, qkv + row * heads * head);
#pragma omp for schedule(static, 1) /* later tokens see more */
            for (int64_t item = 0; item < pieces * model->key_heads; item++) {
                const int64_t start = starts[item / model->key_heads];
                const int64_t tokens_here = starts[item / model->key_heads + 1] - start;
                for (int64_t query = 0; query < group; query += QUERIES)
                    NAMED(attend)(model, layer, number, tokens + start, tokens_here,
                                  item % model->key_heads, query, smaller(QUERIES, group - query),
                                  qkv + start * heads * head,
                                  operands + start * model->query_heads * head, scratch);
            }
            NAMED(add)(model, &layer->output, operands, count, layer->after_attention, apart,
                       hidden);
#pragma omp for schedule(static)
            for (int64_t row = 0; row < count; row++)
                NAMED(normalise)(hidden + row * size, layer->before_mlp, size, model->epsilon,
                                 operands + row * size);
            NAMED(product)(&layer->gate_up, operands, count,
                           (struct NAMED(target)){gate_up, 0, NULL});
#pragma omp barrier
#pragma omp for schedule(static) collapse(2)
            for (int64_t row = 0; row < count; row++)
                for (int64_t part = 0; part < inner; part += 256) {
                    const NUMBER *gate = gate_up + row * 2 * inner, *up = gate + inner;
                    for (int64_t each = part; each < smaller(inner, part + 256); each++)
                        operands[row * inner + each] =
                            WRITE_OPERAND(READ(WRITE(activate(model->activation, READ(gate[each])))) *
                                          READ(up[each]));
                }
            NAMED(add)(model, &layer->down, operands, count, layer->after_mlp, apart, hidden);
        }
#pragma omp for schedule(static)
        for (int64_t row = 0; row < wanted_count; row++)
            NAMED(normalise)(hidden + wanted[row] * size, model->norm, size, model->epsilon,
                             operands + row * size);
        NAMED(product)(&model->head, operands, wanted_count,
                       (struct NAMED(target)){NULL, 0, scores});
    }
end:
    free(hidden), free(qkv), free(gate_up), free(apart), free(operands), free(all_scratch), free(starts);
    return failed;
}

#undef NUMBER
#undef OPERAND
#undef NAMED
#undef READ
#undef WRITE
#undef WRITE_OPERAND
#undef PAIRED
