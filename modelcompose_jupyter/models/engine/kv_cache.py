"""KV cache: keys and values of sequences, in memory that grows with their tokens.

Sequences of about the same length are rows of one slab, which one attention reads together. A slab
has no holes: its last row moves into one that becomes free. A sequence that outgrows its slab moves
to the next larger one. So from 128 tokens on, less than a third of a row is unused, and moving
costs little for each token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch

from .. import memory

_SMALLEST = 64
_LEFT_FREE = 256 * 1024**2
"""Bytes of the device that are left to everything else where no budget is given."""


class CacheFull(Exception):
    """The budget leaves no room for more tokens."""


@dataclass(frozen=True)
class Layout:
    """What a token's keys and values are; the same in each layer."""

    layers: int
    heads: int
    head_size: int
    dtype: torch.dtype
    device: torch.device

    @property
    def token_bytes(self) -> int:
        """Bytes of one token over all layers."""
        return int(2 * self.layers * self.heads * self.head_size * self.dtype.itemsize)


def capacity_for(tokens: int) -> int:
    """The length of the slab for a sequence: 64, 128, 192, 256, 384, 512, 768, 1024, …"""
    capacity = _SMALLEST
    while capacity < tokens:
        half = capacity + capacity // 2
        if half >= tokens and half % _SMALLEST == 0:
            return half
        capacity *= 2
    return capacity


@contextmanager
def _full_when_out_of_memory() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if memory.is_out_of_memory(error):
            raise CacheFull from None
        raise


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


class Slab(Rows):
    """Rows that sequences share.

    Attributes:
        data: all of it, [layers, 2, rows, heads, capacity, head size].
        slots: the slot of each row that is in use; the rows after them are free.
        masked: whether what is not there yet is read as well, and hidden.
    """

    def __init__(
        self, layout: Layout, capacity: int, rows: int = 1, *, masked: bool = True
    ) -> None:
        self.layout = layout
        self.capacity = capacity
        self.masked = masked
        self.slots: list[Slot] = []
        self._allocate(rows)

    def _allocate(self, rows: int) -> None:
        layout = self.layout
        # What is masked is multiplied by 0, which must not meet a NaN.
        make = torch.zeros if self.masked else torch.empty
        data = make(
            (layout.layers, 2, rows, layout.heads, self.capacity, layout.head_size),
            dtype=layout.dtype,
            device=layout.device,
        )
        self.data, self.rows = data, rows
        self.columns = torch.arange(self.capacity, device=layout.device)
        joined = data.flatten(2, 3)
        self.keys = [joined[layer, 0] for layer in range(layout.layers)]
        self.values = [joined[layer, 1] for layer in range(layout.layers)]
        self.flat_keys = [keys.flatten(0, 1) for keys in self.keys]
        self.flat_values = [values.flatten(0, 1) for values in self.values]

    @property
    def bytes(self) -> int:
        return self.rows * self.capacity * self.layout.token_bytes

    def resize(self, rows: int) -> None:
        """Have this many rows; those in use stay."""
        used, before = len(self.slots), self.data
        self._allocate(rows)  # or leaves all as it was
        self.data[:, :, :used] = before[:, :, :used]


class Slot:
    """The place of one sequence: ``length`` tokens in a row of a slab."""

    def __init__(self, slab: Slab, row: int) -> None:
        self.slab = slab
        self.row = row
        self.length = 0

    @property
    def data(self) -> torch.Tensor:
        """[layers, 2, heads, length, head size]; a view."""
        return self.slab.data[:, :, self.row, :, : self.length]

    def keys(self, layer: int) -> torch.Tensor:
        """[heads, capacity, head size]; a view."""
        return self.slab.data[layer, 0, self.row]

    def values(self, layer: int) -> torch.Tensor:
        """[heads, capacity, head size]; a view."""
        return self.slab.data[layer, 1, self.row]


