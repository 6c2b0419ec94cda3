"""Seeds: the range that one may have, and the draw of one where nobody gives any."""

from __future__ import annotations

import secrets

MAX_SEED = 2**63 - 1


def draw_seed() -> int:
    """A new seed below 2**31: small enough to count up from, and exact in JavaScript, too."""
    return secrets.randbelow(2**31)
