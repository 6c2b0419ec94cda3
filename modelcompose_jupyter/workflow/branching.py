"""Branches: runs that begin with a part of another's text and go on from another token.

A branch is the same run, with the same seed and parameters, but for that token: what comes before
it is given, and what comes after it is drawn with the numbers of its places.
"""

from __future__ import annotations

from dataclasses import replace

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
    for name, value in (("token", token), ("alternative", alternative), ("text", text)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InputError(f"'{name}' is a number from 0 on, and not {value!r}")
    if not run.done:
        raise InputError(
            f"run {run.id} has not ended", hint="Stop it, then branch.", code="not_ended"
        )
    if "score" in options:
        raise InputError(
            f"run {run.id} is a score: its text was given, and nothing goes on from it",
            hint="Score another text.",
            code="not_branchable",
        )
    if text >= len(streams):
        raise InputError(f"run {run.id} has {len(streams)} texts, which count from 0, not {text}")
    stream = streams[text]
    known = run.token_data(stream)
    if not known:
        raise InputError(
            f"the tokens of run {run.id} are not known",
            hint="Ask for them: story.start({…}, logprobs=5).",
            code="no_tokens",
        )
    if token >= len(known):
        raise InputError(f"the text has {len(known)} tokens, which count from 0, and not {token}")
    place = known[token]
    given: GivenTokens = {
        "stream": list(stream),
        "tokens": [*(each["id"] for each in known[:token]), alternative],
    }
    if stream[:3] in run.drafts:  # else the prompt is not known any more
        given["prompt"] = run.drafts[stream[:3]][0]
    others = [each for each in options.get("begins_with") or () if tuple(each["stream"]) != stream]
    asked: RunOptions = {**options, "begins_with": [*others, given]}
    asked.setdefault("logprobs", len(place.get("alternatives", ())))
    texts = earlier_texts(run)
    if (key := stream[:3]) in texts:  # the others of the prompt stay, as long as they are the same
        texts[key] = replace(
            texts[key],
            texts=["" if n == stream[3] else each for n, each in enumerate(texts[key].texts)],
            tokens=[() if n == stream[3] else each for n, each in enumerate(texts[key].tokens)],
            reasoning=[
                ("", 0) if n == stream[3] else each for n, each in enumerate(texts[key].reasoning)
            ],
        )
    starts = {stream: run.token_starts[text]}
    return asked, EarlierRun(texts, {stream: known[:token]}, starts)
