"""Showing a run in the cell that waits for it: progress, the text as it comes, how it ended."""

from __future__ import annotations

import sys
import time

from IPython import get_ipython
from IPython.display import DisplayHandle, Pretty, display

from .. import run_follower
from ..progress import as_text, says_only, status_line
from ..workflow import METADATA_KEY, Run

_PROGRESS_SECONDS = 0.2


def follow(run: Run) -> None:
    """Print a run into the cell until it has ended.

    Raises:
        ComposeError: what went wrong.
        KeyboardInterrupt: the kernel was interrupted; the run has stopped.
    """
    # Outputs that change exist only where there is a kernel.
    line = CellLine() if hasattr(get_ipython(), "kernel") else run_follower.TerminalLine()
    run_follower.follow(run, line=line, write=sys.stdout.write)
    if not says_only(run.output, run.text):
        print(as_text(run.output))  # noqa: T201
    status = {"text/plain": f"[{status_line(run)}]"}
    display(status, metadata={METADATA_KEY: run.record}, raw=True)
    for warning in run.warnings:
        print(f"warning: {warning}")  # noqa: T201


class CellLine:
    """A progress line of a notebook's cell, written a few times a second."""

    is_among_text = False

    def __init__(self) -> None:
        self._handle: DisplayHandle | None = None
        self._shown = 0.0

    def show(self, text: str | None) -> None:
        """Show a text; an empty one wipes the line, None leaves what is there."""
        now = time.monotonic()
        if self._handle is None:
            if text:
                self._handle = DisplayHandle()
                self._handle.display(Pretty(text))
                self._shown = now
        elif text == "":
            self._handle.update(Pretty(""))
            self._handle = None
        elif text is not None and now - self._shown >= _PROGRESS_SECONDS:
            self._handle.update(Pretty(text))
            self._shown = now
