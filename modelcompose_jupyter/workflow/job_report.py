"""What a run tells of its jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..document import Job
from ..document.types import show
from ..errors import ComposeError
from .run import Run
from .scope import Place

MAX_FAILURES = 20
"""Failed attempts of a job that are told one by one; of more only how many."""
MAX_ITEMS = 1000
"""Elements and rounds of a job that are told one by one; of more only how many have ended."""
_BRIEF = 100
"""Characters that are told of an element, and of what came of it."""

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
        self._items: dict[int, dict[str, Any]] = {}  # those that go on
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
        kept = {key: value for key, value in self._data.items() if key != "wait"}
        self._data = {**kept, "state": state, **more}
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

    def waiting(self, attempt: int, attempts: int, wait: float, indexes: tuple[int, ...]) -> None:
        """Tell that it, or what of it has these ``indexes``, waits for another attempt."""
        if indexes:
            self.item(indexes, "waiting", attempt=attempt)
        else:
            self.tell("waiting", attempt=attempt, attempts=attempts, wait=wait)

    def again(self, indexes: tuple[int, ...]) -> None:
        """Tell that this attempt has begun."""
        if indexes:
            self.item(indexes, "running")
        else:
            self.tell("running")

    def item(self, indexes: tuple[int, ...], state: str, **more: Any) -> None:
        """Tell the state of one of its elements or rounds, and what there is to say beside; of what
        is within these nothing is told."""
        if self._run is None or len(indexes) != 1 or indexes[0] >= MAX_ITEMS:
            return
        (index,) = indexes
        data = {**self._items.get(index, {"job": self._id, "index": index}), "state": state, **more}
        if state == "running":
            data.pop("error", None)  # of the attempt before
        self._run.add("item", data)
        if state in ("running", "waiting"):
            self._items[index] = data
        else:
            self._items.pop(index, None)

    def failed(
        self, error: ComposeError, attempt: int, indexes: tuple[int, ...], again: bool
    ) -> None:
        """Note an attempt that has failed, where that does not end the run, and whether it is tried
        again. Of many it is told when
        they are twice as many as they were, and when the job is in another state."""
        count = self._data.get("failed", 0) + 1
        if len(self._failures) < MAX_FAILURES:
            self._failures.append(
                {
                    "attempt": attempt,
                    **({"place": list(indexes)} if indexes else {}),
                    **told(error),
                    **({"again": True} if again else {}),
                }
            )
        for index in indexes if len(indexes) == 1 else ():
            if index in self._items:
                self._items[index] = {**self._items[index], "error": told(error)}
        self._data = {**self._data, "failed": count, "failures": list(self._failures)}
        # Each event tells all of it: of very many failures it would be much that is told.
        if count <= MAX_FAILURES or count.bit_count() == 1:
            self._tell()

    def counted(self, phase: str, place: Place) -> Callable[[int, int], None]:
        """What tells how many of its repeats, elements or rounds have ended, at first with 0;
        nothing of those within them, at a place that has an index."""
        run = None if place.indexes else self._run

        def report(done: int, total: int) -> None:
            data = {"phase": phase, "job": self._id, "done": done, "total": total}
            parts = min(total, MAX_PARTS)
            if run is None or total < 2:
                return
            if done * parts // total > (done - 1) * parts // total:
                run.add("progress", {**data, "unit": f"{phase}s"})

        return report

    def _tell(self) -> None:
        if self._run is not None:
            self._run.add("job", self._data)


def told(error: ComposeError) -> dict[str, str]:
    """What is told of an error, and what ``${error…}`` gives."""
    return {"code": error.code, "message": error.message}


def brief(value: Any) -> str:
    """A value in a line, cut."""
    if not isinstance(value, str):
        return show(value, _BRIEF)
    line = " ".join(value[: 4 * _BRIEF].split())
    return line if len(line) <= _BRIEF else f"{line[: _BRIEF - 1]}…"
