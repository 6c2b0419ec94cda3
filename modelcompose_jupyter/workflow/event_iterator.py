"""What a run tells as it comes, for loops of both kinds: ``for`` and ``async for``."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Protocol, TypeVar

from .events import Event

T = TypeVar("T")
_TICK = 0.1  # seconds; waits are this long at most, so that an interrupt is never late


class EventSource(Protocol):
    """What an iterator needs of a run."""

    @property
    def done(self) -> bool: ...

    @property
    def last_event(self) -> int: ...

    def events_so_far(self, after: int) -> list[Event]: ...

    def wait_for(self, holds: Callable[[], bool], timeout: float) -> bool: ...

    async def until(self, holds: Callable[[], bool], timeout: float) -> bool: ...


class EventIterator(Iterator[T], AsyncIterator[T]):
    """An iterator over a run from one of its events on, until the run has ended.

    ``for`` waits in short steps that an interrupt can end; ``async for`` never blocks its event
    loop. Of one reader; leaving a loop does nothing to the run, and another one goes on from there.

    Args:
        run: whom to listen to.
        after: the number of the last event that the reader has.
        read: gives what the reader gets of each event, None for nothing.
    """

    def __init__(self, run: EventSource, after: int, read: Callable[[Event], T | None]) -> None:
        self._run = run
        self._after = after
        self._read = read
        self._fresh: deque[Event] = deque()
        self._over = False

    def __next__(self) -> T:
        while (item := self._item()) is None:
            if self._over:
                raise StopIteration
            self._run.wait_for(self._has_more, _TICK)
        return item

    async def __anext__(self) -> T:
        # However much there is: others of the loop have their turn, and a cancel is heard.
        await asyncio.sleep(0)
        while (item := self._item()) is None:
            if self._over:
                raise StopAsyncIteration
            await self._run.until(self._has_more, _TICK)
        return item

    def _has_more(self) -> bool:
        return self._run.last_event > self._after or self._run.done

    def _item(self) -> T | None:
        """What comes next; None where nothing has come yet, or nothing will."""
        while self._fresh or self._look():
            item = self._read(self._fresh.popleft())
            if item is not None:
                return item
        return None

    def _look(self) -> bool:
        """Take in what has happened; whether anything has."""
        ended = self._run.done  # before looking: nothing comes after it
        self._fresh.extend(self._run.events_so_far(self._after))
        if self._fresh:
            self._after = self._fresh[-1].number
        else:
            self._over = ended
        return bool(self._fresh)
