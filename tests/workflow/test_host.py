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

from modelcompose_jupyter import (
    ComposeError,
    DocumentError,
    InputError,
    LocalHost,
    Run,
    load,
    run_store,
)
from modelcompose_jupyter.callable import Workflow
from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.host import HOST_THREAD_NAME
from modelcompose_jupyter.seeds import MAX_SEED
from modelcompose_jupyter.submission import Requester
from modelcompose_jupyter.workflow.bounded_gather import MAX_CONCURRENT_CALLS

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
    for _ in range(MAX_CONCURRENT_CALLS):
        assert models.started.acquire(timeout=30)
    assert len(models.prompts) == MAX_CONCURRENT_CALLS
    pending.cancel()
    assert pending.wait(30)
    assert pending.state == "cancelled"
    assert models.leases == 0
    host.close()


def test_a_long_list_of_prompts_keeps_its_order(host: LocalHost) -> None:
    flow = load(COMPONENT.replace("as text", "as list"), host=host)
    prompts = [str(number) for number in range(MAX_CONCURRENT_CALLS * 4)]
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


def test_observers_see_each_run_before_it_begins(host: LocalHost) -> None:
    seen: list[tuple[str, str, str]] = []

    def observe(run: Run) -> None:
        seen.append((run.id, str(run.state), threading.current_thread().name))
        assert run.events_so_far() == []

    leave = host.observe(observe)
    flow = load(COMPONENT, host=host)
    first = flow.run(prompt="a")
    second = host.rerun(first.id)
    second.wait(30)
    leave()
    leave()
    flow.run(prompt="a")
    here = threading.current_thread().name
    assert seen == [(run.id, "queued", here) for run in (first, second)]


