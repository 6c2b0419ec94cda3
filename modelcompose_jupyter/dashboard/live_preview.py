"""The page of a document that is being written: it is read anew when the editor has saved it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets

from ..errors import ComposeError
from ..widgets.panel import Panel
from . import public_document, title
from .page_view import PageView, failure


class Listener(anywidget.AnyWidget):
    """Hears the page around this one, and writes its heading."""

    _esm = Path(__file__).parent / "live_preview.js"

    title = traitlets.Unicode(help="What the page is called.").tag(sync=True)


class LivePreview(ipywidgets.VBox):
    """A document's page, with what was entered kept where the document still asks for it.

    Args:
        path: the document.
        query: of the page's address, without its ``?``.
    """

    def __init__(self, path: Path, query: str = "") -> None:
        self._path = path
        self._query = query
        self._panels: Mapping[str, Panel] = {}
        self._page: PageView | None = None
        self._listener = Listener()
        self._listener.on_msg(self._heard)
        super().__init__([self._listener, *self._read()])

    def _heard(self, _: Any, message: Mapping[str, Any], __: Any) -> None:
        if message.get("type") == "saved":
            self.children = [self._listener, *self._read()]

    def _read(self) -> list[ipywidgets.VBox]:
        """The page as the document is now; of a broken one what is wrong with it, above the page
        as it was."""
        before = self._panels
        try:
            document = public_document(self._path)
            page = PageView(document, self._query, headings=False, unfolded=True, before=before)
        except ComposeError as error:
            # What was entered waits for the document to be mended, in sight and out of reach.
            told = [failure(error, for_guests=False)]
            if self._page is not None:
                self._page.add_class("modelcompose-dimmed")
                told.append(self._page)
            return told
        self._query = ""  # it fills in the beginning
        self._page, self._panels = page, page.panels
        self._listener.title = title(document) or self._path.name
        for panel in before.values():
            panel.close()
        return [page]
