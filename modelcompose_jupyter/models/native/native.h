/* What the kernels take: mirrored by structures.py.
 *
 * A number is stored as float32, bfloat16 or float16, as the weights are; sums are float32. What a token gets
 * does not depend on which other tokens are in the step, or on the number of threads.
 */
#ifndef MODELCOMPOSE_NATIVE_H
#define MODELCOMPOSE_NATIVE_H

#include <stdint.h>

/* A linear layer: weights [outputs, inputs], and a bias [outputs] or NULL. */
struct product {
    const void *weights;
    const void *bias;
    int64_t outputs;
    int64_t inputs;
};

/* What numbers are divided by: their root mean square, or their deviation from the mean, which is
 * taken off. */
enum normalisation { ROOT_MEAN_SQUARE, DEVIATION };

/* A norm of `size` numbers. */
struct norm {
    const float *weights; /* [size]; NULL: there is no norm */
    const float *bias;    /* [size], or NULL */
    int64_t size;
    int64_t kind;
};

/* Attention and an MLP, each of which adds to the hidden numbers. What they take and what they add
 * may be normalised. */
struct layer {
    struct product qkv[3];     /* their outputs stand side by side; the last ones may have none */
    struct product output;
    struct product gate_up[2]; /* outputs of the first are activated, then multiplied by the second's, if any */
    struct product down;
    struct norm before_attention, after_attention, before_mlp, after_mlp; /* of all hidden numbers */
    struct norm query_norm, key_norm; /* of a head, or of all heads */
    const float *cosines, *sines;     /* [positions, rotary size / 2]; NULL: nothing turns */
    int64_t parallel; /* the MLP takes what attention takes; without a norm of its own, after its norm */
    int64_t window;   /* how many tokens one sees, itself included; 0: all */
    float scaling;
};

enum activation { SILU, GELU_TANH, GELU, RELU };

/* Which numbers of a head turn together: one of each half, or neighbours. */
enum rotary { HALVES, PAIRS };

/* Where heads stand among the outputs of qkv: `group` of them side by side, then `stride` numbers on
 * from where those began. */
struct heads {
    int64_t first, group, stride;
};

/* Kinds of numbers, as files have them. */
enum number { FLOAT32, BFLOAT16, FLOAT16 };

struct model {
    const void *embedding; /* [vocabulary, hidden] */
    const void *positions; /* [positions, hidden], added to the embedding, or NULL */
    const struct layer *layers;
    struct norm norm;
    struct product head;
    struct heads queries, keys, values;
    int64_t layer_count, hidden, intermediate;
    int64_t query_heads, key_heads, head_size;
    int64_t rotary, rotary_size;
    int64_t activation;
    float epsilon;
    float embedding_scale, residual_scale, score_scale; /* 1: none; residuals are what a layer adds */
    float attention_cap, score_cap; /* most that a score of attention, or of a token, can be; 0: any */
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
