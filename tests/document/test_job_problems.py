"""What is wrong with jobs: one problem for one mistake, with its place and what to do."""

from __future__ import annotations

import pytest

from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.errors import DocumentError

from .conftest import HEAD

BEFORE = f"{HEAD}  text: ${{input.p}}\nworkflow:\n  jobs:\n"
WAYS = "{id: a, type: if, value: 1, if_true: b, if_false: c}\n{id: b}\n{id: c}\n"


def problems_of(jobs: str) -> list[tuple[str, str | None]]:
    """What is wrong with jobs, one a line, or keys of the workflow's: each with its hint.

    A message has in front on which line of the jobs and in which of its columns it is.
    """
    lines = jobs.strip().splitlines()
    written = [f"    - {each}\n" if each.startswith("{") else f"  {each}\n" for each in lines]
    margins = [6 if each.startswith("{") else 2 for each in lines]
    try:
        load_document(BEFORE + "".join(written), environ={})
    except DocumentError as error:
        found = []
        for each in error.problems:
            assert each.where.line is not None and each.where.column is not None
            line = each.where.line - BEFORE.count("\n")
            column = each.where.column - margins[line - 1]
            found.append((f"{line}:{column} {each.message}", each.hint))
        return found
    return []


def job(keys: str) -> str:
    """A job with these keys, and another one."""
    return f"{{id: a, {keys}}}\n{{id: b}}"


def loop(keys: str) -> str:
    return job(f"type: loop, max_iteration_count: 3, {keys}")


UNTIL = "until: {input: '${output}', value: 1}"


