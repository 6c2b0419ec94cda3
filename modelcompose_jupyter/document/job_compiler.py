"""Jobs: from what was written to the one normal form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from . import schema
from .checks import DEFAULT_ID, Checks, optional
from .component_compiler import ComponentCompiler
from .components import Action, Component, ModelComponent
from .document import choose_default
from .hints import MISSING
from .jobs import (
    INTERRUPT_SECONDS,
    Accumulate,
    Call,
    Choice,
    Condition,
    Delay,
    Filter,
    ForEach,
    Interrupt,
    Job,
    Loop,
    RandomChoice,
    Retry,
    Route,
    Work,
)
from .reader import KeyPath
from .templates import Comparison, Constant, Template, parse_template, parse_test
from .times import moment, time_zone
from .types import ConversionError, show

_MAX_DEPTH = 8  # jobs within jobs


class JobCompiler:
    """Compiles jobs. Their components stand in them, or are those of the document, at ``path``."""

    def __init__(
        self,
        checks: Checks,
        compiler: ComponentCompiler,
        components: tuple[Component, ...],
        path: KeyPath,
    ) -> None:
        self._checks = checks
        self._path = path
        self._compiler = compiler
        self._components = components
        self._default_component: Component | None = choose_default(components)
        self._default_actions: dict[KeyPath, Action | None] = {}

    def job(self, written: schema.JobKeys, path: KeyPath, depth: int = 0) -> Job:
        """A job in its normal form; ``depth`` is how many jobs it stands in."""
        self._checks.note_unused_keys(written, path)
        id = written.id if isinstance(written, schema.NamedJob) else None
        interrupts = written.interrupt or schema.Interrupts()
        type_ = getattr(written, "type", None)
        job = Job(
            id=id or ("__do__" if depth else "__job__"),
            path=path,
            type="component" if type_ in (None, "action") else type_,
            work=self._work(written, path, depth),
            input=optional(written.input, (*path, "input")),
            output=optional(written.output, (*path, "output")),
            depends_on=tuple(
                tuple(each) if isinstance(each, list) else (each,)
                for each in written.depends_on or ()
            ),
            retry=_retry(written.retry),
            on_error=self._on_error(written.on_error, (*path, "on_error")),
            timeout=written.timeout,
            before=self._interrupt(interrupts.before, (*path, "interrupt", "before")),
            after=self._interrupt(interrupts.after, (*path, "interrupt", "after")),
        )
        if depth:
            self._check_inner(job, depth)
        return job

    def _check_inner(self, job: Job, depth: int) -> None:
        """Report what a job that stands in another cannot have."""
        if job.depends_on:
            hint = "It runs when the job around it does; write 'depends_on' there."
            at = (*job.path, "depends_on")
            self._checks.problem("an inner job waits for no others", at, key=True, hint=hint)
        for route in (*job.routes, *(each for each in (job.on_error,) if each is not None)):
            if route.to is not None:
                hint = "It gives a value: write 'output: …', below it."
                self._checks.problem("an inner job leads to no other", route.path, hint=hint)
        if depth == _MAX_DEPTH + 1:
            hint = "Give some of them as a workflow of its own: a component of type workflow."
            what = f"jobs stand within jobs more than {_MAX_DEPTH} deep"
            self._checks.problem(what, job.path, hint=hint)

    def _work(self, written: schema.JobKeys, path: KeyPath, depth: int) -> Work:
        match written:
            case schema.IfJob():
                return self._if(written, path)
            case schema.SwitchJob():
                cases = self._checks.elements(written.cases, (*path, "cases"))
                self._check_cases(cases)
                conditions = tuple(self._case(each, at) for each, at in cases)
                return Choice(conditions, self._route(written.otherwise, (*path, "otherwise")))
            case schema.RandomRouterJob():
                return self._random_choice(written, path)
            case schema.ForEachJob():
                batch_size = optional(written.batch_size, (*path, "batch_size"))
                return ForEach(self.job(written.do, (*path, "do"), depth + 1), batch_size)
            case schema.AccumulateJob():
                accumulator = optional(written.accumulator, (*path, "accumulator"))
                return Accumulate(self.job(written.do, (*path, "do"), depth + 1), accumulator)
            case schema.FilterJob():
                return Filter(self._test(written.where, (*path, "where")))
            case schema.LoopJob():
                return self._loop(written, path, depth)
            case schema.DelayJob():
                return self._delay(written, path)
            case schema.JobFields():
                component = self._component(written, path)
                action = self._action(written, path, component)
                repeat_count = optional(written.repeat_count, (*path, "repeat_count"))
                return Call(component, action, repeat_count)
        raise AssertionError(written)

    # Routes

    def _route(self, written: schema.Route | str | None, path: KeyPath) -> Route | None:
        if isinstance(written, str):
            return Route(path, to=written)
        if written is None:
            return None
        has_output = "output" in written.model_fields_set
        output = parse_template(written.output, (*path, "output")) if has_output else None
        return Route((*path, "to") if written.to is not None else path, written.to, output)

    def _on_error(self, written: schema.Route | str | None, path: KeyPath) -> Route | None:
        if isinstance(written, str):
            if written.lower() == "ignore":
                return Route(path)
            hint = f"Write 'ignore'; or, below it, 'to: {written}' or 'output: …'."
            if written.lower() == "retry":
                hint = "How often it is tried says another key: write 'retry: 3' beside it."
            self._checks.problem(f"'on_error' cannot be '{written}'", path, hint=hint)
            return None
        return self._route(written, path)

    def _if(self, written: schema.IfJob, path: KeyPath) -> Choice:
        listed: list[tuple[Any, KeyPath]] = [(written, path)]
        if written.conditions is not None:
            listed = self._checks.elements(written.conditions, (*path, "conditions"))
            flat = ("operator", "value", "if_true", "if_false")
            for key in (key for key in flat if key in written.model_fields_set):
                self._checks.exclude(path, "conditions", key, "Move it into 'conditions'.")
        conditions = tuple(self._condition(each, at) for each, at in listed)
        otherwise = self._route(written.otherwise, (*path, "otherwise"))
        choice = Choice(conditions, otherwise)
        leads = otherwise or any(each.if_true or each.if_false for each in conditions)
        if not leads and not self._checks.is_spoiled(path, *type(written).model_fields):
            hint = "Write 'if_true' or 'if_false': a job's id, or 'output: …' below it."
            self._checks.problem("the job leads nowhere", path, hint=hint)
        return choice

    def _condition(self, written: schema.IfCondition | schema.IfJob, path: KeyPath) -> Condition:
        lost = self._checks.is_spoiled(path, "value", "conditions", "operator")
        if "value" not in written.model_fields_set and not lost:
            self._checks.problem("'value' is missing", path, hint=MISSING["value"])
        has_own = isinstance(written, schema.IfCondition) and "input" in written.model_fields_set
        test = _comparison(
            parse_template(written.input, (*path, "input")) if has_own else _given(path),
            written.operator or "eq",
            parse_template(written.value, (*path, "value")),
            path,
        )
        if_true = self._route(written.if_true, (*path, "if_true"))
        return Condition(test, if_true, self._route(written.if_false, (*path, "if_false")))

    def _case(self, written: schema.Case, path: KeyPath) -> Condition:
        value = parse_template(written.value, (*path, "value"))
        test = _comparison(_given(path), "eq", value, path)
        return Condition(test, self._route(written.then, (*path, "then")))

    def _check_cases(self, cases: list[tuple[schema.Case, KeyPath]]) -> None:
        """Report cases that never count, since one before them has the same value."""
        first: dict[str, KeyPath] = {}
        for each, path in cases:
            at = (*path, "value")
            if self._checks.is_spoiled(path, "value"):
                continue
            known = first.setdefault(json.dumps(each.value, sort_keys=True, default=str), at)
            if known != at and isinstance(parse_template(each.value, at), Constant):
                line = self._checks.source.where(known).line
                also = f" (line {line})" if line else ""
                message = f"an earlier case has the value {show(each.value)}{also}"
                hint = "The first counts, so this one never does. Take one of them out."
                self._checks.problem(message, at, hint=hint)

    def _random_choice(self, written: schema.RandomRouterJob, path: KeyPath) -> RandomChoice:
        routes: list[tuple[Route, Template | None]] = []
        is_uniform = written.mode == "uniform"
        for each, at in self._checks.elements(written.routings, (*path, "routings")):
            if is_uniform and each.weight is not None:
                self._checks.warn("'weight' has no effect in mode uniform", (*at, "weight"))
            route = self._route(each, at)
            assert route is not None
            weight = None if is_uniform else optional(each.weight, (*at, "weight"))
            routes.append((route, weight))
        if all(weight is not None and weight.value == 0 for _, weight in routes):
            hint = "Give one of them a 'weight' above 0."
            self._checks.problem("no way has a weight, so none can be chosen", path, hint=hint)
        session = optional(written.session, (*path, "session"))
        return RandomChoice(tuple(routes), session, optional(written.salt, (*path, "salt")))

    # Other kinds

    def _loop(self, written: schema.LoopJob, path: KeyPath, depth: int) -> Loop:
        is_until = written.until is not None
        key = "until" if is_until else "while"
        if is_until and written.while_ is not None:
            self._checks.exclude(path, "until", "while", "They mean the opposite: keep one.")
        lacks = written.until is None and written.while_ is None
        if lacks and not self._checks.is_spoiled(path, "until", "while"):
            hint = "Write 'until:' with 'input: ${output}', 'operator' and 'value' below it."
            self._checks.problem("'until' is missing: what ends the loop", path, hint=hint)
        condition = self._test(written.until or written.while_, (*path, key))
        return Loop(
            do=self.job(written.do, (*path, "do"), depth + 1),
            condition=condition or parse_template(True),
            is_until=is_until,
            max_iteration_count=parse_template(
                written.max_iteration_count, (*path, "max_iteration_count")
            ),
        )

    def _delay(self, written: schema.DelayJob, path: KeyPath) -> Delay:
        given = [key for key in ("duration", "time") if getattr(written, key) is not None]
        if len(given) == 2:
            self._checks.exclude(path, "duration", "time", "Keep one of them.")
        expected = {"time-interval": "duration", "specific-time": "time"}.get(written.mode or "")
        lacks = not given or (expected is not None and expected not in given)
        if lacks and not self._checks.is_spoiled(path, "duration", "time", "mode"):
            hint = "Write 'duration: 30s', or 'time: 2026-12-24T18:00'."
            self._checks.problem(f"'{expected or 'duration'}' is missing", path, hint=hint)
        delay = Delay(
            optional(written.duration, (*path, "duration")),
            optional(written.time, (*path, "time")),
            optional(written.timezone, (*path, "timezone")),
        )
        for template, check in ((delay.time, moment), (delay.timezone, time_zone)):
            if isinstance(template, Constant):
                try:
                    check(template.value)
                except ConversionError as error:
                    self._checks.problem(str(error), template.path, hint=error.hint)
        return delay

    def _test(self, written: schema.Test | None, path: KeyPath) -> Template | None:
        if written is None or any(each[: len(path)] == path for each in self._checks.spoiled):
            return None
        return parse_test(self._checks.raw(path), path)

    def _interrupt(
        self, written: schema.Interrupt | bool | None, path: KeyPath
    ) -> Interrupt | None:
        if written is None or written is False:
            return None
        if written is True:
            return Interrupt(path)
        message, metadata, choices = (
            optional(getattr(written, key), (*path, key))
            for key in ("message", "metadata", "choices")
        )
        condition = self._test(written.condition, (*path, "condition"))
        timeout = INTERRUPT_SECONDS if written.timeout is None else written.timeout
        return Interrupt(path, condition, message, metadata, choices, timeout)

    # Components

    def _component(self, written: schema.JobFields, path: KeyPath) -> Component:
        at = (*path, "component")
        if written.component is not None and not isinstance(written.component, str):
            return self._compiler.component(written.component, at)
        if written.component in (None, DEFAULT_ID):
            chosen = self._default_component
            lost = self._checks.is_spoiled(path, "component", "type", "job", "jobs")
            if chosen is None and self._components and not lost:
                ids = self._checks.ids(self._components)
                hint = f"Name one of {ids}, or mark one 'default: true'."
                self._checks.problem(
                    "the job names none of the several components", path, hint=hint
                )
        else:
            chosen = self._checks.referred(
                written.component, self._components, "component", self._path, at
            )
        return chosen or MISSING_COMPONENT

    def _action(
        self, written: schema.JobFields, path: KeyPath, component: Component
    ) -> Action | None:
        if component is MISSING_COMPONENT:
            return MISSING_ACTION
        at = (*path, "action")
        if not isinstance(component, ModelComponent):
            if written.action not in (None, DEFAULT_ID):
                hint = "Leave this line out: only models have actions."
                which = "the component" if component.id.startswith("__") else f"'{component.id}'"
                self._checks.problem(f"{which} has no actions", at, key=True, hint=hint)
            return None
        if written.action in (None, DEFAULT_ID):
            chosen = self._default_action(component)
            if chosen is None:
                message = f"the job names none of the actions of '{component.id}'"
                ids = self._checks.ids(component.actions)
                hint = f"Name one of {ids}, or mark one 'default: true'."
                self._checks.problem(message, path, hint=hint)
        else:
            chosen = self._checks.referred(
                written.action, component.actions, "action", component.path, at
            )
        return chosen or MISSING_ACTION

    def _default_action(self, component: ModelComponent) -> Action | None:
        if component.path not in self._default_actions:
            self._default_actions[component.path] = choose_default(component.actions)
        return self._default_actions[component.path]


def _given(path: KeyPath) -> Template:
    """What a job's input is in its own tests."""
    return parse_template("${job.input}", path)


def _comparison(input: Template, operator: str, value: Template, path: KeyPath) -> Comparison:
    entries = {"input": input, "value": value}
    written: Mapping[str, Any] = {"operator": operator, "value": value.value}
    return Comparison(written, path, operator, entries)


def _retry(written: schema.Retry | int | None) -> Retry | None:
    if written is None:
        return None
    if isinstance(written, int):
        return Retry(written)
    return Retry(
        written.max_attempt_count,
        written.delay or 0.0,
        written.backoff or "fixed",
        written.max_delay,
    )


MISSING_ACTION = Action("__missing__", (), parse_template(""), {})
MISSING_COMPONENT = ModelComponent("__missing__", (), {}, (MISSING_ACTION,))
"""What stands for what was named and is not there, so that the rest can be checked."""
