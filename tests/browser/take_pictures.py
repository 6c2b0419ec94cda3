"""Pictures of the real thing, for README and documentation: `make pictures`. No tests.

They are written to ``docs/pictures``, small enough to keep: WebP, as large as they are shown.
"""

from __future__ import annotations

import io
import re
import time
from pathlib import Path
from typing import Literal

import nbformat
import pytest
from PIL import Image
from playwright.sync_api import FloatRect, Locator, Page, expect

from .pages import Lab, NotebookPage
from .test_panel import LOAD, Panel

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"
_FIRST_SECONDS = 180  # kernels may have to be compiled before the first text
STORY = """\
%%compose story
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  params:
    max_output_length: 120
    temperature: ${input.temperature as slider/0,1.5,0.1 | 0.7}
    seed: ${input.seed as integer | 7}
"""

PROMPT = "An old lighthouse keeper heard a knock"

LONG = "600\n    min_output_length: 600"  # long enough to be stopped

themes = pytest.mark.parametrize("theme", ["light", "dark"])


def keep(picture: bytes, name: str) -> None:
    path = PICTURES / f"{name}.webp"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(io.BytesIO(picture)).save(path, quality=86, method=6)


def alone(page: Page) -> None:
    """Have the notebook alone in view: no sidebars, no file list, nothing that blinks."""
    page.evaluate("window.jupyterapp.shell.collapseLeft()")
    page.evaluate("window.jupyterapp.shell.collapseRight()")
    page.add_style_tag(content="* { caret-color: transparent !important; }")


def declared(
    lab: Lab, page: Page, theme: Literal["light", "dark"], story: str = STORY
) -> tuple[NotebookPage, Panel]:
    notebook = lab.open(LOAD, story, theme=theme)
    alone(page)
    notebook.run(0)
    notebook.run(1)
    return notebook, Panel(notebook.output(1).locator(".modelcompose-panel"))


def told(panel: Panel) -> None:
    """Run, and wait until all of it is there."""
    panel.run.click()
    expect(panel.status).to_have_text(re.compile("seed|Finished"), timeout=_FIRST_SECONDS * 1000)
    expect(panel.run).to_be_enabled()


@themes
@pytest.mark.viewport(900, 1200)
def test_panel(lab: Lab, theme: Literal["light", "dark"]) -> None:
    notebook, panel = declared(lab, lab._page, theme)
    panel.prompt.fill("Once upon a time in a distant galaxy")
    told(panel)
    panel.field("Seed").fill("8")  # what it says of the second run has no loading in it
    panel.field("Seed").fill("7")
    told(panel)
    cell = notebook.cell(1)
    cell.scroll_into_view_if_needed()
    keep(cell.screenshot(animations="disabled"), f"panel-{theme}")


class Film:
    """Pictures of a place of a page, each shown for as long as it took until the next."""

    def __init__(self, page: Page, place: Locator) -> None:
        box = place.bounding_box()
        assert box is not None
        self._clip = FloatRect(x=box["x"], y=box["y"], width=box["width"], height=box["height"])
        self._page = page
        self._pictures: list[Image.Image] = []
        self._seconds: list[float] = []

    def take(self, seconds: float | None = None) -> None:
        """Take a picture, which is shown for so long; by default until the next is taken."""
        began = time.monotonic()
        picture = Image.open(io.BytesIO(self._page.screenshot(clip=self._clip, scale="css")))
        self._pictures.append(picture.convert("RGB"))
        self._seconds.append(time.monotonic() - began if seconds is None else seconds)

    def keep(self, name: str) -> None:
        first, *others = self._pictures
        first.save(
            PICTURES / f"{name}.webp",
            save_all=True,
            append_images=others,
            duration=[round(1000 * each) for each in self._seconds],
            loop=0,
            quality=55,
            method=6,
        )


@pytest.mark.viewport(900, 1400)
def test_animation(lab: Lab) -> None:
    page = lab._page
    notebook, panel = declared(lab, page, "light", STORY.replace("120", LONG))
    prompt = panel.prompt
    prompt.fill("Once upon a time")
    told(panel)  # the model is in memory from here on
    film = Film(page, notebook.cell(1))
    film.take(0.8)
    prompt.click()
    for end in range(4, len(PROMPT) + 4, 4):
        prompt.fill(PROMPT[:end])
        film.take(0.06)
    panel.run.click()
    while panel.stop.is_enabled():
        film.take()
    film.take(1.0)
    slider = panel.root.get_by_role("slider")
    for _ in range(3):
        slider.press("ArrowRight")
        film.take(0.08)
    panel.run.click()
    film.take()
    panel.stop.click()
    expect(panel.run).to_be_enabled()
    film.take(1.6)
    film.keep("panel")


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.viewport(900, 1800)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(lab: Lab, path: Path) -> None:
    """The panels of an example notebook, each after a run where nothing has to be typed."""
    cells = [each.source for each in nbformat.read(path, 4).cells if each.cell_type == "code"]
    notebook = lab.open(f"%cd -q {path.parent}", *cells)
    alone(lab._page)
    shown = 0
    for index in range(len(cells) + 1):
        notebook.run(index)
        outputs = notebook.cell(index).locator(".jp-OutputArea-output:has(.jupyter-widgets)")
        for output in outputs.all():
            shown += 1
            button = output.get_by_role("button", name="Run Workflow")
            if button.count() == 1 and button.is_enabled():
                told(Panel(output.locator(".modelcompose-panel")))
            if not output.locator("[class*=modelcompose]").count():
                continue  # a progress bar, say
            output.scroll_into_view_if_needed()
            keep(output.screenshot(animations="disabled"), f"notebooks/{path.stem}-{shown}")
