"""Pictures of the real thing, for README and documentation: `make pictures`. No tests."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import nbformat
import pytest
from nbclient import NotebookClient
from playwright.sync_api import Locator, Page, expect

from .pages import Lab, NotebookPage, Theme, write_notebook
from .picture_files import Film, keep
from .test_chat import Chat
from .test_lab import execute, open_file
from .test_panel import LOAD, STOPPED, Panel
from .test_up import served

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
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
GALAXY = "Once upon a time in a distant galaxy"

# A story after the other, since the model ends each by itself: long enough to be stopped.
STORIES = """\
%%compose story
workflow:
  repeat_count: 10
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  max_concurrent_count: 1
  text: ${input.prompt as text}
  temperature: ${input.temperature as slider/0,1.5,0.1 | 0.7}
"""
# As on a computer without a C compiler: on PyTorch, on which one can see the text come.
ON_TORCH = f"%env MODELCOMPOSE_NATIVE=0\n{LOAD}"

FILE = """\
# What stands here is a form, a page and an API.
workflow:
  title: A story
  description: It goes on from your first words.
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: 200
  temperature: ${input.temperature as slider/0,1,0.1 | 0.7}
  seed: ${input.seed as integer | 10}

"""
MISTAKE = "  top_p: 9"

IN_MEMORY = "story(prompt='')"  # has the model loaded

# What is typed where something has to be, by the labels of fields.
TYPED = {
    "Prompt *": GALAXY,
    "Story *": "The fox found a new friend and they played all day.",
    "Labels *": '[" fox", " owl", " dog"]',
    "Hero *": "a brave mouse",
    "Place *": "a windmill",
}
SAID = "Tell me a story about somebody who lives in the sea."

# Which outputs of a cell are widgets: of those that are drawn later, too.
_WIDGETS = """index => {
    const { outputs } = window.jupyterapp.shell.currentWidget.content.widgets[index].model;
    return [...Array(outputs.length).keys()].filter(
        each => 'application/vnd.jupyter.widget-view+json' in outputs.get(each).data);
}"""

themes = pytest.mark.parametrize("theme", ["light", "dark"])


def alone(page: Page) -> None:
    """Have what is open alone in view: no sidebars, no file list, nothing that blinks."""
    page.evaluate("window.jupyterapp.shell.collapseLeft()")
    page.evaluate("window.jupyterapp.shell.collapseRight()")
    page.add_style_tag(content="* { caret-color: transparent !important; }")


def declared(notebook: NotebookPage) -> Panel:
    """The panel of a notebook's second cell. What comes behind runs before it, and is removed."""
    alone(notebook.page)
    for index in range(3):
        notebook.run(index)
    notebook.command("notebook:delete-cell")
    return Panel(notebook.output(1).locator(".modelcompose-panel"))


def told(panel: Panel) -> None:
    """Run for the first time, and wait until all of it is there."""
    panel.run.click()
    state = panel.root.locator(".modelcompose-run")
    ended = re.compile("completed|failed|cancelled")
    expect(state).to_have_attribute("data-state", ended, timeout=_FIRST_SECONDS * 1000)
    expect(panel.run).to_be_enabled()


def told_of(panel: Panel, prompt: str) -> None:
    """Run with another prompt than before, and wait until all of it is there."""
    panel.prompt.fill(prompt)
    panel.run.click()
    expect(panel.texts.first).to_have_text(re.compile("^" + re.escape(prompt)))
    expect(panel.run).to_be_enabled()


@themes
@pytest.mark.viewport(900, 1400)
def test_panel(lab: Lab, theme: Theme) -> None:
    notebook = lab.open(LOAD, STORY, IN_MEMORY, theme=theme)
    panel = declared(notebook)
    told_of(panel, "A little robot named Zib")
    told_of(panel, GALAXY)
    keep(notebook.cell(1), f"panel-{theme}")


@pytest.mark.viewport(900, 1200)
def test_film(lab: Lab) -> None:
    """A prompt is typed, its text comes and is stopped, and another comes at more heat."""
    notebook = lab.open(ON_TORCH, STORIES, IN_MEMORY)
    notebook.restart()  # another kernel may have begun without PyTorch
    notebook.idle()
    panel = declared(notebook)
    film = Film(notebook.page, notebook.cell(1))
    prompt = "A little robot named Zib"
    panel.prompt.click()
    film.take(0.6)
    for end in range(4, len(prompt) + 4, 4):
        panel.prompt.fill(prompt[:end])
        film.take(0.06)
    _stopped(panel, film)
    slider = panel.root.get_by_role("slider")
    for _ in range(2):
        slider.press("ArrowRight")
        film.point(slider)
        film.take(0.2)
    _stopped(panel, film)
    film.keep("panel")
    notebook.restart()  # the next test's is on PyTorch no longer


