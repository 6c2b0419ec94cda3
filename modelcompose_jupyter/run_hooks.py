"""`on_run`: what is to be called with each run that has ended.

The thread ``modelcompose-on-run`` belongs to this module, from the first hook on: it calls them, in
the order in which runs end. No run waits for them, whatever they do.
"""

from __future__ import annotations

import atexit
import inspect
import os
import threading
from collections import deque
from collections.abc import Callable, Hashable
from functools import update_wrapper

from .errors import UsageError
from .redaction import get_logger
from .workflow import Run, Runnable

HOOK_THREAD_NAME = "modelcompose-on-run"
WAITING_BYTES = 256 * 2**20
"""Of runs whose hooks are still to be called; runs that end beyond are told to none."""
_EXIT_SECONDS = 5.0

_log = get_logger(__name__)


class RunHook:
    """What `on_run` gives: the callback, which can be called as before, until `stop`."""

    def __init__(self, callback: Callable[[Run], object], workflow: Runnable | None) -> None:
        self._callback = callback
        self._of = None if workflow is None else (workflow.document.hash, workflow.id)
        self.has_failed = False
        update_wrapper(self, callback, updated=())

    def __call__(self, run: Run) -> object:
        return self._callback(run)

    def stop(self) -> None:
        """Call back no more."""
        _hooks.remove(self)

    def wants(self, run: Run) -> bool:
        """Whether it is called with a run."""
        return self._of in (None, (run.document, run.workflow))

    @property
    def key(self) -> Hashable:
        """What it has in common with those whose place it takes."""
        found = self._callback
        if not inspect.isfunction(found) or "<" in found.__qualname__:
            return id(self)
        return found.__module__, found.__qualname__, self._of


def on_run(callback: Callable[[Run], object], workflow: Runnable | None = None) -> RunHook:
    """Call back with each run that ends from now on, however it ends, once.

    These are all runs that this process starts, for itself (calls, cells, panels, maps), here or on
    another host, and for those who ask its server. They are told in the order in which they end, on
    a thread of their own: a callback may take its time, and one that raises is logged the first
    time, and called again. One that runs a workflow is called with that run as well, so it says
    which ``workflow`` it is for. When the process ends, calls that are due have some seconds.

        @on_run
        def log(run):
            print(run.id, run.usage["generated"])

        log.stop()

    Args:
        callback: is called with the run. A function that is defined again, by the same name, takes
            the place of the former: a cell may be run again.
        workflow: of which runs, as it is declared now; all if None.

    Raises:
        UsageError: it is no function that can be called on a thread.
    """
    if not callable(callback) or _is_async(callback):
        raise UsageError(
            f"on_run takes a function, and not {callback!r}"
            if not callable(callback)
            else "what on_run calls must be an ordinary function, and this one is async",
            hint="Write 'def log(run): …', and on_run(log).",
        )
    hook = RunHook(callback, workflow)
    _hooks.add(hook)
    return hook


def _is_async(callback: Callable[[Run], object]) -> bool:
    """Whether it is called to have something that is still to be awaited."""
    return any(map(inspect.iscoroutinefunction, (callback, type(callback).__call__)))


class _Hooks:
    """The hooks of this process, and the runs that they are still to be called with."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._hooks: dict[Hashable, RunHook] = {}
        # Each with the keys of its hooks. The first stays until they have been called.
        self._ended: deque[tuple[Run, list[Hashable]]] = deque()
        self._bytes = 0
        self._is_full = False
        self._thread: threading.Thread | None = None

    def add(self, hook: RunHook) -> None:
        with self._changed:
            self._hooks[hook.key] = hook
            if self._thread is None:
                thread = threading.Thread(target=self._work, name=HOOK_THREAD_NAME, daemon=True)
                thread.start()
                self._thread = thread

    def remove(self, hook: RunHook) -> None:
        with self._changed:
            if self._hooks.get(hook.key) is hook:
                del self._hooks[hook.key]

    def run_ended(self, run: Run) -> None:
        """A run has ended. On the thread that ends it."""
        with self._changed:
            keys = [key for key, hook in self._hooks.items() if hook.wants(run)]
            was_full, is_full = self._is_full, self._bytes > WAITING_BYTES
            self._is_full = is_full
            if keys and not is_full:
                self._ended.append((run, keys))
                self._bytes += run.size
                self._changed.notify_all()
        if is_full and not was_full:
            _log.warning("what on_run calls is too slow: runs from %s on are not told", run.id)

    def _work(self) -> None:
        assert threading.current_thread().name == HOOK_THREAD_NAME
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended)
                run, keys = self._ended[0]
            for key in keys:
                hook = self._hooks.get(key)
                if hook is not None:  # none where it was stopped meanwhile
                    _call(hook, run)
            with self._changed:
                self._ended.popleft()
                self._bytes -= run.size
                self._changed.notify_all()
            del run, hook

    def finish(self, timeout: float) -> None:
        """Wait until what has ended is told, for so many seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._ended, timeout)


def _call(hook: RunHook, run: Run) -> None:
    try:
        hook(run)
    except BaseException:  # one that exits would end the thread of all
        if not hook.has_failed:
            _log.exception("what on_run calls failed at run %s, and is called again", run.id)
        hook.has_failed = True


_hooks = _Hooks()


def call_when_ended(run: Run) -> None:
    """Have the hooks called with a run when it has ended."""
    run.add_done_callback(lambda run: _hooks.run_ended(run))


# Before any host is made, so at exit after hosts have been closed, which ends their runs.
atexit.register(lambda: _hooks.finish(_EXIT_SECONDS))


def _after_fork() -> None:
    """Forget the parent's hooks: their thread is not here."""
    global _hooks
    _hooks = _Hooks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
