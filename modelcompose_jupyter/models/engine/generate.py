"""Requests that run through transformers' own generate(), one after the other.

These are beam search, and models that the scheduler cannot run: of other architectures, or with
options that only generate() has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..generation import GenerationResult
from ..weights.library_logging import quiet
from ..weights.loaded_model import LoadedModel
from .request import GenerationRequest, result
from .sampling_params import SamplingParams
from .stream import Stream

if TYPE_CHECKING:
    from transformers import GenerationConfig


def generate(
    loaded: LoadedModel,
    request: GenerationRequest,
    params: SamplingParams,
    between: Callable[[], None],
) -> GenerationResult:
    """Run a request, on the engine's thread.

    ``between`` is called after each token, for the scheduler's steps.
    """
    import torch
    from transformers import LogitsProcessorList, StoppingCriteriaList

    from .seeded_draws import SeededDraws
    from .stopping_criteria import StoppingCriteria

    stream = Stream(params, request.on_text)
    draws = SeededDraws(params.seed) if params.do_sample else None
    tokens = torch.tensor([params.tokens], device=loaded.device)
    before = _before(loaded, params.tokens)
    criteria = StoppingCriteria(
        params, loaded.decode, before, request.cancelled, stream, draws, between
    )
    if request.cancelled.is_set():
        criteria.reasons = ["cancelled"] * params.num_return_sequences
    else:
        try:
            with quiet("transformers"):
                model: Any = loaded.model
                output = model.generate(
                    tokens,
                    attention_mask=torch.ones_like(tokens),
                    generation_config=_config(params),
                    logits_processor=LogitsProcessorList([draws] if draws else []),
                    stopping_criteria=StoppingCriteriaList([criteria]),
                )
        finally:
            if draws is not None:
                draws.end()
        criteria.finish(output)
    usage = {"generated": criteria.generated}
    return result(request, params, stream, criteria.reasons, usage, criteria.first_token)


_OPTIONS = (
    *("do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty"),
    *("num_beams", "length_penalty", "early_stopping", "num_return_sequences", "max_new_tokens"),
)


def _config(params: SamplingParams) -> GenerationConfig:
    """The params for generate(), which adds the options of the model's config that it alone has."""
    from transformers import GenerationConfig

    return GenerationConfig(
        **{name: getattr(params, name) for name in _OPTIONS},
        min_length=params.min_length or None,
        min_new_tokens=None if params.min_length else params.min_new_tokens,
        eos_token_id=sorted(params.stop_ids) or None,
        return_dict_in_generate=False,
    )


def _before(loaded: LoadedModel, tokens: list[int]) -> list[int]:
    """The tokens before the first generated one in generate()'s own sequences."""
    if not loaded.encoder_decoder:
        return tokens
    start = loaded.defaults.decoder_start_token_id
    start = loaded.defaults.bos_token_id if start is None else start
    if start is None:
        return []  # generate() will refuse
    return start if isinstance(start, list) else [start]
