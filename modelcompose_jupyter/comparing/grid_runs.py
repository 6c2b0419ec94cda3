"""Runs for all combinations of values, many at a time: what a grid is, whoever looks at it.

A `flight.submitter` begins the runs. That one has ended is noted on whatever thread ends it, and
has the next one begun.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from math import prod
from typing import Any

from ..errors import ComposeError, InputError
from ..mapping import active_maps
from ..mapping.flight import Flight, submitter
from ..seeds import draw_seed
from ..workflow import Run, Runnable, State
from .axes import MAX_CELLS, SEED, Axis, arranged, input_axis

MAX_IN_FLIGHT = 32
"""Runs that are begun and have not ended, at most: more would only wait, and cost memory."""

_WORKFLOW = "workflow"
_TICK = 0.1  # seconds; waits are this long at most, so that an interrupt is never late


class Cell(Flight):
    """One combination of a grid, and its run.

    Attributes:
        workflow: what runs.
        places: where its values are on the grid's axes, in their order.
        input: the inputs of the run, as they may be shown.
        seed: of the run's first generation, where the document gives none.
    """

    def __init__(
        self,
        workflow: Runnable,
        places: Sequence[int],
        input: Mapping[str, Any],
        seed: int,
        on_event: Callable[[], None],
    ) -> None:
        super().__init__(self._start_run)
        self.workflow = workflow
        self.places: tuple[int, ...] = tuple(places)
        self.input: Mapping[str, Any] = workflow.signature.masked(input)[0]
        self.seed = seed
        self._given = input
        self._on_event = on_event
        self._unwatch: Callable[[], None] = lambda: None

    def _start_run(self) -> Run:
        run = self.workflow.start(self._given, seed=self.seed)
        self._unwatch = run.watch(self._on_event)
        return run

    def leave(self) -> None:
        super().leave()
        self._unwatch()

    @property
    def state(self) -> State:
        """Of its run; queued before that begins, failed or cancelled where it never will."""
        if self.run is not None:
            return self.run.state
        if self.refusal is not None:
            return State.FAILED
        return State.CANCELLED if self.is_stopped else State.QUEUED

    @property
    def ended(self) -> bool:
        """Whether its run has ended, or will never begin."""
        return self.state.is_final


class GridRuns:
    """Runs for all combinations of values, which begin at once.

    Attributes:
        rows: the axes whose values are rows, the first one the outermost.
        columns: the axis whose values are columns; None where there is one column.
        axes: all of them, the rows' first.
        cells: the combinations, row by row.
        fixed: the inputs that all of them have, as they may be shown.

    Args:
        workflows: what runs; several are an axis.
        varied: inputs and their values. `SEED` is the runs' own where no input is called so.
        fixed: the inputs that all have. Where no seed is given, one is drawn for all runs, so that
            only inputs differ.
        labels: what the workflows are called, where there are several.
        most: how many cells there may be.

    Raises:
        InputError: inputs that a workflow cannot take, nothing that varies, or too much.
    """

    def __init__(
        self,
        workflows: Sequence[Runnable],
        varied: Mapping[str, Sequence[Any]],
        fixed: Mapping[str, Any],
        *,
        labels: Sequence[str] = (),
        most: int = MAX_CELLS,
    ) -> None:
        secret = {each.name for flow in workflows for each in flow.signature.inputs if each.secret}
        axes = [input_axis(name, each, secret=name in secret) for name, each in varied.items()]
        if len(workflows) > 1:
            name = _WORKFLOW if _WORKFLOW not in {*varied, *fixed} else f"{_WORKFLOW}_"
            axes.append(Axis(name, tuple(workflows), tuple(labels), are_workflows=True))
        _check_size(axes, most)
        rows, columns = arranged(axes)
        self.rows: tuple[Axis, ...] = rows
        self.columns: Axis | None = columns
        self.axes: tuple[Axis, ...] = (*rows, *([] if columns is None else [columns]))
        self._watchers: list[Callable[[], None]] = []
        self._drawn = draw_seed()
        combinations = product(*(range(len(axis)) for axis in self.axes))
        self.cells: list[Cell] = [
            self._cell(workflows[0], fixed, places) for places in combinations
        ]
        shown = self.cells[0].input
        self.fixed: dict[str, Any] = {name: shown[name] for name in fixed if name in shown}
        self._left = len(self.cells)
        self._pending = deque(self.cells)
        self._changed = threading.Condition()
        self._looking = threading.Lock()
        self._submitter = submitter()
        active_maps.add(self)
        try:
            for _ in range(min(MAX_IN_FLIGHT, len(self.cells))):
                self._begin_next()
        except BaseException:  # an interrupt
            self.cancel()
            raise

    def _cell(self, only: Runnable, fixed: Mapping[str, Any], places: Sequence[int]) -> Cell:
        """A combination that its workflow can take: the ``only`` one, where none is an axis."""
        workflow, label, given = only, "", dict(fixed)
        for axis, place in zip(self.axes, places, strict=True):
            if axis.are_workflows:
                workflow, label = axis.values[place], f"{axis.labels[place]}: "
            else:
                given[axis.name] = axis.values[place]
        try:
            given, seed = _with_seed(given, workflow, self._drawn)
            workflow.check(given, seed=seed)
        except InputError as error:
            error.message = label + error.message
            raise
        return Cell(workflow, places, given, seed, self._tell)

    # What it tells

    @property
    def runs(self) -> list[Run | None]:
        """The runs, row by row; None of a cell whose run has not begun, or never will."""
        return [cell.run for cell in self.cells]

    @property
    def width(self) -> int:
        """How many columns there are."""
        return 1 if self.columns is None else len(self.columns)

    @property
    def done(self) -> bool:
        """Whether all has ended that will."""
        return self._left == 0

    @property
    def ended(self) -> int:
        """How many cells have ended, or will never begin."""
        return len(self.cells) - self._left

    def neighbour(self, index: int) -> int | None:
        """The cell that one is read after, by its index: the one at its left; where there is one
        column, the one above."""
        return index - 1 if index % self.width or (self.width == 1 and index) else None

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after every event of a run, and when one has ended, on whatever thread that
        happens; returns how to stop."""
        with self._changed:
            self._watchers.append(callback)

        def leave() -> None:
            with self._changed:
                if callback in self._watchers:
                    self._watchers.remove(callback)

        return leave

    @property
    def is_watched(self) -> bool:
        return bool(self._watchers)

    def _tell(self) -> None:
        with self._changed:
            watchers = list(self._watchers)
        for watcher in watchers:
            watcher()

    @property
    def progress(self) -> str:
        """How far it is, and what the first run waits for as long as none has ended, in words."""
        stopped = sum(cell.state is State.CANCELLED for cell in self.cells)
        words = [f"{self.ended} of {len(self.cells)} runs"]
        words += [f"{stopped} stopped"] if stopped else []
        begun = next((cell for cell in self.cells if cell.run is not None), None)
        if not self.ended and begun is not None:
            with self._looking:
                words.append(begun.waiting.words)
        return " · ".join(filter(None, words))

    # What it does

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all have ended; returns whether they have. Seconds; None waits for ever."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while self._left:
                left = _TICK if deadline is None else min(_TICK, deadline - time.monotonic())
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def cancel(self) -> None:
        """Stop all runs within a token, and begin no other. Their texts stay. Any thread."""
        with self._changed:
            dropped = list(self._pending)
            self._pending.clear()
        for cell in self.cells:
            if not cell.ended:
                cell.stop()
        for _ in dropped:
            self._note_end()

    def ask_to_stop(self) -> None:
        """`cancel`, as all that goes on is stopped."""
        self.cancel()

    def _begin_next(self) -> None:
        with self._changed:
            cell = self._pending.popleft() if self._pending else None
        if cell is not None:
            over = partial(self._cell_ended, cell)
            with suppress(RuntimeError):  # the process ends, so that nothing begins any more
                self._submitter.submit(cell.begin, over, partial(self._fail, cell))

    def _fail(self, cell: Cell, error: Exception) -> None:
        """Note what went wrong when a cell's run was to begin, which was not its inputs."""
        if not isinstance(error, ComposeError):
            error = ComposeError(f"{type(error).__name__}: {error}")
        if not cell.is_stopped:
            cell.refusal = error.with_traceback(None)
        self._cell_ended(cell)

    def _cell_ended(self, cell: Cell) -> None:
        cell.leave()
        self._begin_next()
        self._note_end()

    def _note_end(self) -> None:
        with self._changed:
            self._left -= 1
            is_last = not self._left
            self._changed.notify_all()
        if is_last:
            self._submitter.shutdown(wait=False)
        self._tell()


