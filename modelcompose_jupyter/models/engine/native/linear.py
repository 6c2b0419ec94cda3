"""Linear layers in C."""

from __future__ import annotations

import ctypes
import mmap

import torch

from .build import kernels
from .structures import ProductStruct

KINDS = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_BLOCK = 16


def _room(count: int, dtype: torch.dtype) -> torch.Tensor:
    """So many numbers in memory of their own, which the system has back when they go."""
    return torch.frombuffer(mmap.mmap(-1, count * dtype.itemsize), dtype=dtype)


class NativeProduct:
    """A linear layer on packed weights.

    Args:
        weight: [out, in]; not needed any more afterwards.
        bias: [out], or None.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        library = kernels()
        assert library is not None
        self.out_features, self._inputs = weight.shape
        kind = KINDS[weight.dtype]
        weight = weight.contiguous()
        padded = -(-self.out_features // _BLOCK) * _BLOCK
        self.packed = _room(padded * self._inputs, weight.dtype)
        self._bias = None if bias is None else bias.detach().contiguous()
        self._linear = getattr(library, f"linear_{kind}")
        getattr(library, f"pack_{kind}")(
            weight.data_ptr(), self.out_features, self._inputs, self.packed.data_ptr(),
            torch.get_num_threads(),
        )  # fmt: skip
        self.struct = ProductStruct(
            self.packed.data_ptr(),
            None if self._bias is None else self._bias.data_ptr(),
            self.out_features,
            self._inputs,
        )

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        return self._run(input, input.new_empty((*input.shape[:-1], self.out_features)), add=False)

    def added(self, input: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
        """The product of the input, added to a tensor of its shape."""
        return self._run(input, to.clone(memory_format=torch.contiguous_format), add=True)

    def _run(self, input: torch.Tensor, out: torch.Tensor, add: bool) -> torch.Tensor:
        input = input.contiguous()
        operands = torch.empty(input.numel(), dtype=torch.float32)
        self._linear(
            ctypes.addressof(self.struct), input.data_ptr(), input.numel() // self._inputs,
            out.data_ptr(), int(add), operands.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return out
