"""How many threads a step computes with: as many as are quickest now.

Two threads beat one on an idle machine, and wait for each other on a busy one, where a step can
take ten times as long. So the steps themselves are timed, and now and then another number is tried.
The number changes no result: kernels divide their outputs among threads, not their sums.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import torch

_TRY_EVERY = 24
_TRY_SELDOM = 1536
_SLOWER = 1.5
_DRIFT = 1.01
_KEPT = 5


class _Choice:
    """The number for steps of about one size, found by trying its neighbours."""

    def __init__(self, counts: list[int]) -> None:
        self._counts = counts
        self._seconds: dict[int, deque[float]] = {count: deque(maxlen=_KEPT) for count in counts}
        self._best = counts[-1]
        self._usual = float("inf")
        self._steps = 0
        self._patience = _TRY_EVERY
        self._next_up = False
        self._alarmed = False
        self._tried: int | None = None

    def next(self, urgent: bool = False) -> int:
        """The number for the next step: the best one, or one that is tried.

        Where somebody waits (``urgent``) none is tried unless the machine became busy.
        """
        if self._tried is not None:
            return self._tried
        self._steps += not urgent
        is_due = self._alarmed or self._steps >= self._patience
        if not is_due or not self._seconds[self._best]:
            return self._best
        self._steps, self._alarmed = 0, False
        place = self._counts.index(self._best)
        self._next_up = not self._next_up
        neighbours = [place + 1, place - 1] if self._next_up else [place - 1, place + 1]
        there = [each for each in neighbours if 0 <= each < len(self._counts)]
        self._tried = self._counts[there[0]]
        self._seconds[self._tried].clear()
        return self._tried

    def took(self, count: int, seconds: float) -> None:
        """Learn from a step."""
        self._seconds[count].append(seconds)
        if count == self._tried:
            self._judge(count)
        elif count == self._best:
            self._notice()

    def _judge(self, tried: int) -> None:
        """After the first step of a trial, whether to go on; after the second, whether to stay."""
        times = self._seconds[tried]
        if max(times) >= median(self._seconds[self._best]):
            self._tried = None  # in vain: try less often
            self._patience = min(2 * self._patience, _TRY_SELDOM)
        elif len(times) > 1:
            self._best, self._tried = tried, None
            self._patience, self._usual = _TRY_EVERY, median(times)

    def _notice(self) -> None:
        """Where steps take longer than they did, the machine became busy: look again soon."""
        now = median(self._seconds[self._best])
        if now > _SLOWER * self._usual:
            self._patience = _TRY_EVERY
            self._alarmed = True
            self._usual = now
        # Steps of a longer text take longer, and the machine is no busier for it.
        self._usual = min(_DRIFT * self._usual, now)


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
    def chosen(self, tokens: int, urgent: bool = False) -> Iterator[None]:
        """Compute a step of so many tokens with the number that is best for it.

        Args:
            urgent: others wait for it longer than usual anyway, so it is no time to try.
        """
        if len(self._counts) == 1:
            yield
            return
        choice = self._choices.setdefault(tokens.bit_length(), _Choice(self._counts))
        count = choice.next(urgent)
        started = time.perf_counter()
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(self._counts[-1])  # threads of others begin with what it is
        choice.took(count, (time.perf_counter() - started) / tokens)
