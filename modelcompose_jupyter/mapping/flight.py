"""Runs that are begun many at a time, for somebody who may stop them all at any moment.

The thread ``modelcompose-map`` of a `submitter` begins them, so that an interrupt never comes in
the midst of that and leaves a run of which nobody knows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ..errors import ComposeError, InputError
from ..progress import Waiting

if TYPE_CHECKING:
    from ..workflow import Run

MAP_THREAD_NAME = "modelcompose-map"
_TRY_AGAIN = ("busy", "overloaded")
_BUSY_SECONDS = 0.1  # where the host does not say when it has room
_MOST_BUSY_SECONDS = 30.0  # whatever a host says


def submitter() -> ThreadPoolExecutor:
    """What begins flights, one after the other, on a thread of its own."""
    return ThreadPoolExecutor(1, thread_name_prefix=MAP_THREAD_NAME)


def _pause(error: ComposeError) -> float:
    """Seconds until a host that has no room is asked again."""
    asked = _BUSY_SECONDS if error.retry_after is None else error.retry_after
    return min(asked, _MOST_BUSY_SECONDS)


class Flight:
    """A run among many, from before it begins.

    Attributes:
        run: None until it has begun.
        refusal: why it never began, or None.

    Args:
        start: starts the run.
    """

    def __init__(self, start: Callable[[], Run]) -> None:
        self.run: Run | None = None
        self.refusal: ComposeError | None = None
        self._start = start
        self._leave: Callable[[], None] | None = None
        self._stopping = threading.Event()
        self._waiting = Waiting(time.time())
        self._seen = -1

    def begin(self, on_end: Callable[[], None], fail: Callable[[Exception], None]) -> None:
        """Start the run, unless it was stopped before.

        Args:
            on_end: called when it has ended, also where its inputs were refused, or it never began;
                on any thread.
            fail: is told of anything else that goes wrong.
        """
        assert threading.current_thread().name.startswith(MAP_THREAD_NAME)
        if self._stopping.is_set():
            on_end()
            return
        try:
            run = self._submitted()
        except InputError as error:
            # Without its frames, which would keep their variables alive.
            self.refusal = error.with_traceback(None)
            on_end()
        except Exception as error:
            fail(error)
        else:
            self.run = run  # from here on it can be told and stopped
            self._leave = run.add_done_callback(lambda _: on_end())
            if self._stopping.is_set():
                run.cancel()

    def _submitted(self) -> Run:
        """The run; where the host has no room for it, others of many callers end first."""
        while True:
            try:
                return self._start()
            except ComposeError as error:
                if error.code not in _TRY_AGAIN or self._stopping.wait(_pause(error)):
                    raise

    def stop(self) -> None:
        """Stop the run, or have it not begin. Any thread."""
        self._stopping.set()
        if self.run is not None:
            self.run.cancel()

    @property
    def is_stopped(self) -> bool:
        """Whether somebody wants it stopped."""
        return self._stopping.is_set()

    def wait(self, seconds: float) -> None:
        if self.run is not None:
            self.run.wait(seconds)

    def leave(self) -> None:
        """Hear of the run's end no more, so that neither holds the other any longer."""
        if self._leave is not None:
            self._leave()
            self._leave = None

    @property
    def waits_for(self) -> str:
        """What its run waits for now, and for how long."""
        return self.waiting.line(time.time())

    @property
    def waiting(self) -> Waiting:
        """What its run waits for now. One thread at a time may ask."""
        run = self.run
        if run is not None:
            for event in run.events_so_far(self._seen):
                self._seen = event.number
                if event.type == "text":
                    self._waiting.wrote(event.data["text"], is_shown=False)
                else:
                    self._waiting.take(event)
        return self._waiting

    @property
    def error(self) -> ComposeError | None:
        return self.refusal if self.run is None else self.run.error

    @property
    def output(self) -> Any:
        return None if self.run is None else self.run.output

    @property
    def tokens(self) -> int:
        """How many it has generated or scored, when it has ended."""
        usage = {} if self.run is None else self.run.usage
        return usage.get("generated") or usage.get("given") or 0
