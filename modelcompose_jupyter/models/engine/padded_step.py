"""Steps for models whose attention is code of their own: rows of one length, padded at the right.

Such a model reads keys and values of a batch, [rows, heads, columns, size], out of its cache. So
each text is a row of that batch, with as many new tokens as the others, and its keys and values
stand where they are in its slab: a token of position 7 in column 7. Columns behind a row's own are
hidden by its mask, which is drawn for its own positions. What a model computes of the number of a
column alone, and not of positions, would be another in another company; the check at load tries it
with many columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch

from .attention import Mask, OwnAttention
from .kv_cache import Slot
from .runner import Unsupported
from .torch_slab import TorchSlab


class PaddedStep:
    """The rows of one forward pass; a cache for the model, too.

    Args:
        slots: of each row.
        count: new tokens of each.
        columns: at least so many.
        most: no more than the model has positions; None where it has no limit.
    """

    asks_own = True

    def __init__(
        self, slots: Sequence[Slot], count: int, columns: int = 0, most: int | None = None
    ) -> None:
        self._count = count
        slabs = [cast("TorchSlab", slot.slab) for slot in slots]
        device = slabs[0].data.device
        lengths = torch.tensor([slot.length for slot in slots], device=device)
        self.positions = lengths[:, None] + torch.arange(count, device=device)
        """Of the tokens, [rows, tokens]."""
        if len(slots) > 1 or count == 1:  # a text alone computes what it does among others
            columns = max(columns, *(slab.capacity for slab in slabs))
        if most is not None:
            columns = min(columns, most)
        needed = max(slot.length for slot in slots) + count
        self._columns = torch.arange(max(columns, needed), device=device)
        by_slab: dict[TorchSlab, list[int]] = {}
        for place, slab in enumerate(slabs):
            by_slab.setdefault(slab, []).append(place)
        self._slabs = [
            (
                slab,
                torch.tensor([slots[place].row for place in places], device=device)[:, None],
                torch.tensor(places, device=device),
            )
            for slab, places in by_slab.items()
        ]
        rows = [slot.row for slot in slots]
        is_whole = len(by_slab) == 1 and rows == list(range(rows[0], rows[0] + len(rows)))
        self._whole = slice(rows[0], rows[0] + len(rows)) if is_whole else None

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep new keys and values, [rows, heads, tokens, size].

        Returns:
            All of them, [rows, heads, columns, size].
        """
        found = []
        for which, new in enumerate((key, value)):
            heads, size = new.shape[1], new.shape[3]
            for slab, rows, places in self._slabs:
                own = new[places].transpose(1, 2)
                data = slab.data[layer, which, :, :heads, :, :size]
                data[rows, :, self.positions[places]] = own
            found.append(self._read(layer, which)[:, :heads, :, :size])
        return found[0], found[1]

    def _read(self, layer: int, which: int) -> torch.Tensor:
        columns = len(self._columns)
        slab = self._slabs[0][0]
        if self._whole is not None and columns <= slab.capacity:  # read where they are
            found: torch.Tensor = slab.data[layer, which, self._whole, :, :columns]
            return found
        shape = (len(self.positions), slab.layout.heads, columns, slab.layout.head_size)
        joined = slab.data.new_zeros(shape)
        for slab, rows, places in self._slabs:
            width = min(columns, slab.capacity)
            joined[places, :, :width] = slab.data[layer, which, rows[:, 0], :, :width]
        return joined

    def mask(self, rule: Callable[..., torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
        """See `AnyStep`: what is added to scores, [rows, 1, tokens, columns]."""
        seen = Mask(rule).visible(self.positions, self._columns)
        hidden = torch.finfo(dtype).min
        added = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, hidden)
        return added.unsqueeze(1)

    def attend_all(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float,
        mask: Any,
        own: OwnAttention | None,
    ) -> torch.Tensor:
        """See `AnyStep`; where the model's own attention is a function, it is called."""
        if own is None:
            raise Unsupported("its attention is unknown")
        return own(query, key, value, mask)

    def get_seq_length(self, *_: Any, **__: Any) -> int:
        """As if all rows were as long as the columns are."""
        return len(self._columns) - self._count

    get_query_offset = get_seq_length

    def get_mask_sizes(self, *_: Any, **__: Any) -> tuple[int, int]:
        return len(self._columns), 0