def _stopped(panel: Panel, film: Film) -> None:
    """Film a run until it is stopped, when there is some text."""
    film.point(panel.run)
    film.take(0.3)
    panel.run.click()
    expect(panel.status).to_be_hidden()  # what is seen is no longer of the run before
    while _height(panel.text) < 240:
        film.take()
    film.point(panel.stop)
    film.take()
    panel.stop.click()
    expect(panel.status).to_have_text(re.compile(STOPPED))
    expect(panel.run).to_be_enabled()
    film.reach(panel.root.locator(".modelcompose-actions"))
    film.take(1.2)


def _height(text: Locator) -> float:
    box = text.bounding_box()
    return box["height"] if box is not None else 0


@themes
@pytest.mark.viewport(1120, 925)
def test_editor_beside_preview(lab: Lab, theme: Theme) -> None:
    """A workflow's file with a mistake, and beside it its page, in which it has run."""
    page = lab.open("", theme=theme).page
    (lab.folder / "story.yml").write_text(FILE)
    editor = open_file(page, lab, "story.yml")
    editor.is_yaml()
    page.evaluate("window.jupyterapp.shell.widgets('main').next().value.dispose()")  # the notebook
    execute(page, "modelcompose:preview")
    panel = Panel(page.frame_locator(".modelcompose-preview iframe").locator(".modelcompose-panel"))
    told_of(panel, "A little robot named Zib")  # has the model loaded
    told_of(panel, GALAXY)
    alone(page)
    editor.type_at_end(MISTAKE)
    editor.marks.hover()
    expect(page.locator(".cm-tooltip")).to_be_visible()
    keep(page.locator("#jp-main-dock-panel"), f"editor-{theme}")


@themes
@pytest.mark.viewport(1000, 980)
def test_page(page: Page, tmp_path: Path, theme: Theme) -> None:
    """What a visitor of `model-compose up` sees."""
    with served(NOTEBOOKS / "sliders.yml", tmp_path) as up:
        httpx.post(f"{up['API']}/workflows/runs", json={"input": {}}, timeout=_FIRST_SECONDS)
        page.goto(f"{up['Page']}?theme={theme}")
        panel = Panel(page.locator(".modelcompose-panel:visible"))
        told(panel)
        page.get_by_text("How it works").click()
        keep(page.locator("body"), f"page-{theme}")


@themes
@pytest.mark.viewport(900, 700)
def test_same_text_again(lab: Lab, theme: Theme) -> None:
    """A run of another notebook again, from the record in its file."""
    story = STORY.replace("story", "story --no-panel", 1)
    run = "%compose run story prompt='A little robot named Zib' seed:=3"
    theirs = lab.folder / "colleague.ipynb"
    write_notebook(theirs, [LOAD, story, run, "story.history.index[0]"], "python3")
    executed = nbformat.read(theirs, 4)
    NotebookClient(executed).execute()
    nbformat.write(executed, theirs)
    id = executed.cells[3].outputs[0].data["text/plain"].strip("'")
    again = f"%compose rerun {id} {theirs.name}"
    notebook = lab.open(f"{LOAD}\n%cd -q {lab.folder}", story, IN_MEMORY, again, theme=theme)
    alone(notebook.page)
    notebook.run_all()
    cell = notebook.cell(3)
    expect(cell).to_contain_text("the same text as run")
    keep(cell, f"again-{theme}")


@pytest.mark.viewport(900, 3000)
@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook(lab: Lab, path: Path) -> None:
    """The panels of an example notebook, each after a run."""
    cells = [each.source for each in nbformat.read(path, 4).cells if each.cell_type == "code"]
    notebook = lab.open(f"%cd -q {path.parent}", *cells)
    page = notebook.page
    alone(page)
    shown = 0
    for index in range(len(cells) + 1):
        notebook.run(index)
        for place in page.evaluate(_WIDGETS, index):
            output = notebook.cell(index).locator(".jp-OutputArea-child").nth(place)
            output = output.locator(".jp-OutputArea-output")
            expect(output.locator(".jupyter-widgets").first).to_be_attached()
            if output.locator(".modelcompose-grid").count():
                continue  # a table, which is HTML once it has ended
            shown += 1
            if not output.locator(".modelcompose-panel").count():
                continue  # a progress bar, say
            used(output)
            keep(output, f"notebooks/{path.stem}-{shown}", pixels=1)


def used(output: Locator) -> None:
    """Have a panel run once, or a chat reply, where the notebook has not had it done."""
    root = output.locator(".modelcompose-panel")
    if root.get_by_role("button", name="Run Workflow").count():
        panel = Panel(root)
        for label, text in TYPED.items():
            field = panel.field(label)
            if field.count() and not field.input_value():
                field.fill(text)
        told(panel)
    elif root.get_by_placeholder("Message").count():
        chat = Chat(root)
        if not chat.turns.count():
            chat.say(SAID)
        chat.replied()
