"""The jobs of a workflow as a graph, from its inputs to its outputs, in a reader's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from graphlib import TopologicalSorter
from typing import Literal

from ..document import (
    Document,
    FunctionComponent,
    Job,
    ModelComponent,
    Template,
    Workflow,
    WorkflowComponent,
    signature,
)
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
    model_calls,
)
from ..document.reachability import predecessors
from ..document.templates import Combination, Comparison, Constant
from ..document.types import show
from ..path_redaction import public_source, without_folders
from ..translation import ENGLISH
from .words import Say, clean, in_language

Edge = tuple[int, int]

_MANY_EDGES = 250
MAX_JOBS = 1000
"""Jobs that are drawn; of more, which nobody can follow and which take long, only how many."""
_TYPES = {"for-each": "for each", "random-router": "at random"}
_SIGNS = {
    "eq": "=",
    "neq": "≠",
    "gt": ">",
    "gte": "≥",
    "lt": "<",
    "lte": "≤",
}
_TESTS = {
    "starts-with": "{0} starts with {1}",
    "ends-with": "{0} ends with {1}",
    "match": "{0} matches {1}",
    "in": "{0} is in {1}",
    "not-in": "{0} is not in {1}",
}


@dataclass(frozen=True)
class Node:
    """A job with what it does, or the names of the inputs or outputs.

    Attributes:
        details: what it does, a row each: of a call its models.
        repeats: how often a call is made.
        type: what a job is called in documents.
        marks: what there is to say of when it fails, and of pauses.
        job: the job's id.
        called: what kind of job it is, in words; empty where it is a call.
    """

    kind: Literal["input", "job", "output"]
    label: str
    details: tuple[str, ...]
    repeats: str = ""
    type: str = "component"
    marks: tuple[str, ...] = ()
    job: str = ""
    called: str = ""

    @property
    def is_choice(self) -> bool:
        return self.type in ("if", "switch", "random-router")

    @property
    def is_many(self) -> bool:
        """Whether it does something many times, side by side or for many elements."""
        return bool(self.repeats) or self.type in ("for-each", "filter", "accumulate")

    @property
    def heading(self) -> tuple[str, ...]:
        """Its label, what kind of job it is, unless it is a call, and its repeats."""
        return tuple(each for each in (self.label, self.called, self.repeats) if each)


@dataclass(frozen=True)
class Link:
    """What an edge stands for.

    ``waits`` for a job that has to complete, ``any`` for one of several, ``ended`` for one that has
    to end, whatever comes of it; ``route`` where one leads to another, ``error`` where its failure
    does.
    """

    kind: Literal["waits", "any", "ended", "route", "error"]
    label: str = ""

    @property
    def is_route(self) -> bool:
        return self.kind in ("route", "error")


WAITS = Link("waits")


@dataclass(frozen=True)
class Graph:
    """``nodes`` are the input, the jobs in the document's order, and the output; ``links`` are by
    pairs of their indexes, the one that comes first first."""

    nodes: tuple[Node, ...]
    links: Mapping[Edge, Link]


def graph(
    document: Document, workflow: Workflow, *, for_guests: bool, language: str = ENGLISH
) -> Graph:
    """The graph of a workflow in a language; for guests without this computer's folders."""
    say = in_language(language)
    described = signature(document, workflow)
    inputs = [clean(each.name) for each in described.inputs] + ["…"] * described.open
    outputs = [clean(each.name or str(each.type)) for each in described.outputs]
    first = Node("input", say("Input"), tuple(inputs))
    last = Node("output", say("Output"), tuple(outputs))
    describe = _Describer(for_guests, say)
    if len(workflow.jobs) > MAX_JOBS:
        models = tuple(describe.models(workflow.jobs))
        together = Node("job", say("{0} jobs", f"{len(workflow.jobs):,}"), models)
        return Graph((first, together, last), {(0, 1): WAITS, (1, 2): WAITS})
    nodes = (first, *(describe.node(job) for job in workflow.jobs), last)
    return Graph(nodes, _links(workflow, describe))


