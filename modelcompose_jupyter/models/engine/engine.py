"""The engine of one model: a thread that loads it, generates with it, and frees it when it ends.

Only that thread touches the model. The engine's methods may be called from any thread.

Most requests run in the scheduler, many at once. Those that it cannot run go to transformers'
generate(), one after the other, and the scheduler makes a step after each token of those.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...document.parameters import GenerationParameters
from ...errors import ComposeError, ModelError
from ...redaction import get_logger
from .. import memory
from ..generation import (
    Beginning,
    Cancelled,
    Extension,
    Generation,
    GenerationResult,
    OnRead,
    OnReasoning,
    OnText,
    OnTokens,
    Owner,
    Prompt,
)
from ..request_queue import FairQueue, OnQueued, QueuePosition, QueueUpdates
from ..weights.library_logging import quiet
from ..weights.loaded_model import LoadedModel
from .counters import Counters
from .generate import generate
from .request import GenerationRequest, bare, deliver, explain, never_ran, without_tokens
from .sampling_params import SamplingParams, resolve

if TYPE_CHECKING:
    from ..constraints.compiler import CompiledGrammar, GrammarCompiler
    from .scheduler import Scheduler

Load = Callable[[], LoadedModel]
OnLoaded = Callable[[LoadedModel | BaseException], None]

log = get_logger(__name__)

MOST_QUEUED = 10_000
_LONG_PROMPT = 128  # tokens, that generate() may take a while to read
_CHECK_EVERY = 32  # tokens of generate(), whose memory grows as it goes
MOST_SEQUENCES = 64
"""Most sequences of a step. With more, each would lose more speed than all together gain."""


class Engine:
    """A model and the thread that owns it.

    Args:
        load: gives the model; called once, on the thread.
        on_loaded: called on the thread with the model, or with what ``load`` raised. It must not
            keep the model, and fills ``model_info``.

    Attributes:
        model_info: what results say of the model.
        counters: what it has done so far.
        grammars: compiles those of its texts; there once the model is loaded.
    """

    def __init__(self, name: str, load: Load, on_loaded: OnLoaded) -> None:
        self.model_info: dict[str, Any] = {}
        self.grammars: GrammarCompiler | None = None
        self._replies = False
        self._load = load
        self._on_loaded = on_loaded
        self._scheduler_queue: FairQueue[GenerationRequest] = FairQueue()
        self._generate_queue: FairQueue[GenerationRequest] = FairQueue()
        self._has_scheduler = True
        self._updates = QueueUpdates()
        self._untold = False  # whether queue positions have changed since they were told
        self._running: list[GenerationRequest] = []
        self.counters = Counters()
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        """Start to load."""
        self._thread.start()

    @property
    def running(self) -> int:
        """How many requests run."""
        return len(self._running)

    @property
    def queued(self) -> int:
        """How many requests wait."""
        return len(self._scheduler_queue) + len(self._generate_queue)

    def submit(
        self,
        prompt: Prompt,
        parameters: GenerationParameters,
        on_text: OnText | None = None,
        on_queued: OnQueued | None = None,
        max_output_length: int | None = None,
        owner: Owner = (),
        prompt_lookup: int = 0,
        extension: Extension | None = None,
        on_read: OnRead | None = None,
        on_tokens: OnTokens | None = None,
        beginning: Beginning | None = None,
        scored: str | None = None,
        grammar: CompiledGrammar | None = None,
        chat_template: str | None = None,
        on_reasoning: OnReasoning | None = None,
    ) -> Generation:
        """Queue a `GenerationRequest`.

        Raises:
            ModelError: the model was unloaded, or too many requests wait.
        """
        generation = Generation(self._cancel)
        request = GenerationRequest(
            prompt, parameters, on_text, generation, QueuePosition(on_queued),
            owner or (generation,), max_output_length, prompt_lookup, extension or Extension(),
            beginning or Beginning(), scored, grammar, chat_template, self.model_info,
            on_read=on_read, on_tokens=on_tokens, on_reasoning=on_reasoning,
        )  # fmt: skip
        with self._changed:
            if self._closed:
                raise ModelError("the model was unloaded", code="model_unloaded")
            if self.queued >= MOST_QUEUED:
                raise ModelError(
                    f"{MOST_QUEUED} requests wait for the model already",
                    hint="Try again when some of them have ended.",
                    code="busy",
                )
            queue = self._queue_for(request)
            queue.put(request, *request.owner)
            self._changed.notify()
        if len(queue) > QueueUpdates.MOST_TOLD:  # it is told more exactly when it is nearer
            request.position.tell(len(queue))
        self._tell_positions()
        return generation

    def close(self, timeout: float | None = None) -> bool:
        """Serve what is queued, then end the thread and free the model.

        Waits for it, ``timeout`` seconds at most; returns whether it has ended.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is threading.current_thread():
            return False
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _queue_for(self, request: GenerationRequest) -> FairQueue[GenerationRequest]:
        is_beam_search = (request.parameters.num_beams or 1) > 1
        can_schedule = self._has_scheduler and not is_beam_search
        return self._scheduler_queue if can_schedule else self._generate_queue

    def _cancel(self, generation: Generation) -> None:
        with self._changed:
            waiting = [*self._scheduler_queue, *self._generate_queue]
            queued = next((each for each in waiting if each.generation is generation), None)
            if queued is not None:
                self._queue_for(queued).remove(queued)
            for request in self._running:
                if request.generation is generation:
                    request.cancelled.set()
        if queued is not None:
            self._tell_positions()
            deliver(generation.future, never_ran(queued, self._replies))

    def _main(self) -> None:
        try:
            loop = self._begin()
        except BaseException as error:
            self._on_loaded(bare(error))
            return
        self._replies = loop.loaded.encoder_decoder
        from ..constraints.compiler import GrammarCompiler

        self.grammars = GrammarCompiler(loop.loaded.tokenizer)
        if loop.scheduler is None:
            self._requeue_for_generate()
        self._on_loaded(loop.loaded)
        while self._wait(loop):
            try:
                loop.step()
            except BaseException as error:  # the last resort: nobody must wait for ever
                if loop.scheduler is not None:
                    loop.scheduler.fail_all(error)
                for request in list(self._running):
                    self._deliver(request, explain(error, self.model_info.get("device")))
            if self._untold:
                self._tell_positions()
        del loop
        memory.give_back()

    def _begin(self) -> EngineLoop:
        """Load the model, and once more where it was changed for steps that it cannot have."""
        from .runner import Unsupported

        loaded = self._load()
        try:
            return EngineLoop(self, loaded)
        except Unsupported as error:
            reason, is_changed = str(error), error.is_changed
        log.warning("%s: requests run one by one, by generate(): %s", self._thread.name, reason)
        if is_changed:
            reload = loaded.reload
            del loaded
            memory.give_back()
            assert reload is not None
            loaded = reload()
        return EngineLoop(self, replace(loaded, unbatched=reason))

    def _requeue_for_generate(self) -> None:
        """Have all requests wait for generate(), those too that were queued before the load."""
        with self._changed:
            self._has_scheduler = False
            while self._scheduler_queue:
                request = self._scheduler_queue.pop()
                self._generate_queue.put(request, *request.owner)

    def _wait(self, loop: EngineLoop) -> bool:
        """Wait until there is something to do; False where the engine was closed instead."""
        with self._changed:
            self._changed.wait_for(lambda: loop.busy or self.queued or self._closed)
            return bool(loop.busy or self.queued)

    def _next_request(self, for_generate: bool) -> GenerationRequest | None:
        """Take the next request out of a queue."""
        assert threading.current_thread() is self._thread
        queue = self._generate_queue if for_generate else self._scheduler_queue
        with self._changed:
            if not queue:
                return None
            request = queue.pop()
            self._running.append(request)
        request.begin()
        self._tell_positions()
        return request

    def _deliver(
        self, request: GenerationRequest, outcome: GenerationResult | ComposeError
    ) -> None:
        with self._changed:
            self._running.remove(request)
        self._tell_positions()
        # Only now: who sees the result may unload the model.
        deliver(request.generation.future, outcome)

    def _tell_positions(self) -> None:
        """Tell queued requests how many must end first; not under the lock, which they may want."""
        self._untold = True
        if self._updates.pause:
            return
        self._untold = False
        with self._changed:
            generating = [
                each for each in self._running if self._queue_for(each) is self._generate_queue
            ]
            sequences = sum(each.sequences for each in self._running if each not in generating)
            positions = [
                *QueueUpdates.positions(self._scheduler_queue, MOST_SEQUENCES - sequences),
                *QueueUpdates.positions(self._generate_queue, 1 - len(generating)),
            ]
        self._updates.tell(positions)


