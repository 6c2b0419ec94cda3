"""What a text must be, as OpenAI's clients ask for it and as vLLM's do: each a `Format`, or none.

These convert the value of a parameter to what `Format` takes, and raise `InvalidRequestError` for
one that they cannot. Whether a schema or a grammar can be held to, the format itself says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, PlainValidator, ValidationError

from ..document import explain
from ..document.types import show
from ..errors import Where, did_you_mean
from .openai_errors import InvalidRequestError

Asked = dict[str, Any] | None
"""A format as `Format` takes it; None where any text will do."""

_AN_OBJECT: Asked = {"json_schema": {"type": "object"}}
_SCHEMA = {"name": "my_record", "schema": {"type": "object"}}


def _of_response_format(value: Any) -> Asked:
    given = _mapping(value, "response_format", ("type", "json_schema"))
    kind = given.get("type")
    if kind == "json_schema":
        path = "response_format.json_schema"
        named = _mapping(
            given.get("json_schema"), path, ("name", "description", "schema", "strict")
        )
        if "schema" not in named:
            raise _invalid(path, "has no 'schema'", f"Such as {json.dumps(_SCHEMA)}.")
        for key, kind in (("name", str), ("description", str), ("strict", bool)):
            if key in named and not isinstance(named[key], kind):
                what = "a text" if kind is str else "true or false"
                raise _invalid(f"{path}.{key}", f"is {what}, and not {show(named[key])}")
        return {"json_schema": named["schema"]}
    if "json_schema" in given:
        raise _invalid(
            "response_format.type", f"is json_schema where there is one, and not {show(kind)}"
        )
    if kind not in ("text", "json_object"):
        raise _invalid(
            "response_format.type", f"is text, json_object or json_schema, and not {show(kind)}"
        )
    return _AN_OBJECT if kind == "json_object" else None


def _of_structured_outputs(value: Any) -> Asked:
    kinds = ("json", "regex", "choice", "grammar", "json_object")
    given = _mapping(value, "structured_outputs", kinds)
    if len(given) != 1:
        raise _invalid("structured_outputs", f"has one of {', '.join(kinds)}, not {len(given)}")
    [(kind, asked)] = given.items()
    if kind == "json_object":
        if asked is not True:
            raise _invalid("structured_outputs.json_object", "is true or left out")
        return _AN_OBJECT
    return _GUIDED[kind](asked, f"structured_outputs.{kind}")


def _guided_json(value: Any, path: str) -> Asked:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise _invalid(path, "is a JSON schema, and this text is no JSON") from None
    return {"json_schema": value}


def _guided_regex(value: Any, path: str) -> Asked:
    return {"regex": _text(value, path)}


def _guided_choice(value: Any, path: str) -> Asked:
    if not isinstance(value, list):
        raise _invalid(path, f"is a list of texts, and not {show(value)}")
    return {"choices": [_text(each, f"{path}[{at}]") for at, each in enumerate(value)]}


def _guided_grammar(value: Any, path: str) -> Asked:
    return {"grammar": _text(value, path)}


_GUIDED: Mapping[str, Callable[[Any, str], Asked]] = {
    "json": _guided_json,
    "regex": _guided_regex,
    "choice": _guided_choice,
    "grammar": _guided_grammar,
}


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str) or not value:
        raise _invalid(path, f"is a text, and not {show(value)}")
    return value


def _mapping(value: Any, path: str, known: Sequence[str]) -> dict[str, Any]:
    """A mapping of known keys, without those that are null."""
    if not isinstance(value, dict):
        raise _invalid(path, f"is a mapping, and not {show(value)}")
    given = {key: each for key, each in value.items() if each is not None}
    for key in given:
        if key not in known:
            hint = did_you_mean(key, known) or f"It has {', '.join(known)}."
            raise _invalid(path, f"has no {show(key)}", hint)
    return given


def _invalid(path: str, text: str, hint: str | None = None) -> InvalidRequestError:
    param = path.partition(".")[0].partition("[")[0]
    return InvalidRequestError(f"'{path}' {text}", param=param, hint=hint)


def _converting(convert: Callable[[Any], Asked], schema: Any) -> PlainValidator:
    def converted(value: Any) -> Asked:
        return None if value is None else convert(value)

    return PlainValidator(converted, json_schema_input_type=schema)


def _guided(kind: str) -> Callable[[Any], Asked]:
    return lambda value: _GUIDED[kind](value, f"guided_{kind}")


_OF_VLLM: Mapping[str | int, str] = {"json_schema": "json", "choices": "choice"}


def wrong_format(error: ValidationError, param: str) -> InvalidRequestError:
    """What is wrong with the format that a parameter asks for, with the place in it."""
    details = error.errors()[0]
    context = details.get("ctx", {})
    path = context.get("path") or details["loc"][1:]
    start: tuple[str | int, ...] = (param,)
    if param == "response_format":
        start = (param, "json_schema", "schema")
    elif param == "structured_outputs":
        start = (param, *(_OF_VLLM.get(kind, kind) for kind in path[:1]))
    place = Where("", (*start, *path[1:])).keys
    text, hint = explain(place, {**details, "ctx": {**context, "at_key": False}})
    if "line" in context:
        text = f"{text} (line {context['line']}, column {context['column']})"
    return InvalidRequestError(text, param=param, hint=hint)


ResponseFormat = Annotated[
    Asked,
    _converting(_of_response_format, dict[str, Any] | None),
    Field(
        description="type is text, json_object, or json_schema with json_schema: {name, schema}, "
        "which is always held to."
    ),
]
StructuredOutputs = Annotated[
    Asked,
    _converting(_of_structured_outputs, dict[str, Any] | None),
    Field(description="As vLLM has it: one of json, regex, choice, grammar, json_object."),
]
GuidedJson = Annotated[
    Asked,
    _converting(_guided("json"), dict[str, Any] | bool | str | None),
    Field(description="As vLLM has it: a JSON schema."),
]
GuidedRegex = Annotated[
    Asked,
    _converting(_guided("regex"), str | None),
    Field(description="As vLLM has it: what a text matches whole."),
]
GuidedChoice = Annotated[
    Asked,
    _converting(_guided("choice"), list[str] | None),
    Field(description="As vLLM has it: one of these texts."),
]
GuidedGrammar = Annotated[
    Asked,
    _converting(_guided("grammar"), str | None),
    Field(description="As vLLM has it, in Lark's notation, from the rule start."),
]

FORMATS = (
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
)
"""The parameters that ask for a format."""
