"""Thoughts as a constraint: none where they are off, no longer ones than a budget, and what the
answer must be begins behind them."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence

import numpy as np

from ...errors import ComposeError, InputError
from ..tokenization.marker_tokens import MarkerTokens, begun
from ..tokenization.thinking import Phase, Reply, Thinking
from ..tokenization.token_texts import TokenTexts
from .constraint import Constraint


class ThinkingConstraint:
    """A reply that may begin with a thought: a `Constraint`, around that of the answer.

    Within a thought every token may come, until its budget is spent: then the closing marker must.
    Where the answer has a constraint, a text cannot end within the thought.

    Args:
        stop_ids: the tokens that end a text.
        answer: at its beginning; None where it may be any text.
    """

    def __init__(
        self,
        thinking: Thinking,
        texts: TokenTexts,
        tokens: MarkerTokens,
        stop_ids: Collection[int],
        answer: Constraint | None,
    ) -> None:
        self.is_complete = False
        self._thinking = thinking
        self._markers = thinking.markers
        self._reply = Reply(thinking, texts)
        self._texts = texts
        self._tokens = tokens
        self._stop_ids = [each for each in stop_ids if each < tokens.count]
        self._answer = answer
        self._begun_answer = None if answer is None else answer.copy()
        self._forced: tuple[int, ...] = ()
        self._heads: tuple[tuple[int, ...], ...] = ()  # what is left of those that may still come
        self._said = ""  # the end of the answer, where an opening marker may not come
        self._begin_phase()

    def allowed(self) -> np.ndarray | None:
        if self._forced:
            return self._tokens.only(self._forced[:1])
        if self._reply.phase is Phase.THOUGHT:
            return None if self._answer is None else ~self._tokens.only(self._stop_ids)
        answer = None if self._begun_answer is None else self._begun_answer.allowed()
        if self._reply.phase is Phase.BEGIN and self._answer is not None:
            heads = self._tokens.only([head[0] for head in self._heads])
            return heads if answer is None else answer | heads
        if self._thinking.is_off and self._reply.phase is Phase.ANSWER:
            if answer is None:
                return self._closed().copy()
            both = answer & self._closed()
            return both if both.any() else answer  # what it must be is no thought anyway
        return answer

    def forced(self) -> Sequence[int]:
        if self._forced:
            return self._forced
        if self._begun_answer is None or self._reply.phase is not Phase.ANSWER:
            return ()
        return self._begun_answer.forced()

    def problem(self) -> ComposeError | None:
        return None if self._begun_answer is None else self._begun_answer.problem()

    def take(self, token: int) -> None:
        phase = self._reply.phase
        if self._forced:
            if token != self._forced[0]:
                raise _cannot("its thought is over here")
            self._forced = self._forced[1:]
        elif phase is Phase.BEGIN and self._answer is not None:
            self._take_first(token)
        elif phase is Phase.ANSWER:
            self._take_answer(token)
        elif phase is Phase.THOUGHT and self._answer is not None and token in self._stop_ids:
            raise _cannot("it cannot end within a thought")
        self._reply.take(token)
        if self._reply.phase is not phase:
            self._begin_phase()
        elif self._is_spent():
            self._close()
        self.is_complete = (
            self._begun_answer is not None
            and self._begun_answer.is_complete
            and not (self._forced or self._heads or self._reply.phase is Phase.THOUGHT)
        )

    def copy(self) -> ThinkingConstraint:
        copied = copy.copy(self)
        copied._reply = copy.copy(self._reply)
        if self._begun_answer is not None:
            copied._begun_answer = self._begun_answer.copy()
        return copied

    def _begin_phase(self) -> None:
        """Work out what may come in the phase that the reply is in now."""
        phase, self._heads = self._reply.phase, ()
        if phase is Phase.BEGIN:
            self._begin()
        elif self._answer is not None and (phase is Phase.THOUGHT or self._begun_answer is None):
            self._begun_answer = self._answer.copy()
        if self._is_spent():
            self._close()

    def _begin(self) -> None:
        if self._forced:  # the rest of what closes a thought
            return
        markers, is_behind = self._markers, self._reply.had_thought
        self._begun_answer = None
        if self._thinking.is_off or (is_behind and self._answer is not None):
            self._forced = self._answer_head(is_behind)
        elif self._answer is not None:
            heads = (markers.opening, markers.answer) if markers.answer else (markers.opening,)
            self._heads = tuple(map(self._tokens.of, heads))
            self._begun_answer = None if markers.answer else self._answer.copy()

    def _answer_head(self, is_behind: bool) -> tuple[int, ...]:
        """The tokens before an answer, where it has a marker, too; or ``is_behind`` a thought."""
        markers = self._markers
        return self._tokens.of(markers.turn + markers.answer if is_behind else markers.answer)

    def _is_spent(self) -> bool:
        """Whether a thought must end that has not begun to."""
        is_thought, budget = self._reply.phase is Phase.THOUGHT, self._thinking.budget
        is_open = is_thought and not self._forced
        return is_open and budget is not None and self._reply.begun_thought_tokens >= budget

    def _close(self) -> None:
        head = self._answer_head(True) if self._markers.answer else ()
        self._forced = (*self._tokens.of(self._markers.closing), *head)

    def _take_first(self, token: int) -> None:
        """Take a token of what may become a marker, or the answer."""
        heads = tuple(head[1:] for head in self._heads if head[:1] == (token,))
        answer = self._begun_answer
        if answer is not None:
            try:
                answer.take(token)
            except ComposeError:
                if not heads:
                    raise
                answer = None
        elif not heads:
            raise _cannot("neither a thought nor an answer begins so")
        self._heads, self._begun_answer = heads, answer

    def _take_answer(self, token: int) -> None:
        if self._thinking.is_off:
            self._check_no_thought(token)
            said = self._said + self._texts.of(token).text
            self._said = said[1 - len(self._markers.opening) :]
        if self._begun_answer is not None:
            self._begun_answer.take(token)

    def _check_no_thought(self, token: int) -> None:
        if self._closed()[token : token + 1].all():
            return
        allowed = self.allowed()
        if allowed is not None and not allowed[token : token + 1].any():
            raise _cannot("it is not to think")

    def _closed(self) -> np.ndarray:
        """All tokens but those that would open a thought."""
        opening = self._markers.opening
        return self._tokens.not_completing(opening, begun(self._said, opening))


def _cannot(why: str) -> InputError:
    return InputError(
        f"the reply cannot go on so: {why}",
        hint="Choose another token, or change thinking and thinking_budget.",
        code="thinking_violated",
    )
