"""JSON Schemas that texts can be held to: which keywords are taken, and the one form of a schema.

A schema is read as draft 2020-12. What the grammars' library would pass over, hold to by halves, or
take for ever with is refused here, with its place; what changes nothing is left out. So schemas
that differ in titles alone have one grammar, and what a text is held to is the whole schema.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from itertools import combinations
from typing import Any
from urllib.parse import unquote

from ..errors import did_you_mean, listed
from .types import ConversionError, show

Path = tuple[str | int, ...]
"""The keys and indexes that lead to a part of a schema."""

MAX_SCHEMAS = 5_000
"""Schemas within a schema, those that references name once each."""
MAX_REFERENCES = 250
"""Different ones: each may lead to another within it."""
MAX_PROPERTIES = 1_000
"""Of one schema: what is made of them grows with their square."""
MAX_COUNTED_PROPERTIES = 50
"""Where not all are required and ``minProperties`` or ``maxProperties`` counts them."""
MAX_PATTERNS = 16
"""Of ``patternProperties`` in one schema: each is held against each other."""
MAX_EXPRESSIONS = 500
"""Regular expressions in all."""
MAX_MULTIPLE = 10_000
"""The digits of ``multipleOf``, as a number, of all together: a text has as many states."""
MAX_CONSTANTS = 20_000
"""Values within ``enum`` and ``const``, in all."""
MAX_COMPOSED = 2_000
"""Of these, mappings and lists."""
MAX_COMBINATIONS = 1_000
"""Alternatives of schemas that a value has together, each with each."""
MAX_MET_PATTERNS = 12
"""Patterns of schemas that a value has together: a text of all is looked for in a time that doubles
with each. 12 take a hundredth of a second, 16 one, 20 a minute."""
MAX_DIGITS = 15
"""Of a number in a schema: what all computers have in common is exact to so many."""

MAX_NUMBER = 10**18
"""Numbers without bounds are within it, below and above 0: an integer of 64 bits holds them."""

TYPES = ("string", "integer", "number", "boolean", "object", "array", "null")
FORMATS = (
    "date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri",
)  # fmt: skip
ANNOTATIONS = (
    "$anchor", "$comment", "$dynamicAnchor", "$id", "$schema", "$vocabulary", "contentEncoding",
    "contentMediaType", "contentSchema", "default", "deprecated", "description", "discriminator",
    "example", "examples", "readOnly", "title", "writeOnly",
)  # fmt: skip
"""Keywords that say nothing about which values a schema allows."""
_DEFINITIONS = ("$defs", "definitions")
OPTIONS = "x-guidance"
"""The key of a schema for how its JSON is written."""

INSTEAD: Mapping[str, str] = {
    "not": "Say what the value is, rather than what it is not: with 'enum', 'pattern' or 'anyOf'.",
    "if": "Write 'anyOf' with a schema for each case.",
    "then": "Write 'anyOf' with a schema for each case.",
    "else": "Write 'anyOf' with a schema for each case.",
    "dependentRequired": "Write 'anyOf' with a schema for each case.",
    "dependentSchemas": "Write 'anyOf' with a schema for each case.",
    "dependencies": "Write 'anyOf' with a schema for each case.",
    "uniqueItems": "Leave it out, and take repeated elements away afterwards.",
    "contains": "Say what every element is, with 'items', or the first ones, with 'prefixItems'.",
    "minContains": "Say how many elements there are, with 'minItems'.",
    "maxContains": "Say how many elements there are, with 'maxItems'.",
    "propertyNames": "Write 'patternProperties' and 'additionalProperties: false'.",
    "unevaluatedProperties": "Write 'additionalProperties' where the properties are.",
    "unevaluatedItems": "Write 'items' where 'prefixItems' is.",
    "$dynamicRef": "Write '$ref'.",
    "$recursiveRef": "Write '$ref'.",
    "nullable": "Write 'type: [string, \"null\"]', say.",
}
"""What to write for the keywords that are not taken."""

# Days that there are, which the grammars' library does not know; seconds up to 59, and a year that
# is one: what Python's own dates and times hold.
_YEAR = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = (
    f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    f"|{_LEAP_YEAR}-02-29)"
)
_TIME = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,6})?"
_ZONE = "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_PATTERNS = {
    "date": f"^{_DATE}$",
    "time": f"^{_TIME}{_ZONE}$",
    "date-time": f"^{_DATE}T{_TIME}{_ZONE}$",
}

_NOT_WRITTEN = re.compile("[\x00-\x07\x0b\x0e-\x1f\x7f]")
_WRITES_CONTROL = re.compile(
    r"\\(?:\\|x(?:[01][0-9a-fA-F]|7[fF]|\{0*(?:[01]?[0-9a-fA-F]|7[fF])\})"
    r"|[uU](?:0*(?:[01][0-9a-fA-F]|7[fF])(?![0-9a-fA-F])|\{0*(?:[01]?[0-9a-fA-F]|7[fF])\})|[av0])"
)
_SEPARATOR = r"[ \t\r\n]*{}[ \t\r\n]*"


class SchemaError(ConversionError):
    """What is wrong with a schema, and where in it: at a key's name, or at its value.

    Attributes:
        path: the way there from the schema.
        at_key: whether it is the key that is wrong.
    """

    def __init__(
        self, message: str, path: Path = (), hint: str | None = None, *, at_key: bool = False
    ) -> None:
        super().__init__(message, hint)
        self.path = path
        self.at_key = at_key


class ReadSchema:
    """A schema that was read.

    Attributes:
        normal: a schema that allows the same values, made of what grammars know alone; what it
            refers to is in ``definitions``.
        options: how its JSON is written, as it says itself.
        places: each schema within it in that form, the innermost first, with the way to it.
    """

    def __init__(self, schema: Any, *, is_lenient: bool = False) -> None:
        """Raises SchemaError for what is no schema, or cannot be held to; where it is lenient,
        keywords and formats that are not known are let go, and objects that say nothing of other
        properties have none."""
        reader = _Reader(schema, is_lenient)
        self.normal = reader.normal
        self.options = reader.options
        self.definitions: Mapping[str, Any] = reader.definitions
        self.places: Sequence[tuple[Path, Any]] = reader.places
        if not _ends(self.normal, self.definitions):
            raise SchemaError(
                "the schema allows no value that ends: each needs another one within it",
                hint="Let 'anyOf' or an optional property be a way out.",
            )


class _Reader:
    def __init__(self, schema: Any, is_lenient: bool) -> None:
        if not isinstance(schema, dict | bool):
            raise SchemaError(
                f"{show(schema)} is no JSON schema", hint="A schema is a mapping: {type: object}."
            )
        self._root = schema
        self._is_lenient = is_lenient
        self._names: dict[str, str] = {}
        self._waiting: list[tuple[str, Path, Any]] = []
        self._count = 0
        self._merges = False
        self._multiples: dict[Path, Decimal] = {}
        self._states = self._constants = self._composed = self._expressions = 0
        self.places: list[tuple[Path, Any]] = []
        self.options = self._options(schema)
        self.normal = self._schema(schema, (), is_root=True)
        definitions: dict[str, Any] = {}
        while self._waiting:
            name, path, found = self._waiting.pop()
            definitions[name] = self._schema(found, path, is_root=path == ())
        self._check_multiples()
        for path, each in self.places:
            if "oneOf" in each:
                _resolve_one_of(each, definitions, path, is_lenient)
        if is_lenient and not self._merges:
            for _, each in self.places:
                if "properties" in each and "patternProperties" not in each:
                    each.setdefault("additionalProperties", False)
        if self._merges:
            combinations_of = _Combinations(definitions)
            for path, each in self.places:
                combinations_of.check([each], path)
        self.definitions = definitions

    def _options(self, schema: Any) -> dict[str, Any]:
        """How JSON is written; InputError for a way in which it would be none."""
        given = schema.get(OPTIONS, {}) if isinstance(schema, dict) else {}
        if not isinstance(given, dict):
            raise SchemaError(f"'{OPTIONS}' is a mapping, and not {show(given)}", (OPTIONS,))
        for key, value in given.items():
            path = (OPTIONS, key)
            if key == "whitespace_flexible":
                _check(isinstance(value, bool), f"'{key}' is true or false", path)
            elif key in ("item_separator", "key_separator"):
                mark = "," if key == "item_separator" else ":"
                is_one = isinstance(value, str) and re.fullmatch(_SEPARATOR.format(mark), value)
                _check(is_one, f"'{key}' is '{mark}' with blanks or line breaks around it", path)
            else:
                known = ("whitespace_flexible", "item_separator", "key_separator")
                hint = did_you_mean(key, known) or f"There are {listed(known)}."
                raise SchemaError(f"'{OPTIONS}' has no option '{key}'", path, hint, at_key=True)
        return dict(given)

    # Schemas

    def _schema(self, schema: Any, path: Path, *, is_root: bool = False) -> Any:
        self._count += 1
        if self._count > MAX_SCHEMAS:
            raise SchemaError(f"there are more than {MAX_SCHEMAS:,} schemas within it", path)
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise SchemaError(
                f"a schema is a mapping, true or false, and not {show(schema)}",
                path,
                did_you_mean(str(schema), TYPES) and f"Write '{{type: {schema}}}'.",
            )
        normal: dict[str, Any] = {}
        for key, value in schema.items():
            at = (*path, key)
            if key in ("items", "additionalItems", "prefixItems"):
                continue  # what one is depends on the others
            if key == "format" and self._is_lenient and value not in FORMATS:
                continue
            if (read := KEYWORDS.get(key)) is not None:
                normal[key] = read(self, value, at)
            else:
                self._pass_over(key, at, is_root)
        self._items(schema, path, normal)
        self._together(normal, path)
        _exclude_whole_numbers(normal)
        _bound_numbers(normal)
        if (pattern := _PATTERNS.get(normal.get("format", ""))) is not None:
            del normal["format"]
            normal["allOf"] = [*normal.get("allOf", ()), {"pattern": pattern}]
        self.places.append((path, normal))
        return normal

    def _pass_over(self, key: str, path: Path, is_root: bool) -> None:
        """A key that says nothing; SchemaError where it would say something that is not held to."""
        if self._is_lenient:
            return
        if key in INSTEAD:
            message = f"'{key}' is not supported in a format's schema"
            raise SchemaError(message, path, INSTEAD[key], at_key=True)
        if key == "$id" and not is_root:
            hint = "Leave it out, and refer to definitions by '#/$defs/NAME'."
            raise SchemaError("'$id' stands at the top of a schema alone", path, hint, at_key=True)
        if key in (*ANNOTATIONS, *_DEFINITIONS, OPTIONS) or key.startswith("x-"):
            return
        if key == "property":
            meant = ["properties"]
        else:
            meant = get_close_matches(key, [*KEYWORDS, *INSTEAD], n=1, cutoff=0.8)
        if meant:
            raise SchemaError(
                f"'{key}' is no keyword of JSON Schema",
                path,
                f"Did you mean '{meant[0]}'? A key of your own begins with 'x-'.",
                at_key=True,
            )

    def _several(self, value: Any, path: Path) -> list[Any]:
        if not isinstance(value, list) or not value:
            raise SchemaError(f"'{path[-1]}' is a list of schemas, and not {show(value)}", path)
        self._merges = self._merges or path[-1] == "allOf"
        return [self._schema(each, (*path, place)) for place, each in enumerate(value)]

    def _by_name(self, value: Any, path: Path) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise SchemaError(f"'{path[-1]}' is a mapping of schemas, and not {show(value)}", path)
        if len(value) > MAX_PROPERTIES:
            raise SchemaError(f"'{path[-1]}' has more than {MAX_PROPERTIES:,} entries", path)
        for name in value:
            _check_text(name, (*path, name), at_key=True)
        return {name: self._schema(each, (*path, name)) for name, each in value.items()}

    def _patterns(self, value: Any, path: Path) -> dict[str, Any]:
        if isinstance(value, dict) and len(value) > MAX_PATTERNS:
            raise SchemaError(f"'{path[-1]}' has more than {MAX_PATTERNS} patterns", path)
        schemas = self._by_name(value, path)
        for pattern in schemas:
            self._count_expression((*path, pattern))
            _check_pattern(pattern, (*path, pattern), at_key=True)
        return schemas

    def _items(self, schema: Mapping[str, Any], path: Path, normal: dict[str, Any]) -> None:
        """The elements of arrays, in the words of today: earlier drafts have a list under 'items',
        and what follows it under 'additionalItems'."""
        first, rest = "prefixItems", "items"
        if isinstance(schema.get("items"), list):
            first, rest = "items", "additionalItems"
        if first in schema:
            normal["prefixItems"] = self._several(schema[first], (*path, first))
        if rest in schema:
            normal["items"] = self._schema(schema[rest], (*path, rest))

    def _reference(self, value: Any, path: Path) -> str:
        if not isinstance(value, str):
            raise SchemaError(f"'$ref' is a text such as '#/$defs/NAME', not {show(value)}", path)
        if value != "#" and not value.startswith("#/"):
            raise SchemaError(
                f"'$ref' cannot name {show(value)}: it names a part of this schema",
                path,
                "Bring the other schema in under '$defs', and write '#/$defs/NAME'.",
            )
        if value not in self._names:
            if len(self._names) >= MAX_REFERENCES:
                raise SchemaError(f"more than {MAX_REFERENCES} different '$ref'", path)
            found, at = self._referred(value, path)
            self._names[value] = f"d{len(self._names)}"
            self._waiting.append((self._names[value], at, found))
        return f"#/$defs/{self._names[value]}"

    def _referred(self, reference: str, path: Path) -> tuple[Any, Path]:
        found: Any = self._root
        at: Path = ()
        for step in reference.removeprefix("#").split("/")[1:]:
            key: Any = _unescaped(step)
            if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                key = int(key)
            elif not isinstance(found, dict) or key not in found:
                known = list(map(str, found)) if isinstance(found, dict) else []
                hint = did_you_mean(key, known)
                raise SchemaError(f"there is no {reference} in the schema", path, hint)
            found, at = found[key], (*at, key)
        return found, at

    # What is wrong with keywords together

    def _together(self, normal: dict[str, Any], path: Path) -> None:
        others = normal.keys() - {"$ref"}
        has_options = not others.isdisjoint(("anyOf", "oneOf"))
        if others and ("$ref" in normal or (has_options and len(others) > 1)):
            self._merges = True
        self._check_counts(normal, path)
        for least, most in (
            ("minLength", "maxLength"),
            ("minItems", "maxItems"),
            ("minProperties", "maxProperties"),
            ("minimum", "maximum"),
        ):
            low, high = normal.get(least), normal.get(most)
            if low is not None and high is not None and low > high:
                message = f"'{least}' {low} is above '{most}' {high}: there is no such value"
                raise SchemaError(message, (*path, least))
        if normal.get("additionalProperties") is False and "patternProperties" not in normal:
            known = normal.get("properties", {})
            for place, name in enumerate(normal.get("required", ())):
                if name not in known:
                    raise SchemaError(
                        f"'{name}' is required, and 'additionalProperties: false' forbids it",
                        (*path, "required", place),
                        did_you_mean(name, known) or "Add it to 'properties'.",
                    )

    def _check_counts(self, normal: Mapping[str, Any], path: Path) -> None:
        """Names that a schema does not list may be written twice, and count as one then."""
        required, known = normal.get("required", ()), normal.get("properties", {})
        is_open = normal.get("additionalProperties") is not False or "patternProperties" in normal
        least = normal.get("minProperties", 0)
        if is_open and least > len(set(required)) + 1:
            raise SchemaError(
                f"'minProperties' {least} cannot be held to where properties have any name",
                (*path, "minProperties"),
                "List them under 'properties' and 'required'.",
            )
        counts = "minProperties" in normal or "maxProperties" in normal
        if counts and len(known) > MAX_COUNTED_PROPERTIES and len(required) < len(known):
            raise SchemaError(
                f"at most {MAX_COUNTED_PROPERTIES} properties are counted, and these are more",
                (*path, "minProperties" if "minProperties" in normal else "maxProperties"),
            )

    def _constant(self, value: Any, path: Path) -> Any:
        """A value that stands in a schema as itself."""
        self._constants += 1
        self._composed += isinstance(value, dict | list)
        if self._constants > MAX_CONSTANTS or self._composed > MAX_COMPOSED:
            bound = f"{MAX_CONSTANTS:,} values, {MAX_COMPOSED:,} of them mappings and lists"
            raise SchemaError(f"'enum' and 'const' have more than {bound}", path)
        if isinstance(value, str):
            _check_text(value, path)
        elif isinstance(value, dict):
            for name in value:
                _check_text(name, (*path, name), at_key=True)
            return {name: self._constant(each, (*path, name)) for name, each in value.items()}
        elif isinstance(value, list):
            return [self._constant(each, (*path, place)) for place, each in enumerate(value)]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            return _number(value, path)
        return value

    def _enum(self, value: Any, path: Path) -> Any:
        if not isinstance(value, list) or not value:
            raise SchemaError(f"'enum' is a list of values, and not {show(value)}", path)
        found = [self._constant(each, (*path, place)) for place, each in enumerate(value)]
        return list({_canonical(each): each for each in found}.values())

    def _pattern(self, value: Any, path: Path) -> str:
        _check(isinstance(value, str), f"'pattern' is a text, and not {show(value)}", path)
        self._count_expression(path)
        _check_pattern(value, path)
        return str(value)

    def _count_expression(self, path: Path) -> None:
        self._expressions += 1
        if self._expressions > MAX_EXPRESSIONS:
            raise SchemaError(f"there are more than {MAX_EXPRESSIONS} regular expressions", path)

    def _multiple(self, value: Any, path: Path) -> Any:
        number = _number(value, path)
        _check(number > 0, f"'multipleOf' is above 0, and not {show(value)}", path)
        exact = Decimal(repr(number))
        digits = int("".join(map(str, exact.as_tuple().digits)).rstrip("0") or 0)
        whole = int(exact) if exact == int(exact) else digits
        self._states += max(digits, whole)
        if self._states > MAX_MULTIPLE:
            raise SchemaError(
                f"'multipleOf' {show(value)} has too many digits: all together make"
                f" {MAX_MULTIPLE:,} at most",
                path,
            )
        self._multiples[path] = exact
        return number

    def _check_multiples(self) -> None:
        """What is of several schemas at once is a multiple of all their numbers."""
        if not self._merges or len(set(self._multiples.values())) < 2:
            return
        least = min(int(each.as_tuple().exponent) for each in self._multiples.values())
        scaled = [int(each.scaleb(-min(least, 0))) for each in self._multiples.values()]
        if math.lcm(*scaled) > MAX_MULTIPLE:
            raise SchemaError(
                "several 'multipleOf' in a schema that joins others may ask for too much at once",
                next(reversed(self._multiples)),
                f"Their common multiple is {MAX_MULTIPLE:,} at most.",
            )


def _exclude_whole_numbers(normal: dict[str, Any]) -> None:
    """Write the next number of so many digits for a whole one that is excluded towards 0: the
    library would allow 12 between 12 and 12.5, and both bounds may be of different schemas."""
    if "number" not in _listed(normal.get("type", "number")):
        return
    for key, sign, nearest in (("minimum", 1, max), ("maximum", -1, min)):
        bound = normal.get(excluded := f"exclusive{key.capitalize()}")
        if isinstance(bound, int) and bound * sign >= 0 and len(str(bound)) < MAX_DIGITS:
            del normal[excluded]
            found = float(bound + sign * Decimal(1).scaleb(len(str(bound)) - MAX_DIGITS))
            normal[key] = nearest(found, normal.get(key, found))


def _bound_numbers(normal: dict[str, Any]) -> None:
    """Keep numbers within what computers have, and count in: else a text is digits without end."""
    if _NUMBERS.isdisjoint(_listed(normal.get("type"))):
        return
    for key, bound in (("minimum", -MAX_NUMBER), ("maximum", MAX_NUMBER)):
        if key not in normal and f"exclusive{key.capitalize()}" not in normal:
            normal[key] = bound


_NUMBERS = frozenset(("integer", "number"))


def _unescaped(step: str) -> str:
    return unquote(step).replace("~1", "/").replace("~0", "~")


def _check(holds: Any, message: str, path: Path) -> None:
    if not holds:
        raise SchemaError(message, path)


def _check_text(text: Any, path: Path, *, at_key: bool = False) -> None:
    """Raise SchemaError for a text that JSON here cannot write."""
    if not isinstance(text, str):
        raise SchemaError(f"a name is a text, and not {show(text)}", path, at_key=at_key)
    if any("\ud800" <= each <= "\udfff" for each in text):
        raise SchemaError("it has half of a surrogate pair, which is no character", path)
    if found := _NOT_WRITTEN.search(text):
        code = f"U+{ord(found[0]):04X}"
        raise SchemaError(
            f"the character {code} is not written in a format's JSON", path, at_key=at_key
        )


def _check_pattern(pattern: str, path: Path, *, at_key: bool = False) -> None:
    _check_text(pattern, path, at_key=at_key)
    if any(found[0] != "\\\\" for found in _WRITES_CONTROL.finditer(pattern)):
        raise SchemaError(
            f"{show(pattern)} asks for a control character, which is not written in a format's"
            " JSON",
            path,
            "Of these, \\n, \\t and \\r are.",
            at_key=at_key,
        )


def _number(value: Any, path: Path) -> int | float:
    """A number that is exact to all its digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SchemaError(f"'{path[-1]}' is a number, and not {show(value)}", path)
    _check(math.isfinite(value), "a number is finite", path)
    number: int | float = value
    if isinstance(value, float) and value.is_integer() and abs(value) < 10**MAX_DIGITS:
        number = int(value)
    _, digits, exponent = Decimal(repr(number)).as_tuple()
    assert isinstance(exponent, int)
    if max(len(digits), len(digits) + exponent, -exponent) > MAX_DIGITS:
        raise SchemaError(
            f"{show(value)} has more than {MAX_DIGITS} digits, and would not be held to exactly",
            path,
        )
    return number


