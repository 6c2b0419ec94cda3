"""Events of a run: what each type tells, as plain data.

Whoever drives a run adds such data, and `Run` folds it. Clients of the run API check by these
models what they are sent, before a run takes it in. Data may have more keys than a model names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, NonNegativeInt

EventType = Literal[
    "state",
    "progress",
    "text",
    "reasoning",
    "tokens",
    "call",
    "tool",
    "messages",
    "job",
    "question",
    "item",
    "result",
    "error",
]


class State(StrEnum):
    """The states of a run; equal to their plain strings. It is ``interrupted`` while a question of
    its is open, whatever goes on meanwhile; no event says so but the question's."""

    QUEUED = "queued"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (State.COMPLETED, State.FAILED, State.CANCELLED)


@dataclass(frozen=True)
class Event:
    """Something that happened in a run, with a time in seconds since the epoch, and plain data.

    `EVENT_DATA` has what the data of each type is. Numbers count from 0; those of a run that has
    ended have gaps, where events were merged.
    """

    number: int
    type: EventType
    time: float
    data: Mapping[str, Any]


class Summary(BaseModel):
    """What a run says of itself when it has ended; see the properties of `Run`."""

    usage: dict[str, int] = {}
    parameters: dict[str, Any] = {}
    limited_by: str | None = None
    warnings: list[str] = []
    timings: dict[str, Any] = {}
    record: dict[str, Any] = {}
    extendable_by: int = 0


class StateData(BaseModel):
    """The run is in another state. The last event of a run is one, with its summary."""

    state: State
    summary: Summary = Summary()


class ProgressData(BaseModel):
    """How far something is that takes time.

    Attributes:
        phase: ``start``, ``download``, ``load``, ``queue``, ``prefill`` (a long prompt is read),
            ``job``, ``repeat``, ``item``, ``round`` or ``prompt``.
        job: the id of the job that it is about.
        state: of the job, where the phase is ``job``: ``started`` or ``completed``.
        done: how many of ``total``, in ``unit``.
        total: None where nobody knows; of rounds how many there may be.
        unit: ``steps``, ``B``, ``requests``, ``tokens``, ``jobs``, ``repeats``, ``items``,
            ``rounds`` or ``prompts``.
        ahead: in the queue, how many requests must end first.
        model: the source of a model that is downloaded or loaded.
        file: the file that is downloaded.
        step: what is made ready at the start: ``engine``, ``kernels`` (compiled, once on a
            computer) or ``torch`` (imported, once in a process).
    """

    phase: str
    job: str | None = None
    state: str | None = None
    done: int | None = None
    total: int | None = None
    unit: str | None = None
    ahead: int | None = None
    model: str | None = None
    file: str | None = None
    step: str | None = None


class TextData(BaseModel):
    """More of one of the texts, or its announcement, an empty one.

    Attributes:
        stream: which text: job, repeat, prompt and sequence.
        offset: where it goes, in characters; what was there is replaced.
        text: what has come.
        finish_reason: in the last one of a stream, why it ended.
    """

    stream: list[str | int]
    offset: NonNegativeInt
    text: str
    finish_reason: str | None = None


class ReasoningData(BaseModel):
    """More of what the model thinks before one of the texts.

    Attributes:
        stream: which text, as in `TextData`.
        offset: where it goes, in characters; what was there is replaced.
        text: what has come.
        tokens: how many tokens the thoughts have by now, without their markers.
    """

    stream: list[str | int]
    offset: NonNegativeInt
    text: str
    tokens: NonNegativeInt = 0


class AlternativeData(BaseModel):
    """A token that could have stood in the place of another: see `tokens.Alternative`."""

    id: int
    token: str
    logprob: float
    sampling_logprob: float | None = None
    bytes: list[int] | None = None


class TokenData(BaseModel):
    """A token and what the model weighed in its place: see `tokens.Token`."""

    id: int
    token: str
    text: str
    logprob: float | None = None
    sampling_logprob: float | None = None
    rank: int | None = None
    bytes: list[int] | None = None
    alternatives: list[AlternativeData] = []
    part: Literal["text", "reasoning"] = "text"


class TokensData(BaseModel):
    """More tokens of one of the texts, where their log-probabilities were asked for.

    Attributes:
        stream: which text, as in `TextData`.
        part: ``text`` for those that were generated, ``prompt`` for those of its prompt.
        offset: the place of the first among these; what was there is replaced.
        tokens: what has come.
        start: the character of the text where the first of all that were generated begins: behind
            the prompt, where the text has that. Of both parts.
    """

    stream: list[str | int]
    part: Literal["text", "prompt"] = "text"
    offset: NonNegativeInt
    tokens: list[TokenData]
    start: NonNegativeInt = 0


class CallData(BaseModel):
    """More of a call of a tool, while the model writes it; or its announcement, an empty one.

    Attributes:
        stream: the text that it stands behind, as in `TextData`.
        call: which of the calls there.
        id: as in `ToolData`, which tells the call when it is whole.
        name: of the tool.
        offset: where the text goes, in characters; what was there is replaced.
        text: what has come of the arguments, which are JSON.
    """

    stream: list[str | int]
    call: NonNegativeInt
    id: str
    name: str
    offset: NonNegativeInt
    text: str


