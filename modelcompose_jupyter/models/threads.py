"""How many threads a step computes with: as many as are quickest now.

Two threads beat one on an idle machine, and wait for each other on a busy one, where a step can
take ten times as long. So the steps themselves are timed, and now and then another number is tried.
The number changes no result: kernels divide their outputs among threads, not their sums.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_TRY_EVERY = 24
_TRY_SELDOM = 1536
_WORSE = 1.25


class _Choice:
    """The number for steps of about one size, found by trying its neighbours."""

    def __init__(self, counts: list[int]) -> None:
        self._counts = counts
        self._seconds: dict[int, float] = {}
        self._best = counts[-1]
        self._steps = 0
        self._patience = _TRY_EVERY
        self._next_up = False

    def next(self) -> int:
        """The number for the next step: the best one, or one that is tried."""
        self._steps += 1
        if self._steps < self._patience and len(self._seconds) > 0:
            return self._best
        self._steps = 0
        place = self._counts.index(self._best)
        self._next_up = not self._next_up
        neighbour = place + 1 if self._next_up else place - 1
        if not 0 <= neighbour < len(self._counts):
            neighbour = place - 1 if self._next_up else place + 1
        if not 0 <= neighbour < len(self._counts):
            return self._best
        return self._counts[neighbour]

    def took(self, count: int, seconds: float) -> None:
        """Learn from a step."""
        known = self._seconds.get(count)
        if count != self._best:
            self._seconds[count] = seconds
            if seconds < self._seconds.get(self._best, seconds):
                self._best, self._patience = count, _TRY_EVERY
            else:  # in vain: try less often
                self._patience = min(2 * self._patience, _TRY_SELDOM)
            return
        self._seconds[count] = seconds if known is None else 0.8 * known + 0.2 * seconds
        if known is not None and seconds > 2 * known:  # the machine became busy: look again soon
            self._patience = _TRY_EVERY
            self._steps = max(self._steps, _TRY_EVERY - 2)


class Threads:
    """Sets the number for the steps of the thread that uses it."""

    def __init__(self, device: torch.device) -> None:
        most = torch.get_num_threads() if device.type == "cpu" else 1
        counts = [most]
        while counts[0] > 1:
            counts.insert(0, counts[0] // 2)
        self._counts = counts
        self._choices: dict[int, _Choice] = {}

    @contextmanager
    def chosen(self, tokens: int) -> Iterator[None]:
        """Compute a step of so many tokens with the number that is best for it."""
        if len(self._counts) == 1:
            yield
            return
        choice = self._choices.setdefault(tokens.bit_length(), _Choice(self._counts))
        count = choice.next()
        started = time.perf_counter()
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(self._counts[-1])  # threads of others begin with what it is
        choice.took(count, (time.perf_counter() - started) / tokens)
