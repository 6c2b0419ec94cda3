"""The tokens of a text with their log-probabilities, as its caller gets them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..tokenization.detokenizer import Decode
from ..tokenization.reply_text import ReplyText
from ..tokenization.thinking import Part, Reply
from ..weights.loaded_model import LoadedModel
from .logprobs import Weighed

Tell = Callable[[int, list[dict[str, Any]]], None]
"""``tell(offset, tokens)``: plain data of tokens, and the place of the first of them."""


class TokenStream:
    """Tells tokens as they come, as plain data.

    Args:
        before: the tokens before the text.
        known: those that it begins with, which are told already.
        reply: follows the text through its parts, where it may have thoughts.
        decode_answer: decodes the answer, where that is to be decoded otherwise.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        before: Sequence[int],
        tell: Tell,
        known: Sequence[int] = (),
        reply: Reply | None = None,
        decode_answer: Decode | None = None,
    ) -> None:
        self._texts = loaded.token_texts
        self._text = ReplyText(loaded.decode, before, (), reply, decode_answer)
        self._tell = tell
        self._offset = len(known)
        self._last: dict[str, Any] | None = None
        self._unsorted: list[dict[str, Any]] = []  # of which it is not known what they count to
        for token in known:  # what is uncertain of their text is the next one's
            self._text.push(token)

    def begin(self, token: int) -> None:
        """Tell a token that nothing foretells: the first of a prompt."""
        self._put([self._plain(token)])

    def add(self, weighed: Sequence[Weighed]) -> None:
        """Tell the next tokens."""
        self._put([self._told(each) for each in weighed])

    def finish(self) -> None:
        """End the text: what was uncertain of it is the last token's."""
        added = self._text.finish()
        self._tell_sorted(self._sorted(added.part))
        rest = added.reasoning + added.text
        if rest and self._last is not None:
            self._tell(self._offset - 1, [{**self._last, "text": self._last["text"] + rest}])

    def _put(self, tokens: list[dict[str, Any]]) -> None:
        found = []
        for token in tokens:
            part = token.pop("part")
            self._unsorted.append(token)
            found += self._sorted(part)
        self._tell_sorted(found)

    def _sorted(self, part: Part | None) -> list[dict[str, Any]]:
        """The tokens that count to a part, as it turned out; none while it has not."""
        if part is None:
            return []
        found, self._unsorted = self._unsorted, []
        return found if part == "text" else [{**each, "part": part} for each in found]

    def _tell_sorted(self, tokens: list[dict[str, Any]]) -> None:
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
        added = self._text.push(id)
        return {**self._named(id), "text": added.reasoning + added.text, "part": added.part}

    def _named(self, id: int) -> dict[str, Any]:
        token = self._texts.of(id)
        raw = {} if token.bytes is None else {"bytes": list(token.bytes)}
        return {"id": id, "token": token.text, **raw}
