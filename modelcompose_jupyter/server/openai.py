"""OpenAI's completions and chat completions, spoken to the models of the components served.

A request goes to the model as it is, without the document's templates, parameters and outputs; the
component's settings of the model and its limit hold. It is a run like any other on the host.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..document import (
    Action,
    Component,
    Document,
    Job,
    Workflow,
    parse_template,
    render,
    signature,
)
from ..document.types import show
from ..errors import ComposeError, ExpressionError, InputError, did_you_mean
from ..models.weights.source import is_folder
from ..redaction import redact
from ..workflow import Event, Run, State
from .access import Caller
from .events import HEARTBEAT_SECONDS, as_json, message
from .handler import ApiRequest, ApiResponse, Route, Stream, status_of
from .openai_schemas import (
    INPUTS,
    Asked,
    ChatRequest,
    Completion,
    CompletionRequest,
    Model,
    ModelList,
    OpenAIFailure,
    Refused,
    error_body,
)
from .tasks import Task, Terms, batches, ended

_STARTED = int(time.time())


# Which models there are


def _models(call: ApiRequest) -> dict[str, tuple[Document, Component]]:
    """The components that can be spoken to, by the ids of their models; of several the first."""
    found: dict[str, tuple[Document, Component]] = {}
    for document, component in call.server.documents.catalog.components:
        id = _model_id(document, component)
        if id is not None:
            found.setdefault(id, (document, component))
    return found


def _model_id(document: Document, component: Component) -> str | None:
    """What a component's model is called; None if only a run's input tells which it is."""
    used = signature(document, _document(document, component, "", {}).workflows[0])
    if used.open or any(each.required or each.name in INPUTS for each in used.inputs):
        return None
    context = {"input": {}, "env": document.environment, "context": {}}
    try:
        source = render(component.model["source"], context)
    except ExpressionError:
        return None
    if not isinstance(source, str) or not source:
        return None
    source = redact(source)
    if is_folder(source) and not source.startswith("."):  # a path of this computer
        return source.replace("\\", "/").rstrip("/").rpartition("/")[2] or None
    return source


def _document(
    document: Document,
    component: Component,
    prompt: Any,
    parameters: Mapping[str, Any],
    *,
    workflow: str = "v1",
    is_chat: bool = False,
) -> Document:
    """A document of one workflow, which speaks to one component's model without templates.

    Args:
        document: the component's.
        component: whose model it is.
        prompt: the template of the prompt or the messages.
        parameters: those that the workflow takes as inputs of the same names.
        workflow: the id of the workflow.
        is_chat: whether ``prompt`` is that of messages.
    """
    path = component.path
    action = Action(
        id="__action__",
        path=path,
        text=parse_template(prompt, (*path, "messages" if is_chat else "prompt")),
        parameters={
            name: parse_template(f"${{input.{name}}}", (*path, name)) for name in parameters
        },
        is_chat=is_chat,
    )
    spoken = replace(component, actions=(action,), default=True)
    job = Job(id="__job__", path=path, component=spoken, action=action)
    made = Workflow(id=workflow, path=path, jobs=(job,), default=True)
    return replace(document, components=(spoken,), workflows=(made,))


async def openai_models(call: ApiRequest) -> ApiResponse:
    return ApiResponse({"object": "list", "data": [_model(id) for id in _models(call)]})


async def openai_model(call: ApiRequest) -> ApiResponse:
    _find(call, call.path["model"])
    return ApiResponse(_model(call.path["model"]))


def _model(id: str) -> dict[str, Any]:
    owner = id.partition("/")[0] if "/" in id and not is_folder(id) else "modelcompose-jupyter"
    return {"id": id, "object": "model", "created": _STARTED, "owned_by": owner}


def _find(call: ApiRequest, id: str) -> tuple[Document, Component]:
    known = _models(call)
    if id not in known:
        names = ", ".join(f"'{name}'" for name in known)
        raise Refused(
            f"there is no model {show(id)}",
            param="model",
            hint=did_you_mean(id, known) or (f"There is {names}." if names else None),
            code="unknown_model",
        )
    return known[id]


# How it is answered


@dataclass(frozen=True)
class _Shape:
    """How one of the two kinds of completion is written."""

    workflow: str
    prefix: str
    object: str
    chunk_object: str
    param: str
    whole: Callable[[str], dict[str, Any]]
    piece: Callable[[str], dict[str, Any]]
    opening: Mapping[str, Any] | None
    closing: Mapping[str, Any]


_TEXT = _Shape(
    workflow="v1/completions",
    prefix="cmpl-",
    object="text_completion",
    chunk_object="text_completion",
    param="prompt",
    whole=lambda text: {"text": text},
    piece=lambda text: {"text": text},
    opening=None,
    closing={"text": ""},
)
_CHAT = _Shape(
    workflow="v1/chat/completions",
    prefix="chatcmpl-",
    object="chat.completion",
    chunk_object="chat.completion.chunk",
    param="messages",
    whole=lambda text: {"message": {"role": "assistant", "content": text, "refusal": None}},
    piece=lambda text: {"delta": {"content": text}},
    opening={"delta": {"role": "assistant", "content": ""}},
    closing={"delta": {}},
)
_REASONS = {"eos": "stop", "stop": "stop", "length": "length"}


async def completions(call: ApiRequest) -> ApiResponse | Stream:
    asked: CompletionRequest = call.body
    parameters = {"include_prompt": False, **asked.parameters()}
    prompts = asked.prompts()
    document = _document(
        *_find(call, asked.model),
        "${input.prompt as text[]}",
        parameters,
        workflow=_TEXT.workflow,
    )
    values = {"prompt": prompts, **parameters}
    return await _answered(call, asked, _TEXT, document, values, len(prompts) * asked.choices)


async def chat_completions(call: ApiRequest) -> ApiResponse | Stream:
    asked: ChatRequest = call.body
    messages = asked.conversation()
    parameters = asked.parameters()
    document = _document(
        *_find(call, asked.model),
        "${input.messages}",
        parameters,
        workflow=_CHAT.workflow,
        is_chat=True,
    )
    values = {"messages": messages, **parameters}
    return await _answered(call, asked, _CHAT, document, values, asked.choices)


async def _answered(
    call: ApiRequest,
    asked: Asked,
    shape: _Shape,
    document: Document,
    values: dict[str, Any],
    choices: int,
) -> ApiResponse | Stream:
    """The answer to a request, by a run that ends when its client leaves."""
    terms = Terms(call.server.tasks, call.caller, linger=0.0)
    try:
        run = call.server.host.submit(
            document,
            None,
            values,
            seed=asked.own_seed(),
            owed_to=terms,
            is_guest=terms.is_guest,
        )
    except InputError as error:
        raise _refusal(error, shape) from None
    call.run = run.id
    task = Task(run, terms)
    completion = _Completion(call, asked, shape, run, choices)
    with contextlib.ExitStack() as watch:
        watch.enter_context(call.server.tasks.watching(task))
        return await (completion.stream(watch) if asked.stream else completion.whole())


def _refusal(error: InputError, shape: _Shape) -> Refused:
    """An input's error as one of the request."""
    code, hint = error.code, error.hint
    if code == "prompt_too_long":
        code, hint = "context_length_exceeded", None  # the hint names what is not offered
    return Refused(error.message, param=shape.param, hint=hint, code=code)


