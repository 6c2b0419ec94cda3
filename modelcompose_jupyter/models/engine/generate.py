"""Requests that run through transformers' own generate(), one after the other.

These are beam search, and models that the scheduler cannot run: of other architectures, or with
options that only generate() has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ..generation import GenerationResult
from ..weights.library_logging import quiet
from ..weights.loaded_model import LoadedModel
from .request import GenerationRequest, result
from .sampling_params import SamplingParams, reply_of
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
    from transformers import LogitsProcessorList, StoppingCriteriaList

    from .constraint_processor import ConstraintProcessor
    from .score_tap import GeneratedTokens, ScoreTap
    from .seeded_draws import SeededDraws
    from .stopping_criteria import StoppingCriteria

    stream = Stream(params, request.on_text, request.on_tokens, request.on_reasoning)
    given = _given(params)
    draws = SeededDraws(params.seed, len(given)) if params.do_sample else None
    before = _before(loaded, params.tokens)
    # A beam is not known before its end, so its text is read once more.
    is_tapped = params.logprobs is not None and params.num_beams == 1
    tap = ScoreTap(loaded.model, draws) if is_tapped else None
    constraint = None if params.constraint is None else ConstraintProcessor(params)
    tokens = GeneratedTokens(loaded, params, before, stream, tap)
    criteria = StoppingCriteria(
        params,
        loaded.decode,
        before,
        request.cancelled,
        stream,
        draws,
        between,
        given=given,
        tokens=tokens,
        constraint=constraint,
        reply=reply_of(loaded, params),
    )
    tokens.begin(given, request.beginning.told_of(0))
    if request.cancelled.is_set():
        criteria.reasons = ["cancelled"] * params.num_return_sequences
    elif criteria.has_ended:
        criteria.finish()
    else:
        try:
            with quiet("transformers"), tap or nullcontext():
                model: Any = loaded.model
                read, more = _inputs(loaded, params.tokens, before, given)
                processors = [each for each in (constraint, draws, tap) if each is not None]
                output = model.generate(
                    read,  # without a name, since models differ in it
                    **more,
                    generation_config=_config(params, len(given)),
                    logits_processor=LogitsProcessorList(processors),
                    stopping_criteria=StoppingCriteriaList([criteria]),
                )
        finally:
            if draws is not None:
                draws.end()
        criteria.finish(output)
    tokens.finish()
    usage = {"generated": criteria.generated, **({"given": len(given)} if given else {})}
    reasoning = criteria.reasoning_tokens
    if params.thinking is not None:
        usage["reasoning"] = sum(reasoning)
    return result(
        request, params, stream, criteria.reasons, usage, criteria.first_token,
        reasoning_tokens=reasoning,
    )  # fmt: skip


def _given(params: SamplingParams) -> Sequence[int]:
    """The tokens that the text begins with. All rows of generate() begin with the same."""
    given = next(iter(params.given), ())
    if given and params.num_return_sequences > 1:
        raise InputError(
            "of several texts none can begin otherwise here: the model's requests run one by one",
            hint="Ask for one text: num_return_sequences 1.",
        )
    return given


def _inputs(
    loaded: LoadedModel, prompt: list[int], before: list[int], given: Sequence[int]
) -> tuple[Any, dict[str, Any]]:
    """What generate() reads, and what goes with it."""
    import torch

    def row(tokens: list[int]) -> torch.Tensor:
        return torch.tensor([tokens], device=loaded.device)

    read = row(prompt if loaded.encoder_decoder else [*prompt, *given])
    more = {"attention_mask": torch.ones_like(read)}
    if loaded.encoder_decoder and given:
        more["decoder_input_ids"] = row([*before, *given])
    return read, more


_OPTIONS = (
    *("do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty"),
    *("num_beams", "length_penalty", "early_stopping", "num_return_sequences"),
)


def _config(params: SamplingParams, given: int) -> GenerationConfig:
    """The params for generate(), which adds the options of the model's config that it alone has.

    So many tokens of the text are there already.
    """
    from transformers import GenerationConfig

    return GenerationConfig(
        **{name: getattr(params, name) for name in _OPTIONS},
        max_new_tokens=params.max_new_tokens - given,
        min_length=params.min_length or None,
        min_new_tokens=None if params.min_length else max(0, params.min_new_tokens - given),
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
