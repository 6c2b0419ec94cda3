"""The one thread on which widgets are updated, since a widget bears one writer.

Runs change on the threads of models and hosts. There, `soon` only notes that a widget is to be
updated; this thread does it, for all widgets, at most 20 times a second.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..redaction import get_logger

UPDATE_THREAD_NAME = "modelcompose-updates"
_SECONDS_BETWEEN = 0.05

_log = get_logger(__name__)


class UpdateThread:
    """Runs callbacks soon, on a thread of its own.

    One that is asked for again before it has run runs once.
    """

    def __init__(self) -> None:
        self._wanted: dict[Callable[[], None], None] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def soon(self, update: Callable[[], None]) -> None:
        """Have ``update`` called on the update thread. Any thread."""
        with self._changed:
            self._wanted[update] = None
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._main, name=UPDATE_THREAD_NAME, daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def _main(self) -> None:
        pause = threading.Event()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted)
                wanted, self._wanted = list(self._wanted), {}
            for update in wanted:
                try:
                    update()
                except Exception:
                    _log.exception("a widget could not be updated")
            del wanted  # while idle it keeps no widget
            pause.wait(_SECONDS_BETWEEN)


update_thread = UpdateThread()
