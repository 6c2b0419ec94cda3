"""The connections of an HTTP server: what each is at, and which goes where there is no room.

Used on the server's loop alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.ioloop import IOLoop, PeriodicCallback
from tornado.iostream import IOStream

BACKLOG = 1024
"""Connections that wait to be accepted; beyond, clients try again after a second."""
_ACCEPTED = 16  # in a turn of the loop; Tornado takes 128, and who is connected waits for them all
_GRACE_SECONDS = 0.25  # that a client has for its request, however many others come
_SILENT_SECONDS = 0.1  # that one has who says nothing: requests come right behind connections
_ROOM_SECONDS = 0.02  # until there is looked for room again
_HANGUP_MILLISECONDS = 1000  # between looks for a client that has gone
_OTHER_FILES = 128  # of models, kernels' sockets and the like


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """What bounds the connections of a server.

    Attributes:
        max_connections: open at a time. A page has six, a client of a library up to a hundred.
        reserved_connections: of those, that guests' requests which are being answered leave to
            the owner's.
        max_user_requests: that are being answered of one user, where users are known by name.
        max_held: bytes of bodies that have come and answers that are not taken yet, of all
            guests: 64 with the largest body there may be, and thousands with what people write.
        header_seconds: from a connection's opening, or a request's first byte on one that is
            kept, to the end of the header. Clients send it in one piece; a slow line needs a
            second.
        idle_seconds: for which a connection is kept between requests.
    """

    max_connections: int = 1024
    reserved_connections: int = 64
    max_user_requests: int = 96
    max_held: int = 256 * 2**20
    header_seconds: float = 10.0
    idle_seconds: float = 75.0


class Phase(Enum):
    """What a connection is at."""

    SENDING = auto()
    """A request has yet to come whole."""
    ANSWERING = auto()
    """One has come, and has not been answered."""
    IDLE = auto()
    """It is kept between requests."""


class Connection(IOStream):
    """A client's connection, which tells the server what it is at.

    Attributes:
        phase: what it is at.
        since: when that began, by the loop's clock.
        is_silent: whether nothing has come yet.
        is_owner: whether the request that it has is the owner's.
    """

    def __init__(self, socket: socket.socket, server: GuardedServer, **options: Any) -> None:
        self.phase = Phase.SENDING
        self.is_silent = True
        self.since = 0.0
        self.is_owner = False
        self.deadline: asyncio.TimerHandle | None = None
        self.server = server
        super().__init__(socket, **options)

    @property
    def has_waiting(self) -> bool:
        """Whether something has come to this computer that has not been read."""
        with contextlib.suppress(OSError):
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        return False

    @contextlib.contextmanager
    def closing_on_hangup(self) -> Iterator[None]:
        """Close it where the client goes while it waits, though it sent something behind its
        request, after which Tornado reads no more and hears nothing of the end."""
        if not hasattr(select, "POLLRDHUP") or self.closed():
            yield
            return
        poll = select.poll()
        poll.register(self.fileno(), select.POLLRDHUP)

        def look() -> None:
            if not self.closed() and poll.poll(0):
                self.close()

        looking = PeriodicCallback(look, _HANGUP_MILLISECONDS)
        looking.start()
        try:
            yield
        finally:
            looking.stop()

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        count = super().read_from_fd(buf)
        self.is_silent = self.is_silent and not count
        if count and self.phase is Phase.IDLE:
            self.server._move(self, Phase.SENDING, self.server.limits.header_seconds)
        return count

    def close_fd(self) -> None:
        super().close_fd()
        self.server._forget(self)


class _Listener(socket.socket):
    """A listening socket that gives few connections in a turn of the loop, and none while there is
    no room; the system keeps the others."""

    server: GuardedServer
    _given = 0

    def accept(self) -> tuple[socket.socket, Any]:
        if self._given == _ACCEPTED:
            self._given = 0
            raise BlockingIOError  # as where none waits any more
        if not self.server._has_room():
            IOLoop.current().update_handler(self, 0)
            IOLoop.current().call_later(_ROOM_SECONDS, self._listen_again)
            raise BlockingIOError
        accepted = super().accept()
        self._given += 1
        return accepted

    def _listen_again(self) -> None:
        if self.fileno() != -1:  # it has not been closed
            IOLoop.current().update_handler(self, IOLoop.READ)


class GuardedServer(HTTPServer):
    """A server that nobody can lock others out of.

    Where connections are too many, the one goes that has been sending its request for longest, else
    the one that has been idle for longest. Those whose requests are being answered stay, and those
    of guests leave room for the owner's: see `admit`.

    Args:
        limits: of its connections.
        options: of `HTTPServer`.
    """

    def initialize(  # type: ignore[override]
        self, *args: Any, limits: ConnectionLimits, **options: Any
    ) -> None:
        # Tornado has one bound for both, which must not come before ours.
        options["idle_connection_timeout"] = limits.header_seconds + limits.idle_seconds
        super().initialize(*args, **options)
        self.limits = limits
        self._max = _possible(limits.max_connections)
        self._max_admitted = self._max - min(limits.reserved_connections, self._max // 2)
        # Of each kind those first that have been of it for longest.
        self._open: dict[Phase, dict[Connection, None]] = {phase: {} for phase in Phase}
        self._admitted: dict[Connection, str | None] = {}  # with the user who asks
        self._held: dict[Connection, int] = {}  # bytes; first what is kept for longest

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        listeners = [_Listener(fileno=each.detach()) for each in sockets]
        for each in listeners:
            each.server = self
            each.setblocking(False)
        super().add_sockets(listeners)

    # What handlers tell

    def admit(self, connection: Connection, is_owner: bool, user: str | None = None) -> bool:
        """Whether a request is taken on whose header has come; the owner's always are.

        Where guests have as many as they may, the one goes whose body has been coming for longest.
        A ``user`` who has as many as one may leaves the others alone.
        """
        if user is not None and self._of(user) >= self.limits.max_user_requests:
            return False
        if not is_owner and len(self._admitted) >= self._max_admitted:
            slowest = next((e for e in self._open[Phase.SENDING] if e in self._admitted), None)
            if slowest is None or not _had_time(slowest):
                return False
            slowest.close()
        connection.is_owner = is_owner
        if is_owner:
            self._move(connection, Phase.ANSWERING)  # also while its body comes
        else:
            self._admitted[connection] = user
        return True

    def _of(self, user: str) -> int:
        """How many requests of a user are being answered."""
        return sum(each == user for each in self._admitted.values())

    def hold(self, connection: Connection, size: int) -> None:
        """Note how many bytes are kept for a connection. Where all guests' are too many, the one
        goes for which something has been kept for longest."""
        if connection.is_owner or connection.closed():
            return
        if size:
            self._held[connection] = size
        else:
            self._held.pop(connection, None)
        while len(self._held) > 1 and sum(self._held.values()) > self.limits.max_held:
            next(iter(self._held)).close()

    # What connections tell

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        if self._is_full and (oldest := self._next_to_go()) is not None:
            oldest.close()
        with contextlib.suppress(OSError):  # notices clients that vanish without a word
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection = Connection(
            stream.socket,
            self,
            max_buffer_size=self.max_buffer_size,
            read_chunk_size=self.read_chunk_size,
        )
        self._move(connection, Phase.SENDING, self.limits.header_seconds)
        super().handle_stream(connection, address)

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        connection = request_conn.stream  # type: ignore[attr-defined]
        if connection.phase is Phase.ANSWERING:
            self._leave(connection)
            if connection._read_buffer_size:  # a next request has come
                self._move(connection, Phase.SENDING, self.limits.header_seconds)
            else:
                self._move(connection, Phase.IDLE, self.limits.idle_seconds)
        return _RequestDelegate(super().start_request(server_conn, request_conn), connection)

    @property
    def _is_full(self) -> bool:
        return sum(map(len, self._open.values())) >= self._max

    def _has_room(self) -> bool:
        """Whether another connection can come, though one may have to go for it."""
        return not self._is_full or self._next_to_go() is not None

    def _next_to_go(self) -> Connection | None:
        """The connection that goes when there is no room for another; None where none may."""
        if self._open[Phase.SENDING]:
            return next(filter(_had_time, self._open[Phase.SENDING]), None)
        return next(iter(self._open[Phase.IDLE]), None)

    def _move(self, connection: Connection, to: Phase, seconds: float | None = None) -> None:
        """Note what a connection is at from now on, and for how long it may be."""
        if connection.closed():
            return
        self._set_deadline(connection, seconds)
        self._open[connection.phase].pop(connection, None)
        connection.phase = to
        connection.since = asyncio.get_running_loop().time()
        self._open[to][connection] = None

    def _set_deadline(self, connection: Connection, seconds: float | None) -> None:
        if connection.deadline is not None:
            connection.deadline.cancel()
            connection.deadline = None
        if seconds is not None:
            loop = asyncio.get_running_loop()
            connection.deadline = loop.call_later(seconds, connection.close)

    def _leave(self, connection: Connection) -> None:
        """A request is over."""
        connection.is_owner = False
        self.hold(connection, 0)
        self._admitted.pop(connection, None)

    def _forget(self, connection: Connection) -> None:
        self._set_deadline(connection, None)
        self._held.pop(connection, None)
        self._admitted.pop(connection, None)
        self._open[connection.phase].pop(connection, None)


def _had_time(connection: Connection) -> bool:
    """Whether a connection has been at what it is at for as long as nobody is hurried."""
    passed = asyncio.get_running_loop().time() - connection.since
    if connection.is_silent and passed < _GRACE_SECONDS:
        return passed >= _SILENT_SECONDS and not connection.has_waiting
    return passed >= _GRACE_SECONDS


class _RequestDelegate(HTTPMessageDelegate):
    """A request as it comes; says so to the server, and passes it on."""

    def __init__(self, delegate: HTTPMessageDelegate, connection: Connection) -> None:
        self._delegate = delegate
        self._connection = connection

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Any:
        self._connection.server._set_deadline(self._connection, None)
        return self._delegate.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Any:
        return self._delegate.data_received(chunk)

    def finish(self) -> None:
        self._connection.server._move(self._connection, Phase.ANSWERING)
        self._delegate.finish()

    def on_connection_close(self) -> None:
        self._delegate.on_connection_close()


def _possible(wanted: int) -> int:
    """How many connections there can be: each takes one of the files that a process may open.

    Without a bound below the system's, a server that is out of files does nothing but fail to
    accept.
    """
    if sys.platform == "win32":  # which has no such bound
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return max(1, min(wanted, soft - _OTHER_FILES))
    return wanted
