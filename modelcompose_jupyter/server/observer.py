"""Who looks on: told of runs and requests as they begin and end, for metrics and logs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..hosted_runs import HostedRuns
from ..workflow import Run
from .access import Caller


@dataclass(frozen=True)
class RequestRecord:
    """A request that is over.

    Attributes:
        method: of HTTP.
        route: its path with ``{names}`` in place of values; None where there is no such path.
        status: that was answered.
        seconds: from its first line to the end of the answer.
        caller: who it was; a guest where it was refused.
        run_id: of the run that it was about, if it was about one.
        disconnected: whether the client went before the answer ended.
    """

    method: str
    route: str | None
    status: int
    seconds: float
    caller: Caller
    run_id: str | None
    disconnected: bool


class Observer:
    """Is told what happens; it must not wait for anything."""

    def run_began(self, run: Run) -> None:
        """A run was submitted. On the thread that submits."""

    def run_ended(self, run: Run, seconds: float) -> None:
        """A run has ended, so long after it was submitted. On the host's thread."""

    def request_ended(self, record: RequestRecord) -> None:
        """A request is over. On the server's thread."""


def observe(host: HostedRuns, observers: Sequence[Observer]) -> Callable[[], None]:
    """Tell observers of the runs that a host gets from now on; returns how to stop."""

    def began(run: Run) -> None:
        submitted = time.monotonic()

        def ended(run: Run) -> None:
            seconds = time.monotonic() - submitted
            for each in observers:
                each.run_ended(run, seconds)

        for each in observers:
            each.run_began(run)
        run.add_done_callback(ended)

    return host.observe(began)
