"""The page of a document, rendered by the Voila of a Jupyter server, on the document's host."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_path
from jupyter_server.auth.decorator import authorized
from tornado import web
from voila.configuration import VoilaConfiguration
from voila.paths import collect_template_paths

from ..dashboard import live_preview
from ..dashboard.page_handler import PageHandler
from ..dashboard.page_notebook import (
    NOTEBOOK,
    POLICY,
    TEMPLATES,
    VOILA_OPTIONS,
    PageNotebook,
    check_opened,
    titled,
)
from ..errors import DocumentError
from ..host_selection import HUB_SERVICE_VARIABLE
from .handlers import RESOURCE
from .host_manager import HostError, HostManager


class DocumentPageHandler(PageHandler):
    """The page of a document among the Jupyter server's files.

    Its host is there before the page is, so that the page's own kernel stays thin, and one that is
    loaded again, when the file was saved say, finds the model in memory. Where a JupyterHub has a
    service for that, none is started.
    """

    auth_resource = RESOURCE
    _own_contents: PageNotebook | None = None

    def initialize(  # type: ignore[override]
        self, hosts: HostManager, **options: Any
    ) -> None:
        super().initialize(**options)
        self._hosts = hosts
        self._own_contents = PageNotebook(parent=self.contents_manager)
        self.document: str

    @property
    def contents_manager(self) -> Any:
        """Voila reads the notebook from here."""
        return self._own_contents or super().contents_manager

    @web.authenticated
    @authorized("execute", resource=RESOURCE)
    async def get(self, path: str) -> None:
        check_opened(self.request.headers, by_others=False)
        if "voila_jinja2_env" not in self.settings:
            raise web.HTTPError(501, "run: jupyter server extension enable voila.server_extension")
        try:
            _, self.document = await self._hosts.file(path)
            with contextlib.suppress(DocumentError):  # the page says what is wrong
                if not os.environ.get(HUB_SERVICE_VARIABLE):
                    await self._hosts.start(path)
        except HostError as error:
            raise web.HTTPError(error.status, error.message) from None
        await self.answer_page()

    @property
    def content_security_policy(self) -> str:
        """The page has the Jupyter server's own origin, and shows what models write."""
        return POLICY


def page_options(parent: Any) -> dict[str, Any]:
    """What `DocumentPageHandler` is to be initialized with, beside the hosts."""
    configuration = VoilaConfiguration(
        parent=parent, **VOILA_OPTIONS, prelaunch_hook=_about, page_config_hook=_with_own_mathjax
    )
    roots = [str(TEMPLATES), *jupyter_path()]
    return {
        "notebook_path": NOTEBOOK.name,
        "config": parent.config,
        "voila_configuration": configuration,
        "template_paths": collect_template_paths(
            ["voila", "nbconvert"], configuration.template, root_dirs=roots
        ),
    }


def _with_own_mathjax(page_config: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Formulas are drawn by what Voila brings along; in a Jupyter server it would ask a CDN."""
    return {**page_config, "fullMathjaxUrl": None, "mathjaxConfig": None}


def _about(handler: DocumentPageHandler, notebook: Any, cwd: str) -> Any:
    """The notebook as the page of the document that was asked for."""
    (cell,) = notebook.cells
    cell.source = (
        f"from {live_preview.__module__} import {live_preview.__name__}\n"
        f"{live_preview.__name__}({handler.document!r})"
    )
    return titled(notebook, Path(handler.document))
