"""Reading YAML: plain data in, with the position of every key and value, within fixed bounds.

It is YAML 1.2, and one thing is added: a plain scalar may hold ``${...}`` with anything inside its
braces, so ``text: ${input.a | "b: ${input.c}"}`` needs no quotes. The words are ``scanner``'s, and
what they mean is said here: ``1e3`` is a number, ``010`` is ten, dates, ``1:30`` and ``yes`` are
text.
"""

from __future__ import annotations

import posixpath
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import yaml

from ..errors import DocumentError, ExpressionError, Problem, Where
from ..redaction import MASK, is_secret_key, redact_line, remember_in_data, remember_in_text
from ..text_encoding import EncodingError, decode, unmarked, without_mark
from .expression import read_to_end
from .scanner import Scanner
from .types import show

# After aliases are expanded, so that a few lines cannot become gigabytes.
MAX_CHARACTERS = 1_000_000
MAX_NODES = 50_000
MAX_DEPTH = 50
MAX_KEY = 10_000
"""Characters of a key, since each problem below it has it as a part of its path."""
MAX_PROBLEMS = 100
"""Of one document, before they are only counted: nobody reads more, and each takes its time."""

_MAX_BYTES = 4 * (MAX_CHARACTERS + 1)  # in UTF-32, with a byte order mark
_MAX_LINE, _MARGIN = 2000, 1000  # characters of a line that a problem holds, and around these

KeyPath = tuple[str | int, ...]
"""The keys and indexes that lead to a value of a document."""


@dataclass(frozen=True)
class Span:
    """Where a node stands in the text: indexes of its first character and after its last."""

    start: int
    end: int