Read = Callable[[_Reader, Any, Path], Any]


def _type(reader: _Reader, value: Any, path: Path) -> Any:
    """A type or several; YAML reads ``null`` as nothing."""
    names = value if isinstance(value, list) else [value]
    _check(names, "'type' names one type or more", path)
    found = ["null" if each is None else each for each in names]
    for place, name in enumerate(found):
        if name not in TYPES:
            at = (*path, place) if isinstance(value, list) else path
            hint = did_you_mean(str(name), TYPES) or f"Types are {listed(TYPES)}."
            raise SchemaError(f"there is no type {show(name)}", at, hint)
    unique = list(dict.fromkeys(found))
    return unique if len(unique) > 1 else unique[0]


def _count(reader: _Reader, value: Any, path: Path) -> int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and 0 <= value < 2**31 and value == int(value)):
        raise SchemaError(f"'{path[-1]}' is a whole number from 0 on, not {show(value)}", path)
    return int(value)


def _format(reader: _Reader, value: Any, path: Path) -> str:
    if value not in FORMATS:
        hint = did_you_mean(str(value), FORMATS) or f"There are {listed(FORMATS)}; or leave it out."
        raise SchemaError(f"the format {show(value)} is not known here", path, hint)
    return str(value)


def _required(reader: _Reader, value: Any, path: Path) -> list[str]:
    _check(isinstance(value, list), f"'required' is a list of names, not {show(value)}", path)
    _check(len(value) <= MAX_PROPERTIES, f"'required' has over {MAX_PROPERTIES:,} names", path)
    for place, name in enumerate(value):
        _check_text(name, (*path, place))
    return list(dict.fromkeys(value))


