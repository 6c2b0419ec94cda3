"""Jobs that go through lists: for-each, filter, accumulate."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from standins.scripted import ScriptedModels
from standins.waiting import WAIT_SECONDS, until

from modelcompose_jupyter import InputError, LocalHost, ModelError, RunCancelled
from modelcompose_jupyter.errors import ComposeError
from modelcompose_jupyter.submission import Requester
from modelcompose_jupyter.workflow.bounded_gather import MAX_CONCURRENT_CALLS

from .flows import flow_of, given, problem, ran


class Going:
    """Replies that come when so many are asked for at once; ``most`` is how many ever were."""

    def __init__(self, count: int) -> None:
        self.most = 0
        self._count, self._going = count, 0
        self._changed = threading.Condition()

    def reply(self, prompt: str) -> list[str]:
        with self._changed:
            self._going += 1
            self.most = max(self.most, self._going)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self.most >= self._count, WAIT_SECONDS)
            self._going -= 1
        return [f"<{prompt}>"]


EACH = """
workflow:
  job:
    type: for-each
    input: ${input.list}
    do: {input: "${index} ${item}"}
"""


def test_a_for_each_gives_what_comes_of_each_element_in_order(host: LocalHost) -> None:
    assert given(host, EACH, list=["a", "b", "c"]) == ["<0 a>", "<1 b>", "<2 c>"]


def test_of_no_elements_comes_nothing(host: LocalHost, models: ScriptedModels) -> None:
    assert given(host, EACH, list=[]) == []
    assert models.prompts == []


@pytest.mark.parametrize("type_", ["for-each", "filter", "accumulate"])
@pytest.mark.parametrize("value", ['"a text"', 3, {"a": 1}, None])
def test_what_is_no_list_is_a_wrong_input(type_: str, value: Any, host: LocalHost) -> None:
    do = "" if type_ == "filter" else "do: {input: x}"
    flow = f"""
    workflow:
      job:
        type: {type_}
        input: ${{input.value as json | null}}
        {do}
    """
    error = ran(host, flow, value=value).error
    assert isinstance(error, InputError)
    assert "goes through a list" in error.message
    assert error.where is not None and error.where.keys == "workflow.job.input"


def test_an_element_is_what_an_inner_job_gets_that_has_no_input(host: LocalHost) -> None:
    flow = EACH.replace('{input: "${index} ${item}"}', '{output: "${item}: ${output}"}')
    assert given(host, flow, list=["a", "b"]) == ["a: <a>", "b: <b>"]


def test_results_are_in_order_whichever_comes_first(
    host: LocalHost, models: ScriptedModels
) -> None:
    models.hold = ("0 a",)
    run = flow_of(host, EACH).start({"list": ["a", "b", "c"]})
    assert run.wait_for(lambda: run.jobs.get("__job__", {}).get("done") == 2, 90)
    models.gate.set()
    assert run.result(90) == ["<0 a>", "<1 b>", "<2 c>"]


@pytest.mark.parametrize(
    ("more", "inputs", "most"),
    [
        ("batch_size: 1", {}, 1),
        ("batch_size: 3", {}, 3),
        ("batch_size: ${input.size}", {"size": 2}, 2),
        ("batch_size: 1000", {}, MAX_CONCURRENT_CALLS),
        ("", {}, MAX_CONCURRENT_CALLS),
    ],
)
def test_so_many_elements_go_at_once(
    more: str, inputs: dict[str, Any], most: int, host: LocalHost, models: ScriptedModels
) -> None:
    """So many stand together before any ends, and there are never more."""
    going = Going(most)
    models.reply = going.reply
    flow = EACH.replace("do:", f"{more}\n    do:")
    assert (
        len(given(host, flow, list=["x"] * (MAX_CONCURRENT_CALLS + 5), **inputs))
        == MAX_CONCURRENT_CALLS + 5
    )
    assert going.most == most


@pytest.mark.parametrize("size", [0, -1, 1.5, "many"])
def test_a_wrong_batch_size_is_an_error(size: Any, host: LocalHost) -> None:
    assert "'batch_size'" in problem(EACH.replace("do:", f"batch_size: {size}\n    do:"))
    flow = EACH.replace("do:", "batch_size: ${input.sizes[0]}\n    do:")
    error = ran(host, flow, list=["x"], sizes=[size]).error
    assert isinstance(error, InputError) and "'batch_size'" in error.message


def test_a_component_lets_fewer_through(host: LocalHost, models: ScriptedModels) -> None:
    going = Going(2)
    models.reply = going.reply
    component = "{type: model, task: text-generation, model: m, text: '${input}'"
    do = f"do: {{component: {component}, max_concurrent_count: 2}}}}"
    flow = EACH.replace('do: {input: "${index} ${item}"}', do)
    assert len(given(host, flow, list=list(map(str, range(20))))) == 20
    assert going.most == 2


FAILING = """
workflow:
  job:
    type: for-each
    input: ${input.list}
    MORE
    do: {input: "${item}", ON_ERROR}
