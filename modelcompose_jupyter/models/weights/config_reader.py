"""What config.json of a decoder says, piece by piece: sizes, windows, rotations."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..native import numbers
from ..native.numbers import Kind
from ..native.parts import Rotations

_SLIDING, _FULL = "sliding_attention", "full_attention"
_USUAL = "default"
_MOST_LAYERS, _LARGEST_HEAD = 1 << 16, 1 << 16
"""Bounds of what is made before config.json is held against the weights."""
_ROTATIONS = frozenset({"default", "linear", "llama3", "yarn"})


class Other(Exception):
    """A decoder is not of those that are known here; says why."""


@dataclass(frozen=True)
class Rotation:
    """Rotary positions.

    Attributes:
        frequencies: radians for a position, float32 [rotary size / 2].
        scale: what cosines and sines are multiplied by.
        exact: whether they stay in float32 whatever the model's kind of numbers is.
    """

    frequencies: np.ndarray
    scale: float = 1.0
    exact: bool = False

    def table(self, positions: int, kind: Kind) -> Rotations:
        """Cosines and sines as a model of this kind of numbers rounds them."""
        angles = np.arange(positions, dtype=np.float32)[:, None] * self.frequencies
        wide = angles.astype(np.float64)
        scale, rounded_to = np.float32(self.scale), "float32" if self.exact else kind
        both = (np.cos(wide).astype(np.float32) * scale, np.sin(wide).astype(np.float32) * scale)
        cosines, sines = (numbers.rounded(each, rounded_to) for each in both)
        return cosines, sines


LayerRotations = tuple[dict[str, Rotation], list[str | None]]
"""Rotations by their names, and the name of each layer's."""


@dataclass
class ConfigReader:
    """Reads a config.json by the keys of Llama's.

    Attributes:
        theta: base of the rotations' frequencies where it has none.

    Raises:
        Other: from each method, for what is not known here.
    """

    content: Mapping[str, Any]
    theta: float
    layers: int = field(init=False)

    def __post_init__(self) -> None:
        self.layers = self.size("num_hidden_layers")
        if self.layers > _MOST_LAYERS:
            raise Other("it has more layers than models have")
        self._check_lists()

    def size(self, name: str) -> int:
        """A number of layers, heads, numbers of a vector."""
        value = self.content[name]
        if type(value) is not int or value < 1:
            raise Other(f"its {name} is no size")
        return value

    def _check_lists(self) -> None:
        """Of what every config may have, and transformers looks at."""
        types, labels = self.content.get("layer_types"), self.content.get("id2label")
        if types is not None and not (isinstance(types, list) and len(types) == self.layers):
            raise Other("its layer_types are not one for each layer")
        if labels is not None and not all(each.isdecimal() for each in labels):
            raise Other("its id2label has other keys than numbers")

    def windows_where(self, slides: Sequence[bool], window: int | None) -> list[int]:
        """A window for each layer that slides, as ``layer_types`` says or, without, as given."""
        types = self.content.get("layer_types")
        if types is not None:
            if not {*types} <= {_SLIDING, _FULL}:
                raise Other("its layer_types are others")
            slides = [each == _SLIDING for each in types]
        return [int(window or 0) if slide else 0 for slide in slides]

    def rotations(
        self, head_size: int, part: float | None = None, kinds: Container[str] = _ROTATIONS
    ) -> LayerRotations:
        """One for all layers.

        Args:
            part: how much of a head turns where config.json does not say; None is all, always.
            kinds: that are known.
        """
        given = self.content.get("rope_scaling") or self.content.get("rope_parameters") or {}
        theta = self.content.get("rope_theta", self.theta)
        rotation = self.rotation(given, head_size, theta, part, kinds)
        return {_USUAL: rotation}, [_USUAL] * self.layers

    def rotations_by_type(
        self, head_size: int, windows: Sequence[int], theta: float, local: float
    ) -> LayerRotations:
        """One for layers with a window, and one for those without."""
        given = self.content.get("rope_parameters") or {}
        whole = {**(given.get(_FULL) or {}), **(self.content.get("rope_scaling") or {})}
        rotations = {
            _FULL: self.rotation(whole, head_size, theta),
            _SLIDING: self.rotation(given.get(_SLIDING) or {}, head_size, local),
        }
        return rotations, [_SLIDING if window else _FULL for window in windows]

    def rotation(
        self,
        given: Mapping[str, Any],
        head_size: int,
        theta: float,
        part: float | None = None,
        kinds: Container[str] = _ROTATIONS,
    ) -> Rotation:
        """The one that is given, as ``rope_parameters`` has it; see `rotations`."""
        kind = given.get("rope_type", given.get("type", "default"))
        if kind == "proportional":
            return _proportional(given, head_size, theta)
        base = float(given.get("rope_theta") or theta)
        usual = self.content.get("partial_rotary_factor", part)
        turning = given.get("partial_rotary_factor", usual)
        if turning not in (None, 1, 1.0) and part is None:
            raise Other("a part of each head has positions")
        if turning is not None and not 0 < turning <= 1:
            raise Other("no part of a head has positions")
        radians = frequencies(int(head_size * (1.0 if turning is None else turning)), base)
        if kind not in kinds:
            raise Other(f"its positions are of another kind ({kind})")
        if kind == "linear":
            radians = radians / np.float32(given["factor"])
        elif kind == "llama3":
            original = given.get("original_max_position_embeddings")
            radians = _slowed(radians, given, original or self.content["max_position_embeddings"])
        elif kind == "yarn":
            return self._yarn(radians, base, given)
        return Rotation(radians)

    def _yarn(self, radians: np.ndarray, base: float, given: Mapping[str, Any]) -> Rotation:
        """Of YaRN: long waves are made longer, short ones are not, and scores become larger."""
        if {"truncate"} & {*given} or "original_max_position_embeddings" in self.content:
            raise Other("its positions are read in a way of their own")
        context, factor = self.size("max_position_embeddings"), float(given["factor"])
        original = float(given.get("original_max_position_embeddings") or context)
        fast, slow = (given.get(name) or usual for name, usual in _YARN_ROTATIONS.items())
        first, last = (
            len(radians) * math.log(original / (turns * 2 * math.pi)) / math.log(base)
            for turns in (fast, slow)
        )
        low, high = max(math.floor(first), 0), min(math.ceil(last), 2 * len(radians) - 1)
        ramp = (np.arange(len(radians)) - low) / (high - low if high != low else 0.001)
        share = np.clip(ramp, 0, 1).astype(np.float32)
        mixed = radians / np.float32(factor) * share + radians * (1 - share)
        scale = given.get("attention_factor")
        if scale is None:
            one, other = given.get("mscale"), given.get("mscale_all_dim")
            scale = _yarn_scale(factor, 1.0)
            if one and other:
                scale = _yarn_scale(factor, one) / _yarn_scale(factor, other)
        return Rotation(mixed.astype(np.float32), scale=float(scale))


