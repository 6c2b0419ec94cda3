"""Where the boxes of a graph stand, and its edges run, in pixels."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from .graph import Edge

_LAYER_GAP, _GAP, _MARGIN, _TIP = 38, 14, 4, 7
_LABEL_GAP = 22  # of the length of an edge, beside its label
_SWEEPS = 4


class Layout:
    """Where the boxes are: in layers, each behind all that it waits for.

    Layers follow each other along the arrows; the boxes of a layer stand across them. An edge that
    passes a layer has a bend there, which takes a place as boxes do, so that it runs beside them.

    ``sizes`` are the widths and heights of the boxes, ``labels`` those of the texts at edges.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[float, float]],
        edges: Sequence[Edge],
        layers: Sequence[int],
        labels: Mapping[Edge, tuple[float, float]],
        *,
        sideways: bool,
    ) -> None:
        self.sideways = sideways
        self._labels = {edge: self._ordered(*size) for edge, size in labels.items()}
        self._layers = list(layers)
        ordered = [self._ordered(width, height) for width, height in sizes]
        self._lengths = [length for length, _ in ordered]
        self._breadths = [breadth for _, breadth in ordered]
        self._before: dict[int, list[int]] = defaultdict(list)
        self._after: dict[int, list[int]] = defaultdict(list)
        self.ways = [self._way(first, last) for first, last in edges]
        self._centres = dict.fromkeys(range(len(self._layers)), 0.0)
        self._rows: list[list[int]] = [[] for _ in range(max(layers) + 1)]
        for place, layer in enumerate(self._layers):
            self._rows[layer].append(place)
        for _ in range(_SWEEPS):
            self._settle(self._rows, self._before)
            self._settle(self._rows[::-1], self._after)
        self._measure()

    def _way(self, first: int, last: int) -> list[int]:
        """The places that an edge goes through, with new ones for its bends."""
        passed = range(self._layers[first] + 1, self._layers[last])
        way = [first, *range(len(self._layers), len(self._layers) + len(passed)), last]
        self._layers += passed
        self._lengths += [0.0] * len(passed)
        # Labels stand halfway to the first bend, where they have half the room.
        _, room = self._labels.get((first, last), (0.0, 0.0))
        self._breadths += [2 * room if each == 0 else 0.0 for each in range(len(passed))]
        for one, other in itertools.pairwise(way):
            self._after[one].append(other)
            self._before[other].append(one)
        return way

    def _settle(self, rows: Sequence[list[int]], neighbours: Mapping[int, list[int]]) -> None:
        """Move the places of each row as near to their neighbours as their room allows."""
        centres = self._centres
        for row in rows:
            wanted = {
                place: fmean(centres[each] for each in neighbours[place] or [place])
                for place in row
            }
            row.sort(key=wanted.__getitem__)
            room = [self._breadths[place] + _GAP for place in row]
            centres.update(zip(row, _spread([wanted[each] for each in row], room), strict=True))

    def _measure(self) -> None:
        """Fix where each layer begins and ends, and the size of it all."""
        self._spans: list[tuple[float, float]] = []
        gaps = [float(_LAYER_GAP)] * len(self._rows)
        for (first, _), (length, _) in self._labels.items():
            layer = self._layers[first]
            gaps[layer] = max(gaps[layer], length + _LABEL_GAP)
        begin: float = _MARGIN
        for row, gap in zip(self._rows, gaps, strict=True):
            end = begin + max(self._lengths[place] for place in row)
            self._spans.append((begin, end))
            begin = end + gap
        halves = [(centre, self._breadths[p] / 2) for p, centre in self._centres.items()]
        low, high = min(c - half for c, half in halves), max(c + half for c, half in halves)
        self._centres = {p: centre - low + _MARGIN for p, centre in self._centres.items()}
        self.size = self._ordered(end + _MARGIN, high - low + 2 * _MARGIN)

    def box(self, place: int) -> tuple[float, float, float, float]:
        """A box's left and top, width and height. It is as long as its layer."""
        begin, end = self._span(place)
        breadth = self._breadths[place]
        left, top = self._ordered(begin, self._centres[place] - breadth / 2)
        return left, top, *self._ordered(end - begin, breadth)

    def curve(self, way: Sequence[int]) -> str:
        """The SVG path of an edge."""
        path = f"M{self._point(self._span(way[0])[1], self._centres[way[0]])}"
        for one, other in itertools.pairwise(way):
            (_, begin), (end, beyond) = self._span(one), self._span(other)
            across, then = self._centres[one], self._centres[other]
            end -= _TIP if other == way[-1] else 0
            middle = (begin + end) / 2
            points = ((middle, across), (middle, then), (end, then))
            path += "C" + " ".join(self._point(*point) for point in points)
            if other != way[-1]:
                path += f"L{self._point(beyond, then)}"
        return path

    def label(self, way: Sequence[int]) -> tuple[float, float]:
        """Where the middle of an edge's label is: halfway to the first that it comes to."""
        one, other = way[:2]
        begin, end = self._span(one)[1], self._span(other)[0] - _TIP
        across = (self._centres[one] + self._centres[other]) / 2
        return self._ordered((begin + end) / 2, across)

    def tip(self, place: int) -> str:
        """The SVG path of the arrowhead at a box."""
        begin, centre = self._span(place)[0], self._centres[place]
        sides = (self._point(begin - _TIP, centre + side * _TIP / 2) for side in (-1, 1))
        return f"M{self._point(begin, centre)}L{'L'.join(sides)}Z"

    def _span(self, place: int) -> tuple[float, float]:
        return self._spans[self._layers[place]]

    def _point(self, along: float, across: float) -> str:
        return " ".join(f"{each:.6g}" for each in self._ordered(along, across))

    def _ordered(self, along: float, across: float) -> tuple[float, float]:
        """What lies along the arrows and across them as horizontal and vertical, or back."""
        return (along, across) if self.sideways else (across, along)


def _spread(wanted: Sequence[float], room: Sequence[float]) -> list[float]:
    """The centres that are nearest to those wanted, in their order, each with room around it.

    Isotonic regression: neighbours that are in each other's way are pooled.
    """
    reach = ((one + other) / 2 for one, other in itertools.pairwise(room))
    offsets = list(itertools.accumulate(reach, initial=0.0))
    pools: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        start, count = want - offset, 1
        while pools and pools[-1][0] > start:
            other, others = pools.pop()
            start = (start * count + other * others) / (count + others)
            count += others
        pools.append((start, count))
    starts = itertools.chain.from_iterable([start] * count for start, count in pools)
    return [start + offset for start, offset in zip(starts, offsets, strict=True)]
