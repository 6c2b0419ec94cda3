"""What memory there is, and giving it back."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..errors import ModelError
from ..formatting import size
from . import control_groups

_HEADROOM = 0.05
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


@dataclass(frozen=True)
class LoadSize:
    """Bytes that a model takes on its device: ``peak`` while it is loaded, ``kept`` afterwards."""

    peak: int
    kept: int

    def followed_by(self, other: LoadSize) -> LoadSize:
        """What two models take that are loaded one after the other."""
        return LoadSize(max(self.peak, self.kept + other.peak), self.kept + other.kept)


class MappedWeights:
    """Weights in a mapped file, as long as this lives.

    The system counts them as memory that is available, since it can read them again; but a model
    reads all of them for each token.

    Args:
        bytes: so many, all in all.
    """

    _lock = threading.RLock()  # a finalizer may run at any place
    _total = 0

    def __init__(self, bytes: int) -> None:
        self._count(bytes)
        weakref.finalize(self, self._count, -bytes).atexit = False

    @classmethod
    def _count(cls, bytes: int) -> None:
        with cls._lock:
            cls._total += bytes

    @classmethod
    def total(cls) -> int:
        """Bytes of all that live."""
        return cls._total


def available(device: str) -> int:
    """Bytes that a new model can take on a device, beside those that are there."""
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + idle)
    return max(0, _available() - MappedWeights.total())


def _available() -> int:
    """Bytes of main memory that the system, or the container, has for new programs."""
    import psutil

    own, all = control_groups.available(), int(psutil.virtual_memory().available)
    return all if own is None else min(own, all)


def is_short(needed: int, device: str) -> bool:
    """Whether a device has no room for weights of this size."""
    return needed * (1 + _HEADROOM) > available(device)


def out_of_memory(message: str) -> ModelError:
    """The error for a model that has no room."""
    return ModelError(
        message,
        hint="Unload other models, take a smaller one, or set precision: bfloat16 or"
        " quantization: auto.",
        code="out_of_memory",
    )


def check_texts(rows: int, tokens: int, model: Any) -> None:
    """Refuse texts whose keys and values would end in the process being killed.

    For ``rows`` texts of so many ``tokens`` more each. Where the config does not tell the shape of
    keys and values, nothing is refused.
    """
    config = model.config.get_text_config()

    def number(name: str) -> int:
        value = getattr(config, name, None)
        return value if isinstance(value, int) else 0

    layers, heads, hidden = map(number, ("num_hidden_layers", "num_attention_heads", "hidden_size"))
    head = number("head_dim") or hidden // max(1, heads)
    kept = number("num_key_value_heads") or heads
    needed = 2 * layers * kept * head * model.dtype.itemsize * rows * tokens
    device = str(model.device)
    if is_short(needed, device):
        raise ModelError(
            f"{rows} texts of {tokens} tokens need {size(needed)} of memory,"
            f" {size(available(device))} are free on {device}",
            hint="Shorten the prompt, or lower num_beams, num_return_sequences or"
            " max_output_length.",
            code="out_of_memory",
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch, on any device, means that memory ran out."""
    torch = _imported_torch()
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        sign in str(error).lower() for sign in _OUT_OF_MEMORY
    )


def _imported_torch() -> Any:
    """torch, where it is imported: wholly, since another thread may be about to."""
    torch = sys.modules.get("torch")
    is_coming = getattr(getattr(torch, "__spec__", None), "_initializing", False)
    return None if is_coming else torch


def give_back() -> None:
    """Return what Python and the allocators hold without need to the system."""
    gc.collect()
    torch = _imported_torch()
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # other C libraries have no such call
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@dataclass(frozen=True)
class DeviceMemory:
    """What this process holds of a device's memory, and what the device has; bytes.

    ``reserved`` is what PyTorch keeps for itself, ``allocated`` the part of it that is in use.
    """

    device: str
    allocated: int
    reserved: int
    free: int | None
    total: int | None


@dataclass(frozen=True)
class MemoryUse:
    """What this process holds; bytes.

    Resident memory counts pages of mapped files that other processes share, so it says little of
    weights. ``private`` (USS) would be free if the process ended; ``proportional`` (PSS) adds its
    share of what is shared. None where the system does not tell.
    """

    private: int | None
    proportional: int | None
    resident: int
    available: int
    devices: list[DeviceMemory] = field(default_factory=list)


def use() -> MemoryUse:
    """What this process holds now."""
    import psutil

    process = psutil.Process()
    full = None
    with suppress(psutil.Error, OSError):
        full = process.memory_full_info()
    return MemoryUse(
        private=getattr(full, "uss", None),
        proportional=getattr(full, "pss", None),
        resident=process.memory_info().rss,
        available=available("cpu"),
        devices=list(_devices()),
    )


def _devices() -> Iterator[DeviceMemory]:
    torch = _imported_torch()
    if torch is None:
        return
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        for index in range(torch.cuda.device_count()):
            reserved = torch.cuda.memory_reserved(index)
            if reserved:
                free, total = torch.cuda.mem_get_info(index)
                allocated = torch.cuda.memory_allocated(index)
                yield DeviceMemory(f"cuda:{index}", allocated, reserved, free, total)
    if torch.backends.mps.is_available():
        allocated = torch.mps.current_allocated_memory()
        if allocated:
            reserved = torch.mps.driver_allocated_memory()
            yield DeviceMemory("mps", allocated, reserved, None, None)
