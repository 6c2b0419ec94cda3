"""Branches: runs that begin with a part of another's text and go on from another token.

A branch is the same run, with the same seed and parameters, but for that token: what comes before
it is given, and what comes after it is drawn with the numbers of its places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import InputError
from .extension import EarlierRun, earlier_texts
from .options import GivenTokens, RunOptions
from .run import Run


def branch(
    run: Run, options: RunOptions, token: int, alternative: int, text: int = 0
) -> tuple[RunOptions, EarlierRun]:
    """What branches from a run of this process.

    Args:
        run: the earlier one, of which log-probabilities were asked for.
        options: its own.
        token: which token of the text is another one, from 0.
        alternative: the id of the token in its place.
        text: which of the run's texts, from 0.

    Raises:
        InputError: the run has not ended, or there is no such token.
    """
    streams = list(run.streams)
    if not run.done:
        raise InputError(
            f"run {run.id} has not ended", hint="Stop it, then branch.", code="not_ended"
        )
    if not 0 <= text < len(streams):
        raise InputError(f"run {run.id} has {len(streams)} texts, and no text {text}")
    stream = streams[text]
    known = run.token_data(stream)
    if not known:
        raise InputError(
            f"the tokens of run {run.id} are not known",
            hint="Ask for them: run it with logprobs.",
            code="no_tokens",
        )
    if not 0 <= token < len(known):
        raise InputError(f"the text has {len(known)} tokens, and no token {token}")
    place = known[token]
    is_within = token > 0 and "bytes" in known[token - 1]  # of a character, perhaps
    told = None if is_within else _told(place, alternative)
    given: GivenTokens = {
        "stream": list(stream),
        "tokens": [*(each["id"] for each in known[:token]), alternative],
    }
    others = [each for each in options.get("begins_with") or () if tuple(each["stream"]) != stream]
    asked: RunOptions = {**options, "begins_with": [*others, given]}
    asked.setdefault("logprobs", len(place.get("alternatives", ())))
    texts = earlier_texts(run)
    if (key := stream[:3]) in texts:  # the others of the prompt stay, as long as they are the same
        texts[key] = replace(
            texts[key],
            texts=["" if n == stream[3] else each for n, each in enumerate(texts[key].texts)],
            tokens=[() if n == stream[3] else each for n, each in enumerate(texts[key].tokens)],
        )
    tokens = {stream: [*known[:token], told]} if told is not None else {}
    return asked, EarlierRun(texts, tokens)


def _told(place: Mapping[str, Any], alternative: int) -> dict[str, Any] | None:
    """What is known of an alternative as the token in a place; None where the model has to be
    asked: it was not among those that were told, or what it adds to the text is not its own."""
    if alternative == place["id"]:
        return dict(place)
    alternatives = place.get("alternatives", ())
    for rank, each in enumerate(alternatives, start=1):
        if each["id"] == alternative and each.get("is_text", True):
            return {**each, "text": each["token"], "rank": rank, "alternatives": alternatives}
    return None
