"""A grid: runs for all combinations of values, shown as a table; and workflows side by side."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from .cell_output import is_looked_at, waiting_line
from .comparing.axes import SEED, told_apart
from .comparing.grid_runs import Cell, GridRuns
from .comparing.workflow_labels import workflow_labels
from .document.to_plain import to_plain
from .errors import InputError, UsageError, did_you_mean, listed
from .formatting import elapsed
from .run_follower import STOP_SECONDS, Sparing
from .table import data_frame
from .workflow import Run, Runnable, State
from .workflow.interrupts import check_unattended

_TICK = 0.1  # seconds between looks at the clock


class Grid(GridRuns):
    """Runs for all combinations of inputs' values, which go on at once, many at a time.

    As the last line of a cell it shows a table that fills while texts come. Where a program runs
    the notebook nobody would see that: there the cell waits, and shows what it has become.

        grid = story.grid(temperature=[0, 0.7, 1.2], seed=[1, 2, 3])
        grid.wait()
        grid[0, 2].text, grid.at(temperature=0.7, seed=2).text, grid.to_frame()

    Args:
        workflows: what runs; several are compared.
        given: the inputs by name. One that has several values is an axis: see `told_apart`.

    Raises:
        InputError: inputs that a workflow cannot take, nothing that varies, or too much.
    """

    def __init__(self, *workflows: Runnable, given: Mapping[str, Any]) -> None:
        varied, fixed = told_apart(workflows[0].signature, given)
        labels = workflow_labels(workflows) if len(workflows) > 1 else ()
        super().__init__(workflows, varied, fixed, labels=labels)

    def __len__(self) -> int:
        return len(self.cells)

    def __iter__(self) -> Iterator[Run | None]:
        return iter(self.runs)

    def __getitem__(self, place: tuple[int, int]) -> Run | None:
        """The run of a row and a column of the table, which count from 0; None where it has not
        begun, or never will."""
        row, column = place
        rows = [self.cells[i : i + self.width] for i in range(0, len(self.cells), self.width)]
        return rows[row][column].run

    def at(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> Run | None:
        """The run of a combination: ``grid.at(temperature=0.7, seed=2)``; None where it has not
        begun, or never will.

        Raises:
            InputError: there is no such axis or value, or several runs have it.
        """
        given = {**(values or {}), **named}
        known = [axis.name for axis in self.axes]
        for name in given:
            if name not in known:
                hint = did_you_mean(name, known) or f"Axes are {listed(known)}."
                raise InputError(f"there is no axis '{name}'", hint=hint)
        index = 0
        for axis in self.axes:
            if axis.name not in given and len(axis) > 1:
                raise InputError(f"several runs are so: '{axis.name}' is not given")
            place = axis.place(to_plain(given[axis.name])) if axis.name in given else 0
            index = index * len(axis) + place
        return self.cells[index].run

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all have ended; returns whether they have. Seconds; None waits for ever.

        An interrupt stops all within a token and goes on as KeyboardInterrupt; the texts stay.
        """
        began = time.time()
        try:
            with waiting_line() as line:
                shown = None if line is None else Sparing(line, began)
                left = timeout
                while left is None or left > 0:
                    if super().wait(_TICK if left is None else min(_TICK, left)):
                        return True
                    if shown is not None:
                        shown.show(f"{self.progress} · {elapsed(time.time() - began)}")
                    left = None if timeout is None else began + timeout - time.time()
                return self.done
        except BaseException as error:
            self._stop(error)
            raise

    def _stop(self, error: BaseException) -> None:
        """Stop all that ``error`` interrupted, and have IPython say so in a line."""
        while True:  # who presses twice does not get in the way of the first
            with contextlib.suppress(KeyboardInterrupt):
                self.cancel()
                break
        with contextlib.suppress(KeyboardInterrupt):
            super().wait(STOP_SECONDS)
        if isinstance(error, KeyboardInterrupt):
            ended = sum(cell.state in (State.COMPLETED, State.FAILED) for cell in self.cells)
            shown = f"KeyboardInterrupt: the grid was stopped after {ended} of {len(self)} runs"
            error._render_traceback_ = lambda: [shown]  # type: ignore[attr-defined]

    def to_frame(self) -> Any:
        """A DataFrame of pandas, with a row for each run: its inputs, ``text``, ``output``,
        ``seed``, ``finish`` (why it ended), ``tokens``, ``tokens_per_second``, ``error``, ``id``.

        Where an input has such a name, the column is called ``text_``, say.

        Raises:
            UsageError: pandas is not installed.
        """
        return data_frame([self._record(cell) for cell in self.cells])

    def _record(self, cell: Cell) -> dict[str, Any]:
        labels = {axis.name: axis.labels[i] for axis, i in zip(self.axes, cell.places, strict=True)}
        record = {
            name: cell.input.get(name, label)
            for name, label in labels.items()
            if name in cell.input or name != SEED  # which is the run's
        }
        record |= cell.input
        outcome = _outcome(cell)
        return record | {f"{key}_" if key in record else key: outcome[key] for key in outcome}

    def __repr__(self) -> str:
        names = " × ".join(f"{axis.name} ({listed(axis.labels)})" for axis in self.axes)
        return f"<Grid {names} · {self.progress}>"

    def _ipython_display_(self) -> None:
        from IPython.display import display

        from .widgets.grid_panel import GridPanel
        from .widgets.grid_table import bundle

        if is_looked_at():
            GridPanel(self).show()
            return
        try:
            self.wait()
        finally:
            data, metadata = bundle(self)
            display(data, metadata=metadata, raw=True)


def _outcome(cell: Cell) -> dict[str, Any]:
    run, error = cell.run, cell.error
    return {
        "text": None if run is None else run.text,
        "output": cell.output,
        "seed": cell.seed if run is None else run.parameters.get("seed", cell.seed),
        "finish": (run and run.finish_reason) or str(cell.state),
        "tokens": cell.tokens,
        "tokens_per_second": None if run is None else run.timings.get("tokens_per_second"),
        "error": None if error is None else error.message,
        "id": None if run is None else run.id,
    }


def compare(*workflows: Runnable | Mapping[str, Any], **inputs: Any) -> Grid:
    """Run several workflows with the same inputs, side by side: models, precisions, templates.

        compare(story, other, prompt=["A fox", "An owl"])

    Args:
        workflows: what runs; at the end inputs as a mapping, where a name is no Python name.
        inputs: for all of them. One that has several values is another axis of the grid.

    Raises:
        InputError: inputs that a workflow cannot take, or too much.
        UsageError: what is to be compared is no workflow.
    """
    flows: list[Any]
    *flows, last = workflows or (None,)
    given = {**last, **inputs} if isinstance(last, Mapping) else inputs
    flows += [] if isinstance(last, Mapping) else [last]
    for each in flows or [None]:
        if not hasattr(each, "signature"):
            raise UsageError(
                f"workflows are compared, and this is one {type(each).__name__}",
                hint="Name workflows: compare(story, load('other.yml'), prompt=…).",
            )
        check_unattended(each.document, each.document.workflow(each.id))
    return Grid(*flows, given=given)
