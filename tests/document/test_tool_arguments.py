"""What arguments of tools are held to: all of their schema that texts can be held to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelcompose_jupyter.document import grammars
from modelcompose_jupyter.document.json_schemas import SchemaError


def held_to(**properties: Any) -> dict[str, Any]:
    """What the properties are held to."""
    schema = {"type": "object", "properties": properties}
    found: dict[str, Any] = json.loads(grammars.of_arguments(schema))
    assert found["additionalProperties"] is False
    return found["properties"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("schema", "held"),
    [
        ({"type": "string", "not": {"const": "a"}}, {"type": "string"}),
        ({"type": "string", "format": "binary"}, {"type": "string"}),
        ({"type": "string", "format": "email"}, {"type": "string", "format": "email"}),
        ({"type": "string", "pattern": "(?=a)b"}, {"type": "string"}),
        ({"type": "string", "pattern": "^b"}, {"type": "string", "pattern": "^b"}),
        ({"type": "array", "uniqueItems": True}, {"type": "array"}),
        ({"type": "string", "markdownDescription": "a", "nullable": True}, {"type": "string"}),
        ({"type": "string", "$id": "a", "title": "A"}, {"type": "string"}),
        ({"oneOf": [{"type": "string"}, {"pattern": "a"}]},
         {"allOf": [{"anyOf": [{"type": "string"}, {"pattern": "a"}]}]}),
    ],
)  # fmt: skip
def test_what_cannot_be_held_to_is_let_go(schema: Any, held: Any) -> None:
    assert held_to(a=schema) == {"a": held}


def test_objects_have_the_properties_that_are_named() -> None:
    inner = {"type": "object", "properties": {"b": {"type": "boolean"}}}
    closed = {**inner, "additionalProperties": False}
    any_name = {"type": "object", "additionalProperties": {"type": "string"}}
    by_pattern = {"type": "object", "properties": {}, "patternProperties": {"^x": True}}
    asked = {"a": inner, "c": any_name, "d": {"type": "object"}, "e": by_pattern}
    assert held_to(**asked) == {**asked, "a": closed}


def test_objects_that_are_joined_are_open() -> None:
    """Each would forbid what the others name."""
    parts = [{"type": "object", "properties": {name: {"type": "null"}}} for name in "ab"]
    found = json.loads(grammars.of_arguments({"type": "object", "allOf": parts}))
    assert found["allOf"] == parts


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "strin"}, ("type",)),
        ({"properties": {"a": {"minLength": -1}}}, ("properties", "a", "minLength")),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}}, ("properties", "a", "$ref")),
        ({"allOf": [{"pattern": letter} for letter in "abcdefghijklmnop"]}, ()),
    ],
)
def test_what_is_no_schema_or_takes_for_ever_is_refused(schema: Any, path: Any) -> None:
    with pytest.raises(SchemaError) as caught:
        grammars.of_arguments(schema)
    assert caught.value.path == path
