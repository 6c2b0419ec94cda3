/* Weights of GGUF's that no product takes as they are, as numbers: blocks of WIDE inputs with scales
 * and minima of parts of them. Multiplied and added in the order of the format, each step rounded, so
 * that the numbers are those that the format says to the last bit. */

#define WIDE 256
enum packed { PACKED_4 = 12, PACKED_5, PACKED_6 }; /* Q4_K, Q5_K, Q6_K as the format numbers them */

static inline int64_t packed_size(int64_t packed) {
    return packed == PACKED_4 ? 144 : packed == PACKED_5 ? 176 : 210;
}

static inline float float16_at(const uint8_t *from) {
    uint16_t bits;
    memcpy(&bits, from, sizeof bits);
    return from_float16(bits);
}

/* Codes of 4 bits, and of 5 where `fifth` has the others, by eight scales and minima of 6 bits. */
static inline __attribute__((always_inline)) void widen_with_minima(const uint8_t *block, const uint8_t *fifth, const uint8_t *codes, float *to) {
    const float scale = float16_at(block), minimum = float16_at(block + 2);
    const uint8_t *packed = block + 4;
    float minima[8];
    for (int part = 0; part < 8; part++) {
        const int own = part % 4;
        const int first = part < 4 ? packed[own] & 63 : (packed[own + 8] & 15) | packed[own] >> 6 << 4;
        const int second = part < 4 ? packed[own + 4] & 63 : packed[own + 8] >> 4 | packed[own + 4] >> 6 << 4;
        const float factor = scale * (float)first;
        minima[part] = minimum * (float)second;
        for (int each = 0; each < 32; each++) {
            const int code = codes[part / 2 * 32 + each] >> part % 2 * 4 & 15;
            to[part * 32 + each] = factor * (float)(fifth ? code | (fifth[each] >> part & 1) << 4 : code);
        }
    }
    /* The products are in memory, rounded, before the minima are taken off. */
    __asm__ volatile("" : : "r"(to), "r"(minima) : "memory");
    for (int part = 0; part < 8; part++)
        for (int each = 0; each < 32; each++)
            to[part * 32 + each] -= minima[part];
}

/* Codes of 6 bits by sixteen scales. */
static void widen_6(const uint8_t *block, float *to) {
    const int8_t *scales = (const int8_t *)block + 192;
    const float scale = float16_at(block + 208);
    for (int part = 0; part < 8; part++) {
        const uint8_t *low = block + part / 4 * 64 + part % 2 * 32, *high = block + 128 + part / 4 * 32;
        for (int each = 0; each < 32; each++) {
            const int lower = low[each] >> part % 4 / 2 * 4 & 15;
            const int code = (lower | (high[each] >> part % 4 * 2 & 3) << 4) - 32;
            to[part * 32 + each] = scale * (float)scales[part * 2 + each / 16] * (float)code;
        }
    }
}

struct widening {
    const uint8_t *from;
    int64_t packed, blocks, form;
    void *to;
};

static void widen_part(struct team *team, void *given) {
    const struct widening *task = given;
    int64_t first, last;
    share(team, task->blocks, &first, &last);
    for (int64_t at = first; at < last; at++) {
        const uint8_t *block = task->from + at * packed_size(task->packed);
        float wide[WIDE];
        if (task->packed == PACKED_6)
            widen_6(block, wide);
        else if (task->packed == PACKED_5)
            widen_with_minima(block, block + 16, block + 48, wide);
        else
            widen_with_minima(block, NULL, block + 16, wide);
        uint16_t *to = (uint16_t *)task->to + at * WIDE;
        if (task->form == FLOAT32)
            memcpy((float *)task->to + at * WIDE, wide, sizeof wide);
        else if (task->form == BFLOAT16)
            for (int each = 0; each < WIDE; each++)
                to[each] = to_bfloat16(wide[each]);
        else
            for (int each = 0; each < WIDE; each++)
                to[each] = to_float16(wide[each]);
    }
}

/* Blocks as numbers of a form. */
void widen_blocks(struct pool *pool, int threads, const uint8_t *from, int64_t packed, int64_t blocks,
                  int64_t form, void *to) {
    pool_run(pool, threads, widen_part, &(struct widening){from, packed, blocks, form, to});
}
