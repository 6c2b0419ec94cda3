"""What a caller says about a model, and what it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class ModelSpec:
    """A model that somebody asks for.

    Attributes:
        source: a Hub id (``HuggingFaceTB/SmolLM3-3B``), a folder (begins with ``/``, ``./``,
            ``../``, ``~`` or a drive letter) or ``bundled:<name>``.
        revision: branch, tag or commit of a Hub repository; its main branch if None.
        precision: ``auto`` (as stored), ``float32``, ``float16`` or ``bfloat16``.
        device: ``auto`` (CUDA, then MPS, then CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        token: the Hub token; that of the environment or login if None.
        cache_dir: where Hub files are kept; the Hub client's own place if None.
        local_files_only: never ask the network.
        trust_remote_code: run Python code that comes with the model.
    """

    source: str
    revision: str | None = None
    precision: str = "auto"
    device: str = "auto"
    token: str | None = field(default=None, repr=False, compare=False)
    cache_dir: str | None = None
    local_files_only: bool = False
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a download (bytes over all files) or a load (tensors) has come."""

    phase: Literal["download", "load"]
    model: str
    done: int
    total: int | None
    unit: Literal["B", "tensors"]
    file: str | None = None


@dataclass(frozen=True)
class ModelInfo:
    """A model of the cache at one moment.

    What is only known once it is loaded is None before. ``memory_bytes`` counts the weights,
    ``last_used`` is in seconds since the epoch, ``context`` in tokens.
    """

    id: str
    source: str
    revision: str | None
    device: str | None
    precision: str | None
    state: Literal["loading", "ready"]
    class_name: str | None
    context: int | None
    parameters: int | None
    memory_bytes: int | None
    leases: int
    running: int
    queued: int
    last_used: float


class Abandoned(Exception):
    """Nobody waits for this load any more. Never reaches a caller."""


Report = Callable[[Progress], None]
"""Tells the waiters how far a load is; raises `Abandoned` when there are none left."""
