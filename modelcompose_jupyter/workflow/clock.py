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

    Attributes:
        seconds: how many.
        waited: seconds for which it has stood still, until it went on last.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.waited = 0.0
        self._left = seconds
        self._timeout = asyncio.timeout(None)
        self._goes = True
        self._since = 0.0  # when it went on or stood still, of the loop's time
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
        self._since = asyncio.get_running_loop().time()
        self._set()
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
        if not self._is_open or self._timeout.expired():
            return
        now = asyncio.get_running_loop().time()
        goes = self._works > 0 or self._waits == 0
        if goes == self._goes:
            return
        if goes:
            self.waited += now - self._since
        elif self._left is not None:
            self._left -= now - self._since
        self._goes, self._since = goes, now
        self._set()

    def _set(self) -> None:
        left = self._left if self._goes else None
        self._timeout.reschedule(None if left is None else self._since + left)


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
