"""Files that a load will need are read while it does something else."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import pytest

from modelcompose_jupyter.models.weights.read_ahead import ReadAhead, Span, whole

from ..conftest import eventually


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system has no such call")
def test_files_are_read_into_the_cache_of_the_system(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    with weights.open("wb") as file:
        file.write(os.urandom(1 << 23))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if _cached(weights) > 0.5:
        pytest.skip("this file system keeps what it is asked to let go")
    with ReadAhead(whole([weights])) as ahead:
        eventually(lambda: ahead.wait(0.01))
        eventually(lambda: _cached(weights) == 1)
    assert ahead.share >= 1


def test_a_part_of_a_file_is_read_alone(tmp_path: Path) -> None:
    (weights := tmp_path / "weights").write_bytes(bytes(100))
    with ReadAhead([Span(weights, 10, 30), Span(weights, 40, 50)]) as ahead:
        eventually(lambda: ahead.wait(0.01))
    assert (ahead.share, ahead._done) == (1, 30)


def _cached(path: Path) -> float:
    """The share of a file that is in the system's cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as content:
        view = (ctypes.c_char * len(content)).from_buffer(content)
        pages = (ctypes.c_ubyte * -(-len(content) // mmap.PAGESIZE))()
        assert libc.mincore(ctypes.byref(view), ctypes.c_size_t(len(content)), pages) == 0
        del view
        return sum(each & 1 for each in pages) / len(pages)


def test_what_is_unread_at_the_end_is_left(tmp_path: Path) -> None:
    """A load that nobody wants any more does not go on reading."""
    (weights := tmp_path / "weights").write_bytes(bytes(100))
    ahead = ReadAhead(whole([weights]))
    ahead._stopped.set()
    with ahead:
        eventually(lambda: ahead.wait(0.01))
    assert ahead.share == 0


def test_a_file_that_has_gone_is_left_to_who_needs_it(tmp_path: Path) -> None:
    (weights := tmp_path / "weights").write_bytes(b"1")
    ahead = ReadAhead(whole([weights]))
    weights.unlink()
    with ahead:
        eventually(lambda: ahead.wait(0.01))
    assert ahead.share == 0


def test_of_a_file_that_has_another_name_by_now_nothing_is_read(tmp_path: Path) -> None:
    assert whole([tmp_path / "gone"]) == []
