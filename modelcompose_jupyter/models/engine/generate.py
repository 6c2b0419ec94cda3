"""Requests that run through transformers' own generate(), one after the other.

Beam search, architectures that cannot run in steps, and options that only generate() knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..generation import GenerationResult
from ..weights.loader import LoadedModel
from .request import Request, result
from .settings import Settings
from .stream import Stream


def generate(
    loaded: LoadedModel,
    request: Request,
    settings: Settings,
    facts: dict[str, Any],
    between: Callable[[], None],
) -> GenerationResult:
    """Carry out a request, on the thread that owns the model.

    ``between`` is called after each token, to let others take a step.
    """
    import torch
    from transformers import LogitsProcessorList, StoppingCriteriaList

    from ..weights.library_logging import quiet
    from .sampling import SeededDraws
    from .watch import Watch

    stream = Stream(settings, request.on_text)
    draws = SeededDraws(settings.seed) if settings.config.do_sample else None
    tokens = torch.tensor([settings.tokens], device=loaded.device)
    watch = Watch(
        settings,
        decode=loaded.decode,
        prompt=_before(loaded, settings.tokens),
        stop_ids=settings.stop_ids,
        cancelled=request.cancelled,
        stream=stream,
        draws=draws,
        between=between,
    )
    if request.cancelled.is_set():
        watch.reasons = ["cancelled"] * settings.sequences
    else:
        try:
            with quiet("transformers"):
                output = loaded.model.generate(
                    tokens,
                    attention_mask=torch.ones_like(tokens),
                    generation_config=settings.config,
                    logits_processor=LogitsProcessorList([draws] if draws else []),
                    stopping_criteria=StoppingCriteriaList([watch]),
                )
        finally:
            if draws is not None:
                draws.end()
        watch.finish(output)
    usage = {"generated": watch.generated}
    return result(request, settings, stream, watch.reasons, usage, watch.first_token, facts)


def _before(loaded: LoadedModel, tokens: list[int]) -> list[int]:
    """What stands before the first generated token in generate()'s own sequences."""
    if not loaded.encoder_decoder:
        return tokens
    defaults: Any = loaded.model.generation_config
    start = defaults.decoder_start_token_id
    start = defaults.bos_token_id if start is None else start
    return start if isinstance(start, list) else [start]
