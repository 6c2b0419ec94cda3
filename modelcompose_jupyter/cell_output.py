"""Showing a run in the cell that waits for it: progress, the text as it comes, how it ended.

In a kernel one output that changes has both the text and, below it, what the run waits for. In
IPython without one, a terminal has them.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from .asking import Ask, Prompter, refuse
from .host_selection import is_page
from .progress import as_text, says_only, status_line
from .run_follower import ProgressLine, await_end, follow
from .terminal import TerminalLine, for_terminal, say
from .translation import localized
from .widgets.outputs import preformatted
from .workflow import EventIterator, Run, State

_SECONDS = 0.2
_TICK = 0.1  # seconds; waits are this long at most, so that an interrupt is never late
_CHARACTERS_A_SECOND = 200_000
"""An output is sent whole each time: as often as is quick to the eye, and long ones less often."""


def show(run: Run, since: float | None = None) -> None:
    """Show a run in the cell until it has ended. ``since`` is as `await_end` has it.

    Raises:
        ComposeError: what went wrong.
        KeyboardInterrupt: the kernel was interrupted; the run has stopped.
    """
    from IPython.display import display

    if _has_kernel():
        output = CellOutput()
        try:
            follow(run, line=output, write=output.write, ask=asker(), since=since)
        finally:
            output.end()
    else:
        write = for_terminal(sys.stdout)
        follow(run, line=TerminalLine(), write=write, ask=asker(), since=since)
    if not says_only(run.output, run.text):
        print(as_text(run.output))  # noqa: T201
    status = localized(status_line(run))
    data = {"text/plain": f"[{status}]", "text/html": f"<small>{escape(status)}</small>"}
    display(data, metadata=run.notebook_metadata(), raw=True)
    for warning in run.warnings:
        say(f"warning: {warning}")


def wait(run: Run, *, or_text: bool = False) -> None:
    """Wait until a run has ended, however it ends, or with ``or_text`` until its text begins. Where
    somebody looks, at a cell or at the prompt of IPython, a line says meanwhile what it waits for.
    What it asks they are asked; where nobody can be, that stops it. An interrupt stops it, and is
    raised.

    Raises:
        ComposeError: it asks something, and nobody is there to be asked (``needs_answer``).
    """
    with waiting_line() as line:
        await_end(run, line=line, ask=asker(), or_text=or_text)


def next_piece(run: Run, pieces: EventIterator[str]) -> str:
    """The next piece of a run's text; what it asks before that is asked as `wait` does.

    Raises:
        StopIteration: there is none.
    """
    while (piece := pieces.get(_TICK)) is None:
        if pieces.over:
            raise StopIteration
        if run.state is State.INTERRUPTED:
            asker()(run)
    return piece


def asker() -> Ask:
    """What asks those who wait for a call on this thread: in the cell, or in the terminal."""
    if threading.current_thread() is threading.main_thread():
        is_terminal = not _has_kernel() and sys.stdin.isatty() and sys.stdout.isatty()
        if is_looked_at() or is_terminal:
            return Prompter(say, lambda prompt: input(localized(prompt)))
    return refuse


@contextmanager
def waiting_line() -> Iterator[ProgressLine | None]:
    """A line for what is waited for; None where nobody looks."""
    line = _line()
    try:
        yield line
    finally:
        if line is not None:
            line.show("")
        if isinstance(line, CellOutput):
            line.end()


def is_looked_at() -> bool:
    """Whether somebody looks at the outputs of the cell that runs while they change.

    A program that runs a notebook, such as nbclient, says with each cell that nobody is there to
    be asked for input.
    """
    if not _has_kernel():
        return False
    sent = _shell().kernel.get_parent("shell").get("content", {})
    return is_page() or bool(sent.get("allow_stdin", True))


def _line() -> ProgressLine | None:
    if threading.current_thread() is not threading.main_thread() or _shell() is None:
        return None  # whose outputs would be another cell's, or a program's
    if not _has_kernel():
        return TerminalLine()
    return CellOutput() if is_looked_at() else None


def _shell() -> Any:
    """The IPython that this process runs in, if any: never imported for that."""
    found = sys.modules.get("IPython")
    return None if found is None else found.get_ipython()


def _has_kernel() -> bool:
    """Whether there are outputs that change."""
    return hasattr(_shell(), "kernel")


class CellOutput:
    """An output of a notebook's cell: a text, and a progress line below it.

    It is displayed when there is something to show.
    """

    is_among_text = False

    def __init__(self) -> None:
        self._handle: Any = None
        self._pieces: list[str] = []
        self._length = 0
        self._line = ""
        self._is_stale = False
        self._sent_at = 0.0

    def show(self, text: str) -> None:
        """Show a progress line; an empty one wipes it."""
        text = localized(text)
        self._is_stale |= text != self._line
        self._line = text
        self._send_soon()

    def write(self, text: str) -> None:
        """Add to the text."""
        self._pieces.append(text)
        self._length += len(text)
        self._is_stale = True
        self._send_soon()

    def end(self) -> None:
        """Show the text alone, all of it."""
        self._is_stale |= bool(self._line)
        self._line = ""
        if self._is_stale:
            self._send()

    def _send_soon(self) -> None:
        pause = max(_SECONDS, self._length / _CHARACTERS_A_SECOND)
        if self._is_stale and time.monotonic() - self._sent_at >= pause:
            self._send()

    def _send(self) -> None:
        from IPython.display import DisplayHandle

        text = "".join(self._pieces)
        self._pieces = [text]
        plain = "\n".join(filter(None, [text.rstrip("\n"), self._line]))
        data = {"text/plain": plain, "text/html": _html(text.rstrip("\n"), self._line)}
        if self._handle is not None:
            self._handle.update(data, raw=True)
        elif plain:
            self._handle = DisplayHandle()
            self._handle.display(data, raw=True)
        self._is_stale, self._sent_at = False, time.monotonic()


def _html(text: str, line: str) -> str:
    progress = f"<small role='status'>{escape(line)}</small>" if line else ""
    return (preformatted(text) if text else "") + progress
