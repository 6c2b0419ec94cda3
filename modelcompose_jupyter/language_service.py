"""What an editor asks about a text that is being written.

What is wrong with it, what may stand at a place, and what stands there means.

The text is a document, or a cell whose first line is ``%%compose``. Places are indexes of UTF-16
units, as browsers count, in the text as the editor has it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from .document import load_document, signature
from .document.completion import (
    Completion,
    Completions,
    Explanation,
    FunctionNames,
    input_names,
    named_models,
)
from .document.completion import complete as complete_document
from .document.completion import explain as explain_document
from .errors import ComposeError, DocumentError, Problem, UsageError, Where
from .magic_args import CELL_FLAGS, parse_line, word_at_end
from .models.weights.installed import doubt, suggested, whereabouts

LONGEST = 100_000
"""Characters; a longer text is not looked at, since that would take longer than typing."""

_LONGEST_READ = 5_000  # characters; reading takes 10 ms for so many
_MOST_MODELS = 20  # that are looked for on the disk
_MAGIC = re.compile(r"%%compose(?!\S)")
_LINE_BREAK = re.compile(r"\r\n?|\n")
_WORD = re.compile(r"\w+|\S")


def diagnostics(
    text: str, *, folder: Path | None = None, environ: Mapping[str, str] | None = None
) -> list[dict[str, Any]] | None:
    """What is wrong with a text, and what of it has no effect; None where it is too long.

    Of each problem ``from``, ``to``, ``severity`` (error or warning), ``message`` and ``hint``. The
    folder and the environment are those of `load_document`. A model that is not on this computer is
    a warning, unless it is one of the Hub, which is not asked.
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
        found += [places.problem(each, "error") for each in error.problems]
    else:
        found += [places.problem(each, "warning") for each in loaded.warnings]
    ahead = len(text) - len(document)
    for model in named_models(document)[:_MOST_MODELS]:
        doubted = doubt(model.source, folder or Path.cwd())
        if doubted is not None:
            span = (model.start + ahead, model.end + ahead)
            found.append(places.marked(span, "warning", doubted.message, doubted.hint))
    return found


def complete(text: str, cursor: int, *, functions: FunctionNames = lambda: ()) -> dict[str, Any]:
    """What may stand at a place of a text: ``items``, each with ``text``, ``kind`` and ``help``.

    They replace the text from ``start`` to the cursor, the likeliest first. ``functions`` gives the
    names of Python functions that the document may name.
    """
    if len(text) > LONGEST:
        return {"start": cursor, "items": []}
    at = _index(text, cursor)
    magic = _MAGIC.match(text)
    body = _body(text)
    found: Completions | None
    if magic is None or at >= body:
        found = complete_document(text[body:], at - body, models=suggested, functions=functions)
        ahead = body
    else:
        found = complete_cell_line(text[magic.end() : at], text[body:])
        ahead = magic.end()
    if found is None:
        return {"start": cursor, "items": []}
    return {
        "start": cursor - _units(text[ahead + found.start : at]),
        "items": [dataclasses.asdict(each) for each in found.items],
    }


def complete_cell_line(written: str, document: str) -> Completions | None:
    """What may stand at the end of what is written behind ``%%compose``, above a document.

    Inputs of the document, and flags; None where neither can stand.
    """
    found = word_at_end(written, CELL_FLAGS)
    if found is None:
        return None
    line, typed = found
    items = [
        Completion(f"{name}=", "input", "An input of the workflow.")
        for name in _inputs(document)
        if name not in line.inputs
    ]
    items += [
        Completion(f"--{flag}", "flag", about)
        for flag, about in CELL_FLAGS.items()
        if flag not in line.flags
    ]
    fitting = tuple(each for each in items if each.text.startswith(typed))
    return Completions(len(written) - len(typed), fitting)


@lru_cache(maxsize=4)
def _inputs(document: str) -> tuple[str, ...]:
    """The inputs of a cell's document; of a broken or long one, those that its expressions name."""
    if len(document) > LONGEST:
        return ()
    if len(document) <= _LONGEST_READ:
        with suppress(ComposeError):
            loaded = load_document("\n" + document)
            inputs = signature(loaded, loaded.default_workflow).inputs
            return tuple(each.name for each in inputs)
    return tuple(input_names(document))


def explain(text: str, cursor: int, *, folder: Path | None = None) -> dict[str, Any] | None:
    """What stands at a place of a text; None where nothing is known of it.

    ``from`` and ``to``, its ``name``, a word for what it is (``kind``), and a sentence (``help``).
    The folder is that of `load_document`.
    """
    if len(text) > LONGEST:
        return None
    at = _index(text, cursor)
    body = _body(text)
    if at < body:
        return None
    document = text[body:]
    found = explain_document(document, at - body)
    for model in named_models(document):
        here = model.start <= at - body <= model.end
        if here and doubt(model.source, folder or Path.cwd()) is None:
            about = whereabouts(model.source)
            found = Explanation(model.start, model.end, model.source, "model", about)
    if found is None:
        return None
    return {
        "from": _units(text[: body + found.start]),
        "to": _units(text[: body + found.end]),
        "name": found.name,
        "kind": found.kind,
        "help": found.help,
    }


def _body(text: str) -> int:
    """Where a text's document begins: in a cell, below the magic's line."""
    return text.find("\n") + 1 or len(text) + 1 if _MAGIC.match(text) else 0


def _index(text: str, cursor: int) -> int:
    """The index of a character from that of a UTF-16 unit."""
    if text.isascii():
        return min(cursor, len(text))
    units = text.encode("utf-16-le", "surrogatepass")
    return len(units[: 2 * cursor].decode("utf-16-le", "surrogatepass"))


class _Places:
    """Lines and columns of a text as indexes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0, *(each.end() for each in _LINE_BREAK.finditer(text))]

    def problem(self, problem: Problem, severity: str) -> dict[str, Any]:
        """A problem as editors take it; one of another file is where the text names that."""
        at, message = problem.where, problem.message
        if problem.named_at is not None:
            at, message = problem.named_at, str(problem)
        return self.marked(self._span(at), severity, message, problem.hint)

    def marked(
        self, span: tuple[int, int], severity: str, message: str, hint: str | None
    ) -> dict[str, Any]:
        return {
            "from": _units(self._text[: span[0]]),
            "to": _units(self._text[: span[1]]),
            "severity": severity,
            "message": message,
            "hint": hint,
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
