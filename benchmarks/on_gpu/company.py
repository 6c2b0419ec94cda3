"""Whether a seed gives the same text alone and in company.

On a GPU bits may depend on how many texts a step has. So this counts the texts that are the same,
and tells where the first one differs.
"""

from __future__ import annotations

import os
import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from unittest import mock

from peers import weights

from .cases import Settings, Told

_TEXTS = 16
_LONG_TEXTS = 4
_TOKENS = 64
_SHORTEST, _LONGEST = 16, 48  # prompts, in tokens
_LONG = 1500  # more than a chunk of a prompt ever has
_SHARED = 200
_AT_ONCE = 64


@dataclass(frozen=True)
class Asked:
    """A prompt and the seed of its text."""

    prompt: str
    seed: int


@dataclass
class Text:
    """What came of it: ``starts`` are the characters at which its pieces begin, a token or more."""

    text: str = ""
    reused: int = 0
    starts: list[int] = field(default_factory=list)


def cases(_: Settings) -> list[str]:
    return list(_CASES)


def run(settings: Settings, case: str, _: float) -> Told:
    """One of `cases`; the model is loaded with the first."""
    return _CASES[case](_loaded(settings))


class Company:
    """A model, prompts of several kinds, and their texts when each is alone."""

    def __init__(self, settings: Settings) -> None:
        from modelcompose_jupyter.models import ModelCache, ModelSpec

        if settings.device == "cpu":
            os.environ["MODELCOMPOSE_NATIVE"] = "0"  # try what computes on a GPU
        self._tokens = min(settings.tokens or _TOKENS, _TOKENS)
        self._cache = ModelCache()
        spec = ModelSpec(
            str(settings.model),
            precision=settings.precision,
            device=settings.device,
            driver="huggingface",
        )
        self._lease = self._cache.acquire(spec).result()
        prompts = weights.Prompts(settings.model)
        room = weights.context_of(settings.model) - self._tokens
        self._chance = random.Random(weights.SEED)
        self._draw: Callable[[int], str] = lambda tokens: prompts.draw(tokens, self._chance)[1]
        self.short = self._asked(_TEXTS)
        self.long = self._asked(_LONG_TEXTS, min(_LONG, room - _LONGEST))
        self.shared_tokens = min(_SHARED, room // 2)
        prefix = self._draw(self.shared_tokens)
        self.sharing = [Asked(prefix + each.prompt, each.seed) for each in self._asked(_TEXTS + 1)]
        self._alone: dict[Asked, Text] = {}

    def alone(self, asked: Sequence[Asked]) -> list[Text]:
        """The text of each by itself, of which no part was read before."""
        for each in asked:
            if each not in self._alone:
                with _nothing_reused():
                    self._alone[each] = self.together([each])[0]
        return [self._alone[each] for each in asked]

    def others(self, count: int) -> list[Asked]:
        """Prompts that nobody has asked before."""
        return self._asked(count)

    def together(self, asked: Sequence[Asked]) -> list[Text]:
        """The texts of all at once."""
        from modelcompose_jupyter.document import GenerationParameters

        texts = [Text() for _ in asked]
        generations = [
            self._lease.generate(
                each.prompt,
                GenerationParameters(
                    seed=each.seed,
                    min_output_length=self._tokens,
                    max_output_length=self._tokens,
                    include_prompt=False,
                ),
                _noting(text),
            )
            for each, text in zip(asked, texts, strict=True)
        ]
        for text, generation in zip(texts, generations, strict=True):
            result = generation.future.result()
            if result.warnings:
                raise RuntimeError(f"a text came with a warning: {result.warnings[0]}")
            text.text, text.reused = result.texts[0], result.usage["reused"]
        return texts

    def _asked(self, count: int, tokens: int | None = None) -> list[Asked]:
        lengths = [tokens or self._chance.randint(_SHORTEST, _LONGEST) for _ in range(count)]
        return [Asked(self._draw(length), number) for number, length in enumerate(lengths)]


_loaded = cache(Company)


def _noting(text: Text) -> Callable[[int, int, str], None]:
    return lambda _, offset, __: text.starts.append(offset)


def _nothing_reused() -> AbstractContextManager[Any]:
    """Have prompts read whole, and nothing of them kept for later ones."""
    from modelcompose_jupyter.models.engine.prefix_cache import PrefixCache

    return mock.patch.multiple(PrefixCache, find=lambda *_: (None, 0), keep=lambda *_: None)


# Cases


def _again(company: Company) -> Told:
    with _nothing_reused():
        again = [company.together([each])[0] for each in company.short]
    return _compared(company.alone(company.short), again)


def _among(count: int) -> Callable[[Company], Told]:
    """Texts that begin with ``count - _TEXTS`` others."""

    def run(company: Company) -> Told:
        wanted = company.alone(company.short)
        with _nothing_reused():
            found = company.together([*company.short, *company.others(count - _TEXTS)])
        return _compared(wanted, found[:_TEXTS])

    return run


def _sharing(company: Company) -> Told:
    """Texts whose prompts begin as one that was read before; it is none of those compared."""
    first, *rest = company.sharing
    wanted = company.alone(rest)
    company.together([first])
    found = company.together(rest)
    told = _compared(wanted, found)
    least = min(text.reused for text in found)
    if least < company.shared_tokens:
        told["error"] = f"only {least} of {company.shared_tokens} shared tokens were reused"
    return told


def _long(company: Company) -> Told:
    """Prompts of several chunks, whose sizes depend on what runs beside them."""
    wanted = company.alone(company.long)
    with _nothing_reused():
        found = company.together([*company.others(_TEXTS - _LONG_TEXTS), *company.long])
    return _compared(wanted, found[-_LONG_TEXTS:])


_CASES: dict[str, Callable[[Company], Told]] = {
    "alone, again": _again,
    f"{_TEXTS} at once": _among(_TEXTS),
    f"{_AT_ONCE} at once": _among(_AT_ONCE),
    f"a prefix in common, {_TEXTS} at once": _sharing,
    f"long prompts, {_TEXTS} at once": _long,
}


def _compared(wanted: Sequence[Text], found: Sequence[Text]) -> Told:
    differences = [
        _first_difference(one, other)
        for one, other in zip(wanted, found, strict=True)
        if one.text != other.text
    ]
    equal = len(wanted) - len(differences)
    reused = [text.reused for text in found]
    summary = f"{equal} of {len(wanted)} texts as alone"
    if differences:
        summary += f", the first difference at token {min(differences)}"
    return {
        "summary": f"{summary}; {min(reused)} to {max(reused)} tokens reused",
        "texts": len(wanted),
        "equal": equal,
        "first_differences": differences,
        "reused": reused,
    }


def _first_difference(one: Text, other: Text) -> int:
    """The token, from 0 on, with which two texts part."""
    pairs = zip(one.text, other.text, strict=False)
    shorter = min(len(one.text), len(other.text))
    place = next((place for place, (a, b) in enumerate(pairs) if a != b), shorter)
    return max(0, bisect_right(one.starts, place) - 1)
