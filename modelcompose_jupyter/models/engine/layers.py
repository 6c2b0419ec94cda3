"""Faster modules that replace a model's own, with the same results.

A token costs the reading of all weights, and the calls in between. So on a CPU weights are packed
once, in the order in which kernels read them. Projections of the same input are fused to one
product, and a decoder layer of the Llama kind is written out in few operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from . import attention


class Product:
    """A linear layer, packed where that helps. No module: those cost time to call.

    Args:
        weight: [out, in].
        bias: [out], or None.
    """

    __slots__ = ("_bias", "_weight", "out_features", "packed")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.out_features = weight.shape[0]
        self.packed = _packed(weight)
        self._weight = weight
        if self.packed is not None:
            del self._weight
        self._bias = bias

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        if self.packed is None:
            return functional.linear(input, self._weight, self._bias)
        if torch.jit.is_tracing():  # which knows no optional numbers
            return self.added(input, input.new_zeros((*input.shape[:-1], self.out_features)))
        product: torch.Tensor = _linear(input, self.packed, self._bias, "none", [], "")
        return product

    @property
    def weight(self) -> torch.Tensor:
        """[out, in]; made again where it is packed."""
        return self._weight if self.packed is None else self.packed.to_dense()

    def added(self, input: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
        """The product of the input, added to a tensor of its shape."""
        if self.packed is None:
            return to + functional.linear(input, self._weight, self._bias)
        total: torch.Tensor = _linear_added(input, to, self.packed, self._bias, "add")
        return total


_linear = torch.ops.mkldnn._linear_pointwise.default
_linear_added = torch.ops.mkldnn._linear_pointwise.binary


MakeProduct = Callable[[torch.Tensor, torch.Tensor | None], Any]
"""Makes a `Product`, or what works like one."""


class Linear(nn.Module):
    """A product as a module of a model."""

    def __init__(self, part: Any, make: MakeProduct) -> None:
        super().__init__()
        self.product = _joined(make, part)

    @property
    def weight(self) -> torch.Tensor:
        """[out, in]: some models look at it themselves."""
        weight: torch.Tensor = self.product.weight
        return weight

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.product(input)


class SideBySide:
    """Projections of the same input that cannot be fused, because they are quantised, say."""

    def __init__(self, *parts: Any) -> None:
        self._parts = parts
        self.out_features = sum(part.out_features for part in parts)

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        outputs = [part(input) for part in self._parts]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)

    def added(self, input: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
        return to + self(input)


def _joined(make: MakeProduct, *parts: Any) -> Any:
    """Linear layers of the same input as one; their outputs stand one after the other."""
    if not all(map(_is_plain, parts)):
        return SideBySide(*parts)
    weights, biases = [_weight(part) for part in parts], [part.bias for part in parts]
    if len(parts) == 1:
        return make(weights[0], None if biases[0] is None else biases[0].detach())
    return make(torch.cat(weights), None if biases[0] is None else torch.cat(biases).detach())


def _is_plain(module: nn.Module) -> bool:
    """Whether a module is a linear layer with its weights as they are."""
    if type(module) is not nn.Linear and type(module).__name__ != "Conv1D":
        return False
    return type(module.weight.data) is torch.Tensor


def _weight(part: Any) -> torch.Tensor:
    """[out, in]; GPT-2 keeps its weights the other way round."""
    weight: torch.Tensor = part.weight.detach()
    return weight if isinstance(part, nn.Linear) else weight.t().contiguous()


def _packed(weight: torch.Tensor) -> torch.Tensor | None:
    """Weights in the order in which the processor's kernels read them, or None where they can't."""
    kinds = (torch.float32, torch.bfloat16)
    if weight.device.type != "cpu" or weight.dtype not in kinds:
        return None
    if not torch.backends.mkldnn.is_available():
        return None
    if weight.dtype is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None
    try:
        packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, 1)
        torch.ops.mkldnn._linear_pointwise(weight[:1], packed, None, "none", [], "")
    except (RuntimeError, NotImplementedError, AttributeError):
        return None
    return packed


class Norm:
    """Root mean square normalisation as one operation."""

    __slots__ = ("_shape", "epsilon", "weight")

    def __init__(self, norm: Any) -> None:
        plus_one = type(norm).__name__.startswith("Gemma")  # whose weights count from 1
        weight = norm.weight.detach()
        self.weight = 1 + weight if plus_one else weight
        self.epsilon = norm.eps if plus_one else norm.variance_epsilon
        self._shape = tuple(weight.shape)

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        return torch.rms_norm(input, self._shape, self.weight, self.epsilon)


_NORMS = ("input_layernorm", "post_attention_layernorm")
_NORMS_AROUND = ("pre_feedforward_layernorm", "post_feedforward_layernorm")


class DecoderLayer(nn.Module):
    """A decoder layer of the Llama kind: normalise, attend, add; normalise, gated MLP, add.

    With ``pre_feedforward_layernorm`` it is of the Gemma kind, which also normalises what it adds.
    Is called as transformers calls its own.
    """

    def __init__(self, layer: Any, make: MakeProduct = Product) -> None:
        super().__init__()
        own, mlp = layer.self_attn, layer.mlp
        self.attention_type = getattr(layer, "attention_type", None)
        self.layer_idx = own.layer_idx
        self.config = own.config
        self.is_causal = True
        self.head_dim = own.head_dim
        self.scaling = own.scaling
        self.num_key_value_groups = own.num_key_value_groups
        self.sliding_window = getattr(own, "sliding_window", None) or _window(own)
        self.use_rope = bool(getattr(own, "use_rope", True))
        self.qkv = _joined(make, *_children(own, ("q_proj", "k_proj", "v_proj"), ("qkv_proj",)))
        self.output = _joined(make, own.o_proj)
        self.gate_up = _joined(make, *_children(mlp, ("gate_proj", "up_proj"), ("gate_up_proj",)))
        self.down = _joined(make, mlp.down_proj)
        self.activation = getattr(mlp, "act_fn", None) or mlp.activation_fn
        self.query_norm = Norm(own.q_norm) if hasattr(own, "q_norm") else None
        self.key_norm = Norm(own.k_norm) if hasattr(own, "k_norm") else None
        self.norms_around = hasattr(layer, _NORMS_AROUND[0])
        for name in (*_NORMS, *(_NORMS_AROUND if self.norms_around else ())):
            setattr(self, name, Norm(getattr(layer, name)))
        self.key_heads = self.qkv.out_features // self.head_dim // (self.num_key_value_groups + 2)
        self.query_heads = self.key_heads * self.num_key_value_groups

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: Any = None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        past_key_values: Any = None,
        **options: Any,
    ) -> torch.Tensor:
        attended = self._attend(
            self.input_layernorm(hidden_states),
            attention_mask, position_embeddings, past_key_values, options,
        )  # fmt: skip
        if self.norms_around:
            hidden = hidden_states + self.post_attention_layernorm(self.output(attended))
            inner = self._gated(self.pre_feedforward_layernorm(hidden))
            return hidden + self.post_feedforward_layernorm(self.down(inner))
        hidden = self.output.added(attended, hidden_states)
        inner = self._gated(self.post_attention_layernorm(hidden))
        return self.down.added(inner, hidden)

    def _gated(self, hidden: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_up(hidden).chunk(2, -1)
        product: torch.Tensor = self.activation(gate) * up
        return product

    def _attend(
        self,
        hidden: torch.Tensor,
        mask: Any,
        positions: tuple[torch.Tensor, torch.Tensor] | None,
        past: Any,
        options: dict[str, Any],
    ) -> torch.Tensor:
        queries, keys = self.query_heads, self.key_heads
        product = self.qkv(hidden)
        heads = product.view(product.shape[0], product.shape[1], queries + 2 * keys, self.head_dim)
        turned, value = heads.split((queries + keys, keys), 2)
        if self.query_norm is not None and self.key_norm is not None:
            query, key = turned.split((queries, keys), 2)
            turned = torch.cat((self.query_norm(query), self.key_norm(key)), 2)
        if self.use_rope and positions is not None:
            turned = _rotate(turned, *positions)
        query, key = turned.split((queries, keys), 2)
        step = attention.current()
        if step is not None:
            out: torch.Tensor = step.attend(
                self.layer_idx, query[0], key[0], value[0], self.scaling, mask
            )
            return out.unsqueeze(0)
        return self._attend_alone(query, key, value, mask, past, options)

    def _attend_alone(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: Any,
        past: Any,
        options: dict[str, Any],
    ) -> torch.Tensor:
        """In generate(): [sequences, tokens, heads, size]."""
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        query, key, value = (each.transpose(1, 2) for each in (query, key, value))
        if past is not None:
            key, value = past.update(key, value, self.layer_idx)
        out, _ = sdpa_attention_forward(
            self, query, key, value, mask,
            scaling=self.scaling, sliding_window=self.sliding_window, **options,
        )  # fmt: skip
        return out.flatten(2)


def _window(own: Any) -> int | None:
    """The window of attention where it is a setting of the whole model."""
    if hasattr(own, "sliding_window"):
        return None
    return getattr(own.config, "sliding_window", None) if _windows_everywhere(own) else None


def _windows_everywhere(own: Any) -> bool:
    return own.config.model_type in ("mistral", "phi3")


def _children(module: Any, *names: tuple[str, ...]) -> list[Any]:
    found = next(each for each in names if all(hasattr(module, name) for name in each))
    return [getattr(module, name) for name in found]


def _rotate(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions, as `Rotary` gives them, of [1, tokens, heads, size]."""
    size = cos.shape[-1]
    if size == heads.shape[-1]:
        return torch.addcmul(heads * cos, heads.roll(size // 2, -1), sin)
    turned, rest = heads[..., :size], heads[..., size:]
    return torch.cat((torch.addcmul(turned * cos, turned.roll(size // 2, -1), sin), rest), -1)


class Rotary(nn.Module):
    """A model's rotary embedding for all heads, with the sign of the rotation in the sine."""

    def __init__(self, rotary: nn.Module) -> None:
        super().__init__()
        self.rotary = rotary

    def forward(self, *args: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        cos, sin = self.rotary(*args, **options)
        first, second = sin.chunk(2, -1)
        return cos.unsqueeze(-2), torch.cat((-first, second), -1).unsqueeze(-2)


_LAYERS = {
    "LlamaDecoderLayer",
    "SmolLM3DecoderLayer",
    "Qwen2DecoderLayer",
    "Qwen3DecoderLayer",
    "MistralDecoderLayer",
    "Phi3DecoderLayer",
    "Gemma3DecoderLayer",
}


def are_known(model: Any) -> bool:
    """Whether a model's layers are of the kind of `DecoderLayer`."""
    decoder_layers = getattr(model.base_model, "layers", None)
    return decoder_layers is not None and type(decoder_layers[0]).__name__ in _LAYERS


def optimise(model: Any, make: MakeProduct = Product) -> None:
    """Replace what can be replaced, in place; the weights move along."""
    if are_known(model):
        inner = model.base_model
        inner.rotary_emb = Rotary(inner.rotary_emb)
        for number, layer in enumerate(inner.layers):
            inner.layers[number] = DecoderLayer(layer, make)
    _replace_linears(model, make)


def _replace_linears(module: nn.Module, make: MakeProduct) -> None:
    for name, child in module.named_children():
        if _is_plain(child):
            setattr(module, name, Linear(child, make))
        else:
            _replace_linears(child, make)


@contextmanager
def packed_as(products: Sequence[Product], weights: Sequence[torch.Tensor]) -> Iterator[None]:
    """Have products compute with these packed weights, so that a trace has them as inputs."""
    own = [product.packed for product in products]
    try:
        for product, weight in zip(products, weights, strict=True):
            product.packed = weight
        yield
    finally:
        for product, before in zip(products, own, strict=True):
            product.packed = before


def products(model: nn.Module) -> list[Product]:
    """The products of a model whose weights are packed."""
    values = (value for module in model.modules() for value in vars(module).values())
    found = (value for value in values if isinstance(value, Product))
    return [product for product in found if product.packed is not None]
