"""Keys and values of sequences: they keep what they hold wherever they move, within a budget."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelcompose_jupyter.models.engine import kv_cache
from modelcompose_jupyter.models.engine.kv_cache import (
    CacheFull,
    KVCache,
    Slot,
    capacity_for,
)
from modelcompose_jupyter.models.engine.torch_slab import TensorLayout, TorchSlab

LAYOUT = TensorLayout(layers=2, heads=2, head_size=1, itemsize=4, device="cpu")


def slab(capacity: int, rows: int) -> TorchSlab:
    return TorchSlab(LAYOUT, capacity, rows, torch.float32)


SLAB = 64 * LAYOUT.token_bytes
Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["open", "open", "fill", "reserve", "share", "share", "close"]),
        st.integers(0, 30),
        st.integers(1, 60) | st.integers(1, 300),
    ),
    min_size=10,
    max_size=60,
)


class Books:
    """A cache, and beside it what each slot should hold."""

    def __init__(self, budget: int | None) -> None:
        self.cache = KVCache(LAYOUT, slab, budget)
        self.held: dict[Slot, torch.Tensor] = {}
        self._written = 0

    def do(self, step: Step) -> None:
        name, which, tokens = step
        before = [(slot, slot.slab, slot.row) for slot in self.held]
        size = self.cache.bytes
        try:
            if name == "open":
                self.open(tokens)
            elif self.held:
                slot = list(self.held)[which % len(self.held)]
                getattr(self, name)(slot, tokens)
        except CacheFull:
            assert self.cache.budget is not None
            assert [(slot, slot.slab, slot.row) for slot in self.held] == before
            assert self.cache.bytes == size

    def open(self, tokens: int) -> Slot:
        slot = self.cache.open(tokens)
        assert slot.slab.capacity >= tokens
        assert self.cache.is_own(slot)
        assert slot.length == 0
        self.fill(slot, tokens)
        return slot

    def fill(self, slot: Slot, tokens: int) -> None:
        start, end = slot.length, min(slot.slab.capacity, slot.length + tokens)
        self._written += 1
        slot.length = end
        slot.kept[:, :, :, start:] = torch.arange(8.0).view(2, 2, 2, 1, 1) + 100 * self._written
        self.held[slot] = slot.kept.clone()

    def reserve(self, slot: Slot, tokens: int) -> None:
        own = self.cache.is_own(slot)
        self.cache.reserve(slot, tokens)
        assert slot.slab.capacity >= tokens
        assert self.cache.is_own(slot) == own

    def share(self, slot: Slot, _: int) -> None:
        self.cache.share(slot)
        assert not self.cache.is_own(slot)
        assert slot.slab in self.cache.slabs

    def close(self, slot: Slot, _: int) -> None:
        self.cache.close(slot)
        del self.held[slot]

    def check(self) -> None:
        cache = self.cache
        for slot, data in self.held.items():
            assert torch.equal(slot.kept, data)
            assert slot.slab.slots[slot.row] is slot
            for layer in range(LAYOUT.layers):
                for attended, own in zip(
                    slot.slab.attended(layer, slot.row), data[layer], strict=True
                ):
                    assert torch.equal(attended[:, : slot.length], own)
        slabs = {id(slot.slab): slot.slab for slot in self.held}
        for slab in slabs.values():
            # No holes: the rows in use are the first ones, and those that slots know of.
            assert sorted(slot.row for slot in self.held if slot.slab is slab) == list(
                range(len(slab.slots))
            )
            assert slab.rows // 4 < len(slab.slots) <= slab.rows
        shared = [slab for slab in slabs.values() if slab in cache.slabs]
        assert len(shared) == len(cache.slabs)
        capacities = [slab.capacity for slab in cache.slabs]
        assert capacities == sorted(set(capacities))
        assert cache.bytes == sum(each.data.numel() * 4 for each in slabs.values())
        assert cache.budget is None or cache.bytes + cache.held <= cache.budget


@settings(max_examples=100, deadline=None)
@given(STEPS, st.none() | st.integers(1, 30))
def test_slots_keep_what_they_hold(steps: list[Step], slabs: int | None) -> None:
    books = Books(None if slabs is None else slabs * SLAB)
    for step in steps:
        books.do(step)
        books.check()
    for slot in list(books.held):
        books.close(slot, 0)
        books.check()
    assert books.cache.bytes == 0
    assert books.cache.slabs == []


def test_those_of_a_size_share_a_slab() -> None:
    cache = KVCache(LAYOUT, slab)
    slots = [cache.open(tokens) for tokens in (10, 100, 20, 64)]
    assert cache.slabs == []
    for slot in slots:
        cache.share(slot)
    assert [slab.capacity for slab in cache.slabs] == [64, 128]
    assert [slab.slots for slab in cache.slabs] == [[slots[0], slots[2], slots[3]], [slots[1]]]
    slots[2].length = 64
    cache.reserve(slots[2], 65)
    assert [slab.slots for slab in cache.slabs] == [[slots[0], slots[3]], [slots[1], slots[2]]]


def test_rows_that_move_take_what_they_hold_along() -> None:
    books = Books(None)
    slots = [books.open(10 * number) for number in range(1, 6)]
    for slot in slots:
        books.share(slot, 0)
        books.check()
    for which in (0, 3, 1):
        books.close(slots[which], 0)
        books.check()
    assert [slot.row for slot in (slots[4], slots[2])] == [0, 1]


def test_what_is_not_finite_can_be_cleaned_away() -> None:
    books = Books(None)
    slots = [books.open(tokens) for tokens in (50, 10, 20)]
    for slot in slots:
        books.share(slot, 0)
    slots[0].kept.fill_(torch.nan)
    books.cache.close(slots[0], clean=True)
    del books.held[slots[0]]
    books.check()
    assert books.cache.slabs[0].data.isfinite().all()


def test_a_full_slab_doubles_and_an_empty_one_shrinks() -> None:
    cache = KVCache(LAYOUT, slab)
    slots = [cache.open(1) for _ in range(9)]
    rows = []
    for slot in slots:
        cache.share(slot)
        rows.append(cache.slabs[0].rows)
    assert rows == [1, 2, 4, 4, 8, 8, 8, 8, 16]
    for slot in slots[:-1]:
        cache.close(slot)
    assert cache.slabs[0].rows <= 4
    assert cache.bytes == cache.slabs[0].rows * SLAB


def test_where_the_budget_has_no_room_to_double_one_row_is_added() -> None:
    cache = KVCache(LAYOUT, slab, 6 * SLAB)
    for _ in range(5):
        cache.share(cache.open(1))
    assert (cache.slabs[0].rows, len(cache.slabs[0].slots)) == (5, 5)


def test_what_others_hold_counts() -> None:
    cache = KVCache(LAYOUT, slab, 2 * SLAB)
    cache.held = SLAB + 1
    with pytest.raises(CacheFull):
        cache.open(1)
    cache.held = SLAB
    cache.open(1)
    assert not cache.is_over
    cache.held += 1
    assert cache.is_over


def test_without_a_budget_the_memory_of_the_device_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    left = kv_cache._LEFT_FREE

    def is_short(needed: int, device: str) -> bool:
        asked.append((needed, device))
        return needed > 2 * SLAB + left

    monkeypatch.setattr(kv_cache.memory, "is_short", is_short)
    cache = KVCache(LAYOUT, slab)
    for _ in range(2):
        cache.share(cache.open(64))
    with pytest.raises(CacheFull):
        cache.open(129)
    # The second row moves the first: memory for both is needed while the old one is there.
    assert asked == [(each * SLAB + left, "cpu") for each in (1, 1, 2, 3)]
    assert not cache.is_over


def test_capacities() -> None:
    found = sorted({capacity_for(tokens) for tokens in range(1, 3073)})
    assert found == [64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072]
    for tokens in range(1, 3073):
        capacity = capacity_for(tokens)
        assert capacity == min(each for each in found if each >= tokens)
        assert tokens <= 128 or capacity < 1.5 * tokens


def test_room_that_nobody_came_for_is_given_back_and_takes_no_part() -> None:
    cache = KVCache(LAYOUT, slab, 10**9)
    cache.expect(128, 3)
    assert cache.bytes == 4 * 128 * LAYOUT.token_bytes
    assert cache.slabs == []
    assert cache.trim()
    assert cache.bytes == 0
