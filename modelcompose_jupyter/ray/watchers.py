"""Which servers watch the runs of a replica, and which runs nobody watches any more.

A server that is killed does not say so, and its callers come back by another one, which watches the
run then. Where nobody does for as long as a run may go on so, it is to end.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

PATIENCE = 20.0
"""Seconds that servers and callers have at least to find a run again."""


@dataclass
class _Watched:
    linger: float | None
    servers: Counter[str] = field(default_factory=Counter)
    unwatched_since: float | None = None


class Watchers:
    """See the module.

    Args:
        now: the seconds of a clock that only goes on.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._runs: dict[str, _Watched] = {}

    def join(self, run: str, server: str, linger: float | None) -> None:
        """A server watches a run, which goes on for so many seconds while nobody does; None is to
        its end."""
        watched = self._runs.setdefault(run, _Watched(linger))
        watched.servers[server] += 1

    def leave(self, run: str, server: str) -> None:
        """It does not any more."""
        if run in self._runs:
            self._runs[run].servers[server] -= 1

    def forget(self, run: str) -> None:
        """A run has ended."""
        self._runs.pop(run, None)

    def known(self) -> list[str]:
        """The runs that have not been forgotten."""
        return list(self._runs)

    def unwatched(self, servers: Collection[str]) -> list[str]:
        """The runs whose time is over; ``servers`` are those that live."""
        over = []
        for id, watched in self._runs.items():
            if any(watched.servers[server] > 0 for server in servers):
                watched.unwatched_since = None
                continue
            if watched.unwatched_since is None:
                watched.unwatched_since = self._now()
            seconds = self._now() - watched.unwatched_since
            if watched.linger is not None and seconds > max(watched.linger, PATIENCE):
                over.append(id)
        return over
