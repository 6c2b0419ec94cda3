"""What jobs do, type by type."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import Field, ValidationError

from ..document import (
    FunctionComponent,
    Job,
    ModelComponent,
    Template,
    Workflow,
    WorkflowComponent,
)
from ..document.fields import Duration, Integer, Number, Strict
from ..document.jobs import (
    Accumulate,
    Call,
    Choice,
    Delay,
    Filter,
    ForEach,
    Loop,
    RandomChoice,
    Route,
)
from ..document.render import SizeCount
from ..document.times import moment, time_zone
from ..document.types import ConversionError, show
from ..errors import ComposeError, InputError
from .bounded_gather import bounded_gather
from .clock import working
from .component_call import ComponentCall, invalid, locating
from .function_call import call_function
from .job_report import JobReport, brief, told
from .run_context import RunContext
from .scope import Place, Scope, derived_seed

_T = TypeVar("_T")
_AT_BOUND = "the loop '{}' ended with its {} rounds: what is to end it did not hold"
_LONGEST_SLEEP = 60.0  # the clock may be set meanwhile, and computers sleep
_TURN_SECONDS = 0.005  # after which others of the loop have their turn


class _Numbers(Strict):
    """Values of jobs that templates give."""

    repeat_count: Annotated[Integer, Field(ge=1)] = 1
    batch_size: Annotated[Integer, Field(ge=1)] = 1
    max_iteration_count: Annotated[Integer, Field(ge=1, le=10_000)] = 1
    duration: Annotated[Duration, Field(ge=0)] = 0.0
    weight: Annotated[Number, Field(ge=0)] = 1.0


@dataclass(frozen=True)
class Result:
    """What a job's work gives, and the job that it leads to, if it leads to one."""

    value: Any
    target: str | None = None


class Runner(Protocol):
    """What runs what is within a job."""

    async def run_inner(
        self, job: Job, scope: Scope, place: Place, seed: int, report: JobReport
    ) -> Any:
        """What an inner job gives; ``report`` is that of the job around it."""

    async def workflow(
        self, workflow: Workflow, input: Any, place: Place, seed: int, width: int
    ) -> Any:
        """The output of another workflow, of which so much may go on at a time."""


