"""Jobs that repeat and wait: loop, delay."""

from __future__ import annotations

import textwrap
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import InputError, LocalHost, RunCancelled, load

from .flows import flow_of, given, problem, ran

LOOP = """
workflow:
  job:
    type: loop
    input: ${input.draft}
    max_iteration_count: 5
    until: {input: "${output}", operator: starts-with, value: "<<<"}
    do: {}
"""


def test_a_loop_goes_on_with_what_the_round_before_gave_until_its_test_holds(
    host: LocalHost, models: ScriptedModels
) -> None:
    run = ran(host, LOOP, draft="a")
    assert run.output == "<<<a>>>"
    assert models.prompts == ["a", "<a>", "<<a>>"]
    assert (run.jobs["__job__"]["done"], run.jobs["__job__"]["total"]) == (3, 5)


def test_while_is_the_opposite_of_until(host: LocalHost) -> None:
    flow = LOOP.replace("until", "while").replace('value: "<<<"', "value: <a")
    assert given(host, flow, draft="a") == "<<a>>"


def test_the_first_round_is_always_there(host: LocalHost) -> None:
    flow = LOOP.replace('"${output}", operator: starts-with, value: "<<<"', "1, value: 1")
    assert given(host, flow, draft="a") == "<a>"


def test_the_bound_ends_it_whatever_the_test_says(host: LocalHost, models: ScriptedModels) -> None:
    flow = LOOP.replace("max_iteration_count: 5", "max_iteration_count: 2")
    assert given(host, flow, draft="a") == "<<a>>"
    flow = LOOP.replace("max_iteration_count: 5", 'max_iteration_count: "${input.most}"')
    assert given(host, flow, draft="a", most=1) == "<a>"
    error = ran(host, flow, draft="a", most=10_001).error
    assert isinstance(error, InputError) and "'max_iteration_count'" in error.message


def test_what_a_round_sees(host: LocalHost) -> None:
    """Its loop's input as ``input``, the last round's output, the round; other jobs."""
    flow = """
    workflow:
      jobs:
        - {id: rules, input: "${input.rules}"}
        - id: write
          type: loop
          input: {topic: "${input.topic}"}
          max_iteration_count: 3
          until: {input: "${iteration}", value: 1}
          do:
            input: '${iteration} ${input.topic} ${jobs.rules.output} ${output | none}'
            output: '[${output}]'
    """
    inner = "[<0 fox <be kind> none>]"
    assert given(host, flow, rules="be kind", topic="fox") == f"[<1 fox <be kind> {inner}>]"


def test_without_an_input_a_loop_has_the_workflow_s(host: LocalHost) -> None:
    flow = LOOP.replace("    input: ${input.draft}\n", "").replace(
        "{}", '{input: "${output | ${input.draft}}"}'
    )
    assert given(host, flow, draft="a") == "<<<a>>>"


def test_loops_within_loops(host: LocalHost, models: ScriptedModels) -> None:
    flow = """
    workflow:
      job:
        type: loop
        input: a
        max_iteration_count: 2
        until: {input: "${output}", value: none}
        do:
          type: loop
          max_iteration_count: 2
          until: {input: "${output}", value: none}
          do: {input: "${output | ${input}}."}
    """
    run = ran(host, flow)
    assert models.prompts == ["a.", "<a.>.", "<<a.>.>.", "<<<a.>.>.>."]
    assert set(run.streams) == {(f"__job__[{n}]", m, 0, 0) for n in range(2) for m in range(2)}
    seeds = [each["parameters"]["seed"] for each in run.record["generations"]]
    assert len(set(seeds)) == 4


def test_several_jobs_make_a_round(host: LocalHost) -> None:
    """By a component of type workflow, which the round calls."""
    text = """
    components:
      - {id: model, type: model, task: text-generation, model: m, text: "${input}", default: true}
      - {id: round, type: workflow, workflow: better}
    workflows:
      - id: main
        default: true
        job:
          type: loop
          input: ${input.draft}
          max_iteration_count: 2
          until: {input: "${output.critique}", operator: match, value: good}
          do: {component: round, input: {draft: "${output.text | ${input}}"}}
      - id: better
        jobs:
          - {id: critique, input: "how is ${input.draft}"}
          - {id: text, input: "write ${input.draft} by ${jobs.critique.output}"}
        output: {text: "${jobs.text.output}", critique: "${jobs.critique.output}"}
    """
    run = load(textwrap.dedent(text), host=host).run(draft="a")
    first = "<write a by <how is a>>"
    assert run.output == {
        "text": f"<write {first} by <how is {first}>>", "critique": f"<how is {first}>"
    }  # fmt: skip
    assert ("__job__[1]/text", 0, 0, 0) in run.streams


def test_a_loop_that_is_stopped_begins_no_other_round(
    host: LocalHost, models: ScriptedModels
) -> None:
    models.hold = ("<a>",)
    run = flow_of(host, LOOP).start({"draft": "a"})
    assert models.started.acquire(timeout=90)
    run.cancel()
    with pytest.raises(RunCancelled):
        run.result(90)
    assert models.prompts == ["a", "<a>"]


