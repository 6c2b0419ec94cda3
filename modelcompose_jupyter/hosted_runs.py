"""The runs of a host: which it knows, who is told of new ones, and how one goes on from them."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Unpack

from .document import Document
from .models import MemoryUse, ModelInfo
from .redaction import get_logger
from .run_store import Forgotten, Kept, RunStore
from .submission import THIS_PROCESS, Requester, Submission
from .tools import FunctionStep, FunctionTool
from .workflow import Run, RunOptions
from .workflow.branching import branch
from .workflow.extension import EarlierRun, extension

_log = get_logger(__name__)


class HostedRuns(ABC):
    """What hosts have in common that keep the runs that they are asked for.

    Attributes:
        run_store: the runs that it knows.
        closed: whether it takes no more.
        begun_anew: how many runs were, by their workflows, since what had them was lost.
    """

    def __init__(self) -> None:
        self.run_store: RunStore = RunStore()
        self.closed: bool = False
        self.begun_anew: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._observers: list[Callable[[Run], None]] = []

    @abstractmethod
    def start(self, submission: Submission) -> Run:
        """Start a run, keep it in the store and tell the observers of it; see `submit`."""

    @abstractmethod
    def models(self) -> list[ModelInfo]:
        """The models in memory."""

    @abstractmethod
    def memory(self) -> MemoryUse:
        """What is held, of the processes' own memory and of devices'."""

    @abstractmethod
    def capacity(self) -> int:
        """How many runs it can be given at once: as many as are computed together, of those that it
        takes. More would only wait. May be asked often; it never waits."""

    @abstractmethod
    def unload(self, name: str | None = None) -> list[ModelInfo]:
        """Take a model out of memory, or all if None; returns which."""

    @abstractmethod
    def close(self, timeout: float | None = None) -> bool:
        """Stop the runs and take no more; returns whether all has ended within so many seconds."""

    def submit(
        self,
        document: Document,
        workflow: str | None = None,
        input: Any = None,
        *,
        requester: Requester = THIS_PROCESS,
        metadata: Mapping[str, Any] | None = None,
        functions: Mapping[str, FunctionTool] | None = None,
        steps: Mapping[str, FunctionStep] | None = None,
        **options: Unpack[RunOptions],
    ) -> Run:
        """Start a run and return it at once. Where others compute it, whether there is room for it
        is known when it is `accepted`.

        Args:
            document: a checked document.
            workflow: the id of one of its workflows; the default one if None.
            input: the inputs by name; none if None. They are copied, as plain data.
            requester: who asks for it.
            metadata: what the run keeps as it is.
            functions: the tools that models may have called here, by their names; only of runs that
                this process starts for itself and computes. Calls of others are returned.
            steps: the functions that jobs call, by their names, whoever asks for the run: they are
                those of whoever declares the document here.
            options: what else is asked for.

        Raises:
            InputError: no such workflow, or inputs or options that it cannot take.
            ComposeError: the host is closed, or busy with as many runs as it may have.
        """
        return self.start(
            Submission(
                document,
                workflow,
                input,
                options,
                requester=requester,
                metadata=metadata,
                functions=functions or {},
                steps=steps or {},
            )
        )

    def observe(self, callback: Callable[[Run], None]) -> Callable[[], None]:
        """Call back with each new run, on the thread that submits it; returns how to stop.

        The run has not begun yet, so whoever watches it from there misses nothing. A callback that
        raises is logged, and harms nothing.
        """
        with self._lock:
            self._observers.append(callback)

        def leave() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._observers.remove(callback)

        return leave

    def _tell_observers(self, run: Run) -> None:
        with self._lock:
            observers = list(self._observers)
        for observer in observers:
            try:
                observer(run)
            except Exception:
                _log.exception("an observer failed at run %s", run.id)

    def runs(self) -> list[Run]:
        """The runs that are known and in memory, the newest first."""
        return self.run_store.runs()

    def own_runs(self) -> list[Run]:
        """The runs that this process started for itself, the newest first."""
        return self.run_store.runs(lambda kept: kept.requester.owed_to is None)

    def run(self, id: str) -> Run:
        """A run by its id, or by the beginning of it.

        Raises:
            InputError: there is none (``unknown_run``), or it is forgotten (``gone``).
        """
        return self.run_store.load(self.run_store.named(id))

    def rerun(
        self,
        id: str,
        *,
        requester: Requester = THIS_PROCESS,
        metadata: Mapping[str, Any] | None = None,
    ) -> Run:
        """Run again what a run was given: document, workflow, input and seed.

        Its id may be the beginning of it; what else is given is of the new run, as in `submit`.

        Raises:
            InputError: there is no such run, or it is forgotten.
        """
        kept = self.run_store.named(id)
        run = self.run_store.load(kept)
        return self._again(kept, run, kept.submission.options, EarlierRun(), requester, metadata)

    def extend(
        self,
        id: str,
        tokens: int | None = None,
        *,
        requester: Requester = THIS_PROCESS,
        metadata: Mapping[str, Any] | None = None,
    ) -> Run:
        """Go on from a run, where a limit has cut its text: the same run with a higher limit.

        Its texts are what one run with that limit gives; what there is of them is read, not
        generated again. Those that ended otherwise stay as they are.

        Args:
            id: the run's, or the beginning of it.
            tokens: how many more each text may have; as many again as the limit was if None, or as
                the model's context has room for.
            requester, metadata: of the new run, as in `submit`.

        Raises:
            InputError: there is no such run, it is forgotten, or it cannot go on: it has not
                completed, nothing was cut, or there is no room (``not_extendable``).
        """
        kept = self.run_store.named(id)
        run = self.run_store.load(kept)
        options, earlier = extension(run, kept.submission.options, tokens)
        return self._again(kept, run, options, earlier, requester, metadata)

    def branch(
        self,
        id: str,
        token: int,
        alternative: int,
        text: int = 0,
        *,
        requester: Requester = THIS_PROCESS,
        metadata: Mapping[str, Any] | None = None,
    ) -> Run:
        """Go on from another token of a run's text: the same run with that token in that place.

        What comes before it is given, and is not read again where it is still known.

        Args:
            id: the run's, or the beginning of it; log-probabilities were asked of it.
            token: which token of the text, from 0.
            alternative: the id of the token to go on from.
            text: which of the run's texts, from 0.
            requester, metadata: of the new run, as in `submit`.

        Raises:
            InputError: there is no such run or token, the run is forgotten, has not ended, or its
                tokens are not known (``no_tokens``).
        """
        kept = self.run_store.named(id)
        run = self.run_store.load(kept)
        options, earlier = branch(run, kept.submission.options, token, alternative, text)
        return self._again(kept, run, options, earlier, requester, metadata)

    def _again(
        self,
        kept: Kept,
        run: Run,
        options: RunOptions,
        earlier: EarlierRun,
        requester: Requester,
        metadata: Mapping[str, Any] | None,
    ) -> Run:
        first = kept.submission
        return self.start(
            replace(
                first,
                input=run.input if first.input is None else first.input,
                options=options,
                earlier=earlier,
                requester=requester,
                metadata=metadata,
            )
        )

    async def accepted(self, run: Run) -> None:  # noqa: B027 - hosts that know at once do nothing
        """Wait until it is certain that a run which was submitted will be run.

        Raises:
            ComposeError: there is no room for it (``busy``).
        """

    async def find(
        self, id: str, restore: Callable[[Mapping[str, Any]], Any]
    ) -> Kept | Forgotten | None:
        """What is known of a run by its id, wherever it was submitted; None of others.

        Args:
            id: the run's.
            restore: gives for whom a run is that was submitted elsewhere, of what is kept of that
                there.
        """
        return self.run_store.find(id)

    async def goes_on_without(self) -> bool:
        """Whether runs go on where the server of this host ends: others offer the same ones."""
        return False
