"""Scripts and styles of widgets: several files of this folder as the one that a widget takes.

A widget's script is one module, whose address is not known to the browser, so that it can import
nothing beside it. Here a module and those that it imports from its folder are put into one text,
each once, those that are needed first. Names at the top of modules are therefore unique.
"""

from __future__ import annotations

import re
from pathlib import Path

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w.]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


def joined(path: Path) -> str:
    """A module with what it imports from its own folder; others' imports stay as they are."""
    return "\n".join(_modules(path, set()))


def joined_styles(folder: Path, *names: str) -> str:
    """Several style sheets as one."""
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


def _modules(path: Path, seen: set[Path]) -> list[str]:
    if path in seen:
        return []
    seen.add(path)
    text = path.read_text(encoding="utf-8")
    needed = [_modules(path.parent / name, seen) for name in _IMPORT.findall(text)]
    own = _EXPORT.sub("", _IMPORT.sub("", text))
    return [*(each for modules in needed for each in modules), own]
