"""Chats whose model calls Python functions, on the bundled model: it is held to calls, so it makes
them, though it knows nothing of tools."""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import pandas as pd
import pytest
from pydantic import Field

from modelcompose_jupyter import InputError, LocalHost, Run, State, Workflow, load
from modelcompose_jupyter.redaction import remember
from modelcompose_jupyter.submission import Requester
from modelcompose_jupyter.tools import FunctionTool, results
from modelcompose_jupyter.tools.function_call import FUNCTION_THREAD_NAME
from modelcompose_jupyter.workflow.events import EVENT_DATA

HEAD = """\
component:
  type: model
  task: chat-completion
  model: bundled:storyteller
  messages: ${input.messages}
  max_output_length: 120
  temperature: 0
"""
City = Literal["Paris", "Seoul"]
Days = Annotated[int, Field(ge=1, le=7)]
DESCRIBED = """\
tools:
  - type: function
    function:
      name: get_weather
      description: Tell the weather.
      parameters:
        type: object
        properties: {city: {enum: [Paris, Seoul]}}
        required: [city]
"""
ASKED = "Tell me a story about the weather in Paris."


@pytest.fixture(scope="module")
def real_host() -> Iterator[LocalHost]:
    host = LocalHost()
    yield host
    host.close()


Chat = Callable[..., Workflow]


def written(lines: str) -> str:
    """A document with these lines in its component."""
    return HEAD + "".join(f"  {line}\n" for line in lines.splitlines())


@pytest.fixture
def chat(real_host: LocalHost) -> Chat:
    def chat(lines: str, *tools: Any, more: str = "workflow: {output: '${output}'}\n") -> Workflow:
        return load(written(lines) + more, tools=tools, host=real_host)

    return chat


class Weather:
    """A function that notes how it was called."""

    def __init__(self, result: Any = "It is sunny.") -> None:
        self.calls: list[tuple[str, int]] = []
        self.threads: list[str] = []
        self.result = result

    def get_weather(self, city: City, days: Days) -> Any:
        """Tell the weather.

        Args:
            city: Where.
            days: For how long.
        """
        self.calls.append((city, days))
        self.threads.append(threading.current_thread().name)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


REQUIRED = "tools: [get_weather]\ntool_choice: required\nparallel_tool_calls: false"


def test_a_function_is_called_and_the_model_goes_on(chat: Chat) -> None:
    weather = Weather()
    run = chat(REQUIRED, weather.get_weather).run(messages=ASKED)
    assert run.state is State.COMPLETED
    ((city, days),) = weather.calls
    (call,) = run.tool_calls
    arguments = {"city": city, "days": days}
    assert (call["name"], call["arguments"]) == ("get_weather", arguments)
    assert (call["state"], call["result"]) == ("completed", "It is sunny.")
    assert weather.threads == [FUNCTION_THREAD_NAME]
    # A text for each reply: the first is nothing but a call.
    first, last = run.streams
    assert (run.streams[first], run.finish_reasons[first]) == ("", "tool_calls")
    assert run.output == run.text == run.streams[last]
    assert run.finish_reason == run.finish_reasons[last] != "tool_calls"
    function = {"name": "get_weather", "arguments": json.dumps(arguments)}
    assert run.messages == [
        {"role": "user", "content": ASKED},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": call["id"], "type": "function", "function": function}],
        },
        {"role": "tool", "content": "It is sunny.", "tool_call_id": call["id"]},
        {"role": "assistant", "content": run.output},
    ]


def test_events_have_the_shapes_that_are_written_down(chat: Chat) -> None:
    run = chat(REQUIRED, Weather().get_weather).submit(messages=ASKED)
    states = []
    for event in run.events():
        shape = EVENT_DATA[event.type]
        assert event.data.keys() <= shape.model_fields.keys()
        shape.model_validate(event.data)
        states += [event.data["state"]] if event.type == "tool" else []
    assert states == ["called", "running", "completed"]
    assert {"tool", "messages"} <= {event.type for event in run.events_so_far()}


