/* What a text has said so far, as a state of constant size.
 *
 * The state of a head is a matrix from keys to values. A token lets it fade, adds what its key stands for
 * from now on, and reads out what the state says of its query. What is added is its value; by the
 * gated delta rule, how much that differs from what the state says of the key already. A column of
 * the state depends on no other, so each thread has columns of its own; a token comes after the one
 * before it, so a text is the same however its tokens are divided into steps.
 */

/* So many columns of a state stand side by side: [columns / COLUMNS, key size, COLUMNS]. */
#define COLUMNS 32
#define COLUMN_VECTORS (COLUMNS / LANES)

static inline int64_t column_blocks(const struct recurrence *net) {
    return (net->value_size + COLUMNS - 1) / COLUMNS;
}

/* What goes through the convolution: queries, keys and values of each head. */
static inline int64_t recurrent_channels(const struct recurrence *net) {
    return 2 * net->key_heads * net->key_size + net->value_heads * net->value_size;
}

/* What the rule takes of a token: channels, how much stays of the state of each head, and how much of
 * what is new is added. */
static inline int64_t prepared_width(const struct recurrence *net) {
    return recurrent_channels(net) + 2 * net->value_heads;
}

/* What a text has for a layer begins with what its last tokens gave to the convolution,
 * [taps - 1, channels]. */
static inline float *last_inputs(const struct model *model, const struct layer *layer,
                                 const struct token *token) {
    return (float *)(token->kept + token->capacity * model->state_at + layer->recurrence.state_at);
}

/* Then come blocks of columns of its heads. */
static inline float *state_columns(const struct model *model, const struct layer *layer,
                                   const struct token *token, int64_t head, int64_t block) {
    const struct recurrence *net = &layer->recurrence;
    return last_inputs(model, layer, token) + (net->taps - 1) * recurrent_channels(net) +
           (head * column_blocks(net) + block) * net->key_size * COLUMNS;
}

/* The logarithm of 1 + e to the power of x. */
static inline float softplus(float x) { return x > 20 ? x : log1pf(expf(x)); }

/* A token at a block of columns [size, COLUMNS], for values [COLUMNS] of which as many are read. */
static void update_state(int64_t rule, float *state, int64_t size, const float *query,
                         const float *key, float kept, float rate, float *values) {
    vector said[2][COLUMN_VECTORS], change[COLUMN_VECTORS], out[2][COLUMN_VECTORS];
    for (int place = 0; place < COLUMN_VECTORS; place++)
        said[0][place] = said[1][place] = out[0][place] = out[1][place] = (vector){0};
    if (rule == DELTA)
        for (int64_t row = 0; row < size; row += 2) /* two, since each sum waits for itself */
            for (int which = 0; which < 2; which++)
                for (int place = 0; place < COLUMN_VECTORS; place++)
                    said[which][place] += load(state + (row + which) * COLUMNS + place * LANES) *
                                          all_of(key[row + which]);
    for (int place = 0; place < COLUMN_VECTORS; place++)
        change[place] = (load(values + place * LANES) -
                         (said[0][place] + said[1][place]) * all_of(kept)) *
                        all_of(rate);
    for (int64_t row = 0; row < size; row += 2)
        for (int which = 0; which < 2; which++)
            for (int place = 0; place < COLUMN_VECTORS; place++) {
                float *at = state + (row + which) * COLUMNS + place * LANES;
                const vector next =
                    load(at) * all_of(kept) + change[place] * all_of(key[row + which]);
                store(at, next);
                out[which][place] += next * all_of(query[row + which]);
            }
    for (int place = 0; place < COLUMN_VECTORS; place++)
        store(values + place * LANES, out[0][place] + out[1][place]);
}
