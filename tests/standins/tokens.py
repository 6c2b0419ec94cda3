"""Tokens for tests, and runs that have some."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from modelcompose_jupyter.workflow import Run, State
from modelcompose_jupyter.workflow.tokens import Alternative, Token

STREAM = ("job", 0, 0, 0)


def token(text: str, probability: float = 0.5, *, name: str | None = None, id: int = 1) -> Token:
    """A token with another one in its place that is as likely, and one that cannot be drawn."""
    logprob = math.log(probability)
    name = text if name is None else name
    others = (
        Alternative(id, name, logprob, logprob),
        Alternative(id + 1, " other", logprob, logprob),
        Alternative(id + 2, " <odd>", math.log(0.0005), None),
    )
    return Token(text, id, logprob, logprob, 1, name, others)


def data(each: Token) -> dict[str, Any]:
    """A token as an event tells it."""
    return {**each._asdict(), "alternatives": [other._asdict() for other in each.alternatives]}


def tell(run: Run, offset: int, tokens: Sequence[Token], *, start: int = 0, text: int = 0) -> None:
    stream = (*STREAM[:3], text)
    told = {"stream": stream, "offset": offset, "tokens": [data(each) for each in tokens]}
    run.add("tokens", {**told, "part": "text", "start": start})


def say(run: Run, offset: int, text: str, *, number: int = 0) -> None:
    run.add("text", {"stream": (*STREAM[:3], number), "offset": offset, "text": text})


def a_run(before: str = "", tokens: Sequence[Token] = (), *, text: str | None = None) -> Run:
    """A run that has ended, with one text."""
    run = Run("flow", {}, lambda: None)
    said = before + "".join(each.text for each in tokens) if text is None else text
    say(run, 0, before)
    tell(run, 0, tokens, start=len(before))
    say(run, 0, said)
    run.add("state", {"state": State.COMPLETED})
    return run
