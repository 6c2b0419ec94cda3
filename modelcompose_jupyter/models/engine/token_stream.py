"""The tokens of a text with their log-probabilities, as its caller gets them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..tokenization.detokenizer import Detokenizer
from ..weights.loaded_model import LoadedModel
from .logprobs import Weighed

Tell = Callable[[int, list[dict[str, Any]]], None]
"""``tell(offset, tokens)``: plain data of tokens, and the place of the first of them."""


class TokenStream:
    """Tells tokens as they come, as plain data.

    Args:
        before: the tokens before the text.
        known: those that it begins with, which are told already.
    """

    def __init__(
        self, loaded: LoadedModel, before: Sequence[int], tell: Tell, known: Sequence[int] = ()
    ) -> None:
        self._texts = loaded.token_texts
        self._detokenizer = Detokenizer(loaded.decode, before, ())
        self._tell = tell
        self._offset = len(known)
        self._last: dict[str, Any] | None = None
        for token in known:  # what is uncertain of their text is the next one's
            self._detokenizer.push(token)

    def begin(self, token: int) -> None:
        """Tell a token that nothing foretells: the first of a prompt."""
        self._put([self._plain(token)])

    def add(self, weighed: Sequence[Weighed]) -> None:
        """Tell the next tokens."""
        self._put([self._told(each) for each in weighed])

    def finish(self) -> None:
        """End the text: what was uncertain of it is the last token's."""
        rest = self._detokenizer.finish()
        if rest and self._last is not None:
            self._tell(self._offset - 1, [{**self._last, "text": self._last["text"] + rest}])

    def _put(self, tokens: list[dict[str, Any]]) -> None:
        if tokens:
            self._tell(self._offset, tokens)
            self._offset += len(tokens)
            self._last = tokens[-1]

    def _told(self, weighed: Weighed) -> dict[str, Any]:
        return {
            **self._plain(weighed.id),
            "logprob": weighed.logprob,
            "sampling_logprob": weighed.sampling_logprob,
            "rank": weighed.rank,
            "alternatives": [self._alternative(*each) for each in weighed.alternatives],
        }

    def _alternative(self, id: int, logprob: float, sampling: float | None) -> dict[str, Any]:
        return {**self._named(id), "logprob": logprob, "sampling_logprob": sampling}

    def _plain(self, id: int) -> dict[str, Any]:
        return {**self._named(id), "text": self._detokenizer.push(id)}

    def _named(self, id: int) -> dict[str, Any]:
        token = self._texts.of(id)
        raw = {} if token.bytes is None else {"bytes": list(token.bytes)}
        return {"id": id, "token": token.text, **raw}
