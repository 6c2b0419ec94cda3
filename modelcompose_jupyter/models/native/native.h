/* What the kernels take: mirrored by structures.py.
 *
 * A number is stored as float32, bfloat16 or float16, as the weights are; sums are float32. What a token gets
 * does not depend on which other tokens are in the step, or on the number of threads.
 */
#ifndef MODELCOMPOSE_NATIVE_H
#define MODELCOMPOSE_NATIVE_H

#include <stdint.h>

/* How weights are stored: as numbers, or as codes. Codes stand in records, each of a block of CODED
 * inputs of a GROUP of outputs: [groups, blocks], the last of both filled with zeros. First come the
 * codes, pairs of inputs side by side: [pairs, GROUP, 2]; then scales, float16 [GROUP].
 * Codes of 8 bits are integers. Those of 4 bits are places in `values`; a byte has one of the first
 * half of the pairs in its lower half, and that of the same place in the second in its upper one. */
enum form { FLOAT32, BFLOAT16, FLOAT16, CODES_8, CODES_4 };

#define CODED 32
#define GROUP 16

/* A linear layer: weights [outputs, inputs], and a bias [outputs] or NULL. */
struct product {
    const void *weights;
    const void *bias;
    const int8_t *values; /* [16], or NULL */
    int64_t outputs;
    int64_t inputs;
    int64_t form;
};

/* A decoder layer. Norms are float32 weights, or NULL where there is none. */
struct layer {
    struct product qkv[3], output, gate_up[2], down;
    const float *before_attention, *after_attention; /* [hidden] */
    const float *before_mlp, *after_mlp;
    const float *query_norm, *key_norm; /* [head size] */
    const float *cosines, *sines;       /* [positions, rotary size / 2]; NULL: no positions */
    int64_t window;                     /* how many tokens one sees, itself included; 0: all */
    float scaling;
};

enum activation { SILU, GELU_TANH };

struct model {
    struct product embedding; /* [vocabulary, hidden] */
    const struct layer *layers;
    const float *norm;
    struct product head;
    int64_t layer_count, hidden, intermediate;
    int64_t query_heads, key_heads, head_size, rotary_size;
    int64_t activation;
    float epsilon, embedding_scale;
};

/* Where a token goes in a slab [layers, 2, rows, heads, capacity, head size]; in numbers. */
struct token {
    void *row;          /* keys of layer 0, head 0, position 0 */
    int64_t layer_size; /* from a layer to the next */
    int64_t to_values;  /* from keys to values */
    int64_t head_stride;
    int64_t position;
    int64_t id;
};

#endif
