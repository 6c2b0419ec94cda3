"""What a pickle of weights (``.bin``) holds, looked at before its numbers are read."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from .file_bounds import BrokenFile

_LONGEST_PICKLE = 128 << 20  # bytes beside the numbers: 100 or so for each tensor
_MOST_SHARED = 4
"""How many times over the numbers of a file may be used: embeddings are, as a head, say."""


def read(path: Path) -> tuple[int, str | None]:
    """How many tensors of a file have numbers, and the precision of the first of floating point.

    The numbers stay on the disk, where the format allows that.

    Raises:
        BrokenFile: it would take far more memory than its own size.
        Exception: what torch raises for files that are damaged, or hold more than numbers.
    """
    import torch

    size = path.stat().st_size
    _check_archive(path, size)
    content = torch.load(path, map_location="meta", weights_only=True)
    values = content.values() if isinstance(content, dict) else ()
    tensors: list[Any] = [each for each in values if isinstance(each, torch.Tensor)]
    total = 0
    for tensor in tensors:
        needed = tensor.numel() * tensor.element_size()
        if tensor.layout is not torch.strided or needed > tensor.untyped_storage().nbytes():
            raise BrokenFile("one of its tensors has more numbers than are stored")
        total += needed
    if total > _MOST_SHARED * size:
        raise BrokenFile(f"its tensors take {total} bytes, and it has {size}")
    first = next((each.dtype for each in tensors if each.is_floating_point()), None)
    return sum(each.numel() > 0 for each in tensors), first and str(first).removeprefix("torch.")


def _check_archive(path: Path, size: int) -> None:
    """Raise a `BrokenFile` for an archive that expands: torch writes them as they are."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    expanded = sum(entry.file_size for entry in entries)
    if expanded > size:
        raise BrokenFile(f"it has {size} bytes and would expand to {expanded}")
    if any(e.filename.endswith(".pkl") and e.file_size > _LONGEST_PICKLE for e in entries):
        raise BrokenFile(f"more than {_LONGEST_PICKLE} bytes in it are no numbers")
