"""The text of a reply while it comes, in its parts: what was thought, and what was answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .detokenizer import Decode, Detokenizer
from .thinking import Part, Phase, Reply, Taken

_BETWEEN = "\n\n"  # several thoughts


class Added(NamedTuple):
    """What may be shown by now and was not before.

    Attributes:
        reasoning: of thoughts.
        text: of the answer.
        part: what the last token counts to; None while that is not known.
    """

    reasoning: str = ""
    text: str = ""
    part: Part | None = "text"


class ReplyText:
    """A reply's tokens in, deltas of its parts out. Markers of thoughts are of no part.

    Where nothing is known of thoughts, all is the answer's.

    Args:
        before: the tokens before the first one.
        stops: the answer ends before the first of these; in thoughts they mean nothing.
        reply: follows it; None where it has no thoughts.
        decode_answer: decodes the answer, where that is to be decoded otherwise.
    """

    def __init__(
        self,
        decode: Decode,
        before: Sequence[int],
        stops: Sequence[str],
        reply: Reply | None = None,
        decode_answer: Decode | None = None,
    ) -> None:
        self._decode = decode
        self._decode_answer = decode_answer or decode
        self._stops = stops
        self._reply = reply
        self._before = before
        self._thought: Detokenizer | None = None
        self._answer: Detokenizer | None = None
        self._has_reasoning = self._is_thought_new = self._has_text = False
        if reply is None:
            self._answer = self._new_answer()
        elif reply.phase is Phase.THOUGHT:
            self._begin_thought()

    @property
    def stopped(self) -> bool:
        """Whether a stop sequence has ended the answer."""
        return self._answer is not None and self._answer.stopped

    @property
    def reasoning_tokens(self) -> int:
        """How many tokens thoughts have, without their markers."""
        return 0 if self._reply is None else self._reply.thought_tokens

    def push(self, token: int) -> Added:
        """Add a token."""
        if self._answer is not None and (self._reply is None or self._reply.is_settled):
            return Added(text=self._new_of_answer(self._answer.push(token)))
        assert self._reply is not None
        return self._add(self._reply.take(token), self._reply)

    def finish(self) -> Added:
        """What is left; no token comes after it."""
        added = Added()
        if self._reply is not None and not self._reply.is_settled:
            added = self._add(self._reply.end(), self._reply)
        thought = self._thought.finish() if self._thought is not None else ""
        answer = self._answer.finish() if self._answer is not None else ""
        return Added(
            added.reasoning + self._new_of_thought(thought),
            added.text + self._new_of_answer(answer),
            added.part,
        )

    def _add(self, taken: Taken, reply: Reply) -> Added:
        reasoning = text = ""
        if taken.phase is Phase.THOUGHT and self._thought is not None:
            shown = "".join(map(self._thought.push, taken.tokens))
            if reply.phase is not Phase.THOUGHT:
                shown += self._thought.finish() + taken.before
            reasoning = self._new_of_thought(shown)
        elif taken.tokens:
            self._answer = self._answer or self._new_answer()
            text = self._new_of_answer("".join(map(self._answer.push, taken.tokens)))
        if reply.phase is not Phase.THOUGHT:
            self._thought = None
        elif self._thought is None:
            self._begin_thought()
        if taken.rest and reply.phase is Phase.THOUGHT:
            reasoning += self._new_of_thought(taken.rest)
        elif taken.rest:
            self._answer = self._new_answer()
            text = self._new_of_answer(self._answer.add(taken.rest))
        return Added(reasoning, text, taken.part)

    def _begin_thought(self) -> None:
        self._thought = Detokenizer(self._decode, (), ())
        self._is_thought_new = True

    def _new_answer(self) -> Detokenizer:
        # Nothing is joined to a marker, nor to what is unfinished before one.
        is_behind = self._reply is not None and self._reply.had_marker
        return Detokenizer(self._decode_answer, () if is_behind else self._before, self._stops)

    def _new_of_thought(self, delta: str) -> str:
        """What is shown of a delta of a thought: the blanks at its beginning are its marker's."""
        if not self._is_thought_new:
            return delta
        delta = delta.lstrip()
        if not delta:
            return ""
        delta = _BETWEEN + delta if self._has_reasoning else delta
        self._is_thought_new, self._has_reasoning = False, True
        return delta

    def _new_of_answer(self, delta: str) -> str:
        """The same of the answer behind a thought."""
        if self._reply is None or self._has_text or not self._reply.trims_answer:
            return delta
        delta = delta.lstrip()
        self._has_text = bool(delta)
        return delta
