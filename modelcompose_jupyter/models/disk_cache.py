"""What is made once and kept on the disk for later processes: kernels, tokenizers.

What is loaded from there runs as this user, or decides what a model reads. So it is kept only where
nobody else can have put it: in a folder of this user's that nobody else may write, below folders
that only root may change. Files are written whole or not at all.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import re
import shutil
import stat
import tempfile
import threading
import weakref
from contextlib import suppress
from pathlib import Path

from ..redaction import get_logger

_FOR_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_UNFINISHED = "unfinished-"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_UNFLUSHED = re.compile(r".*\.([0-9a-f]{8})")
"""The names of files that may not be on the disk yet, with the boot in which they are whole."""

log = get_logger(__name__)


def folder() -> Path | None:
    """Where it is kept; None where others could change what is there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        folder = cache.resolve() / "modelcompose"
        _make(folder)
        if folder.lstat().st_uid == os.getuid():
            folder.chmod(0o700, follow_symlinks=False)
    except (OSError, NotImplementedError, RuntimeError) as error:
        log.info("nothing is kept in %s: %s", cache, error)
        return None
    if not is_private(folder) or not is_guarded(folder):
        log.info("nothing is kept in %s: others may write there", folder)
        return None
    return folder


def find(name: str) -> bytes | None:
    """The content of a file that was kept, which counts as used; None where there is none."""
    where = folder()
    if where is None or not is_private(where / name):
        return None
    try:
        content = (where / name).read_bytes()
    except OSError:
        return None
    with suppress(OSError):
        os.utime(where / name)
    return content


def keep(name: str, content: bytes, most: int) -> None:
    """Keep a file, where that is possible.

    Args:
        name: what stands before its first hyphen is its kind.
        most: how many of its kind stay, those that were used last.
    """
    where = folder()
    if where is None:
        return
    try:
        with tempfile.TemporaryDirectory(dir=where) as made:
            (Path(made) / name).write_bytes(content)
            (Path(made) / name).chmod(0o600)
            (Path(made) / name).replace(where / name)
        of_its_kind = where.glob(f"{name.partition('-')[0]}-*")
        for old in sorted(of_its_kind, key=lambda path: path.stat().st_mtime)[:-most]:
            old.unlink(missing_ok=True)
    except OSError as error:
        log.info("%s is not kept: %s", name, error)


class MappedFile:
    """A file that was kept, whose content is mapped as long as anybody has an array of it.

    Attributes:
        content: its bytes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self.content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def find_mapped(name: str, size: int) -> MappedFile | None:
    """A large file that was kept, which counts as used; None where there is none of that size."""
    where = folder()
    if where is None:
        return None
    for path in (where / _until_flushed(name), where / name):
        with suppress(OSError):
            if is_private(path) and path.stat().st_size == size:
                os.utime(path)
                found = MappedFile(path)
                if path.name != name:  # who made it may have ended before it was on the disk
                    _flush_later(os.open(path, os.O_RDONLY), path, where / name)
                return found
    return None


def _until_flushed(name: str) -> str:
    """What a file is called until it is on the disk.

    After a power cut it may hold anything, so it has the name of this boot, and counts in no other.
    """
    with suppress(OSError):
        return f"{name}.{_BOOT.read_text()[:8]}"
    return name


class UnfinishedFile:
    """A large file that is being made: what is written to ``content`` is in it.

    It is there for other processes once it is kept; else it goes with this object, or is cleared
    away by the next one where the process was killed.

    Raises:
        OSError: there is no place for it.
    """

    def __init__(self, name: str, size: int, least_free: int) -> None:
        where = folder()
        if where is None:
            raise OSError("there is no folder for it")
        _clear_away(where)
        if shutil.disk_usage(where).free - size < least_free:
            raise OSError("the disk would be full")
        self._name = name
        self._folder = where
        file, made = tempfile.mkstemp(dir=where, prefix=_UNFINISHED)
        self._path = Path(made)
        self._file = file
        weakref.finalize(self, _discard, file, self._path, os.getpid())
        fcntl.flock(file, fcntl.LOCK_EX)  # so that nobody clears it away
        os.posix_fallocate(file, 0, size)  # else a full disk would end the process
        self.content = mmap.mmap(file, size)

    def keep(self, most: int) -> None:
        """Have it found by its name from now on.

        Args:
            most: bytes of its kind that stay, those that were used last; this one does.
        """
        path, to = (self._folder / each for each in (_until_flushed(self._name), self._name))
        with suppress(OSError):
            if _named(self._path, path):
                _remove_oldest(self._name.partition("-")[0], most, but={path, to})
                _flush_later(os.dup(self._file), path, to)


def _named(made: Path, path: Path) -> bool:
    """Give a file its name, unless another process's has it already; whether it has."""
    try:
        path.hardlink_to(made)
    except FileExistsError:
        return False
    except OSError:  # a file system without such links
        made.rename(path)
    made.unlink(missing_ok=True)
    return True


