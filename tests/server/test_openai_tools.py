"""Tools that OpenAI's own client describes: their calls told, streamed, cut, sent back; never
made."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI, pydantic_function_tool
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ParsedChatCompletion
from pydantic import BaseModel, Field

from modelcompose_jupyter import LocalHost, load
from modelcompose_jupyter.document import Document
from modelcompose_jupyter.server.catalog import Catalog
from modelcompose_jupyter.server.openai_tools import CallStream
from modelcompose_jupyter.server.server import Server

from .conftest import COMPONENT, Serve, client_of

STORYTELLER = "bundled:storyteller"


class Weather(BaseModel):
    """What the weather will be."""

    city: Literal["Paris", "서울"]
    days: int = Field(ge=1, le=9)


class Note(BaseModel):
    """Keep something in mind."""

    text: str = Field(max_length=40)


TOOLS = [pydantic_function_tool(Weather), pydantic_function_tool(Note)]
QUESTION = {"role": "user", "content": "Tell me of a fox"}
ASKED: dict[str, Any] = {
    "model": STORYTELLER,
    "messages": [QUESTION],
    "tools": TOOLS,
    "temperature": 1.5,
}


@pytest.fixture
def server(serve: Serve, real_host: LocalHost) -> Server:
    return serve(COMPONENT, on=real_host)


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with client_of(server) as client:
        yield client


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [named(each) for each in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def calls_of(answer: ParsedChatCompletion[Any]) -> list[Any]:
    """What each choice calls."""
    return [
        [(call.id, call.function) for call in choice.message.tool_calls or ()]
        for choice in answer.choices
    ]


# Whole


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", {"Weather", "Note"}),
        (named("Note"), {"Note"}),
        (named("Weather"), {"Weather"}),
        (allowed("required", "Weather"), {"Weather"}),
        (allowed("required", "Weather", "Note"), {"Weather", "Note"}),
    ],
)
def test_calls_are_told_as_the_client_parses_them(
    client: OpenAI, choice: Any, names: set[str]
) -> None:
    answer = client.chat.completions.parse(**ASKED, tool_choice=choice, n=12, seed=1)

    found: set[str] = set()
    ids: set[str] = set()
    for choice_ in answer.choices:
        assert choice_.finish_reason == "tool_calls"
        assert choice_.message.content is None
        assert choice_.message.tool_calls
        for call in choice_.message.tool_calls:
            of = {"Weather": Weather, "Note": Note}[call.function.name]
            assert isinstance(call.function.parsed_arguments, of)
            assert json.loads(call.function.arguments) == (
                call.function.parsed_arguments.model_dump()
            )
            assert call.id.startswith("call_") and call.id not in ids
            found.add(call.function.name)
            ids.add(call.id)
    assert found == names


@pytest.mark.parametrize(
    "asked",
    [
        {"tool_choice": "none"},
        {"tool_choice": "auto", "tools": []},
        {"tool_choice": "auto"},
        {"parallel_tool_calls": False},
        {"tool_choice": allowed("auto", "Note")},
    ],
)
def test_a_model_that_calls_nothing_says_something(client: OpenAI, asked: dict[str, Any]) -> None:
    given = {**ASKED, "temperature": 0, "max_tokens": 8, **asked}
    [choice] = client.chat.completions.create(**given).choices
    chunks = client.chat.completions.create(**given, stream=True)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == choice.message.content
    assert choice.message.content and choice.message.tool_calls is None
    assert choice.finish_reason == "length"


def test_one_call_or_several(client: OpenAI) -> None:
    asked: dict[str, Any] = {**ASKED, "tool_choice": "required", "n": 24, "seed": 3}
    several = client.chat.completions.create(**asked)
    one = client.chat.completions.create(**asked, parallel_tool_calls=False)

    assert max(len(choice.message.tool_calls or ()) for choice in several.choices) > 1
    assert {len(choice.message.tool_calls or ()) for choice in one.choices} == {1}


def test_the_same_seed_calls_the_same_with_the_same_ids(client: OpenAI) -> None:
    asked: dict[str, Any] = {**ASKED, "tool_choice": "required", "n": 2}
    first, again, other = (
        [
            each.message.tool_calls
            for each in client.chat.completions.create(**asked, seed=n).choices
        ]
        for n in (1, 1, 2)
    )
    assert first == again != other


def test_a_text_of_a_format_or_calls(client: OpenAI) -> None:
    asked: dict[str, Any] = {**ASKED, "response_format": Note, "n": 16, "seed": 1}
    answer = client.chat.completions.parse(**asked)
    for choice in answer.choices:
        if choice.finish_reason == "tool_calls":
            assert choice.message.tool_calls and choice.message.parsed is None
        else:
            assert isinstance(choice.message.parsed, Note)
    assert any(choice.message.parsed for choice in answer.choices)


def test_what_a_schema_cannot_be_held_to_is_let_go_unless_it_is_strict(client: OpenAI) -> None:
    parameters = {
        "type": "object",
        "properties": {"a": {"type": "integer", "not": {"const": 5}}},
        "required": ["a"],
    }
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    asked: dict[str, Any] = {**ASKED, "tools": [tool], "tool_choice": "required", "seed": 1}
    [choice] = client.chat.completions.create(**asked).choices
    assert choice.message.tool_calls
    assert list(json.loads(choice.message.tool_calls[0].function.arguments)) == ["a"]

    tool["function"]["strict"] = True
    with pytest.raises(
        openai.BadRequestError, match=r"strict parameters of 'f' at properties.a.not: "
    ):
        client.chat.completions.create(**asked)


def test_a_tool_without_parameters(client: OpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "now"}}
    [choice] = client.chat.completions.create(
        **{**ASKED, "tools": [tool]}, tool_choice="required", parallel_tool_calls=False
    ).choices
    assert choice.message.tool_calls
    assert choice.message.tool_calls[0].function.arguments == "{}"


# Streamed


def test_a_stream_is_what_the_whole_is_and_comes_as_it_is_written(client: OpenAI) -> None:
    asked: dict[str, Any] = {**ASKED, "tool_choice": "required", "seed": 3, "n": 24}
    whole = client.chat.completions.parse(**asked)

    state = ChatCompletionStreamState(input_tools=TOOLS)
    deltas: dict[tuple[int, int], list[Any]] = {}
    for chunk in client.chat.completions.create(**asked, stream=True):
        state.handle_chunk(chunk)
        for choice in chunk.choices:
            for call in choice.delta.tool_calls or ():
                deltas.setdefault((choice.index, call.index), []).append(call)
    final = state.get_final_completion()

    assert calls_of(final) == calls_of(whole)
    for told in final.choices:
        assert told.finish_reason == "tool_calls" and told.message.content is None
    assert max(call for _, call in deltas) > 0
    for first, *rest in deltas.values():
        assert first.id.startswith("call_") and first.type == "function"
        assert first.function.name in ("Weather", "Note")
        assert all(each.id is each.type is each.function.name is None for each in rest)
        assert all(each.function.arguments for each in rest)


def test_the_events_of_the_clients_own_helper(client: OpenAI) -> None:
    asked: dict[str, Any] = {**ASKED, "tool_choice": named("Weather"), "seed": 4}
    with client.chat.completions.stream(**asked) as stream:
        events = list(stream)
        final = stream.get_final_completion()

    [call] = final.choices[0].message.tool_calls or ()
    done = [each for each in events if each.type == "tool_calls.function.arguments.done"]
    deltas = [each for each in events if each.type == "tool_calls.function.arguments.delta"]
    assert [each.arguments for each in done] == [call.function.arguments]
    assert isinstance(done[0].parsed_arguments, Weather)
    assert "".join(each.arguments_delta for each in deltas) == call.function.arguments
    assert [each.type for each in events if each.type.startswith("content")] == []


def test_a_stream_that_is_read_late_tells_all(client: OpenAI, real_host: LocalHost) -> None:
    """The events of a run that has ended are fewer, and each tells all of its call."""
    asked: dict[str, Any] = {**ASKED, "tool_choice": "required", "seed": 3, "n": 24}
    with client.chat.completions.create(**asked, stream=True) as stream:
        first = next(stream)
        assert real_host.run(first.id.removeprefix("chatcmpl-")).wait(60)
        state = ChatCompletionStreamState(input_tools=TOOLS)
        for chunk in itertools.chain([first], stream):
            state.handle_chunk(chunk)
    whole = client.chat.completions.parse(**asked)
    assert calls_of(state.get_final_completion()) == calls_of(whole)


def test_a_call_goes_on_where_it_was_however_events_come() -> None:
    def event(offset: int, text: str, call: int = 0) -> dict[str, Any]:
        return {"call": call, "id": "a1", "name": "f", "offset": offset, "text": text}

    stream = CallStream()
    told = [stream.delta(event(*each)) for each in ((0, ""), (0, '{"a"'), (4, ": 1"))]
    assert told == [
        {"index": 0, "id": "call_a1", "type": "function",
         "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"a"'}},
        {"index": 0, "function": {"arguments": ": 1"}},
    ]  # fmt: skip
    # As a run tells it that has ended: all of it.
    assert stream.delta(event(0, '{"a": 1}')) == {"index": 0, "function": {"arguments": "}"}}
    assert stream.delta(event(0, '{"a": 1}')) is None
    second = stream.delta(event(0, "{}", call=1))
    assert second and (second["index"], second["function"]["arguments"]) == (1, "{}")


# Cut


def test_a_call_that_was_cut_is_an_answer_and_says_so(client: OpenAI) -> None:
    asked: dict[str, Any] = {**ASKED, "tool_choice": named("Note"), "seed": 5, "max_tokens": 15}
    [choice] = client.chat.completions.create(**asked).choices
    assert choice.finish_reason == "length"
    assert choice.message.tool_calls and choice.message.content is None
    [call] = choice.message.tool_calls
    assert call.function.arguments.startswith('{"text": "')
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(call.function.arguments)
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(**asked)
    with (
        pytest.raises(openai.LengthFinishReasonError),
        client.chat.completions.stream(**asked) as stream,
    ):
        stream.get_final_completion()


# Sent back


def test_what_came_of_calls_is_sent_back(client: OpenAI, real_host: LocalHost) -> None:
    reply = client.chat.completions.parse(**ASKED, tool_choice="required", seed=1)
    said = reply.choices[0].message
    assert said.tool_calls
    results: list[Any] = [
        {"role": "tool", "tool_call_id": call.id, "content": f"result {number}"}
        for number, call in enumerate(said.tool_calls)
    ]
    for each in (said, said.model_dump(), said.model_dump(exclude_none=True), said.to_dict()):
        answer = client.chat.completions.create(
            **{**ASKED, "messages": [QUESTION, each, *results]}, max_tokens=5
        )
        assert answer.choices[0].message.content
        run = real_host.run(answer.id.removeprefix("chatcmpl-"))
        sent = run.input["messages"]
        assert [each["role"] for each in sent] == ["user", "assistant", *["tool"] * len(results)]
        # Some templates take short ids alone: they are as they were before they were told.
        assert [each["tool_call_id"] for each in sent[2:]] == [
            call.id.removeprefix("call_") for call in said.tool_calls
        ]


def test_ids_of_others_are_taken_as_well(client: OpenAI) -> None:
    calls = [{"id": "call_abc-123", "type": "function",
              "function": {"name": "Note", "arguments": '{"text": "a"}'}}]  # fmt: skip
    messages: Any = [
        QUESTION,
        {"role": "assistant", "content": None, "tool_calls": calls},
        {
            "role": "tool",
            "tool_call_id": "call_abc-123",
            "content": [{"type": "text", "text": "b"}],
        },
    ]
    answer = client.chat.completions.create(**{**ASKED, "messages": messages}, max_tokens=5)
    assert answer.choices[0].message.content

    messages[2]["tool_call_id"] = "call_other"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{**ASKED, "messages": messages})
    assert caught.value.param == "messages[2].tool_call_id"


# Never made

WITH_FUNCTIONS = """
component:
  type: model
  task: chat-completion
  model: bundled:storyteller
  messages: ${input.messages}
  tools: [note]
  tool_choice: required
  max_tool_rounds: 1