@pytest.mark.parametrize(
    ("jobs", "message", "hint"),
    [
        # keys of other types, and other names of keys
        (job("cases: []"), "1:9 unknown key 'cases'", "'cases' goes with type: switch."),
        (
            job("do: {}"),
            "1:9 unknown key 'do'",
            "'do' goes with type: for-each, loop or accumulate.",
        ),
        (
            job("type: switch, input: 1, default: b, cases: [{value: 1, then: b}]"),
            "1:33 unknown key 'default'",
            "Here it is called 'otherwise'.",
        ),
        (
            job("type: switch, input: 1, cases: [{when: 1, then: b}]"),
            "1:42 unknown key 'when'",
            "Here it is called 'value'.",
        ),
        (
            job("type: switch, input: 1, cases: {x: b, y: b}"),
            "1:33 'cases' is a list, and this is a mapping",
            "Each of its elements begins with '- ', with 'value' and 'then'.",
        ),
        (
            job("type: for-each, items: '${input.l}', do: {}"),
            "1:25 unknown key 'items'",
            "Here it is called 'input'.",
        ),
        (
            job("type: for-each, input: [1], max_concurrent_count: 3, do: {}"),
            "1:37 unknown key 'max_concurrent_count'",
            "Here it is called 'batch_size'.",
        ),
        (
            job(f"type: loop, max_iterations: 3, do: {{}}, {UNTIL}"),
            "1:21 unknown key 'max_iterations'",
            "Here it is called 'max_iteration_count'.",
        ),
        (
            loop(f"component: x, do: {{}}, {UNTIL}"),
            "1:45 unknown key 'component'",
            "It belongs to the inner job: write it below 'do:'.",
        ),
        (job("needs: b"), "1:9 unknown key 'needs'", "Here it is called 'depends_on'."),
        (job("retries: 3"), "1:9 unknown key 'retries'", "Here it is called 'retry'."),
        (
            job("retry: {attempts: 3}"),
            "1:17 unknown key 'attempts'",
            "Here it is called 'max_attempt_count'.",
        ),
        (
            job("continue-on-error: true"),
            "1:9 unknown key 'continue-on-error'",
            "Write 'on_error: ignore'.",
        ),
        (
            job("if: '${input.x}'"),
            "1:9 unknown key 'if'",
            "A job of type if leads to this one, by 'if_true: ID'.",
        ),
        (
            job("matrix: [1]"),
            "1:9 unknown key 'matrix'",
            "A job of type for-each goes through a list: its 'do' holds this one.",
        ),
        (
            job("type: if, condition: '${input.x} == 1', if_true: b"),
            "1:19 unknown key 'condition'",
            "A comparison has three keys: 'input', 'operator' and 'value'.",
        ),
        (
            job("type: filter, input: [1], condition: {input: 1, value: 1}"),
            "1:35 unknown key 'condition'",
            "Here it is called 'where'.",
        ),
        (
            job("type: filter, input: [1], where: {and: [{input: 1, value: 1}]}"),
            "1:43 unknown key 'and'",
            "Here it is called 'all'.",
        ),
        (
            job("type: random-router, routings: [{target: b, weight: 1}]"),
            "1:42 unknown key 'target'",
            "Here it is called 'to'.",
        ),
        (
            job("interrupt: {message: hi}"),
            "1:21 unknown key 'message'",
            "Write it below 'before:' or 'after:'.",
        ),
        (
            job("component: {type: function, function: f, text: hi}"),
            "1:50 unknown key 'text'",
            "'text' goes with type: model.",
        ),
        # types
        (job("type: foreach, input: [1], do: {}"), "1:15 'type' cannot be \"foreach\"",
         "Did you mean 'for-each'?"),
        (job("type: while, do: {}, nosuch: 1"), "1:15 'type' cannot be \"while\"",
         "Write 'type: loop'."),
        (job("type: parallel"), "1:15 'type' cannot be \"parallel\"",
         "Jobs run at the same time unless one waits for another: write each as a job."),
        (job("component: {type: modle, text: hi}"), "1:27 'type' cannot be \"modle\"",
         "Did you mean 'model'? Other types of model-compose do not run here."),
        # what is missing
        (job("type: if, if_true: b"), "1:1 'value' is missing",
         "Write what it is compared with, such as 'value: true'."),
        (job("type: if, conditions: [{value: 1, if_true: b}, {if_true: b}]"),
         "1:56 'value' is missing", "Write what it is compared with, such as 'value: true'."),
        (job("type: if, value: 1"), "1:1 the job leads nowhere",
         "Write 'if_true' or 'if_false': a job's id, or 'output: …' below it."),
        (job("type: if, value: 1, if_true: {}"), "1:38 'output' is missing",
         "Write 'output: …', a value, or 'to: …', the id of a job."),
        (job("type: switch, input: 1"), "1:1 'cases' is missing",
         "Write 'cases:', and below it '- value: …' with 'then: …' for each."),
        (job("type: for-each, input: [1]"), "1:1 'do' is missing",
         "It is the inner job: write 'do:', and 'component:' below it."),
        (job("type: for-each, do: {}"), "1:1 'input' is missing",
         "Write where its value comes from, such as 'input: ${input.list}'."),
        (job(f"type: loop, do: {{}}, {UNTIL}"), "1:1 'max_iteration_count' is missing",
         "A loop has a bound: write 'max_iteration_count: 10', say."),
        (loop("do: {}"), "1:1 'until' is missing: what ends the loop",
         "Write 'until:' with 'input: ${output}', 'operator' and 'value' below it."),
        (loop("do: {}, until: {operator: eq, value: 3}"), "1:60 'input' is missing",
         "Write where its value comes from, such as 'input: ${input.list}'."),
        (loop("do: {}, until: {input: '${output}'}"), "1:60 'value' is missing",
         "Write what it is compared with, such as 'value: true'."),
        (job("type: delay"), "1:1 'duration' is missing",
         "Write 'duration: 30s', or 'time: 2026-12-24T18:00'."),
        (job("type: delay, mode: specific-time, duration: 5"), "1:1 'time' is missing",
         "Write 'duration: 30s', or 'time: 2026-12-24T18:00'."),
        (job("type: random-router"), "1:1 'routings' is missing",
         "Write 'routings:', and below it '- to: …' for each way."),
        (job("retry: {delay: 3}"), "1:16 'max_attempt_count' is missing",
         "Write how often it is tried, such as 'max_attempt_count: 3'."),
        (job("component: {type: function}"), "1:20 'function' is missing",
         "Write the name of a function of the notebook's, or module:name."),
        # values
        (job("type: if, value: 1, operator: '==', if_true: b"), "1:39 'operator' cannot be \"==\"",
         "Write 'operator: eq'."),
        (job("type: if, value: 1, operator: not_in, if_true: b"),
         "1:39 'operator' cannot be \"not_in\"", "Did you mean 'not-in'?"),
        (job("type: for-each, input: [1], do: b"), "1:41 'do' must be a mapping, and it is \"b\"",
         "It holds one job: write 'component: …' below it. Several are a workflow of their own,"
         " which a component of type workflow runs."),
        (loop("do: {}, until: '${output} == 1'"),
         "1:60 'until' must be a mapping, and it is \"${output} == 1\"",
         "Write 'input: ${…}', 'operator' and 'value' below it."),
        (loop("do: {}, until: {all: []}"), "1:66 'all' must not be empty", None),
        (job(f"type: loop, max_iteration_count: 0, do: {{}}, {UNTIL}"),
         "1:42 'max_iteration_count' must be at least 1, and it is 0", None),
        (job("retry: 0"), "1:16 'retry' must be at least 1, and it is 0", None),
        (job("retry: yes"), "1:16 'retry': \"yes\" is not an integer",
         "Write how often it is tried, such as 'retry: 3'."),
        (job("on_error: retry"), "1:19 'on_error' cannot be 'retry'",
         "How often it is tried says another key: write 'retry: 3' beside it."),
        (job("on_error: b"), "1:19 'on_error' cannot be 'b'",
         "Write 'ignore'; or, below it, 'to: b' or 'output: …'."),
        (job("on_error: true"), "1:19 'on_error': true is not text; put it in quotes",
         "Write 'ignore'; or, below it, 'to: …' or 'output: …'."),
        (job("on_error: {ignore: true}"), "1:20 unknown key 'ignore'",
         "Write 'on_error: ignore'."),
        (job("timeout: 0"), "1:18 'timeout' must be above 0, and it is 0", None),
        (job("timeout: '${input.t}'"),
         "1:18 'timeout': \"${input.t}\" is not a duration such as 30s or 5m",
         "It is known when the document is read: no expression can stand here."),
        (job("type: delay, duration: 5 eons"),
         "1:32 'duration': \"5 eons\" is not a duration such as 30s or 5m", None),
        (job("type: delay, time: noon"), '1:28 "noon" is no time',
         "Write it as 2026-12-24T18:00, or with its distance from UTC: …+09:00."),
        (job("type: delay, time: '2026-12-24', timezone: Mars"),
         '1:52 there is no time zone "Mars" here', "Write one such as UTC or Asia/Seoul."),
        (job("depends_on: {b: completed}"), "1:21 'depends_on': a mapping is not text",
         "Write an id, or a list of ids; of a list within it one is enough."),
        (job("interrupt: true"), "1:20 'interrupt' must be a mapping, and it is true",
         "Write 'before: true' or 'after: true' below it."),
        (job("type: if, value: 1, if_true: [b]"), "1:38 'if_true': a list is not text",
         "Write a job's id, or, below it, 'to: …' or 'output: …'."),
        (job("type: random-router, routings: [b]"),
         "1:41 'routings[0]' must be a mapping, and it is \"b\"",
         "Each begins with '- to: …' or '- output: …'."),
        (job("type: random-router, routings: [{to: b, weight: 0}]"),
         "1:1 no way has a weight, so none can be chosen", "Give one of them a 'weight' above 0."),
        (job("type: switch, input: 1, cases: [{value: 1, then: b}, {value: 1, then: {output: 1}}]"),
         "1:70 an earlier case has the value 1 (line 8)",
         "The first counts, so this one never does. Take one of them out."),
        # keys that exclude each other
        (loop("do: {}, until: {input: 1, value: 1}, while: {input: 1, value: 1}"),
         "1:82 'while' cannot stand beside 'until' (line 8)",
         "They mean the opposite: keep one."),
        (job("type: if, conditions: [{value: 1, if_true: b}], operator: eq"),
         "1:57 'operator' cannot stand beside 'conditions' (line 8)",
         "Move it into 'conditions'."),
        (job("type: delay, duration: 5, time: '2026-01-01'"),
         "1:35 'time' cannot stand beside 'duration' (line 8)", "Keep one of them."),
        # inner jobs
        (job("type: for-each, input: [1], do: {depends_on: b}"),
         "1:42 an inner job waits for no others",
         "It runs when the job around it does; write 'depends_on' there."),
        (job("type: for-each, input: [1], do: {type: if, value: 1, if_true: b}"),
         "1:71 an inner job leads to no other", "It gives a value: write 'output: …', below it."),
        (job("type: for-each, input: [1], do: {on_error: {to: b}}"),
         "1:57 an inner job leads to no other", "It gives a value: write 'output: …', below it."),
        (loop(f"do: {{input: {{p: '${{output}}'}}}}, {UNTIL}"),
         "1:62 the first round has no ${output}: no round was before it",
         "Give a default: ${output | ${input}}."),
        (loop(f"do: {{input: {{p: '${{item}}'}}}}, {UNTIL}"),
         "1:62 'item' is not available here, in ${item}",
         "It exists in the 'do' of a job of type for-each or accumulate, in a filter's 'where',"
         " and inside '*' and '|'."),
        (loop(f"do: {{input: {{q: 1}}}}, {UNTIL}"),
         "1:50 the job gives no 'p', which ${input.p} needs", "Add 'p:' to the input."),
        (loop("input: {a: 1}, do: {input: {p: '${input.b}'}}, until: {input: 1, value: 1}"),
         "1:77 the loop's input has no 'b', for ${input.b}",
         "In 'do', ${input} is the loop's own input: add 'b:' to that."),
        # sources
        (job("output: '${error.message}'"),
         "1:18 'error' is not available here, in ${error.message}",
         "It exists in what 'on_error' gives."),
        (job("on_error: {output: '${error.reason}'}"),
         "1:29 ${error.reason} is not known here",
         "There is ${error.message} and ${error.code}."),
        (job("interrupt: {before: {message: '${job.output}'}}"),
         "1:40 ${job.output} is not known before the job", "There is ${job.input}."),
        # other jobs
        (job("type: if, value: 1, if_true: c"), "1:38 there is no job 'c'", "There is b."),
        (job("type: if, value: 1, if_true: Yes it is"), "1:38 there is no job 'Yes it is'",
         "Write a value as 'output: …', below it."),
        (job("type: if, value: 1, if_true: a"), "1:38 a job cannot lead to itself",
         "A job runs once. What repeats is a job of type loop."),
        (job("on_error: {to: c}"), "1:24 there is no job 'c'", "There is b."),
        (job("on_error: {to: a}"), "1:24 a job cannot lead to itself",
         "A job runs once. What repeats is a job of type loop."),
        (job("depends_on: [b, [b, c]]"), "1:29 there is no job 'c'", None),
        (
            "{id: a}\n{id: b, type: if, input: '${jobs.a.output}', value: 1, if_true: a}",
            "1:1 these jobs wait for each other: a → b → a",
            "A job runs once. What repeats is a job of type loop, with 'do' and 'until'.",
        ),
        (
            f"{WAYS}{{id: d, depends_on: [b, c]}}\n{{id: e, depends_on: d}}",
            "4:1 job 'd' can never run",
            "It waits for 'b' and 'c', which never run together. To take what there is, write"
            " ${jobs.b.output | ${jobs.c.output}}, or depends_on: [[b, c]].",
        ),
        (
            "{id: a, on_error: {to: b}}\n{id: b, input: {p: '${jobs.a.output}'}}",
            "2:1 job 'b' can never run",
            "'a' leads to it where it has failed, so that it has no output then: write 'output'"
            " beside 'to', or do without it here.",
        ),
        (
            f"{WAYS}{{id: d, depends_on: [[b, c]], input: {{p: '${{jobs.b.output}}'}}}}",
            "4:43 job 'b' may not have run: one of 'b', 'c' is enough",
            "Give a default: ${jobs.b.output | …}.",
        ),
        (
            f"{WAYS}output: ${{jobs.b.output}}",
            "4:9 job 'b' may not have run",
            "Give a default: ${jobs.b.output | …}.",
        ),
        (
            "{id: a, type: switch, input: 1, cases: [{value: 1, then: b}, {value: 2, then: c}]}\n"
            "{id: b}\n{id: c}\noutput: ${jobs.b.output | ${jobs.c.output}}",
            "4:27 it may be that neither 'b' nor 'c' has run",
            "Give a default: ${jobs.c.output | …}.",
        ),
        # components in place
        (job("component: {type: function, function: f}, action: x"),
         "1:51 the component has no actions", "Leave this line out: only models have actions."),
        (job("component: {type: workflow}"), "1:20 the workflow calls itself",
         "Such calls have no end. What repeats is a job of type loop."),
    ],
)  # fmt: skip
def test_what_is_said_of_a_mistake(jobs: str, message: str, hint: str | None) -> None:
    assert problems_of(jobs) == [(message, hint)]


