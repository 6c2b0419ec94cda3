"""Markdown of a model, drawn by the application that it is shown in."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect

from .pages import Jupyter, Lab, NotebookPage, Theme, Voila

# A widget that shows its text as panels do.
WIDGET = '''\
from pathlib import Path
import anywidget, traitlets, modelcompose_jupyter
folder = Path(modelcompose_jupyter.__file__).parent / "widgets"
class Markdown(anywidget.AnyWidget):
    _esm = (folder / "markdown.js").read_text() + """
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
    assert (errors, elsewhere) == ([], [])


def shown(application: Jupyter | Voila, text: str, theme: Theme = "light") -> Locator:
    options = {"template": "modelcompose"} if isinstance(application, Voila) else {}
    opened = application.open(f"{WIDGET}\nMarkdown(text={text!r})", theme=theme, **options)
    if isinstance(opened, NotebookPage):
        opened.run(0)
    view = opened.output(0).locator(".modelcompose-markdown")
    expect(view).to_be_visible()
    return view


@pytest.mark.viewport(900, 2300)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_text_is_shown_with_formulas_code_and_lists(
    application: Jupyter | Voila, theme: Theme
) -> None:
    view = shown(application, SAMPLE, theme)
    expect(view.locator("mjx-container")).to_have_count(6)
    expect(view.locator("h1")).to_have_text("근의 공식과 코드")
    expect(view).to_contain_text("it costs $5, not $10:")
    expect(view.locator(".modelcompose-code pre span").first).to_be_visible()
    expect(view.locator("table td").first).to_have_text("Korean")
    expect(view.get_by_role("checkbox")).to_have_count(2)
    if isinstance(application, Lab):
        expect(view.locator(".modelcompose-diagram img")).to_be_visible()
    else:
        expect(view.locator("pre", has_text="flowchart LR")).to_have_count(1)
    expect(view.get_by_role("link")).to_have_attribute("rel", re.compile("noopener"))
