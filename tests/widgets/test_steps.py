"""What a panel shows of jobs: changes that add up to all of it, and what a notebook keeps."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import LocalHost, load
from modelcompose_jupyter.callable import Workflow
from modelcompose_jupyter.diagram import diagram
from modelcompose_jupyter.widgets.panel import Panel
from modelcompose_jupyter.widgets.run_view import headings
from modelcompose_jupyter.widgets.static_output import bundle
from modelcompose_jupyter.widgets.steps import StepChanges, Steps, row_of, steps_of
from modelcompose_jupyter.workflow import Run

from .conftest import updated, wait_until

COMPONENT = {
    "type": "model",
    "task": "text-generation",
    "model": "scripted",
    "text": "${input.prompt as text}",
}
JOBS = [
    {"id": "each", "type": "for-each", "input": ["a", "b"], "do": {"input": {"prompt": "${item}"}}},
    {
        "id": "late",
        "type": "delay",
        "duration": 60,
        "timeout": 0.001,
        "retry": 2,
        "on_error": {"output": "late"},
    },
    {
        "id": "check",
        "type": "if",
        "input": "${jobs.late.output}",
        "value": "late",
        "if_true": "yes",
        "if_false": "no",
    },
    {"id": "yes", "input": {"prompt": "${jobs.each.output[0]}"}},
    {"id": "no", "input": {"prompt": "n"}},
]


def flow(host: LocalHost, jobs: list[dict[str, Any]] = JOBS) -> Workflow:
    return load({"component": COMPONENT, "workflow": {"jobs": jobs}}, host=host)


def added(known: Steps, change: Steps) -> None:
    """What ``addSteps`` of ``steps.js`` does."""
    for key in ("nodes", "edges", "places"):
        known[key] |= change.get(key, {})
    for job, told in change.get("tables", {}).items():
        table = known["tables"].setdefault(job, {"rows": {}})
        if told.get("anew"):
            table["rows"] = {}
        rows = {**table["rows"], **told["rows"]}
        table |= {k: v for k, v in told.items() if k != "anew"} | {"rows": rows}


def timeless(steps: Steps) -> Steps:
    steps = copy.deepcopy(steps)
    for node in steps["nodes"].values():
        node.pop("elapsed", None)
    for table in steps["tables"].values():
        table.pop("anew", None)
    return steps


def test_changes_add_up_to_all_of_it_whenever_one_looks(host: LocalHost) -> None:
    workflow = flow(host)
    run = workflow.run()
    changes = StepChanges(run, workflow.diagram)
    known: Steps = {"nodes": {}, "edges": {}, "tables": {}, "places": {}}
    streams: list[tuple[Any, ...]] = []
    for number, event in enumerate(run.events_so_far()):
        changes.take(event)
        if event.type == "text" and tuple(event.data["stream"]) not in streams:
            streams.append(tuple(event.data["stream"]))
            changes.announced(len(streams) - 1, streams[-1])
        if number % 3 == 0:
            added(known, changes.advance() or {})
    added(known, changes.advance() or {})
    assert changes.advance() is None
    assert timeless(known) == timeless(steps_of(run, workflow.diagram))
    assert {key: node["state"] for key, node in known["nodes"].items()} == {
        "1": "completed",
        "2": "recovered",
        "3": "completed",
        "4": "completed",
        "5": "skipped",
    }
    assert known["places"] == {"0": ("each", 0), "1": ("each", 1)}
    rows = known["tables"]["each"]["rows"]
    assert [(rows[key]["label"], rows[key]["state"]) for key in ("0", "1")] == [
        ("a", "completed"),
        ("b", "completed"),
    ]
    assert known["nodes"]["2"]["details"][1:] == [
        "1st attempt: the job took longer than 0.001 s",
        "2nd attempt: the job took longer than 0.001 s",
    ]


def test_a_job_that_is_tried_again_begins_its_table_anew() -> None:
    run = Run("w", {}, lambda: None)
    counts = {"phase": "item", "job": "each", "total": 3, "unit": "items"}
    run.add("job", {"job": "each", "type": "for-each", "state": "running"})
    run.add("progress", {**counts, "done": 0})
    run.add("item", {"job": "each", "index": 2, "state": "failed", "label": "c"})
    assert run.items == {"each": {2: {"state": "failed", "label": "c"}}}
    run.add("progress", {**counts, "done": 0})
    assert run.items == {}
    assert steps_of(run, None)["tables"]["each"]["rows"] == {}


def test_texts_find_their_rows() -> None:
    types = {"each": "for-each", "a/each": "for-each", "other": "loop"}
    assert row_of(("each", 3, 0, 0), types) == ("each", 3, "", 0)
    assert row_of(("each[3]", 1, 0, 0), types) == ("each", 3, "", 1)
    assert row_of(("each[3]/write", 0, 0, 0), types) == ("each", 3, "write", 0)
    assert row_of(("each[3]/all[2]", 1, 0, 0), types) == ("each", 3, "all[2]", 1)
    assert row_of(("a/each", 1, 0, 0), types) == ("a/each", 1, "", 0)
    assert row_of(("other", 1, 0, 0), types) is None
    assert row_of(("other[1]", 1, 0, 0), types) is None


def test_headings_are_those_of_rows_and_count_rounds() -> None:
    types = {"each": "for-each", "again": "loop", "draft": "component"}
    streams = [
        ("draft", 0, 0, 0),
        ("each", 0, 0, 0),
        ("each[1]", 0, 0, 0),
        ("each[1]", 1, 0, 0),
        ("again", 0, 0, 0),
        ("again", 1, 0, 0),
    ]
    assert headings(streams, types) == [
        "draft",
        "",
        "repeat 1",
        "repeat 2",
        "again · round 1",
        "again · round 2",
    ]


def test_a_panel_draws_the_diagram_once_and_has_the_states(host: LocalHost) -> None:
    panel = Panel(flow(host))
    picture = panel._view.picture
    assert picture == panel.workflow.diagram.of_run({})
    run = panel.submit()
    assert run.wait(30)
    wait_until(panel._view, lambda: panel._view.ended)
    assert panel._view.picture is picture
    steps = panel._view.get_state(["steps"])["steps"]
    assert steps["nodes"]["5"]["state"] == "skipped"
    assert steps["tables"]["each"]["rows"]["0"]["label"] == "a"
    panel.close()


def test_one_call_has_no_steps(host: LocalHost) -> None:
    panel = Panel(
        flow(host, [{"id": "a", "input": {"prompt": "${input.prompt}"}}]), {"prompt": "x"}
    )
    assert (panel.diagram, panel._view.picture) == (None, "")
    panel.close()


def test_steps_come_before_the_texts_in_them(
    host: LocalHost, models: ScriptedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a text belongs is known when it comes."""
    models.reply = lambda prompt: [prompt, "!"]
    models.hold = ("a", "b")
    panel = Panel(flow(host))
    view, known, texts = panel._view, set[str](), list[str]()
    send_state = view.send_state

    def whole(names: Any = None) -> None:
        known.update(map(str, view._all_steps().get("places", {})))
        send_state(names)

    def change(message: dict[str, Any]) -> None:
        known.update(message.get("places", {}))
        for number, *_ in message.get("changes", ()):
            texts.append(str(number))
            assert {"0", "1"} & set(texts) <= known

    monkeypatch.setattr(view, "send_state", whole)
    monkeypatch.setattr(view, "send", change)
    run = panel.submit()
    assert models.started.acquire(timeout=30)
    updated()
    models.gate.set()
    assert run.wait(30)
    wait_until(view, lambda: view.ended)
    updated()
    assert view.error == ""
    assert {"0", "1"} <= known
    assert "2" not in known
    panel.close()


