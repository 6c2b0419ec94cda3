"""Checking a document's keys and values against the schema, with errors that people understand."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ValidationError

from ..errors import Where, did_you_mean, nearest
from .fields import OF_TYPE
from .parameters import PARAMETER_NAMES
from .reader import KeyPath, Source
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
    "assistant_model": "draft_model",
    "prompt_lookup_num_tokens": "prompt_lookup",
    "lora": "peft_adapters",
    "loras": "peft_adapters",
    "scale": "weight",
    "load_in_4bit": "quantization",
    "load_in_8bit": "quantization",
    "quantization_config": "quantization",
    "kv_cache_dtype": "cache_quantization",
    "cache_implementation": "cache_quantization",
    "response_format": "format",
}
_ELSEWHERE = {
    **dict.fromkeys(
        ("json_schema", "regex", "choices", "grammar"), "Write it below 'format:', as its one key."
    ),
    "reasoning_effort": "Chat templates read it: write it below 'chat_template_kwargs:'.",
}
"""What people write into a component that has a place further within."""
_VALUES_ELSEWHERE = {
    ("precision", "int8"): "Write 'quantization: int8'.",
    ("precision", "int4"): "Write 'quantization: int4'.",
    ("quantization", "4"): "Write 'quantization: int4'.",
    ("quantization", "8"): "Write 'quantization: int8'.",
    ("quantization", "nf4"): "Write 'quantization: int4'.",
    ("quantization", "fp8"): "Write 'quantization: int8'.",
}
"""What people write for a key who know other tools, and where it belongs."""
_NOT_OFFERED = {
    **dict.fromkeys(("listener", "listeners", "gateway", "gateways"), "Listeners and gateways"),
    **dict.fromkeys(("system", "systems", "tracer", "tracers"), "Systems and tracers"),
    **dict.fromkeys(("logger", "loggers"), "Loggers"),
    "hook": "Hooks",
}
_LIMITS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
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
_LISTS = (
    "components", "actions", "workflows", "jobs", "adapters", "peft_adapters", "conditions",
    "cases", "routings",
)  # fmt: skip


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
    if details["type"] in ("together", "lacking"):  # said of a mapping, for one of its keys
        path = (*path, details["ctx"]["key"])
    path = (*path, *details.get("ctx", {}).get("path", ()))
    if details["type"] == "located" and any(each[: len(path)] == path for each in result.spoiled):
        return  # what is wrong in it was taken away, so that it lacks something now
    if details["type"] in _MISSING:
        instead = (*path[:-1], details.get("ctx", {}).get("unless", path[-1]))
        if result.spoiled.isdisjoint((path, instead)):
            _report(source, path, details)
        _stand_in(data, path)
        return
    of_lost_type = details["type"] == "extra_forbidden" and (*path[:-1], "type") in result.spoiled
    if not of_lost_type:  # else nobody knows which keys there are
        _report(source, path, details)
    result.spoiled |= {path, (*path[:-1], _meant(path))}
    while path and isinstance(path[-1], int) and path[-2] not in _LISTS:
        path = path[:-1]
    result.spoiled.add(path)
    _remove(data, path)


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
        unknown, known = _unknown_key(path)
        source.report(unknown, path, key=True, hint=known)
    elif details["type"] in _MISSING:
        source.report(f"'{key}' is missing", path[:-1], hint=_MISSING_HINTS.get(key))
    else:
        message, hint = explain(key, details)
        context = details.get("ctx", {})
        at = source.in_text(path, context["line"], context["column"]) if "line" in context else None
        if at is None and "line" in context:
            message += f" (line {context['line']}, column {context['column']} of it)"
        source.report(message, path, key=context.get("at_key", False), hint=hint, at=at)


def explain(key: str, details: Mapping[str, Any]) -> tuple[str, str | None]:
    """One of pydantic's errors about the value of a key, as a message and a hint for people."""
    kind, context = details["type"], details.get("ctx", {})
    value = show(details["input"])
    hint = None
    if kind in _LIMITS:
        name, words = _LIMITS[kind]
        message = f"'{key}' must be {words} {context[name]}, and it is {value}"
    elif kind == "literal_error":
        words = context["expected"].replace(" or ", ",").split(",")
        expected = [word.strip(" '") for word in words]
        message = f"'{key}' cannot be {value}"
        given = str(details["input"])
        hint = _VALUES_ELSEWHERE.get((key, given)) or did_you_mean(given, expected)
        hint = hint or f"It is {' or '.join(expected)}."
        if key in ("type", "task", "driver"):
            hint += f" Other {key}s of model-compose do not run here."
    elif kind == "extra_forbidden":
        message = f"'{key}' is not known here"
    elif kind in ("model_type", "dict_type", "model_attributes_type"):
        message = f"'{key}' must be a mapping, and it is {value}"
    elif kind in ("string_too_short", "too_short"):
        message = f"'{key}' must not be empty"
    elif kind in ("string_too_long", "too_long"):
        message = f"'{key}' must have at most {context['max_length']} characters"
    elif kind == "located":
        message, hint = details["msg"], context["hint"]
        message = message if context.get("at_key") else f"'{key}': {message}"
    elif kind in ("conversion", "together"):
        message = f"'{key}': {details['msg']}" if key and kind == "conversion" else details["msg"]
    else:
        message = f"'{key}' cannot be {value}"
    return message, hint


