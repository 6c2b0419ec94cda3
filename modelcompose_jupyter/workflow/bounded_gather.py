"""Many calls, few at a time; and what is done together at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from ..errors import ComposeError

MAX_CONCURRENT_CALLS = 32
"""How many calls of one job of a run go on at a time, whatever is within it; more would only wait,
and cost memory meanwhile."""

T = TypeVar("T")


async def bounded_gather(
    count: int,
    call: Callable[[int], Awaitable[T]],
    on_ended: Callable[[int, int], None],
    most: int = MAX_CONCURRENT_CALLS,
) -> list[T]:
    """The results of ``call(0)`` to ``call(count - 1)``, in order; ``most`` run at a time.
    ``on_ended(done, count)`` is called whenever one has ended. The first that fails ends the
    others, and its error is raised."""
    results: dict[int, T] = {}
    indexes = iter(range(count))

    async def work() -> None:
        for index in indexes:
            results[index] = await call(index)
            on_ended(len(results), count)

    await together(work() for _ in range(min(count, most)))
    return [results[index] for index in range(count)]


async def together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for coroutines, each in a task of its own. The first that fails ends the others, and its
    error is raised; not so where who waits is cancelled in the same moment, which counts for more:
    what goes on from an error would go on in a run that is stopped."""

    async def all_of() -> None:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(_ending(work))

    waiting = asyncio.current_task()
    assert waiting is not None
    try:
        # In a task of its own: until Python 3.13 one in which a group has failed counts as
        # cancelled from then on, and a timeout around it is none any more.
        await asyncio.create_task(all_of())
    except BaseExceptionGroup as errors:
        if waiting.cancelling():
            raise asyncio.CancelledError from None
        raise errors.exceptions[0] from None


async def _ending(work: Coroutine[Any, Any, None]) -> None:
    """Wait for a coroutine. Where it is cancelled by what it calls that is an error: a group pays
    no heed to it, and whoever waits for what it was to do would wait for ever."""
    task = asyncio.current_task()
    assert task is not None
    try:
        await work
    except asyncio.CancelledError:
        if task.cancelling():
            raise
        raise ComposeError(
            "what it waited for was cancelled, and not by the run", code="wait_cancelled"
        ) from None
