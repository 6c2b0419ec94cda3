"""Loading a model that is on this disk, in C where that is possible, else in torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ...errors import ModelError
from ...formatting import size
from ...redaction import get_logger
from .. import memory
from ..spec import ModelSpec, Report
from . import files, native_loader, optional_libraries, torch_loader
from .config_reader import Other
from .loaded_model import LoadedModel
from .native_loader import NativePlan
from .read_ahead import ReadAhead
from .source import ResolvedSource
from .torch_loader import TorchPlan

LoadPlan = NativePlan | TorchPlan
"""A load that is decided and not done: everything that makes the weights what they are."""

log = get_logger(__name__)


def plan(spec: ModelSpec, source: ResolvedSource, report: Report) -> LoadPlan:
    """Decide how to load: on which runtime, where, at which precision, with what beside the model.

    Adapters and the draft model are fetched where they are not on this disk.

    Raises:
        ModelError: not a model for text generation, unknown to the installed transformers, needs
            trust_remote_code, damaged, a library is missing, or the device is not there; the same
            of its draft model, or what is wrong with an adapter.
        Abandoned: from ``report``.
    """
    reason = None
    if spec.driver != "huggingface":
        try:
            return native_loader.plan(spec, source)
        except Other as other:
            reason = str(other)
            if spec.driver == "native":
                raise _not_native(spec, reason) from None
            log.info("%s runs on torch: %s", spec.source, reason)
    optional_libraries.require(spec)
    ReadAhead(files.folder_weights(source.folder)).start()  # while that is imported which loads
    return replace(torch_loader.plan(spec, source, report), reason=reason)


def load(planned: LoadPlan, report: Report) -> LoadedModel:
    """Load weights and tokenizer.

    Raises:
        ModelError: not enough memory, damaged or incomplete files.
        Abandoned: from ``report``.
    """
    if memory.is_short(planned.size.peak, planned.device):
        raise _no_room(planned, report)
    if isinstance(planned, NativePlan):
        loaded = native_loader.load(planned, report)
    else:
        loaded = torch_loader.load(planned, report)
    in_torch = replace(planned.spec, driver="huggingface")
    return replace(loaded, reload=lambda: load(plan(in_torch, planned.source, report), report))


def _no_room(planned: LoadPlan, report: Report) -> ModelError:
    """The error for a model that has no room, with what would have."""
    needed, device = planned.size.peak, planned.device
    hint = "Take a smaller model, or unload others."
    for setting, less in _smaller(planned, report):
        if not memory.is_short(less, device):
            hint = f"Set '{setting}': it needs {size(less)} then. Or unload other models."
            break
        hint = (
            f"Take a smaller model, or unload others: even with '{setting}' this one needs"
            f" {size(less)}."
        )
    return ModelError(
        f"{planned.spec.source} needs {size(needed)} of memory for its weights,"
        f" {size(memory.available(device))} are free on {device}",
        hint=hint,
        code="out_of_memory",
    )


def _smaller(planned: LoadPlan, report: Report) -> Iterator[tuple[str, int]]:
    """What a document may say so that a model needs less, and how many bytes; the best first."""
    options: dict[str, Any] = {"precision": "bfloat16", "quantization": "int8"}
    for name, value in options.items():
        with suppress(ModelError):
            other = plan(replace(planned.spec, **{name: value}), planned.source, report)
            if other.size.peak < planned.size.peak:
                yield f"{name}: {value}", other.size.peak


def _not_native(spec: ModelSpec, reason: str) -> ModelError:
    return ModelError(
        f"{spec.source} cannot run with 'driver: native': {reason}",
        hint="Leave out 'driver', and it runs on torch.",
        code="driver_unavailable",
    )
