"""Grids in a real kernel: shown, stopped, and kept by notebooks that a program runs."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from standins.ipykernels import kernelspec
from standins.kernel import Cell, Kernel, KernelIn

from modelcompose_jupyter.notebook_records import find_record, runs_in

DECLARE = """\
%%compose story --no-panel
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: ${input.length as integer | 400}
  min_output_length: ${input.length as integer | 400}
"""
WIDGET = "application/vnd.jupyter.widget-view+json"
# Shows a grid as a cell does whose last line it is, and waits until the update thread is idle.
SHOW = """
import threading
from modelcompose_jupyter.widgets.grid_panel import GridPanel
from modelcompose_jupyter.widgets.update_thread import update_thread

grid = story.grid(prompt=["A fox", "An <owl>"], length=4)
panel, ended = GridPanel(grid), threading.Event()
panel._view.observe(lambda change: change.new["done"] == 2 and ended.set(), "progress")
panel.show()
ended.wait(30)
for _ in range(2):
    idle = threading.Event()
    update_thread.soon(idle.set)
    idle.wait(30)
"""
# Many more runs than end before they are stopped.
MANY = """
import threading

grid = story.grid(prompt="Once", seed=range(400))

def announce():
    while grid.ended < 2:
        threading.Event().wait(0.01)
    print("ENDED", flush=True)

threading.Thread(target=announce).start()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def shell(folder: Path, kernel_in: KernelIn, ipykernel: str) -> Kernel:
    shell = kernel_in(folder, ipykernel)
    for code in ("%load_ext modelcompose_jupyter", DECLARE):
        assert shell.run(code).status == "ok"
    return shell


def test_a_grid_that_ends_a_cell_is_shown_at_once(shell: Kernel) -> None:
    cell = shell.run('story.grid(prompt=["A fox", "An owl"], seed=range(100))')
    table, saved = cell.data
    assert WIDGET in table
    said = table["text/plain"]
    assert re.fullmatch(r"<Grid seed \(0, 1, .*\) × prompt \(.*\) · \d+ of 200 .*>", said)
    assert saved["text/plain"] == ""
    assert shell.value("type(_).__name__, _.done") == "('Grid', False)"
    assert shell.run("_.cancel(); print(_.wait(30))").stdout == "True\n"


def test_the_notebook_keeps_the_table_of_a_grid(shell: Kernel) -> None:
    cell = shell.run(SHOW)
    assert cell.status == "ok", cell.error
    saved = cell.display_ids[-1]
    (kept,) = [each for each in cell.updates if each["transient"]["display_id"] == saved]
    plain, html = kept["data"]["text/plain"], kept["data"]["text/html"]
    assert re.match(r"prompt A fox:\nA fox .*\n\[Cut at 4 tokens", plain)
    assert plain.count("An <owl>") == 2  # what it was given, and as its text begins
    assert "Prompt An &lt;owl&gt;" in html and "<owl>" not in html
    assert 'class="modelcompose-saved"' in html
    inputs = [each["input"]["prompt"] for each in kept["metadata"]["modelcompose"]["runs"]]
    assert inputs == ["A fox", "An <owl>"]


def interrupted(shell: Kernel, code: str) -> Cell:
    """Run a cell, and interrupt it when it says ENDED."""
    pressed: list[bool] = []

    def watch(cell: Cell) -> None:
        if "ENDED" in cell.stdout and not pressed:
            pressed.append(True)
            shell.interrupt()

    cell = shell.run(code, watch=watch)
    assert pressed and cell.error is not None
    return cell


@pytest.mark.stop
def test_an_interrupt_of_a_cell_that_waits_stops_all(shell: Kernel) -> None:
    cell = interrupted(shell, f"{MANY}\ngrid.wait()")
    assert cell.error is not None
    (line,) = cell.error["traceback"]
    assert re.fullmatch(r"KeyboardInterrupt: the grid was stopped after \d+ of 400 runs", line)
    assert shell.value("grid.done, {run.done for run in story.host.runs()}") == "(True, {True})"


@pytest.mark.stop
def test_all_that_goes_on_is_stopped_with_it(shell: Kernel) -> None:
    shell.run(f"{MANY}\nwhile grid.ended < 2: threading.Event().wait(0.01)")
    assert "stopped " in shell.run("%compose stop").stdout
    assert shell.value("grid.wait(30), any(cell.run is None for cell in grid.cells)") == (
        "(True, True)"
    )


def executed(folder: Path, ipykernel: str, *cells: str) -> nbformat.NotebookNode:
    """A notebook that a program has run."""
    v4 = nbformat.v4
    cells = ("%load_ext modelcompose_jupyter", DECLARE, *cells)
    notebook = v4.new_notebook(cells=[*map(v4.new_code_cell, cells)])  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, kernel_name=kernelspec(ipykernel), timeout=120)
    return client.execute(cwd=str(folder))


def test_a_notebook_that_a_program_runs_has_the_table(folder: Path, ipykernel: str) -> None:
    first = 'story.grid(prompt=["A fox", "An owl"], seed=[1, 2], length=20)'
    last = 'story.grid(prompt=["A <mouse>", "A bear"], length=[-1, 20])'
    notebook = executed(folder, ipykernel, first, "story", last)
    outputs = [cell.outputs for cell in notebook.cells[2:]]
    assert [len(each) for each in outputs] == [1, 1, 1]
    for prompts, (shown,) in ((["A fox", "An owl"], outputs[0]), (["A bear"], outputs[2])):
        assert list(shown.data) == ["text/plain", "text/html"]
        # In the row's head, and where texts begin.
        assert all(shown.data["text/html"].count(prompt) >= 2 for prompt in prompts)
    assert "A &lt;mouse&gt;" in outputs[2][0].data["text/html"]
    assert outputs[2][0].data["text/html"].count("Failed") == 2

    html, _ = HTMLExporter().from_notebook_node(notebook)
    assert html.count("A fox") > 2 and html.count("A bear") > 2
    path = folder / "executed.ipynb"
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
    records = outputs[0][0].metadata["modelcompose"]["runs"]
    assert [find_record(path, each["run"]) for each in records] == records
    assert [each["seed"] for each in records] == [1, 2, 1, 2]
    assert [run.text[:5] for run in runs_in(path)][:4] == ["A fox", "A fox", "An ow", "An ow"]
