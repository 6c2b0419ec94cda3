"""Seeds: the range that one may have, and the draw of one where nobody gives any."""

from __future__ import annotations

import secrets

MAX_SEED = 2**63 - 1


def draw_seed() -> int:
    """A new seed below 2**31: small enough to count up from, and exact in JavaScript, too."""
    return secrets.randbelow(2**31)


_DRAWN = 2**31
_STRIDE = 1_327_217_885  # odd, and of a golden section: places of near rows are far apart


def seed_of_row(first: int, index: int) -> int:
    """The seed of a row among many, by its place: that of the row 0 is ``first``.

    Runs count up from theirs for each prompt and repeat, so rows do not count up by one.
    """
    return _shifted(first, index * _STRIDE)


def first_of_rows(seed: int, index: int) -> int:
    """The seed of the row 0, by that of another row."""
    return _shifted(seed, -index * _STRIDE)


def _shifted(seed: int, by: int) -> int:
    return seed - seed % _DRAWN + (seed + by) % _DRAWN
