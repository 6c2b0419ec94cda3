"""The JupyterLab extension, used as people use it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from .pages import SECONDS, Lab, NotebookPage, Theme
from .test_panel import LOAD, STORY, Panel

PYTHON = "import os\nfor name in os.environ: print(name)"
DOCUMENT = STORY.partition("\n")[2]
# Holds the kernel's main thread until its run is stopped.
BLOCKS = STORY.replace("%%compose story", "%%compose story --run prompt=Once")

# The words of an editor that are tokens, with what the theme's colours say of them.
_TOKENS = """content => {
    const kinds = ['property', 'keyword', 'meta', 'comment', 'number', 'string'];
    const probe = document.body.appendChild(document.createElement('i'));
    const colours = kinds.map(kind => {
        probe.style.color = `var(--jp-mirror-editor-${kind}-color)`;
        return getComputedStyle(probe).color;
    });
    probe.remove();
    return [...content.querySelectorAll('.cm-line span')].map(token =>
        [token.textContent, kinds[colours.indexOf(getComputedStyle(token).color)] ?? '']);
}"""


_SHOWN_COMMANDS = """() => {
    const { commands } = window.jupyterapp;
    return commands.listCommands().filter(
        each => each.startsWith('modelcompose:') && commands.isVisible(each));
}"""

# What it opens is not for who asks: it may be too much to be sent.
_EDIT = """async path => {
    await window.jupyterapp.commands.execute('docmanager:open', { path, factory: 'Editor' });
}"""

_SAVE = """async settings => {
    const { serviceManager } = window.jupyterapp;
    await serviceManager.settings.save('modelcompose-jupyter:plugin', JSON.stringify(settings));
}"""


@pytest.fixture(autouse=True)
def quiet(errors: list[str], elsewhere: list[str]) -> Iterator[None]:
    """No test may leave errors in the console, or ask other hosts for anything."""
    yield
    assert (errors, elsewhere) == ([], [])


class Editor:
    """A cell's editor, or a file's."""

    def __init__(self, root: Locator) -> None:
        self.root = root
        self.content = root.locator(".cm-content")
        self.marks = root.locator(".cm-lintRange")

    def press(self, *keys: str) -> None:
        self.content.click()
        for key in keys:
            self.root.page.keyboard.press(key)

    def type_at_end(self, text: str) -> None:
        self.press("Control+End")
        self.root.page.keyboard.type(text)

    @property
    def lines(self) -> list[str]:
        return [each.rstrip("\n") for each in self.content.locator(".cm-line").all_inner_texts()]

    @property
    def tokens(self) -> list[tuple[str, str]]:
        return [(text, kind) for text, kind in self.content.evaluate(_TOKENS)]

    def is_yaml(self) -> None:
        self._eventually(lambda: ("component", "property") in self.tokens)

    def is_python(self) -> None:
        self._eventually(lambda: ("component", "property") not in self.tokens)

    def _eventually(self, is_so: Callable[[], bool]) -> None:
        eventually(self.root.page, is_so)


def eventually(page: Page, is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < end, is_so
        page.wait_for_timeout(50)


def cell(opened: NotebookPage, index: int) -> Editor:
    return Editor(opened.cell(index).locator(".jp-InputArea"))


def file(page: Page) -> Editor:
    return Editor(page.locator(".jp-FileEditor:visible"))


def execute(page: Page, command: str) -> None:
    """Execute a command of JupyterLab's, without waiting for what it promises."""
    page.evaluate("command => void window.jupyterapp.commands.execute(command)", command)


def end(row: Locator, what: str) -> None:
    """Press the button of a row of the Running panel."""
    row.hover()
    button = row.locator(".jp-RunningSessions-itemShutdown")
    expect(button).to_have_attribute("title", what)
    button.click()


# Cells


@pytest.mark.parametrize("theme", [pytest.param("light", marks=pytest.mark.smoke), "dark"])
def test_workflow_cells_are_yaml_and_others_are_not(lab: Lab, theme: Theme) -> None:
    opened = lab.open(STORY, PYTHON, theme=theme)
    story, python = cell(opened, 0), cell(opened, 1)
    story.is_yaml()
    assert {
        ("%%compose", "meta"), ("title", "property"), ("as", "keyword"), ("0.7", "number"),
    } <= set(story.tokens)  # fmt: skip
    before = python.tokens
    assert {("import", "keyword"), ("for", "keyword")} <= set(before)
    # The first line says what a cell is, whatever becomes of it.
    story.press("Control+Home", "Delete")
    story.is_python()
    story.press("Control+z")
    story.is_yaml()
    story.press("Control+a", "Control+x")
    story.is_python()
    story.press("Control+v")
    story.is_yaml()
    opened.restart()
    opened.idle()
    story.is_yaml()
    opened.command("docmanager:save")
    opened.reload()
    story.is_yaml()
    assert python.tokens == before


