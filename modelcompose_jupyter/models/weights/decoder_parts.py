"""The tensors that a decoder's config asks for, and the decoder in C that they make."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np

from ..native import numbers
from ..native.codes import Codes
from ..native.linear import Linear
from ..native.numbers import Kind
from ..native.parts import (
    HEAD_NORMS,
    LAYER_NORMS,
    Attention,
    Convolution,
    Layer,
    LayerInputs,
    Norm,
    Parts,
    Recurrence,
    RecurrentHeads,
)
from .decoder_config import DecoderConfig

Shape = tuple[int, ...]


class DecoderTensor(NamedTuple):
    """A tensor that a decoder has.

    Attributes:
        shape: as its file has it.
        transposed: whether that is [inputs, outputs].
    """

    name: str
    shape: Shape
    transposed: bool = False


Role = Literal[
    "head",
    "qkv",
    "queries",
    "keys",
    "values",
    "output",
    "gate",
    "up",
    "inner",
    "down",
    "inputs",
    "rates",
]
"""What a linear layer is for; ``qkv`` is queries, keys and values at once, or all that a
convolution takes, ``inner`` what begins an MLP without a gate, ``inputs`` what each layer gets of a
token by itself, ``rates`` those of a recurrence."""


class LinearTensor(NamedTuple):
    """A tensor that is the weights of linear layers, one after the other.

    Attributes:
        name: without ``.weight``.
        roles: of the layers; ``outputs`` how many each has.
        layer: the number of the decoder's layer; None for the head.
    """

    name: str
    roles: tuple[Role, ...]
    outputs: tuple[int, ...]
    inputs: int
    layer: int | None = None
    transposed: bool = False

    @property
    def rows(self) -> list[slice]:
        """Where the weights of each layer are."""
        ends = itertools.accumulate(self.outputs)
        return [slice(end - n, end) for end, n in zip(ends, self.outputs, strict=True)]

    @property
    def weight(self) -> DecoderTensor:
        """The tensor."""
        shape = (sum(self.outputs), self.inputs)
        shape = shape[::-1] if self.transposed else shape
        return DecoderTensor(f"{self.name}.weight", shape, self.transposed)


def tensors(config: DecoderConfig) -> Iterator[DecoderTensor]:
    """The tensors of a decoder."""
    names, hidden = config.names, config.hidden
    yield DecoderTensor(config.table_name, (config.vocabulary, hidden))
    if names.positions is not None:
        yield DecoderTensor(f"{names.prefix}{names.positions}.weight", (config.context, hidden))
    yield from _norm(f"{names.prefix}{names.norm}", hidden, config)
    for linear in linears(config):
        if not (config.tied and linear.layer is None):
            yield linear.weight
        if _has_bias(linear.name, config):
            yield DecoderTensor(f"{linear.name}.bias", (sum(linear.outputs),))
    if config.layer_input:
        width = config.layers * config.layer_input
        yield DecoderTensor(config.input_table_name, (config.input_vocabulary, width))
        yield from _norm(f"{names.prefix}{names.input_norm}", config.layer_input, config)
    for number, attention in enumerate(config.attention):
        for part, size in _norm_sizes(config, attention).items():
            yield from _norm(names.of_layer(number, getattr(names, part)), size, config)
        if names.output_scale is not None:
            yield DecoderTensor(names.of_layer(number, names.output_scale), (1,))
        if isinstance(attention, RecurrentHeads):
            yield from _recurrence(names.of_layer(number, names.recurrence), attention, config)
        if attention is None:
            kernel = names.of_layer(number, names.convolution)
            yield DecoderTensor(f"{kernel}.weight", (hidden, 1, config.taps))
            if _has_bias(kernel, config):
                yield DecoderTensor(f"{kernel}.bias", (hidden,))


def linears(config: DecoderConfig) -> Iterator[LinearTensor]:
    """The linear layers of a decoder, the head's first, though it may be tied."""
    yield LinearTensor(config.names.heads[0], ("head",), (config.vocabulary,), config.hidden)
    for number in range(config.layers):
        yield from (*_mixer(config, number), *_mlp(config, number), *_input(config, number))
    yield from _projection(config)