class KVCache:
    """The slabs of one model, within a budget of bytes, or if None what memory is free.

    Where that is used up, `open`, `reserve` and `share` raise `CacheFull`; a slot is as it was.

    Args:
        apart: each sequence keeps a slab of its own, of which only what is there is read.

    Attributes:
        held: bytes of the budget that others hold.
    """

    def __init__(self, layout: Layout, budget: int | None = None, *, apart: bool = False) -> None:
        self.layout = layout
        self.apart = apart
        self.budget = budget
        self.held = 0
        self._shared: dict[int, Slab] = {}
        self._own: list[Slab] = []

    @property
    def bytes(self) -> int:
        """What is allocated."""
        return sum(slab.bytes for slab in [*self._shared.values(), *self._own])

    @property
    def is_over(self) -> bool:
        """Whether more is allocated and held than the budget allows."""
        return self.budget is not None and self.bytes + self.held > self.budget

    @property
    def slabs(self) -> list[Slab]:
        """The slabs whose rows are read together, shortest first."""
        return [self._shared[each] for each in sorted(self._shared) if self._shared[each].slots]

    def open(self, tokens: int) -> Slot:
        """A slot of its own with room for so many tokens, to prefill."""
        slab = self._own_slab(capacity_for(tokens))
        slab.slots.append(Slot(slab, 0))
        return slab.slots[0]

    def reserve(self, slot: Slot, tokens: int) -> None:
        """Make room for so many tokens in all; the slot may move."""
        if tokens <= slot.slab.capacity:
            return
        make = self._own_slab if slot.slab in self._own else self._shared_slab
        self._move(slot, make(capacity_for(tokens)))

    def share(self, slot: Slot) -> None:
        """Move a slot of its own to the others of its size, to be read with them."""
        slab = slot.slab
        if self.apart or slab not in self._own:
            return
        if slab.capacity not in self._shared:
            self._own.remove(slab)
            self._shared[slab.capacity] = slab
        else:
            self._move(slot, self._shared_slab(slab.capacity))

    def expect(self, capacity: int, count: int) -> None:
        """Have room for so many more rows of a capacity at once, if there is memory for them."""
        if self.apart:
            return
        slab = self._shared.get(capacity)
        rows = 0 if slab is None else slab.rows
        needed = count + (0 if slab is None else len(slab.slots))
        wanted = 1 << (needed - 1).bit_length()  # a power of two
        if wanted <= rows:
            return
        # Where there is none, they come one by one, as far as they can.
        with suppress(CacheFull), _full_when_out_of_memory():
            self._check_room(capacity, wanted - rows, wanted)
            if slab is None:
                self._shared[capacity] = Slab(self.layout, capacity, wanted)
            else:
                slab.resize(wanted)

    def is_own(self, slot: Slot) -> bool:
        """Whether a slot is not shared yet."""
        return slot.slab in self._own

    def trim(self) -> bool:
        """Give back the rows that are free; whether there were any."""
        slabs = [slab for slab in self._shared.values() if len(slab.slots) < slab.rows]
        with suppress(CacheFull), _full_when_out_of_memory():
            for slab in slabs:
                if slab.slots:
                    slab.resize(len(slab.slots))
                else:
                    del self._shared[slab.capacity]
            return bool(slabs)
        return False

    def close(self, slot: Slot, clean: bool = False) -> None:
        """Give the row back; ``clean`` if there may be NaNs in it, which no mask keeps out."""
        if clean:
            slot.slab.data[:, :, slot.row].zero_()
        self._leave(slot.slab, slot.row)

    def _new_slab(self, capacity: int) -> Slab:
        self._check_room(capacity)
        with _full_when_out_of_memory():
            return Slab(self.layout, capacity, masked=not self.apart)

    def _own_slab(self, capacity: int) -> Slab:
        self._own.append(slab := self._new_slab(capacity))
        return slab

    def _check_room(self, capacity: int, more: int = 1, rows: int | None = None) -> None:
        """Room for ``more`` rows; ``rows`` is what is allocated for that, where old ones move."""
        row = capacity * self.layout.token_bytes
        if self.budget is None:
            taken = (more if rows is None else rows) * row + self._untouched
            full = memory.is_short(taken + _LEFT_FREE, str(self.layout.device))
        else:
            full = self.bytes + self.held + more * row > self.budget
        if full:
            raise CacheFull

    @property
    def _untouched(self) -> int:
        """Bytes of slabs that the system has promised and not given yet."""
        slabs = (slab for slab in self._own if not slab.masked)
        free = sum(slab.capacity - slab.slots[0].length for slab in slabs)
        return free * self.layout.token_bytes

    def _shared_slab(self, capacity: int) -> Slab:
        """The slab of this capacity, with a free row."""
        slab = self._shared.get(capacity)
        if slab is None:
            slab = self._shared[capacity] = self._new_slab(capacity)
        elif len(slab.slots) == slab.rows:
            more = slab.rows
            try:
                self._check_room(capacity, more, slab.rows + more)
            except CacheFull:
                more = 1
                self._check_room(capacity, more, slab.rows + more)
            with _full_when_out_of_memory():
                slab.resize(slab.rows + more)
        return slab

    def _move(self, slot: Slot, slab: Slab) -> None:
        before, row, new_row = slot.slab, slot.row, len(slab.slots)
        slab.data[:, :, new_row, :, : slot.length] = slot.data
        slab.slots.append(slot)
        slot.slab, slot.row = slab, new_row
        self._leave(before, row)

    def _leave(self, slab: Slab, row: int) -> None:
        """Free a row, close the hole, and give back a slab that is mostly empty."""
        last = slab.slots.pop()
        if row < len(slab.slots):
            slab.data[:, :, row, :, : last.length] = last.data
            last.row = row
            slab.slots[row] = last
        if not slab.slots:
            if slab in self._own:
                self._own.remove(slab)
            else:
                del self._shared[slab.capacity]
        elif len(slab.slots) <= slab.rows // 4:
            slab.resize(slab.rows // 2)
