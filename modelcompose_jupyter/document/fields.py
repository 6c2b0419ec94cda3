"""Building blocks of the document's models: field types that agree with the language's types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Tag,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from . import types
from .templates import OPERATORS


class Strict(BaseModel):
    """A mapping of the language: unknown keys are errors."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


def converting(convert: Callable[[Any], Any]) -> BeforeValidator:
    def validate(value: Any) -> Any:
        try:
            return convert(value)
        except types.ConversionError as error:
            raise PydanticCustomError("conversion", "{reason}", {"reason": str(error)}) from None

    return BeforeValidator(validate)


def _plain_text(value: Any) -> str:
    """Text as people write it in YAML: a number or a boolean is a slip, not a text."""
    if isinstance(value, str):
        return value
    if value is None:
        raise types.ConversionError("there is no text here")
    kind = "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else None
    raise types.ConversionError(
        f"{kind or types.show(value)} is not text" + ("" if kind else "; put it in quotes")
    )


def _listed(value: Any) -> Any:
    """One thing or a list of them, as a list."""
    return value if isinstance(value, list | tuple) else [value]


def _filled_text(value: Any) -> str:
    if not (text := _plain_text(value)):
        raise types.ConversionError("an empty text is not allowed here")
    return text


class OneOrMore:
    """Lets a field of a list hold one element as it is."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_listed, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        several = handler(schema)
        return {"anyOf": [several, several["items"]]}


class _Written:
    """Adds to a field's JSON Schema the other ways in which its value may be written."""

    def __init__(self, *ways: JsonSchemaValue) -> None:
        self._ways = ways

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [handler(schema), *self._ways]}


class Meanings:
    """What each value of an enumeration does, for editors: ``enumDescriptions`` beside ``enum``."""

    def __init__(self, **of: str) -> None:
        self._of = of

    def of(self, value: str) -> str:
        """What a value does, which may be written with dashes, or be a word of Python's: ``if_``;
        empty where nothing is said."""
        name = value.replace("-", "_")
        return self._of.get(name) or self._of.get(f"{name}_", "")

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        written = handler(schema)
        return written | {"enumDescriptions": [self.of(each) for each in written["enum"]]}


@dataclass(frozen=True)
class Names:
    """Says of a field what its value is the id of: a job, a component, a workflow, …"""

    kind: str


class Sees:
    """Says of a field which sources the expressions of its value have beside those of all."""

    def __init__(self, *sources: str) -> None:
        self.sources = sources


class TemplateOr:
    """Lets a field hold a template: its value is checked when it has been rendered.

    Validation with the context ``{"rendered": True}`` takes every text as it is.
    """

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        inner = handler(source)

        def validate(value: Any, check: Callable[[Any], Any], info: ValidationInfo) -> Any:
            is_template = isinstance(value, str) and "${" in value
            rendered = (info.context or {}).get("rendered", False)
            return value if is_template and not rendered else check(value)

        return core_schema.with_info_wrap_validator_function(validate, inner, ref=None)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        template = {"type": "string", "pattern": r"\$\{"}
        return {"anyOf": [handler(schema), template]}


_WORDS = ("true", "false", "yes", "no", "on", "off", "1", "0")
_SWITCH_WORDS = "|".join("".join(f"[{c}{c.upper()}]" for c in word) for word in _WORDS)
TextField = Annotated[str, converting(_plain_text)]
_DIGITS = _Written({"type": "string", "pattern": "[0-9]"})
SWITCH = _Written({"enum": [0, 1]}, {"type": "string", "pattern": rf"^\s*({_SWITCH_WORDS})\s*$"})
Number = Annotated[float, converting(types.number), _DIGITS]
Integer = Annotated[int, converting(types.integer), _DIGITS]
Boolean = Annotated[bool, converting(types.boolean), SWITCH]
Size = Annotated[int, converting(types.byte_size), _Written({"type": "number"}), _DIGITS]
Duration = Annotated[float, converting(types.duration), _DIGITS]
Lookup = Annotated[
    int, converting(types.lookup_tokens), _Written({"type": "boolean"}), SWITCH, _DIGITS
]
FilledText = Annotated[str, converting(_filled_text), Field(min_length=1)]
Texts = Annotated[list[FilledText], Field(min_length=1), OneOrMore()]
Identifier = Annotated[FilledText, Field(max_length=200)]


def _shape(value: Any) -> str:
    return "mapping" if isinstance(value, Mapping | BaseModel) else "plain"


# A field that takes a mapping or something plain, with the errors of the one that it got:
# Annotated[Annotated[Mapping, IN_FULL] | Annotated[Plain, IN_SHORT], BY_SHAPE]
IN_FULL, IN_SHORT, BY_SHAPE = Tag("mapping"), Tag("plain"), Discriminator(_shape)

OF_TYPE = "of type "
"""What tags of unions begin with that go by a mapping's ``type``; no key begins so."""


def by_type(default: str, types: tuple[str, ...]) -> Callable[[Any], str]:
    """What tells which mapping of a union it is, by its ``type``: ``default`` where it has none of
    the ``types``, which says then what is wrong."""

    def tag(value: Any) -> str:
        of = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
        is_other = isinstance(of, str) and of in types and of != "action"
        return OF_TYPE + (of if is_other else default)  # type: ignore[operator]

    return tag


def _alternatives(value: Any) -> Any:
    if not isinstance(value, list):
        return _filled_text(value)
    if not value:
        raise types.ConversionError("an empty list names no job")
    return [_filled_text(each) for each in value]


Alternatives = Annotated[
    Any,
    converting(_alternatives),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
            ]
        }
    ),
]
"""An id, or a list of ids of which one is enough."""


def _prompt(value: Any) -> Any:
    if not isinstance(value, list):
        return _plain_text(value)
    if not value:
        raise types.ConversionError("an empty list has no prompt")
    return [each if isinstance(each, Mapping) else _plain_text(each) for each in value]


Prompt = Annotated[
    Any,
    converting(_prompt),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": ["string", "object"]}, "minItems": 1},
            ]
        }
    ),
]


def _message_shape(value: Any) -> str:
    """``mapping`` for one message, ``plain`` for a text or an operator that may give many."""
    is_operator = isinstance(value, Mapping) and not OPERATORS.isdisjoint(value)
    return "plain" if is_operator else _shape(value)


def _message_template(value: Any) -> Any:
    return value if isinstance(value, Mapping) else _plain_text(value)


BY_MESSAGE_SHAPE = Discriminator(_message_shape)
MessageTemplate = Annotated[
    Any,
    converting(_message_template),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "object", "anyOf": [{"required": [key]} for key in sorted(OPERATORS)]},
            ]
        }
    ),
]
