"""The YAML language: reading, checking and rendering documents. Knows no model and no notebook."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DocumentError, Problem, shared_comparisons
from ..path_redaction import remember as remember_folder
from .compiler import compile_document
from .components import (
    Action,
    Component,
    FunctionComponent,
    ModelComponent,
    WorkflowComponent,
)
from .document import Controller, Document, RayRuntime, Workflow
from .files import BesideFiles
from .function_checks import check_functions, functions_of
from .functions import FunctionParameter, FunctionSignature
from .included import include_documents
from .jobs import Call, Job
from .json_schema import json_schema
from .parameters import MAX_LOGPROBS, GenerationParameters
from .reader import Source, read
from .references import BrokenExpression, findings
from .render import render
from .schema import own_keys
from .schema_files import include_schemas
from .signature import Input, Output, Signature, signature
from .templates import Template, parse_template
from .to_plain import to_plain
from .validator import explain, validate

__all__ = [
    "MAX_LOGPROBS",
    "Action",
    "Call",
    "Component",
    "Controller",
    "Document",
    "FunctionComponent",
    "FunctionParameter",
    "FunctionSignature",
    "GenerationParameters",
    "Input",
    "Job",
    "ModelComponent",
    "Output",
    "RayRuntime",
    "Signature",
    "Template",
    "Workflow",
    "WorkflowComponent",
    "check_functions",
    "explain",
    "functions_of",
    "json_schema",
    "load_document",
    "parse_template",
    "render",
    "signature",
    "to_plain",
]


def load_document(
    source: str | bytes | Path | Mapping[str, Any],
    *,
    name: str | None = None,
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    is_strangers: bool = False,
) -> Document:
    """Read and check a document.

    Args:
        source: a path, YAML text or its bytes, or a mapping.
        name: what errors call it; the path if None.
        folder: where relative models are; that of the file, or the current one, if None.
        environ: the environment that ``${env.NAME}`` reads; the process's own if None.
        files: texts of files that it names, by these names, in place of what they have now.
        is_strangers: whether it is of somebody who may not read this computer's files: none but
            those are read, and neither its folder nor its tokens are kept out of all messages.

    Raises:
        DocumentError: all that is wrong with it.
    """
    with shared_comparisons():
        found = read(source, name=name)
        if folder is not None:
            found.folder = folder
        if not is_strangers:
            remember_folder(found.folder)
        beside = BesideFiles(found, files or {}, only_given=is_strangers)
        lost = include_documents(found, beside)
        include_schemas(found, beside)
        checked = validate(found)
        checked.spoiled |= lost
        if checked.compose is None:  # what can be said of expressions is said all the same
            data = own_keys(found.data) if isinstance(found.data, dict) else found.data
            for each in findings(parse_template(data)):
                if isinstance(each, BrokenExpression):
                    found.report_error(each.error, each.path)
        else:
            variables = os.environ if environ is None else environ
            document = compile_document(
                found, checked, variables, beside, is_strangers=is_strangers
            )
            if not found.problems:
                return document
    raise DocumentError(_in_order(found))


def _in_order(source: Source) -> list[Problem]:
    """Each problem once, from the top of the document to its end, and how many are left out."""
    unique = {(p.where.path, p.where.line, p.message): p for p in source.problems}
    ordered = sorted(unique.values(), key=_order)
    if (more := source.found - len(source.problems)) > 0:
        message = f"{more:,} more problem{'s were' if more > 1 else ' was'} found"
        hint = f"Only the first {len(source.problems)} that were found are shown; mend these first."
        ordered.append(Problem(message, ordered[-1].where, hint))
    return ordered


def _order(problem: Problem) -> tuple[int, ...]:
    """What sorts problems, those of other files where these are named."""
    places = [problem.where] if problem.named_at is None else [problem.named_at, problem.where]
    return tuple(number for each in places for number in (each.line or 0, each.column or 0))
