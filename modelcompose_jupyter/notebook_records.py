"""Runs in notebook files: what cells keep of them in the metadata of their outputs."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .errors import InputError, one_line
from .text_encoding import decode
from .workflow import METADATA_KEY, Run


def this_notebook() -> Path | None:
    """The file of the notebook that this kernel belongs to, where Jupyter has told it."""
    name = os.environ.get("JPY_SESSION_NAME", "")
    return Path(name) if name.endswith(".ipynb") and Path(name).is_file() else None


def find_record(path: Path, id: str) -> dict[str, Any] | None:
    """The record of a run, by the beginning of its id, in a saved notebook.

    Raises:
        InputError: the file cannot be read as a notebook.
    """
    return next((each for each in _records(path) if str(each.get("run")).startswith(id)), None)


def runs_in(path: Path) -> Iterator[Run]:
    """The runs that a saved notebook remembers.

    Raises:
        InputError: the file cannot be read as a notebook.
    """
    for record in _records(path):
        with contextlib.suppress(ValueError):  # it has the record alone, or was changed by hand
            yield Run.from_notebook(record)


def _records(path: Path) -> Iterator[dict[str, Any]]:
    try:
        notebook = json.loads(decode(path.read_bytes()))
        cells = notebook["cells"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as a notebook: {one_line(error)}") from None
    for cell in _objects(cells):
        for output in _objects(cell.get("outputs")):
            for metadata in _objects([output.get("metadata")]):
                for record in _objects([metadata.get(METADATA_KEY)]):
                    yield from _objects(record.get("runs", [record]))


def _objects(found: Any) -> Iterable[dict[str, Any]]:
    """The objects of a list; nobody vouches for what a notebook has where they are expected."""
    return (each for each in found if isinstance(each, dict)) if isinstance(found, list) else ()


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What may have changed a text between two records of the same run: models and versions."""
    found = []
    for old, new in zip(before["generations"], after["generations"], strict=False):
        for key in ("source", "revision", "device", "precision", "driver"):
            if old["model"].get(key) != new["model"].get(key):
                found.append(f"{key} {old['model'].get(key)} → {new['model'].get(key)}")
    for name, version in before["versions"].items():
        if after["versions"].get(name) != version:
            found.append(f"{name} {version} → {after['versions'].get(name)}")
    return list(dict.fromkeys(found))


def same_texts(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether two runs gave the same texts."""

    def texts(record: dict[str, Any]) -> list[Any]:
        return [[each["stream"], each["texts"]] for each in record["generations"]]

    return texts(before) == texts(after)
