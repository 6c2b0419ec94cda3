"""The one notebook that every page of a document is, for whichever server renders it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyter_server.services.contents.largefilemanager import LargeFileManager
from tornado import web

from ..errors import ComposeError
from ..translation import in_all_languages
from . import public_document, title

NOTEBOOK = Path(__file__).parent / "served" / "page.ipynb"
TEMPLATES = Path(__file__).parent / "share" / "jupyter"
"""Where the template is, also where its copy among Jupyter's data is not there."""

VOILA_OPTIONS: Mapping[str, Any] = {
    "template": "modelcompose",
    "theme": "system",
    "allow_template_override": "NO",
    "http_header_envs": ["Accept-Language"],  # as `translation.VISITOR_VARIABLE`
    # Those that draw widgets; a user's others have nothing to do in a page.
    "extension_allowlist": [
        "anywidget",
        "@jupyter-widgets/jupyterlab-manager",
        "@voila-dashboards/widgets-manager8",
    ],
}
"""How Voila is configured for a page."""

_SAID = ("This page has lost its connection.", "Load it again", "Starting")
"""What the template says."""

POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; "
    "frame-ancestors 'self'; form-action 'self'; base-uri 'self'"
)
"""A page asks no other host for anything, whatever a model writes into it."""


def check_opened(headers: Mapping[str, str], *, by_others: bool = True) -> None:
    """Start no kernel for what nobody opened: pages of other origins can have a browser ask for
    this one as an image, say, as often as they like. Their links may open it if ``by_others``.

    Raises:
        HTTPError: 403.
    """
    foreign = headers.get("Sec-Fetch-Site") not in (None, "same-origin", "none")
    opened = (headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest"))
    if foreign and not (by_others and opened == ("navigate", "document")):
        raise web.HTTPError(403, "pages of other origins cannot open this one")


class PageNotebook(LargeFileManager):
    """Reads the notebook, which is the package's own and has no outputs to distrust."""

    def __init__(self, **options: Any) -> None:
        super().__init__(root_dir=str(NOTEBOOK.parent), **options)

    def mark_trusted_cells(self, nb: Any, path: str = "") -> None:
        pass


def titled(notebook: Any, document: Path) -> Any:
    """The notebook with the document's title, as it is when somebody opens the page, and with what
    the page itself says, in all languages."""
    notebook.metadata.words = in_all_languages(*_SAID)
    with contextlib.suppress(ComposeError):  # the page itself says what is wrong
        notebook.metadata.title = title(public_document(document)) or notebook.metadata.title
    return notebook
