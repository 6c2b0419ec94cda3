"""What a model asks of generate(): given where it can be, else told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from standins import tiny_models

from modelcompose_jupyter.models import ModelCache, ModelSpec

from ..conftest import ask, done
from ..test_generation import PROMPTS, reference
from .conftest import change


@pytest.mark.parametrize(
    "values",
    [{"stop_strings": ["x"] * 200_000}, {"stop_strings": [["a"]]}, {"stop_strings": ["x" * 20_000]},
     {"eos_token_id": list(range(200_000))}, {"bad_words_ids": [[1]] * 20_000},
     {"sequence_bias": [[[1], 1.0]] * 20_000}, {"temperature": float("nan")},
     {"suppress_tokens": [10**30] * 500}],
    ids=lambda values: next(iter(values)),
)  # fmt: skip
def test_settings_of_generation_are_bounded(
    values: dict[str, Any], folder: Path, cache: ModelCache
) -> None:
    change(folder, "generation_config.json", **values)
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        result = ask(lease, max_output_length=2)
    assert any(next(iter(values)) in warning for warning in result.warnings)


LEFT_OUT: list[tuple[dict[str, object], dict[str, object], bool]] = [
    # what the model's own settings ask for, the run, and whether the run lacks something
    ({"penalty_alpha": 0.6, "top_k": 4}, {}, True),
    ({"penalty_alpha": 0.6, "top_k": 4}, {"num_beams": 2}, False),
    ({"penalty_alpha": 0.0}, {}, False),
    ({"penalty_alpha": "x"}, {}, True),
    ({"dola_layers": "high"}, {}, True),
    ({"num_beam_groups": 2, "diversity_penalty": 0.5}, {"num_beams": 2}, True),
    ({"num_beam_groups": 2, "diversity_penalty": 0.5}, {}, False),
    ({"num_beam_groups": 1, "diversity_penalty": 0.0}, {"num_beams": 2}, False),
    ({"force_words_ids": [[5]]}, {}, True),
    ({"constraints": [1]}, {}, True),
    ({"low_memory": True}, {"num_beams": 2}, True),
    ({"prompt_lookup_num_tokens": 3}, {}, True),
    ({"assistant_early_exit": 1}, {}, True),
    ({"num_assistant_tokens": 5, "assistant_confidence_threshold": 0.4}, {}, False),
    ({"custom_generate": "owner/code"}, {}, True),
    ({"token_healing": True}, {}, True),
    ({"cache_implementation": "hybrid"}, {}, False),
    ({"cache_implementation": "quantized"}, {}, True),
    ({"cache_implementation": "bogus"}, {}, True),
    ({"cache_config": [1], "compile_config": 3, "max_length": "x"}, {}, False),
    ({"watermarking_config": {"bias": "x"}}, {}, True),
    ({"watermarking_config": {"context_width": -1}}, {}, True),
    ({"unheard_of": 1}, {}, True),
    ({"validate": 1, "update": 2, "": 3}, {}, True),
    ({"temperature": [0.7]}, {}, True),
    ({"repetition_penalty": 0}, {}, True),
    ({"repetition_penalty": float("nan")}, {}, True),
    ({"no_repeat_ngram_size": "3"}, {}, True),
    ({"bad_words_ids": [[]]}, {}, True),
    ({"bad_words_ids": [[99999]]}, {}, True),
    ({"bad_words_ids": [], "suppress_tokens": []}, {}, False),
    ({"suppress_tokens": ["a"]}, {}, True),
    ({"suppress_tokens": list(range(400))}, {}, True),
    ({"sequence_bias": {"5": 1.0}}, {}, True),
    ({"exponential_decay_length_penalty": [5]}, {}, True),
    ({"forced_eos_token_id": 99999}, {}, True),
    ({"eos_token_id": "</s>"}, {}, True),
    ({"eos_token_id": [2, [3]]}, {}, True),
    ({"eos_token_id": 99999}, {}, False),
    ({"pad_token_id": -1}, {"num_beams": 2}, False),
    ({"pad_token_id": 99999}, {"num_beams": 2}, True),
    ({"stop_strings": [5]}, {}, True),
    ({"min_length": "5"}, {}, True),
    ({"early_stopping": "sometimes"}, {"num_beams": 2}, True),
    ({"num_return_sequences": 3, "return_dict_in_generate": True}, {}, False),
]


@pytest.mark.parametrize(("options", "asked", "lacks"), LEFT_OUT, ids=lambda value: str(value)[:60])
def test_what_a_model_asks_of_generate_fails_no_run(
    options: dict[str, object],
    asked: dict[str, object],
    lacks: bool,
    folder_of: Callable[[str], Path],
    tmp_path: Path,
    cache: ModelCache,
) -> None:
    folder = Path(shutil.copytree(folder_of("llama"), tmp_path / "m"))
    _, plain = reference(folder, PROMPTS[0], max_new_tokens=8, **asked)
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | options))
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        for _ in range(2):
            result = ask(lease, PROMPTS[0], do_sample=False, max_output_length=8, **asked)
            assert result.texts == [plain]
            said = [text for text in result.warnings if "generation_config.json" in text]
            assert len(said) == lacks
            assert not lacks or next(iter(options)) in said[0]
        ask(lease, seed=1, num_return_sequences=2, max_output_length=4)


def test_sampling_in_place_of_a_contrastive_search_is_told(
    tmp_path: Path, cache: ModelCache
) -> None:
    folder = tiny_models.save(tmp_path / "m", generation={"penalty_alpha": 0.6})
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        (warning,) = ask(lease, seed=1, max_output_length=4).warnings
    assert "penalty_alpha" in warning


@pytest.mark.parametrize("content", ["[]", "5", "null", "{}"])
def test_own_settings_that_are_no_mapping(
    content: str, folder_of: Callable[[str], Path], tmp_path: Path, cache: ModelCache
) -> None:
    folder = Path(shutil.copytree(folder_of("llama"), tmp_path / "m"))
    (folder / "generation_config.json").write_text(content)
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        warnings = ask(lease, do_sample=False, max_output_length=4).warnings
        assert len(warnings) == (content != "{}")


def test_own_settings_of_old_models_are_in_the_config(
    folder_of: Callable[[str], Path], tmp_path: Path, cache: ModelCache
) -> None:
    folder = Path(shutil.copytree(folder_of("llama"), tmp_path / "m"))
    (folder / "generation_config.json").unlink()
    path = folder / "config.json"
    old = {"no_repeat_ngram_size": 1, "penalty_alpha": 0.6, "top_k": 4, "unheard_of": 1}
    path.write_text(json.dumps(json.loads(path.read_text()) | old))
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        result = ask(lease, "fox", do_sample=False, max_output_length=20, include_prompt=False)
    assert [text for text in result.warnings if "penalty_alpha" in text] == result.warnings
    _, text = reference(folder_of("llama"), "fox", max_new_tokens=20, no_repeat_ngram_size=1)
    assert result.texts == [text.removeprefix("fox")]


def test_guidance_needs_a_decoder_alone(tmp_path: Path, cache: ModelCache) -> None:
    for architecture, lacks in (("llama", False), ("t5", True)):
        folder = tiny_models.save(tmp_path / architecture, architecture)
        path = folder / "generation_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"guidance_scale": 1.5}))
        with done(cache.acquire(ModelSpec(str(folder)))) as lease:
            result = ask(lease, do_sample=False, max_output_length=4)
            assert any("guidance_scale" in text for text in result.warnings) is lacks
