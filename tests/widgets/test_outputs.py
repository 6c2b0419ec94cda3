"""What is made of a text that a model wrote: HTML that does nothing by itself."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st

from modelcompose_jupyter.widgets.conversation import turns_html
from modelcompose_jupyter.widgets.markdown import markdown, preformatted

TAGS = re.compile(
    "p|a|em|strong|code|pre|[uo]l|li|table|thead|tbody|t[rhd]|[bh]r|blockquote|del|h[1-6]"
    "|section|div|span|input|su[bp]|kbd|mark|u"
    "|math|mrow|m[ino]|mtext|mspace|mfrac|msqrt|mroot|msub|msup|msubsup|munder|mover|munderover"
    "|mtable|mtr|mtd|mstyle|mpadded|mphantom|menclose"
)
ATTRIBUTES = {"href", "title", "class", "target", "rel", "start", "role", "aria-label", "tabindex"}
ATTRIBUTES |= {"data-role", "dir", "style", "type", "disabled", "checked"}
# Those of MathML that place, size and colour.
ATTRIBUTES |= {"display", "stretchy", "fence", "form", "accent", "width", "height", "displaystyle"}
ATTRIBUTES |= {"scriptlevel", "rowspacing", "columnspacing", "minsize", "maxsize", "linethickness"}
STYLE = re.compile(
    r"((text-align|white-space|list-style|word-break|overflow-wrap|unicode-bidi):[\w-]+;?)+"
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