def test_an_observer_that_fails_is_logged_and_harms_nothing(
    host: LocalHost, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(run: Run) -> None:
        raise ZeroDivisionError

    seen: list[Run] = []
    host.observe(fail)
    host.observe(seen.append)
    run = load(COMPONENT, host=host).run(prompt="a")
    assert run.output == {"generated": "<a>"}
    assert seen == [run]
    assert f"an observer failed at run {run.id}" in caplog.text


@pytest.mark.parametrize("place", ["add", "_tell_observers", "loop"])
def test_a_submit_that_is_interrupted_leaves_no_run_that_waits_for_ever(
    host: LocalHost, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it may be between registering the run and scheduling it, or right after that."""
    flow = load(COMPONENT, host=host)
    flow(prompt="a")
    targets: dict[str, Any] = {"add": host.run_store, "_tell_observers": host, "loop": host._loop}
    target, name = targets[place], "call_soon_threadsafe" if place == "loop" else place
    original, here = getattr(target, name), threading.current_thread()

    def interrupted(*arguments: Any) -> None:
        original(*arguments)
        if threading.current_thread() is here:
            monkeypatch.undo()
            raise KeyboardInterrupt

    monkeypatch.setattr(target, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        flow.submit(prompt="a")
    run, _ = host.runs()
    assert run.wait(30)
    assert run.state == "cancelled"
    assert flow(prompt="a") == {"generated": "<a>"}


def test_a_run_that_an_observer_stops_never_begins(host: LocalHost, models: ScriptedModels) -> None:
    host.observe(lambda run: run.cancel())
    run = load(COMPONENT, host=host).submit(prompt="a")
    assert run.wait(30)
    assert [event.data["state"] for event in run.events()] == ["cancelled"]
    assert models.prompts == []


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, True, 1.0, "1"])
def test_a_seed_that_is_none_is_refused(host: LocalHost, seed: Any) -> None:
    flow = load(COMPONENT, host=host)
    with pytest.raises(InputError, match="the seed must be an integer from 0 to"):
        flow.start({"prompt": "a"}, seed=seed)
    assert host.runs() == []


def test_seeds_that_count_up_from_the_largest_begin_again(
    host: LocalHost, models: ScriptedModels
) -> None:
    run = load(BATCH, host=host).start({"prompt": "a", "count": 3}, seed=MAX_SEED)
    run.result(30)
    assert sorted(each["seed"] for each in models.parameters) == [0, 1, MAX_SEED]


def test_a_busy_host_says_so() -> None:
    models = ScriptedModels(hold=("a",))
    host = LocalHost(models)  # type: ignore[arg-type]
    host.limit(max_runs=2)
    flow = load(COMPONENT, host=host)
    runs = [flow.submit(prompt="a") for _ in range(2)]
    with pytest.raises(ComposeError) as caught:
        flow.submit(prompt="a")
    assert caught.value.code == "busy"
    assert caught.value.hint == "Try again when one of them has ended, or stop one."
    assert len(host.runs()) == 2
    models.gate.set()
    for run in runs:
        run.result(30)
    assert flow(prompt="b") == {"generated": "<b>"}
    host.close()


@pytest.mark.parametrize(
    ("workflow", "given", "generated", "under"),
    [
        ("workflow: {repeat_count: '${input.n}'}", {"n": 10**9}, 0, "repeat_count"),
        ("workflow: {repeat_count: '${input.n}'}", {"n": 6}, 0, "repeat_count"),
        ("", {"prompt": ["a"] * 6}, 0, "text"),
        ("workflow: {repeat_count: 2}", {"prompt": ["a"] * 3}, 3, "text"),
        ("workflow: {jobs: [{id: a}, {id: b, depends_on: a}]}", {"prompt": ["a"] * 3}, 3, "text"),
    ],
)
def test_runs_for_others_have_a_bound_of_generations(
    workflow: str, given: dict[str, Any], generated: int, under: str
) -> None:
    models = ScriptedModels()
    host = LocalHost(models)  # type: ignore[arg-type]
    host.limit(max_generations=5)
    document = load_document(COMPONENT.replace("as text", 'as list | ["a"]') + workflow)
    run = host.submit(document, input=given, requester=Requester("somebody"))
    assert run.wait(30)
    assert run.error is not None
    assert run.error.code == "too_many_generations"
    assert run.error.message == "the run asks for more than 5 generations, the host's limit"
    assert run.error.where is not None and run.error.where.path[-1] == under
    assert len(models.parameters) <= generated
    host.limit(max_generations=7)
    few = host.submit(
        document, input={"n": 1} if "n" in given else {}, requester=Requester("somebody")
    )
    assert few.wait(30) and few.state == "completed"
    host.close()


def test_sequences_count_as_generations_and_own_runs_have_no_bound() -> None:
    host = LocalHost(ScriptedModels())  # type: ignore[arg-type]
    host.limit(max_generations=5)
    several = load_document(COMPONENT + "  num_return_sequences: 6\n")
    run = host.submit(several, input={"prompt": "a"}, requester=Requester("somebody"))
    assert run.wait(30)
    assert run.error is not None and run.error.code == "too_many_generations"
    own = load(COMPONENT + "workflow: {repeat_count: 20}\n", host=host)(prompt="a")
    assert len(own) == 20
    host.close()


def test_a_run_beyond_its_time_is_stopped_and_fails() -> None:
    models = ScriptedModels(lambda prompt: ["one ", "two"], hold=("a",))
    host = LocalHost(models)  # type: ignore[arg-type]
    host.limit(max_run_seconds=1)
    flow = load(COMPONENT, host=host)
    run = flow.submit(prompt="a")
    assert run.wait(30)
    assert (run.state, run.text, run.finish_reason) == ("failed", "one ", "cancelled")
    assert run.error is not None
    assert (run.error.code, run.error.message) == (
        "timeout",
        "the run was stopped after 1 s, the host's limit",
    )
    assert run.record["generations"][0]["finish_reasons"] == ["cancelled"]
    assert models.leases == 0
    models.gate.clear()
    stopped = flow.submit(prompt="a")
    stopped.cancel()
    assert stopped.wait(30)
    assert stopped.state == "cancelled"
    host.close()


def test_a_limit_that_is_not_named_stays(models: ScriptedModels) -> None:
    host = LocalHost(models)  # type: ignore[arg-type]
    host.limit(5, max_runs=0)
    host.limit(max_output_length=7)
    host.limit(idle_timeout=3.0, cache_budget=9)
    limits: Any = models
    assert (limits.memory_budget, limits.max_output_length, limits.idle_timeout) == (5, 7, 3.0)
    assert limits.cache_budget == 9
    with pytest.raises(ComposeError, match="the host is busy"):
        load(COMPONENT, host=host).submit(prompt="a")
    host.limit(max_runs=None)
    assert load(COMPONENT, host=host)(prompt="a") == {"generated": "<a>"}
    host.close()


def test_a_host_lowers_the_length_of_texts() -> None:
    text = COMPONENT + (
        "  min_output_length: ${input.least as integer | 1}\n"
        "  max_output_length: ${input.most as integer | 3}\n"
    )
    warning = "max_output_length was lowered to 3, the host's limit"
    host = LocalHost()
    host.limit(max_output_length=3)
    asks_nothing = load(COMPONENT + "  seed: 1\n", host=host).run(prompt="Once")
    assert asks_nothing.warnings == [warning]
    flow = load(text, host=host)
    asks_more = flow.run(prompt="Once", least=5, most=9)
    assert asks_more.warnings[0] == warning
    assert "min_output_length lowered" in asks_more.warnings[1]
    for run in (asks_nothing, asks_more):
        assert run.usage["generated"] <= 3
        assert run.parameters["max_output_length"] == 3
    assert flow.run(prompt="Once").warnings == []
    host.limit(max_output_length=None)
    assert flow.run(prompt="Once", least=5, most=5).usage["generated"] == 5
    host.close()


def test_old_runs_are_forgotten_by_size_and_not_by_their_callers(
    host: LocalHost, models: ScriptedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.reply = lambda prompt: ["x" * 10_000]
    flow = load(COMPONENT, host=host)
    monkeypatch.setattr(run_store, "KEPT_BYTES", 150_000)
    runs = [flow.run(prompt="a") for _ in range(10)]
    kept = host.runs()
    assert 0 < len(kept) < 10
    assert kept == runs[: -len(kept) - 1 : -1]
    assert sum(run.size for run in kept) <= 150_000
    assert all(run.text == "x" * 10_000 for run in runs)
    with pytest.raises(InputError, match="is forgotten: newer ones have taken its place"):
        host.rerun(runs[0].id)


def test_a_run_that_ended_long_ago_is_forgotten(host: LocalHost, models: ScriptedModels) -> None:
    models.hold = ("held",)
    flow = load(COMPONENT, host=host)
    going = flow.submit(prompt="held")
    ended = flow.run(prompt="a")
    host.limit(run_ttl=3600)
    assert host.runs() == [ended, going]
    host.limit(run_ttl=0)
    assert host.runs() == [going]
    with pytest.raises(InputError, match="is forgotten: the time for which results are kept"):
        host.run(ended.id)
    models.gate.set()
    going.result(30)


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


@pytest.mark.parametrize(
    "name", ["loading", pytest.param("generating", marks=pytest.mark.slow), "failing"]
)
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


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("m.gguf", "There is a file of that name; for it, write ./m.gguf"),
        ("folder", "There is a folder of that name; for it, write ./folder"),
        ("storyteller", "Write bundled:storyteller for the model that ships."),
        ("else/where", "Unset HF_HUB_OFFLINE and local_files_only, and run again with a network."),
    ],
)
def test_a_name_that_the_hub_does_not_have_may_be_meant_for_another(
    source: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    text = (
        "component: {type: model, task: text-generation, local_files_only: true,"
        f" model: {source}, text: a, cache_dir: {tmp_path / 'cache'}}}"
    )
    host = LocalHost()
    run = host.submit(load_document(text, folder=tmp_path))
    assert run.wait(60)
    assert run.error is not None and run.error.hint == hint
    host.close()
