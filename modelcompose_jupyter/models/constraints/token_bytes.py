"""The bytes that tokens write: what grammars are held to, and what constrained texts are made of.

Other than a tokenizer's decoding, which cleans up, joins, and takes a blank from a text's first
token, what tokens write is here always the same, and a text is what its tokens write.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from typing import Any

from ..tokenization.detokenizer import BYTES_OF_CHARACTERS
from ..tokenization.prompt_tokens import steps_of
from ..tokenization.vocabulary import byte_tokens

_BLANK = "\u2581"  # of SentencePiece
_ANCHORS = ("a", ".", "0")


class TokenBytes:
    """What each token of a tokenizer writes.

    Made on any thread: it asks the tokenizer for its vocabulary alone, and decodes with a copy.

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
        write = _writer(tokenizer)
        plain = {id: token.content for id, token in added.items() if id not in special}
        self.of = [
            b""
            if name is None or id in special
            else plain[id].encode()
            if id in plain
            else write(id, name)
            for id, name in enumerate(names)
        ]

    def __len__(self) -> int:
        return len(self.of)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, without a character that is unfinished at its end."""
        written = b"".join(self.of[id] for id in ids if id < len(self.of))
        return codecs.getincrementaldecoder("utf-8")("replace").decode(written)


def _writer(tokenizer: Any) -> Any:
    """What gives the bytes of a token from its id and its name in the vocabulary."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    steps = steps_of(getattr(backend, "decoder", None))
    kinds = {step["type"] for step in steps}
    fallback = {id: bytes([byte]) for byte, id in byte_tokens(tokenizer).items()}
    if "ByteLevel" in kinds:
        return lambda id, name: bytes(BYTES_OF_CHARACTERS.get(each, 0) for each in name)
    if backend is None or kinds <= {"Metaspace", "ByteFallback", "Fuse", "Strip", "Replace"}:
        blanks = backend is None or _has_blanks(steps)

        def write(id: int, name: str) -> bytes:
            if id in fallback:
                return fallback[id]
            return (name.replace(_BLANK, " ") if blanks else name).encode()

        return write
    return _decoded(backend)


def _has_blanks(steps: Sequence[dict[str, Any]]) -> bool:
    """Whether blanks are written as SentencePiece writes them."""
    return any(_BLANK in json.dumps(step, ensure_ascii=False) for step in steps)


def _decoded(backend: Any) -> Any:
    """A writer by decoding, each token behind another."""
    from tokenizers import Tokenizer

    own = Tokenizer.from_str(backend.to_str())
    anchor: list[int] = []
    for text in _ANCHORS:
        ids = own.encode(text, add_special_tokens=False).ids[-1:]
        if ids and own.decode(ids).strip() == text:
            anchor = ids
            break
    before = own.decode(anchor)

    def write(id: int, name: str) -> bytes:
        text = own.decode([*anchor, id])
        return (text[len(before) :] if text.startswith(before) else own.decode([id])).encode()

    return write
