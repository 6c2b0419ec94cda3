"""Which runs a host knows, and for how long.

The thread ``modelcompose-spill`` belongs to a RunStore, while there is something for it to do: it
moves results that nobody has fetched yet from memory to the disk.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import NamedTuple

from .errors import InputError
from .redaction import get_logger
from .run_spill import RunFiles, remove_abandoned
from .submission import Requester, Submission
from .workflow import Run
from .workflow.extension import EarlierRun

SPILL_THREAD_NAME = "modelcompose-spill"
KEPT_RUNS = 200
"""Runs that have ended and that nobody has to fetch any more."""
KEPT_BYTES = 64 * 2**20
"""Of their inputs and events, mostly text."""
OWED_RUNS = 10_000
"""Runs that have ended and are still to be fetched."""
OWED_BYTES = 64 * 2**20
"""Of those, in memory; the oldest beyond go to the disk."""
SPILLED_BYTES = 2**30
"""Of those, on the disk."""
_FORGOTTEN_RUNS = 20_000  # of which is known why: an id, a reason and for whom it was

_log = get_logger(__name__)


class Reason(Enum):
    """Why a run is not known any more."""

    EXPIRED = "the time for which results are kept after a run's end is over"
    REPLACED = "newer ones have taken its place"
    NO_ROOM = "nobody fetched its result while there was room for it"
    NO_DISK = "there was no room for its result in memory, nor could it be kept on the disk"
    CLOSED = "the host was closed"


class Kept:
    """A run that is known, and what it takes to start it again.

    ``submission`` is as it was started, with its seed; its input is None where that of the run is
    all of it, so nothing is kept twice. ``size`` is that of the run when it has ended.
    """

    def __init__(self, run: Run, submission: Submission) -> None:
        given = None if run.input is submission.input else submission.input
        self.id: str = run.id
        self.submission = replace(
            submission, input=given, earlier=EarlierRun(), metadata=None, id=None
        )
        self.size = 0
        self._run: Run | None = run
        self._seen: weakref.ref[Run] = weakref.ref(run)
        self._is_fetched = self.requester.owed_to is None
        self._ended_at = 0.0  # of the monotonic clock: in the order in which runs end

    @property
    def requester(self) -> Requester:
        return self.submission.requester

    @property
    def in_memory(self) -> Run | None:
        """The run, unless it is on the disk alone."""
        return self._run or self._seen()


class Forgotten(NamedTuple):
    """A run that is not known any more."""

    id: str
    requester: Requester
    reason: Reason

    def error(self) -> InputError:
        return InputError(
            f"run {self.id} is forgotten: {self.reason.value}", hint="Run it again.", code="gone"
        )


class _Shelf:
    """Runs in an order, and the bytes that they take."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, tuple[Kept, int]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, kept: Kept) -> bool:
        return kept.id in self._runs

    def put(self, kept: Kept, size: int) -> None:
        """Put a run behind the others."""
        self._runs[kept.id] = (kept, size)
        self.bytes += size

    def take(self, kept: Kept) -> bool:
        """Take a run out; returns whether it was there."""
        _, size = self._runs.pop(kept.id, (None, None))
        self.bytes -= size or 0
        return size is not None

    def oldest(self) -> Kept | None:
        return next(iter(self._runs.values()), (None, 0))[0]


