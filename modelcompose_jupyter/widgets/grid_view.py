"""The widget that shows a grid: a table that fills while texts come, and a form for the next one.

Written by the update thread alone (see `update_thread`); `show`, `mark`, `fail` and `renew` may be
called from any thread. The browser's side is ``grid_view.js``, which says what travels.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import traitlets

from ..comparing.grid_runs import Cell, GridRuns
from .esm import joined, joined_styles
from .grid_table import caption, error_of, foot_of, heads, pieces_of, summary, text_of
from .speaking import SpeakingWidget, words
from .update_thread import UPDATE_THREAD_NAME, update_thread

_FOLDER = Path(__file__).parent


class GridView(SpeakingWidget):
    """Shows one grid at a time, live; nothing at first.

    Args:
        on_message: called on a kernel's thread with what the browser says: ``open`` of a cell,
            ``stop``, and what its form does.
        on_updated: called on the update thread after every change, with the grid in view.
        choices: what a form lets vary (see `grid_form.choices`); without any there is no form.
        quick: what a grid is called that is one click away; empty where there is none.
    """

    _esm = joined(_FOLDER / "grid_view.js")
    _css = joined_styles(_FOLDER, "panel.css", "grid_view.css")

    choices = words(traitlets.List(), "label")
    quick = words(traitlets.Unicode(""))
    heads = words(traitlets.Dict(), "corner", "columns")
    caption = words(traitlets.Unicode(""))
    # Looked up when a page asks that is loaded in the midst of it.
    cells = traitlets.List().tag(sync=True, to_json=lambda _, view: view._all(), is_words=True)
    progress = traitlets.Dict().tag(sync=True)
    status = words(traitlets.Unicode(""))
    opened = traitlets.Int(-1).tag(sync=True)
    failure = words(traitlets.Unicode(""))

    def __init__(
        self,
        *,
        on_message: Callable[[Mapping[str, Any]], None],
        on_updated: Callable[[GridRuns], None] = lambda _: None,
        choices: Sequence[Mapping[str, Any]] = (),
        quick: str = "",
    ) -> None:
        self._lock = threading.Lock()
        self._on_message = on_message
        self._on_updated = on_updated
        self._grid: GridRuns | None = None
        self._unwatch: Callable[[], None] = lambda: None
        self._opened, self._failure = -1, ""
        self._told: tuple[GridRuns | None, list[_Told]] = (None, [])
        super().__init__(choices=list(choices), quick=quick)
        self.on_msg(self._received)

    def show(self, grid: GridRuns) -> None:
        """Show a grid from now on."""
        with self._lock:
            self._unwatch()
            self._grid, self._opened, self._failure = grid, -1, ""
            self._unwatch = grid.watch(self.renew)
        self.renew()

    def mark(self, index: int) -> None:
        """Mark the cell whose run is in view."""
        self._opened = index
        self.renew()

    def fail(self, message: str) -> None:
        """Show what is wrong with what was asked for; the next `show` takes it away."""
        self._failure = message
        self.renew()

    def renew(self) -> None:
        """Show things as they are now, soon."""
        update_thread.soon(self._update_view)

    def close(self) -> None:
        self._unwatch()
        super().close()

    def _received(self, _: Any, content: Mapping[str, Any], __: Any) -> None:
        match content.get("type"):
            case "resync":
                self._watch_again()
                update_thread.soon(self._send_cells)
            case "gone":
                self._leave()
            case _:
                self._on_message(content)

    def _watch_again(self) -> None:
        with self._lock:
            if self._grid is not None and not self._grid.done:
                self._unwatch()
                self._unwatch = self._grid.watch(self.renew)
        self.renew()

    def _leave(self) -> None:
        """Nobody looks here any more: a grid at which nobody looks is stopped."""
        with self._lock:
            self._unwatch()
            if self._grid is not None and not self._grid.is_watched:
                self._grid.cancel()

    # On the update thread

    def _update_view(self) -> None:
        assert threading.current_thread().name == UPDATE_THREAD_NAME
        with self._lock:
            grid = self._grid
        if self.comm is None:  # closed meanwhile
            return
        if grid is None:
            self.failure = self._failure
            return
        begins = self._told[0] is not grid
        if begins:
            self._told = grid, [_Told(grid, index) for index in range(len(grid.cells))]
        done = grid.done  # before looking: nothing comes after it
        texts, infos = [], []
        for index, told in enumerate(self._told[1]):
            texts += [[index, *change] for change in told.change()]
            infos += [[index, told.info]] if told.renew() else []
        with self.hold_sync():
            if begins:
                self.heads, self.caption = heads(grid), caption(grid)
            self.progress = {"done": grid.ended, "total": len(grid.cells)}
            self.status = summary(grid) if done else grid.progress
            self.opened, self.failure = self._opened, self._failure
        if begins:
            self._send_cells()
        elif texts or infos:
            self.send(
                {"type": "cells", "texts": texts, "infos": self.in_words(infos, "foot", "error")}
            )
        self._on_updated(grid)
        if done:
            with self._lock:
                if self._grid is grid:  # another one may have taken its place meanwhile
                    self._unwatch()

    def _send_cells(self) -> None:
        if self.comm is not None:
            self.send({"type": "whole", "cells": self._all()})

    def _all(self) -> list[dict[str, Any]]:
        whole = [each.whole() for each in self._told[1]]
        return list(self.in_words(whole, "foot", "error"))


class _Told:
    """What the browser knows of a cell.

    Attributes:
        info: how the cell is, as it was told last: ``state``, ``foot``, ``error``, ``marks``.
    """

    def __init__(self, grid: GridRuns, index: int) -> None:
        self.info: dict[str, Any] = {}
        self._grid = grid
        self._index = index
        self._cell: Cell = grid.cells[index]
        self._text = ""
        self._units = 0
        self._position = self._shown = 0  # in the run's text
        self._over = False  # all of the text was told
        self._settled = False

    def change(self) -> list[tuple[int, str]]:
        """What makes the text that was told the one that there is: an offset, in UTF-16 units, and
        what is there from then on."""
        if self._over or self._cell.run is None:
            return []
        if self._cell.ended:
            self._over, text, before = True, text_of(self._cell), self._text
            offset = self._units if text.startswith(before) else 0
            piece = text[len(before) :] if offset else text
            self._text = text
            return [(offset, piece)] if text != before else []
        piece, self._position, self._shown = self._cell.run.fresh_text(self._position, self._shown)
        if not piece:
            return []
        offset = self._units
        self._text += piece
        self._units += _units(piece)
        return [(offset, piece)]

    def renew(self) -> bool:
        """Look how the cell is; whether it is another way than before."""
        cell, beside = self._cell, self._grid.neighbour(self._index)
        if self._settled or (cell.ended and cell.run is not None and not self._over):
            return False  # its end comes with its text
        self._settled = cell.ended and (beside is None or self._grid.cells[beside].ended)
        before = self.info
        self.info = {
            "state": str(cell.state),
            "foot": foot_of(cell),
            "error": error_of(cell),
            "marks": _marks(pieces_of(self._grid, self._index)) if self._settled else [],
        }
        return self.info != before

    def whole(self) -> dict[str, Any]:
        return {"text": self._text, **self.info}


def _marks(pieces: list[list[str]]) -> list[list[int]]:
    """Where the pieces are that differ, in UTF-16 units."""
    found, end = [], 0
    for kind, piece in pieces:
        start, end = end, end + _units(piece)
        if kind == "other":
            found.append([start, end])
    return found


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
