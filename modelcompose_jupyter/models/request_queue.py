"""Queues of requests: round-robin between owners, and what those who wait are told.

A model's engine and a component's limit of concurrent requests both have such queues.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Round-robin between owners; first in, first out for each of them. Not safe between threads.

    Owners may be in groups. Then it is round-robin between groups, and between the owners of each;
    an owner is given as its group and itself.
    """

    def __init__(self) -> None:
        self._parts: OrderedDict[Hashable, deque[Item] | FairQueue[Item]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, item: Item, owner: Hashable, *within: Hashable) -> None:
        """Put an item behind those of its owner; ``within`` is an owner in a group."""
        part = self._parts.setdefault(owner, FairQueue() if within else deque())
        if isinstance(part, FairQueue):
            part.put(item, *within)
        else:
            part.append(item)
        self._count += 1

    def pop(self) -> Item:
        """Take the next item, or raise a KeyError; its owner then goes behind all others."""
        owner, part = self._parts.popitem(last=False)
        item = part.pop() if isinstance(part, FairQueue) else part.popleft()
        if part:
            self._parts[owner] = part
        self._count -= 1
        return item

    def remove(self, item: Item) -> bool:
        """Take an item out of its place; whether it was there."""
        for owner, part in self._parts.items():
            if item in part:
                part.remove(item)
                if not part:
                    del self._parts[owner]
                self._count -= 1
                return True
        return False

    def __iter__(self) -> Iterator[Item]:
        """In the order in which `pop` would give them if nothing else came."""
        waiting = deque(map(iter, self._parts.values()))
        while waiting:
            items = waiting.popleft()
            for item in items:
                yield item
                waiting.append(items)
                break


OnQueued = Callable[[int], None]
"""``on_queued(ahead)``: so many requests must end before this one starts, which it does at 0.

Called when the request must wait, and whenever that falls. On any thread, one call at a time.
"""


class QueuePosition:
    """How many requests must end before a queued one starts, as its caller was told.

    Positions are computed under the queue's lock and told after it, by several threads at once. A
    position only falls, so one that comes late is seen to be old.
    """

    def __init__(self, on_queued: OnQueued | None) -> None:
        self._on_queued = on_queued
        self._lock = threading.Lock()
        self._told: int | None = None

    def tell(self, ahead: int) -> None:
        """Say that so many requests must end first, if that is news. Any thread."""
        with self._lock:
            told = self._told
            if told is not None and ahead >= told:
                return
            self._told = ahead
            never_waits = told is None and ahead == 0
            if self._on_queued is not None and not never_waits:
                try:
                    self._on_queued(ahead)
                except Exception:  # a listener that fails is not told again, and fails nothing
                    self._on_queued = None


class Queued(Protocol):
    """What stands in a queue whose positions are told."""

    position: QueuePosition


class QueueUpdates:
    """Tells requests their positions in a queue: less often, the more of them there are.

    Each end of a request moves all that are behind it, so telling each at once would take a time
    that grows with their square.
    """

    MOST_TOLD = 256
    """Of those who wait the first; the others hear when it is soon their turn."""
    _AT_ONCE = 32
    _SECONDS_EACH = 0.001

    def __init__(self) -> None:
        self._next = 0.0

    @property
    def pause(self) -> float:
        """Seconds until they may be told again; 0 is now."""
        return max(0.0, self._next - time.monotonic())

    @classmethod
    def positions(cls, queue: Iterable[Queued], room: int = 0) -> list[tuple[QueuePosition, int]]:
        """Of the first of a queue, how many must end before each starts.

        Args:
            queue: in the order in which they start.
            room: how many could start at once; below 0, how many run that are too many.
        """
        first = itertools.islice(queue, cls.MOST_TOLD)
        return [(each.position, max(0, number - room)) for number, each in enumerate(first, 1)]

    def tell(self, positions: list[tuple[QueuePosition, int]]) -> None:
        """Tell each its position."""
        for position, ahead in positions:
            position.tell(ahead)
        if len(positions) > self._AT_ONCE:
            self._next = time.monotonic() + len(positions) * self._SECONDS_EACH
