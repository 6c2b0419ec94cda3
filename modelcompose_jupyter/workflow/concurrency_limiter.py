"""A component's limit of requests at once, and their queue positions as a run's progress.

Everything here is on the host's event loop, except for what says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Hashable, Iterator

from ..models.request_queue import FairQueue, OnQueued, QueuePosition, QueueUpdates
from .run import Run


class ConcurrencyLimiter:
    """A fair semaphore: lets so many through at a time; 0 lets all through.

    The others wait in the order in which they came, round-robin between their groups, and are told
    their positions.
    """

    def __init__(self, size: int) -> None:
        self._free = size or math.inf
        self._waiters: FairQueue[_Waiter] = FairQueue()
        self._updates = QueueUpdates()
        self._telling: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def turn(self, on_queued: OnQueued, group: Hashable = None) -> AsyncIterator[None]:
        """Wait for a turn, and hold it; who waits is told how many must end first, then 0."""
        await self._acquire(on_queued, group)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, on_queued: OnQueued, group: Hashable) -> None:
        if self._free:
            self._free -= 1
            return
        waiter = _Waiter(on_queued)
        self._waiters.put(waiter, group)
        waiter.position.tell(len(self._waiters))
        self._tell()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.cancelled():
                self._waiters.remove(waiter)
                self._tell()
            else:  # its turn came in the same moment
                self._release()
            raise

    def _release(self) -> None:
        while self._waiters:
            waiter = self._waiters.pop()
            if not waiter.turn.done():  # else who waited has just given up
                waiter.turn.set_result(None)
                waiter.position.tell(0)
                self._tell()
                return
        self._free += 1

    def _tell(self) -> None:
        """Tell those who wait their positions, now or soon."""
        if self._telling is not None:
            return
        if pause := self._updates.pause:
            self._telling = asyncio.get_running_loop().call_later(pause, self._tell_now)
        else:
            self._tell_now()

    def _tell_now(self) -> None:
        self._telling = None
        self._updates.tell(QueueUpdates.positions(self._waiters))


class _Waiter:
    def __init__(self, on_queued: OnQueued) -> None:
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.position = QueuePosition(on_queued)


class QueueProgress:
    """Says the queue position of a job as the run's progress.

    It is the least of its requests', and 0 as soon as one of them has its turn.
    """

    def __init__(self, run: Run, job: str) -> None:
        self._run = run
        self._job = job
        self._ahead: dict[object, int] = {}
        self._said = self._most = 0

    @contextlib.contextmanager
    def position(self) -> Iterator[OnQueued]:
        """The position of one request, while it lasts; gives what any thread may tell it."""
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
