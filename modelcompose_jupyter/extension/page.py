"""The page of a document, rendered by the Voila of a Jupyter server, on the document's host."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_path
from jupyter_server.auth.decorator import authorized
from tornado import web
from voila.configuration import VoilaConfiguration
from voila.paths import collect_template_paths
from voila.tornado.handler import TornadoVoilaHandler

from ..dashboard.one_page import EXTENSIONS, NOTEBOOK, TEMPLATES, OnePage, titled
from ..errors import DocumentError
from .handlers import RESOURCE
from .hosts import HostError, Hosts


class PageHandler(TornadoVoilaHandler):
    """The page of a document among the Jupyter server's files.

    Its host is there before the page is, so that the page's own kernel stays thin, and one that is
    loaded again, when the file was saved say, finds the model in memory.
    """

    auth_resource = RESOURCE

    def initialize(self, hosts: Hosts, **options: Any) -> None:
        super().initialize(**options)
        self._hosts = hosts
        self._own_contents = OnePage(parent=self.contents_manager)
        self.document: str

    @property
    def contents_manager(self) -> Any:
        """Voila reads the notebook from here."""
        return getattr(self, "_own_contents", None) or super().contents_manager

    @web.authenticated
    @authorized("execute", resource=RESOURCE)
    async def get(self, path: str) -> None:
        if "voila_jinja2_env" not in self.settings:
            raise web.HTTPError(501, "run: jupyter server extension enable voila.server_extension")
        try:
            _, self.document = await self._hosts.file(path)
            with contextlib.suppress(DocumentError):  # the page says what is wrong
                await self._hosts.start(path)
        except HostError as error:
            raise web.HTTPError(error.status, error.message) from None
        _ = self.xsrf_token  # a cookie by which the page that is left can have its kernel ended
        await super().get()


def page_options(parent: Any) -> dict[str, Any]:
    """What `PageHandler` is to be initialized with, beside the hosts."""
    configuration = VoilaConfiguration(
        parent=parent,
        template="modelcompose",
        theme="system",
        allow_template_override="NO",
        extension_allowlist=list(EXTENSIONS),
        prelaunch_hook=_about,
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


def _about(handler: PageHandler, notebook: Any, cwd: str) -> Any:
    """The notebook as the page of the document that was asked for."""
    (cell,) = notebook.cells
    cell.source = cell.source.replace("page(", f"page({handler.document!r}, ")
    return titled(notebook, Path(handler.document))
