"""From HTTP to the routes' functions and back.

A request goes through `ApiHandler` in this order: who asks is checked, and whether there is room;
the body is read (`RequestBody`); the route's function answers; the answer is written, at once or as
a stream; and observers are told. Used on the server's loop alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from typing import Any

from tornado.http1connection import HTTP1Connection
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler, stream_request_body

from ..errors import ComposeError
from ..redaction import get_logger
from ..workflow import Run
from .access import Caller, owner_alone
from .connections import Connection
from .events import as_json
from .http import ApiRequest, ApiResponse, EventStream, Route, as_compose_error, status_of
from .observer import RequestRecord
from .request_body import RequestBody
from .schemas import failure
from .state import ServerState

log = get_logger(__name__)

_TRY_AGAIN = ("busy", "overloaded")  # codes of errors that pass


@stream_request_body
class ApiHandler(RequestHandler):
    """All methods of one path; a path without any is none."""

    SUPPORTED_METHODS = ("GET", "HEAD", "POST", "DELETE", "PATCH", "PUT", "OPTIONS")

    def initialize(self, state: ServerState, routes: Mapping[str, Route]) -> None:
        self._state = state
        self._routes = routes
        self._body = RequestBody(self.request.headers, self._connection, state)
        self._caller = Caller.GUEST
        self._form_token = ""
        self._api_request: ApiRequest | None = None
        self._disconnected = asyncio.get_running_loop().create_future()
        self._began = time.monotonic()
        self._is_recorded = False

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")

    @property
    def _connection(self) -> Connection:
        connection = self.request.connection
        assert isinstance(connection, HTTP1Connection)
        assert isinstance(connection.stream, Connection)
        return connection.stream

    # Who asks, and whether there is room: before anything of the body is read

    async def prepare(self) -> None:
        try:
            await self._check_access()
            self._check_room()
            await self._body.wait_to_begin()
        except Exception as error:
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        """Answer with an error, and read no more of the body."""
        self.set_header("Connection", "close")
        self._fail(error)

    async def _check_access(self) -> None:
        access, headers = self._state.access, self.request.headers
        access.check_host(self.request.host)
        origin = headers.get("Origin")
        access.check_origin(self.request.method or "", self.request.host, headers)
        if origin in access.origins:
            self.set_header("Access-Control-Allow-Origin", str(origin))
            self.set_header("Access-Control-Expose-Headers", "X-Task-Id, Retry-After")
            self.set_header("Vary", "Origin")
        route = None if self.request.method == "OPTIONS" else self._route()
        if route is None or route.open:
            self._body.check_absent()
            return
        if self._state.is_closing:
            raise ComposeError("the server is ending", code="host_closed")
        self._caller = await self._who_calls()
        if route.owner and not self._caller.is_owner:
            raise owner_alone()

    async def _who_calls(self) -> Caller:
        """Who it is; raises `AccessError` where it is nobody who may come in."""
        return await self._state.access.caller(self.request.headers.get("Authorization"))

    def _check_room(self) -> None:
        is_owner = self._state.access.is_owner(self.request.headers.get("Authorization"))
        connection = self._connection
        if not connection.server.admit(connection, is_owner, self._caller.user):
            raise ComposeError(
                "the server answers as many requests as it may",
                hint="Try again when one of them has ended.",
                code="overloaded",
            )

    def _route(self) -> Route:
        if not self._routes:
            raise ComposeError(
                "there is nothing at this path",
                hint="openapi.json, below the base path, has all paths.",
                code="not_found",
            )
        method = "GET" if self.request.method == "HEAD" else self.request.method or ""
        if method not in self._routes:
            allowed = ", ".join(self._routes)
            self.set_header("Allow", allowed)
            raise ComposeError(
                f"{method} is not allowed here", hint=f"Use {allowed}.", code="method_not_allowed"
            )
        return self._routes[method]

    # The body

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        if self._finished:
            return None
        try:
            return self._body.add(chunk)
        except ComposeError as error:
            self._refuse(error)
            return None

    # The answer

    async def _answer(self, **path: str) -> None:
        try:
            route = self._route()
            self._api_request = request = ApiRequest(
                state=self._state,
                caller=self._caller,
                path=path,
                query={key: self.get_query_argument(key) for key in self.request.query_arguments},
                headers=self.request.headers,
                body=await self._body.parse(route.body, forms=route.forms),
                disconnected=self._disconnected,
                form_token=self._form_token,
            )
            with self._connection.closing_on_hangup():
                answer = await route.endpoint(request)
            if request.run_id is not None:  # a stream does not tell it otherwise
                self.set_header("X-Task-Id", request.run_id)
            if isinstance(answer, EventStream):
                await self._write_stream(request, answer)
            else:
                await self._flush(self._write_response(answer))
                self._end(answer.result)
        except TimeoutError:
            self._connection.close()
        except StreamClosedError:
            pass  # the client has gone
        except Exception as error:
            self._fail(error)

    get = post = put = delete = patch = head = _answer

    async def options(self, **_: str) -> None:
        """A browser asks on behalf of a page of another origin that is allowed."""
        self.set_status(204)
        self.set_header("Allow", ", ".join([*self._routes, "OPTIONS"]))
        if self.request.headers.get("Origin") in self._state.access.origins:
            self.set_header("Access-Control-Allow-Methods", ", ".join(self._routes))
            # Libraries send headers of their own; who may call may send them.
            asked = self.request.headers.get("Access-Control-Request-Headers", "")
            self.set_header("Access-Control-Allow-Headers", asked)
            self.set_header("Access-Control-Max-Age", "600")

    def _write_response(self, response: ApiResponse) -> int:
        """Put a complete answer together; `_end` follows when it is on its way.

        Returns:
            Its bytes.
        """
        if self._finished or self._disconnected.done():
            raise StreamClosedError
        self.set_status(response.status)
        for name, value in response.headers.items():
            self.set_header(name, value)
        if response.status == HTTPStatus.NO_CONTENT:
            return 0
        self.set_header("Content-Type", f"{response.content_type}; charset=utf-8")
        is_text = response.content_type != "application/json"
        body = _utf8(response.data if is_text else as_json(response.data))
        self.set_header("Content-Length", len(body))
        self.write(body)
        return len(body)

    async def _write_stream(self, request: ApiRequest, stream: EventStream) -> None:
        self.set_header("Content-Type", "text/event-stream; charset=utf-8")
        self.set_header("Cache-Control", "no-cache")
        self.set_header("X-Accel-Buffering", "no")
        with contextlib.closing(stream):
            async with contextlib.aclosing(stream.events) as events:
                while True:
                    event = await request.unless_disconnected(anext(events, None))
                    if event is None:
                        break
                    written = _utf8(event)
                    self.write(written)
                    await self._flush(len(written))
        self._end(stream.result)

    async def _flush(self, size: int) -> None:
        """Wait until the client has taken what was written, so many bytes.

        Raises:
            TimeoutError: it has not for too long, and is not there any more.
        """
        connection = self._connection
        connection.server.hold(connection, size)
        await asyncio.wait_for(self.flush(), self._state.settings.write_seconds)
        connection.server.hold(connection, 0)

    def _end(self, result: Run | None) -> None:
        """End an answer that is written; the result in it has come to whom it is owed.

        Tornado tells of a client that goes until the answer has ended, so what is written and what
        is taken are held apart until then.
        """
        if self._finished or self._disconnected.done():
            return
        self.finish()
        if result is not None and self.request.method != "HEAD":
            self._state.host.run_store.fetched(result)

    def compute_etag(self) -> None:
        """None: answers are not to be kept, and a large one would hold up the others."""

    # Errors

    def _fail(self, error: Exception) -> None:
        """Answer with an error; in a stream that has begun, the connection ends."""
        told = as_compose_error(error)
        status = status_of(told)
        if status == HTTPStatus.INTERNAL_SERVER_ERROR and told is not error:
            log.error("a request to %s failed", self.request.path, exc_info=error)
        if self._headers_written or self._finished:
            if not self._finished:
                self.finish()
            return
        headers = {}
        if told.code in _TRY_AGAIN:
            headers["Retry-After"] = str(math.ceil(told.retry_after or 1))
        if status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Bearer realm="model-compose"'
        with contextlib.suppress(StreamClosedError):  # nobody is there to hear of it
            self._write_response(self._told(told, status, headers))
            self._end(None)

    def _told(self, error: ComposeError, status: int, headers: Mapping[str, str]) -> ApiResponse:
        """An error as an answer."""
        route = self._routes.get(self.request.method or "")
        error_body = failure if route is None else route.error_body
        return ApiResponse(error_body(error, not self._caller.is_owner), status, headers)

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

    def log_exception(self, *_: Any) -> None:
        """Nothing: `_fail` logs what there is to log, without what was sent."""

    # The end

    def on_connection_close(self) -> None:
        if not self._disconnected.done():
            self._disconnected.set_result(None)
        self._body.drop()
        self.on_finish()

    def on_finish(self) -> None:
        self._body.end()
        if self._is_recorded:
            return
        self._is_recorded = True
        settings = self._state.settings
        record = RequestRecord(
            method=self.request.method or "",
            route=next((each.full_path(settings) for each in self._routes.values()), None),
            status=self.get_status(),
            seconds=time.monotonic() - self._began,
            caller=self._caller,
            run_id=self._api_request.run_id if self._api_request else None,
            disconnected=self._disconnected.done(),
        )
        for each in self._state.observers:
            each.request_ended(record)


def _utf8(text: str) -> bytes:
    """UTF-8, also of halves of characters that a model's text may end with."""
    return text.encode("utf-8", "replace")
