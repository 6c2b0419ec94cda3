"""A model in GGUF on this disk: its config, its tensors and its vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ....errors import ModelError
from .. import files
from ..file_bounds import BrokenFile
from ..generation_defaults import OwnDefaults, is_value
from . import config, container, weights
from .container import Container, Tensor, Value
from .dequantize import dequantized
from .weights import GgufTensor

_DEFAULTS = (("min_p", "min_p"), ("repetition_penalty", "penalty_repeat"))
_LARGEST_READ = 1 << 20  # bytes of a tensor that is read while a load is planned


@dataclass(frozen=True)
class GgufModel:
    """A model as its files say.

    Attributes:
        tensors: by the names that they have in the original model, with the files they are in.
    """

    metadata: Mapping[str, Value]
    config: config.ModelConfig
    tensors: Mapping[str, tuple[Path, GgufTensor]]

    @property
    def defaults(self) -> OwnDefaults:
        """What the file gives for what a request leaves open, as far as sampling heeds it."""
        given = {name: self.metadata.get(f"general.sampling.{own}") for name, own in _DEFAULTS}
        kept = {name: each for name, each in given.items() if is_value(name, each)}
        return OwnDefaults(**kept)  # type: ignore[arg-type]


def read(paths: Sequence[Path]) -> GgufModel:
    """A model in a file, or in several parts in their order.

    Raises:
        ModelError: a file is damaged or missing, or holds what does not run here.
    """
    places: dict[str, Path] = {}
    tensors: dict[str, Tensor] = {}
    metadata: Mapping[str, Value] = {}
    for number, path in enumerate(paths):
        with files.checked(path):
            found = container.read(path)
            _check_part(found, number, len(paths))
            if number == 0:
                metadata = found.metadata
            for tensor in found.tensors:
                if tensor.name in tensors:
                    raise BrokenFile("another part has a tensor of the same name")
                tensors[tensor.name], places[tensor.name] = tensor, path
    with files.checked(paths[0]):
        if not tensors:
            raise BrokenFile("it has no tensors, so it is a vocabulary alone")
        found_config = config.read(
            metadata, tensors, lambda tensor: _numbers(places[tensor.name], tensor)
        )
    named = weights.tensors_of(found_config, tensors)
    return GgufModel(
        metadata,
        found_config,
        {name: (places[each.stored.name], each) for name, each in named.items()},
    )


def _check_part(found: Container, number: int, count: int) -> None:
    """Raise for a file that is another part than its name says, or whose others are not there."""
    whole = found.metadata.get("split.count", 0)
    if whole in (0, 1) and count == 1:
        return
    if whole != count or found.metadata.get("split.no") != number:
        if count == 1:
            raise ModelError(
                f"the GGUF file is one of {whole} parts, and its name does not say which",
                hint="Name them as they were published: name-00001-of-00003.gguf and so on.",
                code="incomplete_model",
            )
        raise BrokenFile(f"it is not part {number + 1} of {count}, as its name says")


def _numbers(path: Path, tensor: Tensor) -> np.ndarray:
    """The numbers of a small tensor, float32 and flat."""
    if tensor.size > _LARGEST_READ:
        raise BrokenFile(f"its {tensor.name} is too large")
    with path.open("rb") as file:
        file.seek(tensor.begin)
        data = np.frombuffer(file.read(tensor.size), np.uint8)
    if len(data) != tensor.size:
        raise BrokenFile("it was cut short")
    return dequantized(tensor.type, data.reshape(-1, tensor.type.size)).reshape(-1)