@dataclass
class Source:
    """A document as it was given: its plain data, and where each part of it stands.

    ``text`` is None where the document was given as a mapping. ``folder`` is what relative model
    paths are relative to. ``problems`` are those that were found first, each once, and ``found``
    is how many there are in all. ``included`` has the files that stand in the place of a value.
    """

    file: str
    folder: Path
    data: Any = None
    text: str | None = None
    keys: dict[KeyPath, Span] = field(default_factory=dict)
    values: dict[KeyPath, Span] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    found: int = 0
    included: dict[KeyPath, Source] = field(default_factory=dict)
    _known: set[int] = field(default_factory=set)

    def report(
        self,
        message: str,
        path: KeyPath,
        *,
        key: bool = False,
        hint: str | None = None,
        within: str | None = None,
        at: Span | None = None,
    ) -> None:
        """Note a problem; the place is that of `where`, unless it is known as ``at``.

        Where an alias stands for a value many times, what is wrong with that is one problem.
        """
        owner, below, span = self._place(path, key, within)
        if at is not None:
            owner, below, span = self, path, at
        place = (path, within) if span is None else (owner.file, span.start)
        same = hash((message, place))
        if same in self._known:
            return
        self._known.add(same)
        self.found += 1
        if self.found <= MAX_PROBLEMS:
            named_at = None if owner is self else self.own_place(path)
            self.problems.append(Problem(message, owner._where(below, span), hint, named_at))

    def add(self, problem: Problem, path: KeyPath) -> None:
        """Note a problem of a file that the document names at a path, which has a place of its
        own."""
        self.found += 1
        if self.found <= MAX_PROBLEMS:
            self.problems.append(replace(problem, named_at=self.own_place(path)))

    def include(self, path: KeyPath, other: Source) -> None:
        """Have what stands below a path stand in another text, which was read from a file."""
        self.included[path] = other

    def report_error(self, error: ExpressionError, path: KeyPath) -> None:
        """Note what is wrong with an expression within a value."""
        self.report(error.message, path, hint=error.hint, within=error.expression)

    def line_of(self, index: int) -> int:
        """On which line of the text a character stands, counted from 1."""
        return bisect_right(self._line_starts, index)

    def where(self, path: KeyPath, *, key: bool = False, within: str | None = None) -> Where:
        """The place of a value, of its key, or of a piece of text within the value."""
        owner, below, span = self._place(path, key, within)
        return owner._where(below, span)

    def _place(
        self, path: KeyPath, key: bool, within: str | None
    ) -> tuple[Source, KeyPath, Span | None]:
        """In which text a place is, below which path there, and where; None of data."""
        for begin, other in self._around(path):
            return other._place(path[len(begin) :], key, within)
        spans = self.keys if key else self.values
        known = path
        while known and known not in spans:
            known, spans = known[:-1], self.values
        if self.text is None:
            return self, path, None
        span = spans.get(known, Span(0, 0))
        if within is not None and (found := self.text.find(within, span.start, span.end)) >= 0:
            span = Span(found, found + len(within))
        return self, path, span

    def _around(self, path: KeyPath) -> list[tuple[KeyPath, Source]]:
        """The files that have a place in them, each with where it stands, the innermost first."""
        around = [begin for begin in self.included if begin == path[: len(begin)] != path]
        return [(begin, self.included[begin]) for begin in sorted(around, key=len, reverse=True)]

    def above(self, path: KeyPath) -> list[Source]:
        """The files that have a place in them, the outermost first."""
        return [other for _, other in reversed(self._around(path))]

    def own_place(self, path: KeyPath) -> Where:
        """Where this document itself names the file that a place is in."""
        around = self._around(path)
        begin = around[-1][0] if around else path
        return self._where(begin, self.values.get(begin, Span(0, 0)) if self.text else None)

    def order(self, path: KeyPath) -> int:
        """What sorts places as this document has them, those in files where these are named."""
        around = self._around(path)
        return self.values.get(around[-1][0] if around else path, Span(0, 0)).start

    def folder_of(self, path: KeyPath) -> Path:
        """The folder of what is named at a place: that of the file that the place is in."""
        return next((other.folder for _, other in self._around(path)), self.folder)

    def named(self, path: KeyPath, name: str) -> str:
        """A file that is named at a place, as it is named from this document's folder on."""
        around = self._around(path)
        if not around or Path(name).is_absolute() or name.startswith("~"):
            return name
        within = posixpath.dirname(around[0][1].file)
        return posixpath.normpath(f"{within}/{name}") if within not in ("", ".") else name

    @property
    def file_path(self) -> Path:
        """Where the document is, if it is in a file."""
        return self.folder / Path(self.file).name

    def _where(self, path: KeyPath, span: Span | None) -> Where:
        return (
            Where(self.file, path) if span is None else self._where_at(span.start, path, span.end)
        )

    def in_text(self, path: KeyPath, line: int, column: int) -> Span | None:
        """Where a place of a text's own lines stands, counted from 1; None where the text is not
        written in lines as it is: only behind ``|`` it is."""
        span = self.values.get(path)
        if self.text is None or span is None or not self.text.startswith("|", span.start):
            return None
        first = self.line_of(span.start)
        lines = self.text[span.start : span.end].splitlines(keepends=True)[1:]
        if line > len(lines):
            return None
        indents = (len(each) - len(each.lstrip(" ")) for each in lines if each.strip())
        indent = min(indents, default=0)
        start = self._line_starts[first + line - 1] + indent + column - 1
        return Span(start, start + 1)

    def _where_at(self, index: int, path: KeyPath = (), end: int | None = None) -> Where:
        assert self.text is not None
        index = min(index, len(self.text))
        number = self.line_of(index)
        start = self._line_starts[number - 1]
        stop = self._line_starts[number] if number < len(self._line_starts) else len(self.text)
        while stop > start and self.text[stop - 1] in "\r\n":
            stop -= 1
        end_column = None
        if end is not None and end > index:
            end_column = min(end - start, len(self.text[index:stop].rstrip()) + index - start) + 1
        begin, shown = self._shown(start, index, stop, path)
        return Where(
            self.file, path, number, index - start + 1, shown, end_column, begin - start + 1
        )

    def _shown(self, start: int, index: int, stop: int, path: KeyPath) -> tuple[int, str]:
        """A line without secrets, or a piece of a long one around an index, and where it begins.

        A piece is cut out of a larger one, since part of a secret is not known as one.
        """
        assert self.text is not None
        begin, end = start, stop
        if stop - start > _MAX_LINE:
            begin, end = max(start, index - _MAX_LINE // 2), min(stop, index + _MAX_LINE // 2)
        first, last = max(start, begin - _MARGIN), min(stop, end + _MARGIN)
        line = "".join(
            char if char.isprintable() or char == "\t" else "\ufffd"
            for char in self.text[first:last]
        )
        shown = redact_line(line, _secret_from(line, index - first, path))[begin - first :]
        return begin, shown if shown.endswith(MASK) else shown[: len(shown) - (last - end)]

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(each.end() for each in re.finditer(r"\r\n?|\n", self.text or ""))]

    def fail(self, message: str, index: int, hint: str | None = None) -> DocumentError:
        """An error that leaves nothing else to say about the document."""
        return DocumentError([Problem(message, self._where_at(index), hint)])


