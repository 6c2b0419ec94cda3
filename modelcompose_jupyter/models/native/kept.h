/* What a text keeps of its tokens: keys and values, as numbers or in 8 bits.
 *
 * In 8 bits a record is the codes of a head, signed, then a float16 scale for each CODED of them. They
 * are coded once, when the token is computed, and always read as codes: so what a token gets is the
 * same however its prompt is divided.
 */

/* What a text keeps of a token for a head of a layer. */
static inline void *kept_at(const struct token *token, int64_t place, int64_t head, int64_t position,
                            int64_t record) {
    return token->kept + token->capacity * place + (head * token->capacity + position) * record;
}

static inline uint16_t *scales_of(void *record, int64_t size) {
    return (uint16_t *)((char *)record + (size + 1) / 2 * 2);
}

/* Numbers of a head become a record. */
static void code_head(const float *numbers, int64_t size, void *record) {
    int8_t *codes = record;
    uint16_t *scale = scales_of(record, size);
    for (int64_t from = 0; from < size; from += CODED, scale++) {
        const int64_t end = smaller(from + CODED, size);
        float most = 0, nothing = 0; /* but where one is not finite */
        for (int64_t each = from; each < end; each++) {
            most = fabsf(numbers[each]) > most ? fabsf(numbers[each]) : most;
            nothing += numbers[each] * 0;
        }
        *scale = to_float16(most / 127 + nothing);
        const float found = from_float16(*scale), factor = found ? 1 / found : 0;
        for (int64_t each = from; each < end; each++) {
            const float code = rintf(numbers[each] * factor);
            codes[each] = code > 127 ? 127 : code > -127 ? (int8_t)code : -127;
        }
    }
}
