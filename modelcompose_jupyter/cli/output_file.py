"""The file that a command writes its result to."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ..errors import UsageError


def writable(output: str | None) -> Path | None:
    """The path to write to; wrong ones are found before a run that may take long."""
    if output is None:
        return None
    path = Path(output)
    if _is_replaced(path):  # through links, but not to what a pipe is called
        path = path.resolve()
    try:
        if _is_replaced(path):
            _beside(path).touch(exist_ok=False)
            _beside(path).unlink()
        elif not os.access(path, os.W_OK):
            raise PermissionError("permission denied")
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"{path} cannot be written: {reason.lower()}") from None
    return path


def _is_replaced(path: Path) -> bool:
    """Whether a new file takes the place of what is there: not of a pipe or a device."""
    return path.is_file() or not path.exists()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all; a pipe or a device as it comes."""
    if not _is_replaced(path):
        path.write_text(text, encoding="utf-8")
        return
    fresh = _beside(path)
    try:
        fresh.write_text(text, encoding="utf-8")
        if path.exists():
            shutil.copymode(path, fresh)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
