"""The server of a document's page: Voila with one notebook, one document, and nothing else.

``python -m modelcompose_jupyter.dashboard DOCUMENT`` runs it in the foreground. It says its address
on standard error when it listens, and little else. The exit status is 1 where it cannot listen and
2 for bad use.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from jupyter_server.utils import url_path_join
from tornado import web
from tornado.ioloop import IOLoop, PeriodicCallback
from traitlets import Float, Integer, Unicode, validate
from traitlets.config import Config
from voila.app import Voila
from voila.tornado.handler import TornadoVoilaHandler

from .._version import __version__
from ..errors import ComposeError, UsageError, one_line
from ..processes import find_process, is_alive
from ..server.access import TOKEN_VARIABLE, is_loopback
from ..server.connections import ConnectionLimits, GuardedServer
from ..server.ports import bind
from ..text_encoding import EncodingError, decode
from . import DOCUMENT_VARIABLE
from .kernels import ThisInterpreter, VisitorKernels
from .login import TokenIdentity, with_own_form
from .page_handler import PageHandler
from .page_notebook import (
    NOTEBOOK,
    POLICY,
    TEMPLATES,
    VOILA_OPTIONS,
    PageNotebook,
    check_opened,
    titled,
)

# Seconds. Who leaves says so; only who is cut off is waited for, some time.
_START_SECONDS = 120
_LOST_SECONDS = 600
_LOOK_SECONDS = 60
_PARENT_SECONDS = 1.0
_BODY_SECONDS = 60
_LIMITS = ConnectionLimits(reserved_connections=0)
_MAX_BODY = 2**20  # bytes: a page sends its login and its end; the rest goes by its WebSocket


class Dashboard(Voila):
    """Serves the page of one document at its base URL."""

    name = "modelcompose-dashboard"
    version = __version__
    description = "Serve the page of a document: python -m modelcompose_jupyter.dashboard DOCUMENT"
    examples = "python -m modelcompose_jupyter.dashboard model-compose.yml --port 8081"
    flags: ClassVar[dict[str, Any]] = {"debug": Voila.flags["debug"]}
    aliases: ClassVar[dict[str, str]] = {
        "ip": "Voila.ip",
        "port": "Voila.port",
        "base-url": "Voila.base_url",
        "theme": "VoilaConfiguration.theme",
        "token-file": "Dashboard.token_file",
        "parent": "Dashboard.parent_pid",
    }

    token_file = Unicode(
        help=f"A file that holds the token; else the environment variable {TOKEN_VARIABLE}."
    ).tag(config=True)
    ping_seconds = Float(30.0, help="How often a page is asked whether it is there.").tag(
        config=True
    )
    parent_pid = Integer(0, help="A process to end with; 0 is none.").tag(config=True)

    @validate("base_url")
    def _with_slashes(self, proposal: Any) -> str:
        path = str(proposal["value"]).strip("/")
        return f"/{path}/" if path else "/"

    def initialize(self, argv: Sequence[str] | None = None) -> None:
        """Read the command line.

        Raises:
            UsageError: no document, or an address that may not be listened at without a token.
        """
        self.notebook_path = str(NOTEBOOK)
        self.update_config(_defaults())
        super().initialize(argv)
        if len(self.extra_args) != 1:
            raise UsageError("name one document", hint=self.description)
        document = Path(self.extra_args[0]).resolve()
        if not document.is_file():
            raise UsageError(f"there is no file {self.extra_args[0]}")
        os.environ[DOCUMENT_VARIABLE] = str(document)
        self._read_token()
        for log in (self.log, *map(logging.getLogger, ("tornado.general", "tornado.application"))):
            log.addFilter(_Discretion())
        configuration = self.voila_configuration
        if configuration.theme == "light":
            configuration.theme = "JupyterLab Light"  # the template takes "light" for unsaid
        configuration.prelaunch_hook = lambda request, notebook, cwd: titled(notebook, document)

    def _read_token(self) -> None:
        token = os.environ.pop(TOKEN_VARIABLE, "")  # kernels need not know it
        if self.token_file:
            try:
                token = decode(Path(self.token_file).read_bytes()).strip()
            except (OSError, EncodingError) as error:
                raise UsageError(f"cannot read the token's file: {one_line(error)}") from None
        self.token = token or None
        if self.token is None and not is_loopback(self.ip):
            raise UsageError(
                f"a page at {self.ip or '0.0.0.0'} can be reached from other computers "
                "and needs a token",
                hint=f"Set {TOKEN_VARIABLE}, or give --token-file.",
            )

    def init_settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = super().init_settings()
        self.contents_manager = PageNotebook(parent=self)
        settings["contents_manager"] = self.contents_manager
        settings["jinja2_env"] = with_own_form(settings["jinja2_env"])
        settings["log_function"] = _log_failure
        settings["headers"] = {"Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin"}
        # The server looks before it has pinged: a timeout of one interval would cut off every page.
        settings["ws_ping_interval"] = self.ping_seconds * 1000
        settings["ws_ping_timeout"] = 3 * self.ping_seconds * 1000
        settings["compress_response"] = not is_loopback(self.ip)
        # At the loopback, only names of it: a foreign page may have had its own point there.
        settings["allow_remote_access"] = not is_loopback(self.ip)
        settings["local_hostnames"] = ["localhost", self.ip]
        return settings

    def init_handlers(self) -> list[Any]:
        """Voila's, less those that hand out files, with our own page in place of its."""
        root = self.server_url
        handlers: list[Any] = []
        for pattern, handler, *options in super().init_handlers():
            if handler is TornadoVoilaHandler:
                handlers.append((root, _VisitorPageHandler, *options))
            elif "/voila/files/" not in pattern:
                below = pattern if pattern.startswith(root) else url_path_join(root, pattern)
                handlers.append((below, handler, *options))
        if root != "/":
            handlers.append((root.rstrip("/"), web.RedirectHandler, {"url": root}))
        return handlers

    def listen(self) -> None:
        """Listen at this port and no other, and serve until a signal or the parent's end."""
        try:
            sockets = bind(self.ip, self.port)
        except ComposeError:
            self.stop()
            raise
        self.set_trait("port", sockets[0].getsockname()[1])
        server = GuardedServer(
            self.app, limits=_LIMITS, max_body_size=_MAX_BODY, body_timeout=_BODY_SECONDS
        )
        server.add_sockets(sockets)
        self.ioloop = IOLoop.current()
        parent = self._watch_parent()
        _say(f"page: {self.connection_url}")
        try:
            self.ioloop.start()
        except KeyboardInterrupt:
            pass
        finally:
            if parent is not None:
                parent.stop()
            server.stop()
            self.stop()

    def _watch_parent(self) -> PeriodicCallback | None:
        """End when the parent has ended, also when it was killed and could say nothing."""
        if not self.parent_pid:
            return None
        parent = find_process(self.parent_pid)

        def look() -> None:
            if not is_alive(parent):
                self.ioloop.stop()

        watch = PeriodicCallback(look, _PARENT_SECONDS * 1000)
        watch.start()
        return watch


