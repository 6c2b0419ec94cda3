"""A run in the foreground: what is shown while somebody waits, and what an interrupt does."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Protocol

from .progress import ProgressMeter
from .workflow import Run

STOP_SECONDS = 10.0
"""For how long a run that was interrupted is waited for."""


class ProgressLine(Protocol):
    """One line that changes in place.

    Attributes:
        is_among_text: whether it stands where the text goes, and would overwrite it.
    """

    is_among_text: bool

    def show(self, text: str | None) -> None:
        """Show a text; an empty one wipes the line, None leaves what is there."""


class TerminalLine:
    """A progress line on standard error."""

    is_among_text = True

    def __init__(self) -> None:
        self._shown = ""

    def show(self, text: str | None) -> None:
        if text is not None and text != self._shown:
            sys.stderr.write(f"\r{text.ljust(len(self._shown))}\r{text}")
            sys.stderr.flush()
            self._shown = text


def follow(
    run: Run,
    *,
    line: ProgressLine | None = None,
    write: Callable[[str], object] | None = None,
    stop_seconds: float = STOP_SECONDS,
) -> None:
    """Wait until a run has ended; an interrupt stops it. What went wrong is raised.

    ``line`` shows what it waits for meanwhile: a model on its way, or its turn. ``write`` takes the
    text as it comes, and a line's end behind it.
    """
    meter = ProgressMeter()
    has_text = False
    try:
        for piece in run.follow():
            if line is not None and not (has_text and line.is_among_text):
                line.show("" if isinstance(piece, str) else meter.waiting(piece))
            if write is not None and isinstance(piece, str):
                write(piece)
                has_text = True
    except BaseException as error:
        stop(run, error, stop_seconds)
        with contextlib.suppress(OSError, ValueError):  # whoever read it may have gone as well
            _end(line, write if has_text else None)
        raise
    _end(line, write if has_text else None)
    if run.error is not None:
        raise run.error.with_traceback(None)


def _end(line: ProgressLine | None, write: Callable[[str], object] | None) -> None:
    """Wipe the progress line, and end the line of the text."""
    if line is not None:
        line.show("")
    if write is not None:
        write("\n")


def tokens_so_far(run: Run) -> str:
    """After how many tokens a run was stopped; nothing while its model's thread is at work yet."""
    return f" after {run.usage['generated']} tokens" if run.done else ""


def stop(run: Run, error: BaseException, seconds: float = STOP_SECONDS) -> None:
    """Stop a run that ``error`` interrupted, and have IPython say so in a line."""
    while True:  # who presses twice does not get in the way of the first
        with contextlib.suppress(KeyboardInterrupt):
            run.cancel()
            break
    with contextlib.suppress(KeyboardInterrupt):
        run.wait(seconds)
    if isinstance(error, KeyboardInterrupt):
        shown = f"KeyboardInterrupt: run {run.id} was stopped{tokens_so_far(run)}"
        error._render_traceback_ = lambda: [shown]  # type: ignore[attr-defined]