def test_yaml_is_indented_and_commented_as_such(lab: Lab) -> None:
    opened = lab.open("%%compose story", PYTHON)
    editor = cell(opened, 0)
    editor.type_at_end("\ncomponent:\ntype: model\nparams:\ntop_p: 1")
    wanted = ["%%compose story", "component:", "  type: model", "  params:", "    top_p: 1"]
    assert editor.lines == wanted
    editor.press("Control+a", "Control+/")
    assert editor.lines[0] == "%%compose story"
    assert all(line.lstrip().startswith("#") for line in editor.lines[1:])
    editor.press("Control+a", "Control+/")
    assert editor.lines == wanted
    editor.press("Control+Home", "Control+/")
    assert editor.lines == wanted
    python = cell(opened, 1)
    python.press("Control+Home", "Control+/")
    assert python.lines[0] == "# import os"


@pytest.mark.smoke
def test_what_is_wrong_is_marked_while_one_types(lab: Lab) -> None:
    opened = lab.open(LOAD, f"%%compose story\n{DOCUMENT}", BLOCKS)
    editor = cell(opened, 1)
    # Nobody but the server can be asked yet.
    editor.type_at_end("  temprature: 7")
    expect(editor.marks).to_have_text(["temprature"])
    editor.marks.hover()
    expect(opened.page.locator(".cm-tooltip")).to_contain_text("Did you mean 'temperature'?")
    # The kernel's own environment is what counts, also while it is held by a cell.
    opened.run(0)
    opened.run(2, wait=False)
    stop = opened.page.get_by_role("button", name="Stop runs")
    expect(stop).to_be_enabled()
    for _ in "temprature: 7":
        editor.press("Control+End", "Backspace")
    expect(editor.marks).to_have_count(0)
    editor.type_at_end("top_p: 7")
    expect(editor.marks).to_have_text(["7"])
    stop.click()


def explanation(page: Page) -> Locator:
    return page.locator(".modelcompose-explanation")


@pytest.mark.smoke
def test_what_may_stand_there_is_offered_alone_and_explained(lab: Lab) -> None:
    opened = lab.open("%%compose story\n", LOAD)
    page = opened.page
    editor, items = cell(opened, 0), page.locator(".jp-Completer-item:visible")
    helps = items.locator(".modelcompose-completion-help")

    def offered(*texts: str) -> None:
        expect(items.locator(".jp-Completer-match")).to_have_text([*texts])
        expect(helps).to_have_text([re.compile(r"\w.*\.$")] * len(texts))

    opened.wait_for_completion()
    # By the server first: the kernel knows nothing of workflows yet.
    editor.press("Control+End", "Tab")  # on an empty line
    offered(
        "component: ".strip(), "workflow:", "components:", "workflows:", "controller:", "name: "
    )
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    opened.run(1)
    editor.press("Control+End", "Control+Space")
    expect(items.locator(".jp-Completer-match").first).to_have_text("type: ")
    expect(items.locator(":scope:not(.modelcompose-completion)")).to_have_count(0)
    page.keyboard.type("te")  # filtered, the likeliest first
    offered("text: ", "temperature: ")
    page.keyboard.press("Enter")
    page.keyboard.type("${input.prompt as t")
    page.keyboard.press("Tab")
    offered("text")
    page.keyboard.press("Escape")
    page.keyboard.type("ext}\nmodel: bundled:storytellr")
    expect(editor.marks.filter(has_text="bundled:storytellr")).to_have_count(1)
    expect(editor.marks.filter(has_text="bundled:storytellr")).to_have_class(re.compile("warning"))
    # What stands there, where one points at it, and at the cursor.
    editor.root.get_by_text("component", exact=True).hover()
    expect(explanation(page)).to_contain_text("A model, and how to call it.")
    page.mouse.move(1, 1)
    expect(explanation(page)).to_have_count(0)
    editor.press("Control+End", "ArrowUp", "Home", "ArrowRight", "Shift+Tab")
    expect(explanation(page)).to_contain_text("The prompt, or a list of them.")
    page.keyboard.press("ArrowRight")
    expect(explanation(page)).to_have_count(0)


