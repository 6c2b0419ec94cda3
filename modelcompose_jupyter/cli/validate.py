"""``validate``: a document is checked, without running anything."""

from __future__ import annotations

from .group import document_argument, document_path, file_option, main, say


@main.command()
@document_argument
@file_option
def validate(document: str | None, file: str | None) -> None:
    """Check a document and say all that is wrong with it."""
    from ..document import load_document

    path = document_path(file, document)
    checked = load_document(path)
    for warning in checked.warnings:
        say(f"warning: {warning}")
    components, workflows = len(checked.components), len(checked.workflows)
    has = "1 component" if components == 1 else f"{components} components"
    offers = "1 workflow" if workflows == 1 else f"{workflows} workflows"
    say(f"{path} is valid: {has}, {offers}")
