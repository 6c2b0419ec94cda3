"""Where a model runs, and at which precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ModelError
from .files import Weights

if TYPE_CHECKING:
    from transformers.configuration_utils import PreTrainedConfig


def choose_device(wanted: str) -> str:
    """The name of a device, ``cpu``, ``cuda:N`` or ``mps``; a `ModelError` where there is none."""
    import torch

    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if wanted == "auto":
        wanted = "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, index = wanted.partition(":")
    if kind == "cuda":
        number = int(index or (torch.cuda.current_device() if cuda else 0))
        if number < cuda:
            return f"cuda:{number}"
        found = f"{cuda} CUDA device{'s' if cuda != 1 else ''}"
    elif kind == "cpu" or (kind == "mps" and mps):
        return kind
    else:
        found = "no such device"
    raise ModelError(
        f"the device {wanted} is not available: torch {torch.__version__} finds {found}",
        hint="Use device: auto or device: cpu, or install a torch that supports the device.",
        code="device_unavailable",
    )


def stored_precision(config: PreTrainedConfig, weights: Weights) -> str:
    """The precision of the weights as they are stored, ``auto`` where only loading can tell."""
    dtype = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)
    if dtype:
        return str(dtype).removeprefix("torch.")
    return weights.precision or "auto"


def usual_precision(stored: str, device: str) -> str:
    """The precision at which weights run in torch that nobody chose another one for: as stored.

    But float16 becomes bfloat16 on a CPU, which takes as much memory: torch is slow at float16
    there, and its packed products do not take it.
    """
    return "bfloat16" if (stored, device) == ("float16", "cpu") else stored
