"""Threads with a deep stack: a library that goes by recursion through what strangers write needs
one, since the process ends where the stack does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

STACK = 64 << 20
"""Bytes; what is not used takes no memory."""

T = TypeVar("T")

_lock = threading.Lock()


def start(thread: threading.Thread) -> None:
    """Start a thread with a deep stack."""
    with _lock:
        before = threading.stack_size(STACK)
        try:
            thread.start()
        finally:
            threading.stack_size(before)


def call(function: Callable[[], T]) -> T:
    """What a function gives that runs on such a thread; waits for it."""
    given: Future[T] = Future()

    def run() -> None:
        try:
            given.set_result(function())
        except BaseException as error:
            given.set_exception(error)

    start(threading.Thread(target=run, name="modelcompose-deep", daemon=True))
    return given.result()