def test_the_same_seed_and_results_give_the_same_texts(real_host: LocalHost) -> None:
    weather = Weather()
    text = written(REQUIRED).replace("temperature: 0", "temperature: 1")
    flow = load(text, tools=[weather.get_weather], host=real_host)
    first, again, other = (flow.start({"messages": ASKED}, seed=seed) for seed in (3, 3, 4))
    assert first.result() == again.result()
    assert first.tool_calls[0]["id"] == again.tool_calls[0]["id"]
    assert other.wait(90)
    assert first.tool_calls[0]["id"] != other.tool_calls[0]["id"]
    rerun = flow.rerun(first)
    assert rerun.result() == first.result()
    assert len(weather.calls) == 4


def test_repeats_and_replies_have_seeds_of_their_own(chat: Chat) -> None:
    flow = chat(
        REQUIRED + "\nmax_tool_rounds: 3",
        Weather().get_weather,
        more="workflow: {job: {repeat_count: 3, input: '${input}'}}\n",
    )
    run = flow.start({"messages": ASKED}, seed=10)
    assert len(run.result()) == 3
    made = {tuple(each["stream"]): each["parameters"] for each in run.record["generations"]}
    seeds = {stream[1:3]: parameters["seed"] for stream, parameters in made.items()}
    assert seeds == {
        (repeat, reply): 10 + 4 * repeat + reply for repeat in range(3) for reply in range(2)
    }


def test_an_async_function_is_awaited(chat: Chat) -> None:
    async def get_weather(city: City) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"city": city, "도시": None}

    run = chat(REQUIRED, get_weather).run(messages=ASKED)
    (call,) = run.tool_calls
    city = call["arguments"]["city"]
    assert call["result"] == f'{{"city": "{city}", "도시": null}}'


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no such city\nat all"), "ValueError: no such city"),
        (SystemExit("out"), "SystemExit: out"),
        (KeyboardInterrupt(), "KeyboardInterrupt: KeyboardInterrupt"),
        (ValueError("the key is zq-secret-zq"), "ValueError: the key is"),
        (InputError("no city", hint="Give one."), "no city"),
    ],
)
def test_errors_are_told_to_the_model(chat: Chat, error: BaseException, said: str) -> None:
    remember("zq-secret-zq")
    run = chat(REQUIRED, Weather(error).get_weather).run(messages=ASKED)
    assert run.state is State.COMPLETED
    (call,) = run.tool_calls
    assert call["state"] == "failed"
    assert call["error"].startswith(said)
    assert run.messages[2]["content"] == f"error: {call['error']}"
    assert "zq-secret-zq" not in json.dumps([run.messages, run.tool_calls])


def test_arguments_that_no_schema_can_hold_are_told(chat: Chat) -> None:
    def get_weather(city: Annotated[City, Field(), _Never()]) -> str:
        raise AssertionError

    run = chat(REQUIRED, get_weather).run(messages=ASKED)
    (call,) = run.tool_calls
    assert call["state"] == "failed"
    assert call["error"].startswith("city: ")


