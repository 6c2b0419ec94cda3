"""Grammars of what a text must be, as the llguidance library takes them; and what is wrong in one.

The library is imported where a grammar is first made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from .. import deep_stack
from .json_schemas import OPTIONS, Path, ReadSchema, SchemaError
from .types import ConversionError, show

if TYPE_CHECKING:
    from llguidance import LLParserLimits, LLTokenizer

MAX_SOURCE = 512 << 10
"""Characters of a schema as JSON, of a regular expression, or of a grammar."""
MAX_DEPTH = 100
"""Of mappings and lists in a schema."""
MAX_PARTS = 500
"""Rules and brackets of a grammar, each of which may stand in another."""
_MOST_SEARCHED = 200  # schemas within one, for the one that is wrong
_KEPT = 64  # grammars whose check is remembered

# One way to write JSON: models that may choose fill pages with blanks, and what is certain is fast.
_USUAL = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# What a schema cannot ask for: it would not hold. Without \u a name has one way to be written, so
# that none which is known can come again as one of any name.
_ALWAYS = {"lenient": False, "coerce_one_of": False, "json_allowed_escapes": 'nrbtf\\"'}


def of_schema(schema: Any) -> str:
    """The grammar of the JSON values that a JSON Schema allows: a mapping or a boolean.

    Raises:
        SchemaError: it is no schema, asks for what cannot be held to, or allows no value.
    """
    return _of_written(_written(schema))


def _written(schema: Any) -> str:
    if _depth(schema) > MAX_DEPTH:
        raise SchemaError(f"the schema is deeper than {MAX_DEPTH} levels")
    try:
        written = json.dumps(schema, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SchemaError(f"the schema cannot be written as JSON: {error}") from None
    _check_size(written, "the schema")
    return written


@lru_cache(maxsize=_KEPT)
def _of_written(schema: str) -> str:
    """The grammar of a schema in JSON, which each run of a document asks for again."""
    read = ReadSchema(json.loads(schema))
    text = _of_normal(read, read.normal)
    if message := _problem(text):
        path, message = _found(read, message)
        if message.startswith(_UNSATISFIABLE):
            reason = _shortened(message.removeprefix(_UNSATISFIABLE))
            raise SchemaError(f"there is no value that the schema allows: {reason}", path)
        raise SchemaError(f"the schema cannot be held to: {_shortened(message)}", path)
    return text


def _of_normal(read: ReadSchema, normal: Any) -> str:
    """The grammar of a part of a schema, in its normal form."""
    schema = _with_options(read, normal)
    return json.dumps({"grammars": [{"json_schema": schema}]}, ensure_ascii=False)


def _with_options(read: ReadSchema, normal: Any) -> Any:
    """A part of a schema by itself, with how its JSON is written."""
    if not isinstance(normal, dict):
        return normal
    definitions = {"$defs": read.definitions} if read.definitions else {}
    return {**normal, **definitions, OPTIONS: {**_USUAL, **read.options, **_ALWAYS}}


def of_arguments(schema: Any) -> str:
    """The JSON Schema that a tool's arguments are held to, as ``%json`` of a grammar takes it.

    What texts cannot be held to is let go: whoever calls the tool checks all. Objects have the
    properties that are named alone, where nothing is said of others.

    Raises:
        SchemaError: it is no schema, or allows no value.
    """
    return _arguments_of(_written(schema))


@lru_cache(maxsize=4 * _KEPT)
def _arguments_of(schema: str) -> str:
    read = ReadSchema(json.loads(schema), is_lenient=True)
    for _, normal in read.places:
        if "pattern" in normal and _problem(_of_normal(read, {"pattern": normal["pattern"]})):
            del normal["pattern"]
    if message := _problem(_of_normal(read, read.normal)):
        raise SchemaError(f"the schema cannot be held to: {_shortened(message)}")
    return json.dumps(_with_options(read, read.normal), ensure_ascii=False)


_UNSATISFIABLE = "Unsatisfiable schema: "


def _found(read: ReadSchema, message: str) -> tuple[Path, str]:
    """The innermost part of a schema of which the same is wrong, and the words for that."""
    for path, normal in read.places[:_MOST_SEARCHED]:
        if _first_line(_problem(_of_normal(read, normal)) or "") != _first_line(message):
            continue
        pattern = normal.get("pattern")
        if pattern is not None and (own := _problem(_of_normal(read, {"pattern": pattern}))):
            return (*path, "pattern"), f"{show(pattern)}: {_of_expression(own)}"
        return path, message
    return (), message


def of_regex(pattern: str) -> str:
    """The grammar of the texts that a regular expression matches whole.

    Raises:
        ConversionError: it is none, asks for what cannot be held to (a look around, say), or
            matches nothing.
    """
    from llguidance import LLMatcher

    _check_size(pattern, "the regular expression")
    _check_characters(pattern)
    text: str = LLMatcher.grammar_from_regex(pattern)
    if message := _problem(text):
        raise ConversionError(
            f"the regular expression {show(pattern)} cannot be used: {_of_expression(message)}",
            "It matches the whole text, without '^', '$' and looks around.",
        )
    return text


def _of_expression(message: str) -> str:
    """What is wrong with a regular expression, without where it stands in what was made of it."""
    message = message.split("regex parse error:")[-1]
    found = re.search(r"error: (.*)", message) or re.search(r"\(in regex\): ([^;\n]*)", message)
    return _shortened(found[1] if found else message)


def of_choices(choices: Sequence[str]) -> str:
    """The grammar of one of several texts.

    Raises:
        ConversionError: they are too long, or hold what is no character.
    """
    if sum(map(len, choices)) > MAX_SOURCE:
        raise ConversionError(f"the choices have more than {MAX_SOURCE:,} characters")
    for each in choices:
        _check_characters(each)
    # One word of the grammar: rules that are all possible at once are bounded, and slower.
    unique = dict.fromkeys(json.dumps(each, ensure_ascii=False) for each in choices)
    written = "\n    | ".join(unique).replace("\x7f", "\\u007f")
    return _checked_lark(f"start: CHOICE\nCHOICE: {written}\n")


def of_grammar(lark: str) -> str:
    """A grammar in Lark's notation, as llguidance has it, from its rule ``start``.

    Raises:
        GrammarError: it cannot be read, or allows no text.
    """
    _check_size(lark, "the grammar")
    _check_characters(lark)
    _check_inner(lark)
    return _checked_lark(lark)


def _checked_lark(lark: str) -> str:
    text = json.dumps({"grammars": [{"lark_grammar": lark}]}, ensure_ascii=False)
    if message := _problem(text):
        found = re.match(r"(?:at )?(\d+)\((\d+)\): (.*)", message)
        reason = _shortened(found[3] if found else message)
        raise GrammarError(reason, *(map(int, found.groups()[:2]) if found else (1, 1)))
    return text


class GrammarError(ConversionError):
    """What is wrong with a grammar, and where in it.

    Attributes:
        line, column: from 1.
    """

    def __init__(self, message: str, line: int, column: int, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.line = line
        self.column = column


# What a grammar says: texts and patterns, comments, a schema's beginning, a special token.
_WORD = re.compile(
    r'"(?:\\.|[^"\\\n])*"|/(?:\\.|[^/\\\n])+/|//[^\n]*|\#[^\n]*'
    r"|(?P<schema>%json\s*(?=\{))|(?P<token><[^<>\s]+>)|(?P<part>[(\[]|^\s*[!?\w]+[^:\n]*:)",
    re.MULTILINE,
)


def _check_inner(lark: str) -> None:
    """Raise GrammarError for schemas within a grammar that would not be taken as one, and for
    tokens by name or number, which are each model's own."""
    at = parts = 0
    while (found := _WORD.search(lark, at)) is not None:
        at = found.end()
        parts += found["part"] is not None
        if parts > MAX_PARTS:
            message = f"there are more than {MAX_PARTS} rules and brackets up to here"
            raise _grammar_error(lark, found.start(), message)
        if found["token"]:
            message = f"{show(found['token'])} is a token of a model, which a grammar cannot name"
            raise _grammar_error(lark, found.start(), message, "Write the text that it stands for.")
        if found["schema"]:
            try:
                schema, at = json.JSONDecoder().raw_decode(lark, at)
                if _depth(schema) > MAX_DEPTH:
                    raise SchemaError(f"the schema is deeper than {MAX_DEPTH} levels")
                ReadSchema(schema)
            except SchemaError as error:
                raise _grammar_error(lark, found.start(), str(error), error.hint) from None
            except (ValueError, RecursionError):
                raise _grammar_error(lark, found.start(), "no JSON follows '%json'") from None


