"""What a run is asked for beside its inputs, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from pydantic import ValidationError

from ..document import MAX_LOGPROBS, explain  # of the package: another thread may be importing it
from ..document.format import KINDS, Format
from ..errors import InputError, Where, did_you_mean, listed
from ..seeds import MAX_SEED


class GivenTokens(TypedDict):
    """Tokens that a text begins with.

    ``stream`` is which text: (job, repeat, prompt, sequence), ``tokens`` are their ids. Where
    ``prompt`` is a prompt's digest, it is the text behind that prompt alone.
    """

    stream: Sequence[str | int]
    tokens: Sequence[int]
    prompt: NotRequired[str | None]


class RunOptions(TypedDict, total=False):
    """What a run is asked for beside its inputs; what is missing or None is not asked for.

    ``seed`` is that of the first generation, where the document gives none; drawn if missing.
    ``extended_by`` is how many more tokens than the document says each text may have.
    ``logprobs`` asks for the tokens with their log-probabilities and so many alternatives, where
    the document does not. ``begins_with`` has the tokens that texts begin with, whatever the model
    would choose. ``score`` is a text: its tokens behind the prompt are told with their
    log-probabilities, and nothing is generated. ``format`` is what the texts must be, as a document
    says it, in place of the document's own.
    """

    seed: int | None
    extended_by: int | None
    logprobs: int | None
    begins_with: Sequence[GivenTokens] | None
    score: str | None
    format: Any


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
    if (unknown := next((name for name in options if name not in OPTIONS), None)) is not None:
        raise InputError(
            f"there is no option '{unknown}' of a run",
            hint=did_you_mean(unknown, OPTIONS) or f"There are {listed(OPTIONS)}.",
            code="unknown_option",
        )
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
        if any("\ud800" <= each <= "\udfff" for each in text):
            raise InputError("the text to score has half a character in it (a surrogate)")
        found["score"] = text
        for name in ("extended_by", "begins_with"):
            if name in found:
                raise InputError(f"a score is of a text that is given whole, without {name}")
    if (format := options.get("format")) is not None:
        found["format"] = _format(format)
    return found


def _format(given: Any) -> dict[str, Any]:
    try:
        return Format.model_validate(given, context={"rendered": True}).plain()
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        context = details.get("ctx", {})
        path = ("format", *details["loc"], *context.get("path", ()))
        said = {**details, "ctx": {**context, "at_key": False}}
        message, hint = explain(Where("", path).keys, said)
        if details["type"] == "extra_forbidden":
            hint = did_you_mean(str(path[-1]), KINDS) or f"There are {listed(KINDS)}."
        raise InputError(message, hint=hint, code="invalid_format") from None


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
            prompt = each.get("prompt")
            is_digest = isinstance(prompt, str | None)
            is_known = [job, *places] in [other["stream"] for other in found]
            if not (isinstance(job, str) and is_stream and is_digest) or is_known:
                raise ValueError
            if not all(_is_whole(token, 0) for token in tokens):
                raise ValueError
            of = {} if prompt is None else {"prompt": prompt}
            found.append({"stream": [job, *places], "tokens": tokens, **of})  # type: ignore[typeddict-item]
    except (TypeError, KeyError, ValueError):
        raise InputError(
            "begins_with is not what texts can begin with",
            hint='Give a list of {"stream": [job, repeat, prompt, sequence], "tokens": [ids]}, one'
            " for each text.",
        ) from None
    return found
