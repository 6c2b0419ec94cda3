"""Schemas in files of their own: ``json_schema: ./person.schema.json``, read with the document.

What the file says takes the place of its name, so that the document is what both say: its hash
changes with the file, and whoever gets the document gets the schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import DocumentError
from .files import BesideFiles
from .grammars import MAX_SOURCE
from .reader import KeyPath, Source, read_text
from .types import show

_KEY = "json_schema"


def include_schemas(source: Source, files: BesideFiles) -> None:
    """Put schemas where a document names their files; the source gets the problems."""
    for holder, path in _formats(source.data):
        name = holder.get(_KEY)
        if isinstance(name, str) and "${" not in name:
            at = (*path, _KEY)
            found = None
            if "\n" in name or name.lstrip().startswith(("{", "[")):
                hint = "Write it without quotes around it, or name a file: ./person.schema.json"
                source.report(f"'{_KEY}' is a text: a schema is a mapping", at, hint=hint)
            else:
                found = _included(source, files, name, at)
            # Where there is none, any value is allowed, so that nothing else is said of it.
            holder[_KEY] = True if found is None else found.data


def _included(source: Source, files: BesideFiles, name: str, path: KeyPath) -> Source | None:
    """The schema of a file; None where there is none."""
    text = files.read(name, path, MAX_SOURCE)
    if text is None:
        return None
    try:
        found = read_text(text, name, source.folder)
    except DocumentError as error:
        for problem in error.problems:
            source.add(problem)
        return None
    for problem in found.problems:
        source.add(problem)
    if not isinstance(found.data, Mapping | bool):
        source.report(f"the file holds no schema, but {show(found.data)}", path)
        return None
    source.include(path, found)
    return found


def _formats(data: Any) -> Iterator[tuple[dict[str, Any], KeyPath]]:
    """The mappings under ``format`` of a document's components and actions, with their places."""
    for component, path in _components(data):
        for action, at in [(component, path), *_listed(component, "action", path)]:
            for holder, place in [(action, at), (action.get("params"), (*at, "params"))]:
                if isinstance(holder, dict) and isinstance(holder.get("format"), dict):
                    yield holder["format"], (*place, "format")


def _components(data: Any) -> Iterator[tuple[dict[str, Any], KeyPath]]:
    if not isinstance(data, dict):
        return
    yield from _listed(data, "component", ())
    for workflow, path in _listed(data, "workflow", ()):
        for job, at in [(workflow, path), *_listed(workflow, "job", path)]:
            yield from _listed(job, "component", at)


def _listed(holder: Mapping[str, Any], key: str, path: KeyPath) -> list[tuple[Any, KeyPath]]:
    """The mappings under a key and its plural, with their places."""
    found: list[tuple[Any, KeyPath]] = []
    for name in (key, f"{key}s"):
        value = holder.get(name)
        if isinstance(value, list):
            found += [(each, (*path, name, place)) for place, each in enumerate(value)]
        else:
            found.append((value, (*path, name)))
    return [(each, at) for each, at in found if isinstance(each, dict)]
