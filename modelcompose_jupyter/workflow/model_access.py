"""The models that calls go to: those of this process.

`ModelAccess` is what calls know of them; another process's are in `server.remote_models`.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from ..document import GenerationParameters
from ..errors import ComposeError
from ..models import (
    Extension,
    Generation,
    GenerationResult,
    Lease,
    LoadProgress,
    ModelCache,
    Prompt,
)
from ..models.constraints.compiler import CompiledGrammar
from ..models.spec import ModelSpec
from ..models.tokenization.tool_calls import CallSyntax
from .component_call import ComponentCall
from .concurrency_limiter import ConcurrencyLimiter
from .extension import prompt_digest
from .model_specs import meant, spec_of
from .reply_calls import ReplyCalls
from .text_stream import TextStream

GIVE_UP_SECONDS = 5.0
"""How long a call that is stopped waits for the token in flight. A model's thread may be in what
cannot be stopped: a step that takes minutes, a tokenizer that does not return."""

T = TypeVar("T")

_NOT_THERE = ("model_not_found", "access_denied", "no_network", "not_cached")


class OpenModel(Protocol):
    """The model of a call, while it is needed."""

    async def generate(
        self,
        prompt: Prompt,
        parameters: GenerationParameters,
        stream: TextStream,
        limiter: ConcurrencyLimiter,
    ) -> GenerationResult:
        """What comes of a prompt, which is told in ``stream`` and noted with the call.

        Stopped within a token when the call is cancelled, and in any case in `GIVE_UP_SECONDS`.
        """


class ModelAccess(Protocol):
    """Opens the models of calls."""

    def open(self, call: ComponentCall) -> AbstractAsyncContextManager[OpenModel]: ...


class LocalModels:
    """Models of this process."""

    def __init__(self, cache: ModelCache) -> None:
        self._cache = cache

    @asynccontextmanager
    async def open(self, call: ComponentCall) -> AsyncIterator[OpenModel]:
        spec = spec_of(call.document, call.component, call.render)
        with await self._acquire(call, spec) as lease:
            yield _LocalModel(call, lease)

    async def _acquire(self, call: ComponentCall, spec: ModelSpec) -> Lease:
        started = time.monotonic()

        last: LoadProgress | None = None

        def tell(progress: LoadProgress) -> None:
            given = {key: value for key, value in vars(progress).items() if value is not None}
            call.run.add("progress", {**given, "total": progress.total, "job": call.job})

        def report(progress: LoadProgress) -> None:
            nonlocal last
            last = progress
            if progress.phase != "load" or not progress.is_end:  # the model is tried after that
                tell(progress)

        future = self._cache.acquire(spec, report)
        try:
            lease = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            # The lease may have arrived in the same moment; nobody would give it back.
            if not future.cancel() and future.exception() is None:
                future.result().release()
            raise
        except ComposeError as failure:
            error = copy.copy(failure)  # the failure is that of all who waited for the model
            if error.code in _NOT_THERE:
                folder = call.document.source.folder_of(call.component.path)
                error.hint = meant(spec.source, folder) or error.hint
            where = call.document.where(call.component.model["source"].path)
            raise error.at(where) from None
        if last is not None:  # whatever it waited for, it is over
            done = last.total or max(1, last.done)
            tell(replace(last, done=done, total=done))
        call.load_seconds = time.monotonic() - started
        return lease


@dataclass(frozen=True)
class _LocalModel:
    _call: ComponentCall
    _lease: Lease

    async def generate(
        self,
        prompt: Prompt,
        parameters: GenerationParameters,
        stream: TextStream,
        limiter: ConcurrencyLimiter,
    ) -> GenerationResult:
        return await _generate(self._lease, prompt, parameters, stream, self._call, limiter)


async def _generate(
    lease: Lease,
    prompt: Prompt,
    parameters: GenerationParameters,
    stream: TextStream,
    call: ComponentCall,
    limiter: ConcurrencyLimiter,
) -> GenerationResult:
    made = time.monotonic()
    grammar = await _grammar(lease, prompt, parameters, stream, call)
    with call.queue_progress.position() as on_queued:
        async with limiter.turn(on_queued, call.group):
            waited = time.monotonic() - made
            generation = lease.generate(
                prompt,
                parameters,
                stream.take,
                on_queued,
                owner=(call.group, call.run.id),
                extension=Extension(call.options.get("extended_by") or 0, stream.drafts),
                beginning=stream.beginning,
                scored=call.options.get("score"),
                grammar=grammar,
                chat_template=call.component.chat_template,
                on_read=stream.read if stream.is_first else None,
                on_tokens=stream.put_tokens,
                on_reasoning=stream.put_reasoning,
            )
            ended = asyncio.wrap_future(generation.future)
            try:
                await asyncio.shield(ended)
            except ComposeError as error:
                where = call.where_of("format")
                if where is not None and error.code.startswith("format_"):
                    error.at(where)
                raise
            except asyncio.CancelledError:
                generation.cancel()
                await asyncio.wait((ended,), timeout=GIVE_UP_SECONDS)
                if not ended.done():
                    stream.give_up()
                    ended.cancel()  # nobody waits: the loop may be closed before the model answers
                elif not ended.cancelled():
                    ended.exception()  # which is of no interest any more
                raise
            finally:
                digest = prompt_digest(prompt) if goes_on(parameters) else None
                result = _keep(generation, stream, call, waited, digest)
    assert result is not None
    return result


async def _grammar(
    lease: Lease,
    prompt: Prompt,
    parameters: GenerationParameters,
    stream: TextStream,
    call: ComponentCall,
) -> CompiledGrammar | None:
    """What the texts for a prompt must be; of calls of tools the stream takes them apart."""
    text = None if parameters.format is None else parameters.format.llguidance
    syntax: CallSyntax | None = None
    owner = (call.group, call.run.id)
    if parameters.tools and isinstance(prompt, list):
        syntax = await _shared(lease.call_syntax(call.component.chat_template, owner))
        text = syntax.grammar(
            parameters.tools,
            parameters.tool_choice or "auto",
            parallel=parameters.parallel_tool_calls is not False,
            text=text,
        )
        sequences = parameters.num_return_sequences or 1
        seen = f"{prompt_digest(prompt)} {parameters.seed}"
        stream.calls = ReplyCalls(syntax, call.run, stream.key, sequences, seen, stream.put)
    if text is None:
        return None
    grammar = await _shared(lease.compile(text, owner))
    return grammar if syntax is None else grammar.showing(syntax.special)


async def _shared(future: Future[T]) -> T:
    """What others may wait for, too: its error is raised as one of this call's own."""
    ended = asyncio.wrap_future(future)
    await asyncio.wait((ended,))
    if (error := ended.exception()) is not None:
        raise copy.copy(error)
    return ended.result()


def _keep(
    generation: Generation,
    stream: TextStream,
    call: ComponentCall,
    waited: float,
    digest: str | None,
) -> GenerationResult | None:
    """Note what a generation came to, if it came to anything, after the seconds at the limiter."""
    future = generation.future
    if not future.done() or future.exception() is not None:
        return None
    result = future.result()
    since_made = {key: result.timings[key] + waited for key in ("queue", "first_token", "total")}
    result = stream.finish(replace(result, timings=result.timings | since_made))
    call.generations.append({"stream": stream.key, "result": result, "prompt": digest})
    return result


def goes_on(parameters: GenerationParameters) -> bool:
    """Whether a longer text begins as a shorter one: a beam search may choose another."""
    return (parameters.num_beams or 1) == 1
