"""Which models are on this computer: those that ship with the package, and complete downloads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import files, source


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
        repositories: Any = scan_cache_dir().repos
    except CacheNotFound:
        return
    for repository in sorted(repositories, key=lambda each: each.repo_id):
        for revision in sorted(repository.revisions, key=lambda each: each.commit_hash):
            is_model = repository.repo_type == "model"
            if is_model and files.is_complete(revision.snapshot_path, code=False):
                yield InstalledModel(
                    repository.repo_id, revision.commit_hash, revision.size_on_disk
                )