"""


def fails_at(prompt: str) -> Any:
    if prompt.startswith("bad"):
        raise ModelError(f"no answer to {prompt}", code="refused")
    return [f"<{prompt}>"]


def failing(on_error: str, more: str = "") -> str:
    return FAILING.replace("ON_ERROR", on_error).replace("MORE", more)


def test_an_element_that_fails_ends_the_others(host: LocalHost, models: ScriptedModels) -> None:
    models.reply, models.hold = fails_at, ("a",)
    flow = failing("").replace(", }", "}")
    run = ran(host, flow, list=["a", "bad"])
    assert isinstance(run.error, ModelError) and run.error.message == "no answer to bad"
    assert run.finish_reasons[("__job__", 0, 0, 0)] == "cancelled"
    assert run.jobs["__job__"]["state"] == "failed"


def test_failures_of_elements_are_ignored_or_told(host: LocalHost, models: ScriptedModels) -> None:
    models.reply = fails_at
    run = ran(host, failing("on_error: ignore"), list=["a", "bad", "b"])
    assert run.output == ["<a>", None, "<b>"]
    assert run.jobs["__job__"]["failures"] == [
        {"attempt": 1, "place": [1], "code": "refused", "message": "no answer to bad"}
    ]
    assert run.jobs["__job__"]["failed"] == 1
    output = 'on_error: {output: "${index} ${item}: ${error.code}, ${error.message}"}'
    run = ran(host, failing(output), list=["bad 1", "a"])
    assert run.output == ["0 bad 1: refused, no answer to bad 1", "<a>"]


def test_an_element_is_tried_again(host: LocalHost, models: ScriptedModels) -> None:
    tried: list[str] = []

    def reply(prompt: str) -> list[str]:
        tried.append(prompt)
        if tried.count(prompt) < 3:
            raise ModelError("not yet", code="refused")
        return [prompt]

    models.reply = reply
    run = ran(host, failing("retry: 3"), list=["a", "b"])
    assert run.output == ["a", "b"]
    assert sorted(tried) == ["a"] * 3 + ["b"] * 3
    assert run.jobs["__job__"]["failed"] == 4
    places = {(each["attempt"], *each["place"]) for each in run.jobs["__job__"]["failures"]}
    assert places == {(1, 0), (2, 0), (1, 1), (2, 1)}


def test_very_many_failures_are_counted_and_some_are_told(
    host: LocalHost, models: ScriptedModels
) -> None:
    models.reply = fails_at
    run = ran(host, failing("on_error: ignore"), list=["bad"] * 300)
    job = run.jobs["__job__"]
    assert (job["failed"], len(job["failures"]), job["done"]) == (300, 20, 300)


NESTED = """
workflow:
  job:
    type: for-each
    input: ${input.lists}
    do:
      type: for-each
      input: ${item}
      do: {input: "${item}", repeat_count: 2, output: {"+": "${output}"}}
      output: {"+": "${output}"}
