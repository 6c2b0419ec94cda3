"""A grid in a cell's output: its table, and below it the run that was opened, in a panel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ipywidgets
from IPython.display import display

from ..comparing.grid_runs import GridRuns
from ..errors import ComposeError
from ..translation import speaking
from .comms import close_all, pin_subshell
from .grid_table import bundle
from .grid_view import GridView
from .panel import Panel
from .static_output import Bundle, StaticOutput


class GridPanel(ipywidgets.VBox):
    """A grid that goes on; see `Grid`."""

    def __init__(self, grid: GridRuns) -> None:
        self._grid = grid
        self._panel: Panel | None = None
        self._saved = StaticOutput[GridRuns](self._bundle)
        self._view = GridView(on_message=self._received, on_updated=self._grid_shown)
        self._frame = ipywidgets.VBox([self._view])
        self._frame.add_class("modelcompose-panel")
        super().__init__([self._frame])
        self.add_class("modelcompose-grid-box")
        pin_subshell(self)
        self._view.show(grid)

    def _bundle(self, grid: GridRuns) -> Bundle:
        """What a notebook keeps of it, in the language that the browser has said."""
        with speaking(self._view.language):
            return bundle(grid)

    def show(self) -> None:
        """Put it into the cell that runs."""
        display({**self._repr_mimebundle_(), "text/plain": repr(self._grid)}, raw=True)
        if not self._grid.cells[0].workflow.for_guests:  # visitors of a page cannot save it
            self._saved.display()

    def close(self) -> None:
        """Stop what goes on, and take it out of the notebook."""
        self._grid.cancel()
        for each in self.children:
            close_all(each)
        self.layout.close()
        super().close()

    def _received(self, message: Mapping[str, Any]) -> None:
        """Do what the browser says; see ``grid_view.js``."""
        match message:
            case {"type": "stop"}:
                self._grid.cancel()
            case {"type": "open", "cell": int(index)}:
                try:
                    self._open(index)
                except ComposeError as error:
                    for_guests = self._grid.cells[index].workflow.for_guests
                    self._view.fail(error.shown(for_guests=for_guests))

    def _open(self, index: int) -> None:
        """Show a cell's run in a panel of its workflow."""
        cell = self._grid.cells[index]
        if cell.run is None:
            return
        before = self._panel
        if before is None or before.workflow is not cell.workflow:
            self._panel = Panel(cell.workflow, name=cell.workflow.__name__)
            self.children = (self._frame, self._panel)
            pin_subshell(self._panel)
            if before is not None:
                before.close()
        assert self._panel is not None
        self._panel.show(cell.run)
        self._view.mark(index)

    def _grid_shown(self, grid: GridRuns) -> None:
        """On the update thread."""
        if grid.done:
            self._saved.keep(grid)
