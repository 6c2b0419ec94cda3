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


@dataclass(frozen=True)
class Attention:
    """The heads of a layer, of as many numbers each.

    Attributes:
        query_heads: a multiple of ``key_heads``; values have as many as keys.
        values_are_keys: whether what keys are before they are normalised and turned is what
            values are.
        shares: the number of an earlier layer whose keys and values it reads; it has none then.
    """

    query_heads: int
    key_heads: int
    head_size: int
    values_are_keys: bool = False
    shares: int | None = None

    @property
    def queries(self) -> int:
        """How many numbers those of a token are."""
        return self.query_heads * self.head_size

    @property
    def keys(self) -> int:
        """How many numbers those of a token are; values as many."""
        return self.key_heads * self.head_size

    @property
    def side_by_side(self) -> QKVHeads:
        """All heads of queries, then those of keys, then those of values."""
        return (
            Heads(0, self.query_heads),
            Heads(self.queries, self.key_heads),
            Heads(self.queries + (0 if self.values_are_keys else self.keys), self.key_heads),
        )

    @property
    def width(self) -> int:
        """How many numbers queries, keys and values of a token are that it has itself."""
        own = 0 if self.shares is not None else 1 if self.values_are_keys else 2
        return self.queries + own * self.keys


@dataclass(frozen=True, eq=False)
class Convolution:
    """A short convolution over the tokens of a text, of each hidden number by itself.

    Attributes:
        kernel: float32 [taps, hidden]; the newest token's is the last.
        bias: float32 [hidden], or None.
    """

    kernel: np.ndarray
    bias: np.ndarray | None = None


Rule = Literal["delta", "sum"]
RULES: dict[Rule, int] = {"delta": 0, "sum": 1}
"""As native.h numbers them."""
_COLUMNS = 32
"""Of a state that stand side by side; as in recurrent_state.h."""


@dataclass(frozen=True)
class RecurrentHeads:
    """The heads of a recurrence.

    Attributes:
        value_heads: a multiple of ``key_heads``; queries have as many as keys, and their size.
        taps: how many tokens its convolution sees.
        rule: what a token adds to the state of a head: ``delta`` how much its value differs from
            what the state says of its key (gated delta nets), ``sum`` the value (Mamba 2).
    """

    key_heads: int
    value_heads: int
    key_size: int
    value_size: int
    taps: int
    rule: Rule = "delta"

    @property
    def values(self) -> int:
        """How many numbers it gives."""
        return self.value_heads * self.value_size

    @property
    def channels(self) -> int:
        """How many go through the convolution: queries, keys and values."""
        return 2 * self.key_heads * self.key_size + self.values

    @property
    def rates(self) -> int:
        """How many of a token there are: of each head how much it forgets, and by the delta rule,
        before these, how much it corrects."""
        return self.value_heads * (2 if self.rule == "delta" else 1)

    @property
    def places(self) -> dict[str, int]:
        """Where parts of a token stand, as in native.h."""
        keys, values, channels = self.key_heads * self.key_size, self.values, self.channels
        if self.rule == "delta":
            outputs = {"channels_at": 0, "gates_at": channels, "rates_at": channels + values}
            return {**outputs, "queries_at": 0, "keys_at": keys, "values_at": 2 * keys}
        outputs = {"gates_at": 0, "channels_at": values, "rates_at": values + channels}
        return {**outputs, "values_at": 0, "keys_at": values, "queries_at": values + keys}

    @property
    def norm_size(self) -> int:
        """How many weights its norm has: for a head, or for all."""
        return self.value_size if self.rule == "delta" else self.values

    @property
    def state_bytes(self) -> int:
        """What a text has of it, float32: last inputs of the convolution, and each head's state."""
        columns = -(-self.value_size // _COLUMNS) * _COLUMNS
        states = self.value_heads * self.key_size * columns
        return 4 * ((self.taps - 1) * self.channels + states)


@dataclass(frozen=True, eq=False)
class Recurrence:
    """A recurrence: keys and values of tokens go into a state of constant size.

    Attributes:
        filter: of its convolution, float32 [taps, channels]; the newest token's is the last.
        filter_bias: float32 [channels], or None.
        decay: how fast each head forgets, float32 [value heads].
        bias: of what that is multiplied by, float32 [value heads].
        skip: how much of a value is added to what a head reads out, float32 [value heads], or None.
        norm: weights for what heads read out, float32 [`RecurrentHeads.norm_size`].
    """

    heads: RecurrentHeads
    filter: np.ndarray
    decay: np.ndarray
    bias: np.ndarray
    norm: np.ndarray
    filter_bias: np.ndarray | None = None
    skip: np.ndarray | None = None

    @property
    def arrays(self) -> dict[str, np.ndarray | None]:
        """All that it has in memory."""
        names = ("filter", "filter_bias", "decay", "bias", "skip", "norm")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, eq=False)
