"""One request to a model: the handle that its caller holds, and its result."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from ..document.types import Message

Prompt = str | list[Message]
"""What a model is asked: a text to go on with, or the messages of a chat to reply to."""

OnText = Callable[[int, int, str], None]
"""``on_text(sequence, offset, text)``: the text belongs at this character of that sequence.

The offset is the length so far: what was told is never taken back. Called on the engine's thread;
for a request that never ran, on that of who cancels it.
"""

Owner = tuple[Hashable, ...]
"""Who asks: a group and somebody in it, or somebody alone."""

OnQueued = Callable[[int], None]
"""``on_queued(ahead)``: so many requests must end before this one starts, which it does at 0.

Called when the request must wait, and whenever that falls. On any thread, one call at a time.
"""


@dataclass(frozen=True)
class GenerationResult:
    """What came of a request.

    Attributes:
        texts: one per sequence; each begins with the prompt as it was used, unless the request
            excluded it, or the text is a reply: to the messages of a chat, or an encoder-decoder's.
        finish_reasons: one per sequence: ``eos``, ``stop``, ``length`` or ``cancelled``.
        usage: tokens: ``prompt``, ``reused`` (of the prompt, from earlier requests), ``generated``
            (over all sequences, end tokens included); with speculation also ``draft_tokens``
            and, of these, ``accepted_tokens``.
        parameters: those really used; ``seed`` is always there.
        warnings: a sentence for each parameter that was changed or had no effect.
        timings: seconds since the request was made: ``queue``, ``first_token``, ``total``; and
            ``tokens_per_second`` after the queue.
        model: ``source``, ``revision``, ``device``, ``precision`` and ``class`` of the model.
    """

    texts: list[str]
    finish_reasons: list[str]
    usage: dict[str, int]
    parameters: dict[str, Any]
    warnings: list[str]
    timings: dict[str, float]
    model: dict[str, Any]


class Cancelled(Exception):
    """Nobody wants the result of a request any more, which has not begun to generate."""


def unwatched() -> None:
    """Looks in place of one who may cancel, where there is none."""


class Generation:
    """A handle on one request; it holds no weights, so it may be kept as long as wanted.

    ``future`` ends with a `GenerationResult`, also after `cancel`, or with a ComposeError. It
    counts as running from the start, so its own ``cancel()`` does nothing.
    """

    def __init__(self, cancel: Callable[[Generation], None]) -> None:
        self.future: Future[GenerationResult] = Future()
        self.future.set_running_or_notify_cancel()
        self._cancel = cancel

    def cancel(self) -> None:
        """End the request: at once if it is queued, within a token if it runs. Any thread."""
        self._cancel(self)


class QueuePosition:
    """How many requests must end before a queued one starts, as its caller was told.

    Positions are computed under the queue's lock and told after it, by several threads at once. A
    position only falls, so one that comes late is seen to be old.
    """

    def __init__(self, on_queued: OnQueued | None) -> None:
        self._on_queued = on_queued
        self._lock = threading.Lock()
        self._told: int | None = None

    def tell(self, ahead: int) -> None:
        """Say that so many requests must end first, if that is news. Any thread."""
        with self._lock:
            told = self._told
            if told is not None and ahead >= told:
                return
            self._told = ahead
            never_waits = told is None and ahead == 0
            if self._on_queued is not None and not never_waits:
                try:
                    self._on_queued(ahead)
                except Exception:  # a listener that fails is not told again, and fails nothing
                    self._on_queued = None


class Queued(Protocol):
    """What stands in a queue whose positions are told."""

    position: QueuePosition


class QueueUpdates:
    """Tells requests their positions in a queue: less often, the more of them there are.

    Each end of a request moves all that are behind it, so telling each at once would take a time
    that grows with their square.
    """

    MOST_TOLD = 256
    """Of those who wait the first; the others hear when it is soon their turn."""
    _AT_ONCE = 32
    _SECONDS_EACH = 0.001

    def __init__(self) -> None:
        self._next = 0.0

    @property
    def pause(self) -> float:
        """Seconds until they may be told again; 0 is now."""
        return max(0.0, self._next - time.monotonic())

    @classmethod
    def positions(cls, queue: Iterable[Queued], room: int = 0) -> list[tuple[QueuePosition, int]]:
        """Of the first of a queue, how many must end before each starts.

        Args:
            queue: in the order in which they start.
            room: how many could start at once; below 0, how many run that are too many.
        """
        first = itertools.islice(queue, cls.MOST_TOLD)
        return [(each.position, max(0, number - room)) for number, each in enumerate(first, 1)]

    def tell(self, positions: list[tuple[QueuePosition, int]]) -> None:
        """Tell each its position."""
        for position, ahead in positions:
            position.tell(ahead)
        if len(positions) > self._AT_ONCE:
            self._next = time.monotonic() + len(positions) * self._SECONDS_EACH
