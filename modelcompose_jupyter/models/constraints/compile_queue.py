"""The queue of grammars to compile: one at a time, in turns between those who ask.

The thread ``modelcompose-grammar`` belongs to a `CompileQueue`; it lives while there is work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Any

from ...deep_stack import start
from ..request_queue import FairQueue

COMPILE_THREAD_NAME = "modelcompose-grammar"

Work = tuple[Future[Any], Callable[[], Any]]


class CompileQueue:
    """Does one piece of work after another, on a thread with a deep stack. Of any thread.

    Who asks for much waits for what others ask for in between: round-robin between owners.
    """

    def __init__(self) -> None:
        self._waiting: FairQueue[Work] = FairQueue()
        self._lock = threading.Lock()
        self._works = False

    def submit(self, work: Callable[[], Any], owner: Sequence[Hashable]) -> Future[Any]:
        """Do some work soon; the future has what it gives. ``owner`` is a group, and one in it."""
        future: Future[Any] = Future()
        with self._lock:
            self._waiting.put((future, work), *owner)
            begins, self._works = not self._works, True
        if begins:
            start(threading.Thread(target=self._run, name=COMPILE_THREAD_NAME, daemon=True))
        return future

    def _run(self) -> None:
        while True:
            with self._lock:
                if not len(self._waiting):
                    self._works = False
                    return
                future, work = self._waiting.pop()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)
