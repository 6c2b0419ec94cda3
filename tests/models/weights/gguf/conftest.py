"""Fixtures: the Hub's stand-in, and a tiny model in GGUF."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from standins import gguf_files

from ..conftest import standin

__all__ = ["standin"]


@pytest.fixture
def file(folder_of: Callable[[str], Path], tmp_path: Path) -> Path:
    """A model in one file, to use or to spoil."""
    return gguf_files.save(tmp_path / "tiny.gguf", folder_of("llama"))
