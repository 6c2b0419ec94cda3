"""What goes over the wire: the bodies that the run API takes, and what it answers.

Names and statuses are model-compose's where it has them. Both sides of the API use these models,
and the OpenAPI document is made of them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ..document import Document, explain, load_document
from ..document.parameters import MAX_LOGPROBS
from ..errors import ComposeError, UsageError, did_you_mean, shortened
from ..path_redaction import last_name, public, public_source
from ..workflow import Event, Run, State

TaskStatus = Literal["pending", "processing", "interrupted", "completed", "failed", "cancelled"]

_STATUS: dict[State, TaskStatus] = {
    State.QUEUED: "pending",
    State.RUNNING: "processing",
    State.INTERRUPTED: "interrupted",
    State.COMPLETED: "completed",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
}
STATES = {status: state for state, status in _STATUS.items()}
_NOT_OFFERED = {
    "callback_url": "Poll /tasks/{id}, or follow /tasks/{id}/events.",
    "callback_headers": "Poll /tasks/{id}, or follow /tasks/{id}/events.",
    "subscribe_task": "Follow /tasks/{id}/events.",
}
_MAX_METADATA = 16_384


class Body(BaseModel):
    """A body that somebody sends; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Place = Annotated[int, Field(strict=True, ge=0)]
"""A whole number from 0, as nothing else is written."""


class GivenTokens(Body):
    """Tokens that a text begins with."""

    stream: list[str | int] = Field(
        min_length=4, max_length=4, description="Which text: job, repeat, prompt and sequence."
    )
    tokens: list[Place] = Field(description="Their ids.")
    prompt: str | None = Field(
        None, description="The prompt's digest, where it is the text behind that prompt alone."
    )


class Branch(Body):
    """Where a text goes on otherwise."""

    of: str = Field(description="The task, of which log-probabilities were asked for.")
    token: Place = Field(description="Which token of the text, from 0.")
    alternative: Place = Field(description="The id of the token in its place.")
    text: Place = Field(0, description="Which of the task's texts, from 0.")


