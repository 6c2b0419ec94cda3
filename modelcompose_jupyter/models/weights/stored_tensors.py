"""Tensors of a decoder as files have them, whatever their format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..native import numbers
from ..native.codes import Codes, Form
from ..native.linear import converted, transposed
from ..native.numbers import Kind
from ..native.threads import usual_threads
from .safetensors_header import Tensor

_KINDS: dict[str, Kind] = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


class StoredTensor(Protocol):
    """A tensor in a file: where it is, and what becomes of its bytes.

    Attributes:
        begin: its first byte in the file; ``size`` how many there are.
        kind: of its numbers, where the file has them as they are; None for codes.
        form: what its codes become without loss; None where there is no such.
        type_name: what its format calls its type.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def begin(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def elements(self) -> int: ...
    @property
    def kind(self) -> Kind | None: ...
    @property
    def form(self) -> Form | None: ...
    @property
    def type_name(self) -> str: ...

    def stays(self, kind: Kind) -> bool:
        """Whether its numbers may be used where they are in the file."""

    def numbers(self, raw: np.ndarray, kind: Kind) -> np.ndarray:
        """Its numbers as a runtime has them, of its shape: a view of the bytes where it stays.

        Args:
            raw: its bytes, uint8 [size].
        """

    def float32(self, raw: np.ndarray, kind: Kind) -> np.ndarray:
        """Its numbers in float32, as a decoder of a kind has them."""

    def has_exact_codes(self, raw: np.ndarray) -> bool:
        """Whether its codes have the form exactly, whatever they are scaled with."""

    def codes(self, raw: np.ndarray, rows: slice, room: np.ndarray) -> Codes:
        """Some rows of its codes in the kernels' order.

        Args:
            room: uint8 [`Form.size`], where they go.
        """

    def kept_codes(self, rows: slice, room: np.ndarray) -> Codes:
        """The same where they are there already."""


@dataclass(frozen=True)
class SafetensorsTensor:
    """A tensor of a safetensors file; see `StoredTensor`. It has no codes.

    Attributes:
        is_transposed: whether the file has it as [inputs, outputs].
    """

    stored: Tensor
    is_transposed: bool = False
    form: None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """[outputs, inputs], of weights."""
        return self.stored.shape[::-1] if self.is_transposed else self.stored.shape

    @property
    def begin(self) -> int:
        return self.stored.begin

    @property
    def size(self) -> int:
        return self.stored.size

    @property
    def elements(self) -> int:
        return self.stored.elements

    @property
    def kind(self) -> Kind | None:
        return _KINDS.get(self.stored.dtype)

    @property
    def type_name(self) -> str:
        return self.stored.dtype

    def stays(self, kind: Kind) -> bool:
        width = numbers.dtype(kind).itemsize
        return self.kind == kind and not self.is_transposed and self.begin % width == 0

    def numbers(self, raw: np.ndarray, kind: Kind) -> np.ndarray:
        own = self.kind
        assert own is not None
        if self.begin % numbers.dtype(own).itemsize:
            raw = raw.copy()  # to where numbers may begin
        found = raw.view(numbers.dtype(own)).reshape(self.stored.shape)
        if own != kind:
            found = converted(found, own, kind, usual_threads())
        return transposed(found, kind) if self.is_transposed else found

    def float32(self, raw: np.ndarray, kind: Kind) -> np.ndarray:
        return np.ascontiguousarray(numbers.as_float32(self.numbers(raw, kind), kind))

    def has_exact_codes(self, raw: np.ndarray) -> bool:
        return False

    def codes(self, raw: np.ndarray, rows: slice, room: np.ndarray) -> Codes:
        raise AssertionError("it has none")

    def kept_codes(self, rows: slice, room: np.ndarray) -> Codes:
        raise AssertionError("it has none")
