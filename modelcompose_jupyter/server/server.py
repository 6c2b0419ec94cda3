"""The server: the run API of a host, on a thread and an event loop of its own.

The thread ``modelcompose-server`` belongs to a Server. Nothing on it blocks: runs are driven on the
host's thread and models generate on theirs, so it answers while they work.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tornado.web import Application

from .._version import __version__
from ..errors import ComposeError
from ..hosted_runs import HostedRuns
from ..processes import own_start
from .access import Access
from .catalog import Catalog, Documents
from .connections import GuardedServer
from .handler import ApiHandler
from .http import Route, path_pattern
from .logs import Logger, log_event
from .metrics import Metrics
from .observer import observe
from .openapi import ALL_ROUTES
from .ports import bind
from .server_info import ServerInfo
from .state import ServerSettings, ServerState
from .tasks import Tasks

__all__ = ["SERVER_THREAD_NAME", "Server", "ServerSettings"]

SERVER_THREAD_NAME = "modelcompose-server"
_CLOSE_SECONDS = 5.0
_ENDED = ComposeError(
    "the host was ended while this ran",
    hint="Run it again: another host is looked for, or this process runs it itself.",
    code="host_gone",
)


class Server:
    """Serves the workflows of a catalog on a host.

    Args:
        host: runs them.
        catalog: gives what is served, whenever somebody asks.
        access: who may call.
        settings: how it behaves.
        pages: gives what answers at more paths, for people, as Tornado's handlers.
        server_info: what its file says besides; see `ServerInfo`.

    Attributes:
        port: that it listens at, once it does.
        state: what its handlers share, some of which are attributes of the server as well.
    """

    def __init__(
        self,
        host: HostedRuns,
        catalog: Callable[[], Catalog],
        access: Access | None = None,
        settings: ServerSettings | None = None,
        pages: Callable[[ServerState], list[Any]] | None = None,
        **server_info: Any,
    ) -> None:
        settings = settings or ServerSettings()
        metrics = Metrics(host)
        self.host = host
        self.documents = Documents(catalog)
        self.access = access or Access("127.0.0.1")
        self.settings = replace(
            settings,
            base_path=_path(settings.base_path),
            root_path=_path(settings.root_path),
        )
        self.state = ServerState(
            host=host,
            documents=self.documents,
            access=self.access,
            settings=self.settings,
            tasks=Tasks(host),
            metrics=metrics,
            observers=[metrics, Logger()],
        )
        self._pages = pages
        self.port = settings.port
        self.server_info: ServerInfo | None = None
        self._published = {"id": secrets.token_hex(6), "title": "workflows", **server_info}
        self._unobserve: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._http: GuardedServer | None = None

    # Starting and ending

    def start(self) -> Server:
        """Listen, and tell this user's other programs; returns the server itself.

        Raises:
            ComposeError: the port is taken, or the address is none of this computer's.
        """
        sockets = bind(self.access.host, self.settings.port)
        self.port = sockets[0].getsockname()[1]
        started = threading.Event()
        serving = self._serve(sockets, started)
        self._thread = threading.Thread(
            target=asyncio.run, args=(serving,), name=SERVER_THREAD_NAME, daemon=True
        )
        self._thread.start()
        started.wait()
        atexit.register(self.close)
        self._unobserve = observe(self.host, self.state.observers)
        log_event("server started", url=self.url)
        self.publish()
        return self

    def publish(self, **changes: Any) -> None:
        """Write the file that others find this server by; ``changes`` are told from now on."""
        self._published |= changes
        self.server_info = ServerInfo(
            url=self.url,
            token=self.access.owner_token,
            client_token=self.access.token,
            pid=os.getpid(),
            started=own_start(),
            version=__version__,
            **self._published,
        )
        self.server_info.publish()

    async def _serve(self, sockets: list[socket.socket], started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self._http = GuardedServer(
            self._application(),
            limits=self.settings,
            chunk_size=16384,
            max_body_size=2**40,  # the handler says no, with an answer
            body_timeout=self.settings.body_seconds,
        )
        self._http.add_sockets(sockets)
        started.set()
        await self._end.wait()
        self.state.is_closing = True
        self._http.stop()
        if not await self.host.goes_on_without():
            for task in self.state.tasks.going():
                task.run.add("error", _ENDED.to_dict())
                task.run.cancel()
        with contextlib.suppress(TimeoutError):  # so that those who watch see how it ends
            await asyncio.wait_for(self.state.tasks.unwatched(), _CLOSE_SECONDS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._http.close_all_connections(), _CLOSE_SECONDS)

    def _application(self) -> Application:
        paths: dict[str, dict[str, Route]] = {}
        for route in ALL_ROUTES:
            path = route.full_path(self.settings)
            paths.setdefault(path, {})[route.method] = route
        handlers: list[Any] = [
            (path_pattern(path), ApiHandler, {"state": self.state, "routes": routes})
            for path, routes in paths.items()
        ]
        if self._pages is not None:
            handlers += self._pages(self.state)
        return Application(
            handlers,
            cookie_secret=secrets.token_bytes(32),
            default_handler_class=ApiHandler,
            default_handler_args={"state": self.state, "routes": {}},
            log_function=lambda _: None,
        )

    @property
    def url(self) -> str:
        """Where the run API is, seen from this computer."""
        return f"{self.origin}{self.settings.api_path}"

    @property
    def origin(self) -> str:
        """The server's address without a path, seen from this computer."""
        host = self.access.host
        name = "127.0.0.1" if host in ("", "0.0.0.0", "::") else host
        return f"http://{f'[{name}]' if ':' in name else name}:{self.port}"

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until somebody has asked the server to end; returns whether somebody has."""
        return self.state.end_requested.wait(timeout)

    def close(self) -> None:
        """Stop to listen, end the runs of callers, and withdraw the file. Idempotent."""
        atexit.unregister(self.close)
        self.state.end_requested.set()
        if self.server_info is not None:
            self.server_info.withdraw()
        if self._loop is not None and self._thread is not None:
            with contextlib.suppress(RuntimeError):  # ended already
                self._loop.call_soon_threadsafe(self._end.set)
            if self._thread is not threading.current_thread():
                self._thread.join(2 * _CLOSE_SECONDS)
        unobserve, self._unobserve = self._unobserve, None
        if unobserve is not None:
            unobserve()
            log_event("server ended", url=self.url)


def _path(given: str) -> str:
    """What paths begin with: with a slash before it and none behind."""
    return f"/{given.strip('/')}".rstrip("/")