def _mixer(config: DecoderConfig, number: int) -> list[LinearTensor]:
    """Of queries, keys and values, or of what a convolution or a recurrence takes, and what comes
    after them."""
    names, hidden, attention = config.names, config.hidden, config.attention[number]
    if isinstance(attention, RecurrentHeads):
        return _around_recurrence(config, number, attention)
    if attention is None:
        ends = (hidden,)
        return [
            _of_layer(config, number, names.before_convolution, ("qkv",), (3 * hidden,), hidden),
            _of_layer(config, number, names.after_convolution, ("output",), ends, hidden),
        ]
    own = 1 if attention.shares is not None else 2 if attention.values_are_keys else 3
    queries = attention.queries * (1 if config.gates is None else 2)
    outputs: tuple[int, ...] = (queries, attention.keys, attention.keys)[:own]
    three: tuple[Role, ...] = ("queries", "keys", "values")
    roles = three[:own]
    if len(names.qkv) == 1 and config.heads is not None:  # heads of all three take turns
        roles, outputs = ("qkv",), (sum(outputs),)
    return [
        *_shared(config, number, names.qkv[:own], roles, outputs),
        _of_layer(config, number, names.output, ("output",), (hidden,), attention.queries),
    ]


def _around_recurrence(
    config: DecoderConfig, number: int, heads: RecurrentHeads
) -> list[LinearTensor]:
    """Of channels, gates and rates, and what comes after them."""
    first, hidden, each = config.names.recurrence, config.hidden, heads.value_heads
    parts: dict[str, tuple[tuple[Role, ...], tuple[int, ...]]] = {
        "in_proj_qkv": (("qkv",), (heads.channels,)), "in_proj_z": (("gate",), (heads.values,)),
        "in_proj_b": (("rates",), (each,)), "in_proj_a": (("rates",), (each,)),
    }  # fmt: skip
    if heads.rule == "sum":
        outputs = (heads.values, heads.channels, heads.rates)
        parts = {"in_proj": (("gate", "qkv", "rates"), outputs)}
    before = [
        _of_layer(config, number, f"{first}{name}", *part, hidden) for name, part in parts.items()
    ]
    after = _of_layer(config, number, f"{first}out_proj", ("output",), (hidden,), heads.values)
    return [*before, after]


def _mlp(config: DecoderConfig, number: int) -> list[LinearTensor]:
    """What begins an MLP, and what ends it."""
    names, inner = config.names, config.inner[number]
    roles: tuple[Role, ...] = ("gate", "up") if config.gated else ("inner",)
    return [
        *_shared(config, number, names.gate_up, roles, (inner,) * len(roles)),
        _of_layer(config, number, names.down, ("down",), (config.hidden,), inner),
    ]


def _input(config: DecoderConfig, number: int) -> list[LinearTensor]:
    """What takes and gives what a layer gets of a token by itself."""
    names, hidden, size = config.names, config.hidden, config.layer_input
    if not size:
        return []
    return [
        _of_layer(config, number, names.input_gate, ("inputs",), (size,), hidden),
        _of_layer(config, number, names.input_output, ("inputs",), (hidden,), size),
    ]


def _projection(config: DecoderConfig) -> list[LinearTensor]:
    """What gives all layers their inputs; it counts as the first one's."""
    width = config.layers * config.layer_input
    name = f"{config.names.prefix}{config.names.input_projection}"
    return [LinearTensor(name, ("inputs",), (width,), config.hidden, 0)] if width else []


def _shared(
    config: DecoderConfig,
    number: int,
    names: Sequence[str],
    roles: tuple[Role, ...],
    outputs: tuple[int, ...],
) -> Iterator[LinearTensor]:
    """Layers that take the hidden numbers, each a tensor of its own or all in one."""
    count = len(roles) // len(names)
    for at, name in enumerate(names):
        own = slice(at * count, (at + 1) * count)
        yield _of_layer(config, number, name, roles[own], outputs[own], config.hidden)


def _of_layer(
    config: DecoderConfig,
    number: int,
    name: str,
    roles: tuple[Role, ...],
    outputs: tuple[int, ...],
    inputs: int,
) -> LinearTensor:
    whole = config.names.of_layer(number, name)
    return LinearTensor(whole, roles, outputs, inputs, number, config.transposed)


