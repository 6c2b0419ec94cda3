/* A layer's recurrence, for one kind of NUMBER; step.h includes this.
 *
 * Of each token `qkv` has what the products give: the channels of the convolution, a gate for each
 * value, and rates of each head of values. The convolution makes `channels` of that, which have
 * `prepared_width`: queries, keys and values, and what the rule takes of the rates, in float32. The
 * rule puts what it reads out where the values were.
 */

/* Some channels of a token through the convolution. `text` is the first token of its text in the step. */
static void NAMED(filtered)(const struct NAMED(step_task) *task, const struct layer *layer,
                            int64_t row, int64_t text, int64_t from, int64_t count, float *to) {
    const struct recurrence *net = &layer->recurrence;
    const int64_t channels = recurrent_channels(net), width = qkv_width(layer);
    const float *before = last_inputs(task->model, layer, task->tokens + text);
    for (int64_t each = 0; each < count; each++)
        to[each] = net->filter_bias ? net->filter_bias[from + each] : 0.0f;
    for (int64_t tap = 0; tap < net->taps; tap++) {
        const float *filter = net->filter + tap * channels + from;
        const int64_t at = row + tap - (net->taps - 1); /* whose input it sees */
        if (at >= text) {
            const NUMBER *input = task->qkv + at * width + net->channels_at + from;
            for (int64_t each = 0; each < count; each++)
                to[each] += filter[each] * READ(input[each]);
        } else if (task->tokens[text].position) {
            const float *input = before + (at - text + net->taps - 1) * channels + from;
            for (int64_t each = 0; each < count; each++)
                to[each] += filter[each] * input[each];
        }
    }
    activate(task->model->activation, to, count);
}

/* A head of queries, keys or values of a token, numbered in this order, and the rates of a head. */
static void NAMED(prepare_head)(const struct NAMED(step_task) *task, const struct layer *layer,
                                int64_t row, int64_t text, int64_t head) {
    const struct recurrence *net = &layer->recurrence;
    const int64_t size = net->key_size, channels = recurrent_channels(net), pairs = net->key_heads;
    float *own = task->channels + row * prepared_width(net);
    if (head < 2 * pairs) {
        const int is_query = head < pairs;
        const int64_t from = is_query ? net->queries_at + head * size
                                      : net->keys_at + (head - pairs) * size;
        float *numbers = own + from, squares = 0;
        NAMED(filtered)(task, layer, row, text, from, size, numbers);
        if (net->rule != DELTA)
            return;
#pragma omp simd reduction(+ : squares)
        for (int64_t each = 0; each < size; each++)
            squares += numbers[each] * numbers[each];
        const float factor = 1.0f / sqrtf((squares + 1e-6f) * (is_query ? size : 1));
        for (int64_t each = 0; each < size; each++)
            numbers[each] *= factor;
        return;
    }
    head -= 2 * pairs;
    const int64_t from = net->values_at + head * net->value_size;
    NAMED(filtered)(task, layer, row, text, from, net->value_size, own + from);
    const NUMBER *rates = task->qkv + row * qkv_width(layer) + net->rates_at + head;
    const float fading = READ(rates[net->rule == DELTA ? net->value_heads : 0]);
    const float time = softplus(fading + net->bias[head]);
    own[channels + head] = expf(-net->decay[head] * time);
    own[channels + net->value_heads + head] =
        net->rule == DELTA ? 1.0f / (1.0f + expf(-READ(rates[0]))) : time;
}

/* What the convolution of the next step sees of a text's last tokens, of some channels. */
static void NAMED(keep_inputs)(const struct NAMED(step_task) *task, const struct layer *layer,
                               int64_t text, int64_t end, int64_t from, int64_t to) {
    const struct recurrence *net = &layer->recurrence;
    const int64_t channels = recurrent_channels(net), last = net->taps - 1;
    const int64_t is_new = !task->tokens[text].position;
    float *kept = last_inputs(task->model, layer, task->tokens + text);
    for (int64_t place = 0; place < last; place++) {
        const int64_t at = end + place - last; /* whose inputs go there */
        const NUMBER *input = task->qkv + at * qkv_width(layer) + net->channels_at;
        const float *before = kept + (at - text + last) * channels;
        for (int64_t each = from; each < to; each++)
            kept[place * channels + each] = at >= text ? READ(input[each])
                                            : is_new   ? 0.0f
                                                       : before[each];
    }
}

