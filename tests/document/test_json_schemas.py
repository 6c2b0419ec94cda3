"""JSON Schema, keyword by keyword: what is held to, what is refused, and that nothing else is."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from standins.grammar_texts import accepts, drawn

from modelcompose_jupyter.document import json_schemas
from modelcompose_jupyter.document.format import value_of
from modelcompose_jupyter.document.grammars import MAX_DEPTH, MAX_SOURCE, of_schema
from modelcompose_jupyter.document.json_schemas import INSTEAD, SchemaError
from modelcompose_jupyter.document.types import ConversionError

PAIR = {"a": {"type": "integer"}, "b": {"type": "string"}}
CLOSED = {"type": "object", "properties": PAIR, "additionalProperties": False}
CAT = {
    "type": "object",
    "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}},
    "required": ["kind"],
}
DOG = {
    "type": "object",
    "properties": {"kind": {"enum": ["dog", "wolf"]}, "barks": {"type": "boolean"}},
    "required": ["kind"],
}
NODE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "next": {"$ref": "#"}},
    "required": ["name"],
    "additionalProperties": False,
}

# Schemas, texts that are of them, and texts that are not. An instance is written as the grammar
# does it: properties in the schema's order, a blank behind commas and colons.
CASES: list[tuple[Any, list[str], list[str]]] = [
    (True, ["1", '"a"', "[]", '{"a": {}}', "null"], ["", "a", "1 "]),
    ({}, ["1.5", "true"], ["tru"]),
    ({"type": "null"}, ["null"], ["0", '""']),
    ({"type": "boolean"}, ["true", "false"], ["1", '"true"']),
    ({"type": "integer"}, ["0", "-5", "1000000000000000000"], ["1.5", '"1"', "01", "1e3"]),
    ({"type": "integer"}, [], ["1000000000000000001", "9" * 30]),
    ({"type": "number"}, ["0", "-0.5", "12.25"], [".5", "1.", '"1"', "NaN", "1e999"]),
    ({"type": "string"}, ['""', '"é😀"', '"a\\nb"', '"\\""'], ['"', "a", '"\n"', '"\\u0061"']),
    ({"type": ["string", "null"]}, ['"a"', "null"], ["1"]),
    ({"type": ["integer", None]}, ["1", "null"], ['"a"']),
    ({"const": {"a": [1, None]}}, ['{"a": [1, null]}'], ['{"a": [1]}', "{}", '{"a": [1, 0]}']),
    ({"const": 0.1}, ["0.1"], ["0.2", "0.11"]),
    ({"const": "\n\"\\é"}, ['"\\n\\"\\\\é"'], ['""']),
    ({"enum": ["a", 1, None, [2]]}, ['"a"', "1", "null", "[2]"], ['"b"', "2", "[1]"]),
    ({"type": "string", "enum": ["a", 1]}, ['"a"'], ["1"]),
    ({"minLength": 2, "maxLength": 3, "type": "string"}, ['"ab"', '"é😀é"'], ['"a"', '"abcd"']),
    ({"type": "string", "pattern": "b"}, ['"abc"', '"b"'], ['"a"', '""']),
    ({"type": "string", "pattern": "^a+$"}, ['"a"', '"aaa"'], ['"ab"', '""']),
    ({"type": "string", "pattern": r"^\d\w$"}, ['"1a"'], ['"٣a"', '"1é"']),
    ({"pattern": "^a$"}, ['"a"', "1", "[]"], ['"b"']),
    ({"type": "string", "format": "date"}, ['"2024-02-29"'], ['"2023-02-29"', '"2024-04-31"']),
    ({"type": "string", "format": "date"}, ['"1900-02-28"'], ['"1900-02-29"', '"0000-01-01"']),
    ({"type": "string", "format": "time"}, ['"23:59:59Z"'], ['"23:59:60Z"', '"24:00:00Z"']),
    (
        {"type": "string", "format": "date-time", "pattern": "^2"},
        ['"2024-02-29T00:00:00.5+01:00"'],
        ['"1999-01-01T00:00:00Z"', '"2024-02-29"'],
    ),
    ({"format": "uuid"}, ['"12345678-1234-1234-1234-123456789abc"', "1"], ['"1"']),
    ({"format": "ipv4"}, ['"127.0.0.1"'], ['"256.0.0.1"']),
    ({"format": "email"}, ['"a.b@c.de"'], ['"a@"']),
    ({"minimum": -1, "maximum": 1.5, "type": "number"}, ["-1", "0", "1.5"], ["-1.1", "1.51", "2"]),
    (
        {"exclusiveMinimum": 0, "maximum": 0.5, "type": "number"},
        ["0.1", "0.00001", "0.5"],
        ["0", "-0", "0.0", "0.6"],
    ),
    (
        {"minimum": -12.5, "exclusiveMaximum": -12, "type": "number"},
        ["-12.5", "-12.1"],
        ["-12", "-12.0", "-11.9"],
    ),
    (
        {"allOf": [{"type": "number", "exclusiveMinimum": 12}, {"maximum": 12.5}]},
        ["12.1", "12.5"],
        ["12", "12.0", "12.6"],
    ),
    ({"allOf": [{"exclusiveMinimum": 0}, {"type": "integer"}]}, ["1", "20"], ["0", "-1"]),
    ({"exclusiveMinimum": 0, "exclusiveMaximum": 3, "type": "integer"}, ["1", "2"], ["0", "3"]),
    ({"multipleOf": 5, "type": "integer"}, ["0", "15", "-5"], ["1", "12"]),
    ({"multipleOf": 0.01, "type": "number"}, ["1.25", "3"], ["1.255"]),
    (
        {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2},
        ["[1]", "[1, 2]"],
        ["[]", "[1, 2, 3]", '["a"]', "[1,2]"],
    ),
    (
        {"prefixItems": [{"type": "integer"}], "items": {"type": "string"}, "type": "array"},
        ["[]", "[1]", '[1, "a", "b"]'],
        ["[1, 2]", '["a"]'],
    ),
    (
        {"items": [{"type": "integer"}], "additionalItems": False, "type": "array"},
        ["[]", "[1]"],
        ["[1, 2]", '["a"]'],
    ),
    (
        {"type": "object", "properties": PAIR, "required": ["a"]},
        ['{"a": 1}', '{"a": 1, "b": "x"}', '{"a": 1, "c": []}'],
        ["{}", '{"b": "x"}', '{"a": "x"}', '{"a": 1, "a": 2}', '{"a": 1,"b": "x"}'],
    ),
    (CLOSED, ["{}", '{"a": 1, "b": "x"}', '{"b": "x"}'], ['{"c": 1}', '{"b": "x", "a": 1}']),
    (
        {"type": "object", "properties": PAIR, "additionalProperties": {"type": "boolean"}},
        ['{"a": 1, "c": true}', '{"c": true, "d": false}'],
        ['{"c": 1}', '{"a": true}', '{"c": true, "a": 1}', '{"\\u0061": true}'],
    ),
    ({"required": ["x"]}, ['{"x": []}', "1"], ["{}"]),
    (
        {"type": "object", "patternProperties": {"^n_": {"type": "integer"}},
         "additionalProperties": False},
        ["{}", '{"n_a": 1, "n_b": 2}'],
        ['{"x": 1}', '{"n_a": "x"}', '{"\\u006e_a": "x"}'],
    ),
    (
        {"type": "object", "minProperties": 1, "maxProperties": 2,
         "additionalProperties": {"type": "integer"}},
        ['{"a": 1}', '{"a": 1, "b": 2}'],
        ["{}", '{"a": 1, "b": 2, "c": 3}'],
    ),
    ({**CLOSED, "minProperties": 1}, ['{"a": 1}', '{"a": 1, "b": "x"}'], ["{}"]),
    ({"anyOf": [{"type": "integer"}, {"const": "a"}]}, ["1", '"a"'], ['"b"', "1.5"]),
    (
        {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 5}, {"multipleOf": 2}]},
        ["4"],
        ["3", "6", "5"],
    ),
    (
        {"allOf": [{"properties": {"a": {"type": "integer"}}}, {"required": ["a"]}],
         "type": "object"},
        ['{"a": 1}'],
        ["{}", '{"a": "x"}'],
    ),
    (
        {"allOf": [{"properties": {"a": {}}}], "properties": {"b": {}}, "type": "object",
         "additionalProperties": False},
        ['{"b": 1}', "{}"],
        ['{"a": 1}'],
    ),
    ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, ["1", '"a"'], ["1.5"]),
    ({"oneOf": [{"const": 1}, {"const": 2}, {"enum": ["a"]}]}, ["1", "2", '"a"'], ["3"]),
    (
        {"oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}],
         "discriminator": {"propertyName": "kind"}, "$defs": {"cat": CAT, "dog": DOG}},
        ['{"kind": "cat", "lives": 9}', '{"kind": "wolf", "barks": false}'],
        ['{"kind": "owl"}', '{"kind": "cat", "lives": "x"}', "{}"],
    ),
    (
        {"oneOf": [CAT, DOG], "anyOf": [{"required": ["lives"]}, {"required": ["barks"]}]},
        ['{"kind": "dog", "barks": true}'],
        ['{"kind": "dog"}'],
    ),
    (NODE, ['{"name": "a", "next": {"name": "b"}}'], ['{"next": {"name": "b"}}', '{"name": 1}']),
    (
        {"$ref": "#/definitions/a~1b", "definitions": {"a/b": {"type": "integer"}}, "maximum": 3},
        ["3"],
        ["4", '"x"'],
    ),
    (
        {"x-guidance": {"item_separator": ",", "key_separator": ":"}, **CLOSED},
        ['{"a":1,"b":"x"}'],
        ['{"a": 1}'],
    ),
    (
        {"x-guidance": {"whitespace_flexible": True}, **CLOSED},
        ['{ "a": 1\n}', '{"a": 1, "b": "x"}'],
        ['{"c": 1}'],
    ),
    ({"title": "x", "default": 5, "unknown to the standard": 1, "x-own": {}}, ["1"], ["x"]),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "valid", "invalid"), CASES)
def test_what_a_schema_allows(schema: Any, valid: list[str], invalid: list[str]) -> None:
    grammar = of_schema(schema)
    assert [text for text in valid if not accepts(grammar, text)] == []
    assert [text for text in invalid if accepts(grammar, text)] == []


@pytest.mark.parametrize(("schema", "valid", "invalid"), CASES)
def test_what_chance_makes_of_a_schema_is_valid(
    schema: Any, valid: list[str], invalid: list[str]
) -> None:
    grammar = of_schema(schema)
    texts = [drawn(grammar, seed) for seed in range(25)]
    assert sum(text is not None for text in texts) > 5
    check(schema, [text for text in texts if text is not None])


def check(schema: Any, texts: list[str]) -> None:
    """Have another library say whether texts are of a schema."""
    draft: Any = jsonschema.Draft202012Validator
    if "additionalItems" in json.dumps(schema):
        draft = jsonschema.Draft7Validator
    if isinstance(schema, dict):  # what YAML reads as nothing is a type here
        schema = json.loads(json.dumps(schema).replace('["integer", null]', '["integer", "null"]'))
    validator = draft(schema, format_checker=draft.FORMAT_CHECKER)
    for text in texts:
        with contextlib.suppress(ConversionError):  # a number beyond all bounds, where none is
            validator.validate(value_of(text))


def scalars() -> st.SearchStrategy[Any]:
    return st.none() | st.booleans() | st.integers(-50, 50) | st.text('abé"\\', max_size=3)


def schemas() -> st.SearchStrategy[Any]:
    """Schemas of the keywords that are held to."""
    names = st.sampled_from(["a", "b", "name", 'q"'])
    small = st.integers(0, 3)

    def optional(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({}, optional=keys)

    numbers = optional(
        type=st.sampled_from(["integer", "number"]),
        minimum=st.integers(-9, 9),
        maximum=st.integers(-9, 99),
        exclusiveMaximum=st.sampled_from([0.5, 3, 7.25]),
        multipleOf=st.sampled_from([1, 2, 5, 0.5]),
    )
    strings = optional(
        type=st.just("string"),
        minLength=small,
        maxLength=st.integers(0, 9),
        pattern=st.sampled_from(["a", "^[a-c]*$", "x$", "^.b"]),
    )
    constants = st.fixed_dictionaries({"enum": st.lists(scalars(), min_size=1, max_size=4)})
    leaves = st.booleans() | numbers | strings | constants

    def deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        objects = optional(
            type=st.just("object"),
            properties=st.dictionaries(names, inner, max_size=3),
            required=st.lists(names, unique=True, max_size=2),
            additionalProperties=inner,
            maxProperties=small,
        )
        arrays = optional(
            type=st.just("array"),
            items=inner,
            prefixItems=st.lists(inner, min_size=1, max_size=2),
            minItems=small,
            maxItems=small,
        )
        several = st.lists(inner, min_size=1, max_size=3)
        joined = st.one_of(
            st.fixed_dictionaries({key: several}) for key in ("anyOf", "allOf", "oneOf")
        )
        both = st.tuples(objects | arrays, joined).map(lambda pair: {**pair[0], **pair[1]})
        return objects | arrays | joined | both

    return st.recursive(leaves, deeper, max_leaves=8)


@settings(
    max_examples=300, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip
@given(schemas(), st.integers(0, 1000))
def test_a_schema_is_refused_or_held_to(schema: Any, seed: int) -> None:
    try:
        grammar = of_schema(schema)
    except SchemaError:
        return
    texts = [drawn(grammar, seed + place, 400) for place in range(4)]
    check(schema, [text for text in texts if text is not None])


# What is refused


@pytest.mark.parametrize("keyword", sorted(INSTEAD))
def test_what_is_not_held_to_is_refused_with_its_place(keyword: str) -> None:
    schema = {"properties": {"a": {"items": {keyword: {}}}}}
    with pytest.raises(SchemaError) as caught:
        of_schema(schema)
    assert caught.value.path == ("properties", "a", "items", keyword)
    assert caught.value.at_key and caught.value.hint == INSTEAD[keyword]


@pytest.mark.parametrize(
    ("schema", "path", "message"),
    [
        ("string", (), '"string" is no JSON schema'),
        ({"items": "string"}, ("items",), 'a schema is a mapping, true or false, and not "string"'),
        ({"propertys": {}}, ("propertys",), "'propertys' is no keyword of JSON Schema"),
        ({"property": {}}, ("property",), "'property' is no keyword of JSON Schema"),
        ({"type": "int"}, ("type",), 'there is no type "int"'),
        ({"type": []}, ("type",), "'type' names one type or more"),
        ({"enum": []}, ("enum",), "'enum' is a list of values, and not []"),
        ({"anyOf": []}, ("anyOf",), "'anyOf' is a list of schemas, and not []"),
        ({"required": "a"}, ("required",), "'required' is a list of names, not \"a\""),
        ({"minLength": -1}, ("minLength",), "'minLength' is a whole number from 0 on, not -1"),
        ({"maximum": "3"}, ("maximum",), "'maximum' is a number, and not \"3\""),
        ({"exclusiveMinimum": True}, ("exclusiveMinimum",), "'exclusiveMinimum' is a number"),
        ({"multipleOf": 0}, ("multipleOf",), "'multipleOf' is above 0, and not 0"),
        ({"format": "phone"}, ("format",), 'the format "phone" is not known here'),
        ({"pattern": "("}, ("pattern",), 'the schema cannot be held to: "(": unclosed group'),
        ({"pattern": r"a\bc"}, ("pattern",), "the schema cannot be held to"),
        ({"pattern": r"\x01"}, ("pattern",), "control character"),
        ({"const": "a\0"}, ("const",), "the character U+0000 is not written"),
        ({"enum": [{"a\x7f": 1}]}, ("enum", 0, "a\x7f"), "the character U+007F is not written"),
        ({"const": "\ud800"}, ("const",), "half of a surrogate pair"),
        ({"const": 2**53 + 1}, ("const",), "has more than 15 digits"),
        ({"minimum": 123456789.1234567}, ("minimum",), "has more than 15 digits"),
        ({"$ref": "http://x/y"}, ("$ref",), "'$ref' cannot name \"http://x/y\""),
        ({"$ref": "#/$defs/a"}, ("$ref",), "there is no #/$defs/a in the schema"),
        ({"$ref": "#name"}, ("$ref",), "'$ref' cannot name"),
        ({"items": {"$id": "x"}}, ("items", "$id"), "'$id' stands at the top"),
        ({"x-guidance": {"lenient": True}}, ("x-guidance", "lenient"), "has no option 'lenient'"),
        (
            {"x-guidance": {"item_separator": "x"}},
            ("x-guidance", "item_separator"),
            "'item_separator' is ',' with blanks or line breaks around it",
        ),
        (
            {"oneOf": [{"type": "integer"}, {"minimum": 3}]},
            ("oneOf",),
            "'oneOf' cannot be held to where a value may be of two of its schemas",
        ),
        (
            {"oneOf": [CAT, {"type": "object"}]},
            ("oneOf",),
            "'oneOf' cannot be held to where a value may be of two of its schemas",
        ),
        ({"type": "object", "minProperties": 2}, ("minProperties",), "cannot be held to"),
        (
            {"patternProperties": {"a": {}, "b": {}}},
            (),
            "patternProperty regexes /a/ and /b/ are not disjoint",
        ),
    ],
)
def test_a_schema_that_cannot_be_held_to(schema: Any, path: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=re.escape(message)) as caught:
        of_schema(schema)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        (False, ()),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, ()),
        ({"type": "integer", "minimum": 2, "maximum": 1}, ("minimum",)),
        ({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, ()),
        ({"minLength": 3, "maxLength": 2}, ("minLength",)),
        ({"type": "string", "enum": [1, 2]}, ()),
        ({"required": ["a"], "additionalProperties": False}, ("required", 0)),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, ()),
        ({"$ref": "#"}, ()),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#"}}}, ()),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, ()),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, ()),
    ],
)
def test_a_schema_of_no_value_is_refused(schema: Any, path: Any) -> None:
    with pytest.raises(SchemaError) as caught:
        of_schema(schema)
    assert caught.value.path == path


def nested(levels: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


def chain(length: int) -> Any:
    definitions = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(length)}
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{length}": {"type": "string"}}}


def joined(*counts: int) -> Any:
    return {"allOf": [{"enum": [f"{n}" for n in range(count)]} for count in counts]}


@pytest.mark.parametrize(
    ("most", "more"),
    [
        (nested(MAX_DEPTH - 2), nested(MAX_DEPTH - 1)),
        (chain(249), chain(250)),
        ({"const": "x" * 1000}, {"const": "x" * MAX_SOURCE}),
        ({"enum": list(range(20_000))}, {"enum": list(range(20_001))}),
        ({"enum": [[n] for n in range(2_000)]}, {"enum": [[n] for n in range(2_001)]}),
        (
            {"properties": {f"p{n}": {} for n in range(1_000)}},
            {"properties": {f"p{n}": {} for n in range(1_001)}},
        ),
        ({"multipleOf": 9_973}, {"multipleOf": 10_001}),
        (
            {"allOf": [{"multipleOf": 70}, {"multipleOf": 30}]},
            {"allOf": [{"multipleOf": 997}, {"multipleOf": 991}]},
        ),
        (joined(30, 33), joined(31, 33)),
        (
            {"properties": {f"p{n}": {"pattern": f"{n}"} for n in range(500)}},
            {"properties": {f"p{n}": {"pattern": f"{n}"} for n in range(501)}},
        ),
        ({"anyOf": [{"const": n} for n in range(4_999)]}, {"anyOf": [{}] * 5_000}),
        (
            {**CLOSED, "properties": {f"p{n}": {} for n in range(50)}, "minProperties": 1},
            {**CLOSED, "properties": {f"p{n}": {} for n in range(51)}, "minProperties": 1},
        ),
        (
            {"patternProperties": {f"^p{n}_": {} for n in range(16)}},
            {"patternProperties": {f"^p{n}_": {} for n in range(17)}},
        ),
    ],
)  # fmt: skip
def test_schemas_are_bounded(most: Any, more: Any) -> None:
    assert of_schema(most)
    with pytest.raises(ConversionError):
        of_schema(more)


def test_the_table_of_keywords_is_that_of_the_reader() -> None:
    page = (Path(__file__).parents[2] / "docs" / "structured-output.md").read_text("utf-8")
    table = page.partition("## JSON Schema")[2].partition("## Grammars")[0]
    for name in (*json_schemas.KEYWORDS, *INSTEAD, *json_schemas.FORMATS):
        known = name in ("additionalItems", "dependencies", "$recursiveRef", "nullable")
        assert known or f"`{name}`" in table, name


# The suite of the standard's own makers, where it is


SUITE = os.environ.get("JSON_SCHEMA_TEST_SUITE")
# What stays out of reach: other ways to write a number, what a format's expression leaves out, and
# expressions where ECMAScript's are others.
OUT_OF_REACH = re.compile(
    r"float|Float|\[.*\.0\]|by default|optional overflow|leap second|case-insensitive|quoted string"
    r"|IPv6-address-literal|mixed format|long valid ipv6|matches|no validation|bignum|integer"
)


def orders(value: Any) -> Iterator[Any]:
    """A value with its properties in each order."""
    if isinstance(value, dict) and len(value) <= 6:
        for items in itertools.permutations(value.items()):
            for inner in itertools.product(*(list(orders(each)) for _, each in items)):
                yield dict(zip([name for name, _ in items], inner, strict=True))
    elif isinstance(value, list):
        yield from (list(each) for each in itertools.product(*(list(orders(e)) for e in value)))
    else:
        yield value


@pytest.mark.slow
@pytest.mark.skipif(SUITE is None, reason="JSON_SCHEMA_TEST_SUITE names no folder of the suite")
def test_the_suite_of_the_standard() -> None:
    """``tests/draft2020-12`` of the JSON-Schema-Test-Suite, which is in jsonschema's sdist."""
    counts: Counter[str] = Counter()
    wrong = []
    for file in sorted((Path(SUITE or "") / "tests" / "draft2020-12").rglob("*.json")):
        for case in json.loads(file.read_text("utf-8")):
            try:
                grammar = of_schema(case["schema"])
            except ConversionError:
                counts["schemas refused"] += 1
                continue
            counts["schemas taken"] += 1
            for test in case["tests"]:
                written = itertools.islice(orders(test["data"]), 800)
                found = any(accepts(grammar, json.dumps(e, ensure_ascii=False)) for e in written)
                counts[
                    f"{'valid' if test['valid'] else 'invalid'} {'taken' if found else 'not'}"
                ] += 1
                if found != test["valid"] and not (
                    test["valid"] and OUT_OF_REACH.search(test["description"])
                ):
                    wrong.append((file.name, case["description"], test["description"]))
    print(dict(counts))
    assert [each for each in wrong if "ECMA" not in each[1]] == []
    assert counts["schemas taken"] > 150
