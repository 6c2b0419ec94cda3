"""Regular expressions of strangers: how long they may take.

Python's `re` tries all ways in which a text may match, keeps everyone else waiting meanwhile, and
cannot be stopped. So a pattern is looked at before it is used.
"""

from __future__ import annotations

import re
from typing import Any

_LONGEST = 10_000
_NAME = 64  # characters of what is matched, about: modules of a model have names like that
_MOST_WAYS = _NAME**5
"""As many as five free parts have, ``.*`` say; those in use have four at most."""


def is_quick(pattern: str) -> bool:
    """Whether a pattern tries no more ways for a name than can be waited for; or is none."""
    if len(pattern) > _LONGEST:
        return False
    try:
        parsed = _parser().parse(pattern)
    except (re.error, RecursionError, OverflowError):
        return True  # whoever uses it says what is wrong
    return _ways(parsed, False) <= _MOST_WAYS


def _parser() -> Any:
    return re._parser  # type: ignore[attr-defined]


def _ways(part: Any, repeated: bool) -> int:
    """About in how many ways a part can match; beyond the most, any larger number."""
    ways = 1
    for operation, given in part:
        name = str(operation)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            least, most, inner = given
            times = min(int(most), _NAME)
            ways *= max(times - int(least), 0) + 1
            ways *= min(_ways(inner, times > 1), _MOST_WAYS + 1) ** times
        elif name == "BRANCH":
            each = [_ways(inner, repeated) for inner in given[1]]
            ways *= sum(each) if repeated else max(each)  # one of them fits, if there is one chance
        elif isinstance(given, tuple | list):
            for inner in (each for each in given if isinstance(each, type(part))):
                ways *= _ways(inner, repeated)
        if ways > _MOST_WAYS:
            return _MOST_WAYS + 1
    return ways
