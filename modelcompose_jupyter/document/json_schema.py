"""The JSON Schema of documents, for editors that know no other description of a language."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from .schema import Compose
from .schema_keywords import JsonSchemaKeywords, defined

Schema = dict[str, Any]

_LIMITS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_NAMED = ("properties", "$defs", "patternProperties")
"""Keywords whose value has schemas by names."""
_SHORT = 120  # characters: what is shorter is not worth a reference


def json_schema() -> Schema:
    """The JSON Schema (draft 2020-12) of a document.

    A mapping that goes by its ``type`` has the keys of that; what stands in several places is a
    definition.
    """
    made = Compose.model_json_schema()
    made["$defs"][JsonSchemaKeywords.__name__] = JsonSchemaKeywords.model_json_schema()
    schema = _Shared(_ByType(_plain(defined(made))).schema).schema
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "model-compose document"
    schema["patternProperties"] = {"^x-": {}}
    return schema


def _with_parts(schema: Schema, change: Callable[[Schema, str], Any]) -> Schema:
    """A schema with each of those directly in it changed, which gets the name or keyword that it
    stands under, too."""

    def changed(key: str, value: Any) -> Any:
        if key in _NAMED:
            return {name: change(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [change(each, key) if isinstance(each, dict) else each for each in value]
        return change(value, key) if isinstance(value, dict) else value

    return {key: changed(key, value) for key, value in schema.items()}


def _plain(schema: Schema, name: str = "") -> Schema:
    """Limits by JSON Schema's names, since pydantic leaves its own on types that convert first; no
    titles that repeat a name, and no defaults that are nothing."""
    kept = {
        _LIMITS.get(key, key): value
        for key, value in schema.items()
        if key != "title" and (key, value) != ("default", None)
    }
    return _with_parts(kept, _plain)


class _ByType:
    """A schema whose choices of mappings of different types are definitions with conditions, so
    that what is wrong is said of the right type."""

    def __init__(self, schema: Schema) -> None:
        self._definitions = schema["$defs"]
        self._made: Schema = {}
        self.schema = self._changed(schema)
        self.schema["$defs"] |= self._made

    def _changed(self, schema: Schema, name: str = "") -> Schema:
        names = [each.get("$ref", "").rpartition("/")[2] for each in schema.get("oneOf", ())]
        types = {each: _types(self._definitions.get(each, {})) for each in names}
        if len(types) < 2 or not all(types.values()):
            return _with_parts(schema, self._changed)
        made = f"Any{names[0]}"
        self._made[made] = _choice(types, self._definitions)
        rest = {key: each for key, each in schema.items() if key not in ("oneOf", "discriminator")}
        return rest | {"$ref": f"#/$defs/{made}"}


def _types(definition: Schema) -> list[str]:
    """What a mapping may have as its ``type``; nothing where that is none of its keys."""
    of = definition.get("properties", {}).get("type", {})
    found: list[str] = []
    for each in (of, *of.get("anyOf", ())):
        found += each.get("enum", [each["const"]] if "const" in each else [])
    return found


def _choice(types: dict[str, list[str]], definitions: Schema) -> Schema:
    """The keys of the first mapping, unless the ``type`` is that of another one."""
    first, *others = types
    kinds = {types[name][0]: name for name in others}
    is_other = {"properties": {"type": {"enum": list(kinds)}}, "required": ["type"]}
    cases: list[tuple[Schema, str]] = [({"not": is_other}, first)]
    for kind, name in kinds.items():
        cases.append(({"properties": {"type": {"const": kind}}, "required": ["type"]}, name))
    return {
        "type": "object",
        "properties": {"type": definitions[first]["properties"]["type"]},
        "allOf": [{"if": test, "then": {"$ref": f"#/$defs/{name}"}} for test, name in cases],
    }


class _Shared:
    """A schema with a definition of each part that stands in several places."""

    def __init__(self, schema: Schema) -> None:
        self._count = Counter[str]()
        self._names: dict[str, str] = {}
        self._definitions: Schema = {}
        self._counted(schema, "")
        self.schema = _with_parts(schema, self._whole)
        self.schema["$defs"] |= self._definitions

    def _counted(self, part: Schema, name: str) -> Schema:
        text = json.dumps(part, sort_keys=True)
        self._count[text] += 1
        if self._count[text] == 1:  # else what is in it goes with it
            _with_parts(part, self._counted)
        return part

    def _whole(self, part: Schema, name: str) -> Schema:
        """A part of the top, which stands there itself."""
        return _with_parts(part, self._referred)

    def _referred(self, part: Schema, name: str) -> Schema:
        text = json.dumps(part, sort_keys=True)
        if self._count[text] == 1 or len(text) < _SHORT:
            return _with_parts(part, self._referred)
        if text not in self._names:
            number = sum(1 for each in self._names.values() if each.partition("-")[0] == name)
            self._names[text] = f"{name}-{number + 1}"
            self._definitions[self._names[text]] = _with_parts(part, self._referred)
        return {"$ref": f"#/$defs/{self._names[text]}"}
