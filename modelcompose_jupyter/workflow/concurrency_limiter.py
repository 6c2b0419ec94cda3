"""Waiting for one's turn: a component's limit, and how many are ahead as the run says it.

Everything here is on the host's event loop, except for what says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections.abc import AsyncIterator, Hashable, Iterator

from ..models import OnQueued, QueuePosition, QueueUpdates
from ..models.engine.fair_queue import FairQueue
from .run import Run


class ConcurrencyLimiter:
    """Lets so many through at a time; 0 lets all through.

    The others wait in the order in which they came; where they are of several groups, these take
    turns.
    """

    def __init__(self, size: int) -> None:
        self._free = size or math.inf
        self._queue: FairQueue[_Visitor] = FairQueue()
        self._updates = QueueUpdates()
        self._telling: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def turn(self, on_queued: OnQueued, group: Hashable = None) -> AsyncIterator[None]:
        """Wait for a turn, and hold it; who waits is told how many must end first, then 0."""
        await self._enter(on_queued, group)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, on_queued: OnQueued, group: Hashable) -> None:
        if self._free:
            self._free -= 1
            return
        visitor = _Visitor(on_queued)
        self._queue.put(visitor, group)
        visitor.place.tell(len(self._queue))
        self._tell()
        try:
            await visitor.turn
        except asyncio.CancelledError:
            if visitor.turn.cancelled():
                self._queue.remove(visitor)
                self._tell()
            else:  # its turn came in the same moment
                self._leave()
            raise

    def _leave(self) -> None:
        while self._queue:
            visitor = self._queue.pop()
            if not visitor.turn.done():  # else who waited has just given up
                visitor.turn.set_result(None)
                visitor.place.tell(0)
                self._tell()
                return
        self._free += 1

    def _tell(self) -> None:
        """Tell those who wait how many must end first, now or soon."""
        if self._telling is not None:
            return
        if pause := self._updates.pause:
            self._telling = asyncio.get_running_loop().call_later(pause, self._tell_now)
        else:
            self._tell_now()

    def _tell_now(self) -> None:
        self._telling = None
        count = 0
        for visitor in itertools.islice(self._queue, QueueUpdates.MOST_TOLD):
            count += 1
            visitor.place.tell(count)
        self._updates.told(count)


class _Visitor:
    def __init__(self, on_queued: OnQueued) -> None:
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.place = QueuePosition(on_queued)


class QueueProgress:
    """Says how many requests are ahead of those of a job, as the run's progress.

    That is the least of those who wait, and 0 as soon as one of them has its turn.
    """

    def __init__(self, run: Run, job: str) -> None:
        self._run = run
        self._job = job
        self._ahead: dict[object, int] = {}
        self._said = self._most = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[OnQueued]:
        """A place for one request; gives what any thread may tell how many are ahead of it."""
        request, loop = object(), asyncio.get_running_loop()

        def on_queued(ahead: int) -> None:
            loop.call_soon_threadsafe(self._put, request, ahead)

        self._ahead[request] = 0
        try:
            yield on_queued
        finally:
            del self._ahead[request]
            loop.call_soon(self._say)  # after what was told before, another's turn perhaps

    def _put(self, request: object, ahead: int) -> None:
        if request in self._ahead:
            self._ahead[request] = ahead
            self._say()

    def _say(self) -> None:
        ahead = min(self._ahead.values(), default=0)
        if ahead == self._said:
            return
        self._most = max(ahead, self._most if self._said else 0)
        self._said = ahead
        data = {"phase": "queue", "job": self._job, "ahead": ahead, "unit": "requests"}
        self._run.add("progress", {**data, "done": self._most - ahead, "total": self._most})