KEYWORDS: dict[str, Read] = {
    "type": _type,
    "enum": _Reader._enum,
    "const": _Reader._constant,
    "properties": _Reader._by_name,
    "required": _required,
    "additionalProperties": _Reader._schema,
    "patternProperties": _Reader._patterns,
    "minProperties": _count,
    "maxProperties": _count,
    "items": _Reader._schema,
    "prefixItems": _Reader._several,
    "additionalItems": _Reader._schema,
    "minItems": _count,
    "maxItems": _count,
    "minLength": _count,
    "maxLength": _count,
    "pattern": _Reader._pattern,
    "format": _format,
    "minimum": lambda reader, value, path: _number(value, path),
    "maximum": lambda reader, value, path: _number(value, path),
    "exclusiveMinimum": lambda reader, value, path: _number(value, path),
    "exclusiveMaximum": lambda reader, value, path: _number(value, path),
    "multipleOf": _Reader._multiple,
    "anyOf": _Reader._several,
    "allOf": _Reader._several,
    "oneOf": _Reader._several,
    "$ref": _Reader._reference,
}
"""What reads the value of each keyword that is held to."""


# Schemas of which one alone may hold


def _canonical(value: Any) -> str:
    """The same text for values that JSON Schema holds for equal."""
    return json.dumps(value, sort_keys=True)