def _has_bias(name: str, config: DecoderConfig) -> bool:
    return any(f".{name}".endswith(f".{each}") for each in config.biases)


def _norm(name: str, size: int, config: DecoderConfig) -> Iterator[DecoderTensor]:
    yield DecoderTensor(f"{name}.weight", (size,))
    if config.norm_kind == "layer":
        yield DecoderTensor(f"{name}.bias", (size,))


def _recurrence(name: str, heads: RecurrentHeads, config: DecoderConfig) -> Iterator[DecoderTensor]:
    yield DecoderTensor(f"{name}conv1d.weight", (heads.channels, 1, heads.taps))
    if _has_bias(f"{name}conv1d", config):
        yield DecoderTensor(f"{name}conv1d.bias", (heads.channels,))
    for each in ("A_log", "dt_bias") if heads.rule == "delta" else ("A_log", "dt_bias", "D"):
        yield DecoderTensor(f"{name}{each}", (heads.value_heads,))
    yield DecoderTensor(f"{name}norm.weight", (heads.norm_size,))


def _norm_sizes(
    config: DecoderConfig, attention: Attention | RecurrentHeads | None
) -> dict[str, int]:
    """How many numbers each norm is of that a layer has."""
    sizes = dict.fromkeys(LAYER_NORMS, config.hidden)
    for part in HEAD_NORMS:
        del sizes[part]
    if not config.layer_input:
        del sizes["after_input"]
    if isinstance(attention, Attention):
        whole = config.whole_query_norms
        sizes["query_norm"] = attention.queries if whole else attention.head_size
        if attention.shares is None:
            sizes["key_norm"] = attention.keys if whole else attention.head_size
            sizes["value_norm"] = attention.head_size
    return {part: size for part, size in sizes.items() if getattr(config.names, part) is not None}


class Reader(Protocol):
    """Gives what a decoder's tensors have."""

    def numbers(self, name: str) -> np.ndarray:
        """A tensor in the decoder's kind of numbers."""

    def float32(self, name: str) -> np.ndarray:
        """A tensor in float32, of numbers that the decoder's kind has."""

    def embedding(self, name: str) -> Linear:
        """The table of tokens, [vocabulary, hidden]."""

    def rows(self, name: str) -> Linear:
        """A table of which only rows of tokens are read, as its file has it."""

    def matrices(self, tensor: LinearTensor) -> list[np.ndarray | Codes]:
        """The weights of each of its layers; of a tied head those of the embedding."""


