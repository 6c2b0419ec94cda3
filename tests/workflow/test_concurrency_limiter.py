"""Who waits for whom: a component's limit, and what runs say of the requests ahead of theirs."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import LocalHost, Run, load
from modelcompose_jupyter.workflow.concurrency_limiter import ConcurrencyLimiter, QueueProgress

LIMITED = """
component:
  type: model
  task: text-generation
  model: scripted
  text: ${input.prompt as list}
  max_concurrent_count: 2
"""


def ahead(run: Run) -> list[int]:
    """What a run says of its position, one after the other."""
    return [
        event.data["ahead"]
        for event in run.events_so_far()
        if event.type == "progress" and event.data["phase"] == "queue"
    ]


async def settle() -> None:
    """Let everything that is due on the loop happen."""
    for _ in range(10):
        await asyncio.sleep(0)


class Visitor:
    """Somebody who goes through a limiter, and leaves when told."""

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self.told: list[int] = []
        self.inside = False
        self.leave = asyncio.Event()
        self.task = asyncio.ensure_future(self._go(limiter))

    async def _go(self, limiter: ConcurrencyLimiter) -> None:
        async with limiter.turn(self.told.append):
            self.inside = True
            await self.leave.wait()
        self.inside = False


async def arrive(limiter: ConcurrencyLimiter, count: int) -> list[Visitor]:
    visitors = [Visitor(limiter) for _ in range(count)]
    await settle()
    return visitors


def test_a_limiter_lets_through_in_order_of_arrival() -> None:
    async def main() -> None:
        visitors = await arrive(ConcurrencyLimiter(2), 5)
        assert [each.inside for each in visitors] == [True, True, False, False, False]
        assert [each.told for each in visitors] == [[], [], [1], [2], [3]]
        visitors[1].leave.set()
        await settle()
        assert [each.inside for each in visitors] == [True, False, True, False, False]
        assert [each.told for each in visitors[2:]] == [[1, 0], [2, 1], [3, 2]]
        for each in visitors:
            each.leave.set()
        await settle()
        assert [each.told for each in visitors[2:]] == [[1, 0], [2, 1, 0], [3, 2, 1, 0]]

    asyncio.run(main())


def test_groups_take_turns_at_a_limiter() -> None:
    async def main() -> None:
        limiter, order = ConcurrencyLimiter(1), []

        async def go(name: str) -> None:
            async with limiter.turn(lambda _: None, name[0]):
                order.append(name)
                await asyncio.sleep(0)

        await asyncio.gather(*map(go, ("g1", "g2", "g3", "g4", "o1", "o2")))
        assert order == ["g1", "g2", "o1", "g3", "o2", "g4"]

    asyncio.run(main())


def test_of_very_many_who_wait_the_first_are_told_and_all_have_their_turn() -> None:
    async def main() -> None:
        limiter, told = ConcurrencyLimiter(1), Counter[int]()

        async def go(number: int) -> None:
            def hear(ahead: int) -> None:
                told[number] += 1

            async with limiter.turn(hear):
                await asyncio.sleep(0)

        await asyncio.gather(*map(go, range(3000)))
        assert len(told) == 2999  # all but the first, who does not wait
        assert told.total() < 3000 * 10

    asyncio.run(main())


def test_who_gives_up_waiting_makes_room_behind() -> None:
    async def main() -> None:
        first, second, third, fourth = await arrive(ConcurrencyLimiter(1), 4)
        second.task.cancel()
        await settle()
        assert (third.told, fourth.told) == ([2, 1], [3, 2])
        first.leave.set()
        await asyncio.sleep(0)
        third.task.cancel()  # its turn may have come already
        await settle()
        assert fourth.inside
        fourth.leave.set()
        await settle()

    asyncio.run(main())


def test_a_turn_that_comes_with_the_cancel_is_handed_on() -> None:
    async def main() -> None:
        limiter = ConcurrencyLimiter(1)
        (first,) = await arrive(limiter, 1)
        second, third = await arrive(limiter, 2)
        first.leave.set()
        while second.told[-1] != 0:
            await asyncio.sleep(0)
        assert not second.inside
        second.task.cancel()
        await settle()
        assert second.task.cancelled()
        assert third.inside
        third.leave.set()
        await settle()

    asyncio.run(main())


@pytest.mark.parametrize("size", [0, 3])
def test_a_limiter_without_a_limit_or_with_room_tells_nothing(size: int) -> None:
    async def main() -> None:
        visitors = await arrive(ConcurrencyLimiter(size), 3)
        assert all(each.inside and not each.told for each in visitors)
        for each in visitors:
            each.leave.set()
        await settle()

    asyncio.run(main())


def test_a_job_says_the_least_of_its_requests_and_nothing_new_twice() -> None:
    run = Run("flow", {}, lambda: None)

    async def main() -> None:
        waiting = QueueProgress(run, "job")
        with waiting.position() as first, waiting.position() as second:
            first(4), second(5)
            await settle()
            first(3), second(4), second(4)
            await settle()
            first(0), second(1)
            await settle()
        await settle()
        with waiting.position() as third:
            third(2)
            await settle()
            third(1)
            await settle()
        await settle()

    asyncio.run(main())
    said = [(e.data["ahead"], e.data["done"], e.data["total"]) for e in run.events_so_far()]
    assert said == [(4, 0, 4), (3, 1, 4), (0, 4, 4), (2, 0, 2), (1, 1, 2), (0, 2, 2)]


class Watched:
    """The runs of a host, and what each has said of its position."""

    def __init__(self, host: LocalHost) -> None:
        self.ahead: dict[str, list[int]] = {}
        host.observe(self._begin)

    def _begin(self, run: Run) -> None:
        self.ahead[run.id] = []
        run.watch(lambda: self._note(run))

    def _note(self, run: Run) -> None:
        event = run.events_so_far()[-1]
        if event.type == "progress" and event.data["phase"] == "queue":
            self.ahead[run.id].append(event.data["ahead"])


def test_a_component_limits_its_requests_of_all_runs() -> None:
    models = ScriptedModels(hold=("a", "b"))
    host = LocalHost(models)  # type: ignore[arg-type]
    watched = Watched(host)
    flow = load(LIMITED, host=host)
    first = flow.submit(prompt=["a", "a", "a"])
    assert models.started.acquire(timeout=30)
    assert models.started.acquire(timeout=30)
    again = load(f"# the same document, laid out otherwise\n{LIMITED}", host=host)
    second = again.submit(prompt=["x", "y"])
    other = load(LIMITED.replace("count: 2", "count: 1"), host=host)
    assert other.run(prompt=["z"]).output == {"generated": ["<z>"]}
    assert models.prompts == ["a", "a", "z"]
    models.gate.set()
    assert first.result(30) == {"generated": ["<a>"] * 3}
    assert second.result(30) == {"generated": ["<x>", "<y>"]}
    assert models.prompts == ["a", "a", "z", "a", "x", "y"]
    assert watched.ahead[first.id] == []
    assert watched.ahead[second.id][0] == 2
    assert watched.ahead[second.id] == sorted(watched.ahead[second.id], reverse=True)
    assert watched.ahead[second.id][-1] == 0
    assert ahead(second) == [0]
    assert second.timings["queue"] > 0
    host.close()


def test_a_run_that_is_stopped_while_it_waits_leaves_the_queue() -> None:
    models = ScriptedModels(hold=("a",))
    host = LocalHost(models)  # type: ignore[arg-type]
    flow = load(LIMITED.replace("count: 2", "count: 1"), host=host)
    first = flow.submit(prompt=["a"])
    assert models.started.acquire(timeout=30)
    second = flow.submit(prompt=["b"])
    third = flow.submit(prompt=["c"])
    second.cancel()
    assert second.wait(30)
    assert (second.state, first.done, third.done) == ("cancelled", False, False)
    models.gate.set()
    assert third.result(30) == {"generated": ["<c>"]}
    assert models.prompts == ["a", "c"]
    host.close()


def test_a_run_says_how_many_are_ahead_of_it_at_a_real_model() -> None:
    text = """
    component:
      type: model
      task: text-generation
      model: bundled:storyteller
      text: ${input.prompt as text}
      num_beams: 2  # so that they run in turn
      do_sample: false
      min_output_length: ${input.length as integer}
      max_output_length: ${input.length as integer}
    """
    host = LocalHost()
    watched = Watched(host)
    flow = load(text, host=host)
    first: Any = flow.submit(prompt="Once", length=200)
    next(first.stream())
    second, third = (flow.submit(prompt="Twice", length=2) for _ in range(2))
    assert third.wait(120)
    first.wait(120)
    assert watched.ahead[first.id] == []
    assert watched.ahead[second.id] == [1, 0]
    assert watched.ahead[third.id] == [2, 1, 0]
    host.close()
