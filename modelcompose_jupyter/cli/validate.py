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
    counts = (
        f"{components} component{'' if components == 1 else 's'}",
        f"{workflows} workflow{'' if workflows == 1 else 's'}",
    )
    say(f"{path} is valid: {', '.join(counts)}")
