"""What a peer is to the benchmark: a process that loads a model, then carries out work.

Only the standard library is used here: peers have environments of their own. A peer's script makes
an `Engine` and calls `serve`, which speaks JSON, one message a line, on standard input and output:
``{"do": "load", …}`` and ``{"do": "run", "requests": […]}``, answered by ``{"ok": …}`` or
``{"error": "…"}``.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

_HEAD = 8
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Request:
    """One text that is asked for.

    Attributes:
        prompt: its tokens; ``text`` is the text that gives them.
        tokens: how many are to be generated, exactly.
        at: seconds from the beginning of the work at which it arrives.
        after: ``(number, tokens)``: it arrives once that request has so many tokens, not at ``at``.
        temperature: draws at it; None takes the most likely token.
    """

    prompt: list[int]
    text: str
    tokens: int
    at: float = 0.0
    after: tuple[int, int] | None = None
    temperature: float | None = None

    @classmethod
    def of(cls, message: dict[str, Any]) -> Request:
        after = message["after"]
        return cls(**{**message, "after": None if after is None else (after[0], after[1])})


@dataclass(frozen=True)
class PeerSettings:
    """How a peer loads: ``precision`` is ``float32`` or ``bfloat16``, ``cache`` a folder of its own
    that is kept between runs (for conversions), ``options`` those of this peer alone."""

    folder: Path
    precision: str
    threads: int
    device: str
    cache: Path
    options: dict[str, Any]


@dataclass
class Record:
    """What became of a request; times are seconds from the beginning of the work.

    Attributes:
        arrived: when it was asked for.
        times: when each piece came: a token, or a text of one or more.
        tokens: how many came; ``head`` is the first few, where the peer tells them.
        ended: when it was known to be whole.
    """

    arrived: float
    times: list[float] = field(default_factory=list)
    tokens: int = 0
    head: list[int] = field(default_factory=list)
    ended: float | None = None


class Timeline:
    """Which requests have arrived, and when their tokens came. Any thread may call it."""

    def __init__(
        self, requests: Sequence[Request], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.requests = requests
        self._clock = clock
        self._changed = threading.Condition()
        self._records: dict[int, Record] = {}
        self._fresh: deque[int] = deque()
        self._error: BaseException | None = None
        self._started = clock()

    @property
    def done(self) -> bool:
        """Whether every request has ended.

        Raises:
            RuntimeError: one failed.
        """
        with self._changed:
            if self._error is not None:
                raise RuntimeError(f"a request failed: {self._error}") from self._error
            return self._all_ended()

    def due(self) -> list[int]:
        """The numbers of the requests that have arrived since this was last asked."""
        with self._changed:
            now = self._now()
            for number, request in enumerate(self.requests):
                if request.after is None and request.at <= now:
                    self._arrive(number, request.at)
            fresh = list(self._fresh)
            self._fresh.clear()
            return fresh

    def wait(self) -> None:
        """Wait until something arrives or ends."""
        with self._changed:
            if self._fresh or self._error is not None or self._all_ended():
                return
            pending = (
                request.at
                for number, request in enumerate(self.requests)
                if request.after is None and number not in self._records
            )
            until = min(pending, default=None)
            self._changed.wait(None if until is None else max(0.0, until - self._now()))

    def token(self, number: int, id: int | None = None) -> None:
        """A token of a request came, or a piece of text that has no number as a token."""
        with self._changed:
            record = self._records[number]
            record.times.append(self._now())
            record.tokens += 1
            if id is not None and len(record.head) < _HEAD:
                record.head.append(id)
            self._release(number, record)
            if id is not None and record.tokens >= self.requests[number].tokens:
                self._end(number, record)

    def end(self, number: int, tokens: int, head: Sequence[int] = ()) -> None:
        """A request has ended with so many tokens, of which these are the first."""
        with self._changed:
            record = self._records[number]
            record.tokens = tokens
            record.head = record.head or list(head[:_HEAD])
            self._release(number, record)
            self._end(number, record)

    def fail(self, error: BaseException) -> None:
        """A request failed, and the work with it."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def records(self) -> list[Record]:
        """What became of each request."""
        with self._changed:
            return [self._records[number] for number in range(len(self.requests))]

    def _all_ended(self) -> bool:
        records = self._records.values()
        return len(records) == len(self.requests) and all(r.ended is not None for r in records)

    def _now(self) -> float:
        return self._clock() - self._started

    def _arrive(self, number: int, at: float) -> None:
        if number not in self._records:
            self._records[number] = Record(arrived=at)
            self._fresh.append(number)
            self._changed.notify_all()

    def _release(self, number: int, record: Record) -> None:
        for later, request in enumerate(self.requests):
            if request.after is not None:
                awaited, tokens = request.after
                if awaited == number and record.tokens >= tokens:
                    self._arrive(later, self._now())

    def _end(self, number: int, record: Record) -> None:
        if record.ended is None:
            record.ended = self._now()
            self._changed.notify_all()


