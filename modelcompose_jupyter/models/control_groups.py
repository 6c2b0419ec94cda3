"""What a container or a service may take of the machine's memory.

Sources: Linux kernel, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class _Files(NamedTuple):
    """What a version calls them; ``cache`` are the names of a file cache in memory.stat."""

    limit: str
    used: str
    cache: tuple[str, str]


_V1 = _Files(
    "memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file")
)
_V2 = _Files("memory.max", "memory.current", ("active_file", "inactive_file"))


def available(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> int | None:
    """Bytes that this process's groups leave it; None where none has a limit.

    What files have in memory counts as free, as it does for the whole machine.
    """
    found = []
    for folder, files in _groups(root, own):
        with suppress(OSError, ValueError, KeyError):  # no limit is the word "max"
            limit, used = (int((folder / name).read_text()) for name in files[:2])
            lines = (folder / "memory.stat").read_text().splitlines()
            kept = dict(line.split(maxsplit=1) for line in lines)
            found.append(limit - used + sum(int(kept[name]) for name in files.cache))
    return max(0, min(found)) if found else None


def _groups(root: Path, own: Path) -> Iterator[tuple[Path, _Files]]:
    """The groups that bound this process's memory, and those above them.

    In a container, the path is that on the machine where its groups have no names of their own;
    then the group is what is mounted.
    """
    with suppress(OSError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                base, files = root / "memory", _V1
            elif not controllers:
                base, files = root, _V2
            else:
                continue
            group = base / path.lstrip("/")
            yield from ((each, files) for each in (group, *group.parents) if _is_in(each, base))


def _is_in(folder: Path, base: Path) -> bool:
    return folder == base or base in folder.parents
