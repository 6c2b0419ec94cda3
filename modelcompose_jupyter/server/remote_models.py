"""Models of another host, for runs that are driven here, where their functions are: each prompt is
a run over there, of a document that has the call's model and nothing else.

What it asks is rendered here, so that it is the same as where the model is here; what comes of it
is told in the run here.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..document import Document, GenerationParameters, load_document
from ..document.types import ToolCall
from ..errors import ComposeError
from ..host import LocalHost
from ..models import GenerationResult, MemoryUse, ModelInfo, Prompt
from ..workflow import Event, Run, RunOptions, State
from ..workflow.component_call import ComponentCall
from ..workflow.concurrency_limiter import ConcurrencyLimiter
from ..workflow.extension import prompt_digest
from ..workflow.model_access import GIVE_UP_SECONDS, OpenModel, goes_on
from ..workflow.options import GivenTokens
from ..workflow.text_stream import TextStream
from .client import RemoteHost

_KEPT_DOCUMENTS = 100
_LOADING = ("start", "download", "load")
_EXPRESSION = re.compile(r"(\\*)\$\{")


class FunctionHost(LocalHost):
    """Drives runs in this process, where their functions are, on the models of another host."""

    def __init__(self, remote: RemoteHost) -> None:
        super().__init__(models=RemoteModels(remote))
        self.remote = remote

    def models(self) -> list[ModelInfo]:
        """The models in the other host's memory."""
        return self.remote.models()

    def memory(self) -> MemoryUse:
        """What the other host's process holds."""
        return self.remote.memory()

    def capacity(self) -> int:
        """How many runs the other host can be given at once."""
        return self.remote.capacity()

    def unload(self, name: str | None = None) -> list[ModelInfo]:
        """Give back the memory of a model of the other host's; see `LocalHost.unload`."""
        return self.remote.unload(name)

    def __repr__(self) -> str:
        return repr(self.remote)


class RemoteModels:
    """The models that a host has, whose owner this process is."""

    def __init__(self, host: RemoteHost) -> None:
        self._host = host
        self._documents: OrderedDict[str, Document] = OrderedDict()

    @asynccontextmanager
    async def open(self, call: ComponentCall) -> AsyncIterator[OpenModel]:
        yield _RemoteModel(self, self._host, call)

    def document(self, data: Mapping[str, Any], folder: Path) -> Document:
        """A document of a mapping, which is read once."""
        key = json.dumps([data, str(folder)], sort_keys=True)
        if key not in self._documents:
            self._documents[key] = load_document(data, folder=folder, environ={})
        self._documents.move_to_end(key)
        while len(self._documents) > _KEPT_DOCUMENTS:
            self._documents.popitem(last=False)
        return self._documents[key]


class _RemoteModel:
    """The model of a call, on another host."""

    def __init__(self, models: RemoteModels, host: RemoteHost, call: ComponentCall) -> None:
        self._models = models
        self._host = host
        self._call = call

    async def generate(
        self,
        prompt: Prompt,
        parameters: GenerationParameters,
        stream: TextStream,
        limiter: ConcurrencyLimiter,
    ) -> GenerationResult:
        call, made = self._call, time.monotonic()
        given = parameters.given()
        folder = call.document.source.folder_of(call.component.path)
        document = self._models.document(self._written(list(given)), folder)
        with call.queue_progress.position() as on_queued:
            async with limiter.turn(on_queued, call.group):
                waited = time.monotonic() - made
                forward = _Forward(call, stream, on_queued)
                values = {**given, "prompt": prompt}
                begun = asyncio.ensure_future(
                    self._host.submit_part(document, values, self._options(stream), call.run.id)
                )
                try:
                    run = await asyncio.shield(begun)
                except asyncio.CancelledError:
                    begun.add_done_callback(_cancel)
                    stream.give_up()
                    raise
                try:
                    async for event in run.events():
                        forward.put(event)
                except asyncio.CancelledError:
                    run.cancel()
                    await run.until_done(GIVE_UP_SECONDS)
                    for event in run.events_so_far(forward.last):
                        forward.put(event)
                    if not run.done:
                        stream.give_up()
                    raise
                finally:
                    result = self._noted(run, stream, waited, prompt, parameters)
        failed_of_a_cut = run.error is not None and run.error.code == "format_cut"
        if run.state is not State.COMPLETED and not (failed_of_a_cut and result is not None):
            raise self._error(run)
        assert result is not None
        return result

    def _written(self, parameters: list[str]) -> dict[str, Any]:
        """The document of a call: its model, and the prompt and parameters as inputs."""
        call = self._call
        model = {key: call.render(template) for key, template in call.component.model.items()}
        settings = {key: _literal(value) for key, value in model.items() if value is not None}
        component = {
            "type": "model",
            "task": "chat-completion" if call.action.is_chat else "text-generation",
            "model": settings.pop("source", ""),
            **settings,
            "messages" if call.action.is_chat else "text": "${input.prompt}",
            **{name: f"${{input.{name}}}" for name in parameters},
        }
        if call.component.chat_template is not None:
            component["chat_template"] = call.component.chat_template
        return {"component": component}

    def _options(self, stream: TextStream) -> RunOptions:
        """What else is asked of the run, with its streams' names."""
        options, asked = self._call.options, RunOptions()
        if more := options.get("extended_by"):
            asked["extended_by"] = more
        if (text := options.get("score")) is not None:
            asked["score"] = text
        begun = stream.beginning.tokens
        tokens: list[GivenTokens] = [
            {"stream": [_JOB, 0, 0, sequence], "tokens": list(each)}
            for sequence, each in enumerate(begun)
            if each
        ]
        if tokens:
            asked["begins_with"] = tokens
        return asked

    def _noted(
        self,
        run: Run,
        stream: TextStream,
        waited: float,
        prompt: Prompt,
        parameters: GenerationParameters,
    ) -> GenerationResult | None:
        """What has come of a run, which is noted with the call; None where nothing has."""
        result = _result(run)
        if result is None:
            return None
        since_made = {
            key: result.timings[key] + waited for key in ("queue", "first_token", "total")
        }
        result = stream.finish(replace(result, timings=result.timings | since_made))
        self._call.load_seconds = max(self._call.load_seconds, run.timings.get("load", 0.0))
        digest = prompt_digest(prompt) if goes_on(parameters) else None
        self._call.generations.append({"stream": stream.key, "result": result, "prompt": digest})
        return result

    def _error(self, run: Run) -> ComposeError:
        """Why a run has failed, with the place in the document here."""
        call, told = self._call, run.error
        if told is None:
            return ComposeError("the model's run has ended without a result", code="bad_answer")
        key = told.where.path[1] if told.where is not None and len(told.where.path) > 1 else ""
        key = "source" if key == "model" else str(key)
        template = call.component.model.get(key) or call.action.parameters.get(key)
        told.where = call.document.where((template or call.action.text).path)
        return told