class Engine(ABC):
    """A peer. ``load`` returns facts worth telling, versions among them."""

    @abstractmethod
    def load(self, settings: PeerSettings) -> dict[str, Any]: ...

    @abstractmethod
    def run(self, timeline: Timeline) -> None:
        """Carry out all requests, each from its arrival on."""

    def settle(self) -> None:  # noqa: B027 (most have nothing to choose)
        """Choose again what ``load`` chose by trials: the machine is another one meanwhile."""

    def counters(self) -> dict[str, float] | None:
        """What the engine counted during the last run, if it counts."""
        return None


class CallingEngine(Engine):
    """One that takes requests at any time and calls back."""

    @abstractmethod
    def submit(self, number: int, request: Request, timeline: Timeline) -> None:
        """Ask for a text; returns at once."""

    def run(self, timeline: Timeline) -> None:
        while not timeline.done:
            for number in timeline.due():
                self.submit(number, timeline.requests[number], timeline)
            timeline.wait()


class SteppingEngine(Engine):
    """One that is driven step by step; requests join between steps."""

    @abstractmethod
    def add(self, number: int, request: Request) -> None: ...

    @abstractmethod
    def step(self) -> Iterable[tuple[int, int]]:
        """Do one step; gives the numbers of requests and the tokens that they got."""

    def run(self, timeline: Timeline) -> None:
        going = 0
        left = {number: request.tokens for number, request in enumerate(timeline.requests)}
        while not timeline.done:
            for number in timeline.due():
                self.add(number, timeline.requests[number])
                going += 1
            if not going:
                timeline.wait()
                continue
            for number, id in self.step():
                timeline.token(number, id)
                left[number] -= 1
                going -= left[number] == 0


class BlockingEngine(Engine):
    """One that generates a batch to its end before it looks at what has arrived meanwhile.

    ``batches``: requests of the same shape that wait together go together, else one by one.
    """

    batches = False

    @abstractmethod
    def generate(self, requests: Sequence[Request], on_token: Callable[[int, int], None]) -> None:
        """Carry out requests; ``on_token(place, id)`` with the place among them."""

    def run(self, timeline: Timeline) -> None:
        queue: list[int] = []
        while not timeline.done:
            queue += timeline.due()
            if not queue:
                timeline.wait()
                continue
            batch = self._batch([timeline.requests[number] for number in queue])
            numbers = [queue[place] for place in batch]
            queue = [number for number in queue if number not in numbers]
            self.generate(
                [timeline.requests[number] for number in numbers], _numbered(timeline, numbers)
            )

    def _batch(self, waiting: Sequence[Request]) -> list[int]:
        if not self.batches:
            return [0]
        shapes = [(len(r.prompt), r.tokens, r.temperature) for r in waiting]
        return [place for place, shape in enumerate(shapes) if shape == shapes[0]]


def _numbered(timeline: Timeline, numbers: list[int]) -> Callable[[int, int], None]:
    return lambda place, id: timeline.token(numbers[place], id)


def serve(engine: Engine) -> None:
    """Answer messages until standard input ends."""
    die_with_parent()
    answers = _own_stdout()
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"ok": _answer(engine, json.loads(line))}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
        print(json.dumps(answer), file=answers, flush=True)


def _answer(engine: Engine, message: dict[str, Any]) -> Any:
    if message["do"] == "load":
        settings = PeerSettings(
            **{**message["settings"], **{name: Path(message["settings"][name]) for name in _PATHS}}
        )
        return engine.load(settings)
    if message["do"] == "settle":
        return engine.settle() or {}
    timeline = Timeline([Request.of(each) for each in message["requests"]])
    engine.run(timeline)
    records = [asdict(record) for record in timeline.records()]
    return {"requests": records, "counters": engine.counters()}


_PATHS = ("folder", "cache")


def die_with_parent() -> None:
    """Have the system end this process with the one that started it, where it can (Linux).

    A process that stands still does not see that its input has ended.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _own_stdout() -> TextIO:
    """Standard output for the answers alone; what libraries print goes to standard error."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return own
