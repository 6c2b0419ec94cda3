"""Types of Python, as pydantic describes them in JSON schemas, as the language's own types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..document.types import Type

_PLAIN = {
    "string": "text", "integer": "integer", "number": "number", "boolean": "boolean",
    "object": "object", "array": "list",
}  # fmt: skip
_ANY = {"description", "title", "default"}  # what a schema may say that bounds nothing


def type_of(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Type | None:
    """The type that forms, terminals and the API know a schema as; None of one that takes anything.

    Of a choice between texts a select, of a number with both bounds a slider. ``json`` is the type
    of what has no simpler one. ``definitions`` are those that the schema refers to.
    """
    schema = _resolved(schema, definitions)
    if schema.keys() <= _ANY:
        return None
    options = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if options is not None:
        return _of_options(options)
    if "anyOf" in schema:
        return _of_alternatives(schema["anyOf"], definitions)
    name = _PLAIN.get(schema.get("type", ""))
    if name == "list" and "items" in schema:
        element = type_of(schema["items"], definitions)
        if element is not None and not element.holds_list and element.name in _PLAIN.values():
            return Type(element.name, is_list=True)
    if name in ("integer", "number") and {"minimum", "maximum"} <= schema.keys():
        of = int if name == "integer" else float
        return Type("slider", tuple(str(of(schema[key])) for key in ("minimum", "maximum")))
    return Type(name or "json")


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema without its reference, and without what wraps one alone."""
    for _ in range(len(definitions) + 1):
        (only, *more) = schema.get("allOf", ({},))
        name = schema.get("$ref", "" if more else only.get("$ref", "")).rpartition("/")[2]
        if name not in definitions:
            break
        schema = definitions[name]
    return schema


def _of_options(options: list[Any]) -> Type:
    if all(isinstance(each, str) and "," not in each for each in options):
        return Type("select", tuple(options))
    kinds = {type(each) for each in options}
    names = {str: "text", int: "integer", float: "number", bool: "boolean"}
    return Type(names.get(kinds.pop(), "json") if len(kinds) == 1 else "json")


def _of_alternatives(
    alternatives: list[Mapping[str, Any]], definitions: Mapping[str, Any]
) -> Type | None:
    """That of the only one beside null; that of a number that may be a whole one."""
    given = [each for each in alternatives if each.get("type") != "null"]
    if len(given) == 1:
        return type_of(given[0], definitions)
    types = [type_of(each, definitions) for each in given]
    names = {"json" if each is None or each.options else str(each) for each in types}
    return Type("number") if names == {"integer", "number"} else Type("json")
