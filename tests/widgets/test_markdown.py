"""Markdown of a model as HTML: what it shows, and what of it may not reach a page."""

from __future__ import annotations

import re

import pytest

from modelcompose_jupyter.widgets.markdown import markdown, preformatted

from .test_outputs import Reader


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", html)).strip()


@pytest.mark.parametrize(
    ("source", "display", "shown"),
    [
        ("$x^2$", "inline", "<msup><mi>x</mi><mn>2</mn></msup>"),
        (r"\(x^2\)", "inline", "<msup><mi>x</mi><mn>2</mn></msup>"),
        ("$$x^2$$", "block", "<msup><mi>x</mi><mn>2</mn></msup>"),
        ("\\[\nx^2\n\\]", "block", "<msup><mi>x</mi><mn>2</mn></msup>"),
        (r"\begin{equation}a=1\end{equation}", "block", "<mi>a</mi><mo>=</mo><mn>1</mn>"),
        ("| a |\n|---|\n| $|x|$ |", "inline", "<mi>x</mi>"),
        (r"**$a_1*b_1$**", "inline", "<msub><mi>a</mi><mn>1</mn></msub>"),
        (r"$\text{값 } x<y$", "inline", "<mo>&lt;</mo>"),
    ],
)
def test_formulas_become_mathml(source: str, display: str, shown: str) -> None:
    html = markdown(source)
    assert f'<math display="{display}">' in html
    assert shown in html
    assert Reader(html).wrong == []


def test_lines_of_a_formula_stand_below_each_other() -> None:
    html = markdown(r"\[\begin{aligned} a &= b \\ &= c \end{aligned}\]")
    assert html.count("<mtr>") == 2
    assert "text-align:right" in html


@pytest.mark.parametrize(
    "source",
    [
        "it costs $5, not $10",
        "US$5 and $ 6$",
        r"\$5 and 6\$",
        "`$x$` and `` \\(y\\) ``",
        "```sh\necho $HOME $PATH\n```",
        "a $x\n\ny$ b",
        "$$ $$",
    ],
)
def test_what_is_no_formula_stays_text(source: str) -> None:
    html = markdown(source)
    assert "<math" not in html
    assert "\ue000" not in html
    assert words(html).replace("&#x27;", "'").count("$") == source.count("$")


@pytest.mark.parametrize(
    "tex",
    [
        r"\href{javascript:alert(1)}{x}",
        r"\require{html}x",
        r"\unicode{x41}",
        r"\style{background:url(//evil.example/x)}{x}",
        r"\class{jp-Dialog}{x}",
        r"\bbox[background:url(//evil.example)]{x}",
        r"\def\a{\a\a}\a",
        r"\newcommand{\x}{y}\x",
        r"\begin{array}{*{99999999}{c}}x\end{array}",
        r"\nosuchcommand{x}",
        r"\frac",
        r"\left(",
        "{" * 900,
        "{" * 900 + "x" + "}" * 900,
        r"\sqrt" * 300 + "x",
        "_" * 1500,
    ],
)
def test_a_formula_that_is_none_or_does_more_is_shown_as_its_source(tex: str) -> None:
    html = markdown(f"See ${tex}$.")
    assert html == f"<p>See <code>${tex}$</code>.</p>\n"


def test_a_formula_has_no_tags_and_no_styles() -> None:
    html = markdown(
        r'$\text{<img src=x onerror=alert(1)>} \color{"><script>}x \color{red;x:url(//y)}z$'
        r"$\hspace{99999em}\text{&lt;script&gt;}$"
    )
    assert Reader(html).wrong == []
    assert "99999em" not in html


def test_code_has_colours_that_themes_may_change() -> None:
    html = markdown('```python\ndef f(a):\n    return "<b>" < 1\n```')
    assert re.search('<pre style="[^"]*"><code class="language-python">', html)
    assert '<span style="color:var(--jp-mirror-editor-keyword-color,#2f9e44)">def</span>' in html
    assert words(html) == 'def f(a): return "&lt;b&gt;" &lt; 1'
    assert Reader(html).wrong == []


