"""The ground that the browser tests stand on: that it drives what it says, and sees what is there.

The form is of ordinary widgets and knows nothing of the product, so what fails here is the ground.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import expect
from standins.kernel import kernel

from .conftest import chromium
from .pages import Jupyter, Lab, NotebookPage, Voila, VoilaPage, leave
from .servers import Server
from .traffic import Traffic, size

# A thread adds words to `text` for as long as nobody presses Stop.
FORM = """
import itertools
import threading
import ipywidgets as widgets

prompt = widgets.Textarea(description="Prompt")
count = widgets.IntSlider(description="Count", value=3)
run, stop = widgets.Button(description="Run"), widgets.Button(description="Stop", disabled=True)
text = widgets.HTML().add_class("text")
stopped = threading.Event()

def stream():
    stop.disabled = False
    for number in itertools.count(1):
        text.value += f" {prompt.value}{number}"
        if stopped.wait(0.02):
            break
    text.value += f" stopped at a count of {count.value}"

run.on_click(lambda _: threading.Thread(target=stream).start())
stop.on_click(lambda _: stopped.set())
widgets.VBox([prompt, count, run, stop, text])
"""

UPDATES = 50


def is_dark(opened: NotebookPage | VoilaPage) -> bool:
    """Whether the page is painted in a dark colour."""
    colour = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    red, green, blue = map(int, re.findall(r"\d+", colour))
    return red + green + blue < 3 * 128


# Each press sets a value `UPDATES` times.
COUNTER = f"""
import ipywidgets as widgets

button, value = widgets.Button(description="Count"), widgets.IntText().add_class("value")

def count(_):
    for number in range(1, {UPDATES} + 1):
        value.value = number

button.on_click(count)
widgets.VBox([button, value])
"""

BLOCK = """
import threading
print("blocks", flush=True)
threading.Event().wait()
"""

NOTEBOOK = {
    "nbformat": 4,
    "nbformat_minor": 4,
    "metadata": {},
    "cells": [
        {"cell_type": "markdown", "metadata": {}, "source": "# Title"},
        {
            "cell_type": "code",
            "metadata": {},
            "source": "print(6 * 7)",
            "execution_count": None,
            "outputs": [],
        },
    ],
}

VERSION = "import ipykernel; print(ipykernel.__version__)"

notebooks = pytest.mark.parametrize("application", ["lab", "notebook7"], indirect=True)


def test_a_form_streams_from_a_thread_and_stops(
    application: Jupyter | Voila, errors: list[str]
) -> None:
    opened = application.open(FORM)
    opened.run_all()
    form = opened.output(0)
    text = form.locator(".text")
    form.locator("textarea").fill("word")
    form.get_by_role("button", name="Run").click()
    expect(text).to_contain_text("word5")
    form.locator(".noUi-target").click()  # in its middle; the applications keep arrow keys
    expect(form.locator(".widget-readout")).to_have_text("50")
    form.get_by_role("button", name="Stop").click()
    expect(text).to_contain_text("stopped at a count of 50")
    assert not errors


@pytest.mark.stop
@notebooks
def test_an_interrupt_ends_a_cell_that_blocks(application: Jupyter) -> None:
    opened = application.open(BLOCK, "print('goes on')")
    opened.run(0, wait=False)
    expect(opened.output(0)).to_have_text("blocks")
    opened.interrupt()
    expect(opened.output(0).last).to_contain_text("KeyboardInterrupt")
    opened.run(1)
    expect(opened.output(1)).to_have_text("goes on")


@pytest.mark.stop
def test_kernels_of_all_applications_run_on_the_wanted_ipykernel(
    application: Jupyter | Voila, ipykernel: str
) -> None:
    opened = application.open(VERSION)
    opened.run_all()
    expect(opened.output(0)).to_have_text(ipykernel)


@pytest.mark.stop
def test_a_kernel_without_a_browser_runs_on_the_wanted_ipykernel(
    tmp_path: Path, ipykernel: str
) -> None:
    with kernel(tmp_path, ipykernel=ipykernel) as started:
        assert started.run(VERSION).stdout.strip() == ipykernel


@pytest.mark.viewport(400, 800)
def test_a_page_can_be_dark_and_narrow(application: Jupyter | Voila) -> None:
    opened = application.open("1", theme="dark")
    assert opened.page.evaluate("[innerWidth, innerHeight]") == [400, 800]
    assert is_dark(opened)


def test_the_theme_can_change(lab: Lab) -> None:
    opened = lab.open("1")
    assert not is_dark(opened)
    opened.theme("JupyterLab Dark")
    assert is_dark(opened)


@pytest.mark.parametrize("application", ["lab", "voila"], indirect=True)
def test_traffic_counts_every_update_of_a_widget(
    application: Jupyter | Voila, traffic: Traffic
) -> None:
    opened = application.open(COUNTER)
    opened.run_all()
    form = opened.output(0)
    button = form.get_by_role("button", name="Count")
    button.wait_for()
    traffic.clear()
    button.click()
    expect(form.locator(".value input")).to_have_value(str(UPDATES))
    (click,) = traffic.sent("comm_msg")
    assert click.content["data"]["content"] == {"event": "click"}
    updates = traffic.received("comm_msg")
    values = [each.content["data"]["state"].get("value") for each in updates]
    assert values == [*range(1, UPDATES + 1)]
    assert all(each.size > len(json.dumps(each.content)) for each in updates)
    assert size(updates[:2]) == updates[0].size + updates[1].size


WRONG = """
from IPython.display import Javascript

Javascript('''
    console.error("logged");
    setTimeout(() => { throw new Error("thrown"); });
    fetch("http://example.org/").catch(() => { document.body.dataset.refused = "yes"; });
''')
"""


def test_what_goes_wrong_in_a_page_is_known(
    voila: Voila, errors: list[str], elsewhere: list[str]
) -> None:
    opened = voila.open(WRONG)
    expect(opened.page.locator("body")).to_have_attribute("data-refused", "yes")
    assert [error.split()[0] for error in errors] == ["logged", "thrown"]
    assert elsewhere[-1] == "http://example.org/"  # after what Voila's template asks for


def test_an_existing_notebook_is_opened_as_a_copy(voila: Voila, tmp_path: Path) -> None:
    existing = tmp_path / "existing.ipynb"
    existing.write_text(json.dumps(NOTEBOOK))
    opened = voila.open(existing)
    expect(opened.page.get_by_role("heading", name="Title")).to_be_visible()
    expect(opened.output(1)).to_have_text("42")
    assert json.loads(existing.read_text()) == NOTEBOOK


def test_voila_shows_a_page_in_another_template(voila: Voila) -> None:
    opened = voila.open("print(6 * 7)", template="classic")
    expect(opened.page.get_by_text("42", exact=True)).to_be_visible()
    expect(opened.page.locator(".jp-Cell")).to_have_count(0)  # which the default template has


def test_voila_ends_the_kernel_of_a_page_that_is_left(voila: Voila, voila_server: Server) -> None:
    opened = voila.open("1")
    kernels = psutil.Process(voila_server.process.pid).children()
    assert kernels
    leave(opened.page)
    _, alive = psutil.wait_procs(kernels, timeout=30)
    assert not alive


@pytest.mark.parametrize(
    ("required", "outcome"),
    [("", pytest.skip.Exception), ("required", pytest.fail.Exception)],
)
def test_a_missing_browser_is_told(
    required: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELCOMPOSE_BROWSER", required)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CHROMIUM", raising=False)
    with pytest.raises(outcome, match="no Chromium"):
        chromium()
