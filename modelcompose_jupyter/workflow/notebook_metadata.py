"""What a notebook keeps of a run, in the metadata of the output that shows it.

That is the run's record, and beside it what came of the run: when, its texts and output or its
error, so that a later kernel has the run as it ended. A text stands there once: one that is all
that the output says is taken from the output again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, NonNegativeInt

from .events import ErrorData, Event, JobData, MessagesData, State, Summary, ToolData

METADATA_KEY = "modelcompose"
"""Where a notebook keeps a run, in the metadata of the output that shows it."""

_RESULT_KEY = "result"

# Seconds since the epoch, of times that tables can have.
_Time = Annotated[float, Field(ge=0, lt=2**33)]
_Timing = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Text(BaseModel):
    """One of the texts. ``text`` is None where the output has it; ``reasoning`` was thought before
    it."""

    stream: tuple[str | int, ...]
    text: str | None = None
    reasoning: str = ""
    reasoning_tokens: Annotated[int, Field(ge=0)] = 0
    finish_reason: str | None = None


class _Result(BaseModel):
    """What came of a run."""

    began: _Time
    ended: _Time
    state: Literal[State.COMPLETED, State.FAILED, State.CANCELLED]
    texts: list[_Text] = []
    tools: list[ToolData] = []
    messages: list[MessagesData] = []
    output: Any = None
    error: ErrorData | None = None
    summary: Summary = Summary()


class _Model(BaseModel):
    source: str


class _Generation(BaseModel):
    model: _Model
    parameters: dict[str, Any]
    finish_reasons: list[str]


class _Job(JobData):
    """A job, and how many of its repeats, elements or rounds have ended."""

    job: str = ""
    done: NonNegativeInt = 0
    total: NonNegativeInt = 0


class _Kept(BaseModel):
    """A record with its result, as far as anybody relies on what is in it."""

    run: str
    workflow: str
    document: str
    input: Any
    seed: int
    timings: dict[str, _Timing]
    jobs: dict[str, _Job] = {}
    generations: list[_Generation]
    result: _Result


def as_metadata(
    record: Mapping[str, Any], parameters: Mapping[str, Any], events: Sequence[Event]
) -> dict[str, Any]:
    """The metadata of an output, for a run that has ended, from its record, parameters and events;
    empty where the run has no record: one that never began, or a guest's."""
    if not record:
        return {}
    last = {event.type: event for event in events}
    output = last["result"].data["output"] if "result" in last else None
    # Of a stream the last event has the whole text, the first its place among the others.
    streams = {tuple(each.data["stream"]): each.data for each in events if each.type == "text"}
    thoughts = {
        tuple(each.data["stream"]): each.data for each in events if each.type == "reasoning"
    }
    shown = _only_text(output) if len(streams) == 1 else None
    texts = [
        _Text(
            stream=stream,
            reasoning=thoughts.get(stream, {}).get("text", ""),
            reasoning_tokens=thoughts.get(stream, {}).get("tokens", 0),
            text=None if data["text"] == shown else data["text"],
            finish_reason=data.get("finish_reason"),
        )
        for stream, data in streams.items()
    ]
    tools = [ToolData(**each.data) for each in events if each.type == "tool"]
    messages = [MessagesData(**each.data) for each in events if each.type == "messages"]
    ended = last["state"]
    beside = {"parameters": parameters, "record": {}, "timings": {}, "extendable_by": 0}
    result = _Result(
        began=events[0].time,
        ended=ended.time,
        state=ended.data["state"],
        texts=texts,
        tools=tools,
        messages=messages,
        output=output,
        error=ErrorData(**last["error"].data) if "error" in last else None,
        summary=Summary(**{**ended.data["summary"], **beside}),
    )
    kept = result.model_dump(mode="json", exclude_defaults=True)
    return {METADATA_KEY: {**record, _RESULT_KEY: kept}}


def saved_run(record: Mapping[str, Any]) -> dict[str, Any]:
    """What `Run.restored` makes the run of again, from a record with its result. It cannot go on:
    another process had what it takes.

    Raises:
        ValueError: it is no record, has no result, or texts that are not valid Unicode.
    """
    json.dumps(record, ensure_ascii=False).encode()
    kept = _Kept.model_validate(record)
    result = kept.result
    own = {key: value for key, value in record.items() if key != _RESULT_KEY}
    shown = _only_text(result.output)
    events: list[tuple[Any, float, dict[str, Any]]] = [
        ("state", result.began, {"state": State.RUNNING})
    ]
    for name, job in kept.jobs.items():
        told = job.model_dump(exclude_defaults=True, exclude={"done", "total"})
        events.append(("job", result.ended, {**told, "job": name}))
        if job.total:
            counted = {"phase": "item", "job": name, "done": job.done, "total": job.total}
            events.append(("progress", result.ended, counted))
    for each in result.texts:
        text = {"text": (each.text if each.text is not None else shown) or "", "offset": 0}
        reason = {} if each.finish_reason is None else {"finish_reason": each.finish_reason}
        events.append(("text", result.ended, {"stream": each.stream, **text, **reason}))
        if each.reasoning:
            thoughts = {"offset": 0, "text": each.reasoning, "tokens": each.reasoning_tokens}
            events.append(("reasoning", result.ended, {"stream": each.stream, **thoughts}))
    events += [("tool", result.ended, each.model_dump(exclude_none=True)) for each in result.tools]
    events += [("messages", result.ended, each.model_dump()) for each in result.messages]
    if result.state is State.COMPLETED:
        events.append(("result", result.ended, {"output": result.output}))
    if result.error is not None:
        events.append(("error", result.ended, result.error.model_dump()))
    summary = {**result.summary.model_dump(), "record": own, "timings": kept.timings}
    summary["extendable_by"] = 0
    events.append(("state", result.ended, {"state": result.state, "summary": summary}))
    return {
        "id": kept.run,
        "workflow": kept.workflow,
        "document": kept.document,
        "input": kept.input,
        "metadata": None,
        "parameters": {},
        "events": [Event(number, *each) for number, each in enumerate(events)],
        "drafts": {},
        "size": 0,
    }


def _only_text(output: Any) -> str | None:
    """The text that is all that an output says."""
    if isinstance(output, Mapping) and len(output) == 1:
        (output,) = output.values()
    return output if isinstance(output, str) else None
