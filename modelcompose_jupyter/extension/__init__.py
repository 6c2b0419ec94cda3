"""The Jupyter Server extension: this user's hosts behind Jupyter's own address and login.

Below ``{base_url}modelcompose/``, ``hosts`` lists, starts and ends hosts, and what is below
``hosts/{id}/`` is the run API of one of them. Browsers and other computers need nothing but the
Jupyter server: no port, and no token but Jupyter's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp


def _load_jupyter_server_extension(app: ServerApp) -> None:
    """Add the handlers to a Jupyter server that starts."""
    from jupyter_server.utils import url_path_join

    from .handlers import HostHandler, HostListHandler
    from .hosts import Hosts
    from .proxy import ProxyHandler

    shared = {"hosts": Hosts(app)}
    root = url_path_join(app.base_url, "modelcompose")
    handlers = [
        (rf"{root}/hosts/?", HostListHandler, shared),
        (rf"{root}/hosts/([^/]+)/?", HostHandler, shared),
        (rf"{root}/hosts/([^/]+)/.+", ProxyHandler, shared),
        (rf"{root}/api/.+", ProxyHandler, shared),
    ]
    app.web_app.add_handlers(".*$", handlers)  # type: ignore[no-untyped-call]
