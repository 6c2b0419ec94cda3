"""What a caller says about a model, and what it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from ..path_redaction import remember

Driver = Literal["native", "huggingface"]
"""What computes: the kernels in C alone, or transformers on torch."""

Quantization = Literal["int8", "int4"]
CacheQuantization = Literal["int8"]
"""How many bits most weights of linear layers have."""


@dataclass(frozen=True)
class AdapterSpec:
    """A LoRA to be merged into a model.

    Attributes:
        model: where it is; of a `ModelSpec` only what says so is heeded.
        weight: the factor of what it adds to the weights.
        name: what messages call it; its source if None.
    """

    model: ModelSpec
    weight: float = 1.0
    name: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class ModelSpec:
    """A model that somebody asks for.

    Attributes:
        source: a Hub id (``HuggingFaceTB/SmolLM3-3B``), a folder (begins with ``/``, ``./``,
            ``../``, ``~`` or a drive letter), a GGUF file in either (``owner/name/file.gguf``,
            ``./file.gguf``) or ``bundled:<name>``.
        revision: branch, tag or commit of a Hub repository; its main branch if None.
        precision: ``auto`` (as stored; with torch on a CPU bfloat16 in place of float16),
            ``float32``, ``float16`` or ``bfloat16``.
        device: ``auto`` (CUDA, then MPS, then CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        token: the Hub token, without the spaces and line ends around it; that of the environment or
            login if None or empty.
        cache_dir: where Hub files are kept; the Hub client's own place if None.
        local_files_only: never ask the network.
        trust_remote_code: run Python code that comes with the model.
        quantization: ``int8`` or ``int4`` for linear layers whose weights are kept in 8 or 4 bits;
            ``auto`` for the most bits that this computer's memory has room for; None as stored.
        cache_quantization: ``int8`` for keys and values that are kept in 8 bits; None as the model
            computes. In C alone.
        adapters: LoRA adapters that are merged into the weights.
        draft_model: the source of a smaller model of the same vocabulary, loaded beside this one.
        prompt_lookup: how many tokens to propose from the text so far; 0 is off. It makes no
            other model.
        driver: ``native`` for steps in C alone, ``huggingface`` for transformers and torch; None
            for the first where it can run the model, else the second.
        cache_budget: bytes of keys and values to keep; the cache's own if None. It makes no other
            model: of those who share one, the first decides.
    """

    source: str
    revision: str | None = None
    precision: str = "auto"
    device: str = "auto"
    token: str | None = field(default=None, repr=False, compare=False)
    cache_dir: str | None = None
    local_files_only: bool = False
    trust_remote_code: bool = False
    quantization: Quantization | Literal["auto"] | None = None
    cache_quantization: CacheQuantization | None = None
    adapters: tuple[AdapterSpec, ...] = ()
    draft_model: str | None = None
    driver: Driver | None = None
    prompt_lookup: int = field(default=0, compare=False)
    cache_budget: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "token", (self.token or "").strip() or None)
        for place in (self.source, self.draft_model, self.cache_dir):
            if place is not None:
                remember(place)

    @property
    def settled_quantization(self) -> Quantization | None:
        """``quantization`` where ``auto`` is decided, as it is in every plan."""
        assert self.quantization != "auto"
        return self.quantization

    @property
    def draft(self) -> ModelSpec | None:
        """The draft model as a model of its own: fetched, placed and read as this one is."""
        if self.draft_model is None:
            return None
        return ModelSpec(
            self.draft_model,
            precision=self.precision,
            device=self.device,
            driver=self.driver,
            token=self.token,
            cache_dir=self.cache_dir,
            local_files_only=self.local_files_only,
            trust_remote_code=self.trust_remote_code,
        )

    @property
    def parts(self) -> tuple[ModelSpec, ...]:
        """All that has files: the model, its adapters and its draft model."""
        draft = self.draft
        return (self, *(each.model for each in self.adapters), *((draft,) if draft else ()))


Step = Literal["engine", "kernels", "torch"]
"""What is made ready before weights are loaded: the engine's own modules; the kernels, which are
compiled once on a computer; torch, which is imported once in a process."""


@dataclass(frozen=True)
class LoadProgress:
    """How far a model is: what is made ready first, then bytes of a download, over all files, and
    of weights.

    Attributes:
        step: in the phase ``start``, what is made ready.
        file: that is downloaded.
    """

    phase: Literal["start", "download", "load"]
    model: str
    done: int = 0
    total: int | None = None
    unit: Literal["B", "steps"] = "B"
    file: str | None = None
    step: Step | None = None

    @classmethod
    def start(cls, model: str, step: Step) -> LoadProgress:
        """That a step begins, of which nobody knows how long it takes."""
        return cls("start", model, unit="steps", step=step)

    @property
    def is_end(self) -> bool:
        """Whether it says that its phase has ended."""
        return self.done == self.total


@dataclass(frozen=True)
class ModelInfo:
    """A model of the cache at one moment.

    What is only known once it is loaded is None before. ``memory_bytes`` counts the weights,
    ``mapped_bytes`` those of them that lie in mapped files: other processes share them, and the
    system may drop and read them again. ``generated`` counts the tokens since it was loaded;
    ``driver_reason`` says why it does not run in C, or not with others; ``last_used`` is in
    seconds since the epoch, ``context`` in tokens.
    """

    id: str
    source: str
    revision: str | None
    device: str | None
    precision: str | None
    driver: Driver | None
    driver_reason: str | None
    state: Literal["loading", "ready"]
    class_name: str | None
    context: int | None
    parameters: int | None
    memory_bytes: int | None
    mapped_bytes: int | None
    leases: int
    running: int
    queued: int
    generated: int
    last_used: float


class Abandoned(Exception):
    """Nobody waits for this load any more. Never reaches a caller."""


Report = Callable[[LoadProgress], None]
"""Tells the waiters how far a load is; raises `Abandoned` when there are none left."""