class RunStore:
    """The runs that are known, and where their results are. Any thread.

    A run that goes on is known. One that has ended and is not owed to anybody, or has been fetched,
    stays in memory while it is among the last of these (`KEPT_RUNS`, `KEPT_BYTES`). One that is
    owed and has not been fetched stays until its time is over, in memory or, the oldest, on the
    disk; the oldest go where those are too many or too large. Each step takes the same time however
    many runs there are. After ``ttl`` seconds, unless None, any run that has ended is forgotten.
    """

    def __init__(self) -> None:
        self.ttl: float | None = None
        self._lock = threading.RLock()
        self._known: dict[str, Kept] = {}  # in the order in which they were submitted
        self._going: dict[str, Kept] = {}
        self._ended: OrderedDict[str, Kept] = OrderedDict()
        self._settled = _Shelf()  # ended, and owed to nobody
        self._owed = _Shelf()  # ended, and still to be fetched: in memory
        self._spilled = _Shelf()  # and on the disk
        self._forgotten: OrderedDict[str, Forgotten] = OrderedDict()
        self._files = RunFiles()
        self._has_tidied = False
        self._is_spilling = False
        self._is_closed = False

    # What happens to a run

    def add(self, run: Run, submission: Submission) -> None:
        """Take in a run that has not begun, of a submission as it is started."""
        kept = Kept(run, submission)
        run.add_done_callback(lambda run: self._end(kept, run))
        with self._lock:
            self._known[run.id] = self._going[run.id] = kept
            self.expire()
            if not kept._is_fetched and not self._has_tidied:
                self._spill_soon()

    def _end(self, kept: Kept, run: Run) -> None:
        with self._lock:
            if self._going.pop(kept.id, None) is None:
                return
            kept.size, kept._ended_at = run.size, time.monotonic()
            self._ended[kept.id] = kept
            (self._settled if kept._is_fetched else self._owed).put(kept, kept.size)
            self._make_room()

    def fetched(self, run: Run) -> None:
        """Its result has come to whom it is owed. Said once by who handed it over, or again."""
        with self._lock:
            kept = self._known.get(run.id)
            if kept is None or kept._is_fetched:
                return
            kept._is_fetched = True
            if self._owed.take(kept) or self._take_from_disk(kept):
                kept._run, kept._seen = run, weakref.ref(run)
                self._settled.put(kept, kept.size)
                self._make_room()

    def _take_from_disk(self, kept: Kept) -> bool:
        taken = self._spilled.take(kept)
        if taken:
            self._files.remove(kept.id)
        return taken

    def _make_room(self) -> None:
        self.expire()
        settled = self._settled
        # The newest stays, however large it is.
        while len(settled) > KEPT_RUNS or (settled.bytes > KEPT_BYTES and len(settled) > 1):
            self._forget(settled.oldest(), Reason.REPLACED)
        while self._spilled.bytes > SPILLED_BYTES:
            self._forget(self._spilled.oldest(), Reason.NO_ROOM)
        while len(self._owed) + len(self._spilled) > OWED_RUNS:
            self._forget(self._spilled.oldest() or self._owed.oldest(), Reason.NO_ROOM)
        if self._owed.bytes > OWED_BYTES:
            self._spill_soon()

    def expire(self) -> None:
        """Forget the runs whose time is over."""
        with self._lock:
            while self.ttl is not None and self._ended:
                kept = next(iter(self._ended.values()))
                if kept._ended_at > time.monotonic() - self.ttl:
                    return
                self._forget(kept, Reason.EXPIRED)

    def _forget(self, kept: Kept | None, reason: Reason) -> None:
        assert kept is not None
        del self._known[kept.id], self._ended[kept.id]
        _ = self._settled.take(kept) or self._owed.take(kept) or self._take_from_disk(kept)
        self._forgotten[kept.id] = Forgotten(kept.id, kept.requester, reason)
        if len(self._forgotten) > _FORGOTTEN_RUNS:
            self._forgotten.popitem(last=False)

    # Memory and disk

    def _spill_soon(self) -> None:
        if self._is_spilling or self._is_closed:
            return
        thread = threading.Thread(target=self._spill, name=SPILL_THREAD_NAME, daemon=True)
        try:
            thread.start()
            self._is_spilling = True
        except RuntimeError as error:  # too many threads; with the next run that ends
            _log.warning("results cannot be moved to the disk: %s", error)

    def _spill(self) -> None:
        """Move the oldest owed results to the disk until the others have room."""
        assert threading.current_thread().name == SPILL_THREAD_NAME
        if not self._has_tidied:
            self._has_tidied = True
            try:
                remove_abandoned()
            except Exception:  # which are not ours, so nothing depends on it
                _log.warning("files of hosts that were killed cannot be removed", exc_info=True)
        while True:
            with self._lock:
                kept = self._owed.oldest() if self._owed.bytes > OWED_BYTES else None
                run = kept._run if kept is not None else None
                if kept is None or run is None or self._is_closed:
                    self._is_spilling = False
                    return
            try:
                size = self._files.write(run.id, run.saved())
            except Exception as error:
                # One that cannot be kept must not keep others from it.
                _log.warning("the result of run %s cannot be kept: %s", run.id, error)
                with self._lock:
                    if kept in self._owed and not self._is_closed:
                        self._forget(kept, Reason.NO_DISK)
                continue
            with self._lock:
                if self._owed.take(kept):
                    kept._run = None
                    self._spilled.put(kept, size)
                    self._make_room()
                else:  # fetched or forgotten meanwhile
                    self._files.remove(run.id)
            del run

    def load(self, kept: Kept) -> Run:
        """A run, from the disk where it is there; InputError where it is forgotten meanwhile."""
        run = kept.in_memory
        if run is not None:
            return run
        try:
            read = Run.restored(self._files.read(kept.id))
        except Exception as error:  # fetched, forgotten, or somebody else removed the file
            with self._lock:
                run = kept.in_memory
                if run is not None:
                    return run
                if kept.id in self._known:
                    _log.warning("the result of run %s cannot be read: %s", kept.id, error)
                    self._forget(kept, Reason.NO_DISK)
                forgotten = Forgotten(kept.id, kept.requester, Reason.NO_ROOM)
                raise self._forgotten.get(kept.id, forgotten).error() from None
        with self._lock:
            run = kept.in_memory  # somebody else was faster: it stays one object
            if run is None:
                run, kept._seen = read, weakref.ref(read)
            return run

    def close(self) -> None:
        """Remove what is on the disk. Idempotent."""
        with self._lock:
            self._is_closed = True
            while (kept := self._spilled.oldest()) is not None:
                self._forget(kept, Reason.CLOSED)
        self._files.close()

    # What is known

    def find(self, id: str) -> Kept | Forgotten | None:
        """A run by its id: what is known of it, or why nothing is any more; None of others."""
        with self._lock:
            self.expire()
            return self._known.get(id) or self._forgotten.get(id)

    def named(self, beginning: str) -> Kept:
        """The run whose id is this or begins so.

        Raises:
            InputError: there is none (``unknown_run``), or it is forgotten (``gone``).
        """
        found = self.find(beginning)
        if isinstance(found, Kept):
            return found
        if found is not None:
            raise found.error()
        matching = [kept for kept in self.known() if kept.id.startswith(beginning)]
        if len(matching) != 1:
            what = "several runs begin with" if matching else "there is no run"
            raise InputError(f"{what} '{beginning}'", code="unknown_run")
        return matching[0]

    def known(self) -> list[Kept]:
        """The runs that are known, the newest first."""
        with self._lock:
            self.expire()
            return list(reversed(self._known.values()))

    def going(self, is_wanted: Callable[[Kept], bool] = lambda _: True) -> list[Run]:
        """The runs that have not ended, the oldest first."""
        with self._lock:
            runs = [kept._run for kept in self._going.values() if is_wanted(kept)]
        return [run for run in runs if run is not None and not run.done]

    def runs(self, is_wanted: Callable[[Kept], bool] = lambda _: True) -> list[Run]:
        """The runs that are known and in memory, the newest first."""
        found = (each.in_memory for each in self.known() if is_wanted(each))
        return [run for run in found if run is not None]
