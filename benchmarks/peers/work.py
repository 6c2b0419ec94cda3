"""The work that peers are given, and what is read off their answers."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from .protocol import Request
from .weights import SEED, Prompts

Records = list[dict[str, Any]]


@dataclass(frozen=True)
class Measure:
    """One figure of an item of work; ``of`` is None where the answers do not have it."""

    name: str
    unit: str
    better: Literal["lower", "higher"]
    of: Callable[[Records], float | None]


@dataclass(frozen=True)
class Work:
    """One item of work.

    Attributes:
        requests: its requests, with empty prompts whose lengths are in ``lengths``.
        same: requests (number, of number) that have the prompt of another one.
        kind: which peers can do it.
        busy: whether another process keeps one core busy meanwhile.
    """

    name: str
    title: str
    lengths: Sequence[int]
    requests: Sequence[Request]
    measures: Sequence[Measure]
    same: tuple[tuple[int, int], ...] = ()
    kind: Literal["engine", "http"] = "engine"
    busy: bool = False

    @property
    def context(self) -> int:
        """Tokens that a model must be able to attend to."""
        pairs = zip(self.lengths, self.requests, strict=True)
        return max(length + request.tokens for length, request in pairs)

    def ready(self, prompts: Prompts, round: int) -> list[Request]:
        """The requests with the prompts of a round: new ones, that no cache knows from before."""
        chance = random.Random(f"{SEED}/{self.name}/{round}")
        drawn = [prompts.draw(length, chance) for length in self.lengths]
        for number, other in self.same:
            drawn[number] = drawn[other]
        pairs = zip(self.requests, drawn, strict=True)
        return [replace(request, prompt=ids, text=text) for request, (ids, text) in pairs]

    def shortened(self, tokens: int) -> Work:
        """The same with at most so many tokens a text, to see that all of it works."""
        requests = []
        for request in self.requests:
            after = request.after
            if after is not None:
                whole = after[1] >= self.requests[after[0]].tokens
                after = (after[0], tokens if whole else min(after[1], tokens // 2))
            requests.append(replace(request, tokens=min(request.tokens, tokens), after=after))
        return replace(self, requests=requests)


def _asked(tokens: int, **options: Any) -> Request:
    return Request([], "", tokens, **options)


# Measures


def token_time(record: dict[str, Any]) -> float | None:
    """Seconds of each token after the first."""
    times = record["times"]
    if record["tokens"] < 2 or len(times) < 2:
        return None
    return float(times[-1] - times[0]) / (record["tokens"] - 1)


def first_token(record: dict[str, Any]) -> float:
    """Seconds from arrival to the first token."""
    return float(record["times"][0] - record["arrived"])


def latency(record: dict[str, Any]) -> float:
    """Seconds from arrival to the end."""
    return float(record["ended"] - record["arrived"])


def throughput(records: Records) -> float:
    """Tokens a second, from the first arrival to the last end."""
    began = min(record["arrived"] for record in records)
    ended = max(record["ended"] for record in records)
    return float(sum(record["tokens"] for record in records) / (ended - began))


def gaps(records: Records, began: float, ended: float) -> list[float]:
    """Seconds between tokens of each stream, of gaps that lie at least partly in this time."""
    found = []
    for record in records:
        for before, after in zip(record["times"], record["times"][1:], strict=False):
            if after > began and before < ended:
                found.append(after - before)
    return found


def _gaps_while_last_is_read(records: Records) -> list[float]:
    last = records[-1]
    return gaps(records[:-1], last["arrived"], last["times"][0])


_MS = 1000.0
_TOKENS_PER_SECOND = Measure("tokens a second", "1/s", "higher", throughput)
_MEDIAN_LATENCY = Measure(
    "text, median", "s", "lower", lambda rs: statistics.median(map(latency, rs))
)


def _first_of(number: int, name: str) -> Measure:
    return Measure(name, "ms", "lower", lambda rs: first_token(rs[number]) * _MS)


def _median_first() -> Measure:
    return Measure(
        "first token, median",
        "ms",
        "lower",
        lambda rs: statistics.median(first_token(r) * _MS for r in rs),
    )


def _ms_per_token(records: Records) -> float | None:
    each = token_time(records[0])
    return None if each is None else each * _MS


def _gap(name: str, of: Callable[[list[float]], float]) -> Measure:
    def measured(records: Records) -> float | None:
        found = _gaps_while_last_is_read(records)
        return of(found) * _MS if found else None

    return Measure(name, "ms", "lower", measured)


_STREAM = [Measure("token", "ms", "lower", _ms_per_token), _first_of(0, "first token")]


# Items


def _streams(count: int) -> Work:
    return Work(
        f"{count}-streams",
        f"{count} streams at once, 32 to 128 tokens",
        [32] * count,
        [_asked(128)] * count,
        [_TOKENS_PER_SECOND, _median_first(), _MEDIAN_LATENCY],
    )


def _sampled(work: Work) -> Work:
    """The same with tokens that are drawn, as models are used."""
    requests = [replace(request, temperature=0.7) for request in work.requests]
    return replace(
        work, name=f"{work.name}-sampled", title=f"{work.title}, sampled", requests=requests
    )


def _arrivals(count: int, seconds: float) -> Work:
    chance = random.Random(SEED)
    moments = sorted(chance.uniform(0, seconds) for _ in range(count))
    return Work(
        "arrivals",
        f"{count} streams that arrive at random within {seconds:g} s, 32 to 128 tokens",
        [32] * count,
        [_asked(128, at=at) for at in moments],
        [_TOKENS_PER_SECOND, _median_first(), _MEDIAN_LATENCY],
    )


def _prompt(length: int) -> Work:
    return Work(
        f"prompt-{length}",
        f"a prompt of {length:,} tokens",
        [length],
        [_asked(16)],
        [_first_of(0, "first token")],
    )


ONE_STREAM = "one-stream"
_ONE = Work(ONE_STREAM, "one stream, 32 to 128 tokens", [32], [_asked(128)], _STREAM)
_SIXTEEN = _streams(16)
_SIXTY_FOUR = _streams(64)  # for GPUs
_ITEMS = (
    _ONE,
    _streams(4),
    _SIXTEEN,
    _sampled(_ONE),
    _sampled(_SIXTEEN),
    _SIXTY_FOUR,
    _arrivals(16, 5.0),
    _prompt(512),
    _prompt(4000),
    Work(
        "prompt-again",
        "a prompt of 1,500 tokens, then again with another temperature",
        [1500, 1500],
        [_asked(16), _asked(16, after=(0, 16), temperature=0.9)],
        [_first_of(0, "first token"), _first_of(1, "first token, again")],
        same=((1, 0),),
    ),
    Work(
        "first-under-load",
        "one that arrives while 8 streams run",
        [32] * 9,
        [*[_asked(128)] * 8, _asked(16, after=(0, 32))],
        [_first_of(8, "its first token")],
    ),
    Work(
        "long-prompt",
        "a prompt of 4,000 tokens that arrives while 4 streams run",
        [32] * 4 + [4000],
        [*[_asked(128)] * 4, _asked(16, after=(0, 32))],
        [
            _first_of(4, "its first token"),
            _gap("gap of the others, median", statistics.median),
            _gap("gap of the others, worst", max),
        ],
    ),
    Work(
        "busy-core",
        "one stream while another process keeps a core busy",
        [32],
        [_asked(128)],
        _STREAM,
        busy=True,
    ),
    Work(
        "http-clients",
        "16 clients over HTTP, 32 to 64 tokens",
        [32] * 16,
        [_asked(64)] * 16,
        [_TOKENS_PER_SECOND, _MEDIAN_LATENCY],
        kind="http",
    ),
)
WORK = {work.name: work for work in _ITEMS}
USUAL = tuple(name for name in WORK if name != _SIXTY_FOUR.name)
"""What is measured unless it is said otherwise."""


@contextmanager
def disturbance() -> Iterator[None]:
    """Another process that keeps one core busy."""
    spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        spinning.kill()
        spinning.wait()
