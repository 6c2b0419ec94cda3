"""What a decoder in C is made of: its layers as data, whatever architecture they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from . import codes, numbers
from .codes import Codes
from .kept_layout import KeptLayout, Track
from .linear import Linear
from .numbers import Kind

NormKind = Literal["rms", "layer"]
NORMS: dict[NormKind, int] = {"rms": 0, "layer": 1}
Activation = Literal["silu", "gelu_tanh", "gelu", "relu"]
ACTIVATIONS: dict[Activation, int] = {"silu": 0, "gelu_tanh": 1, "gelu": 2, "relu": 3}
Rotary = Literal["halves", "pairs"]
ROTARY: dict[Rotary, int] = {"halves": 0, "pairs": 1}
"""As native.h numbers them."""

Rotations = tuple[np.ndarray, np.ndarray]
"""Cosines and sines of positions, float32 [positions, rotary size / 2]."""


@dataclass(frozen=True, eq=False)
class Norm:
    """Normalisation of as many numbers as there are weights.

    Attributes:
        weights: float32 [size].
        bias: float32 [size], or None.
        kind: ``rms`` divides by the root mean square; ``layer`` takes off the mean, and divides by
            the deviation from it.
    """

    weights: np.ndarray
    bias: np.ndarray | None = None
    kind: NormKind = "rms"


@dataclass(frozen=True)
class Heads:
    """Where heads stand among the outputs of queries, keys and values.

    Attributes:
        first: where the first begins.
        group: how many stand side by side.
        stride: from where such a group begins to where the next does; unused if there is one.
    """

    first: int
    group: int
    stride: int = 0

    def end(self, count: int, size: int) -> int:
        """Where the last of so many heads of this size ends."""
        last = count - 1
        return self.first + last // self.group * self.stride + (last % self.group + 1) * size


QKVHeads = tuple[Heads, Heads, Heads]
"""Of queries, keys and values."""


def side_by_side(queries: int, keys: int, size: int) -> QKVHeads:
    """All heads of queries, then those of keys, then those of values."""
    return (
        Heads(0, queries),
        Heads(queries * size, keys),
        Heads((queries + keys) * size, keys),
    )


@dataclass(frozen=True, eq=False)
class Layer:
    """A decoder layer: attention and an MLP, each of which adds to the hidden numbers.

    Attributes:
        qkv: queries, keys and values: three layers, or fewer whose outputs are all of them.
        gate_up: the first one's outputs are activated and multiplied by the second's, if there is
            a second one.
        before_attention, before_mlp: norms of what goes in, None where there is none.
        after_attention, after_mlp: norms of what is added, or None.
        query_norm, key_norm: of [head size], or of all heads; or None.
        parallel: whether the MLP takes what attention takes, not what it has added to; without a
            norm of its own it takes attention's.
        window: how many tokens one sees, itself included; 0 is all.
        scaling: what products of queries and keys are multiplied by.
        rotation: the name of its rotation by position, None where there is none.
    """

    qkv: Sequence[Linear]
    output: Linear
    gate_up: Sequence[Linear]
    down: Linear
    before_attention: Norm | None
    before_mlp: Norm | None
    after_attention: Norm | None
    after_mlp: Norm | None
    query_norm: Norm | None
    key_norm: Norm | None
    window: int
    scaling: float
    rotation: str | None
    parallel: bool = False

    @property
    def linears(self) -> list[Linear]:
        """All of its linear layers."""
        return [*self.qkv, self.output, *self.gate_up, self.down]

    @property
    def norms(self) -> dict[str, Norm | None]:
        """Its norms by their names here."""
        return {name: getattr(self, name) for name in LAYER_NORMS}


LAYER_NORMS = (
    "before_attention", "after_attention", "before_mlp", "after_mlp", "query_norm", "key_norm",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Parts:
    """What a decoder is made of.

    Attributes:
        kind: of the numbers that it computes with.
        embedding: [vocabulary, hidden], of any kind where there are codes; perhaps the weights of
            the head.
        positions: [context, hidden], which is added to it, or None.
        norm: the last one.
        heads: where those of queries, keys and values stand; None is side by side.
        rotary: whether a rotation turns numbers of the two halves of its part of a head, or pairs
            of neighbours.
        rotations: gives by their names those of so many positions.
        residual_scale: what a layer adds is multiplied by; ``score_scale`` the scores of tokens.
        attention_cap, score_cap: bounds that scores of attention, and of tokens, come near as a
            hyperbolic tangent does; 0 is none.
        keeps_codes: whether keys and values are kept in 8 bits, in blocks with a scale.
        check: raises where the weights are no more what they were.
    """

    kind: Kind
    embedding: Linear
    layers: Sequence[Layer]
    norm: Norm
    head: Linear
    query_heads: int
    key_heads: int
    head_size: int
    activation: Activation
    epsilon: float
    embedding_scale: float
    rotations: Callable[[int], Mapping[str, Rotations]]
    positions: np.ndarray | None = None
    heads: QKVHeads | None = None
    rotary: Rotary = "halves"
    residual_scale: float = 1.0
    score_scale: float = 1.0
    attention_cap: float = 0.0
    score_cap: float = 0.0
    keeps_codes: bool = False
    check: Callable[[], None] = lambda: None

    @property
    def linears(self) -> list[Linear]:
        """Those of its layers, and the head."""
        return [*(each for layer in self.layers for each in layer.linears), self.head]

    @property
    def has_codes(self) -> bool:
        """Whether weights are codes. What is between them is float32 then."""
        return any(isinstance(each.weights, Codes) for each in self.linears)

    @property
    def kept_kind(self) -> Kind:
        """Of the numbers that keys and values are kept as, if they are no codes."""
        return "float16" if self.has_codes else self.kind

    @property
    def kept_record(self) -> int:
        """Bytes of a head's key or value."""
        if self.keeps_codes:
            return -(-self.head_size // 2) * 2 + 2 * -(-self.head_size // codes.BLOCK)
        return self.head_size * numbers.dtype(self.kept_kind).itemsize

    @property
    def kept_layout(self) -> KeptLayout:
        """What is kept of each token: for each layer keys of its heads, then values."""
        return KeptLayout.of(
            Track(self.key_heads, self.kept_record) for _ in self.layers for _ in range(2)
        )

    @property
    def bytes(self) -> int:
        """What the weights take.

        Of an embedding that is beside codes only the rows of tokens are read, so it does not count.
        """
        norms = [self.norm, *(each for layer in self.layers for each in layer.norms.values())]
        arrays = [a for norm in norms if norm is not None for a in (norm.weights, norm.bias)]
        linears = self.linears if self.has_codes else [self.embedding, *self.linears]
        arrays += [self.positions, *(a for each in linears for a in each.arrays)]
        there = {each.ctypes.data: each for each in arrays if each is not None}
        return sum(each.nbytes for each in there.values())

    def verify(self) -> None:
        """Raise a ValueError for what a step would write or read beyond its memory with."""
        hidden, size = self.head.inputs, self.head_size
        queries, keys = self.query_heads * size, self.key_heads * size
        width, inner = queries + 2 * keys, self.layers[0].down.inputs
        if self.query_heads < 1 or self.key_heads < 1 or self.query_heads % self.key_heads:
            raise ValueError(f"{self.query_heads} heads of queries, and {self.key_heads} of keys")
        plain = side_by_side(self.query_heads, self.key_heads, size)
        counts = (self.query_heads, self.key_heads, self.key_heads)
        for each, count in zip(self.heads or plain, counts, strict=True):
            if min(each.first, each.stride) < 0 or each.group < 1 or each.end(count, size) > width:
                raise ValueError(f"heads at {each}, of {width} numbers")
        tables = [self.embedding.inputs]
        if self.positions is not None:
            tables.append(self.positions.shape[1])
        if any(each != hidden for each in tables):
            raise ValueError(f"tables of {tables} numbers, not of {hidden}")
        turning = {2 * cosines.shape[1] for cosines, _ in self.rotations(1).values()}
        if len(turning) > 1 or not all(0 < each <= size for each in turning):
            raise ValueError(f"{sorted(turning)} of {size} numbers turn")
        _verify_norm("norm", self.norm, (hidden,))
        for layer in self.layers:
            if not 0 <= layer.window < _LONGEST_WINDOW:
                raise ValueError(f"a window of {layer.window} tokens")
            for name, norm in layer.norms.items():
                sizes: tuple[int, ...] = (hidden,)
                if name in ("query_norm", "key_norm"):
                    whole = queries if name == "query_norm" else keys
                    sizes = (size, whole) if self.heads in (None, plain) else ()
                if norm is not None:
                    _verify_norm(name, norm, sizes)
            _verify_linears("qkv", layer.qkv, width, hidden, (1, 2, 3))
            _verify_linears("output", [layer.output], hidden, queries)
            _verify_linears("gate_up", layer.gate_up, len(layer.gate_up) * inner, hidden, (1, 2))
            if any(each.outputs != inner for each in layer.gate_up):
                raise ValueError(f"gate_up: not {inner} outputs")
            _verify_linears("down", [layer.down], hidden, inner)


_LONGEST_WINDOW = 1 << 31


def _verify_norm(name: str, norm: Norm, sizes: Sequence[int]) -> None:
    for array in (norm.weights, norm.bias):
        if array is None:
            continue
        if array.dtype != np.float32 or array.ndim != 1 or len(array) not in sizes:
            raise ValueError(f"{name}: {array.shape}, not one of {sizes}")
    if norm.bias is not None and norm.bias.shape != norm.weights.shape:
        raise ValueError(f"{name}: a bias of {norm.bias.shape} beside {norm.weights.shape}")


def _verify_linears(
    name: str, linears: Sequence[Linear], outputs: int, inputs: int, counts: Sequence[int] = (1,)
) -> None:
    """Raise a ValueError where layers of the same input have other sizes, together."""
    structs = linears
    if len(linears) not in counts or sum(each.outputs for each in structs) != outputs:
        raise ValueError(f"{name}: {[each.outputs for each in structs]}, not {outputs} outputs")
    for linear in linears:
        if linear.inputs != inputs:
            raise ValueError(f"{name}: {linear.inputs} inputs, not {inputs}")
        if linear.bias is not None and linear.bias.shape != (linear.outputs,):
            raise ValueError(f"{name}: a bias of {linear.bias.shape}")
