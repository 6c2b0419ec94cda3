"""What a text may go on with, token by token: one thing more that a row of the sampler has."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from ...errors import ComposeError, InputError, ModelError, shortened

if TYPE_CHECKING:
    from llguidance import LLMatcher

# Bounds of `document.grammars.limits` for which the library has no reason of its own.
_IS_TOO_MUCH = re.compile(r"[Tt]oo many (items|expressions)|row has \d+ items; max is")


class Constraint(Protocol):
    """The state of one text. Of one thread; a copy is a state of its own.

    Attributes:
        is_complete: whether the text is whole, and nothing may follow.
    """

    is_complete: bool

    def allowed(self) -> np.ndarray | None:
        """Which tokens may be next, by their ids, bool [tokens]; what is beyond may not. None is
        all of them. It belongs to whoever asks.
        """
        ...

    def forced(self) -> Sequence[int]:
        """The next tokens, as far as there is but one that is allowed."""
        ...

    def problem(self) -> ComposeError | None:
        """Why no token is allowed, where none is."""
        ...

    def take(self, token: int) -> None:
        """Take the next token of the text.

        Raises:
            ComposeError: it is none that may be next.
        """
        ...

    def copy(self) -> Self:
        """The same state, which goes on by itself."""
        ...


class GrammarConstraint:
    """A text of a grammar, which ends when it is whole: a `Constraint`.

    Args:
        matcher: at its beginning; it has the tokens of the model, and behind them one that stands
            for the end.
        tokens: how many the model's tokenizer has.
        stop_ids: the tokens that end a text.
    """

    def __init__(self, matcher: LLMatcher, tokens: int, stop_ids: Iterable[int]) -> None:
        self._matcher = matcher
        self._tokens = tokens
        self._stop_ids = [each for each in stop_ids if each < tokens]
        self.is_complete = False
        self._forced: list[int] = matcher.compute_ff_tokens()

    def allowed(self) -> np.ndarray:
        if self._forced:
            only = np.zeros(self._tokens, bool)
            only[self._forced[0]] = True
            return only
        words = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(words, count=self._tokens, bitorder="little").view(bool)
        # The library allows the end, too, where it has no token to go on with.
        allowed[self._stop_ids] = self._matcher.is_accepting()
        return allowed

    def forced(self) -> list[int]:
        return self._forced

    def problem(self) -> ComposeError:
        return self._error()

    def take(self, token: int) -> None:
        if token in self._stop_ids:
            is_taken = self._matcher.is_accepting()
        else:
            is_taken = token < self._tokens and self._matcher.try_consume_tokens([token]) == 1
        if not is_taken:
            if self._matcher.is_error():
                raise self._error()
            raise InputError(
                "the text cannot go on so: 'format' does not allow it",
                hint="Choose another token, or leave out 'format'.",
                code="format_violated",
            )
        self.is_complete = self._matcher.is_stopped()
        # Of what is left of them, the library might make other tokens.
        if self._forced[:1] == [token]:
            self._forced = self._forced[1:]
        else:
            self._forced = []
        if not self._forced and not self.is_complete:
            self._forced = self._matcher.compute_ff_tokens()

    def copy(self) -> GrammarConstraint:
        copied = copy.copy(self)
        copied._matcher = self._matcher.deep_copy()
        return copied

    def _error(self) -> ComposeError:
        reason, message = self._matcher.stop_reason(), self._matcher.get_error()
        if reason in ("ParserTooComplex", "LexerTooComplex") or _IS_TOO_MUCH.search(message):
            return InputError(
                "the format is too complex: what may come next took too much to work out",
                hint="Make it simpler: shorter repetitions, fewer alternatives, shorter patterns.",
                code="format_too_complex",
            )
        if reason == "InternalError" and not message.startswith("NoExtension"):
            return ModelError(
                f"the format cannot be held to: {shortened(message)}",
                code="format_failed",
            )
        return ModelError(
            "the model has no token for what 'format' asks for next",
            hint="Its tokenizer cannot write every text; use another model, or another format.",
            code="format_unreachable",
        )
