"""Questions that take time to answer, one after another, beside whoever must not wait for them.

A Jupyter server's loop and a kernel's control channel ask here what editors want to know of a text;
the thread ``modelcompose-worker`` answers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any

from .errors import ComposeError

THREAD_NAME = "modelcompose-worker"
MOST_WAITING = 32
"""Questions that wait at a time: many more than a user's open editors ask at once."""


class BackgroundWorker:
    """What is asked, in the order in which it is answered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, tuple[Future[Any], Callable[[], Any]]] = {}
        self._is_answering = False

    def ask(self, answer: Callable[[], Any], *, about: Hashable = None) -> Future[Any]:
        """Have a question answered when it is its turn; who cancels it before that is not asked.

        ``answer`` gives the answer, or raises, on this module's thread. An earlier question that is
        ``about`` the same and still waits is cancelled; None is about nothing else.

        Raises:
            ComposeError: too many questions wait, with the code ``busy``.
        """
        future: Future[Any] = Future()
        with self._lock:
            overtaken = self._waiting.pop(about, None)
            waiting = {key: each for key, each in self._waiting.items() if not each[0].cancelled()}
            self._waiting = waiting
            if len(waiting) >= MOST_WAITING:
                raise ComposeError(
                    f"{len(waiting)} questions are waiting for their answers already",
                    hint="Ask again in a moment.",
                    code="busy",
                )
            waiting[future if about is None else about] = (future, answer)
            if not self._is_answering:
                self._is_answering = True
                threading.Thread(target=self._answer, name=THREAD_NAME, daemon=True).start()
        if overtaken is not None:
            overtaken[0].cancel()
        return future

    def _answer(self) -> None:
        assert threading.current_thread().name == THREAD_NAME
        while (question := self._next()) is not None:
            future, answer = question
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(answer())
            except BaseException as error:  # whoever asked has it
                future.set_exception(error)

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._lock:
            if not self._waiting:
                self._is_answering = False
                return None
            return self._waiting.pop(next(iter(self._waiting)))