@pytest.mark.smoke
def test_files_are_known_by_what_is_in_them(lab: Lab) -> None:
    opened = lab.open(PYTHON)
    page = opened.page
    (lab.folder / "chat.yml").write_text("name: mine\n")
    (lab.folder / "other.yml").write_text("version: 2\nworkflows:\n  build:\n    jobs: [a]\n")
    preview = page.locator(".lm-Widget:visible").get_by_role("button", name="Preview")
    editor = open_file(page, lab, "chat.yml")
    expect(preview).to_have_count(0)
    editor.type_at_end("component:\n  type: model\n  text: ${input.a as t")
    expect(preview).to_be_visible()
    expect(editor.marks.first).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator(".modelcompose-completion:visible")).to_have_text([re.compile("^t?text")])
    page.keyboard.press("Enter")
    page.keyboard.type("}")
    eventually(page, lambda: ("as", "keyword") in editor.tokens)
    assert "modelcompose:preview" in page.evaluate(_SHOWN_COMMANDS)
    # It may become another file's again.
    editor.press("Control+Home")
    for _ in "name":
        page.keyboard.press("Delete")
    page.keyboard.type("kind")
    editor.press("Control+a")
    page.keyboard.type("kind: of others\n")
    expect(preview).to_have_count(0)
    expect(editor.marks).to_have_count(0)
    page.evaluate("() => window.jupyterapp.shell.currentWidget.dispose()")
    other = open_file(page, lab, "other.yml")
    eventually(page, lambda: len(other.tokens) > 0)
    expect(preview).to_have_count(0)
    expect(other.marks).to_have_count(0)
    assert "modelcompose:preview" not in page.evaluate(_SHOWN_COMMANDS)


# What runs


@pytest.mark.smoke
@pytest.mark.stop
def test_runs_are_seen_and_stopped_while_a_cell_blocks(lab: Lab) -> None:
    opened = lab.open(LOAD, BLOCKS, PYTHON, theme="dark")
    page = opened.page
    stop = page.get_by_role("button", name="Stop runs")
    status = page.locator(".modelcompose-status")
    expect(stop).to_be_hidden()  # this notebook has nothing to do with workflows yet
    expect(status).to_be_hidden()
    opened.run(0)
    expect(stop).to_be_visible()
    expect(stop).to_be_disabled()
    opened.run(1, wait=False)
    expect(stop).to_be_enabled()
    expect(status).to_have_text(re.compile(r"^storyteller · 6\.6 MB · [1-9][\d.]* tokens/s$"))
    execute(page, "running:show-panel")
    expect(page.get_by_label("Models Section")).to_be_visible()
    heights = [
        box["y"]
        for name in ("Open Tabs", "Models", "Kernels")
        if (box := page.get_by_label(f"{name} Section").bounding_box())
    ]
    assert heights == sorted(heights) and len(heights) == 3
    row = page.locator(".modelcompose-model")
    expect(row).to_contain_text(re.compile(r"storyteller.*6\.6 MB · cpu · \d+ running"))
    stop.click()
    expect(opened.output(1).last).to_contain_text("was stopped")
    expect(stop).to_be_disabled()
    expect(status).to_have_text("storyteller · 6.6 MB")
    expect(row.locator(".jp-RunningSessions-itemDetail")).to_have_text("6.6 MB · cpu")
    end(row, "Unload")
    expect(row).to_have_count(0)
    expect(status).to_be_hidden()


@pytest.mark.stop
def test_a_page_that_is_loaded_again_stops_what_blocks(lab: Lab) -> None:
    opened = lab.open(f"{LOAD}\n%reload_ext modelcompose_jupyter", BLOCKS)
    opened.run_all(wait=False)
    stop = opened.page.get_by_role("button", name="Stop runs")
    expect(stop).to_be_enabled()
    opened.reload(idle=False)
    expect(stop).to_be_enabled()
    expect(opened.page.locator(".modelcompose-status")).to_contain_text("tokens/s")
    stop.click()
    opened.idle()
    expect(stop).to_be_disabled()


def test_a_kernels_half_may_be_loaded_again(lab: Lab) -> None:
    opened = lab.open(LOAD, "%reload_ext modelcompose_jupyter", BLOCKS, f"%un{LOAD[1:]}")
    stop = opened.page.get_by_role("button", name="Stop runs")
    opened.run(0)
    expect(stop).to_be_visible()
    opened.run(1)
    opened.run(2, wait=False)
    expect(stop).to_be_enabled()
    stop.click()
    opened.idle()
    opened.run(3)
    expect(stop).to_be_hidden()


