"""Threads that compute together."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import psutil

from .build import kernels


class ThreadPool:
    """Threads for steps in C; they are made when they are needed, and end with this.

    Attributes:
        address: of the pool, in C. One thread may call with it at a time.
    """

    def __init__(self) -> None:
        library = kernels()
        assert library is not None
        self.address = library.pool_make()
        if not self.address:
            raise MemoryError("no memory for threads")
        # Not when the process ends: a step may be going on then.
        weakref.finalize(self, library.pool_end, self.address).atexit = False


@contextmanager
def common_pool() -> Iterator[ThreadPool]:
    """That of all who call now and then; theirs alone meanwhile."""
    with _lock:
        yield _common()


_lock = threading.Lock()


@cache
def _common() -> ThreadPool:
    return ThreadPool()


def _begin_anew() -> None:
    """In a process that was forked off: another thread may have held the lock, and is not here."""
    global _lock
    _lock = threading.Lock()
    _common.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def usual_threads() -> int:
    """The number where nobody says: one for each core that this process may use."""
    named = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if named.isdecimal() and int(named):
        return min(int(named), 4 * (os.cpu_count() or 1))
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(psutil.cpu_count(logical=False) or 1, allowed or 1))
