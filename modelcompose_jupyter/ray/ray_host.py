"""A host whose runs live in the replicas of a cluster.

The thread ``modelcompose-ray`` belongs to a RayHost: it feeds runs from the replicas' streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import pickle
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from ..document import Document
from ..errors import ComposeError
from ..host import new_run, validate_run
from ..hosted_runs import HostedRuns
from ..models import MemoryUse, ModelInfo
from ..redaction import get_logger
from ..run_hooks import call_when_ended
from ..run_store import Forgotten, Kept
from ..seeds import draw_seed
from ..submission import Requester, Submission
from ..workflow import Event, Run, State
from .beginning import beginning_of
from .cluster import Application
from .failover import MOST_LOSSES, Replay
from .messages import EPOCH_SIZE, Drafts, Order, PackedDocument, Reader, Refused, Route, Taken
from .placement import MOST_REFUSALS
from .run_directory import SERVER_SECONDS, Entry
from .totals import total_memory, total_models

RAY_THREAD_NAME = "modelcompose-ray"
_ASK_SECONDS = 10.0
_FIRST_SECONDS = 30.0
_STOP_SECONDS = 10.0  # in which a run ends that was stopped, or what is told of it does
_KEPT_DOCUMENTS = 100
_CAPACITY_SECONDS = 2.0

T = TypeVar("T")
_log = get_logger(__name__)


class _Lost(Exception):
    """The replica is gone, or knows the run no more."""


class _Followed:
    """A run, and where it is.

    Attributes:
        epoch: how often it was begun anew.
        replica: where it is; None where that is to be found.
        answers: to its questions, by their ids.
        last: of the replica's events, the number of the last that has come.
        is_stopped: whether it is to end.
        accepted: done when it is certain that it will be run, or why not.
    """

    run: Run

    def __init__(
        self,
        order: Order,
        epoch: int = 0,
        replica: str | None = None,
        answers: Mapping[str, Any] | None = None,
    ) -> None:
        self.order = order
        self.epoch = epoch
        self.replica = replica
        self.last = -1
        self.losses = 0
        self.answers = dict(answers or {})
        self.is_stopped = False
        self.accepted: Future[None] = Future()
        self.task: asyncio.Task[None] | None = None
        self.replay: Replay | None = None

    @property
    def entry(self) -> Entry:
        size = len(pickle.dumps(self.order))
        return Entry(self.order, size, self.epoch, self.replica, self.answers)

    def take(self, events: Iterable[Event]) -> None:
        """Events of the replica."""
        numbered = []
        for event in events:
            self.last = event.number
            numbered.append(replace(event, number=event.number + self.epoch * EPOCH_SIZE))
        for event in numbered if self.replay is None else self.replay.fresh(numbered):
            self.run.take(event)

    def fail(self, error: ComposeError) -> None:
        self.run.add("error", error.to_dict())
        self.run.add("state", {"state": State.FAILED})


class RayHost(HostedRuns):
    """The replicas of an application, as one host. Any number of them offer the same runs.

    Args:
        application: what runs in the cluster.
        ttl: seconds for which runs are known here that have ended.
    """

    def __init__(self, application: Application, ttl: float | None = None) -> None:
        super().__init__()
        self.run_store.ttl = ttl
        self._application = application
        self._directory = application.directory
        self._stream = application.handle.options(stream=True, method_name="run")
        self._name = secrets.token_hex(6)
        self._directory_name = ""
        self._followed: dict[str, _Followed] = {}
        self._adopting: dict[str, asyncio.Task[Kept | None]] = {}
        self._documents: dict[str, Document] = {}
        self._packed: OrderedDict[int, tuple[Document, PackedDocument]] = OrderedDict()
        self._capacity = 1
        self._capacity_asked = -math.inf
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=RAY_THREAD_NAME, daemon=True
        )
        self._thread.start()
        self._schedule(self._greet()).result(_FIRST_SECONDS)
        self._greeting = self._schedule(self._keep_greeting())

    # Runs

    def start(self, submission: Submission) -> Run:
        if self.closed:
            raise ComposeError("the host is closed", hint="Connect again.", code="host_closed")
        document, requester = submission.document, submission.requester
        chosen, values, asked = validate_run(
            document, submission.workflow, submission.input, submission.options
        )
        asked.setdefault("seed", draw_seed())
        packed = self._pack(document)
        owed = requester.owed_to
        order = Order(
            id=secrets.token_hex(6),
            document=packed.key,
            workflow=chosen.id,
            input=values,
            options=asked,
            earlier=submission.earlier,
            metadata=submission.metadata,
            requester=replace(requester, owed_to=None if owed is None else owed.to_plain()),
            beginning=beginning_of(document, chosen, values),
        )
        followed = _Followed(order)
        run = self._keep(followed, document, requester)
        call_when_ended(run)
        self._tell_observers(run)
        self._schedule(self._follow(followed, self._note(followed, document, packed)))
        return run

    def _pack(self, document: Document) -> PackedDocument:
        """A document on its way. Many runs are of one, and packing takes a while."""
        with self._lock:
            known, packed = self._packed.pop(id(document), (None, None))
            if known is not document or packed is None:
                packed = PackedDocument.of(document)
            self._packed[id(document)] = (document, packed)
            while len(self._packed) > _KEPT_DOCUMENTS:
                self._packed.popitem(last=False)
        return packed

    def _keep(self, followed: _Followed, document: Document, requester: Requester) -> Run:
        """The run of this process that is fed."""
        order = followed.order
        followed.run = run = new_run(
            document,
            document.workflow(order.workflow),
            order.input,
            order.options,
            partial(self._stop, followed),
            partial(self._answer, followed),
            order.metadata,
            order.id,
        )
        started = Submission(
            document, order.workflow, order.input, order.options, requester=requester
        )
        self.run_store.add(run, started)
        self._followed[run.id] = followed
        return run

    async def accepted(self, run: Run) -> None:
        followed = self._followed.get(run.id)
        if followed is not None:
            await asyncio.wrap_future(followed.accepted)

    async def _note(self, followed: _Followed, document: Document, packed: PackedDocument) -> None:
        """Have the directory know a run, and its document."""
        if packed.key not in self._documents:
            await self._directory.add_document.remote(packed)
            self._remember(packed.key, document)
        await self._directory.add.remote(followed.entry)

    def _remember(self, key: str, document: Document) -> None:
        self._documents[key] = document
        while len(self._documents) > _KEPT_DOCUMENTS:
            del self._documents[next(iter(self._documents))]

    async def _follow(
        self, followed: _Followed, first: Coroutine[Any, Any, None] | None = None
    ) -> None:
        """Feed a run to its end, whatever that is, once something else is done; never raises."""
        followed.task = asyncio.current_task()
        try:
            if first is not None:
                await first
            if followed.is_stopped:
                raise asyncio.CancelledError
            while not followed.run.done:
                try:
                    await self._read(followed)
                except _Lost as lost:
                    await self._begin_anew(followed, lost)
            self._directory.ended.remote(followed.order.id)
        except asyncio.CancelledError:
            if followed.replica is None:  # one may be about to begin it
                self._application.handle.broadcast("cancel", Route(), followed.order.id)
            followed.run.add("state", {"state": State.CANCELLED})
        except Exception as error:
            self._refuse(followed, _as_told(error, followed.order.id))
        finally:
            if not followed.accepted.done():
                followed.accepted.set_result(None)

    def _refuse(self, followed: _Followed, error: ComposeError) -> None:
        followed.fail(error)
        if not followed.accepted.done():
            self.run_store.fetched(followed.run)  # whoever asked is told at once
            followed.accepted.set_exception(error)

    async def _read(self, followed: _Followed) -> None:
        """Read a run's stream, from where it is known to be or from a replica that takes it.

        Raises:
            _Lost: the replica is gone, or the run is not there.
            ComposeError: no replica that was asked has room for it.
        """
        refused: set[str] = set()
        while True:
            pinned, order = followed.replica, followed.order
            route = Route(pinned, frozenset(refused), order.beginning)
            owed = order.requester.owed_to
            linger = 0.0 if owed is None else owed["linger"]
            reader = Reader(self._name, linger, followed.last)
            response = self._stream.remote(route, reader, order.id, None if pinned else order)
            try:
                async for part in response:
                    match part:
                        case Taken():
                            await self._taken(followed, part.replica)
                        case Refused():
                            await self._refused(followed, part, refused)
                        case Drafts():
                            followed.run.drafts = part.drafts
                        case _:
                            followed.take(part)
                            self._answer_again(followed, part)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                raise _Lost("the replica let go of it") from None  # it was ended while it ran
            except RayTaskError:
                raise  # a defect of ours
            except (RayError, RayServeException) as error:
                raise _Lost(str(error).partition("\n")[0]) from None
            finally:
                response.cancel()
            if followed.run.done:
                return
            if not refused:
                raise _Lost("its stream ended early")

    async def _refused(self, followed: _Followed, said: Refused, refused: set[str]) -> None:
        """Make another attempt possible, elsewhere where there are others.

        Raises:
            _Lost: the run was to be there, and is not.
            ComposeError: why nothing comes of it.
        """
        error = ComposeError.from_dict(said.error)
        if followed.replica is not None:
            raise _Lost(error.message)
        if error.code not in ("busy", "no_document") or said.replica in refused:
            raise error
        if error.code == "no_document":  # newer ones have taken its place in the directory
            document = self.run_store.named(followed.order.id).submission.document
            await self._directory.add_document.remote(self._pack(document))
        refused.add(said.replica)
        if error.code == "busy" and len(refused) >= MOST_REFUSALS:
            raise error

    async def _taken(self, followed: _Followed, replica: str) -> None:
        if followed.replica != replica:
            followed.replica = replica
            await self._directory.placed.remote(followed.order.id, followed.epoch, replica)
        if not followed.accepted.done():
            followed.accepted.set_result(None)
        if followed.is_stopped:
            await self._stop_there(followed)

    async def _begin_anew(self, followed: _Followed, lost: _Lost) -> None:
        id = followed.order.id
        followed.losses += 1
        if followed.is_stopped:
            followed.run.add("state", {"state": State.CANCELLED})
            return
        if followed.losses > MOST_LOSSES:
            raise ComposeError(
                f"{followed.losses} replicas were lost while run {id} was there",
                hint="It may be the cause: does it need more memory than a replica has?",
                code="replicas_lost",
            )
        _log.warning("run %s is begun anew: %s", id, lost)
        self.begun_anew[followed.run.workflow] += 1
        if await self._directory.begin_anew.remote(id, followed.epoch):
            followed.epoch, followed.replica = followed.epoch + 1, None
        else:  # another server was faster
            entry = await self._directory.find.remote(id)
            if entry is not None:
                followed.epoch, followed.replica = entry.epoch, entry.replica
        followed.last = -1
        followed.replay = Replay(followed.run)

    # Stopping

    def _stop(self, followed: _Followed) -> None:
        """Any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the run
            self._loop.call_soon_threadsafe(self._stop_here, followed)

    def _stop_here(self, followed: _Followed) -> None:
        if followed.is_stopped:
            return
        followed.is_stopped = True
        if followed.replica is None and followed.losses == 0 and followed.task is not None:
            followed.task.cancel()  # it is nowhere yet
        else:
            self._loop.create_task(self._stop_there(followed))
        self._loop.call_later(_STOP_SECONDS, self._give_up, followed)

    async def _stop_there(self, followed: _Followed) -> None:
        with contextlib.suppress(RayError, RayServeException, asyncio.CancelledError):
            route = Route(followed.replica)
            await self._application.handle.cancel.remote(route, followed.order.id)

    def _give_up(self, followed: _Followed) -> None:
        if not followed.run.done and followed.task is not None:
            followed.task.cancel()

    # Answering

    def _answer(self, followed: _Followed, question: str, value: Any) -> None:
        """Answer a question of a run, and wait until that is heard of here. Any thread but the
        loop's."""
        self._schedule(self._answer_there(followed, question, value)).result(_ASK_SECONDS)
        run = followed.run
        run.wait_for(lambda: question not in (each["id"] for each in run.questions), _ASK_SECONDS)

    async def _answer_there(self, followed: _Followed, question: str, value: Any) -> None:
        id = followed.order.id
        followed.answers[question] = value
        try:
            await self._directory.answered.remote(id, question, value)
            refusal = await self._application.handle.answer.remote(
                Route(followed.replica), id, question, value
            )
        except (RayError, RayServeException):
            return  # where the run is begun anew it is answered again
        if refusal is not None:
            del followed.answers[question]
            raise refusal

    def _answer_again(self, followed: _Followed, events: Iterable[Event]) -> None:
        """Answer what a run asks that was begun anew, and has been answered before."""
        for event in events:
            asked = event.data if event.type == "question" else {}
            id = asked.get("id")
            if asked.get("state") == "open" and id in followed.answers:
                again = self._answer_there(followed, id, followed.answers[id])
                self._loop.create_task(again).add_done_callback(_ignored)

    # Runs of other servers

    async def find(
        self, id: str, restore: Callable[[Mapping[str, Any]], Any]
    ) -> Kept | Forgotten | None:
        found = self.run_store.find(id)
        if found is not None or self.closed:
            return found
        return await asyncio.wrap_future(self._schedule(self._adopted(id, restore)))

    async def _adopted(self, id: str, restore: Callable[[Mapping[str, Any]], Any]) -> Kept | None:
        """A run that another server has been asked for, as far as it has come."""
        if id not in self._adopting:
            task = self._loop.create_task(self._adopt(id, restore))
            self._adopting[id] = task
            task.add_done_callback(lambda _: self._adopting.pop(id, None))
        return await asyncio.shield(self._adopting[id])

    async def _adopt(self, id: str, restore: Callable[[Mapping[str, Any]], Any]) -> Kept | None:
        entry = await self._directory.find.remote(id)
        if entry is None or entry.order.requester.owed_to is None:
            return None
        order = entry.order
        document = await self._document(order.document)
        if document is None:
            return None
        followed = _Followed(order, entry.epoch, entry.replica, entry.answers)
        followed.accepted.set_result(None)
        run = self._keep(
            followed, document, replace(order.requester, owed_to=restore(order.requester.owed_to))
        )
        self._loop.create_task(self._follow(followed))
        # What its caller may have seen already comes with the first events.
        await run.until(lambda: run.last_event >= 0, _FIRST_SECONDS)
        found = self.run_store.find(id)
        return found if isinstance(found, Kept) else None

    async def _document(self, key: str) -> Document | None:
        if key not in self._documents:
            packed = await self._directory.document.remote(key)
            if packed is None:
                return None
            self._remember(key, await asyncio.to_thread(packed.unpacked))
        return self._documents.get(key)

    async def _keep_greeting(self) -> None:
        while True:
            await asyncio.sleep(SERVER_SECONDS / 3)
            try:
                await self._greet()
            except RayError as error:
                _log.warning("the run directory does not answer: %s", error)

    async def _greet(self) -> None:
        """Say that this server is there; a directory that has begun anew is told what it forgot."""
        name = await self._directory.greet.remote(self._name)
        known = {id: each for id, each in self._followed.items() if self.run_store.find(id)}
        self._followed = {
            id: each for id, each in known.items() if isinstance(self.run_store.find(id), Kept)
        }
        if name == self._directory_name:
            return
        is_first, self._directory_name = not self._directory_name, name
        if is_first:
            return
        for document in list(self._documents.values()):
            await self._directory.add_document.remote(PackedDocument.of(document))
        for each in list(self._followed.values()):
            await self._directory.add.remote(each.entry)
            if each.run.done:
                await self._directory.ended.remote(each.order.id)

    async def goes_on_without(self) -> bool:
        """Whether other servers offer the same runs."""
        if self.closed:
            return False
        servers = await asyncio.wrap_future(self._schedule(self._servers()))
        return bool({*servers} - {self._name})

    async def _servers(self) -> list[str]:
        servers: list[str] = await self._directory.servers.remote()
        return servers

    # Replicas

    def models(self) -> list[ModelInfo]:
        """The models in the memory of replicas; what several have of one is added up."""
        return total_models(info for infos in self._all("models") for info in infos)

    def capacity(self) -> int:
        """How many runs the replicas that there are can be given at once, together; they are asked
        at most once in some seconds."""
        now = time.monotonic()
        if now - self._capacity_asked > _CAPACITY_SECONDS:
            self._capacity_asked = now
            with contextlib.suppress(ComposeError, RayError):  # as it was
                self._capacity = sum(self._all("capacity"))
        return max(1, self._capacity)

    def memory(self) -> MemoryUse:
        """What replicas hold, together."""
        return total_memory(self._all("memory"))

    def unload(self, name: str | None = None) -> list[ModelInfo]:
        """Give back the memory of a model, by its id or source, or of all that no run uses, in
        every replica; returns those that were unloaded.

        Raises:
            ModelError: no replica has one of that name, or runs use it in all that have.
        """
        answers = self._all("unload", name)
        unloaded = [infos for infos in answers if not isinstance(infos, ComposeError)]
        if not unloaded and answers:
            used = (each for each in answers if each.code != "unknown_model")
            raise next(used, answers[0])
        return [info for infos in unloaded for info in infos]

    def _all(self, method: str, *given: Any) -> list[Any]:
        """What every replica answers that does."""
        answers = self._application.handle.broadcast(method, *given)
        found = answers.results(timeout_s=_ASK_SECONDS, return_exceptions=True)
        return [each for each in found if not isinstance(each, RayError | RayServeException)]

    # The end

    def close(self, timeout: float | None = None) -> bool:
        """Let go of the cluster. What it runs goes on where other servers offer it, and ends
        otherwise. Idempotent."""
        with self._lock:
            if self.closed:
                return True
            self.closed = True
        self._greeting.cancel()
        others = 1
        with contextlib.suppress(Exception):
            others = self._schedule(self._part()).result(_ASK_SECONDS)
        if not others:
            for run in self.run_store.going():
                run.cancel()
            for run in self.run_store.going():
                run.wait(timeout)
            self._application.remove()
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(_end_tasks(), self._loop).result(timeout)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout)
        self.run_store.close()
        self._application.connection.close()
        return not self._thread.is_alive()

    async def _part(self) -> int:
        others: int = await self._directory.part.remote(self._name)
        return others

    def _schedule(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)


def _as_told(error: Exception, id: str) -> ComposeError:
    """Why a run cannot be followed."""
    if isinstance(error, ComposeError):
        return error
    is_of_ray = isinstance(error, RayError | RayServeException)
    if is_of_ray and not isinstance(error, RayTaskError):
        return ComposeError(
            "the cluster is gone or does not answer",
            hint="Run it again when it is there. The log of the server says more.",
            code="host_gone",
        )
    _log.error("run %s cannot be followed", id, exc_info=error)
    return ComposeError(
        f"internal error: {type(error).__name__}: {error}",
        hint="The log of 'modelcompose_jupyter' has the traceback. Please report it.",
        code="internal",
    )


def _ignored(task: asyncio.Task[None]) -> None:
    """Somebody else has answered before."""
    if not task.cancelled():
        task.exception()


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
