"""What a run tells of its jobs, and keeps: while it goes on, when it has ended, on the disk, in a
notebook's file and in another process; and runs that go on from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import LocalHost, ModelError, Run, load
from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.server.access import Access
from modelcompose_jupyter.server.catalog import Catalog
from modelcompose_jupyter.server.client import RemoteHost
from modelcompose_jupyter.server.server import Server, ServerSettings
from modelcompose_jupyter.workflow import EVENT_DATA
from modelcompose_jupyter.workflow.notebook_metadata import METADATA_KEY

from .flows import COMPONENT, flow_of, ran

FLOW = """
workflow:
  jobs:
    - id: last
      input: "${jobs.each.output} ${jobs.aside.output | none} ${jobs.late.output | none}"
    - {id: late, input: late, depends_on: each}
    - id: each
      type: for-each
      input: [a, bad, c]
      do: {input: "${item}", retry: 2, on_error: {output: none}}
    - {id: choose, type: if, input: 1, value: 2, if_true: aside, if_false: {output: no}}
    - {id: aside, input: aside}
"""


@pytest.fixture
def models() -> ScriptedModels:
    def reply(prompt: str) -> list[str]:
        if prompt == "bad":
            raise ModelError("no answer with hf_abcdefghijklmnopqrstuvwxyz012345", code="refused")
        return [f"<{prompt}>"]

    return ScriptedModels(reply)


@pytest.fixture(scope="module")
def real() -> Iterator[LocalHost]:
    """A host with the models that there are."""
    host = LocalHost()
    yield host
    host.close()


ORDER = ["last", "late", "each", "choose", "aside"]


def check(jobs: dict[str, dict[str, Any]]) -> None:
    """It is what `FLOW` comes to."""
    assert list(jobs) == ORDER
    assert {name: job["state"] for name, job in jobs.items()} == {
        "last": "completed", "late": "completed", "each": "completed", "choose": "completed",
        "aside": "skipped",
    }  # fmt: skip
    each = jobs["each"]
    assert (each["type"], each["done"], each["total"], each["failed"]) == ("for-each", 3, 3, 2)
    assert [(failure["attempt"], failure["place"]) for failure in each["failures"]] == [
        (1, [1]), (2, [1])
    ]  # fmt: skip
    assert "seconds" in each and "seconds" not in jobs["aside"]


def test_all_jobs_are_told_at_once_and_each_as_it_goes_on(host: LocalHost) -> None:
    told: list[tuple[str, str]] = []
    seen = -1

    def look(run: Run) -> None:
        nonlocal seen
        for event in run.events_so_far(seen):
            seen = event.number
            if event.type == "job":
                told.append((event.data["job"], event.data["state"]))

    host.observe(lambda run: run.watch(lambda: look(run)) and None)
    run = ran(host, FLOW)
    assert told[:5] == [(name, "pending") for name in ORDER]
    assert {name: [state for job, state in told[5:] if job == name] for name in ORDER} == {
        "last": ["running", "completed"],
        "late": ["running", "completed"],
        "each": ["running", "running", "running", "completed"],  # with each failure
        "choose": ["running", "completed"],
        "aside": ["skipped"],
    }
    check(run.jobs)


def test_the_record_has_what_became_of_jobs(host: LocalHost) -> None:
    run = ran(host, FLOW)
    assert run.record["jobs"] == run.jobs


def test_a_run_that_is_restored_has_the_same_jobs_in_the_same_order(host: LocalHost) -> None:
    run = ran(host, FLOW)
    restored = Run.restored(run.saved())
    check(restored.jobs)
    assert restored.jobs == run.jobs
    assert restored.size == run.size


def test_a_run_from_a_notebook_has_its_jobs(host: LocalHost) -> None:
    run = ran(host, FLOW)
    kept = json.loads(json.dumps(run.notebook_metadata()))[METADATA_KEY]
    restored = Run.from_notebook(kept)
    check(restored.jobs)
    assert restored.jobs == run.jobs


def test_who_begins_to_read_in_the_middle_has_the_same_jobs(host: LocalHost) -> None:
    run = ran(host, FLOW)
    for after in range(-1, run.last_event + 1):
        other = Run(run.workflow, run.input, lambda: None)
        live = [event for event in run.events_so_far() if event.number <= after]
        for event in (*live, *run.events_so_far(after)):
            other.add(event.type, event.data)
        assert other.jobs == run.jobs
        assert list(other.jobs) == ORDER


def test_events_of_jobs_have_the_shapes_that_are_written_down(host: LocalHost) -> None:
    for event in ran(host, FLOW).events():
        shape = EVENT_DATA[event.type]
        assert event.data.keys() <= shape.model_fields.keys()
        shape.model_validate(event.data)


def test_a_secret_in_a_failure_is_not_told(host: LocalHost) -> None:
    run = ran(host, FLOW)
    assert "hf_abc" not in str([event.data for event in run.events()])
    assert "no answer with" in run.jobs["each"]["failures"][0]["message"]


def test_a_secret_of_the_input_is_not_told(host: LocalHost, models: ScriptedModels) -> None:
    def reply(prompt: str) -> list[str]:
        raise ModelError("no answer with a-very-own-secret", code="refused")

    models.reply = reply
    text = COMPONENT.replace("model: scripted", 'model: scripted, token: "${input.token}"')
    flow = load(text + "workflow: {job: {input: {token: '${input.token}'}, retry: 2}}", host=host)
    run = flow.start({"token": "a-very-own-secret"})
    assert run.wait(90) and run.state == "failed"
    told = [event.data for event in run.events() if event.type == "job"]
    assert "a-very-own-secret" not in str(told)
    assert run.jobs["__job__"]["error"]["message"].startswith("no answer with")


@pytest.fixture
def remote(host: LocalHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Gives a host of another process, to which this one's is served."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    document = load_document(COMPONENT + FLOW)
    server = Server(
        host, lambda: Catalog.of(document), Access("127.0.0.1"), ServerSettings(port=0)
    ).start()
    other = RemoteHost(server.url, server.access.owner_token)
    yield lambda: other.submit(document)
    other.close()
    server.close()


def test_a_run_of_another_process_has_the_same_jobs(remote: Any, host: LocalHost) -> None:
    run = remote()
    assert run.wait(90)
    check(run.jobs)
    assert run.record["jobs"] == run.jobs == host.run(run.id).jobs


def test_jobs_of_a_run_that_is_stopped(host: LocalHost, models: ScriptedModels) -> None:
    models.hold = ("c",)
    run = flow_of(host, FLOW).start({})
    assert run.wait_for(lambda: run.jobs.get("each", {}).get("done") == 2, 90)
    run.cancel()
    assert run.wait(90)
    assert {name: job["state"] for name, job in run.jobs.items()} == {
        "last": "pending", "late": "pending", "each": "cancelled", "choose": "completed",
        "aside": "skipped",
    }  # fmt: skip


# Texts: the same again, longer, and from another token


STORY = """
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: "${input} Once upon a time"
  temperature: 1.0
  max_output_length: 6
