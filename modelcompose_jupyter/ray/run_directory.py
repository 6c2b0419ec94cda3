"""Which runs a cluster has, where each is, and what it takes to run it again.

One actor has it, which all servers and replicas of an application ask. It has no texts: those are
in the replicas, and in the servers that were asked for them.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .messages import Order, PackedDocument

KEPT_RUNS = 20_000
KEPT_BYTES = 256 * 2**20
"""Of what runs were asked for."""
KEPT_DOCUMENTS = 200
SERVER_SECONDS = 10.0
"""After which a server is gone that says nothing; they say something every third of it."""
_PLACED_SECONDS = 10.0


@dataclass(frozen=True)
class Entry:
    """A run.

    Attributes:
        order: what was asked for.
        size: of that, in bytes, about.
        epoch: how often it was begun anew.
        replica: where it is; None until it is somewhere.
        answers: to its questions, by their ids: where it is begun anew they are given again.
    """

    order: Order
    size: int
    epoch: int = 0
    replica: str | None = None
    answers: Mapping[str, Any] = field(default_factory=dict, repr=False)


class RunDirectory:
    """See the module. On one event loop.

    Args:
        ttl: seconds for which runs that have ended are known; None is as long as there is room.
    """

    def __init__(self, ttl: float | None = None) -> None:
        self._ttl = ttl
        self._name = secrets.token_hex(8)
        self._runs: OrderedDict[str, Entry] = OrderedDict()  # those longest not touched first
        self._bytes = 0
        self._ended: OrderedDict[str, float] = OrderedDict()  # when, of the monotonic clock
        self._documents: OrderedDict[str, PackedDocument] = OrderedDict()
        self._servers: dict[str, float] = {}
        self._placed = asyncio.Condition()

    # Servers

    async def greet(self, server: str) -> str:
        """A server is there. Returns what tells this directory from another one that was here
        before, and knew more."""
        self._servers[server] = time.monotonic()
        return self._name

    async def part(self, server: str) -> int:
        """A server goes. Returns how many others there are."""
        self._servers.pop(server, None)
        return len(await self.servers())

    async def servers(self) -> list[str]:
        """Those that are there."""
        since = time.monotonic() - SERVER_SECONDS
        self._servers = {name: seen for name, seen in self._servers.items() if seen > since}
        return list(self._servers)

    # Documents

    async def add_document(self, document: PackedDocument) -> None:
        self._documents[document.key] = document
        self._documents.move_to_end(document.key)
        while len(self._documents) > KEPT_DOCUMENTS:
            self._documents.popitem(last=False)

    async def document(self, key: str) -> PackedDocument | None:
        if key in self._documents:
            self._documents.move_to_end(key)
        return self._documents.get(key)

    # Runs

    async def add(self, entry: Entry) -> None:
        """A run that was submitted, or that this directory has forgotten."""
        known = self._runs.get(entry.order.id)
        if known is None or known.epoch < entry.epoch:
            self._put(entry)
            self._make_room()

    async def placed(self, id: str, epoch: int, replica: str) -> None:
        """A run is at a replica."""
        entry = self._runs.get(id)
        if entry is not None and entry.epoch == epoch:
            self._put(replace(entry, replica=replica))
            async with self._placed:
                self._placed.notify_all()

    async def answered(self, id: str, question: str, value: Any) -> None:
        """A question of a run was answered."""
        entry = self._runs.get(id)
        if entry is not None:
            self._put(replace(entry, answers={**entry.answers, question: value}))

    async def ended(self, id: str) -> None:
        """A run has ended, and its replica has its texts for a while."""
        if id in self._runs:
            self._ended.setdefault(id, time.monotonic())
            self._expire()

    async def find(self, id: str) -> Entry | None:
        """A run, once it has a place, or for some seconds it has none."""
        self._expire()

        def has_place() -> bool:
            entry = self._runs.get(id)
            return entry is None or entry.replica is not None

        try:
            async with asyncio.timeout(_PLACED_SECONDS), self._placed:
                await self._placed.wait_for(has_place)
        except TimeoutError:
            pass
        return self._runs.get(id)

    async def begin_anew(self, id: str, epoch: int) -> bool:
        """Whether whoever says that a run is lost, in an epoch, is to begin it anew, in the next;
        somebody else does otherwise, and `find` says where."""
        entry = self._runs.get(id)
        if entry is None:
            return True
        if entry.epoch != epoch:
            return False
        self._put(replace(entry, epoch=epoch + 1, replica=None))
        self._ended.pop(id, None)
        return True

    def _put(self, entry: Entry) -> None:
        self._remove(entry.order.id)
        self._runs[entry.order.id] = entry
        self._bytes += entry.size

    def _remove(self, id: str) -> None:
        entry = self._runs.pop(id, None)
        self._bytes -= 0 if entry is None else entry.size

    def _make_room(self) -> None:
        while len(self._runs) > KEPT_RUNS or (self._bytes > KEPT_BYTES and len(self._runs) > 1):
            oldest = next(iter(self._ended), None) or next(iter(self._runs))
            self._ended.pop(oldest, None)
            self._remove(oldest)

    def _expire(self) -> None:
        while self._ttl is not None and self._ended:
            id, ended_at = next(iter(self._ended.items()))
            if ended_at > time.monotonic() - self._ttl:
                return
            del self._ended[id]
            self._remove(id)
