"""What a kernel answers JupyterLab, and what it tells it, while cells block and otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser.servers import free_port
from standins.kernel import Kernel, KernelIn, kernel

LOAD = "%load_ext modelcompose_jupyter"
STORY = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  min_output_length: ${input.length as integer | 500}
  max_output_length: ${input.length as integer | 500}
"""
# Runs for many times as long as a test takes to stop it, and holds the kernel's main thread.
BLOCKS = "%%compose story --run prompt=Once length:=400\nworkflow:\n  repeat_count: 500\n" + STORY


Until = Callable[[Callable[[dict[str, Any]], bool]], dict[str, Any]]


@pytest.fixture(scope="module")
def started(
    tmp_path_factory: pytest.TempPathFactory, kernel_in: KernelIn, ipykernel: str
) -> Kernel:
    started = kernel_in(tmp_path_factory.mktemp("lab"), ipykernel)
    started.run(LOAD)
    return started


def answer(kernel: Kernel, question: str, **data: Any) -> Any:
    reply = kernel.ask(question, data)
    assert reply["status"] == "ok", reply
    return reply["answer"]


@pytest.fixture(scope="module")
def until(started: Kernel) -> Until:
    """Gives the first status told of which something is so."""
    (comm,) = started.comms("modelcompose")

    def until(is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while not is_so(told := started.told(comm)):
            pass
        return told

    return until


def test_pages_find_the_kernels_half_once_it_is_loaded(tmp_path: Path) -> None:
    with kernel(tmp_path) as started:
        assert started.comms("modelcompose") == []
        started.run(LOAD)
        assert len(started.comms("modelcompose")) == 1
        started.run("%reload_ext modelcompose_jupyter")
        assert len(started.comms("modelcompose")) == 1
        parts = "{'torch', 'modelcompose_jupyter.host_selection'}"
        loaded = f"sorted({parts} & __import__('sys').modules.keys())"
        assert answer(started, "status")["models"] == []
        assert started.value(loaded) == "[]"  # a look costs nothing
        started.run("%unload_ext modelcompose_jupyter")
        assert started.comms("modelcompose") == []


def test_the_checker_is_the_kernels_own(started: Kernel) -> None:
    text = f"%%compose story\n{STORY}".replace("storyteller", "${env.OF_THIS_KERNEL}")
    assert "OF_THIS_KERNEL" in json.dumps(answer(started, "check", text=text))
    started.run("import os; os.environ['OF_THIS_KERNEL'] = 'storyteller'")
    assert answer(started, "check", text=text) == []


@pytest.mark.stop
def test_a_check_holds_up_no_stop(started: Kernel) -> None:
    """However large the text is, what comes behind is heard first."""
    text = "%%compose x\nworkflow:\n  jobs:\n" + "    - {id: a, in: b}\n" * 4000
    asked = [("check", {"text": text}), ("curl", {"text": f"%%compose x\n{STORY}"})]
    told = started.ask_together(*asked, ("stop", {}), ("status", {}))
    assert told == ["stop", "status", "check", "curl"]


@pytest.mark.stop
def test_stop_is_heard_while_a_cell_blocks(started: Kernel, until: Until) -> None:
    answer(started, "status")
    started.start(BLOCKS)
    status = until(lambda told: bool(told["models"] and told["tokens_per_second"]))
    (run,) = status["runs"]
    (model,) = status["models"]
    assert model["source"] == "bundled:storyteller"
    assert model["running"] >= 1 and model["memory_bytes"] > 0 and model["device"] == "cpu"
    assert answer(started, "check", text=f"%%compose x\n{STORY}") == []
    assert answer(started, "stop") == [run["id"]]
    ended = until(lambda told: not told["runs"])
    assert ended["tokens_per_second"] is None
    assert started.value("story.last_run.finish_reason") == "'cancelled'"


def test_a_model_is_unloaded_and_pages_are_told(started: Kernel, until: Until) -> None:
    started.run(f"%%compose story --run prompt=Once length:=4\n{STORY}")
    answer(started, "status")
    assert answer(started, "unload", model="bundled:storyteller")
    assert until(lambda told: not told["models"])["runs"] == []
    reply = started.ask("unload", {"model": "bundled:storyteller"})
    assert reply["status"] == "failed" and "storyteller" in reply["message"]


def test_the_panel_of_a_cell_runs_with_what_is_in_its_fields(started: Kernel) -> None:
    cell = f"%%compose tale\n{STORY}"
    assert answer(started, "run", text=cell) is False  # it has not shown one yet
    started.run(cell)
    panel = "get_ipython().magics_manager.registry['ComposeMagics']._panels['tale']"
    started.run(f"panel = {panel}; panel.inputs.prompt.value = 'A fox'")
    started.run("panel.inputs.length.value = 3")
    assert answer(started, "run", text=cell) is True
    started.run("import time\nwhile panel.run is None: time.sleep(0.01)")  # it begins on a thread
    assert started.value("panel.run.result()['generated'][:5]") == "'A fox'"


def test_a_cell_as_curl(started: Kernel) -> None:
    cell = f"%%compose curled\n{STORY}"
    command = answer(started, "curl", text=cell)
    assert command.startswith("curl -X POST http://localhost:8080/api/workflows/runs")
    assert '"prompt": "…"' in command
    reply = started.ask("curl", {"text": "%%compose curled\nnonsense: 1"})
    assert reply["status"] == "failed" and "nonsense" in reply["message"]


def test_the_notebooks_workflows_are_served(tmp_path: Path) -> None:
    with kernel(tmp_path) as started:
        started.run(LOAD)
        reply = started.ask("serve")
        assert (reply["status"], reply["hint"]) == ("failed", "Declare one: %%compose story")
        controller = f"controller: {{port: {free_port()}}}\n"
        started.run(f"%%compose story --no-panel\n{controller}{STORY}")
        assert answer(started, "serve").startswith("serving story at http://")


def test_what_is_no_question_is_refused_and_not_silent(started: Kernel) -> None:
    assert started.ask("dance")["status"] == "failed"
    assert started.ask("check")["status"] == "failed"
