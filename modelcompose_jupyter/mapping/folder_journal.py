"""Results of many rows in a `JobFolder`, from one process: durable as they end, row by row.

Rows of a block that is not full yet are lines of a file beside the blocks, ``_part-00003.lines``;
when all have ended, they become the block.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from ..errors import ComposeError, UsageError, one_line
from .job_folder import JobFolder
from .journal import LinesFile, WritingKeeper, same_inputs
from .parts import Line
from .storage import LocalFolder

_LINES = re.compile(r"_part-(\d{5,})\.lines")


class FolderJournal(WritingKeeper):
    """Keeps rows in a folder, which it has for itself until it is closed.

    Args:
        release: lets others have the folder.
        count: how many rows there are, if that is known.
        retry_failed: whether rows that have failed are done again. Those of blocks that are not
            full are in any case.

    Raises:
        UsageError: what is there cannot be read.
    """

    def __init__(
        self,
        folder: JobFolder,
        release: Callable[[], None],
        count: int | None,
        *,
        retry_failed: bool = False,
    ) -> None:
        super().__init__()
        assert isinstance(folder.storage, LocalFolder)
        self.path = folder.storage.path
        self.seed = folder.job.seed
        self.folder = folder
        self._release = release
        self._files: dict[int, LinesFile] = {}
        self._read: dict[int, dict[int, Line]] = {}  # the block that was read last
        # What open blocks have from before: lines of rows that are done.
        self._earlier: dict[int, dict[int, Line]] = {}
        opened = {**folder.short(count), **(folder.failed() if retry_failed else {})}
        self._whole = folder.blocks() - opened.keys()
        for block, lines in opened.items():
            self._earlier[block] = _done(lines)
        for name in folder.storage.names():
            if (found := _LINES.fullmatch(name)) is not None:
                self._take_lines(int(found[1]))
        self._ended = defaultdict[int, set[int]](set)
        for block, by_index in self._earlier.items():
            self._ended[block] |= by_index.keys()
        self._thread.start()

    def _take_lines(self, block: int) -> None:
        """What was begun of a block, unless the block has been written since."""
        if block in self._whole:
            self._lines_path(block).unlink()
            return
        file = self._open(block)
        lines = (file.line(index) for index in list(file.places))
        self._earlier.setdefault(block, {}).update(_done(lines))

    def _lines_path(self, block: int) -> Path:
        return self.path / f"_part-{block:05}.lines"

    def _open(self, block: int) -> LinesFile:
        if block not in self._files:
            job = self.folder.job
            origin = {"workflow": job.workflow, "document": job.document}
            try:
                self._files[block] = LinesFile(self._lines_path(block), origin)
            except OSError as error:
                raise UsageError(f"{self.path} cannot be written: {one_line(error)}") from None
        return self._files[block]

    def missing(self, count: int) -> list[range]:
        """The rows, of ``count``, that are in no block which is there: some of them may be done."""
        return self.folder.missing(self._whole, count)

    def __len__(self) -> int:
        earlier = sum(map(len, self._earlier.values()))
        return len(self._whole) * self.folder.job.block_rows + earlier

    def __contains__(self, index: int) -> bool:
        block = self.folder.block_of(index)
        return block in self._whole or index in self._earlier.get(block, ())

    def restore(self, index: int, inputs: Any) -> Any:
        line = self.check(index, inputs)
        return line["output"] if "output" in line else ComposeError.from_dict(line["error"])

    def check(self, index: int, inputs: Any) -> Line:
        block = self.folder.block_of(index)
        line = self._earlier.get(block, {}).get(index)
        if line is None:  # it is whole, or has just become so
            if block not in self._read:
                self._read = {block: {each["index"]: each for each in self.folder.read(block)}}
            line = self._read[block][index]
        return same_inputs(line, inputs, self.path)

    def close(self, end: int | None = None) -> None:
        super().close(end)
        try:
            if self.error is None and end is not None:
                self._write_rest(end)
        finally:
            for file in self._files.values():
                file.close()
            self._release()

    def _write(self, lines: list[Line]) -> None:
        block_of = self.folder.block_of
        ordered = sorted(lines, key=lambda line: block_of(line["index"]))
        for block, some in groupby(ordered, lambda line: block_of(line["index"])):
            given = list(some)
            self._open(block).append(given)
            self._ended[block].update(line["index"] for line in given)

    def _tidy(self) -> None:
        for block in [each for each, rows in self._ended.items() if len(rows) == self._size]:
            self._write_block(block)

    @property
    def _size(self) -> int:
        return self.folder.job.block_rows

    def _write_rest(self, end: int) -> None:
        """Write the last block, and those whose other rows were done before."""
        self.folder.note_end(end)
        for block in sorted(self._ended):
            rows = self.folder.rows_of(block, end)
            if rows and self._ended[block].issuperset(rows):
                self._write_block(block)

    def _write_block(self, block: int) -> None:
        """Write a block all of whose rows have ended."""
        lines = dict(self._earlier.get(block, {}))
        file = self._files.get(block)
        if file is not None:
            lines |= file.newest()
        self.folder.write(block, [lines[index] for index in sorted(lines)])
        self._whole.add(block)  # first: another thread may look for a row
        self._earlier.pop(block, None)
        del self._ended[block]
        if file is not None:
            del self._files[block]
            file.close()
            file.path.unlink(missing_ok=True)


def _done(lines: Iterable[Line]) -> dict[int, Line]:
    """Rows that are done, by their numbers."""
    return {line["index"]: line for line in lines if "output" in line}
