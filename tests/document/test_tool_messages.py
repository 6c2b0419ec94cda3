"""Messages that call tools, and those that answer them."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from openai.types.chat import ChatCompletionMessage

from modelcompose_jupyter.document import json_schema, load_document
from modelcompose_jupyter.document.completion import complete
from modelcompose_jupyter.document.to_plain import to_plain
from modelcompose_jupyter.document.types import ConversionError, Type, convert, messages
from modelcompose_jupyter.errors import DocumentError

HEAD = "component:\n  type: model\n  task: chat-completion\n  model: scripted\n  messages:\n"
ASKED = {"role": "user", "content": "How warm is it?"}


def call(name: str = "warmth", id: str | None = "c1", **arguments: Any) -> dict[str, Any]:
    given = {} if id is None else {"id": id}
    return {**given, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: Any, content: Any = "") -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def answer(content: Any, id: str | None = "c1", **more: Any) -> dict[str, Any]:
    named = {} if id is None else {"tool_call_id": id}
    return {"role": "tool", "content": content, **named, **more}


EXCHANGE = [ASKED, calling(call(place="Seoul")), answer("21", name="warmth")]


def test_an_exchange_is_as_it_was_given() -> None:
    assert messages(EXCHANGE) == EXCHANGE
    assert convert(json.dumps(EXCHANGE), Type("messages")) == EXCHANGE


@pytest.mark.parametrize("arguments", ['{"place": "Seoul"}', {"place": "Seoul"}])
@pytest.mark.parametrize(
    "of_message", [{}, {"content": None}, {"content": []}, {"content": "", "refusal": None}]
)
def test_a_call_as_clients_send_it_back(arguments: Any, of_message: Any) -> None:
    given = {
        "role": "assistant",
        **of_message,
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "index": 0,
                "function": {"name": "warmth", "arguments": arguments, "parsed_arguments": None},
            }
        ],
    }
    assert messages([ASKED, given, answer("21")]) == EXCHANGE


def test_an_answer_of_openais_client_is_sent_back_as_it_is() -> None:
    function = {"name": "warmth", "arguments": '{"place": "Seoul"}'}
    reply = ChatCompletionMessage.model_validate(
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": function}],
        }
    )
    assert messages(to_plain([ASKED, reply, answer("21")])) == EXCHANGE


@pytest.mark.parametrize("arguments", ["", "{}", {}, None, " "])
def test_a_call_may_have_no_arguments(arguments: Any) -> None:
    given = {"id": "c1", "function": {"name": "now", "arguments": arguments}}
    assert messages([ASKED, calling(given)])[1] == calling(call("now"))


def test_calls_without_ids_get_some_and_are_answered_in_their_order() -> None:
    given = [
        ASKED,
        calling(call("a", None), call("b", "mine"), call("a", None)),
        answer("1", None),
        answer("2", None),
        answer("3", None),
        calling(call("a", None)),
        answer("4", None),
    ]
    found = messages(given)
    ids = [each["tool_call_id"] for each in found if each["role"] == "tool"]
    assert ids == ["call00001", "mine", "call00003", "call00003"[:-1] + "4"]
    assert [each["id"] for each in found[1]["tool_calls"]] == ids[:3]
    assert [each["name"] for each in found if each["role"] == "tool"] == ["a", "b", "a", "a"]
    assert messages(found) == found


def test_ids_may_come_again_and_answers_in_any_order() -> None:
    turn = [calling(call("a", "0"), call("b", "1")), answer("2", "1"), answer("1", "0")]
    found = messages([ASKED, *turn, ASKED, *turn])
    assert [each["name"] for each in found if each["role"] == "tool"] == ["b", "a", "b", "a"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"degrees": 21}, '{"degrees": 21}'),
        ([1, 2], "[1, 2]"),
        ([{"place": "Seoul"}], '[{"place": "Seoul"}]'),
        ([], "[]"),
        (21, "21"),
        ("", ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
    ],
)
def test_what_a_tool_gave_may_be_any_value(content: Any, text: str) -> None:
    assert messages([ASKED, calling(call()), answer(content)])[2]["content"] == text


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_thoughts_are_kept(key: str) -> None:
    given = {"role": "assistant", "content": "Hi", key: "Say hi."}
    expected = {"role": "assistant", "content": "Hi", "reasoning_content": "Say hi."}
    assert messages([ASKED, given]) == [ASKED, expected]


CALL_HINT = 'A call is {"id": …, "type": "function", "function": {"name": …, "arguments": {…}}}.'


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ([ASKED, answer("21", None)],
         "message 2: a tool's message answers no call: all that are before it are answered",
         "Put it behind the assistant's message whose 'tool_calls' has the call."),
        ([ASKED, calling(call()), answer("21", None), answer("21", None)],
         "message 4: a tool's message answers no call: all that are before it are answered",
         "Put it behind the assistant's message whose 'tool_calls' has the call."),
        ([ASKED, answer("21", "c1")],
         'message 2: a tool\'s message answers "c1", and no call before it has that id',
         "The assistant's message with the call comes before it, with 'tool_calls'."),
        ([ASKED, calling(call()), answer("21", "other")],
         'message 3: a tool\'s message answers "other", and no call before it has that id',
         'Calls before it are "c1".'),
        ([ASKED, calling(call(), call("a", "c1"))],
         'message 2: two calls have the id "c1"', "Give each call an id of its own, or none."),
        ([ASKED, calling({**call(), "id": 5})],
         "message 2: an id is a text", "Give each call an id of its own, or none."),
        ([ASKED, calling({"id": "c1"})],
         'message 2: {"id": "c1"} is no call of a function', CALL_HINT),
        ([ASKED, calling({**call(), "type": "custom"})],
         'message 2: {"id": "c1", "type": "custom", "function": {"name": "warmth…'
         " is no call of a function", CALL_HINT),
        ([ASKED, calling({"function": {"arguments": "{}"}})],
         "message 2: a call names no function", CALL_HINT),
        ([ASKED, {**calling(), "tool_calls": "warmth"}],
         "message 2: 'tool_calls' is a list of calls", CALL_HINT),
        ([ASKED, calling({"function": {"name": "warmth", "arguments": "[1]"}})],
         """message 2: the arguments of 'warmth' are a mapping, or its JSON, and not "[1]\"""",
         None),
        ([ASKED, calling(call()), answer(None)],
         "message 3: the tool's message has no content", None),
        ([{**ASKED, "tool_calls": [call()]}],
         "'tool_calls' is of the assistant's messages, and this one is the user's", None),
        ([{**ASKED, "tool_call_id": "c1"}],
         "'tool_call_id' is of the tool's messages, and this one is the user's", None),
        ([ASKED, {"role": "assistant", "content": "Hi", "reasoning_content": ["a"]}],
         """message 2: 'reasoning_content' must be text, and it is ["a"]""", None),
        ([{"role": "function", "name": "warmth", "content": "21"}],
         'there is no role "function"',
         "Write 'tool', and in the assistant's message 'tool_calls'."),
        ([{"role": "assistant", "content": None, "function_call": {"name": "a"}}],
         "'function_call' of a message is not supported", "Write 'tool_calls'."),
    ],
)  # fmt: skip
def test_messages_that_do_not_fit(given: Any, message: str, hint: str | None) -> None:
    with pytest.raises(ConversionError) as caught:
        messages(given)
    assert str(caught.value) == message
    assert caught.value.hint == hint


