"""Which runner a model gets."""

from __future__ import annotations

from ..weights.loaded_model import LoadedModel
from .runner import Runner


def make_runner(loaded: LoadedModel) -> Runner:
    """A runner for a model.

    Raises:
        Unsupported: the scheduler cannot run it.
    """
    if loaded.decoder is not None:
        from .native_runner import NativeRunner

        return NativeRunner(loaded.decoder, loaded.cache_budget)
    from .torch_runner import torch_runner

    return torch_runner(loaded)
