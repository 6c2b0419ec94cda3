"""Checking a document's keys and values against the schema, with errors that people understand."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from ..errors import Where
from . import hints
from .fields import OF_TYPE
from .reader import KeyPath, Source
from .schema import Compose, own_keys
from .types import show

_LIMITS = {
    "greater_than": "gt",
    "greater_than_equal": "ge",
    "less_than": "lt",
    "less_than_equal": "le",
}


_MISSING = ("missing", "lacking")
"""Kinds of errors about keys that are not there: the second where others of the mapping ask for
them."""

# What stands in for a required key that is missing or wrong, so that the rest can be checked.
_STAND_INS = {
    "type": "model", "task": "text-generation", "model": "?", "role": "user", "content": "",
    "name": "?", "input": "", "output": None, "value": None, "then": {"output": None}, "do": {},
    "cases": [{"value": None, "then": {"output": None}}], "routings": [{"output": None}],
    "max_iteration_count": 1, "max_attempt_count": 1,
}  # fmt: skip


@dataclass
class Validated:
    """A document's models.

    Where some of its keys and values are wrong, the models are those of the rest, so that the rest
    can be checked too; ``compose`` is None where too little is left. ``spoiled`` holds the paths of
    what is wrong, also of keys that were meant: what follows from it is no problem of its own.
    """

    compose: Compose | None = None
    spoiled: set[KeyPath] = field(default_factory=set)


def validate(source: Source) -> Validated:
    """Check a document's keys and values; the source gets the problems."""
    if not isinstance(source.data, Mapping):
        found = "is empty" if source.data is None else f"holds {show(source.data)}"
        hint = "It begins with 'component:' and 'workflow:'."
        source.report(f"a document is a mapping, and this one {found}", (), hint=hint)
        return Validated()
    data = own_keys(_copied(source.data))
    result = Validated()
    for _ in range(3):  # wrong values go, stand-ins come, and what is left is validated once more
        try:
            result.compose = Compose.model_validate(data)
            break
        except ValidationError as error:
            errors = error.errors(include_url=False)
            # What is missing comes last: it may stand there under a wrong name.
            for wrong in sorted(errors, key=lambda each: each["type"] in _MISSING):
                _note(result, source, data, dict(wrong))
    return result


def _copied(value: Any) -> Any:
    """A copy of plain data, a third faster than by `copy.deepcopy`."""
    if isinstance(value, dict):
        return {key: _copied(entry) for key, entry in value.items()}
    return [_copied(element) for element in value] if isinstance(value, list) else value


def _note(result: Validated, source: Source, data: Any, details: dict[str, Any]) -> None:
    """Note one of pydantic's errors, and take away what it is about."""
    path = _raw_path(source.data, details["loc"])
    if _is_no_list(result, source, data, path):
        return
    if details["type"] in ("together", "lacking"):  # said of a mapping, for one of its keys
        path = (*path, details["ctx"]["key"])
    path = (*path, *details.get("ctx", {}).get("path", ()))
    if details["type"] == "located" and any(each[: len(path)] == path for each in result.spoiled):
        return  # what is wrong in it was taken away, so that it lacks something now
    # Of a type that is wrong nobody knows which keys there are.
    of_lost_type = (*path[:-1], "type") in result.spoiled and _has_type(source.data, path[:-1])
    if details["type"] in _MISSING:
        instead = (*path[:-1], details.get("ctx", {}).get("unless", path[-1]))
        is_choice = details["type"] == "lacking"  # which may be what is unknown there
        is_lost = is_choice and any(each[:-1] == path[:-1] for each in result.spoiled)
        if result.spoiled.isdisjoint((path, instead)) and not of_lost_type and not is_lost:
            _report(source, path, details)
        result.spoiled.add(path)
        _stand_in(data, path)
        return
    is_unknown = details["type"] == "extra_forbidden"
    if not (is_unknown and of_lost_type):
        _report(source, path, details)
    meant = hints.keys_at(source.data, path[:-1]).meant(str(path[-1])) if is_unknown else path[-1]
    result.spoiled |= {path, (*path[:-1], meant)}
    while path and isinstance(path[-1], int) and path[-2] not in hints.LISTS:
        path = path[:-1]
    result.spoiled.add(path)
    _remove(data, path)


def _is_no_list(result: Validated, source: Source, data: Any, path: KeyPath) -> bool:
    """Whether a place is in a mapping that stands for a list and has no key of an element: of
    names with what belongs to them, say. That is one problem."""
    at, key = path[:-1], path[-2] if len(path) > 1 else None
    if key not in hints.LISTS:
        return False
    written = _at(source.data, at)
    if not isinstance(written, Mapping):
        return False
    keys = hints.keys_at(source.data, at)
    if not written or any(keys.meant(str(each)) in keys.known for each in written):
        return False
    if at not in result.spoiled:
        first = f", with {hints.LISTS[key]}" if hints.LISTS[key] else ""
        message = f"'{key}' is a list, and this is a mapping"
        source.report(message, at, key=True, hint=f"Each of its elements begins with '- '{first}.")
        result.spoiled.add(at)
        _remove(data, at)
    return True


