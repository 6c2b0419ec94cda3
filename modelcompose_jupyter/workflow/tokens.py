"""Tokens of a run's texts, with what the model weighed in their place.

Log-probabilities are natural. ``logprob`` is that of the model's own scores. ``sampling_logprob``
is that of the scores that the token was chosen by, after repetition_penalty and, where it was
drawn, after temperature, top_k, top_p and min_p: None for a token that these have ruled out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

Key = tuple[Any, ...]
"""A stream of a run: job, repeat, prompt, sequence."""


class Alternative(NamedTuple):
    """A token that could have stood in the place of another.

    ``token`` is what it stands for by itself; a special one is written as in the vocabulary, and a
    part of a character as its bytes: ``\\\\xec``. ``bytes`` has these; it is None of others.
    """

    id: int
    token: str
    logprob: float
    sampling_logprob: float | None
    bytes: bytes | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """An alternative of an event's data."""
        return cls(
            data["id"],
            data["token"],
            data["logprob"],
            data.get("sampling_logprob"),
            _bytes(data),
        )


class Token(NamedTuple):
    """A token of a text.

    Attributes:
        text: what it adds to the text. That is nothing for a special token, and for one that is but
            a part of a character, which the last of its tokens adds.
        id: its number in the model's vocabulary.
        logprob: see above; None for the first token of a prompt, which nothing foretells.
        sampling_logprob: see above; None of tokens that were not chosen here: a prompt's.
        rank: 1 for the token that the model held for the likeliest, and so on; None as ``logprob``.
        token: what it stands for by itself: see `Alternative`.
        alternatives: the likeliest tokens in its place, as many as were asked for, the likeliest
            first. It is among them where its rank is.
        bytes: of a part of a character; else None.
        part: ``reasoning`` of a token of the model's thoughts, and of what marks these: ``text`` is
            what it adds to them; else ``text``.
    """

    text: str
    id: int
    logprob: float | None
    sampling_logprob: float | None
    rank: int | None
    token: str
    alternatives: Sequence[Alternative]
    bytes: bytes | None = None
    part: str = "text"

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """A token of an event's data."""
        return cls(
            data["text"],
            data["id"],
            data.get("logprob"),
            data.get("sampling_logprob"),
            data.get("rank"),
            data["token"],
            tuple(Alternative.of(each) for each in data.get("alternatives", ())),
            _bytes(data),
            data.get("part", "text"),
        )


def _bytes(data: Mapping[str, Any]) -> bytes | None:
    raw = data.get("bytes")
    return None if raw is None else bytes(raw)


_TOKEN_BYTES = 700
_ALTERNATIVE_BYTES = 300


def token_bytes(data: Mapping[str, Any]) -> int:
    """The memory that a token's data takes, about: its texts are those of all tokens like it."""
    return _TOKEN_BYTES + _ALTERNATIVE_BYTES * len(data.get("alternatives", ()))


class TokenStreams:
    """The tokens so far of a run's texts, as its events tell them."""

    def __init__(self) -> None:
        self._data: dict[tuple[str, Key], list[Mapping[str, Any]]] = {}
        self._starts: dict[Key, int] = {}

    def put(self, data: Mapping[str, Any]) -> None:
        """Take what an event tells."""
        known = self._data.setdefault((data.get("part", "text"), tuple(data["stream"])), [])
        known[data["offset"] :] = data["tokens"]
        self._starts[tuple(data["stream"])] = data.get("start", 0)

    def start(self, stream: Key) -> int:
        """The character of a text where the first of its tokens begins: behind the prompt, where
        the text has that."""
        return self._starts.get(stream, 0)

    def of(self, part: str, stream: Key) -> list[Mapping[str, Any]]:
        """What was told of a text's tokens, or of its prompt's; none where nothing was.

        The texts of one prompt have that in common, so it is told of the first.
        """
        stream = (*stream[:-1], 0) if part == "prompt" else stream
        return self._data.get((part, stream), [])

    def tokens(self, part: str, stream: Key) -> list[Token]:
        """`of` as tokens."""
        return [Token.of(each) for each in self.of(part, stream)]