"""


def test_functions_of_a_document_are_never_called(serve: Serve, real_host: LocalHost) -> None:
    called: list[str] = []

    def note(text: str) -> str:
        """Keep something in mind."""
        called.append(text)
        return "kept"

    document: Document = load(WITH_FUNCTIONS, tools=[note], host=real_host).document
    server = serve(on=real_host, catalog=lambda: Catalog.of(document))
    tool: Any = pydantic_function_tool(Note, name="note")
    asked: dict[str, Any] = {**ASKED, "temperature": 0, "max_tokens": 60}
    with client_of(server) as client:
        answer = client.chat.completions.create(
            **{**asked, "tools": [tool]}, tool_choice=named("note")
        )
        del asked["tools"]
        [said] = client.chat.completions.create(**asked).choices

    calls = answer.choices[0].message.tool_calls
    assert calls and calls[0].function.name == "note"
    assert said.message.content and said.message.tool_calls is None  # the document's are not there
    assert called == []


# Refused


def function(**of: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": of}]}


STRING = {"type": "object", "properties": {"a": {"type": "strin"}}}
DEEP = {"$defs": {f"d{n}": {"items": {"$ref": f"#/$defs/d{n + 1}"}} for n in range(3000)},
        "properties": {"a": {"$ref": "#/$defs/d0"}}}  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "param", "said"),
    [
        ({"tools": ["Note"]}, "tools", "at 0 there is \"Note\""),
        ({"tools": {"a": 1}}, "tools", "'tools' is a list of tools"),
        ({"tools": [{"type": "web_search"}]}, "tools", "tools[0]: there is no tool of type"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools", "tools[0]: a tool has no"),
        ({"tools": [*TOOLS, {}]}, "tools", "tools[2]: a tool has a 'function'"),
        ({"tools": [*TOOLS, TOOLS[0]]}, "tools", "two tools are called 'Weather'"),
        ({"tools": [TOOLS[0]] * 129}, "tools", "at most 128"),
        (function(), "tools", "is no name of a tool"),
        (function(name="a b"), "tools", "is no name of a tool"),
        (function(name="auto"), "tools", "a tool cannot be called 'auto'"),
        (function(name="f", parameters={"type": "string"}), "tools", "JSON schema of type object"),
        (function(name="f", parameters=STRING), "tools", "parameters of 'f' at properties.a.type"),
        (function(name="f", parameters={"type": "object", **DEEP}), "tools", "different '$ref'"),
        (function(name="f", strict="yes"), "tools", "strict is true or false"),
        (function(name="f", more=1), "tools", "a tool's function has no \"more\""),
        (function(name="f", description="a" * 10_001), "tools", "at most 10,000 characters"),
        ({"tool_choice": "any"}, "tool_choice", "is auto, none, required, or a mapping"),
        ({"tool_choice": "Note"}, "tool_choice", "is auto, none, required, or a mapping"),
        ({"tool_choice": {"type": "function"}}, "tool_choice", "names a tool as"),
        ({"tool_choice": named("auto")}, "tool_choice", "names a tool as"),
        ({"tool_choice": named("nothing")}, "tool_choice", "'tools' has Weather, Note"),
        ({"tool_choice": allowed("required", "nothing")}, "tool_choice", "asks for \"nothing\""),
        ({"tool_choice": allowed("none", "Note")}, "tool_choice", "mode auto or required"),
        ({"tool_choice": allowed("auto")}, "tool_choice", "allowed_tools without tools"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice", "and there are no tools"),
        ({"tools": None, "tool_choice": named("Note")}, "tool_choice", "and there are no tools"),
        ({"parallel_tool_calls": "yes"}, "parallel_tool_calls", "'parallel_tool_calls' cannot be"),
        ({"functions": [{"name": "f"}]}, "functions", "is not offered here"),
        ({"function_call": {"name": "f"}}, "function_call", "Write 'tool_choice'"),
    ],
)  # fmt: skip
def test_what_cannot_be_called_is_refused(
    client: OpenAI, real_host: LocalHost, asked: dict[str, Any], param: str, said: str
) -> None:
    before = real_host.runs()
    given = {"tools": TOOLS, **asked}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model=STORYTELLER,
            messages=[QUESTION],
            extra_body=given,  # type: ignore[list-item]
        )
    assert caught.value.param == param
    assert said in caught.value.message
    assert real_host.runs() == before


def test_completions_have_no_tools(client: OpenAI) -> None:
    for asked in ({"tools": TOOLS}, {"tool_choice": "required"}):
        with pytest.raises(openai.BadRequestError, match="is not offered here"):
            client.completions.create(model=STORYTELLER, prompt="a", extra_body=asked)
