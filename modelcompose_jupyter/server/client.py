"""A host in another process: the run API's client, with the methods that every host has.

The thread ``modelcompose-client`` belongs to a RemoteHost: it feeds runs from their streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Coroutine, Mapping
from concurrent.futures import CancelledError, Future, wait
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar, Unpack

import httpx
from pydantic import TypeAdapter

from ..document import Document, signature
from ..errors import ComposeError, InputError, UsageError
from ..host import validate_run
from ..models import MemoryUse, ModelInfo
from ..redaction import get_logger, redact, remember
from ..run_hooks import call_when_ended
from ..workflow import EVENT_DATA, Run, RunOptions, State
from ..workflow.options import API_NAMES
from .access import is_loopback
from .schemas import STATES, DocumentKey, DocumentText, Failure, Health, TaskState, WorkflowSummary
from .server_info import ServerInfo

CLIENT_THREAD_NAME = "modelcompose-client"
# How long a run goes on while its connection is broken, and for how long it is tried again.
_LINGER_SECONDS = 5.0
_READ_SECONDS = 30.0  # the server says something every ten
_SOON_SECONDS = 3.0  # for what a host that is well answers at once
_TICK = 0.1
_OF_GATEWAYS = (502, 503, 504)  # what they say where nothing answers behind them
_STOP_SECONDS = 1.0  # for the requests that stop runs when a client closes
_KEPT_RUNS = 200
_CAPACITY = 32  # runs that a host can be given which has not said how many
_CAPACITY_SECONDS = 5.0  # for which what it said holds
_ID_LENGTH = 12  # of a whole one

T = TypeVar("T")
_adapter = cache(TypeAdapter)
_log = get_logger(__name__)


@dataclass(frozen=True)
class _InMemory:
    """The answer of ``/models``."""

    models: list[ModelInfo]
    memory: MemoryUse
    capacity: int = _CAPACITY


class RemoteHost:
    """A host in another process, reached over its run API.

    Args:
        url: of the run API, with its base path.
        token: the owner's or a client's; None where none is needed.
        server_info: the file that it was found by, if it was.
    """

    def __init__(
        self, url: str, token: str | None = None, server_info: ServerInfo | None = None
    ) -> None:
        self.url: str = url.rstrip("/")
        self.server_info = server_info
        self.closed: bool = False
        self.token = token
        remember(token)
        self._session = secrets.token_hex(8)  # by which a guest lists runs of its own
        self._ended = False
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._own: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: httpx.AsyncClient | None = None
        self._feeding: set[asyncio.Task[None]] = set()
        self._capacity = _CAPACITY
        self._capacity_asked = -math.inf

    def __repr__(self) -> str:
        title = f" ({self.server_info.title})" if self.server_info else ""
        return f"{redact(self.url)}{title}"

    # What every host can do

    def submit(
        self,
        document: Document,
        workflow: str | None = None,
        input: Any = None,
        **options: Unpack[RunOptions],
    ) -> Run:
        """Start a run over there and return it at once; see `HostedRuns.submit`.

        Raises:
            InputError: no such workflow, or inputs that it cannot take.
            ComposeError: the host is gone (``host_gone``), closed or busy, or may not run the
                document; or what answers is no host (``bad_answer``).
        """
        chosen, values, asked = validate_run(document, workflow, input, options)
        body = self._body(document, chosen.id, values, asked)
        shown, _ = signature(document, chosen).masked(values)
        try:
            return self._submit_body(chosen.id, shown, document.hash, body)
        except InputError as error:
            if error.code != "unknown_document":
                raise
        self._bring(document)
        return self._submit_body(chosen.id, shown, document.hash, body)

    def _bring(self, document: Document) -> None:
        try:
            self._ask(DocumentKey, "POST", "/documents", DocumentText.of(document).model_dump())
        except ComposeError as error:
            raise self._refused(error) from None

    def _refused(self, error: ComposeError) -> ComposeError:
        """Why a document is not taken."""
        if error.code != "forbidden":
            return error
        return ComposeError(
            f"the host at {self.url} does not serve this document",
            hint="Only its owner can run others there. Use the document that it serves.",
            code="unknown_document",
        )

    @staticmethod
    def _body(document: Document, workflow: str, values: Any, asked: RunOptions) -> dict[str, Any]:
        """What asks for a run."""
        named = {API_NAMES.get(name, name): value for name, value in asked.items()}
        given = {"document": document.key, "workflow_id": workflow, "input": values, **named}
        return {key: value for key, value in given.items() if value is not None}

    def _terms(self) -> dict[str, Any]:
        """How runs are asked for: they end when nobody follows them any more."""
        return {
            "wait_for_completion": False,
            "linger": _LINGER_SECONDS,
            "session_id": self._session,
        }

    def _submit_body(
        self, workflow: str, shown: Any, document: str | None, body: Mapping[str, Any]
    ) -> Run:
        """A run that is asked for; ``shown`` is its input as it may be shown, and ``document`` the
        hash of its document, if it is known."""
        asked = {key: value for key, value in body.items() if value is not None}
        state = self._ask(TaskState, "POST", "/workflows/runs", asked | self._terms())
        run = self._mirrored(state, workflow, shown, document)
        self._own.add(run.id)
        call_when_ended(run)
        return run

    async def submit_part(
        self, document: Document, input: Any, options: RunOptions, part_of: str
    ) -> Run:
        """Start a run over there that is a part of one here, by its id; on any event loop.

        It is none of `own_runs`. Errors are those of `submit`.
        """
        chosen, values, asked = validate_run(document, None, input, options)
        body = self._body(document, chosen.id, values, asked)
        body |= self._terms() | {"metadata": {"part_of": part_of}}
        post = partial(self._answer_here, "POST")
        try:
            state = await post(TaskState, "/workflows/runs", body)
        except InputError as error:
            if error.code != "unknown_document":
                raise
            try:
                await post(DocumentKey, "/documents", DocumentText.of(document).model_dump())
            except ComposeError as refused:
                raise self._refused(refused) from None
            state = await post(TaskState, "/workflows/runs", body)
        shown, _ = signature(document, chosen).masked(values)
        return self._mirrored(state, chosen.id, shown, document.hash)

    async def _answer_here(self, method: str, kind: type[T], path: str, body: Any) -> T:
        """An answer, on whichever event loop waits for it."""
        return await asyncio.wrap_future(self._schedule(self._answer(kind, method, path, body)))

    def rerun(self, id: str) -> Run:
        """Run again what a run was given.

        Raises:
            InputError: there is no such run.
        """
        first = self.run(id)
        body = {"rerun_of": first.id}
        return self._submit_body(first.workflow, first.input, first.document, body)

    def extend(self, id: str, tokens: int | None = None) -> Run:
        """Go on from a run, where a limit has cut its text; see `LocalHost.extend`.

        Raises:
            InputError: there is no such run, or it cannot go on.
        """
        first = self.run(id)
        body = {"extension_of": first.id, "extend_by": tokens}
        return self._submit_body(first.workflow, first.input, first.document, body)

    def branch(self, id: str, token: int, alternative: int, text: int = 0) -> Run:
        """Go on from another token of a run's text; see `LocalHost.branch`.

        Raises:
            InputError: there is no such run or token, or its tokens are not known.
        """
        first = self.run(id)
        at = {"of": first.id, "token": token, "alternative": alternative, "text": text}
        return self._submit_body(first.workflow, first.input, first.document, {"branch": at})

    def runs(self) -> list[Run]:
        """The runs that it knows and this caller may see, the newest first."""
        path = f"/tasks?include_output=true&session_id={self._session}"
        states = self._ask(list[TaskState], "GET", path)
        return [self._run_from(state) for state in states]

    def own_runs(self) -> list[Run]:
        """The runs that this process started there, the newest first."""
        with self._lock:
            return [run for run in reversed(self._runs.values()) if run.id in self._own]

    def run(self, id: str) -> Run:
        """A run by its id, or by the beginning of it.

        Raises:
            InputError: there is none (``unknown_run``), or it is forgotten (``gone``).
        """
        if len(id) == _ID_LENGTH and id.isalnum() and id.isascii():
            try:
                return self._run_from(self._ask(TaskState, "GET", f"/tasks/{id}"))
            except InputError as error:
                if error.code != "unknown_run":
                    raise
        found = [run for run in self.runs() if run.id.startswith(id)]
        if len(found) != 1:
            what = "several runs begin with" if found else "there is no run"
            raise InputError(f"{what} '{id}'", code="unknown_run")
        return found[0]

    def models(self) -> list[ModelInfo]:
        """The models in its memory."""
        return self._ask(_InMemory, "GET", "/models").models

    def memory(self) -> MemoryUse:
        """What its process holds."""
        return self._ask(_InMemory, "GET", "/models").memory

    def capacity(self) -> int:
        """How many runs it can be given at once, as it said last: it is asked again now and then,
        so that this follows what it has. Never waits."""
        now = time.monotonic()
        if now - self._capacity_asked > _CAPACITY_SECONDS and not self._ended:
            self._capacity_asked = now
            with contextlib.suppress(ComposeError):  # it ends just now
                self._schedule(self._ask_capacity())
        return self._capacity

    async def _ask_capacity(self) -> None:
        with contextlib.suppress(ComposeError):  # who submits a run there hears of it
            self._capacity = max(1, (await self._answer(_InMemory, "GET", "/models")).capacity)

    def unload(self, name: str | None = None) -> list[ModelInfo]:
        """Give back the memory of a model, or of all that no run uses.

        Raises:
            ModelError: there is none of that name, or a run uses it.
        """
        return self._ask(list[ModelInfo], "POST", "/models/unload", {"name": name})

    def close(self, timeout: float | None = None) -> bool:
        """Stop the runs of this client and let go of the host, which goes on. Idempotent."""
        self.closed = self._ended = True
        if self._is_forked:
            return True  # the thread and the runs are the parent's
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return True
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._end(), loop).result(timeout)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout)
        if thread.is_alive():
            return False
        loop.close()
        return True

    def takes(self, document: Document) -> bool:
        """Whether it runs a document for this caller, who brings it where it is not known there.

        Raises:
            ComposeError: the host is gone, or what it says is wrong.
        """
        with contextlib.suppress(InputError):
            self._ask(DocumentKey, "GET", f"/documents/{document.key}", seconds=_SOON_SECONDS)
            return True
        try:
            self._bring(document)
        except ComposeError as error:
            if error.code != "unknown_document":
                raise
            return False
        return True

    # More that its owner can do

    @property
    def wants_token(self) -> bool:
        """Whether clients must present a token there."""
        info = self.server_info
        return self.token is not None if info is None else bool(info.client_token)

    def serves(self, document: Document) -> bool:
        """Whether it serves a document.

        Raises:
            ComposeError: the host is gone, or this caller is not its owner.
        """
        try:
            path = f"/documents/{document.key}"
            return self._ask(DocumentKey, "GET", path, seconds=_SOON_SECONDS).served
        except InputError:
            return False

    def ping(self) -> None:
        """Raise ComposeError where no host answers, or the token is wrong."""
        self._ask(Health, "GET", "/health", seconds=_SOON_SECONDS)
        self._ask(list[WorkflowSummary], "GET", "/workflows", seconds=_SOON_SECONDS)

    # Asking

    def _ask(
        self,
        kind: type[T],
        method: str,
        path: str,
        body: Any = None,
        seconds: float = _READ_SECONDS,
    ) -> T:
        """An answer of a kind. Waits in short steps, so that an interrupt is never late.

        Raises:
            ComposeError: what the host says is wrong, ``host_gone``, or ``bad_answer``.
        """
        future = self._schedule(self._answer(kind, method, path, body, seconds))
        try:
            while not future.done():
                if self._ended:
                    raise self._host_closed()
                wait([future], _TICK)
            return future.result()
        except CancelledError:
            raise self._host_closed() from None
        except BaseException:
            future.cancel()
            raise

    async def _answer(
        self,
        kind: type[T],
        method: str,
        path: str,
        body: Any = None,
        seconds: float = _READ_SECONDS,
    ) -> T:
        assert self._client is not None
        self._check_still_there()
        url = self.url + path
        try:
            response = await self._client.request(method, url, json=body, timeout=seconds)
        except httpx.HTTPError as error:
            raise self._host_gone(error) from None
        try:
            data = json.loads(response.content)
            if response.is_success:
                return _validated(kind, data)
            failure = _error_of(data)
            if failure.retry_after is None:
                failure.retry_after = _seconds(response.headers.get("Retry-After"))
        except (ValueError, RecursionError):
            if response.status_code in _OF_GATEWAYS:
                raise self._host_gone() from None
            asked = f"{method} {path.partition('?')[0]}"
            raise self._bad_answer(f"{asked} gave status {response.status_code}") from None
        raise failure

    def _check_still_there(self) -> None:
        """Before anything is sent: the port of a host that is gone may be another program's."""
        if self.server_info is not None and not self.server_info.stands:
            raise self._host_gone()

    def _host_gone(self, error: Exception | None = None) -> ComposeError:
        if isinstance(error, httpx.ConnectError) or (
            self.server_info is not None and not self.server_info.stands
        ):
            self.closed = True  # the next call looks for another one
        return ComposeError(
            f"the host at {self.url} is gone or does not answer",
            hint="Run it again: another host is looked for, or this process runs it itself.",
            code="host_gone",
        )

    def _bad_answer(self, reason: str) -> ComposeError:
        return ComposeError(
            f"what answers at {self.url} is no host, or one of another version: {reason}",
            hint="Use the URL that 'model-compose up' or '%compose serve' says.",
            code="bad_answer",
        )

    def _host_closed(self) -> ComposeError:
        return ComposeError(
            f"the connection to the host at {self.url} is closed",
            hint="Connect to it again.",
            code="host_closed",
        )

    @property
    def _is_forked(self) -> bool:
        """Whether it is a copy in a child: its thread is not here, and its lock may be held."""
        return os.getpid() != self._pid

    def _schedule(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._running_loop())
        except BaseException:
            work.close()
            raise

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._is_forked:
            raise ComposeError(
                f"this process was forked from the one that is connected to {self.url}",
                hint="Connect in this process, too.",
                code="forked",
            )
        with self._lock:
            if self._ended:
                raise self._host_closed()
            if self._loop is None:
                self._client = self._new_client()
                loop = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=loop.run_forever, name=CLIENT_THREAD_NAME, daemon=True
                )
                thread.start()
                self._loop, self._thread = loop, thread
            return self._loop

    def _new_client(self) -> httpx.AsyncClient:
        try:
            local = is_loopback(httpx.URL(self.url).host)
        except httpx.InvalidURL as error:
            raise UsageError(f"'{self.url}' is no URL: {error}") from None
        headers = {b"Authorization": f"Bearer {self.token}".encode()} if self.token else {}
        return httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(_READ_SECONDS),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
            trust_env=not local,  # a proxy has nothing to do with this computer
        )

    # Runs

    def _mirrored(
        self, state: TaskState, workflow: str, values: Any, document: str | None = None
    ) -> Run:
        """A run of over there as a run here, which grows as that one does."""
        id = state.task_id
        run = Run(
            workflow,
            values,
            partial(self._cancel, id),
            partial(self._resume, id),
            id=id,
            parameters=state.parameters,
            document=document,
        )
        with self._lock:
            self._runs[id] = run
            while len(self._runs) > _KEPT_RUNS:
                self._own.discard(self._runs.popitem(last=False)[0])
        self._schedule(self._feed(run))
        return run

    def _run_from(self, state: TaskState) -> Run:
        """A run from its state: the one of this process where it has one."""
        if known := self._runs.get(state.task_id):
            return known
        if not STATES[state.status].is_final:
            return self._mirrored(state, state.workflow_id, (state.model_extra or {}).get("input"))
        return _ended_run(state)

    def _cancel(self, id: str) -> None:
        with contextlib.suppress(ComposeError):  # closed: what was to be stopped was stopped
            self._schedule(self._stop(id))

    def _resume(self, id: str, question: str, value: Any) -> None:
        """Answer a question, and wait until that is heard of here; nothing is waited for where this
        client's own thread asks."""
        path, body = f"/tasks/{id}/resume", {"answer": {question: value}}
        if threading.current_thread() is self._thread:
            self._schedule(self._answer(TaskState, "POST", path, body))
            return
        self._ask(TaskState, "POST", path, body)
        if (run := self._runs.get(id)) is not None:
            run.wait_for(lambda: question not in [e["id"] for e in run.questions], _SOON_SECONDS)

    async def _stop(self, id: str) -> None:
        with contextlib.suppress(ComposeError):  # it has ended, or the host is gone
            path = f"/tasks/{id}/cancel?wait_for_completion=false"
            await self._answer(TaskState, "POST", path)

    async def _feed(self, run: Run) -> None:
        """Feed a run from its stream; a broken connection is made again where it broke."""
        task = asyncio.current_task()
        assert task is not None
        self._feeding.add(task)
        task.add_done_callback(self._feeding.discard)
        last = -1
        broken: float | None = None
        while True:
            try:
                async with contextlib.aclosing(self._events(run.id, last)) as events:
                    async for number, type, data in events:
                        if number <= last:
                            raise ValueError(f"event {number} follows event {last}")
                        last, broken = number, None
                        if type in EVENT_DATA:  # others are passed over
                            data.pop("time", None)
                            run.add(type, data)
            except ComposeError as error:
                self._fail(run, error)
                return
            except httpx.HTTPError:
                pass
            except Exception:  # whatever it sends, the run here ends
                _log.debug("the events of run %s cannot be read", run.id, exc_info=True)
                self._fail(run, self._bad_answer("its events cannot be read"))
                return
            if run.done:
                return
            broken = broken or time.monotonic()
            if time.monotonic() - broken > _LINGER_SECONDS:
                self._fail(run, self._host_gone(httpx.ConnectError("")))
                return
            await asyncio.sleep(_TICK)

    def _fail(self, run: Run, error: ComposeError) -> None:
        run.add("error", error.to_dict())
        run.add("state", {"state": State.FAILED})

    async def _events(self, id: str, after: int) -> AsyncGenerator[tuple[int, Any, dict[str, Any]]]:
        """Number, type and data of events beyond a number.

        Raises:
            ComposeError: the host is gone (``host_gone``), or knows the run no more (``gone``).
            KeyError, ValueError, RecursionError: what comes is no event.
        """
        assert self._client is not None
        self._check_still_there()
        headers = {} if after < 0 else {"Last-Event-ID": str(after)}
        url = f"{self.url}/tasks/{id}/events"
        async with self._client.stream("GET", url, headers=headers) as response:
            if response.status_code == 204:
                return
            if response.status_code == 410:  # the host is there, and says what became of the run
                raise _error_of(json.loads(await response.aread()))
            if response.status_code != 200:
                raise self._host_gone()
            if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                raise ValueError("no stream of events")
            fields: dict[str, str] = {}
            async for line in _lines(response):
                name, _, value = line.partition(": ")
                if name:
                    fields[name] = value
                elif "data" in fields:
                    yield _event(fields)
                    fields = {}

    async def _end(self) -> None:
        """Stop this client's runs and leave the loop with nothing to do."""
        stops = [asyncio.ensure_future(self._stop(e.id)) for e in self.own_runs() if not e.done]
        asking = asyncio.all_tasks() - {asyncio.current_task(), *self._feeding}
        if asking or stops:
            await asyncio.wait({*asking, *stops}, timeout=_STOP_SECONDS)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for run in self._runs.values():
            run.add("state", {"state": State.CANCELLED})
        if self._client is not None:
            await self._client.aclose()


