"""Which replica is the best place for a request.

Requests that begin alike go to the same replica, which knows the beginning: replicas stand on a
ring, by hashes, and a beginning belongs to the next one. No replica has much more to do than the
others, however many begin alike: where one has its share, the next on the ring is asked.
"""

from __future__ import annotations

import bisect
import hashlib
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain, islice

from .messages import Route

_PLACES = 64  # of each replica on the ring, so that their shares are about the same
_SHARE = 1.25  # of the mean load that a replica may have for the sake of beginnings
_SLACK = 4  # requests beyond that: few are never spread
MOST_REFUSALS = 4
"""How many replicas are asked for room for a run. After the first come those with the least to do:
where they have none, hardly another has."""
_NEAR = 8  # replicas that are asked for the sake of a beginning


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
        return list(self._from(beginning))

    def _from(self, beginning: str) -> Iterator[str]:
        """`preferred`, one by one: few of many are looked at, and going round takes long."""
        start = bisect.bisect_left(self._places, (_hash(beginning), ""))
        count, found = len(self._places), set()
        for place in chain(range(start, count), range(start)):
            name = self._places[place][1]
            if name not in found:
                found.add(name)
                yield name
                if len(found) == len(self._names):
                    return

    def ranked(self, route: Route, loads: Mapping[str, int]) -> list[str]:
        """The replicas for a request, the best first: of those that have not refused it, where
        there are any. Once one has, room counts for more than what a replica knows. ``loads`` has
        how many requests each replica has; none is none."""
        if route.replica in self._names:
            return [route.replica]
        names = [each for each in self._names if each not in route.refused]
        names = names or self._names
        by_load = sorted(names, key=lambda name: loads.get(name, 0))
        if route.beginning is None or route.refused:
            return by_load
        most = self._most(names, loads)
        near = islice(self._from(route.beginning), _NEAR)
        cool = [name for name in near if loads.get(name, 0) < most]
        return [*cool, *(name for name in by_load if name not in cool)]

    def _most(self, names: Collection[str], loads: Mapping[str, int]) -> int:
        """How many requests a replica may have to get one for its beginning."""
        total = sum(loads.get(name, 0) for name in names) + 1
        return math.ceil(_SHARE * total / max(1, len(names))) + _SLACK


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest)
