"""A run in the foreground: what is shown while somebody waits, and what an interrupt does."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Protocol

from .asking import Ask
from .progress import Waiting, change_words, end_words
from .workflow import Event, Run, State

STOP_SECONDS = 10.0
"""For how long a run that was interrupted is waited for."""

QUIET_SECONDS = 0.2
"""Who waits for less is told nothing: it would only flicker."""

_TICK = 0.1  # seconds between looks at the clock


class ProgressLine(Protocol):
    """One line that changes in place.

    Attributes:
        is_among_text: whether it stands where the text goes, and would overwrite it.
    """

    is_among_text: bool

    def show(self, text: str) -> None:
        """Show a text, which may be what is shown already; an empty one wipes the line."""


def follow(
    run: Run,
    *,
    line: ProgressLine | None = None,
    write: Callable[[str], object] | None = None,
    think: Callable[[str], object] | None = None,
    ask: Ask | None = None,
    note: Callable[[str], object] | None = None,
    stop_seconds: float = STOP_SECONDS,
    since: float | None = None,
) -> None:
    """`await_end`; what went wrong with the run is raised."""
    await_end(
        run,
        line=line,
        write=write,
        think=think,
        ask=ask,
        note=note,
        stop_seconds=stop_seconds,
        since=since,
    )
    if run.error is not None:
        raise run.error.with_traceback(None)


def await_end(
    run: Run,
    *,
    line: ProgressLine | None = None,
    write: Callable[[str], object] | None = None,
    think: Callable[[str], object] | None = None,
    ask: Ask | None = None,
    note: Callable[[str], object] | None = None,
    stop_seconds: float = STOP_SECONDS,
    since: float | None = None,
    or_text: bool = False,
) -> None:
    """Wait until a run has ended, however it ends, or with ``or_text`` until its text begins; an
    interrupt stops it, and is raised.

    ``line`` shows what it waits for meanwhile, and for how long, as soon as it has waited for
    `QUIET_SECONDS`; ``write`` takes the text as it comes, and a line's end behind it; ``think``
    takes the thoughts before it, and a blank line behind these. ``ask`` is called where questions
    are open, which only wait where there is none. ``note`` takes a line for each job of several
    that has ended, waits for another attempt or was skipped. ``since`` is when the wait began,
    in seconds since the epoch; now if None.
    """
    began = time.time() if since is None else since
    waiting = Waiting(began)
    shown = None if line is None else Sparing(line, began)
    has_text = False
    thoughts = _Thoughts(think, line)
    pieces = run.follow()
    try:
        while not pieces.over and not (or_text and waiting.has_text):
            piece = pieces.get(_TICK)
            if isinstance(piece, str):
                thoughts.end()
                waiting.wrote(piece, is_shown=write is not None)
            elif piece is not None:
                waiting.take(piece)
                thoughts.take(piece)
                if note is not None and (words := _note(piece, run)):
                    note(words)
            is_written = has_text or thoughts.are_open
            if shown is not None and not (is_written and shown.is_among_text):
                shown.show(waiting.line(time.time()))
            if write is not None and isinstance(piece, str):
                write(piece)
                has_text = True
            if ask is not None and run.state is State.INTERRUPTED:
                thoughts.end()
                if line is not None:
                    line.show("")
                ask(run)
    except BaseException as error:
        stop(run, error, stop_seconds)
        with contextlib.suppress(OSError, ValueError):  # whoever read it may have gone as well
            thoughts.end()
            _end(line, write if has_text else None)
        raise
    thoughts.end()
    _end(line, write if has_text else None)


def _note(event: Event, run: Run) -> str:
    """A line for what an event tells of a job; empty for nothing."""
    if event.type != "job":
        return ""
    return change_words(event.data) or (end_words(event.data) if len(run.jobs) > 1 else "")


class _Thoughts:
    """The thoughts of a run, for those who want them.

    Attributes:
        are_open: whether some were written, and not what is behind them.
    """

    def __init__(self, write: Callable[[str], object] | None, line: ProgressLine | None) -> None:
        self.are_open = False
        self._write = write
        self._line = line
        self._shown: defaultdict[tuple[Any, ...], int] = defaultdict(int)

    def take(self, event: Event) -> None:
        """Write what an event tells of them. At its end a run tells all again."""
        if self._write is None or event.type != "reasoning":
            return
        stream, offset, text = tuple(event.data["stream"]), event.data["offset"], event.data["text"]
        fresh = text[max(0, self._shown[stream] - offset) :]
        self._shown[stream] = max(self._shown[stream], offset + len(text))
        if not fresh:
            return
        if self._line is not None and not self.are_open:
            self._line.show("")
        self._write(fresh)
        self.are_open = True

    def end(self) -> None:
        if self.are_open and self._write is not None:
            self._write("\n\n")
        self.are_open = False


class Sparing:
    """A progress line that changes a few times a second, from a while after ``began`` on."""

    def __init__(self, line: ProgressLine, began: float) -> None:
        self.is_among_text = line.is_among_text
        self._line = line
        self._next = began + QUIET_SECONDS

    def show(self, text: str) -> None:
        now = time.time()
        if now >= self._next or not text:
            self._line.show(text)
            self._next = max(self._next, now + _TICK)


def _end(line: ProgressLine | None, write: Callable[[str], object] | None) -> None:
    """Wipe the progress line, and end the line of the text."""
    if line is not None:
        line.show("")
    if write is not None:
        write("\n")


def stopped(run: Run) -> str:
    """That a run was stopped, and after how many tokens: unknown while its model's thread is at
    work yet."""
    return f"stopped after {run.usage['generated']} tokens" if run.done else "stopped"


def stop(run: Run, error: BaseException, seconds: float = STOP_SECONDS) -> None:
    """Stop a run that ``error`` interrupted, and have IPython say so in a line."""
    while True:  # who presses twice does not get in the way of the first
        with contextlib.suppress(KeyboardInterrupt):
            run.cancel()
            break
    with contextlib.suppress(KeyboardInterrupt):
        run.wait(seconds)
    if isinstance(error, KeyboardInterrupt):
        tokens = f" after {run.usage['generated']} tokens" if run.done else ""
        shown = f"KeyboardInterrupt: run {run.id} was stopped{tokens}"
        error._render_traceback_ = lambda: [shown]  # type: ignore[attr-defined]
