"""Loading a model that is on this disk, in C where that is possible, else in torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from ...errors import ModelError
from ...formatting import size
from ...redaction import get_logger
from .. import memory
from ..spec import Abandoned, LoadProgress, ModelSpec, Quantization, Report
from . import files, native_loader, optional_libraries, torch_loader
from .coming_weights import ComingWeights
from .config_reader import Other
from .gguf_names import is_gguf
from .loaded_model import LoadedModel
from .native_loader import NativePlan
from .read_ahead import ReadAhead, whole
from .source import ResolvedSource
from .torch_loader import TorchPlan

LoadPlan = NativePlan | TorchPlan
"""A load that is decided and not done: everything that makes the weights what they are."""

_QUANTIZATIONS: tuple[Quantization, ...] = ("int8", "int4")
"""The most bits first."""

_TAKE_ANOTHER = "Take a smaller model, or unload others."
_MOST_WIDENED = 4
"""So many times what weights have on the disk they may take in memory: few bits, on torch."""
_SMALL = 1 << 30
"""Bytes of weights up to which nobody asks about another device than the processor."""

log = get_logger(__name__)


HasRoom = Callable[[int, str], bool]
"""Whether so many bytes can have room on a device."""


def _has_room_now(needed: int, device: str) -> bool:
    return not memory.is_short(needed, device)


def plan(
    spec: ModelSpec, source: ResolvedSource, report: Report, has_room: HasRoom = _has_room_now
) -> LoadPlan:
    """Decide how to load: on which runtime, where, at which precision, with what beside the model.

    Adapters and the draft model are fetched where they are not on this disk.

    Args:
        has_room: decides ``quantization: auto``.

    Raises:
        ModelError: not a model for text generation, unknown to the installed transformers, needs
            trust_remote_code, damaged, a library is missing, or the device is not there; the same
            of its draft model, or what is wrong with an adapter.
        Abandoned: from ``report``.
    """
    if spec.quantization == "auto":
        return _with_room(spec, source, report, has_room)
    reason = None
    if spec.driver != "huggingface":
        try:
            return native_loader.plan(spec, source, report)
        except Other as other:
            reason = str(other)
            if source.parts:
                raise _only_native(spec, reason) from None
            if spec.driver == "native":
                raise _not_native(spec, reason) from None
            if spec.cache_quantization is not None:
                raise _keeps_numbers(spec, reason) from None
            log.info("%s runs on torch: %s", spec.source, reason)
    if source.parts:
        raise _only_native(spec, "'driver: huggingface' is for transformers")
    if spec.cache_quantization is not None:
        raise _keeps_numbers(spec, "'driver: huggingface' asks for it")
    if not {"torch", "transformers"} <= sys.modules.keys():
        report(LoadProgress.start(spec.source, "torch"))
    optional_libraries.require(spec)
    if not source.is_hollow:
        paths = files.folder_weights(source.folder)
        ReadAhead(whole(paths)).start()  # while that is imported which loads
    return torch_loader.plan(spec, source, report, reason)


def _with_room(
    spec: ModelSpec, source: ResolvedSource, report: Report, has_room: HasRoom
) -> LoadPlan:
    """The plan with the most bits for a weight that there is room for; else with the fewest."""
    planned = plan(replace(spec, quantization=None), source, report)
    for each in _QUANTIZATIONS:
        if has_room(planned.size.peak, planned.device):
            break
        with suppress(ModelError):  # stored quantised, or on a device that has no such weights
            smaller = plan(replace(spec, quantization=each), source, report)
            planned = min(planned, smaller, key=lambda each: each.size.peak)
    return planned


def check_room(
    spec: ModelSpec, coming: ComingWeights, report: Report, has_room: HasRoom = _has_room_now
) -> None:
    """Refuse a model whose weights are yet to be downloaded, where there is no room for it.

    Nothing is refused of which too little is known before: the load will see.

    Args:
        has_room: decides, and also ``quantization: auto``.

    Raises:
        ModelError: not enough memory, as `load` says it.
        Abandoned: from ``report``.
    """
    may_be_short = not has_room(_MOST_WIDENED * coming.total, "cpu")
    if spec.trust_remote_code or not (may_be_short or coming.total > _SMALL):
        return
    if all(is_gguf(name) for name in coming.sizes):  # which stays as it is
        if not has_room(coming.total, "cpu"):
            raise _refused(spec, coming.total, "cpu", _TAKE_ANOTHER)
        return
    try:
        with coming.hollow() as folder:
            hollow = ResolvedSource(folder, coming.revision, is_hollow=True)
            planned = plan(spec, hollow, report, has_room)
            fits = has_room(planned.size.peak, planned.device)
            error = None if fits else _no_room(planned, report)
    except Abandoned:
        raise
    except Exception as reason:
        log.info("%s: its size is not known before the download: %s", spec.source, reason)
        return
    if error is not None:
        raise error


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
    spec, source = planned.spec, planned.source  # a plan may hold a whole vocabulary

    def reload() -> LoadedModel:
        if source.parts:
            raise _only_native(spec, "a beam search is done by transformers")
        other = replace(spec, driver="huggingface", cache_quantization=None)
        return load(plan(other, source, report), report)

    return replace(loaded, reload=reload)


def _no_room(planned: LoadPlan, report: Report) -> ModelError:
    """The error for a model that has no room, with what would have."""
    needed, device = planned.size.peak, planned.device
    hint = _TAKE_ANOTHER
    for setting, less in _smaller(planned, report):
        if not memory.is_short(less, device):
            hint = f"Set '{setting}': it needs {size(less)} then. Or unload other models."
            break
        hint = (
            f"Take a smaller model, or unload others: even with '{setting}' this one needs"
            f" {size(less)}."
        )
    return _refused(planned.spec, needed, device, hint)


def _refused(spec: ModelSpec, needed: int, device: str, hint: str) -> ModelError:
    return ModelError(
        f"{spec.source} needs {size(needed)} of memory for its weights,"
        f" {size(memory.available(device))} are free on {device}",
        hint=hint,
        code="out_of_memory",
    )


def _smaller(planned: LoadPlan, report: Report) -> Iterator[tuple[str, int]]:
    """What a document may say so that a model needs less, and how many bytes; the best first."""
    spec = planned.spec
    options = {"precision: bfloat16": replace(spec, precision="bfloat16")}
    for each in _QUANTIZATIONS:
        options[f"quantization: {each}"] = replace(spec, quantization=each)
    for setting, other in options.items():
        with suppress(ModelError):
            size = plan(other, planned.source, report).size.peak
            if size < planned.size.peak:
                yield setting, size


def _only_native(spec: ModelSpec, reason: str) -> ModelError:
    """The error for what GGUF files cannot have, since they run in C alone."""
    return ModelError(
        f"{spec.source} is in GGUF, which runs in C on the processor alone: {reason}",
        hint="Leave that out, or take the original repository, which runs on torch as well.",
        code="driver_unavailable",
    )


def _keeps_numbers(spec: ModelSpec, reason: str) -> ModelError:
    return ModelError(
        f"{spec.source} cannot have 'cache_quantization: {spec.cache_quantization}', which is for"
        f" models that run in C: this one runs on torch, since {reason}",
        hint="Leave it out.",
        code="driver_unavailable",
    )


def _not_native(spec: ModelSpec, reason: str) -> ModelError:
    return ModelError(
        f"{spec.source} cannot run with 'driver: native': {reason}",
        hint="Leave out 'driver', and it runs on torch.",
        code="driver_unavailable",
    )
