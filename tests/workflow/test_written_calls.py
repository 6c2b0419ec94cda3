"""Calls of tools as the model writes them: told piece by piece, and whole once a run has ended."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from modelcompose_jupyter import LocalHost, Run, load
from modelcompose_jupyter.workflow.events import EVENT_DATA

CHAT = """\
component:
  type: model
  task: chat-completion
  model: bundled:storyteller
  messages: ${input.messages}
  temperature: 2
  num_return_sequences: 96
  tool_choice: required
  max_output_length: ${input.most | 200}
  tools:
    - type: function
      function:
        name: note
        parameters:
          type: object
          properties: {text: {type: string, maxLength: 30}}
          required: [text]
"""


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """One that has ended, with all events that there were: one call and several."""
    host = LocalHost()
    flow = load(CHAT, host=host)
    run = flow.start({"messages": "Tell me of a fox"}, seed=3)
    run.live = list(run.events())  # type: ignore[attr-defined]
    yield run
    host.close()


def test_they_come_as_they_are_written(run: Run) -> None:
    told: dict[tuple[object, ...], list[str]] = {}
    for event in run.live:  # type: ignore[attr-defined]
        if event.type == "call":
            EVENT_DATA["call"].model_validate(event.data)
            pieces = told.setdefault((*event.data["stream"], event.data["call"]), [])
            assert event.data["offset"] == len("".join(pieces))
            pieces.append(event.data["text"])

    assert {key[:-1] for key in told} == run.streams.keys()
    whole = {(*key, place): call for key, calls in run.written_calls.items()
             for place, call in enumerate(calls)}  # fmt: skip
    assert {key: "".join(pieces) for key, pieces in told.items()} == {
        key: call["arguments"] for key, call in whole.items()
    }
    assert max(len(pieces) for pieces in told.values()) > 3
    assert max(key[-1] for key in told) > 0  # several calls in one reply


def test_they_are_the_calls_that_are_told_when_they_are_whole(run: Run) -> None:
    written = [call for calls in run.written_calls.values() for call in calls]
    calls = {call["id"]: (call["name"], call["arguments"]) for call in run.tool_calls}
    assert {call["id"]: (call["name"], json.loads(call["arguments"])) for call in written} == calls
    assert len(calls) == len(written)


def test_what_is_kept_of_a_run_says_them_as_well(run: Run) -> None:
    kept = Run.restored(run.saved())
    assert kept.written_calls == run.written_calls
    events = [event for event in kept.events_so_far() if event.type == "call"]
    assert len(events) == len(run.tool_calls)
    assert all(event.data["offset"] == 0 for event in events)


def test_one_that_was_cut_is_there_as_far_as_it_came() -> None:
    host = LocalHost()
    run = load(CHAT, host=host).start({"messages": "Tell me of a fox", "most": 14}, seed=3)
    assert run.wait(90)
    host.close()
    cut = [calls[-1]["arguments"] for calls in run.written_calls.values() if calls]
    assert any(not each.endswith("}") for each in cut)
    assert all(each.startswith("{") for each in cut)
