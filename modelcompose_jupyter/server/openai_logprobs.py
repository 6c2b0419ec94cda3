"""Tokens and their log-probabilities as OpenAI's clients expect them, in either of two shapes.

All tokens of a text are there, also one that adds nothing to it: the one that ends it, or a part
of a character. Log-probabilities are those of the model's own scores, whatever the temperature.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from ..workflow.tokens import Alternative, Token


def of_completion(tokens: Sequence[Token], offset: int) -> dict[str, Any]:
    """``logprobs`` of a completion's choice.

    Args:
        offset: where the first token begins in the choice's text, in characters.
    """
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "tokens": [_name(token) for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [_likeliest(token) for token in tokens],
        "text_offset": offsets,
    }


def of_chat(tokens: Sequence[Token], _: int) -> dict[str, Any]:
    """``logprobs`` of a chat's choice."""
    content = [
        {**_entry(token), "top_logprobs": [_entry(each) for each in token.alternatives]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def answer_of(tokens: Sequence[Token]) -> list[Token]:
    """The tokens without those of thoughts, which have no log-probabilities there."""
    return [token for token in tokens if token.part == "text"]


def _likeliest(token: Token) -> dict[str, float] | None:
    """The alternatives by their names, and always the token itself; of one name the likeliest."""
    if token.logprob is None:
        return None
    found: dict[str, float] = {}
    for each in token.alternatives:
        found.setdefault(_name(each), each.logprob)
    found.setdefault(_name(token), token.logprob)
    return found


def _name(token: Token | Alternative) -> str:
    """What a completion calls a token: its text, or that of its bytes."""
    return token.token if token.bytes is None else f"bytes:{token.token}"


def _entry(token: Token | Alternative) -> dict[str, Any]:
    raw = token.token.encode() if token.bytes is None else token.bytes
    return {"token": token.token, "logprob": token.logprob, "bytes": list(raw)}


class TextWithTokens:
    """A text that comes, and the tokens of it, which come before it; or no tokens at all."""

    def __init__(self) -> None:
        self._text = ""
        self._tokens: list[Token] = []
        self._offset = 0  # of both, in the whole text
        self._known: defaultdict[str, int] = defaultdict(int)  # tokens of each part

    def add_text(self, offset: int, text: str) -> None:
        """Take what has come of the text. A run that ends tells all of it again."""
        known = self._offset + len(self._text)
        self._text += text[max(0, known - offset) :]

    def add_tokens(self, part: str, offset: int, tokens: Sequence[Mapping[str, Any]]) -> None:
        """Take what has come of the tokens, as events tell them."""
        fresh = tokens[max(0, self._known[part] - offset) :]
        self._tokens += answer_of([Token.of(each) for each in fresh])
        self._known[part] += len(fresh)

    def take(self, *, is_whole: bool) -> tuple[str, Sequence[Token], int]:
        """What belongs together of the text and its tokens, and where in the text it begins.

        Args:
            is_whole: whether all is taken: the text has ended, or it has no tokens.
        """
        offset, count, length = self._offset, len(self._tokens), len(self._text)
        if not is_whole:
            ends = list(accumulate(len(token.text) for token in self._tokens))
            count = bisect_right(ends, length)
            length = ends[count - 1] if count else 0
        text, self._text = self._text[:length], self._text[length:]
        tokens, self._tokens = self._tokens[:count], self._tokens[count:]
        self._offset += length
        return text, tokens, offset
