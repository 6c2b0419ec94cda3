"""What a text must be: JSON of a schema, one of some choices, or what a grammar allows."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from . import grammars, types
from .fields import Boolean, FilledText, OneOrMore, Strict, TemplateOr
from .json_schemas import KEYWORDS, SchemaError
from .schema_keywords import Holds, JsonSchemaKeywords

MAX_CHOICES = 10_000
MAX_CHOICE = 10_000
"""Characters of a choice."""
MAX_DEPTH = 200
"""Of lists and mappings in what a text is the JSON of."""

Kind = Literal["json_schema", "json", "regex", "choices", "grammar"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Choice = Annotated[FilledText, Field(max_length=MAX_CHOICE)]
Choices = Annotated[list[Choice], Field(min_length=1, max_length=MAX_CHOICES), OneOrMore()]
JsonSchema = Annotated[Any, Holds(lambda: JsonSchemaKeywords)]

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # `json` is a deprecated method of pydantic's

    class Format(Strict):
        """What a text must be. It has exactly one of these keys."""

        json_schema: JsonSchema = Field(
            None,
            description="JSON of this schema, a mapping or the file that has it; what the text "
            "says becomes the output.",
        )
        json: Annotated[Boolean, TemplateOr()] | None = Field(  # type: ignore[assignment]
            None, description="true: a JSON object or array, which becomes the output."
        )
        regex: Annotated[FilledText, TemplateOr()] | None = Field(
            None, description="A text that this regular expression matches whole."
        )
        choices: Annotated[Choices, TemplateOr()] | None = Field(
            None, description="One of these texts."
        )
        grammar: Annotated[FilledText, TemplateOr()] | None = Field(
            None,
            description="A text that this grammar allows, in Lark's notation, from its rule "
            "'start'.",
        )

        @model_validator(mode="before")
        @classmethod
        def _in_full(cls, value: Any) -> Any:
            """A word for ``json: true``; an error for a schema that stands alone."""
            if value == "json":
                return {"json": True}
            if isinstance(value, str):
                raise _wrong(f"there is no format {types.show(value)}", _FORMS)
            if isinstance(value, list):
                raise _wrong("a list is no format", _LIST)
            if isinstance(value, Mapping):
                known = [key for key in value if key in KEYWORDS and key not in cls.model_fields]
                if known and value.keys().isdisjoint(cls.model_fields):
                    raise _wrong("a JSON schema stands under 'json_schema'", _INDENT)
            return value

        @field_validator("json")
        @classmethod
        def _only_true(cls, value: Any) -> Any:
            if value is False:
                raise PydanticCustomError("conversion", "it is true or left out")
            return value

        @model_validator(mode="after")
        def _is_one(self, info: ValidationInfo) -> Format:
            given = self.plain()
            if len(given) != 1:
                several = f"it has {' and '.join(map(repr, given))}" if given else "it has none"
                raise _wrong(f"a format has exactly one kind, and {several}", _FORMS)
            if not has_template(given) or (info.context or {}).get("rendered"):
                try:
                    _ = self.llguidance
                except types.ConversionError as error:
                    raise _located(self.kind, error) from None
            return self

        @classmethod
        def __get_pydantic_json_schema__(
            cls, schema: CoreSchema, handler: GetJsonSchemaHandler
        ) -> JsonSchemaValue:
            return {"anyOf": [handler(schema), {"const": "json"}]}

        def plain(self) -> dict[str, Any]:
            """It as it is written, without what is not given."""
            values = ((name, getattr(self, name)) for name in Format.model_fields)
            return {name: value for name, value in values if value is not None}

        @property
        def kind(self) -> Kind:
            """Which key it has."""
            (kind,) = (kind for kind in KINDS if getattr(self, kind) is not None)
            return kind

        @property
        def is_json(self) -> bool:
            """Whether its texts are JSON, and what comes of one is its value."""
            return self.kind in ("json_schema", "json")

        @cached_property
        def llguidance(self) -> str:
            """Its grammar, as the llguidance library takes it.

            Raises:
                ConversionError: it has none; only where it holds templates that were not rendered.
            """
            value = self.plain()[self.kind]
            if self.kind == "json":
                return grammars.of_schema({"type": ["object", "array"]})
            of = {
                "json_schema": grammars.of_schema,
                "regex": grammars.of_regex,
                "choices": grammars.of_choices,
                "grammar": grammars.of_grammar,
            }[self.kind]
            return of(value)

        def value(self, text: str) -> Any:
            """What a text of this format says: the value of JSON, else the text.

            Raises:
                ConversionError: it is no JSON, as where it was cut, or none that can be held here.
            """
            return value_of(text) if self.is_json else text


_FORMS = (
    "Write 'format: json', or one of json_schema, regex, choices and grammar with what it takes."
)
_LIST = "Where the text is one of several, write them below 'choices:'."
_INDENT = "Write 'json_schema:' below 'format:', and the schema below that."


def _wrong(message: str, hint: str | None = None) -> PydanticCustomError:
    return PydanticCustomError("located", "{reason}", {"reason": message, "hint": hint})


def _located(kind: Kind, error: types.ConversionError) -> PydanticCustomError:
    """What is wrong with a format, with the way from it to the place."""
    context: dict[str, Any] = {"reason": str(error), "hint": error.hint, "path": (kind,)}
    if isinstance(error, SchemaError):
        context |= {"path": (kind, *error.path), "at_key": error.at_key}
    elif isinstance(error, grammars.GrammarError):
        context |= {"line": error.line, "column": error.column}
    return PydanticCustomError("located", "{reason}", context)


def value_of(text: str) -> Any:
    """The value of a JSON text, as far as it can be held, shown and passed on.

    Raises:
        ConversionError: it is none, or too deep, or has a number beyond all that computers have.
    """
    try:
        value = json.loads(text, parse_float=_finite, parse_constant=_no_number)
    except RecursionError:
        raise types.ConversionError(f"it is nested more than {MAX_DEPTH} deep") from None
    except types.ConversionError:
        raise
    except ValueError as error:
        raise types.ConversionError(f"it is no JSON: {error}") from None
    level, depth = [value], 0
    while within := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise types.ConversionError(f"it is nested more than {MAX_DEPTH} deep")
        level = [x for each in within for x in (each.values() if isinstance(each, dict) else each)]
    return value


def _finite(text: str) -> float:
    found = float(text)
    if abs(found) == float("inf"):
        raise types.ConversionError(f"the number {types.show(text)} is too large")
    return found


def _no_number(text: str) -> Any:
    raise types.ConversionError(f"{text} is no number of JSON")


def has_template(value: Any) -> bool:
    """Whether a text within a value holds an expression."""
    rest = [value]
    while rest:
        each = rest.pop()
        if isinstance(each, str) and "${" in each:
            return True
        if isinstance(each, Mapping):
            rest += [*each, *each.values()]
        elif isinstance(each, list | tuple):
            rest += each
    return False