def test_a_loop_of_very_many_rounds_that_wait_for_nothing_can_be_stopped(host: LocalHost) -> None:
    flow = """
    workflow:
      job:
        type: loop
        input: 1
        max_iteration_count: 10000
        until: {input: "${output}", value: 2}
        do:
          type: loop
          input: 1
          max_iteration_count: 10000
          until: {input: "${output}", value: 2}
          do: {type: if, input: 1, value: 1, if_true: {output: 1}}
    """
    run = flow_of(host, flow).start({})
    assert run.wait_for(lambda: run.jobs.get("__job__", {}).get("state") == "running", 90)
    run.cancel()
    assert run.wait(90) and run.state == "cancelled"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    max_iteration_count: 5\n", "", "'max_iteration_count' is missing"),
        ("max_iteration_count: 5", "max_iteration_count: 0", "'max_iteration_count'"),
        ("max_iteration_count: 5", "max_iteration_count: 10001", "'max_iteration_count'"),
        (
            '    until: {input: "${output}", operator: starts-with, value: "<<<"}\n',
            "",
            "'until' is missing: what ends the loop",
        ),
        (
            "    do:",
            "    while: {input: 1, value: 1}\n    do:",
            "'while' cannot stand beside 'until'",
        ),
        ("do: {}", 'do: {input: "${output}"}', "the first round has no ${output}"),
        ("do: {}", 'do: {input: "better: ${output.text}"}', "the first round has no"),
    ],
)
def test_wrong_loops_are_errors_of_the_document(old: str, new: str, message: str) -> None:
    assert old in LOOP
    assert message in problem(LOOP.replace(old, new))


# Delay


def test_a_delay_waits_and_gives_its_input(host: LocalHost) -> None:
    flow = """
    workflow:
      jobs:
        - {id: first, input: "${input.x}"}
        - {id: wait, type: delay, duration: 1ms, input: "${jobs.first.output}"}
        - {id: then, input: "${jobs.wait.output}"}
    """
    assert given(host, flow, x="a") == "<<a>>"


@pytest.mark.parametrize(
    "job",
    [
        "{type: delay, duration: 0}",
        "{type: delay, mode: time-interval, duration: 0.001}",
        "{type: delay, duration: 1ms}",
        '{type: delay, duration: "${input.d}"}',
        "{type: delay, mode: specific-time, time: 2020-01-01T00:00}",
        "{type: delay, time: 2020-01-01}",
        "{type: delay, time: 2020-01-01T00:00, timezone: Asia/Seoul}",
        '{type: delay, time: "2020-01-01T00:00+09:00"}',
        '{type: delay, time: "${input.t}", timezone: "${input.zone}"}',
    ],
)
def test_what_lies_in_the_past_is_over(job: str, host: LocalHost) -> None:
    inputs = {"d": "1ms", "t": "2020-01-01 00:00:00", "zone": "UTC"}
    used = {name: value for name, value in inputs.items() if f"input.{name}}}" in job}
    assert ran(host, f"workflow: {{job: {job}}}", **used).state == "completed"


def test_a_zone_says_when_a_time_is(host: LocalHost) -> None:
    """The same time of day is over in one zone and to come in another."""
    hours = 4
    now = datetime.now(timezone(timedelta(hours=-hours))).strftime("%Y-%m-%dT%H:%M:%S")
    flow = 'workflow: {job: {type: delay, time: "${input.t}", timezone: "${input.zone}"}}'
    # What the clocks show four hours west of Greenwich, they have shown there four hours ago.
    assert ran(host, flow, t=now, zone="UTC").state == "completed"
    run = flow_of(host, flow).start({"t": now, "zone": "Etc/GMT+8"})
    assert run.wait_for(lambda: run.jobs.get("__job__", {}).get("state") == "running", 90)
    run.cancel()
    assert run.wait(90) and run.state == "cancelled"


@pytest.mark.parametrize(
    ("keys", "inputs", "message"),
    [
        ("time: '${input.t}'", {"t": "soon"}, '"soon" is no time'),
        ("time: '${input.t}'", {"t": "2026-13-01"}, "is no time"),
        ("time: '${input.t}'", {"t": "0001-01-01T00:00"}, "is no time"),
        ("time: '2020-01-01', timezone: '${input.z}'", {"z": "Nowhere"}, "there is no time zone"),
        ("time: '2020-01-01', timezone: '${input.z}'", {"z": "America"}, "there is no time zone"),
        ("time: '2020-01-01', timezone: '${input.z}'", {"z": "../UTC"}, "there is no time zone"),
        ("duration: '${input.d}'", {"d": "-1s"}, "'duration'"),
        ("duration: '${input.d}'", {"d": "a while"}, "'duration'"),
        ("duration: '${input.d}'", {"d": "nan"}, "'duration'"),
    ],
)
def test_wrong_times_are_wrong_inputs_with_their_place(
    keys: str, inputs: dict[str, Any], message: str, host: LocalHost
) -> None:
    error = ran(host, f"workflow: {{job: {{type: delay, {keys}}}}}", **inputs).error
    assert isinstance(error, InputError)
    assert message in error.message
    assert error.where is not None and error.where.line is not None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("input: 1", "'duration' is missing"),
        ("mode: specific-time", "'time' is missing"),
        ("mode: specific-time, duration: 3", "'time' is missing"),
        ("duration: 3, time: 2026-01-01", "'time' cannot stand beside 'duration'"),
        ("duration: -3", "'duration'"),
        ("duration: soon", "'duration'"),
        ("duration: .inf", "'duration'"),
        ("mode: later, duration: 3", "'mode'"),
    ],
)
def test_wrong_delays_are_errors_of_the_document(keys: str, message: str) -> None:
    assert message in problem(f"workflow: {{job: {{type: delay, {keys}}}}}")
