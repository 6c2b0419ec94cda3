"""Markdown that a model wrote, as HTML: for notebooks without a kernel, exports, and applications
that have no parser of their own. In JupyterLab, Notebook and Voila ``markdown.js`` draws it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from html import escape, unescape
from itertools import groupby
from operator import itemgetter
from typing import Any
from urllib.parse import quote, unquote
from xml.etree.ElementTree import Element

# Of characters: parsers take more than linear time for hostile texts.
_TEXT_LIMIT = 100_000
_BLOCK_LIMIT = 16_384
_CODE_LIMIT = 10_000
_FORMULA_LIMIT = 2000
_NESTING_LIMIT = 40

# Characters of Unicode's private use stand for what the parser must not see.
_HIDDEN = re.compile("[\ue000-\ue002]")
_LESS_THAN = "\ue002"
_PLACE = re.compile("\ue000([0-9]{1,9})\ue001")

_IN_URLS = "!#$%&'()*+,/:;=?@[]~"
_WEB = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)
_ELSEWHERE = 'target="_blank" rel="noopener noreferrer nofollow"'


_READABLE = "white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere;unicode-bidi:plaintext"


def preformatted(text: str) -> str:
    """Text as HTML, with its lines and spaces. Long lines end between words, though JupyterLab ends
    those of outputs anywhere; each paragraph runs from where its script begins."""
    return f'<pre dir="auto" style="{_READABLE}">{escape(text)}</pre>'


def markdown(source: str) -> str:
    """Markdown as HTML that does nothing by itself: formulas are MathML, code is coloured, raw HTML
    stays text, links are those of the web and open beside the notebook, and images become links:
    showing a text must not make the browser ask another computer for anything. Of what is too
    large or too deep, the text."""
    if len(source) > _TEXT_LIMIT or _longest_block(source) > _BLOCK_LIMIT:
        return preformatted(source)
    hidden = _Hidden(_HIDDEN.sub("\ufffd", source))
    try:
        return _parser(hidden)(hidden.text)
    except RecursionError:
        return preformatted(source)


def _longest_block(source: str) -> int:
    """Characters between two empty lines, or between two fences of code."""
    lengths = [0]
    for line in source.splitlines():
        if not line.strip() or line.lstrip().startswith(("```", "~~~")):
            lengths.append(0)
        lengths[-1] += len(line)
    return max(lengths)


def _parser(hidden: _Hidden) -> Callable[[str], str]:
    import mistune

    class Renderer(mistune.HTMLRenderer):
        def text(self, text: str) -> str:
            return hidden.shown(super().text(text))

        def codespan(self, text: str) -> str:
            return f"<code>{escape(hidden.restored(text), quote=False)}</code>"

        def block_code(self, code: str, info: str | None = None) -> str:
            language = hidden.restored(info or "").split(maxsplit=1)
            return _code(hidden.restored(code), language[0] if language else "")

        def link(self, text: str, url: str, title: str | None = None) -> str:
            address = hidden.restored_url(url)
            if not _WEB.match(address):
                return text
            named = f' title="{escape(hidden.restored(unescape(title)))}"' if title else ""
            return f'<a {_ELSEWHERE} href="{escape(address)}"{named}>{text}</a>'

        def image(self, text: str, url: str, title: str | None = None) -> str:
            return self.link(text or escape(hidden.restored_url(url)), url, title)

    plugins = ["strikethrough", "table", "task_lists", "url"]
    renderer = Renderer(escape=True)
    parser = mistune.create_markdown(renderer=renderer, plugins=plugins)
    renderer.register("task_list_item", _task)
    return lambda text: str(parser(text))


_BOX = "width:13px;margin:0 6px 0 -19px"


def _task(_renderer: object, text: str, checked: bool = False) -> str:
    box = f'<input type="checkbox" disabled{" checked" if checked else ""} style="{_BOX}">'
    inner = text.replace("<p>", f"<p>{box}", 1) if text.startswith("<p>") else box + text
    return f'<li style="list-style:none">{inner}</li>\n'


# What the parser does not see


@dataclass(frozen=True)
class _Piece:
    """What stands in a text for itself: its source, and its HTML."""

    source: str
    html: str


_MARKS = re.compile(r"\\.|`+|\$\$?|<", re.DOTALL)
_KEPT_TAG = re.compile(
    r"<(?:br\s*/?|(?P<tag>sub|sup|kbd|mark|u)>(?P<text>[^<>\n]{0,200})</(?P=tag))>", re.IGNORECASE
)
_AUTOLINK = re.compile(r"<(?:https?://|mailto:)[^\s<>]{1,2000}>", re.IGNORECASE)
_BEGIN = re.compile(r"\\begin\{(\w{1,20}\*?)\}")
_EMPTY_LINE = re.compile(r"\n[ \t>]*\n")


class _Hidden:
    """Markdown without formulas and tags, which its parser would take for something else.

    Attributes:
        text: the markdown, with places in their stead.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._pieces: list[_Piece] = []
        self._missing: set[str] = set()  # what was sought in vain up to the end
        self.text = "".join(self._texts())

    def shown(self, html: str) -> str:
        """HTML of a text, with formulas and tags in their places."""
        html = _PLACE.sub(lambda found: self._piece(found).html, html)
        return html.replace(_LESS_THAN, "&lt;")

    def restored(self, text: str) -> str:
        """A text as it was written."""
        text = _PLACE.sub(lambda found: self._piece(found).source, text)
        return text.replace(_LESS_THAN, "<")

    def restored_url(self, url: str) -> str:
        """A URL as it was written, of which the parser has percent-encoded what is no ASCII."""
        return quote(self.restored(unquote(unescape(url))), safe=_IN_URLS)

    def _piece(self, found: re.Match[str]) -> _Piece:
        # An entity may say the number of a place that there is not.
        index = int(found[1])
        return self._pieces[index] if index < len(self._pieces) else _Piece("", "")

    def _place(self, source: str, html: str) -> str:
        self._pieces.append(_Piece(source, html))
        return f"\ue000{len(self._pieces) - 1}\ue001"

    def _texts(self) -> Iterator[str]:
        source, done, at = self._source, 0, 0
        while mark := _MARKS.search(source, at):
            at = mark.end()
            replaced = self._code(mark) or self._tag(mark) or self._formula(mark)
            if replaced:
                text, at = replaced
                yield source[done : mark.start()] + text
                done = at
        yield source[done:]

    def _code(self, mark: re.Match[str]) -> tuple[str, int] | None:
        """Code from a run of backticks to the next such run."""
        run = mark[0]
        if run[0] != "`":
            return None
        end = mark.end()
        while run not in self._missing and (end := self._source.find(run, end)) >= 0:
            start = end
            while self._source.startswith("`", end):
                end += 1
            if end - start == len(run):
                return self._source[mark.start() : end].replace("<", _LESS_THAN), end
        self._missing.add(run)
        return None

    def _tag(self, mark: re.Match[str]) -> tuple[str, int] | None:
        if mark[0] != "<":
            return None
        if address := _AUTOLINK.match(self._source, mark.start()):
            return address[0], address.end()
        if kept := _KEPT_TAG.match(self._source, mark.start()):
            tag = (kept["tag"] or "br").lower()
            html = f"<{tag}>"
            if kept["tag"]:
                html += f"{escape(unescape(kept['text']))}</{tag}>"
            return self._place(kept[0], html), kept.end()
        return _LESS_THAN, mark.end()

    def _formula(self, mark: re.Match[str]) -> tuple[str, int] | None:
        source, opening, inner = self._source, mark[0], mark.end()
        if opening == "$":
            end = _dollar_end(source, inner)
            closing = "$"
        elif begin := _BEGIN.match(source, mark.start()):
            closing = rf"\end{{{begin[1]}}}"
            end = self._find(closing, inner)
        elif opening in _CLOSING:
            closing = _CLOSING[opening]
            end = self._find(closing, inner)
        else:
            return None
        after = end + len(closing)
        tex = source[mark.start() : after] if opening == r"\b" else source[inner:end]
        too_long = len(tex) > _FORMULA_LIMIT
        if end < 0 or too_long or not tex.strip() or _EMPTY_LINE.search(tex):
            return None
        whole = source[mark.start() : after]
        return self._place(whole, _formula(tex, whole, opening in _DISPLAY)), after

    def _find(self, closing: str, start: int) -> int:
        end = -1 if closing in self._missing else self._source.find(closing, start)
        if end < 0:
            self._missing.add(closing)
        return end


