"""Scores: how likely a model holds a given text, token by token.

A score is a run in which the text is given, so that nothing is left to generate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..document import Document, GenerationParameters, Workflow
from ..errors import InputError, Where
from .tokens import Token

_KEPT = (
    "max_input_length", "thinking", "enable_thinking", "chat_template_kwargs", "tools", "logprobs",
)  # fmt: skip
"""Parameters that matter to a text that is read."""
MAX_PERPLEXITY = 1e300
"""In place of more, which no float can be: of a text that the model holds for impossible."""


def check_scorable(document: Document, workflow: Workflow) -> None:
    """Raise InputError for a workflow of which nobody could say where the text belongs."""
    call, jobs = workflow.only_call, workflow.jobs
    if call is None or call.repeat_count is not None:
        several = f"it has {len(jobs)} jobs" if len(jobs) > 1 else "its job is repeated"
        raise several_prompts(several, where=document.where(workflow.path))


def several_prompts(why: str, where: Where | None) -> InputError:
    """What to say of a text that is to be scored behind several prompts."""
    return InputError(
        f"a text is scored behind one prompt, and the workflow has several: {why}",
        hint="Score with a workflow of one job, without repeat_count and lists of prompts.",
        where=where,
    )


def scoring_parameters(asked: GenerationParameters) -> GenerationParameters:
    """What of a generation's parameters holds for a text that is scored."""
    kept = {name: value for name in _KEPT if (value := getattr(asked, name)) is not None}
    own = {"do_sample": False, "include_prompt": False}
    return GenerationParameters.model_validate({"logprobs": 0, **kept, **own})


def score(tokens: Sequence[Token]) -> dict[str, Any]:
    """The score of a text, as plain data.

    ``logprob`` is the sum of its tokens', ``perplexity`` the exponential of minus their mean, at
    most `MAX_PERPLEXITY`; None for a text without tokens.
    """
    total = math.fsum(each.logprob or 0.0 for each in tokens)
    return {
        "text": "".join(each.text for each in tokens),
        "logprob": total,
        "perplexity": _perplexity(-total / len(tokens)) if tokens else None,
        "tokens": [_plain(each) for each in tokens],
    }


def _perplexity(surprise: float) -> float:
    is_beyond = surprise > math.log(MAX_PERPLEXITY)
    return MAX_PERPLEXITY if is_beyond else math.exp(surprise)


def _plain(token: Token) -> dict[str, Any]:
    alternatives = [
        {"id": each.id, "token": each.token, "logprob": each.logprob} for each in token.alternatives
    ]
    return {
        "id": token.id,
        "token": token.token,
        "text": token.text,
        "logprob": token.logprob,
        "rank": token.rank,
        **({"alternatives": alternatives} if alternatives else {}),
    }
