"""``schema``: a workflow's inputs and outputs, or the schema of documents."""

from __future__ import annotations

import click

from .group import document_path, file_option, main, workflow_and_file


@main.command()
@click.argument("workflow", required=False)
@file_option
@click.option("--document", is_flag=True, help="Print the JSON Schema of documents, for editors.")
def schema(workflow: str | None, file: str | None, document: bool) -> None:
    """Print a workflow's inputs and outputs as JSON."""
    from ..callable import load
    from ..document import json_schema
    from ..progress import as_text

    workflow, file = workflow_and_file(workflow, file)
    described = json_schema() if document else load(document_path(file), workflow).describe()
    click.echo(as_text(described))
