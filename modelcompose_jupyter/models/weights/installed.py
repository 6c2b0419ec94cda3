"""Which models are on this computer: those that ship with the package, and complete downloads."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...errors import ModelError
from ..spec import ModelSpec
from . import files, source
from .gguf_names import is_gguf, models_among, parts_of

_BUNDLED = "bundled:"
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
    found: list[tuple[str, str | None, list[Path]]]
    found = [
        (f"bundled:{name}", None, list(folder.rglob("*")))
        for name, folder in source.bundled().items()
    ]
    for name, folder, paths in _downloaded(_hub_cache()):
        found.append((name, folder.name, paths))
    return [InstalledModel(name, revision, _size(paths)) for name, revision, paths in found]


def _size(paths: list[Path]) -> int:
    """Bytes of files; what several names lead to counts once."""
    contents = {path.resolve() for path in paths if path.is_file()}
    return sum(path.stat().st_size for path in contents)


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _downloaded(cache: Path) -> Iterator[tuple[str, Path, list[Path]]]:
    """The models in the Hub's cache that have all their files: name, snapshot, files.

    Each model in GGUF is one of its own.
    """
    prefix = "models--"
    for repository in sorted(cache.glob(f"{prefix}*")):
        for snapshot in sorted(repository.glob("snapshots/*")):
            name = repository.name[len(prefix) :].replace("--", "/")
            paths: list[Path] = []
            with contextlib.suppress(OSError):
                paths = [path for path in snapshot.rglob("*") if path.is_file()]
            with contextlib.suppress(OSError, ModelError):
                if files.is_complete(snapshot, code=False):
                    own = [path for path in paths if not is_gguf(path.name)]
                    yield name, snapshot, own
            there = {path.relative_to(snapshot).as_posix() for path in paths}
            for model in models_among(there):
                if (parts := set(parts_of(model))) <= there:
                    yield f"{name}/{model}", snapshot, [snapshot / part for part in parts]


def suggested(typed: str) -> list[str]:
    """The models on this computer that may be meant by what is typed, as ``model`` takes them.

    A name fits by its beginning, or by that of the part behind the owner; paths lead on from
    folder to folder. Quick enough for every keystroke: sizes are not looked at, and the cache only
    every few seconds.
    """
    names = [f"bundled:{name}" for name in source.bundled()]
    names += _downloaded_names(_hub_cache(), int(time.monotonic() / _MEMO_SECONDS))
    start = typed.lower()
    fitting = [
        name
        for name in names
        if name.lower().startswith(start) or name.partition("/")[2].lower().startswith(start)
    ]
    return [*fitting, *_folders(typed)]


def doubt(name: str, folder: Path) -> ModelError | None:
    """What keeps from being loaded what is given as ``model``; None where nothing is known to.

    Asks no network: a repository of the Hub may be there or not. Relative paths begin in
    ``folder``.
    """
    if not name.startswith(_BUNDLED) and not source.is_folder(name):
        if name not in source.bundled():
            return None
        hint = f"Write bundled:{name} for the model that ships."
        return ModelError(f"'{name}' is a repository of the Hub here", hint=hint)
    path = str(folder / name) if name.startswith(".") else name
    try:
        source.resolve(ModelSpec(source=path), lambda progress: None)
    except ModelError as error:
        return error
    return None


def whereabouts(name: str) -> str:
    """A sentence about where a model comes from that is given as ``model``. Asks no network."""
    if name.startswith(_BUNDLED):
        return "It ships with the package."
    if source.is_folder(name):
        return "It is in this folder of the computer."
    if name in _downloaded_names(_hub_cache(), int(time.monotonic() / _MEMO_SECONDS)):
        return "It is from the Hugging Face Hub, and on this computer already."
    return "It is from the Hugging Face Hub, and is downloaded when it runs first."


@lru_cache(maxsize=1)
def _downloaded_names(cache: Path, moment: int) -> list[str]:
    """The models in the Hub's cache; looked up once in a moment."""
    return list(dict.fromkeys(name for name, *_ in _downloaded(cache)))


def _folders(typed: str) -> list[str]:
    """Models that a path leads to, and the folders on the way there once it is begun."""
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
            if (path / files.CONFIG).is_file() or models_among([path.name]) == [path.name]:
                folders.append(name)
            elif typed and path.is_dir():
                folders.append(f"{name}/")
    return sorted(folders)