# In documents

WRITTEN = """\
    - How warm is it?
    - role: assistant
      tool_calls:
        - {id: c1, function: {name: warmth, arguments: {place: '${input.place}'}}}
    - {role: tool, tool_call_id: c1, content: 21}
    - {role: assistant, content: Warm., reasoning_content: 21 is warm.}
    - ${input.question}
"""


def test_a_document_has_calls_as_examples() -> None:
    document = load_document(HEAD + WRITTEN, environ={})
    found = messages(document.components[0].actions[0].text.value)
    assert found[1:3] == [
        calling(call(place="${input.place}")),
        answer("21", name="warmth"),
    ]
    jsonschema.validate(document.source.data, json_schema())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{role: user, content: a, tool_calls: [{function: {name: a}}]}",
         "'tool_calls' is of the assistant's messages, and this one is the user's"),
        ("{role: tool, content: a, reasoning_content: b}",
         "'reasoning_content' is of the assistant's messages, and this one is the tool's"),
        ("{role: assistant, content: a, tool_call_id: b}",
         "'tool_call_id' is of the tool's messages, and this one is the assistant's"),
        ("{role: assistant}", "'content' is missing"),
        ("{role: assistant, tool_calls: []}", "'tool_calls' must not be empty"),
        ("{role: assistant, tool_calls: [{name: a}]}", "unknown key 'name'"),
        ("{role: assistant, tool_calls: [{function: {name: a, args: b}}]}", "unknown key 'args'"),
        ("{role: assistant, tool_calls: [{type: custom, function: {name: a}}]}",
         "'type' cannot be \"custom\""),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_document_is_said(line: str, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load_document(f"{HEAD}    - {line}\n", environ={})
    problems = [(each.message, each.where.line) for each in caught.value.problems]
    assert (message, 6) in problems
    assert len(problems) == 1 or message == "unknown key 'name'"


@pytest.mark.parametrize(
    ("lines", "offered"),
    [
        ("    - ▮", {"role: ", "content: ", "tool_calls:", "reasoning_content: "}),
        ("    - role: ▮", {"tool"}),
        ("    - role: assistant\n      tool_calls:\n        - ▮", {"id: ", "function:"}),
        (
            "    - role: assistant\n      tool_calls:\n        - function:\n            ▮",
            {"name: ", "arguments: "},
        ),
    ],
)
def test_calls_are_completed(lines: str, offered: set[str]) -> None:
    text = HEAD + lines
    cursor = text.index("▮")
    found = {each.text for each in complete(text.replace("▮", ""), cursor, environ={}).items}
    assert {each.strip() for each in offered} <= {each.strip() for each in found}