workflow:
  jobs:
    - {id: draft, type: for-each, input: [a, b, c], do: {}}
    - id: choose
      type: random-router
      routings: [{to: left}, {to: right}]
    - {id: left, input: "left ${jobs.draft.output[0]}"}
    - {id: right, input: "right ${jobs.draft.output[1]}"}
    - id: better
      type: loop
      input: ${jobs.left.output | ${jobs.right.output}}
      max_iteration_count: 2
      until: {input: 1, value: 2}
      do: {output: "${output}"}
"""


def done(run: Run) -> Run:
    assert run.wait(90) and run.error is None, run.error
    return run


def test_the_same_seed_gives_the_same_texts_whatever_else_runs(real: LocalHost) -> None:
    story = load(STORY, host=real)
    alone = done(story.start({}, seed=3))
    together = [story.start({}, seed=seed) for seed in (3, 4, 3, 5)]
    for run in (done(together[0]), done(together[2]), done(real.rerun(alone.id))):
        assert run.streams == alone.streams
        assert (run.output, run.jobs["choose"]["route"]) == (
            alone.output, alone.jobs["choose"]["route"]
        )  # fmt: skip
    assert done(together[1]).output != alone.output
    routes = {done(story.start({}, seed=seed)).jobs["choose"]["route"] for seed in range(12)}
    assert routes == {"left", "right"}


def test_it_goes_on_where_its_texts_were_cut(real: LocalHost) -> None:
    """As one run with a higher limit, with what there was at once; also where jobs are skipped."""
    story = load(STORY, host=real)
    run = done(story.start({}, seed=3))
    longer = done(story.extend(run, 4))
    whole = done(load(STORY.replace("6", "10", 1), host=real).start({}, seed=3))
    assert longer.streams == whole.streams
    assert longer.output == whole.output
    for key, text in run.streams.items():
        if key[0] == "draft":
            assert longer.streams[key].startswith(text)


def test_a_branch_goes_on_from_a_token_of_an_element(real: LocalHost) -> None:
    story = load(STORY, host=real)
    run = done(story.start({}, seed=3, logprobs=2))
    place = list(run.streams).index(("draft", 1, 0, 0))
    token = run.tokens[place][2]
    other = next(each.id for each in token.alternatives if each.id != token.id)
    branch = done(story.branch(run, 2, other, text=place))
    assert list(branch.streams)[place] == ("draft", 1, 0, 0)
    texts, before = dict(branch.streams), dict(run.streams)
    assert [each.id for each in branch.tokens[place]][:3] == [
        *(each.id for each in run.tokens[place][:2]), other
    ]  # fmt: skip
    assert texts["draft", 1, 0, 0] != before["draft", 1, 0, 0]
    assert texts["draft", 0, 0, 0] == before["draft", 0, 0, 0]
    assert texts["draft", 2, 0, 0] == before["draft", 2, 0, 0]
