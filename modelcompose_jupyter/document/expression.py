r"""The grammar of expressions: text with ``${...}`` in it, parsed into a small tree.

    text        = { character | "\${" | expression }
    expression  = "${" path [ "as" type ] { note } [ "|" default ] { note } "}"
    path        = name { "." name | "[" subscript "]" }
    subscript   = integer | [ integer ] ":" [ integer ] | "*" | quoted | path | expression
    type        = name [ "[]" ] [ "/" option { "," option } ]
    default     = quoted | text up to the expression's own brace
    note        = "@(" name text ")"

Spaces and line breaks are free between the words. A backslash before ``${`` makes it ordinary
text, and two of them stand for one backslash. Rendering is in ``render``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import NoReturn

from ..errors import ExpressionError, did_you_mean, shortened
from .types import TYPE_NAMES, ConversionError, Type, check_type

_SPACES = " \t\r\n"
_BLANKS = re.compile(r"[ \t\r\n]*")
_AS = re.compile(r"as[ \t\r\n]+")
_CLOSING = re.compile(r"[ \t\r\n]*(?:\}|@\()")  # nothing but notes may follow
_WORD = re.compile(r"\w*")
_OPTIONS = re.compile(r"(?:(?!@\()[^|}])*")
_INTEGER = re.compile(r"-?\d*")
_BRACE = re.compile(r"[{}]")
_SLASHES = re.compile(r"\\+")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_MAX_NESTING = 20
_MAX_SHOWN = 2000  # characters of a wrong expression that its error holds


@dataclass(frozen=True)
class Key:
    """``.name`` or ``["name"]``."""

    name: str


@dataclass(frozen=True)
class Index:
    """``[0]``, or ``[index]`` and ``[${index}]``, whose place another expression says."""

    value: int | Expression


@dataclass(frozen=True)
class Slice:
    """``[1:]``."""

    start: int | None
    stop: int | None


@dataclass(frozen=True)
class Each:
    """``[*]``: what follows is taken of every element."""


Segment = Key | Index | Slice | Each


@dataclass(frozen=True)
class Default:
    """What stands after ``|``: text with expressions in it, or a JSON list or object."""

    text: Text
    quoted: bool = False


@dataclass(frozen=True)
class Expression:
    """One ``${...}``: ``text`` as written, ``offset`` its place in the text around it."""

    text: str
    offset: int
    source: str
    path: tuple[Segment, ...] = ()
    type: Type | None = None
    default: Default | None = None
    notes: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """The text as messages show it."""
        return shortened(self.text, 200)

    @property
    def keys(self) -> tuple[str, ...]:
        """The names at the start of the path, up to the first subscript that is not a name."""
        names = []
        for segment in self.path:
            if not isinstance(segment, Key):
                break
            names.append(segment.name)
        return tuple(names)


@dataclass(frozen=True)
class Text:
    """Text and the expressions in it, in order."""

    parts: tuple[str | Expression, ...]

    @property
    def expressions(self) -> tuple[Expression, ...]:
        return tuple(part for part in self.parts if isinstance(part, Expression))

    @property
    def only(self) -> Expression | None:
        """The expression that the whole text consists of, or None."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Expression):
            return self.parts[0]
        return None


def parse(text: str) -> Text:
    """Parse text; raises ExpressionError, which names the expression and carries its offset."""
    return _parse_short(text) if len(text) <= _MAX_SHORT else _parse_long(text)


def _parse(text: str) -> Text:
    return Text(_Parser(text).text())


# What is kept of texts as they are typed is bounded: a tree is many times as large as its text.
_MAX_SHORT = 2000
_parse_short = lru_cache(maxsize=4096)(_parse)
_parse_long = lru_cache(maxsize=16)(_parse)


def read_to_end(text: str, start: int) -> tuple[int | None, int]:
    """Where the expression at ``start`` ends, and how many characters were read in vain for it.

    One that breaks the grammar ends at its matching brace, or has no end (None).
    """
    parser = _Parser(text, start)
    try:
        parser.expression()
        return parser.position, 0
    except ExpressionError:
        end = _matching_brace(text, start, len(text))
        return end, max(parser.position, end or len(text)) - start


def _matching_brace(text: str, start: int, stop: int) -> int | None:
    depth = 0
    for brace in _BRACE.finditer(text, start + 1, stop):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    return None


