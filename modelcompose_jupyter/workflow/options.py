"""What a run is asked for beside its inputs, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from ..document import MAX_LOGPROBS  # of the package: another thread may be importing it
from ..errors import InputError
from ..seeds import MAX_SEED


class GivenTokens(TypedDict):
    """Tokens that a text begins with: of a stream, (job, repeat, prompt, sequence), its ids."""

    stream: Sequence[str | int]
    tokens: Sequence[int]


class RunOptions(TypedDict, total=False):
    """What a run is asked for beside its inputs; what is missing or None is not asked for.

    ``seed`` is that of the first generation, where the document gives none; drawn if missing.
    ``extended_by`` is how many more tokens than the document says each text may have.
    ``logprobs`` asks for the tokens with their log-probabilities and so many alternatives, where
    the document does not. ``begins_with`` has the tokens that texts begin with, whatever the model
    would choose. ``score`` is a text: its tokens behind the prompt are told with their
    log-probabilities, and nothing is generated.
    """

    seed: int | None
    extended_by: int | None
    logprobs: int | None
    begins_with: Sequence[GivenTokens] | None
    score: str | None


OPTIONS = tuple(RunOptions.__annotations__)


API_NAMES = {"extended_by": "extend_by"}
"""What options are called in the run API, where that is another name."""


def of_record(record: Mapping[str, Any]) -> RunOptions:
    """The options of a run, by its record."""
    return checked({name: record.get(name) for name in OPTIONS})


def checked(options: Mapping[str, Any]) -> RunOptions:
    """The options that ask for something.

    Raises:
        InputError: one cannot be.
    """
    found = RunOptions()
    if (seed := options.get("seed")) is not None:
        if not _is_whole(seed, 0, MAX_SEED):
            raise InputError(f"the seed must be an integer from 0 to {MAX_SEED}, and it is {seed}")
        found["seed"] = seed
    if (more := options.get("extended_by")) not in (None, 0):
        if not _is_whole(more, 0):
            raise InputError(f"a run is longer by 0 tokens or more, and not by {more!r}")
        found["extended_by"] = more
    if (count := options.get("logprobs")) is not None:
        if not _is_whole(count, 0, MAX_LOGPROBS):
            raise InputError(f"logprobs must be an integer from 0 to {MAX_LOGPROBS}, not {count!r}")
        found["logprobs"] = count
    if (given := options.get("begins_with")) not in (None, [], ()):
        found["begins_with"] = _given_tokens(given)
    if (text := options.get("score")) is not None:
        if not isinstance(text, str):
            raise InputError(f"a text is scored, and this is {type(text).__name__}")
        found["score"] = text
    return found


def _is_whole(value: Any, least: int, most: int | None = None) -> bool:
    if isinstance(value, bool) or not isinstance(value, int):
        return False
    return least <= value and (most is None or value <= most)


def _given_tokens(given: Any) -> list[GivenTokens]:
    found: list[GivenTokens] = []
    try:
        for each in given:
            job, *places = each["stream"]
            tokens = list(each["tokens"])
            is_stream = len(places) == 3 and all(_is_whole(place, 0) for place in places)
            if not (isinstance(job, str) and is_stream and all(_is_whole(t, 0) for t in tokens)):
                raise ValueError
            found.append({"stream": [job, *places], "tokens": tokens})
    except (TypeError, KeyError, ValueError):
        raise InputError(
            "begins_with is not what texts can begin with",
            hint='Give a list of {"stream": [job, repeat, prompt, sequence], "tokens": [ids]}.',
        ) from None
    return found
