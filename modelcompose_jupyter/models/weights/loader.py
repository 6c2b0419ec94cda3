"""Loading a model that is on this disk, in C where that is possible, else in torch."""

from __future__ import annotations

from ...errors import ModelError
from ...redaction import get_logger
from ..spec import ModelSpec, Report
from . import native_loader, optional_libraries, torch_loader
from .decoder_config import Other
from .loaded_model import LoadedModel
from .native_loader import NativePlan
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
    if spec.driver != "huggingface":
        try:
            return native_loader.plan(spec, source)
        except Other as reason:
            if spec.driver == "native":
                raise _not_native(spec, reason) from None
            log.info("%s runs on torch: %s", spec.source, reason)
    optional_libraries.require(spec)
    return torch_loader.plan(spec, source, report)


def load(plan: LoadPlan, report: Report) -> LoadedModel:
    """Load weights and tokenizer.

    Raises:
        ModelError: not enough memory, damaged or incomplete files.
        Abandoned: from ``report``.
    """
    if isinstance(plan, NativePlan):
        return native_loader.load(plan, report)
    return torch_loader.load(plan, report)


def _not_native(spec: ModelSpec, reason: Other) -> ModelError:
    return ModelError(
        f"{spec.source} cannot run with 'driver: native': {reason}",
        hint="Leave out 'driver', and it runs on torch.",
        code="driver_unavailable",
    )
