"""Tokens as they are shown: in groups, each of which adds something to the text.

Several tokens may make one character together, and some add nothing. So a token that adds nothing
belongs to the next one that does. At the end of a text it stands for itself: the end token, say, or
what a stop sequence has cut off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp, prod
from typing import NamedTuple

from .tokens import Token

_DIGITS = 4  # after the point of a probability: a hundredth of a percent


class Group(NamedTuple):
    """Tokens that are shown as one.

    Attributes:
        text: what they add to the text; empty at its end alone.
        first: the place of the first one among the text's tokens.
    """

    text: str
    first: int
    tokens: Sequence[Token]

    @property
    def end(self) -> int:
        """The place behind the last one."""
        return self.first + len(self.tokens)

    @property
    def probability(self) -> float | None:
        """What the model gave them, all together; None where nothing foretold them."""
        given = [probability(each.logprob) for each in self.tokens]
        return None if None in given else prod(each or 0.0 for each in given)


def groups(tokens: Sequence[Token], first: int = 0, *, ended: bool) -> Iterator[Group]:
    """The groups of the tokens of a text from one of them on. Those at the end that add nothing are
    left out until the text has ``ended``."""
    for place in range(first, len(tokens)):
        if tokens[place].text:
            yield Group(tokens[place].text, first, tokens[first : place + 1])
            first = place + 1
    for place in range(first, len(tokens) if ended else first):
        yield Group("", place, tokens[place : place + 1])


def cut(tokens: Sequence[Token], length: int) -> list[Token]:
    """Tokens whose texts together have so many characters at most: what is beyond them, as where a
    stop sequence has ended the text, adds nothing to it."""
    found = list(tokens)
    beyond = sum(len(each.text) for each in tokens) - length
    for place in range(len(found) - 1, -1, -1):
        if beyond <= 0:
            break
        text = found[place].text
        found[place] = found[place]._replace(text=text[: max(0, len(text) - beyond)])
        beyond -= len(text)
    return found


def probability(logprob: float | None) -> float | None:
    """A probability of its logarithm, rounded; None of None."""
    return None if logprob is None else round(exp(logprob), _DIGITS)
