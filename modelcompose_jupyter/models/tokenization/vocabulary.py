"""What is asked of a tokenizer's vocabulary, which takes long to list: once for all who ask."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

_longest: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


def longest_token(tokenizer: Any) -> int:
    """Characters of the longest token as it stands in the vocabulary."""
    if tokenizer not in _longest:
        _longest[tokenizer] = max(map(len, tokenizer.get_vocab()), default=0)
    return _longest[tokenizer]


def byte_tokens(tokenizer: Any) -> dict[int, int]:
    """The tokens called ``<0x00>`` to ``<0xFF>``, by the byte, as far as there are such."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    find = tokenizer.get_vocab().get if backend is None else backend.token_to_id
    found = {byte: find(f"<0x{byte:02X}>") for byte in range(256)}
    return {byte: id for byte, id in found.items() if id is not None}