def _secret_from(line: str, column: int, path: KeyPath) -> int | None:
    """From which index on a line is a part of a secret, for a place in the document."""
    key = next((step for step in path if is_secret_key(step)), None)
    if key is None or line[column : column + MAX_KEY + 1].lstrip("\"'").startswith(str(key)):
        return None  # the key itself may be shown
    return column


def read(source: str | bytes | Path | Mapping[str, Any], *, name: str | None = None) -> Source:
    """Read a document from a path, from YAML text, also as bytes, or from a mapping.

    A string is YAML text when it has a line break or a ``:`` followed by white space or its end,
    or stands in braces, as JSON does, and a path otherwise. ``name`` is what errors call the
    document.

    Raises:
        DocumentError: the file cannot be read, or the text is no YAML or is too large.
    """
    if isinstance(source, Mapping):
        given = Source(name or "<mapping>", Path.cwd())
        given.data = _MappingReader(given).copy(source, ())
        remember_in_data(given.data)
        return given
    if isinstance(source, bytes):
        return _read_bytes(source, name or "<text>", Path.cwd())
    if isinstance(source, str) and _is_yaml(without_mark(source)):
        return read_text(source, name or "<text>", Path.cwd())
    file = name or str(source)
    try:
        path = Path(source).expanduser()
        file = name or str(path)
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except (OSError, RuntimeError, ValueError) as error:  # no such home, a NUL in the name
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise DocumentError([Problem(f"cannot read it: {reason}", Where(file))]) from None
    return _read_bytes(data, file, path.resolve().parent)


def _read_bytes(data: bytes, file: str, folder: Path) -> Source:
    if len(data) > _MAX_BYTES:
        message = f"a document has at most {MAX_CHARACTERS:,} characters, and this one has more"
        raise DocumentError([Problem(message, Where(file))])
    try:
        text = decode(data)
    except EncodingError as error:
        raise DocumentError([Problem(str(error), Where(file), error.hint)]) from None
    return read_text(text, file, folder)


def _is_yaml(text: str) -> bool:
    return _YAML.search(text) is not None or not text.strip()


_YAML = re.compile(r"[\r\n]|:[ \t]|:\s*\Z|\A\s*\{.*\}\s*\Z")


