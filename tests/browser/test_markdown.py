"""Markdown of a model, drawn by the application that it is shown in."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect
from standins.pages import DOCS, ROOT, blocks

from .pages import Jupyter, Lab, Notebook7, NotebookPage, Theme, Voila

# A widget that shows its text as panels do.
WIDGET = '''\
from pathlib import Path
import anywidget, traitlets, modelcompose_jupyter
from modelcompose_jupyter.widgets.esm import joined
folder = Path(modelcompose_jupyter.__file__).parent / "widgets"
class Markdown(anywidget.AnyWidget):
    _esm = joined(folder / "markdown.js") + """
    export default {
      render({ model, el }) {
        const view = new MarkdownView(model.widget_manager?.rendermime);
        const show = () => view.update(model.get("text"), { growing: model.get("growing") });
        model.on("change:text change:growing", show);
        el.append(view.element);
        show();
        return () => view.dispose();
      },
    };
    """
    _css = (folder / "markdown.css").read_text()
    text = traitlets.Unicode().tag(sync=True)
    growing = traitlets.Bool().tag(sync=True)
'''

SAMPLE = r"""# 근의 공식과 코드

The roots of $ax^2 + bx + c = 0$ are **real** when \(b^2 \ge 4ac\); it costs $5, not $10:

$$x_{1,2} = \frac{-b \pm \sqrt{b^2 - 4ac}}{2a}$$

\[
\begin{aligned}
\int_0^1 x^2 \, dx &= \frac{1}{3} \\
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} \begin{pmatrix} x \\ y \end{pmatrix} &= \vec{b}
\end{aligned}
\]

```python
def roots(a: float, b: float, c: float) -> list[float]:
    # Both of them, the smaller first
    d = (b * b - 4 * a * c) ** 0.5  # 판별식
    return [(-b - d) / (2 * a), (-b + d) / (2 * a)] if d > 0 else ["none"]
```

```yaml
component:
  type: model
  model: bundled:storyteller
  prompt: ${input.prompt as text}  # what is asked
  temperature: 0.7
```

| Language | 인사 | Formula |
| :--- | :---: | ---: |
| Korean | 안녕하세요 | $\lvert x \rvert$ |
| English | `hello` | $E = mc^2$ |

- [x] Read the question
- [ ] Answer it
  1. First the short answer
  2. then why
     - with an example, x<sub>1</sub>
- A plain item

