"""A replica: one process of the cluster that holds models and runs workflows, as any host does."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError

from ..document import Document
from ..errors import ComposeError
from ..host import LocalHost
from ..models import MemoryUse, ModelInfo
from ..redaction import get_logger, remember_variables
from ..run_store import Kept
from ..submission import Submission
from ..workflow import Run
from .messages import Drafts, Order, Part, Reader, Refused, Route, Taken
from .run_directory import SERVER_SECONDS
from .watchers import Watchers

_KEPT_DOCUMENTS = 200
_END_SECONDS = 10.0
_SERVERS = "servers"  # for whom the results of a replica are

_log = get_logger(__name__)


class Replica:
    """The class of Serve's deployment. Every call has its `Route` first, by which it came here.

    Args:
        directory: the handle of the actor that has the `RunDirectory`.
        limits: of the host; see `LocalHost.limit`.
        make_host: gives it.
    """

    def __init__(
        self,
        directory: Any,
        limits: Mapping[str, Any],
        make_host: Callable[[], LocalHost] = LocalHost,
    ) -> None:
        self._directory = directory
        self._host = make_host()
        self._host.limit(**limits)
        self._name = serve.get_replica_context().replica_id.unique_id
        self._documents: OrderedDict[str, Document] = OrderedDict()
        self._watchers = Watchers()
        self._tidying: asyncio.Task[None] | None = None

    async def run(
        self, _: Route, reader: Reader, id: str, order: Order | None
    ) -> AsyncIterator[Part]:
        """The events of a run as a reader wants them, of what has happened meanwhile as much as
        there is at once; a run that is not here is begun, if it is ordered."""
        try:
            run = self._known(id) or await self._begun(id, order)
        except ComposeError as error:
            yield Refused(self._name, error.to_dict())
            return
        self._tidying = self._tidying or asyncio.create_task(self._tidy())
        self._watchers.join(id, reader.server, reader.linger)
        try:
            async for part in self._told(run, reader.after):
                yield part
        finally:
            self._watchers.leave(id, reader.server)

    async def _told(self, run: Run, after: int) -> AsyncIterator[Part]:
        yield Taken(self._name)
        while not (run.done and after >= run.last_event):
            await run.until(partial(_has_more, run, after))
            fresh = run.events_so_far(after)
            after = fresh[-1].number
            if run.done and run.drafts:
                yield Drafts(run.drafts)
            yield fresh
        self._host.run_store.fetched(run)

    async def _tidy(self) -> None:
        """Again and again: end the runs that nobody watches any more."""
        while True:
            await asyncio.sleep(SERVER_SECONDS)
            for id in self._watchers.known():
                run = self._known(id)
                if run is None or run.done:
                    self._watchers.forget(id)
            with contextlib.suppress(RayError):  # it is begun anew, and asked then
                servers = await self._directory.servers.remote()
                for id in self._watchers.unwatched(servers):
                    run = self._known(id)
                    if run is not None:
                        _log.warning("run %s is stopped: nobody watches it any more", id)
                        run.cancel()

    def _known(self, id: str) -> Run | None:
        kept = self._host.run_store.find(id)
        return self._host.run_store.load(kept) if isinstance(kept, Kept) else None

    async def _begun(self, id: str, order: Order | None) -> Run:
        if order is None:
            raise ComposeError(f"run {id} is not here", code="lost")
        document = await self._document(order.document)
        known = self._known(id)  # somebody else may have begun it meanwhile
        return known or self._host.start(
            Submission(
                document,
                order.workflow,
                order.input,
                order.options,
                order.earlier,
                replace(order.requester, owed_to=_SERVERS),
                order.metadata,
                id=id,
            )
        )

    async def _document(self, key: str) -> Document:
        """A document, which comes here once."""
        document = self._documents.get(key)
        if document is None:
            packed = await self._directory.document.remote(key)
            if packed is None:
                raise ComposeError("the document is not known in the cluster", code="no_document")
            document = self._documents[key] = await asyncio.to_thread(packed.unpacked)
            remember_variables(document.environment)
        self._documents.move_to_end(key)
        while len(self._documents) > _KEPT_DOCUMENTS:
            self._documents.popitem(last=False)
        return document

    async def cancel(self, _: Route, id: str) -> bool:
        """Stop a run; returns whether it is here."""
        run = self._known(id)
        if run is not None:
            run.cancel()
        return run is not None

    async def answer(self, _: Route, id: str, question: str, value: Any) -> ComposeError | None:
        """Answer a question of a run; returns why not, where it cannot be."""
        run = self._known(id)
        try:
            if run is not None:
                run.answer(value, question)
        except ComposeError as error:
            return error
        return None

    def models(self) -> list[ModelInfo]:
        return self._host.models()

    def memory(self) -> tuple[str, MemoryUse]:
        """What it holds, and the node where."""
        return ray.get_runtime_context().get_node_id(), self._host.memory()

    def capacity(self) -> int:
        return self._host.capacity()

    def unload(self, name: str | None) -> list[ModelInfo] | ComposeError:
        try:
            return self._host.unload(name)
        except ComposeError as error:
            return error

    def __del__(self) -> None:
        """What Serve calls before it ends a replica."""
        self._host.close(_END_SECONDS)


def _has_more(run: Run, after: int) -> bool:
    return run.last_event > after
