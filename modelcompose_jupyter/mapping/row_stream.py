"""Many rows through a workflow, many at a time: `Workflow.map` and `Workflow.imap`.

Rows are read on the caller's thread, which otherwise waits in short interruptible steps; a
`flight.submitter` begins the runs. That a run has ended is noted on whatever thread ends it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from os import PathLike
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..document import Document, Signature
from ..document.to_plain import to_plain
from ..errors import ComposeError, InputError, RunCancelled
from ..seeds import draw_seed, seed_of_row
from . import active_maps
from .flight import Flight, submitter
from .folder_journal import FolderJournal
from .journal import Keeper
from .outputs import ROWS_SHOWN, in_form
from .records import Records
from .rows import RowInputs, row_source
from .saved_rows import SavedRows
from .saving import SaveTo, open_keeper

if TYPE_CHECKING:
    from ..workflow import Run

_TICK = 0.1  # seconds; waits are this long at most, so that an interrupt is never late
_STOP_SECONDS = 10.0


class RowRunner(Protocol):
    """What runs rows: a workflow, or what stands before one."""

    @property
    def signature(self) -> Signature: ...

    @property
    def document(self) -> Document: ...

    @property
    def id(self) -> str: ...

    @property
    def title(self) -> str | None: ...

    def capacity(self) -> int:
        """How many runs can be in flight; it may change. Never waits."""

    def start(self, values: Any, *, seed: int) -> Run:
        """Start a row's run, and return it at once; InputError where it cannot be."""


class Row(NamedTuple):
    """A row that has ended: its place, from 0, and its output or its ComposeError."""

    index: int  # type: ignore[assignment]  # in place of tuple.index(), which nobody needs here
    output: Any


