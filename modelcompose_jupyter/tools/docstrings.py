"""What a function's docstring says of it and of its parameters: Google's, NumPy's and Sphinx's
styles.

They are read leniently: what is not understood is left out, and no docstring is an error.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

_PARAMETERS = {
    "args", "arguments", "parameters", "params", "keyword args", "keyword arguments",
    "other parameters",
}  # fmt: skip
_OTHERS = {
    "attributes", "example", "examples", "methods", "note", "notes", "raise", "raises", "receives",
    "references", "return", "returns", "rtype", "see also", "todo", "type", "warning", "warnings",
    "warns", "yield", "yields",
}  # fmt: skip
_UNDERLINE = re.compile(r"\s*-{3,}\s*")
_GOOGLE = re.compile(r"\*{0,2}(?P<name>\w+)\s*(?:\(.*?\)\s*)?:(?:\s+(?P<text>.*))?$")
_SPHINX = re.compile(r"\s*:(?P<field>[a-z]+)(?:\s+(?P<words>[^:]*))?:\s*(?P<text>.*)")
_SPHINX_PARAMETERS = {"param", "parameter", "arg", "argument", "key", "keyword"}


@dataclass(frozen=True)
class Docstring:
    """``description`` is what stands outside of all sections; ``parameters`` says what each is."""

    description: str = ""
    parameters: dict[str, str] = field(default_factory=dict)


def parse(text: str | None) -> Docstring:
    """A docstring taken apart."""
    lines = inspect.cleandoc(text or "").splitlines()
    outside: list[str] = []
    said: dict[str, str] = {}
    while lines:
        title = lines[0].strip().removesuffix(":").lower()
        is_known = title in _PARAMETERS or title in _OTHERS
        if is_known and len(lines) > 1 and _UNDERLINE.fullmatch(lines[1]):
            body, lines = _until(lines[2:], _is_numpy_title)
            said |= _numpy(body) if title in _PARAMETERS else {}
        elif is_known and lines[0].endswith(":") and _indent(lines[0]) == 0:
            body, lines = _until(lines[1:], lambda rest: bool(rest[0]) and _indent(rest[0]) == 0)
            said |= _google(body) if title in _PARAMETERS else {}
        else:
            outside.append(lines[0])
            lines = lines[1:]
    description, fields = _sphinx(outside)
    said = {name: " ".join(text.split()) for name, text in {**said, **fields}.items()}
    return Docstring(description, {name: text for name, text in said.items() if text})


def _until(lines: list[str], is_end: Callable[[list[str]], bool]) -> tuple[list[str], list[str]]:
    """The lines of a section, and those behind it."""
    end = next((n for n in range(len(lines)) if is_end(lines[n:])), len(lines))
    return lines[:end], lines[end:]


def _is_numpy_title(lines: list[str]) -> bool:
    return len(lines) > 1 and bool(lines[0].strip()) and bool(_UNDERLINE.fullmatch(lines[1]))


def _numpy(body: Iterable[str]) -> dict[str, str]:
    """``name : type``, or several names, with what they are indented below."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in body:
        if line.strip() and _indent(line) == 0:
            names = [each.strip().lstrip("*") for each in line.partition(":")[0].split(",")]
            found |= dict.fromkeys(names, "")
        else:
            found |= {name: f"{found[name]} {line}" for name in names}
    return found


def _google(body: list[str]) -> dict[str, str]:
    """``name (type): what it is``; what is indented further goes on with it."""
    margin = min((_indent(line) for line in body if line.strip()), default=0)
    found: dict[str, str] = {}
    name = None
    for line in body:
        entry = _GOOGLE.match(line.strip()) if _indent(line) == margin else None
        if entry is not None:
            name = entry["name"]
            found[name] = entry["text"] or ""
        elif name is not None:
            found[name] += f" {line}"
    return found


def _sphinx(lines: Iterable[str]) -> tuple[str, dict[str, str]]:
    """What stands before the first field, and the parameters that fields describe."""
    plain: list[str] = []
    found: dict[str, str] = {}
    name: str | None = None
    in_fields = False
    for line in lines:
        each = _SPHINX.fullmatch(line)
        if each is not None and each["field"] in _SPHINX_PARAMETERS | _OTHERS:
            in_fields = True
            words = (each["words"] or "").split()
            name = words[-1] if words and each["field"] in _SPHINX_PARAMETERS else None
            if name is not None:
                found[name] = each["text"]
        elif not in_fields:
            plain.append(line)
        elif name is not None:
            found[name] += f" {line}"
    return "\n".join(plain).strip(), found


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
