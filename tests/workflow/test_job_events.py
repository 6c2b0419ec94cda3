"""What a run tells of jobs, elements and attempts."""

from __future__ import annotations

import json
from typing import Any

from standins.scripted import ScriptedModels

from modelcompose_jupyter import LocalHost, ModelError, Run, load
from modelcompose_jupyter.server.schemas import public_event
from modelcompose_jupyter.workflow import EVENT_DATA, Event
from modelcompose_jupyter.workflow.job_report import MAX_ITEMS
from modelcompose_jupyter.workflow.job_states import ordinal

COMPONENT = {
    "type": "model",
    "task": "text-generation",
    "model": "scripted",
    "text": "${input.prompt as text}",
}
CALL = {"input": {"prompt": "${item}"}}
LATE = {"type": "delay", "duration": 60, "timeout": 0.001}
"""A job that fails."""


def run(host: LocalHost, *jobs: dict[str, Any], **inputs: Any) -> Run:
    return load({"component": COMPONENT, "workflow": {"jobs": list(jobs)}}, host=host).run(**inputs)


def told(run: Run, type: str, **of: Any) -> list[dict[str, Any]]:
    found = (dict(each.data) for each in run.events() if each.type == type)
    return [each for each in found if of.items() <= each.items()]


def seen(host: LocalHost, *jobs: dict[str, Any]) -> tuple[Run, list[dict[str, Any]]]:
    """A run, and what it tells of elements while it goes: at its end the last alone stays."""
    items: list[dict[str, Any]] = []
    flow = load({"component": COMPONENT, "workflow": {"jobs": list(jobs)}}, host=host)
    current = flow.submit()
    current.watch(lambda: items.extend(_items(current)))
    current.wait()
    unique = {json.dumps(each): each for each in [*items, *_items(current)]}
    return current, list(unique.values())


def _items(run: Run) -> list[dict[str, Any]]:
    return [dict(each.data) for each in run.events_so_far() if each.type == "item"]


def test_elements_are_told_with_what_they_are_and_how_they_end(host: LocalHost) -> None:
    each = {"id": "each", "type": "for-each", "input": ["a  b", {"c": 1}], "do": CALL}
    current, items = seen(host, each)
    assert current.items == {
        "each": {
            0: {"state": "completed", "label": "a b"},
            1: {"state": "completed", "label": '{"c": 1}'},
        }
    }
    assert {"job": "each", "index": 0, "state": "running", "label": "a b"} in items
    for data in items:
        assert data.keys() <= EVENT_DATA["item"].model_fields.keys()
        EVENT_DATA["item"].model_validate(data)


def test_what_no_text_says_is_told_of_an_element(host: LocalHost) -> None:
    do = {
        "type": "filter",
        "input": "${item}",
        "where": {"input": "${item}", "operator": "gt", "value": 1},
    }
    current = run(host, {"id": "each", "type": "for-each", "input": [[1, 2], [3]], "do": do})
    assert current.output == [[2], [3]]
    assert [each["output"] for each in current.items["each"].values()] == ["[2]", "[3]"]


def test_failures_of_elements_are_told_where_something_is_given_instead(host: LocalHost) -> None:
    do = {**LATE, "retry": 2, "on_error": {"output": "late"}}
    current, items = seen(host, {"id": "each", "type": "for-each", "input": ["a"], "do": do})
    assert current.output == ["late"]
    (item,) = current.items["each"].values()
    assert (item["state"], item["output"], item["attempt"]) == ("completed", "late", 2)
    assert item["error"]["code"] == "job_timeout"
    assert [each["state"] for each in items] == ["running", "waiting", "running", "completed"]
    assert "error" not in items[2]  # of the attempt before
    job = current.jobs["each"]
    assert [each["place"] for each in job["failures"]] == [[0], [0]]


def test_an_element_that_fails_says_so_and_those_beside_it_are_cancelled(host: LocalHost) -> None:
    do = {"type": "delay", "duration": "${item}", "timeout": 0.05}
    current = run(
        host, {"id": "each", "type": "for-each", "input": [0.2, 0], "do": do, "timeout": 30}
    )
    assert current.error is not None
    assert current.error.code == "job_timeout"
    assert current.items["each"][0]["state"] == "failed"
    assert current.jobs["each"]["state"] == "failed"