class DecoderBuilder:
    """Makes the parts of a decoder from its tensors.

    Args:
        kind: of the numbers that it computes with.
        check: of `Parts`.
    """

    def __init__(
        self,
        config: DecoderConfig,
        kind: Kind,
        reader: Reader,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._kind = kind
        self._reader = reader
        self._check = check

    def parts(self) -> Parts:
        """All of them."""
        config, names = self._config, self._config.names
        head, *_ = linears(config)
        layers = [self._layer(number) for number in range(config.layers)]
        positions = None
        if names.positions is not None:
            positions = self._reader.numbers(f"{names.prefix}{names.positions}.weight")
        scale = np.array([config.embedding_scale], dtype=np.float32)
        if config.rounds_embedding_scale:
            scale = numbers.rounded(scale, self._kind)
        return Parts(
            kind=self._kind,
            embedding=self._reader.embedding(config.table_name),
            positions=positions,
            inputs=self._inputs(),
            layers=layers,
            norm=self._norm(f"{names.prefix}{names.norm}"),
            head=self._linears(head)[0],
            activation=config.activation,
            epsilon=config.epsilon,
            rotary=config.rotary,
            embedding_scale=float(scale[0]),
            residual_scale=config.residual_scale,
            score_scale=config.score_scale,
            attention_cap=config.attention_cap,
            score_cap=config.score_cap,
            check=self._check,
            rotations=lambda positions: {
                name: each.table(positions, self._kind) for name, each in config.rotations.items()
            },
        )

    def _layer(self, number: int) -> Layer:
        config, names = self._config, self._config.names
        *qkv, output = _mixer(config, number)
        *gate_up, down = _mlp(config, number)
        attention = config.attention[number]
        norms: dict[str, Norm | None] = dict.fromkeys(LAYER_NORMS)
        for part in _norm_sizes(config, attention):
            norms[part] = self._norm(names.of_layer(number, getattr(names, part)))
        if (
            config.normalises_values
            and isinstance(attention, Attention)
            and attention.shares is None
        ):
            norms["value_norm"] = Norm(np.ones(attention.head_size, np.float32))
        input_gate, input_output = self._linears(*_input(config, number)) or (None, None)
        scale = 1.0
        if names.output_scale is not None:
            scale = float(self._reader.float32(names.of_layer(number, names.output_scale))[0])
        return Layer(
            mixer=self._mixer(number),
            qkv=self._linears(*qkv),
            output=self._linears(output)[0],
            gate_up=self._linears(*gate_up),
            down=self._linears(down)[0],
            **norms,
            heads=config.heads,
            gates=config.gates,
            input_gate=input_gate,
            input_output=input_output,
            output_scale=scale,
            parallel=config.parallel,
            window=config.windows[number],
            scaling=config.scalings[number],
            rotation=config.layer_rotations[number],
        )

    def _inputs(self) -> LayerInputs | None:
        config, names = self._config, self._config.names
        if not config.layer_input:
            return None
        scale = np.array([config.layer_input**0.5], dtype=np.float32)
        return LayerInputs(
            table=self._reader.rows(config.input_table_name),
            projection=self._linears(*_projection(config))[0],
            norm=self._norm(f"{names.prefix}{names.input_norm}"),
            table_scale=float(numbers.rounded(scale, self._kind)[0]),
            projection_scale=config.hidden**-0.5,
            scale=2**-0.5,
        )

    def _mixer(self, number: int) -> Attention | Convolution | Recurrence:
        attention = self._config.attention[number]
        if isinstance(attention, Attention):
            return attention
        if attention is None:
            return self._convolution(number)
        return self._recurrence(number, attention)

    def _recurrence(self, number: int, heads: RecurrentHeads) -> Recurrence:
        names = self._config.names
        name = names.of_layer(number, names.recurrence)

        def vector(own: str) -> np.ndarray:
            return np.ascontiguousarray(self._reader.float32(f"{name}{own}"))

        has_bias = _has_bias(f"{name}conv1d", self._config)
        with np.errstate(over="ignore"):  # what is infinite shows in the scores
            decay = np.exp(vector("A_log"))
        return Recurrence(
            heads=heads,
            filter=np.ascontiguousarray(vector("conv1d.weight")[:, 0].T),
            filter_bias=vector("conv1d.bias") if has_bias else None,
            decay=decay,
            bias=vector("dt_bias"),
            skip=vector("D") if heads.rule == "sum" else None,
            norm=vector("norm.weight"),
        )

    def _convolution(self, number: int) -> Convolution:
        name = self._config.names.of_layer(number, self._config.names.convolution)
        kernel = self._reader.float32(f"{name}.weight")[:, 0].T
        bias = None
        if _has_bias(name, self._config):
            bias = np.ascontiguousarray(self._reader.float32(f"{name}.bias"))
        return Convolution(np.ascontiguousarray(kernel), bias)

    def _linears(self, *tensors: LinearTensor) -> list[Linear]:
        """The linear layers of some tensors, one after the other."""
        found = []
        for tensor in tensors:
            bias = None
            if _has_bias(tensor.name, self._config):
                bias = self._reader.numbers(f"{tensor.name}.bias")
            for each, rows in zip(self._reader.matrices(tensor), tensor.rows, strict=True):
                found.append(Linear(each, None if bias is None else bias[rows], self._kind))
        return found

    def _norm(self, name: str) -> Norm:
        """A norm, as a model of this kind of numbers has its weights, in float32."""
        config = self._config
        weights = self._reader.float32(f"{name}.weight") + np.float32(config.norm_offset)
        bias = self._reader.float32(f"{name}.bias") if config.norm_kind == "layer" else None
        return Norm(np.ascontiguousarray(weights), bias, config.norm_kind)
