"""Scripts and styles of widgets: several files of this folder as the one that a widget takes.

A widget's script is one module, whose address is not known to the browser, so that it can import
nothing beside it. Here a module and those that it imports from its folder are put into one text,
each once, those that are needed first. Names at the top of modules are therefore unique.

What a script says it says by ``words.js``, in the browser's language, which the kernel does not
know: the words of that script come in it, in all languages that there are.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from ..translation import in_all_languages

_IMPORT = re.compile(r'^import \{[^}]*\} from "(\.{1,2}/[\w./]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


_WORDS = "const WORDS = {};"
_SAID = re.compile(r'\bt\(\s*("(?:[^"\\\n]|\\.)*")|\btn\(\s*("[^"\n]*"),\s*("[^"\n]*")')


def joined(path: Path) -> str:
    """A module with the files that it imports; imports of packages stay as they are."""
    text = "\n".join(_modules(path.resolve(), set()))
    words = in_all_languages(*sorted({one for one, _ in messages(text)}))
    return text.replace(_WORDS, f"const WORDS = {json.dumps(words, ensure_ascii=False)};")


def messages(text: str) -> list[tuple[str, str | None]]:
    """What a script says: ``t("…")``, and ``tn("…", "…")`` for one and for many."""
    found = [[json.loads(each) for each in groups if each] for groups in _SAID.findall(text)]
    return [(one, *many) if many else (one, None) for one, *many in found]


def joined_styles(folder: Path, *names: str) -> str:
    """Several style sheets as one."""
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


def _modules(path: Path, seen: set[Path]) -> list[str]:
    if path in seen:
        return []
    seen.add(path)
    text = path.read_text(encoding="utf-8")
    needed = [_modules((path.parent / name).resolve(), seen) for name in _IMPORT.findall(text)]
    own = _EXPORT.sub("", _IMPORT.sub("", text))
    return [*(each for modules in needed for each in modules), own]
