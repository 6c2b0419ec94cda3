"""What the expressions of jobs see, and where in a run something is called."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .bounded_gather import MAX_CONCURRENT_CALLS


@dataclass(frozen=True)
class Scope:
    """What a job's expressions may take values from.

    Attributes:
        input: the workflow's, or in a loop that has its own, the loop's.
        jobs: what other jobs gave: ``{"output": …}`` by id.
        local: sources that exist only there, such as ``item``.
        passed: what a job gets that has no ``input``.
        width: how much of it may go on at a time. What is within something that is done many times
            has a share, so that all of it together is no more.
    """

    input: Any
    jobs: Mapping[str, Any]
    local: Mapping[str, Any] = field(default_factory=dict)
    passed: Any = None
    width: int = MAX_CONCURRENT_CALLS

    @property
    def sources(self) -> dict[str, Any]:
        return {"input": self.input, "jobs": self.jobs, **self.local}

    def within(self, passed: Any, **local: Any) -> Scope:
        """That of an inner job, which gets something passed."""
        return replace(self, passed=passed, local={**self.local, **local})

    def shared(self, among: int) -> Scope:
        """That of each of so many that go on at a time."""
        return replace(self, width=max(1, self.width // max(1, among)))


@dataclass(frozen=True)
class Place:
    """Where in a run something is called: what of it says whose a text is, and its seed.

    Attributes:
        root: the id of the run's own job that it belongs to.
        job: the job's id, behind the places of the jobs whose workflows it is in: ``outer/inner``.
        indexes: which repeat, element or round, from the outermost in.
        attempts: of what was tried again, which attempt it is, by the path of that.
    """

    root: str
    job: str
    indexes: tuple[int, ...] = ()
    attempts: tuple[tuple[str, int], ...] = ()

    def at(self, index: int) -> Place:
        """One of its repeats, elements or rounds."""
        return replace(self, indexes=(*self.indexes, index))

    def tried(self, attempt: int) -> Place:
        """The same place in another attempt; the first one, 1, is the place itself."""
        if attempt == 1:
            return self
        return replace(self, attempts=(*self.attempts, (self.path, attempt)))

    @property
    def label(self) -> str:
        """What streams of texts call the job: its id, and all indexes but the last."""
        return self.job + "".join(f"[{index}]" for index in self.indexes[:-1])

    @property
    def path(self) -> str:
        """The job's id, and all indexes."""
        return self.job + "".join(f"[{index}]" for index in self.indexes)

    @property
    def repeat(self) -> int | None:
        """The last index, if there is one."""
        return self.indexes[-1] if self.indexes else None

    def seed(self, of_job: int) -> int:
        """The seed of its first generation, where that of the job's first is given: repeats count
        up from it, what is further within has one that is drawn from it."""
        within = (*self.indexes[:-1], *self.attempts)
        return derived_seed(of_job, *within) if within else of_job


def derived_seed(seed: int, *of: Any) -> int:
    """A seed that follows from another and from what it is for.

    It is below 2**52: exact in JavaScript, be it counted up from, and no two of a run are the same.
    """
    digest = hashlib.sha256(repr((seed, *of)).encode()).digest()
    return int.from_bytes(digest[:8], "big") % 2**52
