"""From HTTP to the routes' functions and back: access, bodies, errors, streams.

Used on the server's loop alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
import select
import time
from codecs import BOM_UTF8
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
)
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPInputError
from tornado.ioloop import PeriodicCallback
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler, stream_request_body

from ..errors import ComposeError, InputError, UsageError
from ..redaction import get_logger
from ..workflow import Run
from .access import AccessError, Caller
from .bodies import FORMS, read_form, read_json
from .connections import Connection
from .events import as_json
from .schemas import failure, parse_body

if TYPE_CHECKING:
    from .server import Server

log = get_logger(__name__)

_STATUS_OF_CODE = {
    "busy": 429,
    "unknown_workflow": 404,
    "unknown_run": 404,
    "unknown_document": 404,
    "unknown_model": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "already_ended": 409,
    "gone": 410,
    "in_use": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "host_closed": 503,
    "overloaded": 503,
}


@dataclass(frozen=True)
class ApiResponse:
    """An answer that is complete.

    ``result`` is the run whose result it hands over to whom it is owed, where it does.
    """

    data: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    result: Run | None = None


@dataclass(frozen=True)
class Stream:
    """An answer that grows: server-sent events; with its end it hands over a ``result``."""

    events: AsyncIterator[str]
    result: Run | None = None


@dataclass
class ApiRequest:
    """A request that has passed the checks, as a route's function gets it."""

    server: Server
    caller: Caller
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client has closed the connection."""
    run: str | None = None
    """The id of the run that it is about, for the log."""

    async def until_gone(self, work: Awaitable[Any]) -> bool:
        """Wait for something, unless the client goes first; returns whether it stayed."""
        tasks = [asyncio.ensure_future(work), asyncio.ensure_future(self.gone.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                tasks[0].result()
            return tasks[0].done()
        finally:
            for task in tasks:
                task.cancel()


@dataclass(frozen=True)
class RequestRecord:
    """A request that is over.

    Attributes:
        method: of HTTP.
        route: its path with ``{names}`` in place of values; None where there is no such path.
        status: that was answered.
        seconds: from its first line to the end of the answer.
        caller: who it was; a guest where it was refused.
        run: the id of the run that it was about, if it was about one.
        left: whether the client went before the answer ended.
    """

    method: str
    route: str | None
    status: int
    seconds: float
    caller: Caller
    run: str | None
    left: bool


@dataclass(frozen=True)
class Route:
    """One method of one path, and all that there is to say about it.

    Args:
        method: of HTTP.
        path: with ``{names}``; below the base path unless ``root``.
        run: answers a `Call`.
        summary: one line for the OpenAPI document.
        body: the model of its body, if it has one.
        forms: whether the body may be a form instead of JSON.
        query: what may stand in the query, with a description each.
        answers: the model of the answer for each status; None where it is no JSON.
        owner: whether it is the owner's alone.
        open: whether it is answered without a token.
        root: whether the path stands beside the base path, not below it.
        explain: makes the body of an error from an error and a status; the API's own if None.
    """

    method: str
    path: str
    run: Callable[[ApiRequest], Awaitable[ApiResponse | Stream]]
    summary: str
    body: type[BaseModel] | None = None
    forms: bool = False
    query: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[int, Any] = field(default_factory=dict)
    owner: bool = False
    open: bool = False
    root: bool = False
    explain: Callable[[ComposeError, int, bool], Any] | None = None

    def full_path(self, base_path: str) -> str:
        return self.path if self.root else base_path + self.path


@stream_request_body
class ApiHandler(RequestHandler):
    """All methods of one path.

    Bodies are taken in here rather than by Tornado, which reads them before anybody has asked who
    sends them, and answers 400 where they are too large.
    """

    SUPPORTED_METHODS = ("GET", "HEAD", "POST", "DELETE", "PATCH", "PUT", "OPTIONS")

    def initialize(self, server: Server, routes: Mapping[str, Route]) -> None:
        self._server = server
        self._routes = routes
        self._received = bytearray()
        self._caller = Caller.GUEST
        self._call: ApiRequest | None = None
        self._gone = asyncio.Event()
        self._began = time.monotonic()
        self._seen = False
        self._takes_chunks = False

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")

    # Taking a request in

    async def prepare(self) -> None:
        try:
            self._check_access()
            self._check_room()
            self._check_size(self._announced_size())
            await self._wait_for_chunks()
        except Exception as error:
            self.set_header("Connection", "close")  # what is left of the body is not read
            self._fail(error)

    def _announced_size(self) -> int:
        try:
            return int(self.request.headers.get("Content-Length") or 0)
        except ValueError:  # several, which Tornado takes where they agree
            raise UsageError(
                "the request's Content-Length is none", code="invalid_request"
            ) from None

    def _check_access(self) -> None:
        access, headers = self._server.access, self.request.headers
        access.check_host(self.request.host)
        origin = headers.get("Origin")
        access.check_origin(
            self.request.method or "",
            self.request.host,
            origin,
            headers.get("Sec-Fetch-Site"),
            headers.get("Sec-Fetch-Mode"),
        )
        if origin in access.origins:
            self.set_header("Access-Control-Allow-Origin", str(origin))
            self.set_header("Access-Control-Expose-Headers", "X-Task-Id, Retry-After")
            self.set_header("Vary", "Origin")
        if self.request.method == "OPTIONS":
            self._check_no_body()
            return
        route = self._route()
        if route.open:
            self._check_no_body()
            return
        if self._server.closing:
            raise ComposeError("the server is ending", code="host_closed")
        self._caller = access.caller(headers.get("Authorization"))
        if route.owner and self._caller is not Caller.OWNER:
            raise AccessError(
                403,
                "only this user's own programs may do that",
                hint="They find the token in Jupyter's runtime folder.",
            )

    def _check_room(self) -> None:
        is_owner = self._server.access.is_owner(self.request.headers.get("Authorization"))
        if not self._server.admit(self._connection, is_owner):
            raise ComposeError(
                "the server answers as many requests as it may",
                hint="Try again when one of them has ended.",
                code="overloaded",
            )

    async def _wait_for_chunks(self) -> None:
        """Take a guest's body in chunks when few others are taken: each chunk, though it be a byte,
        costs the loop as much as a whole body of a known length."""
        if "Transfer-Encoding" not in self.request.headers or self._connection.is_owner:
            return
        try:
            await asyncio.wait_for(self._server.chunked.acquire(), _CHUNKED_SECONDS)
        except TimeoutError:
            raise ComposeError(
                "the server takes as many bodies in chunks as it may",
                hint="Send the body with a Content-Length.",
                code="overloaded",
            ) from None
        self._takes_chunks = True

    def _end_chunks(self) -> None:
        if self._takes_chunks:
            self._takes_chunks = False
            self._server.chunked.release()

    @property
    def _connection(self) -> Connection:
        connection = self.request.connection
        assert isinstance(connection, HTTP1Connection)
        assert isinstance(connection.stream, Connection)
        return connection.stream

    def _check_no_body(self) -> None:
        """Refuse a body where nobody is asked for a token: strangers send nothing that is read."""
        if self._announced_size() or "Transfer-Encoding" in self.request.headers:
            raise UsageError("this takes no body", code="invalid_request")

    def _route(self) -> Route:
        method = "GET" if self.request.method == "HEAD" else self.request.method or ""
        if method not in self._routes:
            allowed = ", ".join(self._routes)
            self.set_header("Allow", allowed)
            raise ComposeError(
                f"{method} is not allowed here", hint=f"Use {allowed}.", code="method_not_allowed"
            )
        return self._routes[method]

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        if self._finished:
            return None
        try:
            self._check_size(len(self._received) + len(chunk))
        except ComposeError as error:  # a chunked body does not say its size beforehand
            self.set_header("Connection", "close")
            self._fail(error)
            return None
        self._received += chunk
        self._server.hold(self._connection, len(self._received))
        return self._wait_for_turn() if len(self._received) > _LARGE_BODY else None

    async def _wait_for_turn(self) -> None:
        """Read no more of a large body before others had theirs."""
        async with self._server.tasks.turn:
            await asyncio.sleep(0)

    def _check_size(self, size: int) -> None:
        if size > self._server.settings.max_body:
            raise ComposeError(
                f"the body is larger than {self._server.settings.max_body:,} bytes",
                code="too_large",
            )

    async def _body(self, route: Route) -> Any:
        self._end_chunks()
        body = None
        if route.body is None:
            pass
        elif len(self._received) <= _LARGE_BODY:
            body = self._parsed(route.body, route.forms)
        else:  # others are answered meanwhile
            body = await asyncio.to_thread(self._parsed, route.body, route.forms)
        self._received.clear()
        self._server.hold(self._connection, 0)
        return body

    def _parsed(self, model: type[BaseModel], forms: bool) -> Any:
        header = self.request.headers.get("Content-Type", "")
        kind = header.partition(";")[0].strip().lower()
        if kind == "application/json" or kind.endswith("+json"):
            return parse_body(model, read_json(bytes(self._received)))
        if not forms or kind not in FORMS or self._is_browser():
            kinds = "application/json" + (" or a form" if forms else "")
            raise AccessError(
                415, f"the body must be {kinds}", hint="Set 'Content-Type: application/json'."
            )
        # What curl -d says of everything.
        if self._received.removeprefix(BOM_UTF8).lstrip().startswith(b"{"):
            raise UsageError(
                "the body is JSON, and its Content-Type says that it is a form",
                hint="Send the header 'Content-Type: application/json'.",
                code="invalid_request",
            )
        return parse_body(model, read_form(header, bytes(self._received)))

    def _is_browser(self) -> bool:
        """Whether a page sends it. Pages can send forms anywhere without being asked; JSON not."""
        return "Origin" in self.request.headers or "Sec-Fetch-Site" in self.request.headers

    # Answering

    async def _answer(self, **path: str) -> None:
        try:
            route = self._route()
            self._call = call = ApiRequest(
                server=self._server,
                caller=self._caller,
                path=path,
                query={key: self.get_query_argument(key) for key in self.request.query_arguments},
                headers=self.request.headers,
                body=await self._body(route),
                gone=self._gone,
            )
            with self._looking_out():
                reply = await route.run(call)
            if call.run is not None:  # a stream does not tell it otherwise
                self.set_header("X-Task-Id", call.run)
            if isinstance(reply, Stream):
                await self._stream(reply)
            else:
                await self._flush(self._begin_reply(reply))
                self._end(reply.result)
        except TimeoutError:
            self._close_connection()
        except StreamClosedError:
            pass  # the client has gone
        except Exception as error:
            self._fail(error)

    get = post = put = delete = patch = _answer

    head = _answer

    async def options(self, **_: str) -> None:
        """A browser asks on behalf of a page of another origin that is allowed."""
        self.set_status(204)
        self.set_header("Allow", ", ".join([*self._routes, "OPTIONS"]))
        if self.request.headers.get("Origin") in self._server.access.origins:
            self.set_header("Access-Control-Allow-Methods", ", ".join(self._routes))
            # Libraries send headers of their own; who may call may send them.
            asked = self.request.headers.get("Access-Control-Request-Headers", "")
            self.set_header("Access-Control-Allow-Headers", asked)
            self.set_header("Access-Control-Max-Age", "600")

    @contextlib.contextmanager
    def _looking_out(self) -> Iterator[None]:
        """Notice a client that goes while it waits, though it sent something behind its request,
        after which Tornado reads no more and hears nothing of the end."""
        connection = self._connection
        if not hasattr(select, "POLLRDHUP") or connection.closed():
            yield
            return
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLRDHUP)

        def look() -> None:
            if not connection.closed() and poll.poll(0):
                connection.close()

        looking = PeriodicCallback(look, _LOOK_MILLISECONDS)
        looking.start()
        try:
            yield
        finally:
            looking.stop()

    def _end(self, result: Run | None) -> None:
        """End an answer that is written; the result in it has come to whom it is owed.

        Tornado tells of a client that goes until the answer has ended, so what is written and what
        is taken are held apart until then.
        """
        if self._finished or self._gone.is_set():
            return
        self.finish()
        if result is not None and self.request.method != "HEAD":
            self._server.host.run_store.fetched(result)

    def compute_etag(self) -> None:
        """None: answers are not to be kept, and a large one would hold up the others."""

    async def _flush(self, size: int) -> None:
        """Wait until the client has taken what was written, so many bytes.

        Raises:
            TimeoutError: it has not for too long, and is not there any more.
        """
        self._server.hold(self._connection, size)
        await asyncio.wait_for(self.flush(), self._server.settings.write_seconds)
        self._server.hold(self._connection, 0)

    def _begin_reply(self, reply: ApiResponse) -> int:
        """Put an answer together; `_end` follows when it is on its way. Returns its bytes."""
        if self._finished or self._gone.is_set():
            raise StreamClosedError
        self.set_status(reply.status)
        for name, value in reply.headers.items():
            self.set_header(name, value)
        if reply.status == HTTPStatus.NO_CONTENT:
            return 0
        self.set_header("Content-Type", f"{reply.content_type}; charset=utf-8")
        is_text = reply.content_type != "application/json"
        body = _encoded(reply.data if is_text else as_json(reply.data))
        self.set_header("Content-Length", len(body))
        self.write(body)
        return len(body)

    async def _stream(self, stream: Stream) -> None:
        self.set_header("Content-Type", "text/event-stream; charset=utf-8")
        self.set_header("Cache-Control", "no-cache")
        self.set_header("X-Accel-Buffering", "no")
        events = stream.events
        try:
            async with contextlib.aclosing(_while_not(self._gone, events)) as coming:
                async for each in coming:
                    written = _encoded(each)
                    self.write(written)
                    await self._flush(len(written))
        except TimeoutError:
            self._close_connection()
            return
        finally:
            if inspect.isasyncgen(events):
                await events.aclose()
        self._end(stream.result)

    def _close_connection(self) -> None:
        self._connection.close()

    def _fail(self, error: Exception) -> None:
        """Answer with an error; in a stream that has begun, the connection ends."""
        known = _known(error)
        status = _status(known)
        if status == HTTPStatus.INTERNAL_SERVER_ERROR and known is not error:
            log.error("a request to %s failed", self.request.path, exc_info=error)
        if self._headers_written or self._finished:
            if not self._finished:
                self.finish()
            return
        route = self._routes.get(self.request.method or "")
        public = self._caller is not Caller.OWNER
        explain = (route.explain if route else None) or _explain
        headers = {"Retry-After": "1"} if known.code in _TRY_AGAIN else {}
        if status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Bearer realm="model-compose"'
        with contextlib.suppress(StreamClosedError):  # nobody is there to hear of it
            self._begin_reply(ApiResponse(explain(known, status, public), status, headers))
            self._end(None)

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """Answer with an error; one that has begun ends, as all do when the server does."""
        if not self._headers_written:
            super().send_error(status_code, **kwargs)
        elif not self._finished:
            with contextlib.suppress(StreamClosedError):
                self.finish()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """What Tornado itself refuses."""
        error = kwargs.get("exc_info", (None, None))[1]
        self._fail(error if isinstance(error, Exception) else HTTPError(status_code))

    def on_connection_close(self) -> None:
        self._gone.set()
        self._received = bytearray()  # now, and not when the collector finds this
        self.on_finish()

    def on_finish(self) -> None:
        self._end_chunks()
        if self._seen:
            return
        self._seen = True
        self._server.saw_request(
            RequestRecord(
                method=self.request.method or "",
                route=self._template(),
                status=self.get_status(),
                seconds=time.monotonic() - self._began,
                caller=self._caller,
                run=self._call.run if self._call else None,
                left=self._gone.is_set(),
            )
        )

    def _template(self) -> str | None:
        """The path that all its routes have."""
        base = self._server.settings.base_path
        return next((each.full_path(base) for each in self._routes.values()), None)

    def log_exception(self, *_: Any) -> None:
        """Nothing: `_fail` logs what there is to log, without what was sent."""


class NotFound(ApiHandler):
    """Every path that there is not."""

    def initialize(self, server: Server) -> None:  # type: ignore[override]
        super().initialize(server, {})

    def _route(self) -> Route:
        raise ComposeError(
            "there is nothing at this path",
            hint="openapi.json, below the base path, has all paths.",
            code="not_found",
        )


async def _while_not(gone: asyncio.Event, events: AsyncIterator[str]) -> AsyncGenerator[str]:
    """Events as they come, until the client has gone, though none may come for long."""
    leaving = asyncio.ensure_future(gone.wait())
    try:
        while not gone.is_set():
            coming = asyncio.ensure_future(anext(events, None))
            await asyncio.wait([coming, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
                return
            event = coming.result()
            if event is None:
                return
            yield event
    finally:
        leaving.cancel()


def pattern(path: str) -> str:
    """A route's path as a regular expression."""
    return re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path)) + "/?"


_LARGE_BODY = 65_536
_LOOK_MILLISECONDS = 1000
_CHUNKED_SECONDS = 5.0
_TRY_AGAIN = ("busy", "overloaded")


def _known(error: Exception) -> ComposeError:
    """What went wrong as one of our errors."""
    if isinstance(error, ComposeError):
        return error
    if isinstance(error, HTTPError | HTTPInputError):
        return UsageError("the request cannot be understood", code="invalid_request")
    return ComposeError("internal error", hint="The server's log says more.", code="internal")


def _status(error: ComposeError) -> int:
    if isinstance(error, AccessError):
        return error.status
    if error.code in _STATUS_OF_CODE:
        return _STATUS_OF_CODE[error.code]
    if isinstance(error, UsageError):
        return 400
    return 422 if isinstance(error, InputError) or error.code == "invalid_document" else 500


def _explain(error: ComposeError, status: int, public: bool) -> Any:
    return failure(error, public=public)


def _encoded(text: str) -> bytes:
    """UTF-8, also of halves of characters that a model's text may end with."""
    return text.encode("utf-8", "replace")


def status_of(error: ComposeError) -> int:
    """The HTTP status that an error is answered with."""
    return _status(error)