class RowStream(Iterator[Row]):
    """Rows as they end. What is in flight is stopped when nobody holds this any more.

    One thread at a time may use it.
    """

    def __init__(
        self,
        workflow: RowRunner,
        rows: Any,
        shared: Mapping[str, Any],
        save_to: str | PathLike[str] | SaveTo | Keeper | None,
        progress: bool,
        records: Records | None = None,
        *,
        seed: int | None = None,
        only: Sequence[range] | None = None,
        skip_done: bool = False,
    ) -> None:
        """Get ready to run; nothing runs before the first row is asked for.

        Args:
            records: how outputs of a format are handed out.
            seed: that of the row 0; that of the file, or a new one, if None.
            only: rows of files, by their numbers; all if None.
            skip_done: whether rows of files are neither read nor handed out that are in a folder.

        Raises InputError and UsageError as `Workflow.map` does.
        """
        self._closed = True  # until there is something to close
        self._asked_to_stop = threading.Event()
        self._start = workflow.start
        self._capacity = workflow.capacity
        self._submitter = submitter()
        self._signature = workflow.signature
        self._inputs = RowInputs(workflow.signature, shared)
        self._source = row_source(rows, self._inputs)
        self._records = records
        self._exhausted = False
        self._ready: SimpleQueue[_Flight | Exception] = SimpleQueue()
        self._flights: dict[int, _Flight] = {}
        self._last: Row | None = None
        self.tokens: int = 0  # of rows that have ended
        self._ended = 0
        self._left: list[Row] = []
        self._first_inputs: list[Any] | None = None
        self._journal: Keeper | None = None
        if isinstance(save_to, Keeper):
            self._journal = save_to
        elif save_to is not None:
            self._journal = open_keeper(save_to, workflow, self._source, shared, seed)
        self._seed = draw_seed() if seed is None else seed
        self._end = 0
        try:
            if self._journal is not None:
                self._seed = self._journal.seed
            self._saved: SavedRows | None = None
            if skip_done and isinstance(self._journal, FolderJournal):
                count = self._source.count or 0
                only = self._journal.missing(count)
                self._saved = SavedRows(self._journal.folder, count)
            elif only is None:
                self._check_restored()
            self._rows = self._source.numbered(only)
            total = self._source.count
            done = 0 if only is None or total is None else total - sum(map(len, only))
            self._progress = RowProgress(workflow.title, total, done, shown=progress)
        except BaseException:
            if self._journal is not None:
                self._journal.close()
            raise
        self._closed = False
        active_maps.add(self)

    def _check_restored(self) -> None:
        """Find a row that had other inputs before more is run, where rows can be read twice."""
        if self._journal is None or self._source.count is None or len(self._journal) == 0:
            return
        for index, row in enumerate(self._source.read()):
            if index in self._journal:
                self._journal.check(index, self._inputs.of(row))

    def __next__(self) -> Row:
        if self._closed:
            raise StopIteration
        try:
            return self._next()
        except _AskedToStop as error:
            self._stop(error)
            raise RunCancelled(self._how_far()) from None
        except BaseException as error:
            self._stop(error)
            raise

    def ask_to_stop(self) -> None:
        """Have the thread that uses it stop as if it were interrupted. Any thread."""
        self._asked_to_stop.set()
        for flight in list(self._flights.values()):
            flight.stop()

    def _next(self) -> Row:
        self._last = None
        while True:
            if self._asked_to_stop.is_set():
                raise _AskedToStop
            has_slot = not self._exhausted and len(self._flights) < self._capacity()
            if has_slot:
                restored = self._begin_next()
                if restored is not None:
                    return restored
            elif not self._flights:
                raise StopIteration
            flight: _Flight | Exception | None = None
            with contextlib.suppress(Empty):
                flight = self._ready.get(not has_slot, _TICK)
            if isinstance(flight, Exception):
                raise flight
            self._check_saved()
            if flight is None and self._flights:
                self._progress.wait(next(iter(self._flights.values())).waits_for)
            elif flight is not None:
                row = self._note(flight.row)
                del self._flights[flight.index]
                flight.leave()
                tokens = flight.tokens
                self.tokens += tokens
                self._progress.add(1, flight.error is not None, tokens)
                return row

    def _begin_next(self) -> Row | None:
        """Begin a row, if there is one. A row that is done already is returned instead."""
        index, row = next(self._rows, (None, None))
        if index is None:
            self._exhausted = True
            return None
        is_first, self._end = self._end == 0, index + 1
        if isinstance(row, InputError):
            self._begin(index, None, None, partial(_refuse, row))
            return None
        if is_first:
            self._inputs.check_form(row)
        inputs = self._inputs.of(row)
        if self._first_inputs is not None and index < ROWS_SHOWN:
            self._first_inputs.append(self._signature.masked(inputs)[0])
        if self._journal is not None and index in self._journal:
            output = self._journal.restore(index, inputs)
            self._progress.add(1, isinstance(output, ComposeError), 0)
            return self._note(Row(index, output))
        shown = self._signature.masked(inputs)[0]
        seed = seed_of_row(self._seed, index)
        self._begin(index, inputs, shown, partial(self._start, inputs, seed=seed))
        return None

    def _begin(self, index: int, inputs: Any, shown: Any, start: Callable[[], Run]) -> None:
        flight = _Flight(index, shown, start, self._teller())
        self._flights[index] = flight
        self._submitter.submit(flight.begin, flight.tell_if_ended, self._ready.put)

    def _teller(self) -> Callable[[_Flight], None]:
        """What brings a flight that has ended here. It must not hold this iterator, since a run
        that goes on would then keep it alive."""
        ready, journal = self._ready.put, self._journal
        if journal is None:
            return ready
        return lambda flight: journal.add(flight.line, partial(ready, flight))

    def _check_saved(self) -> None:
        if self._journal is not None and self._journal.error is not None:
            raise self._journal.error

    def _note(self, row: Row) -> Row:
        if self._records is not None and not self._gives_table:
            row = Row(row.index, self._records.handed_out(row.output))
        self._last = row
        self._ended += 1
        return row

    @property
    def _gives_table(self) -> bool:
        """Whether outputs become columns of a table, as the rows are."""
        return self._records is not None and self._source.table is not None

    def collect(self, outputs: list[Any]) -> Any:
        """Run all rows, and return the outputs in the form that belongs to the rows.

        ``outputs`` grows in the order of the rows. Where it ends early, it has the outputs so far,
        and None for rows that have none.
        """

        def put(row: Row) -> None:
            outputs.extend([None] * (row.index + 1 - len(outputs)))
            outputs[row.index] = row.output

        if self._saved is not None:
            for _ in self:
                pass
            return self._saved
        first_inputs: list[Any] = []
        self._first_inputs = first_inputs
        try:
            for row in self:
                put(row)
        except BaseException as error:
            self._stop(error)
            for row in self._left:
                put(row)
            outputs.extend([None] * ((self._source.count or 0) - len(outputs)))
            raise
        return in_form(self._source, self._records, outputs, first_inputs)

    def close(self) -> None:
        """Stop what is in flight; what has ended is kept in the file, if there is one: ComposeError
        where it could not be written."""
        if not self._closed:
            self._stop(None)
            self._check_saved()

    def __del__(self) -> None:
        if not sys.is_finalizing():  # at the end of a process its threads can no longer be awaited
            self._stop(None)

    def _stop(self, error: BaseException | None) -> None:
        """Stop, keep what has ended, and have IPython say of an interrupt how far it went."""
        if not self._closed:
            self._closed = True
            flights = list(self._flights.values())
            if self._last is not None:
                self._left.append(self._last)
            try:
                self._land(flights)
            finally:
                late = [flight.row for flight in flights if flight.ended]
                self._left += late
                self._ended += len(late)
                self._flights.clear()
                self._progress.close()
                if self._journal is not None:
                    all_ended = isinstance(error, StopIteration)
                    count = self._end if self._source.count is None else self._source.count
                    self._journal.close(count if all_ended else None)
                    if all_ended:
                        self._check_saved()
        if isinstance(error, KeyboardInterrupt):
            line = f"KeyboardInterrupt: {self._how_far()}"
            error._render_traceback_ = lambda: [line]  # type: ignore[attr-defined]

    def _land(self, flights: list[_Flight]) -> None:
        """Stop flights and wait until they have ended, which may be with an output after all."""
        for flight in flights:
            flight.stop()
        self._submitter.shutdown(cancel_futures=True)
        deadline = time.monotonic() + _STOP_SECONDS
        for flight in flights:
            flight.wait(max(0.0, deadline - time.monotonic()))
            flight.tell_if_ended()
            flight.leave()

    def _how_far(self) -> str:
        count = self._source.count
        if count is None:
            text = f"stopped after {self._ended} row{'' if self._ended == 1 else 's'}"
        else:
            text = f"stopped after {self._ended} of {count} rows"
        if self._journal is None:
            return text
        return f"{text}; run it again to go on, {self._journal.path} has what is done"


