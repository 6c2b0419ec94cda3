"""What memory there is, and giving it back."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress

from ..errors import ModelError
from ..units import size

_HEADROOM = 0.05


def available(device: str) -> int:
    """Bytes that a new model can take on a device."""
    import psutil

    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + idle)
    return int(psutil.virtual_memory().available)


def is_short(needed: int, device: str) -> bool:
    """Whether a device has no room for weights of this size."""
    return needed * (1 + _HEADROOM) > available(device)


def check(model: str, needed: int, device: str) -> None:
    """Refuse a load that would end in the kernel being killed."""
    if not is_short(needed, device):
        return
    free = available(device)
    raise ModelError(
        f"{model} needs {size(needed)} of memory for its weights, {size(free)} are free"
        f" on {device}",
        hint="Unload other models, take a smaller model, or set precision: bfloat16.",
        code="out_of_memory",
    )


def give_back() -> None:
    """Return what Python and the allocators hold without need to the system."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # other C libraries have no such call
        ctypes.CDLL("libc.so.6").malloc_trim(0)