class _Describer:
    """Says what jobs do."""

    def __init__(self, for_guests: bool, say: Say) -> None:
        self._for_guests = for_guests
        self.say = say

    def node(self, job: Job) -> Node:
        call = job.work if isinstance(job.work, Call) else None
        ids = (job.id, *(() if call is None else (call.component.id,)))
        named = [each for each in ids if not each.startswith("__")]
        count = None if call is None else call.repeat_count
        return Node(
            "job",
            clean(named[0]) if named else self.say("Default"),
            tuple(self._does(job)),
            "" if count is None else f"× {self._brief(count)}",
            job.type,
            tuple(self._marks(job)),
            job.id,
            "" if job.type == "component" else self._kind(job),
        )

    def _kind(self, job: Job) -> str:
        """What kind of job it is: as documents have it, or in words."""
        return self.say(_TYPES.get(job.type, job.type))

    def models(self, jobs: tuple[Job, ...]) -> list[str]:
        sources = (call.component.sources[0] for call in model_calls(jobs))
        shown = (public_source(source) if self._for_guests else source for source in sources)
        return list(dict.fromkeys(map(clean, shown)))

    def _does(self, job: Job) -> Iterator[str]:
        say = self.say
        match job.work:
            case Call():
                yield self._called(job)
                return
            case Choice(conditions=conditions):
                if job.type == "switch":
                    yield "input" if job.input is None else self._brief(job.input)
                    return
                yield from (self._test(each.test, job) for each in conditions)
            case RandomChoice(session=session):
                if session is not None:
                    yield say("the same for {0}", self._brief(session))
            case ForEach(batch_size=batch_size):
                yield say("of {0}", self._given(job))
                if batch_size is not None:
                    yield say("{0} at a time", self._brief(batch_size))
            case Filter(where=where):
                yield say("of {0}", self._given(job))
                if where is not None:
                    yield say("where {0}", self._test(where, job))
            case Loop(condition=condition, is_until=is_until, max_iteration_count=most):
                yield say("until {0}" if is_until else "while {0}", self._test(condition, job))
                yield say("at most {0} rounds", self._brief(most))
            case Accumulate():
                yield say("over {0}", self._given(job))
            case Delay(duration=duration, time=time):
                if duration is not None:
                    if isinstance(duration.value, int | float):
                        yield say("for {0} s", f"{duration.value:g}")
                    else:
                        yield say("for {0}", self._brief(duration))
                elif time is not None:
                    yield say("waits until {0}", self._brief(time))
        if job.do is not None:
            yield f"do: {self._inner(job.do)}"

    def _inner(self, do: Job) -> str:
        """An inner job in a row: its component, what that is, how it goes on."""
        if do.do is not None:
            return f"{self._kind(do)}, {self._inner(do.do)}"
        if not isinstance(do.work, Call):
            return " ".join([self._kind(do), *self._does(do)])
        name, called = do.work.component.id, self._called(do)
        count = do.work.repeat_count
        repeats = "" if count is None else f" × {self._brief(count)}"
        marks = "".join(f", {each}" for each in self._marks(do))
        named = called if name.startswith("__") else f"{clean(name)} · {called}"
        return f"{named}{repeats}{marks}"

    def _called(self, job: Job) -> str:
        call = job.call
        assert call is not None
        match call.component:
            case ModelComponent():
                return self.models((job,))[0]
            case FunctionComponent(function=function):
                return f"{clean(function)}()"
            case WorkflowComponent(workflow=workflow):
                return self.say("workflow {0}", clean(workflow)) if workflow else "workflow"
        raise AssertionError(call.component)

    def _marks(self, job: Job) -> Iterator[str]:
        say = self.say
        if job.retry is not None:
            yield say("up to {0} attempts", f"{job.retry.max_attempt_count}")
        if job.timeout is not None:
            yield say("at most {0} s", f"{job.timeout:g}")
        if job.on_error is not None and job.on_error.to is None:
            has_value = job.on_error.output is not None
            yield say("a failure has a value") if has_value else say("may fail")
        if job.before is not None:
            yield say("asks before")
        if job.after is not None:
            yield say("asks after")

    def _given(self, job: Job) -> str:
        return self.say("its input") if job.input is None else self._brief(job.input)

    def _test(self, test: Template, job: Job) -> str:
        match test:
            case Comparison(operator=operator, entries=entries):
                left = entries["input"]
                only = left.only
                is_given = only is not None and (only.source, *only.keys) == ("job", "input")
                shown = self._given(job) if is_given else self._brief(left)
                right = self._brief(entries["value"]) if "value" in entries else ""
                if operator in _TESTS and right:
                    return self.say(_TESTS[operator], shown, right)
                return f"{shown} {_SIGNS.get(operator, operator)} {right}".rstrip()
            case Combination(word="not", filters=(inner,)):
                return self.say("not {0}", self._test(inner, job))
            case Combination(word=word, filters=filters):
                return self._joint(word == "all", [self._test(each, job) for each in filters])
        return self._brief(test)

    def _joint(self, are_all: bool, parts: Sequence[str]) -> str:
        joint = "{0} and {1}" if are_all else "{0} or {1}"
        return reduce(lambda before, part: self.say(joint, before, part), parts)

    def _brief(self, template: Template) -> str:
        """A template in a line, without type and default where it is one plain expression."""
        only = template.only
        if only is not None and len(only.keys) == len(only.path):
            text = f"${{{'.'.join((only.source, *only.keys))}}}"
        else:
            text = template.value if isinstance(template.value, str) else show(template.value)
        return clean(without_folders(text) if self._for_guests else text)

    # Edges

    def routes(self, job: Job) -> Iterator[tuple[str, Link]]:
        """The jobs that a job leads to, and when."""
        labels: dict[str, list[str]] = {}
        for route, label in self._ways(job):
            if route.to is not None:
                labels.setdefault(route.to, []).append(label)
        yield from (
            (to, Link("route", ", ".join(filter(None, dict.fromkeys(each)))))
            for to, each in labels.items()
        )
        if (
            job.on_error is not None
            and job.on_error.to is not None
            and job.on_error.to not in labels
        ):
            yield job.on_error.to, Link("error", self.say("on error"))

    def _ways(self, job: Job) -> Iterator[tuple[Route, str]]:
        match job.work:
            case Choice(conditions=conditions, otherwise=otherwise):
                for number, each in enumerate(conditions, 1):
                    which = f"{number} " if job.type == "if" and len(conditions) > 1 else ""
                    is_case = job.type == "switch" and isinstance(each.test, Comparison)
                    value = self._value(each.test) if is_case else "true"
                    if each.if_true is not None:
                        yield each.if_true, f"{which}{value}"
                    if each.if_false is not None:
                        yield each.if_false, f"{which}false"
                if otherwise is not None:
                    yield otherwise, self.say("otherwise")
            case RandomChoice(routes=routes):
                for route, weight in routes:
                    yield route, self._share(weight, [each for _, each in routes])

    def _value(self, test: Template) -> str:
        assert isinstance(test, Comparison)
        return self._brief(test.entries["value"])

    def _share(self, weight: Template | None, all_weights: Sequence[Template | None]) -> str:
        """A weight as a share of all, where these are known."""
        values = [1 if each is None else each.value for each in all_weights]
        plain = all(each is None or isinstance(each, Constant) for each in all_weights)
        numbers = [each for each in values if isinstance(each, int | float)]
        own = 1 if weight is None else weight.value
        if plain and len(numbers) == len(values) and sum(numbers) > 0:
            return f"{100 * own / sum(numbers):.3g} %"
        return "" if weight is None else self.say("weight {0}", self._brief(weight))


