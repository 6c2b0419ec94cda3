"""Runs that go on from an earlier one, where a limit cut its texts.

Such a run is the same run with a higher limit of tokens: its texts are those that one run with that
limit gives. What the earlier run generated comes to the model as draft tokens, so it is read, and
not generated again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..document.document import digest
from ..errors import InputError
from ..models import Prompt
from ..models.tokenization.detokenizer import certain
from .events import State
from .options import RunOptions
from .run import Run

Key = tuple[str, int, int]
"""A generation of a run: job, repeat, prompt."""


@dataclass(frozen=True)
class EarlierTexts:
    """The texts of a prompt in the earlier run as far as longer ones begin with them, the tokens
    that were generated of each, and what was thought before it, with how many tokens."""

    prompt: str
    texts: Sequence[str]
    tokens: Sequence[Sequence[int]]
    reasoning: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class EarlierRun:
    """What a run that goes on from another has of it already.

    ``texts`` are those that its own begin with as long as the model chooses the same, and
    ``tokens`` what is known of those that its options say they begin with, by stream; ``starts``
    has the characters of these texts where they begin.
    """

    texts: Mapping[Key, EarlierTexts] = field(default_factory=dict)
    tokens: Mapping[tuple[Any, ...], Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    starts: Mapping[tuple[Any, ...], int] = field(default_factory=dict)

    def of(self, key: Key, prompt: Prompt) -> EarlierTexts | None:
        """What there is of a generation already, if it was asked the same."""
        earlier = self.texts.get(key)
        return earlier if earlier is not None and earlier.prompt == prompt_digest(prompt) else None


def prompt_digest(prompt: Prompt) -> str:
    """What tells whether another prompt is the same."""
    return digest(json.dumps(prompt))


def extension(run: Run, options: RunOptions, tokens: int | None) -> tuple[RunOptions, EarlierRun]:
    """What goes on from a run of this process.

    Args:
        run: the earlier one.
        options: its own.
        tokens: how many more each text may have; as many again as the limit was if None, or as
            there is room for.

    Raises:
        InputError: the number is none, or there is nothing to go on from.
    """
    if tokens is not None and (isinstance(tokens, bool) or not isinstance(tokens, int)):
        raise InputError(f"a number of tokens is wanted, and it is {tokens!r}")
    if tokens is not None and tokens < 1:
        raise InputError(f"a text goes on by 1 token at least, and it is {tokens}")
    _check_extendable(run)
    more = min(_limit(run), run.extendable_by) if tokens is None else tokens
    longer: RunOptions = {**options, "extended_by": (options.get("extended_by") or 0) + more}
    return longer, EarlierRun(earlier_texts(run))


def _check_extendable(run: Run) -> None:
    if not run.done:
        raise InputError(
            f"run {run.id} has not ended",
            hint="Wait for its end, then go on from there.",
            code="not_ended",
        )
    if run.state is not State.COMPLETED and not run.failed_of_a_cut:
        verb = "was stopped" if run.state is State.CANCELLED else "failed"
        raise InputError(
            f"run {run.id} {verb}, and what goes on is a text that its limit has cut",
            hint="Run it again.",
            code="not_extendable",
        )
    reasons = {reason for reason in run.finish_reasons.values() if reason is not None}
    if "length" not in reasons:
        raise InputError(
            f"nothing was cut in run {run.id}: {_ENDS.get(run.finish_reason, 'it has no text')}",
            hint="Only a text goes on that ended where max_output_length is.",
            code="not_extendable",
        )
    if not run.extendable_by:
        raise InputError(
            f"there is no room to go on from run {run.id}: its text ended where the model's context"
            " does, or at the host's limit",
            hint="Begin a new text with the end of this one as its prompt.",
            code="not_extendable",
        )


_ENDS: Mapping[str | None, str] = {
    "eos": "the model ended its text",
    "stop": "its text ended at a stop sequence",
}


def _limit(run: Run) -> int:
    """The highest limit at which one of a run's texts was cut."""
    cut = [each for each in run.record["generations"] if "length" in each["finish_reasons"]]
    return max(1, *(int(each["parameters"]["max_output_length"]) for each in cut))


def earlier_texts(run: Run) -> dict[Key, EarlierTexts]:
    """The texts of a run that has ended, as far as longer ones begin with them."""
    found: dict[Key, EarlierTexts] = {}
    streams, thoughts, counts = run.streams, run.reasoning_streams, run.reasoning_tokens
    for generation in run.record["generations"]:
        key = tuple(generation["stream"])
        if key not in run.drafts:
            continue
        prompt, tokens = run.drafts[key]
        stops = generation["parameters"]["stop_sequences"]
        texts = [
            certain(streams[*key, place], stops) if reason == "length" else streams[*key, place]
            for place, reason in enumerate(generation["finish_reasons"])
        ]
        places = [(*key, place) for place in range(len(texts))]
        reasoning = [(certain(thoughts[each], ()), counts[each]) for each in places]
        found[key] = EarlierTexts(prompt, texts, tokens, reasoning)
    return found
