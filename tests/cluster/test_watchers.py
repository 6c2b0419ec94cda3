"""Runs that nobody watches end after their time."""

from __future__ import annotations

from modelcompose_jupyter.ray.watchers import PATIENCE, Watchers


def test_a_run_that_no_living_server_watches_ends_after_its_time():
    now = 0.0
    watchers = Watchers(lambda: now)
    for run, linger in (("short", 0.0), ("long", 5 * PATIENCE), ("all", None)):
        watchers.join(run, "one", linger)
    watchers.join("both", "one", 0.0)
    watchers.join("both", "two", 0.0)
    assert watchers.unwatched(["one", "two"]) == []
    assert watchers.unwatched(["two"]) == []  # it is dead, but maybe they come back
    now += PATIENCE + 1
    assert watchers.unwatched(["two"]) == ["short"]
    now += 5 * PATIENCE
    assert watchers.unwatched(["two"]) == ["short", "long"]
    watchers.forget("short")
    assert watchers.unwatched(["two"]) == ["long"]


def test_who_comes_back_in_time_finds_it():
    now = 0.0
    watchers = Watchers(lambda: now)
    watchers.join("a", "one", 0.0)
    assert watchers.unwatched([]) == []
    now += PATIENCE - 1
    watchers.join("a", "two", 0.0)
    assert watchers.unwatched(["two"]) == []
    watchers.leave("a", "two")
    now += 2
    assert watchers.unwatched(["two"]) == []  # from now on
    now += PATIENCE + 1
    assert watchers.unwatched(["two"]) == ["a"]