class _Completion:
    """A run as the answer to a request."""

    def __init__(
        self, call: ApiRequest, asked: Asked, shape: _Shape, run: Run, choices: int
    ) -> None:
        self._call = call
        self._asked = asked
        self._shape = shape
        self._run = run
        self._choices = choices
        self._created = int(time.time())

    async def whole(self) -> ApiResponse:
        """All of it, when the run has ended."""
        if not await self._call.until_gone(ended(self._run)):
            return ApiResponse()
        if self._run.state is not State.COMPLETED:
            return self._failed()
        reasons = _reasons(self._run)
        choices = [
            self._choice(stream, self._shape.whole(text), reasons[stream])
            for stream, text in sorted(self._run.streams.items())
        ]
        body = {**self._head(self._shape.object), "choices": choices, "usage": self._usage()}
        return ApiResponse(body, result=self._run)

    async def stream(self, watch: contextlib.ExitStack) -> ApiResponse | Stream:
        """A stream, once there is something to stream: what fails before has a status.

        ``watch`` is left when the stream ends.
        """
        source = batches(self._run, heartbeat=HEARTBEAT_SECONDS)
        first: list[Event] = []

        async def begin() -> None:
            async for events in source:
                first.extend(events)
                if not events or any(map(_says_something, events)):
                    return

        if not await self._call.until_gone(begin()):
            return ApiResponse()
        if self._run.done and self._run.state is not State.COMPLETED:
            return self._failed()
        return Stream(self._chunks(first, source, watch.pop_all()), result=self._run)

    async def _chunks(
        self, first: list[Event], source: AsyncIterator[list[Event]], watch: contextlib.ExitStack
    ) -> AsyncIterator[str]:
        with watch:
            reader = _Reader()
            yield self._opening() + self._written(reader, first)
            async for events in source:
                yield self._written(reader, events) if events else ": still here\n\n"
            if self._run.state is State.COMPLETED:
                if self._asked.wants_usage:
                    yield self._chunk([], usage=self._usage())
            else:
                yield message(as_json(self._error()[1]))
            yield message("[DONE]")

    def _opening(self) -> str:
        opening = self._shape.opening
        if opening is None:
            return ""
        return "".join(
            self._chunk([self._choice((0, index), opening)]) for index in range(self._choices)
        )

    def _written(self, reader: _Reader, events: list[Event]) -> str:
        chunks = []
        for event in events:
            if event.type != "text":
                continue
            stream, piece = tuple(event.data["stream"]), reader.fresh(event)
            if piece:
                chunks.append(self._chunk([self._choice(stream, self._shape.piece(piece))]))
            reason = event.data.get("finish_reason")
            if reason in _REASONS:
                chunks.append(self._chunk([self._choice(stream, self._shape.closing, reason)]))
        return "".join(chunks)

    def _choice(
        self, stream: tuple[Any, ...], body: Mapping[str, Any], reason: str | None = None
    ) -> dict[str, Any]:
        prompt, sequence = stream[-2:]
        return {
            "index": prompt * self._asked.choices + sequence,
            **body,
            "logprobs": None,
            "finish_reason": reason and _REASONS.get(reason, reason),
        }

    def _chunk(self, choices: list[Any], usage: Any = None) -> str:
        data = {**self._head(self._shape.chunk_object), "choices": choices}
        return message(as_json({**data, "usage": usage} if self._asked.wants_usage else data))

    def _head(self, object: str) -> dict[str, Any]:
        return {
            "id": self._shape.prefix + self._run.id,
            "object": object,
            "created": self._created,
            "model": self._asked.model,
        }

    def _usage(self) -> dict[str, Any]:
        usage = self._run.usage
        return {
            "prompt_tokens": usage["prompt"],
            "completion_tokens": usage["generated"],
            "total_tokens": usage["prompt"] + usage["generated"],
            "prompt_tokens_details": {"cached_tokens": usage["reused"]},
        }

    def _failed(self) -> ApiResponse:
        status, body = self._error()
        # Clients try again by themselves; the same request would fail the same way.
        headers = {"x-should-retry": "false"} if status >= 500 else {}
        return ApiResponse(body, status, headers, result=self._run)

    def _error(self) -> tuple[int, Any]:
        error = self._run.error or ComposeError("the run failed", code="internal")
        if isinstance(error, InputError):
            error = _refusal(error, self._shape)
        status = status_of(error)
        return status, error_body(error, status, self._call.caller is not Caller.OWNER)