@pytest.mark.parametrize(
    "jobs",
    [
        f"{WAYS}{{id: d, input: {{p: '${{jobs.b.output | ${{jobs.c.output}}}}'}}}}",
        f"{WAYS}{{id: d, depends_on: [[b, c]]}}",
        f"{WAYS}output: ${{jobs.b.output | ${{jobs.c.output}}}}",
        f"{WAYS}output: ${{jobs.b.output | none}}",
        "{id: a, on_error: {to: b}}\n{id: b}\noutput: ${jobs.a.output | ${jobs.b.output}}",
        "{id: a, on_error: {to: b, output: 1}}\n{id: b, input: {p: '${jobs.a.output}'}}",
        "{id: a, on_error: ignore}\noutput: ${jobs.a.output}",
        job("type: filter, input: [1], where: {all: {input: '${item}', value: 1}}"),
        job("type: if, conditions: {value: 1, if_true: b}"),
        job("type: random-router, routings: {to: b}"),
        job("type: delay, time: '2026-12-24T18:00+09:00', timezone: UTC"),
        job("type: for-each, input: [1], do: {id: inner, retry: 2, on_error: ignore, timeout: 1}"),
    ],
)
def test_what_is_right(jobs: str) -> None:
    assert problems_of(jobs) == []


def test_jobs_within_jobs_are_bounded() -> None:
    def nested(depth: int) -> str:
        inner = "{}"
        for _ in range(depth):
            inner = f"{{type: for-each, input: [1], do: {inner}}}"
        return f"{{id: a, {inner[1:]}"

    assert problems_of(nested(8)) == []
    for depth in (9, 40):
        ((message, hint),) = problems_of(nested(depth))
        assert message.endswith("jobs stand within jobs more than 8 deep")
        assert hint is not None and "type workflow" in hint


