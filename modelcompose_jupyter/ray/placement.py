"""Which replica is the best place for a request.

Requests that begin alike go to the same replica, which knows the beginning: replicas stand on a
ring, by hashes, and a beginning belongs to the next one. No replica has much more to do than the
others, however many begin alike: where one has its share, the next on the ring is asked.
"""

from __future__ import annotations

import bisect
import hashlib
import math
from collections.abc import Collection, Iterable, Mapping

from .messages import Route

_PLACES = 64  # of each replica on the ring, so that their shares are about the same
_SHARE = 1.25  # of the mean load that a replica may have for the sake of beginnings
_SLACK = 4  # requests beyond that: few are never spread


class Ring:
    """Replicas by their names, in the order in which a beginning prefers them."""

    def __init__(self, replicas: Iterable[str] = ()) -> None:
        self._names = sorted(replicas)
        places = [
            (_hash(f"{name}/{place}"), name) for name in self._names for place in range(_PLACES)
        ]
        self._places = sorted(places)

    def preferred(self, beginning: str) -> list[str]:
        """All of them, the one first that the beginning belongs to. Where a replica comes or goes,
        only those beginnings move that belong to it."""
        start = bisect.bisect_left(self._places, (_hash(beginning), ""))
        found: dict[str, None] = {}
        for _, name in self._places[start:] + self._places[:start]:
            found.setdefault(name)
            if len(found) == len(self._names):
                break
        return list(found)

    def ranked(self, route: Route, loads: Mapping[str, int]) -> list[str]:
        """The replicas for a request, the best first: of those that have not refused it, where
        there are any. ``loads`` has how many requests each replica has; none is none."""
        if route.replica in self._names:
            return [route.replica]
        names = [each for each in self._names if each not in route.refused] or self._names
        by_load = sorted(names, key=lambda name: loads.get(name, 0))
        if route.beginning is None:
            return by_load
        most = self._most(names, loads)
        cool = [
            name
            for name in self.preferred(route.beginning)
            if name in names and loads.get(name, 0) < most
        ]
        return [*cool, *(name for name in by_load if name not in cool)]

    def _most(self, names: Collection[str], loads: Mapping[str, int]) -> int:
        """How many requests a replica may have to get one for its beginning."""
        total = sum(loads.get(name, 0) for name in names) + 1
        return math.ceil(_SHARE * total / max(1, len(names))) + _SLACK


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest)