"""


def test_lists_within_lists(host: LocalHost) -> None:
    run = ran(host, NESTED, lists=[["a", "b"], [], ["c"]])
    assert run.output == ["<a><a><b><b>", None, "<c><c>"]
    assert (run.jobs["__job__"]["done"], run.jobs["__job__"]["total"]) == (3, 3)
    told = {
        (event.data["phase"], event.data["total"])
        for event in run.events()
        if event.type == "progress" and event.data["phase"] in ("item", "repeat", "round")
    }
    assert told == {("item", 3)}
    assert ("__job__[0][1]", 1, 0, 0) in run.streams
    seeds = [each["parameters"]["seed"] for each in run.record["generations"]]
    assert len(set(seeds)) == len(seeds) == 6


def test_a_loop_within_a_for_each(host: LocalHost) -> None:
    flow = """
    workflow:
      job:
        type: for-each
        input: [a, b]
        do:
          type: loop
          input: ${item}
          max_iteration_count: 2
          until: {input: "${output}", value: <b>}
          do: {}
    """
    assert given(host, flow) == ["<<a>>", "<b>"]


def test_a_for_each_that_is_stopped_begins_no_more(host: LocalHost, models: ScriptedModels) -> None:
    models.hold = ("0 x", "1 x")
    flow = EACH.replace("do:", "batch_size: 2\n    do:")
    run = flow_of(host, flow).start({"list": ["x"] * 50})
    for _ in range(2):
        assert models.started.acquire(timeout=90)
    run.cancel()
    with pytest.raises(RunCancelled):
        run.result(90)
    assert len(models.prompts) == 2
    assert run.jobs["__job__"]["state"] == "cancelled"


def test_a_host_bounds_the_elements_of_others_runs(host: LocalHost) -> None:
    flow = flow_of(host, EACH)
    host.limit(max_generations=10)
    run = host.submit(flow.document, input={"list": ["x"] * 11}, requester=Requester("somebody"))
    assert run.wait(90)
    assert run.error is not None and run.error.code == "too_many_generations"


def test_what_all_elements_give_is_bounded(host: LocalHost) -> None:
    do = '{type: delay, duration: 0, input: "${input.large}"}'
    flow = EACH.replace('{input: "${index} ${item}"}', do)
    large = "x" * 1_000_000
    assert len(given(host, flow, list=list(range(100)), large=large)) == 100
    error = ran(host, flow, list=list(range(300)), large=large).error
    assert error is not None and error.code == "value_too_large"


def test_others_have_their_turn_however_many_elements_wait_for_nothing(host: LocalHost) -> None:
    """A run of another ends while these go on."""
    do = "{type: if, input: 1, value: 1, if_true: {output: 1}}"
    long = EACH.replace('{input: "${index} ${item}"}', do)
    run = flow_of(host, long).start({"list": [1] * 500_000})
    assert run.wait_for(lambda: run.jobs.get("__job__", {}).get("done", 0) > 0, 90)
    assert given(host, EACH, list=["a"]) == ["<0 a>"]
    assert not run.done
    run.cancel()
    assert run.wait(90) and run.state == "cancelled"


# Filter


FILTER = """
workflow:
  job:
    type: filter
    input: ${input.list}
    where: WHERE
