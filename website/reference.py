"""Pages of reference that are made from the program: the HTTP API, the commands, Python."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import modelcompose_jupyter

HTTP = """\
# The HTTP API

What a server answers, as its own `GET {base}/openapi.json` says it. [Serving](../serving.md) tells
how it is used.

"""
COMMANDS = """\
# Commands

::: mkdocs-click
    :module: modelcompose_jupyter.cli
    :command: main
    :prog_name: model-compose
    :depth: 1
    :style: table
"""


def http_page() -> str:
    """All routes, with what they take and answer, and the models of both."""
    from modelcompose_jupyter.server.openapi import ALL_ROUTES, openapi_document
    from modelcompose_jupyter.server.state import ServerSettings

    settings = ServerSettings()
    document = openapi_document(ALL_ROUTES, settings)
    parts = [HTTP.format(base=settings.base_path)]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(f"{method.upper()} {path}", operation))
    parts.append("## Models\n")
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts.append(_schema(name, schema))
    return "\n".join(parts)


def _operation(title: str, operation: Mapping[str, Any]) -> str:
    lines = [f"## {title}\n", f"{operation['summary']}.\n"]
    if about := operation.get("description"):
        lines.append(f"{about}\n")
    if parameters := operation.get("parameters"):
        rows = [(f"`{e['name']}`", e["in"], e.get("description", "")) for e in parameters]
        lines.append(_table(("parameter", "in", "meaning"), rows))
    if body := operation.get("requestBody"):
        lines.append(f"Body: {_content(body)}\n")
    answers = operation["responses"].items()
    rows = [(status, _content(each), each["description"]) for status, each in answers]
    lines.append(_table(("answer", "body", "meaning"), rows))
    return "\n".join(lines)


def _content(described: Mapping[str, Any]) -> str:
    """The kinds of a body, and the model of each."""
    content = described.get("content", {}).items()
    kinds = (f"{_type(each.get('schema', {}))} (`{kind}`)" for kind, each in content)
    return ", ".join(kinds) or "nothing"


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    lines = [f"### {name}\n"]
    if about := schema.get("description"):
        lines.append(f"{about}\n")
    required = schema.get("required", ())
    rows = [
        (f"`{key}`", _type(each), "yes" if key in required else "", each.get("description", ""))
        for key, each in schema.get("properties", {}).items()
    ]
    if rows:
        lines.append(_table(("key", "type", "required", "meaning"), rows))
    else:
        lines.append(f"{_type({**schema, 'description': None})}\n")
    return "\n".join(lines)


def _type(schema: Any) -> str:
    """A JSON Schema in some words, with links to models."""
    if not isinstance(schema, Mapping):
        return "anything"
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(map(_type, schema[key])))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"mapping to {_type(schema['additionalProperties'])}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(_cell(each) for each in cells) + " |"

    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)]) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def python_page() -> str:
    """What `import modelcompose_jupyter` offers, from its docstrings."""
    parts = [
        "# Python\n",
        "What `import modelcompose_jupyter` has: all of it is public, and nothing else is.\n",
    ]
    for name in sorted(modelcompose_jupyter.__all__, key=str.lower):
        value: Any = getattr(modelcompose_jupyter, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            parts.append(f"::: {value.__module__}.{value.__qualname__}\n")
    return "\n".join(parts)