class _Parser:
    """Recursive descent over one string; ``position`` is the next character."""

    def __init__(self, source: str, position: int = 0) -> None:
        self.source = source
        self.position = position
        self.starts: list[int] = []
        # A default in quotes that turns out to be none is read again; what was read of it is kept,
        # so that nesting does not double the work at each level.
        self._read: dict[int, Expression] = {}

    def text(self) -> tuple[str | Expression, ...]:
        pieces = []
        while self.position < len(self.source):
            pieces.append(self._piece())
        return _joined(pieces)

    def _piece(self) -> str | Expression:
        """Take one expression, one ordinary character or a run of backslashes."""
        if self._at("${"):
            return self.expression()
        slashes = self._take(_SLASHES)
        if not slashes:
            self.position += 1
            return self.source[self.position - 1]
        if not self._at("${"):
            return slashes
        half, is_text = divmod(len(slashes), 2)
        self.position += 2 * is_text
        return "\\" * half + "${" * is_text

    def expression(self) -> Expression:
        start = self.position
        if start in self._read:
            self.position += len(self._read[start].text)
            return self._read[start]
        self._begin(start)
        self.position += 2
        self._skip()
        if self._at("}"):
            self._fail("there is nothing between the braces")
        source = self._name("a source such as 'input'")
        path = self._path()
        spaced = self._skip()
        type_ = self._type() if spaced and self._take(_AS) else None
        notes = self._notes()
        default = None
        if self._at("|"):
            self.position += 1
            self._skip()
            default = self._default()
            notes += self._notes()
        if not self._at("}"):
            self._unexpected("'as', '|' or '}'")
        self.position += 1
        self.starts.pop()
        text = self.source[start : self.position]
        self._read[start] = Expression(text, start, source, path, type_, default, notes)
        return self._read[start]

    def _begin(self, start: int) -> None:
        self.starts.append(start)
        if len(self.starts) > _MAX_NESTING:
            self._fail(f"expressions are nested more than {_MAX_NESTING} deep")

    def _path(self) -> tuple[Segment, ...]:
        path: list[Segment] = []
        while True:
            if self._at("."):
                self.position += 1
                path.append(Key(self._name("a name after the dot")))
            elif self._at("["):
                self.position += 1
                self._skip()
                path.append(self._subscript())
                self._skip()
                if not self._at("]"):
                    self._unexpected("']'")
                self.position += 1
            else:
                return tuple(path)

    def _subscript(self) -> Segment:
        char = self._peek()
        if char == "*":
            self.position += 1
            return Each()
        if char in "\"'" and char:
            return Key(self._quoted_name())
        if self._at("${"):
            return Index(self.expression())
        if char.isdecimal() or char in ("-", ":"):
            return self._index_or_slice()
        start = self.position
        self._begin(start)
        source = self._name("an index, a slice, '*', a quoted key or a source such as 'index'")
        path = self._path()
        self.starts.pop()
        return Index(Expression(self.source[start : self.position], start, source, path))

    def _index_or_slice(self) -> Segment:
        start = self._integer()
        self._skip()
        if not self._at(":"):
            if start is None:
                self._unexpected("a whole number")
            return Index(start)
        self.position += 1
        self._skip()
        return Slice(start, self._integer())

    def _integer(self) -> int | None:
        start = self.position
        digits = self._take(_INTEGER)
        if digits == "-" or len(digits) > 18:
            self.position = start
            self._unexpected("a whole number")
        return int(digits) if digits else None

    def _type(self) -> Type:
        name = self._take(_WORD)
        if name not in TYPE_NAMES:
            hint = did_you_mean(name, TYPE_NAMES) or f"Types are {', '.join(TYPE_NAMES)}."
            self._fail(f"unknown type '{name or self._peek()}'", hint=hint)
        is_list = self._at("[]")
        if is_list:
            self.position += 2
        options: tuple[str, ...] = ()
        if self._at("/"):
            self.position += 1
            options = tuple(option.strip() for option in self._take(_OPTIONS).split(","))
        type_ = Type(name, options, is_list)
        try:
            check_type(type_)
        except ConversionError as error:
            self._fail(str(error))
        self._skip()
        return type_

    def _notes(self) -> tuple[tuple[str, str], ...]:
        notes = []
        while self._at("@("):
            self.position += 2
            start, depth = self.position, 1
            while depth:
                char = self._peek()
                if not char:
                    self._fail("an annotation is never closed", hint="It ends with ')'.")
                depth += (char == "(") - (char == ")")
                self.position += 1
            name, _, note = self.source[start : self.position - 1].strip().partition(" ")
            notes.append((name, note.strip()))
            self._skip()
        return tuple(notes)

    def _default(self) -> Default:
        start = self.position
        if self._peek() in ("'", '"'):
            quoted = self._quoted_text()
            if quoted is not None:
                return Default(quoted, quoted=True)
            self.position = start
        if self._peek() in ("[", "{") and (end := self._json_end()) is not None:
            self.position = end
            written = self.source[start:end]
            self._skip()
            return Default(Text((written,)))
        return Default(self._raw_text())

    def _json_end(self) -> int | None:
        """Where a JSON list or object ends that is the whole default and has no expressions."""
        start = self.position
        stop = self.source.find("${", start)
        try:
            # Only up to the next expression: the decoder's errors count the lines before them.
            window = self.source[start : stop if stop >= 0 else None]
            _, length = json.JSONDecoder().raw_decode(window)
        except (ValueError, RecursionError):
            return None
        return start + length if self._closes(start + length) else None

    def _closes(self, position: int) -> bool:
        """Whether nothing but notes and the closing brace may follow ``position``."""
        return _CLOSING.match(self.source, position) is not None

    def _raw_text(self) -> Text:
        pieces, depth = [], 0
        while depth or not (self._at("}") or self._at_note()):
            char = self._peek()
            if not char:
                self._fail("it is never closed", hint="An expression ends with '}'.")
            depth += (char == "{") - (char == "}")
            pieces.append(self._piece())
        return Text(_joined(pieces, stripped=True))

    def _at_note(self) -> bool:
        return self._at("@(") and self.source[self.position - 1] in _SPACES + "|"

    def _quoted_text(self) -> Text | None:
        """A quoted default, or None where more than it stands before the closing brace."""
        quote = self._peek()
        self.position += 1
        pieces: list[str | Expression] = []
        while not self._at(quote) or self._at("''"):
            char = self._peek()
            if not char:
                return None
            if quote == "'" and self._at("''"):
                pieces.append("'")
                self.position += 2
            elif quote == '"' and char == "\\" and not self._at("\\${"):
                pieces.append(self._escape())
            else:
                pieces.append(self._piece())
        self.position += 1
        if not self._closes(self.position):
            return None
        self._skip()
        return Text(_joined(pieces))

    def _escape(self) -> str:
        """A backslash and what it stands for in double quotes; unknown ones stay as they are."""
        char = self.source[self.position + 1 : self.position + 2]
        self.position += 2
        if char == "u":
            digits = self.source[self.position : self.position + 4]
            code = int(digits, 16) if re.fullmatch("[0-9a-fA-F]{4}", digits) else -1
            if code >= 0 and not 0xD800 <= code < 0xE000:
                self.position += 4
                return chr(code)
        if char in ('"', "\\", "/"):
            return char
        return _ESCAPES.get(char, "\\" + char)

    def _quoted_name(self) -> str:
        quote = self._peek()
        end = self.source.find(quote, self.position + 1)
        if end < 0:
            self._fail("a quoted key is never closed")
        name = self.source[self.position + 1 : end]
        self.position = end + 1
        return name

    def _name(self, expected: str) -> str:
        start = self.position
        while ((char := self._peek()) and ("_" + char).isidentifier()) or self._at("-"):
            self.position += 1
        name = self.source[start : self.position]
        if not name or not (name[0].isidentifier()):
            self.position = start
            self._unexpected(expected)
        return name

    def _peek(self) -> str:
        return self.source[self.position : self.position + 1]

    def _at(self, text: str) -> bool:
        return self.source.startswith(text, self.position)

    def _take(self, pattern: re.Pattern[str]) -> str:
        """The text here that a pattern matches, which is passed by."""
        found = pattern.match(self.source, self.position)
        taken = found[0] if found else ""
        self.position += len(taken)
        return taken

    def _skip(self) -> bool:
        return bool(self._take(_BLANKS))

    def _unexpected(self, expected: str) -> NoReturn:
        if not self._peek():
            self._fail("it is never closed", hint="An expression ends with '}'.")
        rest = self.source[self.position : self.position + 40].split(maxsplit=1)
        found = rest[0].split("}")[0] if rest and not self._at("}") else self._peek()
        self._fail(f"expected {expected}, found '{found[:20] or self._peek()}'")

    def _fail(self, message: str, *, hint: str | None = None) -> NoReturn:
        start = self.starts[0]
        end = _matching_brace(self.source, start, start + _MAX_SHOWN)
        text = self.source[start : end or start + 60].partition("\n\n")[0]
        raise ExpressionError(message, expression=text, hint=hint, offset=start)


def _joined(
    pieces: Iterable[str | Expression], *, stripped: bool = False
) -> tuple[str | Expression, ...]:
    """The parts of a text, neighbouring characters as one; ``stripped`` of blanks at its end."""
    parts: list[str | Expression] = []
    for is_text, group in groupby(pieces, lambda piece: isinstance(piece, str)):
        if is_text:
            parts.append("".join(map(str, group)))
        else:
            parts += group
    if stripped and parts and isinstance(parts[-1], str):
        parts[-1] = parts[-1].rstrip(_SPACES)
    return tuple(part for part in parts if part != "")