class EngineLoop:
    """What an engine's thread does: steps of the scheduler, and generate() for all other requests.

    ``scheduler`` is None where the model cannot run in one.
    """

    def __init__(self, engine: Engine, loaded: LoadedModel) -> None:
        from .scheduler import Scheduler

        self._engine = engine
        self._deliver = engine._deliver
        self.loaded = loaded
        self._generating = False
        self.scheduler: Scheduler | None = None
        runs_alone = loaded.encoder_decoder or loaded.unbatched is not None
        if not runs_alone and not _has_other_options(loaded):
            self.scheduler = Scheduler(loaded, self._deliver, MOST_SEQUENCES, engine.counters)

    @property
    def busy(self) -> bool:
        """Whether a step would do something without another request."""
        return self.scheduler is not None and self.scheduler.busy

    def step(self) -> None:
        """Admit requests, run one by generate() unless one runs, and make the scheduler's step."""
        while self.scheduler is not None and self.scheduler.has_room:
            request = self._engine._next_request(for_generate=False)
            if request is None:
                break
            self._attempt(request, self.scheduler.add)
        if not self._generating:
            request = self._engine._next_request(for_generate=True)
            if request is not None:
                self._attempt(request, self._generate)
        if self.scheduler is not None and self.scheduler.busy:
            self.scheduler.step()

    def _attempt(
        self, request: GenerationRequest, go: Callable[[GenerationRequest, SamplingParams], None]
    ) -> None:
        try:
            with quiet(*({"transformers"} & sys.modules.keys())):  # else it says nothing
                asked, limit = request.parameters, request.max_output_length
                params = resolve(
                    self.loaded, request.prompt, asked, limit, request.check,
                    request.extension.tokens, request.beginning.tokens, request.scored,
                    request.grammar, request.chat_template,
                )  # fmt: skip
                if params.max_new_tokens == 0 and params.prompt_logprobs is None:
                    self._deliver(request, without_tokens(request, params, "length"))
                else:
                    go(request, params)
        except Cancelled:
            self._deliver(request, never_ran(request, self.loaded.encoder_decoder))
        except BaseException as error:
            explained = explain(error, self.loaded.device)
            if explained.code == "out_of_memory":
                memory.give_back()
            self._deliver(request, explained)

    def _generate(self, request: GenerationRequest, params: SamplingParams) -> None:
        if self.loaded.draft is not None or request.prompt_lookup:
            params.warnings.append(
                "draft_model and prompt_lookup have no effect: this runs through generate()"
            )

        if request.model_info.get("cache_quantization") is not None:
            params.warnings.append(
                "cache_quantization has no effect: this runs through generate(), on torch"
            )
        rows = max(params.num_beams, params.num_return_sequences)
        steps = itertools.count(1)
        read = len(params.tokens)

        def between() -> None:
            request.tell_read(read, read)
            if next(steps) % _CHECK_EVERY == 0:
                memory.check_texts(rows, _CHECK_EVERY, loaded.model)
            self._engine.counters.tokens += params.num_return_sequences
            self.step()

        loaded = self.loaded.for_generate
        if loaded is not self.loaded:
            reason = "a beam search is done by transformers"
            own = {"driver": loaded.driver, "driver_reason": reason, "precision": loaded.precision}
            request.model_info = {**request.model_info, **own, "cache_quantization": None}
        # The prompt, once as it is read and once for each row.
        memory.check_texts(rows + 1, len(params.tokens), loaded.model)
        self._generating = True
        if read > _LONG_PROMPT:  # which it reads in one step
            request.tell_read(0, read)
        try:
            outcome = generate(loaded, request, params, between)
        finally:
            self._generating = False
        self._deliver(request, outcome)


def _has_other_options(loaded: LoadedModel) -> bool:
    """Whether a model's generation_config asks for what the sampler lacks."""
    if loaded.model is None:
        return False  # it would not have been loaded so
    from .sampler import unsupported_options

    return unsupported_options(loaded.model) is not None
