"""Where the files of a cluster are that is started on this machine: its sockets, token and logs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from ..processes import find_process, is_alive, own_start

_LONGEST = 20  # characters: the path of a socket has some 100 in all
_PREFIX = "mc-ray-"
_OWNER = "owner"


def folder_of(id: str) -> Path:
    """The folder of a cluster, below the system's for temporary files, or where that is deep."""
    return _parent() / f"{_PREFIX}{id}"


def _parent() -> Path:
    folder = Path(tempfile.gettempdir())
    return folder if len(str(folder)) < _LONGEST else Path("/tmp")


def make_folder(folder: Path) -> Path:
    """Make a cluster's folder, which nobody else can enter; returns where Ray's own files go, which
    Ray lets anybody read. Folders of this user's processes that were killed are removed."""
    _remove_abandoned()
    folder.mkdir(0o700)
    (folder / _OWNER).write_text(json.dumps({"pid": os.getpid(), "started": own_start()}))
    return folder / "ray"


def _remove_abandoned() -> None:
    for folder in _parent().glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            status = folder.lstat()
            if folder.is_symlink() or (os.name == "posix" and status.st_uid != os.getuid()):
                continue
            owner = json.loads((folder / _OWNER).read_text())
            if not is_alive(find_process(owner["pid"], owner["started"])):
                shutil.rmtree(folder, ignore_errors=True)
