"""The runs of a host: which it knows, who is told of new ones, and how one goes on from them."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from .document import Document
from .redaction import get_logger
from .run_store import Forgotten, Kept, RunStore
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
        self.run_store = RunStore()
        self.closed = False
        self.begun_anew: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._observers: list[Callable[[Run], None]] = []

    @abstractmethod
    def _submit(
        self,
        document: Document,
        workflow: str | None,
        input: Any,
        options: RunOptions,
        earlier: EarlierRun,
        owed_to: Any,
        metadata: Mapping[str, Any] | None,
        is_guest: bool,
        user: str | None,
        functions: Mapping[str, FunctionTool],
        steps: Mapping[str, FunctionStep],
    ) -> Run:
        """Start a run, keep it in the store and tell the observers of it."""

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
        return self.run_store.runs(lambda kept: kept.owed_to is None)

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
        owed_to: Any = None,
        metadata: Mapping[str, Any] | None = None,
        is_guest: bool = False,
        user: str | None = None,
    ) -> Run:
        """Run again what a run was given: document, workflow, input and seed.

        Its id may be the beginning of it; what else is given is of the new run, as in `submit`.

        Raises:
            InputError: there is no such run, or it is forgotten.
        """
        kept = self.run_store.named(id)
        run = self.run_store.load(kept)
        return self._again(kept, run, kept.options, EarlierRun(), owed_to, metadata, is_guest, user)

    def extend(
        self,
        id: str,
        tokens: int | None = None,
        *,
        owed_to: Any = None,
        metadata: Mapping[str, Any] | None = None,
        is_guest: bool = False,
        user: str | None = None,
    ) -> Run:
        """Go on from a run, where a limit has cut its text: the same run with a higher limit.

        Its texts are what one run with that limit gives; what there is of them is read, not
        generated again. Those that ended otherwise stay as they are.

        Args:
            id: the run's, or the beginning of it.
            tokens: how many more each text may have; as many again as the limit was if None, or as
                the model's context has room for.
            owed_to, metadata, is_guest, user: of the new run, as in `submit`.

        Raises:
            InputError: there is no such run, it is forgotten, or it cannot go on: it has not
                completed, nothing was cut, or there is no room (``not_extendable``).
        """
        kept = self.run_store.named(id)
        run = self.run_store.load(kept)
        options, earlier = extension(run, kept.options, tokens)
        return self._again(kept, run, options, earlier, owed_to, metadata, is_guest, user)

    def branch(
        self,
        id: str,
        token: int,
        alternative: int,
        text: int = 0,
        *,
        owed_to: Any = None,
        metadata: Mapping[str, Any] | None = None,
        is_guest: bool = False,
        user: str | None = None,
    ) -> Run:
        """Go on from another token of a run's text: the same run with that token in that place.

        What comes before it is given, and is not read again where it is still known.

        Args:
            id: the run's, or the beginning of it; log-probabilities were asked of it.
            token: which token of the text, from 0.
            alternative: the id of the token to go on from.
            text: which of the run's texts, from 0.
            owed_to, metadata, is_guest, user: of the new run, as in `submit`.

        Raises:
            InputError: there is no such run or token, the run is forgotten, has not ended, or its
                tokens are not known (``no_tokens``).
        """
        kept = self.run_store.named(id)
        run = self.run_store.load(kept)
        options, earlier = branch(run, kept.options, token, alternative, text)
        return self._again(kept, run, options, earlier, owed_to, metadata, is_guest, user)

    def _again(
        self,
        kept: Kept,
        run: Run,
        options: RunOptions,
        earlier: EarlierRun,
        owed_to: Any,
        metadata: Mapping[str, Any] | None,
        is_guest: bool,
        user: str | None,
    ) -> Run:
        input = run.input if kept.given is None else kept.given
        return self._submit(
            kept.document, run.workflow, input, options, earlier, owed_to, metadata, is_guest, user,
            kept.functions, kept.steps,
        )  # fmt: skip

    async def accepted(self, run: Run) -> None:  # noqa: B027 - hosts that know at once do nothing
        """Wait until it is certain that a run which was submitted will be run.

        Raises:
            ComposeError: there is no room for it (``busy``).
        """

    async def find(
        self, id: str, owed_to: Callable[[Mapping[str, Any]], Any]
    ) -> Kept | Forgotten | None:
        """What is known of a run by its id, wherever it was submitted; None of others.

        Args:
            id: the run's.
            owed_to: for whom a run is that was submitted elsewhere, of what is kept of that there.
        """
        return self.run_store.find(id)

    async def goes_on_without(self) -> bool:
        """Whether runs go on where the server of this host ends: others offer the same ones."""
        return False