class _MappingReader:
    """Reads a mapping that was given: a copy as plain data, within the bounds of a text."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._nodes = self._characters = 0

    def copy(self, value: Any, path: KeyPath) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._fail(f"it has more than {MAX_NODES:,} values", ())
        if len(path) > MAX_DEPTH:
            self._fail(_TOO_DEEP, path[:1])
        if isinstance(value, Mapping):
            return {self._key(key, path): self.copy(at, (*path, key)) for key, at in value.items()}
        if isinstance(value, list | tuple):
            return [self.copy(element, (*path, i)) for i, element in enumerate(value)]
        if isinstance(value, str):
            return self._text(value, path)
        if value is not None and not isinstance(value, bool | int | float):
            hint = "A document holds texts, numbers, booleans, null, lists and mappings."
            self._fail(f"a value of type '{type(value).__name__}' is not allowed", path, hint)
        return value

    def _key(self, key: Any, path: KeyPath) -> str:
        if not isinstance(key, str):
            self._fail(f"a key must be text, and {show(key)} is not", path)
        if len(key) > MAX_KEY:
            self._fail(_LONG_KEY, path)
        return self._text(key, path)

    def _text(self, text: str, path: KeyPath) -> str:
        self._characters += len(text)
        if self._characters > MAX_CHARACTERS:
            self._fail(f"its texts have more than {MAX_CHARACTERS:,} characters", path[:1])
        try:
            return _characters(text)
        except UnicodeDecodeError:
            self._fail(_HALF, path)

    def _fail(self, message: str, path: KeyPath, hint: str | None = None) -> NoReturn:
        raise DocumentError([Problem(message, Where(self._source.file, path), hint)])


_TOO_DEEP = f"it is nested more than {MAX_DEPTH} deep"
_LONG_KEY = f"a key has at most {MAX_KEY:,} characters, and this one has more"
_HALF = "it has half of a surrogate pair, which is no character"


def _characters(text: str) -> str:
    """The text with its surrogate pairs joined; UnicodeDecodeError where one half is alone."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def read_text(text: str, file: str, folder: Path) -> Source:
    """Read YAML text; ``file`` names it in errors."""
    text = without_mark(text)
    source = Source(file, folder, text=text)
    if len(text) > MAX_CHARACTERS:
        limit = f"a document has at most {MAX_CHARACTERS:,} characters, this one {len(text):,}"
        raise source.fail(limit, MAX_CHARACTERS)
    remember_in_text(text)
    root = failure = None
    try:
        root = _Loader(source, text).get_single_node()
    except yaml.YAMLError as error:
        failure = _syntax_error(source, error)
    if failure is not None:  # raised here, it does not carry the parser's, which has the line
        raise failure
    if root is not None:
        source.data = _Constructor(source).build(root, ())
        remember_in_data(source.data)
    return source


# What the parser says, what we say where that is clearer, and what to do.
_SYNTAX: tuple[tuple[str, str | None, str | None], ...] = (
    ("found another document", "a second document begins here, and a file holds one", None),
    ("second occurrence", "an anchor of this name stands above already", None),
    ("unexpected end of stream", "a quoted text is never closed", None),
    ("undefined alias", None, "An anchor '&name' stands before its aliases '*name'."),
    ("unknown escape", None, "In double quotes a backslash is written twice."),
    ("expected ',' or", None, "A '[' or '{' before this place is not closed, or a ',' is missing."),
    ("could not find expected ':'", None, "This line, or the one above, lacks its ':'."),
    ("mapping values", None, "Text with ': ' in it needs quotes; or a line above lacks its ':'."),
    ("'\\t' that cannot start", None, "YAML is indented with spaces, not tabs."),
    ("that cannot start", None, "Text that begins with this character needs quotes."),
    ("<block end>, but found '<", None, "Lines of one mapping begin in one column."),
    ("<block end>, but found '?'", None, "Lines of one mapping begin in one column."),
)


def _syntax_error(source: Source, error: Exception) -> DocumentError:
    if isinstance(error, yaml.reader.ReaderError):
        if other := unmarked(source.text or ""):
            return source.fail(other, error.position, EncodingError.hint)
        code = f"U+{error.character:04X}"
        return source.fail(f"character {code} is not allowed in YAML", error.position)
    assert isinstance(error, yaml.MarkedYAMLError)
    message = error.problem or "it cannot be read"
    mark = error.problem_mark or error.context_mark
    if "unexpected end of stream" in message or "could not find expected ':'" in message:
        mark = error.context_mark or mark  # where the text or the key begins that has no end
    index, hint = mark.index if mark else 0, None
    for said, clearer, advice in _SYNTAX:
        if said in message:
            message, hint = clearer or message, advice
            break
    return source.fail(f"not YAML: {message}", index, hint)


