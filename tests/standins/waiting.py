"""Waiting for what other threads and processes bring about."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

WAIT_SECONDS = 90.0


def until(condition: Callable[[], T]) -> T:
    """What a condition gives once it is true.

    Raises:
        AssertionError: it never was, for `WAIT_SECONDS`.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)
    return value
