"""The bytes that tokens write: what grammars are held to, and what constrained texts are made of.

Other than a tokenizer's decoding, which cleans up, joins, and takes a blank from a text's first
token, what tokens write is here always the same, and a text is what its tokens write.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..tokenization.detokenizer import BYTES_OF_CHARACTERS
from ..tokenization.prompt_tokens import steps_of
from ..tokenization.vocabulary import byte_tokens

_BLANK = "\u2581"  # of SentencePiece
_ANCHORS = ("a", ".", "0")


class TokenBytes:
    """What each token of a tokenizer writes.

    Of any thread: it asks the tokenizer for its vocabulary alone, and works with a copy.

    Attributes:
        of: by the tokens' ids; of special tokens, and of ids that are no tokens, nothing.
        special: the ids of special tokens, and of those that are none.
    """

    def __init__(self, tokenizer: Any) -> None:
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        added = getattr(tokenizer, "added_tokens_decoder", {})
        special = {*tokenizer.all_special_ids, *(id for id in added if added[id].special)}
        count = max([*vocabulary.values(), *added, *special], default=-1) + 1
        names: list[str | None] = [None] * count
        for name, id in vocabulary.items():
            names[id] = name
        self.special = [id for id, name in enumerate(names) if name is None or id in special]
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._own = None if backend is None else _copy(backend)
        write = _writer(tokenizer, self._own)
        plain = {id: token.content for id, token in added.items() if id not in special}
        self.of = [
            b""
            if name is None or id in special
            else plain[id].encode()
            if id in plain
            else write(id, name)
            for id, name in enumerate(names)
        ]
        self._by_bytes = {each: id for id, each in reversed([*enumerate(self.of)]) if each}
        self._longest = max(map(len, self._by_bytes), default=0)

    def __len__(self) -> int:
        return len(self.of)

    def decode(self, ids: Sequence[int], shown: Mapping[int, bytes] | None = None) -> str:
        """The text of tokens, without a character that is unfinished at its end.

        Args:
            shown: what is written for special tokens, which else write nothing.
        """
        own = shown or {}
        written = b"".join(own.get(id) or self.of[id] for id in ids if id < len(self.of))
        return codecs.getincrementaldecoder("utf-8")("replace").decode(written)

    def encode(self, written: bytes) -> list[int]:
        """Tokens that write some bytes: the tokenizer's own where they do, else the longest that
        fit; as far as there are any."""
        if self._own is not None:
            with suppress(UnicodeDecodeError):
                ids: list[int] = self._own.encode(written.decode(), add_special_tokens=False).ids
                if b"".join(self.of[id] for id in ids) == written:
                    return ids
        return self._longest_of(written)

    def _longest_of(self, written: bytes) -> list[int]:
        ids: list[int] = []
        start = 0
        while start < len(written):
            ends = range(min(len(written), start + self._longest), start, -1)
            end = next((end for end in ends if written[start:end] in self._by_bytes), None)
            if end is None:
                break
            ids.append(self._by_bytes[written[start:end]])
            start = end
        return ids


def _copy(backend: Any) -> Any:
    """A tokenizer of the `tokenizers` library that nobody else uses, and cuts nothing."""
    from tokenizers import Tokenizer

    copied = Tokenizer.from_str(backend.to_str())
    copied.no_truncation()
    copied.no_padding()
    return copied


def _writer(tokenizer: Any, own: Any) -> Callable[[int, str], bytes]:
    """What gives the bytes of a token from its id and its name in the vocabulary."""
    steps = steps_of(getattr(own, "decoder", None))
    kinds = {step["type"] for step in steps}
    fallback = {id: bytes([byte]) for byte, id in byte_tokens(tokenizer).items()}
    if "ByteLevel" in kinds:
        return lambda _, name: bytes(BYTES_OF_CHARACTERS.get(each, 0) for each in name)
    if own is None or kinds <= {"Metaspace", "ByteFallback", "Fuse", "Strip", "Replace"}:
        has_blanks = own is None or any(
            _BLANK in json.dumps(step, ensure_ascii=False) for step in steps
        )

        def write(id: int, name: str) -> bytes:
            if id in fallback:
                return fallback[id]
            return (name.replace(_BLANK, " ") if has_blanks else name).encode()

        return write
    return _decoded(own)


def _decoded(own: Any) -> Callable[[int, str], bytes]:
    """A writer by decoding, each token behind another."""
    anchor: list[int] = []
    for text in _ANCHORS:
        ids = own.encode(text, add_special_tokens=False).ids[-1:]
        if ids and own.decode(ids).strip() == text:
            anchor = ids
            break
    before = own.decode(anchor)

    def write(id: int, _: str) -> bytes:
        text: str = own.decode([*anchor, id])
        text = text[len(before) :] if text.startswith(before) else str(own.decode([id]))
        return text.encode()

    return write