_CLOSING = {r"\(": r"\)", r"\[": r"\]", "$$": "$$"}
_DISPLAY = {r"\[", "$$", r"\b"}


def _dollar_end(source: str, start: int) -> int:
    """Where the formula ends that a dollar begins, as pandoc has it: prices stay prices."""
    if source[start : start + 1].isspace():
        return -1
    at = start
    while at < min(len(source), start + _FORMULA_LIMIT):
        if source[at] == "\\":
            at += 1
        elif source[at] == "`" or (source[at] == "\n" and _EMPTY_LINE.match(source, at)):
            return -1
        elif source[at] == "$":
            is_price = source[at - 1].isspace() or source[at + 1 : at + 2].isdigit()
            return -1 if is_price else at
        at += 1
    return -1


# Formulas

_NO_FORMULA = re.compile(
    r"\\(?:href|url|require|class|cssId|style|data|html\w*|unicode|bbox|[egx]?def|(?:future)?let"
    r"|(?:re)?newcommand|providecommand|(?:re)?newenvironment|Declare\w+|csname|mmlToken"
    r"|includegraphics|(?:eq)?ref|input|include|special|catcode|setOptions|texttip|mathtip"
    r"|toggle)(?![a-zA-Z])|\*\s*\{\s*\d{3,}|[\ue000-\ue002]"
)
_DEPTH = re.compile(r"\\begin|\\end|\\left|\\right|\\.|[{}]", re.DOTALL)
_LABEL = re.compile(r"\\label\s*\{[^{}]*\}")
# Environments that the converter has under another name.
_ALIGNED = re.compile(r"\\(begin|end)\{(?:aligned|alignedat|split|eqnarray\*?|flalign\*?)\}")
_GATHERED = re.compile(r"\\(begin|end)\{(?:gathered|gather\*?|multline\*?)\}")

