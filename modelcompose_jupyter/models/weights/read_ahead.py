"""Having files in the system's cache before they are used."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_AT_ONCE = 32 << 20  # bytes


class Span(NamedTuple):
    """Bytes of a file, from ``begin`` to ``end``."""

    path: Path
    begin: int
    end: int


def whole(paths: Iterable[Path]) -> list[Span]:
    """All bytes of files; of one that has another name by now, as kept ones get, none."""
    found = []
    for path in paths:
        with suppress(OSError):
            found.append(Span(path, 0, path.stat().st_size))
    return found


class ReadAhead:
    """Reads parts of files on a thread of its own, from `start` on, or as a context.

    What is still unread when the context ends is left. Where a system cannot be asked for it,
    nothing is read.
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans
        self._size = sum(span.end - span.begin for span in spans)
        self._done = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="modelcompose-read", daemon=True)

    def start(self) -> None:
        """Read all of it."""
        self._thread.start()

    def __enter__(self) -> ReadAhead:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    @property
    def share(self) -> float:
        """How much of all is read, from 0 to 1."""
        return self._done / max(1, self._size)

    def wait(self, seconds: float) -> bool:
        """Wait so long; whether all is read."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with suppress(OSError, AttributeError):  # whoever reads the files will say what is wrong
            for span in self._spans:
                self._read(span)

    def _read(self, span: Span) -> None:
        with span.path.open("rb") as file:
            for at in range(span.begin, span.end, _AT_ONCE):
                if self._stopped.is_set():
                    return
                count = min(_AT_ONCE, span.end - at)
                os.posix_fadvise(file.fileno(), at, count, os.POSIX_FADV_WILLNEED)
                self._done += count
