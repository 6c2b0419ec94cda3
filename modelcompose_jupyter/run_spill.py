"""Values in files of their own, as long as the process lives: what has no room in its memory."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from filelock import BaseFileLock

_PREFIX = "modelcompose-runs-"
_LOCK = "lock"


class RunFiles:
    """A folder with a file for each value, below the system's folder for temporary files.

    Only this user can read it. It is made with the first file and goes with `close`. A process that
    is killed leaves its folder behind, without the lock that it held: `remove_abandoned` of another
    one finds it by that.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._lock: BaseFileLock | None = None
        self._pid = os.getpid()
        self._closed = False

    def write(self, name: str, value: Any) -> int:
        """Keep a value; returns the bytes that it takes."""
        path = self._made() / name
        # Nobody else can write there, so what is read is what was written, to the last tuple.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                pickle.dump(value, file, pickle.HIGHEST_PROTOCOL)
                return file.tell()
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            if self._closed:  # meanwhile
                self._remove_folder()

    def read(self, name: str) -> Any:
        """A value; raises whatever `pickle` does where it is not there, or not whole."""
        if self._folder is None:
            raise FileNotFoundError(name)
        return pickle.loads((self._folder / name).read_bytes())

    def remove(self, name: str) -> None:
        """Give back the room of a value."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove everything; nothing is kept from now on. Idempotent."""
        self._closed = True
        self._remove_folder()

    def _made(self) -> Path:
        from filelock import FileLock

        if self._closed:
            raise OSError("closed")
        if self._folder is None or not self._folder.is_dir():  # whoever tidies up may remove it
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX))  # 0700
            try:
                lock = FileLock(folder / _LOCK, timeout=0, mode=0o600, thread_local=False)
                lock.acquire()
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            self._folder, self._lock = folder, lock
        return self._folder

    def _remove_folder(self) -> None:
        if self._folder is None or os.getpid() != self._pid:  # in a fork: the parent's
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.release()
        shutil.rmtree(self._folder, ignore_errors=True)  # the lock, where open files stay


def remove_abandoned() -> None:
    """Remove the folders of this user's processes that were killed."""
    from filelock import FileLock, Timeout

    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, Timeout):
            status = folder.lstat()
            is_ours = os.name != "posix" or status.st_uid == os.getuid()
            if not is_ours or folder.is_symlink() or not (folder / _LOCK).is_file():
                continue
            with FileLock(folder / _LOCK, timeout=0, mode=0o600):
                shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)  # the lock, where open files stay
