"""Guesses: they come true, and change no text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from standins import tiny_models

from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.models.engine.speculation_throttle import SpeculationThrottle
from modelcompose_jupyter.models.engine.speculative import PromptLookup

from ..conftest import ask, done

PROMPT = "Once upon a time there was a fox. Once upon a time there was a"
ASKED: list[dict[str, Any]] = [
    {"do_sample": False},
    {"seed": 3},
    {"seed": 3, "temperature": 0.2},
    {"seed": 5, "repetition_penalty": 1.3, "min_output_length": 30},
    {"seed": 7, "num_return_sequences": 3},
    {"seed": 8, "stop_sequences": ["e"]},
]


@pytest.mark.parametrize("asked", ASKED)
def test_speculation_changes_no_text(
    asked: dict[str, Any], folder_of: Callable[[str], Path], tmp_path: Path, cache: ModelCache
) -> None:
    folder = str(folder_of("llama"))
    other = str(tiny_models.save(tmp_path / "other", seed=1))
    specs = [
        ModelSpec(folder),
        ModelSpec(folder, prompt_lookup=5),
        ModelSpec(folder, draft_model=folder),
        ModelSpec(folder, draft_model=other),
    ]
    results = []
    for spec in specs:
        with done(cache.acquire(spec)) as lease:
            results.append(ask(lease, PROMPT, max_output_length=50, **asked))
    assert [each.texts for each in results] == [results[0].texts] * 4
    assert [each.finish_reasons for each in results] == [results[0].finish_reasons] * 4
    assert [each.usage["generated"] for each in results] == [results[0].usage["generated"]] * 4
    assert "draft_tokens" not in results[0].usage
    if results[0].usage["generated"] > 20:
        same = results[2].usage  # the draft is the model itself: it is always right
        assert same["accepted_tokens"] == same["draft_tokens"] > 0


def test_a_model_without_a_scheduler_says_that_drafts_have_no_effect(
    folder_of: Callable[[str], Path], cache: ModelCache
) -> None:
    with done(cache.acquire(ModelSpec(str(folder_of("mamba")), prompt_lookup=4))) as lease:
        result = ask(lease, PROMPT, max_output_length=3)
    assert any("prompt_lookup have no effect" in each for each in result.warnings)


class Text:
    def __init__(self, tokens: list[int]) -> None:
        self.tokens = tokens


def test_a_text_goes_on_as_it_did_after_the_same_words() -> None:
    lookup = PromptLookup(3)
    text: Any = Text([1, 2, 3, 4, 5, 6, 9, 2, 3])
    assert lookup.propose([text]) == [[4, 5, 6]]
    text.tokens += [4, 7, 1, 2]
    assert lookup.propose([text]) == [[3, 4, 5]]
    text.tokens += [8]
    assert lookup.propose([text]) == [[]]
    text.tokens += [2, 3]  # where they stood last
    assert lookup.propose([text]) == [[4, 7, 1]]


def test_speculation_pauses_where_few_draft_tokens_are_accepted() -> None:
    throttle = SpeculationThrottle()
    assert throttle.allows()
    throttle.record(16, 1)
    assert not any(throttle.allows() for _ in range(32))
    assert throttle.allows()
    throttle.record(16, 12)
    assert throttle.allows()
    assert (throttle.draft_tokens, throttle.accepted_tokens) == (32, 13)
