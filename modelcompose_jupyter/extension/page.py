"""The page of a document, rendered by the Voila of a Jupyter server, on the document's host."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_path
from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import authorized
from tornado import web
from tornado.ioloop import IOLoop
from voila.configuration import VoilaConfiguration
from voila.paths import collect_template_paths
from voila.tornado.handler import TornadoVoilaHandler

from ..dashboard import live_preview
from ..dashboard.page_notebook import (
    EXTENSIONS,
    NOTEBOOK,
    POLICY,
    TEMPLATES,
    PageNotebook,
    check_opened,
    titled,
)
from ..errors import DocumentError
from .handlers import RESOURCE
from .host_manager import HostError, HostManager

_CONNECT_SECONDS = 60.0


class PageHandler(TornadoVoilaHandler):
    """The page of a document among the Jupyter server's files.

    Its host is there before the page is, so that the page's own kernel stays thin, and one that is
    loaded again, when the file was saved say, finds the model in memory.
    """

    auth_resource = RESOURCE
    _own_contents: PageNotebook | None = None
    _kernels: _PageKernels | None = None

    def initialize(self, hosts: HostManager, **options: Any) -> None:
        super().initialize(**options)
        self._hosts = hosts
        self._own_contents = PageNotebook(parent=self.contents_manager)
        self._kernels = _PageKernels(self.kernel_manager)
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
                await self._hosts.start(path)
        except HostError as error:
            raise web.HTTPError(error.status, error.message) from None
        _ = self.xsrf_token  # a cookie by which the page that is left can have its kernel ended
        await super().get()

    @property
    def content_security_policy(self) -> str:
        """The page has the Jupyter server's own origin, and shows what models write."""
        return POLICY

    @property
    def kernel_manager(self) -> Any:
        """Voila starts the page's kernel with this."""
        return self._kernels or super().kernel_manager

    def on_finish(self) -> None:
        super().on_finish()
        if self._kernels is not None and self._kernels.started is not None:
            loop: Any = IOLoop.current()
            loop.call_later(_CONNECT_SECONDS, self._kernels.end_unless_connected)


class _PageKernels:
    """A Jupyter server's kernels, among which a page starts its own."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self.started: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    async def start_kernel(self, **options: Any) -> str:
        id: str = await ensure_async(self._manager.start_kernel(**options))
        self.started = id
        return id

    async def end_unless_connected(self) -> None:
        """End the page's kernel where the page was never opened: it cannot do so itself then."""
        id, manager = self.started, self._manager
        if id in manager and not manager._kernel_connections.get(id):
            await ensure_async(manager.shutdown_kernel(id))


def page_options(parent: Any) -> dict[str, Any]:
    """What `PageHandler` is to be initialized with, beside the hosts."""
    configuration = VoilaConfiguration(
        parent=parent,
        template="modelcompose",
        theme="system",
        allow_template_override="NO",
        extension_allowlist=list(EXTENSIONS),
        prelaunch_hook=_about,
        page_config_hook=_with_own_mathjax,
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


def _about(handler: PageHandler, notebook: Any, cwd: str) -> Any:
    """The notebook as the page of the document that was asked for."""
    (cell,) = notebook.cells
    cell.source = (
        f"from {live_preview.__module__} import {live_preview.__name__}\n"
        f"{live_preview.__name__}({handler.document!r})"
    )
    return titled(notebook, Path(handler.document))