class _Never:
    """A type that takes nothing, whatever the schema says."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        def refuse(value: Any) -> Any:
            raise ValueError("never")

        return core_schema.no_info_after_validator_function(refuse, handler(source))


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ("plain \u2028 text", "plain \u2028 text"),
        (None, "null"),
        ([1, 2.5, True], "[1, 2.5, true]"),
        (float("nan"), "NaN"),
        (pd.Series([1, 2]).to_numpy(), "[1, 2]"),
        ({1, 2}, "[1,2]"),
        (Weather, '"<class '),
        ("x" * (results.MOST_RESULT + 1), "x" * results.MOST_RESULT + "… (cut here: "),
    ],
)
def test_results_are_text_or_json(result: Any, told: str) -> None:
    text = results.result_text(result)
    assert text.startswith(told) or text == told


def test_several_calls_run_one_after_the_other(chat: Chat) -> None:
    running = threading.Semaphore(1)

    def get_weather(city: City) -> str:
        assert running.acquire(blocking=False)
        running.release()
        return city

    lines = "tools: [get_weather]\ntool_choice: required\nmin_output_length: 60"
    run = chat(lines, get_weather).run(messages=ASKED)
    assert len(run.tool_calls) > 1
    assert {call["state"] for call in run.tool_calls} == {"completed"}
    assert len({call["id"] for call in run.tool_calls}) == len(run.tool_calls)
    answered = [each["tool_call_id"] for each in run.messages if each["role"] == "tool"]
    assert answered == [call["id"] for call in run.tool_calls]


def test_a_function_that_blocks_blocks_nobody(chat: Chat) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def get_weather(city: City) -> str:
        begun.set()
        assert goes_on.wait(90)
        return city

    blocked = chat(REQUIRED, get_weather).submit(messages=ASKED)
    assert begun.wait(90)
    assert chat("", more="").run(messages="Tell me a story.").state is State.COMPLETED
    assert blocked.tool_calls[0]["state"] == "running"
    goes_on.set()
    assert blocked.result()


def test_a_run_that_is_stopped_does_not_wait_for_its_function(chat: Chat) -> None:
    begun, goes_on, ended = (threading.Event() for _ in range(3))

    def get_weather(city: City) -> str:
        begun.set()
        assert goes_on.wait(90)
        ended.set()
        return city

    run = chat(REQUIRED, get_weather).submit(messages=ASKED)
    assert begun.wait(90)
    run.cancel()
    assert run.wait(90)
    assert (run.state, run.tool_calls[0]["state"]) == (State.CANCELLED, "cancelled")
    goes_on.set()
    assert ended.wait(90)


def test_an_async_function_is_cancelled_with_its_run(chat: Chat) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def get_weather(city: City) -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return city

    run = chat(REQUIRED, get_weather).submit(messages=ASKED)
    assert begun.wait(90)
    run.cancel()
    assert cancelled.wait(90)
    assert run.wait(90)


def test_a_function_that_takes_too_long_is_not_waited_for(chat: Chat) -> None:
    goes_on = threading.Event()

    def get_weather(city: City) -> str:
        goes_on.wait(90)
        return "late"

    run = chat(REQUIRED + "\ntool_timeout: 0.01", get_weather).run(messages=ASKED)
    goes_on.set()
    (call,) = run.tool_calls
    assert (call["state"], "result" in call) == ("failed", False)
    assert call["error"] == "it has not ended in 0.01 s, and is not waited for"
    assert run.state is State.COMPLETED


# A text that the model would never choose, so that it calls as long as it may.
CALLS_ON = (
    "tools: [get_weather]\nformat: {choices: ['^^^']}\ntool_choice: auto\n"
    "parallel_tool_calls: false\n"
)


@pytest.mark.parametrize("most", [0, 1, 3])
def test_replies_with_calls_are_bounded(chat: Chat, most: int) -> None:
    weather = Weather("ok")
    run = chat(f"{CALLS_ON}max_tool_rounds: {most}", weather.get_weather).run(messages=ASKED)
    assert run.output == "^^^"
    assert len(weather.calls) == most
    assert [*run.finish_reasons.values()][:-1] == ["tool_calls"] * most
    assert list(run.streams) == [("__job__", 0, reply, 0) for reply in range(most + 1)]


def test_a_choice_holds_for_the_first_reply(chat: Chat) -> None:
    weather = Weather()
    for choice in ("required", "get_weather"):
        run = chat(f"tools: [get_weather]\ntool_choice: {choice}", weather.get_weather).run(
            messages=ASKED
        )
        assert run.output and len(run.streams) == 2
    run = chat("tools: [get_weather]\ntool_choice: none", weather.get_weather).run(messages=ASKED)
    assert (len(run.streams), run.tool_calls, run.usage["prompt"]) == (1, [], 16)


# Calls that are left to who asked


def test_a_tool_that_is_described_is_not_called(chat: Chat) -> None:
    flow = chat(DESCRIBED + "tool_choice: required\nparallel_tool_calls: false")
    run = flow.run(messages=ASKED)
    (call,) = run.tool_calls
    assert call["state"] == "returned"
    given = {key: call[key] for key in ("id", "name", "arguments")}
    assert run.output == [given]
    assert (run.finish_reason, run.text) == ("tool_calls", "")
    assert [each["role"] for each in run.messages] == ["user", "assistant"]
    assert flow.outputs[0].type.name == "json"


def test_several_replies_each_have_their_calls(real_host: LocalHost) -> None:
    lines = DESCRIBED + "tool_choice: required\nparallel_tool_calls: false\nnum_return_sequences: 3"
    text = written(lines).replace("temperature: 0", "temperature: 1")
    run = load(text, host=real_host).run(messages=ASKED)
    assert [len(calls) for calls in run.output["generated"]] == [1, 1, 1]
    assert len({call["id"] for call in run.tool_calls}) == 3


def test_functions_are_called_for_one_reply(chat: Chat) -> None:
    flow = chat(REQUIRED + "\nnum_return_sequences: 2", Weather().get_weather)
    with pytest.raises(InputError, match="functions are called for one reply"):
        flow(messages=ASKED)


@pytest.mark.parametrize("requester", [Requester(object()), Requester(is_guest=True)])
def test_nothing_is_called_for_others(chat: Chat, requester: Requester) -> None:
    weather = Weather()
    flow = chat(REQUIRED, weather.get_weather)
    host = flow.host
    assert isinstance(host, LocalHost)
    functions = {"get_weather": FunctionTool(weather.get_weather)}
    given = {"messages": ASKED}
    run = host.submit(flow.document, None, given, functions=functions, requester=requester)
    assert run.wait(90)
    again = host.rerun(flow.run(messages=ASKED).id, requester=requester)
    assert again.wait(90)
    assert [run.finish_reason, again.finish_reason] == ["tool_calls", "tool_calls"]
    assert {call["state"] for call in [*run.tool_calls, *again.tool_calls]} == {"returned"}
    assert len(weather.calls) == 1  # of the run that was this process's own


def test_a_page_calls_nothing(chat: Chat) -> None:
    weather = Weather()
    flow = chat(REQUIRED, weather.get_weather)
    page = Workflow(
        flow.document,
        None,
        flow.host,
        for_guests=True,
        functions={"get_weather": weather.get_weather},
    )
    assert page.run(messages=ASKED).tool_calls[0]["state"] == "returned"
    assert weather.calls == []


def test_one_tool_that_is_not_here_leaves_all_calls(chat: Chat) -> None:
    weather = Weather()
    lines = DESCRIBED + "  - report\ntool_choice: get_weather"
    run = chat(lines, Weather("x").get_weather, named("report", weather.get_weather)).run(
        messages=ASKED
    )
    assert run.finish_reason == "tool_calls"
    assert weather.calls == []


def named(name: str, function: Any) -> Any:
    def call(city: City) -> Any:
        return function(city, 1)

    call.__name__ = name
    return call


# What is wrong


def test_a_function_that_is_not_there_is_named_with_its_place(chat: Chat) -> None:
    with pytest.raises(InputError) as wrong:
        chat("tools: [get_weather, convert]", Weather().get_weather)
    assert wrong.value.message == "the tool 'convert' is a Python function, and it is not here"
    assert (wrong.value.where.line, wrong.value.where.column) == (8, 24)
    assert "Define it in a cell above" in (wrong.value.hint or "")
    with pytest.raises(InputError) as wrong:
        chat("tools: [get_wether]", Weather().get_weather)
    assert wrong.value.hint == "Did you mean 'get_weather'?"


def test_what_cannot_be_a_tool_is_named_with_its_place(chat: Chat) -> None:
    with pytest.raises(InputError) as wrong:
        load(HEAD + "  tools: [size]\n", tools={"size": sys})
    assert wrong.value.message == "'size' cannot be a tool: it is a module, and no function"
    assert wrong.value.where is not None and wrong.value.where.line == 8


def test_the_function_is_looked_up_when_a_run_begins(real_host: LocalHost) -> None:
    first, second = Weather("first"), Weather("second")
    names = {"get_weather": first.get_weather}
    flow = Workflow(load(written(REQUIRED), tools=names).document, None, real_host, functions=names)
    flow.run(messages=ASKED)
    names["get_weather"] = second.get_weather
    flow.run(messages=ASKED)
    assert (len(first.calls), len(second.calls)) == (1, 1)


def test_tools_from_an_input_are_described(chat: Chat) -> None:
    flow = chat("tools: ${input.tools as json}\ntool_choice: required")
    parameters = {"type": "object", "properties": {"city": {"enum": ["Paris"]}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    run = flow.run(messages=ASKED, tools=[tool])
    assert run.output[0]["name"] == "f"
    with pytest.raises(InputError, match="the tool 'f' is a Python function"):
        flow(messages=ASKED, tools=["f"])


def test_a_call_that_was_cut_is_an_error(real_host: LocalHost) -> None:
    weather = Weather()
    text = written(REQUIRED).replace("120", "12")
    run = load(text, host=real_host, tools=[weather.get_weather]).run(messages=ASKED)
    assert (run.state, run.finish_reason) == (State.FAILED, "length")
    assert run.error is not None and run.error.code == "tool_call_cut"
    assert weather.calls == []


def test_tools_have_no_effect_without_messages() -> None:
    text = HEAD.replace("chat-completion", "text-generation").replace(
        "messages: ${input.messages}", "text: Once"
    )
    text = text.replace("120", "4") + "  tools: [f]\n"
    run = load(text, tools={"f": Weather().get_weather}).run()
    assert any("tools has no effect" in warning for warning in run.warnings)


# What is kept


def test_a_notebook_keeps_calls_and_messages(chat: Chat) -> None:
    run = chat(REQUIRED, Weather().get_weather).run(messages=ASKED)
    kept = json.loads(json.dumps(run.notebook_metadata()["modelcompose"]))
    restored = Run.from_notebook(kept)
    assert restored.tool_calls == run.tool_calls
    assert restored.messages == run.messages
    assert (restored.output, restored.text) == (run.output, run.text)
    saved = Run.restored(run.saved())
    assert (saved.tool_calls, saved.messages) == (run.tool_calls, run.messages)


def test_a_chat_goes_on_from_its_messages(chat: Chat) -> None:
    """What `run.messages` has is what the next turn sends."""
    flow = chat(REQUIRED, Weather().get_weather)
    run = flow.run(messages=ASKED)
    more = flow.run(messages=[*run.messages, {"role": "user", "content": "Another one."}])
    assert more.messages[: len(run.messages)] == run.messages
    assert more.state is State.COMPLETED


def test_the_text_streams_without_its_calls(chat: Chat) -> None:
    flow = chat(REQUIRED, Weather().get_weather)
    stream = flow.stream(messages=ASKED)
    text = "".join(stream)
    assert text == stream.run.text == stream.run.output


def test_a_longer_run_calls_again_and_goes_on(chat: Chat) -> None:
    weather = Weather()
    flow = chat(REQUIRED, weather.get_weather)
    run = flow.run(messages=ASKED)
    assert run.finish_reason == "length"
    longer = flow.extend(run, 20)
    assert longer.result().startswith(run.output)
    assert len(longer.output) > len(run.output)
    assert len(weather.calls) == 2


def test_a_score_calls_nothing(chat: Chat) -> None:
    weather = Weather()
    score = chat(REQUIRED, weather.get_weather).score("Once upon a time", messages=ASKED)
    assert score.logprob < 0
    assert weather.calls == []


def test_log_probabilities_are_of_what_was_chosen(chat: Chat) -> None:
    flow = chat(REQUIRED, Weather().get_weather)
    run = flow.start({"messages": ASKED}, logprobs=1)
    assert run.wait(90)
    call, reply = run.tokens
    assert len(call) + len(reply) == run.usage["generated"]
    assert "".join(token.text for token in reply).startswith(run.output[:20])


def test_a_reply_that_has_begun_goes_on_with_a_call(chat: Chat) -> None:
    begun = {"role": "assistant", "content": "Let me look. "}
    run = chat(REQUIRED, Weather().get_weather).run(
        messages=[{"role": "user", "content": ASKED}, begun]
    )
    roles = ["user", "assistant", "tool", "assistant"]
    assert [each["role"] for each in run.messages] == roles
    assert run.messages[1]["content"] == "Let me look. "
    assert run.messages[1]["tool_calls"][0]["id"] == run.tool_calls[0]["id"]
    assert run.messages[-1]["content"] == run.output


def test_rows_call_functions_each(chat: Chat) -> None:
    weather = Weather()
    flow = chat(REQUIRED, weather.get_weather)
    assert len(flow.map([ASKED, "Tell me of Seoul."], progress=False)) == 2
    assert len(weather.calls) == 2


def test_a_copy_for_another_process_has_descriptions(chat: Chat) -> None:
    flow = chat(REQUIRED, Weather().get_weather)
    copied = pickle.loads(pickle.dumps(flow))
    assert copied.document.tools == flow.document.tools
    assert copied.run(messages=ASKED).finish_reason == "tool_calls"
