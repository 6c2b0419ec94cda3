"""Workflows of other documents: ``file: ./other.yml`` in a component, read with the document.

What the file says takes the place of its name, so that the document is what both say: its hash
changes with the file, and whoever gets the document gets the other. What that one names (models,
modules, files) is in its own folder; its ids are its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import DocumentError
from .files import BesideFiles
from .reader import MAX_CHARACTERS, KeyPath, Source, read_text
from .schema import own_keys
from .types import show
from .written_components import written_components

KEY = "file"
MAX_DEPTH = 5
"""How deep documents may name each other."""
MAX_DOCUMENTS = 50
"""How many others a document may name, those that these name included."""


def include_documents(source: Source, files: BesideFiles) -> set[KeyPath]:
    """Put documents where a document names their files; the source gets the problems.

    Returns the places of those that cannot be read, where nothing stands any more.
    """
    lost: set[KeyPath] = set()
    rest: list[tuple[dict[str, Any], KeyPath]] = list(_naming(source.data, ()))
    count = 0
    while rest:
        holder, path = rest.pop(0)
        name, at = holder.pop(KEY), (*path, KEY)
        lost.add(at)
        count += 1
        if count > MAX_DOCUMENTS:
            what = f"more than {MAX_DOCUMENTS} other documents are named"
            source.report(what, at, hint="Name fewer, or each of them in fewer places.")
            break
        found = _read(source, files, name, at)
        if found is not None:
            source.include(at, found)
            lost.remove(at)
            holder[KEY] = found.data = own_keys(found.data)
            rest += _naming(found.data, at)
    for holder, path in rest:
        holder.pop(KEY)
        lost.add((*path, KEY))
    return lost


def _naming(data: Any, path: KeyPath) -> Iterator[tuple[dict[str, Any], KeyPath]]:
    """The components of a document that name the file of another one."""
    for component, at in written_components(data, path):
        if component.get("type") == "workflow" and isinstance(component.get(KEY), str):
            yield component, at


def _read(source: Source, files: BesideFiles, name: str, path: KeyPath) -> Source | None:
    """Another document; None where there is none that can be read, and why is a problem."""
    if "${" in name:
        hint = "Write the path of a file, such as ./other.yml."
        source.report("the file is read with the document: no expression says it", path, hint=hint)
        return None
    file = source.named(path, name)
    chain = [source.file_path, *(source.folder / each.file for each in source.above(path))]
    resolved = [each.resolve() for each in chain]
    if (source.folder / file).resolve() in resolved:
        first = resolved.index((source.folder / file).resolve())
        shown = " → ".join(each.name for each in [*resolved[first:], resolved[first]])
        message = f"these documents name each other: {shown}"
        if len(resolved) == first + 1:
            message = "the document names itself"
        hint = "Such calls have no end. Another workflow of this document is named by its id alone."
        source.report(message, path, hint=hint)
        return None
    if len(chain) > MAX_DEPTH:
        source.report(f"documents name each other more than {MAX_DEPTH} deep", path)
        return None
    text = files.read(name, path, 4 * MAX_CHARACTERS)
    if text is None:
        return None
    try:
        found = read_text(text, file, (source.folder / file).parent)
    except DocumentError as error:
        for problem in error.problems:
            source.add(problem, path)
        return None
    for problem in found.problems:
        source.add(problem, path)
    if not isinstance(found.data, dict):
        source.report(f"the file holds no document, but {show(found.data)}", path)
        return None
    return found
