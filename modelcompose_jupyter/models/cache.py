"""The models of this process: each is loaded once, pinned while it is used, and given back.

Owns no thread; each model's engine does. One lock guards the books; nothing is loaded, joined or
called back under it.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from ..document.parameters import GenerationParameters
from ..errors import ComposeError, ModelError, did_you_mean, one_line
from . import memory
from .engine.engine import Engine
from .generation import (
    Beginning,
    Extension,
    Generation,
    OnRead,
    OnReasoning,
    OnText,
    OnTokens,
    Owner,
    Prompt,
)
from .request_queue import OnQueued
from .spec import Abandoned, LoadProgress, ModelInfo, ModelSpec
from .weights import source

if TYPE_CHECKING:
    from .constraints.compiler import CompiledGrammar
    from .tokenization.tool_calls import CallSyntax
    from .weights.coming_weights import ComingWeights
    from .weights.loaded_model import LoadedModel

OnProgress = Callable[[LoadProgress], None]
Infos = list[ModelInfo]  # `list` is a method of ModelCache

_REPORT_EVERY = 0.05
# Who stops a run to start another, with a slider moved say, goes on with the load of the first.
_ABANDON_SECONDS = 1.0
_BESIDE_WEIGHTS = 1 << 30  # bytes of keys and values that an idle model may hold as well


class Lease:
    """Pins a model while it is held. A context manager; a lease that is dropped releases itself."""

    def __init__(self, cache: ModelCache, entry: _Entry, spec: ModelSpec) -> None:
        self._cache = cache
        self._entry = entry
        self._lookup = spec.prompt_lookup
        self._driver = spec.driver
        self._released = False

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()

    @property
    def info(self) -> ModelInfo:
        """The model as it is now."""
        return self._entry.info()

    def compile(self, grammar: str, owner: Owner = ()) -> Future[CompiledGrammar]:
        """A grammar of `document.grammars` for this model's tokens; one that is known is there at
        once. Owners take turns as in `generate`. Its future ends with an InputError where it asks
        for too much."""
        compiler = self._entry.engine.grammars
        assert compiler is not None  # a lease is of a model that is loaded
        return compiler.compile(grammar, owner)

    def call_syntax(self, template: str | None = None, owner: Owner = ()) -> Future[CallSyntax]:
        """How its replies call tools, by a chat template in place of its own; it is found out once.
        Its future ends with a ModelError where there is no template."""
        compiler = self._entry.engine.grammars
        assert compiler is not None
        return compiler.call_syntax(template, owner)

    def generate(
        self,
        prompt: Prompt,
        parameters: GenerationParameters,
        on_text: OnText | None = None,
        on_queued: OnQueued | None = None,
        owner: Owner = (),
        extension: Extension | None = None,
        on_read: OnRead | None = None,
        on_tokens: OnTokens | None = None,
        beginning: Beginning | None = None,
        scored: str | None = None,
        grammar: CompiledGrammar | None = None,
        chat_template: str | None = None,
        on_reasoning: OnReasoning | None = None,
    ) -> Generation:
        """Ask for text; returns at once. What is wrong with the request ends its future.

        Requests of different owners take turns, those of their groups before; without one, each
        is an owner's only one. With an ``extension`` it goes on from an earlier one, with a
        ``beginning`` its texts begin so. A text that is to be ``scored`` stands behind the prompt,
        and nothing is generated: its tokens are told, with their log-probabilities. Others are
        of the ``grammar``, if there is one. Messages become text by ``chat_template``, or by that
        of the model's tokenizer.

        Raises:
            ModelError: the lease was released, too many requests wait, or a beam search is asked
                for where the driver is to be native.
        """
        if self._released:
            raise ModelError("the lease on the model was released", code="lease_released")
        if self._driver == "native" and (parameters.num_beams or 1) > 1:
            raise ModelError(
                "a beam search is done by transformers, and 'driver: native' runs in C alone",
                hint="Leave out 'driver', or 'num_beams'.",
                code="driver_unavailable",
            )
        limit = self._cache.max_output_length
        return self._entry.engine.submit(
            prompt, parameters, on_text, on_queued, limit, owner, self._lookup, extension, on_read,
            on_tokens, beginning, scored, grammar, chat_template, on_reasoning,
        )  # fmt: skip

    def release(self) -> None:
        """Let go of the model. Requests that run or wait still end. Idempotent, any thread."""
        if not self._released:
            self._released = True
            self._cache._release(self._entry)


class ModelCache:
    """The models of this process.

    Args:
        memory_budget: bytes of weights to keep; idle models beyond it are unloaded, those used
            least recently first. None keeps as many as the device's memory holds.
        idle_timeout: seconds after which an idle model is unloaded; None is never.

    Attributes:
        max_output_length: most tokens that a request gets; None is no limit.
        cache_budget: bytes of keys and values that each model keeps whose spec does not say,
            from its load on; None leaves it to the engine.
    """

    def __init__(self, memory_budget: int | None = None, idle_timeout: float | None = None) -> None:
        self.memory_budget = memory_budget
        self.idle_timeout = idle_timeout
        self.max_output_length: int | None = None
        self.cache_budget: int | None = None
        self._lock = threading.RLock()  # a Lease may be dropped by the collector at any place
        self._entries: dict[str, _Entry] = {}
        self._abandoned: weakref.WeakSet[Engine] = weakref.WeakSet()
        self._closed = False

    def acquire(self, spec: ModelSpec, on_progress: OnProgress | None = None) -> Future[Lease]:
        """Ask for a model; it is loaded if it is not there, once however many ask.

        ``on_progress`` is called on another thread. Cancelling the future leaves; a load that
        nobody waits for any more is abandoned, what has been downloaded stays. What goes wrong
        with the load ends the future with a ModelError.

        Raises:
            ModelError: the cache is closed.
        """
        waiter = _Waiter(spec, on_progress)
        future = waiter.future
        request = (spec, tuple(source.fingerprint(part) for part in spec.parts))
        with self._lock:
            if self._closed:
                raise ModelError("the model cache is closed", code="cache_closed")
            entry = next((e for e in self._entries.values() if request in e.requests), None)
            fresh = entry is None
            if entry is None:
                entry = _Entry(self, self._new_id(spec), request)
                self._entries[entry.id] = entry
            waiter.entry = entry
            entry.waiters.append(waiter)
            ready = entry.state == "ready"
        # Weakly, or a lease that is dropped would be held by its own future's callback.
        left = weakref.ref(waiter)
        future.add_done_callback(lambda done: self._left(left(), done))
        if fresh:
            entry.engine.start()
        elif ready:
            self._grant(entry)
        return future

    def list(self) -> Infos:
        """The models that are loaded or being loaded."""
        with self._lock:
            return [entry.info() for entry in self._entries.values()]

    def memory(self) -> memory.MemoryUse:
        """What this process holds."""
        return memory.use()

    def unload(self, name: str | None = None) -> Infos:
        """Unload a model, by id or source, or all that are idle; returns those that went.

        Waits until the memory is given back.

        Raises:
            ModelError: there is no such model, or it is in use.
        """
        with self._lock:
            chosen = [e for e in self._entries.values() if name in (None, e.id, e.spec.source)]
            if name is not None:
                self._check_unload(name, chosen)
            idle = [entry for entry in chosen if entry.idle]
            infos = [entry.info() for entry in idle]
            self._forget(idle)
        for entry in idle:
            entry.engine.close()
        return infos

    def close(self, timeout: float | None = None) -> bool:
        """Unload everything, after the requests that were made have ended. Idempotent.

        Returns:
            Whether all threads have ended within ``timeout`` seconds; None waits for ever.
        """
        with self._lock:
            self._closed = True
            entries = list(self._entries.values())
            self._forget(entries)
            engines = [*(entry.engine for entry in entries), *self._abandoned]
        for entry in entries:
            entry.abandoned.set()
        end = None if timeout is None else time.monotonic() + timeout
        ended = [engine.close(end and max(0.0, end - time.monotonic())) for engine in engines]
        return all(ended)

    def _check_unload(self, name: str, chosen: Sequence[_Entry]) -> None:
        if not chosen:
            names = [n for e in self._entries.values() for n in (e.id, e.spec.source)]
            raise ModelError(
                f"no model '{name}' is loaded", hint=did_you_mean(name, names), code="not_loaded"
            )
        if busy := [entry.id for entry in chosen if not entry.idle]:
            raise ModelError(
                f"the model {busy[0]} is in use",
                hint="Wait for its runs to end or stop them, then unload it.",
                code="model_in_use",
            )

    def _new_id(self, spec: ModelSpec) -> str:
        name = spec.source.rstrip("/\\").replace("\\", "/").rpartition("/")[2]
        name = name.rpartition(":")[2] or "model"
        number = 1
        while (known := name if number == 1 else f"{name}-{number}") in self._entries:
            number += 1
        return known

    def _forget(self, entries: Iterable[_Entry]) -> None:
        for entry in entries:
            self._entries.pop(entry.id, None)
            if entry.timer is not None:
                entry.timer.cancel()

    def _left(self, waiter: _Waiter | None, future: Future[Lease]) -> None:
        """A waiter's future is done; if it was cancelled, perhaps nobody waits any more."""
        if waiter is None or not future.cancelled():
            return
        with self._lock:
            entry = waiter.entry
            if waiter in entry.waiters:
                entry.waiters.remove(waiter)
            if entry.state == "loading" and not entry.waiters:
                self._later(entry, _ABANDON_SECONDS, self._abandon)

    def _abandon(self, entry: _Entry) -> None:
        """Give up a load that nobody waits for, unless somebody has come meanwhile."""
        with self._lock:
            known = self._entries.get(entry.id) is entry
            if known and entry.state == "loading" and not entry.waiters:
                entry.abandoned.set()
                self._abandoned.add(entry.engine)
                self._forget([entry])

    def _grant(self, entry: _Entry) -> None:
        """Give all who wait for a model that is ready their lease."""
        with self._lock:
            waiters, entry.waiters = entry.waiters, []
            entry.leases += len(waiters)
        for waiter in waiters:
            if waiter.future.set_running_or_notify_cancel():
                waiter.future.set_result(Lease(self, entry, waiter.spec))
            else:
                self._release(entry)

    def _release(self, entry: _Entry) -> None:
        with self._lock:
            entry.leases -= 1
            entry.last_used = time.time()
            self._watch_idle(entry)

    def _watch_idle(self, entry: _Entry) -> None:
        if entry.timer is not None:
            entry.timer.cancel()
        if self.idle_timeout is not None and not entry.leases and not self._closed:
            self._later(entry, self.idle_timeout, self._expire)

    def _later(self, entry: _Entry, seconds: float, action: Callable[[_Entry], None]) -> None:
        """Set the timer of an entry, which has one at most."""
        if entry.timer is not None:
            entry.timer.cancel()
        entry.timer = threading.Timer(seconds, action, [entry])
        entry.timer.daemon = True
        entry.timer.start()

    def _expire(self, entry: _Entry) -> None:
        with self._lock:
            if self._entries.get(entry.id) is not entry:
                return
            if not entry.idle:
                self._watch_idle(entry)
                return
            self._forget([entry])
        entry.engine.close()

    def _share(self, entry: _Entry, key: object) -> bool:
        """Send the waiters to a model of the same weights, if another request has made one."""
        with self._lock:
            twin = next((e for e in self._entries.values() if e.key == key), None)
            if twin is None:
                entry.key = key
                return False
            twin.requests |= entry.requests
            for waiter in entry.waiters:
                waiter.entry = twin
            twin.waiters += entry.waiters
            entry.waiters = []
            self._forget([entry])
            ready = twin.state == "ready"
        if ready:
            self._grant(twin)
        return True

    def _make_room(self, needed: int, device: str) -> None:
        """Unload idle models until the budget and the device have room, if that can be enough."""
        while True:
            with self._lock:
                idle = [e for e in self._entries.values() if e.idle]
                if memory.is_short(needed - _freed_by(idle), device):
                    return
                over = self._is_over(needed, self._entries.values())
                if not over and not memory.is_short(needed, device):
                    return
                if not idle:
                    return
                oldest = min(idle, key=lambda entry: entry.last_used)
                self._forget([oldest])
            oldest.engine.close()

    def _can_make_room(self, needed: int, device: str) -> bool:
        """Whether that can be enough."""
        with self._lock:
            idle = [e for e in self._entries.values() if e.idle]
            if self._is_over(needed, set(self._entries.values()) - set(idle)):
                return False
            return not memory.is_short(needed - _freed_by(idle), device)

    def _could_have(self, needed: int, device: str) -> bool:
        """Whether a device has room, once idle models are unloaded."""
        with self._lock:
            idle = [e for e in self._entries.values() if e.idle]
        return not memory.is_short(needed - _freed_by(idle), device)

    def _is_over(self, needed: int, entries: Iterable[_Entry]) -> bool:
        """Whether so much is above the budget, beside some models."""
        used = sum(entry.memory_bytes or 0 for entry in entries)
        return self.memory_budget is not None and used + needed > self.memory_budget

    def _loaded(self, entry: _Entry) -> None:
        with self._lock:
            entry.state = "ready"
            entry.last_used = time.time()
            given_up = entry.abandoned.is_set()
            if not given_up:
                self._watch_idle(entry)
        if given_up:  # after the last moment at which the load could notice
            entry.engine.close()
        self._grant(entry)

    def _failed(self, entry: _Entry, error: BaseException) -> None:
        with self._lock:
            self._forget([entry])
            waiters, entry.waiters = entry.waiters, []
        for waiter in waiters:
            if waiter.future.set_running_or_notify_cancel():
                waiter.future.set_exception(error)


