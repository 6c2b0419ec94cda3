/* What the kernels take: mirrored by structures.py.
 *
 * A number is stored as float32, bfloat16 or float16, as the weights are; sums are float32. Beside weights
 * that are codes, others are of any of these kinds, and all else is float32. What a token gets does not
 * depend on which other tokens are in the step, or on the number of threads.
 */
#ifndef MODELCOMPOSE_NATIVE_H
#define MODELCOMPOSE_NATIVE_H

#include <stdint.h>

/* How weights are stored: as numbers; or as codes of 8 bits, which are integers, or of 4 bits, which
 * are places in a table of values.
 *
 * Codes stand in records, one for a block of CODED inputs of a GROUP of outputs. First come the codes,
 * pairs of inputs side by side: [pairs, GROUP, 2]. Of 4 bits a byte has a code of the first half of
 * the pairs in its lower half, and that of the same place in the second in its upper one. Then comes
 * what a block is scaled with, see below. A group is a header, if there is one, and its records. What
 * is beyond outputs and inputs is zero.
 */
enum form { FLOAT32, BFLOAT16, FLOAT16, CODES_8, CODES_4 };

#define CODED 32
#define GROUP 16
#define BLOCKS_IN_SUPER 8

/* What a weight is, by the integer or value v that its code says:
 * SCALE      s v             float16 s [GROUP]
 * MINIMUM    s v - m         float16 s, m [GROUP]
 * ZERO_POINT s (v - z)       float16 s [GROUP]; signed 8 bits z [GROUP]
 * SUPER      S s v - M m     unsigned 8 bits s, m [GROUP]; float16 S, M [GROUP] in the header
 * HALF_SCALES S s v           signed 8 bits s [GROUP] of the first half of a block, and of the second;
 *                            float16 S [GROUP] in the header, and as many without meaning
 * A header has one entry for each BLOCKS_IN_SUPER blocks. */
enum scaling { SCALE, MINIMUM, ZERO_POINT, SUPER, HALF_SCALES };

/* A linear layer: weights [outputs, inputs], and a bias [outputs] or NULL. */
struct product {
    const void *weights;
    const void *bias;
    const int8_t *values; /* [16], or NULL */
    int64_t outputs;
    int64_t inputs;
    int64_t form;
    int64_t scaling; /* of codes */
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

/* Where heads stand among the outputs of qkv: `group` of them side by side, then `stride` numbers on
 * from where those began. */
struct heads {
    int64_t first, group, stride;
};

/* How a token changes the state of a head: by what the state is off of its value (the gated delta rule),
 * or by the value itself (Mamba 2). */
enum rule { DELTA, SUM };

/* A recurrence: queries, keys and values of a token go through a short convolution, then keys and
 * values into a state that each text has, from which queries read; see recurrent_state.h. */
struct recurrence {
    int64_t key_heads, value_heads, key_size, value_size; /* no heads: the layer has none */
    int64_t rule;
    int64_t channels_at, gates_at, rates_at; /* where a token's stand among the outputs of qkv */
    int64_t queries_at, keys_at, values_at;  /* where they stand among the channels */
    int64_t taps;                 /* how many tokens the convolution sees */
    const float *filter;          /* [taps, channels], the newest token's last */
    const float *filter_bias;     /* [channels], or NULL */
    const float *decay;           /* [value heads]: how fast a head forgets */
    const float *bias;            /* [value heads], of that */
    const float *skip;            /* [value heads]: how much of a value is added to what is read; or NULL */
    const float *norm;            /* [value size] of each head; with SUM of all heads, [values] */
    int64_t state_at;             /* where a text's state for the layer is, in bytes from its first */
};

/* Attention, or a convolution over the tokens of a text, and an MLP, each of which adds to the hidden
 * numbers. What they take and what they add may be normalised. */
struct layer {
    struct product qkv[4];     /* their outputs stand side by side; the last ones may have none */
    struct product output;
    struct product gate_up[2]; /* outputs of the first are activated, then multiplied by the second's, if any */
    struct product down;
    struct norm before_attention, after_attention, before_mlp, after_mlp; /* of all hidden numbers */
    struct norm query_norm, key_norm; /* of a head, or of all heads */
    struct norm value_norm;           /* of a head */
    int64_t query_heads, key_heads, head_size;
    struct heads queries, keys, values;
    struct heads gates; /* of what attention gives for each query; without a group there are none */
    const float *cosines, *sines;     /* [positions, rotary size / 2]; NULL: nothing turns */
    int64_t rotary_size;
    int64_t parallel; /* the MLP takes what attention takes; without a norm of its own, after its norm */
    int64_t window;   /* how many tokens one sees, itself included; 0: all */
    float scaling;
    int64_t shares; /* whether it reads the keys and values that an earlier layer keeps, and has none */
    /* At its end it may add what its own input lets through: outputs of the first, activated, times that
     * input, are what the second takes. Without outputs: none. */
    struct product input_gate, input_output;
    struct norm after_input;
    float output_scale; /* of all hidden numbers; 1: none */
    int64_t taps; /* of a convolution in place of attention; 0: none */
    const float *kernel, *kernel_bias; /* [taps, hidden], the newest last; [hidden], or NULL */
    struct recurrence recurrence; /* in place of attention: qkv are its channels, gates and rates */
    int64_t keys_at, values_at; /* where its keys and values are kept, in bytes for each token of room */
    int64_t record;             /* bytes of a head's key or value; of what a convolution takes */
};

enum activation { SILU, GELU_TANH, GELU, RELU };

/* Which numbers of a head turn together: one of each half, or neighbours. */
enum rotary { HALVES, PAIRS };

/* What each layer gets of a token beside the hidden numbers, `norm.size` numbers: those of a row of a
 * table, which the token has, and those of a product of its first hidden numbers, normalised. */
struct layer_inputs {
    struct product table;      /* [vocabulary, layers * size] */
    struct product projection; /* without outputs: there are no such inputs */
    struct norm norm;
    float table_scale, projection_scale, scale; /* the last of their sum */
};

struct model {
    struct product embedding; /* [vocabulary, hidden] */
    const void *positions; /* [positions, hidden], added to the embedding, or NULL */
    struct layer_inputs inputs;
    const struct layer *layers;
    struct norm norm;
    struct product head;
    int64_t layer_count, hidden;
    int64_t rotary;
    int64_t state_at; /* where states of a text begin, in bytes for each token of room */
    int64_t activation;
    int64_t coded_cache; /* whether keys and values are kept in 8 bits, see kept.h */
    float epsilon;
    float embedding_scale, residual_scale, score_scale; /* 1: none; residuals are what a layer adds */
    float attention_cap, score_cap; /* most that a score of attention, or of a token, can be; 0: any */
};

/* A token, and what is kept of its text: memory with room for `capacity` tokens, in which heads of keys
 * and of values stand as [capacity, record], those of a layer from `capacity` times the layer's place
 * on. */
struct token {
    char *kept;
    int64_t capacity;
    int64_t position;
    int64_t id;
};

#endif
