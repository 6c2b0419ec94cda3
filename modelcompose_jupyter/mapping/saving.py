"""Where results of many rows are kept: a file, or a folder of blocks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..document import Document, Signature
from ..errors import UsageError, did_you_mean
from .folder_journal import FolderJournal
from .job_folder import JobFolder, lock_folder, open_folder
from .journal import Journal, Keeper, ParquetJournal
from .parts import Kind
from .row_files import RowFiles
from .rows import RowSource
from .storage import is_remote

_FILES: dict[str, type[Journal]] = {".jsonl": Journal, ".parquet": ParquetJournal}


@dataclass(frozen=True)
class SaveTo:
    """A folder to save results to, and how: what ``save_to`` of a map may be beside a path.

    Attributes:
        path: of the folder, or its URI in an object store.
        kind: of the files in it: ``parquet`` where pyarrow is installed, or ``jsonl``, if None.
        overwrite: whether to begin again, without what is there of a job.
        retry_failed: whether rows that have failed before are done again.
        block_rows: rows of a file, where the job is new.
    """

    path: str | os.PathLike[str]
    kind: Kind | None = None
    overwrite: bool = False
    retry_failed: bool = False
    block_rows: int | None = None

    @classmethod
    def of(cls, given: str | os.PathLike[str] | SaveTo) -> SaveTo | None:
        """The folder that is named; None where a file is."""
        if isinstance(given, SaveTo):
            return given
        text, path = os.fspath(given), Path(given).expanduser()
        is_folder = text.endswith(("/", os.sep)) or is_remote(text) or not path.suffix
        if path.suffix.lower() not in _FILES and path.is_dir():
            is_folder = True
        return cls(given) if is_folder else None


class Source(Protocol):
    """What rows are of; see `row_stream.RowRunner`."""

    @property
    def signature(self) -> Signature: ...

    @property
    def document(self) -> Document: ...

    @property
    def id(self) -> str: ...


def open_keeper(
    save_to: str | os.PathLike[str] | SaveTo,
    workflow: Source,
    rows: RowSource,
    shared: Mapping[str, Any],
    seed: int | None,
) -> Keeper:
    """What keeps the rows of a workflow; it is to be closed.

    Args:
        shared: the inputs that all rows have.
        seed: that of the row 0; the keeper's own, or a new one, if None.

    Raises:
        UsageError: it cannot be written, or holds something else.
    """
    folder = SaveTo.of(save_to)
    if folder is not None:
        return _folder_journal(folder, workflow, rows, shared, seed)
    file = Path(os.fspath(save_to)).expanduser()  # type: ignore[arg-type]
    make = _FILES.get(file.suffix.lower())
    if make is None:
        raise UsageError(
            f"results cannot be saved to {file}",
            hint=did_you_mean(file.suffix, tuple(_FILES))
            or "Name a file that ends in .jsonl or .parquet, or a folder: a name that ends in /.",
        )
    return make(file, workflow.id, workflow.document.hash, seed)


def _folder_journal(
    folder: SaveTo,
    workflow: Source,
    rows: RowSource,
    shared: Mapping[str, Any],
    seed: int | None,
) -> FolderJournal:
    if is_remote(folder.path):
        raise UsageError(
            f"rows cannot be saved to {os.fspath(folder.path)} one by one",
            hint="Save to a folder of this computer, or run on Ray.",
        )
    release = lock_folder(Path(folder.path).expanduser())
    try:
        job = job_folder(folder, workflow, rows.files, shared, seed)
        return FolderJournal(job, release, rows.count, retry_failed=folder.retry_failed)
    except BaseException:
        release()
        raise


def job_folder(
    folder: SaveTo,
    workflow: Source,
    files: RowFiles | None,
    shared: Mapping[str, Any],
    seed: int | None,
    *,
    block_rows: int | None = None,
) -> JobFolder:
    """The folder of a job; see `open_keeper`. ``files`` are what its rows are read from, if they
    are. Whoever writes to it has locked it."""
    rows = None
    if files is not None:
        rows = {**files.identity, "inputs": workflow.signature.masked(shared)[0]}
    return open_folder(
        folder.path,
        workflow.id,
        workflow.document.hash,
        workflow.signature,
        seed=seed,
        rows=rows,
        kind=folder.kind,
        block_rows=block_rows or folder.block_rows,
        overwrite=folder.overwrite,
    )