class _Loader(Scanner):
    """PyYAML's parser and composer with our scanner, plain scalars, numbers and depth limit."""

    yaml_implicit_resolvers: ClassVar[Any] = {}  # type: ignore[misc]

    def __init__(self, source: Source, text: str) -> None:
        super().__init__(text)
        self._source = source
        self._depth = 0
        self._extent: _ScalarExtent | None = None

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if self._depth > MAX_DEPTH:
            raise self._source.fail(_TOO_DEEP, event.start_mark.index)
        if isinstance(event, yaml.ScalarEvent) and event.tag == "!":
            event.implicit = (False, True)  # it says that this is text
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def scan_plain(self) -> yaml.ScalarToken:
        """A plain scalar in which ``${...}`` is one piece, whatever stands in its braces."""
        start = end = self.get_mark()
        chunks: list[str] = []
        spaces: list[str] = []
        plain = _PLAIN[self.flow_level > 0]
        while piece := self._expression_piece() or self._take(plain):
            self.allow_simple_key = False
            chunks += [*spaces, piece]
            end = self.get_mark()
            spaces = []
            if plain.match(self.buffer, self.pointer):
                continue
            spaces = self.scan_plain_spaces(self.indent + 1, start)
            if not spaces or self.peek() == "#":
                break
        return yaml.ScalarToken("".join(chunks), True, start, end)

    def _expression_piece(self) -> str | None:
        """The expression that starts here, with its lines folded as YAML folds them."""
        if not self.buffer.startswith("${", self.pointer):
            return None
        indent = None if self.flow_level else self.indent
        if self._extent is None or not self._extent.holds(self.pointer, indent):
            self._extent = _ScalarExtent(self.buffer, self.pointer, indent)
        end = self._extent.expression_end(self.pointer)
        if end is None:
            return None
        written = self.buffer[self.pointer : end]
        self.forward(len(written))
        return " ".join(line.strip(" \t") for line in re.split(r"\r\n?|\n", written))


def _plain(ends: str) -> re.Pattern[str]:
    """A piece of a plain scalar: up to white space, to what ends it, or to the next ``${``."""
    blanks = r"\0 \t\r\n"
    colon = rf":(?![{blanks}{ends}])"
    return re.compile(rf"(?:[^{blanks}{ends}:]|{colon})(?:[^{blanks}{ends}:$]|\$(?!\{{)|{colon})*")


_PLAIN = {False: _plain(""), True: _plain(r",\[\]{}")}  # outside of brackets, and within


class _ScalarExtent:
    """The text in which the expressions of a plain scalar may stand.

    In block context that is up to the first line that is indented too little to belong to it.
    Reading in vain, for expressions that break the grammar, is bounded by the text's length.
    """

    def __init__(self, buffer: str, start: int, indent: int | None) -> None:
        self._start = start
        self._indent = indent
        self._stop = len(buffer) - 1
        if indent is not None and indent >= 0:
            blank = r"[ \t]*(?:[\r\n]|\0$)"
            line = rf"(?:\r\n?|\n)(?!{blank}) {{0,{indent}}}(?! )"
            outdented = re.compile(line).search(buffer, start)
            self._stop = outdented.start() if outdented else self._stop
        self._text = buffer[start : self._stop]
        self._patience = 4 * len(self._text) + 1000

    def holds(self, position: int, indent: int | None) -> bool:
        return position < self._stop and indent == self._indent

    def expression_end(self, position: int) -> int | None:
        if self._patience < 0:
            return None
        end, in_vain = read_to_end(self._text, position - self._start)
        self._patience -= in_vain
        return None if end is None else end + self._start


