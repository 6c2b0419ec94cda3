"""Keys and values in torch: slabs as attention sees them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .kv_cache import Layout, Slab


class Rows:
    """Keys and values of rows of equal capacity, as attention sees them.

    Attributes:
        keys, values: of each layer, [rows * heads, capacity, head size].
        flat_keys, flat_values: the same as [rows * heads * capacity, head size].
        columns: the numbers from 0 to capacity - 1.
        rows: how many there are.
    """

    keys: Sequence[torch.Tensor]
    values: Sequence[torch.Tensor]
    flat_keys: Sequence[torch.Tensor]
    flat_values: Sequence[torch.Tensor]
    columns: torch.Tensor
    rows: int

    def tensors(self) -> list[torch.Tensor]:
        """All of it."""
        views = (self.keys, self.values, self.flat_keys, self.flat_values)
        return [self.columns, *(each for view in views for each in view)]

    @classmethod
    def of(cls, tensors: Sequence[torch.Tensor], rows: int) -> Rows:
        """From what `tensors` gave."""
        self = cls()
        self.columns, self.rows = tensors[0], rows
        layers = (len(tensors) - 1) // 4
        views = [tensors[1 + start : 1 + start + layers] for start in range(0, 4 * layers, layers)]
        self.keys, self.values, self.flat_keys, self.flat_values = views
        return self


class TorchSlab(Slab, Rows):
    """A slab of tensors."""

    data: torch.Tensor

    def __init__(self, layout: Layout, capacity: int, rows: int, dtype: torch.dtype) -> None:
        # Zeros: what is masked is multiplied by 0, which must not meet a NaN.
        super().__init__(
            layout,
            capacity,
            rows,
            lambda shape: torch.zeros(shape, dtype=dtype, device=layout.device),
        )

    def allocate(self, rows: int) -> None:
        super().allocate(rows)
        self.columns = torch.arange(self.capacity, device=self.data.device)
        joined = self.data.flatten(2, 3)
        layers = range(self.layout.layers)
        self.keys = [joined[layer, 0] for layer in layers]
        self.values = [joined[layer, 1] for layer in layers]
        self.flat_keys = [keys.flatten(0, 1) for keys in self.keys]
        self.flat_values = [values.flatten(0, 1) for values in self.values]
