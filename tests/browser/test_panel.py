"""The panel in JupyterLab, Notebook 7 and Voila, used as people use it."""

from __future__ import annotations

import re
from functools import partial

import pytest
from playwright.sync_api import Locator, expect

from .pages import SECONDS, Jupyter, Lab, NotebookPage, Voila, VoilaPage

LOAD = "%load_ext modelcompose_jupyter"
# A run that goes on for many times as long as a test needs to press Stop.
STORY = """\
%%compose story
workflow:
  title: A story
  repeat_count: ${input.count as integer | 500}
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text @(description How it begins)}
  max_output_length: ${input.length as integer | 400}
  min_output_length: ${input.length as integer | 400}
  temperature: ${input.temperature as number | 0.7}
  top_k: ${input.top_k as integer | 50}
"""


def opened_panel(
    application: Jupyter | Voila, *more: str
) -> tuple[NotebookPage | VoilaPage, Panel]:
    """A notebook with the panel of `STORY`, and more cells that have not run."""
    opened = application.open(LOAD, STORY, *more)
    if isinstance(opened, NotebookPage):
        opened.run(0)
        opened.run(1)
    return opened, Panel(opened.output(1).locator(".modelcompose-panel"))


# How a panel says that a run ended: the beginning of its status.
CUT = r"^Cut at {} tokens"
STOPPED = r"^Stopped by you · [\d,]+ tokens"

LENGTH = "text => text.textContent.length"
LONGER = "([text, length]) => text.textContent.length > length"


class Panel:
    """What a person finds in a panel."""

    def __init__(self, root: Locator) -> None:
        self.root = root
        self.run = root.get_by_role("button", name="Run Workflow")
        self.stop = root.get_by_role("button", name="Stop")
        self.prompt = self.field("Prompt *")
        self.text = root.get_by_role("log", name="Generated text")
        self.texts = root.locator(".modelcompose-text > div")
        self.status = root.locator(".modelcompose-status")
        self.error = root.get_by_role("alert")
        self.cards = root.locator(".modelcompose-card")
        expect(self.run).to_be_visible()

    def field(self, label: str) -> Locator:
        """The control with this label, and not what is said about it."""
        return self.root.get_by_label(label, exact=True)

    def start(self, prompt: str) -> None:
        self.prompt.fill(prompt)
        self.run.click()
        expect(self.texts.first).to_have_text(re.compile("^" + re.escape(prompt) + r"[\s\S]{5}"))

    def grows(self) -> None:
        """Wait until there is more text than now, and ask no more of the page than its length:
        a pattern of so many characters keeps it busy for longer the longer the text is."""
        text = self.text.element_handle()
        length = text.evaluate(LENGTH)
        self.root.page.wait_for_function(LONGER, arg=[text, length + 20])

    def is_in(self, state: str) -> None:
        expect(self.root.locator(".modelcompose-run")).to_have_attribute("data-state", state)


@pytest.mark.smoke
@pytest.mark.stop
def test_a_prompt_runs_grows_stops_and_runs_again(
    application: Jupyter | Voila, errors: list[str], elsewhere: list[str]
) -> None:
    _, panel = opened_panel(application)
    expect(panel.stop).to_be_disabled()
    panel.run.click()
    expect(panel.error).to_have_text("Fill this in.")
    expect(panel.status).to_have_role("status")
    expect(panel.prompt).to_be_focused()
    panel.start("Once upon a time")
    panel.grows()
    expect(panel.run).to_be_disabled()
    panel.stop.click()
    panel.is_in("cancelled")
    expect(panel.status).to_have_text(re.compile(STOPPED))
    expect(panel.texts.first).to_have_text(re.compile("^Once upon a time"))
    slider = panel.root.get_by_role("slider")
    for _ in range(4):
        slider.press("ArrowRight")
    panel.field("Length (tokens)").fill("5")
    panel.field("Count").fill("1")
    panel.prompt.fill("A dragon")
    panel.prompt.press("Control+Enter")
    panel.is_in("completed")
    expect(panel.texts).to_have_text([re.compile("^A dragon")])
    expect(panel.status).to_have_text(re.compile(CUT.format(5) + r".* · seed \d+$"))
    expect(panel.run).to_be_enabled()
    assert not errors
    # Voila's own template asks for icons.
    assert [url for url in elsewhere if "fontawesome" not in url] == []


# Prints GROWS, from a thread, once the run of a cell that blocks has text beyond its prompt.
ANNOUNCE = """
import threading

def announce():
    while not (story.last_run and len(story.last_run.text) > 20):
        pause.wait(0.01)
    print("GROWS", flush=True)

pause = threading.Event()
"""
BLOCKING = [
    "story.run(prompt='Once')",
    "story(prompt='Once')",
    "for piece in story.stream(prompt='Once'): pass",
    "%compose run story prompt=Once",
]
ENDED = """
from modelcompose_jupyter import local_host

story.last_run.wait(60)
print(story.last_run.state, story.last_run.text[:4], len(local_host().models()))
story.last_run = None
"""


