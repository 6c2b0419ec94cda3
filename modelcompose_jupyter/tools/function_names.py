"""What functions are called that somebody gives."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import InputError


def functions_by_name(given: Iterable[Any] | Mapping[str, Any] | None) -> dict[str, Any]:
    """Functions by the names that documents call them by.

    Raises:
        InputError: one has no name.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return dict(given)
    functions = [given] if callable(given) else list(given)
    return {name_of(each): each for each in functions}


def name_of(function: Any) -> str:
    if isinstance(function, functools.partial):
        return name_of(function.func)
    name = getattr(function, "__name__", None)
    if not isinstance(name, str) or not name.isidentifier() or not callable(function):
        raise InputError(
            f"a function without a name, of type {type(function).__name__}"
            if callable(function)
            else f"a function is wanted, and this is {type(function).__name__}",
            hint="Give it by a name: functions={'get_weather': …}.",
            code="no_tool",
        )
    return name