_YARN_ROTATIONS = {"beta_fast": 32, "beta_slow": 1}
"""How often waves that stay, and those that are made longer, turn within the first context."""


def _yarn_scale(factor: float, part: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * part * math.log(factor) + 1.0


def frequencies(size: int, base: float) -> np.ndarray:
    """Radians for a position, of a part of a head of so many numbers: float32 [size / 2]."""
    if not 0 < size <= _LARGEST_HEAD:
        raise Other("no part of a head has positions that is of a head's size")
    places = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    return np.float32(1) / np.power(base, places.astype(np.float64)).astype(np.float32)


def _proportional(given: Mapping[str, Any], head_size: int, base: float) -> Rotation:
    """Of Gemma 4: a part of each head turns, as far apart as if all of it did."""
    turning = int(given.get("partial_rotary_factor", 1.0) * head_size // 2)
    radians = frequencies(head_size, base) / np.float32(given.get("factor", 1.0))
    if not 0 <= turning <= len(radians):
        raise Other("no part of a head has positions")
    radians[turning:] = 0
    return Rotation(radians)


def _slowed(frequencies: np.ndarray, given: Mapping[str, Any], original: float) -> np.ndarray:
    """Of Llama 3.1: long waves are made longer, and short ones are not.

    Args:
        original: the context that the model was trained with first.
    """
    factor = float(given["factor"])
    low, high = float(given["low_freq_factor"]), float(given["high_freq_factor"])
    lengths = np.float32(2 * math.pi) / frequencies
    share = (np.float32(original) / lengths - np.float32(low)) / np.float32(high - low)
    mixed = (1 - share) * frequencies / np.float32(factor) + share * frequencies
    slow = np.where(lengths > original / low, frequencies / np.float32(factor), frequencies)
    between = (lengths <= original / low) & (lengths >= original / high)
    return np.where(between, mixed, slow).astype(np.float32)