class Layer:
    """A decoder layer: attention and an MLP, each of which adds to the hidden numbers. In place of
    attention there may be a convolution, or a recurrence.

    Attributes:
        mixer: what makes tokens of those before them: attention's heads, a convolution, a
            recurrence.
        qkv: queries, keys and values: three layers, or fewer whose outputs are all of them. Of a
            convolution the gate of what goes in, the gate of what comes out, and what goes in. Of a
            recurrence its channels, a gate for each value, and rates of each head of values, as
            `RecurrentHeads.places` says.
        heads: where those of queries, keys and values stand; None is side by side.
        gates: where the gates of what attention gives stand, as queries do; None: there are none.
        gate_up: the first one's outputs are activated and multiplied by the second's, if there is
            a second one.
        before_attention, before_mlp: norms of what goes in, None where there is none.
        after_attention, after_mlp: norms of what is added, or None.
        query_norm, key_norm: of [head size], or of all heads; or None. ``value_norm`` is of
            [head size].
        input_gate, input_output: linear layers to and from as many numbers as the layer gets of
            each token by itself (`LayerInputs`); None where there are no such.
        after_input: norm of what these add, or None.
        output_scale: what the layer gives is multiplied by.
        parallel: whether the MLP takes what attention takes, not what it has added to; without a
            norm of its own it takes attention's.
        window: how many tokens one sees, itself included; 0 is all.
        scaling: what products of queries and keys are multiplied by.
        rotation: the name of its rotation by position, None where there is none.
    """

    mixer: Attention | Convolution | Recurrence
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
    value_norm: Norm | None
    window: int
    scaling: float
    rotation: str | None
    heads: QKVHeads | None = None
    gates: Heads | None = None
    parallel: bool = False
    input_gate: Linear | None = None
    input_output: Linear | None = None
    after_input: Norm | None = None
    output_scale: float = 1.0

    @property
    def linears(self) -> list[Linear]:
        """All of its linear layers."""
        own = (self.input_gate, self.input_output)
        return [*self.qkv, self.output, *self.gate_up, self.down, *(each for each in own if each)]

    @property
    def norms(self) -> dict[str, Norm | None]:
        """Its norms by their names here."""
        return {name: getattr(self, name) for name in LAYER_NORMS}

    @property
    def arrays(self) -> list[np.ndarray | None]:
        """What it has beside linear layers."""
        mixer, own = self.mixer, list[np.ndarray | None]()
        if isinstance(mixer, Convolution):
            own = [mixer.kernel, mixer.bias]
        elif isinstance(mixer, Recurrence):
            own = [*mixer.arrays.values()]
        return [
            *(a for each in self.norms.values() if each for a in (each.weights, each.bias)),
            *own,
        ]

    @property
    def state_bytes(self) -> int:
        """What a text has of it, however many tokens there are."""
        return self.mixer.heads.state_bytes if isinstance(self.mixer, Recurrence) else 0


LAYER_NORMS = (
    "before_attention", "after_attention", "before_mlp", "after_mlp", "query_norm", "key_norm",
    "value_norm", "after_input",
)  # fmt: skip
HEAD_NORMS = ("query_norm", "key_norm", "value_norm")
"""Those that are not of all hidden numbers."""


