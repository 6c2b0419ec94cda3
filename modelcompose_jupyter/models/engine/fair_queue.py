"""A queue that is round-robin between owners, however many items each of them puts."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

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
        """Take the next item; its owner then goes behind all others.

        Raises:
            KeyError: there is none.
        """
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
