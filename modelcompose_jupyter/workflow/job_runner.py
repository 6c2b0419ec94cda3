"""One job: what it gets, how often it is tried, what becomes of a failure."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from ..document import Job, Workflow
from ..document.jobs import Route
from ..document.reachability import has_value
from ..errors import ComposeError, InputError
from ..path_redaction import public
from .clock import Clock
from .interrupts import Asker
from .job_report import JobReport, told
from .questions import UNANSWERED
from .run_context import OWNER, RunContext
from .scope import Place, Scope
from .work import Result, Worker

CallWorkflow = Callable[[RunContext, Workflow, Any, Place, int], Awaitable[Any]]


@dataclass(frozen=True)
class Ended:
    """How a job has ended: with a value, if it ``completes``, and perhaps leading to another."""

    value: Any
    completes: bool = True
    target: str | None = None


class JobRunner:
    """Runs jobs of one run. ``call_workflow`` runs those of another workflow."""

    def __init__(self, context: RunContext, call_workflow: CallWorkflow) -> None:
        self._context = context
        self._call_workflow = call_workflow

    async def run(
        self, job: Job, scope: Scope, place: Place, seed: int, report: JobReport
    ) -> Ended:
        """Run a job of a workflow to its end, and tell what comes of it.

        Raises:
            ComposeError: it has failed, and nothing says what becomes of that.
        """
        try:
            return await self._ended(job, scope, place, seed, report)
        except ComposeError as error:
            report.tell("failed", error=told(error))
            raise

    async def _ended(
        self, job: Job, scope: Scope, place: Place, seed: int, report: JobReport
    ) -> Ended:
        more: dict[str, Any] = {}
        try:
            result = await self._result(job, scope, place, seed, report)
            ended = Ended(result.value, target=result.target)
        except ComposeError as error:
            if job.on_error is None:
                raise
            value = self._instead(job.on_error, error, scope)
            ended = Ended(value, has_value(job.on_error), job.on_error.to)
            more["error"] = told(error)
        if ended.target is not None:
            more["route"] = ended.target
        report.tell("completed" if ended.completes else "failed", **more)
        return ended

    async def run_inner(
        self, job: Job, scope: Scope, place: Place, seed: int, report: JobReport
    ) -> Any:
        """What an inner job gives; ``report`` is that of the job around it.

        Raises:
            ComposeError: as `run`.
        """
        await asyncio.sleep(0)  # others' turn: it may be one of very many that wait for nothing
        try:
            return (await self._result(job, scope, place, seed, report)).value
        except ComposeError as error:
            if job.on_error is None:
                raise
            return self._instead(job.on_error, error, scope)

    def _instead(self, route: Route, error: ComposeError, scope: Scope) -> Any:
        if route.output is None:
            return None
        words: Any = told(error)
        if self._context.group != OWNER:  # guests, who get what is made of it
            words = public(words)
        return self._context.render(route.output, scope, error=words)

    async def _result(
        self, job: Job, scope: Scope, place: Place, seed: int, report: JobReport
    ) -> Result:
        """What a job comes to, which is tried again as it says.

        A wrong input is wrong the next time, too, and who was asked and has not answered is asked
        once: that is not tried again.
        """
        worker = Worker(self._context, self, job, scope, place, seed, report)
        asker = Asker(self._context, job, scope, place, report)
        most = 1 if job.retry is None else job.retry.max_attempt_count
        for attempt in range(1, most + 1):
            try:
                if attempt == 1:
                    worker.answered(await asker.before(worker.input))
                async with self._limited(job):
                    result = await worker.result(attempt)
                answer = await asker.after(worker.input, result.value)
                if answer is not None:
                    result = Result(answer, result.target)
                return self._with_output(job, scope, result)
            except ComposeError as error:
                is_same_again = isinstance(error, InputError) or error.code == UNANSWERED
                is_last = attempt == most or is_same_again
                if not is_last or job.on_error is not None:
                    report.failed(error, attempt, place.indexes, again=not is_last)
                if job.retry is None or is_last:
                    raise
                seconds = job.retry.delay_after(attempt)
                report.waiting(attempt + 1, most, seconds, place.indexes)
                await asyncio.sleep(seconds)
                report.again(place.indexes)
        raise AssertionError

    def _with_output(self, job: Job, scope: Scope, result: Result) -> Result:
        if job.output is None or self._context.scores:
            return result
        return Result(self._context.render(job.output, scope, output=result.value), result.target)

    @contextlib.asynccontextmanager
    async def _limited(self, job: Job) -> AsyncIterator[None]:
        clock = Clock(job.timeout)
        try:
            async with clock:
                yield
        except TimeoutError:
            if not clock.expired:
                raise
            raise ComposeError(
                f"the job took longer than {job.timeout:g} s",
                hint="Raise its 'timeout', or say with 'on_error' what becomes of it.",
                code="job_timeout",
                where=self._context.document.where((*job.path, "timeout")),
            ) from None

    async def workflow(
        self, workflow: Workflow, input: Any, place: Place, seed: int, width: int
    ) -> Any:
        """The output of another workflow, of which so much may go on at a time."""
        context = replace(self._context, width=width)
        return await self._call_workflow(context, workflow, input, place, seed)
