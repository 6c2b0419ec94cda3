"""Which replica gets a request: common beginnings stay together, and none overheats."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelcompose_jupyter.ray.messages import Route
from modelcompose_jupyter.ray.placement import Ring

NAMES = [f"r{number}" for number in range(5)]


def test_a_beginning_goes_where_it_went_before():
    ring = Ring(NAMES)
    for number in range(50):
        route = Route(beginning=f"Once upon {number}")
        first = ring.ranked(route, {})
        assert first == ring.ranked(route, {}) and sorted(first) == NAMES


def test_beginnings_are_spread():
    ring = Ring(NAMES)
    homes = Counter(ring.preferred(f"prompt {number}")[0] for number in range(2000))
    assert set(homes) == {*NAMES}
    assert max(homes.values()) < 2 * min(homes.values())


def test_where_a_replica_goes_only_its_own_beginnings_move():
    before, after = Ring(NAMES), Ring(NAMES[1:])
    for number in range(500):
        home = before.preferred(str(number))[0]
        if home != NAMES[0]:
            assert after.preferred(str(number))[0] == home


def test_no_replica_overheats_however_many_begin_alike():
    ring, loads = Ring(NAMES), dict.fromkeys(NAMES, 0)
    for _ in range(1000):
        loads[ring.ranked(Route(beginning="the same"), loads)[0]] += 1
    assert sum(loads.values()) == 1000
    assert max(loads.values()) <= 1.25 * 1000 / 5 + 5
    few = dict.fromkeys(NAMES, 0)
    for _ in range(4):  # that one replica takes easily
        few[ring.ranked(Route(beginning="the same"), few)[0]] += 1
    assert sorted(few.values()) == [0, 0, 0, 0, 4]


def test_what_begins_like_nothing_goes_where_there_is_least_to_do():
    loads = {"r0": 3, "r1": 1, "r2": 2, "r3": 9, "r4": 1}
    assert Ring(NAMES).ranked(Route(), loads) == ["r1", "r4", "r2", "r0", "r3"]


def test_a_run_that_is_somewhere_is_asked_for_there_and_where_that_is_gone_anywhere():
    ring = Ring(NAMES)
    assert ring.ranked(Route(replica="r3", beginning="a"), {"r3": 99}) == ["r3"]
    assert sorted(ring.ranked(Route(replica="gone"), {})) == NAMES


@given(
    refused=st.sets(st.sampled_from(NAMES)),
    loads=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 1000)),
    beginning=st.none() | st.text(max_size=5),
)
def test_those_that_refused_are_not_asked_again_while_there_are_others(refused, loads, beginning):
    ranked = Ring(NAMES).ranked(Route(None, frozenset(refused), beginning), loads)
    assert sorted(ranked) == sorted({*NAMES} - refused or NAMES)


def test_who_was_refused_goes_where_there_is_least_to_do():
    loads = {"r0": 3, "r1": 1, "r2": 2, "r3": 9, "r4": 1}
    route = Route(refused=frozenset({"r1"}), beginning="a")
    assert Ring(NAMES).ranked(route, loads) == ["r4", "r2", "r0", "r3"]


@pytest.mark.parametrize("beginning", [None, "a"])
def test_nowhere(beginning):
    assert Ring([]).ranked(Route(beginning=beginning), {}) == []
