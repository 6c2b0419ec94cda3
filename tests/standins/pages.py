"""Pages of the documentation: what stands in their blocks of code."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def page(name: str) -> str:
    """A page by its path in the repository."""
    return (ROOT / name).read_text("utf-8")


def blocks(text: str, *languages: str) -> list[tuple[str, ...]]:
    """What stands in blocks of these languages that follow each other.

    Blocks of a list stand further right, and their lines lose that much. A language is a pattern.
    """
    pattern = r"\s*?\n".join(
        rf"^( *)```{language}\n((?:(?!^ *```).)*?)\n\{2 * place + 1}```$"
        for place, language in enumerate(languages)
    )
    found = re.findall(pattern, text, re.DOTALL | re.MULTILINE)
    return [tuple(map(_moved, each[::2], each[1::2])) for each in found]


def _moved(indent: str, text: str) -> str:
    return re.sub(f"^{indent}", "", text, flags=re.MULTILINE)
