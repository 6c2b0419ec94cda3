"""How what a page says reaches a panel, in kernels that have several threads for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from standins.kernel import Cell, KernelIn

OPEN = """
import threading
from modelcompose_jupyter import load

panel = load('''
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: 8
''').panel()
handled, done = [], threading.Event()

def handle(name):
    handled.append((name, threading.current_thread().name))
    if name == "run":
        done.set()

panel.inputs.prompt.observe(lambda change: handle(change.new), "value")
panel._run_button.on_click(lambda _: handle("run"))
print(panel.inputs.prompt.model_id, panel._run_button.model_id)
"""
CLICK = {"method": "custom", "content": {"event": "click"}}


def typed(text: str) -> dict[str, object]:
    return {"method": "update", "state": {"value": text}, "buffer_paths": []}


@pytest.mark.stop
def test_a_text_and_a_click_are_handled_by_the_thread_that_the_page_named(
    tmp_path: Path, kernel_in: KernelIn, ipykernel: str
) -> None:
    started = kernel_in(tmp_path, ipykernel)
    prompt, button = started.run(OPEN).stdout.split()
    page = started.subshell()
    thread = "MainThread" if page is None else f"subshell-{page}"
    started.say(prompt, typed("A dragon"), page)
    started.say(button, CLICK, page)
    started.run("done.wait(60); panel.run.wait(60)")
    # Under a cell, which is the main thread's; the page goes on as before.
    started.run("done.clear(); panel.inputs.prompt.value = ''; handled.clear()")
    started.say(prompt, typed("A mouse"), page)
    started.say(button, CLICK, page)
    found = started.run("done.wait(60); import json; print(json.dumps(handled))").stdout
    assert json.loads(found) == [["A mouse", thread], ["run", thread]]
    assert started.value("panel.run.input['prompt']") == "'A mouse'"


@pytest.mark.stop
def test_a_page_that_is_loaded_again_is_heard(
    tmp_path: Path, kernel_in: KernelIn, ipykernel: str
) -> None:
    started = kernel_in(tmp_path, ipykernel)
    prompt, button = started.run(OPEN).stdout.split()
    for text in ("A dragon", "A mouse"):
        page = started.subshell()
        started.say(prompt, typed(text), page)
        started.say(button, CLICK, page)
        started.run("done.wait(60); panel.run.wait(60); done.clear()")
        assert started.value("panel.run.input['prompt']") == repr(text)
        if page is not None:
            started.end_subshell(page)


@pytest.mark.stop
def test_a_page_is_heard_while_a_cell_blocks(
    tmp_path: Path, kernel_in: KernelIn, ipykernel: str
) -> None:
    started = kernel_in(tmp_path, ipykernel)
    _, button = started.run(OPEN).stdout.split()
    page = started.subshell()
    if page is None:
        pytest.skip("this ipykernel has one thread for all messages")

    def click(cell: Cell) -> None:
        if cell.stdout == "blocks\n":
            started.say(button, CLICK, page)

    blocks = "print('blocks', flush=True)\nprint(done.wait(60))"
    assert started.run(blocks, watch=click).stdout == "blocks\nTrue\n"
