"""Reading YAML: plain data in, with the position of every key and value, within fixed bounds.

Two things differ from PyYAML's safe loader. A plain scalar may hold ``${...}`` with anything inside
its braces, so ``text: ${input.a | "b: ${input.c}"}`` needs no quotes. And numbers follow YAML 1.2:
``1e3`` is a number, ``010`` is ten, dates and ``1:30`` are text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, ClassVar

import yaml

from ..errors import DocumentError, Problem, Where
from .expression import expression_end

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 50
MAX_NODES = 50_000  # after aliases are expanded, so that a few lines cannot become gigabytes

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Span:
    """Where a node stands in the text: indexes of its first character and after its last."""

    start: int
    end: int


@dataclass
class Source:
    """A document as it was given: its plain data, and where each part of it stands.

    ``text`` is None where the document was given as a mapping. ``folder`` is what relative model
    paths are relative to.
    """

    file: str
    folder: FilePath
    data: Any = None
    text: str | None = None
    keys: dict[Path, Span] = field(default_factory=dict)
    values: dict[Path, Span] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def where(self, path: Path, *, key: bool = False, within: str | None = None) -> Where:
        """The place of a value, of its key, or of a piece of text within the value."""
        spans = self.keys if key else self.values
        known = path
        while known and known not in spans:
            known, spans = known[:-1], self.values
        span = spans.get(known)
        if self.text is None or span is None:
            return Where(self.file, path)
        index = span.start
        if within is not None and (found := self.text.find(within, span.start, span.end)) >= 0:
            index = found
        return self._where_at(index, path)

    def _where_at(self, index: int, path: Path = ()) -> Where:
        assert self.text is not None
        index = min(index, len(self.text))
        start = self.text.rfind("\n", 0, index) + 1
        end = self.text.find("\n", index)
        line = self.text[start : end if end >= 0 else None].rstrip("\r")
        return Where(self.file, path, self.text.count("\n", 0, index) + 1, index - start + 1, line)

    def fail(self, message: str, index: int, hint: str | None = None) -> DocumentError:
        """An error that leaves nothing else to say about the document."""
        return DocumentError([Problem(message, self._where_at(index), hint)])


def read(source: str | FilePath | Mapping[str, Any], *, name: str | None = None) -> Source:
    """Read a document from a path, from YAML text or from a mapping.

    A string is YAML text when it has a line break or a ``:`` followed by a space or its end, and a
    path otherwise. ``name`` is what errors call the document.

    Raises:
        DocumentError: the file cannot be read, or the text is no YAML or is too large.
    """
    if isinstance(source, Mapping):
        return Source(name or "<mapping>", FilePath.cwd(), data=_plain(source))
    if isinstance(source, str) and _is_yaml(source):
        return read_text(source, name or "<text>", FilePath.cwd())
    path = FilePath(source).expanduser()
    file = name or str(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DocumentError([Problem(f"cannot read it: {reason}", Where(file))]) from None
    except UnicodeDecodeError as error:
        message = f"it is not UTF-8 text (byte {error.start})"
        raise DocumentError([Problem(message, Where(file), "Save it as UTF-8.")]) from None
    return read_text(text, file, path.resolve().parent)


def _is_yaml(text: str) -> bool:
    return "\n" in text or ": " in text or text.rstrip().endswith(":") or not text.strip()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(element) for element in value]
    return value


def read_text(text: str, file: str, folder: FilePath) -> Source:
    """Read YAML text; ``file`` names it in errors."""
    source = Source(file, folder, text=text)
    if len(text) > MAX_CHARACTERS:
        limit = f"a document has at most {MAX_CHARACTERS:,} characters, this one {len(text):,}"
        raise source.fail(limit, MAX_CHARACTERS)
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        raise source.fail(
            f"character {error.character!r} is not allowed in YAML", error.position
        ) from None
    except _TooDeep as error:
        raise source.fail(f"it is nested more than {MAX_DEPTH} deep", error.index) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = error.problem or "it is not YAML"
        hint = _syntax_hint(text, mark.index if mark else 0, message)
        raise source.fail(f"not YAML: {message}", mark.index if mark else 0, hint) from None
    if root is not None:
        source.data = _Builder(source).build(root, ())
    return source


def _syntax_hint(text: str, index: int, message: str) -> str | None:
    start = text.rfind("\n", 0, index) + 1
    if "\t" in text[start : index + 1]:
        return "YAML is indented with spaces, not tabs."
    if "mapping values are not allowed" in message:
        return "Text with ': ' in it needs quotes; or a line above lacks its ':'."
    if "expected <block end>" in message:
        return "Lines of one mapping begin in one column."
    return None


class _TooDeep(Exception):
    def __init__(self, index: int) -> None:
        self.index = index


class _Loader(yaml.SafeLoader):
    """PyYAML's scanner, parser and composer with our plain scalars, numbers and depth limit."""

    yaml_implicit_resolvers: ClassVar[Any] = {}  # type: ignore[misc]

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _TooDeep(self._start_of_next())
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _start_of_next(self) -> int:
        index: int = self.peek_event().start_mark.index  # type: ignore[no-untyped-call]
        return index

    def scan_plain(self) -> yaml.ScalarToken:
        """A plain scalar in which ``${...}`` is one piece, whatever stands in its braces."""
        start = end = self.get_mark()
        chunks: list[str] = []
        spaces: list[str] = []
        while True:
            piece = self._expression_piece() or self._plain_piece()
            if not piece:
                break
            self.allow_simple_key = False
            chunks += [*spaces, piece]
            end = self.get_mark()
            spaces = []
            if not self._ends_plain(0):
                continue
            spaces = self.scan_plain_spaces(self.indent + 1, start) or []
            outdented = not self.flow_level and self.column < self.indent + 1
            if not spaces or self.peek() == "#" or outdented:
                break
        return yaml.ScalarToken("".join(chunks), True, start, end)

    def _ends_plain(self, length: int) -> bool:
        char = self.peek(length)
        closers = "\0 \t\r\n\x85\u2028\u2029"
        if char in closers or (self.flow_level and char in ",?[]{}"):
            return True
        closers += ",[]{}" if self.flow_level else ""
        return char == ":" and self.peek(length + 1) in closers

    def _plain_piece(self) -> str:
        length = 0
        while not self._ends_plain(length):
            if length and self.buffer.startswith("${", self.pointer + length):
                break
            length += 1
        piece: str = self.prefix(length)
        self.forward(length)
        return piece

    def _expression_piece(self) -> str | None:
        """The expression that starts here, with its lines folded as YAML folds them."""
        if not self.buffer.startswith("${", self.pointer):
            return None
        end = expression_end(self.buffer, self.pointer)
        if end is None:
            return None
        written = self.buffer[self.pointer : end]
        first, *others = written.split("\n")
        for line in others:
            indented = len(line) - len(line.lstrip(" "))
            if line.strip() and not self.flow_level and indented < self.indent + 1:
                return None
        self.forward(len(written))
        return " ".join([first.rstrip(), *(line.strip() for line in others)]) if others else written


