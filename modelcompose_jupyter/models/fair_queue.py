"""A queue in which those who ask take turns, however much each of them asks."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """First in, first out for each owner; owners take turns. Not safe between threads."""

    def __init__(self) -> None:
        self._owners: OrderedDict[Hashable, deque[Item]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, item: Item, owner: Hashable) -> None:
        """Put an item behind those of its owner."""
        self._owners.setdefault(owner, deque()).append(item)
        self._count += 1

    def pop(self) -> Item:
        """Take the next item; its owner's turn comes again after everybody else's.

        Raises:
            KeyError: there is none.
        """
        owner, items = self._owners.popitem(last=False)
        item = items.popleft()
        if items:
            self._owners[owner] = items
        self._count -= 1
        return item

    def remove(self, item: Item) -> bool:
        """Take an item out of its place; whether it was there."""
        for owner, items in self._owners.items():
            if item in items:
                items.remove(item)
                if not items:
                    del self._owners[owner]
                self._count -= 1
                return True
        return False

    def __iter__(self) -> Iterator[Item]:
        """In the order in which `pop` would give them if nothing else came."""
        waiting = deque(deque(items) for items in self._owners.values())
        while waiting:
            items = waiting.popleft()
            yield items.popleft()
            if items:
                waiting.append(items)
