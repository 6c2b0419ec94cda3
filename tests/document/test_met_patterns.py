"""Patterns that a value of a schema has together: more than some would be looked at for ever."""

from __future__ import annotations

from typing import Any

import pytest

from modelcompose_jupyter.document import grammars
from modelcompose_jupyter.document.json_schemas import MAX_MET_PATTERNS, SchemaError

MANY = [{"type": "string", "pattern": f"{letter}"} for letter in "abcdefghijklmnopqrst"]
FEW = MANY[: MAX_MET_PATTERNS // 2]
CHAIN = {f"part{n}": {**each, "$ref": f"#/$defs/part{n + 1}"} for n, each in enumerate(MANY)}
NESTED: dict[str, Any] = {}
for each in MANY:
    NESTED = {**each, "anyOf": [NESTED]}


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": MANY},
        {"allOf": [{"type": "array", "items": each} for each in MANY]},
        {"allOf": [{"type": "array", "prefixItems": [each]} for each in MANY]},
        {"allOf": [{"type": "array", "prefixItems": [{"allOf": FEW}]},
                   {"type": "array", "items": {"allOf": MANY[10:]}}]},
        {"allOf": [{"properties": {"x": each}} for each in MANY]},
        {"properties": {"x": {"allOf": FEW}}, "patternProperties": {"^x": {"allOf": MANY[10:]}}},
        {"allOf": [{"properties": {"x": {"allOf": FEW}}},
                   {"additionalProperties": {"allOf": MANY[10:]}}]},
        {"properties": {"a": {"allOf": MANY}}},
        {"$defs": {**CHAIN, f"part{len(MANY)}": {}}, "$ref": "#/$defs/part0"},
        NESTED,
    ],
)  # fmt: skip
def test_many_are_refused_wherever_they_meet(schema: Any) -> None:
    with pytest.raises(SchemaError, match=f"more than {MAX_MET_PATTERNS} patterns"):
        grammars.of_schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"type": "string", "pattern": "^[a-z]"}, {"pattern": "c$"}]},
        {"properties": {each["pattern"]: each for each in MANY}},
        {"anyOf": MANY},
        {"type": "array", "prefixItems": MANY},
        {"allOf": [{"properties": {"a": each}} for each in MANY[:2]]
                  + [{"properties": {each["pattern"]: each}} for each in MANY[2:]]},
    ],
)  # fmt: skip
def test_those_that_do_not_meet_are_taken(schema: Any) -> None:
    assert grammars.of_schema(schema)
