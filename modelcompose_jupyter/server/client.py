"""A host in another process: the run API's client, with the methods that every host has.

The thread ``modelcompose-client`` belongs to a RemoteHost: it feeds runs from their streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

import httpx

from ..document import Document
from ..errors import ComposeError, InputError
from ..host import check
from ..models import DeviceMemory, MemoryUse, ModelInfo
from ..workflow import Run, State
from .access import is_loopback
from .announcement import Announcement
from .wire import DocumentText, state_of

CLIENT_THREAD_NAME = "modelcompose-client"
# How long a run goes on while its connection is broken, and for how long it is tried again.
_LINGER_SECONDS = 5.0
_READ_SECONDS = 30.0  # the server says something every ten
_SOON_SECONDS = 3.0  # for what a host that is well answers at once
_TICK = 0.1
_KEPT_RUNS = 200

T = TypeVar("T")


class RemoteHost:
    """A host in another process, reached over its run API.

    Args:
        url: of the run API, with its base path.
        token: the owner's or a client's; None where none is needed.
        announcement: the file that it was found by, if it was.
    """

    def __init__(
        self, url: str, token: str | None = None, announcement: Announcement | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self.announcement = announcement
        self.closed = False
        self._token = token
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._own: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: httpx.AsyncClient | None = None
        self._following: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        title = f" ({self.announcement.title})" if self.announcement else ""
        return f"{self.url}{title}"

    # What every host can do

    def submit(
        self,
        document: Document,
        workflow: str | None = None,
        input: Any = None,
        *,
        seed: int | None = None,
    ) -> Run:
        """Start a run over there and return it at once; see `LocalHost.submit`.

        Raises:
            InputError: no such workflow, or inputs that it cannot take.
            ComposeError: the host is gone (``host_gone``) or busy, or may not run the document.
        """
        chosen, values = check(document, workflow, input, seed)
        body = {"document": document.key, "workflow_id": chosen.id, "input": values, "seed": seed}
        try:
            return self._started(chosen.id, values, body)
        except InputError as error:
            if error.code != "unknown_document":
                raise
        self._bring(document)
        return self._started(chosen.id, values, body)

    def _bring(self, document: Document) -> None:
        try:
            self._ask("POST", "/documents", DocumentText.of(document).model_dump())
        except ComposeError as error:
            if error.code != "forbidden":
                raise
            raise ComposeError(
                f"the host at {self.url} does not serve this document",
                hint="Only its owner can run others there. Use the document that it serves.",
                code="unknown_document",
            ) from None

    def _started(self, workflow: str, values: Any, body: Mapping[str, Any]) -> Run:
        given = {key: value for key, value in body.items() if value is not None}
        asked = {**given, "wait_for_completion": False, "linger": _LINGER_SECONDS}
        run = self._followed(self._ask("POST", "/workflows/runs", asked), workflow, values)
        self._own.add(run.id)
        return run

    def rerun(self, id: str) -> Run:
        """Run again what a run was given.

        Raises:
            InputError: there is no such run.
        """
        first = self.run(id)
        return self._started(first.workflow, first.input, {"rerun_of": first.id})

    def runs(self) -> list[Run]:
        """The runs that it knows and this caller may see, the newest first."""
        states = self._ask("GET", "/tasks?include_output=true")
        return [self._known(state) for state in states]

    def own_runs(self) -> list[Run]:
        """The runs that this process started there, the newest first."""
        with self._lock:
            return [run for run in reversed(self._runs.values()) if run.id in self._own]

    def run(self, id: str) -> Run:
        """A run by its id, or by the beginning of it."""
        found = [run for run in self.runs() if run.id.startswith(id)]
        if len(found) != 1:
            what = "several runs begin with" if found else "there is no run"
            raise InputError(f"{what} '{id}'", code="unknown_run")
        return found[0]

    def models(self) -> list[ModelInfo]:
        """The models in its memory."""
        return [ModelInfo(**each) for each in self._ask("GET", "/models")["models"]]

    def memory(self) -> MemoryUse:
        """What its process holds."""
        data = self._ask("GET", "/models")["memory"]
        return MemoryUse(**{**data, "devices": [DeviceMemory(**each) for each in data["devices"]]})

    def unload(self, name: str | None = None) -> list[ModelInfo]:
        """Give back the memory of a model, or of all that no run uses.

        Raises:
            ModelError: there is none of that name, or a run uses it.
        """
        return [ModelInfo(**each) for each in self._ask("POST", "/models/unload", {"name": name})]

    def close(self, timeout: float | None = None) -> bool:
        """Stop the runs of this client and let go of the host, which goes on. Idempotent."""
        with self._lock:
            self.closed = True
            loop, thread, runs = self._loop, self._thread, list(self._runs.values())
            self._loop = self._thread = None
        if loop is None or thread is None:
            return True
        for run in runs:
            run.cancel()
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._end(), loop).result(timeout)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout)
        return not thread.is_alive()

    # More that its owner can do

    def serves(self, document: Document) -> bool:
        """Whether it serves a document.

        Raises:
            ComposeError: the host is gone, or this caller is not its owner.
        """
        try:
            path = f"/documents/{document.key}"
            return bool(self._ask("GET", path, seconds=_SOON_SECONDS)["served"])
        except InputError:
            return False

    def check(self) -> None:
        """Raise ComposeError where nothing answers, or the token is wrong."""
        self._ask("GET", "/workflows", seconds=_SOON_SECONDS)

    def shut_down(self) -> None:
        """End the host's server, and with it the process if it is there for that alone."""
        self._ask("POST", "/shutdown", {})

    # Asking

    def _ask(self, method: str, path: str, body: Any = None, seconds: float = _READ_SECONDS) -> Any:
        """An answer's data. Waits in short steps, so that an interrupt is never late.

        Raises:
            ComposeError: what the host says is wrong, or ``host_gone``.
        """
        future = self._soon(self._answer(method, path, body, seconds))
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    return future.result(_TICK)
                if future.done():
                    return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _answer(
        self, method: str, path: str, body: Any = None, seconds: float = _READ_SECONDS
    ) -> Any:
        assert self._client is not None
        url = self.url + path
        try:
            response = await self._client.request(method, url, json=body, timeout=seconds)
            data: Any = response.json() if response.content else {}
        except (httpx.HTTPError, ValueError) as error:
            raise self._gone(error) from None
        if response.status_code < 400 or "error" not in data or "task_id" in data:
            return data
        raise _error(data["error"])

    def _gone(self, error: Exception | None = None) -> ComposeError:
        if isinstance(error, httpx.ConnectError) or (
            self.announcement is not None and not self.announcement.alive
        ):
            self.closed = True  # the next call looks for another one
        return ComposeError(
            f"the host at {self.url} is gone or does not answer",
            hint="Run it again: another host is looked for, or this process runs it itself.",
            code="host_gone",
        )

    def _soon(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._running_loop())

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=loop.run_forever, name=CLIENT_THREAD_NAME, daemon=True
                )
                thread.start()
                local = is_loopback(httpx.URL(self.url).host)
                headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
                self._client = httpx.AsyncClient(
                    headers=headers,
                    timeout=httpx.Timeout(_READ_SECONDS),
                    limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
                    trust_env=not local,  # a proxy has nothing to do with this computer
                )
                self._loop, self._thread = loop, thread
            return self._loop

    # Runs

    def _followed(self, state: Mapping[str, Any], workflow: str, values: Any) -> Run:
        """A run of over there as a run here, which grows as that one does."""
        id = state["task_id"]
        run = Run(
            workflow,
            values,
            lambda: self._cancel(id),
            id=id,
            parameters=state.get("parameters") or {},
        )
        with self._lock:
            self._runs[id] = run
            while len(self._runs) > _KEPT_RUNS:
                self._own.discard(self._runs.popitem(last=False)[0])
        self._soon(self._start_following(run))
        return run

    def _known(self, state: Mapping[str, Any]) -> Run:
        """A run from its state: the one of this process where it has one."""
        known = self._runs.get(state["task_id"])
        if known is not None:
            return known
        if not state_of(state["status"]).is_final:
            return self._followed(state, state["workflow_id"], state.get("input"))
        return _ended_run(state)

    def _cancel(self, id: str) -> None:
        async def cancel() -> None:
            with contextlib.suppress(ComposeError):  # it has ended, or the host is gone
                await self._answer("POST", f"/tasks/{id}/cancel?wait_for_completion=false")

        if not self.closed or self._loop is not None:
            self._soon(cancel())

    async def _start_following(self, run: Run) -> None:
        task = asyncio.get_running_loop().create_task(self._follow(run))
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    async def _follow(self, run: Run) -> None:
        """Feed a run from its stream; a broken connection is made again where it broke."""
        last: int | None = None
        broken: float | None = None
        while True:
            try:
                async for id, type, data in self._events(run.id, last):
                    broken, last = None, id
                    data.pop("time", None)
                    run.add(type, data)
            except ComposeError as error:
                self._lose(run, error)
                return
            except httpx.HTTPError:
                pass
            if run.done:
                return
            broken = broken or time.monotonic()
            dead = self.announcement is not None and not self.announcement.alive
            if dead or time.monotonic() - broken > _LINGER_SECONDS:
                self._lose(run, self._gone(httpx.ConnectError("")))
                return
            await asyncio.sleep(_TICK)

    def _lose(self, run: Run, error: ComposeError) -> None:
        run.add("error", error.to_dict())
        run.add("state", {"state": State.FAILED})

    async def _events(
        self, id: str, after: int | None
    ) -> AsyncIterator[tuple[int, Any, dict[str, Any]]]:
        assert self._client is not None
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        url = f"{self.url}/tasks/{id}/events"
        async with self._client.stream("GET", url, headers=headers) as response:
            if response.status_code == 204:
                return
            if response.status_code != 200:
                raise self._gone()
            fields: dict[str, str] = {}
            async for line in _lines(response):
                name, _, value = line.partition(": ")
                if name:
                    fields[name] = value
                elif "data" in fields:
                    yield int(fields["id"]), fields["event"], json.loads(fields["data"])
                    fields = {}

    async def _end(self) -> None:
        await asyncio.sleep(0)  # the cancels that were asked for get on their way
        pending = asyncio.all_tasks() - {asyncio.current_task(), *self._following}
        if pending:
            await asyncio.wait(pending, timeout=1.0)
        for task in list(self._following):
            task.cancel()
        for run in self._runs.values():
            run.add("state", {"state": State.CANCELLED})
        if self._client is not None:
            await self._client.aclose()


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    """Lines as the server ends them. (httpx ends lines at characters that a text may hold.)"""
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode("utf-8")


def _error(data: Mapping[str, Any]) -> ComposeError:
    return ComposeError.from_dict({"type": "", "hint": None, "where": None, **data})


def _ended_run(state: Mapping[str, Any]) -> Run:
    """A run that has ended, folded from its state."""
    run = Run(state["workflow_id"], state.get("input"), lambda: None, id=state["task_id"])
    text = {"stream": ("", 0, 0, 0), "offset": 0, "text": state.get("text", "")}
    run.add("text", {**text, "finish_reason": state.get("finish_reason")})
    if "output" in state:
        run.add("result", {"output": state["output"]})
    if "error" in state:
        run.add("error", state["error"])
    keys = ("usage", "parameters", "warnings", "timings", "record")
    summary = {key: state[key] for key in keys if key in state}
    run.add("state", {"state": state_of(state["status"]), "summary": summary})
    return run
