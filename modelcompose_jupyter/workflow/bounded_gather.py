"""Many calls, few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

MAX_CONCURRENT_CALLS = 32
"""How many calls of one job run at a time; more would only wait, and cost memory meanwhile."""

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

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(count, most)):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        raise first_of(errors) from None
    return [results[index] for index in range(count)]


def first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group; the others are its consequences."""
    error: BaseException = errors.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error