@dataclass(frozen=True)
class _Kind:
    """What is known of the values that a schema allows.

    Attributes:
        types: those that they may have; an integer is a number, too.
        values: all of them; None where they are not known.
        tags: of objects, the values of properties that all have.
    """

    types: frozenset[str]
    values: frozenset[str] | None = None
    tags: Mapping[str, frozenset[str]] | None = None

    def excludes(self, other: _Kind) -> bool:
        """Whether no value is of both."""
        types = self.types & other.types
        if self.values is not None and other.values is not None:
            return self.values.isdisjoint(other.values)
        if types != {"object"}:
            return not types
        own, others = self.tags or {}, other.tags or {}
        return any(own[name].isdisjoint(others[name]) for name in own.keys() & others.keys())


_ALL_TYPES = frozenset(TYPES) - {"integer"}
_MOST_OF_ONE = 100  # schemas that are compared in pairs
_MOST_FOLLOWED = 20  # references, one of another


def _resolve_one_of(
    normal: dict[str, Any], definitions: Mapping[str, Any], path: Path, is_lenient: bool
) -> None:
    """Write ``anyOf`` for a ``oneOf`` of schemas that exclude each other.

    SchemaError where that is not known of them: a text cannot be held to "no other one". It is let
    go where it is lenient.
    """
    options = [each for each in normal["oneOf"] if each is not False]
    kinds = [_kind(each, definitions) for each in options]
    values = [each.values for each in kinds if each.values is not None]
    if len(values) == len(kinds):
        are_exclusive = len(frozenset().union(*values)) == sum(map(len, values))
    else:
        pairs = combinations(kinds[: _MOST_OF_ONE + 1], 2)
        are_exclusive = len(kinds) <= _MOST_OF_ONE and all(a.excludes(b) for a, b in pairs)
    if not are_exclusive and not is_lenient:
        raise SchemaError(
            "'oneOf' cannot be held to where a value may be of two of its schemas",
            (*path, "oneOf"),
            "Write 'anyOf'; or give each a type of its own, or a required property with a 'const'"
            " of its own.",
            at_key=True,
        )
    entries = list(normal.items())
    normal.clear()
    for key, value in entries:
        if key == "oneOf":
            normal.setdefault("allOf", []).append({"anyOf": options or [False]})
        elif key == "allOf":
            normal.setdefault("allOf", []).extend(value)
        else:
            normal[key] = value


