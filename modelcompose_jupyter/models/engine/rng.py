"""Seeded draws: the same seed gives the same tokens, whatever else the process draws.

Every drawn token has a number of its own, made from (seed, sequence, position) by a counter-based
generator. So no state is shared between requests, sequences or threads, torch's global generator is
never used, and a request gets the same numbers alone or in a batch.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

_UNIT = 2.0**-53


def bits(seed: int, sequence: int, position: int, count: int = 1) -> Any:
    """Raw 64-bit numbers of ``count`` positions, an array of uint64."""
    generator = np.random.Philox(key=seed, counter=[position, sequence, 0, 0])
    return generator.random_raw(4 * count)[::4]  # the counter goes on after every fourth


def draw(seed: int, sequence: int, position: int) -> float:
    """The number in [0, 1) for the token at ``position`` (0 is the first generated one)."""
    return draws(seed, sequence, position, 1)[0]


def draws(seed: int, sequence: int, position: int, count: int) -> list[float]:
    """What `draw` gives for ``count`` positions from ``position`` on."""
    numbers = (bits(seed, sequence, position, count) >> np.uint64(11)) * _UNIT
    return cast("list[float]", numbers.tolist())