def test_a_mistake_that_aliases_repeat_is_one() -> None:
    shared = f"x-do: &do {{inputs: 1}}\n{BEFORE}"
    jobs = "".join(f"    - {{id: j{n}, type: for-each, input: [1], do: *do}}\n" for n in range(5))
    with pytest.raises(DocumentError) as caught:
        load_document(shared + jobs, environ={})
    (problem,) = caught.value.problems
    assert (problem.message, problem.where.line) == ("unknown key 'inputs'", 1)


def test_keys_without_effect_are_told_of_the_types_that_have_them() -> None:
    document = load_document(
        f"{BEFORE}    - {{type: for-each, input: [1], batch_size: 2, streaming: true,"
        " max_run_count: 3, do: {}}\n",
        environ={},
    )
    assert [each.message for each in document.warnings] == [
        "'streaming' has no effect: every run streams",
        "'max_run_count' has no effect: a job runs once; one of type loop repeats",
    ]


@pytest.mark.parametrize("keys", ["type: delay, duration: 3", "do: {}, input: [1]"])
def test_keys_of_jobs_of_other_types_belong_to_a_job(keys: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load_document(f"component: {{type: function, function: f}}\nworkflow: {{{keys}}}\n")
    (wrong, *_) = caught.value.problems
    assert wrong.message == f"unknown key '{keys.split(':')[0]}'"
    assert wrong.hint == "It belongs to a job: write it below 'job:'."