class RunRequest(Body):
    """What to run, and how to answer."""

    workflow_id: str = Field("__default__", description="Which workflow; see /workflows.")
    input: Any = Field(None, description="Its inputs by name; see /workflows/{id}/schema.")
    seed: int | None = Field(
        None, ge=0, description="Of the first generation, where the document gives none."
    )
    wait_for_completion: bool = Field(
        True, description="Answer when the run has ended; else at once, with the task's id."
    )
    output_only: bool = Field(False, description="Answer with the output alone.")
    stream: bool = Field(
        False, description="Answer with server-sent events; so does 'Accept: text/event-stream'."
    )
    linger: float | None = Field(
        None,
        ge=0,
        le=3600,
        description="Seconds for which the run goes on while nobody watches it. If unset, a run"
        " that is waited for or streamed ends with its connection, and others go on to their end.",
    )
    session_id: str | None = Field(
        None, max_length=200, description="Given back as it is; /tasks lists by it."
    )
    metadata: dict[str, Any] | None = Field(
        None, description="Given back as it is; 16 KiB of JSON at most."
    )
    rerun_of: str | None = Field(
        None, description="A task to run again, with its workflow, input and seed."
    )
    extension_of: str | None = Field(
        None,
        description="A task to go on from, where a limit has cut its text: it is run again with a"
        " higher one.",
    )
    extend_by: int | None = Field(
        None,
        ge=1,
        description="Tokens that each text may have beyond its limit: that of the document, or of"
        " the task to go on from. There it is as many again if unset.",
    )
    logprobs: int | None = Field(
        None,
        ge=0,
        le=MAX_LOGPROBS,
        description="Tell the tokens with their log-probabilities, and so many alternatives of"
        " each, where the document does not ask for them.",
    )
    begins_with: list[GivenTokens] | None = Field(
        None, description="Tokens that texts begin with, whatever the model would choose."
    )
    score: str | None = Field(
        None,
        description="A text that stands behind the prompt: its tokens are told with their"
        " log-probabilities, and nothing is generated.",
    )
    format: dict[str, Any] | str | None = Field(
        None,
        description="What the texts must be, as a document says it, in place of its own: one of"
        " json_schema, json, regex, choices, grammar.",
    )
    branch: Branch | None = Field(
        None,
        description="A task to go on from at another token of its text: it is run again with that"
        " token in its place.",
    )
    document: str | None = Field(
        None, description="The key of a document that is served, or that its owner has sent."
    )

    @model_validator(mode="after")
    def _goes_on_from_one(self) -> RunRequest:
        """Whoever goes on from a task has all else from it."""
        origins = [n for n in ("rerun_of", "extension_of", "branch") if getattr(self, n)]
        asked = ("logprobs", "begins_with", "score", "format")
        others = [name for name in asked if getattr(self, name) is not None]
        if len([*origins, *others]) > 1 and origins:
            first, second = [*origins, *others][:2]
            raise PydanticCustomError(
                "together",
                "'{second}' has no place beside '{first}'",
                {"key": second, "first": first, "second": second},
            )
        return self

    @field_validator("metadata")
    @classmethod
    def _is_small(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and len(json.dumps(value)) > _MAX_METADATA:
            raise PydanticCustomError("conversion", "it is larger than 16 KiB")
        return value


class DocumentText(Body):
    """A document that a client brings along, to run it on this server's host."""

    text: str | None = Field(None, description="Its YAML.")
    data: dict[str, Any] | None = Field(None, description="A mapping in place of the YAML.")
    name: str = Field(description="What errors call it.")
    folder: str = Field(pattern=r"^[^\x00]+$", description="Where its relative models are.")
    environment: dict[str, str] = Field({}, description="The environment variables it uses.")
    files: dict[str, str] = Field({}, description="Texts of the files that it names.")

    @classmethod
    def of(cls, document: Document) -> DocumentText:
        source = document.source
        return cls(
            text=source.text,
            data=source.data if source.text is None else None,
            name=source.file,
            folder=str(source.folder),
            environment=dict(document.environment),
            files=dict(document.files),
        )

    def read(self, *, is_strangers: bool = False) -> Document:
        """The document; see `load_document`.

        Raises:
            DocumentError: what is wrong with it.
        """
        return load_document(
            (self.data or {}) if self.text is None else self.text.encode(),
            name=self.name,
            folder=Path(self.folder),
            environ=self.environment,
            files=self.files,
            is_strangers=is_strangers,
        )


class Resume(Body):
    """Answers to what a run asks. Without any, all of its questions go on as they are."""

    answer: Any = Field(
        None,
        description="What takes the place of the value in question, where 'job_id' says which; else"
        " a mapping with the answers by the ids of the task's 'interrupt'. null goes on as it is.",
    )
    job_id: str | None = Field(None, description="The job that asks.")
    run_id: str | None = Field(
        None, description="Which of its elements or rounds, as the 'interrupt' says it."
    )

    @model_validator(mode="after")
    def _says_which(self) -> Resume:
        if self.job_id is None and not isinstance(self.answer, dict | None):
            raise PydanticCustomError(
                "together",
                "an 'answer' alone is a mapping of answers by their questions' ids; beside it,"
                " 'job_id' says which job is answered",
                {"key": "answer"},
            )
        if self.job_id is None and self.run_id is not None:
            raise PydanticCustomError(
                "together", "'run_id' has no place without 'job_id'", {"key": "run_id"}
            )
        return self


class Unload(Body):
    """Which model to unload."""

    name: str | None = Field(None, description="A model's id or source; all idle ones if unset.")


class Answer(BaseModel):
    """Something the server says."""

    model_config = ConfigDict(extra="allow")


class ErrorDetails(Answer):
    """What went wrong."""

    code: str = Field(description="A stable word for programs.")
    message: str
    hint: str | None = Field(None, description="What to do about it.")
    where: dict[str, Any] | None = Field(None, description="The place in the document.")


class Failure(Answer):
    """The answer to a request that could not be met."""

    error: ErrorDetails


class Interrupt(Answer):
    """A question that a run waits at. Keys that have no value are left out."""

    id: str = Field(description="What tells it from others of the task.")
    job_id: str = Field(description="The job that asks.")
    run_id: str | None = Field(None, description="Which of its elements or rounds, if it has any.")
    phase: Literal["before", "after"] = Field(description="Whether before the job or after it.")
    message: str | None = Field(None, description="What is asked.")
    metadata: dict[str, Any] | None = Field(None, description="What is to be known beside it.")
    value: Any = Field(None, description="What an answer takes the place of.")
    choices: list[Any] | None = Field(
        None, description="The answers that there are; anything is one where there are none."
    )
    until: float = Field(description="When it is open no more, in seconds since the epoch.")


class TaskState(Answer):
    """A run, as it is now. Keys that have no value are left out."""

    task_id: str
    status: TaskStatus
    workflow_id: str
    output: Any = None
    error: ErrorDetails | None = None
    interrupt: list[Interrupt] | None = Field(
        None, description="The questions that it waits at; see /tasks/{task_id}/resume."
    )
    text: str | None = Field(None, description="The text so far, unless the run has completed.")
    reasoning: str | None = Field(None, description="What the model thought before the text.")
    finish_reason: str | None = None
    tool_calls: list[dict[str, Any]] | None = Field(
        None,
        description="Calls of tools: id, name, arguments and state. Those that are 'returned' are "
        "the output, and left to whoever asked.",
    )
    extendable_by: int | None = Field(
        None, description="Tokens by which a text that was cut may go on; see 'extension_of'."
    )
    usage: dict[str, int] | None = None
    parameters: dict[str, Any] | None = Field(None, description="Those really used.")
    warnings: list[str] | None = None
    timings: dict[str, float] | None = None
    session_id: str | None = None
    metadata: dict[str, Any] | None = None
    user: str | None = Field(None, description="Who asked, where users are known by name.")


class Health(Answer):
    """Whether the server takes requests."""

    status: Literal["ok", "shutting_down"]


class WorkflowSummary(Answer):
    """A workflow that is served."""

    workflow_id: str
    title: str | None = None
    default: bool | None = None


class WorkflowSchema(WorkflowSummary):
    """A workflow with its inputs and outputs."""

    description: str | None = None
    input: list[dict[str, Any]]
    output: list[dict[str, Any]]


class ModelsAnswer(Answer):
    """The models in memory, what memory the process holds, and how many runs it can be given at
    once; more would only wait."""

    models: list[dict[str, Any]]
    memory: dict[str, Any]
    capacity: int


class DocumentKey(Answer):
    """A document that is known here."""

    key: str
    served: bool


def parse_body(model: type[BaseModel], data: Any) -> Any:
    """A body as its model.

    Raises:
        UsageError: it is something else; says which key and what to do.
    """
    if not isinstance(data, dict):
        raise UsageError("the body must be a JSON object", code="invalid_request")
    for key in _NOT_OFFERED.keys() & data.keys() - model.model_fields.keys():
        raise UsageError(
            f"'{key}' is not offered here", hint=_NOT_OFFERED[key], code="invalid_request"
        )
    unknown = next((key for key in data if key not in model.model_fields), None)
    try:  # one unknown key is all that is told of, however many there are
        return model.model_validate(
            {key: data[key] for key in data if key in model.model_fields or key == unknown}
        )
    except ValidationError as error:
        details = error.errors()[0]
        key = ".".join(map(str, details["loc"]))
        if details["type"] == "extra_forbidden":
            known = list(model.model_fields)
            message = f"unknown key '{shortened(key)}'"
            inputs = "Inputs stand under 'input'. " if "input" in known else ""
            hint: str | None = (
                did_you_mean(key, known) or f"{inputs}Known here: {', '.join(known)}."
            )
        elif details["type"] == "missing":
            message, hint = f"'{key}' is missing", None
        else:
            message, hint = explain(key, details)
        raise UsageError(message, hint=hint, code="invalid_request") from None


def task_state(run: Run, session_id: str | None = None, user: str | None = None) -> dict[str, Any]:
    """A run as a `TaskState`, without the keys that have no value."""
    ended = run.done  # first: what is read after it is complete if it is true
    state = run.state
    data = {
        "task_id": run.id,
        "status": _STATUS[state],
        "workflow_id": run.workflow,
        "error": run.error.to_dict() if run.error is not None else None,
        "interrupt": list(map(interrupt, run.questions)) or None,
        "text": None if state is State.COMPLETED else run.text,
        "reasoning": run.reasoning or None,
        "finish_reason": run.finish_reason,
        "tool_calls": run.tool_calls or None,
        "extendable_by": run.extendable_by or None,
        "usage": run.usage if ended else None,
        "parameters": run.parameters or None,
        "warnings": run.warnings or None,
        "timings": run.timings or None,
        "session_id": session_id,
        "metadata": run.metadata,
        "user": user,
    }
    given = {key: value for key, value in data.items() if value is not None}
    return given | ({"output": run.output} if state is State.COMPLETED else {})


def interrupt(question: Mapping[str, Any]) -> dict[str, Any]:
    """A question as an `Interrupt`, without the keys that have no value."""
    keys = ("id", "phase", "message", "metadata", "value", "choices", "until")
    given = {key: question[key] for key in keys if question.get(key) is not None}
    place = "".join(f"[{index}]" for index in question["place"])
    named = {"job_id": question["job"], **({"run_id": question["job"] + place} if place else {})}
    return {**named, **given}


def event_data(event: Event) -> dict[str, Any]:
    """What is sent of an event: its data, and its time."""
    return {"time": event.time, **event.data}


def public_error(data: Mapping[str, Any]) -> dict[str, Any]:
    """An error's data for guests: without folders."""
    words = {key: public(data.get(key)) for key in ("message", "hint")}
    where = data.get("where")
    if where is not None:  # neither the folder nor the line, which may hold more than the error
        where = {**where, "file": last_name(where["file"]), "snippet": None}
    later = {key: data[key] for key in ("retry_after",) if key in data}
    return {"type": data["type"], "code": data["code"], **words, "where": where, **later}


def public_event(event: Event) -> dict[str, Any]:
    """`event_data` for guests: without folders, and without what it takes to run it again."""
    data = event_data(event)
    if event.type == "error":
        return {"time": event.time, **public_error(event.data)}
    if event.type == "progress":
        model = {"model": public_source(data["model"])} if "model" in data else {}
        return {**public(data), **model}
    if event.type == "job":  # which tells why it failed
        return _with_public_values(data, ("error", "failures"))
    if event.type == "item":
        return _with_public_values(data, ("error",))
    if event.type == "question":
        return _public_question(data)
    if event.type == "state" and "summary" in data:
        summary = {key: value for key, value in data["summary"].items() if key != "record"}
        data["summary"] = _with_public_values(summary)
    return data


def _public_question(data: dict[str, Any]) -> dict[str, Any]:
    """A question for guests: its words without folders. What is reviewed and answered is theirs."""
    return {**data, **{key: public(data[key]) for key in ("message", "metadata") if key in data}}


def public_model(data: Mapping[str, Any]) -> dict[str, Any]:
    """A model in memory for guests: without folders."""
    return {**public(data), "source": public_source(data["source"])}


def public_state(data: dict[str, Any]) -> dict[str, Any]:
    """A task's state for guests: without folders."""
    given = dict(data)
    if "error" in given:
        given["error"] = public_error(given["error"])
    if "interrupt" in given:
        given["interrupt"] = list(map(_public_question, given["interrupt"]))
    return _with_public_values(given)


def outline(data: Mapping[str, Any]) -> dict[str, Any]:
    """A task's state for those who see who runs what, and not what was asked and answered."""
    keys = ("task_id", "status", "workflow_id", "finish_reason", "usage", "timings", "user")
    return {key: data[key] for key in keys if key in data}


def _with_public_values(
    data: Mapping[str, Any], keys: Collection[str] = ("warnings", "parameters")
) -> dict[str, Any]:
    """What is told of a run beside its texts, for guests: without folders."""
    return {key: public(value) if key in keys else value for key, value in data.items()}


def failure(error: ComposeError, is_guest: bool) -> dict[str, Any]:
    """The body of an answer that is an error."""
    data = error.to_dict()
    own_words = isinstance(error, UsageError)  # which speak of the API's paths alone
    return {"error": public_error(data) if is_guest and not own_words else data}
