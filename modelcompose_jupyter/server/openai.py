"""OpenAI's completions and chat completions, spoken to the models of the components served.

A request goes to the model as it is, without the document's templates, parameters and outputs; the
component's settings of the model and its limit hold. It is a run like any other on the host.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, replace
from typing import Any

from ..document import (
    Action,
    Call,
    Document,
    Job,
    ModelComponent,
    Workflow,
    parse_template,
    render,
    signature,
)
from ..document.types import show
from ..errors import ComposeError, ExpressionError, InputError, did_you_mean
from ..models.weights.source import is_folder
from ..redaction import redact
from ..workflow import Event, State
from ..workflow.tokens import Token
from .events import HEARTBEAT, as_json, message
from .http import ApiRequest, ApiResponse, EventStream, Route, status_of
from .openai_errors import InvalidRequestError, OpenAIFailure, error_body
from .openai_logprobs import TextWithTokens, answer_of, of_chat, of_completion
from .openai_schemas import (
    INPUTS,
    BaseCompletionRequest,
    ChatRequest,
    Completion,
    CompletionRequest,
    Model,
    ModelList,
)
from .openai_tools import CallStream, message_of
from .tasks import Task, Terms, batches

_STARTED = int(time.time())


# Which models there are


def _models(request: ApiRequest) -> dict[str, tuple[Document, ModelComponent]]:
    """The components that can be spoken to, by the ids of their models; of several the first."""
    found: dict[str, tuple[Document, ModelComponent]] = {}
    for document in request.state.documents.catalog.documents:
        for component in document.components:
            if not isinstance(component, ModelComponent):
                continue
            id = _model_id(document, component)
            if id is not None:
                found.setdefault(id, (document, component))
    return found


def _model_id(document: Document, component: ModelComponent) -> str | None:
    """What a component's model is called; None if only a run's input tells which it is."""
    used = signature(document, _without_templates(document, component, None, ()).workflows[0])
    if used.open or any(each.required or each.name in INPUTS for each in used.inputs):
        return None
    try:
        source = render(
            component.model["source"], {"input": {}, "env": document.environment, "context": {}}
        )
    except ExpressionError:
        return None
    if not isinstance(source, str) or not source:
        return None
    source = redact(source)
    if is_folder(source) and not source.startswith("."):  # a path of this computer
        return source.replace("\\", "/").rstrip("/").rpartition("/")[2] or None
    return source


def _without_templates(
    document: Document, component: ModelComponent, format: _Format | None, parameters: Iterable[str]
) -> Document:
    """A document of one workflow, which speaks to one component's model without templates.

    It takes what ``format`` is to go on with, and the parameters, as inputs of these names.
    """
    path = component.path
    param, prompt = (format.param, format.prompt) if format else ("prompt", "")
    action = Action(
        id="__action__",
        path=path,
        text=parse_template(prompt, (*path, param)),
        parameters={
            name: parse_template(f"${{input.{name}}}", (*path, name)) for name in parameters
        },
        is_chat=format is _CHAT,
        takes_tokens=format is _TOKENS,
        gives_text=True,
    )
    bare = replace(component, actions=(action,), default=True)
    job = Job(id="__job__", path=path, type="component", work=Call(bare, action))
    workflow = format.workflow if format else "v1"
    flow = Workflow(id=workflow, path=path, jobs=(job,), default=True)
    return replace(document, components=(bare,), workflows=(flow,))


async def openai_models(request: ApiRequest) -> ApiResponse:
    return ApiResponse({"object": "list", "data": [_model(id) for id in _models(request)]})


async def openai_model(request: ApiRequest) -> ApiResponse:
    _find(request, request.path["model"])
    return ApiResponse(_model(request.path["model"]))


def _model(id: str) -> dict[str, Any]:
    owner = id.partition("/")[0] if "/" in id and not is_folder(id) else "modelcompose-jupyter"
    return {"id": id, "object": "model", "created": _STARTED, "owned_by": owner}


def _find(request: ApiRequest, id: str) -> tuple[Document, ModelComponent]:
    known = _models(request)
    if id not in known:
        names = ", ".join(f"'{name}'" for name in known)
        raise InvalidRequestError(
            f"there is no model {show(id)}",
            param="model",
            hint=did_you_mean(id, known) or (f"There is {names}." if names else None),
            code="unknown_model",
        )
    return known[id]


# How it is answered


@dataclass(frozen=True)
class _Format:
    """One of the kinds of completion: what it goes on with, and how it is written."""

    workflow: str
    param: str
    prompt: str
    prefix: str
    object: str
    chunk_object: str
    whole: Callable[[str, str, Sequence[Mapping[str, str]]], dict[str, Any]]
    piece: Callable[[str], dict[str, Any]]
    thought: Callable[[str], dict[str, Any]]
    logprobs: Callable[[Sequence[Token], int], dict[str, Any]]
    opening: Mapping[str, Any]
    closing: Mapping[str, Any]


_TEXT = _Format(
    workflow="v1/completions",
    param="prompt",
    prompt="${input.prompt as text[]}",
    prefix="cmpl-",
    object="text_completion",
    chunk_object="text_completion",
    whole=lambda text, *_: {"text": text},
    piece=lambda text: {"text": text},
    thought=lambda _: {"text": ""},  # there is none: only chats have them
    logprobs=of_completion,
    opening={},
    closing={"text": ""},
)
_TOKENS = replace(_TEXT, prompt="${input.prompt}")
_CHAT = _Format(
    workflow="v1/chat/completions",
    param="messages",
    prompt="${input.messages}",
    prefix="chatcmpl-",
    object="chat.completion",
    chunk_object="chat.completion.chunk",
    whole=lambda *said: {"message": message_of(*said)},
    piece=lambda text: {"delta": {"content": text} if text else {}},
    thought=lambda text: {"delta": {"reasoning_content": text}},
    logprobs=of_chat,
    opening={"delta": {"role": "assistant", "content": ""}},
    closing={"delta": {}},
)
_MAY_CALL = {"delta": {"role": "assistant", "content": None}}
_REASONS = {"eos": "stop", "stop": "stop", "length": "length", "tool_calls": "tool_calls"}


async def completions(request: ApiRequest) -> ApiResponse | EventStream:
    body: CompletionRequest = request.body
    parameters = {"include_prompt": False, **await _parameters(body)}
    prompts = body.prompts()
    format = _TOKENS if body.is_of_tokens else _TEXT
    return await _complete(request, format, prompts, parameters, len(prompts) * body.choices)


async def chat_completions(request: ApiRequest) -> ApiResponse | EventStream:
    body: ChatRequest = request.body
    messages = body.conversation()
    return await _complete(request, _CHAT, messages, await _parameters(body), body.choices)


async def _parameters(body: BaseCompletionRequest) -> dict[str, Any]:
    """What a request asks of the generation."""
    if body.asks_for_format is None and not body.may_call:
        return body.parameters()
    return await asyncio.to_thread(body.parameters)  # schemas and grammars take long to read


async def _complete(
    request: ApiRequest, format: _Format, given: Any, parameters: dict[str, Any], choices: int
) -> ApiResponse | EventStream:
    """The answer to a request, by a run that ends when its client leaves."""
    body: BaseCompletionRequest = request.body
    document = _without_templates(*_find(request, body.model), format, parameters)
    terms = Terms(request.state.tasks, request.caller, linger=0.0)
    try:
        run = request.state.host.submit(
            document,
            None,
            {format.param: given, **parameters},
            seed=body.own_seed(),
            requester=terms.requester,
        )
    except InputError as error:
        raise _as_invalid_request(error, body, format) from None
    await request.state.host.accepted(run)
    request.run_id = run.id
    completion = _Completion(request, format, Task(run, terms), choices)
    with completion.task.watching():
        return await (completion.stream() if body.stream else completion.whole())


def _as_invalid_request(
    error: InputError, body: BaseCompletionRequest, format: _Format
) -> InvalidRequestError:
    """An input's error as one of the request."""
    code, hint, param = error.code, error.hint, format.param
    if code == "format_too_complex":
        param = body.asks_for_format or ("tools" if body.may_call else param)
    if code == "prompt_too_long":
        code, hint = "context_length_exceeded", None  # the hint names what is not offered
    return InvalidRequestError(error.message, param=param, hint=hint, code=code)


