"""A map whose rows are run in other processes, by blocks: what there is to do, what came of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any

from ..errors import UsageError
from .blocks import BlockRunner
from .carried_rows import ROWS_FILE, carried
from .job_folder import BLOCK_ROWS, locked
from .outputs import ROWS_SHOWN, in_form
from .records import Records
from .row_files import as_row_files
from .row_stream import RowRunner
from .rows import RowInputs, row_source
from .saved_rows import SavedRows
from .saving import SaveTo, job_folder

_LEAST_BLOCKS = 64
"""Blocks of a job, where it has as many rows: more than there are workers."""


class RowsElsewhere:
    """Rows and their folder.

    Args:
        workflow: what runs.
        rows: in whatever form they come; see `Workflow.map`.
        shared: inputs of all rows.
        save_to: the folder.
        seed: that of the first row.

    Raises:
        InputError: rows or inputs that the workflow cannot take.
        UsageError: no folder is named.
    """

    def __init__(
        self,
        workflow: RowRunner,
        rows: Any,
        shared: Mapping[str, Any],
        save_to: str | PathLike[str] | SaveTo | None,
        seed: int | None,
    ) -> None:
        folder = None if save_to is None else SaveTo.of(save_to)
        if folder is None:
            raise UsageError(
                "rows that are run in other processes are saved to a folder",
                hint='Name one: save_to="out/".',
            )
        self._folder = folder
        self.retry_failed = folder.retry_failed
        self._workflow = workflow
        self._shared = shared
        self._seed = seed
        self._inputs = RowInputs(workflow.signature, shared)
        files = as_row_files(rows)
        self._source = row_source(rows if files is None else files, self._inputs)
        self._content: bytes | None = None
        if files is None:
            files, self._content = carried(
                self._source, self._inputs, workflow.signature, folder.path
            )
        self._files = files

    @contextlib.contextmanager
    def opened(self) -> Iterator[BlockRunner]:
        """What does the blocks, while nobody else has the folder.

        Raises:
            UsageError: the folder cannot be written, or holds something else.
        """
        count = len(self._files)
        size = self._folder.block_rows or min(BLOCK_ROWS, max(1, count // _LEAST_BLOCKS))
        with locked(self._folder.path):
            folder = job_folder(
                self._folder,
                self._workflow,
                self._files,
                self._shared,
                self._seed,
                block_rows=size,
            )
            if self._content is not None:
                folder.storage.write(ROWS_FILE, self._content)
            folder.note_end(count)
            yield BlockRunner(self._workflow, self._files, self._shared, folder)

    def results(self, runner: BlockRunner, records: Records | None) -> Any:
        """What came of it, in the form that belongs to the rows."""
        saved = SavedRows(runner.folder, len(self._files))
        if self._content is None:
            return saved
        outputs = list(saved)
        if records is not None and self._source.table is None:
            outputs = list(map(records.handed_out, outputs))
        return in_form(self._source, records, outputs, saved.inputs(ROWS_SHOWN))
