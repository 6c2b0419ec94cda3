"""What a run tells of its jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..document import Job
from ..errors import ComposeError
from .run import Run
from .scope import Place

MAX_FAILURES = 20
"""Failed attempts of a job that are told one by one; of more only how many."""

MAX_PARTS = 1000
"""How often it is told how many of a job's elements have ended, at most."""


class JobReport:
    """Tells the state of one job of a run: each event tells all of it.

    Nothing is told without a ``run``: of the jobs of a workflow that is called many times.
    """

    def __init__(self, run: Run | None, id: str, job: Job) -> None:
        self._run = run
        self._id = id
        self._data: dict[str, Any] = {"job": id, "type": job.type, "state": "pending"}
        self._failures: list[dict[str, Any]] = []
        self._began: float | None = None
        self._questions = 0
        self._tell()

    @property
    def state(self) -> str:
        return str(self._data["state"])

    def tell(self, state: str, **more: Any) -> None:
        """Tell another state of it, and what there is to say beside."""
        if state == "running" and self._began is None:
            self._began = time.monotonic()
        if state in ("completed", "failed", "cancelled") and self._began is not None:
            more["seconds"] = time.monotonic() - self._began
        self._data = {**self._data, "state": state, **more}
        self._tell()

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """It waits for an answer for as long as this is open, it or something within it."""
        self._questions += 1
        if self._questions == 1:
            self.tell("interrupted")
        try:
            yield
        finally:
            self._questions -= 1
            if not self._questions:
                self.tell("running")

    def failed(self, error: ComposeError, attempt: int, indexes: tuple[int, ...]) -> None:
        """Note an attempt that has failed, where that does not end the run. Of many it is told when
        they are twice as many as they were, and when the job is in another state."""
        count = self._data.get("failed", 0) + 1
        if len(self._failures) < MAX_FAILURES:
            self._failures.append(
                {
                    "attempt": attempt,
                    **({"place": list(indexes)} if indexes else {}),
                    "code": error.code,
                    "message": error.message,
                }
            )
        self._data = {**self._data, "failed": count, "failures": list(self._failures)}
        # Each event tells all of it: of very many failures it would be much that is told.
        if count <= MAX_FAILURES or count.bit_count() == 1:
            self._tell()

    def counted(self, phase: str, place: Place) -> Callable[[int, int], None]:
        """What tells how many of its repeats, elements or rounds have ended; nothing of those
        within them, at a place that has an index."""
        run = None if place.indexes else self._run

        def report(done: int, total: int) -> None:
            data = {"phase": phase, "job": self._id, "done": done, "total": total}
            parts = min(total, MAX_PARTS)
            is_told = done * parts // total > (done - 1) * parts // total
            if run is not None and total > 1 and is_told:
                run.add("progress", {**data, "unit": f"{phase}s"})

        return report

    def _tell(self) -> None:
        if self._run is not None:
            self._run.add("job", self._data)