class _VisitorPageHandler(PageHandler):
    """The page, for as many visitors as there may be at a time."""

    @property
    def connect_seconds(self) -> float:  # type: ignore[override]
        return float(self.kernel_manager.connect_seconds)

    @web.authenticated
    async def get(self, path: str | None = None) -> None:
        check_opened(self.request.headers)
        if len(self.kernel_manager.list_kernel_ids()) >= self.kernel_manager.max_visitors:
            raise web.HTTPError(503, "there are as many visitors as there may be; try again later")
        await self.answer_page()


def _defaults() -> Config:
    """Configuration that the command line may change."""
    return Config(
        {
            "Voila": {
                "ip": "127.0.0.1",
                "port": 8081,
                "open_browser": False,
                "config_file_paths": [],  # what configures the user's Voila is not for this one
                "log_level": logging.WARNING,
                "identity_provider_class": TokenIdentity,
            },
            "VoilaConfiguration": {
                **VOILA_OPTIONS,
                "file_allowlist": [],
                "kernel_spec_manager_class": ThisInterpreter,
                "multi_kernel_manager_class": VisitorKernels,
            },
            # What a cell puts out may come late, too, where many pages begin at once.
            "VoilaExecutor": {"timeout": _START_SECONDS, "iopub_timeout": _START_SECONDS},
            "MappingKernelManager": {
                "cull_idle_timeout": _LOST_SECONDS,
                "cull_interval": _LOOK_SECONDS,
            },
        }
    )


def _log_failure(handler: web.RequestHandler) -> None:
    """Requests are logged where the server failed, without their queries."""
    if handler.get_status() >= 500:
        request = handler.request
        logging.getLogger("tornado.access").error(
            "%d %s %s", handler.get_status(), request.method, request.path
        )


class _Discretion(logging.Filter):
    """Takes queries out of what is logged, which hold tokens and what people ask models; and one
    line that says nothing.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = re.sub(r"\?[^\s'\")]+", "?…", record.getMessage()), None
        # Tornado pings by itself, too, takes milliseconds for seconds, and minds their order.
        return not record.msg.startswith("The websocket_ping_timeout")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main(argv: Sequence[str] | None = None) -> None:
    """Serve a page until it is stopped."""
    known = os.environ.get("JUPYTER_PATH")
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(TEMPLATES), known]))
    try:
        Dashboard.launch_instance(argv)
    except ComposeError as error:
        _say(str(error))
        sys.exit(2 if isinstance(error, UsageError) else 1)
