"""Which words of a text are in another text, too."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

_ALIKE = 0.4  # texts of whose words so much is the same have their differences marked
_LONG = 2000  # words from which on frequent ones are passed over
_WORD = re.compile(r"\w+|[^\w\s]")


def marked(text: str, other: str) -> list[list[str]]:
    """A text in pieces, each with its kind: ``same`` where its words are in the other text, too,
    and ``other`` where they are not. Of texts that have little in common, the first word that
    differs."""
    found = list(_WORD.finditer(text))
    words, others = [each.group() for each in found], _WORD.findall(other)
    parts, end = [], 0
    for first, last in _differing(words, others):
        start = found[first].start()
        if start > end:
            parts.append(["same", text[end:start]])
        end = found[last - 1].end()
        parts.append(["other", text[start:end]])
    return [*parts, ["same", text[end:]]] if end < len(text) else parts


def _differing(words: Sequence[str], others: Sequence[str]) -> list[tuple[int, int]]:
    """From where to where words are not those of another text."""
    matcher = difflib.SequenceMatcher(None, words, others, autojunk=len(words) > _LONG)
    if matcher.ratio() < _ALIKE:  # marks everywhere say nothing: where they part is what there is
        pairs = enumerate(zip(words, others, strict=False))
        parting = next((place for place, (a, b) in pairs if a != b), min(len(words), len(others)))
        return [(parting, parting + 1)] if parting < len(words) else []
    codes = matcher.get_opcodes()
    return [(start, end) for kind, start, end, _, _ in codes if kind != "equal" and start < end]
