"""A replica: an engine that gives all of its texts a token in each step, and reads prompts beside.

Steps are not gone through one by one. All texts have the same speed, which changes only where one
begins or ends, so how far each is follows from one number: the tokens that a text has got that was
there all the time. Prompts are read as the engine reads them: those that wait go into steps
together, each of which has as much of prompts as `prefill_chunk` allows.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, OrderedDict, deque

from modelcompose_jupyter.models.engine import prefill_chunk

from .service_times import EngineTimes
from .workload import Ask

_BESIDE = prefill_chunk._DECODE_STEPS
_ALONE = prefill_chunk._ALONE_SECONDS
_NEVER = math.inf


class KeptPrefixes:
    """The prefix cache: chats, the one first that was used least recently.

    Args:
        most_tokens, most_texts: that there are at once.
    """

    def __init__(self, most_tokens: int, most_texts: int) -> None:
        self._most_tokens = most_tokens
        self._most_texts = most_texts
        self._kept: OrderedDict[int, tuple[int, int]] = OrderedDict()  # class, tokens; by the chat
        self._tokens = 0
        self.classes: Counter[int] = Counter()
        """How many texts of each class there are, here and among those that run."""

    def reused(self, ask: Ask) -> int:
        """Tokens of its prompt that are there."""
        if ask.known and ask.chat in self._kept:
            self._kept.move_to_end(ask.chat)
            return ask.known
        return ask.shared if self.classes[ask.kind] else 0

    def keep(self, ask: Ask) -> None:
        """Keep what is known of a run that has ended, and was among those that run."""
        self._drop(ask.chat)
        tokens = ask.prompt + ask.reply
        self._kept[ask.chat] = (ask.kind, tokens)  # it was counted when it began
        self._tokens += tokens
        while self._tokens > self._most_tokens or len(self._kept) > self._most_texts:
            self._drop(next(iter(self._kept)))

    def _drop(self, chat: int) -> None:
        kind, tokens = self._kept.pop(chat, (-1, 0))
        if tokens:
            self._tokens -= tokens
            self.classes[kind] -= 1


class Replica:
    """See the module.

    Args:
        name: on the ring.
        most_runs: that have not ended; it refuses others.

    Attributes:
        version: of what `next_time` last said.
        runs: how many have not ended.
    """

    def __init__(self, name: str, times: EngineTimes, most_runs: int) -> None:
        self.name = name
        self.version = 0
        self.runs = 0
        self._times = times
        self._most_runs = most_runs
        self._kept = KeptPrefixes(times.kept_tokens, times.kept_texts)
        self._waiting: deque[Ask] = deque()
        self._reading: list[Ask] = []
        self._going: list[tuple[float, int, Ask]] = []  # a heap, by the tokens at which each ends
        self._begun = 0
        self._now = 0.0
        self._tokens = 0.0  # of a text that was there all the time
        self._seconds = _NEVER  # of one token
        self._read_at = _NEVER  # when what is read will be there

    @property
    def is_full(self) -> bool:
        return self.runs >= self._most_runs

    def add(self, ask: Ask, now: float) -> None:
        """A run arrives."""
        self._settle(now)
        self.runs += 1
        self._waiting.append(ask)
        if not self._reading:
            # A step is not interrupted: it is half over, on average.
            self._read(self._times.step(len(self._going)) / 2 if self._going else 0.0)

    def next_time(self) -> float:
        """When something happens next, if nothing is added before."""
        ends = _NEVER
        if self._going:
            ends = self._now + max(0.0, self._going[0][0] - self._tokens) * self._seconds
        return min(ends, self._read_at)

    def pass_until(self, now: float) -> tuple[list[Ask], list[Ask]]:
        """Let the moment come that `next_time` said. Returns the runs whose first token is there,
        and those that have ended."""
        self._settle(now)
        ended, firsts = [], []
        while self._going and self._going[0][0] <= self._tokens + 1e-6:
            ended.append(heapq.heappop(self._going)[2])
        if now >= self._read_at:
            firsts, self._reading = self._reading, []
            for ask in firsts:
                if ask.reply == 1:
                    ended.append(ask)
                else:
                    self._begun += 1
                    end = self._tokens + ask.reply - 1
                    heapq.heappush(self._going, (end, self._begun, ask))
        for ask in ended:
            self._kept.keep(ask)
        self.runs -= len(ended)
        if not self._reading:
            self._read(0.0)
        return firsts, ended

    def all(self) -> list[Ask]:
        """Its runs that have not ended."""
        return [*(each[2] for each in self._going), *self._reading, *self._waiting]

    def _settle(self, now: float) -> None:
        if self._going:
            self._tokens += (now - self._now) / self._seconds
        self._now = now

    def _read(self, delay: float) -> None:
        """Begin to read prompts, as many as steps take together, if some wait and there is room."""
        times, texts = self._times, len(self._going)
        budget = _BESIDE * times.step(texts) if texts else _ALONE
        seconds = 0.0
        while self._waiting and texts + len(self._reading) < times.most_texts:
            ask = self._waiting[0]
            ask.reused = min(self._kept.reused(ask), ask.prompt - 1)
            more = (ask.prompt - ask.reused) * times.prompt_token
            if self._reading and seconds + more > budget:
                break
            seconds += more
            self._reading.append(self._waiting.popleft())
            self._kept.classes[ask.kind] += 1
        if not self._reading:
            self._read_at = _NEVER
            self._seconds = times.step(texts)
            return
        steps = max(1, math.ceil(seconds / budget))
        duration = delay + seconds + steps * times.step(texts)
        self._read_at = self._now + duration
        self._seconds = duration / steps