class ToolData(BaseModel):
    """A call of a tool, from when its arguments are whole. Each event of a call tells all of it.

    Attributes:
        stream: the text that it stands behind, as in `TextData`; in a chat whose functions are
            called, the third number counts the replies.
        id: what tells it from others.
        name: of the tool.
        arguments: by their names.
        state: ``called`` by the model; ``running``, ``completed``, ``failed`` or ``cancelled``, of
            a function that is called here; ``returned``, where that is left to who asked.
        result: what the function gave, as the model is told.
        error: what went wrong, a line.
        seconds: how long it took.
    """

    stream: list[str | int]
    id: str
    name: str
    arguments: dict[str, Any]
    state: Literal["called", "running", "completed", "failed", "cancelled", "returned"]
    result: str | None = None
    error: str | None = None
    seconds: float | None = None


class MessagesData(BaseModel):
    """More messages of a chat that has tools, in OpenAI's shape: first those that it began with.

    Attributes:
        job: whose chat it is.
        repeat: which of the job's repeats.
        messages: what is added to those before.
        begins: whether the chat begins with them, maybe in another attempt of the job: what was
            there is replaced.
    """

    job: str
    repeat: int
    messages: list[dict[str, Any]]
    begins: bool = False


class FailureData(BaseModel):
    """An attempt of a job that has failed, where the run went on.

    Attributes:
        attempt: which one, from 1.
        place: which repeat, element or round, from the outermost in; nothing of the job itself.
        code, message: of the error.
        again: whether it was tried again.
    """

    attempt: int
    place: list[int] = []
    code: str
    message: str
    again: bool = False


class JobData(BaseModel):
    """The state of a job. Each event of a job tells all of it.

    Attributes:
        job: its id; of a job of a workflow that another job calls, behind that job's: ``a/b``.
        type: what kind of job it is.
        state: ``pending``; ``running``; ``waiting`` for the next attempt; ``interrupted``, until
            somebody has answered; ``completed``; ``failed``; ``skipped``, since nothing led to it
            or what it waits for was skipped; ``cancelled`` with the run.
        route: the job that it has led to.
        error: what became of it, though the run may have gone on: its code and message.
        failed: how many attempts have failed, those of repeats, elements and rounds among them.
        failures: the first of these.
        seconds: how long it took.
        attempt: which attempt it is at, or waits for, where it is tried again: from 2 on.
        attempts: how many there may be.
        wait: how many seconds pass before that attempt, while it waits.
    """

    job: str
    type: str
    state: Literal[
        "pending",
        "running",
        "waiting",
        "interrupted",
        "completed",
        "failed",
        "skipped",
        "cancelled",
    ]
    route: str | None = None
    error: dict[str, str] | None = None
    failed: NonNegativeInt = 0
    failures: list[FailureData] = []
    seconds: float | None = None
    attempt: int | None = None
    attempts: int | None = None
    wait: float | None = None


class ItemData(BaseModel):
    """The state of one element, or round, that a job goes through. Each event tells all of it; of a
    job that has very many, those of the first thousand.

    Attributes:
        job: the job's id, as in `JobData`.
        index: which one.
        state: as of a job.
        label: the element in a line, cut; None of rounds.
        attempt: which attempt it is at, or waits for, where it is tried again: from 2 on.
        output: what it gave, in a line, cut, where that is no text of a model.
        error: what went wrong, though something may have been given instead.
    """

    job: str
    index: NonNegativeInt
    state: Literal["running", "waiting", "completed", "failed", "cancelled"]
    label: str | None = None
    attempt: int | None = None
    output: str | None = None
    error: dict[str, str] | None = None


class QuestionData(BaseModel):
    """A question to a person, at which a job waits. Each event of a question tells all of it.

    Attributes:
        id: what tells it from others of the run.
        job: the id of the job, as in `JobData`.
        place: which element or round of it, from the outermost in; nothing of the job itself.
        phase: whether it is asked ``before`` the job or ``after`` it.
        message: what is asked.
        metadata: what is to be known beside it.
        value: what the job gets, or what has come of it: an answer takes its place.
        choices: the answers that there are; anything is one where there are none.
        until: when it is open no more, in seconds since the epoch.
        state: ``open``; ``answered``; ``expired``, since nobody has answered; ``withdrawn``, since
            the run, or this part of it, has ended.
        answer: what it was answered; None is to go on as it is.
    """

    id: str
    job: str
    place: list[int] = []
    phase: Literal["before", "after"]
    message: str | None = None
    metadata: dict[str, Any] | None = None
    value: Any = None
    choices: list[Any] | None = None
    until: float
    state: Literal["open", "answered", "expired", "withdrawn"]
    answer: Any = None


class ResultData(BaseModel):
    """The workflow's output."""

    output: Any


class ErrorData(BaseModel):
    """What went wrong: `ComposeError.to_dict`."""

    type: str | None = None
    code: str
    message: str
    hint: str | None = None
    where: dict[str, Any] | None = None


EVENT_DATA: Mapping[str, type[BaseModel]] = {
    "state": StateData,
    "progress": ProgressData,
    "text": TextData,
    "reasoning": ReasoningData,
    "tokens": TokensData,
    "call": CallData,
    "tool": ToolData,
    "messages": MessagesData,
    "job": JobData,
    "question": QuestionData,
    "item": ItemData,
    "result": ResultData,
    "error": ErrorData,
}
"""The data of an event, by its type."""
