"""Showing a run in the cell that waits for it: progress, the text as it comes, how it ended."""

from __future__ import annotations

import sys
import time

from IPython.display import DisplayHandle, Pretty

from ..callable import stop
from ..progress import as_text, progress_line, says_only, status_line
from ..workflow import Run

_PROGRESS_SECONDS = 0.2


def follow(run: Run) -> None:
    """Print a run into the cell until it has ended.

    Raises:
        ComposeError: what went wrong.
        KeyboardInterrupt: the kernel was interrupted; the run has stopped.
    """
    progress = _ProgressLine()
    streamed = False
    try:
        for piece in run.follow():
            if isinstance(piece, str):
                progress.clear()
                streamed = True
                sys.stdout.write(piece)
            elif (line := progress_line(piece)) is not None:
                progress.show(line)
    except BaseException as error:
        stop(run, error)
        raise
    finally:
        progress.clear()
        if streamed:
            sys.stdout.write("\n")
        sys.stdout.flush()
    if run.error is not None:
        raise run.error
    _conclude(run)


def _conclude(run: Run) -> None:
    if not says_only(run.output, run.text):
        print(as_text(run.output))  # noqa: T201
    print(f"[{status_line(run)}]")  # noqa: T201
    for warning in run.warnings:
        print(f"warning: {warning}")  # noqa: T201


class _ProgressLine:
    """One line that changes in place, a few times a second, and goes away."""

    def __init__(self) -> None:
        self._handle: DisplayHandle | None = None
        self._shown = 0.0

    def show(self, line: str) -> None:
        now = time.monotonic()
        if self._handle is None:
            self._handle = DisplayHandle()
            self._handle.display(Pretty(line))
        elif now - self._shown >= _PROGRESS_SECONDS:
            self._handle.update(Pretty(line))
        else:
            return
        self._shown = now

    def clear(self) -> None:
        if self._handle is not None:
            self._handle.update(Pretty(""))
            self._handle = None
