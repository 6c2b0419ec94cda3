"""The line of a magic: words, ``--flags``, ``key=text`` and ``key:=python``."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from .errors import UsageError, did_you_mean

CELL_FLAGS = {
    "run": "Run the workflow when the cell runs, with the inputs that the line gives.",
    "no-panel": "Only name the workflow: show no panel.",
}
"""What may stand on the line of ``%%compose``, with a sentence about each."""

_OPENING, _CLOSING = "([{", ")]}"


@dataclass
class MagicArgs:
    """A line taken apart. ``inputs`` maps names to values, ``flags`` holds what began with --."""

    words: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    inputs: dict[str, Any] = field(default_factory=dict)


def parse_line(line: str, flags: Iterable[str], evaluate: Callable[[str], Any]) -> MagicArgs:
    """Take apart what stands behind a magic's name. Flags are known without their dashes, and
    ``evaluate`` gives the value of a Python expression.

    Raises:
        UsageError: an unknown flag, a quote that is not closed, or no name before ``=``.
    """
    result = MagicArgs()
    for piece in _split(line):
        name, equals, value = piece.partition("=")
        if piece.startswith("--"):
            flag = piece[2:]
            if flag not in flags:
                known = [f"--{each}" for each in flags]
                hint = did_you_mean(piece, known) or f"Flags here: {', '.join(known) or 'none'}."
                raise UsageError(f"unknown flag '{piece}'", hint=hint)
            result.flags.add(flag)
        elif not equals:
            result.words.append(_unquoted(piece))
        elif name in ("", ":"):
            raise UsageError(f"there is no name before '=' in '{piece}'")
        elif name.endswith(":"):
            result.inputs[name[:-1]] = evaluate(value)
        else:
            result.inputs[name] = _unquoted(value)
    return result


def word_at_end(written: str, flags: Collection[str]) -> tuple[MagicArgs, str] | None:
    """What stands on a line before its last word, and that word, which may be empty.

    None where no word can stand: in values, in quotes, behind what is wrong.
    """
    typed = "" if written[-1:].isspace() else "".join(written.split()[-1:])
    before = written[: len(written) - len(typed)]
    if not before or "=" in typed:
        return None
    try:
        return parse_line(before, flags, lambda expression: None), typed
    except UsageError:
        return None


def _split(line: str) -> list[str]:
    """The pieces between spaces; quotes, and the brackets of ``key:=[1, 2]``, keep one together."""
    pieces: list[str] = []
    piece, quote, depth, escaped = "", "", 0, False
    is_python = False  # it has a ':='
    for char in line.strip() + " ":
        if escaped:
            escaped = False
        elif quote:
            escaped = char == "\\"
            quote = "" if char == quote else quote
        elif char in "\"'" and (not piece or piece[-1] in "=" + _OPENING + ", :" or is_python):
            quote = char
        elif is_python:
            depth += (char in _OPENING) - (char in _CLOSING)
        if char.isspace() and not quote and depth <= 0:
            if piece:
                pieces.append(piece)
            piece, is_python = "", False
        else:
            is_python = is_python or (char == "=" and piece.endswith(":"))
            piece += char
    if piece.strip():
        what = "a quote" if quote else "a bracket"
        raise UsageError(f"{what} is never closed in '{piece.strip()}'")
    return pieces


def _unquoted(text: str) -> str:
    r"""Text without the quotes around it; in double ones ``\"``, ``\\``, ``\n`` and ``\t`` stand
    for what they do everywhere, and any other backslash for itself."""
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "\"'":
        return text
    inner = text[1:-1]
    if text[0] == "'":
        return inner.replace("\\'", "'")
    try:
        return str(json.loads(text, strict=False))
    except json.JSONDecodeError:
        return inner.replace('\\"', '"')