@pytest.mark.stop
@pytest.mark.parametrize("application", ["lab", "notebook7"], indirect=True)
def test_an_interrupt_stops_a_cell_that_runs(application: Jupyter) -> None:
    blocking = [f"threading.Thread(target=announce).start()\n{code}" for code in BLOCKING]
    opened, _ = opened_panel(application, ANNOUNCE, ENDED, *blocking)
    announce, ended, first = 2, 3, 4
    opened.run(announce)
    for index in range(first, first + len(blocking)):
        opened.run(index, wait=False)
        expect(opened.output(index).filter(has_text="GROWS").first).to_be_visible()
        opened.interrupt()
        expect(opened.output(index).last).to_contain_text("KeyboardInterrupt: run ")
        opened.idle()
        opened.run(ended)
        expect(opened.output(ended)).to_have_text("cancelled Once 1\n")


@pytest.mark.stop
@pytest.mark.parametrize("application", ["lab", "notebook7"], indirect=True)
def test_cancel_and_a_cleared_output_stop_the_run(application: Jupyter) -> None:
    cancel = "_2.run.cancel()"
    state = "print(_2.run.state, len(_2.run.text) > 10)"
    opened, panel = opened_panel(application, cancel, state)
    panel.start("Once upon a time")
    opened.run(2)
    panel.is_in("cancelled")
    panel.start("A dragon")
    opened.page.evaluate("window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1")
    opened.command("notebook:clear-cell-output")
    expect(panel.root).to_have_count(0)
    # Short cells: one that waits would keep the kernel from hearing of it.
    for _ in range(5 * SECONDS):
        opened.run(3)
        if "running" not in opened.output(3).inner_text():
            break
        opened.page.wait_for_timeout(200)
    expect(opened.output(3)).to_have_text("cancelled True\n")


@pytest.mark.stop
@pytest.mark.parametrize("application", ["lab", "notebook7"], indirect=True)
def test_the_panel_works_while_a_cell_blocks(application: Jupyter, ipykernel: str) -> None:
    if ipykernel.startswith("6."):
        pytest.skip("it has one thread for cells and widgets")
    blocks = "import threading\n\nprint('BLOCKS', flush=True)\nthreading.Event().wait()"
    opened, panel = opened_panel(application, blocks)
    opened.run(2, wait=False)
    expect(opened.output(2).first).to_contain_text("BLOCKS")
    panel.start("Once upon a time")
    panel.stop.click()
    panel.is_in("cancelled")
    opened.interrupt()
    expect(opened.output(2).last).to_contain_text("KeyboardInterrupt")


def test_keys_reach_everything_in_order(lab: Lab) -> None:
    opened, panel = opened_panel(lab)
    panel.field("Count").focus()
    panel.root.get_by_role("button", name="Advanced").click()
    reached = []
    panel.field("Count").focus()
    for _ in range(16):
        opened.page.keyboard.press("Tab")
        reached.append(
            opened.page.evaluate(
                "(e => e.labels?.[0]?.innerText || e.ariaLabel || e.innerText)"
                "(document.activeElement)"
            )
        )
    assert reached == [
        *("Prompt *", "About Length (tokens)", "Length (tokens)"),
        *("About Temperature", "Temperature", "Temperature"),  # the slider, and its number
        *("Advanced", "About Top k", "Top k", "Top k"),
        *("Run Workflow", "Live", "Keep seed", "Probabilities"),
        *("Compare values", "Three temperatures"),
    ]


SCROLL = """
(texts, top) => {
    texts.scrollTop = top < 0 ? texts.scrollHeight : top;
    texts.dispatchEvent(new Event('scroll'));
    return texts.scrollHeight;
}
"""
HIGHER = "height => document.querySelector('.modelcompose-texts').scrollHeight > height"
AT_END = "texts => texts.scrollHeight - texts.scrollTop - texts.clientHeight < 30"
SELECT = """
text => {
    const range = document.createRange();
    range.setStart(text.firstChild, 0);
    range.setEnd(text.firstChild, 9);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
}
"""
SELECT_ALL = "element => getSelection().selectAllChildren(element)"
SELECTED = "String(getSelection())"