def _grammar_error(lark: str, at: int, message: str, hint: str | None = None) -> GrammarError:
    line = lark.count("\n", 0, at) + 1
    return GrammarError(message, line, at - (lark.rfind("\n", 0, at) + 1) + 1, hint)


def _check_size(text: str, what: str) -> None:
    if len(text) > MAX_SOURCE:
        raise ConversionError(f"{what} has more than {MAX_SOURCE:,} characters")


def _check_characters(text: str) -> None:
    if any("\ud800" <= each <= "\udfff" for each in text):
        raise ConversionError("it has half of a surrogate pair, which is no character")


def _depth(value: Any) -> int:
    """How deep mappings and lists are, as far as it matters."""
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        depth += 1
        within = [each.values() if isinstance(each, Mapping) else each for each in level
                  if isinstance(each, Mapping | list | tuple)]  # fmt: skip
        level = [inner for each in within for inner in each]
    return depth


def limits() -> LLParserLimits:
    """What compiling a grammar, and a step of it, may take."""
    from llguidance import LLParserLimits

    return LLParserLimits(
        initial_lexer_fuel=1_000_000,
        step_lexer_fuel=200_000,
        step_max_items=50_000,
        max_items_in_row=2_000,
        max_lexer_states=50_000,
        max_grammar_size=200_000,
        verbose_errors=False,
    )


@lru_cache(maxsize=_KEPT)
def _problem(text: str) -> str | None:
    """What is wrong with a grammar, in the library's words; None where nothing is."""
    return deep_stack.call(lambda: _flaw(text))


def _flaw(text: str) -> str | None:
    """`_problem`: the grammar is compiled for bytes as tokens, so that what is too complex is
    found, too."""
    from llguidance import LLMatcher

    matcher = LLMatcher(_bytes_as_tokens(), text, log_level=0, limits=limits())
    if not matcher.is_error() and not matcher.is_accepting():
        matcher.compute_bitmask()
    if not matcher.is_error():
        return None
    message = str(matcher.get_error())
    return "it allows no text" if message.startswith("NoExtension") else message


def _first_line(message: str) -> str:
    return message.partition("\n")[0]


def _shortened(message: str) -> str:
    line = _first_line(message.strip())
    return line if len(line) <= 200 else line[:199] + "…"


class _Bytes:
    """Bytes as a model's tokens, and behind them one that stands for the end."""

    bos_token_id = None
    eos_token_id = 256
    tokens = (*(bytes([each]) for each in range(256)), b"<end>")
    special_token_ids = (256,)

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


@cache
def _bytes_as_tokens() -> LLTokenizer:
    from llguidance import LLTokenizer, TokenizerWrapper

    return LLTokenizer(TokenizerWrapper(_Bytes()), n_vocab=257, eos_token=256)
