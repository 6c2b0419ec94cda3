"""Whether a stranger's regular expression is quick, or backtracks without an end.

Python's `re` tries all ways in which a text may match, holds the GIL meanwhile, and cannot be
stopped. So a pattern is looked at before it is used.
"""

from __future__ import annotations

import re
from typing import Any

LONGEST = 100_000
"""Characters; a list of all the layers of a model by their names takes some ten thousand."""
_NAME = 64  # characters of what is matched, about: modules of a model have names like that
_MOST_WAYS = _NAME**5
"""As many as five free parts have, ``.*`` say; those in use have four at most."""


def is_quick(pattern: str) -> bool:
    """Whether a pattern tries no more ways for a name than can be waited for; or is none.

    One of more than `LONGEST` characters is not looked at, and not quick.
    """
    if len(pattern) > LONGEST:
        return False
    try:
        parsed = re._parser.parse(pattern)  # type: ignore[attr-defined]
    except (re.error, RecursionError, OverflowError):
        return True  # whoever uses it says what is wrong
    return _ways(parsed, False) <= _MOST_WAYS


def _ways(part: Any, repeated: bool) -> int:
    """About in how many ways a part can match; beyond the most, any larger number."""
    ways = 1
    for place, (operation, given) in enumerate(part):
        name = str(operation)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            least, most, inner = given
            if place + 1 < len(part) and _ends(inner, part[place + 1]):
                continue
            times = min(int(most), _NAME)
            ways *= max(times - int(least), 0) + 1
            ways *= min(_ways(inner, times > 1), _MOST_WAYS + 1) ** times
        elif name == "BRANCH":
            each = [_ways(inner, repeated) for inner in given[1]]
            # Where there is one chance, plain names fail at once.
            ways *= sum(each) if repeated else max(1, sum(ways for ways in each if ways > 1))
        elif isinstance(given, tuple | list):
            for inner in (each for each in given if isinstance(each, type(part))):
                ways *= _ways(inner, repeated)
        if ways > _MOST_WAYS:
            return _MOST_WAYS + 1
    return ways


def _ends(repeated: Any, following: tuple[Any, Any]) -> bool:
    """Whether a repeat of one character can end at one place alone: ``[^.]+`` before a dot.

    What follows must be a character that it does not take, and that has no other case.
    """
    operation, code = following
    if str(operation) != "LITERAL" or len(repeated) != 1:
        return False
    character = chr(code)
    return character.lower() == character.upper() and _takes(repeated[0], character) is False


_CATEGORIES = {"CATEGORY_WORD": r"\w", "CATEGORY_DIGIT": r"\d", "CATEGORY_SPACE": r"\s"}


def _takes(part: tuple[Any, Any], character: str) -> bool | None:
    """Whether what stands for one character takes this one; None where that is not known."""
    operation, given = part
    name = str(operation)
    if name == "LITERAL":
        return bool(given == ord(character))
    if name == "NOT_LITERAL":
        return bool(given != ord(character))
    if name == "RANGE":
        return bool(given[0] <= ord(character) <= given[1])
    if name == "CATEGORY" and str(given) in _CATEGORIES:
        return re.fullmatch(_CATEGORIES[str(given)], character) is not None
    if name == "IN":
        negated = str(given[0][0]) == "NEGATE"
        each = [_takes(item, character) for item in given[negated:]]
        return None if None in each else any(each) != negated
    return None