"""


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("{input: '${item.n}', value: 2}", [2]),
        ("{input: '${item.n}', operator: eq, value: 2}", [2]),
        ("{input: '${item.n}', operator: neq, value: 2}", [0, 1, 3, 4]),
        ("{input: '${item.n}', operator: gt, value: 2}", [3, 4]),
        ("{input: '${item.n}', operator: gte, value: 2}", [2, 3, 4]),
        ("{input: '${item.n}', operator: lt, value: 2}", [0, 1]),
        ("{input: '${item.n}', operator: lte, value: 2}", [0, 1, 2]),
        ("{input: '${item.n}', operator: in, value: [1, 4]}", [1, 4]),
        ("{input: '${item.n}', operator: not-in, value: [1, 4]}", [0, 2, 3]),
        ("{input: '${item.t}', operator: starts-with, value: a}", [0, 2]),
        ("{input: '${item.t}', operator: ends-with, value: c}", [0, 4]),
        ("{input: '${item.t}', operator: match, value: '^[bd]'}", [1, 4]),
        ("{input: '${index}', operator: gt, value: '${input.list[3].n}'}", [4]),
        ("{all: [{input: '${item.n}', operator: gt, value: 1},"
         " {input: '${item.t}', operator: match, value: a}]}", [2, 3]),
        ("{any: [{input: '${item.n}', value: 0}, {input: '${item.t}', value: ca}]}", [0, 3]),
        ("{not: {input: '${item.n}', operator: lt, value: 4}}", [4]),
        ("{not: {any: [{input: '${item.n}', value: 0}, {input: '${item.n}', value: 1}]}}",
         [2, 3, 4]),
    ],
)  # fmt: skip
def test_a_filter_keeps_elements_for_which_its_test_holds(
    where: str, kept: list[int], host: LocalHost
) -> None:
    texts = ["abc", "bca", "aab", "ca", "dc"]
    elements = [{"n": n, "t": text} for n, text in enumerate(texts)]
    found = given(host, FILTER.replace("WHERE", where), list=elements)
    assert [each["n"] for each in found] == kept


def test_a_filter_without_a_test_keeps_all(host: LocalHost) -> None:
    assert given(host, FILTER.replace("    where: WHERE\n", ""), list=[1, None]) == [1, None]


def test_a_wrong_comparison_names_its_place(host: LocalHost) -> None:
    flow = FILTER.replace("WHERE", "{input: '${item}', operator: gt, value: 2}")
    error = ran(host, flow, list=[3, "a"]).error
    assert isinstance(error, InputError) and "'gt' cannot compare" in error.message
    assert error.where is not None and error.where.line is not None


def test_others_have_their_turn_however_long_a_filter_takes(host: LocalHost) -> None:
    flow = FILTER.replace("WHERE", "{input: '${item}', value: 2}")
    run = flow_of(host, flow).start({"list": [1] * 300_000})
    until(lambda: run.jobs.get("__job__", {}).get("state") == "running")
    assert given(host, EACH, list=["a"]) == ["<0 a>"]
    assert not run.done
    run.cancel()
    assert run.wait(90) and run.state == "cancelled"


# Accumulate


def test_an_accumulate_folds_in_order(host: LocalHost, models: ScriptedModels) -> None:
    flow = """
    workflow:
      job:
        type: accumulate
        input: [a, b, c]
        accumulator: ${input.first}
        do: {input: "${accumulator} ${index} ${item}"}
    """
    assert given(host, flow, first="0") == "<<<0 0 a> 1 b> 2 c>"
    assert models.prompts == ["0 0 a", "<0 0 a> 1 b", "<<0 0 a> 1 b> 2 c"]


def test_without_an_accumulator_the_first_is_null(host: LocalHost) -> None:
    flow = """
    workflow:
      job:
        type: accumulate
        input: ${input.list}
        do: {type: delay, duration: 0, input: ["${accumulator}", "${item}"]}
    """
    assert given(host, flow, list=[1, 2]) == [[None, 1], 2]
    assert given(host, flow, list=[]) is None


def test_a_round_that_fails_may_give_what_there_was(
    host: LocalHost, models: ScriptedModels
) -> None:
    models.reply = fails_at
    flow = """
    workflow:
      job:
        type: accumulate
        input: [a, bad, c]
        accumulator: ""
        do:
          input: "${item}"
          output: "${accumulator}${output}"
          on_error: {output: "${accumulator}!"}
    """
    assert given(host, flow) == "<a>!<c>"


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ("{type: for-each, input: [1]}", "'do' is missing"),
        ("{type: for-each, do: {}}", "'input' is missing"),
        ("{type: for-each, input: [1], do: {depends_on: a}}", "an inner job waits for no others"),
        (
            "{type: for-each, input: [1], do: {on_error: {to: a}}}",
            "an inner job leads to no other",
        ),
        ("{type: for-each, input: [1], do: {input: '${output}'}}", "'output' is not available"),
        ("{type: filter, input: [1], where: {value: 1}}", "'input' is missing"),
        ("{type: filter, input: [1], where: {input: 1, operator: like, value: 1}}", "'operator'"),
        ("{type: accumulate, input: [1], do: {input: '${iteration}'}}", "'iteration' is not"),
    ],
)
def test_wrong_jobs_are_errors_of_the_document(job: str, message: str) -> None:
    assert message in problem(f"workflow: {{job: {job}}}")


def test_errors_of_a_document_are_raised_before_anything_runs(host: LocalHost) -> None:
    deep = "{}"
    for _ in range(10):
        deep = f"{{type: for-each, input: [1], do: {deep}}}"
    assert "jobs stand within jobs more than 8 deep" in problem(f"workflow: {{job: {deep}}}")
    with pytest.raises(ComposeError):
        given(host, f"workflow: {{job: {deep}}}")
