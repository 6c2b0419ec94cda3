"""Weights that are on the Hub and not on this disk yet, and what can be known of them before.

The header of a safetensors file says what is in it. So a folder with the model's small files, and
with files of weights that are holes behind their headers, tells what the model will take, by the
same code that decides about the model itself.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import safetensors_header

Read = Callable[[str, int, int], bytes]
"""``read(name, start, end)``: a part of a file on the Hub."""

_FIRST = 1 << 19
"""Bytes of a file that are read at once: the headers of nearly all files are shorter."""


@dataclass(frozen=True)
class ComingWeights:
    """The weights of a repository that are to be downloaded.

    Attributes:
        revision: the repository's commit.
        small: the model's other files, which are on this disk.
        sizes: bytes of each file of weights, by name.
        read: reads parts of them.
    """

    revision: str
    small: tuple[Path, ...]
    sizes: Mapping[str, int]
    read: Read

    @property
    def total(self) -> int:
        """Bytes of all files of weights."""
        return sum(self.sizes.values())

    @contextmanager
    def hollow(self) -> Iterator[Path]:
        """A folder like the model's, in which files of weights have no content but their headers.

        Raises:
            BrokenFile: a file of weights begins with no header.
            OSError: the disk or the Hub refuses.
        """
        with tempfile.TemporaryDirectory(prefix="modelcompose-") as made:
            folder = Path(made)
            for path in self.small:
                shutil.copyfile(path, folder / path.name)
            for name, size in self.sizes.items():
                with (folder / name).open("wb") as file:
                    file.write(self._header(name, size))
                    file.truncate(size)
            yield folder

    def _header(self, name: str, size: int) -> bytes:
        """A file up to the end of its header."""
        start = self.read(name, 0, min(size, _FIRST))
        end = safetensors_header.end_of_header(start, size)
        return start[:end] + (self.read(name, len(start), end) if end > len(start) else b"")


OnComing = Callable[[ComingWeights], None]
"""Called before weights are downloaded; raises where they are not wanted."""
