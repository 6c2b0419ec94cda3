"""``validate``: a document is checked, without running anything."""

from __future__ import annotations

from collections.abc import Sized

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
    say(
        f"{path} is valid: {_count(checked.components, 'component')}, "
        f"{_count(checked.workflows, 'workflow')}",
    )


def _count(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
