"""Values in config.json are held against the weights, and settings are bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.models.weights import config_checks, files

from ..conftest import done
from .conftest import CONFIG, change, failure

IMPOSSIBLE: dict[str, Any] = {
    "num_hidden_layers": 3_000_000,
    "encoder": {"num_hidden_layers": 2_000},
    "num_experts": 10**9,
    "layer_types": ["full_attention"] * 2000,
    "attention_types": [[["global", "local"], 10**9]],
    "num_labels": 100_001,
    "label2id": {str(number): number for number in range(100_001)},
    "subs": [{"num_labels": 60_000}, {"num_labels": 60_000}],
    "hidden_size": 10**12,
    "vocab_size": 10**9,
    "head_dim": 1e300,
    "max_position_embeddings": 10**18,
    "text_config": {"num_hidden_layers": 3_000_000},
    "sub": [{"depth": 3_000_000}],
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_the_weights_cannot_have_is_said_with_both_numbers(
    name: str, folder: Path, cache: ModelCache
) -> None:
    change(folder, **{name: IMPOSSIBLE[name]})
    error = failure(cache, folder)
    assert (error.code, CONFIG in error.message) == ("incomplete_model", True)
    assert ", and the weights have " in error.message or ", and no model has " in error.message


@pytest.mark.parametrize(
    "values",
    [
        {"num_hidden_layers": 61, "n_routed_experts": 256, "vocab_size": 901_629},
        {"max_position_embeddings": 10_485_760, "rope_theta": 10**10, "eos_token_id": 10**7},
        {"time_step_limit": [0.0, float("inf")], "model_max_length": 10**30},
        {"num_experts": 512, "moe_intermediate_size": 1408, "image_size": 10_000},
        {"quantization_config": {"ignored_layers": ["x"] * 50_000, "group_size": 128}},
        {"id2label": {str(number): "x" for number in range(21_841)}},
        {"use_conv_bias": True, "n_inner": None, "layer_norm": True, "attention_bias": False},
        {"block_auto_adjust_ff_dim": True, "num_experts": 16_384},
        {"vocab_size_per_layer_input": 262_144, "hidden_size_per_layer_input": 256},
        {"layer_types": ["linear", "full"] * 60, "no_rope_layers": [1] * 128, "depths": [2, 27]},
    ],
)
def test_what_real_models_have_is_possible(values: dict[str, Any]) -> None:
    few = files.Weights(100_000_000, 300, 50_000_000, 100_000_000, "bfloat16")
    config_checks.check_config(Path(CONFIG), values, few)  # raises nothing
    with pytest.raises(ModelError, match="is true, and it is no number"):
        config_checks.check_config(Path(CONFIG), {**values, "num_hidden_layers": True}, few)


@pytest.mark.parametrize(
    "values",
    [{"num_hidden_layers": "a"}, {"rope_scaling": 5}, {"num_attention_heads": 0},
     {"dtype": "foo"}, {"rope_parameters": {"rope_type": "yarn", "factor": "x"}}, {"auto_map": 5},
     {"architectures": 5, "num_hidden_layers": -1}, {"quantization_config": 5},
     {"text_config": 5}, {"to_dict": 5},
     {"pad_token_id": 10**9}, {"eos_token_id": list(range(1001))}, {"model_type": ["llama"]},
     {"layer_types": 5}, {"id2label": {"a": 1}}, {"hidden_size": -4}],
    ids=lambda values: next(iter(values)),
)  # fmt: skip
def test_values_of_other_types_are_errors_of_the_model(
    values: dict[str, Any], folder: Path, cache: ModelCache
) -> None:
    change(folder, **values)
    (folder / "generation_config.json").unlink()
    with pytest.raises(ModelError) as caught:
        done(cache.acquire(ModelSpec(str(folder))))
    error = caught.value
    assert error.code in ("load_failed", "unknown_architecture", "incomplete_model")
    assert CONFIG in error.message or "architecture" in error.message
    assert len(error.message) < 2000
