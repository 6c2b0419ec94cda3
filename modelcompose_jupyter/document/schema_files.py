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
from .included import KEY as DOCUMENT
from .reader import KeyPath, Source, read_text
from .types import show
from .written_components import written_components, written_in

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
        found = read_text(text, source.named(path, name), source.folder)
    except DocumentError as error:
        for problem in error.problems:
            source.add(problem, path)
        return None
    for problem in found.problems:
        source.add(problem, path)
    if not isinstance(found.data, Mapping | bool):
        source.report(f"the file holds no schema, but {show(found.data)}", path)
        return None
    source.include(path, found)
    return found


def _formats(data: Any) -> Iterator[tuple[dict[str, Any], KeyPath]]:
    """The mappings under ``format`` of a document's components and actions, with their places."""
    for component, path in written_components(data):
        if isinstance(component.get(DOCUMENT), dict):
            below = _formats(component[DOCUMENT])
            yield from ((each, (*path, DOCUMENT, *at)) for each, at in below)
        for action, at in [(component, path), *written_in(component, "action", path)]:
            for holder, place in [(action, at), (action.get("params"), (*at, "params"))]:
                if isinstance(holder, dict) and isinstance(holder.get("format"), dict):
                    yield holder["format"], (*place, "format")
