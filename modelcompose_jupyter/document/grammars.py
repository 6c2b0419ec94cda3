"""Grammars of what a text must be, as the llguidance library takes them; and what is wrong in one.

The library is imported where a grammar is first made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from .types import ConversionError, show

MAX_SOURCE = 256 << 10
"""Characters of a schema as JSON, of a regular expression, or of a grammar."""
MAX_DEPTH = 100
"""Of mappings and lists in a schema."""

# One way to write JSON: models that may choose fill pages with blanks, and what is certain is fast.
_USUAL = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# What a schema cannot ask for under x-guidance: it would not hold.
_ALWAYS = {"lenient": False, "coerce_one_of": False}


def of_schema(schema: Any) -> str:
    """The grammar of the JSON values that a JSON Schema allows: a mapping or a boolean.

    Raises:
        ConversionError: it is no schema, asks for what cannot be held to, or allows no value.
    """
    if not isinstance(schema, dict | bool):
        raise ConversionError(f"{show(schema)} is no JSON schema", "It is a mapping.")
    if _depth(schema) > MAX_DEPTH:
        raise ConversionError(f"the schema is deeper than {MAX_DEPTH} levels")
    try:
        written = json.dumps(schema, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConversionError(f"the schema cannot be written as JSON: {error}") from None
    _check_size(written, "the schema")
    grammar = {"grammars": [{"json_schema": _with_options(schema)}]}
    text = json.dumps(grammar, ensure_ascii=False)
    if message := _problem(text):
        place = _place(schema, message)
        raise ConversionError(f"the schema{place} asks for what cannot be held to: {message}")
    return text


def of_regex(pattern: str) -> str:
    """The grammar of the texts that a regular expression matches whole.

    Raises:
        ConversionError: it is none, or asks for what cannot be held to: a look around, say.
    """
    from llguidance import LLMatcher

    _check_size(pattern, "the regular expression")
    text: str = LLMatcher.grammar_from_regex(pattern)
    if message := _problem(text):
        message = message.split("regex parse error:")[-1]
        found = re.search(r"error: (.*)", message) or re.search(r"\(in regex\): (.*)", message)
        reason = found[1] if found else message
        raise ConversionError(f"the regular expression {show(pattern)} cannot be used: {reason}")
    return text


def of_choices(choices: Sequence[str]) -> str:
    """The grammar of one of several texts."""
    written = "\n    | ".join(json.dumps(each, ensure_ascii=False) for each in choices)
    return of_grammar(f"start: {written}\n")


def of_grammar(lark: str) -> str:
    """A grammar in Lark's notation, as llguidance has it, from its rule ``start``.

    Raises:
        ConversionError: it cannot be read.
    """
    from llguidance import LLMatcher

    _check_size(lark, "the grammar")
    text: str = LLMatcher.grammar_from_lark(lark)
    if message := _problem(text):
        found = re.match(r"(?:at )?(\d+)\((\d+)\): (.*)", message)
        place = f" at line {found[1]}, column {found[2]}" if found else ""
        reason = found[3] if found else message.splitlines()[0]
        raise ConversionError(f"the grammar is wrong{place}: {reason}")
    return text


def _check_size(text: str, what: str) -> None:
    if len(text) > MAX_SOURCE:
        raise ConversionError(f"{what} has more than {MAX_SOURCE:,} characters")


def _depth(value: Any) -> int:
    """How deep mappings and lists are, as far as it matters."""
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        depth += 1
        within = [each.values() if isinstance(each, dict) else each for each in level
                  if isinstance(each, dict | list)]  # fmt: skip
        level = [inner for each in within for inner in each]
    return depth


def _with_options(schema: Any) -> Any:
    if isinstance(schema, bool):
        return schema
    own = schema.get("x-guidance")
    own = own if isinstance(own, dict) else {}
    return {**schema, "x-guidance": {**_USUAL, **own, **_ALWAYS}}


@lru_cache(maxsize=256)
def _problem(text: str) -> str | None:
    """What is wrong with a grammar, in the library's words; None where nothing is."""
    from llguidance import LLMatcher

    is_wrong, messages = LLMatcher.validate_grammar_with_warnings(text)
    return "\n".join(messages) if is_wrong else None


def _place(schema: Any, message: str) -> str:
    """Where the schema has what a message names, as a path behind a blank; empty if unknown."""
    found = re.search(r'Unimplemented keys: \["([^"]+)"', message)
    wanted = found[1] if found else "oneOf" if message.startswith("oneOf") else None
    if wanted is None:
        return ""
    path = next((path for path, key in _keys(schema, ()) if key == wanted), None)
    return "" if path is None else " at " + ".".join([*map(str, path), wanted])


def _keys(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], str]]:
    """The keys of mappings, however deep, each with the path of its mapping."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield path, str(key)
            yield from _keys(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _keys(inner, (*path, place))