def test_a_host_is_seen_and_shut_down(lab: Lab) -> None:
    opened = lab.open(PYTHON)
    page = opened.page
    (lab.folder / "model-compose.yml").write_text(DOCUMENT)
    open_file(page, lab, "model-compose.yml")
    execute(page, "modelcompose:serve")
    expect(page.locator(".jp-toast-message, .Toastify__toast-body").last).to_contain_text(
        re.compile(r"is served at http://127\.0\.0\.1:\d+/modelcompose/hosts/")
    )
    execute(page, "running:show-panel")
    row = page.locator(".modelcompose-host").filter(has_text="A story")
    expect(row).to_be_visible()
    end(row, "Shut Down")
    expect(row).to_have_count(0)


# Commands


def open_file(page: Page, lab: Lab, name: str) -> Editor:
    """Open a file beside the notebook."""
    path = (lab.folder / name).relative_to(lab.root).as_posix()
    page.evaluate(_EDIT, path)
    editor = file(page)
    expect(editor.content).to_be_visible()
    return editor


def clipboard(page: Page) -> str:
    return str(page.evaluate("() => navigator.clipboard.readText()"))


@pytest.mark.smoke
def test_a_workflow_cell_is_inserted_run_and_copied(lab: Lab) -> None:
    opened = lab.open(PYTHON)
    page = opened.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    execute(page, "modelcompose:insert")
    dialog = page.get_by_role("dialog")
    names = [each.get_attribute("aria-label") for each in dialog.get_by_role("radio").all()]
    assert names == ["Story", "Instruction", "Chat", "Two steps"]
    dialog.get_by_role("button", name="Insert").click()
    expect(opened.cell(1)).to_contain_text(LOAD)  # which the kernel needs, and had not
    story = cell(opened, 2)
    story.is_yaml()
    assert story.lines[0] == "%%compose story"
    opened.run(1)
    story.press("Control+Home")
    execute(page, "modelcompose:run")
    panel = Panel(opened.output(2).locator(".modelcompose-panel"))
    expect(panel.error).to_have_text("Fill this in.")
    panel.prompt.fill("A fox")
    story.press("Control+Home")
    expect(panel.error).to_have_count(0)  # the kernel has heard of it
    execute(page, "modelcompose:run")  # the fields keep what was entered
    expect(panel.text).to_have_text(re.compile(r"^A fox[\s\S]{100}"))
    panel.is_in("completed")
    story.press("Control+Home")
    execute(page, "modelcompose:curl")
    eventually(page, lambda: '"prompt": "A fox"' in clipboard(page))
    assert clipboard(page).startswith("curl -X POST http://localhost:8080/api/workflows/runs")


@pytest.mark.smoke
@pytest.mark.viewport(1500, 900)
def test_a_new_file_is_edited_beside_its_preview(lab: Lab) -> None:
    opened = lab.open(PYTHON, theme="dark")
    page = opened.page
    execute(page, "launcher:create")
    home = page.locator(".jp-Launcher-section", has_text="model-compose")
    home.locator(".jp-LauncherCard", has_text="Compose Workflow").click()
    story = page.get_by_role("radio", name="Story")
    expect(story).to_be_focused()
    expect(story).to_have_accessible_description(re.compile("^Goes on from what you type"))
    page.keyboard.press("ArrowLeft")  # the last, and back again
    expect(page.get_by_role("radio", name="Two steps")).to_be_checked()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    editor = file(page)
    editor.is_yaml()
    preview = page.frame_locator(".modelcompose-preview iframe")
    panel = Panel(preview.locator(".modelcompose-panel"))
    expect(preview.locator(".modelcompose-diagram")).to_contain_text("bundled:storyteller")
    # What is wrong, what may stand there, and what it becomes once it is saved.
    editor.type_at_end("    top_p: 7")
    expect(editor.marks).to_have_text(["7"])
    editor.press("Control+End", "Backspace")
    page.keyboard.type("${input.top_p as number | 0.9}\nmin_")
    page.keyboard.press("Tab")
    items = page.locator(".jp-Completer-item")
    expect(items).to_contain_text(["min_p: ", "min_output_length: "])
    expect(items).to_have_count(2)
    page.keyboard.press("Enter")
    page.keyboard.type("0.1")
    assert editor.lines[-1] == "    min_p: 0.1"
    expect(editor.marks).to_have_count(0)
    page.keyboard.press("Control+s")
    preview.get_by_role("button", name="Advanced").click()
    expect(preview.get_by_role("slider", name="Top p")).to_be_visible()
    # It runs, on the host that is there for the file, with what was entered.
    execute(page, "modelcompose:run")
    expect(panel.error).to_have_text("Fill this in.")
    panel.prompt.fill("A fox")
    editor.press("Control+Home")
    page.keyboard.type("# Not saved yet\n")
    execute(page, "modelcompose:run")
    expect(panel.text).to_have_text(re.compile(r"^A fox[\s\S]{100}"))
    expect(preview.locator(".modelcompose-diagram")).to_be_visible()
    execute(page, "running:show-panel")
    expect(page.locator(".modelcompose-model")).to_contain_text("6.6 MB")


