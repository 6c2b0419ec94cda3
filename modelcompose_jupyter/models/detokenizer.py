"""Text of a sequence while its tokens come: right on multi-byte text, silent before a stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]

_UNFINISHED = "\ufffd"
_CONTEXT = 8
_LONGEST_CHARACTER = 8


def find_stop(text: str, stops: Sequence[str], start: int = 0) -> int | None:
    """Where the first stop sequence in ``text`` begins, or None."""
    places = [place for stop in stops if (place := text.find(stop, start)) >= 0]
    return min(places, default=None)


def stop_begun(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of ``text`` may be the beginning of a stop sequence."""
    longest = min(max(map(len, stops), default=0) - 1, len(text))
    for length in range(longest, 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0


def completion(decode: Decode, prompt: Sequence[int], generated: Sequence[int]) -> str | None:
    """The text that ``generated`` adds to ``prompt``, or None where one does not begin the other.

    Decoding both together keeps what a tokenizer does between tokens, like SentencePiece's spaces.
    """
    before = decode(prompt).rstrip(_UNFINISHED)
    whole = decode([*prompt, *generated])
    return whole[len(before) :] if whole.startswith(before) else None


class Detokenizer:
    """The text of one sequence.

    Only the tokens since the last settled character are decoded again, with a few before them, so a
    token costs the same wherever it stands.
    """

    def __init__(self, decode: Decode, prompt: Sequence[int], stops: Sequence[str]) -> None:
        self._decode = decode
        self._prompt = list(prompt)
        self._stops = stops
        self._window = self._prompt[-_CONTEXT:]
        self._settled = len(self._window)
        self._head = decode(self._window)
        self._text = ""
        self.ids: list[int] = []
        self.stopped = False

    def push(self, token: int) -> str:
        """Add a token; returns the whole text that may be shown by now."""
        self.ids.append(token)
        self._window.append(token)
        searched = len(self._text)
        self._settle()
        stop = find_stop(self._text, self._stops, max(0, searched - self._longest_stop))
        if stop is not None:
            self.stopped = True
            return self._text[:stop]
        return self._text[: len(self._text) - stop_begun(self._text, self._stops)]

    def finish(self) -> str:
        """The final text: the tokenizer's own decoding, up to a stop sequence."""
        text = completion(self._decode, self._prompt, self.ids)
        if text is None:
            text = self._decode(self.ids)
        stop = find_stop(text, self._stops)
        self.stopped = self.stopped or stop is not None
        return text[:stop]

    @property
    def _longest_stop(self) -> int:
        return max(map(len, self._stops), default=0)

    def _settle(self) -> None:
        text = self._decode(self._window)
        pending = len(self._window) - self._settled
        if text.endswith(_UNFINISHED) and pending < _LONGEST_CHARACTER:
            return
        if len(text) <= len(self._head):
            return
        self._text += text[len(self._head) :]
        self._window = self._window[self._settled :]
        self._settled = len(self._window)
        self._head = self._decode(self._window)
