"""Calls of tools as panels show them, and as conversations go on from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from modelcompose_jupyter import LocalHost, Run, Workflow, load
from modelcompose_jupyter.widgets.conversation import turns_html, with_replies
from modelcompose_jupyter.widgets.run_view import labels
from modelcompose_jupyter.widgets.static_output import bundle
from modelcompose_jupyter.widgets.tool_calls import NOT_CALLED, calls_html, calls_of, shown_turns

CHAT = """\
component:
  type: model
  task: chat-completion
  model: bundled:storyteller
  messages: ${input.messages}
  tools: [get_weather]
  tool_choice: required
  parallel_tool_calls: false
  max_output_length: 60
  temperature: 0
"""
ASKED: Any = {"role": "user", "content": "Tell me of <b>Paris</b>."}


@pytest.fixture(scope="module")
def host() -> Iterator[LocalHost]:
    host = LocalHost()
    yield host
    host.close()


def get_weather(city: Literal["Paris"]) -> str:
    """Tell the weather."""
    return "<b>sunny</b>"


@pytest.fixture(scope="module")
def flow(host: LocalHost) -> Workflow:
    return load(CHAT, tools=[get_weather], host=host)


@pytest.fixture(scope="module")
def run(flow: Workflow) -> Run:
    return flow.run(messages=[ASKED])


def called(id: str, name: str = "f", content: str = "") -> Any:
    call = {"id": id, "type": "function", "function": {"name": name, "arguments": {"a": "<b>"}}}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


def answered(id: str, content: str) -> Any:
    return {"role": "tool", "content": content, "tool_call_id": id, "name": "f"}


def said(role: str, content: str) -> Any:
    return {"role": role, "content": content}


def test_a_run_is_shown_with_its_calls(run: Run) -> None:
    (call,) = calls_of(run)
    assert call["summary"] == 'city="Paris"'
    assert json.loads(call["arguments"]) == {"city": "Paris"}
    assert (call["state"], call["told"], call["result"]) == ("completed", "", "<b>sunny</b>")
    assert "said" not in call


def test_a_conversation_goes_on_from_the_whole_exchange(flow: Workflow, run: Run) -> None:
    turns = with_replies([ASKED], run)
    assert [each["role"] for each in turns] == ["user", "assistant", "tool", "assistant"]
    assert turns[-1]["content"] == run.text
    more = flow.run(messages=[*turns, ASKED])
    assert [each["role"] for each in more.messages][:4] == [each["role"] for each in turns]


def test_calls_that_nobody_made_are_answered_so(host: LocalHost) -> None:
    """Templates want an answer to each call."""
    guests = Workflow(
        load(CHAT, tools=[get_weather]).document,
        None,
        host,
        for_guests=True,
        functions={"get_weather": get_weather},
    )
    returned = guests.run(messages=[ASKED])
    turns = with_replies([ASKED], returned)
    assert [each["role"] for each in turns] == ["user", "assistant", "tool"]
    assert turns[-1]["content"] == NOT_CALLED
    (shown,) = shown_turns(turns)[1:]
    assert shown["calls"][0]["state"] == "returned"
    assert guests.run(messages=[*turns, ASKED]).state == "completed"


def test_calls_stand_with_the_reply_behind_them() -> None:
    turns = [
        ASKED,
        called("a", content="Let me look."),
        answered("a", "one"),
        called("b"),
        answered("b", "error: none"),
        said("assistant", "So."),
        ASKED,
        called("c"),
        answered("c", NOT_CALLED),
        ASKED,
    ]
    shown = shown_turns(turns)
    assert [(each["role"], each["content"]) for each in shown] == [
        ("user", ASKED["content"]),
        ("assistant", "So."),
        ("user", ASKED["content"]),
        ("assistant", ""),
        ("user", ASKED["content"]),
    ]
    assert [each.get("index", place) for place, each in enumerate(shown)] == [0, 5, 6, 8, 9]
    first, second = shown[1]["calls"]
    assert (first["said"], first["result"], first["state"]) == ("Let me look.", "one", "completed")
    assert (second["error"], second["state"]) == ("none", "failed")
    assert shown[3]["calls"][0]["state"] == "returned"


def test_what_a_notebook_keeps_is_safe_and_says_what_was_called(flow: Workflow, run: Run) -> None:
    data, _ = bundle(run, flow.signature)
    assert "<b>" not in data["text/html"].replace("&lt;b&gt;", "")
    assert "get_weather(city=&quot;Paris&quot;)" in data["text/html"]
    assert 'get_weather(city="Paris") → <b>sunny</b>' in data["text/plain"]
    later = flow.run(messages=[*run.messages, said("user", "And now?")])
    data, _ = bundle(later, flow.signature)
    assert data["text/plain"].count('get_weather(city="Paris") → <b>sunny</b>') == 2
    html = turns_html([ASKED, called("a", "<i>"), answered("a", "error: <i>")])
    assert "<i>" not in html + calls_html(shown_turns([called("a", "<i>")])[0]["calls"])


def test_replies_are_numbered_where_there_are_several() -> None:
    assert labels([("a", 0, 0, 0), ("a", 0, 1, 0)], "reply {}") == ["reply 1", "reply 2"]
