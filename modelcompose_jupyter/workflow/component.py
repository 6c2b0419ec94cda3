"""Calling a component: its templates rendered, its model asked, its texts handed on.

``Calls`` knows the kinds of components. There is one kind, a model that generates text.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from ..document import Document, GenerationParameters, Job, render
from ..document import types as values
from ..errors import ComposeError, ExpressionError, InputError
from ..models import Generation, GenerationResult, Lease, ModelSpec, Progress
from .run import Run


class Models(Protocol):
    """What a call needs of the host's models."""

    def acquire(self, spec: ModelSpec, on_progress: Any = None) -> Future[Lease]: ...


@dataclass
class Call:
    """One call of a job's component, and what it produced.

    ``repeat`` is its place among the job's repeats, or None. ``generations`` holds a mapping with
    ``stream`` and ``result`` for each prompt, in order.
    """

    document: Document
    job: Job
    input: Any
    repeat: int | None
    run: Run
    load_seconds: float = 0.0
    generations: list[dict[str, Any]] = field(default_factory=list)

    def render(self, template: Any, path: Any, extra: Mapping[str, Any] | None = None) -> Any:
        context = {
            "input": self.input,
            "env": self.document.environment,
            "context": {"run_id": self.run.id, "task_id": self.run.id},
            **(extra or {}),
        }
        try:
            return render(template, context)
        except ExpressionError as error:
            raise locate(error, self.document, path) from None


class Calls:
    """Calls components on the models that a host holds."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def call(self, call: Call) -> Any:
        """The component's output: a text, or a list where several were asked for."""
        action = call.job.action
        prompts = _prompts(call)
        parameters = _parameters(call)
        streams = [_Stream(call, number) for number in range(len(_listed(prompts)))]
        lease = await self._acquire(call, _spec(call))
        with lease:
            texts = await _generate(lease, _listed(prompts), parameters, streams, call)
        several = (parameters.num_return_sequences or 1) > 1
        outputs: list[Any] = [each if several else each[0] for each in texts]
        output = outputs if isinstance(prompts, list) else outputs[0]
        if action.output is None:
            return output
        results = dict.fromkeys(("output", "result", "response"), output)
        return call.render(action.output, (*action.path, "output"), results)

    async def _acquire(self, call: Call, spec: ModelSpec) -> Lease:
        started = time.monotonic()

        def report(progress: Progress) -> None:
            call.run.add("progress", {**vars(progress), "job": call.job.id})

        future = self._models.acquire(spec, report)
        try:
            lease = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            # The lease may have arrived in the same moment; nobody would give it back.
            if not future.cancel() and future.exception() is None:
                future.result().release()
            raise
        except ComposeError as error:
            where = call.document.where(call.job.component.model_paths["source"])
            raise error.at(where) from None
        call.load_seconds = time.monotonic() - started
        return lease


class _Stream:
    """The events of one prompt's texts. Announced at once, so that streams stand in order."""

    def __init__(self, call: Call, number: int) -> None:
        self._run = call.run
        self.key = (call.job.id, call.repeat or 0, number)
        self.put(0, 0, "")

    def put(self, sequence: int, offset: int, text: str) -> None:
        stream = (*self.key, sequence)
        self._run.add("text", {"stream": stream, "offset": offset, "text": text})

    def finish(self, result: GenerationResult) -> None:
        for sequence, reason in enumerate(result.finish_reasons):
            stream = (*self.key, sequence)
            offset = len(result.texts[sequence])
            data = {"stream": stream, "offset": offset, "text": "", "finish_reason": reason}
            self._run.add("text", data)


async def _generate(
    lease: Lease,
    prompts: list[str],
    parameters: GenerationParameters,
    streams: list[_Stream],
    call: Call,
) -> list[list[str]]:
    """The texts for each prompt. Stopped within a token when the call is cancelled."""
    generations = [
        lease.generate(prompt, parameters, stream.put)
        for prompt, stream in zip(prompts, streams, strict=True)
    ]
    try:
        ended = [await _ended(generation) for generation in generations]
    except BaseException:
        for generation in generations:
            generation.cancel()
        done = [generation.future for generation in generations]
        await asyncio.gather(*map(asyncio.wrap_future, done), return_exceptions=True)
        raise
    finally:
        for generation, stream in zip(generations, streams, strict=True):
            _keep(generation, stream, call)
    return [result.texts for result in ended]


async def _ended(generation: Generation) -> GenerationResult:
    return await asyncio.shield(asyncio.wrap_future(generation.future))


def _keep(generation: Generation, stream: _Stream, call: Call) -> None:
    """Note what a generation came to, if it came to anything."""
    future = generation.future
    if future.done() and future.exception() is None:
        result = future.result()
        call.generations.append({"stream": stream.key, "result": result})
        stream.finish(result)


def _listed(prompts: str | list[str]) -> list[str]:
    return prompts if isinstance(prompts, list) else [prompts]


def _prompts(call: Call) -> str | list[str]:
    action = call.job.action
    value = call.render(action.text, action.text_path)
    if isinstance(value, list):
        if not value:
            raise InputError("there is no prompt: the list is empty", where=_where(call))
        return [_prompt(each, call) for each in value]
    return _prompt(value, call)


def _prompt(value: Any, call: Call) -> str:
    if value is None:
        raise InputError(
            "there is no prompt: its value is null",
            hint="Give the input that it is made of, or a default: ${input.prompt | …}.",
            where=_where(call),
        )
    return values.text(value)


def _where(call: Call) -> Any:
    return call.document.where(call.job.action.text_path)


def _parameters(call: Call) -> GenerationParameters:
    action = call.job.action
    given = {
        name: call.render(template, action.parameter_paths[name])
        for name, template in action.parameters.items()
    }
    try:
        return GenerationParameters.model_validate(given, context={"rendered": True})
    except ValidationError as error:
        name = next(iter(error.errors()[0]["loc"]), "min_output_length")
        raise InputError(
            f"'{name}': {first_message(error)}",
            where=call.document.where(action.parameter_paths[str(name)]),
        ) from None


def _spec(call: Call) -> ModelSpec:
    component = call.job.component
    settings = {
        key: call.render(template, component.model_paths[key])
        for key, template in component.model.items()
    }
    settings = {key: value for key, value in settings.items() if value is not None}
    settings["source"] = _absolute(str(settings.get("source", "")), call.document.source.folder)
    return ModelSpec(**settings)


def _absolute(source: str, folder: Path) -> str:
    """A model's folder that is written relative to the document's."""
    if source.startswith(("./", "../", ".\\", "..\\")):
        return str((folder / source).resolve())
    return source


def first_message(error: ValidationError) -> str:
    """The first thing that is wrong, in the words of the validator."""
    details = error.errors()[0]
    limits = {
        "greater_than": ("gt", "above"),
        "greater_than_equal": ("ge", "at least"),
        "less_than": ("lt", "below"),
        "less_than_equal": ("le", "at most"),
    }
    if details["type"] in limits:
        name, words = limits[details["type"]]
        return f"{values.show(details['input'])} is not {words} {details['ctx'][name]:g}"
    return details["msg"]


def locate(error: ExpressionError, document: Document, path: Any) -> ComposeError:
    """An expression's error as one of the run, with its place in the document."""
    where = document.where(path, within=error.expression)
    return InputError(error.message, hint=error.hint, where=where, code=error.code)
