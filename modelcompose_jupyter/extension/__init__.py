"""The Jupyter Server extension: this user's hosts behind Jupyter's own address and login.

Below ``{base_url}modelcompose/``, ``hosts`` lists, starts and ends hosts, and what is below
``hosts/{id}/`` is the run API of one of them. ``pages/`` has the page of each document among the
server's files, and ``ask`` answers editors. Browsers and other computers need nothing but the
Jupyter server: no port, and no token but Jupyter's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp


def _load_jupyter_server_extension(app: ServerApp) -> None:
    """Add the handlers to a Jupyter server that starts."""
    from pathlib import Path

    from jupyter_core.paths import jupyter_path
    from jupyter_server.utils import url_path_join

    from ..background_worker import BackgroundWorker
    from .handlers import AskHandler, HostHandler, HostListHandler
    from .host_manager import HostManager
    from .page import DocumentPageHandler, page_options
    from .proxy import ProxyHandler, http_client

    shared = {"hosts": HostManager(app)}
    proxied = {**shared, "client": http_client()}
    root = url_path_join(app.base_url, "modelcompose")
    handlers = [
        (rf"{root}/hosts/?", HostListHandler, shared),
        (rf"{root}/hosts/([^/]+)/?", HostHandler, shared),
        (rf"{root}/hosts/([^/]+)/.+", ProxyHandler, proxied),
        (rf"{root}/api/.+", ProxyHandler, proxied),
        (rf"{root}/ask", AskHandler, {**shared, "questions": BackgroundWorker()}),
        (rf"{root}/pages/(.+)", DocumentPageHandler, {**shared, **page_options(app)}),
    ]
    app.web_app.add_handlers(".*$", handlers)  # type: ignore[no-untyped-call]
    _tell_lab(app)
    folders = (Path(each) / "modelcompose-jupyter" for each in jupyter_path("labextensions"))
    if not any((each / "package.json").is_file() for each in folders):
        app.log.info(
            "modelcompose_jupyter: its JupyterLab extension is not installed; all else works. "
            "Install again with MODELCOMPOSE_LABEXTENSION=required to have it."
        )


def _tell_lab(app: ServerApp) -> None:
    """Let JupyterLab know, in its page, that there is somebody to ask; and let it ask kernels as
    often as it likes without their counting as busy."""
    from ..notebook.lab_backend import REPLY, REQUEST

    untracked = getattr(app.kernel_manager, "untracked_message_types", [])
    untracked += [each for each in (REQUEST, REPLY) if each not in untracked]
    data = app.web_app.settings.setdefault("page_config_data", {})
    data["modelcompose"] = True
    data["untracked_message_types"] = list(untracked)
