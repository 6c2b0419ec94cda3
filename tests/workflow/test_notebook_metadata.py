"""What a notebook keeps of a run, and the run that is made of it again."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import LocalHost, Run, load
from modelcompose_jupyter.progress import status_line
from modelcompose_jupyter.workflow import METADATA_KEY

MODEL = "component: {type: model, task: text-generation, model: bundled:storyteller"
DOCUMENTS = {
    "one text": MODEL + ", text: Once, max_output_length: 8}",
    "a plain output": MODEL
    + ", text: Once, max_output_length: 8}\nworkflow: {output: '${output}'}",
    "several texts": MODEL
    + ", text: [Once, A fox], num_return_sequences: 2, max_output_length: 4}",
    "another output": MODEL
    + ", text: Once, max_output_length: 4}\nworkflow: {output: {told: '> ${output}', n: 3}}",
    "a failure": MODEL + ", text: Once, max_output_length: '${input.n | -1}'}",
}


def kept(run: Run) -> dict[str, Any]:
    """What a file has of a run."""
    written = json.dumps(run.notebook_metadata())
    found: dict[str, Any] = json.loads(written)[METADATA_KEY]
    return found


def seen(run: Run) -> dict[str, Any]:
    """All that a run that has ended tells, but for its events on the way."""
    names = (
        "id", "workflow", "document", "input", "state", "output", "text", "streams",
        "finish_reasons", "usage", "parameters", "limited_by", "warnings", "timings", "record",
        "began_at", "ended_at", "jobs",
    )  # fmt: skip
    error = run.error and (type(run.error), str(run.error))
    return {**{name: getattr(run, name) for name in names}, "error": error}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_it_is_the_run_again(document: str) -> None:
    run = load(document, host=LocalHost()).run()
    again = Run.from_notebook(kept(run))
    assert seen(again) == seen(run)
    assert status_line(again) == status_line(run)
    assert again.extendable_by == 0
    assert kept(again) == kept(run)


def test_a_run_that_was_stopped_keeps_the_text_so_far(
    host: LocalHost, models: ScriptedModels
) -> None:
    models.hold = ("Once",)
    run = load(DOCUMENTS["one text"], host=host).submit()
    models.started.acquire()
    run.cancel()
    run.wait(30)
    again = Run.from_notebook(kept(run))
    assert seen(again) == seen(run)
    assert (again.text, again.finish_reason) == ("<Once>", "cancelled")


def test_a_text_stands_there_once(host: LocalHost) -> None:
    for name in ("one text", "a plain output"):
        run = load(DOCUMENTS[name], host=host).run()
        assert json.dumps(kept(run)).count(run.text) == 1


def test_of_a_run_without_a_record_nothing_is_kept() -> None:
    run = Run("flow", {}, lambda: None)
    assert run.notebook_metadata() == {}
    run.add("state", {"state": "cancelled"})
    assert run.notebook_metadata() == {}


def edits(record: dict[str, Any]) -> list[dict[str, Any]]:
    """What somebody may have made of a record."""

    def edited(path: str, value: Any) -> dict[str, Any]:
        changed = copy.deepcopy(record)
        *folders, name = path.split(".")
        place: Any = changed
        for folder in folders:
            place = place[int(folder)] if isinstance(place, list) else place[folder]
        place[name] = value
        return changed

    return [
        {},
        {key: value for key, value in record.items() if key != "result"},
        edited("run", 3),
        edited("timings.total", "long"),
        edited("generations", 3),
        edited("generations.0.model", {}),
        edited("generations.0.finish_reasons", None),
        edited("result", "gone"),
        edited("result.state", "running"),
        edited("result.began", 1e300),
        edited("result.ended", float("nan")),
        edited("result.texts", [{"text": "a"}]),
        edited("result.summary", {"usage": 3}),
    ]


def test_what_is_no_run_is_refused(host: LocalHost) -> None:
    record = kept(load(DOCUMENTS["one text"], host=host).run())
    for wrong in edits(record):
        with pytest.raises(ValueError, match="validation error"):
            Run.from_notebook(wrong)
