"""A decoder whose steps run in C."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from .build import kernels
from .codes import Codes
from .linear import Linear
from .numbers import Kind
from .structures import TOKEN, LayerStruct, ModelStruct, ProductStruct
from .threads import ThreadPool

ACTIVATIONS = {"silu": 0, "gelu_tanh": 1}
_FIRST_POSITIONS = 512
_LONGEST_WINDOW = 1 << 31

Rotations = tuple[np.ndarray, np.ndarray]
"""Cosines and sines of positions, float32 [positions, rotary size / 2]."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A decoder layer. Norms are float32, or None where there is none.

    Attributes:
        qkv: queries, keys and values; ``gate_up`` the gate, and what it is for.
        before_attention, after_attention, before_mlp, after_mlp: [hidden].
        query_norm, key_norm: [head size].
        window: how many tokens one sees, itself included; 0 is all.
        rotation: the name of its rotation by position, None where there is none.
    """

    qkv: Sequence[Linear]
    output: Linear
    gate_up: Sequence[Linear]
    down: Linear
    before_attention: np.ndarray
    before_mlp: np.ndarray
    after_attention: np.ndarray | None
    after_mlp: np.ndarray | None
    query_norm: np.ndarray | None
    key_norm: np.ndarray | None
    window: int
    scaling: float
    rotation: str | None


@dataclass(frozen=True, eq=False)
class Parts:
    """What a decoder is made of.

    Attributes:
        kind: of the numbers that it computes with.
        embedding: [vocabulary, hidden], of any kind where there are codes; perhaps the weights of
            the head.
        norm: the last one, float32 [hidden].
        rotations: gives by their names those of so many positions.
        check: raises where the weights are no more what they were.
    """

    kind: Kind
    embedding: Linear
    layers: Sequence[Layer]
    norm: np.ndarray
    head: Linear
    query_heads: int
    key_heads: int
    head_size: int
    activation: str
    epsilon: float
    embedding_scale: float
    rotations: Callable[[int], Mapping[str, Rotations]]
    check: Callable[[], None] = lambda: None

    @property
    def linears(self) -> list[Linear]:
        """Those of its layers, and the head."""
        layers = ([*each.qkv, each.output, *each.gate_up, each.down] for each in self.layers)
        return [*chain.from_iterable(layers), self.head]

    @property
    def has_codes(self) -> bool:
        """Whether weights are codes. What is between them is float32 then."""
        return any(isinstance(each.weights, Codes) for each in self.linears)

    @property
    def kept_kind(self) -> Kind:
        """Of the numbers that keys and values are kept as."""
        return "float16" if self.has_codes else self.kind

    @property
    def bytes(self) -> int:
        """What the weights take.

        Of an embedding that is beside codes only the rows of tokens are read, so it does not count.
        """
        arrays = [self.norm]
        for layer in self.layers:
            arrays += [each for each in vars(layer).values() if isinstance(each, np.ndarray)]
        for linear in self.linears if self.has_codes else (self.embedding, *self.linears):
            arrays += linear.arrays
        there = {each.ctypes.data: each for each in arrays}
        return sum(each.nbytes for each in there.values())


class Decoder:
    """Steps of a decoder; of one thread."""

    def __init__(self, parts: Parts) -> None:
        library = kernels()
        assert library is not None
        self._step = getattr(library, f"step_{'codes' if parts.has_codes else parts.kind}")
        self._parts = parts
        self._pool = ThreadPool()
        self._positions = 0
        self.vocabulary = parts.head.outputs
        self._known = parts.embedding.outputs
        _check(parts)
        self._layers = (LayerStruct * len(parts.layers))(*map(_layer, parts.layers))
        self._struct = self._model()

    def step(self, tokens: np.ndarray, wanted: Sequence[int], threads: int) -> np.ndarray:
        """One pass.

        Args:
            tokens: of `structures.TOKEN`; those of a sequence in order.
            wanted: which of the tokens the next ones are asked of.

        Returns:
            Scores of the next token, float32 [wanted, vocabulary].

        Raises:
            Exception: from `Parts.check`.
            IndexError: there is no such token.
            MemoryError: there is no memory for it.
        """
        self._parts.check()
        ids = tokens["id"]
        if ids.min() < 0 or ids.max() >= self._known:
            raise IndexError(f"a token is not among the {self._known} that the model knows")
        self._reach(int(tokens["position"].max()) + 1)
        asked = np.array(wanted, dtype=np.int64)
        scores = np.empty((len(asked), self.vocabulary), dtype=np.float32)
        failed = self._step(
            self._pool.address, threads, ctypes.addressof(self._struct), tokens.ctypes.data,
            len(tokens), asked.ctypes.data, len(asked), scores.ctypes.data,
        )  # fmt: skip
        if failed:
            raise MemoryError("no memory for a step")
        return scores

    def _model(self) -> ModelStruct:
        parts = self._parts
        return ModelStruct(
            embedding=parts.embedding.struct,
            layers=self._layers,
            norm=_address(parts.norm),
            head=parts.head.struct,
            layer_count=len(self._layers),
            hidden=parts.head.inputs,
            intermediate=parts.layers[0].down.inputs,
            query_heads=parts.query_heads,
            key_heads=parts.key_heads,
            head_size=parts.head_size,
            rotary_size=0,
            activation=ACTIVATIONS[parts.activation],
            epsilon=parts.epsilon,
            embedding_scale=parts.embedding_scale,
        )

    def _reach(self, positions: int) -> None:
        """Have the rotations of so many positions."""
        if positions <= self._positions:
            return
        self._positions = max(_FIRST_POSITIONS, 1 << (positions - 1).bit_length())
        self._tables = self._parts.rotations(self._positions)
        for struct, layer in zip(self._layers, self._parts.layers, strict=True):
            if layer.rotation is not None:
                cosines, sines = self._tables[layer.rotation]
                struct.cosines, struct.sines = _address(cosines), _address(sines)
                self._struct.rotary_size = 2 * cosines.shape[1]


def _check(parts: Parts) -> None:
    """Raise a ValueError for what a step would write or read beyond its memory with."""
    for name, (cosines, _) in parts.rotations(1).items():
        if not 0 < 2 * cosines.shape[1] <= parts.head_size:
            raise ValueError(f"{name}: {2 * cosines.shape[1]} of {parts.head_size} numbers turn")
    for layer in parts.layers:
        if not 0 <= layer.window < _LONGEST_WINDOW:
            raise ValueError(f"a window of {layer.window} tokens")


def _layer(layer: Layer) -> LayerStruct:
    norms = ("before_attention", "after_attention", "before_mlp", "after_mlp", "query_norm",
             "key_norm")  # fmt: skip
    return LayerStruct(
        qkv=(ProductStruct * 3)(*(each.struct for each in layer.qkv)),
        output=layer.output.struct,
        gate_up=(ProductStruct * 2)(*(each.struct for each in layer.gate_up)),
        down=layer.down.struct,
        **{name: _address(getattr(layer, name)) for name in norms},
        window=layer.window,
        scaling=layer.scaling,
    )


def _address(array: np.ndarray | None) -> int | None:
    """Where an array is, which must stay; None where there is none."""
    assert array is None or array.flags.c_contiguous
    return None if array is None else array.ctypes.data


def token_array(count: int) -> np.ndarray:
    """Room for so many tokens of a step."""
    return np.empty(count, TOKEN)
