"""The tokens of a prompt, however long it is: a text that cannot fit is not tokenized to find out.

A tokenizer cannot be stopped while it reads. So a long text is refused by its characters where that
is certain, else counted in slices; between them somebody may look whether the request was
cancelled. A text that fits is tokenized whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from ..generation import unwatched
from .chat_template import Check
from .vocabulary import byte_tokens, longest_token

SLICE = 16_384
"""Characters that are tokenized at once while a text is counted: a few hundredths of a second."""
_AT_ONCE = 32 * SLICE
"""Characters that are not counted in slices first where they are about as many as fit: a second."""
_MARGIN = 64
"""By so many tokens, at most, a slice may differ from the same part of the whole: at its ends."""
_COMPOSED = 4
"""So many characters become one by Unicode's composition, at most."""
_BLANK = re.compile(r"\s(?=\S)")

_KEEPS_ALL = {"Prepend", "Replace", "ByteLevel"}
_COMPOSES = {"NFC", "NFKC"}
_SPLITS = {"ByteLevel", "Digits", "Metaspace", "Split"}
_SEQUENCES = ("normalizers", "pretokenizers", "processors", "decoders")


class PromptTokens:
    """What a `transformers.PreTrainedTokenizerBase` makes of prompts."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._backend: Any = getattr(tokenizer, "backend_tokenizer", None)

    def encode(self, text: str, special: bool = True) -> list[int]:
        """The tokens of a whole text, ``special`` with those that the tokenizer adds."""
        return list(self._tokenizer(text, add_special_tokens=special)["input_ids"])

    def is_beyond(self, text: str, limit: int, check: Check = unwatched) -> bool:
        """Whether a text surely has more than ``limit`` tokens; where it is close, False.

        ``check`` is called between slices, and raises where nobody wants to know any more.
        """
        if self.cannot_fit(len(text), limit):
            return True
        if len(text) <= max(2 * SLICE, min(4 * limit, _AT_ONCE)):
            return False
        count = 0
        for piece in _slices(text):
            check()
            count += len(self.encode(piece, special=False)) - _MARGIN
            if count > limit:
                return True
        return False

    def cannot_fit(self, characters: int, limit: int) -> bool:
        """Whether no text of so many characters has ``limit`` tokens or less."""
        longest = self._longest
        return longest is not None and characters > (limit + _MARGIN) * longest

    def readable(self, text: str, limit: int, check: Check = unwatched) -> str:
        """The part of a text that decides its first ``limit`` tokens, or the last ones where the
        tokenizer keeps these; the whole where that is not known."""
        backward = self._tokenizer.truncation_side == "left"
        if len(text) <= 2 * SLICE or not self._tokenizer.is_fast:
            return text
        # Without words, what is joined to what may hang on all before it.
        if backward and (self._backend is None or self._backend.pre_tokenizer is None):
            return text
        count = used = 0
        for piece in _slices(text, backward):
            check()
            count += len(self.encode(piece, special=False)) - _MARGIN
            used += len(piece)
            if count > limit:
                return text[len(text) - used :] if backward else text[:used]
        return text

    @cached_property
    def _longest(self) -> int | None:
        """The most characters that a token stands for; None where characters may have no token."""
        backend = self._backend
        if backend is None or type(backend.model).__name__ != "BPE":
            return None
        normal, split = steps_of(backend.normalizer), steps_of(backend.pre_tokenizer)
        kinds, before = ({each["type"] for each in steps} for steps in (normal, split))
        # Each byte has a token of its own, at least: none is left out, no unknown ones are joined.
        if not (
            ("ByteLevel" in before | kinds and backend.model.unk_token is None)
            or (backend.model.byte_fallback and len(byte_tokens(self._tokenizer)) == 256)
        ):
            return None
        if not kinds <= _KEEPS_ALL | _COMPOSES or not before <= _SPLITS:
            return None
        if not all(map(_keeps, [*normal, *split])):
            return None
        if any(
            token.lstrip or token.rstrip for token in self._tokenizer.added_tokens_decoder.values()
        ):
            return None
        return (longest_token(self._tokenizer) or 1) * (_COMPOSED if kinds & _COMPOSES else 1)


def _slices(text: str, backward: bool = False) -> Iterator[str]:
    """A text in slices that end before blanks if there are any, from its beginning or its end."""
    start, end = 0, len(text)
    while start < end:
        if backward:
            cut = _blank(text, max(start, end - SLICE - SLICE // 8), max(start, end - SLICE))
            yield text[cut:end]
            end = cut
        else:
            cut = _blank(text, min(end, start + SLICE), min(end, start + SLICE + SLICE // 8))
            yield text[start:cut]
            start = cut


def _blank(text: str, first: int, last: int) -> int:
    """The place of a blank before a word; the later one of the two places where there is none."""
    if first == 0 or last == len(text):
        return first if first == 0 else last
    found = _BLANK.search(text, first, last)
    return found.start() if found else last


def steps_of(part: Any) -> list[dict[str, Any]]:
    """The steps of a part of a fast tokenizer, its normalizer say, as they stand in tokenizer.json.

    Those of sequences are among them, in their order; none where there is no such part.
    """
    steps: list[dict[str, Any]] = []
    left = [] if part is None else [json.loads(part.__getstate__())]
    while left:
        step = left.pop(0)
        if step.get("type") == "Sequence":
            left = [*next(step[key] for key in _SEQUENCES if key in step), *left]
        else:
            steps.append(step)
    return steps


def _keeps(step: dict[str, Any]) -> bool:
    """Whether a step leaves out no character."""
    if step.get("behavior") == "Removed" or (step.get("type") == "Split" and step.get("invert")):
        return False
    if step.get("type") != "Replace":
        return True
    pattern = step["pattern"].get("String")
    return pattern is not None and len(step["content"]) >= len(pattern)