class _Forward:
    """Tells in a run here what a run over there tells of its one prompt.

    Attributes:
        last: the number of the last event that it was given.
    """

    def __init__(self, call: ComponentCall, stream: TextStream, on_queued: Any) -> None:
        self._call = call
        self._stream = stream
        self._on_queued = on_queued
        self._told: dict[Any, int] = {}
        self.last = -1

    def put(self, event: Event) -> None:
        self.last, data = event.number, event.data
        match event.type:
            case "text":
                if fresh := self._fresh("text", data):
                    self._stream.put(data["stream"][3], *fresh)
            case "reasoning":
                if fresh := self._fresh("reasoning", data):
                    self._stream.put_reasoning(data["stream"][3], *fresh, data["tokens"])
            case "tokens":
                part = data.get("part", "text")
                if fresh := self._fresh(("tokens", part), data, "tokens"):
                    sequence, start = data["stream"][3], data.get("start", 0)
                    self._stream.put_tokens(sequence, part, *fresh, start)
            case "call":
                if fresh := self._fresh(("call", data["call"]), data, may_be_empty=True):
                    offset, text = fresh
                    self._tell("call", {**data, "offset": offset, "text": text})
            case "tool":
                if data["state"] == "called":
                    self._tell("tool", data)
            case "progress":
                self._progress(data)

    def _fresh(
        self, kind: Any, data: Mapping[str, Any], key: str = "text", *, may_be_empty: bool = False
    ) -> tuple[int, Any] | None:
        """What of a text or of tokens is not told yet, and where it goes: the events of a run that
        has ended tell all of it again."""
        of = (kind, data["stream"][3])
        is_new = of not in self._told
        known = self._told.get(of, 0)
        offset, piece = data["offset"], data[key]
        if offset < known:
            offset, piece = known, piece[known - offset :]
        self._told[of] = max(known, offset + len(piece))
        return (offset, piece) if piece or (may_be_empty and is_new) else None

    def _tell(self, type: Any, data: Mapping[str, Any]) -> None:
        self._call.run.add(type, {**data, "stream": [*self._stream.key, data["stream"][3]]})

    def _progress(self, data: Mapping[str, Any]) -> None:
        if data["phase"] in _LOADING:
            self._call.run.add("progress", {**data, "job": self._call.job})
        elif data["phase"] == "queue":
            self._on_queued(data["ahead"])
        elif data["phase"] == "prefill" and self._stream.is_first:
            self._stream.read(data["done"], data["total"])


_JOB = "__job__"


def _result(run: Run) -> GenerationResult | None:
    """What a run's one prompt has come to."""
    made = run.record.get("generations", ())
    if not run.done or not made:
        return None
    (of,) = made
    calls: list[list[ToolCall]] = [[] for _ in run.streams]
    for call in run.tool_calls:
        function: Any = {"name": call["name"], "arguments": call["arguments"]}
        calls[call["stream"][3]].append(
            {"id": call["id"], "type": "function", "function": function}
        )
    return GenerationResult(
        texts=list(run.streams.values()),
        finish_reasons=list(of["finish_reasons"]),
        usage=of["usage"],
        parameters=of["parameters"],
        warnings=run.warnings,
        timings=of["timings"],
        model=of["model"],
        room=run.extendable_by,
        tool_calls=calls if any(calls) else (),
        limited_by=of["limited_by"],
        reasoning=list(run.reasoning_streams.values()),
        reasoning_tokens=list(run.reasoning_tokens.values()),
    )


def _literal(value: Any) -> Any:
    """A value as a document says it: nothing in it is an expression."""
    if isinstance(value, str):
        return _EXPRESSION.sub(lambda found: found[1] * 2 + "\\${", value)
    if isinstance(value, Mapping):
        return {key: _literal(each) for key, each in value.items()}
    return [_literal(each) for each in value] if isinstance(value, list) else value


def _cancel(begun: asyncio.Future[Run]) -> None:
    if not begun.cancelled() and begun.exception() is None:
        begun.result().cancel()
