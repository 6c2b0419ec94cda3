"""Scores: how likely a model holds a given text, token by token.

A score is a run in which the text is given, so that nothing is left to generate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..document import Document, GenerationParameters, Workflow
from ..errors import InputError
from .tokens import Token

_KEPT = ("max_input_length", "enable_thinking", "chat_template_kwargs", "logprobs")
"""Parameters that matter to a text that is read."""


def check_scorable(document: Document, workflow: Workflow) -> None:
    """Raise InputError for a workflow of which nobody could say where the text belongs."""
    jobs = workflow.jobs
    if len(jobs) == 1 and jobs[0].repeat_count is None:
        return
    several = f"it has {len(jobs)} jobs" if len(jobs) > 1 else "its job is repeated"
    raise InputError(
        f"a text is scored behind one prompt, and workflow '{workflow.id}' has several: {several}",
        hint="Score with a workflow of one job without repeat_count.",
        where=document.where(workflow.path),
    )


def scoring_parameters(asked: GenerationParameters) -> GenerationParameters:
    """What of a generation's parameters holds for a text that is scored."""
    kept = {name: value for name in _KEPT if (value := getattr(asked, name)) is not None}
    return GenerationParameters.model_validate({"logprobs": 0, **kept, "do_sample": False})


def score(tokens: Sequence[Token]) -> dict[str, Any]:
    """The score of a text, as plain data.

    ``logprob`` is the sum of its tokens', ``perplexity`` the exponential of minus their mean; None
    for a text without tokens.
    """
    total = math.fsum(each.logprob or 0.0 for each in tokens)
    return {
        "text": "".join(each.text for each in tokens),
        "logprob": total,
        "perplexity": math.exp(-total / len(tokens)) if tokens else None,
        "tokens": [_plain(each) for each in tokens],
    }


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
