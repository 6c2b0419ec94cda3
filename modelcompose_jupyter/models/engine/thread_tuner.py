"""Tunes how many threads a step computes with, from the times of the steps themselves.

Two threads beat one on an idle machine. On a busy one they wait for each other, and a step can take
ten times as long. So now and then a step is a trial of another number. The number changes no
result: kernels divide their outputs among threads, not their sums.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from .runner import Runner

_SHORTEST_INTERVAL = 24
"""Steps between trials; twice as many after each that was in vain, up to the longest."""
_LONGEST_INTERVAL = 1536
_SLOWER = 1.5
"""Steps that take so much longer than the baseline show that the machine became busy."""
_DRIFT = 1.01
_WINDOW = 5
"""Step times of which the median counts."""


class _Tuner:
    """Finds the number for steps of about one size, by trials of the next lower and higher."""

    def __init__(self, counts: list[int]) -> None:
        self._counts = counts
        self._seconds: dict[int, deque[float]] = {count: deque(maxlen=_WINDOW) for count in counts}
        self._best = counts[-1]
        self._baseline = float("inf")
        self._steps = 0
        self._interval = _SHORTEST_INTERVAL
        self._upwards = False
        self._is_slower = False
        self._trial: int | None = None

    def next(self, without_trials: bool = False) -> int:
        """The number for the next step: the best one, or that of a trial.

        ``without_trials`` has none unless the machine became busy.
        """
        if self._trial is not None:
            return self._trial
        self._steps += not without_trials
        is_due = self._is_slower or self._steps >= self._interval
        if not is_due or not self._seconds[self._best]:
            return self._best
        self._steps, self._is_slower = 0, False
        place = self._counts.index(self._best)
        self._upwards = not self._upwards
        neighbours = [place + 1, place - 1] if self._upwards else [place - 1, place + 1]
        there = [each for each in neighbours if 0 <= each < len(self._counts)]
        self._trial = self._counts[there[0]]
        self._seconds[self._trial].clear()
        return self._trial

    def record(self, count: int, seconds: float) -> None:
        """Take the time of a step into account."""
        self._seconds[count].append(seconds)
        if count == self._trial:
            self._judge(count)
        elif count == self._best:
            self._watch_baseline()

    def _judge(self, tried: int) -> None:
        """Give up a trial that was slower; after two steps that were not, stay with its number."""
        times = self._seconds[tried]
        if max(times) >= median(self._seconds[self._best]):
            self._trial = None
            self._interval = min(2 * self._interval, _LONGEST_INTERVAL)
        elif len(times) > 1:
            self._best, self._trial = tried, None
            self._interval, self._baseline = _SHORTEST_INTERVAL, median(times)

    def _watch_baseline(self) -> None:
        """Make a trial due where steps became much slower: then the machine became busy."""
        now = median(self._seconds[self._best])
        if now > _SLOWER * self._baseline:
            self._interval = _SHORTEST_INTERVAL
            self._is_slower = True
            self._baseline = now
        # It rises slowly, since steps of longer texts take longer.
        self._baseline = min(_DRIFT * self._baseline, now)


class Threads:
    """Sets a runner's number of threads for each step. Only the engine's thread may use it."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        counts = [runner.most_threads]
        while counts[0] > 1:
            counts.insert(0, counts[0] // 2)
        self._counts = counts
        self._tuners: dict[int, _Tuner] = {}

    @contextmanager
    def chosen(self, tokens: int, without_trials: bool = False) -> Iterator[None]:
        """The context of a step of so many tokens, which is timed.

        Args:
            without_trials: this step makes others wait anyway, so it is no time to try.
        """
        if len(self._counts) == 1:
            yield
            return
        tuner = self._tuners.setdefault(tokens.bit_length(), _Tuner(self._counts))
        count = tuner.next(without_trials)
        started = time.perf_counter()
        self._runner.threads = count
        try:
            yield
        finally:
            self._runner.threads = self._counts[-1]  # threads of others begin with what it is
        tuner.record(count, (time.perf_counter() - started) / tokens)