class Worker:
    """Does the work of one job."""

    def __init__(
        self,
        context: RunContext,
        runner: Runner,
        job: Job,
        scope: Scope,
        place: Place,
        seed: int,
        report: JobReport,
    ) -> None:
        self._context = context
        self._runner = runner
        self._job = job
        self._scope = scope
        self._place = place
        self._seed = seed
        self._report = report
        self._answer: Any = None

    def input(self) -> Any:
        """What the job gets; of one that is repeated, its first repeat.

        Raises:
            InputError: it has no value.
        """
        work = self._job.work
        repeats = isinstance(work, Call) and work.repeat_count is not None
        return self._input(**({"index": 0} if repeats else {}))

    def answered(self, answer: Any) -> None:
        """Have the job and all of its repeats get this in place of their input, unless None."""
        self._answer = answer

    async def result(self, attempt: int) -> Result:
        """The result of one attempt, which counts from 1."""
        place = self._place.tried(attempt)
        match self._job.work:
            case Call() as call:
                return Result(await self._call(call, place))
            case Choice() as choice:
                return self._choice(choice)
            case RandomChoice() as choice:
                return self._random_choice(choice, place)
            case ForEach() as each:
                return Result(await self._for_each(each, place))
            case Filter() as kept:
                return Result(await self._filter(kept))
            case Loop() as loop:
                return Result(await self._loop(loop, place))
            case Accumulate() as accumulate:
                return Result(await self._accumulate(accumulate, place))
            case Delay() as delay:
                return Result(await self._delay(delay))

    def _input(self, **more: Any) -> Any:
        if self._answer is not None:
            return self._answer
        if self._job.input is None:
            return self._scope.passed
        return self._context.render(self._job.input, self._scope, **more)

    # Calls

    async def _call(self, call: Call, place: Place) -> Any:
        if call.repeat_count is None:
            return await self._called(call, self._input(), place)
        count = self._number("repeat_count", call.repeat_count)
        self._context.allowance.check(count, self._context.document.where(call.repeat_count.path))

        together = self._together("what it gives for all repeats")
        most = min(count, self._scope.width)

        async def called(index: int) -> Any:
            input = self._input(index=index)
            return together(await self._called(call, input, place.at(index), most))

        return await bounded_gather(count, called, self._report.counted("repeat", place), most)

    async def _called(self, call: Call, input: Any, place: Place, among: int = 1) -> Any:
        """What is called gives; so many such calls go on at a time."""
        width = self._scope.shared(among).width
        match call.component:
            case ModelComponent() as component:
                assert call.action is not None
                context = self._context
                made = ComponentCall(
                    context.document,
                    place.label,
                    component,
                    call.action,
                    input,
                    place.repeat,
                    context.run,
                    context.group,
                    place.seed(self._seed),
                    context.queue_progress(place),
                    context.allowance,
                    context.options,
                    context.earlier,
                    context.told_tokens(),
                    context.functions,
                    width,
                )
                context.made.append(made)
                with working():
                    return await context.calls.call(made)
            case WorkflowComponent() as component:
                return await self._workflow(component, input, place, width)
            case FunctionComponent() as component:
                with working():
                    return await call_function(self._context, self._job, component, input, place)
        raise AssertionError(call.component)

    async def _workflow(
        self, component: WorkflowComponent, input: Any, place: Place, width: int
    ) -> Any:
        context, scope = self._context, Scope(input, {}, passed=input)
        given = input if component.input is None else context.render(component.input, scope)
        workflow = context.document.called(component)
        limiter = context.calls.limiter(context.document, component)
        with context.queue_progress(place).position() as on_queued:
            async with limiter.turn(on_queued, context.group):
                value = await self._runner.workflow(workflow, given, place, self._seed, width)
        if component.output is None:
            return value
        results = dict.fromkeys(("output", "result", "response"), value)
        return context.render(component.output, scope, **results)

    # Routes

    def _choice(self, choice: Choice) -> Result:
        input = self._input()
        for each in choice.conditions:
            holds = self._context.holds(each.test, self._scope, job={"input": input})
            route = each.if_true if holds else each.if_false
            if route is not None:
                return self._led(route, input)
        return Result(input) if choice.otherwise is None else self._led(choice.otherwise, input)

    def _led(self, route: Route, input: Any) -> Result:
        if route.output is None:
            return Result(input, route.to)
        return Result(self._context.render(route.output, self._scope), route.to)

    def _random_choice(self, choice: RandomChoice, place: Place) -> Result:
        context, scope = self._context, self._scope
        weights = [
            1.0 if weight is None else self._number("weight", weight) for _, weight in choice.routes
        ]
        if not any(weights):
            raise InputError(
                "no way has a weight, so none can be chosen",
                hint="Give one of them a 'weight' above 0.",
                where=context.document.where(self._job.path),
            )
        session = None if choice.session is None else context.render(choice.session, scope)
        seed: Any = (self._seed, *place.indexes, *place.attempts)
        if session not in (None, ""):
            salt = self._job.id if choice.salt is None else context.render(choice.salt, scope)
            seed = (str(salt), str(session))
        drawn, most = random.Random(derived_seed(0, *seed)), max(weights)
        parts = [weight / most for weight in weights]  # of which the sum is finite
        (route,) = drawn.choices([route for route, _ in choice.routes], parts)
        return self._led(route, self._input())

    # Lists

    def _elements(self) -> list[Any]:
        value = self._input()
        if not isinstance(value, list):
            path = self._job.path if self._job.input is None else self._job.input.path
            raise InputError(
                f"'{self._job.type}' goes through a list, and its input is {show(value)}",
                hint="Give it a list; of a text, say by ${input.lines as list}.",
                where=self._context.document.where(path),
            )
        return value

    async def _for_each(self, each: ForEach, place: Place) -> list[Any]:
        elements = self._elements()
        most = min(len(elements), self._scope.width)
        if each.batch_size is not None:
            most = min(self._number("batch_size", each.batch_size), most)
        inner = self._scope.shared(most)
        self._context.allowance.check(len(elements), self._context.document.where(self._job.path))

        together = self._together("what it gives for all elements")

        async def done(index: int) -> Any:
            element = elements[index]
            scope = inner.within(element, item=element, index=index)
            return together(await self._do(each.do, scope, place.at(index), label=brief(element)))

        report = self._report.counted("item", place)
        report(0, len(elements))
        return await bounded_gather(len(elements), done, report, most)

    def _together(self, what: str) -> Callable[[_T], _T]:
        """What lets values through, of which there are many, until they are too large together."""
        size, path = SizeCount(what), (self._job.do or self._job).path

        def counted(value: _T) -> _T:
            with locating(self._context.document, path):
                size.add(value)
            return value

        return counted

    async def _filter(self, kept: Filter) -> list[Any]:
        elements = self._elements()
        if kept.where is None:
            return elements
        found, began = [], time.monotonic()
        for index, element in enumerate(elements):
            if time.monotonic() - began > _TURN_SECONDS:
                await asyncio.sleep(0)
                began = time.monotonic()
            scope = self._scope.within(element, item=element, index=index)
            if self._context.holds(kept.where, scope):
                found.append(element)
        return found

    async def _accumulate(self, accumulate: Accumulate, place: Place) -> Any:
        elements, report = self._elements(), self._report.counted("item", place)
        template = accumulate.accumulator
        value = None if template is None else self._context.render(template, self._scope)
        report(0, len(elements))
        for index, element in enumerate(elements):
            scope = self._scope.within(element, item=element, index=index, accumulator=value)
            value = await self._do(accumulate.do, scope, place.at(index), label=brief(element))
            report(index + 1, len(elements))
        return value

    # Repeats

    async def _loop(self, loop: Loop, place: Place) -> Any:
        given = self._input()
        most = self._number("max_iteration_count", loop.max_iteration_count)
        value, report = given, self._report.counted("round", place)
        last = None
        report(0, most)
        for iteration in range(most):
            outer = replace(self._scope, input=given)
            scope = outer.within(value, output=last, iteration=iteration)
            value = last = await self._do(loop.do, scope, place.at(iteration))
            report(iteration + 1, most)
            scope = outer.within(value, output=value, iteration=iteration)
            if self._context.holds(loop.condition, scope) == loop.is_until:
                return value
        self._context.warnings.append(_AT_BOUND.format(place.path, most))
        return value

    async def _do(self, do: Job, scope: Scope, place: Place, **of: str) -> Any:
        """What the inner job gives of an element or in a round; ``of`` is told of that."""
        report, indexes = self._report, place.indexes
        report.item(indexes, "running", **of)
        try:
            value = await self._runner.run_inner(do, scope, place, self._seed, report)
        except ComposeError as error:
            report.item(indexes, "failed", error=told(error))
            raise
        except asyncio.CancelledError:
            report.item(indexes, "cancelled")
            raise
        is_seen = isinstance(value, str) and do.call is not None and do.call.writes_text
        report.item(indexes, "completed", **({} if is_seen else {"output": brief(value)}))
        return value

    # Time

    async def _delay(self, delay: Delay) -> Any:
        with working():
            if delay.duration is not None:
                await asyncio.sleep(self._number("duration", delay.duration))
            elif delay.time is not None:
                await self._until(delay.time, delay.timezone)
        is_given = self._job.input is not None or self._answer is not None
        return self._input() if is_given else None

    async def _until(self, time: Template, timezone: Template | None) -> None:
        until = self._moment(time, timezone)
        while (seconds := (until - datetime.now(until.tzinfo)).total_seconds()) > 0:
            await asyncio.sleep(min(seconds, _LONGEST_SLEEP))

    def _moment(self, time: Template, timezone: Template | None) -> datetime:
        found = self._converted(moment, time)
        if found.tzinfo is not None:
            return found
        zone = None if timezone is None else self._converted(time_zone, timezone)
        return found.astimezone() if zone is None else found.replace(tzinfo=zone)

    def _converted(self, convert: Callable[[Any], _T], template: Template) -> _T:
        try:
            return convert(self._context.render(template, self._scope))
        except ConversionError as error:
            where = self._context.document.where(template.path)
            raise InputError(str(error), hint=error.hint, where=where) from None

    # Values of templates

    def _number(self, key: str, template: Template) -> Any:
        value = self._context.render(template, self._scope)
        try:
            return getattr(_Numbers.model_validate({key: value}), key)
        except ValidationError as error:
            raise invalid(error, key, template, self._context.document) from None
