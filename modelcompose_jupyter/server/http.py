"""Requests, answers and routes: what the functions of the API get and give."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel
from tornado.httputil import HTTPInputError
from tornado.web import HTTPError

from ..errors import ComposeError, InputError, UsageError
from ..workflow import Run
from .access import Caller
from .schemas import failure
from .state import ServerSettings, ServerState
from .tasks import Task

T = TypeVar("T")

_STATUS_OF_CODE = {
    "unauthorized": 401,
    "forbidden": 403,
    "busy": 429,
    "unknown_workflow": 404,
    "unknown_run": 404,
    "unknown_document": 404,
    "unknown_model": 404,
    "unknown_question": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "already_ended": 409,
    "already_answered": 409,
    "no_question": 409,
    "several_questions": 409,
    "gone": 410,
    "in_use": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "host_closed": 503,
    "overloaded": 503,
}


def status_of(error: ComposeError) -> int:
    """The HTTP status that an error is answered with."""
    if error.code in _STATUS_OF_CODE:
        return _STATUS_OF_CODE[error.code]
    if isinstance(error, UsageError):
        return 400
    return 422 if isinstance(error, InputError) or error.code == "invalid_document" else 500


def as_compose_error(error: Exception) -> ComposeError:
    """What went wrong as an error that may be told: of a defect of ours nothing is."""
    if isinstance(error, ComposeError):
        return error
    if isinstance(error, HTTPError | HTTPInputError):
        return UsageError("the request cannot be understood", code="invalid_request")
    return ComposeError("internal error", hint="The server's log says more.", code="internal")


@dataclass
class ApiRequest:
    """A request that has passed the checks, as a route's function gets it."""

    state: ServerState
    caller: Caller
    path: Mapping[str, str]
    """What stands in place of the ``{names}`` of the route's path."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    """As the route's model, if it has one."""
    disconnected: asyncio.Future[None]
    """Done when the client has closed the connection."""
    form_token: str = ""
    """What a page's forms send back, so that pages of others cannot send them."""
    run_id: str | None = None
    """Of the run that it is about, for the log and the ``X-Task-Id`` header."""

    @property
    def is_guest(self) -> bool:
        return not self.caller.is_owner

    async def unless_disconnected(self, work: Awaitable[T]) -> T | None:
        """What something gives; None where the client goes first, and nothing is left of it."""
        task = asyncio.ensure_future(work)
        ends: list[asyncio.Future[Any]] = [task, self.disconnected]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        finally:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return None


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
class EventStream:
    """An answer that grows: a task as server-sent events.

    Its reader is one of those who watch the task from when this is made until it is closed. With
    its end it hands over a ``result``.
    """

    task: Task
    events: AsyncGenerator[str]
    result: Run | None = None
    _watch: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, init=False)

    def __post_init__(self) -> None:
        self._watch.enter_context(self.task.watching())

    def close(self) -> None:
        """The reader has all, or has gone."""
        self._watch.close()


@dataclass(frozen=True)
class Route:
    """One method of one path, and all that there is to say about it.

    Args:
        method: of HTTP.
        path: with ``{names}``; below the base path unless ``root``.
        endpoint: answers a request.
        summary: one line for the OpenAPI document.
        body: the model of its body, if it has one.
        forms: whether the body may be a form instead of JSON.
        query: what may stand in the query, with a description each.
        answers: the model of the answer for each status; None where it is no JSON.
        owner: whether it is the owner's alone.
        open: whether it is answered without a token.
        root: whether the path stands beside the base path, not below it.
        error_body: makes the body of an error, of it and of whether a guest asks.
    """

    method: str
    path: str
    endpoint: Callable[[ApiRequest], Awaitable[ApiResponse | EventStream]]
    summary: str
    body: type[BaseModel] | None = None
    forms: bool = False
    query: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[int, Any] = field(default_factory=dict)
    owner: bool = False
    open: bool = False
    root: bool = False
    error_body: Callable[[ComposeError, bool], Any] = failure

    def full_path(self, settings: ServerSettings) -> str:
        return (settings.root_path if self.root else settings.api_path) + self.path


def path_pattern(path: str) -> str:
    """A route's path as a regular expression."""
    return re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path)) + "/?"
