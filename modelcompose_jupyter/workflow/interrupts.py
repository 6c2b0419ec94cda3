"""Interrupts: where a job asks a person, and what it asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from ..document import Document, Job, Template, Workflow, WorkflowComponent
from ..document.jobs import Call, Interrupt
from ..document.reader import KeyPath
from ..document.types import ConversionError, show, text
from ..errors import InputError
from .clock import waiting
from .job_report import JobReport
from .run_context import RunContext
from .scope import Place, Scope


def check_unattended(document: Document, workflow: Workflow) -> None:
    """Raise InputError for a workflow that may ask something, where it is to run many times."""
    interrupt = _first_of(document, workflow, set())
    if interrupt is not None:
        raise InputError(
            "the workflow asks a person, and where it runs many times nobody is asked",
            hint="Run it for one after the other, or have a workflow without 'interrupt'.",
            code="needs_answer",
            where=document.where(interrupt.path),
        )


def _first_of(document: Document, workflow: Workflow, seen: set[KeyPath]) -> Interrupt | None:
    """The first interrupt of a workflow, of its inner jobs and of the workflows that it calls."""
    seen.add(workflow.path)
    for job in workflow.jobs:
        within: Job | None = job
        while within is not None:
            if (interrupt := within.before or within.after) is not None:
                return interrupt
            call = within.work
            if isinstance(call, Call) and isinstance(call.component, WorkflowComponent):
                called = document.called(call.component)
                if called.path not in seen and (found := _first_of(document, called, seen)):
                    return found
            within = within.do
    return None


class Asker:
    """Asks what one job has to ask, at a place of a run.

    Both ways give the answer, and None where it goes on as it is: so it was answered, the job asks
    nothing there, its condition does not hold, or a text is scored.

    Raises:
        ComposeError: what is to be asked has no value, or nobody has answered in time.
    """

    def __init__(
        self, context: RunContext, job: Job, scope: Scope, place: Place, report: JobReport
    ) -> None:
        self._context = context
        self._job = job
        self._scope = scope
        self._place = place
        self._report = report

    async def before(self, input: Callable[[], Any]) -> Any:
        """Ask what takes the place of the job's input, which ``input`` gives."""
        return await self._ask(self._job.before, "before", input)

    async def after(self, input: Callable[[], Any], output: Any) -> Any:
        """Ask what takes the place of what has come of the job."""
        return await self._ask(self._job.after, "after", input, output=output)

    async def _ask(
        self,
        interrupt: Interrupt | None,
        phase: Literal["before", "after"],
        input: Callable[[], Any],
        **output: Any,
    ) -> Any:
        context, place = self._context, self._place
        if interrupt is None or context.scores:
            return None
        job = {"input": input(), **output}
        if interrupt.condition is not None and not context.holds(
            interrupt.condition, self._scope, job=job
        ):
            return None
        asked = {
            "job": place.job,
            "place": list(place.indexes),
            "phase": phase,
            "message": self._message(interrupt.message, job),
            "metadata": self._rendered(interrupt.metadata, job, Mapping, "a mapping"),
            "value": job["input"] if phase == "before" else job["output"],
            "choices": self._rendered(interrupt.choices, job, list, "a list of answers"),
        }
        name, where = f"{place.path}.{phase}", context.document.where(interrupt.path)
        with waiting(), self._report.interrupted():
            return await context.questions.ask(context.run, name, asked, interrupt.timeout, where)

    def _message(self, template: Template | None, job: Mapping[str, Any]) -> str | None:
        if template is None:
            return None
        value = self._context.render(template, self._scope, job=job)
        try:
            return None if value is None else text(value)
        except ConversionError as error:
            where = self._context.document.where(template.path)
            raise InputError(str(error), where=where) from None

    def _rendered(
        self, template: Template | None, job: Mapping[str, Any], kind: type, what: str
    ) -> Any:
        """A value that is of a kind, and not empty; None where there is none."""
        if template is None:
            return None
        value = self._context.render(template, self._scope, job=job)
        if value is None or (isinstance(value, kind) and value):
            return value
        raise InputError(
            f"'{template.path[-1]}' of an interrupt is {what}, and this is {show(value)}",
            hint="Leave it out where there is nothing to say.",
            where=self._context.document.where(template.path),
        )
