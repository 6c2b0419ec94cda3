"""A folder of whole files, on this computer's disks or in an object store."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from ..errors import UsageError, one_line

_ATOMIC = ("s3", "gcs", "abfs")  # where a file is there once all of it is
_UNFINISHED = "_tmp-"
_BUFFER = 1 << 20


class Storage(Protocol):
    """A folder whose files are written whole or not at all; OSError where that fails."""

    def names(self) -> list[str]:
        """The files in it, without those that are being written; none where it is not there."""

    def open(self, name: str) -> BinaryIO:
        """A file to be read and sought in."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file, durably, in place of another of that name."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of an object store, or of another file system that has a URI."""
    return "://" in os.fspath(path)


def storage_of(path: str | os.PathLike[str]) -> Storage:
    """The folder at a path.

    Raises:
        UsageError: there is no such file system, or pyarrow, which knows them, is not installed.
    """
    return _Remote(os.fspath(path)) if is_remote(path) else LocalFolder(Path(path).expanduser())


class LocalFolder:
    """A folder of this computer, or one that is mounted here. It is made when it is written to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        if not self.path.exists():
            return []
        found = [each.name for each in self.path.iterdir()]
        return sorted(each for each in found if not each.startswith(_UNFINISHED))

    def open(self, name: str) -> BinaryIO:
        return (self.path / name).open("rb")

    def write(self, name: str, content: bytes) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        fresh = self.path / f"{_UNFINISHED}{os.getpid()}-{secrets.token_hex(4)}"
        try:
            with fresh.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path / name)
            sync_folder(self.path)
        finally:
            fresh.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what writers have left that were killed; nobody may be writing."""
        if self.path.exists():
            for each in self.path.iterdir():
                if each.name.startswith(_UNFINISHED):
                    each.unlink(missing_ok=True)


class _Remote:
    """A folder of a file system that pyarrow knows."""

    def __init__(self, uri: str) -> None:
        self._files, self._path = _file_system(uri)
        self._uri = uri

    def __reduce__(self) -> tuple[Any, ...]:
        return _Remote, (self._uri,)

    def names(self) -> list[str]:
        from pyarrow.fs import FileSelector

        found = self._files.get_file_info(FileSelector(self._path, allow_not_found=True))
        return sorted(each.base_name for each in found if not _is_unfinished(each.base_name))

    def open(self, name: str) -> BinaryIO:
        return cast(
            BinaryIO, io.BufferedReader(self._files.open_input_file(f"{self._path}/{name}"))
        )

    def write(self, name: str, content: bytes) -> None:
        target, is_atomic = f"{self._path}/{name}", self._files.type_name in _ATOMIC
        fresh = target if is_atomic else f"{self._path}/{_UNFINISHED}{secrets.token_hex(8)}"
        if not is_atomic:
            self._files.create_dir(self._path, recursive=True)
        with self._files.open_output_stream(fresh) as file:
            file.write(content)
        if not is_atomic:
            self._files.move(fresh, target)

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.delete_file(f"{self._path}/{name}")


def _is_unfinished(name: str) -> bool:
    return name.startswith(_UNFINISHED)


def _file_system(uri: str) -> tuple[Any, str]:
    try:
        from pyarrow.fs import FileSystem
    except ImportError:
        raise UsageError(
            f"{uri} needs pyarrow, which is not installed",
            hint="Install it with 'pip install pyarrow', or name a path of this computer.",
        ) from None
    try:
        files, path = FileSystem.from_uri(uri)
    except (OSError, ValueError) as error:
        raise UsageError(f"{uri} cannot be used: {one_line(error)}") from None
    return files, path.rstrip("/")


# Files that are read


def open_binary(path: str) -> BinaryIO:
    """A file, of either kind, to be read and sought in; OSError where that fails."""
    if not is_remote(path):
        return Path(path).open("rb", buffering=_BUFFER)
    files, inner = _file_system(path)
    return cast(BinaryIO, io.BufferedReader(files.open_input_file(inner), _BUFFER))


def files_at(path: str) -> Iterator[str]:
    """The files that a path means, in the order of their names: itself, those in a folder, or those
    that a pattern with ``*``, ``?`` or ``[`` fits. Hidden files are none."""
    if not is_remote(path):
        yield from _local_files(Path(path).expanduser())
        return
    files, inner = _file_system(path)
    from pyarrow.fs import FileSelector, FileType

    found = files.get_file_info(inner)
    if found.type == FileType.File:
        yield path
    elif found.type == FileType.Directory:
        for each in sorted(files.get_file_info(FileSelector(inner)), key=lambda each: each.path):
            if each.is_file and not each.base_name.startswith((".", "_")):
                yield f"{path.rstrip('/')}/{each.base_name}"


def _local_files(path: Path) -> Iterator[str]:
    found: Iterable[Path] = [path] if path.exists() else []
    if path.is_dir():
        found = path.iterdir()
    elif not path.exists() and any(each in path.name for each in "*?["):
        found = path.parent.glob(path.name)
    for each in sorted(found):
        if each.is_file() and (each == path or not each.name.startswith((".", "_"))):
            yield str(each)


def sync_folder(path: Path) -> None:
    """Make a new name in a folder durable, where the system lets folders be opened."""
    with contextlib.suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
