"""The keywords of JSON Schema that a format takes, for editors: which there are, and what they say.

Schemas are checked by `json_schemas`; a model of them here only says what may be written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, create_model
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from .json_schemas import FORMATS, TYPES

_Type: Any = Literal[TYPES]


class Holds:
    """Says of a field of any value what editors find in it: a mapping with the fields of a model,
    or, as ``entries``, one of any names with such mappings below them.

    Attributes:
        model: asked for when it is needed, since a schema holds schemas.
    """

    def __init__(self, model: Callable[[], type[BaseModel]], *, entries: bool = False) -> None:
        self.model = model
        self.entries = entries

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        named = {_NAME: self.model().__name__}
        if self.entries:
            return {"type": "object", "additionalProperties": named}
        return {"anyOf": [named, {"type": ["boolean", "string"]}]}


_NAME = "definition"  # for a moment: of what pydantic would follow for ever


def defined(schema: Any) -> Any:
    """A JSON Schema that pydantic has made, with references to what `Holds` names."""
    if isinstance(schema, dict):
        if schema.keys() == {_NAME}:
            return {"$ref": f"#/$defs/{schema[_NAME]}"}
        return {key: defined(value) for key, value in schema.items()}
    return [defined(each) for each in schema] if isinstance(schema, list) else schema


_SCHEMA = Annotated[Any, Holds(lambda: JsonSchemaKeywords)]
_NAMED = Annotated[Any, Holds(lambda: JsonSchemaKeywords, entries=True)]
_SEVERAL = list[Annotated[Any, Holds(lambda: JsonSchemaKeywords)]]
_TEXTS = list[str] | str

_KEYWORDS: dict[str, tuple[Any, str]] = {
    "type": (_Type | list[_Type], "What kind of value it is, or a list of kinds."),
    "properties": (_NAMED, "The schemas of an object's values by their names, in this order."),
    "required": (_TEXTS, "The names that an object has for sure."),
    "additionalProperties": (_SCHEMA, "The schema of values of other names; false for none."),
    "items": (_SCHEMA, "The schema of an array's elements."),
    "enum": (list[Any] | str, "The values that there are."),
    "description": (str, "For people; the model does not read it."),
    "minLength": (int | str, "The fewest characters of a string."),
    "maxLength": (int | str, "The most characters of a string."),
    "pattern": (str, "A regular expression that is found in a string."),
    "format": (Literal[FORMATS], "What a string is the text of."),
    "minimum": (float | str, "The least that a number is."),
    "maximum": (float | str, "The most that a number is."),
    "exclusiveMinimum": (float | str, "What a number is above."),
    "exclusiveMaximum": (float | str, "What a number is below."),
    "multipleOf": (float | str, "What a number is a multiple of: 0.01 for two digits."),
    "minItems": (int | str, "The fewest elements of an array."),
    "maxItems": (int | str, "The most elements of an array."),
    "prefixItems": (_SEVERAL, "The schemas of an array's first elements, one each."),
    "const": (Any, "The one value that there is."),
    "anyOf": (_SEVERAL, "Schemas of which a value has one or more."),
    "allOf": (_SEVERAL, "Schemas of which a value has all."),
    "oneOf": (_SEVERAL, "Schemas of which a value has one; they must exclude each other."),
    "minProperties": (int | str, "The fewest names of an object."),
    "maxProperties": (int | str, "The most names of an object."),
    "patternProperties": (_NAMED, "The schemas of values by patterns of their names."),
    "$ref": (str, "Another part of the schema in this place: '#/$defs/NAME'."),
    "$defs": (_NAMED, "Schemas by name, for '$ref'."),
    "title": (str, "For people; the model does not read it."),
}

JsonSchemaKeywords: type[BaseModel] = create_model(
    "JsonSchemaKeywords",
    __config__=ConfigDict(extra="allow", title="JSON Schema"),
    **{  # type: ignore[call-overload]
        name: (type_, Field(None, description=about)) for name, (type_, about) in _KEYWORDS.items()
    },
)