def test_guests_see_no_folders_in_steps(host: LocalHost) -> None:
    workflow = flow(host)
    view = Panel(Workflow(workflow.document, workflow.id, host, for_guests=True))._view
    run = Run("w", {}, lambda: None)
    error = {"code": "x", "message": "no file /srv/of jane/model"}
    run.add("job", {"job": "late", "type": "delay", "state": "failed", "error": error})
    view.run = run
    (node,) = view._all_steps()["nodes"].values()
    assert node["details"] == ["failed: no file …/model"]
    view.run = None


def test_a_thousand_elements_are_quick_to_tell_of() -> None:
    """Only what has changed is told."""
    run = Run("w", {}, lambda: None)
    run.add("job", {"job": "each", "type": "for-each", "state": "running"})
    for index in range(1000):
        run.add("item", {"job": "each", "index": index, "state": "running", "label": "x"})
    changes = StepChanges(run, None)
    for event in run.events_so_far():
        changes.take(event)
    first = changes.advance()
    assert first is not None
    assert len(first["tables"]["each"]["rows"]) == 1000
    run.add("item", {"job": "each", "index": 7, "state": "completed", "label": "x"})
    changes.take(run.events_so_far()[-1])
    later = changes.advance()
    assert later is not None
    assert list(later) == ["tables"]
    assert list(later["tables"]["each"]["rows"]) == ["7"]


def test_a_notebook_keeps_the_diagram_and_the_tables(host: LocalHost) -> None:
    workflow = flow(host)
    run = workflow.run()
    picture = diagram(workflow.document, workflow.document.workflow())
    data, _ = bundle(run, workflow.signature, picture)
    html = data["text/html"]
    assert "✓</tspan>" in html
    assert "recovered" in html
    assert '<th scope="row"' in html
    assert html.count("&lt;a&gt;") == 2  # in its row, and in what the last job makes of it
    assert "late   delay      recovered" in data["text/plain"]
    assert "<svg" not in bundle(run, workflow.signature)[0]["text/html"]


def test_what_goes_on_is_on_its_way_with_its_seconds() -> None:
    run = Run("w", {}, lambda: None)
    document = load({"component": COMPONENT, "workflow": {"jobs": JOBS}})
    run.add("job", {"job": "late", "type": "delay", "state": "running"})
    (node,) = steps_of(run, document.diagram)["nodes"].values()
    assert node["elapsed"] >= 0
