"""Jobs that lead to others: if, switch, random-router; what is skipped, and what goes on."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import InputError, LocalHost

from .flows import flow_of, given, problem, ran, states

SIDES = """
workflow:
  jobs:
    - {id: long, input: "long ${input.n}"}
    - {id: short, input: "short ${input.n}"}
    - id: choose
      type: if
      input: ${input.n}
      operator: gt
      value: 5
      if_true: long
      if_false: short
"""


def test_an_if_leads_to_one_of_two_jobs_and_the_other_is_skipped(
    host: LocalHost, models: ScriptedModels
) -> None:
    run = ran(host, SIDES, n=7)
    assert run.output == "<long 7>"
    assert states(run) == {"long": "completed", "short": "skipped", "choose": "completed"}
    assert run.jobs["choose"]["route"] == "long"
    assert given(host, SIDES, n=5) == "<short 5>"
    assert models.prompts == ["long 7", "short 5"]


def test_an_if_without_the_other_side_leads_nowhere(host: LocalHost) -> None:
    flow = SIDES.replace("      if_false: short\n", "")
    run = ran(host, flow, n=5)
    assert states(run) == {"long": "skipped", "short": "completed", "choose": "completed"}
    assert "route" not in run.jobs["choose"]
    assert run.output == "<short 5>"


CONDITIONS = """
workflow:
  jobs:
    - id: grade
      type: if
      input: ${input.points}
      conditions:
        - {operator: gte, value: 90, if_true: {output: A}}
        - input: ${input.bonus | 0}
          operator: gt
          value: 0
          if_true: {output: "B with ${input.bonus | 0}"}
        - {operator: gte, value: 50, if_true: {output: C}, if_false: {output: F}}
      otherwise: {output: never}
"""


@pytest.mark.parametrize(
    ("inputs", "grade"),
    [
        ({"points": 95, "bonus": 3}, "A"),
        ({"points": 60, "bonus": 3}, "B with 3"),
        ({"points": 60}, "C"),
        ({"points": 10}, "F"),
    ],
)
def test_the_first_condition_that_leads_somewhere_counts(
    inputs: dict[str, Any], grade: str, host: LocalHost
) -> None:
    assert given(host, CONDITIONS, **inputs) == grade


def test_otherwise_is_where_no_condition_leads(host: LocalHost) -> None:
    flow = CONDITIONS.replace(", if_false: {output: F}", "")
    assert given(host, flow, points=10) == "never"


def test_without_any_way_a_router_gives_its_input(host: LocalHost) -> None:
    flow = """
    workflow:
      job: {type: if, input: "${input.x}", value: 1, if_true: {output: one}}
    """
    assert given(host, flow, x=1) == "one"
    assert given(host, flow, x=[2, 3]) == [2, 3]


def test_a_way_may_be_a_job_and_a_value(host: LocalHost) -> None:
    flow = """
    workflow:
      jobs:
        - id: choose
          type: if
          input: ${input.x}
          value: 1
          if_true: {to: next, output: "it is ${input.x}"}
          if_false: {output: null}
        - {id: next, input: "${jobs.choose.output}"}
      output: {chosen: "${jobs.choose.output}", next: "${jobs.next.output | none}"}
    """
    assert given(host, flow, x=1) == {"chosen": "it is 1", "next": "<it is 1>"}
    assert given(host, flow, x=2) == {"chosen": None, "next": "none"}


def test_a_job_s_own_output_sees_what_the_way_gave(host: LocalHost) -> None:
    flow = """
    workflow:
      job:
        type: switch
        input: ${input.x}
        cases: [{value: 1, then: {output: one}}]
        output: "!${output}"
    """
    assert given(host, flow, x=1) == "!one"
    assert given(host, flow, x=2) == "!2"


SWITCH = """
workflow:
  jobs:
    - id: by_language
      type: switch
      input: ${input.language}
      cases:
        - {value: ko, then: korean}
        - {value: "${input.home}", then: {output: at home}}
        - {value: "${input.second | ko}", then: never}
      otherwise: other
    - {id: korean, input: k}
    - {id: other, input: o}
    - {id: never, input: n}
"""


@pytest.mark.parametrize(
    ("language", "output", "ran_jobs"),
    [("ko", "<k>", {"korean"}), ("fr", "at home", set()), ("de", "<o>", {"other"})],
)
def test_a_switch_leads_where_the_first_equal_case_does(
    language: str, output: Any, ran_jobs: set[str], host: LocalHost
) -> None:
    run = ran(host, SWITCH, language=language, home="fr")
    done = {name for name, state in states(run).items() if state == "completed"}
    assert done == {"by_language", *ran_jobs}
    assert run.result() == output


def test_a_wrong_comparison_is_an_error_with_its_place(host: LocalHost) -> None:
    run = ran(host, SIDES, n="many")
    assert isinstance(run.error, InputError)
    assert "cannot compare" in run.error.message
    assert run.error.where is not None and run.error.where.line is not None
    assert states(run) == {"long": "pending", "short": "pending", "choose": "failed"}


# What is skipped


CHAIN = """
workflow:
  jobs:
    - {id: choose, type: if, input: "${input.x}", value: 1, if_true: a, if_false: b}
    - {id: a, input: a}
    - {id: a2, input: "a2 ${jobs.a.output}"}
    - {id: a3, depends_on: a2, input: a3}
    - {id: b, input: b}
    - {id: merged, input: "merged ${jobs.a2.output | ${jobs.b.output}}"}
    - {id: either, depends_on: [[a3, b]], input: either}
    - {id: aware, input: "aware ${jobs.a3.output | nothing}"}
