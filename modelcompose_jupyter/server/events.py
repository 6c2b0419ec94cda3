"""Server-sent events: runs as streams that can be resumed."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from ..errors import UsageError
from ..workflow import Event, Run
from .access import Caller
from .schemas import event_data, failure, public_event
from .tasks import BATCH, Task, batches

HEARTBEAT = ": still here\n\n"
"""A comment, which readers pass over."""
_RETRY_MILLISECONDS = 1000


def message(data: str, event: str | None = None, id: int | None = None) -> str:
    """One event as it is written; lines of ``data`` stay lines."""
    head = ("" if id is None else f"id: {id}\n") + ("" if event is None else f"event: {event}\n")
    # A reader ends lines at carriage returns, too.
    lines = re.split(r"\r\n|\r|\n", data)
    return head + "".join(f"data: {line}\n" for line in lines) + "\n"


def as_json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, default=str, separators=(",", ":"))


def resume_point(run: Run, header: str | None, query: str | None) -> int:
    """The number of the last event that a client has, by ``Last-Event-ID`` or ``?after=``.

    Raises:
        UsageError: it is no number of an event of this run.
    """
    given = header if header is not None else query
    if given is None or given == "":
        return -1
    last = run.last_event
    if not (given.isascii() and given.isdigit() and len(given) < 18) or int(given) > last:
        raise UsageError(
            "there is no event of that number to go on from",
            hint=f"The last one so far is {last}. Leave it out to begin at the beginning.",
            code="invalid_request",
        )
    return int(given)


async def run_events(task: Task, caller: Caller, after: int) -> AsyncGenerator[str]:
    """A run's events beyond number ``after``, until it has ended."""
    data_of = event_data if caller.is_owner else public_event
    yield f"retry: {_RETRY_MILLISECONDS}\n\n"
    async for events in batches(task.run, after):
        if len(events) < BATCH:
            yield _messages(events, data_of) or HEARTBEAT
            continue
        async with task.terms.tasks.turn:  # who joins late does not hold up the others
            messages = _messages(events, data_of)
            await asyncio.sleep(0)
        yield messages


def _messages(events: list[Event], data_of: Callable[[Event], dict[str, Any]]) -> str:
    return "".join(message(as_json(data_of(each)), each.type, each.number) for each in events)


async def run_text(task: Task, caller: Caller) -> AsyncGenerator[str]:
    """A run's text alone, piece by piece, and an ``error`` event where it fails."""
    run = task.run
    position = shown = 0
    async for events in batches(run):
        piece, position, shown = run.fresh_text(position, shown)
        if piece:
            yield message(piece)
        elif not events:
            yield HEARTBEAT
    if run.error is not None:
        body: Mapping[str, Any] = failure(run.error, not caller.is_owner)
        yield message(as_json(body), "error")