def _links(workflow: Workflow, describe: _Describer) -> dict[Edge, Link]:
    """What waits for what and what leads to it; the input comes before the first jobs, and the
    output behind the last.

    Where that is more than anyone can follow, what is implied by the rest is left out.
    """
    places = {job.id: place for place, job in enumerate(workflow.jobs, 1)}
    awaited = predecessors(workflow.jobs)
    special = _special(workflow, describe)
    if sum(map(len, awaited.values())) > _MANY_EDGES:
        reduced = _reduced(awaited)
        awaited = {
            name: tuple(each for each in others if each in reduced[name] or (each, name) in special)
            for name, others in awaited.items()
        }
    links = {(0, places[name]): WAITS for name, others in awaited.items() if not others}
    links |= {
        (places[each], places[name]): special.get((each, name), WAITS)
        for name, others in awaited.items()
        for each in others
    }
    return links | {(places[job.id], len(places) + 1): WAITS for job in workflow.last_jobs}


def _special(workflow: Workflow, describe: _Describer) -> dict[tuple[str, str], Link]:
    """What is no plain waiting, by the ids of both jobs."""
    found: dict[tuple[str, str], Link] = {}
    for job in workflow.jobs:
        waits = {group[0] for group in job.depends_on if len(group) == 1}
        found |= {(each, job.id): Link("ended", describe.say("if it ran")) for each in job.awaits}
        for group in job.depends_on:
            if len(group) > 1:
                found |= {(each, job.id): Link("any", describe.say("or")) for each in group}
        for each in waits:
            found.pop((each, job.id), None)
    for job in workflow.jobs:
        found |= {(job.id, to): link for to, link in describe.routes(job)}
    return found


def _reduced(awaited: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """What each job waits for, without what others of these wait for themselves."""
    before: dict[str, set[str]] = {}
    reduced: dict[str, tuple[str, ...]] = {}
    for name in TopologicalSorter(awaited).static_order():
        implied = set[str]().union(*(before[each] for each in awaited[name]))
        before[name] = implied.union(awaited[name])
        reduced[name] = tuple(each for each in awaited[name] if each not in implied)
    return {name: reduced[name] for name in awaited}