"""


def test_what_waits_for_what_is_skipped_is_skipped_unless_it_says_otherwise(
    host: LocalHost,
) -> None:
    run = ran(host, CHAIN, x=2)
    skipped = {name for name, state in states(run).items() if state == "skipped"}
    assert skipped == {"a", "a2", "a3"}
    assert run.output == {
        "merged": "<merged <b>>", "either": "<either>", "aware": "<aware nothing>"
    }  # fmt: skip
    run = ran(host, CHAIN, x=1)
    assert {name for name, state in states(run).items() if state == "skipped"} == {"b"}
    assert run.output == {
        "merged": "<merged <a2 <a>>>", "either": "<either>", "aware": "<aware <a3>>"
    }  # fmt: skip


@pytest.mark.parametrize("order", ["[[a, b]]", "[[b, a]]"])
@pytest.mark.parametrize("held", ["a", "b"])
def test_one_of_alternatives_is_enough_whichever_comes_first(
    order: str, held: str, host: LocalHost, models: ScriptedModels
) -> None:
    """The job that waits for either begins, though the other one stands still."""
    models.hold = (held,)
    flow = f"""
    workflow:
      jobs:
        - {{id: a, input: a}}
        - {{id: b, input: b}}
        - {{id: after, depends_on: {order}, input: after}}
    """
    run = flow_of(host, flow).start({})
    assert run.wait_for(lambda: run.jobs.get("after", {}).get("state") == "completed", 90)
    assert states(run)[held] == "running"
    models.gate.set()
    assert run.result(90) == "<after>"


@pytest.mark.parametrize("held", ["a", "b"])
def test_of_two_that_give_something_the_first_in_order_is_taken(
    held: str, host: LocalHost, models: ScriptedModels
) -> None:
    models.hold = (held,)
    flow = """
    workflow:
      jobs:
        - {id: a, input: a}
        - {id: b, input: b}
        - {id: merged, input: "${jobs.b.output | ${jobs.a.output}}"}
    """
    run = flow_of(host, flow).start({})
    assert models.started.acquire(timeout=90)
    other = "b" if held == "a" else "a"
    assert run.wait_for(lambda: states(run).get(other) == "completed", 90)
    models.gate.set()
    assert run.result(90) == "<<b>>"


def test_a_job_that_several_lead_to_runs_once_where_one_does(
    host: LocalHost, models: ScriptedModels
) -> None:
    flow = """
    workflow:
      jobs:
        - {id: one, type: if, input: "${input.x}", value: 1, if_true: there}
        - {id: two, type: if, input: "${input.y}", value: 1, if_true: there}
        - {id: there, input: there}
      output: ${jobs.there.output | not there}
    """
    outputs = [given(host, flow, x=x, y=y) for x in (0, 1) for y in (0, 1)]
    assert outputs == ["not there", "<there>", "<there>", "<there>"]
    assert models.prompts == ["there"] * 3


def test_the_output_is_that_of_the_last_jobs_that_have_completed(host: LocalHost) -> None:
    flow = """
    workflow:
      jobs:
        - {id: choose, type: if, input: "${input.x}", value: 1, if_true: a, if_false: b}
        - {id: a, input: a}
        - {id: b, input: b}
    """
    assert given(host, flow, x=1) == "<a>"
    assert given(host, flow, x=2) == "<b>"
    both = flow.rstrip(" ") + "        - {id: c, input: c}\n"
    assert given(host, both, x=2) == {"b": "<b>", "c": "<c>"}


def test_where_all_last_jobs_are_skipped_the_output_is_that_of_the_last_before(
    host: LocalHost,
) -> None:
    flow = """
    workflow:
      jobs:
        - {id: first, input: "${input.x}"}
        - {id: choose, type: if, input: "${jobs.first.output}", value: <1>, if_true: next}
        - {id: next, input: next}
        - {id: last, input: "last ${jobs.next.output}"}
    """
    assert given(host, flow, x="1") == "<last <next>>"
    assert given(host, flow, x="2") == "<2>"


# By chance


ROUTER = """
workflow:
  job:
    type: random-router
    SESSION
    routings: [{output: a}, {output: b, weight: 3}, {output: c, weight: 0}]
