"""Runs as callers of the API see them: who may see which, and who watches.

Used on the server's loop alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..errors import InputError
from ..host import LocalHost
from ..workflow import Event, Run
from .access import Caller

_LOOK_SECONDS = 0.02
_PAUSE_SECONDS = 0.015


@dataclass
class Task:
    """A run, and what its caller said of it.

    ``linger`` is how many seconds it goes on while nobody watches; None is to its end.
    """

    run: Run
    caller: Caller
    linger: float | None = None
    session_id: str | None = None
    metadata: dict[str, Any] | None = None
    watchers: int = 0
    end: asyncio.TimerHandle | None = None
    """What ends the run when nobody has watched it for so long."""


class Tasks:
    """The runs of a host.

    The owner sees all. A guest finds those of guests by their ids, and lists those of one session
    only: sessions have names that nobody guesses, so one guest does not read what others asked.
    """

    def __init__(self, host: LocalHost) -> None:
        self._host = host
        self._tasks: dict[str, Task] = {}

    def add(self, task: Task) -> None:
        """Take a run in; a run that nobody comes to watch ends after its time."""
        known = {run.id for run in self._host.runs()}
        self._tasks = {id: each for id, each in self._tasks.items() if id in known}
        self._tasks[task.run.id] = task
        self._left(task)

    def find(self, id: str, caller: Caller) -> Task:
        """A task by its id.

        Raises:
            InputError: there is none, or its caller is none of this one's business.
        """
        task = self._tasks.get(id)
        if task is None and caller is Caller.OWNER:
            run = next((run for run in self._host.runs() if run.id == id), None)
            task = Task(run, Caller.OWNER) if run is not None else None
        if task is None or task.caller > caller:
            raise InputError("there is no such task; ended ones are kept for a while only",
                             code="unknown_run")  # fmt: skip
        return task

    def visible(self, caller: Caller, session_id: str | None = None) -> list[Task]:
        """The tasks that a caller may list, the newest first; a guest those of a session, or of
        none."""
        tasks = (self._tasks.get(run.id, Task(run, Caller.OWNER)) for run in self._host.runs())
        if caller is Caller.OWNER:
            return list(tasks)
        return [t for t in tasks if t.caller is caller and t.session_id == session_id]

    def all(self) -> list[Task]:
        """The tasks that callers made."""
        return list(self._tasks.values())

    async def unwatched(self) -> None:
        """Wait until nobody watches any task."""
        while any(task.watchers for task in self._tasks.values()):
            await asyncio.sleep(_LOOK_SECONDS)

    @contextlib.contextmanager
    def watching(self, task: Task) -> Iterator[None]:
        """Somebody watches for as long as this is open."""
        task.watchers += 1
        if task.end is not None:
            task.end.cancel()
        try:
            yield
        finally:
            task.watchers -= 1
            self._left(task)

    def _left(self, task: Task) -> None:
        if task.linger is None or task.watchers or task.run.done:
            return
        if task.linger == 0:
            task.run.cancel()
        else:
            task.end = asyncio.get_running_loop().call_later(task.linger, task.run.cancel)


async def batches(
    run: Run, after: int = -1, heartbeat: float | None = None
) -> AsyncIterator[list[Event]]:
    """The events of a run beyond number ``after`` as they come, several at a time where they come
    fast. Where nothing happens for ``heartbeat`` seconds: an empty list.
    """
    while True:
        ended = run.done  # before looking: nothing comes after it
        fresh = run.events_so_far(after)
        if fresh:
            after = fresh[-1].number
            yield fresh
            # Waking up for each token would take from the model's thread what it needs.
            await asyncio.sleep(0 if run.done else _PAUSE_SECONDS)
        elif ended:
            return
        elif not await run.until(partial(_has_more, run, after), heartbeat):
            yield []


def _has_more(run: Run, after: int) -> bool:
    return run.last_event > after or run.done


async def ended(run: Run) -> None:
    """Wait for the end of a run, which goes on though the wait be cancelled."""
    await run.until(lambda: run.done)