> A quotation of *two* lines, with ~~much~~ `code`.
> See [the site](https://example.org/a?b=1).

```mermaid
flowchart LR
  A[Question] --> B{Known?}
  B -->|yes| C[Answer]
  B -->|no| D[모릅니다]
```

1. Install it:

   ```bash
   pip install modelcompose-jupyter && echo "$HOME"
   ```

2. Run it.
"""


@pytest.fixture(autouse=True)
def quiet(errors: list[str], elsewhere: list[str]) -> Iterator[None]:
    """No test may leave errors in the console, or ask other hosts for anything."""
    yield
    # A server that has given Lab a font refuses Notebook 7 its own of that name.
    others = [each for each in errors if not re.search(r"/static/\w+/\w+\.woff\b", each)]
    assert (others, elsewhere) == ([], [])


def shown(application: Jupyter | Voila, text: str, theme: Theme = "light") -> Locator:
    options = {"template": "modelcompose"} if isinstance(application, Voila) else {}
    opened = application.open(f"{WIDGET}\nMarkdown(text={text!r})", theme=theme, **options)
    if isinstance(opened, NotebookPage):
        opened.run(0)
    view = opened.output(0).locator(".modelcompose-markdown")
    expect(view).to_be_visible()
    return view


@pytest.mark.viewport(900, 1800)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_text_is_shown_with_formulas_code_and_lists(
    application: Jupyter | Voila, theme: Theme
) -> None:
    if isinstance(application, Notebook7) and theme == "dark":
        pytest.skip("Notebook 7 draws as JupyterLab does")
    view = shown(application, SAMPLE, theme)
    expect(view.locator("mjx-container")).to_have_count(6)
    expect(view.locator("h1")).to_have_text("근의 공식과 코드")
    expect(view).to_contain_text("it costs $5, not $10:")
    expect(view.locator(".modelcompose-code pre span").first).to_be_visible()
    expect(view.locator("table td").first).to_have_text("Korean")
    expect(view.get_by_role("checkbox")).to_have_count(2)
    if isinstance(application, Voila):
        expect(view.locator("pre", has_text="flowchart LR")).to_have_count(1)
    else:
        expect(view.locator(".modelcompose-diagram img")).to_be_visible()
    expect(view.get_by_role("link")).to_have_attribute("rel", re.compile("noopener"))


# What would have other hosts asked, or more shown than text, if it came through.
DIAGRAMS = [
    pytest.param(text, id=str(path.relative_to(ROOT)))
    for path in sorted(DOCS.rglob("*.md"))
    for (text,) in blocks(path.read_text("utf-8"), "mermaid")
]


@pytest.mark.parametrize("text", DIAGRAMS)
def test_the_diagrams_of_the_documentation_are_drawn(text: str, lab: Lab) -> None:
    view = shown(lab, f"```mermaid\n{text}\n```")
    expect(view.locator(".modelcompose-diagram img")).to_be_visible()


ATTACKS = r"""
![pixel](https://evil.example/1.png) ![pixel][1] <img src="https://evil.example/2.png">

[1]: https://evil.example/3.png

<style>body { background: url(https://evil.example/4.png) }</style>

<script>document.title = "taken"</script><img src=x onerror="document.title = 'taken'">

$\href{javascript:alert(1)}{x}$ $\style{background-image:url(https://evil.example/5.png)}{x}$
$\bbox[background-image:url(https://evil.example/6.png)]{x}$ $\require{html}\cssId{main}{x}$
$\unicode[https://evil.example/7]{x41}$ $\rule{9999em}{9999em}$
$\class{jp-Dialog}{x}$ $\kern-99em x$

```mermaid
graph TD
  A@{ img: "https://evil.example/8.png", w: 60, h: 60 }
```

```mermaid
%%{init: {"themeCSS": "* { background: url(https://evil.example/9.png) }"}}%%
graph TD
  A --> B
```

```mermaid
graph TD
  A["<img src='https://evil.example/10.png' onerror='document.title = 1'>"]
  click A "https://evil.example/11" _self
  style A background-image:url(https://evil.example/12.png)
```

> - ```mermaid
>   graph TD
>     A@{ img: "https:evil.example/13.png", w: 60, h: 60 }
>   ```

```x" style="background:url(https://evil.example/14.png)
y
```

- ```x"><img/src=https://evil.example/15.png>
  z
  ```

End
"""


def test_a_text_asks_other_hosts_for_nothing(
    application: Jupyter | Voila, elsewhere: list[str]
) -> None:
    view = shown(application, ATTACKS)
    expect(view.locator("p").last).to_have_text("End")
    expect(view.locator(".modelcompose-code")).to_have_count(6)
    view.page.wait_for_load_state("networkidle")
    assert elsewhere == []
    expect(view.locator("img, script, style, [onerror], .jp-Dialog, #main")).to_have_count(0)
    assert "taken" not in view.page.title()
    # What a formula places elsewhere is cut off: it is not seen in place of the application's own.
    expect(view.locator("mjx-container")).to_have_count(1)
    assert view.evaluate("view => getComputedStyle(view).overflow") == "clip"


def test_what_is_shown_stays_while_the_text_grows(lab: Lab) -> None:
    opened = lab.open(f"{WIDGET}\nview = Markdown(growing=True)\nview", GROWING)
    opened.run(0)
    view = opened.output(0).locator(".modelcompose-markdown")
    expect(view).to_be_attached()
    opened.page.evaluate(WATCH)
    opened.run(1)
    expect(view.locator(".modelcompose-diagram img")).to_be_visible()
    expect(view.locator("li").last).to_have_text("Run it.")
    seen = opened.page.evaluate("window.markdownSeen")
    assert seen["text"] == "The roots of"
    assert seen["removed"] == []
    assert view.locator("mjx-container").count() == 6


# The sample, as a model may write it: a few characters at a time.
GROWING = f"""\
import time
text = {SAMPLE!r}
for end in range(0, len(text), 7):
    view.text = text[:end]
    time.sleep(0.01)
view.text = text
view.growing = False
"""

# Selects the first words when they are there, and notes what is taken away of what was complete.
WATCH = """() => {
    const view = document.querySelector('.modelcompose-markdown');
    const seen = window.markdownSeen = { text: '', removed: [] };
    new MutationObserver(changes => {
        const words = view.querySelector('p')?.firstChild;
        if (words?.length >= 12 && !seen.text) {
            getSelection().setBaseAndExtent(words, 0, words, 12);
            seen.text = '-';
        }
        if (seen.text) seen.text = getSelection().toString();
        for (const { removedNodes } of changes)
            for (const node of removedNodes)
                if (node.textContent.startsWith('mermaid')) continue; // a diagram now
                else if (node.matches?.('h1, mjx-container, img, table, pre, .modelcompose-code')
                    || node.querySelector?.('mjx-container, img, table'))
                    seen.removed.push(node.outerHTML);
    }).observe(view, { childList: true, subtree: true, characterData: true });
}"""


def test_code_is_copied_by_keys(lab: Lab) -> None:
    view = shown(lab, SAMPLE)
    view.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = view.get_by_role("button", name="Copy code").nth(1)
    button.focus()
    view.page.keyboard.press("Enter")
    expect(button).to_have_text("Copied")
    copied = view.page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("component:\n  type: model\n")
    assert copied.endswith("temperature: 0.7")
