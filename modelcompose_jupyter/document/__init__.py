"""The YAML language: reading, checking and rendering documents. Knows no model and no notebook."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import DocumentError, Problem
from ..folders import remember as remember_folder
from .compiler import compile_document
from .document import Action, Component, Controller, Document, Job, Workflow
from .expression import parse
from .parameters import GenerationParameters
from .plain import plain
from .reader import Source, read
from .render import render
from .schema import json_schema, own_keys
from .signature import Input, Output, Signature, signature
from .uses import Flaw, uses
from .validator import explain, validate

__all__ = [
    "Action",
    "Component",
    "Controller",
    "Document",
    "GenerationParameters",
    "Input",
    "Job",
    "Output",
    "Signature",
    "Workflow",
    "explain",
    "json_schema",
    "load_document",
    "parse",
    "plain",
    "render",
    "signature",
]


def load_document(
    source: str | bytes | Path | Mapping[str, Any],
    *,
    name: str | None = None,
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Document:
    """Read and check a document.

    Args:
        source: a path, YAML text or its bytes, or a mapping.
        name: what errors call it; the path if None.
        folder: where relative models are; that of the file, or the current one, if None.
        environ: the environment that ``${env.NAME}`` reads; the process's own if None.

    Raises:
        DocumentError: all that is wrong with it.
    """
    read_source = read(source, name=name)
    if folder is not None:
        read_source.folder = folder
    remember_folder(read_source.folder)
    checked = validate(read_source)
    problems = [*read_source.problems, *checked.problems]
    if checked.compose is None:
        problems += _broken_expressions(read_source)
    else:
        document, wrong = compile_document(
            read_source, checked, os.environ if environ is None else environ
        )
        problems += wrong
        if not problems:
            return document
    raise DocumentError(_in_order(problems, read_source))


def _broken_expressions(source: Source) -> Iterator[Problem]:
    """What can be said of the expressions of a document that is too wrong to go on with."""
    data = own_keys(source.data) if isinstance(source.data, dict) else source.data
    for use in uses(data):
        if isinstance(use, Flaw):
            where = source.where(use.path, within=use.error.expression)
            yield Problem(use.error.message, where, use.error.hint)


def _in_order(problems: list[Problem], source: Source) -> list[Problem]:
    """Each problem once, from the top of the document to its end."""
    unique = {(p.where.path, p.where.line, p.message): p for p in problems}
    return sorted(unique.values(), key=lambda p: (p.where.line or 0, p.where.column or 0))
