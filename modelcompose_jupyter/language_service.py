"""What an editor asks about a text that is being written: what is wrong, and what may stand there.

The text is a document, or a cell whose first line is ``%%compose``. Places are indexes of UTF-16
units, as browsers count, in the text as the editor has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .document import load_document
from .document.completion import complete as complete_document
from .errors import DocumentError, Problem, UsageError, Where
from .magic_args import CELL_FLAGS, parse_line

LONGEST = 100_000
"""Characters; a longer text is not looked at, since that would take longer than typing."""

_MAGIC = re.compile(r"%%compose(?!\S)")
_LINE_BREAK = re.compile(r"\r\n?|\n")
_WORD = re.compile(r"\w+|\S")


def diagnostics(
    text: str, *, folder: Path | None = None, environ: Mapping[str, str] | None = None
) -> list[dict[str, Any]] | None:
    """What is wrong with a text, and what of it has no effect; None where it is too long.

    Of each problem ``from``, ``to``, ``severity`` (error or warning), ``message`` and ``hint``. The
    folder and the environment are those of `load_document`.
    """
    if len(text) > LONGEST:
        return None
    found: list[dict[str, Any]] = []
    magic = _MAGIC.match(text)
    line, _, below = text.partition("\n")
    # In a cell's document an empty line stands for the magic's, so that lines keep their numbers.
    document = f"\n{below}" if magic else text
    places = _Places(text)
    if magic:
        try:
            parse_line(line[magic.end() :], CELL_FLAGS, lambda expression: None)
        except UsageError as error:
            where = Where("cell", (), 1, magic.end() + 1, line, len(line) + 1)
            found.append(places.problem(Problem(error.message, where, error.hint), "error"))
    try:
        loaded = load_document(
            f"{document}\n", name="cell" if magic else "document", folder=folder, environ=environ
        )
    except DocumentError as error:
        return [*found, *(places.problem(each, "error") for each in error.problems)]
    return [*found, *(places.problem(each, "warning") for each in loaded.warnings)]


def complete(text: str, cursor: int) -> dict[str, Any]:
    """What may stand at a place of a document: ``items``, each with ``text`` and ``kind``.

    They replace the text from ``start`` to the cursor.
    """
    from .models.weights.installed import suggested

    if len(text) > LONGEST:
        return {"start": cursor, "items": []}
    units = text.encode("utf-16-le", "surrogatepass")
    before = units[: 2 * cursor].decode("utf-16-le", "surrogatepass")
    found = complete_document(text, len(before), models=suggested)
    return {
        "start": cursor - _units(before[found.start :]),
        "items": [{"text": each.text, "kind": each.kind} for each in found.items],
    }


class _Places:
    """Lines and columns of a text as indexes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0, *(each.end() for each in _LINE_BREAK.finditer(text))]

    def problem(self, problem: Problem, severity: str) -> dict[str, Any]:
        start, end = self._span(problem.where)
        return {
            "from": _units(self._text[:start]),
            "to": _units(self._text[:end]),
            "severity": severity,
            "message": problem.message,
            "hint": problem.hint,
        }

    def _span(self, where: Where) -> tuple[int, int]:
        if where.line is None or where.column is None:
            return 0, 0
        line = self._starts[min(where.line, len(self._starts)) - 1]
        start = min(line + where.column - 1, len(self._text))
        if where.end_column is not None:
            return start, min(line + where.end_column - 1, len(self._text))
        word = _WORD.match(self._text, start)
        return start, word.end() if word else start


def _units(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
