"""Seconds that something may take in which it works: waiting for a person's answer is not counted.

A run and each attempt of a job may be bounded so. What works and what waits within says so, and all
bounds around it count accordingly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import TracebackType

_clocks: ContextVar[tuple[Clock, ...]] = ContextVar("clocks", default=())


class Clock:
    """Ends what is done within it after so many seconds, by a TimeoutError; None is never.

    It stands still while something within waits for an answer and nothing works.
    """

    def __init__(self, seconds: float | None) -> None:
        self._left = seconds
        self._timeout = asyncio.timeout(None)
        self._since: float | None = None  # of the loop's time; None while it stands still
        self._works = self._waits = 0
        self._is_open = False
        self._token: Token[tuple[Clock, ...]] | None = None

    @property
    def expired(self) -> bool:
        return self._timeout.expired()

    async def __aenter__(self) -> Clock:
        await self._timeout.__aenter__()
        self._token = _clocks.set((*_clocks.get(), self))
        self._is_open = True
        self._update()
        return self

    async def __aexit__(
        self,
        type_: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._token is not None
        self._is_open = False
        _clocks.reset(self._token)
        await self._timeout.__aexit__(type_, error, traceback)

    def count(self, works: int, waits: int) -> None:
        """So many more work and wait within."""
        self._works += works
        self._waits += waits
        self._update()

    def _update(self) -> None:
        if self._left is None or not self._is_open or self._timeout.expired():
            return
        now = asyncio.get_running_loop().time()
        goes = self._works > 0 or self._waits == 0
        if goes and self._since is None:
            self._since = now
            self._timeout.reschedule(now + self._left)
        elif not goes and self._since is not None:
            self._left -= now - self._since
            self._since = None
            self._timeout.reschedule(None)


@contextmanager
def working() -> Iterator[None]:
    """Something works for as long as this is open."""
    with _counted(1, 0):
        yield


@contextmanager
def waiting() -> Iterator[None]:
    """Something waits for an answer for as long as this is open."""
    with _counted(0, 1):
        yield


@contextmanager
def _counted(works: int, waits: int) -> Iterator[None]:
    clocks = _clocks.get()
    for clock in clocks:
        clock.count(works, waits)
    try:
        yield
    finally:
        for clock in clocks:
            clock.count(-works, -waits)
