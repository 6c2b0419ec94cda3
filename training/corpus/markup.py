"""Text with learning weights.

Generators write entities between control characters; :func:`finish` strips these and turns them
into character spans with a weight for the training loss. A weight of 0 means "read, never write".
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

USER = "<|user|>"
ASSISTANT = "<|assistant|>"
END_OF_TEXT = "<|endoftext|>"

SETTING_WEIGHT = 1.5

_OPEN, _CLOSE = "\x01", "\x02"
_MARK = re.compile(f"{_OPEN}(.){_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}")
_ALTERNATIVES = re.compile(r"\[([^\[\]]*)\]")

READ_ONLY = "r"  # prompts, user turns, noise
KNOWN_ENTITY = "k"  # an entity the model may introduce by itself
NOVEL_ENTITY = "n"  # an entity it only has to copy: its first mention is not learned
SETTING = "s"  # a phrase that depends on the setting


@dataclass
class Document:
    """One training text; ``weights`` holds ``(start, end, weight)`` where it is not 1."""

    text: str
    weights: list[tuple[int, int, float]] = field(default_factory=list)


def mark(role: str, text: str) -> str:
    """Wrap ``text`` so that :func:`finish` gives it the weight of ``role``."""
    return f"{_OPEN}{role}{_OPEN}{text}{_CLOSE}"


def plain(text: str) -> str:
    """The text without any mark."""
    return _MARK.sub(r"\2", text)


def read_only(text: str) -> str:
    """Mark a whole passage as context, while its entities still count as mentioned."""
    pieces, position = [], 0
    for match in _MARK.finditer(text):
        pieces += [mark(READ_ONLY, text[position : match.start()])]
        role = match[1].upper() if match[1] in (KNOWN_ENTITY, NOVEL_ENTITY) else READ_ONLY
        pieces += [mark(role, match[2])]
        position = match.end()
    pieces.append(mark(READ_ONLY, text[position:]))
    return "".join(pieces)


def choose(rng: random.Random, template: str) -> str:
    """Replace every ``[a|b]`` of ``template`` by one of its alternatives."""
    return _ALTERNATIVES.sub(lambda match: rng.choice(match[1].split("|")), template)


def capitalize(text: str) -> str:
    """Upper-case the first visible letter, marked or not."""
    start = 3 if text.startswith(_OPEN) else 0
    return text[:start] + text[start : start + 1].upper() + text[start + 1 :]


def article(text: str) -> str:
    """``a`` or ``an`` for the given (possibly marked) words."""
    word = plain(text).lower()
    vowel = word[:1] in tuple("aeiou") and not word.startswith(("uni", "use", "eu", "one"))
    return "an" if vowel or word.startswith(("hour", "honest")) else "a"


def finish(marked: str, copy_weight: float) -> Document:
    """Strip the marks and compute the weights; repeated entities count ``copy_weight``."""
    document = Document("")
    seen: set[str] = set()
    position = 0
    for match in _MARK.finditer(marked):
        document.text += marked[position : match.start()]
        role, text = match[1], match[2]
        start = len(document.text)
        document.text += text
        position = match.end()
        weight = 1.0
        if role in (READ_ONLY, KNOWN_ENTITY.upper(), NOVEL_ENTITY.upper()):
            weight = 0.0
        elif role == SETTING:
            weight = SETTING_WEIGHT
        elif text in seen:
            weight = copy_weight
        elif role == NOVEL_ENTITY:
            weight = 0.0
        if role != READ_ONLY:
            seen.add(text)
        if weight != 1.0 and text:
            document.weights.append((start, len(document.text), weight))
    document.text += marked[position:]
    return document
