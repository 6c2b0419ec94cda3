"""Linear layers, on weights as a file or a tensor has them, or on codes."""

from __future__ import annotations

import ctypes
import mmap
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from . import numbers
from .build import kernels
from .codes import Codes
from .numbers import KINDS, Kind
from .structures import ProductStruct
from .threads import common_pool


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear layer.

    Attributes:
        weights: [outputs, inputs], of `numbers.dtype`; perhaps a mapped file. Or codes, beside
            which they may be of another kind.
        bias: [outputs], or None.
        kind: of the numbers; of inputs, outputs and bias where weights are codes.
    """

    weights: np.ndarray | Codes
    bias: np.ndarray | None
    kind: Kind

    @cached_property
    def struct(self) -> ProductStruct:
        """The layer, in C."""
        weights = self.weights
        stored = weights.stored if isinstance(weights, Codes) else weights
        values = weights.values if isinstance(weights, Codes) else None
        assert stored.flags.c_contiguous
        return ProductStruct(
            weights=stored.ctypes.data,
            bias=None if self.bias is None else self.bias.ctypes.data,
            values=None if values is None else values.ctypes.data,
            outputs=self.outputs,
            inputs=self.inputs,
            form=weights.form.number
            if isinstance(weights, Codes)
            else KINDS[numbers.kind_of(weights)],
            scaling=weights.form.scaling if isinstance(weights, Codes) else 0,
        )

    @property
    def outputs(self) -> int:
        """How many numbers it gives."""
        return self.weights.outputs if isinstance(self.weights, Codes) else self.weights.shape[0]

    @property
    def inputs(self) -> int:
        """How many numbers it takes."""
        return self.weights.inputs if isinstance(self.weights, Codes) else self.weights.shape[1]

    @property
    def arrays(self) -> list[np.ndarray]:
        """All that it has in memory."""
        stored = self.weights.stored if isinstance(self.weights, Codes) else self.weights
        return [stored] if self.bias is None else [stored, self.bias]

    def parts(self, *outputs: int) -> list[Linear]:
        """The same as several layers, one after the other, of so many outputs each.

        Of weights that are numbers.
        """
        assert not isinstance(self.weights, Codes)
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
        """Multiply numbers at an address, [rows, inputs], to others, [rows, outputs].

        Raises:
            MemoryError: there is no memory for it.
        """
        kind = "codes" if isinstance(self.weights, Codes) else self.kind
        with common_pool() as pool:
            failed = getattr(kernels(), f"linear_{kind}")(
                pool.address, threads, ctypes.addressof(self.struct), inputs, rows, outputs,
                self.outputs, int(add),
            )  # fmt: skip
        if failed:
            raise MemoryError("no memory for a product")


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
