"""A child process of the supervisor: the host or the page."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import ComposeError

_RELAY_SECONDS = 1.0

Sink = Callable[[str], None]
"""Takes a line of a log. Any thread."""


class Child:
    """A process with a name for people. What it says on standard error is handed on line by line,
    by a thread of its own, to ``sink``; what it says on standard output is for nobody.

    Attributes:
        is_asked_to_end: nothing more is handed on then. Event loops that are closed under what
            waits on them complain, which tells nobody anything.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], sink: Sink
    ) -> None:
        self.name = name
        self.is_asked_to_end = False
        self.process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            **apart(),
        )
        self._relay = threading.Thread(
            target=self._hand_on, args=(sink,), name=f"modelcompose-{name}-log", daemon=True
        )
        self._relay.start()

    def _hand_on(self, sink: Sink) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            # Whoever looked may have gone; what the child says is read all the same.
            with contextlib.suppress(OSError, ValueError):
                if not self.is_asked_to_end:
                    sink(line.decode("utf-8", "replace").rstrip("\r\n"))

    def failure(self) -> ComposeError:
        """Why it has ended, once what it had to say has been handed on."""
        self._relay.join(_RELAY_SECONDS)  # its own children may hold the pipe for longer
        status = self.process.wait()
        hint = "What it said last is above this."
        message = f"the {self.name} ended with status {status}"
        if status < 0:
            try:
                name = signal.Signals(-status).name
            except ValueError:
                name = f"signal {-status}"
            message = f"the {self.name} was ended by {name}"
            if name == "SIGKILL":
                hint = "Was the memory full? The system's log may tell."
        return ComposeError(message, hint=hint, code="child_ended")

    def end(self, seconds: float) -> None:
        """Wait until it has ended, as it was asked to; it is killed after so many seconds."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._relay.join(_RELAY_SECONDS)


def apart() -> dict[str, Any]:
    """Options for a process that a terminal's Ctrl-C and end do not reach."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}