_TAGS = "tag:yaml.org,2002:"
_FLOAT = (
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", _FLOAT, list("-+0123456789.")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_TAGS + _tag, re.compile(rf"^(?:{_pattern})\Z"), _first)


class _Constructor:
    """Constructs plain data of YAML nodes, noting positions and problems in the source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._nodes = self._read = 0
        self._unfinished: set[yaml.Node] = set()

    def _count(self, node: yaml.Node) -> None:
        """Count a node, as often as it is built: there may be many aliases of it."""
        self._nodes += 1
        self._read += len(node.value) if isinstance(node, yaml.ScalarNode) else 0
        if self._nodes > MAX_NODES or self._read > MAX_CHARACTERS:
            bound = f"{MAX_CHARACTERS:,} characters"
            if self._nodes > MAX_NODES:
                bound = f"{MAX_NODES:,} values"
            self._fail(f"it has more than {bound} once its aliases are expanded", node)

    def _fail(self, message: str, node: yaml.Node) -> NoReturn:
        raise self._source.fail(message, node.start_mark.index)

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self._count(node)
        if len(path) > MAX_DEPTH:
            self._fail(_TOO_DEEP, node)
        self._source.values[path] = _span(node)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if not node.tag.endswith((":map", ":seq")):
            self._unknown_tag(node, path)
        with self._inside(node):
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            return [self.build(child, (*path, i)) for i, child in enumerate(node.value)]

    @contextmanager
    def _inside(self, node: yaml.Node) -> Iterator[None]:
        if node in self._unfinished:
            self._fail("this anchor has an alias of itself inside", node)
        self._unfinished.add(node)
        yield
        self._unfinished.remove(node)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        seen: dict[Any, yaml.Node] = {}
        # Merges first, so that the positions of the mapping's own keys are those that stay.
        for key_node, value_node in node.value:
            if key_node.tag.endswith(":merge"):
                merged |= self._merged(value_node, path)
        for key_node, value_node in node.value:
            if key_node.tag.endswith(":merge"):
                continue
            key = self._key(key_node, path)
            if key in seen:
                self._duplicate(key, seen[key], key_node, path)
            seen[key] = key_node
            self._source.keys[(*path, key)] = _span(key_node)
            result[key] = self.build(value_node, (*path, key))
        return {**merged, **result}

    def _key(self, node: yaml.Node, path: KeyPath) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            self._fail("a key must be text", node)
        if len(node.value) > MAX_KEY:
            self._fail(_LONG_KEY, node)
        self._read += len(node.value)
        # A key is always text, so that `on:` and `1:` are the words that they look like.
        return self._characters(node, path)

    def _duplicate(self, key: Any, first: yaml.Node, second: yaml.Node, path: KeyPath) -> None:
        spans = [_span(first), _span(second)]
        above, below = (self._source.line_of(span.start) for span in spans)
        self._source.report(
            f"key '{key}' stands twice in one mapping, on line {above} and line {below}",
            path,
            at=spans[1],
            hint=f"Keep one of the two '{key}' lines; put '#' before the other.",
        )

    def _merged(self, node: yaml.Node, path: KeyPath) -> dict[Any, Any]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        result: dict[Any, Any] = {}
        for each in reversed(nodes):
            if not isinstance(each, yaml.MappingNode):
                self._fail("'<<' needs a mapping", each)
            self._count(each)
            with self._inside(each):
                result |= self._mapping(each, path)
        return result

    def _unknown_tag(self, node: yaml.Node, path: KeyPath) -> None:
        tag = node.tag.replace(_TAGS, "!!")
        self._source.report(f"tag '{tag}' is not known here", path)

    def _characters(self, node: yaml.ScalarNode, path: KeyPath) -> str:
        try:
            return _characters(node.value)
        except UnicodeDecodeError:
            start = node.start_mark.index
            self._source.report(_HALF, path, at=Span(start, start))
            return "\ufffd"

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        kind, value = node.tag.removeprefix(_TAGS), self._characters(node, path)
        try:
            if kind in _SCALARS:
                return _SCALARS[kind](value)
            self._unknown_tag(node, path)
        except (KeyError, ValueError):
            what = "true or false" if kind == "bool" else "a number that fits"
            self._source.report(f"'{value[:40]}' is not {what}", path)
        return value


def _span(node: yaml.Node) -> Span:
    return Span(node.start_mark.index, node.end_mark.index)


def _integer(value: str) -> int:
    number = int(value, 0) if value.startswith(("0o", "0x")) else int(value)
    str(number)  # a ValueError where it has more digits than Python reads and writes
    return number


_SCALARS: dict[str, Any] = {
    "null": lambda value: None,
    "bool": lambda value: {"true": True, "false": False}[value.lower()],
    "int": _integer,
    "float": lambda value: float(value.lower().replace(".inf", "inf").replace(".nan", "nan")),
    "str": lambda value: value,
}
