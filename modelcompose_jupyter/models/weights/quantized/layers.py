"""Which tensors of a repository are those of a layer that is stored quantised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import files
from ..config_reader import Other
from ..file_bounds import BrokenFile
from ..safetensors_header import Tensor
from ..stored_tensors import FileState, FileTensor, StoredTensor
from .settings import Settings
from .tensors import (
    AwqTensor,
    Fp4Tensor,
    Fp8Tensor,
    GptqTensor,
    IntegerTensor,
    PackedTensor,
)

There = Mapping[str, tuple[Path, Tensor]]
_FLOATS = ("F16", "BF16", "F32")
_WORD = 32
"""Bits of what codes are packed in."""
_FP4_GROUP = 32


def weights_of(
    settings: Settings, there: There, states: Mapping[Path, FileState]
) -> dict[str, tuple[Path, StoredTensor]]:
    """The weights that are stored quantised, by the names that they would have otherwise.

    Args:
        there: all tensors, each with its file.

    Raises:
        Other: in a way that is not known here.
        ModelError: the tensors of a layer do not fit each other.
    """
    found: dict[str, tuple[Path, StoredTensor]] = {}
    for name, (path, tensor) in there.items():
        layer, _, end = name.rpartition(".")
        make = _MAKERS.get((settings.method, end))
        if make is None or (end == "weight" and tensor.dtype in _FLOATS):
            continue
        parts = _Parts(settings, f"{layer}.", there, states)
        with files.checked(path):
            found[f"{layer}.weight"] = path, make(parts, path, tensor)
    if not found:
        raise Other(f"its config.json says {settings.method}, and no weights are in its form")
    return found


@dataclass(frozen=True)
class _Parts:
    """The tensors of a layer.

    Attributes:
        layer: what their names begin with.
    """

    settings: Settings
    layer: str
    there: There
    states: Mapping[Path, FileState]

    def find(self, *names: str) -> FileTensor | None:
        """The first of some names that there is."""
        for name in names:
            if (found := self.there.get(self.layer + name)) is not None:
                return FileTensor(found[0], self.states[found[0]], found[1])
        return None

    def scales(self, *names: str, dtypes: tuple[str, ...] = _FLOATS) -> FileTensor:
        """The scales."""
        found = self.find(*names)
        if found is None:
            raise BrokenFile(f"it has no {self.layer}{names[0]}")
        _check_dtype(found.stored, *dtypes)
        return found

    def order(self, name: str, inputs: int) -> FileTensor | None:
        """The group of each input, if it is said."""
        found = self.find(name)
        if found is not None:
            _check(found.stored, "I32", (inputs,))
        return found

    def zeros(self, name: str) -> FileTensor | None:
        """The zero points, if there are some."""
        found = self.find(name)
        if found is None and self.settings.has_zeros:
            raise BrokenFile(f"it has no {self.layer}{name}, and its config.json asks for it")
        return found

    def check_order(self, name: str, order: FileTensor | None, groups: int) -> None:
        """Raise where inputs of a group stand apart, and nothing says where."""
        if order is None and groups > 1 and self.settings.ordered:
            raise BrokenFile(f"it has no {self.layer}{name}, and its config.json asks for it")


def _gptq(parts: _Parts, path: Path, tensor: Tensor) -> StoredTensor:
    settings = parts.settings
    words, outputs = _matrix(tensor, "I32")
    inputs = words * _WORD // settings.bits
    order = parts.order("g_idx", inputs)
    scales = parts.scales("scales")
    groups = _groups(scales.stored, 0, inputs, order is not None)
    _check(scales.stored, "", (groups, outputs))
    parts.check_order("g_idx", order, groups)
    zeros = parts.zeros("qzeros")
    if zeros is not None:
        _check(zeros.stored, "I32", (groups, -(-outputs * settings.bits // _WORD)))
    return GptqTensor(
        path, tensor, (outputs, inputs), settings.method, settings.bits, groups, scales, zeros,
        order, settings.symmetric, settings.zero_offset,
    )  # fmt: skip


def _awq(parts: _Parts, path: Path, tensor: Tensor) -> StoredTensor:
    settings = parts.settings
    inputs, words = _matrix(tensor, "I32")
    outputs = words * _WORD // settings.bits
    scales = parts.scales("scales")
    groups = _groups(scales.stored, 0, inputs)
    _check(scales.stored, "", (groups, outputs))
    zeros = parts.zeros("qzeros")
    assert zeros is not None
    _check(zeros.stored, "I32", (groups, words))
    return AwqTensor(
        path, tensor, (outputs, inputs), settings.method, settings.bits, groups, scales, zeros
    )


def _packed(parts: _Parts, path: Path, tensor: Tensor) -> StoredTensor:
    if tensor.dtype == "U8":
        return _fp4(parts, path, tensor)
    outputs, words = _matrix(tensor, "I32")
    shape = parts.find("weight_shape")
    if shape is None or shape.stored.dtype not in ("I64", "I32") or shape.shape != (2,):
        raise BrokenFile(f"it has no {parts.layer}weight_shape")
    said = [int(each) for each in shape.read().view(f"<i{shape.stored.size // 2}")]
    inputs = said[1]
    if said[0] != outputs or inputs < 1:
        raise BrokenFile(f"{parts.layer}weight_shape is not that of {tensor.name}")
    known = (4, 8) if not parts.settings.bits else (parts.settings.bits,)
    bits = [each for each in known if -(-inputs * each // _WORD) == words]
    if not bits:
        raise Other(f"{tensor.name} is of neither 4 nor 8 bits")
    order = parts.order("weight_g_idx", inputs)
    scales = parts.scales("weight_scale")
    groups = _groups(scales.stored, 1, inputs, order is not None)
    _check(scales.stored, "", (outputs, groups))
    parts.check_order("weight_g_idx", order, groups)
    zeros = parts.zeros("weight_zero_point")
    if zeros is not None:
        _check(zeros.stored, "I32", (-(-outputs * bits[0] // _WORD), groups))
    return PackedTensor(
        path, tensor, (outputs, inputs), parts.settings.method, bits[0], groups, scales, zeros,
        order,
    )  # fmt: skip


def _fp4(parts: _Parts, path: Path, tensor: Tensor) -> StoredTensor:
    outputs, half = _matrix(tensor, "U8")
    inputs = 2 * half
    if parts.find("weight_global_scale") is not None:
        raise Other("its weights are NVFP4's")
    if inputs % _FP4_GROUP:
        raise BrokenFile(f"{tensor.name} is not of blocks of {_FP4_GROUP}")
    scales = parts.scales("weight_scale", dtypes=("U8",))
    groups = inputs // _FP4_GROUP
    _check(scales.stored, "U8", (outputs, groups))
    return Fp4Tensor(path, tensor, (outputs, inputs), "MXFP4", 4, groups, scales)


def _small(parts: _Parts, path: Path, tensor: Tensor) -> StoredTensor:
    """Integers or numbers of 8 bits, one in a byte."""
    if tensor.dtype == "F8_E4M3":
        return _fp8(parts, tensor)
    outputs, inputs = _matrix(tensor, "I8")
    scales = parts.scales("weight_scale")
    if parts.settings.block is not None:
        raise Other("its scales are for blocks of integers")
    rows = 1 if scales.stored.elements == 1 else outputs
    groups = scales.stored.elements // rows
    _check(scales.stored, "", *_shapes(rows, groups))
    if not groups or inputs % groups:
        raise BrokenFile(f"{scales.stored.name} has another shape than {tensor.name}")
    zeros = parts.zeros("weight_zero_point")
    if zeros is not None:
        _check(zeros.stored, "I8", *_shapes(rows, groups))
    return IntegerTensor(
        path, tensor, (outputs, inputs), parts.settings.method, 8, groups, scales, zeros
    )


def _fp8(parts: _Parts, tensor: Tensor) -> StoredTensor:
    outputs, inputs = _matrix(tensor, "F8_E4M3")
    scales = parts.scales("weight_scale", "weight_scale_inv")
    count = scales.stored.elements
    high, wide = parts.settings.block or (outputs if count == 1 else 1, inputs)
    high, wide = min(high, outputs), min(wide, inputs)
    _check(scales.stored, "", *_shapes(-(-outputs // high), -(-inputs // wide)))
    return Fp8Tensor(tensor, "FP8", scales, (high, wide))


def _shapes(rows: int, columns: int) -> list[tuple[int, ...]]:
    """Of a matrix, and how else one of few numbers may be written."""
    found: list[tuple[int, ...]] = [(rows, columns)]
    found += [(rows,)] if columns == 1 else []
    return found + ([()] if rows == columns == 1 else [])


def _groups(scales: Tensor, axis: int, inputs: int, is_ordered: bool = False) -> int:
    """How many groups of inputs there are scales for."""
    count = scales.shape[axis] if len(scales.shape) == 2 else 0
    if not 0 < count <= inputs or (inputs % count and not is_ordered):
        raise BrokenFile(f"{scales.name} is not of groups of {inputs} inputs")
    return count


def _matrix(tensor: Tensor, dtype: str) -> tuple[int, int]:
    if len(tensor.shape) != 2 or not all(tensor.shape):
        raise BrokenFile(f"{tensor.name} is no matrix")
    _check_dtype(tensor, dtype)
    return tensor.shape[0], tensor.shape[1]


def _check_dtype(tensor: Tensor, *dtypes: str) -> None:
    if tensor.dtype not in dtypes:
        raise Other(f"{tensor.name} is of another type ({tensor.dtype})")


def _check(tensor: Tensor, dtype: str, *shapes: tuple[int, ...]) -> None:
    """Raise for a tensor of another type than ``dtype``, if there is one, or of another shape."""
    if dtype:
        _check_dtype(tensor, dtype)
    if tensor.shape not in shapes:
        shape = "×".join(map(str, shapes[0]))
        raise BrokenFile(f"its {tensor.name} is not {shape}, which the codes beside it ask for")


_MAKERS: Mapping[tuple[str, str], Callable[[_Parts, Path, Tensor], StoredTensor]] = {
    ("GPTQ", "qweight"): _gptq,
    ("AWQ", "qweight"): _awq,
    ("compressed-tensors", "weight_packed"): _packed,
    ("compressed-tensors", "weight"): _small,
    ("FP8", "weight"): _small,
}
