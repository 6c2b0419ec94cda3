"""The names of GGUF files: which are parts of one model."""

from __future__ import annotations

import re
from collections.abc import Iterable

SUFFIX = ".gguf"
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)


def is_gguf(name: str) -> bool:
    """Whether this is what a GGUF file is called."""
    return name.lower().endswith(SUFFIX)


def parts_of(name: str) -> list[str]:
    """All files of the model that a file belongs to, in order; often that file alone."""
    found = _PART.fullmatch(name)
    if found is None or not 1 <= int(found["number"]) <= int(found["count"]):
        return [name]
    count, end = found["count"], name[-len(SUFFIX) :]
    return [f"{found['stem']}-{number:05}-of-{count}{end}" for number in range(1, int(count) + 1)]


def repository_and_file(source: str) -> tuple[str, str] | None:
    """What ``owner/repository/file.gguf`` names; None for any other source.

    The file may be in folders of the repository.
    """
    owner, _, rest = source.partition("/")
    name, _, file = rest.partition("/")
    return (f"{owner}/{name}", file) if owner and name and is_gguf(file) else None


def models_among(names: Iterable[str]) -> list[str]:
    """The models among the files of a repository, each by its only or first part, sorted.

    What reads images for a model (``mmproj``) is none.
    """
    found = {parts_of(name)[0] for name in names if is_gguf(name)}
    return sorted(name for name in found if "mmproj" not in name.rpartition("/")[2].lower())
