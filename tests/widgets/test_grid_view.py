"""What a grid's widget tells the browser, and what a notebook keeps of it."""

from __future__ import annotations

from typing import Any

import pytest
from ipywidgets.widgets.widget import _instances
from standins.scripted import ScriptedModels

from modelcompose_jupyter import Grid, LocalHost, load
from modelcompose_jupyter.callable import Workflow
from modelcompose_jupyter.widgets.grid_panel import GridPanel
from modelcompose_jupyter.widgets.grid_table import bundle, heads
from modelcompose_jupyter.widgets.grid_view import GridView

from .conftest import updated, wait_until

TEXT = """
workflow: {title: A story}
component:
  type: model
  task: text-generation
  model: scripted
  text: ${input.prompt as text @(label Beginning)}
  temperature: ${input.temperature as number | 0.7}
"""


@pytest.fixture
def flow(host: LocalHost) -> Workflow:
    return load(TEXT, host=host)


class Browser:
    """What a page makes of a view's messages: the texts and the infos of cells, as they come.

    Attributes:
        cells: as the page shows them.
    """

    def __init__(self, view: GridView, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cells: list[dict[str, Any]] = []
        monkeypatch.setattr(view, "send", self._hear)

    def _hear(self, message: dict[str, Any]) -> None:
        if message["type"] == "whole":
            self.cells = [dict(each) for each in message["cells"]]
            return
        for index, offset, text in message["texts"]:
            known = self.cells[index]["text"].encode("utf-16-le")
            assert 2 * offset <= len(known), "something was lost"
            self.cells[index]["text"] = known[: 2 * offset].decode("utf-16-le") + text
        for index, info in message["infos"]:
            self.cells[index] |= info

    def marked(self, index: int) -> list[str]:
        """The words that are marked."""
        text = self.cells[index]["text"].encode("utf-16-le")
        return [
            text[2 * start : 2 * end].decode("utf-16-le")
            for start, end in self.cells[index]["marks"]
        ]


@pytest.fixture
def view() -> GridView:
    return GridView(on_message=lambda _: None)


def ended(view: GridView, grid: Grid) -> None:
    assert grid.wait(30)
    wait_until(view, lambda: view.progress.get("done") == len(grid))


def test_texts_come_as_they_grow_and_are_marked_where_they_differ(
    flow: Workflow, models: ScriptedModels, view: GridView, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.reply = lambda prompt: ["🦊 The ", prompt, " ran home."]
    models.hold = ("bear",)
    browser = Browser(view, monkeypatch)
    grid = flow.grid(prompt=["fox", "bear", "fox"], seed=[1])
    view.show(grid)
    assert models.started.acquire(timeout=30)
    wait_until(view, lambda: view.progress.get("done") == 2)
    held = browser.cells[1]
    assert (held["text"], held["state"], held["marks"]) == ("🦊 The ", "running", [])
    assert browser.cells[2]["marks"] == []  # the one beside it has not ended
    models.gate.set()
    ended(view, grid)
    assert [each["text"] for each in browser.cells] == [
        "🦊 The fox ran home.", "🦊 The bear ran home.", "🦊 The fox ran home.",
    ]  # fmt: skip
    assert [browser.marked(index) for index in range(3)] == [[], ["bear"], ["fox"]]
    assert {each["state"] for each in browser.cells} == {"completed"}
    assert browser.cells[1]["foot"] == "Finished · 1 token"
    assert view.status.startswith("3 runs · ") and view.status.endswith(" · seed 1")


def test_a_page_that_is_loaded_in_the_midst_gets_the_whole(
    flow: Workflow, models: ScriptedModels, view: GridView
) -> None:
    models.reply = lambda prompt: ["Once", " upon"]
    models.hold = ("b",)
    grid = flow.grid(prompt=["a", "b"])
    view.show(grid)
    assert models.started.acquire(timeout=30)
    wait_until(view, lambda: view.progress.get("done") == 1)
    assert [each["text"] for each in view.get_state("cells")["cells"]] == ["Once upon", "Once"]
    grid.cancel()
    ended(view, grid)
    state = view.get_state("cells")["cells"][1]
    assert (state["text"], state["state"], state["foot"]) == (
        "Once", "cancelled", "Stopped by you · 1 token",
    )  # fmt: skip


def test_an_output_that_says_something_else_takes_the_place_of_the_text(
    host: LocalHost, view: GridView, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = TEXT.replace("title: A story", 'title: A story, output: "${output}!"')
    browser = Browser(view, monkeypatch)
    grid = load(text, host=host).grid(prompt=["a", "b"])
    view.show(grid)
    ended(view, grid)
    assert [each["text"] for each in browser.cells] == ["<a>!", "<b>!"]


def test_a_cell_that_failed_says_why(
    flow: Workflow, view: GridView, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = Browser(view, monkeypatch)
    grid = flow.grid(prompt="a", temperature=[0.5, -1, 1])
    view.show(grid)
    ended(view, grid)
    assert [each["foot"] for each in browser.cells] == [
        "Finished · 1 token", "Failed", "Finished · 1 token",
    ]  # fmt: skip
    assert "temperature" in browser.cells[1]["error"]
    assert [browser.marked(index) for index in range(3)] == [[], [], []]


def test_cells_that_never_begin_say_so(
    flow: Workflow, models: ScriptedModels, view: GridView, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [str(number) for number in range(40)]
    models.hold = tuple(prompts)
    browser = Browser(view, monkeypatch)
    grid = flow.grid(prompt=prompts)
    view.show(grid)
    assert models.started.acquire(timeout=30)
    grid.cancel()
    ended(view, grid)
    assert browser.cells[-1]["foot"] == "Stopped before it began"
    assert view.status.startswith("0 of 40 runs")


def test_a_grid_at_which_nobody_looks_is_stopped(flow: Workflow, models: ScriptedModels) -> None:
    models.hold = ("a", "b")
    grid = flow.grid(prompt=["a", "b"])
    first, second = (GridView(on_message=lambda _: None) for _ in range(2))
    for view in (first, second):
        view.show(grid)
    first._handle_custom_msg({"type": "gone"}, [])
    assert not any(cell.is_stopped for cell in grid.cells)
    second._handle_custom_msg({"type": "gone"}, [])
    assert grid.wait(30)


def test_a_view_that_is_looked_at_again_goes_on(flow: Workflow, models: ScriptedModels) -> None:
    models.hold = ("b",)
    view, other = (GridView(on_message=lambda _: None) for _ in range(2))
    grid = flow.grid(prompt=["a", "b"])
    for each in (view, other):
        each.show(grid)
    view._handle_custom_msg({"type": "gone"}, [])
    view._handle_custom_msg({"type": "resync"}, [])
    models.gate.set()
    ended(view, grid)
    assert {str(cell.state) for cell in grid.cells} == {"completed"}


def test_heads_of_rows_are_nested(flow: Workflow) -> None:
    grid = flow.grid(prompt=["a", "b"], temperature=[0, 1], seed=[1, 2, 3])
    grid.cancel()
    assert heads(grid) == {
        "corner": ["Beginning", "Temperature"],
        "columns": [["Seed", "1"], ["Seed", "2"], ["Seed", "3"]],
        "rows": [[["a", 2], ["0", 1]], [["1", 1]], [["b", 2], ["0", 1]], [["1", 1]]],
    }


def browser_says(panel: GridPanel, **message: Any) -> None:
    panel._view._handle_custom_msg(message, [])
    updated()


def test_a_cell_is_opened_in_a_panel_of_its_workflow(host: LocalHost) -> None:
    story, other = (Workflow(load(TEXT).document, host=host, name=name) for name in ("s", "o"))
    grid = Grid(story, other, given={"prompt": ["a", "b"]})
    panel = GridPanel(grid)
    ended(panel._view, grid)
    assert len(panel.children) == 1
    browser_says(panel, type="open", cell=0)
    first = panel.children[1]
    assert (first.workflow, first.run) == (story, grid.runs[0])
    assert first.inputs.prompt.value == "a"
    assert panel._view.opened == 0
    browser_says(panel, type="open", cell=2)
    assert panel.children[1] is first
    assert first.inputs.prompt.value == "b"
    browser_says(panel, type="open", cell=3)
    second = panel.children[1]
    assert (second.workflow, second.run) == (other, grid.runs[3])
    assert first.comm is None
    assert first not in _instances.values()


def test_a_chat_is_opened_as_the_conversation_that_it_was(host: LocalHost) -> None:
    text = """
component:
  type: model
  task: chat-completion
  model: scripted
  messages: ${input.messages}
"""
    grid = load(text, host=host).grid(messages=["Hello", [{"role": "user", "content": "Bye"}]])
    assert grid.columns is not None and grid.columns.labels == ("Hello", "Bye")
    panel = GridPanel(grid)
    ended(panel._view, grid)
    browser_says(panel, type="open", cell=1)
    said = [each["content"] for each in panel.children[1].inputs.messages.turns]
    assert said == ["Bye", *(run.text for run in grid.runs[1:] if run is not None)]


def test_a_run_that_goes_on_is_opened_and_goes_on(flow: Workflow, models: ScriptedModels) -> None:
    models.hold = ("a", "b")
    grid = flow.grid(prompt=["a", "b"])
    panel = GridPanel(grid)
    for _ in range(2):
        assert models.started.acquire(timeout=30)
    browser_says(panel, type="open", cell=0)
    browser_says(panel, type="open", cell=1)
    assert not any(cell.ended for cell in grid.cells)
    models.gate.set()
    ended(panel._view, grid)
    assert {str(cell.state) for cell in grid.cells} == {"completed"}


def test_stop_of_the_table_stops_all(flow: Workflow, models: ScriptedModels) -> None:
    models.hold = ("a", "b")
    grid = flow.grid(prompt=["a", "b"])
    panel = GridPanel(grid)
    browser_says(panel, type="stop")
    assert grid.wait(30)
    assert {str(cell.state) for cell in grid.cells} == {"cancelled"}


def test_a_table_that_is_closed_leaves_no_widget(flow: Workflow) -> None:
    before = set(_instances)
    grid = flow.grid(prompt=["a", "b"])
    panel = GridPanel(grid)
    ended(panel._view, grid)
    browser_says(panel, type="open", cell=0)
    assert set(_instances) > before
    panel.close()
    updated()
    assert set(_instances) == before


def test_what_a_notebook_keeps_is_safe_and_has_it_all(
    flow: Workflow, models: ScriptedModels
) -> None:
    models.reply = lambda prompt: ["<b>", prompt, "</b> ran."]
    grid = flow.grid(prompt=["<fox>", "bear"], temperature=[0, -1])
    assert grid.wait(30)
    data, metadata = bundle(grid)
    html, plain = data["text/html"], data["text/plain"]
    assert "&lt;b&gt;" in html and "<b>" not in html and "<fox>" not in html
    assert html.count("<tr>") == 3
    assert plain.startswith("prompt <fox>, temperature 0:\n<b><fox></b> ran.\n[Finished · 1 token]")
    assert plain.count("[Failed]") == 2
    records = metadata["modelcompose"]["runs"]
    assert [each["run"] for each in records] == [run and run.id for run in grid.runs]


def test_guests_see_errors_without_folders(host: LocalHost, models: ScriptedModels) -> None:
    flow = Workflow(load(TEXT).document, host=host, for_guests=True)
    models.failure = OSError("no file /home/somebody/models/x")
    grid = Grid(flow, given={"prompt": ["a", "b"]})
    assert grid.wait(30)
    assert "/home" not in bundle(grid)[0]["text/html"]
