"""Blocks of rows, each done by itself, in whichever process: what workers of a cluster do."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .job_folder import JobFolder
from .journal import Keeper, same_inputs
from .parts import Line
from .row_files import RowFiles
from .row_stream import RowRunner, RowStream


@dataclass(frozen=True)
class BlockDone:
    """How a block was done: how many rows it has, how many of them failed, tokens in all."""

    rows: int
    failed: int
    tokens: int


class BlockRunner:
    """Does blocks, and writes them to their folder. Copies of it may do so in other processes.

    Several threads may use it, each for a block.

    Args:
        workflow: what runs.
        files: that rows are read from.
        shared: inputs of all rows.
        folder: that blocks are written to.
    """

    def __init__(
        self, workflow: RowRunner, files: RowFiles, shared: Mapping[str, Any], folder: JobFolder
    ) -> None:
        self.workflow = workflow
        self.files = files
        self.folder = folder
        self._shared = shared
        self._own = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_own"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._own = threading.local()

    def lacking(self, *, retry_failed: bool = False) -> dict[int, bool]:
        """The blocks that lack rows, in their order, and whether each is there all the same: since
        there were less rows before, or since some are to be done again that have failed."""
        folder, count = self.folder, len(self.files)
        again = {*folder.short(count), *(folder.failed() if retry_failed else ())}
        missing = folder.missing(folder.blocks() - again, count)
        blocks = [folder.block_of(rows.start) for rows in missing]
        return {block: block in again for block in blocks}

    def run(self, block: int, *, again: bool) -> BlockDone:
        """Do a block; ``again``, but for its rows that are there and have not failed.

        Raises:
            ComposeError: it cannot be written.
            InputError: the files are not as they were.
        """
        files = getattr(self._own, "files", None)
        if files is None:  # each thread reads on from where it was
            files = self._own.files = copy.copy(self.files)
        lines = BlockLines(self.folder, block, again=again)
        rows = self.folder.rows_of(block, len(files))
        stream = RowStream(self.workflow, files, self._shared, lines, progress=False, only=[rows])
        for _ in stream:
            pass
        done = lines.in_order
        self.folder.write(block, done)
        return BlockDone(len(rows), sum("error" in line for line in done), stream.tokens)


class BlockLines(Keeper):
    """Keeps the rows of a block in memory, with those of it that are there ``again``."""

    def __init__(self, folder: JobFolder, block: int, *, again: bool) -> None:
        self.path = Path(folder.path)
        self.seed = folder.job.seed
        there = folder.read(block) if again else []
        self._lines = {line["index"]: line for line in there if "output" in line}
        self._earlier = frozenset(self._lines)

    @property
    def in_order(self) -> list[Line]:
        return [self._lines[index] for index in sorted(self._lines)]

    def __len__(self) -> int:
        return len(self._earlier)

    def __contains__(self, index: int) -> bool:
        return index in self._earlier

    def restore(self, index: int, inputs: Any) -> Any:
        return self.check(index, inputs)["output"]

    def check(self, index: int, inputs: Any) -> Line:
        return same_inputs(self._lines[index], inputs, self.path)

    def add(self, line: Callable[[], Line], written: Callable[[], None]) -> None:
        ended = line()
        self._lines[ended["index"]] = ended
        written()

    def close(self, end: int | None = None) -> None:
        """Nothing is left to be kept."""
