"""Whatever jobs a workflow has, whatever fails, and whenever it is stopped: what holds of its run.

What components give is scripted: the graph is what is tested. A call fails or not by its seed,
which says whose it is and which attempt. How many turns of the loop it takes has nothing to do with
that: so the same graph is run with another timing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from dataclasses import dataclass, field
from typing import Any, cast
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from standins.waiting import WAIT_SECONDS

from modelcompose_jupyter.document import Document, Workflow, load_document
from modelcompose_jupyter.document.reachability import Reachability, routers_of
from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.workflow import Run, run_workflow
from modelcompose_jupyter.workflow.component import ComponentCall, ComponentCaller
from modelcompose_jupyter.workflow.concurrency_limiter import ConcurrencyLimiter

SEED = 7
FAILED = {"code": "scripted", "message": "it has failed"}
ELEMENTS = st.lists(st.integers(0, 3), max_size=4)
Keys = dict[str, Any]


@dataclass
class Calls:
    """Answers calls; ``fails`` is how many of a hundred do not succeed.

    Attributes:
        seeds: of each call that has begun.
        going: how many have begun and not ended.
        stopped: whether the run is: then no call ends by itself.
    """

    fails: int
    turns: random.Random
    seeds: list[int] = field(default_factory=list)
    going: int = 0
    stopped: bool = False

    def limiter(self, *_: Any) -> ConcurrencyLimiter:
        return ConcurrencyLimiter(0)

    async def call(self, call: ComponentCall) -> Any:
        seed = call.seed + (call.repeat or 0)
        self.seeds.append(seed)
        self.going += 1
        try:
            for _ in range(self.turns.choice((0, 1, 9, 30))):
                await asyncio.sleep(0)
            if self.stopped:
                await asyncio.Event().wait()
        finally:
            self.going -= 1
        drawn = hashlib.sha256(str(seed).encode()).digest()
        if drawn[0] % 100 < self.fails:
            raise ModelError(FAILED["message"], code=FAILED["code"])
        told = json.dumps(call.input, sort_keys=True)
        return hashlib.sha256(f"{seed} {told}".encode()).hexdigest()[:8]


# Graphs


def comparisons(source: str) -> st.SearchStrategy[Keys]:
    """Comparisons of what a source gives, of which nobody knows the type."""
    letters = st.sampled_from("0123456789abcdef")
    return letters.map(
        lambda each: {"input": f'${{{source} as string | ""}}', "operator": "gt", "value": each}
    )


@st.composite
def recoveries(draw: st.DrawFn, targets: list[str]) -> Keys:
    """What a job has of ``retry`` and ``on_error``, which may lead to ``targets``."""
    keys: Keys = {}
    if draw(st.integers(0, 3)) == 0:
        keys["retry"] = draw(st.sampled_from([2, 3, {"max_attempt_count": 2, "delay": "0s"}]))
    output = {"output": "instead: ${error.code}"}
    if draw(st.booleans()):
        ways: list[Any] = ["ignore", output]
        ways += [{"to": each} for each in targets] + [{"to": each, **output} for each in targets]
        keys["on_error"] = draw(st.sampled_from(ways))
    return keys


def routes(targets: list[str]) -> st.SearchStrategy[Any]:
    ways: list[Any] = [{"output": "a value"}, *targets]
    ways += [{"to": each, "output": "led there"} for each in targets]
    return st.sampled_from(ways)


@st.composite
def works(draw: st.DrawFn, given: str, targets: list[str], depth: int) -> Keys:
    """What a job does with ``given``, an expression."""
    types = ["component", "component", "repeat", "workflow", "if", "switch", "random-router"]
    types += ["delay", "filter", "for-each", "loop", "accumulate"] if depth < 2 else []
    match draw(st.sampled_from(types)):
        case "component":
            return {"component": "model", "input": given}
        case "repeat":
            return {"component": "model", "input": given, "repeat_count": draw(st.integers(1, 3))}
        case "workflow":
            return {"component": draw(st.sampled_from(["called", "caller"])), "input": given}
        case "if":
            test = {**draw(comparisons("job.input")), "if_true": draw(routes(targets))}
            found = {"type": "if", "input": given, "conditions": [test]}
            if draw(st.booleans()):
                test["if_false"] = draw(routes(targets))
            return found
        case "switch":
            cases = [{"value": each, "then": draw(routes(targets))} for each in "ab"]
            found = {"type": "switch", "input": given, "cases": cases}
            if draw(st.booleans()):
                found["otherwise"] = draw(routes(targets))
            return found
        case "random-router":
            each = routes(targets).map(lambda way: {"to": way} if isinstance(way, str) else way)
            return {
                "type": "random-router",
                "routings": draw(st.lists(each, min_size=1, max_size=3)),
            }
        case "delay":
            return {"type": "delay", "duration": 0, "input": given}
    type_ = draw(st.sampled_from(["filter", "for-each", "loop", "accumulate"]))
    elements = given if draw(st.integers(0, 4)) == 0 else draw(ELEMENTS)
    found = {"type": type_, "input": given if type_ == "loop" else elements}
    if type_ == "filter":
        return {**found, "where": draw(comparisons("item"))}
    inner = {"for-each": "${item}", "loop": "${output | ${input}}"}.get(type_, "${accumulator}")
    found["do"] = {**draw(works(inner, [], depth + 1)), **draw(recoveries([]))}
    if type_ == "loop":
        found |= {
            "until": draw(comparisons("output")),
            "max_iteration_count": draw(st.integers(1, 4)),
        }
    if type_ == "for-each" and draw(st.booleans()):
        found["batch_size"] = draw(st.integers(1, 3))
    return found


@st.composite
def jobs(draw: st.DrawFn) -> list[Keys]:
    names = [f"j{number}" for number in range(draw(st.integers(1, 7)))]
    found = []
    for number, name in enumerate(names):
        before, later = names[:number], names[number + 1 :]
        keys: Keys = {"id": name}
        given = "${input.topic}"
        several = st.lists(st.sampled_from(before), unique=True, min_size=1, max_size=3)
        if before and draw(st.booleans()):
            keys["depends_on"] = draw(st.lists(st.sampled_from(before) | several, max_size=2))
        if before and draw(st.integers(0, 3)):
            lacks = any(isinstance(each, list) for each in keys.get("depends_on", ()))
            given = " | nothing" if lacks or draw(st.booleans()) else ""
            for each in draw(several):
                given = f" | ${{jobs.{each}.output{given}}}"
            given = given.removeprefix(" | ")
        keys |= draw(works(given, later, 0)) | draw(recoveries(later))
        found.append(keys)
    return draw(st.permutations(found))


def document_of(jobs: list[Keys]) -> Document:
    """A workflow of these jobs, which may call two others: one of a model, and one of that one."""
    called = [{"id": "a", "component": "model"}, {"id": "b", "input": "${jobs.a.output}"}]
    one = {"component": "called", "input": "${input}", "on_error": "ignore"}
    names = ", ".join(f'"{each["id"]}": ${{jobs.{each["id"]}.output | none}}' for each in jobs)
    model = {"type": "model", "task": "text-generation", "model": "scripted", "default": True}
    written = {
        "components": [
            {"id": "model", **model, "text": "${input}"},
            {"id": "called", "type": "workflow", "workflow": "two"},
            {"id": "caller", "type": "workflow", "workflow": "outer"},
        ],
        "workflows": [
            {"id": "main", "default": True, "jobs": jobs, "output": {"all": f"{{{names}}}"}},
            {"id": "two", "jobs": called, "output": "${jobs.b.output} of ${jobs.a.output}"},
            {"id": "outer", "job": one},
        ],
    }
    with mock.patch.object(Reachability, "never", lambda *_: False):  # such are tried, too
        return load_document(json.dumps(written))


# Runs


def ran(
    document: Document, fails: int, timing: int, stop_at: int | None = None
) -> tuple[Run, Calls]:
    """A run that has ended; it is stopped at an event."""
    workflow = document.workflow(None)
    calls = Calls(fails, random.Random(timing))
    run = Run(workflow.id, {"topic": "a"}, lambda: None, document=document.hash)

    async def drive() -> None:
        caller = cast(ComponentCaller, calls)
        task = asyncio.create_task(run_workflow(document, workflow, run.input, run, caller, SEED))

        def stop() -> None:
            if run.last_event == stop_at:
                calls.stopped = True
                task.cancel()

        run.watch(stop)
        async with asyncio.timeout(WAIT_SECONDS):
            await task
        assert calls.going == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(drive())
    return run, calls


def check(run: Run, workflow: Workflow) -> None:
    """What the states of jobs tell is what their graph says."""
    told, routers = run.jobs, routers_of(workflow.jobs)
    assert list(told)[: len(workflow.jobs)] == [job.id for job in workflow.jobs]
    states = {name: each["state"] for name, each in told.items()}
    assert not {"running", "waiting", "interrupted"} & set(states.values())
    if run.state == "completed":
        assert not {"pending", "cancelled"} & {states[job.id] for job in workflow.jobs}
    for job in workflow.jobs:
        if job.on_error is None and states[job.id] == "failed":
            assert run.state != "completed"
        began = states[job.id] not in ("pending", "skipped")
        assert began == ("seconds" in told[job.id])
        led = [each for each in routers.get(job.id, ()) if told[each].get("route") == job.id]
        has_way = bool(led) or job.id not in routers
        groups = [{states[name] for name in group} for group in job.depends_on]
        is_due = has_way and all("completed" in group for group in groups)
        if began:
            assert is_due
        if states[job.id] == "skipped":
            assert not is_due
            ended = {"completed", "failed", "skipped"}
            way = {states[each] for each in routers.get(job.id, ())}
            assert any(group <= ended - {"completed"} for group in groups) or way <= ended
        if began:
            assert all(states[name] in ("completed", "failed", "skipped") for name in job.awaits)
    reachability = Reachability(workflow.jobs)
    for job in workflow.jobs:
        if reachability.never(job):
            assert states[job.id] in ("skipped", "pending")
        if run.state == "completed" and not reachability.may_lack((job.id,)):
            assert states[job.id] == "completed"


@settings(
    max_examples=120, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(jobs(), st.sampled_from([0, 15, 50]), st.integers(0, 10**6), st.data())
def test_it_ends_and_time_decides_nothing(
    jobs: list[Keys], fails: int, timing: int, data: st.DataObject
) -> None:
    document = document_of(jobs)
    workflow = document.workflow(None)
    run, calls = ran(document, fails, timing)
    check(run, workflow)
    assert run.error is None or run.error.code != "internal"
    assert len(set(calls.seeds)) == len(calls.seeds), "a call was made twice"
    other, _ = ran(document, fails, timing + 1)
    check(other, workflow)
    assert (other.state, other.output) == (run.state, run.output)
    if run.state == "completed":
        for name, job in run.jobs.items():
            seen = other.jobs[name]
            assert (seen["state"], seen.get("route")) == (job["state"], job.get("route"))
    working = [
        event.number
        for event in run.events_so_far()
        if event.type == "job" and event.data["state"] != "cancelled"
    ]
    stop_at = data.draw(st.integers(0, working[-1]))  # beyond that it fails, or completes
    stopped, _ = ran(document, fails, timing, stop_at)
    assert stopped.state == "cancelled"
    check(stopped, workflow)