class _Completion:
    """A run as the answer to a request."""

    def __init__(self, request: ApiRequest, format: _Format, task: Task, choices: int) -> None:
        self.task = task
        self._request = request
        self._body: BaseCompletionRequest = request.body
        self._format = format
        self._run = task.run
        self._choices = choices
        self._created = int(time.time())
        self._coming: defaultdict[tuple[Any, ...], TextWithTokens] = defaultdict(TextWithTokens)
        self._thoughts: defaultdict[tuple[Any, ...], int] = defaultdict(int)  # characters so far
        self._calls: defaultdict[tuple[Any, ...], CallStream] = defaultdict(CallStream)

    async def whole(self) -> ApiResponse:
        """All of it, when the run has ended."""
        if not await self._request.unless_disconnected(self._run.until_done()):
            return ApiResponse()
        if self._run.state is not State.COMPLETED:
            return self._failed()
        body = await asyncio.to_thread(self._body_of_whole)  # log-probabilities may be many
        return ApiResponse(body, result=self._run)

    def _body_of_whole(self) -> dict[str, Any]:
        reasons, logprobs = self._run.finish_reasons, self._logprobs()
        thoughts, calls = self._run.reasoning_streams, self._run.written_calls
        choices = [
            self._choice(
                stream,
                self._format.whole(text, thoughts[stream], calls[stream]),
                reasons[stream],
                logprobs.get(stream),
            )
            for stream, text in sorted(self._run.streams.items())
        ]
        return {**self._head(self._format.object), "choices": choices, "usage": self._usage()}

    def _logprobs(self) -> dict[tuple[Any, ...], Any]:
        """Those of each text, where they are asked for."""
        if not self._body.wants_logprobs:
            return {}
        run = self._run
        return {
            stream: self._format.logprobs([*of_prompt, *answer_of(of_text)], 0)
            for stream, of_prompt, of_text in zip(
                run.streams, run.prompt_tokens, run.tokens, strict=True
            )
        }

    async def stream(self) -> ApiResponse | EventStream:
        """A stream, once there is something to stream: what fails before has a status."""
        source = batches(self._run)
        first: list[Event] = []

        async def begin() -> bool:
            async for events in source:
                first.extend(events)
                says = (e for e in events if e.type in ("text", "reasoning", "call"))
                if not events or any(e.data["text"] or "finish_reason" in e.data for e in says):
                    break
            return True

        if not await self._request.unless_disconnected(begin()):
            return ApiResponse()
        if self._run.done and self._run.state is not State.COMPLETED:
            return self._failed()
        return EventStream(self.task, self._chunks(first, source), result=self._run)

    async def _chunks(
        self, first: list[Event], source: AsyncIterator[list[Event]]
    ) -> AsyncGenerator[str]:
        opening = _MAY_CALL if self._body.may_call else self._format.opening
        indexes = range(self._choices if opening else 0)
        opened = (self._chunk([self._choice((0, index), opening)]) for index in indexes)
        yield "".join(opened) + self._chunks_of(first)
        async for events in source:
            yield self._chunks_of(events) if events else HEARTBEAT
        if self._run.state is State.COMPLETED:
            if self._body.wants_usage:
                yield self._chunk([], usage=self._usage())
        else:
            yield message(as_json(error_body(self._error(), self._request.is_guest)))
        yield message("[DONE]")

    def _chunks_of(self, events: list[Event]) -> str:
        chunks: list[str] = []
        for event in events:
            data = event.data
            if event.type == "tokens":
                coming = self._coming[tuple(data["stream"])]
                coming.add_tokens(data["part"], data["offset"], data["tokens"])
            elif event.type == "reasoning":
                stream, thoughts = tuple(data["stream"]), self._thoughts
                text = data["text"][max(0, thoughts[stream] - data["offset"]) :]
                thoughts[stream] = max(thoughts[stream], data["offset"] + len(data["text"]))
                if text:
                    chunks.append(self._chunk([self._choice(stream, self._format.thought(text))]))
            elif event.type == "call":
                stream = tuple(data["stream"])
                if (call := self._calls[stream].delta(data)) is not None:
                    piece = {"delta": {"tool_calls": [call]}}
                    chunks.append(self._chunk([self._choice(stream, piece)]))
            elif event.type == "text":
                stream, reason = tuple(data["stream"]), data.get("finish_reason")
                coming = self._coming[stream]
                coming.add_text(data["offset"], data["text"])
                chunks += self._pieces(stream, coming, is_whole=reason is not None)
                if reason in _REASONS:
                    chunks.append(self._chunk([self._choice(stream, self._format.closing, reason)]))
        return "".join(chunks)

    def _pieces(
        self, stream: tuple[Any, ...], coming: TextWithTokens, *, is_whole: bool
    ) -> Iterator[str]:
        """A chunk of what has come of a text, if anything has."""
        has_tokens = self._body.wants_logprobs
        text, tokens, offset = coming.take(is_whole=is_whole or not has_tokens)
        if text or tokens:
            logprobs = self._format.logprobs(tokens, offset) if has_tokens else None
            piece = self._format.piece(text)
            yield self._chunk([self._choice(stream, piece, logprobs=logprobs)])

    def _choice(
        self,
        stream: tuple[Any, ...],
        body: Mapping[str, Any],
        reason: str | None = None,
        logprobs: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        prompt, sequence = stream[-2:]
        return {
            "index": prompt * self._body.choices + sequence,
            **body,
            "logprobs": logprobs,
            "finish_reason": reason and _REASONS.get(reason, reason),
        }

    def _chunk(self, choices: list[Any], usage: Any = None) -> str:
        data = {**self._head(self._format.chunk_object), "choices": choices}
        return message(as_json({**data, "usage": usage} if self._body.wants_usage else data))

    def _head(self, object: str) -> dict[str, Any]:
        return {
            "id": self._format.prefix + self._run.id,
            "object": object,
            "created": self._created,
            "model": self._body.model,
        }

    def _usage(self) -> dict[str, Any]:
        usage = self._run.usage
        return {
            "prompt_tokens": usage["prompt"],
            "completion_tokens": usage["generated"],
            "total_tokens": usage["prompt"] + usage["generated"],
            "prompt_tokens_details": {"cached_tokens": usage["reused"]},
            "completion_tokens_details": {"reasoning_tokens": usage.get("reasoning", 0)},
        }

    def _failed(self) -> ApiResponse:
        error = self._error()
        status = status_of(error)
        # Clients try again by themselves; the same request would fail the same way.
        headers = {"x-should-retry": "false"} if status >= 500 else {}
        body = error_body(error, self._request.is_guest)
        return ApiResponse(body, status, headers, result=self._run)

    def _error(self) -> ComposeError:
        error = self._run.error or ComposeError("the run failed", code="internal")
        if isinstance(error, InputError):
            return _as_invalid_request(error, self._body, self._format)
        return error


_FAILURES = dict.fromkeys((400, 401, 403), OpenAIFailure)
_COMPLETIONS = {
    200: Completion,
    **_FAILURES,
    **dict.fromkeys((404, 413, 415, 429, 500, 503), OpenAIFailure),
}

OPENAI_ROUTES = [
    Route("GET", "/v1/models", openai_models, "The models that OpenAI's clients can use",
          root=True, error_body=error_body, answers={200: ModelList, **_FAILURES}),
    Route("GET", "/v1/models/{model}", openai_model, "One of these models",
          root=True, error_body=error_body, answers={200: Model, **_FAILURES, 404: OpenAIFailure}),
    Route("POST", "/v1/completions", completions, "Go on with a text", body=CompletionRequest,
          root=True, error_body=error_body, answers=_COMPLETIONS),
    Route("POST", "/v1/chat/completions", chat_completions, "Reply to a conversation",
          body=ChatRequest, root=True, error_body=error_body, answers=_COMPLETIONS),
]  # fmt: skip
