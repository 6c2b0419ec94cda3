"""``validate``, ``schema``, ``models``: what there is, without running anything."""

from __future__ import annotations

import sys
from collections.abc import Sized

import click

from .group import document_path, file_option, main


@main.command()
@file_option
def validate(file: str | None) -> None:
    """Check a document and say all that is wrong with it."""
    from ..document import load_document

    path = document_path(file)
    document = load_document(path)
    for warning in document.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(
        f"{path} is valid: {_count(document.components, 'component')}, "
        f"{_count(document.workflows, 'workflow')}",
        err=True,
    )


@main.command()
@click.argument("workflow", required=False)
@file_option
@click.option("--document", is_flag=True, help="Print the JSON Schema of documents, for editors.")
def schema(workflow: str | None, file: str | None, document: bool) -> None:
    """Print a workflow's inputs and outputs as JSON."""
    from ..callable import load
    from ..document import json_schema
    from ..progress import as_text

    described = json_schema() if document else load(document_path(file), workflow).describe()
    click.echo(as_text(described))


@main.command()
def models() -> None:
    """List the models on this computer: those of the package, and those downloaded."""
    from ..formatting import size
    from ..models import installed
    from ..progress import as_text

    found = installed()
    if not sys.stdout.isatty():
        click.echo(as_text([vars(model) for model in found]))
        return
    width = max((len(model.source) for model in found), default=0)
    for model in found:
        click.echo(f"{model.source.ljust(width)}  {size(model.size_bytes)}")


def _count(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
