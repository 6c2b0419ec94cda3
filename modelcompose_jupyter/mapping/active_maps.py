"""The maps and grids of this process that go on, to stop them with all else.

Apart from what a map needs, so that a Stop imports nothing of that.
"""

from __future__ import annotations

import weakref
from typing import Protocol


class Stoppable(Protocol):
    def ask_to_stop(self) -> None:
        """Stop as if interrupted. Any thread."""


_maps: weakref.WeakSet[Stoppable] = weakref.WeakSet()


def add(map: Stoppable) -> None:
    """Have `stop_all` know of a map or a grid, for as long as somebody holds it."""
    _maps.add(map)


def stop_all() -> None:
    """Stop the maps and grids of this process: none of them begins another run."""
    for each in list(_maps):
        each.ask_to_stop()
