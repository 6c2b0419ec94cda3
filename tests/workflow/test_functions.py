"""Python functions as steps of workflows: what they get and give, how they fail and end."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import polars
import pydantic
import pytest

from modelcompose_jupyter import LocalHost, Workflow, load
from modelcompose_jupyter.document.types import Type
from modelcompose_jupyter.errors import ComposeError, DocumentError, InputError
from modelcompose_jupyter.tools.function_call import FUNCTION_THREAD_NAME

STEP = "component: {type: function, function: f}\n"
INNER = "components:\n  - {id: f, type: function, function: f}\n"


class Mood(enum.Enum):
    GLAD = "glad"
    SAD = "sad"


@dataclasses.dataclass
class Place:
    name: str
    height: int = 0


class Trip(pydantic.BaseModel):
    title: str
    days: int


@pytest.fixture(scope="module")
def host() -> Iterator[LocalHost]:
    host = LocalHost()
    yield host
    host.close()


Step = Callable[..., Workflow]


@pytest.fixture
def step(host: LocalHost) -> Step:
    """Makes a workflow of a function ``f``."""

    def step(function: Any, text: str = STEP, **more: Any) -> Workflow:
        return load(text, functions={"f": function, **more}, host=host)

    return step


# Arguments


def test_the_workflows_input_gives_what_the_function_takes(step: Step) -> None:
    def f(text: str, times: int = 2, mood: Mood = Mood.GLAD, loud: bool = False) -> str:
        return f"{text * times} {mood.name} {loud}"

    flow = step(f)
    assert flow(text="ab") == "abab GLAD False"
    assert flow(text="ab", times="3", mood="sad", loud="yes") == "ababab SAD True"
    assert flow(text="ab", times="", mood=None) == "abab GLAD False"
    with pytest.raises(InputError, match="missing input 'text'"):
        flow()
    with pytest.raises(InputError, match="there is no input 'txt'"):
        flow(txt="a")
    with pytest.raises(InputError, match="input 'mood': \"angry\" is not one of glad, sad"):
        flow(text="a", mood="angry")


def test_other_inputs_of_the_workflow_are_no_arguments(step: Step) -> None:
    text = INNER + (
        "workflow:\n  jobs:\n    - {id: a, component: f}\n  output: ${output} ${input.other}\n"
    )
    assert step(lambda word: word, text)(word="a", other="b") == "a b"


def test_a_written_mapping_gives_arguments_by_name(step: Step) -> None:
    text = INNER + (
        "workflow:\n  jobs:\n"
        '    - {id: a, component: f, input: {words: "${input.words as list}", n: 1}}\n'
    )
    assert step(lambda words, n: words[n], text)(words=["a", "b"]) == "b"


@pytest.mark.parametrize(
    ("written", "given", "gives"),
    [
        ("${input.words}", ["a", "b"], ["a", "b"]),
        ("${input.words}", 7, 7),
        ("about ${input.words}", "it", "about it"),
    ],
)
def test_anything_else_is_the_one_argument(
    step: Step, written: str, given: Any, gives: Any
) -> None:
    text = INNER + f"workflow:\n  jobs:\n    - {{id: a, component: f, input: '{written}'}}\n"
    flow = step(lambda value, more=1: value, text)
    assert flow(words=given) == gives


def test_functions_may_take_nothing_or_anything(step: Step) -> None:
    assert step(lambda: 1)() == 1
    assert step(lambda **more: more, STEP + "workflow: {input: {a: 1, b: two}}\n")() == {
        "a": 1,
        "b": "two",
    }
    assert step(lambda first, /, *, second: [first, second])(first=1, second=2) == [1, 2]
    assert step(lambda *more: list(more))() == []
    with pytest.raises(InputError, match="the function 'f' cannot be called: it takes no argument"):
        step(lambda: 1, STEP + "workflow: {input: 5}\n")()


def test_arguments_are_what_the_types_say(step: Step) -> None:
    def f(place: Place, trip: Trip, day: datetime.date, anything: Any, table: pd.DataFrame) -> str:
        return f"{place.height} {trip.days} {day.year} {anything} {type(table).__name__}"

    text = INNER + (
        "workflow:\n  jobs:\n    - id: a\n      component: f\n      input:\n"
        "        place: {name: Alps, height: '4'}\n        trip: {title: a, days: 2}\n"
        "        day: '2026-01-02'\n        anything: [1]\n        table: {a: 1}\n"
    )
    assert step(f, text)() == "4 2 2026 [1] dict"


def test_a_wrong_argument_is_named_with_its_place_and_nothing_is_called(step: Step) -> None:
    def f(n: Annotated[int, pydantic.Field(ge=1)]) -> int:
        raise AssertionError("it was called")

    text = INNER + "workflow:\n  jobs:\n    - {id: a, component: f, input: {n: '${input.n}'}}\n"
    run = step(f, text).start({"n": "0"})
    assert run.wait(90)
    assert isinstance(run.error, InputError) and run.error.where is not None
    assert run.error.message == (
        "the function 'f' cannot be called: n: Input should be greater than or equal to 1"
    )
    assert (run.error.where.line, run.error.where.column) == (5, 40)


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("{txt: a}", "<text>:6:15: the function 'f' takes no 'txt'"),
        ("{txt: a}", "<text>:6:7: the function 'f' needs 'text'"),
        ("{text: a, tims: 1}", "<text>:6:24: the function 'f' takes no 'tims'"),
        ("{}", "<text>:6:7: the function 'f' needs 'text'"),
    ],
)
def test_what_is_written_is_checked_before_a_run(step: Step, written: str, problem: str) -> None:
    def f(text: str, times: int = 1) -> str:
        raise AssertionError("it was called")

    text = f"{INNER}workflow:\n  jobs:\n    - component: f\n      input: {written}\n"
    with pytest.raises(DocumentError) as wrong:
        step(f, text)
    assert problem in map(str, wrong.value.problems)


def test_a_name_that_stands_for_nothing_is_an_error_before_a_run(host: LocalHost) -> None:
    with pytest.raises(InputError, match="the function 'shuot' is not here") as wrong:
        load(STEP.replace(": f}", ": shuot}"), functions={"shout": print}, host=host)
    assert wrong.value.hint == "Did you mean 'shout'?"
    assert wrong.value.where is not None and wrong.value.where.column == 39
    with pytest.raises(InputError, match="'f' cannot be a step: it is a int, and no function"):
        load(STEP, functions={"f": 5}, host=host)
    inner = (
        "components:\n  - {id: other, type: workflow, workflow: other}\n"
        "  - {id: f, type: function, function: f}\n"
        "workflows:\n  - id: main\n    default: true\n    jobs: [{component: other}]\n"
        "  - id: other\n    jobs: [{component: f}]\n"
    )
    with pytest.raises(InputError, match="the function 'f' is not here"):
        load(inner, host=host)
    assert load(inner, functions={"f": lambda: 3}, host=host)() == 3


@pytest.mark.parametrize("name", ["a b", "steps:", ":f", "a.b", "../steps:f", "steps:f()"])
def test_what_names_no_function_is_a_problem_of_the_document(name: str) -> None:
    with pytest.raises(DocumentError, match="names no function"):
        load(f"component: {{type: function, function: '{name}'}}\n")


def test_a_function_may_change_what_it_gets(step: Step) -> None:
    def f(lines: Any) -> int:
        lines["a"].append(1)
        return len(lines["a"])

    text = (
        INNER
        + """
