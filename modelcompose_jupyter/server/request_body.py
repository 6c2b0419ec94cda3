"""The body of a request, as it comes in: bounded, counted, and in turn with those of others.

Used on the server's loop alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from pydantic import BaseModel
from tornado.httputil import HTTPHeaders

from ..errors import ComposeError, UsageError
from .bodies import read_body
from .connections import Connection
from .schemas import parse_body
from .state import ServerState

_LARGE_BODY = 65_536  # bytes; what is larger takes its turn, and is parsed on another thread
_CHUNKED_SECONDS = 5.0  # that a body in chunks waits for others of its kind


class RequestBody:
    """The body of one request.

    It is taken in here rather than by Tornado, which reads bodies before anybody has asked who
    sends them, and answers 400 where they are too large.
    """

    def __init__(self, headers: HTTPHeaders, connection: Connection, state: ServerState) -> None:
        self._headers = headers
        self._connection = connection
        self._state = state
        self._received = bytearray()
        self._holds_chunked = False

    # Before anything of it is read

    def check_absent(self) -> None:
        """Raise UsageError where there is one although nobody is asked for a token: strangers send
        nothing that is read."""
        if self._content_length() or self._is_chunked:
            raise UsageError("this takes no body", code="invalid_request")

    def _content_length(self) -> int:
        try:
            return int(self._headers.get("Content-Length") or 0)
        except ValueError:  # several, which Tornado takes where they agree
            raise UsageError(
                "the request's Content-Length is none", code="invalid_request"
            ) from None

    def _check_size(self, size: int) -> None:
        if size > self._state.settings.max_body:
            raise ComposeError(
                f"the body is larger than {self._state.settings.max_body:,} bytes", code="too_large"
            )

    @property
    def _is_chunked(self) -> bool:
        return "Transfer-Encoding" in self._headers

    async def wait_to_begin(self) -> None:
        """Wait until it is to be read: a guest's body in chunks when few others are taken. Each
        chunk, though it be a byte, costs the loop as much as a whole body of a known length.

        Raises:
            UsageError: its length is none.
            ComposeError: ``too_large``, as it says itself; or ``overloaded``, too many others in
                chunks are taken for too long.
        """
        self._check_size(self._content_length())
        if not self._is_chunked or self._connection.is_owner:
            return
        try:
            await asyncio.wait_for(self._state.chunked_bodies.acquire(), _CHUNKED_SECONDS)
        except TimeoutError:
            raise ComposeError(
                "the server takes as many bodies in chunks as it may",
                hint="Send the body with a Content-Length.",
                code="overloaded",
            ) from None
        self._holds_chunked = True

    # As it comes

    def add(self, chunk: bytes) -> Awaitable[None] | None:
        """Take in the next part; what is returned is awaited before more is read.

        Raises:
            ComposeError: ``too_large``, as one in chunks does not say beforehand.
        """
        self._check_size(len(self._received) + len(chunk))
        self._received += chunk
        self._connection.server.hold(self._connection, len(self._received))
        return self._wait_for_turn() if len(self._received) > _LARGE_BODY else None

    async def _wait_for_turn(self) -> None:
        """Read no more of a large body before others had theirs."""
        async with self._state.tasks.turn:
            await asyncio.sleep(0)

    # When all of it has come

    async def parse(self, model: type[BaseModel] | None, *, forms: bool) -> Any:
        """The whole as a model, if there is one; it may be a form instead of JSON if ``forms``.

        Raises:
            AccessError: ``unsupported_media_type``.
            UsageError: it is something else than the model.
        """
        self.end()
        is_large = len(self._received) > _LARGE_BODY
        body = None
        if model is not None and is_large:  # others are answered meanwhile
            body = await asyncio.to_thread(self._parsed, model, forms)
        elif model is not None:
            body = self._parsed(model, forms)
        self._received.clear()
        self._connection.server.hold(self._connection, 0)
        return body

    def _parsed(self, model: type[BaseModel], forms: bool) -> Any:
        from_page = "Origin" in self._headers or "Sec-Fetch-Site" in self._headers
        content_type = self._headers.get("Content-Type", "")
        data = read_body(content_type, bytes(self._received), forms=forms, from_page=from_page)
        return parse_body(model, data)

    def end(self) -> None:
        """No more of it comes. Idempotent."""
        if self._holds_chunked:
            self._holds_chunked = False
            self._state.chunked_bodies.release()

    def drop(self) -> None:
        """Nobody wants it any more: give its memory back now, not when the collector finds it."""
        self._received = bytearray()