"""


def drawn(host: LocalHost, flow: str, count: int, **inputs: Any) -> Counter[str]:
    story = flow_of(host, flow.replace("SESSION", ""))
    runs = [story.start(inputs, seed=seed) for seed in range(count)]
    return Counter(run.result(90) for run in runs)


def test_a_random_router_goes_by_weights(host: LocalHost) -> None:
    counts = drawn(host, ROUTER, 400)
    assert counts.keys() == {"a", "b"}
    assert 60 < counts["a"] < 140  # 100 are due; four deviations to both sides


def test_a_uniform_one_pays_no_heed_to_weights(host: LocalHost) -> None:
    counts = drawn(host, ROUTER.replace("routings", "mode: uniform\n    routings"), 300)
    assert all(60 < counts[name] < 140 for name in "abc")
    assert "'weight' has no effect" in str(
        flow_of(host, ROUTER.replace("SESSION", "mode: uniform")).document.warnings[0]
    )


def test_weights_may_be_inputs_and_one_must_be_there(host: LocalHost) -> None:
    flow = ROUTER.replace("SESSION", "").replace("weight: 3", 'weight: "${input.w}"')
    flow = flow.replace("{output: a}", "{output: a, weight: 0}")
    assert given(host, flow, w=1) == "b"
    run = ran(host, flow, w=0)
    assert isinstance(run.error, InputError) and "no way has a weight" in run.error.message
    assert isinstance(ran(host, flow, w=-1).error, InputError)


def test_weights_may_be_as_large_as_numbers_are(host: LocalHost) -> None:
    large = ROUTER.replace("{output: a}", "{output: a, weight: 1e308}").replace(": 3", ": 1e308")
    assert drawn(host, large, 20).keys() == {"a", "b"}


def test_the_run_s_seed_says_the_way_and_a_session_goes_always_the_same(host: LocalHost) -> None:
    story = flow_of(host, ROUTER.replace("SESSION", ""))
    run = story.start({}, seed=11)
    assert {story.start({}, seed=11).result(90) for _ in range(3)} == {run.result(90)}
    assert host.rerun(run.id).result(90) == run.output
    flow = ROUTER.replace("SESSION", "session: ${input.who}\n    salt: ${input.salt | s}")
    story = flow_of(host, flow)
    ways = {
        who: {story.start({"who": who}, seed=seed).result(90) for seed in range(5)}
        for who in map(str, range(20))
    }
    assert all(len(each) == 1 for each in ways.values())
    assert len(set.union(*ways.values())) == 2
    other = {who: story.start({"who": who, "salt": "t"}).result(90) for who in ways}
    assert any({way} != ways[who] for who, way in other.items())


def test_a_random_router_leads_to_jobs(host: LocalHost) -> None:
    flow = """
    workflow:
      jobs:
        - id: choose
          type: random-router
          input: ${input.x}
          routings: [{to: a}, {to: b, output: led}]
        - {id: a, input: "a ${jobs.choose.output}"}
        - {id: b, input: "b ${jobs.choose.output}"}
    """
    assert drawn(host, flow, 30, x=1).keys() == {"<a 1>", "<b led>"}


# What is wrong with a document


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("{id: a, type: if, input: x, value: 1, if_true: c}\n    - {id: b}", "there is no job 'c'"),
        ("{id: a, type: if, input: x, value: 1, if_true: a}", "a job cannot lead to itself"),
        ("{id: a, type: if, input: x, if_true: b}\n    - {id: b}", "'value' is missing"),
        ("{id: a, type: if, input: x, value: 1}", "the job leads nowhere"),
        ("{id: a, type: if, input: x, value: 1, if_true: {}}", "'output' is missing"),
        ("{id: a, type: switch, input: x, cases: []}", "'cases'"),
        ("{id: a, type: random-router, routings: [{weight: 1}]}", "'output' is missing"),
        (
            "{id: a, type: if, input: x, value: 1, if_true: b}\n    - {id: b}\n"
            "    - {id: c, type: if, input: '${jobs.b.output}', value: 1, if_true: a}",
            "A job runs once. What repeats is a job of type loop",
        ),
        (
            "{id: a, type: if, input: x, value: 1, if_true: b, if_false: c}\n"
            "    - {id: b}\n    - {id: c}\n    - {id: d, depends_on: [b, c]}",
            "job 'd' can never run",
        ),
        (
            "{id: b}\n    - {id: c}\n"
            "    - {id: d, depends_on: [[b, c]], input: '${jobs.b.output}'}",
            "job 'b' may not have run: one of 'b', 'c' is enough",
        ),
    ],
)
def test_wrong_routes_are_errors_of_the_document(lines: str, message: str) -> None:
    assert message in problem(f"workflow:\n  jobs:\n    - {lines}\n")


def test_an_output_that_may_be_missing_needs_a_default(host: LocalHost) -> None:
    flow = """
    workflow:
      jobs:
        - {id: a, type: if, input: "${input.x}", value: 1, if_true: b, if_false: c}
        - {id: b}
        - {id: c}
      output: ${jobs.b.output}
    """
    assert "job 'b' may not have run" in problem(flow)
    flow_of(host, flow.replace("b.output}", "b.output | none}"))
    flow_of(host, flow.replace("b.output}", "b.output | ${jobs.c.output}}"))
