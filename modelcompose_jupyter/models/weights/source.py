"""From what a user calls a model to the folder, or the GGUF file, that holds it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from ...errors import ModelError, did_you_mean
from ..spec import ModelSpec, Report
from . import files, optional_libraries
from .coming_weights import OnComing
from .gguf_names import is_gguf, parts_of, repository_and_file

_FOLDER = re.compile(r"^([/\\~]|\.{1,2}([/\\]|$)|[A-Za-z]:[/\\])")
_BUNDLED = "bundled:"


@dataclass(frozen=True)
class ResolvedSource:
    """A model on this disk.

    Attributes:
        folder: that it is in.
        revision: its commit if it came from the Hub.
        parts: the GGUF file that it is, or all parts of it in order; empty for a folder.
        is_hollow: whether files of weights are there by their headers alone, see `ComingWeights`.
    """

    folder: Path
    revision: str | None = None
    parts: tuple[Path, ...] = ()
    is_hollow: bool = False

    @property
    def place(self) -> Path:
        """The folder, or the GGUF file."""
        return self.parts[0] if self.parts else self.folder


def is_folder(source: str) -> bool:
    """Whether a source is a path; anything else but ``bundled:`` is a Hub id."""
    return _FOLDER.match(source) is not None


def folder_of(source: str) -> Path:
    """The folder that a path means; a `ModelError` for nobody's home, or links in a circle."""
    try:
        return Path(source).expanduser().resolve()
    except (OSError, RuntimeError, ValueError):
        raise ModelError(
            f"{source!r} is no path of this computer",
            hint="Check the path: its home (~), its links and its characters.",
            code="model_not_found",
        ) from None


def resolve(spec: ModelSpec, report: Report, on_coming: OnComing | None = None) -> ResolvedSource:
    """Find a model, downloading it if need be.

    ``on_coming`` is called before weights are downloaded, and may refuse them.

    Raises:
        ModelError: it does not exist, cannot be fetched, or is not whole.
    """
    if spec.source.startswith(_BUNDLED):
        source = ResolvedSource(_bundled(spec.source.removeprefix(_BUNDLED)))
    elif is_folder(spec.source):
        path = folder_of(spec.source)
        if is_gguf(path.name) and not path.is_dir():
            return ResolvedSource(path.parent, parts=_local_parts(path))
        source = ResolvedSource(path)
    else:
        if not optional_libraries.has("huggingface_hub"):
            raise ModelError(
                "huggingface_hub is not installed, and models of the Hub need it",
                hint="Run: pip install huggingface_hub",
                code="not_installed",
            )
        from .hub import Download

        named = repository_and_file(spec.source)
        if named is not None:
            repository, file = named
            wanted = replace(spec, source=repository)
            folder = Download(wanted, report, file, on_coming=on_coming).fetch()
            parts = tuple(folder / part for part in parts_of(file))
            return ResolvedSource(parts[0].parent, revision=folder.name, parts=parts)
        folder = Download(spec, report, on_coming=on_coming).fetch()
        source = ResolvedSource(folder, revision=folder.name)
    files.check_folder(source.folder)
    return source


def _local_parts(path: Path) -> tuple[Path, ...]:
    """A GGUF file, or all its parts; a `ModelError` where one is not there."""
    parts = [path.with_name(name) for name in parts_of(path.name)]
    missing = [each for each in parts if not each.is_file()]
    if not missing:
        files.check_fetched(parts)
        return tuple(parts)
    if len(parts) == 1 or len(missing) == len(parts):
        raise ModelError(
            f"the file {path} does not exist",
            hint="Check the path. A name without ./ or / in front is looked for on the Hub.",
            code="model_not_found",
        )
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    raise ModelError(
        f"of the {len(parts)} parts of the model {path.name}, {missing[0].name}{more} is missing",
        hint="Put all parts into the same folder.",
        code="incomplete_model",
    )


def fingerprint(spec: ModelSpec) -> tuple[tuple[str, int, int], ...]:
    """What tells that the files of a folder have changed; empty for what does not change."""
    if not is_folder(spec.source):
        return ()
    try:
        folder = folder_of(spec.source)
        if not folder.is_dir():
            parts = [folder.with_name(name) for name in parts_of(folder.name)]
            return tuple((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in parts)
        watched = [p for p in folder.iterdir() if p.suffix in {".safetensors", ".bin", ".json"}]
        return tuple(sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in watched))
    except (OSError, ModelError):
        return ()  # loading it will say what is wrong


def bundled() -> dict[str, Path]:
    """The models that ship with the package: their folders by name."""
    root = Path(str(resources.files("modelcompose_jupyter") / "bundled"))
    folders = (path for path in sorted(root.iterdir()) if (path / files.CONFIG).is_file())
    return {path.name: path for path in folders}


def _bundled(name: str) -> Path:
    names = bundled()
    if name not in names:
        raise ModelError(
            f"there is no bundled model '{name}'",
            hint=did_you_mean(name, names) or f"There is: {', '.join(names)}.",
            code="model_not_found",
        )
    return names[name]