_ELEMENTS = re.compile(
    "math|mrow|m[ino]|mtext|mspace|mfrac|msqrt|mroot|msub|msup|msubsup|munder|mover|munderover"
    "|mtable|mtr|mtd|mstyle|mpadded|mphantom|menclose"
)
_ATTRIBUTES = re.compile(
    "display|displaystyle|scriptlevel|stretchy|fence|form|accent|linethickness|minsize|maxsize"
    "|mathvariant|mathcolor|mathbackground|width|height|depth|lspace|rspace|voffset|notation"
    "|rowspacing|columnspacing|columnlines|rowlines|linebreak"
)
_OPERATORS = set("±~⟺⟹¬⧵⟂⟨⟩‖:;")  # which the converter takes for names
_VALUE = re.compile(r"[a-zA-Z][a-zA-Z-]{0,19}|#[0-9a-f]{3,6}|[+-]?\d{0,2}(?:\.\d{1,4})?[a-z%]{0,2}")


def _formula(tex: str, source: str, display: bool) -> str:
    """A formula as MathML; as code where it cannot or should not be read."""
    tex = _LABEL.sub("", tex)
    tex = _GATHERED.sub(r"\\\1{matrix}", _ALIGNED.sub(r"\\\1{align*}", tex))
    try:
        if _NO_FORMULA.search(tex) or _depth(tex) > _NESTING_LIMIT:
            raise ValueError(tex)
        from latex2mathml.converter import convert_to_element

        element = convert_to_element(tex.strip(), display="block" if display else "inline")
        return "".join(_mathml(element))
    except Exception:  # whatever a converter says of what is no formula
        return f"<code>{escape(source, quote=False)}</code>"


