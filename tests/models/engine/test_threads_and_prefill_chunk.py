"""How many threads and how much of a prompt a step takes, learned from steps of known lengths."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from modelcompose_jupyter.models.engine import thread_tuner
from modelcompose_jupyter.models.engine.prefill_chunk import PrefillChunkSize
from modelcompose_jupyter.models.engine.thread_tuner import Threads, _Tuner

COUNTS = [1, 2, 4]
Cost = Callable[[int], float]


def idle(count: int) -> float:
    """Two threads are quickest, four wait for each other a little."""
    return {1: 10.0, 2: 6.0, 4: 7.0}[count]


def alone_best(count: int) -> float:
    return float(count)


def most_best(count: int) -> float:
    return 1.0 / count


def busy(count: int) -> float:
    """Of a machine where others compute: who waits for no one is quickest."""
    return {1: 20.0, 2: 80.0, 4: 150.0}[count]


def run(tuner: _Tuner, cost: Cost, steps: int) -> list[int]:
    """The numbers of so many steps."""
    used = []
    for _ in range(steps):
        count = tuner.next()
        tuner.record(count, cost(count))
        used.append(count)
    return used


@pytest.mark.parametrize(("cost", "best"), [(idle, 2), (alone_best, 1), (most_best, 4), (busy, 1)])
def test_it_settles_on_the_quickest(cost: Cost, best: int) -> None:
    tuner = _Tuner(COUNTS)
    run(tuner, cost, 300)
    used = run(tuner, cost, 1000)
    assert used.count(best) > 970


def test_it_follows_a_machine_that_becomes_busy_and_idle_again() -> None:
    tuner = _Tuner(COUNTS)
    run(tuner, idle, 500)
    first = run(tuner, busy, 120)
    assert first[60:].count(1) >= 55
    # Idle again: it has to find out by trying, the later the longer nothing came of it.
    run(tuner, idle, 2 * 120)
    assert run(tuner, idle, 100).count(2) > 90


def test_what_is_tried_in_vain_is_tried_seldom() -> None:
    tuner = _Tuner(COUNTS)
    run(tuner, busy, 200)
    run(tuner, busy, 20_000)
    used = run(tuner, busy, 10_000)
    assert 0 < len(used) - used.count(1) <= 10


def test_a_single_slow_step_changes_nothing_for_long() -> None:
    tuner = _Tuner(COUNTS)
    run(tuner, idle, 500)
    tuner.record(tuner.next(), 1000.0)
    run(tuner, idle, 100)
    assert run(tuner, idle, 200).count(2) > 180


def test_without_trials_none_is_tried_unless_the_machine_became_busy() -> None:
    tuner = _Tuner(COUNTS)
    run(tuner, idle, 500)
    used = []
    for step in range(600):
        count = tuner.next(without_trials=True)
        tuner.record(count, (idle if step < 300 else busy)(count))
        used.append(count)
    assert set(used[:300]) == {2}
    assert used[400:].count(1) > 190


def test_two_numbers() -> None:
    tuner = _Tuner([1, 2])
    assert set(run(tuner, idle, 30)) == {1, 2}
    assert run(tuner, idle, 500).count(2) > 480


def runner(most: int) -> Any:
    """Of a runner, only its numbers of threads."""
    return SimpleNamespace(most_threads=most, threads=most)


def test_the_number_is_in_force_during_a_step_alone() -> None:
    four = runner(4)
    chosen = Threads(four)
    seen = set()
    for _ in range(60):
        with chosen.chosen(3):
            seen.add(four.threads)
        assert four.threads == 4
    assert seen <= {1, 2, 4}
    assert len(seen) > 1
    with pytest.raises(ValueError, match="step"), chosen.chosen(3):
        raise ValueError("step")
    assert four.threads == 4


def test_steps_of_different_sizes_have_numbers_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Small ones are quickest alone, large ones together."""
    now = [0.0]
    monkeypatch.setattr(thread_tuner.time, "perf_counter", lambda: now[0])
    four = runner(4)
    chosen = Threads(four)

    def step(tokens: int) -> int:
        with chosen.chosen(tokens):
            count = four.threads
            now[0] += alone_best(count) if tokens == 1 else most_best(count)
        return count

    for _ in range(300):
        step(1), step(500)
    small, large = [[step(tokens) for _ in range(100)] for tokens in (1, 500)]
    assert small.count(1) > 95
    assert large.count(4) > 95


