"""What families of decoders call their tensors."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class TensorNames:
    """The names of a family's tensors, without ``.weight`` and ``.bias``.

    Norms are None where its layers have none.

    Attributes:
        prefix: before all names but the head's.
        heads: of the output layer: the first that a file has.
        layer: of a layer, with ``{}`` for its number; the names below come after it.
        qkv: of queries, keys and values: three, or one for all.
        before_convolution: of what gives a convolution its input and both gates;
            ``convolution`` of its kernel, ``after_convolution`` of what comes after it.
        input_table: of what each layer gets of a token by itself, as ``input_projection`` and
            ``input_norm``; ``input_gate``, ``input_output`` and ``after_input`` of what a layer
            makes of it.
        output_scale: of what a layer's numbers are multiplied by at its end.
        recurrence: before those of a recurrence.
        gate_up: of the gate and what it is for: two, or one for both; or of an MLP without a gate.
    """

    prefix: str = "model."
    embedding: str = "embed_tokens"
    positions: str | None = None
    norm: str = "norm"
    heads: tuple[str, ...] = ("lm_head",)
    layer: str = "layers.{}."
    qkv: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    output: str = "self_attn.o_proj"
    before_convolution: str = "conv.in_proj"
    convolution: str = "conv.conv"
    after_convolution: str = "conv.out_proj"
    recurrence: str = "linear_attn."
    gate_up: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    down: str = "mlp.down_proj"
    before_attention: str | None = "input_layernorm"
    after_attention: str | None = None
    before_mlp: str | None = "post_attention_layernorm"
    after_mlp: str | None = None
    query_norm: str | None = None
    key_norm: str | None = None
    value_norm: str | None = None
    input_table: str = "embed_tokens_per_layer"
    input_projection: str = "per_layer_model_projection"
    input_norm: str = "per_layer_projection_norm"
    input_gate: str = "per_layer_input_gate"
    input_output: str = "per_layer_projection"
    after_input: str | None = None
    output_scale: str | None = None

    def of_layer(self, number: int, name: str) -> str:
        """The whole name of a part of a layer."""
        return f"{self.prefix}{self.layer.format(number)}{name}"

    def as_in(self, there: Container[str]) -> TensorNames:
        """The same as a file has them.

        One that was written without its head may have no prefix; transformers reads it, too.
        """
        names = self
        if f"{self.prefix}{self.embedding}.weight" not in there:
            names = replace(self, prefix="") if f"{self.embedding}.weight" in there else self
        found = [each for each in self.heads if f"{each}.weight" in there]
        return replace(names, heads=(*found, *self.heads)[:1])


LLAMA = TensorNames()
PHI3 = replace(LLAMA, qkv=("self_attn.qkv_proj",), gate_up=("mlp.gate_up_proj",))
GRANITE4 = replace(
    LLAMA,
    gate_up=("shared_mlp.input_linear",),
    down="shared_mlp.output_linear",
    recurrence="mamba.",
)
LFM2 = replace(
    LLAMA,
    norm="embedding_norm",
    output="self_attn.out_proj",
    gate_up=("feed_forward.w1", "feed_forward.w3"),
    down="feed_forward.w2",
    before_attention="operator_norm",
    before_mlp="ffn_norm",
    query_norm="self_attn.q_layernorm",
    key_norm="self_attn.k_layernorm",
)
QUERY_NORMS = replace(LLAMA, query_norm="self_attn.q_norm", key_norm="self_attn.k_norm")
GEMMA2 = replace(
    LLAMA,
    after_attention="post_attention_layernorm",
    before_mlp="pre_feedforward_layernorm",
    after_mlp="post_feedforward_layernorm",
)
GEMMA3 = replace(GEMMA2, query_norm="self_attn.q_norm", key_norm="self_attn.k_norm")
GEMMA4 = replace(GEMMA3, after_input="post_per_layer_input_norm", output_scale="layer_scalar")
NORMS_AFTER = replace(GEMMA3, before_attention=None, before_mlp=None)
HYPERCLOVAX = replace(LLAMA, after_attention="post_norm1", after_mlp="post_norm2")
GPT2 = TensorNames(
    prefix="transformer.",
    embedding="wte",
    positions="wpe",
    norm="ln_f",
    layer="h.{}.",
    qkv=("attn.c_attn",),
    output="attn.c_proj",
    gate_up=("mlp.c_fc",),
    down="mlp.c_proj",
    before_attention="ln_1",
    before_mlp="ln_2",
)
GPT_NEO = replace(
    GPT2,
    qkv=("attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"),
    output="attn.attention.out_proj",
)
GPT_NEOX = TensorNames(
    prefix="gpt_neox.",
    embedding="embed_in",
    norm="final_layer_norm",
    heads=("embed_out", "lm_head"),
    qkv=("attention.query_key_value",),
    output="attention.dense",
    gate_up=("mlp.dense_h_to_4h",),
    down="mlp.dense_4h_to_h",
)
CODEGEN = replace(
    GPT2,
    positions=None,
    qkv=("attn.qkv_proj",),
    output="attn.out_proj",
    gate_up=("mlp.fc_in",),
    down="mlp.fc_out",
    before_mlp=None,
)
GPTJ = replace(CODEGEN, qkv=("attn.q_proj", "attn.k_proj", "attn.v_proj"))