def test_rounds_are_told_and_counted_from_the_first_on(host: LocalHost) -> None:
    job = {
        "id": "again",
        "type": "loop",
        "max_iteration_count": 4,
        "until": {"input": "${iteration}", "operator": "gte", "value": 1},
        "do": {"input": {"prompt": "${iteration}"}},
    }
    current = run(host, job)
    assert current.items["again"] == {0: {"state": "completed"}, 1: {"state": "completed"}}
    assert (current.jobs["again"]["done"], current.jobs["again"]["total"]) == (2, 4)


def test_of_very_many_elements_the_first_are_told(host: LocalHost) -> None:
    values = list(range(MAX_ITEMS + 5))
    job = {"id": "each", "type": "for-each", "input": values, "do": {"type": "filter", "input": []}}
    current = run(host, {**job, "do": {"type": "delay", "duration": 0}})
    assert len(current.items["each"]) == MAX_ITEMS
    assert current.jobs["each"]["done"] == MAX_ITEMS + 5


def test_a_job_that_is_tried_again_says_which_attempt_and_when(
    host: LocalHost, models: ScriptedModels
) -> None:
    refusals = iter([ModelError("busy"), ModelError("busy")])

    def reply(prompt: str) -> list[str]:
        for refusal in refusals:
            raise refusal
        return [f"<{prompt}>"]

    models.reply = reply

    def begun(delay: float) -> Run:
        retry = {"max_attempt_count": 3, "delay": delay}
        draft = {"id": "draft", "input": {"prompt": "a"}, "retry": retry}
        after = {"id": "b", "depends_on": ["draft"], "input": {"prompt": "b"}}
        document = {"component": COMPONENT, "workflow": {"jobs": [draft, after]}}
        return load(document, host=host).submit()

    waiting = begun(3600)
    assert waiting.wait_for(lambda: waiting.jobs.get("draft", {}).get("state") == "waiting", 30)
    job = waiting.jobs["draft"]
    assert (job["attempt"], job["attempts"], job["wait"]) == (2, 3, 3600)
    waiting.cancel()
    assert waiting.wait(30)
    current = begun(0.001)
    assert current.wait(30)
    job = current.jobs["draft"]
    assert job["state"] == "completed"
    assert job["attempt"] == 2
    assert "wait" not in job
    assert [each["message"] for each in job["failures"]] == ["busy"]


def test_jobs_show_themselves_and_are_plain_data(host: LocalHost) -> None:
    jobs = (
        {"id": "check", "type": "if", "input": 1, "value": 1, "if_true": "yes", "if_false": "no"},
        {"id": "yes", **LATE, "on_error": "ignore"},
        {"id": "no", "input": {"prompt": "b"}},
    )
    current = run(host, *jobs)
    shown = repr(current.jobs)
    assert [line.split()[:3] for line in shown.splitlines()] == [
        ["check", "if", "completed"],
        ["yes", "delay", "recovered"],
        ["no", "component", "skipped"],
    ]
    assert "led to yes" in shown
    assert "the job took longer than 0.001 s" in current.jobs._repr_html_()
    assert json.loads(json.dumps(current.jobs)) == current.jobs
    data, _ = current._repr_mimebundle_()
    assert shown.splitlines()[0] in data["text/plain"]
    assert "<table>" in data["text/html"]
    alone = run(host, {"id": "a", "input": {"prompt": "a"}})
    assert alone._repr_mimebundle_()[0].keys() == {"text/plain"}


def test_a_notebook_keeps_the_jobs(host: LocalHost) -> None:
    current = run(
        host,
        {"id": "each", "type": "for-each", "input": ["a", "b"], "do": CALL},
        {"id": "late", **LATE, "on_error": "ignore"},
    )
    kept = json.loads(json.dumps(current.notebook_metadata()["modelcompose"]))
    assert Run.from_notebook(kept).jobs == current.jobs


def test_guests_see_no_folders_in_failures() -> None:
    error = {"code": "x", "message": "no file /srv/of jane/model"}
    job = {"job": "a/b", "type": "component", "state": "failed", "error": error}
    job["failures"] = [{"attempt": 1, **error}]
    data = public_event(Event(0, "job", 1.5, job))
    assert data["job"] == "a/b"
    assert data["error"]["message"] == "no file …/model"
    assert data["failures"][0]["message"] == "no file …/model"
    item = {"job": "a", "index": 0, "state": "failed", "label": "/as/given", "error": error}
    data = public_event(Event(0, "item", 1.5, item))
    assert data["error"]["message"] == "no file …/model"
    assert data["label"] == "/as/given"


def test_ordinals() -> None:
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 21, 113)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "21st", "113th")
    ]