def _with_seed(
    values: dict[str, Any], workflow: Runnable, drawn: int
) -> tuple[dict[str, Any], int]:
    """The inputs of a run, and its seed: one of the values, where the workflow has no such input;
    the ``drawn`` one where none is given."""
    if SEED not in values or any(each.name == SEED for each in workflow.signature.inputs):
        return values, drawn
    if workflow.document.sets_seed(workflow.document.workflow(workflow.id)):
        raise InputError(
            "a seed changes nothing: the document says what it is",
            hint="Write 'seed: ${input.seed as integer}' there.",
        ).of(SEED)
    seed = values[SEED]
    rest = {name: value for name, value in values.items() if name != SEED}
    return rest, drawn if seed is None else seed


def _check_size(axes: Sequence[Axis], most: int) -> None:
    """Raise InputError where a grid of these axes has no cells, one alone, or too many."""
    if not axes:
        raise InputError(
            "nothing varies",
            hint="Give an input several values, as in temperature=[0, 0.7, 1.2]; where a value is a"
            " list, a list of lists.",
        )
    for axis in axes:
        if not axis.values:
            raise InputError(f"input '{axis.name}' has no values").of(axis.name)
        if len(axis) > most:  # perhaps many more, which were not looked at
            raise InputError(
                f"a grid has {most} runs at most, and '{axis.name}' alone has more values",
                hint="Give fewer values.",
            ).of(axis.name)
    size = prod(map(len, axes))
    if size > most:
        counts = " × ".join(str(len(axis)) for axis in axes)
        product = f" ({counts})" if len(axes) > 1 else ""
        raise InputError(
            f"a grid has {most} runs at most, and this one would have {size:,}{product}",
            hint="Give fewer values.",
        )