def _add_resolvers() -> None:
    for tag, pattern, first in (
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("bool", r"(?:true|yes|on|false|no|off)", list("tTyYoOfFnN")),
        ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
        (
            "float",
            r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf)|\.(?:nan|NaN)",
            list("-+0123456789."),
        ),
        ("merge", r"<<", ["<"]),
    ):
        flags = re.IGNORECASE if tag == "bool" else 0
        _Loader.add_implicit_resolver(
            f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$", flags), first
        )


_add_resolvers()


class _Builder:
    """Turns composed nodes into plain data, noting positions and problems in the source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._nodes = 0

    def build(self, node: yaml.Node, path: Path) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._source.fail(
                f"it has more than {MAX_NODES:,} values once its aliases are expanded",
                node.start_mark.index,
            )
        if len(path) > MAX_DEPTH:
            raise self._source.fail(
                f"it is nested more than {MAX_DEPTH} deep", node.start_mark.index
            )
        self._source.values[path] = Span(node.start_mark.index, node.end_mark.index)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, (*path, i)) for i, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        seen: dict[Any, yaml.Node] = {}
        for key_node, value_node in node.value:
            if key_node.tag.endswith(":merge"):
                merged |= self._merged(value_node, path)
                continue
            key = self._key(key_node, path)
            if key in seen:
                self._duplicate(key, seen[key], key_node, path)
            seen[key] = key_node
            self._source.keys[(*path, key)] = Span(
                key_node.start_mark.index, key_node.end_mark.index
            )
            result[key] = self.build(value_node, (*path, key))
        return {**merged, **result}

    def _key(self, node: yaml.Node, path: Path) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            raise self._source.fail("a key must be text", node.start_mark.index)
        # A key is always text, so that `on:` and `1:` are the words that they look like.
        return node.value

    def _duplicate(self, key: Any, first: yaml.Node, second: yaml.Node, path: Path) -> None:
        lines = [node.start_mark.line + 1 for node in (first, second)]
        self._source.problems.append(
            Problem(
                f"key '{key}' stands twice in one mapping, on line {lines[0]} and line {lines[1]}",
                self._source._where_at(second.start_mark.index, (*path, key)),
                f"Keep one of the two '{key}' lines; put '#' before the other.",
            )
        )

    def _merged(self, node: yaml.Node, path: Path) -> dict[Any, Any]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        result: dict[Any, Any] = {}
        for each in reversed(nodes):
            if not isinstance(each, yaml.MappingNode):
                raise self._source.fail("'<<' needs a mapping", each.start_mark.index)
            result |= self.build(each, path)
        return result

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        kind, value = node.tag.removeprefix("tag:yaml.org,2002:"), node.value
        try:
            return _SCALARS[kind](value)
        except KeyError:
            self._source.problems.append(
                Problem(f"tag '{node.tag}' is not known here", self._source.where(path))
            )
        except ValueError:
            self._source.problems.append(
                Problem(f"'{value[:40]}' is not a valid {kind}", self._source.where(path))
            )
        return value


def _integer(value: str) -> int:
    digits = value.lower()
    if digits.startswith(("0o", "0x")):
        return int(digits, 0)
    if len(digits) > 400:
        raise ValueError("too long")
    return int(digits)


_SCALARS: dict[str, Any] = {
    "null": lambda value: None,
    "bool": lambda value: value.lower() in ("true", "yes", "on"),
    "int": _integer,
    "float": lambda value: float(value.lower().replace(".inf", "inf").replace(".nan", "nan")),
    "str": lambda value: value,
}
