"""One request to a model: the handle that its caller holds, and its result."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

from ..document.types import Message, ToolCall

Prompt = str | tuple[int, ...] | list[Message]
"""What a model is asked: a text to go on with, or its tokens; or the messages of a chat to reply
to."""

OnText = Callable[[int, int, str], None]
"""``on_text(sequence, offset, text)``: the text belongs at this character of that sequence.

The offset is the length so far: what was told is never taken back. Called on the engine's thread;
for a request that never ran, on that of who cancels it.
"""

OnReasoning = Callable[[int, int, str, int], None]
"""``on_reasoning(sequence, offset, text, tokens)``: the same of what the model thinks before it
replies, which has so many tokens by now."""

OnTokens = Callable[[int, str, int, list[dict[str, Any]], int], None]
"""``on_tokens(sequence, part, offset, tokens, start)``: these tokens belong at this place of that
sequence (``text``) or of the prompt (``prompt``), as `workflow.events.TokenData` describes them.
``start`` is the character of the sequence's text where the first of all those that were generated
begins. Called as `OnText` is, where log-probabilities are asked for."""

OnRead = Callable[[int, int], None]
"""``on_read(done, total)``: so many tokens of the prompt have been read. Called on the engine's
thread, a few times a second, where a prompt takes several steps; at the end of those they are
equal."""

Owner = tuple[Hashable, ...]
"""Who asks: a group and somebody in it, or somebody alone."""

LimitedBy = Literal["context", "host"]


@dataclass(frozen=True)
class Extension:
    """What makes a request go on where an earlier one, the same but for this, was cut.

    Attributes:
        tokens: how many more may be generated than the request asks for.
        drafts: the tokens that the earlier one generated, of each sequence, as far as they are
            known. They come as draft tokens, so what is the same is read and not generated again.
    """

    tokens: int = 0
    drafts: Sequence[Sequence[int]] = ()


@dataclass(frozen=True)
class Beginning:
    """Tokens that texts begin with, whatever the model would choose.

    Attributes:
        tokens: of each sequence; those that are not named have none.
        told: how many of these, of each sequence, whoever asks for log-probabilities knows already.
    """

    tokens: Sequence[Sequence[int]] = ()
    told: Sequence[int] = ()

    def told_of(self, sequence: int) -> int:
        """How many tokens of a sequence are known to whoever asks."""
        return self.told[sequence] if sequence < len(self.told) else 0


@dataclass(frozen=True)
class GenerationResult:
    """What came of a request.

    Attributes:
        texts: one per sequence; each begins with the prompt as it was used, unless the request
            excluded it, or the text is a reply: to the messages of a chat, or an encoder-decoder's.
        finish_reasons: one per sequence: ``eos``, ``stop``, ``length`` or ``cancelled``; or
            ``tool_calls``, where the text ends with calls, which are taken out of it.
        usage: tokens: ``prompt``, ``reused`` (of the prompt and what is given, from earlier
            requests), ``generated`` (over all sequences, end tokens included); ``given`` where
            texts have a `Beginning` or are scored; ``forced``, of those generated, that a format
            left no choice and that took no step of the model; ``reasoning``, of those generated,
            in thoughts, where it is known how the model marks these; with speculation also
            ``draft_tokens`` and, of these, ``accepted_tokens``.
        parameters: those really used; ``seed`` is always there.
        warnings: a sentence for each parameter that was changed or had no effect.
        timings: seconds since the request was made: ``queue``, ``first_token``, ``total``; and
            ``tokens_per_second`` after the queue.
        limited_by: what set ``max_output_length``, where that is not what was asked: ``context``,
            of which no more is left, or ``host``, which warns of it.
        model: ``source``, ``revision``, ``device``, ``precision``, ``driver`` and ``class`` of the
            model.
        reasoning: one per sequence: what the model thought before its text, without markers; empty
            where it did not think.
        reasoning_tokens: one per sequence: the tokens of these.
        room: how many more tokens a longer limit could give each text.
        tool_calls: one list per sequence, of the calls that its text ends with.
        tokens: those generated, of each sequence, where they can be the drafts of an `Extension`.
    """

    texts: list[str]
    finish_reasons: list[str]
    usage: dict[str, int]
    parameters: dict[str, Any]
    warnings: list[str]
    timings: dict[str, float]
    model: dict[str, Any]
    room: int = 0
    tool_calls: Sequence[Sequence[ToolCall]] = ()
    tokens: Sequence[Sequence[int]] = ()
    limited_by: LimitedBy | None = None
    reasoning: Sequence[str] = ()
    reasoning_tokens: Sequence[int] = ()


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
