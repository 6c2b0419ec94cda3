/* A short convolution in place of attention, for one kind of NUMBER; step.h includes this.
 *
 * The outputs of qkv are a gate of what goes in, a gate of what comes out, and what goes in. A token
 * gets, of each of these numbers by itself, the sum of the last `taps` tokens' times the kernel's. What
 * goes in is kept for each token, as keys are, so a text can go on from any of its tokens. */

static void NAMED(convolve_all)(struct team *team, const struct NAMED(step_task) *task,
                                const struct layer *layer) {
    const int64_t size = task->model->hidden, parts = (size + AT_ONCE - 1) / AT_ONCE;
    int64_t first, last;
    share(team, task->count, &first, &last);
    for (int64_t row = first; row < last; row++) {
        const struct token *token = task->tokens + row;
        const NUMBER *gate = task->qkv + row * 3 * size, *input = gate + 2 * size;
        NUMBER *to = kept_at(token, layer->keys_at, 0, token->position, layer->record);
        for (int64_t each = 0; each < size; each++)
            to[each] = WRITE(READ(gate[each]) * READ(input[each]));
    }
    barrier(team);
    share(team, task->count * parts, &first, &last);
    for (int64_t item = first; item < last; item++) {
        const int64_t row = item / parts, from = item % parts * AT_ONCE;
        const int64_t count = smaller(AT_ONCE, size - from);
        const struct token *token = task->tokens + row;
        const NUMBER *gate = task->qkv + (row * 3 + 1) * size + from;
        OPERAND *own = task->inputs.operands + row * PADDED(size);
        float sums[AT_ONCE] = {0};
        for (int64_t tap = larger(0, layer->taps - 1 - token->position); tap < layer->taps; tap++) {
            const int64_t position = token->position - layer->taps + 1 + tap;
            const NUMBER *kept = kept_at(token, layer->keys_at, 0, position, layer->record);
            const float *weights = layer->kernel + tap * size + from;
            for (int64_t each = 0; each < count; each++)
                sums[each] += weights[each] * READ(kept[from + each]);
        }
        if (layer->kernel_bias)
            for (int64_t each = 0; each < count; each++)
                sums[each] += layer->kernel_bias[from + each];
        for (int64_t each = 0; each < count; each++)
            own[NAMED(place)(from + each)] =
                WRITE_OPERAND(READ(WRITE(sums[each])) * READ(gate[each]));
        NAMED(end_inputs)(&task->inputs, row, size, from, from + count);
    }
    barrier(team);
}