class _AskedToStop(Exception):
    """Somebody stops all that goes on."""


class _Flight(Flight):
    """A row that was begun. ``tell`` is called once, when it has ended other than by `stop`;
    ``shown`` are its inputs as they may be kept."""

    def __init__(
        self,
        index: int,
        shown: Any,
        start: Callable[[], Run],
        tell: Callable[[_Flight], None],
    ) -> None:
        super().__init__(start)
        self.index = index
        self._shown = shown
        self._tell = tell
        self._told = False
        # Reentrant, since collecting garbage may stop other flights wherever it likes.
        self._lock = threading.RLock()

    @property
    def ended(self) -> bool:
        """Whether it ended of its own accord."""
        if self.run is None:
            return self.refusal is not None
        if not self.run.done:
            return False
        return not (self.is_stopped and isinstance(self.run.error, RunCancelled))

    def tell_if_ended(self) -> None:
        """Called on any thread."""
        if self.ended:
            with self._lock:
                if not self._told:
                    self._told = True
                    self._tell(self)

    @property
    def row(self) -> Row:
        """Once it has ended."""
        return Row(self.index, self.error or self.output)

    def line(self) -> dict[str, Any]:
        """The row as a journal's line."""
        error, inputs = self.error, None
        with contextlib.suppress(InputError):
            inputs = to_plain(self._shown)
        return {
            "index": self.index,
            "input": inputs,
            **({"output": self.output} if error is None else {"error": error.to_dict()}),
            "record": {} if self.run is None else self.run.record,
        }


def _refuse(error: InputError) -> Run:
    raise error


class RowProgress:
    """A bar of rows, with their rate, the time that is left, tokens a second and the number of rows
    that failed.

    Args:
        done: rows that were done before.
    """

    def __init__(self, title: str | None, total: int | None, done: int, *, shown: bool) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(
            desc=title, total=total, initial=done, unit="row", disable=not shown, smoothing=0
        )
        self._started = time.monotonic()
        self._tokens = 0
        self._failed = 0
        self._has_rows = False
        self._shown = ""

    def wait(self, text: str) -> None:
        """Say what the first rows wait for, for which nothing else changes."""
        if not self._has_rows and text != self._shown:
            self._shown = text
            self._bar.set_postfix_str(text)

    def add(self, rows: int, failed: int, tokens: int) -> None:
        """Rows have ended, of which some failed."""
        self._has_rows = True
        self._tokens += tokens
        self._failed += failed
        rate = self._tokens / max(time.monotonic() - self._started, 1e-9)
        failures = f", {self._failed} failed" if self._failed else ""
        self._bar.set_postfix_str(f"{rate:.1f} tokens/s{failures}", refresh=False)
        self._bar.update(rows)

    def close(self) -> None:
        self._bar.close()
