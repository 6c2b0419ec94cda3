"""Word material: closed settings, long noun lists, and an open-ended space of made-up words."""

from __future__ import annotations

import random
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent

_ACCENTED = "áéíóúñçøåäöüßłžšč"


@cache
def settings() -> dict[str, dict[str, list[Any]]]:
    """The closed set of settings, by name."""
    return tomllib.loads((_HERE / "settings.toml").read_text(encoding="utf-8"))


@cache
def words() -> dict[str, list[str]]:
    """The word lists, by name."""
    return tomllib.loads((_HERE / "words.toml").read_text(encoding="utf-8"))


@cache
def _held_out() -> frozenset[str]:
    lists = words()
    return frozenset(w.lower() for w in lists["held_out_names"] + lists["held_out_kinds"])


def made_up_word(rng: random.Random, syllables: int | None = None) -> str:
    """A pronounceable lower-case word that is not kept for the evaluation."""
    parts = words()
    while True:
        count = syllables or rng.choice((1, 2, 2, 2, 3))
        word = ""
        for index in range(count):
            word += rng.choice(parts["onsets"]) if index or rng.random() < 0.85 else ""
            word += rng.choice(parts["nuclei"])
            if rng.random() < (0.6 if index == count - 1 else 0.25):
                word += rng.choice(parts["codas"])
        if 2 < len(word) < 11 and word not in _held_out():
            return word


def _accented(rng: random.Random, name: str) -> str:
    position = rng.randrange(1, len(name))
    return name[:position] + rng.choice(_ACCENTED) + name[position + 1 :]


def novel_name(rng: random.Random) -> str:
    """A name that can only be copied, never guessed."""
    draw = rng.random()
    if draw < 0.14:
        return rng.choice(words()["other_names"])
    name = made_up_word(rng).capitalize()
    if draw < 0.15:
        return _accented(rng, name)
    if draw < 0.21:
        return f"{name} {made_up_word(rng).capitalize()}"
    if draw < 0.24:
        return f"{name}-{rng.randint(2, 99)}"
    if draw < 0.27:
        return name.lower()
    return name


def common_name(rng: random.Random, pronoun: str) -> str:
    """A name that the model may introduce by itself; the first ones of the list more often."""
    names = words()["common_female_names" if pronoun == "she" else "common_male_names"]
    return names[min(int(rng.expovariate(1 / 14)), len(names) - 1)]


@cache
def kind_pool() -> tuple[str, ...]:
    """Every listed kind of hero."""
    lists = words()
    return tuple(lists["occupations"] + lists["animals"] + lists["objects"] + lists["creatures"])


def novel_kind(rng: random.Random) -> str:
    """A kind of hero that can only be copied: a listed noun, a compound, or a made-up noun."""
    draw = rng.random()
    if draw < 0.5:
        return rng.choice(kind_pool())
    if draw < 0.62:
        first, second = rng.sample(words()["objects"] + words()["animals"], 2)
        return rng.choice((f"{first} {second}", f"{first} keeper", f"{first} maker"))
    word = made_up_word(rng, rng.choice((1, 2, 2, 3, 3)))
    return word + rng.choice(("", "", "er", "ist", "or", "ian", "ing", "ard", "ette", "let"))
