"""The tensors that a decoder's config asks for, and the decoder in C that they make."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ..native import numbers
from ..native.linear import Linear
from ..native.numbers import Kind
from ..native.parts import LAYER_NORMS, Layer, Norm, Parts
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


def tensors(config: DecoderConfig) -> Iterator[DecoderTensor]:
    """The tensors of a decoder."""
    names, hidden = config.names, config.hidden
    yield DecoderTensor(f"{names.prefix}{names.embedding}.weight", (config.vocabulary, hidden))
    if names.positions is not None:
        yield DecoderTensor(f"{names.prefix}{names.positions}.weight", (config.context, hidden))
    yield from _norm(f"{names.prefix}{names.norm}", hidden, config)
    head = _linear(names.heads[0], (config.vocabulary, hidden), config)
    yield from itertools.islice(head, int(config.tied), None)  # without the weights if it is tied
    queries, keys, sizes = config.queries, config.keys, _norm_sizes(config)
    qkv = [queries, keys, keys] if len(names.qkv) > 1 else [queries + 2 * keys]
    gate_up = [config.intermediate * (1 + config.gated) // len(names.gate_up)] * len(names.gate_up)
    linears = {
        **{name: (outputs, hidden) for name, outputs in zip(names.qkv, qkv, strict=True)},
        names.output: (hidden, queries),
        **{name: (outputs, hidden) for name, outputs in zip(names.gate_up, gate_up, strict=True)},
        names.down: (hidden, config.intermediate),
    }
    for number in range(config.layers):
        for name, shape in linears.items():
            whole = names.of_layer(number, name)
            yield from _linear(whole, shape, config, config.transposed)
        for part in LAYER_NORMS:
            if (own := getattr(names, part)) is not None:
                yield from _norm(names.of_layer(number, own), sizes[part], config)


def _linear(
    name: str, shape: Shape, config: DecoderConfig, transposed: bool = False
) -> Iterator[DecoderTensor]:
    yield DecoderTensor(f"{name}.weight", shape[::-1] if transposed else shape, transposed)
    if name.rpartition(".")[2] in config.biases:
        yield DecoderTensor(f"{name}.bias", shape[:1])


def _norm(name: str, size: int, config: DecoderConfig) -> Iterator[DecoderTensor]:
    yield DecoderTensor(f"{name}.weight", (size,))
    if config.norm_kind == "layer":
        yield DecoderTensor(f"{name}.bias", (size,))


def _norm_sizes(config: DecoderConfig) -> dict[str, int]:
    """How many numbers each norm of a layer is of."""
    whole = config.whole_query_norms
    return {
        **dict.fromkeys(LAYER_NORMS, config.hidden),
        "query_norm": config.queries if whole else config.head_size,
        "key_norm": config.keys if whole else config.head_size,
    }


class DecoderBuilder:
    """Makes the parts of a decoder from its tensors.

    Args:
        read: a tensor by its name, of the kind; weights of linear layers are [outputs, inputs].
        check: of `Parts`.
    """

    def __init__(
        self,
        config: DecoderConfig,
        kind: Kind,
        read: Callable[[str], np.ndarray],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._kind = kind
        self._read = read
        self._check = check

    def parts(self) -> Parts:
        """All of them."""
        config, names = self._config, self._config.names
        layers = [self._layer(number) for number in range(config.layers)]
        embedding = self._read(f"{names.prefix}{names.embedding}.weight")
        positions = None
        if names.positions is not None:
            positions = self._read(f"{names.prefix}{names.positions}.weight")
        scale = np.array([config.embedding_scale], dtype=np.float32)
        if config.rounds_embedding_scale:
            scale = numbers.rounded(scale, self._kind)
        return Parts(
            kind=self._kind,
            embedding=embedding,
            positions=positions,
            layers=layers,
            norm=self._norm(f"{names.prefix}{names.norm}"),
            head=self._linear(names.heads[0], embedding if config.tied else None),
            heads=config.heads,
            query_heads=config.query_heads,
            key_heads=config.key_heads,
            head_size=config.head_size,
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
        qkv = [self._linear(names.of_layer(number, name)) for name in names.qkv]
        if len(qkv) == 1 and config.heads is None:
            qkv = qkv[0].parts(config.queries, config.keys, config.keys)
        gate_up = [self._linear(names.of_layer(number, name)) for name in names.gate_up]
        if len(gate_up) == 1 and config.gated:
            gate_up = gate_up[0].parts(config.intermediate, config.intermediate)
        norms = {part: getattr(names, part) for part in LAYER_NORMS}
        return Layer(
            qkv=qkv,
            output=self._linear(names.of_layer(number, names.output)),
            gate_up=gate_up,
            down=self._linear(names.of_layer(number, names.down)),
            **{
                part: None if name is None else self._norm(names.of_layer(number, name))
                for part, name in norms.items()
            },
            parallel=config.parallel,
            window=config.windows[number],
            scaling=config.scalings[number],
            rotation=config.layer_rotations[number],
        )

    def _linear(self, name: str, weights: np.ndarray | None = None) -> Linear:
        """A linear layer, perhaps of weights that are there already."""
        if weights is None:
            weights = self._read(f"{name}.weight")
        has_bias = name.rpartition(".")[2] in self._config.biases
        return Linear(weights, self._read(f"{name}.bias") if has_bias else None, self._kind)

    def _norm(self, name: str) -> Norm:
        """A norm, as a model of this kind of numbers has its weights, in float32."""
        config = self._config
        weights = self._float32(f"{name}.weight") + np.float32(config.norm_offset)
        bias = self._float32(f"{name}.bias") if config.norm_kind == "layer" else None
        return Norm(np.ascontiguousarray(weights), bias, config.norm_kind)

    def _float32(self, name: str) -> np.ndarray:
        return np.ascontiguousarray(numbers.as_float32(self._read(name), self._kind))
