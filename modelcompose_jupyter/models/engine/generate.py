"""Requests that run through transformers' own generate(), one after the other.

Beam search, architectures that cannot run in steps, and options that only generate() knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..generation import GenerationResult
from ..weights.loader import LoadedModel
from .request import GenerationRequest, result
from .sampling_params import SamplingParams
from .stream import Stream


def generate(
    loaded: LoadedModel,
    request: GenerationRequest,
    params: SamplingParams,
    model_info: dict[str, Any],
    between: Callable[[], None],
) -> GenerationResult:
    """Carry out a request, on the thread that owns the model.

    ``between`` is called after each token, to let others take a step.
    """
    import torch
    from transformers import LogitsProcessorList, StoppingCriteriaList

    from ..weights.library_logging import quiet
    from .rng import SeededDraws
    from .stopping_criteria import StoppingCriteria

    stream = Stream(params, request.on_text)
    draws = SeededDraws(params.seed) if params.config.do_sample else None
    tokens = torch.tensor([params.tokens], device=loaded.device)
    watch = StoppingCriteria(
        params,
        decode=loaded.decode,
        prompt=_before(loaded, params.tokens),
        stop_ids=params.stop_ids,
        cancelled=request.cancelled,
        stream=stream,
        draws=draws,
        between=between,
    )
    if request.cancelled.is_set():
        watch.reasons = ["cancelled"] * params.sequences
    else:
        try:
            with quiet("transformers"):
                output = loaded.model.generate(
                    tokens,
                    attention_mask=torch.ones_like(tokens),
                    generation_config=params.config,
                    logits_processor=LogitsProcessorList([draws] if draws else []),
                    stopping_criteria=StoppingCriteriaList([watch]),
                )
        finally:
            if draws is not None:
                draws.end()
        watch.finish(output)
    usage = {"generated": watch.generated}
    return result(request, params, stream, watch.reasons, usage, watch.first_token, model_info)


def _before(loaded: LoadedModel, tokens: list[int]) -> list[int]:
    """What stands before the first generated token in generate()'s own sequences."""
    if not loaded.encoder_decoder:
        return tokens
    defaults: Any = loaded.model.generation_config
    start = defaults.decoder_start_token_id
    start = defaults.bos_token_id if start is None else start
    return start if isinstance(start, list) else [start]
