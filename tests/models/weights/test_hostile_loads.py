"""Loads of models whose config.json asks for what cannot be: refused, or given up at once."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from standins import tiny_models
from transformers import (
    DogeConfig,
    DogeForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    RoFormerConfig,
    RoFormerForCausalLM,
    SeamlessM4TConfig,
    SeamlessM4TForTextToText,
)

from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.models.spec import AdapterSpec
from modelcompose_jupyter.models.tokenization import regex_safety
from modelcompose_jupyter.models.weights import config_checks, files
from modelcompose_jupyter.models.weights.model_building import building

from ..conftest import ask, done, eventually

FolderOf = Callable[[str], Path]
CONFIG = "config.json"


@pytest.fixture
def folder(folder_of: FolderOf, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder_of("llama"), tmp_path / "m"))


def change(folder: Path, name: str = CONFIG, **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def failure(folder: Path, cache: ModelCache) -> ModelError:
    with pytest.raises(ModelError) as caught:
        done(cache.acquire(ModelSpec(str(folder))))
    return caught.value


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
    error = failure(folder, cache)
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
    config_checks.check(Path(CONFIG), values, few)  # raises nothing
    with pytest.raises(ModelError, match="is true, and it is no number"):
        config_checks.check(Path(CONFIG), {**values, "num_hidden_layers": True}, few)


@pytest.mark.parametrize(
    "values",
    [
        {"hidden_size": 10**6},
        {"vocab_size": 10**6, "hidden_size": 4096},
        {"intermediate_size": 10**6, "hidden_size": 1024},
        {"head_dim": 2**19},
    ],
)
def test_memory_that_the_weights_do_not_take_is_not_filled(
    values: dict[str, Any], folder: Path, cache: ModelCache
) -> None:
    change(folder, **values)
    error = failure(folder, cache)
    assert error.code == "incomplete_model"
    assert "where its weights take 177 kB" in error.message


def test_a_table_of_positions_is_weighed_before_it_is_filled() -> None:
    with building("m", lambda: None, 10, 1000):
        row = torch.arange(2.0**20).unsqueeze(0)
        with pytest.raises(ModelError, match=r"asks for 4\.4 TB"):
            row * row.T
        with pytest.raises(ModelError, match=r"asks for 1\.0 TB"):
            torch.ones(10**6, 10**6, dtype=torch.bool)
        with pytest.raises(ModelError, match="asks for"):
            torch.zeros_like(torch.empty(10**6, 10**6, device="meta"), device="cpu")
        assert torch.empty(10**6, 10**6, device="meta").numel() == 10**12


def test_the_number_of_tensors_is_bounded() -> None:
    with (
        pytest.raises(ModelError, match="makes more than 21000 tensors of 1"),
        building("m", lambda: None, 1, 10**9),
    ):
        for _ in range(22_000):
            torch.empty(1, device="meta")


def test_parts_without_numbers_in_the_weights_are_not_built(
    folder: Path, cache: ModelCache
) -> None:
    """Experts as modules of their own, and as many tensors, which are empty."""
    nothing = {str(number): torch.zeros(0) for number in range(1000)}
    save_file(nothing | {"a": torch.zeros(10)}, folder / "model.safetensors", {"format": "pt"})
    assert files.read_weights([folder / "model.safetensors"]).tensors == 1
    settings = {
        "model_type": "nllb-moe", "architectures": ["NllbMoeForConditionalGeneration"],
        "d_model": 8, "encoder_layers": 20, "decoder_layers": 20, "encoder_attention_heads": 1,
        "decoder_attention_heads": 1, "encoder_ffn_dim": 2, "decoder_ffn_dim": 2,
        "num_experts": 1000, "encoder_sparse_step": 1, "decoder_sparse_step": 1,
        "max_position_embeddings": 64,
    }  # fmt: skip
    (folder / CONFIG).write_text(json.dumps(settings))
    assert "makes more than 20040 tensors of 1" in failure(folder, cache).message


TINY = {
    "vocab_size": 400, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "max_position_embeddings": 64,
}  # fmt: skip
LESS_COMMON: dict[str, Callable[[], Any]] = {
    "doge": lambda: DogeForCausalLM(DogeConfig(**TINY)),  # rows of a tensor as experts
    "lfm2": lambda: Lfm2ForCausalLM(Lfm2Config(**TINY, layer_types=["full_attention"])),
    "roformer": lambda: RoFormerForCausalLM(RoFormerConfig(**TINY, is_decoder=True)),
    "seamless": lambda: SeamlessM4TForTextToText(
        SeamlessM4TConfig(
            vocab_size=400, hidden_size=16, encoder_layers=1, decoder_layers=1,
            encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
            decoder_ffn_dim=16, max_position_embeddings=64,
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LESS_COMMON)
def test_less_common_models_generate(name: str, cache: ModelCache, tmp_path: Path) -> None:
    torch.manual_seed(0)
    LESS_COMMON[name]().save_pretrained(tmp_path)
    tiny_models.tokenizer().save_pretrained(tmp_path)
    with done(cache.acquire(ModelSpec(str(tmp_path)))) as lease:
        assert ask(lease, max_output_length=2).usage["generated"] in (1, 2)


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
    error = failure(folder, cache)
    assert error.code in ("load_failed", "unknown_architecture", "incomplete_model")
    assert CONFIG in error.message or "architecture" in error.message
    assert len(error.message) < 2000


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


TOKENIZERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another type": lambda content: content | {"model": 5},
    "ids below zero": lambda content: content | {"added_tokens": [{"id": -1, "content": "a"}]},
    "a vocabulary of texts": lambda content: content | {"model": {"type": "BPE", "vocab": "a"}},
    "no model": lambda content: {},
    "a list": lambda content: [],
    "merges of what is not there": lambda content: content
    | {"model": content["model"] | {"merges": [["nosuch", "other"]]}},
    "a regex without an end": lambda content: content
    | {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated",
                         "invert": False}},
}  # fmt: skip


@pytest.mark.parametrize("spoil", TOKENIZERS.values(), ids=TOKENIZERS)
def test_tokenizers_that_are_none(
    spoil: Callable[[dict[str, Any]], Any], folder: Path, cache: ModelCache
) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
    assert "tokenizer" in failure(folder, cache).message


ENDLESS = """
import torch
from pathlib import Path
from transformers import LlamaForCausalLM

