"""Waiting for one's turn: a component's limit, and how many are ahead as the run says it.

Everything here is on the host's event loop, except for what says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Iterator

from ..models import OnQueued
from .run import Run


class Gate:
    """Lets so many through at a time, the others in their order; 0 lets all through."""

    def __init__(self, size: int) -> None:
        self._free = size or math.inf
        self._queue: dict[asyncio.Future[None], OnQueued] = {}

    @contextlib.asynccontextmanager
    async def turn(self, on_queued: OnQueued) -> AsyncIterator[None]:
        """Wait for a turn, and hold it; who waits is told how many must end first, then 0."""
        await self._enter(on_queued)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, on_queued: OnQueued) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue[turn] = on_queued
        on_queued(len(self._queue))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                del self._queue[turn]
                self._tell()
            else:  # its turn came in the same moment
                self._leave()
            raise

    def _leave(self) -> None:
        if not self._queue:
            self._free += 1
            return
        turn = next(iter(self._queue))
        on_queued = self._queue.pop(turn)
        turn.set_result(None)
        on_queued(0)
        self._tell()

    def _tell(self) -> None:
        for ahead, on_queued in enumerate(self._queue.values(), 1):
            on_queued(ahead)


class Waiting:
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
