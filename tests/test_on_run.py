"""`on_run`: each run that ends is told once, in order, and none of them waits for that."""

from __future__ import annotations

import logging
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from standins.processes import environment
from standins.scripted import ScriptedModels

from modelcompose_jupyter import LocalHost, Run, Workflow, load, on_run, run_hooks
from modelcompose_jupyter.errors import UsageError
from modelcompose_jupyter.run_hooks import HOOK_THREAD_NAME, RunHook
from modelcompose_jupyter.submission import Requester

DOCUMENT = """\
component:
  type: model
  task: text-generation
  model: scripted
  text: ${input.prompt}
"""

Hook = Callable[..., RunHook]


@pytest.fixture
def hook() -> Iterator[Hook]:
    """`on_run`, until the end of the test."""
    hooks: list[RunHook] = []

    def add(callback: Any, workflow: Workflow | None = None) -> RunHook:
        hooks.append(on_run(callback, workflow))
        return hooks[-1]

    yield add
    for each in hooks:
        each.stop()


@pytest.fixture
def told(hook: Hook) -> queue.Queue[Run]:
    """The runs that hooks have been called with."""
    runs: queue.Queue[Run] = queue.Queue()
    hook(runs.put)
    return runs


@pytest.fixture
def flow(host: LocalHost) -> Workflow:
    return load(DOCUMENT, host=host)


def next_of(told: queue.Queue[Run]) -> Run:
    return told.get(timeout=30)


def test_runs_are_told_in_the_order_in_which_they_end(
    flow: Workflow, models: ScriptedModels, told: queue.Queue[Run]
) -> None:
    models.hold = ("held", "stopped")
    held = flow.submit(prompt="held")
    stopped = flow.submit(prompt="stopped")
    completed = flow.run(prompt="a")
    for _ in models.hold:
        models.started.acquire()
    stopped.cancel()
    stopped.wait(30)
    models.failure = RuntimeError("no model")
    failed = flow.run(prompt="b")
    models.gate.set()
    held.wait(30)

    runs = [next_of(told) for _ in range(4)]

    assert runs == [completed, stopped, failed, held]
    assert [run.state for run in runs] == ["completed", "cancelled", "failed", "completed"]


def test_whoever_starts_a_run_it_is_told_once(
    flow: Workflow, host: LocalHost, told: queue.Queue[Run]
) -> None:
    flow(prompt="a")
    flow.map(["b", "c"], progress=False)
    host.submit(
        flow.document, None, {"prompt": "d"}, requester=Requester("a caller", is_guest=True)
    ).wait(30)
    host.rerun(host.own_runs()[-1].id).wait(30)

    runs = [next_of(told) for _ in range(5)]

    assert {run.input["prompt"] for run in runs} == {"a", "b", "c", "d"}
    assert len({run.id for run in runs}) == 5
    flow(prompt="last")
    assert next_of(told).input == {"prompt": "last"}


def test_no_run_waits_for_a_callback(flow: Workflow, hook: Hook) -> None:
    threads: queue.Queue[str] = queue.Queue()
    go_on = threading.Event()

    def slow(_: Run) -> None:
        threads.put(threading.current_thread().name)
        go_on.wait(30)

    hook(slow)
    assert flow(prompt="a") and threads.get(timeout=30) == HOOK_THREAD_NAME
    assert len(flow.map(["b", "c"], progress=False)) == 2
    assert threads.empty()
    go_on.set()
    assert [threads.get(timeout=30) for _ in "bc"] == [HOOK_THREAD_NAME] * 2


