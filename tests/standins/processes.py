"""Other processes of Python that use the same package and these stand-ins."""

from __future__ import annotations

import os
from pathlib import Path


def environment() -> dict[str, str]:
    """The variables for such a process: it finds what these tests find."""
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
