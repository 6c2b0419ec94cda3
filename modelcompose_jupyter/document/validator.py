"""Checking a document's keys and values against the schema, with errors that people understand."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from ..errors import Problem, did_you_mean
from .parameters import PARAMETER_NAMES
from .reader import Path, Source
from .schema import Compose, models_in, own_keys
from .types import show

# What people write who know other tools, and what it is called here.
_OTHER_NAMES = {
    "max_new_tokens": "max_output_length",
    "max_tokens": "max_output_length",
    "max_length": "max_output_length",
    "min_new_tokens": "min_output_length",
    "min_length": "min_output_length",
    "stop": "stop_sequences",
    "n": "num_return_sequences",
    "dtype": "precision",
    "torch_dtype": "precision",
    "model_id": "model",
    "model_name": "model",
    "needs": "depends_on",
    "parameters": "params",
    "return_full_text": "include_prompt",
}
_NOT_OFFERED = {
    **dict.fromkeys(("listener", "listeners", "gateway", "gateways"), "Listeners and gateways"),
    **dict.fromkeys(("system", "systems", "tracer", "tracers"), "Systems and tracers"),
    **dict.fromkeys(("logger", "loggers"), "Loggers"),
    **dict.fromkeys(("hook", "interrupt", "retry", "on_error"), "Hooks, interrupts and retries"),
    **dict.fromkeys(("quantization", "peft_adapters"), "Quantisation and adapters"),
}
_LIMITS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}


def validate(source: Source) -> tuple[Compose | None, list[Problem]]:
    """The document's models, and what is wrong with it.

    Where some keys are wrong, the models are those of the rest, so that the rest can be checked
    too; they are None where too little is left.
    """
    if not isinstance(source.data, Mapping):
        found = "is empty" if source.data is None else f"holds {show(source.data)}"
        hint = "It begins with 'component:' and 'workflow:'."
        message = f"a document is a mapping, and this one {found}"
        return None, [Problem(message, source.where(()), hint)]
    data = own_keys(copy.deepcopy(dict(source.data)))
    problems: list[Problem] = []
    for _ in range(2):  # wrong keys go first; what is left is validated once more
        try:
            return Compose.model_validate(data), problems
        except ValidationError as error:
            for details in error.errors(include_url=False):
                path = _raw_path(source.data, details["loc"])
                problems.append(_problem(source, path, dict(details)))
                _remove(data, path)
    return None, problems


def _raw_path(data: Any, location: tuple[str | int, ...]) -> Path:
    """A pydantic location as a path through the document: without the names of union branches."""
    path: list[str | int] = []
    for step in location:
        in_list = isinstance(data, list) and isinstance(step, int) and step < len(data)
        if in_list or (isinstance(data, Mapping) and step in data):
            data = data[step]
        elif step in ("mapping", "plain") or isinstance(step, int):
            continue  # a branch of a union, or the one element of something that is no list
        path.append(step)
    return tuple(path)


def _remove(data: Any, path: Path) -> None:
    for step in path[:-1]:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return
    if path and isinstance(data, dict):
        data.pop(path[-1], None)


def _problem(source: Source, path: Path, details: dict[str, Any]) -> Problem:
    kind, context = details["type"], details.get("ctx", {})
    key = next((step for step in reversed(path) if isinstance(step, str)), "")
    value = show(details["input"])
    if kind == "extra_forbidden":
        return _unknown_key(source, path)
    if kind == "missing":
        return Problem(f"'{key}' is missing", source.where(path[:-1]), _MISSING_HINTS.get(key))
    hint = None
    if kind in _LIMITS:
        name, words = _LIMITS[kind]
        message = f"'{key}' must be {words} {context[name]:g}, and it is {value}"
    elif kind == "literal_error":
        expected = [
            word.strip(" '") for word in context["expected"].replace(" or ", ",").split(",")
        ]
        message = f"'{key}' cannot be {value}"
        hint = did_you_mean(str(details["input"]), expected) or f"It is {' or '.join(expected)}."
        if key in ("type", "task", "driver"):
            hint += f" Other {key}s of model-compose do not run here."
    elif kind in ("model_type", "dict_type", "model_attributes_type"):
        message = f"'{key}' must be a mapping, and it is {value}"
    elif kind in ("string_too_short", "too_short"):
        message = f"'{key}' must not be empty"
    elif kind in ("conversion", "lengths"):
        message = f"'{key}': {details['msg']}" if path and kind == "conversion" else details["msg"]
    else:
        message = f"'{key}': {details['msg'].lower()}"
    return Problem(message, source.where(path), hint)


_MISSING_HINTS = {
    "model": "Write a Hub id, a folder or bundled:storyteller.",
    "task": "Write 'task: text-generation'.",
    "type": "Write 'type: model' in a component, 'type: http-server' in a controller's adapter.",
}


def _unknown_key(source: Source, path: Path) -> Problem:
    key = str(path[-1])
    known = _known_keys(path[:-1])
    where = source.where(path, key=True)
    if key in _NOT_OFFERED:
        return Problem(f"'{key}' is not supported", where, f"{_NOT_OFFERED[key]} do not run here.")
    other = _OTHER_NAMES.get(key)
    hint = f"Here it is called '{other}'." if other in known else did_you_mean(key, known)
    if hint is None and key in PARAMETER_NAMES:
        hint = "Generation parameters belong to a component or its action."
    return Problem(f"unknown key '{key}'", where, hint or f"Known here: {', '.join(known)}.")


def _known_keys(path: Path) -> list[str]:
    models: list[type[BaseModel]] = [Compose]
    for step in path:
        if isinstance(step, str):
            fields = [model.model_fields[step] for model in models if step in model.model_fields]
            models = [model for field in fields for model in models_in(field.annotation)]
    return list(dict.fromkeys(name for model in models for name in model.model_fields))
