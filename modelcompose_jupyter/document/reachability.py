"""Which jobs of a workflow run, whatever its routers choose.

A router has a few outcomes; a world is one outcome of each. Whether a job runs in a world follows
from what it waits for, so looking at all worlds tells which jobs never run, and which may not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

from .jobs import Choice, Job, RandomChoice, Route

MAX_STEPS = 200_000
"""Worlds times jobs that are looked at; of more nothing is said before the workflow runs."""


@dataclass(frozen=True)
class _Outcome:
    """Whether a job that ran has an output, and the job that it leads to."""

    completes: bool = True
    target: str | None = None


class Reachability:
    """What is known of jobs before they run. Their graph has no cycle."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._worlds = list(_worlds(jobs))

    def never(self, job: Job) -> bool:
        """Whether no outcome lets a job run."""
        return bool(self._worlds) and not any(job.id in runs for runs, _ in self._worlds)

    def may_lack(self, group: Iterable[str]) -> bool:
        """Whether it may be that none of these jobs completes."""
        return any(completed.isdisjoint(group) for _, completed in self._worlds)


def _worlds(jobs: Sequence[Job]) -> Iterator[tuple[set[str], set[str]]]:
    """For each world the jobs that run, and those that complete; nothing where there are many."""
    outcomes = {job.id: _outcomes(job) for job in jobs}
    if math.prod(map(len, outcomes.values())) * len(jobs) > MAX_STEPS:
        return
    by_id = {job.id: job for job in jobs}
    routers = routers_of(jobs)
    order = list(TopologicalSorter(predecessors(jobs)).static_order())
    for world in itertools.product(*(outcomes[name] for name in order)):
        of = dict(zip(order, world, strict=True))
        runs: set[str] = set()
        completed: set[str] = set()
        for name in order:
            job = by_id[name]
            chosen = any(each in runs and of[each].target == name for each in routers.get(name, ()))
            known = (by_id.keys() & group for group in job.depends_on)
            if (chosen or name not in routers) and all(not completed.isdisjoint(g) for g in known):
                runs.add(name)
                if of[name].completes:
                    completed.add(name)
        yield runs, completed


def routers_of(jobs: Iterable[Job]) -> Mapping[str, list[str]]:
    """The jobs that may lead to a job, for each that runs only where one does."""
    found: dict[str, list[str]] = {}
    for job in jobs:
        for target in job.targets:
            if target != job.id:  # which is reported
                found.setdefault(target, []).append(job.id)
    return found


def predecessors(jobs: Sequence[Job]) -> dict[str, tuple[str, ...]]:
    """For each job those of the workflow that must have ended before it: whom it waits for, and who
    may lead to it."""
    names, routers = {job.id for job in jobs}, routers_of(jobs)
    return {
        job.id: tuple(
            dict.fromkeys(
                name for name in (*job.predecessors, *routers.get(job.id, ())) if name in names
            )
        )
        for job in jobs
    }


def _outcomes(job: Job) -> list[_Outcome]:
    found = [_Outcome(target=route.to) for route in job.routes]
    if not found or not _always_leads(job):
        found.append(_Outcome())
    if job.on_error is not None and job.on_error.to is not None:
        found.append(_Outcome(has_value(job.on_error), job.on_error.to))
    return list(dict.fromkeys(found))


def has_value(failure: Route) -> bool:
    """Whether a job that has failed so has an output."""
    return failure.to is None or failure.output is not None


def _always_leads(job: Job) -> bool:
    match job.work:
        case Choice(conditions=conditions, otherwise=otherwise):
            both = (each.if_true is not None and each.if_false is not None for each in conditions)
            return otherwise is not None or any(both)
    return isinstance(job.work, RandomChoice)
