"""Requests that go on from an earlier one: they give what one long request gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from standins import tiny_models

from modelcompose_jupyter.document.parameters import GenerationParameters
from modelcompose_jupyter.models import Extension, GenerationResult, Lease, ModelCache, ModelSpec

from ..conftest import ask, done

SHORT, LONG = 20, 60
ASKED: list[dict[str, Any]] = [
    {"do_sample": False},
    {"seed": 3, "temperature": 1.5},
    {"seed": 5, "repetition_penalty": 1.3, "min_output_length": 10},
    {"seed": 7, "temperature": 1.2, "num_return_sequences": 3},
    {"seed": 8, "stop_sequences": ["e", "fox"]},
    {"do_sample": False, "num_beams": 2},
]
MODELS = {
    "in C": ("llama", {}),
    "on torch": ("llama", {"MODELCOMPOSE_NATIVE": "0"}),
    "in C, with a state": ("qwen3_5_text", {}),
    "one by one": ("mamba", {}),
}


@pytest.fixture(params=MODELS)
def lease(
    request: pytest.FixtureRequest,
    folder_of: Callable[[str], Path],
    cache: ModelCache,
    monkeypatch: pytest.MonkeyPatch,
) -> Lease:
    architecture, environment = MODELS[request.param]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    lease: Lease = done(cache.acquire(ModelSpec(str(folder_of(architecture)))))
    return lease


def of(result: GenerationResult) -> Any:
    """What a result says of its texts."""
    parameters = {**result.parameters, "seed": None}  # which is drawn where nothing is
    return result.texts, result.finish_reasons, result.usage["generated"], parameters, result.room


def longer(short: GenerationResult) -> Extension:
    return Extension(LONG - SHORT, short.tokens)


@pytest.mark.parametrize("asked", ASKED)
def test_it_is_one_long_request(asked: dict[str, Any], lease: Lease) -> None:
    short = ask(lease, max_output_length=SHORT, **asked)
    wanted = ask(lease, max_output_length=LONG, **asked)
    assert of(ask(lease, max_output_length=SHORT, extension=longer(short), **asked)) == of(wanted)
    assert [list(each) for each in short.tokens] == [list(each[:SHORT]) for each in wanted.tokens]


@pytest.mark.parametrize("asked", ASKED[:-1])
def test_it_is_the_same_in_company(asked: dict[str, Any], lease: Lease) -> None:
    short = ask(lease, max_output_length=SHORT, **asked)
    wanted = of(ask(lease, max_output_length=LONG, **asked))
    prompts = ["Once upon a", "A fox", "Once upon a", "A fox went home and so"]
    own = GenerationParameters(**{"seed": 1, **asked, "max_output_length": SHORT})
    other = GenerationParameters(seed=4, temperature=1.5, max_output_length=LONG)
    futures = [
        lease.generate(
            prompt,
            own if prompt == prompts[0] else other,
            extension=longer(short) if prompt == prompts[0] else None,
        ).future
        for prompt in prompts
    ]
    results = [done(each) for each in futures]
    assert [of(results[place]) for place in (0, 2)] == [wanted] * 2
    alone = done(lease.generate(prompts[3], other).future)
    assert results[3].texts == alone.texts


def test_what_there_is_takes_a_few_steps(
    folder_of: Callable[[str], Path], cache: ModelCache
) -> None:
    lease = done(cache.acquire(ModelSpec(str(folder_of("llama")))))
    counters = next(iter(cache._entries.values())).engine.counters
    short = ask(lease, max_output_length=100, min_output_length=100)
    before = counters.steps
    result = ask(
        lease,
        max_output_length=100,
        min_output_length=100,
        extension=Extension(2, short.tokens),
    )
    assert counters.steps - before < 20
    assert result.usage["generated"] == 102
    assert result.usage["accepted_tokens"] == result.usage["draft_tokens"] > 80


def test_drafts_of_another_text_change_nothing(
    folder_of: Callable[[str], Path], cache: ModelCache
) -> None:
    lease = done(cache.acquire(ModelSpec(str(folder_of("llama")))))
    wanted = ask(lease, seed=1, temperature=1.5, max_output_length=LONG)
    other = ask(lease, seed=2, temperature=1.5, max_output_length=LONG)
    mixed = [*wanted.tokens[0][:7], *other.tokens[0][7:]]
    for drafts in ([mixed], other.tokens, [[]], ()):
        extension = Extension(LONG - SHORT, drafts)
        again = ask(lease, seed=1, temperature=1.5, max_output_length=SHORT, extension=extension)
        assert of(again) == of(wanted)


@pytest.mark.parametrize("how", [{"prompt_lookup": 4}, {"draft_model": "own"}])
def test_other_drafts_follow(
    how: dict[str, Any], folder_of: Callable[[str], Path], cache: ModelCache
) -> None:
    folder = str(folder_of("llama"))
    how = {key: folder if value == "own" else value for key, value in how.items()}
    lease = done(cache.acquire(ModelSpec(folder, **how)))
    asked = {"max_output_length": SHORT, "min_output_length": SHORT, "seed": 4}
    short = ask(lease, **asked)
    wanted = ask(lease, **{**asked, "max_output_length": LONG})
    assert of(ask(lease, extension=longer(short), **asked)) == of(wanted)


def test_room_is_what_the_context_and_the_host_leave(
    folder_of: Callable[[str], Path], cache: ModelCache
) -> None:
    lease = done(cache.acquire(ModelSpec(str(folder_of("llama")))))
    asked: dict[str, Any] = {"min_output_length": 10, "seed": 3}
    result = ask(lease, max_output_length=10, **asked)
    left = tiny_models.CONTEXT - result.usage["prompt"]
    assert result.room == left - 10
    assert ask(lease, **asked).room == 0
    beyond = ask(lease, max_output_length=10, extension=Extension(10**9), **asked)
    assert (beyond.room, beyond.parameters["max_output_length"]) == (0, left)
    assert beyond.warnings == []
    cache.max_output_length = 30
    assert ask(lease, max_output_length=10, **asked).room == 20
    assert ask(lease, max_output_length=50, **asked).room == 0


def test_a_model_without_a_context_has_always_room(
    folder_of: Callable[[str], Path], cache: ModelCache
) -> None:
    lease = done(cache.acquire(ModelSpec(str(folder_of("mamba")))))
    result = ask(lease, max_output_length=3, min_output_length=3)
    assert result.room > 10**9
