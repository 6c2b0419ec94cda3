"""Grids in JupyterLab, Notebook 7, Voila and on a page, used as people use them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from dashboard.serving import dashboard
from playwright.sync_api import Locator, Page, ViewportSize, expect

from .pages import Jupyter, Lab, NotebookPage, Theme, Voila, leave
from .test_accessible import axe, violations
from .test_layout import CUT_OFF, NARROW, WIDE, is_dark
from .test_panel import LOAD, Panel

DOCUMENT = """\
workflow:
  title: A story
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: ${input.length as integer | 400}
  min_output_length: ${input.length as integer | 400}
  temperature: ${input.temperature as number | 0.7}
"""
DECLARE = f"%%compose story --no-panel\n{DOCUMENT}"
SMALL = 'story.grid(prompt=["A fox", "An owl"], temperature=[0, 0.7, 1.2], length=20)'
# Goes on for many times as long as a test needs to press Stop.
LARGE = 'story.grid(prompt=["A fox", "An owl"], seed=range(200))'

# Whether the first cells are at the same place of an axis, once the page is laid out.
ALIGNED = """([table, axis]) => {
    const [first, second] = [...table.querySelectorAll('td')].map(e => e.getBoundingClientRect());
    return first[axis] === second[axis];
}"""

__all__ = ["axe"]  # a fixture


class Grid:
    """What a person finds in a grid."""

    def __init__(self, root: Locator) -> None:
        self.root = root
        self.cells = root.get_by_role("gridcell")
        self.count = root.locator(".modelcompose-grid-count")
        self.status = root.locator(".modelcompose-grid-status")
        self.stop = root.get_by_role("button", name="Stop all")

    def ended(self, said: str) -> None:
        """Wait until all has ended, and the status begins so."""
        expect(self.status).to_have_text(re.compile(f"^{said} · "))
        expect(self.stop).to_have_count(0)


def opened_grid(application: Jupyter | Voila, code: str, *, theme: Theme = "light") -> Grid:
    opened = application.open(LOAD, DECLARE, code, theme=theme)
    if isinstance(opened, NotebookPage):
        opened.run_all()
    return Grid(opened.output(2).locator(".modelcompose-grid").first)


def box(grid: Grid) -> Locator:
    """The table, and the panel that is opened below it."""
    return grid.root.locator("xpath=ancestor::*[contains(@class, 'modelcompose-grid-box')]")


@pytest.mark.smoke
@pytest.mark.stop
def test_a_grid_fills_stops_and_opens_a_run(
    application: Jupyter | Voila, errors: list[str]
) -> None:
    grid = opened_grid(application, LARGE)
    expect(grid.cells).to_have_count(400)
    expect(grid.cells.first).to_have_text(re.compile(r"A fox[\s\S]{20}"))
    expect(grid.count).to_have_text(re.compile(r"^\d+ of 400 runs"))
    grid.stop.click()
    grid.ended(r"\d+ of 400 runs")
    expect(grid.cells.last).to_contain_text("Stopped")
    grid.cells.first.click()
    expect(grid.cells.first).to_have_attribute("aria-selected", "true")
    panel = Panel(box(grid).locator(".modelcompose-panel").last)
    expect(panel.prompt).to_have_value("A fox")
    expect(panel.texts.first).to_have_text(re.compile(r"^A fox[\s\S]{20}"))
    assert not errors


def test_cells_are_reached_and_opened_by_keys(lab: Lab, errors: list[str]) -> None:
    grid = opened_grid(lab, SMALL)
    grid.ended("6 runs")
    heads = grid.root.get_by_role("columnheader")
    expect(heads).to_have_text(["Prompt", "Temperature 0", "Temperature 0.7", "Temperature 1.2"])
    expect(grid.root.get_by_role("rowheader")).to_have_text(["A fox", "An owl"])
    expect(grid.cells.nth(1).locator("mark").first).to_be_visible()
    grid.cells.first.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "Enter"):
        grid.root.page.keyboard.press(key)
    expect(grid.cells.nth(4)).to_be_focused()
    panel = Panel(box(grid).locator(".modelcompose-panel").last)
    expect(panel.prompt).to_have_value("An owl")
    expect(grid.cells.nth(4)).to_be_focused()
    grid.root.page.keyboard.press("ArrowLeft")
    grid.root.page.keyboard.press("Enter")
    expect(panel.root.get_by_role("slider")).to_have_attribute("aria-valuenow", "0.0")
    assert not errors


@pytest.mark.stop
@pytest.mark.parametrize("application", ["lab", "notebook7"], indirect=True)
def test_a_cleared_output_stops_the_grid(application: Jupyter) -> None:
    code = f"grid = {LARGE}; grid"
    opened = application.open(LOAD, DECLARE, code, "print(grid.wait(60), grid.ended)")
    for index in range(3):
        opened.run(index)
    grid = Grid(opened.output(2).locator(".modelcompose-grid"))
    expect(grid.cells.first).to_contain_text("A fox")
    opened.page.evaluate("window.jupyterapp.shell.currentWidget.content.activeCellIndex = 2")
    opened.command("notebook:clear-cell-output")
    expect(grid.root).to_have_count(0)
    opened.run(3)
    expect(opened.output(3).last).to_have_text("True 400\n")


def test_a_page_that_is_loaded_in_the_midst_has_the_texts(lab: Lab) -> None:
    opened = lab.open(LOAD, DECLARE, LARGE)
    opened.run_all()
    grid = Grid(opened.output(2).locator(".modelcompose-grid"))
    expect(grid.cells.first).to_contain_text("Cut at 400 tokens")
    text = grid.cells.first.inner_text()
    opened.command("docmanager:save")
    opened.reload()
    expect(grid.cells.first).to_have_text(text, use_inner_text=True)
    expect(grid.count).to_have_text(re.compile(r"^\d+ of 400 runs"))
    grid.stop.click()
    grid.ended(r"\d+ of 400 runs")


def test_without_its_kernel_a_table_is_read_and_opens_nothing(lab: Lab, errors: list[str]) -> None:
    opened = lab.open(LOAD, DECLARE, SMALL)
    opened.run_all()
    grid = Grid(opened.output(2).locator(".modelcompose-grid"))
    grid.ended("6 runs")
    opened.restart()
    expect(box(grid).locator(".modelcompose-panel.jupyter-widgets-disconnected")).to_be_visible()
    grid.cells.first.click()
    opened.page.keyboard.press("ArrowRight")
    opened.page.keyboard.press("Enter")
    expect(grid.cells.nth(1)).to_be_focused()
    expect(box(grid).locator(".modelcompose-panel")).to_have_count(1)
    assert not any("Cannot send" in each for each in errors)  # JupyterLab has errors of its own


def test_a_saved_notebook_shows_the_table_without_a_kernel(lab: Lab) -> None:
    opened = lab.open(LOAD, DECLARE, SMALL)
    opened.run_all()
    grid = Grid(opened.output(2).locator(".modelcompose-grid"))
    grid.ended("6 runs")
    saved = opened.output(2).locator(".modelcompose-saved table")
    expect(saved.locator("td")).to_have_count(6)
    expect(saved).to_be_hidden()
    text = grid.cells.last.locator(".modelcompose-grid-text").inner_text()
    opened.command("docmanager:save")
    opened.shut_down()
    opened.reload()
    expect(saved).to_be_visible()
    expect(saved.locator("td").last.locator("div").first).to_have_text(text)


@pytest.mark.viewport(*NARROW)
@pytest.mark.parametrize(
    ("application", "theme"),
    [("lab", "light"), ("lab", "dark"), ("voila", "dark")],
    indirect=["application"],
)
def test_a_grid_fits_its_page_in_its_colours(application: Jupyter | Voila, theme: Theme) -> None:
    grid = opened_grid(application, SMALL, theme=theme)
    grid.ended("6 runs")
    frame = box(grid).locator(".modelcompose-panel").first
    assert is_dark(frame) == (theme == "dark")
    assert frame.evaluate(CUT_OFF) == []
    page, table = grid.root.page, grid.root.locator("table").element_handle()
    page.wait_for_function(ALIGNED, arg=[table, "x"])  # below each other
    page.set_viewport_size(ViewportSize(width=WIDE[0], height=WIDE[1]))
    page.wait_for_function(ALIGNED, arg=[table, "y"])  # beside each other
    assert frame.evaluate(CUT_OFF) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_grids_are_accessible(lab: Lab, theme: Theme, axe: str) -> None:
    grid = opened_grid(lab, SMALL, theme=theme)
    grid.ended("6 runs")
    grid.cells.nth(1).click()
    expect(box(grid).locator(".modelcompose-panel")).to_have_count(2)
    assert violations(box(grid), axe) == []


def test_visitors_of_a_page_compare_values(tmp_path: Path, page: Page) -> None:
    with dashboard(tmp_path, DOCUMENT) as server:
        page.goto(f"{server.url}/?prompt=A%20fox&length=20")
        panel = Panel(page.locator(".modelcompose-panel:visible"))
        grid = Grid(panel.root.locator(".modelcompose-grid"))
        panel.root.get_by_role("button", name="Three temperatures").click()
        grid.ended("3 runs")
        expect(grid.cells.first).to_contain_text("A fox")
        panel.root.get_by_role("button", name="Compare values").click()
        values = panel.root.get_by_label("Values of Temperature")
        values.fill("0.1 0.2")
        panel.root.get_by_label("And what else varies").select_option("Seed")
        panel.root.get_by_label("Values of Seed").fill(", ".join(map(str, range(9))))
        panel.root.get_by_role("button", name="Run 18 together").click()
        expect(grid.root.get_by_role("alert")).to_contain_text("16 runs at most")
        values.fill("0.1")
        values.press("Control+Enter")
        grid.ended("9 runs")
        expect(grid.root.get_by_role("alert")).to_be_hidden()
        grid.cells.last.click()
        expect(panel.status).to_have_text(re.compile("seed 8$"))
        leave(page)