def test_where_there_is_one_thread_there_is_nothing_to_choose() -> None:
    one = runner(1)
    with Threads(one).chosen(3):
        assert one.threads == 1


# How much of a prompt a step takes


def test_the_first_parts_are_small() -> None:
    assert PrefillChunkSize().chunk(0) == 128
    assert PrefillChunkSize().chunk(3) == 8


def test_a_part_takes_about_one_and_a_half_steps_without_one() -> None:
    size = PrefillChunkSize()
    for _ in range(100):
        size.record(4, 0, 0.010)
        size.record(4, size.chunk(4), 0.010 + size.chunk(4) * 0.0001)
    assert size.chunk(4) == pytest.approx(150, abs=5)


def test_where_prompts_never_end_there_are_steps_without_one() -> None:
    """Or the size would be that for the one text that decoded before they came: a fraction of a
    prompt for each step, for as long as they come."""

    def seconds(decoding: int, tokens: int) -> float:
        return 0.2 + 0.01 * decoding + 0.005 * tokens

    size = PrefillChunkSize()
    size.record(0, 100, seconds(0, 100))
    for _ in range(5):
        size.record(1, 0, seconds(1, 0))
    without = 0
    for _ in range(331):
        tokens = 0 if size.is_without(30) else size.chunk(30)
        without += not tokens
        size.record(30, tokens, seconds(30, tokens))
    assert without == 1 + (331 - 5) // 33
    assert size.chunk(30) == pytest.approx(150, abs=5)  # 1.5 times 0.5 s


@pytest.mark.parametrize("loads", [[4, 1], [1, 30], [3]])
def test_steps_without_a_part_are_few_however_the_load_changes(loads: list[int]) -> None:
    """Also where none of them tells anything, as others read meanwhile."""
    size = PrefillChunkSize()
    size.record(0, 100, 0.1)
    without = 0
    for number in range(1000):
        decoding = loads[number % len(loads)]
        without += size.is_without(decoding)
        assert size.chunk(decoding) >= 8
        size.record(decoding, 40, 0.05)
    assert without <= 200


def test_where_nobody_waits_a_part_is_as_long_as_stop_may_take() -> None:
    size = PrefillChunkSize()
    for _ in range(30):
        size.record(0, 100, 100 * 0.001)
    assert size.chunk(0) == pytest.approx(250, abs=2)


def test_of_a_large_model_a_part_takes_some_steps_without_one() -> None:
    """Or most of its time would be spent on reading the weights again for each part."""
    size = PrefillChunkSize()
    for _ in range(30):
        size.record(1, 0, 0.150)
        size.record(0, size.chunk(0), 0.150 + size.chunk(0) * 0.010)
    assert size.chunk(0) == pytest.approx(45, abs=1)


@pytest.mark.parametrize(("seconds", "tokens"), [(1e-7, 1024), (1.0, 8)])
def test_parts_have_bounds(seconds: float, tokens: int) -> None:
    size = PrefillChunkSize()
    size.record(0, 100, 100 * seconds)
    assert size.chunk(0) == tokens


def test_it_learns_anew() -> None:
    size = PrefillChunkSize()
    for _ in range(30):
        size.record(0, 100, 100 * 0.001)
    for _ in range(30):
        size.record(0, 100, 100 * 0.005)
    assert size.chunk(0) == pytest.approx(50, abs=2)


def test_ends_of_prompts_teach_nothing() -> None:
    """So few tokens that a step's own costs are most of it."""
    size = PrefillChunkSize()
    size.record(0, 100, 100 * 0.001)
    before = size.chunk(0)
    size.record(0, 3, 1.0)
    assert size.chunk(0) == before
