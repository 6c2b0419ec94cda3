"""How much of a run goes on at a time, and how many runs wait for people."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import LocalHost, State, load
from modelcompose_jupyter.errors import ComposeError
from modelcompose_jupyter.submission import Requester
from modelcompose_jupyter.tools import function_call as bounded
from modelcompose_jupyter.tools.function_call import FunctionCall
from modelcompose_jupyter.workflow.bounded_gather import MAX_CONCURRENT_CALLS

from .flows import COMPONENT, flow_of, ran

NESTED = """
component: {id: f, type: function, function: count}
workflow:
  job:
    type: for-each
    input: ${input.rows}
    do:
      type: for-each
      input: ${item}
      do: {component: f, input: {x: "${item}"}, repeat_count: 3}
"""
ASKS = """
workflow:
  job: {input: "${input.prompt as text}", interrupt: {before: true}}
"""


class Counter:
    """Counts how many calls of it go on at a time: the first ones wait for another."""

    def __init__(self) -> None:
        self.going = self.most = 0
        self._lock = threading.Lock()

    async def __call__(self, x: int) -> int:
        with self._lock:
            self.going += 1
            self.most = max(self.most, self.going)
        deadline = time.monotonic() + 30
        while self.most < 2 and time.monotonic() < deadline:
            await asyncio.sleep(0.001)
        for _ in range(20):
            await asyncio.sleep(0)
        with self._lock:
            self.going -= 1
        return x


@pytest.mark.parametrize("shape", [(40, 2), (2, 40), (12, 12)])
def test_all_that_is_within_a_job_shares_its_width(host: LocalHost, shape: tuple[int, int]) -> None:
    rows = [list(range(shape[1]))] * shape[0]
    counter = Counter()
    flow = load(NESTED, host=host, functions={"count": counter})
    assert flow(rows=rows) == [[[each] * 3 for each in row] for row in rows]
    assert 1 < counter.most <= MAX_CONCURRENT_CALLS


def test_a_loop_that_ends_at_its_bound_says_so(host: LocalHost, models: ScriptedModels) -> None:
    loop = """
workflow:
  job:
    id: better
    type: loop
    input: a
    max_iteration_count: 2
    until: {input: "${output}", value: never}
    do: {input: "${output | ${input}}"}
"""
    run = ran(host, loop)
    assert run.output == "<<a>>"
    (warning,) = run.warnings
    assert "'better' ended with its 2 rounds" in warning
    assert ran(host, loop.replace("never", "<a>")).warnings == []


def test_a_called_workflow_counts_for_who_calls_it(host: LocalHost) -> None:
    calls = """
  - {id: other, type: workflow, workflow: inner}
workflows:
  - {id: outer, default: true, jobs: [{component: other}]}
  - {id: inner, jobs: [{id: a}]}
"""
    document = load(COMPONENT + calls, host=host).document
    found = list(document.model_calls(document.workflow("outer")))
    assert [(each.job, each.component.sources) for each in found] == [("a", ["scripted", ""])]
    assert not document.sets_seed(document.workflow("outer"))


def test_guests_that_wait_hold_no_places(host: LocalHost, models: ScriptedModels) -> None:
    host.limit(max_runs=4)
    flow = flow_of(host, ASKS)
    plain = flow_of(host, "workflow: {input: '${input.prompt as text}'}")

    def asks(is_guest: bool) -> Any:
        run = host.submit(
            flow.document, None, {"prompt": "a"}, requester=Requester("them", is_guest)
        )
        assert run.wait_for(lambda: bool(run.questions) or run.done, 20)
        return run

    own = asks(False)
    guests = [asks(True), asks(True), asks(True)]
    assert guests[0].wait(20)
    assert guests[0].state is State.CANCELLED
    assert [each.state for each in (own, *guests[1:])] == [State.INTERRUPTED] * 3
    run = host.submit(
        plain.document, None, {"prompt": "b"}, requester=Requester("them", is_guest=True)
    )
    assert run.wait(20)
    assert run.output == "<b>"


def test_functions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "_running", threading.BoundedSemaphore(1))
    gate = threading.Event()
    first = FunctionCall(lambda _: gate.wait(20), {}, lambda value: value)
    with pytest.raises(ComposeError, match="run already") as caught:
        FunctionCall(lambda _: None, {}, lambda value: value)
    assert caught.value.code == "busy"
    gate.set()
    assert first.future.result(20).value is True
    again = FunctionCall(lambda _: 1, {}, lambda value: value)
    assert again.future.result(20).value == 1
