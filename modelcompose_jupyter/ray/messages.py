"""What servers, replicas and the run directory say to each other."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..document import Document
from ..submission import Requester
from ..workflow import Event, RunOptions
from ..workflow.extension import EarlierRun

EPOCH_SIZE = 2**32
"""Events of a run have the replica's numbers, from 0, and so much for each time that it was begun
anew: all servers have the same, and they grow."""


@dataclass(frozen=True)
class Route:
    """Which replica a request is for.

    Attributes:
        replica: the one that it is for alone, if it is for one.
        refused: those that have no room for it.
        beginning: what it has in common with others that are best run in the same place.
    """

    replica: str | None = None
    refused: frozenset[str] = frozenset()
    beginning: str | None = None


@dataclass(frozen=True)
class Reader:
    """A server that reads the events of a run.

    Attributes:
        server: its name.
        linger: seconds for which the run goes on while nobody reads; None is to its end.
        after: the number of the last event that it has, as the replica counts them.
    """

    server: str
    linger: float | None
    after: int


@dataclass(frozen=True)
class Order:
    """A run that is asked for: all that its texts depend on.

    Attributes:
        id: of the run.
        document: the key of a `PackedDocument`.
        requester: who asks for it; for whom the result is, as plain data.
        beginning: as in `Route`.
    """

    id: str
    document: str
    workflow: str
    input: Any = field(repr=False)
    options: RunOptions = field(repr=False)
    earlier: EarlierRun = field(repr=False)
    metadata: Mapping[str, Any] | None
    requester: Requester
    beginning: str | None


@dataclass(frozen=True)
class PackedDocument:
    """A document on its way to a replica, with its environment variables and files."""

    content: bytes = field(repr=False)

    @classmethod
    def of(cls, document: Document) -> PackedDocument:
        return cls(pickle.dumps(document))

    @property
    def key(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def unpacked(self) -> Document:
        document: Document = pickle.loads(self.content)
        return document


# What the stream of a run consists of: `Taken` or `Refused`, then lists of events.


@dataclass(frozen=True)
class Taken:
    """The replica has the run."""

    replica: str


@dataclass(frozen=True)
class Refused:
    """The replica does not take the run, and another one may."""

    replica: str
    error: Mapping[str, Any]


@dataclass(frozen=True)
class Drafts:
    """`Run.drafts`, before the last events."""

    drafts: Mapping[tuple[str, int, int], tuple[str, Sequence[Sequence[int]]]] = field(repr=False)


Part = Taken | Refused | Drafts | list[Event]
