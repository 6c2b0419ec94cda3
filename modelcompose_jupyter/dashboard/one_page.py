"""The one notebook that every page of a document is, for whichever server renders it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from jupyter_server.services.contents.largefilemanager import LargeFileManager

from ..document import Document
from ..errors import ComposeError
from . import public_document

NOTEBOOK = Path(__file__).parent / "served" / "page.ipynb"
TEMPLATES = Path(__file__).parent / "share" / "jupyter"
"""Where the template is, also where its copy among Jupyter's data is not there."""

EXTENSIONS = (
    "anywidget",
    "@jupyter-widgets/jupyterlab-manager",
    "@voila-dashboards/widgets-manager8",
)
"""The frontend extensions that draw widgets; a user's others have nothing to do in a page."""


class OnePage(LargeFileManager):
    """Reads the notebook, which is the package's own and has no outputs to distrust."""

    def __init__(self, **options: Any) -> None:
        super().__init__(root_dir=str(NOTEBOOK.parent), **options)

    def mark_trusted_cells(self, nb: Any, path: str = "") -> None:
        pass


def titled(notebook: Any, document: Path) -> Any:
    """The notebook with the document's title, as it is when somebody opens the page."""
    with contextlib.suppress(ComposeError):  # the page itself says what is wrong
        notebook.metadata.title = title(public_document(document)) or notebook.metadata.title
    return notebook


def title(document: Document) -> str | None:
    """What a page of a document is called: as its only public workflow, else as the document."""
    public = [each for each in document.workflows if not each.private]
    only = public[0].title if len(public) == 1 else None
    return only or document.name
