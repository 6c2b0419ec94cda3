"""A document's keys and elements by their indentation, whatever else is wrong with it.

`reader` refuses what is no YAML; this is for a text that is being written. Nothing here fails.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from .expression import read_to_end

Kind = Literal["root", "key", "element", "word"]

_LINE = re.compile(r"([^\r\n]+)(?:\r\n?|\n|$)")
_PROPERTIES = re.compile(r"(?:[&!]\S*(?:[ \t]+|$))*")  # anchors and tags before a value
_BLOCK_TEXT = re.compile(r"[|>][-+0-9]*[ \t]*(?:#.*)?$")
_FLOW_RUN = re.compile(r"[^\s{}\[\],:\"'#$]+|.")
_NOT_IN_KEY = tuple("{}[]#&*!|>%@`,")  # what a plain key does not begin with
LONGEST_EXPRESSION = 1000  # characters; one that is longer counts as not closed
_MAX_DEPTH = 100  # of what is open: twice as deep as a document may be


@dataclass(eq=False, slots=True)
class Node:
    """A key with all that belongs to it, an element of a list, or a word that is no key yet.

    Nodes know nothing of what is above them, and a list only where they have children: a thousand
    of them come and go with each key that is typed, unnoticed by the garbage collector.

    Attributes:
        column: of its first character in its line. In flow, columns mean nothing.
        start: index of its first character: of the key, the dash, or the word.
        colon: index of a key's colon.
        value_start: index where its value begins, if one stands on its line; else of its end.
        end: index behind all of its value.
        filled: whether its value begins on its line, so that deeper lines belong to that value.
    """

    text: str = field(repr=False)
    kind: Kind
    column: int
    start: int
    value_start: int
    end: int
    key: str = ""
    colon: int = -1
    filled: bool = False
    children: Sequence[Node] = ()

    @property
    def value(self) -> str:
        return self.text[self.value_start : self.end].strip()

    @property
    def plain(self) -> str:
        """The value without quotes around it."""
        value = self.value
        return value[1:-1] if len(value) > 1 and value[0] == value[-1] in "\"'" else value

    @property
    def is_flow(self) -> bool:
        return self.filled and self.text.startswith(("{", "["), self.value_start)

    def add(self, child: Node) -> None:
        if isinstance(self.children, list):
            self.children.append(child)
        else:
            self.children = [child]

    def child(self, key: str) -> Node | None:
        """The child with a key, or None."""
        keys = (node for node in self.children if node.kind == "key")
        return next((node for node in keys if node.key == key), None)

    def elements(self) -> list[Node]:
        """The elements of a list; a mapping in the place of a list is the only one itself."""
        found = [node for node in self.children if node.kind == "element"]
        return found or ([self] if any(node.kind == "key" for node in self.children) else [])


@dataclass(frozen=True)
class CursorContext:
    """What a cursor stands in.

    Attributes:
        path: from the root down to the node whose content is written there: a key at its value,
            else a mapping or an element.
        start: index where the text at the cursor begins, a key or a value.
        takes_key: whether a key may stand there.
        word: the node that the text at the cursor is by itself, or None.
    """

    path: tuple[Node, ...]
    start: int
    takes_key: bool
    word: Node | None = None

    @property
    def node(self) -> Node:
        return self.path[-1]


class Outline:
    """The outline of a text, and what a cursor stands in.

    Attributes:
        root: holds the nodes of the document's top level.
        nodes: all nodes but those of flow collections, in the order of the text.
        context: what the cursor stands in; None where nothing can be written, as in a comment.
    """

    def __init__(self, text: str, cursor: int) -> None:
        self.root = Node(text, "root", -1, 0, 0, 0)
        self.nodes: list[Node] = []
        self._text = text
        self._cursor = cursor
        self._open = [self.root]
        self._ends = ExpressionEnds(text)
        for line in _LINE.finditer(text):
            self._line(*line.span(1))
        self.context = self._find()
        for node in self.nodes:
            if node.is_flow and not node.children:
                _FlowReader((node,), node.end, self._ends).read()

    # Reading

    def _line(self, start: int, stop: int) -> None:
        at = self._skip(start, stop)
        if at == stop:
            return
        index = self._owner(at - start, dash=self._is_dash(at, stop))
        owner = self._open[index]
        is_text = owner.filled and self._text.startswith(("|", ">"), owner.value_start)
        if self._text[at] == "#" and not is_text:
            return
        del self._open[index + 1 :]
        if owner.filled:
            owner.end = stop
            return
        while self._is_dash(at, stop) and len(self._open) < _MAX_DEPTH:
            value = self._behind_properties(self._skip(at + 1, stop), stop)
            self._add("element", at, at - start, value)
            at = value
        if at < stop and self._text[at] != "#":
            self._content(start, at, stop)

    def _content(self, start: int, at: int, stop: int) -> None:
        """What stands on a line behind its dashes."""
        end = self._value_end(at, stop)
        colon = self._colon(at, end)
        last = self._open[-1]
        if colon is not None:
            value = self._behind_properties(self._skip(colon + 1, stop), stop)
            node = self._add("key", at, at - start, value)
            node.key = self._text[at:colon].strip().strip("\"'")
            node.colon = colon
            node.end = self._value_end(value, stop)
            node.filled = node.value != ""
        elif last.kind == "element" and last.start >= start and self._is_bounded(at, stop):
            last.end, last.filled = end, True
        else:
            self._add("word", at, at - start, at).end = end

    def _add(self, kind: Kind, at: int, column: int, value: int) -> Node:
        node = Node(self._text, kind, column, at, value, value)
        self._open[-1].add(node)
        self.nodes.append(node)
        self._open.append(node)
        return node

    def _owner(self, column: int, *, dash: bool) -> int:
        """Which of the open nodes a line belongs to that begins in a column, as an index."""
        index = len(self._open) - 1
        while self._open[index].column >= column:
            node = self._open[index]
            if dash and node.column == column and node.kind == "key" and not node.filled:
                break  # a list may begin in the column of its key
            index -= 1
        return index

    def _skip(self, at: int, stop: int) -> int:
        while at < stop and self._text[at] in " \t":
            at += 1
        return at

    def _is_dash(self, at: int, stop: int) -> bool:
        return self._text.startswith("-", at) and (at + 1 >= stop or self._text[at + 1] in " \t")

    def _is_bounded(self, at: int, stop: int) -> bool:
        """Whether a value tells by itself where it ends: by quotes, brackets or its header."""
        return self._text[at] in "{[\"'" or _BLOCK_TEXT.match(self._text[at:stop]) is not None

    def _behind_properties(self, at: int, stop: int) -> int:
        found = _PROPERTIES.match(self._text, at, stop)
        return found.end() if found else at

    def _value_end(self, at: int, stop: int) -> int:
        """Where a value ends on its line: at a comment, or with the line."""
        text, start = self._text, at
        if text.startswith(("'", '"'), at):
            start = text.find(text[at], at + 1, stop)
        while start >= 0 and (mark := text.find("#", start, stop)) >= 0:
            expression = text.rfind("${", at, mark)
            if expression >= 0 and text.find("}", expression, mark) < 0:
                start = text.find("}", mark, stop)
            elif mark == at or text[mark - 1] in " \t":
                return mark
            else:
                start = mark + 1
        return stop

    def _colon(self, at: int, stop: int) -> int | None:
        """Where the colon is that makes a key of what begins here, or None."""
        text = self._text
        if text[at] in "\"'":
            close = text.find(text[at], at + 1, stop)
            colon = self._skip(close + 1, stop) if close >= 0 else stop
            return colon if colon < stop and text[colon] == ":" else None
        colon = text.find(":", at, stop)
        while 0 <= colon < stop - 1 and text[colon + 1] not in " \t":
            colon = text.find(":", colon + 1, stop)
        is_key = colon >= 0 and not text.startswith(_NOT_IN_KEY, at) and "${" not in text[at:colon]
        return colon if is_key else None

    # The cursor

    def _find(self) -> CursorContext | None:
        cursor, text = self._cursor, self._text
        line = max(text.rfind("\n", 0, cursor), text.rfind("\r", 0, cursor)) + 1
        path = self._path()
        if len(path) > 1 and path[-1].start >= line:
            return self._context_on_line(path, line)
        column = self._skip(line, cursor) - line
        while path[-1].column >= column:
            path = path[:-1]
        if path[-1].filled:
            return self._context_in_value(path)
        if text[line:cursor].strip():
            return None
        return CursorContext(path, cursor, self._fits(path[-1], column))

    def _path(self) -> tuple[Node, ...]:
        """From the root down, the last nodes that begin before the cursor."""
        path = [self.root]
        while not path[-1].is_flow:
            children = path[-1].children
            index = bisect_right(children, self._cursor, key=lambda node: node.start)
            if index == 0:
                break
            path.append(children[index - 1])
        return tuple(path)

    def _context_on_line(self, path: tuple[Node, ...], line: int) -> CursorContext | None:
        """The context behind the first character of a node that begins on the cursor's line."""
        cursor, text, node = self._cursor, self._text, path[-1]
        if "#" in text[node.end : cursor]:
            return None
        if node.kind == "word" or cursor <= node.colon:
            return CursorContext(path[:-1], node.start, self._fits(path[-2], node.column), node)
        if node.filled and cursor >= node.value_start:
            return self._context_in_value(path)
        if node.filled or text[cursor - 1] not in " \t":
            return None
        takes_key = node.kind == "element" and self._fits(node, cursor - line)
        return CursorContext(path, cursor, takes_key)

    def _context_in_value(self, path: tuple[Node, ...]) -> CursorContext | None:
        node = path[-1]
        if node.is_flow:
            return _FlowReader(path, max(node.end, self._cursor), self._ends, self._cursor).read()
        return CursorContext(path, node.value_start, takes_key=False)

    @staticmethod
    def _fits(parent: Node, column: int) -> bool:
        """Whether a key may begin in a column: where its siblings do."""
        others = [node for node in parent.children if node.kind != "word"]
        return not others or others[0].column == column


