"""A job's call of a Python function, on a thread of its own; its texts, errors and end."""

from __future__ import annotations

import asyncio
from typing import Any

from ..document import FunctionComponent, Job, to_plain
from ..errors import ComposeError, InputError, one_line
from ..tools import FunctionCall, FunctionStep, plain_result, user_traceback
from .model_access import GIVE_UP_SECONDS
from .run import Run
from .run_context import RunContext
from .scope import Place, Scope

FAILED = "function_failed"
_LEFT_BEHIND = "the function '{}' could not be stopped: it goes on, and what it gives is dropped"
"""The code of an error of a function's."""


async def call_function(
    context: RunContext, job: Job, component: FunctionComponent, input: Any, place: Place
) -> Any:
    """What a function gives a job that calls it, as plain data.

    Raises:
        InputError: the input is not what it takes.
        ComposeError: it has failed, or gives what is no plain data.
    """
    step = context.steps[component.function]
    arguments = _arguments(context, job, component, step, input)
    limiter = context.calls.limiter(context.document, component)
    with context.queue_progress(place).position() as on_queued:
        async with limiter.turn(on_queued, context.group):
            value = await _called(context, component, step, arguments, place)
    if component.output is None:
        return value
    results = dict.fromkeys(("output", "result", "response"), value)
    return context.render(component.output, Scope(input, {}), **results)


def _arguments(
    context: RunContext, job: Job, component: FunctionComponent, step: FunctionStep, input: Any
) -> dict[str, Any]:
    try:  # a copy: what a function changes in it is nobody else's
        return step.arguments(to_plain(input), is_written=job.input is not None)
    except InputError as error:
        path = (*component.path, "function") if job.input is None else job.input.path
        if job.input is not None and error.input:
            path = (*path, error.input)
        raise error.at(context.document.where(path)) from None


async def _called(
    context: RunContext,
    component: FunctionComponent,
    step: FunctionStep,
    arguments: dict[str, Any],
    place: Place,
) -> Any:
    stream = _Stream(context.run, place)
    where = context.document.where((*component.path, "function"))
    call = FunctionCall(step, arguments, plain_result, stream.add)
    ended = asyncio.wrap_future(call.future)
    try:
        await asyncio.shield(ended)
    except asyncio.CancelledError:
        if call.give_up():
            await asyncio.wait((ended,), timeout=GIVE_UP_SECONDS)
        if not ended.done():
            ended.cancel()  # nobody waits: the loop may be closed before the function ends
            context.warnings.append(_LEFT_BEHIND.format(component.function))
        stream.end("cancelled")
        raise
    outcome, hint = ended.result(), None
    error = outcome.error
    if error is None or outcome.has_returned:
        stream.end("eos")
    if error is None:
        return outcome.value
    # No input is wrong, so it may be tried again: what a function gives may change.
    if outcome.has_returned and isinstance(error, InputError):
        told, hint = error.message, error.hint
    else:
        kind, message = type(error).__name__, one_line(error)
        told = kind if message == kind else f"{kind}: {message}"
    raise ComposeError(
        f"{step.name}: {told}",
        hint=hint,
        code=FAILED,
        where=where,
        traceback=user_traceback(error),
    )


class _Stream:
    """The text of a generator, as it comes. On the function's thread, until it is ended."""

    def __init__(self, run: Run, place: Place) -> None:
        self._run = run
        self._key = (place.label, place.repeat or 0, 0, 0)
        self._length = 0
        self._is_over = False

    def add(self, text: str) -> None:
        if not self._is_over:
            self._tell(text)
            self._length += len(text)

    def end(self, reason: str) -> None:
        """Say why it ends, if there is any; what comes later is dropped."""
        self._is_over = True
        if self._length:
            self._tell("", finish_reason=reason)

    def _tell(self, text: str, **end: Any) -> None:
        data = {"stream": self._key, "offset": self._length, "text": text, **end}
        self._run.add("text", data)
