"""Jobs that call another workflow of the document."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import DocumentError, LocalHost, ModelError, Run, Workflow, load

DOCUMENT = """
components:
  - {id: model, type: model, task: text-generation, model: m, text: "${input}", default: true}
  - {id: two, type: workflow, workflow: two}
  - id: topic
    type: workflow
    workflow: two
    input: {topic: "${input.word}"}
    output: "of ${input.word}: ${output}"
workflows:
  - id: main
    default: true
    MAIN
  - id: two
    jobs:
      - {id: draft, input: "draft ${input.topic}"}
      - {id: better, input: "better ${jobs.draft.output}"}
"""
ONE = "job: {id: call, component: two, input: {topic: '${input.x}'}}"
EACH = """job:
      type: for-each
      input: ${input.list}
      do: {component: two, input: {topic: "${item}"}}
"""


def flow(host: LocalHost, main: str) -> Workflow:
    return load(DOCUMENT.replace("MAIN", textwrap.dedent(main)), host=host)


def ran(host: LocalHost, main: str, /, **inputs: Any) -> Run:
    run = flow(host, main).run(**inputs)
    assert run.wait(90)
    return run


def test_a_job_gives_what_the_workflow_that_it_calls_gives(host: LocalHost) -> None:
    run = ran(host, ONE, x="a")
    assert run.output == "<better <draft a>>"
    assert {name: job["state"] for name, job in run.jobs.items()} == {
        "call": "completed", "call/draft": "completed", "call/better": "completed"
    }  # fmt: skip
    assert set(run.streams) == {("call/draft", 0, 0, 0), ("call/better", 0, 0, 0)}


def test_a_component_says_what_it_passes_on_and_gives(host: LocalHost) -> None:
    run = ran(host, "job: {component: topic, input: {word: '${input.x}'}}", x="a")
    assert run.output == "of a: <better <draft a>>"


def test_without_an_input_it_gets_the_whole_one(host: LocalHost) -> None:
    assert ran(host, "job: {component: two}", topic="a").output == "<better <draft a>>"


def test_each_call_has_seeds_of_its_own_and_the_same_again(
    host: LocalHost, models: ScriptedModels
) -> None:
    story = flow(host, EACH)
    run = story.start({"list": ["a"] * 20}, seed=3)
    assert run.wait(90)
    seeds = {
        tuple(each["stream"]): each["parameters"]["seed"] for each in run.record["generations"]
    }
    assert len(seeds) == len(set(seeds.values())) == 40
    assert ("__job__[3]/draft", 0, 0) in seeds
    assert list(run.jobs) == ["__job__"]  # of calls that are many, no jobs are told
    again = host.rerun(run.id)
    assert again.wait(90)
    assert seeds == {
        tuple(each["stream"]): each["parameters"]["seed"] for each in again.record["generations"]
    }


def test_a_failure_within_is_one_of_the_job_that_calls(
    host: LocalHost, models: ScriptedModels
) -> None:
    def reply(prompt: str) -> list[str]:
        if prompt.startswith("better"):
            raise ModelError("no answer", code="refused")
        return [prompt]

    models.reply = reply
    run = ran(
        host, ONE.replace("}}", "}, retry: 2, on_error: {output: '${error.message}'}}"), x="a"
    )
    assert run.output == "no answer"
    assert models.prompts == ["draft a", "better draft a"] * 2
    assert (run.jobs["call"]["state"], run.jobs["call"]["failed"]) == ("completed", 2)
    assert run.jobs["call/better"]["state"] == "failed"
    seeds = [each["seed"] for each in models.parameters]
    assert len(set(seeds)) == 4


def test_it_is_stopped_within(host: LocalHost, models: ScriptedModels) -> None:
    models.hold = ("draft a",)
    run = flow(host, ONE).start({"x": "a"})
    assert models.started.acquire(timeout=90)
    run.cancel()
    assert run.wait(90) and run.state == "cancelled"
    assert {name: job["state"] for name, job in run.jobs.items()} == {
        "call": "cancelled", "call/draft": "cancelled", "call/better": "pending"
    }  # fmt: skip


def test_a_component_lets_so_many_calls_through(host: LocalHost, models: ScriptedModels) -> None:
    text = DOCUMENT.replace("MAIN", textwrap.dedent(EACH))
    text = text.replace("{id: two, ", "{id: two, max_concurrent_count: 1, ")
    run = load(text, host=host).start({"list": ["a", "b", "c"]})
    assert run.result(90) == [f"<better <draft {each}>>" for each in "abc"]
    assert models.prompts == [
        f"{step} {word}"
        for each in "abc"
        for step, word in (("draft", each), ("better", f"<draft {each}>"))
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("workflow: two}", "workflow: too}", "there is no workflow 'too'"),
        ('"draft ${input.topic}"', '"x", component: two', "the workflow 'two' calls itself"),
        (
            '"draft ${input.topic}"',
            '"x", component: {type: workflow, workflow: main}',
            "these workflows call each other",
        ),
    ],
)
def test_wrong_calls_are_errors_of_the_document(old: str, new: str, message: str) -> None:
    text = DOCUMENT.replace("MAIN", ONE)
    assert old in text
    with pytest.raises(DocumentError) as caught:
        load(text.replace(old, new, 1))
    assert message in str(caught.value)
