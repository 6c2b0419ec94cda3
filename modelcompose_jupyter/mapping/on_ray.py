"""How many rows are to be run on a Ray cluster: what ``on`` of a map may be. Imports no Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError


@dataclass(frozen=True)
class OnRay:
    """A Ray cluster, and what workers there have.

    Attributes:
        address: ``HOST:PORT`` of its head, or ``auto`` for the cluster that this machine is a node
            of; one is started on this machine if None.
        workers: how many there are, each with a host and models of its own, or the least and the
            most; one for each GPU, or else for each node, if None.
        cpus: of each worker; as many as there are for so many workers if None.
        gpus: of each worker; one where the cluster has any if None. 0.5 lets two share one.

    Raises:
        InputError: CPUs or GPUs are less than none.
    """

    address: str | None = None
    workers: int | tuple[int, int] | None = None
    cpus: float | None = None
    gpus: float | None = None

    def __post_init__(self) -> None:
        for name, each in (("CPUs", self.cpus), ("GPUs", self.gpus)):
            if each is not None and not each >= 0:
                raise InputError(f"a worker has no {each:g} {name}", hint="It has 0 or more.")

    @classmethod
    def of(cls, given: str | OnRay) -> OnRay:
        """What ``on`` says: ``"ray"``, ``"ray:HOST:PORT"``, ``"ray:auto"``, or itself.

        Raises:
            InputError: it is something else.
        """
        if isinstance(given, OnRay):
            return given
        name, _, address = given.partition(":")
        if name != "ray":
            raise InputError(
                f"rows are not run on '{given}'",
                hint='There is on="ray", which starts Ray on this machine, on="ray:HOST:PORT" '
                "and OnRay(…).",
            )
        return cls(address or None)

    @property
    def range_of_workers(self) -> tuple[int, int] | None:
        """The least and the most workers; None where nobody says.

        Raises:
            InputError: there can be none so many.
        """
        if self.workers is None:
            return None
        least, most = self.workers if isinstance(self.workers, tuple) else (self.workers,) * 2
        if not 1 <= least <= most:
            raise InputError(f"there is one worker or more, and not {self.workers}")
        return least, most


def share_of_cores(free: Sequence[float], workers: int) -> int:
    """The most cores that so many workers can have each, of those that are free on nodes; 1 where
    there are not even as many."""
    most = int(max(free, default=1))
    shares = range(most, 0, -1)
    return next((n for n in shares if sum(each // n for each in free) >= workers), 1)