def test_dashboards_open_in_tabs_of_the_browser(lab: Lab) -> None:
    opened = lab.open(LOAD, STORY)
    page = opened.page
    cell(opened, 1).press("Control+Home")
    with page.expect_popup() as of_notebook:
        execute(page, "modelcompose:dashboard")
    expect(of_notebook.value.get_by_role("button", name="Run Workflow")).to_be_visible()
    of_notebook.value.close()
    (lab.folder / "model-compose.yml").write_text(DOCUMENT)
    open_file(page, lab, "model-compose.yml")
    with page.expect_popup() as of_file:
        execute(page, "modelcompose:dashboard")
    expect(of_file.value.get_by_role("heading", name="A story")).to_be_visible()
    expect(of_file.value.get_by_role("button", name="Run Workflow")).to_be_visible()
    of_file.value.close()


# Alone, and switched off


def test_a_kernel_without_its_half_leaves_what_the_server_can_do(lab: Lab) -> None:
    opened = lab.open(f"%%compose story\n{DOCUMENT}", PYTHON)
    editor = cell(opened, 0)
    editor.is_yaml()
    editor.type_at_end("  top_p: 7")
    expect(editor.marks).to_have_text(["7"])
    opened.run(1)
    expect(opened.page.get_by_role("button", name="Stop runs")).to_be_hidden()
    expect(opened.page.get_by_role("dialog")).to_have_count(0)


def test_a_server_without_its_half_leaves_what_the_kernel_can_do(bare_lab: Lab) -> None:
    opened = bare_lab.open(f"%%compose story\n{DOCUMENT}", LOAD)
    page = opened.page
    editor = cell(opened, 0)
    editor.is_yaml()
    editor.type_at_end("  top_p: 7")
    opened.run(1)
    expect(editor.marks).to_have_text(["7"])  # said by the kernel, since there is one to say it
    (bare_lab.folder / "model-compose.yml").write_text(DOCUMENT)
    in_file = open_file(page, bare_lab, "model-compose.yml")
    in_file.is_yaml()
    in_file.type_at_end("  top_p: 7\nmin_")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Preview")).to_be_hidden()
    execute(page, "running:show-panel")
    page.locator(".jp-RunningSessions").get_by_role("button", name="Refresh").first.click()
    expect(in_file.marks).to_have_count(0)
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_each_feature_can_be_switched_off(lab: Lab) -> None:
    features = [
        "highlighting",
        "diagnostics",
        "completion",
        "explanations",
        "running",
        "stop",
        "status",
        "commands",
    ]
    opened = lab.open(LOAD, BLOCKS, PYTHON)
    page = opened.page
    page.evaluate(_SAVE, dict.fromkeys(features, False))
    opened.reload()
    cell(opened, 1).is_python()
    opened.run(0)
    opened.run(1, wait=False)
    expect(opened.cell(1)).to_contain_text("Once upon a time")
    expect(page.get_by_role("button", name="Stop runs")).to_be_hidden()
    expect(page.locator(".modelcompose-status")).to_be_hidden()
    execute(page, "running:show-panel")
    expect(page.locator(".modelcompose-model")).to_have_count(0)
    assert page.evaluate(_SHOWN_COMMANDS) == []
    page.evaluate(_SAVE, {})
    opened.reload(idle=False)
    cell(opened, 1).is_yaml()
    expect(page.get_by_role("button", name="Stop runs")).to_be_enabled()
    expect(page.locator(".modelcompose-status")).to_be_visible()
    execute(page, "running:show-panel")
    expect(page.locator(".modelcompose-model")).to_be_visible()
    assert "modelcompose:stop" in page.evaluate(_SHOWN_COMMANDS)
    execute(page, "modelcompose:stop")
    opened.idle()
