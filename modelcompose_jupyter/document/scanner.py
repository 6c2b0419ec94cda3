"""The words of YAML 1.2: from characters to tokens, for PyYAML's parser.

PyYAML scans YAML 1.1, and tabs nowhere. What differs is here: where lines break, where tabs
separate, how plain scalars, quoted ones, block scalars, anchors, tags and directives are written,
which characters may stand where, and how far a key may reach. So every JSON text is read, too.

Where the specification asks for spaces that nobody can mistake, this is less strict: indentation is
heeded in blocks alone, not within brackets and quotes, and a line of white space is a blank one.
"""

from __future__ import annotations

import re
from bisect import bisect
from typing import Any, ClassVar, NoReturn
from urllib.parse import unquote

import yaml
from yaml.error import Mark
from yaml.reader import ReaderError
from yaml.scanner import ScannerError

_END = "\0"
_BREAKS = "\r\n"
_BLANKS = " \t\r\n\0"  # what ends a word
_FLOW = ",[]{}"
_MARK = "\ufeff"
_MAX_AHEAD = 1024  # tokens that are read to see whether what begins at one of them is a key

_BREAK = re.compile(r"\r\n?|\n")
_WHITE = re.compile(r"[ \t]*")
_SPACES = re.compile(r" *")
_REST = re.compile(r"[^\0\r\n]*")
_NEVER = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_IN_QUOTES = re.compile(r"[\x7f-\x84\x86-\x9f\ufffe\uffff]")
_NAME = re.compile(r"[^\0 \t\r\n,\[\]{}]+")
_URI = r"(?:[-0-9A-Za-z#;/?:@&=+$_.~*'()]|%[0-9A-Fa-f]{2}"
_TAG = re.compile(rf"!<({_URI}|[!,\[\]])+)>|(![-_0-9A-Za-z]*!|!)({_URI})+)|!")
_HEADER = re.compile(r"(?:([-+])([1-9])?|([1-9])([-+])?)?(?=[ \t\r\n\0])")
_HEADER_END = re.compile(r"[ \t]*(?:(?<=[ \t])#[^\0\r\n]*)?")
_QUOTED = {
    '"': re.compile(r'(?:[^"\\\0 \t\r\n]|[ \t]+(?![ \t\r\n]))+'),
    "'": re.compile(r"(?:[^'\0 \t\r\n]|[ \t]+(?![ \t\r\n]))+"),
}


