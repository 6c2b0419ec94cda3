"""Who asks much waits for himself, not the others for him."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelcompose_jupyter.models.request_queue import FairQueue

Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "put", "pop", "remove"]), st.integers(0, 3)),
    max_size=60,
)


def drain(queue: FairQueue[str]) -> list[str]:
    return [queue.pop() for _ in range(len(queue))]


def test_owners_take_turns() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in ("a1", "a2", "a3", "b1", "c1", "c2"):
        queue.put(item, item[0])
    assert queue.pop() == "a1"
    queue.put("d1", "d")
    assert drain(queue) == ["b1", "c1", "a2", "d1", "c2", "a3"]


def test_an_owner_who_comes_back_stands_at_the_end() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in ("a1", "b1", "b2"):
        queue.put(item, item[0])
    assert queue.pop() == "a1"
    queue.put("a2", "a")
    assert drain(queue) == ["b1", "a2", "b2"]


def test_groups_take_turns_before_their_owners_do() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in ("ga1", "ga2", "gb1", "gc1", "ox1", "oy1"):
        queue.put(item, item[0], item[1])
    assert list(queue) == ["ga1", "ox1", "gb1", "oy1", "gc1", "ga2"]
    assert queue.remove("gb1")
    assert len(queue) == 5
    assert drain(queue) == ["ga1", "ox1", "gc1", "oy1", "ga2"]


def test_an_empty_queue() -> None:
    queue: FairQueue[str] = FairQueue()
    assert (len(queue), list(queue)) == (0, [])
    assert not queue.remove("a")
    with pytest.raises(KeyError):
        queue.pop()


def test_removing_keeps_the_places_of_the_others() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in ("a1", "a2", "b1", "c1"):
        queue.put(item, item[0])
    assert queue.remove("b1")
    assert not queue.remove("b1")
    assert queue.remove("a1")
    assert drain(queue) == ["a2", "c1"]


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_any_use(steps: list[Step]) -> None:
    """Against the rule: of those who wait, whose last turn, or whose coming, is longest ago."""
    queue: FairQueue[int] = FairQueue()
    waiting: list[tuple[int, int]] = []  # items and owners, in the order in which they came
    since: dict[int, int] = {}  # of owners who wait
    for now, (name, number) in enumerate(steps):
        if name == "put":
            queue.put(now, number)
            waiting.append((now, number))
            since.setdefault(number, now)
        elif name == "pop" and waiting:
            owner = min(since, key=lambda each: since[each])
            item = next(item for item, theirs in waiting if theirs == owner)
            assert queue.pop() == item
            waiting.remove((item, owner))
            since[owner] = now
        elif name == "remove" and waiting:
            chosen = waiting.pop(number % len(waiting))
            assert queue.remove(chosen[0])
        since = {each: since[each] for each in since if each in {owner for _, owner in waiting}}
        assert len(queue) == len(waiting)
    order = list(queue)
    assert order == list(queue)
    assert order == [queue.pop() for _ in order]
    assert sorted(order) == sorted(item for item, _ in waiting)