class Endless(LlamaForCausalLM):
    def __init__(self, config):
        super().__init__(config)
        number = torch.zeros((), device="meta")
        Path({began!r}).touch()
        while True:
            number = number + 1
"""


@pytest.fixture
def endless(folder: Path, tmp_path: Path) -> tuple[ModelSpec, Path]:
    """A model that is built without an end, and a file that is there once that has begun."""
    began = tmp_path / "began"
    (folder / "endless.py").write_text(ENDLESS.format(began=str(began)))
    change(folder, auto_map={"AutoModelForCausalLM": "endless.Endless"})
    return ModelSpec(str(folder), trust_remote_code=True), began


def test_a_load_without_end_is_given_up_and_others_go_on(
    endless: tuple[ModelSpec, Path], cache: ModelCache, folder_of: FolderOf
) -> None:
    spec, began = endless
    hostile = cache.acquire(spec)
    eventually(began.exists)
    good, left = cache.acquire(ModelSpec(str(folder_of("gpt2")))), ModelSpec(str(folder_of("t5")))
    leaving = cache.acquire(left)
    assert not good.done()
    # Who waits for its turn to build can be given up while the other one builds.
    assert leaving.cancel()
    eventually(lambda: loading(cache) == [spec.source, str(folder_of("gpt2"))])
    eventually(lambda: not any(each.name == "model t5" for each in threading.enumerate()))
    assert (hostile.done(), good.done()) == (False, False)
    # And who builds.
    assert hostile.cancel()
    with done(good) as lease:
        assert ask(lease, max_output_length=2).usage["generated"] == 2
    assert loading(cache) == [str(folder_of("gpt2"))]
    eventually(lambda: not any(each.name == "model m" for each in threading.enumerate()))
    assert torch.get_default_dtype() == torch.float32


SLOW = ["(a+)+$", "(.*)*x", "(a|a)*b", "(.?){40}x", ".?" * 40 + "x", ".*" * 6 + "x", "(?=(.+)+x)y",
        "((a{1,60}){1,60}){1,60}", "(?:\\w*\\w*)+-", "x" * 200_000, r"(?:\w+\.?)*x",
        r"(?:\w+-|\w+-)*x", r"(?:[^a]+\.)*x", r"(?i)(?:[a-z]+K)*x",
        "|".join([".*" * 4 + "x"] * 1000)]  # fmt: skip
QUICK = [
    r"(?:[^.]+\.)*(?:q_proj|v_proj)", r"(?:\w+\.)+q_proj", r"(?:[a-z0-9_]+?\.)+q_proj",
    "|".join(f"model.layers.{number}.self_attn.q_proj" for number in range(300)),
    "q_proj", "all-linear", r".*\.(q|k|v|o)_proj", r"model\.layers\.\d+\.mlp\.(up|down)_proj$", "(",
    r"^(?!.*visual).*(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj).*",
    r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)"
    r".*?(?:k_proj|v_proj|q_proj|out_proj|fc1|fc2|o_proj|linear).*?)"
    r"|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\.(?:(?:q_proj|k_proj)))",
]  # fmt: skip


def test_patterns_that_take_for_ever_are_known() -> None:
    assert [pattern for pattern in SLOW if regex_safety.is_quick(pattern)] == []
    assert [pattern for pattern in QUICK if not regex_safety.is_quick(pattern)] == []


@pytest.mark.parametrize(
    "values",
    [
        {"target_modules": "(.*)*x"},
        {"rank_pattern": {"(.*)*x": 4}},
        {"modules_to_save": ["(.*)*x"]},
        {"target_modules": "x" * 100_001},
        {"r": 10**12},
        {"r": 10**6},
        {"r": "a"},
        {"r": -1},
        {"lora_alpha": [1]},
        {"layers_to_transform": [10**30], "layers_pattern": 5},
        {"layer_replication": [[0, 10**6]]},
        {"target_modules": {"a": [1]}},
        {"task_type": 5},
    ],
    ids=lambda values: str(values)[:60],
)
def test_an_adapters_config_is_bounded(
    values: dict[str, Any], folder: Path, cache: ModelCache, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    base: Any = tiny_models.make("llama")
    get_peft_model(base, LoraConfig(target_modules=["q_proj"])).save_pretrained(adapter)
    change(adapter, "adapter_config.json", **values)
    spec = ModelSpec(str(folder), adapters=(AdapterSpec(ModelSpec(str(adapter))),))
    with pytest.raises(ModelError) as caught:
        done(cache.acquire(spec))
    assert "adapter" in caught.value.message
    if len(str(values)) > regex_safety.LONGEST:
        assert "is too long: 100001 characters" in caught.value.message


def loading(cache: ModelCache) -> list[str]:
    return [info.source for info in cache.list()]


def test_a_load_that_is_only_weighed_is_given_up_too(
    endless: tuple[ModelSpec, Path], cache: ModelCache
) -> None:
    """A quantised model is built without its weights first, to know what it takes."""
    spec, began = endless
    hostile = cache.acquire(replace(spec, quantization="int8"))
    eventually(began.exists)
    assert hostile.cancel()
    eventually(lambda: not any(each.name == "model m" for each in threading.enumerate()))
    assert loading(cache) == []