class Scanner(yaml.SafeLoader):
    """PyYAML's loader, reading the words of YAML 1.2. ``buffer`` is the text and a NUL."""

    ESCAPES: ClassVar[dict[str, str]] = yaml.SafeLoader.ESCAPE_REPLACEMENTS

    def __init__(self, text: str) -> None:
        self._brackets: list[str] = []
        self._quoted: list[int] = []  # where quoted scalars begin and end, in turn
        self._ends_json = False  # whether the last token ended a quoted scalar or a bracket
        super().__init__(text)

    # Characters

    def check_printable(self, data: str) -> None:
        if found := _NEVER.search(data):
            self._refuse(found)

    def _refuse(self, found: re.Match[str]) -> NoReturn:
        raise ReaderError(self.name, found.start(), ord(found[0]), "unicode", "not allowed")

    def forward(self, length: int = 1) -> None:
        start = self.pointer
        self.pointer = self.index = end = start + length
        self.column += length
        while found := _BREAK.search(self.buffer, start, end):
            start = found.end()
            self.line += 1
            self.column = end - start

    def _take(self, pattern: re.Pattern[str]) -> str:
        """The text here that a pattern matches, which is passed by."""
        found = pattern.match(self.buffer, self.pointer)
        if not found or not found[0]:
            return ""
        self.forward(len(found[0]))
        return found[0]

    def scan_line_break(self) -> str:
        return "\n" if self._take(_BREAK) else ""

    def _blank(self, offset: int) -> bool:
        """Whether white space or the end stands there."""
        return self.peek(offset) in _BLANKS

    def _ends_word(self, offset: int) -> bool:
        return self._blank(offset) or (self.flow_level > 0 and self.peek(offset) in _FLOW)

    def _fail(
        self, message: str, mark: Mark | None = None, context: Mark | None = None
    ) -> NoReturn:
        raise ScannerError(None, context, message, mark or self.get_mark())

    # Between tokens

    def scan_to_next_token(self) -> None:
        while True:
            while not self.column and not self.flow_level and self.peek() == _MARK:
                self.forward()  # of files that were joined, each begins with a mark
                self.column = 0
            self._take(_WHITE)
            if self.peek() == "#":
                self._take(_REST)
            if not self.scan_line_break():
                break
            if not self.flow_level:
                self.allow_simple_key = True
        if not self.flow_level and self.peek() != _END:
            # What stands in a block is indented with spaces; tabs may follow them.
            start, tab = self._white_before(self.pointer)
            at_line = start == 0 or self.buffer[start - 1] in _BREAKS
            if at_line and 0 <= tab <= start + self.indent:
                self._fail_at_tab(tab)

    def _check_tab_before(self, index: int) -> None:
        """Before an entry of a block, white space is indentation."""
        _, tab = self._white_before(index)
        if tab >= 0:
            self._fail_at_tab(tab)

    def _white_before(self, index: int) -> tuple[int, int]:
        """Where the white space before an index begins, and its first tab, or -1."""
        start = index
        while start and self.buffer[start - 1] in " \t":
            start -= 1
        return start, self.buffer.find("\t", start, index)

    def _fail_at_tab(self, tab: int) -> NoReturn:
        column = self.column - (self.index - tab)
        mark = Mark(self.name, tab, self.line, column, None, 0)
        self._fail("found character '\\t' that cannot start any token", mark)

    def fetch_stream_end(self) -> None:
        for found in _IN_QUOTES.finditer(self.buffer):  # which may stand in quotes, as in JSON
            if bisect(self._quoted, found.start()) % 2 == 0:
                self._refuse(found)
        super().fetch_stream_end()

    def fetch_more_tokens(self) -> None:
        super().fetch_more_tokens()
        token = self.tokens[-1] if self.tokens else None
        self._ends_json = (isinstance(token, yaml.ScalarToken) and not token.plain) or isinstance(
            token, yaml.FlowSequenceEndToken | yaml.FlowMappingEndToken
        )

    # Keys

    def stale_possible_simple_keys(self) -> None:
        """Forget what can be no key any more: one is in a line, but for braces."""
        for level, key in list(self.possible_simple_keys.items()):
            ahead = self.tokens_taken + len(self.tokens) - key.token_number
            in_line = key.line == self.line or self._in_braces(level)
            if in_line and ahead <= _MAX_AHEAD:
                continue
            if key.required:
                self._fail("could not find expected ':'", context=key.mark)
            del self.possible_simple_keys[level]

    def _in_braces(self, level: int) -> bool:
        return 0 < level <= len(self._brackets) and self._brackets[level - 1] == "{"

    def fetch_flow_collection_start(self, token: Any) -> None:
        self._brackets.append(self.peek())
        super().fetch_flow_collection_start(token)

    def fetch_flow_collection_end(self, token: Any) -> None:
        if not self._brackets:
            self._fail(f"found '{self.peek()}' without the bracket that opens it")
        self._brackets.pop()
        super().fetch_flow_collection_end(token)

    def fetch_block_entry(self) -> None:
        if not self.flow_level and self.allow_simple_key:
            self._check_tab_before(self.index)
        super().fetch_block_entry()

    def fetch_key(self) -> None:
        if not self.flow_level and self.allow_simple_key:
            self._check_tab_before(self.index)
        super().fetch_key()

    def fetch_value(self) -> None:
        key = self.possible_simple_keys.get(self.flow_level)
        if not self.flow_level:
            line = _WHITE.match(self.buffer, self.index - self.column)
            if key or self.allow_simple_key:
                self._check_tab_before(key.index if key else self.index)
            elif line:  # it is meant for a key, and was read as more of the text above
                self._check_tab_before(line.end())
        super().fetch_value()

    # What begins here

    def check_directive(self) -> bool:
        return self.column == 0 and not self.flow_level

    def check_document_start(self) -> bool:
        return self._at_marker("---")

    def check_document_end(self) -> bool:
        return self._at_marker("...")

    def _at_marker(self, *markers: str) -> bool:
        """Whether a line begins here that begins or ends a document."""
        at = self.column == 0 and self.buffer.startswith(markers or ("---", "..."), self.pointer)
        return at and self._blank(3)

    def check_block_entry(self) -> bool:
        return self._blank(1)

    def check_key(self) -> bool:
        return self._blank(1)

    def check_value(self) -> bool:
        if self._ends_word(1):
            return True
        known = self.flow_level in self.possible_simple_keys or self._in_braces(self.flow_level)
        return self.flow_level > 0 and self._ends_json and known

    def check_plain(self) -> bool:
        char = self.peek()
        if char in "-?:":
            return not self._ends_word(1)
        return char not in "\0 \t\r\n,[]{}#&*!|>'\"%@`"

    # Directives, anchors, tags

    def scan_directive(self) -> yaml.DirectiveToken:
        start = self.get_mark()
        line = self._take(_REST)
        end = self.get_mark()
        words = re.split(r"[ \t]+", re.sub(r"(?<=[ \t])#.*", "", line[1:]).rstrip(" \t"))
        self.scan_line_break()
        value: Any = None
        if words[0] == "YAML":
            version = re.fullmatch(r"([0-9]{1,9})\.([0-9]{1,9})", " ".join(words[1:]))
            if not version:
                self._fail("expected a version, as in '%YAML 1.2'", start)
            value = (int(version[1]), int(version[2]))
        elif words[0] == "TAG":
            if len(words) != 3 or not re.fullmatch(r"!(?:[-_0-9A-Za-z]*!)?", words[1]):
                self._fail(
                    "expected a handle and a prefix, as in '%TAG !e! tag:example,2000:'", start
                )
            value = (words[1], unquote(words[2]))
        elif not re.fullmatch(r"[-_0-9A-Za-z]+", words[0]):
            self._fail("found character '%' that cannot start any token", start)
        return yaml.DirectiveToken(words[0], value, start, end)

    def scan_anchor(self, token: Any) -> Any:
        start = self.get_mark()
        indicator = self.peek()
        self.forward()
        name = self._take(_NAME)
        if not name:
            self._fail(f"found character '{indicator}' that cannot start any token", start)
        return token(name, start, self.get_mark())

    def scan_tag(self) -> yaml.TagToken:
        start = self.get_mark()
        found = _TAG.match(self.buffer, self.pointer)
        assert found  # a '!' at least
        self.forward(len(found[0]))
        if not self._ends_word(0):
            self._fail("found a tag that is not written as one", start)
        if found[0] == "!":
            value: tuple[str | None, str] = (None, "!")
        elif found[2] is None:
            value = (None, unquote(found[0][2:-1]))
        else:
            value = (found[2], unquote(found[0][len(found[2]) :]))
        return yaml.TagToken(value, start, self.get_mark())

    # Scalars of several lines

    def _folded(self, start: Mark | None = None) -> str:
        """The line breaks here, and the white space around them, as folding makes of them.

        ``start`` is where a quoted scalar began, in which no document may end.
        """
        self._take(_WHITE)
        breaks = 0
        while self.scan_line_break():
            breaks += 1
            if self._at_marker():
                if start is not None:
                    self._fail("found unexpected document separator", context=start)
                break
            self._take(_WHITE)
        return "\n" * (breaks - 1) if breaks > 1 else " " * breaks

    def scan_plain_spaces(self, indent: int, start_mark: Mark) -> list[str]:
        """What separates two words of a plain scalar; nothing where it ends."""
        white = _WHITE.match(self.buffer, self.pointer)[0]  # type: ignore[index]
        if self.peek(len(white)) not in _BREAKS:
            self.forward(len(white))
            return [white] if white else []
        folded = self._folded()
        self.allow_simple_key = True
        line = self.pointer - self.column
        spaces = len(_SPACES.match(self.buffer, line)[0])  # type: ignore[index]
        if self._at_marker() or (not self.flow_level and spaces < indent):
            return []
        return [folded]

    def scan_flow_scalar(self, style: str) -> yaml.ScalarToken:
        start = self.get_mark()
        self.forward()
        pieces: list[str] = []
        while self.peek() != style or (style == "'" and self.peek(1) == "'"):
            pieces.append(self._take(_QUOTED[style]) or self._quoted_piece(style, start))
        self.forward()
        self._quoted += (start.index, self.index)
        return yaml.ScalarToken("".join(pieces), False, start, self.get_mark(), style)

    def _quoted_piece(self, style: str, start: Mark) -> str:
        char = self.peek()
        if char == _END:
            self._fail("found unexpected end of stream", context=start)
        if char == "\\":
            return self._escape(start)
        if char == style:
            self.forward(2)
            return style
        return self._folded(start)

    def _escape(self, start: Mark) -> str:
        char = self.peek(1)
        if char in _BREAKS:
            self.forward()
            return "\n" * self._folded(start).count("\n")
        if char in self.ESCAPES:
            self.forward(2)
            return self.ESCAPES[char]
        length = self.ESCAPE_CODES.get(char)
        if length is None:
            self.forward()
            self._fail(f"found unknown escape character {char!r}", context=start)
        digits = self.buffer[self.pointer + 2 : self.pointer + 2 + length]
        if not re.fullmatch(f"[0-9A-Fa-f]{{{length}}}", digits) or int(digits, 16) > 0x10FFFF:
            self._fail(
                f"'\\{char}' needs {length} hexadecimal digits of a character", context=start
            )
        self.forward(2 + length)
        return chr(int(digits, 16))

    # Block scalars

    def scan_block_scalar(self, style: str) -> yaml.ScalarToken:
        start = self.get_mark()
        self.forward()
        header = _HEADER.match(self.buffer, self.pointer)
        if not header:
            self._fail(f"expected chomping or indentation indicators, but found {self.peek()!r}")
        self.forward(len(header[0]))
        self._take(_HEADER_END)
        if self.peek() not in _BREAKS + _END:
            self._fail(f"expected a comment or a line break, but found {self.peek()!r}")
        self.scan_line_break()
        given = header[2] or header[3]
        indent = max(self.indent, 0) + int(given) if given else self._block_indent()
        text = self._block_text(indent, style == ">", header[1] or header[4])
        return yaml.ScalarToken(text, False, start, self.get_mark(), style)

    def _block_indent(self) -> int:
        """How far the first line of a block scalar is indented that is not blank."""
        least, position, deepest, deepest_end = self.indent + 1, self.pointer, 0, 0
        while True:
            spaces, blank = self._line_start(position, least)
            end = _REST.match(self.buffer, position).end()  # type: ignore[union-attr]
            if not blank or self.buffer[end] == _END:
                break
            if spaces > deepest:
                deepest, deepest_end = spaces, end
            position = _BREAK.match(self.buffer, end).end()  # type: ignore[union-attr]
        if blank or spaces < least:  # it has no line that is not blank
            return max(least, deepest, spaces if blank else 0)
        if deepest > spaces:
            self.forward(deepest_end - self.index)
            self._fail("a blank line before a block of text is indented further than the text")
        return spaces

    def _line_start(self, position: int, indent: int) -> tuple[int, bool]:
        """By how many spaces a line of a block scalar is indented, and whether it is blank."""
        spaces = _SPACES.match(self.buffer, position).end()  # type: ignore[union-attr]
        count = spaces - position
        # Tabs are text where the indentation is complete, and nothing before.
        end = _WHITE.match(self.buffer, spaces).end() if count < indent else spaces  # type: ignore[union-attr]
        return count, self.buffer[end] in _BREAKS + _END

    def _block_text(self, indent: int, folded: bool, chomping: str | None) -> str:
        pieces: list[str] = []
        separator, breaks, before = "", 0, ""
        ended = True
        while self.peek() != _END:
            count, blank = self._line_start(self.pointer, indent)
            if blank and count <= indent:
                self._take(_WHITE)
                breaks += len(self.scan_line_break())
                continue
            if count < indent or self._at_marker():
                break
            self.forward(indent)
            line = self._take(_REST)
            ended = bool(self.scan_line_break())
            if folded and before and before[0] not in " \t" and line[0] not in " \t":
                separator = "\n" * breaks or " "
            else:
                separator = "\n" * (breaks + bool(before))
            pieces += (separator, line)
            breaks, before = 0, line
        last = int(bool(before) and ended)
        if chomping == "+":
            pieces.append("\n" * (breaks + last))
        elif chomping is None:
            pieces.append("\n" * last)
        return "".join(pieces)