class ExpressionEnds:
    """Where the expressions of a text end.

    What is read for those that are not closed is bounded by the text's length; beyond that, all
    others count as not closed too.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._patience = len(text) + 20 * LONGEST_EXPRESSION

    def closed_at(self, start: int, stop: int) -> int | None:
        """Where the expression that starts at an index ends, or None where it is not closed."""
        if self._patience < 0:
            return None
        end, in_vain = read_to_end(self._text[start : min(stop, start + LONGEST_EXPRESSION)], 0)
        self._patience -= in_vain
        return None if end is None else start + end


class _FlowReader:
    """Reads ``{…}`` and ``[…]`` into children of the node that holds them, the last of a path."""

    def __init__(
        self, path: tuple[Node, ...], stop: int, ends: ExpressionEnds, cursor: int = -1
    ) -> None:
        *self._above, node = path
        self._text = node.text
        self._ends = ends
        self._at, self._stop = node.value_start, stop
        self._cursor = cursor
        self._open: list[Node] = [node]
        self._entry: Node | None = None
        self._is_fresh = True  # nothing stands yet where a key or a value is expected

    def read(self) -> CursorContext | None:
        """Read all of it; gives the context of the cursor if that stands within."""
        self._at += 1
        context, is_ahead = None, self._cursor >= self._at
        while self._open and self._at < self._stop:
            if is_ahead and self._at >= self._cursor:
                context, is_ahead = self._context(), False
            self._step()
        if self._open and is_ahead:
            context = self._context()
        for node in self._open:
            node.end = self._stop
        return context

    def _step(self) -> None:
        at, char = self._at, self._text[self._at]
        self._at += 1
        if char.isspace():
            return
        if char == "#" and self._text[at - 1].isspace():
            self._at = self._find("\n", at)
        elif char in "{[":
            holder = self._entry or self._begin(at)
            holder.value_start, holder.filled = at, True
            self._open.append(holder)
            self._entry, self._is_fresh = None, True
        elif char in "}]":
            self._entry, self._is_fresh = self._open.pop(), False
            self._entry.end = self._at
        elif char == ",":
            self._entry, self._is_fresh = None, True
        elif char == ":" and self._makes_key(at):
            self._make_key(at)
        else:
            self._run(at, char)

    def _run(self, at: int, char: str) -> None:
        """Characters of a word or a value: quoted, an expression, or up to the next mark."""
        if char in "\"'" and self._is_fresh:
            self._at = self._find(char, at + 1) + 1
        elif self._text.startswith("${", at):
            self._at = self._ends.closed_at(at, self._stop) or at + 2
        elif found := _FLOW_RUN.match(self._text, at, self._stop):
            self._at = found.end()
        entry = self._entry or self._begin(at)
        if self._is_fresh and entry.kind == "key":
            entry.value_start, entry.filled = at, True
        entry.end = self._at = min(self._at, self._stop)
        self._is_fresh = False

    def _find(self, mark: str, at: int) -> int:
        found = self._text.find(mark, at, self._stop)
        return self._stop if found < 0 else found

    @property
    def _in_mapping(self) -> bool:
        return self._text.startswith("{", self._open[-1].value_start)

    def _begin(self, at: int) -> Node:
        kind: Kind = "word" if self._in_mapping else "element"
        self._entry = Node(self._text, kind, self._open[-1].column + 1, at, at, at)
        self._open[-1].add(self._entry)
        return self._entry

    def _makes_key(self, at: int) -> bool:
        if self._entry is None or self._entry.kind != "word" or self._entry.filled:
            return False
        following = self._text[at + 1 : at + 2]
        return following in ("", ",", "}") or following.isspace() or self._text[at - 1] in "\"'"

    def _make_key(self, at: int) -> None:
        assert self._entry is not None
        self._entry.kind, self._entry.colon = "key", at
        self._entry.key = self._text[self._entry.start : at].strip().strip("\"'")
        self._entry.value_start = self._entry.end = at + 1
        self._is_fresh = True

    def _context(self) -> CursorContext | None:
        """The context of the cursor, when all that stands before it has been read."""
        path, entry = (*self._above, *self._open), self._entry
        if entry is None:
            return CursorContext(path, self._cursor, self._in_mapping)
        if entry.kind == "word":
            return CursorContext(path, entry.start, True, entry)
        if entry.filled or entry.kind == "element":
            return CursorContext((*path, entry), entry.value_start, takes_key=False)
        if self._text[self._cursor - 1] == ":":
            return None
        return CursorContext((*path, entry), self._cursor, takes_key=False)