/* All tokens of a text in the step at a block of columns of a head's state. */
static void NAMED(update_columns)(const struct NAMED(step_task) *task, const struct layer *layer,
                                  int64_t text, int64_t end, int64_t head, int64_t block) {
    const struct recurrence *net = &layer->recurrence;
    const int64_t size = net->key_size, channels = recurrent_channels(net);
    const int64_t pair = head / (net->value_heads / net->key_heads) * size;
    const int64_t place = net->values_at + head * net->value_size + block * COLUMNS;
    const int64_t there = smaller(COLUMNS, net->value_size - block * COLUMNS);
    float *state = state_columns(task->model, layer, task->tokens + text, head, block);
    if (!task->tokens[text].position)
        memset(state, 0, size * COLUMNS * sizeof *state);
    for (int64_t row = text; row < end; row++) {
        float *own = task->channels + row * prepared_width(net), values[COLUMNS] = {0};
        memcpy(values, own + place, there * sizeof *values);
        update_state(net->rule, state, size, own + net->queries_at + pair,
                     own + net->keys_at + pair, own[channels + head],
                     own[channels + net->value_heads + head], values);
        for (int64_t each = 0; net->skip && each < there; each++)
            values[each] += net->skip[head] * own[place + each];
        memcpy(own + place, values, there * sizeof *values);
    }
}

/* Values that were read out become operands. Those of the delta rule are normalised head by head, and
 * multiplied by their gates then; those of a sum the other way round, a group of heads together. */
static void NAMED(gate_values)(const struct NAMED(step_task) *task, const struct layer *layer,
                               int64_t row, int64_t group, int64_t size) {
    const struct recurrence *net = &layer->recurrence;
    const int is_delta = net->rule == DELTA;
    float *values = task->channels + row * prepared_width(net) + net->values_at + group * size;
    const float *norm = net->norm + (is_delta ? 0 : group * size);
    const NUMBER *gates = task->qkv + row * qkv_width(layer) + net->gates_at + group * size;
    OPERAND *to = task->inputs.operands + row * PADDED(layer->output.inputs);
    float squares = 0;
    for (int64_t each = 0; !is_delta && each < size; each++)
        values[each] *= READ(gates[each]) / (1.0f + exponential(-READ(gates[each])));
#pragma omp simd reduction(+ : squares)
    for (int64_t each = 0; each < size; each++)
        squares += values[each] * values[each];
    const float factor = 1.0f / sqrtf(squares / size + task->model->epsilon);
    for (int64_t each = 0; each < size; each++) {
        const float gate = READ(gates[each]);
        const float open = is_delta ? gate / (1.0f + exponential(-gate)) : 1.0f;
        to[NAMED(place)(group * size + each)] =
            WRITE_OPERAND(values[each] * factor * norm[each] * open);
    }
}

/* From the products of all tokens to the operands of the layer's output. */
static void NAMED(recur_all)(struct team *team, const struct NAMED(step_task) *task,
                             const struct layer *layer) {
    const struct recurrence *net = &layer->recurrence;
    const int64_t heads = 2 * net->key_heads + net->value_heads, blocks = column_blocks(net);
    const int64_t size = layer->output.inputs, columns = net->value_heads * blocks;
    const int64_t groups = net->rule == DELTA ? net->value_heads : net->key_heads;
    int64_t first, last;
    share(team, task->count * heads, &first, &last);
    for (int64_t item = first; item < last; item++) {
        const int64_t row = item / heads;
        NAMED(prepare_head)(task, layer, row, task->text_of[row], item % heads);
    }
    barrier(team);
    share(team, recurrent_channels(net), &first, &last);
    for (int64_t text = 0; text < task->texts; text++)
        NAMED(keep_inputs)(task, layer, task->text_starts[text], task->text_starts[text + 1], first,
                           last);
    for (int64_t item = team->thread; item < task->texts * columns; item += team->threads)
        NAMED(update_columns)(task, layer, task->text_starts[item / columns],
                              task->text_starts[item / columns + 1], item % columns / blocks,
                              item % blocks);
    barrier(team);
    share(team, task->count * groups, &first, &last);
    for (int64_t item = first; item < last; item++) {
        const int64_t row = item / groups, group = item % groups;
        NAMED(gate_values)(task, layer, row, group, size / groups);
        if (!group)
            NAMED(end_row)(task->inputs.operands + row * PADDED(size), size);
    }
    barrier(team);
    NAMED(end_all)(team, task, size);
}
