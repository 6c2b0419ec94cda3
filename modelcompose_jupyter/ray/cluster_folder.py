"""Where the files of a cluster are that is started on this machine: its sockets, token and logs."""

from __future__ import annotations

import tempfile
from pathlib import Path

_LONGEST = 20  # characters: the path of a socket has some 100 in all


def folder_of(id: str) -> Path:
    """The folder of a cluster, below the system's for temporary files, or where that is deep."""
    folder = Path(tempfile.gettempdir())
    return (folder if len(str(folder)) < _LONGEST else Path("/tmp")) / f"mc-ray-{id}"
