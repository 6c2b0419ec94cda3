"""The host: a process that holds models and runs workflows. ``LocalHost`` is this one.

The thread ``modelcompose-host`` belongs to a LocalHost: it runs the event loop on which runs are
driven. Models generate on threads of their own.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from types import EllipsisType
from typing import Any, Protocol, Unpack

from .document import Document, Workflow, check_functions, functions_of, signature
from .document.to_plain import to_plain
from .errors import ComposeError, ModelError, shortened
from .hosted_runs import HostedRuns
from .models import MOST_SEQUENCES, MemoryUse, ModelCache, ModelInfo
from .run_hooks import call_when_ended
from .seeds import draw_seed
from .submission import Submission
from .tools import FunctionStep
from .user_limits import UserLimits
from .workflow import Run, RunOptions, State, run_workflow
from .workflow.component import ComponentCaller
from .workflow.formatted import check_formattable
from .workflow.model_access import LocalModels, ModelAccess
from .workflow.options import checked
from .workflow.questions import Questions
from .workflow.scoring import check_scorable

HOST_THREAD_NAME = "modelcompose-host"
SERVING_LIMITS: Mapping[str, Any] = {
    "max_runs": 256,
    "max_generations": 10_000,
    "max_run_seconds": 3600.0,
    "run_ttl": 3600.0,
}
"""What bounds a host that is there for others, unless its owner says otherwise; see `limit`."""

RESERVED_RUNS = 16
"""Of ``max_runs``, that guests leave to the owner: a notebook's cells and a few programs. Half of
them where there are fewer."""

_EXIT_SECONDS = 10.0
_SWEEP_SECONDS = 60.0  # between looks at whose time is over, where nobody asks


class Host(Protocol):
    """What every host can do, and all that surfaces know of it, unless it is ``closed``."""

    closed: bool

    def submit(
        self,
        document: Document,
        workflow: str | None = None,
        input: Any = None,
        **options: Unpack[RunOptions],
    ) -> Run: ...

    def rerun(self, id: str) -> Run: ...

    def extend(self, id: str, tokens: int | None = None) -> Run: ...

    def branch(self, id: str, token: int, alternative: int, text: int = 0) -> Run: ...

    def runs(self) -> list[Run]: ...

    def own_runs(self) -> list[Run]: ...

    def run(self, id: str) -> Run: ...

    def models(self) -> list[ModelInfo]: ...

    def memory(self) -> MemoryUse: ...

    def capacity(self) -> int: ...

    def unload(self, name: str | None = None) -> list[ModelInfo]: ...

    def close(self, timeout: float | None = None) -> bool: ...


def validate_run(
    document: Document, workflow: str | None, input: Any, options: Mapping[str, Any] | None = None
) -> tuple[Workflow, Any, RunOptions]:
    """The workflow, the input, as plain data, and the options of a run that can be started.

    Raises:
        InputError: no such workflow, functions that are not there, or inputs or options that it
            cannot take.
    """
    chosen = document.workflow(workflow)
    check_functions(document, chosen)
    values = signature(document, chosen).validate(to_plain({} if input is None else input))
    asked = checked(options or {})
    if "score" in asked:
        check_scorable(document, chosen)
    if "format" in asked:
        check_formattable(document, chosen)
    return chosen, values, asked


def _check_here(document: Document, workflow: Workflow, steps: Mapping[str, FunctionStep]) -> None:
    """Raise ComposeError for a workflow whose functions are not in this process."""
    for name, path in functions_of(document, workflow).items():
        if name not in steps:
            raise ComposeError(
                f"the function '{shortened(name)}' is not in the process that is to run it",
                hint="Functions run where the document is declared or served, and nowhere else.",
                code="unknown_function",
                where=document.where(path, within=name),
            )


def new_run(
    document: Document,
    workflow: Workflow,
    values: Any,
    options: RunOptions,
    cancel: Callable[[], None],
    answer: Callable[[str, Any], None],
    metadata: Mapping[str, Any] | None = None,
    id: str | None = None,
) -> Run:
    """A run that has not begun, of what `validate_run` gave, with a seed among the options. Its
    input is as it may be shown."""
    calls = list(document.model_calls(workflow))
    written = calls[0].action.parameters.get("seed") if calls else None
    known = options["seed"] if written is None else written.value
    shown, hidden = signature(document, workflow).masked(values)
    return Run(
        workflow.id,
        shown,
        cancel,
        answer,
        id=id,
        parameters={} if isinstance(known, str) else {"seed": known},
        metadata=metadata,
        secrets=hidden,
        document=document.hash,
    )


class _RunTask:
    """The task that drives a run, on the host's loop.

    Attributes:
        run: set before it is started.
        loop: None until there is one.
    """

    run: Run

    def __init__(self, drive: Callable[[Run], Coroutine[Any, Any, None]]) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._drive = drive
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """On the loop; a run that was stopped before does not begin."""
        assert threading.current_thread().name == HOST_THREAD_NAME
        if not self.run.done:
            self._task = asyncio.get_running_loop().create_task(self._drive(self.run))
            self._task.add_done_callback(self._conclude)

    def cancel(self) -> None:
        """Stop the run; from any thread."""
        if self.loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the run
                self.loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        if self.run.state is State.QUEUED:
            self.run.add("state", {"state": State.CANCELLED})
        task, self._task = self._task, None
        if task is not None:  # only once: a second cancel would not wait for the token in flight
            task.cancel()

    def _conclude(self, task: asyncio.Task[None]) -> None:
        # A task that was cancelled before its first step has said nothing.
        state = State.CANCELLED if task.cancelled() else State.FAILED
        self.run.add("state", {"state": state})


class LocalHost(HostedRuns):
    """This process: models are loaded here, once, and stay until they are unloaded.

    Args:
        cache: of these models.
        models: those that calls go to, where they are others.
    """

    def __init__(self, cache: ModelCache | None = None, models: ModelAccess | None = None) -> None:
        super().__init__()
        self._cache = cache or ModelCache()
        self._calls = ComponentCaller(models or LocalModels(self._cache))
        self._users = UserLimits()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._max_run_seconds: float | None = None
        self._max_runs: int | None = None
        self._max_generations: int | None = None

    def start(self, submission: Submission) -> Run:
        document, requester = submission.document, submission.requester
        steps = submission.steps
        # Who asks from elsewhere has nothing run here.
        functions = submission.functions if requester.is_this_process else {}
        chosen, values, asked = validate_run(
            document, submission.workflow, submission.input, submission.options
        )
        _check_here(document, chosen, steps)
        first_seed = asked.setdefault("seed", draw_seed())
        assert first_seed is not None
        seconds = self._max_run_seconds
        generations = None if requester.owed_to is None else self._max_generations
        # The run keeps what drives it, which may not keep all that was submitted.
        group, user, earlier = requester.group, requester.user, submission.earlier
        questions = Questions()
        task = _RunTask(
            lambda run: run_workflow(
                document,
                chosen,
                values,
                run,
                self._calls,
                first_seed,
                seconds,
                generations,
                group,
                asked,
                earlier,
                functions,
                steps,
                questions,
                self._users.turn(user, run),
            )
        )
        task.run = run = new_run(
            document, chosen, values, asked, task.cancel, questions.answer, submission.metadata,
            submission.id,
        )  # fmt: skip
        try:
            with self._lock:
                task.loop = self._running_loop()
                self._check_busy(requester.is_guest)
                if user is not None:
                    self._users.begin(user)
                    run.add_done_callback(lambda run: self._users.end(user, run.usage))
                started = replace(submission, input=values, options=asked, functions=functions)
                self.run_store.add(run, started)
            call_when_ended(run)
            self._tell_observers(run)
            with self._lock:
                self._running_loop().call_soon_threadsafe(task.start)
        except BaseException:
            run.cancel()  # an interrupt at any place: no run stays that never starts
            raise
        return run

    def _check_busy(self, is_guest: bool) -> None:
        if self._max_runs is None:
            return
        most = self._max_runs
        if is_guest:
            most -= min(RESERVED_RUNS, most // 2)
            self._make_room_for_guest(most)
        going = sum(run.state is not State.INTERRUPTED for run in self.run_store.going())
        if going >= most:
            raise ComposeError(
                f"the host is busy: {going} runs have not ended, and it takes {most}"
                + (" where a guest asks" if most < self._max_runs else ""),
                hint="Try again when one of them has ended, or stop one.",
                code="busy",
            )

    def _make_room_for_guest(self, most: int) -> None:
        """Give up the guests' run that has waited longest for an answer, where as many wait as may
        run. They may wait for hours, and so hold no places that others need."""
        guests = self.run_store.going(lambda kept: kept.requester.is_guest)
        waiting = [run for run in guests if run.state is State.INTERRUPTED]
        if waiting and len(waiting) >= most:
            waiting[0].cancel()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self.closed:
            raise ComposeError(
                "the host is closed", hint="local_host() gives a new one.", code="host_closed"
            )
        if self._loop is None:
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name=HOST_THREAD_NAME, daemon=True)
            thread.start()
            # A process that ends under a model's thread is aborted by the libraries below.
            atexit.register(self.close, _EXIT_SECONDS)
            loop.call_soon_threadsafe(self._sweep, loop)
            self._thread, self._loop = thread, loop  # last: an interrupt leaves nothing half made
        return self._loop

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self.run_store.expire()
        loop.call_later(_SWEEP_SECONDS, self._sweep, loop)

    def models(self) -> list[ModelInfo]:
        """The models in memory."""
        return self._cache.list()

    def memory(self) -> MemoryUse:
        """What this process holds, of its own memory and of devices'."""
        return self._cache.memory()

    def capacity(self) -> int:
        return min(MOST_SEQUENCES, self._max_runs or MOST_SEQUENCES)

    def limit(
        self,
        memory_budget: int | EllipsisType | None = ...,
        idle_timeout: float | EllipsisType | None = ...,
        *,
        cache_budget: int | EllipsisType | None = ...,
        max_output_length: int | EllipsisType | None = ...,
        max_run_seconds: float | EllipsisType | None = ...,
        max_runs: int | EllipsisType | None = ...,
        max_generations: int | EllipsisType | None = ...,
        run_ttl: float | EllipsisType | None = ...,
        max_user_running: int | EllipsisType | None = ...,
        max_user_runs: int | EllipsisType | None = ...,
        max_user_tokens: int | EllipsisType | None = ...,
    ) -> None:
        """Bound what the host does and keeps; what is not named stays as it is.

        Args:
            memory_budget: bytes of weights in memory; None is as many as fit.
            idle_timeout: seconds after which an idle model goes; None is never.
            cache_budget: bytes of keys and values of each model that is loaded from now on, where
                its component does not say; None is what is free.
            max_output_length: tokens of a text; a request for more, or for no number, gets so many
                and a warning. None leaves it to the request.
            max_run_seconds: seconds after which a run is stopped and fails with the code
                ``timeout``, from when it was submitted; None is never.
            max_runs: runs that have not ended; a submit beyond raises a ComposeError with the code
                ``busy``, a guest's somewhat earlier (`RESERVED_RUNS`). None is any number.
            max_generations: texts that one run may generate which is owed to somebody; it fails
                with the code ``too_many_generations`` before it begins more. None is any number,
                and so many may the runs have that this process starts for itself.
            run_ttl: seconds after which a run that has ended is forgotten; None keeps it as long
                as there is room; see `RunStore`.
            max_user_running, max_user_runs, max_user_tokens: of each user whose name is known: runs
                at a time, the others wait; runs that have not ended; tokens a minute. A submit
                beyond the latter two raises a ComposeError with the code ``busy``. See
                `UserLimits`.
        """
        for owner, name, value in (
            (self._cache, "memory_budget", memory_budget),
            (self._cache, "idle_timeout", idle_timeout),
            (self._cache, "cache_budget", cache_budget),
            (self._cache, "max_output_length", max_output_length),
            (self, "_max_run_seconds", max_run_seconds),
            (self, "_max_runs", max_runs),
            (self, "_max_generations", max_generations),
            (self.run_store, "ttl", run_ttl),
            (self._users, "max_running", max_user_running),
            (self._users, "max_runs", max_user_runs),
            (self._users, "tokens_per_minute", max_user_tokens),
        ):
            if value is not ...:
                setattr(owner, name, value)

    def unload(self, name: str | None = None) -> list[ModelInfo]:
        """Give back the memory of a model, by its id or source, or of all that no run uses; returns
        those that were unloaded.

        Raises:
            ModelError: there is none of that name, or a run uses it.
        """
        return self._cache.unload(name)

    def close(self, timeout: float | None = None) -> bool:
        """Stop all runs, unload all models and end the host's threads; returns whether that was
        done within ``timeout`` seconds. None waits for ever. Idempotent."""
        with self._lock:
            self.closed = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        end = None if timeout is None else time.monotonic() + timeout

        def left() -> float | None:
            return None if end is None else max(0.0, end - time.monotonic())

        for run in self.run_store.going():
            run.cancel()
        if loop is not None:
            with contextlib.suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(_end_tasks(), loop).result(left())
        self.run_store.close()
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