_MISSING_HINTS = {
    "model": "Write a Hub id, a folder or bundled:storyteller.",
    "task": "Write 'task: text-generation' or 'task: chat-completion'.",
    "role": "Write 'role: user', say.",
    "content": "Write 'content: ${input.prompt as text}', say.",
    "type": "Write 'type: model' in a component, 'type: http-server' in a controller's adapter.",
    "max_iteration_count": "A loop has a bound: write 'max_iteration_count: 10', say.",
    "do": "It is the inner job: write 'do:', and 'component:' below it.",
}


def _name(path: KeyPath) -> str:
    """The last key of a path, with the indexes after it: ``stop_sequences[0]``."""
    start = max((at for at, step in enumerate(path) if isinstance(step, str)), default=0)
    return Where("", path[start:]).keys


def _meant(path: KeyPath) -> str:
    """What a key is called that goes by another name elsewhere, or is misspelt; else itself."""
    key, known = str(path[-1]), _known_keys(path[:-1])
    other = _OTHER_NAMES.get(key)
    return other if other in known else nearest(key, known) or key


def _unknown_key(path: KeyPath) -> tuple[str, str]:
    """What is said of a key that nothing knows."""
    key = str(path[-1])
    known = _known_keys(path[:-1])
    if key in _NOT_OFFERED:
        return f"'{key}' is not supported", f"{_NOT_OFFERED[key]} do not run here."
    other = _OTHER_NAMES.get(key)
    hint = f"Here it is called '{other}'." if other in known else None
    if key in _ELSEWHERE and "format" in known:
        hint = _ELSEWHERE[key]
    hint = hint or did_you_mean(key, known)
    if hint is None and len(path) > 1 and path[-2] in _LISTS:
        hint = f"'{path[-2]}' is a list: each of its elements begins with '- '."
    if hint is None and key in PARAMETER_NAMES:
        hint = "Generation parameters belong to a component or its action."
    return f"unknown key '{key}'", hint or f"Known here: {', '.join(known)}."


def _known_keys(path: KeyPath) -> tuple[str, ...]:
    return _keys_under(tuple(step for step in path if isinstance(step, str)))


@lru_cache(maxsize=256)
def _keys_under(path: tuple[str, ...]) -> tuple[str, ...]:
    models: list[type[BaseModel]] = [Compose]
    for step in path:
        fields = [model.model_fields[step] for model in models if step in model.model_fields]
        models = [model for field in fields for model in models_in(field.annotation)]
    return tuple(dict.fromkeys(name for model in models for name in model.model_fields))