@dataclass(frozen=True, eq=False)
class LayerInputs:
    """What each layer gets of a token beside the hidden numbers.

    Attributes:
        table: [vocabulary, layers * size], of any kind of numbers.
        projection: of the first hidden numbers, to [layers * size].
        norm: of [size], of what the projection gives.
        table_scale, projection_scale: what both are multiplied by; ``scale`` their sum.
    """

    table: Linear
    projection: Linear
    norm: Norm
    table_scale: float
    projection_scale: float
    scale: float


@dataclass(frozen=True, eq=False)
class Parts:
    """What a decoder is made of.

    Attributes:
        kind: of the numbers that it computes with.
        embedding: [vocabulary, hidden], of any kind where there are codes; perhaps the weights of
            the head.
        positions: [context, hidden], which is added to it, or None.
        norm: the last one.
        inputs: what layers get of each token by itself, or None.
        rotary: whether a rotation turns numbers of the two halves of its part of a head, or pairs
            of neighbours.
        rotations: gives by their names those of so many positions.
        residual_scale: what a layer adds is multiplied by; ``score_scale`` the scores of tokens.
        attention_cap, score_cap: bounds that scores of attention, and of tokens, come near as a
            hyperbolic tangent does; 0 is none.
        coded_cache: whether keys and values are kept in 8 bits, in blocks with a scale.
        check: raises where the weights are no more what they were.
    """

    kind: Kind
    embedding: Linear
    layers: Sequence[Layer]
    norm: Norm
    head: Linear
    activation: Activation
    epsilon: float
    embedding_scale: float
    rotations: Callable[[int], Mapping[str, Rotations]]
    positions: np.ndarray | None = None
    inputs: LayerInputs | None = None
    rotary: Rotary = "halves"
    residual_scale: float = 1.0
    score_scale: float = 1.0
    attention_cap: float = 0.0
    score_cap: float = 0.0
    coded_cache: bool = False
    check: Callable[[], None] = lambda: None

    @property
    def linears(self) -> list[Linear]:
        """Those of its layers, and the head."""
        found = [*(each for layer in self.layers for each in layer.linears), self.head]
        return found if self.inputs is None else [*found, self.inputs.projection]

    @property
    def has_codes(self) -> bool:
        """Whether weights are codes. What is between them is float32 then."""
        return any(isinstance(each.weights, Codes) for each in self.linears)

    @property
    def kept_kind(self) -> Kind:
        """Of the numbers that keys and values are kept as, if they are no codes."""
        return "float16" if self.has_codes else self.kind

    def tracks(self, layer: Layer) -> list[Track]:
        """What a layer keeps of each token: keys of its heads, then values; or what its convolution
        takes. Nothing, where it reads what an earlier layer keeps, or has a state."""
        mixer = layer.mixer
        if isinstance(mixer, Recurrence):
            return []
        if isinstance(mixer, Convolution):
            return [Track(1, mixer.kernel.shape[1] * numbers.dtype(self.kind).itemsize)]
        if mixer.shares is not None:
            return []
        size = mixer.head_size
        record = size * numbers.dtype(self.kept_kind).itemsize
        if self.coded_cache:
            record = -(-size // 2) * 2 + 2 * -(-size // codes.BLOCK)
        return [Track(mixer.key_heads, record)] * 2

    @property
    def kept_layout(self) -> KeptLayout:
        """What is kept of each token, layer by layer, and the states of all layers."""
        return KeptLayout.of(
            (track for layer in self.layers for track in self.tracks(layer)),
            sum(layer.state_bytes for layer in self.layers),
        )

    @property
    def bytes(self) -> int:
        """What the weights take.

        Of an embedding that is beside codes, and of the table of the layers' inputs, only the rows
        of tokens are read, so they do not count.
        """
        arrays = [a for layer in self.layers for a in layer.arrays]
        arrays += [self.norm.weights, self.norm.bias]
        if self.inputs is not None:
            arrays += [self.inputs.norm.weights]
        linears = self.linears if self.has_codes else [self.embedding, *self.linears]
        arrays += [self.positions, *(a for each in linears for a in each.arrays)]
        there = {each.ctypes.data: each for each in arrays if each is not None}
        return sum(each.nbytes for each in there.values())

    def verify(self) -> None:
        """Raise a ValueError for what a step would write or read beyond its memory with."""
        hidden = self.head.inputs
        tables = [self.embedding.inputs]
        if self.positions is not None:
            tables.append(self.positions.shape[1])
        if any(each != hidden for each in tables):
            raise ValueError(f"tables of {tables} numbers, not of {hidden}")
        _verify_norm("norm", self.norm, (hidden,))
        turning = {name: 2 * each[0].shape[1] for name, each in self.rotations(1).items()}
        inputs = 0 if self.inputs is None else len(self.inputs.norm.weights)
        if self.inputs is not None:
            _verify_inputs(self.inputs, inputs * len(self.layers), hidden)
        for number, layer in enumerate(self.layers):
            inner = layer.down.inputs
            if not 0 <= layer.window < _LONGEST_WINDOW:
                raise ValueError(f"a window of {layer.window} tokens")
            for name, norm in layer.norms.items():
                if norm is not None and name not in HEAD_NORMS:
                    _verify_norm(name, norm, (hidden,))
            if isinstance(layer.mixer, Convolution):
                _verify_convolution(layer, layer.mixer, hidden)
            elif isinstance(layer.mixer, Recurrence):
                _verify_recurrence(layer, layer.mixer, hidden)
            else:
                turns = 0 if layer.rotation is None else turning.get(layer.rotation, -1)
                _verify_attention(layer, layer.mixer, turns, hidden)
                _verify_sharing(layer.mixer, self.layers[:number])
            if layer.input_gate is not None or layer.input_output is not None:
                _verify_linears("input_gate", [layer.input_gate], inputs, hidden)
                _verify_linears("input_output", [layer.input_output], hidden, inputs)
            _verify_linears("gate_up", layer.gate_up, len(layer.gate_up) * inner, hidden, (1, 2))
            if any(each.outputs != inner for each in layer.gate_up):
                raise ValueError(f"gate_up: not {inner} outputs")
            _verify_linears("down", [layer.down], hidden, inner)


_LONGEST_WINDOW = 1 << 31


def _verify_inputs(inputs: LayerInputs, width: int, hidden: int) -> None:
    """Raise a ValueError where what layers get of each token is not so many numbers."""
    if inputs.table.inputs != width:
        raise ValueError(f"a table of {inputs.table.inputs} numbers, not of {width}")
    _verify_norm("inputs", inputs.norm, (len(inputs.norm.weights),))
    _verify_linears("projection", [inputs.projection], width, hidden)


def _verify_sharing(mixer: Attention, before: Sequence[Layer]) -> None:
    """Raise a ValueError where the layer whose keys and values one reads has no such."""
    if mixer.shares is None:
        return
    if not 0 <= mixer.shares < len(before):
        raise ValueError(f"keys and values of layer {mixer.shares}, which does not come before")
    other = before[mixer.shares].mixer
    if not isinstance(other, Attention) or other.shares is not None:
        raise ValueError(f"keys and values of layer {mixer.shares}, which has none")
    if (other.key_heads, other.head_size) != (mixer.key_heads, mixer.head_size):
        raise ValueError(f"keys and values of layer {mixer.shares}, which are others")


def _verify_attention(layer: Layer, mixer: Attention, turns: int, hidden: int) -> None:
    """Raise a ValueError where attention of a layer does not fit.

    Args:
        turns: how many numbers of a head do.
    """
    size = mixer.head_size
    if not 0 < mixer.key_heads <= mixer.query_heads or mixer.query_heads % mixer.key_heads:
        raise ValueError(f"{mixer.query_heads} heads of queries, and {mixer.key_heads} of keys")
    if turns < 0 or turns > size:
        raise ValueError(f"{turns} of {size} numbers turn")
    width, plain = mixer.width, mixer.side_by_side
    counts = (mixer.query_heads, mixer.key_heads, mixer.key_heads)
    own = 1 if mixer.shares is not None else 3
    placed = list(zip(layer.heads or plain, counts, strict=True))[:own]
    if layer.gates is not None:
        width += mixer.queries
        placed.append((layer.gates, mixer.query_heads))
    for each, count in placed:
        if min(each.first, each.stride) < 0 or each.group < 1 or each.end(count, size) > width:
            raise ValueError(f"heads at {each}, of {width} numbers")
    for name, whole in zip(HEAD_NORMS, (mixer.queries, mixer.keys, size), strict=True):
        if (norm := layer.norms[name]) is not None:
            _verify_norm(name, norm, (size, whole) if layer.heads in (None, plain) else (size,))
    _verify_linears("qkv", layer.qkv, width, hidden, (1, 2, 3))
    _verify_linears("output", [layer.output], hidden, mixer.queries)


def _verify_convolution(layer: Layer, mixer: Convolution, hidden: int) -> None:
    """Raise a ValueError where the convolution of a layer does not fit."""
    kernel, bias = mixer.kernel, mixer.bias
    if kernel.dtype != np.float32 or kernel.shape != (max(1, len(kernel)), hidden):
        raise ValueError(f"a kernel of {kernel.shape}, not of {hidden} numbers")
    if bias is not None and (bias.dtype != np.float32 or bias.shape != (hidden,)):
        raise ValueError(f"a kernel's bias of {bias.shape}, not of {hidden} numbers")
    _verify_linears("qkv", layer.qkv, 3 * hidden, hidden)
    _verify_linears("output", [layer.output], hidden, hidden)


def _verify_recurrence(layer: Layer, net: Recurrence, hidden: int) -> None:
    """Raise a ValueError where the recurrence of a layer does not fit."""
    heads = net.heads
    sizes = (heads.key_heads, heads.value_heads, heads.key_size, heads.value_size, heads.taps)
    if min(sizes) < 1 or heads.value_heads % heads.key_heads or heads.key_size % 2:
        raise ValueError(f"a recurrence of {heads}")
    channels, counts, size = (heads.channels,), (heads.value_heads,), (heads.norm_size,)
    shapes = ((heads.taps, heads.channels), channels, counts, counts, counts, size)
    for (name, array), shape in zip(net.arrays.items(), shapes, strict=True):
        if array is None and name in ("filter_bias", "skip"):
            continue
        if array is None or array.shape != shape or array.dtype != np.float32:
            raise ValueError(f"{name} of a recurrence is not {shape}")
    outputs = heads.channels + heads.values + heads.rates
    _verify_linears("qkv", layer.qkv, outputs, hidden, (1, 2, 3, 4))
    _verify_linears("output", [layer.output], hidden, heads.values)


def _verify_norm(name: str, norm: Norm, sizes: Sequence[int]) -> None:
    for array in (norm.weights, norm.bias):
        if array is None:
            continue
        if array.dtype != np.float32 or array.ndim != 1 or len(array) not in sizes:
            raise ValueError(f"{name}: {array.shape}, not one of {sizes}")
    if norm.bias is not None and norm.bias.shape != norm.weights.shape:
        raise ValueError(f"{name}: a bias of {norm.bias.shape} beside {norm.weights.shape}")


def _verify_linears(
    name: str,
    linears: Sequence[Linear | None],
    outputs: int,
    inputs: int,
    counts: Sequence[int] = (1,),
) -> None:
    """Raise a ValueError where layers of the same input have other sizes, together."""
    found = [each for each in linears if each is not None]
    if len(found) not in counts or sum(each.outputs for each in found) != outputs:
        raise ValueError(f"{name}: {[each.outputs for each in found]}, not {outputs} outputs")
    for linear in found:
        if linear.inputs != inputs:
            raise ValueError(f"{name}: {linear.inputs} inputs, not {inputs}")
        if linear.bias is not None and linear.bias.shape != (linear.outputs,):
            raise ValueError(f"{name}: a bias of {linear.bias.shape}")
