"""The host: a process that holds models and runs workflows. ``LocalHost`` is this one.

A panel, a command or a dashboard speaks to a Host and never knows which kind it has.

The thread ``modelcompose-host`` belongs to a LocalHost: it runs the event loop on which runs are
driven. Models generate on threads of their own.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Protocol

from .document import Document, Workflow, signature
from .errors import InputError
from .models import ModelCache, ModelInfo
from .workflow import Run, State, run_workflow
from .workflow.component import Calls

HOST_THREAD_NAME = "modelcompose-host"
_KEPT_RUNS = 200


class Host(Protocol):
    """What every host can do."""

    def submit(self, document: Document, workflow: str | None = None, input: Any = None) -> Run: ...

    def runs(self) -> list[Run]: ...

    def run(self, id: str) -> Run: ...

    def models(self) -> list[ModelInfo]: ...

    def unload(self, name: str | None = None) -> list[ModelInfo]: ...

    def close(self) -> None: ...


class LocalHost:
    """This process: models are loaded here, once, and stay until they are unloaded."""

    def __init__(self, cache: ModelCache | None = None) -> None:
        self._cache = cache or ModelCache()
        self._calls = Calls(self._cache)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._runs: OrderedDict[str, Run] = OrderedDict()

    def submit(self, document: Document, workflow: str | None = None, input: Any = None) -> Run:
        """Start a run and return it at once.

        Args:
            document: a checked document.
            workflow: the id of one of its workflows; the default one if None.
            input: the inputs by name; none if None.

        Raises:
            InputError: no such workflow, or inputs that it cannot take.
        """
        chosen = document.workflow(workflow)
        values = dict(input) if isinstance(input, Mapping) else {} if input is None else input
        signature(document, chosen).check(values)
        return self._start(document, chosen, values)

    def _start(self, document: Document, workflow: Workflow, values: Any) -> Run:
        loop = self._running_loop()
        tasks: list[asyncio.Task[None]] = []

        def start() -> None:
            assert threading.current_thread().name == HOST_THREAD_NAME
            task = loop.create_task(run_workflow(document, workflow, run, self._calls))
            task.add_done_callback(never_started)
            tasks.append(task)

        def never_started(task: asyncio.Task[None]) -> None:
            if task.cancelled():
                run.add("state", {"state": State.CANCELLED})

        def stop() -> None:
            while tasks:  # only once: a second cancel would not wait for the token in flight
                tasks.pop().cancel()

        def cancel() -> None:
            loop.call_soon_threadsafe(stop)

        run = Run(workflow.id, values, cancel)
        with self._lock:
            self._runs[run.id] = run
            self._forget_old_runs()
        loop.call_soon_threadsafe(start)
        return run

    def _forget_old_runs(self) -> None:
        ended = [id for id, run in self._runs.items() if run.done]
        for id in ended[: max(0, len(self._runs) - _KEPT_RUNS)]:
            del self._runs[id]

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name=HOST_THREAD_NAME, daemon=True
                )
                self._thread.start()
            return self._loop

    def runs(self) -> list[Run]:
        """The runs that are known, the newest first."""
        with self._lock:
            return list(reversed(self._runs.values()))

    def run(self, id: str) -> Run:
        """A run by its id, or by the beginning of it."""
        found = [run for run in self.runs() if run.id.startswith(id)]
        if len(found) != 1:
            what = "several runs begin with" if found else "there is no run"
            raise InputError(f"{what} '{id}'", code="unknown_run")
        return found[0]

    def models(self) -> list[ModelInfo]:
        """The models in memory."""
        return self._cache.list()

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

    def close(self) -> None:
        """Stop all runs, unload all models and end the host's thread."""
        for run in self.runs():
            run.cancel()
        for run in self.runs():
            run.wait(timeout=10)
        self._cache.close()
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(timeout=10)
            loop.close()


_local_host: LocalHost | None = None
_local_host_lock = threading.Lock()


def local_host() -> LocalHost:
    """The host of this process, made at its first use."""
    global _local_host
    with _local_host_lock:
        if _local_host is None:
            _local_host = LocalHost()
        return _local_host