def _kind(schema: Any, definitions: Mapping[str, Any], followed: int = 0) -> _Kind:
    if not isinstance(schema, dict):
        return _Kind(_ALL_TYPES)
    if "$ref" in schema and followed < _MOST_FOLLOWED:
        return _kind(definitions[schema["$ref"].rpartition("/")[2]], definitions, followed + 1)
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if values is not None:
        return _Kind(
            frozenset(_type_of(each) for each in values), frozenset(map(_canonical, values))
        )
    given = schema.get("type", list(_ALL_TYPES))
    types = frozenset("number" if each == "integer" else each for each in _listed(given))
    properties = schema.get("properties", {})
    inner = {
        name: _kind(properties[name], definitions, followed + 1).values
        for name in schema.get("required", ())
        if name in properties and followed < _MOST_FOLLOWED
    }
    return _Kind(types, None, {name: each for name, each in inner.items() if each is not None})


def _listed(value: Any) -> Collection[Any]:
    return value if isinstance(value, list) else [value]


def _type_of(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    kinds = ((str, "string"), (dict, "object"), (list, "array"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "number")


# Schemas that a value has together


class _Combinations:
    """Counts what is made of schemas that a value has together: each alternative of one is joined
    with each of another, and so are properties and elements that both have."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._seen: set[frozenset[int]] = set()

    def check(self, schemas: Sequence[Any], path: Path) -> None:
        """Raise SchemaError where there are too many."""
        parts = self._parts(schemas)
        key = frozenset(map(id, parts))
        is_one = len(parts) < 2 and not any("patternProperties" in each for each in parts)
        if is_one or key in self._seen:
            return
        self._seen.add(key)
        counts = [len(each["enum"]) for each in parts if "enum" in each]
        counts += [len(each["anyOf"]) for each in parts if "anyOf" in each]
        counts += [len(each["type"]) for each in parts if isinstance(each.get("type"), list)]
        if len(counts) > 1 and math.prod(counts) > MAX_COMBINATIONS:
            raise SchemaError(
                f"schemas that a value has together have more than {MAX_COMBINATIONS:,}"
                " combinations of alternatives",
                path,
                "Write the values that are left under one 'enum' or 'anyOf'.",
            )
        if sum("pattern" in each or "format" in each for each in parts) > MAX_MET_PATTERNS:
            raise SchemaError(
                f"schemas that a value has together have more than {MAX_MET_PATTERNS} patterns",
                path,
                "Write one pattern in their place.",
            )
        for together in self._within(parts):
            if len(together) > 1:
                self.check(together, path)

    @staticmethod
    def _within(parts: Sequence[Mapping[str, Any]]) -> Iterator[list[Any]]:
        """What schemas of one value say together of each value within it."""
        properties: defaultdict[str, list[Any]] = defaultdict(list)
        elements: defaultdict[int, list[Any]] = defaultdict(list)
        of_others: list[Any] = []
        further: list[Any] = []
        for each in parts:
            for name, schema in each.get("properties", {}).items():
                properties[name].append(schema)
            for place, schema in enumerate(each.get("prefixItems", ())):
                elements[place].append(schema)
            of_others += [*each.get("patternProperties", {}).values()]
            of_others += [each["additionalProperties"]] if "additionalProperties" in each else []
            further += [each["items"]] if "items" in each else []
        # Any of the others may be of the same name, or the same element.
        yield from (each + of_others for each in properties.values())
        yield from (each + further for each in elements.values())
        yield from (of_others, further)

    def _parts(self, schemas: Sequence[Any]) -> list[dict[str, Any]]:
        """Schemas, and all that they are joined of."""
        found: dict[int, dict[str, Any]] = {}
        rest = list(schemas)
        while rest:
            each = rest.pop()
            if not isinstance(each, dict) or id(each) in found:
                continue
            found[id(each)] = each
            rest += each.get("allOf", ())
            if len(found) > 1 or each.keys() - {"anyOf"}:
                rest += each.get("anyOf", ())
            if "$ref" in each:
                rest.append(self._definitions[each["$ref"].rpartition("/")[2]])
        return list(found.values())


# Schemas whose values end


def _ends(schema: Any, definitions: Mapping[str, Any]) -> bool:
    """Whether a schema may allow a value that ends; False where each needs another within it."""
    known: set[str] = set()
    while True:
        more = {
            name
            for name, each in definitions.items()
            if name not in known and _ends_by(each, known)
        }
        if not more:
            return _ends_by(schema, known)
        known |= more


def _ends_by(schema: Any, known: Collection[str]) -> bool:
    """`_ends`, where the definitions do that are known."""
    if not isinstance(schema, dict):
        return True

    def all_end(schemas: Any) -> bool:
        return all(_ends_by(each, known) for each in schemas)

    if "$ref" in schema and schema["$ref"].rpartition("/")[2] not in known:
        return False
    if not all_end(schema.get("allOf", ())):
        return False
    if "anyOf" in schema and not any(_ends_by(each, known) for each in schema["anyOf"]):
        return False
    if "const" in schema or "enum" in schema:
        return True
    types = set(_listed(schema.get("type", list(_ALL_TYPES))))
    if types - {"object", "array"}:
        return True
    others = schema.get("additionalProperties", True)
    needed = [schema.get("properties", {}).get(name, others) for name in schema.get("required", ())]
    least, first = schema.get("minItems", 0), schema.get("prefixItems", [])
    elements = first[:least] + ([schema.get("items", True)] if least > len(first) else [])
    return ("object" in types and all_end(needed)) or ("array" in types and all_end(elements))