def _at(data: Any, path: KeyPath) -> Any:
    for step in path:
        data = data[step]
    return data


def _has_type(data: Any, path: KeyPath) -> bool:
    """Whether a ``type`` is written in the mapping at a place."""
    for step in path:
        data = data[step]
    return isinstance(data, Mapping) and "type" in data


def _stand_in(data: Any, path: KeyPath) -> None:
    for step in path[:-1]:
        if isinstance(data, dict) and step not in data:
            return  # taken away with something else that is wrong there
        data = data[step]
    key = path[-1]
    if key == "type" and path[0] == "controller":
        data[key] = "http-server"
    elif key == "function":
        data[key] = {"name": "?"} if "tool_calls" in path else "?"
    else:
        data[key] = _STAND_INS[str(key)]


def _raw_path(data: Any, location: tuple[str | int, ...]) -> KeyPath:
    """A pydantic location as a path through the document: without the names of union branches."""
    path: list[str | int] = []
    for step in location:
        in_list = isinstance(data, list) and isinstance(step, int) and step < len(data)
        if in_list or (isinstance(data, Mapping) and step in data):
            data = data[step]
        elif step in ("mapping", "plain") or isinstance(step, int):
            continue  # a branch of a union, or the one element of something that is no list
        elif isinstance(step, str) and step.startswith(OF_TYPE):
            continue
        path.append(step)
    return tuple(path)


def _remove(data: Any, path: KeyPath) -> None:
    with contextlib.suppress(KeyError, IndexError, TypeError):  # it is taken away already
        for step in path[:-1]:
            data = data[step]
        if path and isinstance(data, dict):
            data.pop(path[-1], None)


def _report(source: Source, path: KeyPath, details: dict[str, Any]) -> None:
    key = _name(path)
    if details["type"] == "extra_forbidden":
        owner = str(path[-2]) if len(path) > 1 else ""
        unknown, known = hints.keys_at(source.data, path[:-1]).unknown(str(path[-1]), owner)
        source.report(unknown, path, key=True, hint=known)
    elif details["type"] in _MISSING:
        source.report(f"'{key}' is missing", path[:-1], hint=hints.MISSING.get(key))
    else:
        message, hint = explain(key, details)
        context = details.get("ctx", {})
        at = source.in_text(path, context["line"], context["column"]) if "line" in context else None
        if at is None and "line" in context:
            line, column = context["line"], context["column"]
            message = f"{message} (line {line}, column {column} of it)"
        source.report(message, path, key=context.get("at_key", False), hint=hint, at=at)


def explain(key: str, details: Mapping[str, Any]) -> tuple[str, str | None]:
    """One of pydantic's errors about the value of a key, as a message and a hint for people."""
    kind, context = details["type"], details.get("ctx", {})
    value = show(details["input"])
    hint = None
    if kind in _LIMITS:
        limit = context[_LIMITS[kind]]
        message = {  # whole, so that each has a translation of its own
            "greater_than": f"'{key}' must be above {limit}, and it is {value}",
            "greater_than_equal": f"'{key}' must be at least {limit}, and it is {value}",
            "less_than": f"'{key}' must be below {limit}, and it is {value}",
            "less_than_equal": f"'{key}' must be at most {limit}, and it is {value}",
        }[kind]
    elif kind == "literal_error":
        words = context["expected"].replace(" or ", ",").split(",")
        expected = [word.strip(" '") for word in words]
        message = f"'{key}' cannot be {value}"
        hint = hints.of_value(key, details["input"], expected)
    elif kind == "extra_forbidden":
        message = f"'{key}' is not known here"
    elif kind in ("model_type", "dict_type", "model_attributes_type"):
        message = f"'{key}' must be a mapping, and it is {value}"
        hint = hints.of_form(key, details["input"])
    elif kind in ("string_too_short", "too_short"):
        message = f"'{key}' must not be empty"
    elif kind in ("string_too_long", "too_long"):
        message = f"'{key}' must have at most {context['max_length']} characters"
    elif kind == "located":
        message, hint = details["msg"], context["hint"]
        message = message if context.get("at_key") else f"'{key}': {message}"
    elif kind in ("conversion", "together"):
        message = f"'{key}': {details['msg']}" if key and kind == "conversion" else details["msg"]
        hint = hints.of_form(key, details["input"]) if kind == "conversion" else None
    else:
        message = f"'{key}' cannot be {value}"
    return message, hint


def _name(path: KeyPath) -> str:
    """The last key of a path, with the indexes after it: ``stop_sequences[0]``."""
    start = max((at for at, step in enumerate(path) if isinstance(step, str)), default=0)
    return Where("", path[start:]).keys
