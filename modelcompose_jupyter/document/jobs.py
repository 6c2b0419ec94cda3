"""Jobs in their one normal form: the steps of a workflow, and what each does.

A job has what all have (when it runs, what becomes of a failure), and its `Work`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .components import Action, Component, ModelComponent
from .reader import KeyPath
from .templates import ListTemplate, Template


@dataclass(frozen=True)
class Route:
    """Where a job leads: to the job ``to``, to the value of ``output``, or both."""

    path: KeyPath
    to: str | None = None
    output: Template | None = None


@dataclass(frozen=True)
class Call:
    """A call of a component. ``action`` is None of components without any."""

    component: Component
    action: Action | None = None
    repeat_count: Template | None = None

    @property
    def writes_text(self) -> bool:
        """Whether it is of a model, whose texts are seen as they come."""
        return isinstance(self.component, ModelComponent)


@dataclass(frozen=True)
class Condition:
    """A test, and where it leads; None where that side leads nowhere."""

    test: Template
    if_true: Route | None = None
    if_false: Route | None = None


@dataclass(frozen=True)
class Choice:
    """``if`` and ``switch``: the first condition that leads somewhere, else ``otherwise``."""

    conditions: tuple[Condition, ...]
    otherwise: Route | None = None


@dataclass(frozen=True)
class RandomChoice:
    """``random-router``: one of the routes, each with its weight, 1 where that is None.

    Of a ``session``, which goes with ``salt``, the choice is always the same.
    """

    routes: tuple[tuple[Route, Template | None], ...]
    session: Template | None = None
    salt: Template | None = None


@dataclass(frozen=True)
class ForEach:
    """``for-each``: an inner job for each element, ``batch_size`` at a time."""

    do: Job
    batch_size: Template | None = None


@dataclass(frozen=True)
class Filter:
    """``filter``: the elements for which ``where`` holds, all where it is None."""

    where: Template | None


@dataclass(frozen=True)
class Loop:
    """``loop``: an inner job, again with what it gave, until ``condition`` says that it ends."""

    do: Job
    condition: Template
    is_until: bool
    max_iteration_count: Template


@dataclass(frozen=True)
class Accumulate:
    """``accumulate``: an inner job for each element in turn; what it gives is what the next one has
    as ``accumulator``."""

    do: Job
    accumulator: Template | None


@dataclass(frozen=True)
class Delay:
    """``delay``: for so long, or until a time."""

    duration: Template | None = None
    time: Template | None = None
    timezone: Template | None = None


Work = Call | Choice | RandomChoice | ForEach | Filter | Loop | Accumulate | Delay


@dataclass(frozen=True)
class Retry:
    """How often a job is tried, and how many seconds pass before the next time."""

    max_attempt_count: int
    delay: float = 0.0
    backoff: Literal["fixed", "exponential"] = "fixed"
    max_delay: float | None = None

    def delay_after(self, attempt: int) -> float:
        """Seconds before the attempt behind this one, which counts from 1."""
        delay = self.delay
        if self.backoff == "exponential":
            delay *= 2.0 ** min(attempt - 1, 60)
        return delay if self.max_delay is None else min(delay, self.max_delay)


INTERRUPT_SECONDS = 3600.0
"""How long a run waits for an answer, unless the document says otherwise."""


@dataclass(frozen=True)
class Interrupt:
    """A place where a run waits for an answer, where ``condition`` holds; for ``timeout`` seconds.

    ``choices`` gives the answers that there are; None where anything is one.
    """

    path: KeyPath
    condition: Template | None = None
    message: Template | None = None
    metadata: Template | None = None
    choices: Template | None = None
    timeout: float = INTERRUPT_SECONDS

    @property
    def templates(self) -> tuple[Template | None, ...]:
        return self.condition, self.message, self.metadata, self.choices


@dataclass(frozen=True)
class Job:
    """One step of a workflow.

    Attributes:
        type: what it is called in documents: ``component``, ``if``, ``for-each``, ….
        input: None where the whole input goes through.
        depends_on: of each of these groups one job must have completed.
        awaits: jobs that must have ended, whatever came of them.
        on_error: what a failure leads to; None where it fails the run.
        timeout: seconds that one attempt may take.
    """

    id: str
    path: KeyPath
    type: str
    work: Work
    input: Template | None = None
    output: Template | None = None
    depends_on: tuple[tuple[str, ...], ...] = ()
    awaits: tuple[str, ...] = ()
    retry: Retry | None = None
    on_error: Route | None = None
    timeout: float | None = None
    before: Interrupt | None = None
    after: Interrupt | None = None

    @property
    def predecessors(self) -> tuple[str, ...]:
        """The jobs that it waits for, in the order in which they are named."""
        named = (name for group in self.depends_on for name in group)
        return tuple(dict.fromkeys((*named, *self.awaits)))

    @property
    def do(self) -> Job | None:
        """The inner job, of one that has any."""
        return getattr(self.work, "do", None)

    @property
    def innermost(self) -> Job:
        """The inner job that has none within it; the job itself where it has none."""
        return self if self.do is None else self.do.innermost

    @property
    def call(self) -> Call | None:
        """The call that it makes, be it of an inner job."""
        work = self.innermost.work
        return work if isinstance(work, Call) else None

    @property
    def routes(self) -> tuple[Route, ...]:
        """Where it may lead by itself."""
        match self.work:
            case Choice(conditions=conditions, otherwise=otherwise):
                sides = [side for each in conditions for side in (each.if_true, each.if_false)]
                return tuple(each for each in (*sides, otherwise) if each is not None)
            case RandomChoice(routes=routes):
                return tuple(route for route, _ in routes)
        return ()

    @property
    def routes_to_jobs(self) -> bool:
        """Whether all that it does is to lead to other jobs."""
        return any(each.to is not None for each in self.routes)

    @property
    def targets(self) -> tuple[str, ...]:
        """The jobs that run only where this one, or its failure, leads to them."""
        failure = () if self.on_error is None else (self.on_error,)
        found = (each.to for each in (*self.routes, *failure))
        return tuple(dict.fromkeys(each for each in found if each is not None))


@dataclass(frozen=True)
class ModelCall:
    """A call of a model in a workflow, and the id of the job that makes it."""

    job: str
    component: ModelComponent
    action: Action
    repeat_count: Template | None
    is_inner: bool

    @property
    def gives_several(self) -> bool:
        """Whether its job gives a list, of which each is what the model gave once."""
        sequences = self.action.parameters.get("num_return_sequences")
        return (
            self.repeat_count is not None
            or self.is_inner
            or (isinstance(self.action.text, ListTemplate) and not self.action.is_chat)
            or (sequences is not None and sequences.value != 1)
        )


def model_calls(jobs: tuple[Job, ...]) -> Iterator[ModelCall]:
    """The calls of models that jobs make, in their order."""
    for job in jobs:
        call = job.call
        if call is not None and isinstance(call.component, ModelComponent):
            assert call.action is not None
            is_inner = job.do is not None
            yield ModelCall(job.id, call.component, call.action, call.repeat_count, is_inner)
