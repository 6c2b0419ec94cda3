"""Building blocks of the document's models: field types that agree with the language's types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

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
from .expression import is_template


class Strict(BaseModel):
    """A mapping of the language: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _converting(convert: Callable[[Any], Any]) -> BeforeValidator:
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


class TemplateOr:
    """Lets a field hold a template: its value is checked when it has been rendered.

    Validation with the context ``{"rendered": True}`` takes every text as it is.
    """

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        inner = handler(source)

        def validate(value: Any, check: Callable[[Any], Any], info: ValidationInfo) -> Any:
            rendered = (info.context or {}).get("rendered", False)
            return value if is_template(value) and not rendered else check(value)

        return core_schema.with_info_wrap_validator_function(validate, inner, ref=None)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        template = {"type": "string", "pattern": r"\$\{"}
        return {"anyOf": [handler(schema), template]}


TextField = Annotated[str, _converting(_plain_text)]
Number = Annotated[float, _converting(types.number)]
Integer = Annotated[int, _converting(types.integer)]
Boolean = Annotated[bool, _converting(types.boolean)]
Texts = Annotated[list[Annotated[TextField, Field(min_length=1)]], BeforeValidator(_listed)]
Identifier = Annotated[TextField, Field(min_length=1, max_length=200)]
OneOrMore = BeforeValidator(_listed)


def _shape(value: Any) -> str:
    return "mapping" if isinstance(value, Mapping | BaseModel) else "plain"


# A field that takes a mapping or something plain, with the errors of the one that it got:
# Annotated[Annotated[Mapping, IN_FULL] | Annotated[Plain, IN_SHORT], BY_SHAPE]
IN_FULL, IN_SHORT, BY_SHAPE = Tag("mapping"), Tag("plain"), Discriminator(_shape)


def _prompt(value: Any) -> Any:
    return value if isinstance(value, list) else _plain_text(value)


Prompt = Annotated[
    Any,
    _converting(_prompt),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array"}]}),
]
