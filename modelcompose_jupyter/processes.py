"""Processes of this computer: whether they are alive, and how they are ended.

A pid is used again once its process has ended. So a process is a ``psutil.Process``, which knows
when it started, or a pid with the time of its start where it is written down.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

import psutil

_POLL_SECONDS = 0.05
_EXIT_SECONDS = 3.0
_CLOCK_SECONDS = 1.0  # by which two programs may differ over when a process started


def find_process(pid: int, started: float | None = None) -> psutil.Process | None:
    """The process that has a pid and, where that matters, started at a time in seconds since the
    epoch; None where there is none."""
    with contextlib.suppress(psutil.Error, ValueError, OverflowError):
        process = psutil.Process(pid)
        if started is None or abs(process.create_time() - started) < _CLOCK_SECONDS:
            return process
    return None


def own_start() -> float:
    """When this process started, in seconds since the epoch."""
    return float(psutil.Process().create_time())


def is_alive(process: psutil.Process | None) -> bool:
    """Whether a process has not ended.

    A zombie has: in a container, say, there may be no init that reaps it.
    """
    if process is None:
        return False
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def descendants(process: psutil.Process | None) -> list[psutil.Process]:
    """All processes that a process has started, and these have."""
    if process is None:
        return []
    with contextlib.suppress(psutil.Error):
        return process.children(recursive=True)
    return []


def wait_for_exit(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait for processes to end; returns those that are alive after so many seconds."""
    deadline = time.monotonic() + seconds
    alive = [each for each in processes if is_alive(each)]
    while alive and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        alive = [each for each in alive if is_alive(each)]
    return alive


def terminate(processes: Iterable[psutil.Process]) -> None:
    """Ask processes to end."""
    for each in processes:
        with contextlib.suppress(psutil.Error):
            each.terminate()


def end_all(processes: Iterable[psutil.Process]) -> None:
    """Wait for processes to end, and kill those that do not."""
    alive = wait_for_exit(processes, _EXIT_SECONDS)
    for each in alive:
        with contextlib.suppress(psutil.Error):
            each.kill()
    wait_for_exit(alive, _EXIT_SECONDS)
