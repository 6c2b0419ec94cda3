"""A document as a web page: `page` in a cell of a notebook, `app` serves one with Voila."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ComposeError, UsageError
from ..path_redaction import without_folders

if TYPE_CHECKING:
    from ipywidgets import VBox

    from ..document import Document

DOCUMENT_VARIABLE = "MODELCOMPOSE_DOCUMENT"


def page(path: str | os.PathLike[str] | None = None, *, headings: bool = True) -> VBox:
    """The public workflows of a document: their panels, how they work, how to call them.

    A query of the page's address fills in inputs: ``?prompt=Once&temperature=0.3``; where there
    are several workflows, ``?workflow=id`` chooses one. What is wrong with the document is shown
    in place of the panels.

    Args:
        path: the document; what the environment variable ``MODELCOMPOSE_DOCUMENT`` names if None.
        headings: whether a workflow's title stands in its panel, too; False where the page
            around it has it already.

    Raises:
        UsageError: neither says which document.
    """
    from .page_view import PageView, failure

    source = path if path is not None else os.environ.get(DOCUMENT_VARIABLE)
    if not source:
        raise UsageError(
            "there is no document to show", hint='Write page("model-compose.yml").', code="no_path"
        )
    try:
        # Visitors are told the file's name, and not where it is.
        return PageView(
            public_document(source), os.environ.get("QUERY_STRING", ""), headings=headings
        )
    except ComposeError as error:
        return failure(error)


def live_preview(path: str) -> VBox:
    """The page of a document that is being written; see `LivePreview`."""
    from .live_preview import LivePreview

    return LivePreview(Path(path), os.environ.get("QUERY_STRING", ""))


def stop_runs() -> None:
    """Stop what this process has running, here and on other hosts: nobody looks at it. What has
    asked something is there for those who come to answer."""
    from ..host_selection import own_runs

    for run in own_runs():
        if not run.has_asked:
            run.cancel()


def public_document(path: str | os.PathLike[str]) -> Document:
    """A document whose errors say its file's name alone."""
    from ..document import load_document

    return load_document(Path(path), name=Path(path).name)


def title(document: Document) -> str | None:
    """What a page of a document is called: as its only public workflow, else as the document."""
    public = [each for each in document.workflows if not each.private]
    only = public[0].title if len(public) == 1 else None
    name = only or document.name
    return name and without_folders(name)