class _Reader:
    """What a reader of several growing texts has of each."""

    def __init__(self) -> None:
        self._shown: dict[tuple[Any, ...], int] = {}

    def fresh(self, event: Event) -> str:
        """The part of a text event that is new; a run that ends tells its whole text again."""
        stream, offset = tuple(event.data["stream"]), event.data["offset"]
        text: str = event.data["text"]
        shown = self._shown.get(stream, 0)
        self._shown[stream] = max(shown, offset + len(text))
        return text[max(0, shown - offset) :]


def _says_something(event: Event) -> bool:
    return event.type == "text" and bool(event.data["text"] or "finish_reason" in event.data)


def _reasons(run: Run) -> dict[tuple[Any, ...], str]:
    """Why each text of a run ended."""
    return {
        tuple(event.data["stream"]): event.data["finish_reason"]
        for event in run.events_so_far()
        if event.type == "text" and "finish_reason" in event.data
    }


_FAILURES = {400: OpenAIFailure, 401: OpenAIFailure, 403: OpenAIFailure}
_COMPLETIONS = {
    200: Completion,
    **_FAILURES,
    404: OpenAIFailure,
    413: OpenAIFailure,
    415: OpenAIFailure,
    429: OpenAIFailure,
    500: OpenAIFailure,
    503: OpenAIFailure,
}

OPENAI_ROUTES = [
    Route("GET", "/v1/models", openai_models, "The models that OpenAI's clients can use",
          root=True, explain=error_body, answers={200: ModelList, **_FAILURES}),
    Route("GET", "/v1/models/{model}", openai_model, "One of these models",
          root=True, explain=error_body, answers={200: Model, **_FAILURES, 404: OpenAIFailure}),
    Route("POST", "/v1/completions", completions, "Go on with a text", body=CompletionRequest,
          root=True, explain=error_body, answers=_COMPLETIONS),
    Route("POST", "/v1/chat/completions", chat_completions, "Reply to a conversation",
          body=ChatRequest, root=True, explain=error_body, answers=_COMPLETIONS),
]  # fmt: skip