workflow:
  jobs:
    - {id: one, input: {lines: "${input.lines}"}}
    - {id: two, depends_on: one, input: {lines: "${input.lines}"}}
  output: ["${jobs.one.output}", "${jobs.two.output}", "${input.lines}"]
"""
    )
    run = step(f, text).run(lines={"a": [0]})
    assert run.result() == [2, 2, {"a": [0]}]
    assert run.record["input"] == {"lines": {"a": [0]}}


# What forms and terminals know


def test_types_and_docstrings_describe_inputs_and_the_output(step: Step) -> None:
    def f(
        text: str,
        how: Literal["loud", "quiet"],
        mood: Mood,
        size: Annotated[int, pydantic.Field(ge=1, le=7)],
        share: Annotated[float, pydantic.Field(ge=0, le=1)],
        words: list[str],
        numbers: list[int] | None = None,
        place: Place | None = None,
        options: dict[str, int] = {},  # noqa: B006
        n: float = 1.5,
        loud: bool = True,
        anything: Any = None,
        either: int | str = 3,
        level: Literal[1, 2] = 1,
    ) -> list[str]:
        """Do it.

        Args:
            text: What it is
                about.
            n: How much.
        """
        return []

    flow = step(f)
    assert {name: str(each.type) for name, each in flow.inputs.items()} == {
        "text": "text",
        "how": "select/loud,quiet",
        "mood": "select/glad,sad",
        "size": "slider/1,7",
        "share": "slider/0.0,1.0",
        "words": "text[]",
        "numbers": "integer[]",
        "place": "object",
        "options": "object",
        "n": "number",
        "loud": "boolean",
        "anything": "text",
        "either": "json",
        "level": "integer",
    }
    assert [each.name for each in flow.inputs.values() if each.required] == [
        *("text", "how", "mood", "size", "share", "words"),
    ]
    assert flow.inputs["text"].description == "What it is about."
    defaults = {name: flow.inputs[name].default for name in ("n", "loud", "options", "level")}
    assert defaults == {"n": 1.5, "loud": True, "options": {}, "level": 1}
    assert [str(each) for each in flow.outputs] == ["text[]"]
    assert flow.describe()["input"][1] == {
        "name": "how",
        "type": "select",
        "is_list": False,
        "subtype": "loud,quiet",
        "required": True,
    }


@pytest.mark.parametrize(
    ("hint", "type_"),
    [
        (str, "text"),
        (int, "integer"),
        (float, "number"),
        (bool, "boolean"),
        (dict[str, int], "object"),
        (Trip, "object"),
        (Place, "object"),
        (list, "list"),
        (list[float], "number[]"),
        (Mood, "text"),
        (Iterator[str], "text"),
        (AsyncIterator[str], "text"),
        (Iterator[int], "list"),
        (Any, "json"),
        (None, "json"),
        (pd.DataFrame, "json"),
        (str | None, "text"),
    ],
)
def test_what_a_function_gives_is_the_outputs_type(step: Step, hint: Any, type_: str) -> None:
    def f() -> Any:
        return None

    f.__annotations__["return"] = hint
    assert [str(each) for each in step(f).outputs] == [type_]


def test_an_input_that_goes_into_an_argument_has_its_type(step: Step) -> None:
    def f(n: int, mode: Literal["a", "b"] = "a") -> int:
        return n

    text = INNER + (
        "workflow:\n  jobs:\n"
        "    - {id: a, component: f, input: {n: '${input.count}', mode: '${input.mode}'}}\n"
    )
    assert {name: str(each.type) for name, each in step(f, text).inputs.items()} == {
        "count": "integer",
        "mode": "select/a,b",
    }
    only = INNER + "workflow:\n  jobs:\n    - {id: a, component: f, input: '${input.count}'}\n"
    assert step(f, only).inputs["count"].type == Type("integer")


def test_a_function_within_a_loop_takes_no_input_of_the_workflow(step: Step) -> None:
    text = INNER + (
        "workflow:\n  jobs:\n    - type: for-each\n      input: ${input.words}\n"
        "      do: {component: f}\n"
    )
    flow = step(lambda word: word.upper(), text)
    assert list(flow.inputs) == ["words"]
    assert flow(words=["a", "b"]) == ["A", "B"]


# What comes of it


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (None, None),
        ({"a": (1, 2)}, {"a": [1, 2]}),
        ({1: "a"}, {"1": "a"}),
        (Trip(title="a", days=2), {"title": "a", "days": 2}),
        ([Place("a")], [{"name": "a", "height": 0}]),
        (np.array([[1, 2]]), [[1, 2]]),
        (np.float32(0.5), 0.5),
        (pd.Series([1, 2]), [1, 2]),
        (
            pd.DataFrame({"a": [1, None], "b": ["x", None]}),
            [{"a": 1, "b": "x"}, {"a": None, "b": None}],
        ),
        (polars.DataFrame({"a": [1, None]}), [{"a": 1}, {"a": None}]),
        (Mood.SAD, "sad"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
    ],
)
def test_results_are_plain_data(step: Step, given: Any, plain: Any) -> None:
    assert step(lambda: given)() == plain


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({1, 2}, "f: it gives no plain data, but a 'set'"),
        ({"a": [1, object()]}, "f: it gives no plain data, but a 'object', at a[1]"),
        (threading.Lock(), "f: it gives no plain data, but a 'lock'"),
        ({(1, 2): 3}, "f: it gives no plain data, but a 'dict'"),
    ],
)
def test_other_results_are_an_error(step: Step, given: Any, told: str) -> None:
    run = step(lambda: given).run()
    assert run.error is not None
    assert (run.error.code, run.error.message) == ("function_failed", told)
    assert "Return texts, numbers, lists and dicts" in (run.error.hint or "")


def test_a_result_that_holds_itself_is_an_error(step: Step) -> None:
    value: list[Any] = []
    value.append(value)
    run = step(lambda: value).run()
    assert run.error is not None and run.error.code == "function_failed"


class Unreadable(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("nothing to see")


def test_a_result_that_cannot_be_read_is_the_functions_error(step: Step) -> None:
    error = step(lambda: Unreadable()).run().error
    assert error is not None and error.traceback is not None
    assert (error.code, error.message) == ("function_failed", "f: RuntimeError: nothing to see")
    assert 'raise RuntimeError("nothing to see")' in error.traceback
    assert "to_plain" not in error.traceback


def test_a_result_is_read_on_the_functions_thread(step: Step) -> None:
    class Given(dict[str, str]):
        def items(self) -> Any:
            return {"thread": threading.current_thread().name}.items()

    assert step(lambda: Given())() == {"thread": FUNCTION_THREAD_NAME}


@pytest.mark.parametrize(
    "repeats",
    ["repeat_count: 40", 'type: for-each, input: "${input.lines}", do: {input: {}}'],
)
def test_what_is_large_together_ends_the_job_as_soon_as_it_is(step: Step, repeats: str) -> None:
    called: list[int] = []

    def f() -> str:
        called.append(1)
        return "x" * 100_000_000

    text = STEP.replace("f}", "f, max_concurrent_count: 1}") + f"workflow: {{job: {{{repeats}}}}}\n"
    inputs = {"lines": list(range(40))} if "lines" in repeats else {}
    error = step(f, text).run(**inputs).error
    assert error is not None and error.code == "value_too_large"
    assert len(called) < 10


def test_the_components_output_shapes_what_it_gives(step: Step) -> None:
    text = (
        "component:\n  type: function\n  function: f\n"
        "  output: {is: '${output.a}', was: '${input.x}'}\n"
    )
    flow = step(lambda x: {"a": x + 1}, text)
    assert flow(x=1) == {"is": 2, "was": 1}
    assert [str(each) for each in flow.outputs] == ["json"]


def test_repeats_are_calls_of_their_own(step: Step) -> None:
    text = INNER + (
        "workflow:\n  jobs:\n    - {component: f, repeat_count: 3, input: {n: '${index}'}}\n"
    )
    assert step(lambda n: n * n, text)() == [0, 1, 4]


# Kinds of functions


def test_a_function_runs_on_a_thread_of_its_own(step: Step) -> None:
    names = step(lambda: threading.current_thread().name)()
    assert names == FUNCTION_THREAD_NAME


def test_async_functions_are_awaited(step: Step) -> None:
    async def f(n: int) -> int:
        await asyncio.sleep(0)
        return n + 1

    assert step(f)(n=1) == 2


def words(text: str) -> Iterator[str]:
    for word in text.split():
        yield f"{word} "


async def words_async(text: str) -> AsyncIterator[str]:
    for word in text.split():
        await asyncio.sleep(0)
        yield f"{word} "


@pytest.mark.parametrize("function", [words, words_async])
def test_generators_stream(step: Step, function: Any) -> None:
    flow = step(function)
    assert "".join(flow.stream(text="a b c")) == "a b c "
    run = flow.run(text="a b c")
    assert run.output == run.text == "a b c "
    assert run.streams == {("__job__", 0, 0, 0): "a b c "}
    assert run.finish_reason == "eos"


def test_each_repeat_has_a_stream_of_its_own(step: Step) -> None:
    text = INNER + (
        "workflow:\n  jobs:\n    - id: a\n      type: for-each\n      input: ${input.texts}\n"
        "      do: {component: f}\n"
    )
    run = step(words, text).run(texts=["a b", "c"])
    assert run.streams == {("a", 0, 0, 0): "a b ", ("a", 1, 0, 0): "c "}
    assert run.output == ["a b ", "c "]


def test_a_text_comes_while_the_function_goes_on(step: Step) -> None:
    seen = threading.Event()

    def f() -> Iterator[str]:
        yield "begun"
        assert seen.wait(90)
        yield " and ended"

    run = step(f).submit()
    assert run.wait_for(lambda: run.text == "begun", 90)
    seen.set()
    assert run.wait(90)
    assert run.output == "begun and ended"


def test_a_generator_of_other_things_gives_a_list(step: Step) -> None:
    assert step(lambda: (n for n in range(3)))() == [0, 1, 2]
    run = step(lambda: iter_of("a", 1)).run()
    assert (run.output, run.text) == (["a", 1], "a")
    assert step(lambda: iter_of())() == []


def iter_of(*pieces: Any) -> Iterator[Any]:
    yield from pieces


def test_what_is_tried_again_begins_its_text_anew(step: Step) -> None:
    calls: list[int] = []

    def f() -> Iterator[str]:
        calls.append(1)
        yield f"attempt {len(calls)}"
        if len(calls) == 1:
            raise ValueError("no")

    text = INNER + "workflow:\n  jobs:\n    - {component: f, retry: {max_attempt_count: 2}}\n"
    run = step(f, text).run()
    assert (run.output, run.text) == ("attempt 2", "attempt 2")


# Failures


def helper(text: str) -> str:
    raise ValueError(f"no {text}\nof any kind")


def test_an_error_has_the_users_own_lines_and_no_others(step: Step) -> None:
    def f(text: str) -> str:
        return pd.Series([text]).map(helper)[0]

    run = step(f).run(text="a")
    assert run.error is not None
    assert (run.error.code, run.error.message) == ("function_failed", "f: ValueError: no a")
    lines = (run.error.traceback or "").splitlines()
    assert [line.rpartition(", in ")[2] for line in lines[::2]] == ["f", "helper"]
    assert lines[1::2] == [
        "    return pd.Series([text]).map(helper)[0]",
        '    raise ValueError(f"no {text}\\nof any kind")',
    ]
    assert all(f'File "{__file__}", line ' in line for line in lines[::2])
    assert str(run.error).endswith("\n".join(lines))
    again = ComposeError.from_dict(run.error.to_dict())
    assert (again.traceback, pickle.loads(pickle.dumps(again)).traceback) == (
        run.error.traceback,
        run.error.traceback,
    )
    assert run.error.traceback not in run.error.shown(for_guests=True)


def test_a_deep_recursion_is_told_in_few_lines(step: Step) -> None:
    def f() -> int:
        return f() + 1

    run = step(f).run()
    assert run.error is not None and run.error.message.startswith("f: RecursionError")
    assert len((run.error.traceback or "").splitlines()) <= 40


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SystemExit(3), "f: SystemExit: 3"),
        (KeyboardInterrupt(), "f: KeyboardInterrupt"),
        (StopIteration(), "f: StopIteration"),
        (InputError("no such thing"), "f: InputError: no such thing"),
        (asyncio.CancelledError(), "f: CancelledError"),
        (TimeoutError(), "f: TimeoutError"),
    ],
)
def test_whatever_a_function_raises_is_its_error(
    step: Step, error: BaseException, message: str
) -> None:
    def f() -> None:
        raise error

    async def g() -> None:
        raise error

    for function in (f, g):
        if isinstance(error, StopIteration) and function is g:
            continue
        run = step(function).run()
        assert run.error is not None
        assert (run.state, run.error.code) == ("failed", "function_failed")
        assert run.error.message == message


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_error_that_has_no_words_is_told_by_its_kind(step: Step) -> None:
    def f() -> None:
        raise Wordless

    error = step(f).run().error
    assert error is not None
    assert (error.code, error.message) == ("function_failed", "f: Wordless")


def test_on_error_and_retry_know_functions(step: Step) -> None:
    def f() -> None:
        raise LookupError("nothing there")

    text = INNER + (
        "workflow:\n  jobs:\n    - component: f\n      retry: {max_attempt_count: 3}\n"
        "      on_error: {output: '${error.code}: ${error.message}'}\n"
    )
    run = step(f, text).run()
    assert run.output == "function_failed: f: LookupError: nothing there"
    assert run.jobs["__job__"]["failed"] == 3


# Ends


def test_stop_cancels_what_is_async_and_waits_for_it(step: Step) -> None:
    begun, ended = threading.Event(), threading.Event()

    async def f() -> None:
        begun.set()
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()

    run = step(f).submit()
    assert begun.wait(90)
    run.cancel()
    assert run.wait(90)
    assert (run.state, ended.is_set(), run.warnings) == ("cancelled", True, [])


def test_stop_ends_a_generator_where_it_gives_the_next_thing(step: Step) -> None:
    ended, goes_on = threading.Event(), threading.Event()

    def f() -> Iterator[str]:
        try:
            yield "a"
            goes_on.wait(90)
            yield "b"
            raise AssertionError("it went on")
        finally:
            ended.set()

    run = step(f).submit()
    assert run.wait_for(lambda: run.text == "a", 90)
    run.cancel()
    goes_on.set()
    assert run.wait(90)
    assert (run.state, ended.is_set(), run.warnings) == ("cancelled", True, [])
    # It may have given the next thing before it heard of the end.
    assert (run.text in ("a", "ab"), run.finish_reason) == (True, "cancelled")


def test_what_cannot_be_stopped_is_left_behind_and_that_is_said(step: Step) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def f() -> None:
        begun.set()
        goes_on.wait(90)

    run = step(f).submit()
    assert begun.wait(90)
    run.cancel()
    assert run.wait(90)
    goes_on.set()
    assert run.state == "cancelled"
    assert run.warnings == [
        "the function 'f' could not be stopped: it goes on, and what it gives is dropped"
    ]


def test_a_jobs_timeout_ends_a_function(step: Step) -> None:
    ended, goes_on = threading.Event(), threading.Event()

    async def f() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()

    text = INNER + "workflow:\n  jobs:\n    - {component: f, timeout: 0.05}\n"
    run = step(f, text).run()
    assert run.error is not None and run.error.code == "job_timeout"
    assert (ended.is_set(), run.warnings) == (True, [])
    run = step(lambda: goes_on.wait(90), text).run()
    goes_on.set()
    assert run.error is not None and run.error.code == "job_timeout"
    assert "could not be stopped" in run.warnings[0]


def test_a_component_bounds_how_many_run_at_once(step: Step) -> None:
    lock, running, most = threading.Lock(), 0, 0
    gate = threading.Barrier(2, timeout=90)

    def f(n: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait()
        with lock:
            running -= 1
        return n

    text = INNER.replace("function: f}", "function: f, max_concurrent_count: 2}") + (
        "workflow:\n  jobs:\n    - {component: f, repeat_count: 8, input: {n: '${index}'}}\n"
    )
    assert step(f, text)() == list(range(8))
    assert most == 2


# The workflow as an object


def test_a_function_that_is_given_anew_is_the_one_that_is_called(host: LocalHost) -> None:
    names: dict[str, Any] = {"f": lambda x: 1}
    flow = load(STEP, functions=names, host=host)
    flow = Workflow(flow.document, None, host, functions=names)
    assert flow(x=1) == 1
    names["f"] = lambda x: 2
    assert flow(x=1) == 2
    del names["f"]
    with pytest.raises(ComposeError, match="the function 'f' is not in the process"):
        flow(x=1)


def test_tools_and_steps_are_given_in_one_way(host: LocalHost) -> None:
    def f(x: int) -> int:
        return x

    assert load(STEP, tools=[f], host=host)(x=2) == 2
    assert load(STEP, functions=f, host=host)(x=2) == 2


def test_a_run_again_calls_the_function_again(step: Step) -> None:
    calls: list[int] = []
    flow = step(lambda x: calls.append(x))
    run = flow.run(x=1)
    again = flow.rerun(run)
    assert again.wait(90)
    assert flow.host.rerun(run.id).wait(90)
    assert calls == [1, 1, 1]


def test_a_copy_elsewhere_knows_what_the_functions_take(step: Step) -> None:
    def f(x: int) -> int:
        return x

    copy = pickle.loads(pickle.dumps(step(f)))
    assert [str(each) for each in copy.inputs.values()] == ["x: integer (required)"]
    with pytest.raises(ComposeError, match="is not in the process that is to run it"):
        copy(x=1)


def test_a_function_may_run_a_workflow(step: Step, host: LocalHost) -> None:
    inner = step(lambda x: x + 1)
    outer = step(lambda x: inner(x=x) * 2)
    assert outer(x=1) == 4


def test_steps_are_told_as_jobs(step: Step) -> None:
    run = step(lambda: 1).run()
    assert run.jobs["__job__"]["state"] == "completed"
    assert run.record["jobs"]["__job__"]["state"] == "completed"
