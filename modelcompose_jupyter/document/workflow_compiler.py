"""Workflows: their jobs as a graph, and what is wrong with it."""

from __future__ import annotations

import graphlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from ..errors import did_you_mean, listed, shortened
from . import schema
from .checks import Checks, optional
from .component_compiler import ComponentCompiler
from .components import Component, FunctionComponent, ModelComponent, WorkflowComponent
from .document import Workflow, choose_default
from .job_compiler import MISSING_ACTION, MISSING_COMPONENT, JobCompiler
from .jobs import (
    Accumulate,
    Call,
    Choice,
    Delay,
    Filter,
    ForEach,
    Job,
    Loop,
    RandomChoice,
)
from .reachability import Reachability, predecessors, routers_of
from .reader import KeyPath
from .references import Reference, references
from .templates import OPERATORS, MappingTemplate, Template, parse_template

_JOB_KEYS = tuple(schema.JobFields.model_fields)
MAX_CALLED_REFERENCES = 100_000
"""How often the jobs of a document may use the expressions of what they call, all together."""
_MOST_IN_CYCLE = 10  # jobs of a cycle that are named: the first and the last
_BASE = ("input", "env", "jobs", "context")


class WorkflowCompiler:
    """Compiles the workflows of a document, which stands at a path."""

    def __init__(
        self,
        checks: Checks,
        compiler: ComponentCompiler,
        components: tuple[Component, ...],
        path: KeyPath,
    ) -> None:
        self._checks = checks
        self._path = path
        self._jobs = JobCompiler(checks, compiler, components, path)
        self._called: dict[KeyPath, list[Reference]] = {}
        self._called_count = 0

    def workflow(self, written: schema.Workflow, path: KeyPath) -> Workflow:
        """A workflow in its normal form."""
        flat = (key for key in _JOB_KEYS if key != "output")
        found = self._checks.listed(written, "job", path, flat)
        output, output_path = None, (*path, "output")
        jobs = [self._jobs.job(job, at) for job, at in found or [(written, path)]]
        if found:
            output = optional(written.output, output_path)
        elif _gives_text(jobs[0]) and all(getattr(written, k) is None for k in _JOB_KEYS):
            output = parse_template({"generated": "${output}"}, output_path)
        unique = self._checks.unique(jobs, "job")
        names = {job.id: None for job in unique}
        used: list[Reference] = []
        if found:
            used = self._checks.check_references(output, (*_BASE, "output"), jobs=names)
        checked = tuple(self._connected(job, names) for job in unique)
        if self._check_cycles(checked):
            self._check_reachable(checked, used)
        return Workflow(
            id=written.id or "__workflow__",
            path=path,
            jobs=checked,
            title=written.title or written.name,
            description=written.description,
            output=output,
            default=bool(written.default),
            private=bool(written.private),
        )

    def check_calls(
        self, workflows: Iterable[Workflow], included: Mapping[KeyPath, tuple[Workflow, ...]]
    ) -> None:
        """Report calls of workflows that are not there, or that have no end; ``included`` are those
        of other documents."""
        by_id = {each.id: each for each in workflows}
        called: dict[str, list[tuple[str, KeyPath]]] = {name: [] for name in by_id}
        for workflow in by_id.values():
            for job in workflow.jobs:
                component = None if job.call is None else job.call.component
                if not isinstance(component, WorkflowComponent):
                    continue
                if component.is_of_file:  # which has no way back
                    if (at := (*component.path, "file")) in included:
                        self._called_workflow(component, included[at], at)
                    continue
                name = self._called_workflow(component, workflows, self._path)
                if name is not None:
                    called[workflow.id].append((name, component.path))
        graph = {name: [other for other, _ in calls] for name, calls in called.items()}
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            cycle = list(reversed(error.args[1]))
            path = next(path for name, path in called[cycle[0]] if name == cycle[1])
            names = ["the workflow" if name.startswith("__") else f"'{name}'" for name in cycle]
            message = f"these workflows call each other: {' → '.join(names)}"
            if len(cycle) == 2:
                name = names[0] if names[0] == "the workflow" else f"the workflow {names[0]}"
                message = f"{name} calls itself"
            hint = "Such calls have no end. What repeats is a job of type loop."
            self._checks.problem(message, path, hint=hint)

    def _called_workflow(
        self, component: WorkflowComponent, workflows: Iterable[Workflow], owner: KeyPath
    ) -> str | None:
        """The id of the workflow that a component calls, of those that stand at ``owner``."""
        known = list(workflows)
        if component.workflow is not None:
            at = (*component.path, "workflow")
            if not self._checks.ids(known):
                which = "there" if component.is_of_file else "here"
                hint = f"The one workflow {which} has no id: give it one, or leave this line out."
                name = shortened(component.workflow)
                self._checks.problem(f"there is no workflow '{name}'", at, hint=hint)
                return None
            found = self._checks.referred(component.workflow, known, "workflow", owner, at)
            return None if found is None else component.workflow
        default: Workflow | None = choose_default(known)
        if default is None and known:
            hint = f"Name one of {self._checks.ids(known)}."
            self._checks.problem("'workflow' is missing", component.path, hint=hint)
        return None if default is None else default.id

    def _connected(self, job: Job, names: Mapping[str, None]) -> Job:
        """The job, waiting for those it names and for those whose output it uses."""
        others = _OtherJobs(names, job.id)
        self._check_names(job, others)
        used = self._references(job, _BASE, others)
        groups = dict.fromkeys(
            group for each in job.depends_on if (group := tuple(n for n in each if n in others))
        )
        awaits: dict[str, None] = {}
        for reference in used:
            group = tuple(name for name in needed(reference) if name in others)
            if not group:
                awaits[reference.expression.keys[0]] = None
                continue
            self._check_alternative(group, job.depends_on, reference)
            groups[group] = None
            if len(group) > 1:  # the first in order is taken, not the first in time
                awaits |= dict.fromkeys(group)
        alone = {group[0] for group in groups if len(group) == 1}
        depends_on = tuple(each for each in groups if len(each) == 1 or alone.isdisjoint(each))
        return replace(job, depends_on=depends_on, awaits=tuple(awaits))

    def _check_names(self, job: Job, others: Collection[str]) -> None:
        """Report jobs that it waits for or leads to, and that are not there."""
        if self._checks.is_known_badly("job"):
            return
        for group in job.depends_on:
            for name in group:
                if name not in others:
                    at = self._place(name, (*job.path, "depends_on"))
                    itself = "a job cannot wait for itself" if name == job.id else None
                    hint = did_you_mean(name, others)
                    self._checks.problem(itself or f"there is no job '{name}'", at, hint=hint)
        failure = () if job.on_error is None else (job.on_error,)
        for route in (*job.routes, *failure):
            if route.to is not None and route.to not in others:
                itself = "a job cannot lead to itself" if route.to == job.id else None
                is_value = not others or "${" in route.to or " " in route.to
                there = f"There is {listed(others)}."
                hint = "Write a value as 'output: …', below it." if is_value else there
                hint = did_you_mean(route.to, others) or hint
                if route.to == job.id:
                    hint = "A job runs once. What repeats is a job of type loop."
                message = itself or f"there is no job '{shortened(route.to)}'"
                self._checks.problem(message, route.path, hint=hint)

    def _place(self, name: str, path: KeyPath) -> KeyPath:
        """Where a name stands in what was written as a name, or as lists of them."""
        written = self._checks.raw(path)
        for n, each in enumerate(written if isinstance(written, list) else ()):
            if each == name:
                return (*path, n)
            if isinstance(each, list) and name in each:
                return (*path, n, each.index(name))
        return path

    def _check_alternative(
        self, group: tuple[str, ...], depends_on: Iterable[tuple[str, ...]], reference: Reference
    ) -> None:
        """Report the use of one of several jobs of which any is enough."""
        if len(group) > 1 or group in depends_on:
            return
        name = group[0]
        for each in depends_on:
            if name in each:
                enough = listed(f"'{other}'" for other in each)
                message = f"job '{name}' may not have run: one of {enough} is enough"
                hint = f"Give a default: ${{jobs.{name}.output | …}}."
                self._checks.misused(reference, message, hint)
                return

    def _check_reachable(self, jobs: tuple[Job, ...], of_output: Iterable[Reference]) -> None:
        """Report jobs that can never run, and what the workflow's output may lack."""
        reachability, routers = Reachability(jobs), routers_of(jobs)
        never = {job.id for job in jobs if reachability.never(job)}
        for job in jobs:
            # Of jobs that wait for each other the first one is enough.
            follows = not never.isdisjoint((*job.predecessors, *routers.get(job.id, ())))
            if job.id in never and not follows and not self._checks.is_known_badly("job"):
                hint = _why_never(job, routers)
                self._checks.problem(f"job '{job.id}' can never run", job.path, hint=hint)
        for reference in of_output:
            group = needed(reference)
            if group and never.isdisjoint(group) and reachability.may_lack(group):
                names = " nor ".join(f"'{name}'" for name in group)
                message = f"it may be that neither {names} has run"
                if len(group) == 1:
                    message = f"job {names} may not have run"
                hint = f"Give a default: ${{jobs.{group[-1]}.output | …}}."
                self._checks.misused(reference, message, hint)

    # Expressions of jobs

    def _references(
        self, job: Job, base: tuple[str, ...], others: Collection[str]
    ) -> list[Reference]:
        """Check the expressions of a job and of those in it; returns those that use other jobs."""
        used: list[Reference] = []

        def check(template: Template | None, *more: str) -> None:
            used.extend(self._checks.check_references(template, (*base, *more), jobs=others))

        repeats = isinstance(job.work, Call) and job.work.repeat_count is not None
        check(job.input, *(("index",) if repeats else ()))
        check(job.output, "output")
        if job.on_error is not None:
            check(job.on_error.output, "error")
            self._checks.check_parts(job.on_error.output, "error", ("message", "code"))
        for route in job.routes:
            check(route.output)
        for interrupt, known, when in (
            (job.before, ("input",), "before the job"),
            (job.after, ("input", "output"), "after the job"),
        ):
            for template in () if interrupt is None else interrupt.templates:
                check(template, "job")
                self._checks.check_parts(template, "job", known, when)
        match job.work:
            case Call(repeat_count=repeat_count):
                check(repeat_count)
                self._check_provided(job)
            case Choice(conditions=conditions):
                for each in conditions:
                    check(each.test, "job")
                    self._checks.check_parts(each.test, "job", ("input",))
            case RandomChoice(routes=routes, session=session, salt=salt):
                for template in (*(weight for _, weight in routes), session, salt):
                    check(template)
            case ForEach(do=do, batch_size=batch_size):
                check(batch_size)
                used += self._references(do, (*base, "item", "index"), others)
            case Accumulate(do=do, accumulator=accumulator):
                check(accumulator)
                inner = (*base, "item", "index", "accumulator")
                used += self._references(do, inner, others)
            case Filter(where=where):
                check(where, "item", "index")
            case Loop(do=do, condition=condition, max_iteration_count=most):
                check(most)
                check(condition, "output", "iteration")
                self._check_first_round(do)
                self._check_loop_input(job, do)
                used += self._references(do, (*base, "output", "iteration"), others)
            case Delay(duration=duration, time=time, timezone=timezone):
                for template in (duration, time, timezone):
                    check(template)
        return used

    def _check_first_round(self, do: Job) -> None:
        """Report what a loop's first round needs of the round before."""
        for reference in references(do.input):
            expression = reference.expression
            if expression.source == "output" and reference.demands and not reference.fallback_of:
                message = f"the first round has no {expression}: no round was before it"
                inner = expression.text.removeprefix("${").removesuffix("}").strip()
                hint = f"Give a default: ${{{inner} | ${{input}}}}."
                self._checks.misused(reference, message, hint)

    def _check_loop_input(self, job: Job, do: Job) -> None:
        """Report what a loop's inner job takes of the workflow's input, where the loop has its own
        and that has no such name."""
        given = job.input
        if not isinstance(given, MappingTemplate) or OPERATORS & given.entries.keys():
            return
        for reference in references(do.input):
            keys = reference.expression.keys
            is_missing = (
                reference.expression.source == "input" and keys and keys[0] not in given.entries
            )
            if is_missing and reference.demands and not reference.fallback_of:
                name = shortened(keys[0])
                message = f"the loop's input has no '{name}', for {reference.expression}"
                hint = did_you_mean(keys[0], given.entries) or (
                    f"In 'do', ${{input}} is the loop's own input: add '{name}:' to that."
                )
                self._checks.misused(reference, message, hint)

    def _check_provided(self, job: Job) -> None:
        """Whether a job's input mapping holds what it calls cannot do without."""
        call = job.work
        if not isinstance(call, Call) or call.component is MISSING_COMPONENT:
            return
        if call.action is MISSING_ACTION:
            return
        key = call.component.path if call.action is None else call.action.text.path
        if key not in self._called:
            self._called[key] = list(called_references(call))
        before = self._called_count
        self._called_count += len(self._called[key])
        if before <= MAX_CALLED_REFERENCES < self._called_count:
            many = f"more than {MAX_CALLED_REFERENCES:,} expressions of what they call"
            hint = "Write fewer jobs, or fewer expressions in their prompt."
            self._checks.problem(f"the jobs down to this one use {many}", job.path, hint=hint)
        if self._called_count > MAX_CALLED_REFERENCES:
            return
        if not isinstance(job.input, MappingTemplate) or OPERATORS & job.input.entries.keys():
            return
        given = job.input.entries
        for reference in self._called[key]:
            keys = reference.expression.keys
            missing = reference.expression.source == "input" and keys and keys[0] not in given
            if missing and reference.demands and not reference.fallback_of:
                name = shortened(keys[0])
                message = f"the job gives no '{name}', which {reference.expression} needs"
                hint = did_you_mean(keys[0], given) or f"Add '{name}:' to the input."
                self._checks.problem(message, (*job.path, "input"), key=True, hint=hint)

    def _check_cycles(self, jobs: tuple[Job, ...]) -> bool:
        """Report jobs that wait for each other; whether there are none."""
        routers = routers_of(jobs)
        try:
            graphlib.TopologicalSorter(predecessors(jobs)).prepare()
        except graphlib.CycleError as error:
            cycle = list(reversed(error.args[1]))
            path = next(job.path for job in jobs if job.id == cycle[0])
            half = _MOST_IN_CYCLE // 2
            long = len(cycle) > _MOST_IN_CYCLE + 1
            shown = " → ".join([*cycle[:half], "…", *cycle[-half:]] if long else cycle)
            hint = "None of them can ever start. Take away one of the links."
            if not routers.keys().isdisjoint(cycle):
                hint = "A job runs once. What repeats is a job of type loop, with 'do' and 'until'."
            self._checks.problem(f"these jobs wait for each other: {shown}", path, hint=hint)
            return False
        return True


