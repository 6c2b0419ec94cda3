"""A grid as a table: its heads and cells in words, for the browser and for a saved notebook."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from math import prod
from typing import Any
from weakref import WeakKeyDictionary

from ..comparing.axes import Axis
from ..comparing.grid_runs import Cell, GridRuns
from ..document.types import last_said, show
from ..formatting import duration
from ..path_redaction import public
from ..progress import brief
from ..table import READABLE
from ..translation import localized
from ..workflow import METADATA_KEY, State
from .form import label_of, label_of_name
from .outputs import preformatted, said
from .static_output import Bundle
from .text_diff import marked

_VALUE_LENGTH = 60
_FINAL_WORDS = {State.FAILED: "Failed", State.CANCELLED: "Stopped before it began"}
_STYLE = f'dir="auto" style="{READABLE}min-width:12em;max-width:30em"'
_MARK = '<span style="background-color:rgba(33,150,243,0.25)">'  # on any ground, in any colour

# How the texts of cells differ: asked for more than once, and slow to find.
_compared: WeakKeyDictionary[Cell, list[list[str]]] = WeakKeyDictionary()


def heads(grid: GridRuns) -> dict[str, Any]:
    """The heads of the table: ``corner`` names the axes of rows, ``columns`` and ``rows`` have
    labels, those of a row each with the number of rows that it stands for."""
    columns = [["", "Text"]]
    if grid.columns is not None:
        name = _name(grid, grid.columns)
        columns = [[name, label] for label in grid.columns.labels]
    return {
        "corner": [_name(grid, axis) for axis in grid.rows],
        "columns": columns,
        "rows": [list(_row_heads(grid, row)) for row in range(len(grid.cells) // grid.width)],
    }


def _row_heads(grid: GridRuns, row: int) -> Iterator[list[Any]]:
    """The labels that begin at a row, and for how many rows they stand."""
    for depth, axis in enumerate(grid.rows):
        span = prod(len(inner) for inner in grid.rows[depth + 1 :])
        if row % span == 0:
            yield [axis.labels[row // span % len(axis)], span]


def _name(grid: GridRuns, axis: Axis) -> str:
    """An axis in words: its input's label."""
    inputs = grid.cells[0].workflow.signature.inputs
    named = next((each for each in inputs if each.name == axis.name), None)
    return label_of_name(axis.name) if named is None else label_of(named)


def caption(grid: GridRuns) -> str:
    """The inputs that all runs have."""
    shown = {name: last_said(value) for name, value in grid.fixed.items()}
    return " · ".join(
        f"{label_of_name(name)} {show(value, _VALUE_LENGTH)}" for name, value in shown.items()
    )


def summary(grid: GridRuns) -> str:
    """How it went, when all has ended: runs, seconds, tokens, rate, and the seed that all had."""
    runs = [run for run in grid.runs if run is not None]
    size, stopped = len(grid.cells), sum(cell.state is State.CANCELLED for cell in grid.cells)
    every = f"{size} run{'' if size == 1 else 's'}"
    words = [f"{size - stopped} of {size} runs" if stopped else every]
    tokens = sum(cell.tokens for cell in grid.cells)
    if runs:
        ends = [run.ended_at or 0.0 for run in runs]
        seconds = max(ends) - min(run.events_so_far()[0].time for run in runs)
        words.append(duration(seconds))
        words.append(f"{tokens:,} token{'' if tokens == 1 else 's'}")
        words += [f"{tokens / seconds:.0f} tokens/s"] if tokens and seconds > 0 else []
    seeds = {run.parameters.get("seed") for run in runs}
    words += [f"seed {seed}" for seed in seeds if len(seeds) == 1 and seed is not None]
    return " · ".join(words)


def text_of(cell: Cell) -> str:
    """What a cell says."""
    return "" if cell.run is None else said(cell.run)


def foot_of(cell: Cell) -> str:
    """How a cell ended, or what it does, in a few words."""
    if not cell.ended:
        return "Waiting" if cell.state is State.QUEUED else "Writing"
    return _FINAL_WORDS[cell.state] if cell.run is None else brief(cell.run)


def error_of(cell: Cell) -> str:
    """What went wrong; empty where nothing did."""
    error = cell.error
    if error is None or cell.state is not State.FAILED:
        return ""
    told = "\n".join(filter(None, [error.message, error.hint]))
    return str(public(told)) if cell.workflow.for_guests else told


def pieces_of(grid: GridRuns, index: int) -> list[list[str]]:
    """The text of a cell in pieces, `marked` where its neighbour's differs; one piece where there
    is nothing to compare it with, or the other has not ended."""
    cell, place = grid.cells[index], grid.neighbour(index)
    text, beside = text_of(cell), None if place is None else grid.cells[place]
    if beside is None or not (cell.ended and beside.ended and text and text_of(beside)):
        return [["same", text]]
    if cell not in _compared:
        _compared[cell] = marked(text, text_of(beside))
    return _compared[cell]


def bundle(grid: GridRuns) -> Bundle:
    """A grid as a MIME bundle, with the records of its runs as the metadata."""
    said = [caption(grid), summary(grid) if grid.done else grid.progress]
    notes = [localized(each) for each in said if each]
    plain = "\n\n".join([*map(_plain, _labelled(grid)), *(f"[{note}]" for note in notes)])
    html = _html(grid) + "".join(f"<div><small>{escape(note)}</small></div>" for note in notes)
    data = {"text/plain": plain, "text/html": f'<div class="modelcompose-saved">{html}</div>'}
    kept = [run.notebook_metadata() for run in grid.runs if run is not None]
    return data, {METADATA_KEY: {"runs": [each[METADATA_KEY] for each in kept if each]}}


def _labelled(grid: GridRuns) -> Iterator[tuple[str, Cell]]:
    for cell in grid.cells:
        pairs = zip(grid.axes, cell.places, strict=True)
        yield ", ".join(f"{axis.name} {axis.labels[place]}" for axis, place in pairs), cell


def _plain(labelled: tuple[str, Cell]) -> str:
    label, cell = labelled
    foot = f"[{localized(foot_of(cell))}]"
    said = filter(None, [text_of(cell), localized(error_of(cell)), foot])
    return "\n".join([f"{label}:", *said])


def _html(grid: GridRuns) -> str:
    shown = heads(grid)
    names = map(localized, shown["corner"])
    top = [f"<th {_STYLE}>{escape(name)}</th>" for name in names]
    for name, label in shown["columns"]:
        top.append(f"<th {_STYLE}>{escape(f'{localized(name)} {label}'.strip())}</th>")
    rows = []
    for row, labels in enumerate(shown["rows"]):
        cells = [f'<th rowspan="{span}" {_STYLE}>{escape(label)}</th>' for label, span in labels]
        first = row * grid.width
        cells += [f"<td {_STYLE}>{_cell(grid, first + i)}</td>" for i in range(grid.width)]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{''.join(top)}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _cell(grid: GridRuns, index: int) -> str:
    cell = grid.cells[index]
    text = "".join(
        escape(piece) if kind == "same" else f"{_MARK}{escape(piece)}</span>"
        for kind, piece in pieces_of(grid, index)
    )
    error = localized(error_of(cell))
    return (
        f'<div style="white-space:pre-wrap">{text}</div>'
        + (preformatted(error) if error else "")
        + f"<small>{escape(localized(foot_of(cell)))}</small>"
    )