def _depth(tex: str) -> int:
    depth = deepest = 0
    for mark in _DEPTH.findall(tex):
        depth += (mark in ("{", r"\begin", r"\left")) - (mark in ("}", r"\end", r"\right"))
        deepest = max(deepest, depth)
    return deepest


def _mathml(element: Element) -> Iterator[str]:
    """An element as HTML, with what MathML needs and nothing else."""
    text = unescape(element.text or "")
    tag = "mo" if element.tag == "mi" and text in _OPERATORS else element.tag
    if not _ELEMENTS.fullmatch(tag) or re.match(r"\\[a-zA-Z]|&$", text):
        raise ValueError(f"not known: {tag} {text}")
    yield f"<{tag}"
    for name, value in element.attrib.items():
        if name == "columnalign" and value in ("left", "right"):
            yield f' style="text-align:{value}"'
        elif _ATTRIBUTES.fullmatch(name) and all(map(_VALUE.fullmatch, value.split())):
            yield f' {name}="{value}"'
    yield f">{escape(text, quote=False)}"
    for child in element:
        yield from _mathml(child)
    yield f"</{tag}>"


# Code

# Of these the lexers take linear time where lines are short and not empty for long; what a model
# writes in another language has no colours.
_LANGUAGES = re.compile(
    r"bash|c|c\+\+|console|cpp|css|diff|dockerfile|go|html|javascript|js|jsonc?|julia"
    r"|kotlin|lua|py|python3?|pycon|r|ruby|rust|sh|shell|sql|swift|toml|ts|tsx|typescript|xml"
    r"|ya?ml|zsh",
    re.IGNORECASE,
)
# As JupyterLab's editor has it; where its theme is not, a colour to be read on light and on dark.
_COLOURS = {
    "Comment": ("comment", "#6f8287"),
    "Keyword": ("keyword", "#2f9e44"),
    "Operator.Word": ("keyword", "#2f9e44"),
    "Operator": ("operator", "#b35fd0"),
    "Name.Builtin": ("builtin", "#2f9e44"),
    "Name.Function": ("def", "#3a86e0"),
    "Name.Class": ("def", "#3a86e0"),
    "Name.Decorator": ("meta", "#b35fd0"),
    "Name.Tag": ("tag", "#2f9e44"),
    "Name.Attribute": ("attribute", "#3a86e0"),
    "Literal.String": ("string", "#d9534f"),
    "Literal.Number": ("number", "#2f9e44"),
}


_FRAME = (
    "margin:0.75em 0;padding:8px 12px;border:1px solid rgba(128,128,128,0.3);border-radius:6px"
    ";overflow-x:auto"
)
_UNUSUAL = re.compile(r"[^\n]{400}|(?:[ \t]*\n){12}")


def _code(code: str, language: str) -> str:
    lines = code.removesuffix("\n")
    known = _LANGUAGES.fullmatch(language) and len(lines) <= _CODE_LIMIT
    coloured = known and not _UNUSUAL.search(lines)
    text = _coloured(lines, language.lower()) if coloured else escape(lines, quote=False)
    named = re.fullmatch(r"[\w+#.-]{1,40}", language)
    of_language = f' class="language-{escape(language)}"' if named else ""
    return f'<pre style="{_FRAME}"><code{of_language}>{text}</code></pre>\n'


def _coloured(code: str, language: str) -> str:
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:  # of another version of Pygments
        return escape(code, quote=False)
    styled = ((_style(token), text) for token, text in lexer.get_tokens(code))
    spans = []
    for style, group in groupby(styled, itemgetter(0)):
        shown = escape("".join(text for _, text in group), quote=False)
        spans.append(f'<span style="{style}">{shown}</span>' if style else shown)
    return "".join(spans)


@cache
def _style(token: Any) -> str:
    for kind in reversed(token.split()):
        if colour := _COLOURS.get(str(kind).removeprefix("Token.")):
            name, otherwise = colour
            return f"color:var(--jp-mirror-editor-{name}-color,{otherwise})"
    return ""
