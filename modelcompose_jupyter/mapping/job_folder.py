"""The results of many rows in a folder, by blocks: what is there is whole, and is not done again.

Rows are in blocks of as many each, by their numbers; the block 3 becomes the file
``part-00003.parquet``, or ``.jsonl``, which is there once all of it is. So no row is lost, and none
is there twice, whoever is killed, and whoever does a block a second time. What begins with ``_``
tells of the job, and no reader of tables looks at it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..document import Signature
from ..errors import ComposeError, UsageError, one_line
from ..seeds import draw_seed
from .parts import Kind, Line, Parts, default_kind
from .storage import LocalFolder, Storage, storage_of

BLOCK_ROWS = 1000
"""Rows of a block, where nobody says how many."""

JOB_FILE = "_job.json"
_VERSION = 1
_PART = re.compile(r"part-(\d{5,})\.(parquet|jsonl)")
_OWN = re.compile(r"part-\d{5,}\.(parquet|jsonl)|_(job\.json|rows\.jsonl|part-\d{5,}\.lines)")


@dataclass(frozen=True)
class Job:
    """What the results in a folder are of.

    Attributes:
        workflow: its id.
        document: its hash.
        seed: that of the row 0; see `seeds.seed_of_row`.
        block_rows: rows of a block.
        kind: of its files.
        rows: what tells the rows from others, and the inputs that they share; None where each row
            is compared with what its result says of it.
        ends: how many rows there were, where the last block was not full.
    """

    workflow: str
    document: str
    seed: int
    block_rows: int
    kind: Kind
    rows: Mapping[str, Any] | None = None
    ends: tuple[int, ...] = ()
    version: int = field(default=_VERSION, kw_only=True)

    @classmethod
    def of(cls, content: bytes) -> Job:
        """The job that a file tells of; ValueError where it tells of none."""
        try:
            data = json.loads(content)
            if data["version"] != _VERSION:
                raise ValueError("it is of another version")
            return cls(**{**data, "ends": tuple(data["ends"])})
        except (TypeError, KeyError, RecursionError) as error:
            raise ValueError(one_line(error)) from None


class JobFolder:
    """The results of a job in a folder. Copies of it may write blocks elsewhere.

    Attributes:
        path: as it was named.
        job: what they are of.
    """

    def __init__(self, path: str | os.PathLike[str], job: Job, signature: Signature) -> None:
        self.path = os.fspath(path)
        self.job = job
        self.storage: Storage = storage_of(path)
        self._parts = Parts(job.kind, signature)

    def name(self, block: int) -> str:
        return f"part-{block:05}.{self.job.kind}"

    def block_of(self, index: int) -> int:
        """The block that a row is in."""
        return index // self.job.block_rows

    def rows_of(self, block: int, count: int | None = None) -> range:
        """The rows of a block: as many as it can have, or those of ``count`` in all."""
        first = block * self.job.block_rows
        stop = first + self.job.block_rows
        return range(first, stop if count is None else min(stop, count))

    def blocks(self) -> set[int]:
        """The blocks that are there."""
        found = filter(None, map(_PART.fullmatch, self.storage.names()))
        return {int(each[1]) for each in found if each[2] == self.job.kind}

    def missing(self, there: Collection[int], count: int) -> list[range]:
        """The rows, of ``count``, of blocks that are not there, each range a block's."""
        blocks = range(-(-count // self.job.block_rows))
        return [self.rows_of(block, count) for block in blocks if block not in there]

    def read(self, block: int) -> list[Line]:
        """The rows of a block that is there, in their order.

        Raises:
            UsageError: they cannot be read.
        """
        name = self.name(block)
        try:
            with self.storage.open(name) as file:
                return self._parts.decode(file)
        except Exception as error:  # of pyarrow, too
            raise UsageError(
                f"{name} in {self.path} cannot be read: {one_line(error)}",
                hint="Remove that file, and its rows are done again.",
            ) from None

    def failures(self, block: int) -> int:
        """How many rows of a block that is there have failed."""
        with self.storage.open(self.name(block)) as file:
            return self._parts.failures(file)

    def write(self, block: int, lines: list[Line]) -> None:
        """Write a block, durably, in place of what there is of it. ``lines`` are its rows.

        Raises:
            ComposeError: that failed (``not_saved``).
        """
        try:
            self.storage.write(self.name(block), self._parts.encode(lines))
        except Exception as error:
            raise not_saved(self.path, error) from None

    def note_end(self, count: int) -> None:
        """Tell that a last block which is not full will be written: there are ``count`` rows."""
        if count % self.job.block_rows and count not in self.job.ends:
            self.job = replace(self.job, ends=(*self.job.ends, count))
            self.keep_job()

    def keep_job(self) -> None:
        try:
            content = json.dumps(asdict(self.job), ensure_ascii=False, indent=1)
            self.storage.write(JOB_FILE, content.encode("utf-8", "backslashreplace"))
        except Exception as error:
            raise not_saved(self.path, error) from None

    def short(self, count: int | None) -> dict[int, list[Line]]:
        """The rows of blocks that are there and lack some, since there were less before.

        Args:
            count: how many rows there are; None where that is not known.
        """
        ends = {self.block_of(each) for each in self.job.ends} & self.blocks()
        found = ((block, self.read(block)) for block in sorted(ends))
        return {block: e for block, e in found if len(e) < len(self.rows_of(block, count))}

    def failed(self) -> dict[int, list[Line]]:
        """The rows of blocks that are there, and in which rows have failed."""
        return {block: self.read(block) for block in sorted(self.blocks()) if self.failures(block)}

    def remove_all(self) -> None:
        """Remove what a job has written."""
        for name in self.storage.names():
            if _OWN.fullmatch(name):
                self.storage.remove(name)


def open_folder(
    path: str | os.PathLike[str],
    workflow: str,
    document: str,
    signature: Signature,
    *,
    seed: int | None = None,
    rows: Mapping[str, Any] | None = None,
    kind: Kind | None = None,
    block_rows: int | None = None,
    overwrite: bool = False,
) -> JobFolder:
    """The folder of a job, which goes on where there is one already. It is to be `locked` before.

    Args:
        seed: that of the row 0; that of the job, or a new one, if None.
        rows: see `Job`.
        kind: of the files; that of the job, or `default_kind`, if None.
        block_rows: rows of a block, where the job is new.
        overwrite: whether to begin again, without what is there of another job.

    Raises:
        UsageError: it has results of another job, or other files.
        ComposeError: it cannot be written.
    """
    storage = storage_of(path)
    own = {"workflow": workflow, "document": document, "seed": seed, "kind": kind, "rows": rows}
    try:
        names = storage.names()
        content = None
        if JOB_FILE in names:
            with storage.open(JOB_FILE) as file:
                content = file.read()
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {one_line(error)}") from None
    job = None if content is None or overwrite else _known(content, own, path)
    is_new = job is None
    if job is None:
        foreign = [each for each in names if not each.startswith(".")]
        if foreign and content is None:
            raise UsageError(
                f"{path} has other files in it, such as {foreign[0]}",
                hint="Save to a new folder, or to an empty one.",
            )
        job = Job(
            workflow,
            document,
            draw_seed() if seed is None else seed,
            block_rows or BLOCK_ROWS,
            kind or default_kind(),
            rows,
        )
    folder = JobFolder(path, job, signature)
    if is_new:
        if content is not None:
            folder.remove_all()
        folder.keep_job()
    elif isinstance(folder.storage, LocalFolder):
        folder.storage.sweep()
    return folder


def _known(content: bytes, own: Mapping[str, Any], path: str | os.PathLike[str]) -> Job:
    """The job that a folder has, where it is the one that is meant."""
    try:
        job = Job.of(content)
    except ValueError as error:
        raise UsageError(
            f"{JOB_FILE} in {path} cannot be read: {one_line(error)}",
            hint="Save to another folder, or overwrite this one.",
        ) from None
    for what, value in own.items():
        found = getattr(job, what)
        if (value is None and what != "rows") or json_equal(found, value):
            continue
        raise UsageError(
            _difference(path, what, found, value),
            hint="Save to another folder, or overwrite this one to begin again.",
        )
    return job


def _difference(path: str | os.PathLike[str], what: str, found: Any, value: Any) -> str:
    if what in ("workflow", "document"):
        return f"{path} holds results of another {what}"
    if what == "rows":
        return (
            f"{path} holds results of another job: its rows, or the inputs that they share, are"
            " others"
        )
    if what == "seed":
        return f"{path} holds results of another job: its seed is {found}, and {value} is asked for"
    if what == "kind":
        return f"{path} holds results of another job: its kind is {found}, and {value} is asked for"
    return f"{path} holds results of another job"


def json_equal(one: Any, other: Any) -> bool:
    """Whether JSON cannot tell values apart."""
    return json.dumps(one, sort_keys=True, default=str) == json.dumps(
        json.loads(json.dumps(other, default=str)), sort_keys=True
    )


def not_saved(path: str | os.PathLike[str], error: BaseException) -> ComposeError:
    """The error that results could not be written."""
    told = (isinstance(error, OSError) and error.strerror) or one_line(error)
    reason = f"{told[:1].lower()}{told[1:]}"
    return ComposeError(
        f"{os.fspath(path)} cannot be written: {reason}",
        hint="What was written stays; when there is a remedy, run it again to go on.",
        code="not_saved",
    )


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other jobs out of a folder, where the system can do that.

    Raises:
        UsageError: another one is in it.
    """
    storage = storage_of(path)
    if not isinstance(storage, LocalFolder):
        yield
        return
    release = lock_folder(storage.path)
    try:
        yield
    finally:
        release()


def lock_folder(path: Path) -> Callable[[], None]:
    """Make a folder, and keep other jobs out of it until what is returned is called.

    Raises:
        UsageError: another one is in it, or it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        import fcntl

        descriptor = os.open(path, os.O_RDONLY)
    except ImportError:
        return lambda: None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {one_line(error)}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UsageError(
            f"{path} is being written by another map",
            hint="Wait for that one, or stop it; an iterator of .imap() is stopped by .close().",
        ) from None
    except OSError:
        pass  # a file system without locks
    return lambda: os.close(descriptor)
