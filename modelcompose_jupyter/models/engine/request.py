"""A request in an engine, and how it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...document.parameters import GenerationParameters
from ...errors import ComposeError, ModelError, one_line
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
from ..request_queue import QueuePosition
from .sampling_params import SamplingParams, seed_of
from .stream import Stream

if TYPE_CHECKING:
    from ..constraints.compiler import CompiledGrammar

_READ_SECONDS = 0.2  # between what is told of a prompt that is read


@dataclass(eq=False)
class GenerationRequest:
    """What is asked, by whom, and since when.

    Attributes:
        owner: who asks; queues are round-robin between owners.
        max_output_length: the host's limit.
        prompt_lookup: most draft tokens for each step; 0 is off.
        extension: of an earlier request; of nothing where it asks for no more than it says.
        beginning: what the texts begin with.
        scored: a text behind the prompt whose log-probabilities are asked for, and nothing else.
        grammar: what the texts must be.
        chat_template: of a chat, in place of that of the model's tokenizer.
        model_info: what results say of the model.
        on_read: told how much of the prompt is read.
        on_tokens: told the tokens whose log-probabilities are asked for.
        on_reasoning: told the thoughts before the texts.
        made, started: by the monotonic clock; ``started`` is None while it is queued.
    """

    prompt: Prompt
    parameters: GenerationParameters
    on_text: OnText | None
    generation: Generation
    position: QueuePosition
    owner: Owner
    max_output_length: int | None
    prompt_lookup: int = 0
    extension: Extension = field(default_factory=Extension)
    beginning: Beginning = field(default_factory=Beginning)
    scored: str | None = None
    grammar: CompiledGrammar | None = None
    chat_template: str | None = None
    model_info: dict[str, Any] = field(default_factory=dict)
    on_read: OnRead | None = None
    on_tokens: OnTokens | None = None
    on_reasoning: OnReasoning | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    made: float = field(default_factory=time.monotonic)
    started: float | None = None
    _read_told: float | None = field(default=None, init=False)

    @property
    def sequences(self) -> int:
        """How many sequences it asks for."""
        return self.parameters.num_return_sequences or 1

    def begin(self) -> None:
        """Note that it is out of the queue."""
        self.started = time.monotonic()
        self.position.tell(0)

    def tell_read(self, done: int, total: int) -> None:
        """Tell how much of the prompt is read, sparingly; that all is, where some was told."""
        now, told = time.monotonic(), self._read_told
        is_due = told is None or now - told >= _READ_SECONDS
        if self.on_read is None or (told is None if done == total else not is_due):
            return
        self._read_told = None if done == total else now
        try:
            self.on_read(done, total)
        except Exception:  # a listener that fails is not asked again, and fails nothing
            self.on_read = None

    def check(self) -> None:
        """Raise `Cancelled` if it was cancelled."""
        if self.cancelled.is_set():
            raise Cancelled


Deliver = Callable[[GenerationRequest, GenerationResult | ComposeError], None]
"""Called once for each request, with its result or its error."""


def result(
    request: GenerationRequest,
    params: SamplingParams,
    stream: Stream,
    reasons: list[str],
    usage: dict[str, int],
    first_token: float | None,
    tokens: Sequence[Sequence[int]] = (),
    reasoning_tokens: Sequence[int] = (),
) -> GenerationResult:
    """The result of a request that ran."""
    ended = time.monotonic()
    started = request.started or ended
    return GenerationResult(
        texts=stream.texts(),
        finish_reasons=reasons,
        usage={"prompt": len(params.tokens), "reused": 0, **usage},
        parameters=params.parameters,
        warnings=params.warnings,
        timings={
            "queue": started - request.made,
            "first_token": (first_token or ended) - request.made,
            "total": ended - request.made,
            "tokens_per_second": usage["generated"] / max(ended - started, 1e-9),
        },
        model=dict(request.model_info),
        room=params.room,
        tokens=tokens,
        limited_by=params.limited_by,
        reasoning=stream.reasoning(),
        reasoning_tokens=reasoning_tokens or [0] * len(reasons),
    )


def without_tokens(
    request: GenerationRequest, params: SamplingParams, reason: str
) -> GenerationResult:
    """The result of a request for which nothing was generated."""
    stream = Stream(params, request.on_text)
    reasons = [reason] * params.num_return_sequences
    return result(request, params, stream, reasons, {"generated": 0}, None)


def never_ran(request: GenerationRequest, replies: bool) -> GenerationResult:
    """The result of a request that was cancelled before anything was generated."""
    asked = request.parameters
    seed = seed_of(asked)
    params = SamplingParams(
        prompt=request.prompt if isinstance(request.prompt, str) and not replies else "",
        tokens=[],
        seed=seed,
        stop_ids=frozenset(),
        max_new_tokens=0,
        include_prompt=asked.include_prompt is not False,
        num_return_sequences=request.sequences,
        parameters={**asked.given(), "seed": seed},
    )
    return without_tokens(request, params, "cancelled")


def deliver(future: Future[GenerationResult], outcome: GenerationResult | ComposeError) -> None:
    """End a request's future."""
    if isinstance(outcome, ComposeError):
        future.set_exception(bare(outcome))
    else:
        future.set_result(outcome)


def bare(error: Any) -> Any:
    """The error without the frames that raised it: they hold tensors, and callers keep errors."""
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def explain(error: BaseException, device: object) -> ComposeError:
    """An error in a request, as a message for who made it."""
    if isinstance(error, ComposeError):
        return error
    if memory.is_out_of_memory(error):
        return ModelError(
            f"the run ran out of memory on {device}; the model goes on",
            hint="Shorten the prompt, lower max_output_length, num_return_sequences or num_beams,"
            " or unload other models.",
            code="out_of_memory",
        )
    if isinstance(error, ArithmeticError):
        return ModelError(
            f"the run failed: {one_line(error)}",
            hint="Set precision: float32 or bfloat16, and no quantization: float16 overflows with"
            " some models, and beside quantised weights keys and values are that.",
            code="run_failed",
        )
    return ModelError(
        f"the run failed inside the model: {type(error).__name__}: {one_line(error)}",
        hint="The model goes on; other prompts or parameters may work.",
        code="run_failed",
    )