def _remove_oldest(kind: str, most: int, but: set[Path]) -> None:
    """Have so many bytes of a kind at most, those that were used last."""
    found = kept(kind)
    size = sum(each.st_size for each in found.values())
    for path in sorted(found, key=lambda each: found[each].st_mtime_ns):
        if size > most and path not in but:
            path.unlink(missing_ok=True)
            size -= found[path].st_size


def _flush_later(file: int, path: Path, to: Path) -> None:
    flush = (file, path, to)
    name = "modelcompose-flush"
    threading.Thread(target=_flush, args=flush, name=name, daemon=True).start()


def _flush(file: int, path: Path, to: Path) -> None:
    """Have a file on the disk, and called so from then on."""
    try:
        os.fdatasync(file)
        if os.path.samestat(os.fstat(file), path.stat()):  # and no other one has come there
            path.rename(to)
    except OSError as error:
        log.info("%s is not kept for good: %s", to, error)
    finally:
        os.close(file)


def _discard(file: int, path: Path, process: int) -> None:
    if os.getpid() == process:  # not one that was forked off
        path.unlink(missing_ok=True)
    os.close(file)


def kept(kind: str) -> dict[Path, os.stat_result]:
    """The files of a kind that are kept: what stands before the first hyphen of their names."""
    where, found = folder(), {}
    for path in () if where is None else where.glob(f"{kind}-*"):
        with suppress(FileNotFoundError):  # it has its other name by now, or is gone
            state = path.lstat()
            if stat.S_ISREG(state.st_mode):
                found[path] = state
    return found


def clear_away() -> None:
    """Remove what processes that were killed have left unfinished."""
    where = folder()
    if where is not None:
        _clear_away(where)


def _clear_away(where: Path) -> None:
    """Remove what processes that were killed have left unfinished."""
    for path in where.glob("*-*.*"):
        if _UNFLUSHED.fullmatch(path.name) and path.name != _until_flushed(path.stem):
            path.unlink(missing_ok=True)
    for path in where.glob(f"{_UNFINISHED}*"):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _make(folder: Path) -> None:
    """A folder and those above it, for this user alone whatever the umask is."""
    if not folder.parent.exists():
        _make(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


def is_private(path: Path) -> bool:
    """Whether a file or folder is there, no link, this user's, and nobody else may write it."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return (
        not stat.S_ISLNK(found.st_mode)
        and found.st_uid == os.getuid()
        and not found.st_mode & _FOR_OTHERS
    )


def is_guarded(folder: Path) -> bool:
    """Whether nobody but this user and root can put another folder in the place of this one.

    Of the path without links: in folders that others may write, the sticky bit keeps them from it.
    """
    for parent in folder.parents:
        found = parent.lstat()
        open_to_others = found.st_mode & _FOR_OTHERS and not found.st_mode & stat.S_ISVTX
        if found.st_uid not in (0, os.getuid()) or open_to_others:
            return False
    return True
