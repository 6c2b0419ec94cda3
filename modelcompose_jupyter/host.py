"""The host: a process that holds models and runs workflows. ``LocalHost`` is this one.

A panel, a command or a dashboard speaks to a Host and never knows which kind it has.

The thread ``modelcompose-host`` belongs to a LocalHost: it runs the event loop on which runs are
driven. Models generate on threads of their own.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import secrets
import sys
import threading
import time
from collections import OrderedDict
from typing import Any, NamedTuple, Protocol

from .document import Document, Workflow, plain, signature
from .document.expression import is_template
from .errors import ComposeError, InputError, ModelError
from .models import MemoryUse, ModelCache, ModelInfo
from .workflow import Run, State, run_workflow
from .workflow.component import Calls

HOST_THREAD_NAME = "modelcompose-host"
_KEPT_RUNS = 200
_EXIT_SECONDS = 10.0


class Host(Protocol):
    """What every host can do."""

    def submit(
        self,
        document: Document,
        workflow: str | None = None,
        input: Any = None,
        *,
        seed: int | None = None,
    ) -> Run: ...

    def rerun(self, id: str) -> Run: ...

    def runs(self) -> list[Run]: ...

    def run(self, id: str) -> Run: ...

    def models(self) -> list[ModelInfo]: ...

    def memory(self) -> MemoryUse: ...

    def unload(self, name: str | None = None) -> list[ModelInfo]: ...

    def close(self, timeout: float | None = None) -> bool: ...


class _Submitted(NamedTuple):
    """A run, and what it takes to start it again."""

    run: Run
    document: Document
    seed: int


class LocalHost:
    """This process: models are loaded here, once, and stay until they are unloaded."""

    def __init__(self, cache: ModelCache | None = None) -> None:
        self._cache = cache or ModelCache()
        self._calls = Calls(self._cache)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._runs: OrderedDict[str, _Submitted] = OrderedDict()
        self.closed = False

    def submit(
        self,
        document: Document,
        workflow: str | None = None,
        input: Any = None,
        *,
        seed: int | None = None,
    ) -> Run:
        """Start a run and return it at once.

        Args:
            document: a checked document.
            workflow: the id of one of its workflows; the default one if None.
            input: the inputs by name; none if None. They are copied, as plain data.
            seed: of the first generation, where the document gives none; drawn if None.

        Raises:
            InputError: no such workflow, or inputs that it cannot take.
            ComposeError: the host is closed.
        """
        chosen = document.workflow(workflow)
        values = plain({} if input is None else input)
        signature(document, chosen).check(values)
        # Small enough to count up from, and exact in JavaScript.
        first_seed = secrets.randbelow(2**31) if seed is None else seed
        return self._start(document, chosen, values, first_seed)

    def _start(self, document: Document, workflow: Workflow, values: Any, first_seed: int) -> Run:
        tasks: list[asyncio.Task[None]] = []

        def start() -> None:
            assert threading.current_thread().name == HOST_THREAD_NAME
            task = loop.create_task(run_workflow(document, workflow, run, self._calls, first_seed))
            task.add_done_callback(conclude)
            tasks.append(task)

        def conclude(task: asyncio.Task[None]) -> None:
            # A task that was cancelled before its first step has said nothing.
            run.add("state", {"state": State.CANCELLED if task.cancelled() else State.FAILED})

        def stop() -> None:
            while tasks:  # only once: a second cancel would not wait for the token in flight
                tasks.pop().cancel()

        def cancel() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the run
                loop.call_soon_threadsafe(stop)

        seed = workflow.jobs[0].action.parameters.get("seed", first_seed)
        run = Run(
            workflow.id, values, cancel, parameters={} if is_template(seed) else {"seed": seed}
        )
        with self._lock:
            loop = self._running_loop()
            self._runs[run.id] = _Submitted(run, document, first_seed)
            self._forget_old_runs()
            loop.call_soon_threadsafe(start)
        return run

    def _forget_old_runs(self) -> None:
        ended = [id for id, each in self._runs.items() if each.run.done]
        for id in ended[: max(0, len(self._runs) - _KEPT_RUNS)]:
            del self._runs[id]

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self.closed:
            raise ComposeError(
                "the host is closed", hint="local_host() gives a new one.", code="host_closed"
            )
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._loop.run_forever, name=HOST_THREAD_NAME, daemon=True
            )
            self._thread.start()
            # A process that ends under a model's thread is aborted by the libraries below.
            atexit.register(self.close, _EXIT_SECONDS)
        return self._loop

    def runs(self) -> list[Run]:
        """The runs that are known, the newest first."""
        with self._lock:
            return [each.run for each in reversed(self._runs.values())]

    def run(self, id: str) -> Run:
        """A run by its id, or by the beginning of it."""
        return self._find(id).run

    def rerun(self, id: str) -> Run:
        """Run again what a run was given: document, workflow, input and seed.

        Raises:
            InputError: there is no such run.
        """
        run, document, seed = self._find(id)
        return self.submit(document, run.workflow, run.input, seed=seed)

    def _find(self, id: str) -> _Submitted:
        with self._lock:
            found = [each for each in self._runs.values() if each.run.id.startswith(id)]
        if len(found) != 1:
            what = "several runs begin with" if found else "there is no run"
            raise InputError(f"{what} '{id}'", code="unknown_run")
        return found[0]

    def models(self) -> list[ModelInfo]:
        """The models in memory."""
        return self._cache.list()

    def memory(self) -> MemoryUse:
        """What this process holds, of its own memory and of devices'."""
        return self._cache.memory()

    def limit(self, memory_budget: int | None, idle_timeout: float | None) -> None:
        """Bound what is kept in memory.

        Args:
            memory_budget: bytes of weights; None is as many as fit.
            idle_timeout: seconds after which an idle model goes; None is never.
        """
        self._cache.memory_budget = memory_budget
        self._cache.idle_timeout = idle_timeout

    def unload(self, name: str | None = None) -> list[ModelInfo]:
        """Give back the memory of a model, or of all that no run uses.

        Args:
            name: a model's id or source; None is all.

        Returns:
            The models that were unloaded.

        Raises:
            ModelError: there is none of that name, or a run uses it.
        """
        return self._cache.unload(name)

    def close(self, timeout: float | None = None) -> bool:
        """Stop all runs, unload all models and end the host's threads. Idempotent.

        Returns:
            Whether all of that was done within ``timeout`` seconds; None waits for ever.
        """
        with self._lock:
            self.closed = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        end = None if timeout is None else time.monotonic() + timeout

        def left() -> float | None:
            return None if end is None else max(0.0, end - time.monotonic())

        for run in self.runs():
            run.cancel()
        if loop is not None:
            with contextlib.suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(_end_tasks(), loop).result(left())
        ended = self._cache.close(left())
        if loop is not None and thread is not None:
            atexit.unregister(self.close)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(left())
            if thread.is_alive():
                return False
            loop.close()
        return ended


async def _end_tasks() -> None:
    """Cancel what still runs on the host's loop, and wait for it."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


_local_host: LocalHost | None = None
_local_host_lock = threading.Lock()
_forked_from_torch = False


def local_host() -> LocalHost:
    """The host of this process, made at its first use and again after it was closed.

    Raises:
        ModelError: this process was forked from one that had torch, and cannot use it.
    """
    global _local_host
    if _forked_from_torch:
        raise ModelError(
            "this process was forked from one that uses torch, and its models cannot run here",
            hint='Use multiprocessing.get_context("spawn").',
            code="forked",
        )
    with _local_host_lock:
        if _local_host is None or _local_host.closed:
            _local_host = LocalHost()
        return _local_host


def _after_fork() -> None:
    """Forget the parent's host: its threads are not here."""
    global _local_host, _local_host_lock, _forked_from_torch
    if _local_host is not None:
        atexit.unregister(_local_host.close)
    _local_host, _local_host_lock = None, threading.Lock()
    _forked_from_torch = "torch" in sys.modules


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