def _freed_by(idle: Iterable[_Entry]) -> int:
    """Bytes that are free once models are unloaded."""
    return sum((entry.memory_bytes or 0) + _BESIDE_WEIGHTS for entry in idle)


class _Waiter:
    def __init__(self, spec: ModelSpec, on_progress: OnProgress | None) -> None:
        self.spec = spec
        self.future: Future[Lease] = Future()
        self.on_progress = on_progress
        self.entry: _Entry


class _Entry:
    """A model in the cache's books. It holds facts and the engine's handle, never weights."""

    def __init__(self, cache: ModelCache, id: str, request: tuple[ModelSpec, Any]) -> None:
        self.id = id
        self.spec, self._fingerprint = request
        self.requests = {request}
        self.key: object = None
        self.state: Literal["loading", "ready"] = "loading"
        self.waiters: list[_Waiter] = []
        self.leases = 0
        self.last_used = time.time()
        self.timer: threading.Timer | None = None
        self.abandoned = threading.Event()
        self.engine = Engine(f"model {id}", self._load, self._on_loaded)
        self.memory_bytes: int | None = None
        self._mapped_bytes: int | None = None
        self._parameters: int | None = None
        self._context: int | None = None
        self._revision: str | None = None
        self._cache = cache
        self._reported: Any = None
        self._reported_at = 0.0

    @property
    def idle(self) -> bool:
        """Whether it may be unloaded: ready, and neither leased nor at work."""
        in_use = self.leases or self.waiters or self.engine.running or self.engine.queued
        return self.state == "ready" and not in_use

    def info(self) -> ModelInfo:
        model_info = self.engine.model_info
        return ModelInfo(
            id=self.id,
            source=self.spec.source,
            revision=self._revision,
            device=model_info.get("device"),
            precision=model_info.get("precision"),
            driver=model_info.get("driver"),
            driver_reason=model_info.get("driver_reason"),
            state=self.state,
            class_name=model_info.get("class"),
            context=self._context,
            parameters=self._parameters,
            memory_bytes=self.memory_bytes,
            mapped_bytes=self._mapped_bytes,
            leases=self.leases,
            running=self.engine.running,
            queued=self.engine.queued,
            generated=self.engine.counters.tokens,
            last_used=self.last_used,
        )

    def _load(self) -> LoadedModel:
        """On the engine's thread."""
        spec = self.spec
        self._report(LoadProgress.start(spec.source, "engine"))
        from .weights import loader

        if spec.cache_budget is None:
            spec = replace(spec, cache_budget=self._cache.cache_budget)

        def check_room(coming: ComingWeights) -> None:
            loader.check_room(spec, coming, self._report, self._cache._could_have)

        found = source.resolve(spec, self._report, check_room)
        self._revision = found.revision
        plan = loader.plan(spec, found, self._report, self._cache._can_make_room)
        if self._cache._share(self, (plan.key, self._fingerprint)):
            raise Abandoned
        self._cache._make_room(plan.size.peak, plan.device)
        self.memory_bytes = plan.size.kept
        return loader.load(plan, self._report)

    def _report(self, progress: LoadProgress) -> None:
        if self.abandoned.is_set():
            raise Abandoned
        now, what = time.monotonic(), (progress.phase, progress.model, progress.step)
        is_more = what == self._reported and not progress.is_end
        if is_more and now - self._reported_at < _REPORT_EVERY:
            return
        self._reported, self._reported_at = what, now
        for waiter in list(self.waiters):
            if waiter.on_progress is not None:
                try:
                    waiter.on_progress(progress)
                except Exception:  # a listener that fails is not asked again, and fails nothing
                    waiter.on_progress = None

    def _on_loaded(self, outcome: LoadedModel | BaseException) -> None:
        """On the engine's thread."""
        if isinstance(outcome, BaseException):
            self._cache._failed(self, self._explained(outcome))
            return
        self.memory_bytes, self._mapped_bytes = outcome.memory_bytes, outcome.mapped_bytes
        self._parameters = outcome.parameters
        self._context = outcome.context
        self.engine.model_info.update(
            {
                "source": self.spec.source,
                "revision": self._revision,
                "device": outcome.device,
                "precision": outcome.precision,
                "cache_quantization": self.spec.cache_quantization,
                "driver": outcome.driver,
                "driver_reason": outcome.runs_as,
                "class": outcome.class_name,
            }
        )
        self._cache._loaded(self)

    def _explained(self, error: BaseException) -> ComposeError:
        if isinstance(error, ComposeError):
            return error
        if isinstance(error, Abandoned):
            return ModelError(f"the load of {self.spec.source} was given up", code="cache_closed")
        return ModelError(
            f"{self.spec.source} could not be loaded, by its config.json or weights:"
            f" {type(error).__name__}: {one_line(error)}",
            code="load_failed",
        )