async def _lines(response: httpx.Response) -> AsyncGenerator[str]:
    """Lines as the server ends them. (httpx ends lines at characters that a text may hold.)"""
    begun: list[bytes] = []
    async for chunk in response.aiter_bytes():
        first, *others = chunk.split(b"\n")
        begun.append(first)
        for other in others:
            yield b"".join(begun).decode("utf-8")
            begun = [other]


def _seconds(header: str | None) -> float | None:
    """What Retry-After says, in seconds; None where it says nothing, or a date."""
    return float(header) if header and header.isascii() and header.isdigit() else None


def _error_of(data: Any) -> ComposeError:
    """The error of an answer that is one.

    Raises:
        ValueError: it is something else.
    """
    return ComposeError.from_dict(_validated(Failure, data).error.model_dump())


def _event(fields: Mapping[str, str]) -> tuple[int, str, dict[str, Any]]:
    """An event from its lines."""
    number, type, data = int(fields["id"]), fields["event"], json.loads(fields["data"])
    if type in EVENT_DATA:
        _validated(EVENT_DATA[type], data)
    return number, type, data


def _validated(kind: type[T], data: Any) -> T:
    """Plain data as what it should be.

    Raises:
        ValueError: it is something else.
    """
    read: T = _adapter(kind).validate_python(data)  # type: ignore[arg-type]
    return read


def _ended_run(state: TaskState) -> Run:
    """A run that has ended, folded from its state."""
    data = state.model_dump(exclude_unset=True)
    run = Run(state.workflow_id, data.get("input"), lambda: None, id=state.task_id)
    text = {"text": state.text or "", "finish_reason": state.finish_reason}
    stream = ("", 0, 0, 0)
    run.add("text", {"stream": stream, "offset": 0, **text})
    if state.reasoning:
        thoughts = {"offset": 0, "text": state.reasoning}
        tokens = (state.usage or {}).get("reasoning", 0)
        run.add("reasoning", {"stream": stream, **thoughts, "tokens": tokens})
    if "output" in data:
        run.add("result", {"output": state.output})
    if state.error is not None:
        run.add("error", data["error"])
    keys = ("usage", "parameters", "warnings", "timings", "record", "extendable_by")
    summary = {key: data[key] for key in keys if key in data}
    run.add("state", {"state": STATES[state.status], "summary": summary})
    return run
