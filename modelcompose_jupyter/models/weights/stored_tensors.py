"""Tensors of a decoder as files have them, whatever their format."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ModelError
from ..native import numbers
from ..native.codes import Codes, Form
from ..native.linear import converted, transposed
from ..native.numbers import Kind
from ..native.threads import usual_threads
from .safetensors_header import Tensor

FileState = tuple[int, ...]
_KINDS: dict[str, Kind] = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def state_of(found: os.stat_result) -> FileState:
    """What changes where a file is written to or replaced."""
    return found.st_ino, found.st_size, found.st_mtime_ns


class StoredTensor(ABC):
    """A tensor in a file: where it is, and what becomes of its bytes. Here it has no codes.

    Attributes:
        stored: as the file has it.
    """

    stored: Any

    @property
    @abstractmethod
    def kind(self) -> Kind | None:
        """Of its numbers, where the file has them as they are; None for codes."""

    @property
    @abstractmethod
    def type_name(self) -> str:
        """What its format calls its type."""

    @abstractmethod
    def stays(self, kind: Kind) -> bool:
        """Whether its numbers may be used where they are in the file."""

    @abstractmethod
    def numbers(self, raw: np.ndarray, kind: Kind) -> np.ndarray:
        """Its numbers as a runtime has them, of its shape: a view of the bytes where it stays.

        Args:
            raw: its bytes, uint8 [size].
        """

    @property
    def shape(self) -> tuple[int, ...]:
        """[outputs, inputs], of weights."""
        found: tuple[int, ...] = self.stored.shape
        return found

    @property
    def begin(self) -> int:
        """Its first byte in the file."""
        found: int = self.stored.begin
        return found

    @property
    def size(self) -> int:
        """Bytes in the file."""
        found: int = self.stored.size
        return found

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        found: int = self.stored.elements
        return found

    @property
    def form(self) -> Form | None:
        """What its codes become without loss; None where there is no such."""
        return None

    def float32(self, raw: np.ndarray, kind: Kind) -> np.ndarray:
        """Its numbers in float32, as a decoder of a kind has them."""
        return np.ascontiguousarray(numbers.as_float32(self.numbers(raw, kind), kind))

    def has_exact_codes(self, raw: np.ndarray) -> bool:
        """Whether its codes have the form exactly, whatever they are scaled with."""
        return False

    def codes(self, raw: np.ndarray, rows: slice, room: np.ndarray) -> Codes:
        """Some rows of its codes in the kernels' order.

        Args:
            room: uint8 [`Form.size`], where they go.
        """
        raise AssertionError("it has none")

    def kept_codes(self, rows: slice, room: np.ndarray) -> Codes:
        """The same where they are there already."""
        raise AssertionError("it has none")


@dataclass(frozen=True)
class SafetensorsTensor(StoredTensor):
    """A tensor of a safetensors file.

    Attributes:
        is_transposed: whether the file has it as [inputs, outputs].
    """

    stored: Tensor
    is_transposed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape[::-1] if self.is_transposed else self.stored.shape

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


@dataclass(frozen=True)
class FileTensor:
    """A small tensor that is read by itself.

    Attributes:
        path: of the safetensors file that it is in, and its ``state`` when it was looked at.
    """

    path: Path
    state: FileState
    stored: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return self.stored.shape

    def read(self) -> np.ndarray:
        """Its bytes, uint8 [size].

        Raises:
            ModelError: the file has been written to since.
        """
        with self.path.open("rb") as file:
            if state_of(os.fstat(file.fileno())) != self.state:
                raise ModelError(
                    f"{self.path} was changed while it was loaded",
                    hint="Run again: it is loaded anew then.",
                    code="model_changed",
                )
            file.seek(self.stored.begin)
            return np.frombuffer(file.read(self.stored.size), np.uint8)

    def float32(self) -> np.ndarray:
        """Its numbers in float32."""
        return SafetensorsTensor(self.stored).float32(self.read(), "float32")


def in_parts(work: Callable[[int], None], starts: range) -> None:
    """Do the parts of some work, by where they begin, on the usual number of threads."""
    if len(starts) <= 1:
        for start in starts:
            work(start)
        return
    with ThreadPoolExecutor(usual_threads()) as pool:
        list(pool.map(work, starts))
