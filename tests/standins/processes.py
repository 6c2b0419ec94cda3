"""Other processes of Python that use the same package and these stand-ins."""

from __future__ import annotations

import os
from pathlib import Path


def python_path(folder: Path) -> str:
    """A PYTHONPATH on which a folder comes before what is on this process's."""
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


def environment() -> dict[str, str]:
    """The variables for such a process: it finds what these tests find."""
    return {**os.environ, "PYTHONPATH": python_path(Path(__file__).parents[1])}
