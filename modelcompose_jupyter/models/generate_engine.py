"""The engine on transformers' generate(): one request after the other, in order of arrival.

Owns a thread. The thread loads the model, is the only one that ever touches it, serves the queue,
and takes the model with it when it ends. Every other method may be called from any thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from ..document.parameters import GenerationParameters
from ..errors import ComposeError, ModelError
from . import memory
from .generation import Generation, GenerationResult, OnQueued, OnText, Place, Prompt
from .loader import LoadedModel, is_out_of_memory, one_line
from .settings import seed_of, settle

Load = Callable[[], LoadedModel]
OnLoaded = Callable[[LoadedModel | BaseException], None]


@dataclass
class _Request:
    prompt: Prompt
    parameters: GenerationParameters
    on_text: OnText | None
    generation: Generation
    place: Place
    max_output_length: int | None
    cancelled: threading.Event = field(default_factory=threading.Event)
    made: float = field(default_factory=time.monotonic)


class GenerateEngine:
    """A model and the thread that owns it.

    Args:
        name: of the thread.
        load: gives the model; called once, on the thread.
        on_loaded: called on the thread with the model, or with what ``load`` raised. It must not
            keep the model, and fills ``facts``.

    Attributes:
        facts: what results say of the model.
    """

    def __init__(self, name: str, load: Load, on_loaded: OnLoaded) -> None:
        self.facts: dict[str, Any] = {}
        self._replies = False
        self._load = load
        self._on_loaded = on_loaded
        self._queue: deque[_Request] = deque()
        self._running: _Request | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        """Start to load."""
        self._thread.start()

    @property
    def running(self) -> int:
        """How many requests run."""
        return int(self._running is not None)

    @property
    def queued(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    def submit(
        self,
        prompt: Prompt,
        parameters: GenerationParameters,
        on_text: OnText | None = None,
        on_queued: OnQueued | None = None,
        max_output_length: int | None = None,
    ) -> Generation:
        """Put a request at the end of the queue; its ``max_output_length`` is bounded by this."""
        generation, place = Generation(self._cancel), Place(on_queued)
        request = _Request(prompt, parameters, on_text, generation, place, max_output_length)
        with self._changed:
            if self._closed:
                raise ModelError("the model was unloaded", code="model_unloaded")
            ahead = self.running + self.queued
            self._queue.append(request)
            self._changed.notify()
        place.tell(ahead)
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

    def _cancel(self, generation: Generation) -> None:
        with self._changed:
            running = self._running
            queued = next((r for r in self._queue if r.generation is generation), None)
            if queued is not None:
                self._queue.remove(queued)
        if queued is not None:
            self._tell_places()
            generation.future.set_result(_never_ran(queued, self.facts, self._replies))
        elif running is not None and running.generation is generation:
            running.cancelled.set()

    def _main(self) -> None:
        try:
            loaded = self._load()
        except BaseException as error:
            self._on_loaded(_bare(error))
            return
        self._replies = loaded.encoder_decoder
        self._on_loaded(loaded)
        while (request := self._next()) is not None:
            outcome = self._serve(loaded, request)
            with self._changed:
                self._running = None
            self._tell_places()
            # Only now: who sees the result may unload the model.
            _deliver(request.generation.future, outcome)
            del request, outcome  # an idle engine keeps nothing of the last one
        del loaded
        memory.give_back()

    def _next(self) -> _Request | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            self._running = self._queue.popleft() if self._queue else None
            return self._running

    def _tell_places(self) -> None:
        """Tell those who wait how many are ahead; not under the lock, where they could wait."""
        with self._changed:
            running = self.running
            places = [(running + index, each.place) for index, each in enumerate(self._queue)]
        for ahead, place in places:
            place.tell(ahead)

    def _serve(self, loaded: LoadedModel, request: _Request) -> GenerationResult | ComposeError:
        assert threading.current_thread() is self._thread
        try:
            return run(loaded, request, self.facts)
        except ComposeError as error:
            problem = error
        except BaseException as error:
            problem = _explain(error, self.facts)
        if problem.code == "out_of_memory":
            memory.give_back()
        return problem


def _deliver(future: Future[GenerationResult], outcome: GenerationResult | ComposeError) -> None:
    if isinstance(outcome, ComposeError):
        future.set_exception(_bare(outcome))
    else:
        future.set_result(outcome)


def run(loaded: LoadedModel, request: _Request, facts: dict[str, Any]) -> GenerationResult:
    """Carry out a request with generate(), on the thread that owns the model."""
    import torch
    from transformers import LogitsProcessorList, StoppingCriteriaList

    from .quiet import quiet
    from .sampling import SeededDraws
    from .watch import Stream, Watch

    started = time.monotonic()
    with quiet("transformers"):
        settings = settle(loaded, request.prompt, request.parameters, request.max_output_length)
        stream = Stream(settings, request.on_text)
        draws = SeededDraws(settings.seed) if settings.config.do_sample else None
        tokens = torch.tensor([settings.tokens], device=loaded.device)
        watch = Watch(
            settings,
            decode=lambda ids: str(loaded.tokenizer.decode(ids, skip_special_tokens=True)),
            prompt=_before(loaded, settings.tokens),
            stop_ids=_stop_ids(loaded),
            cancelled=request.cancelled,
            stream=stream,
            draws=draws,
        )
        if request.cancelled.is_set():
            watch.reasons = ["cancelled"] * settings.sequences
        else:
            try:
                output = loaded.model.generate(
                    tokens,
                    attention_mask=torch.ones_like(tokens),
                    generation_config=settings.config,
                    logits_processor=LogitsProcessorList([draws] if draws else []),
                    stopping_criteria=StoppingCriteriaList([watch]),
                )
            finally:
                if draws is not None:
                    draws.end()
            watch.finish(output)
    ended = time.monotonic()
    return GenerationResult(
        texts=stream.texts(),
        finish_reasons=watch.reasons,
        usage={"prompt": len(settings.tokens), "reused": 0, "generated": watch.generated},
        parameters=settings.parameters,
        warnings=settings.warnings,
        timings={
            "queue": started - request.made,
            "first_token": (watch.first_token or ended) - request.made,
            "total": ended - request.made,
            "tokens_per_second": watch.generated / max(ended - started, 1e-9),
        },
        model=dict(facts),
    )


def _before(loaded: LoadedModel, tokens: list[int]) -> list[int]:
    """What stands before the first generated token in generate()'s own sequences."""
    if not loaded.encoder_decoder:
        return tokens
    defaults: Any = loaded.model.generation_config
    start = defaults.decoder_start_token_id
    start = defaults.bos_token_id if start is None else start
    return start if isinstance(start, list) else [start]


