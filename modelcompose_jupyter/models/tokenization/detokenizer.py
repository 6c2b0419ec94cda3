"""Tokens as text, also while they come: whole characters alone, and silent before a stop.

What was shown of a text is never taken back, and its end is what was shown. So a character that a
limit cuts is left out, and a text is the tokenizer's own decoding of its tokens but for that.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .prompt_tokens import steps_of
from .vocabulary import byte_tokens

_REPLACEMENT = "\ufffd"
_CONTEXT = 8
_LONGEST_CONTEXT = 64
_LONGEST_CHARACTER = 4  # bytes

# What tokenizers that clean up join to the word before it, once it is there.
_JOINED = (" .", " ?", " !", " ,", " ' ", " n't", " n ' t", " 'm", " 's", " 've", " 're")

Decode = Callable[[Sequence[int]], str]


class Decoder:
    """The decoding of a tokenizer, without special tokens and an unfinished character at the end.

    Attributes:
        joined: what changes when it is whole; so its beginnings at the end of a text are uncertain.
        added: the tokens that the tokenizer has beside those that it learnt, as they are written.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added: Mapping[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
        self._added = set(added)
        self.added = frozenset(str(token.content) for token in added.values())
        self._special = {id for id, token in added.items() if token.special}
        self._fallback = _fallback_bytes(tokenizer)
        self._of_byte = {byte: id for id, byte in self._fallback.items()}
        backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        steps = steps_of(getattr(backend, "decoder", None))
        self._byte_level = any(step["type"] == "ByteLevel" for step in steps)
        self.joined = _JOINED if getattr(tokenizer, "clean_up_tokenization_spaces", False) else ()

    def __call__(self, ids: Sequence[int]) -> str:
        text = str(self._tokenizer.decode(self._mended(ids), skip_special_tokens=True))
        return text[:-1] if text.endswith(_REPLACEMENT) and self._is_cut(ids) else text

    def _mended(self, ids: Sequence[int]) -> Sequence[int]:
        """The tokens, with those that stand for single bytes as whole characters.

        A decoder takes such tokens run by run, and gives a run nothing but replacement characters
        where one byte of it is wrong or missing. So what is unfinished at the end is left out, and
        what is wrong becomes a replacement character of its own.
        """
        if not self._fallback or self._fallback.keys().isdisjoint(ids):
            return ids
        mended: list[int] = []
        run = bytearray()
        for id in ids:
            if id in self._fallback:
                run.append(self._fallback[id])
            elif id not in self._special:  # which a decoder does not see
                mended += self._characters(run, final=True)
                run.clear()
                mended.append(id)
        return mended + self._characters(run, final=False)

    def _characters(self, run: bytearray, final: bool) -> list[int]:
        text = codecs.getincrementaldecoder("utf-8")("replace").decode(bytes(run), final)
        return [self._of_byte[byte] for byte in text.encode() if byte in self._of_byte]

    def _is_cut(self, ids: Sequence[int]) -> bool:
        """Whether the replacement character at the end stands for one that is unfinished."""
        if self._fallback:
            return False  # those are left out already
        return not self._byte_level or bool(self.unfinished(ids))  # of others nobody knows

    def encoded(self, text: str) -> list[int]:
        """The tokens of a text, without special ones."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def special_name(self, id: int) -> str | None:
        """A special token as it stands in the vocabulary; None for any other."""
        if id not in self._special:
            return None
        return str(self._tokenizer.convert_ids_to_tokens(int(id)))

    def unfinished(self, ids: Sequence[int]) -> set[int]:
        """The places of the last tokens that are only the beginning of a character."""
        tail: list[tuple[int, bytes]] = []
        for place in range(len(ids) - 1, -1, -1):
            if ids[place] in self._special:
                continue
            written = self.bytes_of(ids[place])
            if written is None or sum(len(each) for _, each in tail) >= _LONGEST_CHARACTER:
                break
            tail.insert(0, (place, written))
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.decode(b"".join(written for _, written in tail))
        left, places = len(decoder.getstate()[0]), set()
        while left > 0:
            place, written = tail.pop()
            places.add(place)
            left -= len(written)
        return places

    def bytes_of(self, id: int) -> bytes | None:
        """What a token stands for, where that may be a part of a character."""
        if id in self._fallback:
            return bytes([self._fallback[id]])
        if not self._byte_level or id in self._added:
            return None
        token = self._tokenizer.convert_ids_to_tokens(int(id))
        return bytes(BYTES_OF_CHARACTERS.get(character, 0) for character in token or "")


def _fallback_bytes(tokenizer: Any) -> dict[int, int]:
    """The tokens that stand for single bytes, as SentencePiece has them; empty where none do."""
    found = byte_tokens(tokenizer)
    letter = found.get(ord("A"))
    if letter is None or str(tokenizer.decode([letter])) != "A":
        return {}
    return {id: byte for byte, id in found.items()}


# Bytes that are visible in Latin-1 stand for themselves, the others for characters from U+0100.
_VISIBLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_HIDDEN = sorted({*range(256)} - _VISIBLE)
BYTES_OF_CHARACTERS = {chr(byte): byte for byte in _VISIBLE}
BYTES_OF_CHARACTERS |= {chr(0x100 + place): byte for place, byte in enumerate(_HIDDEN)}
"""The bytes by the characters that stand for them in byte-level vocabularies."""


def find_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the first stop sequence in ``text`` begins, or None."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return min(places, default=None)


def stop_begun(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of ``text`` may be the beginning of a stop sequence."""
    longest = min(max(map(len, stops), default=0) - 1, len(text))
    for length in range(longest, 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0


def certain(text: str, stops: Sequence[str]) -> str:
    """What of a text that a limit has cut stays where it goes on: without a character that is
    unfinished, and what may be the beginning of a stop sequence or of what is joined."""
    text = text.removesuffix(_REPLACEMENT)
    return text[: len(text) - max(stop_begun(text, stops), stop_begun(text, _JOINED))]


class Detokenizer:
    """Incremental detokenizer of one sequence: tokens in, deltas of its text out.

    A token is decoded with a few before it, which decide how it is joined to them and hold the
    first bytes of its character. Of the text, only what may be the beginning of a stop sequence is
    held back. So a token costs the same wherever it stands.

    Attributes:
        stopped: whether a stop sequence has ended the text.

    Args:
        prompt: the tokens before the first one.
        stops: the text ends before the first of these.
    """

    def __init__(self, decode: Decode, prompt: Sequence[int], stops: Sequence[str]) -> None:
        self._decode = decode
        self._joined = decode.joined if isinstance(decode, Decoder) else ()
        self._stops = stops
        self._held = ""  # certain, but perhaps the beginning of a stop sequence
        self.stopped = False
        # The last tokens, and what of their text is the prompt's or taken already.
        self._window: list[int] = []
        self._taken = ""
        length = _CONTEXT
        while prompt and not self._taken:
            self._window = list(prompt[-length:])
            self._taken = decode(self._window)
            if length >= len(prompt):
                break
            length *= 2

    def push(self, token: int) -> str:
        """Add a token; returns what may be shown of the text by now and was not before."""
        if self.stopped:
            return ""
        self._window.append(token)
        decoded = self._decode(self._window)
        if not decoded.startswith(self._taken):  # joined to the prompt, which is shown already
            self._window, self._taken = [token], ""
            decoded = self._decode(self._window)
        self._take(self._certain(decoded))
        if len(self._window) >= 2 * _CONTEXT:
            self._move(decoded)
        return self._release_certain()

    def add(self, text: str) -> str:
        """Add text that is no token's alone; returns as `push` does."""
        if self.stopped:
            return ""
        self._hold(text)
        return self._release_certain()

    def finish(self) -> str:
        """The rest of the text, up to a stop sequence; no token comes after it."""
        self._take(self._decode(self._window))
        return self._release(len(self._held))

    def _release_certain(self) -> str:
        held = 0 if self.stopped else stop_begun(self._held, self._stops)
        return self._release(len(self._held) - held)

    def _release(self, length: int) -> str:
        delta, self._held = self._held[:length], self._held[length:]
        return delta

    def _certain(self, decoded: str) -> str:
        """The text of the window as far as further tokens cannot change it."""
        if decoded.endswith(_REPLACEMENT):
            return decoded[:-1]
        return decoded[: len(decoded) - stop_begun(decoded, self._joined)]

    def _take(self, certain: str) -> None:
        """Add what is new and certain in the text of the window, unless the text has ended."""
        if self.stopped or len(certain) <= len(self._taken):
            return
        self._hold(certain[len(self._taken) :])
        self._taken = certain

    def _hold(self, text: str) -> None:
        self._held += text
        stop = find_stop(self._held, self._stops)
        if stop is not None:
            self._held, self.stopped = self._held[:stop], True

    def _move(self, decoded: str) -> None:
        """Leave the oldest tokens out of the window, as long as some text is before the next."""
        window = self._window[-_CONTEXT:]
        pending = decoded[len(self._taken) :]
        text = self._decode(window)
        taken = text.removesuffix(pending)
        if text.endswith(pending) and (taken or len(self._window) > _LONGEST_CONTEXT):
            self._window, self._taken = window, taken
