"""Components in a document as it was written, wherever they may stand: its own, and those in jobs,
be these within others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .reader import KeyPath


def written_components(data: Any, path: KeyPath = ()) -> Iterator[tuple[dict[str, Any], KeyPath]]:
    """The components of a document that stands at a place, each with its own place."""
    if not isinstance(data, dict):
        return
    yield from written_in(data, "component", path)
    jobs = [
        found
        for workflow, at in written_in(data, "workflow", path)
        for found in [(workflow, at), *written_in(workflow, "job", at)]
    ]
    while jobs:
        job, at = jobs.pop(0)
        yield from written_in(job, "component", at)
        if isinstance(job.get("do"), dict):
            jobs.append((job["do"], (*at, "do")))


def written_in(
    holder: Mapping[str, Any], key: str, path: KeyPath
) -> list[tuple[dict[str, Any], KeyPath]]:
    """The mappings under a key and its plural, with their places."""
    found: list[tuple[Any, KeyPath]] = []
    for name in (key, f"{key}s"):
        value = holder.get(name)
        if isinstance(value, list):
            found += [(each, (*path, name, place)) for place, each in enumerate(value)]
        else:
            found.append((value, (*path, name)))
    return [(each, at) for each, at in found if isinstance(each, dict)]