def _stop_ids(loaded: LoadedModel) -> set[int]:
    ids = loaded.model.generation_config.eos_token_id
    if ids is None:
        return set()
    return set(ids) if isinstance(ids, list) else {int(ids)}


def _never_ran(request: _Request, facts: dict[str, Any], replies: bool) -> GenerationResult:
    asked = request.parameters
    prompt = request.prompt if isinstance(request.prompt, str) else ""
    text = "" if replies or asked.include_prompt is False else prompt
    count = asked.num_return_sequences or 1
    waited = time.monotonic() - request.made
    return GenerationResult(
        texts=[text] * count,
        finish_reasons=["cancelled"] * count,
        usage={"prompt": 0, "reused": 0, "generated": 0},
        parameters={**asked.given(), "seed": seed_of(asked)},
        warnings=[],
        timings={"queue": waited, "first_token": waited, "total": waited, "tokens_per_second": 0.0},
        model=dict(facts),
    )


def _bare(error: Any) -> Any:
    """The error without the frames that raised it: they hold tensors, and callers keep errors."""
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def _explain(error: BaseException, facts: dict[str, Any]) -> ModelError:
    if is_out_of_memory(error):
        return ModelError(
            f"the run ran out of memory on {facts.get('device')}; the model goes on",
            hint="Shorten the prompt, lower max_output_length, num_return_sequences or num_beams,"
            " or unload other models.",
            code="out_of_memory",
        )
    if isinstance(error, ArithmeticError):
        return ModelError(
            f"the run failed: {one_line(error)}",
            hint="Set precision: float32 or bfloat16; float16 overflows with some models.",
            code="run_failed",
        )
    return ModelError(
        f"the run failed inside the model: {type(error).__name__}: {one_line(error)}",
        hint="The model goes on; other prompts or parameters may work.",
        code="run_failed",
    )
