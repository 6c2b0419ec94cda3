"""Linear layers, on weights as a file or a tensor has them."""

from __future__ import annotations

import ctypes
import mmap
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from . import numbers
from .build import kernels
from .numbers import KINDS, Kind
from .structures import ProductStruct
from .threads import common_pool


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear layer.

    Attributes:
        weights: [outputs, inputs], of `numbers.dtype`; perhaps a mapped file.
        bias: [outputs], or None.
        kind: of the numbers.
    """

    weights: np.ndarray
    bias: np.ndarray | None
    kind: Kind

    @cached_property
    def struct(self) -> ProductStruct:
        """The layer, in C."""
        assert self.weights.flags.c_contiguous
        return ProductStruct(
            self.weights.ctypes.data,
            None if self.bias is None else self.bias.ctypes.data,
            *self.weights.shape,
        )

    @property
    def bytes(self) -> int:
        """What it takes."""
        return self.weights.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def parts(self, *outputs: int) -> list[Linear]:
        """The same as several layers, one after the other, of so many outputs each."""
        ends = np.cumsum(outputs)
        return [
            Linear(
                self.weights[end - count : end],
                None if self.bias is None else self.bias[end - count : end],
                self.kind,
            )
            for end, count in zip(ends, outputs, strict=True)
        ]

    def run(self, inputs: int, rows: int, outputs: int, *, add: bool, threads: int) -> None:
        """Multiply numbers at an address, [rows, inputs], to others, [rows, outputs]."""
        width, height = self.weights.shape[1], self.weights.shape[0]
        operands = np.empty(rows * (width + _PADDING), dtype=np.float32)
        with common_pool() as pool:
            getattr(kernels(), f"linear_{self.kind}")(
                pool.address, threads, ctypes.addressof(self.struct), inputs, rows, outputs,
                height, int(add), operands.ctypes.data,
            )  # fmt: skip


_PADDING = 64  # numbers of a row, at most


def converted(stored: np.ndarray, kind: Kind, to: Kind, threads: int) -> np.ndarray:
    """Numbers of a kind as those of another, in memory of their own."""
    found = room(stored.size, to).reshape(stored.shape)
    stored = np.ascontiguousarray(stored)
    with common_pool() as pool:
        getattr(kernels(), f"convert_{to}")(
            pool.address, threads, stored.ctypes.data, KINDS[kind], stored.size, found.ctypes.data
        )
    return found


def transposed(stored: np.ndarray, kind: Kind) -> np.ndarray:
    """Numbers [rows, columns] as [columns, rows], in memory of their own."""
    found = room(stored.size, kind).reshape(stored.shape[::-1])
    found[...] = stored.T
    return found


def room(count: int, kind: Kind) -> np.ndarray:
    """So many numbers in memory of their own, which the system has back when they go."""
    dtype = numbers.dtype(kind)
    return np.frombuffer(mmap.mmap(-1, max(1, count * dtype.itemsize)), dtype)[:count]
