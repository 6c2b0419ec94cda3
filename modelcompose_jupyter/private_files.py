"""Files that this user alone reads and writes, whatever the umask is and whoever shares the folder.

A folder such as ``/tmp`` is everybody's: who guesses a name there can put a link or a file of
theirs in its place. So files are opened first and looked at then, and what is not this user's is
refused.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, for this user alone. One that is there stays as it is."""
    for each in (*reversed(path.parents), path):
        if not each.is_dir():
            each.mkdir(mode=0o700, exist_ok=True)


def open_for_writing(path: Path, *, append: bool = False) -> int:
    """A descriptor of a file that only this user reads; made, or emptied unless ``append``.

    Raises:
        OSError: it is a link, somebody else's or no plain file, or cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else 0) | _NO_LINK
    descriptor = os.open(path, flags, 0o600)
    try:
        status = os.fstat(descriptor)
        if not _is_own(status) or status.st_nlink > 1:
            raise PermissionError(errno.EPERM, "it is somebody else's, or a link", str(path))
        if os.name == "posix":
            os.fchmod(descriptor, 0o600)
        if not append:
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read(path: Path, limit: int) -> bytes | None:
    """The bytes of a file that only this user could read and write; None where others could, where
    it is a link or no plain file, or larger than ``limit`` bytes. OSError where it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | _NO_LINK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        is_shared = os.name == "posix" and status.st_mode & 0o077 != 0
        if not _is_own(status) or is_shared:
            return None
        content = file.read(limit + 1)
    return content if len(content) <= limit else None


def _is_own(status: os.stat_result) -> bool:
    """Whether it is a plain file of this user's."""
    is_ours = os.name != "posix" or status.st_uid == os.getuid()
    return stat.S_ISREG(status.st_mode) and is_ours