def needed(reference: Reference) -> tuple[str, ...]:
    """The jobs of which one must have completed for an expression to have a value; none where it
    has another default."""
    if not reference.demands:
        return ()
    chain = (*reference.fallback_of, reference.expression)
    if any(each.source != "jobs" or not each.keys for each in chain):
        return ()
    return tuple(dict.fromkeys(each.keys[0] for each in chain))


def _why_never(job: Job, routers: Mapping[str, list[str]]) -> str:
    """Why a job can never run, though all that it waits for can."""
    alone = [group[0] for group in job.depends_on if len(group) == 1]
    leading = [name for name in alone if name in routers.get(job.id, ())]
    if leading:
        return (
            f"'{leading[0]}' leads to it where it has failed, so that it has no output then: write"
            " 'output' beside 'to', or do without it here."
        )
    if len(alone) > 1:
        *first, last = alone[:_MOST_IN_CYCLE]
        listed_names = ", ".join(f"'{name}'" for name in first)
        both = " | ".join((f"${{jobs.{alone[0]}.output", f"${{jobs.{alone[1]}.output}}"))
        return (
            f"It waits for {listed_names} and '{last}', which never run together. To take what"
            f" there is, write {both}}}, or depends_on: [[{alone[0]}, {alone[1]}]]."
        )
    return "What it waits for never runs where something leads to it."


def _gives_text(job: Job) -> bool:
    call = job.work
    return isinstance(call, Call) and (call.action is not None and call.action.output is None)


class _OtherJobs(Collection[str]):
    """The ids of the jobs of a workflow but for one."""

    def __init__(self, names: Mapping[str, None], own: str) -> None:
        self._names, self._own = names, own

    def __contains__(self, name: object) -> bool:
        return name != self._own and name in self._names

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._names if name != self._own)

    def __len__(self) -> int:
        return len(self._names) - (self._own in self._names)


def called_references(call: Call) -> Iterator[Reference]:
    """The references of what a job calls: prompt, parameters, model, what it passes on, output."""
    component, templates = call.component, list[Template | None]()
    match component:
        case ModelComponent():
            assert call.action is not None
            templates += [call.action.text, *call.action.parameters.values()]
            templates += [*component.model.values(), call.action.output]
        case WorkflowComponent():
            templates = [component.input, component.output]
        case FunctionComponent():
            templates = [component.output]
    for template in templates:
        yield from references(template)
