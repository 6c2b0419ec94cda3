"""Keys and values in torch: slabs as attention sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .kv_cache import Slab


@dataclass(frozen=True)
class TensorLayout:
    """What a token's keys and values are; the same in each layer."""

    layers: int
    heads: int
    head_size: int
    itemsize: int
    device: str
    state_bytes: int = 0

    @property
    def token_bytes(self) -> int:
        """Bytes of one token over all layers."""
        return 2 * self.layers * self.heads * self.head_size * self.itemsize

    def shape(self, rows: int, capacity: int) -> tuple[int, ...]:
        """Of a slab's data."""
        return (self.layers, 2, rows, self.heads, capacity, self.head_size)


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
    """A slab of tensors.

    Attributes:
        data: all of it, [layers, 2, rows, heads, capacity, head size].
    """

    data: torch.Tensor

    def __init__(self, layout: TensorLayout, capacity: int, rows: int, dtype: torch.dtype) -> None:
        self.layout: TensorLayout = layout
        self._dtype = dtype
        super().__init__(capacity, rows)

    def allocate(self, rows: int) -> None:
        layout = self.layout
        shape = layout.shape(rows, self.capacity)
        # Zeros: what is masked is multiplied by 0, which must not meet a NaN.
        self.data = torch.zeros(shape, dtype=self._dtype, device=layout.device)
        super().allocate(rows)
        self.columns = torch.arange(self.capacity, device=self.data.device)
        joined = self.data.flatten(2, 3)
        layers = range(layout.layers)
        self.keys = [joined[layer, 0] for layer in layers]
        self.values = [joined[layer, 1] for layer in layers]
        self.flat_keys = [keys.flatten(0, 1) for keys in self.keys]
        self.flat_values = [values.flatten(0, 1) for values in self.values]

    def resize(self, rows: int) -> None:
        used, before = len(self.slots), self.data
        self.allocate(rows)
        self.data[:, :, :used] = before[:, :, :used]

    def kept(self, row: int, length: int) -> torch.Tensor:
        """[layers, 2, heads, length, head size]."""
        return self.data[:, :, row, :, :length]

    def taken(self, row: int, length: int) -> torch.Tensor:
        return self.copied(row, length)

    def copied(self, row: int, length: int) -> torch.Tensor:
        return self.kept(row, length).clone()

    def put(self, row: int, kept: torch.Tensor, length: int) -> None:
        self.data[:, :, row, :, :length] = kept[..., :length, :]

    def clear(self, row: int) -> None:
        self.data[:, :, row] = 0

    def attended(self, layer: int, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of a row, [heads, capacity, head size]; views."""
        return self.data[layer, 0, row], self.data[layer, 1, row]