def test_reading_is_not_disturbed_by_what_comes(lab: Lab) -> None:
    opened, panel = opened_panel(lab)
    panel.field("Count").fill("100")
    panel.start("Once upon a time")
    page = opened.page
    page.wait_for_function(HIGHER, arg=panel.text.evaluate("e => e.clientHeight") + 400)
    assert panel.text.evaluate(AT_END)
    panel.texts.first.evaluate(SELECT)
    height = panel.text.evaluate(SCROLL, 10)
    page.wait_for_function(HIGHER, arg=height + 300)
    assert panel.text.evaluate("e => e.scrollTop") == 10
    assert page.evaluate(SELECTED) == "Once upon"
    panel.text.get_by_role("heading", name="repeat 1", exact=True).evaluate(SELECT_ALL)
    page.wait_for_function(HIGHER, arg=panel.text.evaluate("e => e.scrollHeight") + 100)
    assert page.evaluate(SELECTED) == "repeat 1"
    page.evaluate("getSelection().removeAllRanges()")
    height = panel.text.evaluate(SCROLL, -1)
    page.wait_for_function(HIGHER, arg=height + 100)
    assert panel.text.evaluate(AT_END)
    panel.stop.click()
    panel.is_in("cancelled")


# The cells of the notebook.
CELLS = """() => window.jupyterapp.shell.currentWidget.content.widgets.map(
    ({ model }) => [model.type, model.sharedModel.getSource()])"""
# Each does something to the notebook when a cell of it has the focus, and not what is in it.
NOTEBOOKS_KEYS = ["b", "a", "m", "x", "d", "d", "0", "0", "Enter", "Escape", "x"]


@pytest.mark.parametrize("application", ["lab", "notebook7"], indirect=True)
def test_keys_stay_in_the_panel(application: Jupyter, errors: list[str]) -> None:
    opened, panel = opened_panel(application, "# another cell")
    page = opened.page
    panel.field("Count").fill("1")
    panel.field("Length (tokens)").fill("5")
    for prompt in ("A fox", "A bear"):
        panel.start(prompt)
        panel.is_in("completed")
    expect(panel.cards).to_have_count(2)
    before = page.evaluate(CELLS)
    assert len(before) == 3
    card = panel.cards.last
    named = partial(panel.root.get_by_role, "button")
    # What has the focus, and how many runs there are when its Enter has done what it does.
    for target, runs in [
        (panel.root.get_by_role("slider").first, 2),
        (named(name="About Temperature"), 2),
        (named(name="Advanced"), 2),
        (panel.field("Keep seed"), 2),
        (named(name="Copy text"), 2),
        (named(name="Copy as curl"), 2),
        (panel.text, 2),
        (card.get_by_role("checkbox"), 2),
        (card.get_by_role("button", name="Pin"), 2),
        (card.get_by_role("button", name="A fox"), 2),
        (panel.run, 3),
        (named(name="Continue"), 4),
        (named(name="Three temperatures"), 4),
        (panel.root.get_by_role("gridcell").first, 5),
        (named(name="Compare values"), 5),
    ]:
        target.focus()
        for key in NOTEBOOKS_KEYS:
            page.keyboard.press(key)
            expect(panel.root.locator(":focus")).to_have_count(1)
        expect(panel.cards).to_have_count(runs)
        assert page.evaluate(CELLS) == before, target
    expect(page.get_by_role("dialog")).to_have_count(0)  # such as the one before a restart
    assert not errors


def test_runs_are_kept_and_put_side_by_side(lab: Lab) -> None:
    _, panel = opened_panel(lab)
    panel.field("Count").fill("1")
    panel.field("Length (tokens)").fill("8")
    columns = panel.root.locator(".modelcompose-compared > article")
    compare = panel.root.get_by_role("button", name="Compare", exact=True)
    panel.start("A fox")
    panel.is_in("completed")
    panel.start("An owl")
    panel.is_in("completed")
    expect(panel.cards).to_have_count(2)
    pin = panel.cards.last.get_by_role("button", name="Pin")
    pin.click()
    expect(pin).to_have_attribute("aria-pressed", "true")
    expect(pin).to_be_focused()
    expect(compare).to_be_disabled()
    panel.start("A bear")
    panel.is_in("completed")
    expect(panel.cards).to_have_count(3)
    for index in (0, 2):
        panel.cards.nth(index).get_by_role("checkbox").check()
    compare.click()
    expect(columns.locator("div")).to_have_text([re.compile("^A bear"), re.compile("^A fox")])
    expect(columns.locator("mark").filter(has_text="bear")).to_have_count(1)
    panel.root.get_by_role("button", name="Close").click()
    expect(columns).to_have_count(0)


def test_a_panel_says_that_its_kernel_is_gone(lab: Lab) -> None:
    opened, panel = opened_panel(lab)
    assert isinstance(opened, NotebookPage)
    panel.start("Once upon a time")
    opened.restart()
    expect(panel.run).to_be_hidden()
    expect(panel.stop).to_be_hidden()
    said = "e => getComputedStyle(e, '::before').content"
    assert "Run its cell again" in panel.root.evaluate(said)
    expect(panel.texts.first).to_have_text(re.compile("^Once upon a time"))
    opened.idle()
    opened.run(0)
    opened.run(1)
    fresh = Panel(opened.output(1).locator(".modelcompose-panel"))
    fresh.start("A dragon")
    fresh.stop.click()
    fresh.is_in("cancelled")