@pytest.mark.parametrize(
    "source",
    [
        "```nosuch\nx < 1\n```",
        '```"><script>\nx < 1\n```',
        "```mermaid\nx < 1\n```",
        "```\nx < 1\n```",
        "    x < 1",
        "```python\nx < 1",
        f"```python\nx < 1{' ' * 500}\n```",
    ],
)
def test_code_of_other_languages_is_shown_as_it_is(source: str) -> None:
    html = markdown(source)
    assert re.search(r"<pre style=\"[^\"]*\"><code( class=\"language-\w+\")?>", html)
    assert words(html) == "x &lt; 1"


def test_tables_tasks_and_small_tags_are_shown() -> None:
    html = markdown(
        "| a | b |\n|:--|--:|\n| 1<br>2 | H<sub>2</sub>O |\n\n- [x] done\n- [ ] ~~to do~~\n"
    )
    assert '<td style="text-align:left">1<br>2</td>' in html
    assert "H<sub>2</sub>O" in html
    assert html.count('<input type="checkbox" disabled') == 2
    assert html.count(" checked ") == 1
    assert "<del>to do</del>" in html


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("a <img src=https://evil.example/x> b", "a <img src=https://evil.example/x> b"),
        ("<div>\n**bold**\n</div>", "<div>\nbold\n</div>"),
        ("<sub><b></sub>", "<sub><b></sub>"),
        ("<sub>open", "<sub>open"),
        ("<!-- note -->", "<!-- note -->"),
        ("`<b>` < 1", "<b> < 1"),
    ],
)
def test_raw_html_stays_text(source: str, text: str) -> None:
    from html import unescape

    html = markdown(source)
    assert Reader(html).wrong == []
    assert words(unescape(re.sub(r"<[^>]*>", "", html))) or text.startswith("<")
    assert unescape(re.sub(r"</?(?:p|code|strong|a)\b[^>]*>", "", html)).strip() == text


@pytest.mark.parametrize(
    "source",
    [
        "![pixel](https://evil.example/x.png)",
        "![pixel][1]\n\n[1]: https://evil.example/x.png",
        "[![pixel](https://evil.example/x.png)](https://evil.example/)",
    ],
)
def test_images_become_links(source: str) -> None:
    html = markdown(source)
    assert "<img" not in html
    assert 'href="https://evil.example/x.png"' in html
    assert 'rel="noopener noreferrer nofollow"' in html
    assert words(html) == "pixel"


@pytest.mark.parametrize(
    "source",
    [
        "[x](javascript:alert(1))",
        "[x](JaVaScript&#58;alert(1))",
        "[x](java&#115;cript:alert(1))",
        "[x](data:text/html,<script>alert(1)</script>)",
        "![x](data:image/svg+xml,<svg>)",
        "[x](vbscript:x)",
        "[x](/api/shutdown)",
        "[x](//evil.example)",
        "[x](#top)",
        "[x][y]\n\n[y]: javascript:alert(1)",
        "[x]($javascript:alert(1)$)",
    ],
)
def test_links_lead_to_the_web_only(source: str) -> None:
    html = markdown(source)
    assert "href" not in html
    assert "x" in words(html)


def test_a_link_keeps_its_address() -> None:
    html = markdown("[x](https://example.org/a_b?q=$1$&r=<2>#가) <https://example.org/?a=1&b=2>")
    assert 'href="https://example.org/?a=1&amp;b=2"' in html
    assert "\ue000" not in html
    assert "%EE%80" not in html


@pytest.mark.parametrize("piece", ["a ", "[", "*a ", "$\\frac", "| a "])
def test_what_is_too_large_is_shown_as_text(piece: str) -> None:
    assert markdown(piece * 20_000) == preformatted(piece * 20_000)
    deep = "\n".join(f"{'  ' * depth}- {piece}" for depth in range(60))
    assert words(markdown(deep)).count(piece.strip()) == 60
