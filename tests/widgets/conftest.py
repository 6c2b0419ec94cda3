"""Panels without a browser: what they would show is read from their widgets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from modelcompose_jupyter.widgets.update_thread import update_thread


def wait_until(widget: Any, holds: Callable[[], bool]) -> None:
    """Wait until something holds that a widget's traits tell of; at most 30 seconds."""
    changed = threading.Event()

    def observed(_: Any) -> None:
        if holds():
            changed.set()

    widget.observe(observed)
    try:
        if not holds():
            assert changed.wait(30)
    finally:
        widget.unobserve(observed)
    updated()


def updated() -> None:
    """Wait until the update thread has done what it was asked for until now."""
    for _ in range(2):  # an update may ask for another one
        done = threading.Event()
        update_thread.soon(done.set)
        assert done.wait(30)
