"""KV cache: keys and values of sequences, in memory that grows with their tokens.

What they are like is the runner's to say: `torch_slab`, `native_slab`.

Sequences of about the same length are rows of one slab, which one attention reads together. A slab
has no holes: its last row moves into one that becomes free. A sequence that outgrows its slab moves
to the next larger one. So from 128 tokens on, less than a third of a row is unused, and moving
costs little for each token.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from .. import memory

_SMALLEST = 64
_LEFT_FREE = 256 * 1024**2
"""Bytes of the device that are left to everything else where no budget is given."""


class CacheFull(Exception):
    """The budget leaves no room for more tokens."""


class Layout(Protocol):
    """What is kept of each token."""

    @property
    def device(self) -> str:
        """On which it is."""

    @property
    def token_bytes(self) -> int:
        """Bytes of one token over all layers."""

    @property
    def state_bytes(self) -> int:
        """Bytes of a text whatever its length: a state, which has seen all of its tokens."""


Kept = Any
"""What a slot has, as its slab gives and takes it."""
MakeSlab = Callable[[int, int], "Slab"]


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


def row_bytes(layout: Layout, capacity: int) -> int:
    """What a row takes with room for so many tokens."""
    return capacity * layout.token_bytes + layout.state_bytes


class Slab(ABC):
    """Rows that sequences share.

    Attributes:
        rows: how many there are.
        slots: the slot of each row that is in use; the rows after them are free.
    """

    layout: Layout

    def __init__(self, capacity: int, rows: int) -> None:
        self.capacity = capacity
        self.slots: list[Slot] = []
        self.allocate(rows)

    def allocate(self, rows: int) -> None:
        """Have other memory, for so many rows; or raise, and have what there was."""
        self.rows = rows

    @abstractmethod
    def resize(self, rows: int) -> None:
        """Have this many rows; those in use stay."""

    @abstractmethod
    def kept(self, row: int, length: int) -> Kept:
        """What a row has of its first tokens; a view."""

    @abstractmethod
    def taken(self, row: int, length: int) -> Kept:
        """The same, to be used once the row is free."""

    @abstractmethod
    def copied(self, row: int, length: int) -> Kept:
        """The same, of which nothing changes any more."""

    @abstractmethod
    def put(self, row: int, kept: Kept, length: int) -> None:
        """Have the first tokens of what another slot has in a row."""

    @abstractmethod
    def clear(self, row: int) -> None:
        """Have zeros in a row."""

    @property
    def bytes(self) -> int:
        return self.rows * row_bytes(self.layout, self.capacity)


class Slot:
    """The place of one sequence: ``length`` tokens in a row of a slab."""

    def __init__(self, slab: Slab, row: int) -> None:
        self.slab = slab
        self.row = row
        self.length = 0

    @property
    def kept(self) -> Kept:
        """What its slab has of it; a view."""
        return self.slab.kept(self.row, self.length)

    def take(self) -> Kept:
        """The same, to be used once the slot is closed."""
        return self.slab.taken(self.row, self.length)

    def copy(self) -> Kept:
        """The same, of which nothing changes any more, while the slot goes on."""
        return self.slab.copied(self.row, self.length)

    def begin(self, kept: Kept, length: int) -> None:
        """Begin with the first tokens of what another slot has."""
        self.slab.put(self.row, kept, length)
        self.length = length


class KVCache:
    """The slabs of one model, within a budget of bytes, or if None what memory is free.

    Where that is used up, `open`, `reserve` and `share` raise `CacheFull`; a slot is as it was.

    Args:
        slab: makes a slab of a capacity with so many rows.
        apart: each sequence keeps a slab of its own, of which only what is there is read.

    Attributes:
        held: bytes of the budget that others hold.
    """

    def __init__(
        self, layout: Layout, slab: MakeSlab, budget: int | None = None, *, apart: bool = False
    ) -> None:
        self.layout = layout
        self.apart = apart
        self._slab = slab
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
    def cuts(self) -> bool:
        """Whether what a slot has is that of its first tokens, too, however few. A state is not."""
        return not self.layout.state_bytes

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
                self._shared[capacity] = self._slab(capacity, wanted)
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
            slot.slab.clear(slot.row)
        self._leave(slot.slab, slot.row)

    def held_by(self, slot: Slot) -> int:
        """Bytes that are kept with a slot's keys and values when it is closed."""
        if self.apart:
            return slot.slab.bytes
        return slot.length * self.layout.token_bytes + self.layout.state_bytes

    def copy_bytes(self, slot: Slot) -> int:
        """Bytes of a copy of what a slot has."""
        return row_bytes(self.layout, capacity_for(slot.length))

    def _new_slab(self, capacity: int) -> Slab:
        self._check_room(capacity)
        with _full_when_out_of_memory():
            return self._slab(capacity, 1)

    def _own_slab(self, capacity: int) -> Slab:
        self._own.append(slab := self._new_slab(capacity))
        return slab

    def _check_room(self, capacity: int, more: int = 1, rows: int | None = None) -> None:
        """Room for ``more`` rows; ``rows`` is what is allocated for that, where old ones move."""
        row = row_bytes(self.layout, capacity)
        if self.budget is None:
            taken = (more if rows is None else rows) * row + self._untouched
            full = memory.is_short(taken + _LEFT_FREE, self.layout.device)
        else:
            full = self.bytes + self.held + more * row > self.budget
        if full:
            raise CacheFull

    @property
    def _untouched(self) -> int:
        """Bytes of slabs that the system has promised and not given yet."""
        slabs = self._own if self.apart else []
        free = sum(slab.capacity - slab.slots[0].length for slab in slabs)
        states = sum(not slab.slots[0].length for slab in slabs)
        return free * self.layout.token_bytes + states * self.layout.state_bytes

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
        slab.put(new_row, slot.kept, slot.length)
        slab.slots.append(slot)
        slot.slab, slot.row = slab, new_row
        self._leave(before, row)

    def _leave(self, slab: Slab, row: int) -> None:
        """Free a row, close the hole, and give back a slab that is mostly empty."""
        last = slab.slots.pop()
        if row < len(slab.slots):
            slab.put(row, last.kept, last.length)
            last.row = row
            slab.slots[row] = last
        if not slab.slots:
            if slab in self._own:
                self._own.remove(slab)
            else:
                del self._shared[slab.capacity]
        elif len(slab.slots) <= slab.rows // 4:
            slab.resize(slab.rows // 2)
