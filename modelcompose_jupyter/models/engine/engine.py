"""The engine of one model: requests come in from any thread, texts go out.

Owns a thread. The thread loads the model, is the only one that ever touches it, and takes the model
with it when it ends. Requests run together in a batch, or by generate() in turn; the batch goes on
between the tokens of those. Every other method may be called from any thread.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...document.parameters import GenerationParameters
from ...errors import ComposeError, ModelError
from .. import memory
from ..generation import (
    Cancelled,
    Generation,
    GenerationResult,
    OnQueued,
    OnText,
    Owner,
    Prompt,
    QueuePosition,
    QueueUpdates,
)
from ..weights.loader import LoadedModel
from .counters import Counters
from .fair_queue import FairQueue
from .request import GenerationRequest, bare, deliver, explain, never_ran, nothing_more

if TYPE_CHECKING:
    from .sampling_params import SamplingParams
    from .scheduler import Scheduler

Load = Callable[[], LoadedModel]
OnLoaded = Callable[[LoadedModel | BaseException], None]

MOST_QUEUED = 10_000
_LOOK_EVERY = 32  # tokens of generate(), whose memory grows as it goes
MOST_SEQUENCES = 64
"""So many run at once; more would make each of them slower than it makes all of them quicker."""

Next = Callable[[bool], GenerationRequest | None]
"""Gives the next request, of those that run in turn or of those that run in the batch."""


class Engine:
    """A model and the thread that owns it.

    Args:
        name: of the thread.
        load: gives the model; called once, on the thread.
        on_loaded: called on the thread with the model, or with what ``load`` raised. It must not
            keep the model, and fills ``facts``.

    Attributes:
        facts: what results say of the model.
        counters: what it has done so far.
    """

    def __init__(self, name: str, load: Load, on_loaded: OnLoaded) -> None:
        self.model_info: dict[str, Any] = {}
        self._replies = False
        self._load = load
        self._on_loaded = on_loaded
        # Those that run in the batch, and those that run through generate() in turn.
        self._queue: FairQueue[GenerationRequest] = FairQueue()
        self._queue_in_turn: FairQueue[GenerationRequest] = FairQueue()
        self._all_in_turn = False
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
        return len(self._queue) + len(self._queue_in_turn)

    def submit(
        self,
        prompt: Prompt,
        parameters: GenerationParameters,
        on_text: OnText | None = None,
        on_queued: OnQueued | None = None,
        max_output_length: int | None = None,
        owner: Owner = (),
        prompt_lookup: int = 0,
    ) -> Generation:
        """Queue a request; its ``max_output_length`` is bounded by this.

        Owners take turns; where they are given as a group and an owner in it, groups do so first.

        ``prompt_lookup`` is how many tokens are guessed from the text so far.

        Raises:
            ModelError: the model was unloaded, or too many requests wait.
        """
        generation = Generation(self._cancel)
        request = GenerationRequest(
            prompt, parameters, on_text, generation, QueuePosition(on_queued),
            owner or (generation,), max_output_length, prompt_lookup,
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
        self._tell_places()
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
        in_turn = self._all_in_turn or (request.parameters.num_beams or 1) > 1
        return self._queue_in_turn if in_turn else self._queue

    def _cancel(self, generation: Generation) -> None:
        with self._changed:
            waiting = [*self._queue, *self._queue_in_turn]
            queued = next((each for each in waiting if each.generation is generation), None)
            if queued is not None:
                self._queue_for(queued).remove(queued)
            for request in self._running:
                if request.generation is generation:
                    request.cancelled.set()
        if queued is not None:
            self._tell_places()
            deliver(generation.future, never_ran(queued, self.model_info, self._replies))

    def _main(self) -> None:
        try:
            loaded = self._load()
            work = EngineLoop(loaded, self.model_info, self._deliver, self.counters)
        except BaseException as error:
            self._on_loaded(bare(error))
            return
        self._replies = loaded.encoder_decoder
        if not work.batches:
            self._have_all_in_turn()
        self._on_loaded(loaded)
        del loaded
        while self._wait(work):
            try:
                work.step(self._next)
            except BaseException as error:
                self._fail_all(work, error)
            if self._untold:
                self._tell_places()
        del work
        memory.give_back()

    def _fail_all(self, work: EngineLoop, error: BaseException) -> None:
        """The last resort: nobody must wait for ever."""
        work.fail_all(error)
        for request in list(self._running):
            self._deliver(request, explain(error, self.model_info))

    def _have_all_in_turn(self) -> None:
        with self._changed:
            self._all_in_turn = True
            while self._queue:
                request = self._queue.pop()
                self._queue_in_turn.put(request, *request.owner)

    def _wait(self, work: EngineLoop) -> bool:
        """Until there is something to do; whether there will be."""
        with self._changed:
            self._changed.wait_for(lambda: work.busy or self.queued or self._closed)
            return bool(work.busy or self.queued)

    def _next(self, in_turn: bool) -> GenerationRequest | None:
        """Take the next request out of a queue."""
        assert threading.current_thread() is self._thread
        queue = self._queue_in_turn if in_turn else self._queue
        with self._changed:
            if not queue:
                return None
            request = queue.pop()
            self._running.append(request)
        request.begin()
        self._tell_places()
        return request

    def _deliver(
        self, request: GenerationRequest, outcome: GenerationResult | ComposeError
    ) -> None:
        with self._changed:
            self._running.remove(request)
        self._tell_places()
        # Only now: who sees the result may unload the model.
        deliver(request.generation.future, outcome)

    def _tell_places(self) -> None:
        """Tell those who wait how many must end first; not under the lock, which they may want."""
        self._untold = True
        if self._updates.pause:
            return
        self._untold = False
        with self._changed:
            in_turn = [each for each in self._running if self._queue_for(each) is not self._queue]
            rows = sum(each.rows for each in self._running if each not in in_turn)
            positions = [
                *QueueUpdates.positions(self._queue, MOST_SEQUENCES - rows),
                *QueueUpdates.positions(self._queue_in_turn, 1 - len(in_turn)),
            ]
        self._updates.tell(positions)


class EngineLoop:
    """What a model's thread does: steps of the batch, and generate() for what cannot run in steps.

    Attributes:
        batches: whether requests run in a batch at all.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        model_info: dict[str, Any],
        deliver: Callable[[GenerationRequest, GenerationResult | ComposeError], None],
        counters: Counters,
    ) -> None:
        from .model_runner import unsupported_model
        from .scheduler import Scheduler

        self._loaded = loaded
        self._model_info = model_info
        self._deliver = deliver
        self._counters = counters
        self._generating = False
        self._scheduler: Scheduler | None = None
        if unsupported_model(loaded.model) is None and not _asks_more(loaded.model):
            self._scheduler = Scheduler(loaded, model_info, deliver, MOST_SEQUENCES, counters)

    @property
    def batches(self) -> bool:
        return self._scheduler is not None

    @property
    def busy(self) -> bool:
        """Whether a turn would do something without another request."""
        return self._scheduler is not None and self._scheduler.busy

    def step(self, next_request: Next) -> None:
        """Take requests in and bring everybody a step further."""
        while self._scheduler is not None and self._scheduler.has_room:
            request = next_request(False)
            if request is None:
                break
            self._attempt(request, self._scheduler.add)
        if not self._generating and (request := next_request(True)) is not None:
            self._attempt(
                request, lambda request, params: self._generate(request, params, next_request)
            )
        if self._scheduler is not None and self._scheduler.busy:
            self._scheduler.step()

    def fail_all(self, error: BaseException) -> None:
        """End all that is under way with an error."""
        if self._scheduler is not None:
            self._scheduler.fail_all(error)

    def _attempt(
        self, request: GenerationRequest, go: Callable[[GenerationRequest, SamplingParams], None]
    ) -> None:
        from ..weights.library_logging import quiet
        from .sampling_params import resolve

        try:
            with quiet("transformers"):
                params = resolve(
                    self._loaded,
                    request.prompt,
                    request.parameters,
                    request.max_output_length,
                    request.check,
                )
                if params.max_new == 0:
                    self._deliver(request, nothing_more(request, params, self._model_info))
                else:
                    go(request, params)
        except Cancelled:
            replies = self._loaded.encoder_decoder
            self._deliver(request, never_ran(request, self._model_info, replies))
        except BaseException as error:
            outcome = explain(error, self._model_info)
            if outcome.code == "out_of_memory":
                memory.give_back()
            self._deliver(request, outcome)

    def _generate(
        self, request: GenerationRequest, params: SamplingParams, next_request: Next
    ) -> None:
        from .generate import generate

        if self._loaded.draft is not None or request.prompt_lookup:
            params.warnings.append(
                "draft_model and prompt_lookup have no effect: this runs through generate()"
            )

        rows = max(params.config.num_beams, params.sequences)
        steps = itertools.count(1)

        def between() -> None:
            if next(steps) % _LOOK_EVERY == 0:
                memory.check_texts(rows, _LOOK_EVERY, self._loaded.model)
            self._counters.tokens += params.sequences
            self.step(next_request)

        # The prompt, once as it is read and once for each row.
        memory.check_texts(rows + 1, len(params.tokens), self._loaded.model)
        self._generating = True
        try:
            outcome = generate(self._loaded, request, params, self._model_info, between)
        finally:
            self._generating = False
        self._deliver(request, outcome)


def _asks_more(model: Any) -> str | None:
    """An option of the model's own that the sampler does not know, if there is one."""
    from transformers import GenerationConfig

    from .sampler import unsupported_config

    return unsupported_config(model, GenerationConfig(num_beams=1))
