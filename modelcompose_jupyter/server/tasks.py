"""Runs as callers of the API see them: who may see which, and who watches.

Used on the server's loop alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..errors import InputError
from ..hosted_runs import HostedRuns
from ..run_store import Forgotten, Kept
from ..submission import Requester
from ..workflow import Event, Run
from .access import Caller

BATCH = 200
"""Events that are read of a run at once, by each of those who watch it, however far behind."""

_HEARTBEAT_SECONDS = 10.0
_LOOK_SECONDS = 0.02
_PAUSE_SECONDS = 0.015
_LISTED = 1000
_LISTED_BYTES = 64 * 2**20
_AT_ONCE = 50


@dataclass(eq=False)
class Terms:
    """What the caller of a run said of it, and who watches it.

    The host's store of runs keeps it with the run, and longer: a run that is forgotten is still its
    caller's. ``linger`` is how many seconds the run goes on while nobody watches; None is to its
    end. One that has asked people something is there for those who come to answer, and goes on.
    """

    tasks: Tasks
    """Of the server that was asked: a host may have had several."""
    caller: Caller
    linger: float | None = None
    session_id: str | None = None
    watchers: int = 0
    end: asyncio.TimerHandle | None = None
    """What ends the run when nobody has watched it for so long."""

    @property
    def requester(self) -> Requester:
        """Who asks, as a host is told."""
        return Requester(self, is_guest=not self.caller.is_owner, user=self.caller.user)

    def to_plain(self) -> dict[str, Any]:
        """What another server of the same runs has to know."""
        return {
            "caller": dataclasses.asdict(self.caller),
            "linger": self.linger,
            "session_id": self.session_id,
        }


@dataclass(frozen=True)
class Task:
    """A run, and how it was asked for."""

    run: Run
    terms: Terms

    def result_for(self, caller: Caller) -> Run | None:
        """The run, where an answer to this caller hands over its result: it has ended, and they are
        who asked for it. The owner may look at a guest's, who has yet to fetch it."""
        return self.run if self.run.done and self.terms.caller == caller else None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Somebody watches for as long as this is open; a run that nobody watches any more ends
        after its time."""
        terms, tasks = self.terms, self.terms.tasks
        terms.watchers += 1
        tasks.watchers += 1
        if terms.end is not None:
            terms.end.cancel()
        try:
            yield
        finally:
            terms.watchers -= 1
            tasks.watchers -= 1
            if not terms.watchers:
                self._end_unwatched()

    def _end_unwatched(self) -> None:
        linger = self.terms.linger
        if linger is None or self.run.done or self.run.has_asked:
            return
        if linger == 0:
            self.run.cancel()
        else:  # which does not keep the run in memory for so long
            run = weakref.ref(self.run)
            self.terms.end = asyncio.get_running_loop().call_later(linger, _cancel, run)


class Tasks:
    """The runs of a host.

    The owner sees all. A user finds and lists their own; one who is an admin lists those of others
    too, to see who runs what, and may stop them. Who is no user finds those of guests by their ids,
    and lists those of one session only: sessions have names that nobody guesses, so one guest does
    not read what others asked.

    Attributes:
        watchers: how many watch a task.
        turn: of those who ask much of the event loop: who is behind with what they watch, and who
            sends a large body. One has it in each turn of the loop, so that others are answered
            between any two.
    """

    def __init__(self, host: HostedRuns) -> None:
        self._host = host
        self.watchers = 0
        self.turn = asyncio.Lock()

    async def find(self, id: str, caller: Caller, *, to_stop: bool = False) -> Task:
        """A task by its id, to read it or ``to_stop`` it.

        Raises:
            InputError: there is none, or its caller is none of this one's business
                (``unknown_run``); or it is forgotten (``gone``).
        """
        found = await self._host.find(id, self._restored)
        may = caller.may_stop if to_stop else caller.may_read
        if found is None or not may(self._terms(found).caller):
            raise InputError("there is no such task", code="unknown_run")
        if isinstance(found, Forgotten):
            raise found.error()
        return await self._task(found)

    async def visible(self, caller: Caller, session_id: str | None = None) -> AsyncIterator[Task]:
        """The tasks that a caller may list, the newest first: but for the owner those of a session,
        where one is named, and a guest without a name those of none where none is. Those beyond a
        bound on their number and bytes are left out."""
        size = count = 0
        for kept in self._host.run_store.known():
            terms = self._terms(kept)
            if not _may_list(caller, terms, session_id):
                continue
            count, size = count + 1, size + kept.size
            if count > _LISTED or (size > _LISTED_BYTES and count > 1):
                return
            try:
                task = await self._task(kept)
            except InputError:  # forgotten meanwhile
                continue
            yield task
            if count % _AT_ONCE == 0:  # others are answered meanwhile
                await asyncio.sleep(0)

    def going(self) -> list[Task]:
        """The tasks that callers made and that have not ended."""
        store = self._host.run_store
        found = [(run, store.find(run.id)) for run in store.going()]
        return [
            Task(run, self._terms(known))
            for run, known in found
            if known is not None and self._is_ours(known)
        ]

    async def _task(self, kept: Kept) -> Task:
        run = kept.in_memory
        if run is None:
            run = await asyncio.to_thread(self._host.run_store.load, kept)
        return Task(run, self._terms(kept))

    def _terms(self, known: Kept | Forgotten) -> Terms:
        """How a run was asked for; the owner's are those that nobody asked for here."""
        return known.requester.owed_to if self._is_ours(known) else Terms(self, Caller.OWNER)

    def _restored(self, kept: Mapping[str, Any]) -> Terms:
        return Terms(self, Caller(**kept["caller"]), kept["linger"], kept["session_id"])

    def _is_ours(self, known: Kept | Forgotten) -> bool:
        terms = known.requester.owed_to
        return isinstance(terms, Terms) and terms.tasks is self

    async def unwatched(self) -> None:
        """Wait until nobody watches any task."""
        while self.watchers:
            await asyncio.sleep(_LOOK_SECONDS)


def user_of(host: HostedRuns, run: Run) -> str | None:
    """The user who asked for a run, where the server that they asked knew them by name."""
    known = host.run_store.find(run.id)
    terms = None if known is None else known.requester.owed_to
    return terms.caller.user if isinstance(terms, Terms) else None


def _may_list(caller: Caller, terms: Terms, session_id: str | None) -> bool:
    if caller.is_owner:
        return True
    if caller.user is None or session_id is not None:
        return terms.caller == caller and terms.session_id == session_id
    return caller.may_stop(terms.caller)


def _cancel(reference: weakref.ref[Run]) -> None:
    run = reference()
    if run is not None and not run.has_asked:
        run.cancel()


async def batches(run: Run, after: int = -1) -> AsyncIterator[list[Event]]:
    """The events of a run beyond number ``after`` as they come, several at a time where they come
    fast, `BATCH` at most. Where nothing happens for `_HEARTBEAT_SECONDS`: an empty list.
    """
    while True:
        ended = run.done  # before looking: nothing comes after it
        fresh = run.events_so_far(after, BATCH)
        if fresh:
            after = fresh[-1].number
            yield fresh
            # Waking up for each token would take from the model's thread what it needs.
            is_behind = len(fresh) == BATCH or run.done
            await asyncio.sleep(0 if is_behind else _PAUSE_SECONDS)
        elif ended:
            return
        elif not await run.until(partial(_has_more, run, after), _HEARTBEAT_SECONDS):
            yield []


def _has_more(run: Run, after: int) -> bool:
    return run.last_event > after or run.done
