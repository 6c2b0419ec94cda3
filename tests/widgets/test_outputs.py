"""What is made of a text that a model wrote: HTML that does nothing by itself."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelcompose_jupyter.widgets.conversation import turns_html
from modelcompose_jupyter.widgets.markdown import markdown, preformatted
from modelcompose_jupyter.widgets.records import record_html

TAGS = re.compile(
    "p|a|em|strong|code|pre|[uo]l|li|table|thead|tbody|t[rhd]|[bh]r|blockquote|del|h[1-6]"
    "|section|div|span|input|su[bp]|kbd|mark|u"
    "|math|mrow|m[ino]|mtext|mspace|mfrac|msqrt|mroot|msub|msup|msubsup|munder|mover|munderover"
    "|mtable|mtr|mtd|mstyle|mpadded|mphantom|menclose"
)
ATTRIBUTES = {"href", "title", "class", "target", "rel", "start", "role", "aria-label", "tabindex"}
ATTRIBUTES |= {"scope", "data-role", "dir", "style", "type", "disabled", "checked"}
# Those of MathML that place, size and colour.
ATTRIBUTES |= {"display", "stretchy", "fence", "form", "accent", "width", "height", "displaystyle"}
ATTRIBUTES |= {"scriptlevel", "rowspacing", "columnspacing", "minsize", "maxsize", "linethickness"}
STYLE = re.compile(
    r"((text-align|vertical-align|white-space|list-style|word-break|overflow-wrap|unicode-bidi):[\w-]+;?)+"
    r"|(?:(?:margin|padding|border|border-radius|overflow-x|width):[\w.,()% -]+;?)+"
    r"|color:var\(--jp-mirror-editor-[a-z]+-color,#[0-9a-f]{6}\)"
)
SCHEMES = {"http", "https", "mailto"}


class Reader(HTMLParser):
    """Collects what a text may not have, as a browser reads it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.wrong: list[object] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.wrong += [] if TAGS.fullmatch(tag) else [tag]
        for name, value in attrs:
            self.wrong += [(name, value)] if name not in ATTRIBUTES else []
            if name == "href":
                address = re.sub(r"[\x00-\x20]", "", value or "")
                try:
                    scheme = urlsplit(address).scheme
                except ValueError:
                    scheme = ""
                self.wrong += [(name, value)] if scheme.lower() not in SCHEMES else []
            if name == "style" and not STYLE.fullmatch(value or ""):
                self.wrong.append((name, value))


PIECES = st.sampled_from(
    [
        "[x](", "![", "](", ")", "<", ">", '"', "'", "&", "&#106;", "&colon;", "javascript:",
        "JavaScript&#58;", "java\tscript:", "\x01javascript:", "data:text/html,", "vbscript:",
        "<img src=x onerror=alert(1)>", "</script>", "<script>", "http://x/", "```", "`", "\n",
        "\n\n", " ", "|", "|-|", "*", "~~", "# ", "> ", "- ", "[a]: ", "[a]", "<!--", "-->",
        "<![CDATA[", "\\", "\u202e", "\u200d", "onclick=", "style=", "\x1b[31m", "$$", "\\(",
        "\\)", "\\[", "\\]", "$", "\\text{", "\\color{", "\\href{", "{", "}", "\\begin{align}",
        "\\end{align}", "&#xe000;0&#xe001;", "\ue0000\ue001", "%EE%80%800%EE%80%81", "<sub>",
        "</sub>", "<br>", "~~~python", "```yaml", "- [ ] ", "https://x/", "<https://x/>",
        "x", "^", "_",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=14).map("".join))
def test_no_markdown_makes_more_than_text_and_links(source: str) -> None:
    assert Reader(markdown(source)).wrong == []
    turns = [{"role": "user", "content": source}, {"role": "assistant", "content": source}]
    assert Reader(turns_html(turns)).wrong == []  # type: ignore[arg-type]
    assert Reader(preformatted(source)).wrong == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.lists(PIECES, max_size=4).map("".join),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PIECES, inner, max_size=3),
    max_leaves=12,
)


@given(VALUES)
def test_no_record_makes_more_than_text_and_tables(value: Any) -> None:
    assert Reader(record_html(value)).wrong == []


def test_a_record_is_a_table_of_names_and_values() -> None:
    html = record_html({"name": "<Mia>", "age": 3, "tags": ["a", "b"], "none": None, "on": True})
    assert cells(html) == [
        ["name", "&lt;Mia&gt;"], ["age", "3"], ["tags", "a, b"], ["none", "null"], ["on", "true"],
    ]  # fmt: skip


def test_records_are_rows_and_what_is_within_one_is_a_table_within() -> None:
    html = record_html([{"a": 1}, {"a": 2, "b": {"c": [1, 2]}}])
    assert cells(html)[:2] == [["a", "b"], ["1", ""]]
    assert html.count("<table") == 2 and "[\n  1,\n  2\n]" in html


def test_what_is_large_or_deep_is_no_endless_table() -> None:
    assert "and 100 more" in record_html([{"a": n} for n in range(300)])
    assert record_html({f"k{n}": n for n in range(300)}).count("<tr>") == 200
    deep: Any = 1
    for _ in range(20):
        deep = {"a": deep}
    assert record_html(deep).count("<table") == 4
    wide = [{f"k{n}": n for n in range(20)}] * 2
    assert record_html(wide).count("<table") == 2


@pytest.mark.parametrize("value", [[], {}, [1, 2], ["a"], 1, None])
def test_other_values_are_their_json(value: Any) -> None:
    assert "<table" not in record_html(value) and "<pre" in record_html(value)


def cells(html: str) -> list[list[str]]:
    """The rows of a table, as the text of their cells."""
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in rows]