def test_a_callback_that_fails_is_logged_once_and_called_again(
    flow: Workflow, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    called: queue.Queue[Run] = queue.Queue()

    def failing(run: Run) -> None:
        called.put(run)
        sys.exit("the callback's own")  # worse than an error: it would end a thread

    hook(failing)
    runs = [flow.run(prompt=prompt) for prompt in "abc"]
    assert [next_of(called) for _ in runs] == runs
    hook(called.put)
    last = flow.run(prompt="d")
    assert {next_of(called), next_of(called)} == {last}  # of both
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert (
        record.getMessage() == f"what on_run calls failed at run {runs[0].id}, and is called again"
    )
    assert "the callback's own" in caplog.text


def test_a_decorated_function_stays_one_until_it_is_stopped(
    flow: Workflow, told: queue.Queue[Run]
) -> None:
    seen = []

    @on_run
    def log(run: Run) -> str:
        """What it does."""
        seen.append(run)
        return run.id

    run = flow.run(prompt="a")
    next_of(told)
    assert log(run) == run.id and log.__name__ == "log" and log.__doc__ == "What it does."
    log.stop()
    log.stop()
    flow(prompt="b")
    next_of(told)
    flow(prompt="c")
    next_of(told)
    assert seen == [run, run]


def test_a_function_that_is_defined_again_takes_the_place_of_the_former(
    flow: Workflow, hook: Hook
) -> None:
    seen: queue.Queue[tuple[int, Run]] = queue.Queue()
    cell = "def log(run): seen.put(({}, run))"
    for number in (1, 2):
        names: dict[str, Any] = {"seen": seen, "__name__": "__main__"}
        exec(cell.format(number), names)
        hook(names["log"])
    # Others have no name of their own, and stay beside each other.
    hook(lambda run: seen.put((3, run)))
    hook(lambda run: seen.put((4, run)))

    run = flow.run(prompt="a")

    assert {seen.get(timeout=30) for _ in range(3)} == {(2, run), (3, run), (4, run)}
    assert seen.empty()


def test_a_hook_may_be_for_one_workflow(flow: Workflow, host: LocalHost, hook: Hook) -> None:
    other = load(DOCUMENT + "  temperature: 0.5\n", host=host)
    same = load(DOCUMENT, host=host)
    of_flow: list[Run] = []
    told: queue.Queue[Run] = queue.Queue()
    hook(of_flow.append, flow)
    hook(told.put)
    runs = [each.run(prompt="a") for each in (flow, other, same)]
    assert [next_of(told) for _ in runs] == runs
    assert of_flow == [runs[0], runs[2]]


def test_what_cannot_be_called_back_is_refused() -> None:
    async def later(run: Run) -> None: ...

    class Later:
        async def __call__(self, run: Run) -> None: ...

    with pytest.raises(UsageError, match="takes a function, and not 3"):
        on_run(3)  # type: ignore[arg-type]
    for wrong in (later, Later(), partial(later)):
        with pytest.raises(UsageError, match="and this one is async"):
            on_run(wrong)


def test_a_callback_that_is_far_behind_is_not_told_of_all(
    flow: Workflow,
    hook: Hook,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_hooks, "WAITING_BYTES", 1)
    called: queue.Queue[Run] = queue.Queue()
    go_on = threading.Event()

    def slow(run: Run) -> None:
        called.put(run)
        go_on.wait(30)

    hook(slow)
    first = flow.run(prompt="a")
    assert next_of(called) is first
    missed = [flow.run(prompt=prompt) for prompt in "bc"]
    go_on.set()
    run_hooks._hooks.finish(30)
    again = flow.run(prompt="d")
    assert next_of(called) is again and called.empty()
    (record,) = caplog.records
    assert missed[0].id in record.getMessage() and record.levelno == logging.WARNING


AT_EXIT = f'''
import threading
from modelcompose_jupyter import load, on_run
from standins.scripted import ScriptedModels
from modelcompose_jupyter import LocalHost

@on_run
def tell(run):
    threading.main_thread().join()  # not before the process ends
    print(run.input["prompt"], run.state, flush=True)

models = ScriptedModels(hold=("held",))
story = load("""{DOCUMENT}""", host=LocalHost(models))
for prompt in "abc":
    story(prompt=prompt)
story.submit(prompt="held")
models.started.acquire()
'''


def test_calls_that_are_due_when_the_process_ends_are_made() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT], env=environment(), capture_output=True, text=True
    )
    assert done.stderr == ""
    lines = [f"{prompt} completed" for prompt in "abc"] + ["held cancelled"]
    assert done.stdout.splitlines() == lines
