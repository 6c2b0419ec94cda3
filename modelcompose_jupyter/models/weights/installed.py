"""Which models are on this computer: those that ship with the package, and complete downloads."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import ModelError
from . import files, source

_MEMO_SECONDS = 5.0
_MOST_FOLDERS = 500


@dataclass(frozen=True)
class InstalledModel:
    """A model that needs no download.

    Attributes:
        source: what to write as ``model``.
        revision: the commit of a downloaded one.
        size_bytes: what its files take on the disk.
    """

    source: str
    revision: str | None
    size_bytes: int


def installed() -> list[InstalledModel]:
    """The models on this computer, the bundled ones first. Asks no network."""
    return [*_bundled(), *_downloaded()]


def _bundled() -> Iterator[InstalledModel]:
    for name, folder in source.bundled().items():
        size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        yield InstalledModel(f"bundled:{name}", None, size)


def _downloaded() -> Iterator[InstalledModel]:
    try:
        from huggingface_hub import scan_cache_dir
        from huggingface_hub.errors import CacheNotFound
    except ImportError:
        return
    try:
        repositories: Any = scan_cache_dir(_hub_cache()).repos
    except (CacheNotFound, OSError, ValueError):  # no folder, or one that cannot be read
        return
    for repository in sorted(repositories, key=lambda each: each.repo_id):
        for revision in sorted(repository.revisions, key=lambda each: each.commit_hash):
            is_model = repository.repo_type == "model"
            if is_model and _is_whole(revision.snapshot_path):
                yield InstalledModel(
                    repository.repo_id, revision.commit_hash, revision.size_on_disk
                )


def suggested(typed: str) -> list[str]:
    """The models on this computer that may be meant by what is typed, as ``model`` takes them.

    A name fits by its beginning, or by that of the part behind the owner; paths lead on from
    folder to folder. Quick enough for every keystroke: sizes are not looked at, and the cache only
    every few seconds.
    """
    names = [f"bundled:{name}" for name in source.bundled()]
    names += _whole_repositories(_hub_cache(), int(time.monotonic() / _MEMO_SECONDS))
    start = typed.lower()
    fitting = [
        name
        for name in names
        if name.lower().startswith(start) or name.partition("/")[2].lower().startswith(start)
    ]
    return [*fitting, *_folders(typed)]


def _hub_cache() -> Path | None:
    try:
        from huggingface_hub import constants
    except ImportError:
        return None
    return Path(constants.HF_HUB_CACHE)


@lru_cache(maxsize=1)
def _whole_repositories(cache: Path | None, moment: int) -> list[str]:
    """The models of a cache that are there with all their files; looked up once in a moment."""
    folders = sorted(cache.glob("models--*")) if cache is not None else []
    prefix = len("models--")
    return [folder.name[prefix:].replace("--", "/") for folder in folders if _has_whole(folder)]


def _has_whole(repository: Path) -> bool:
    try:
        snapshots = list((repository / "snapshots").iterdir())
    except OSError:
        return False
    return any(_is_whole(snapshot) for snapshot in snapshots)


def _is_whole(snapshot: Path) -> bool:
    try:
        return files.is_complete(snapshot, code=False)
    except (OSError, ModelError):
        return False


def _folders(typed: str) -> list[str]:
    """Folders of models that a path leads to, and those on the way there once it is begun."""
    if typed and not source.is_folder(typed):
        return []
    parent = typed[: typed.rfind("/") + 1] or "./"
    folders = []
    # No such folder or no access, a NUL in it, no such home.
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        for path in itertools.islice(Path(parent).expanduser().iterdir(), _MOST_FOLDERS):
            name = f"{parent}{path.name}"
            if not name.startswith(typed) or path.name.startswith("."):
                continue
            if (path / files.CONFIG).is_file():
                folders.append(name)
            elif typed and path.is_dir():
                folders.append(f"{name}/")
    return sorted(folders)
