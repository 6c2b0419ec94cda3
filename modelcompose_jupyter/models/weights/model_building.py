"""Building models in transformers and peft: one at a time, within bounds, and so that it can end.

The libraries build whatever a model's files ask for and cannot be cancelled. But all that they
build is tensors, and a `TorchFunctionMode` sees each call that makes one.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from ...errors import ModelError
from ...formatting import size
from .. import memory
from .load_errors import not_of_its_weights

StillWanted = Callable[[], None]
"""Raises `Abandoned` where nobody waits for a load any more."""

# While it builds a model, transformers changes torch's default dtype and initialisers for the whole
# process, and two at once restore each other's.
_lock = threading.Lock()
_LOOK_SECONDS = 0.1  # between two looks at whether a load is still wanted
_SPARE = 1 << 26  # bytes beside the weights: tables of positions, what missing weights begin with
_UNPACKED = 16  # bytes, or fewer, that a byte of quantised weights becomes
_MOST_MADE = 20_000
"""Tensors that are never too many: those of no weights, and what is computed while building."""
_MADE_FOR_EACH = 1000
"""Made for a stored tensor, as far as there are bytes for them: experts that are stored together
may be modules of their own."""
_LARGE = 1 << 20  # numbers; a result is weighed before it is computed where it can be as large


@contextmanager
def building(model: str, still_wanted: StillWanted, tensors: int, weights: int) -> Iterator[None]:
    """Have this thread alone build a model, `Bounded`. Who waits for that can be given up, too."""
    while not _lock.acquire(timeout=_LOOK_SECONDS):
        still_wanted()
    try:
        still_wanted()
        with Bounded(model, still_wanted, tensors, weights):
            yield
    finally:
        _lock.release()


class Bounded(TorchFunctionMode):
    """`Abandoned` and bounds in each call of this thread that makes a tensor.

    Args:
        tensors: how many there are in the model's files, those without numbers not among them.
        weights: bytes that they take as they are stored.

    Raises:
        ModelError: far more tensors are made, or far more memory is to be filled, than the model's
            files can be the reason of.
    """

    def __init__(self, model: str, still_wanted: StillWanted, tensors: int, weights: int) -> None:
        super().__init__()
        self._model = model
        self._still_wanted = still_wanted
        self._tensors = tensors
        self._most_made = _MOST_MADE + max(2 * tensors, min(_MADE_FOR_EACH * tensors, weights))
        self._weights = weights
        self._most_filled = min(_UNPACKED * weights + _SPARE, memory.available("cpu"))
        self._made = 0
        self._filled = 0
        self._next_look = 0.0
        self._makers = _device_constructors() | _LIKE

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (now := time.monotonic()) > self._next_look:
            self._still_wanted()
            self._next_look = now + _LOOK_SECONDS
        if func in self._makers:
            self._count(func, args, kwargs)
        elif func in _COMBINE and (needed := _broadcast_bytes(args)) > self._most_filled:
            raise self._too_large(needed)
        return func(*args, **kwargs)

    def _count(self, func: Any, args: Any, kwargs: Any) -> None:
        self._made += 1
        if self._made > self._most_made:
            raise self._error(f"makes more than {self._most_made} tensors of {self._tensors}")
        device = kwargs.get("device")
        if func in _FROM_DATA or (device is not None and torch.device(device).type == "meta"):
            return
        like = args[0] if func in _LIKE and args else None
        if like is not None and like.device.type == "meta" and "device" not in kwargs:
            return
        self._filled += func(*args, **{**kwargs, "device": "meta"}).nbytes
        if self._filled > self._most_filled:
            raise self._too_large(self._filled)

    def _too_large(self, needed: int) -> ModelError:
        return self._error(f"asks for {size(needed)}, where its weights take {size(self._weights)}")

    def _error(self, what: str) -> ModelError:
        return not_of_its_weights(f"{self._model} cannot be what its config.json says: it {what}")


_LIKE = frozenset(
    {torch.empty_like, torch.zeros_like, torch.ones_like, torch.full_like, torch.rand_like,
     torch.randn_like, torch.randint_like}
)  # fmt: skip
_COMBINE = frozenset(
    getattr(place, name)
    for name in ("add", "sub", "mul", "div", "pow", "__mul__", "__rmul__", "__add__", "__radd__",
                 "__sub__", "__rsub__", "__truediv__", "__rtruediv__", "__pow__", "__rpow__")
    for place in (torch, torch.Tensor)
    if hasattr(place, name)
)  # fmt: skip
_FROM_DATA = frozenset({torch.tensor, torch.as_tensor, torch.asarray, torch.scalar_tensor})


def _broadcast_bytes(args: Any) -> int:
    """What the result of an operation on these takes, where it has the shape of both."""
    given = [each for each in args[:2] if isinstance(each, torch.Tensor)]
    if len(given) < 2 or all(each.numel() < _LARGE for each in given):
        return 0
    if any(each.device.type == "meta" for each in given):
        return 0
    try:
        shape = torch.broadcast_shapes(*(each.shape for each in given))
    except RuntimeError:
        return 0
    return int(math.prod(shape) * max(each.element_size() for each in given))
