"""Which words of a text are in another text, too."""

from __future__ import annotations

import difflib
import re

_ALIKE = 0.5  # texts of which so much is the same have their differences marked
_LONG = 2000  # words from which on frequent ones are passed over
_WORD = re.compile(r"\s+|\w+|[^\w\s]")


def marked(text: str, other: str) -> list[list[str]]:
    """A text in pieces, each with its kind: ``same`` where its words are in the other text, too,
    and ``other`` where they are not. Of texts that have little in common, the first word that
    differs."""
    words, others = _WORD.findall(text), _WORD.findall(other)
    matcher = difflib.SequenceMatcher(None, words, others, autojunk=len(words) > _LONG)
    if matcher.ratio() < _ALIKE:  # marks everywhere say nothing: where they part is what there is
        same = next((i for i, (a, b) in enumerate(zip(words, others, strict=False)) if a != b), 0)
        pieces = (("same", words[:same]), ("other", words[same : same + 1]))
        rest = ("same", words[same + 1 :])
        return [[kind, "".join(part)] for kind, part in (*pieces, rest) if part]
    parts = []
    for kind, start, end, _, _ in matcher.get_opcodes():
        if start < end:
            parts.append(["same" if kind == "equal" else "other", "".join(words[start:end])])
    return parts
