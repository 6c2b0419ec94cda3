"""A host's life: many runs, observers that fail, closing, forking, the end of the process."""

from __future__ import annotations

import copy
import gc
import json
import multiprocessing
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import ComposeError, DocumentError, InputError, LocalHost, load
from modelcompose_jupyter.callable import Workflow
from modelcompose_jupyter.host import HOST_THREAD_NAME
from modelcompose_jupyter.workflow.window import IN_FLIGHT

COMPONENT = """
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
"""
BATCH = COMPONENT + "workflow: {repeat_count: '${input.count as integer}'}\n"


def test_only_a_window_of_many_repeats_is_in_flight() -> None:
    models = ScriptedModels(hold=("a",))
    host = LocalHost(models)  # type: ignore[arg-type]
    pending = load(BATCH, host=host).submit(prompt="a", count=10**9)
    for _ in range(IN_FLIGHT):
        assert models.started.acquire(timeout=30)
    assert len(models.prompts) == IN_FLIGHT
    pending.cancel()
    assert pending.wait(30)
    assert pending.state == "cancelled"
    assert models.leases == 0
    host.close()


def test_a_long_list_of_prompts_keeps_its_order(host: LocalHost) -> None:
    flow = load(COMPONENT.replace("as text", "as list"), host=host)
    prompts = [str(number) for number in range(IN_FLIGHT * 4)]
    run = flow.run(prompt=prompts)
    assert run.output == {"generated": [f"<{prompt}>" for prompt in prompts]}
    assert run.text == "\n\n".join(run.output["generated"])


def test_a_watcher_that_fails_harms_nothing(host: LocalHost, models: ScriptedModels) -> None:
    models.hold = ("a",)
    run = load(COMPONENT, host=host).submit(prompt="a")
    assert models.started.acquire(timeout=30)
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise ZeroDivisionError

    leave = run.watch(fail)
    models.gate.set()
    assert run.result(30) == {"generated": "<a>"}
    assert calls == [1]
    leave()
    leave()


def host_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == HOST_THREAD_NAME]


def test_a_closed_host_says_so_and_leaves_no_thread(models: ScriptedModels) -> None:
    before = host_threads()
    host = LocalHost(models)  # type: ignore[arg-type]
    flow = load(COMPONENT, host=host)
    flow(prompt="a")
    assert len(host_threads()) == len(before) + 1
    assert host.close() is True
    assert host.close() is True
    with pytest.raises(ComposeError, match="the host is closed"):
        flow(prompt="a")
    assert host_threads() == before


def test_closing_ends_the_runs_that_go_on() -> None:
    models = ScriptedModels(hold=("a",))
    host = LocalHost(models)  # type: ignore[arg-type]
    runs = [load(COMPONENT, host=host).submit(prompt="a") for _ in range(5)]
    assert models.started.acquire(timeout=30)
    assert host.close() is True
    assert {run.state for run in runs} == {"cancelled"}


def test_inputs_are_copied_as_plain_data(host: LocalHost, models: ScriptedModels) -> None:
    text = COMPONENT + "  top_k: ${input.k}\n  temperature: ${input.t as number}\n"
    flow = load(text, host=host)
    run = flow.run(prompt=Path("a/b"), k=np.int64(3), t=np.float32(0.5))
    assert run.input == {"prompt": str(Path("a/b")), "k": 3, "t": 0.5}
    (given,) = models.parameters
    assert (given["top_k"], given["temperature"]) == (3, 0.5)

    prompts = ["a", "b"]
    many = load(COMPONENT.replace("as text", "as list"), host=host)
    run = many.submit(prompt=prompts)
    prompts.append("c")
    assert run.result(30) == {"generated": ["<a>", "<b>"]}
    assert many(prompt=np.array(["x", "y"])) == {"generated": ["<x>", "<y>"]}


def test_inputs_that_are_no_data_are_refused(host: LocalHost) -> None:
    flow = load(COMPONENT, host=host)
    with pytest.raises(InputError, match="not valid Unicode, at character 1"):
        flow(prompt="a\ud800")
    circle: dict[str, Any] = {}
    circle["prompt"] = circle
    with pytest.raises(InputError, match="holds itself"):
        flow(circle)


def test_a_stream_that_nobody_holds_stops_its_run(host: LocalHost, models: ScriptedModels) -> None:
    models.hold = ("a",)
    flow = load(COMPONENT, host=host)
    stream = flow.stream(prompt="a")
    assert models.started.acquire(timeout=30)
    del stream
    gc.collect()
    assert flow.last_run is not None
    assert flow.last_run.wait(30)
    assert flow.last_run.state == "cancelled"


def test_workflows_errors_and_records_can_be_copied(host: LocalHost) -> None:
    flow = load(COMPONENT, host=host)
    run = flow.run(prompt="a")
    assert json.loads(json.dumps(run.record))["input"] == {"prompt": "a"}
    assert json.dumps(run.parameters)
    other: Workflow = pickle.loads(pickle.dumps(flow))
    assert (other.inputs, other.last_run) == (flow.inputs, None)
    assert copy.deepcopy(flow).document.hash == flow.document.hash
    with pytest.raises(DocumentError) as caught:
        load("component: 5")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_an_error_that_is_raised_again_does_not_grow(host: LocalHost) -> None:
    models = ScriptedModels(hold=("a",))
    held = LocalHost(models)  # type: ignore[arg-type]
    run = load(COMPONENT, host=held).submit(prompt="a")
    assert models.started.acquire(timeout=30)
    run.cancel()
    depths = set()
    for _ in range(3):
        with pytest.raises(ComposeError) as caught:
            run.result(30)
        depths.add(len(caught.traceback))
    assert len(depths) == 1
    held.close()


EXITS = {
    "loading": "run = flow.submit(prompt='a'); next(run.events())",
    "generating": "next(iter(flow.stream(prompt='a')))",
    "failing": "run = flow.submit(prompt='a'); next(run.stream()); raise SystemExit(3)",
}


@pytest.mark.parametrize("name", EXITS)
def test_a_process_may_end_while_a_run_goes_on(name: str) -> None:
    script = (
        "from modelcompose_jupyter import load\n"
        f"flow = load({COMPONENT + '  min_output_length: 400'!r})\n{EXITS[name]}\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3 if name == "failing" else 0, "")


def _in_child(queue: Any) -> None:
    try:
        queue.put(load(COMPONENT)(prompt="a"))
    except ComposeError as error:
        queue.put(str(error))


def test_a_forked_process_says_that_it_cannot_run_models() -> None:
    import torch

    assert torch.get_num_threads() >= 1
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    assert "forked from one that uses torch" in queue.get(timeout=60)
    child.join(60)
