"""config.json of decoders in C: read as transformers reads it, or left to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from standins import tiny_models

from modelcompose_jupyter.models import ModelSpec
from modelcompose_jupyter.models.engine import native_layers
from modelcompose_jupyter.models.native.linear import Linear
from modelcompose_jupyter.models.native.parts import Norm
from modelcompose_jupyter.models.weights import (
    decoder_config,
    loader,
    native_loader,
    source,
    torch_loader,
)
from modelcompose_jupyter.models.weights.config_reader import Other
from modelcompose_jupyter.models.weights.native_loader import NativePlan

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma3": ("gemma3_text", {}),
    "gemma3 tied": ("gemma3_text", {"tie_word_embeddings": True, "attention_bias": True}),
    "gemma3 by pattern": ("gemma3_text", {"layer_types": None, "num_hidden_layers": 7}),
    "llama": ("llama", {}),
    "llama tied": ("llama", {"tie_word_embeddings": True}),
    "llama biased": ("llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 16}),
    "llama 3": ("llama", {"rope_parameters": LLAMA3}),
    "llama slowed": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
    ),
    "mistral": ("mistral", {}),
    "mistral unbounded": ("mistral", {"sliding_window": None}),
    "phi3": ("phi3", {}),
    "phi3 partial": ("phi3", {"partial_rotary_factor": 0.5, "sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen2 sliding": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", {}),
    "qwen3 biased": ("qwen3", {"attention_bias": True}),
    "smollm3": ("smollm3", {}),
    "smollm3 sliding": (
        "smollm3",
        {"use_sliding_window": True, "sliding_window": 16, "no_rope_layers": [1, 0, 0, 1]},
    ),
}


def plan(folder: Path, **options: Any) -> Any:
    spec = ModelSpec(str(folder), **options)
    return loader.plan(spec, source.resolve(spec, _ignore), _ignore)


def _ignore(_: object) -> None:
    pass


def native(folder: Path, **options: Any) -> NativePlan:
    found = plan(folder, **options)
    assert isinstance(found, NativePlan)
    return found


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", MODELS)
def test_a_decoder_from_its_files_is_that_of_transformers(
    name: str, kind: str, tmp_path: Path
) -> None:
    """The same numbers in each of its parts, whoever has read them."""
    architecture, options = MODELS[name]
    tiny_models.save(tmp_path, architecture, vectors=True, **options)
    mine = native_loader.load(native(tmp_path, precision=kind), _ignore)
    spec = ModelSpec(str(tmp_path), precision=kind)
    theirs = torch_loader.load(
        torch_loader.plan(spec, source.resolve(spec, _ignore), _ignore), _ignore
    )
    assert mine.decoder is not None
    wanted = native_layers.parts(theirs.model)
    for part in ("kind", "activation", "epsilon"):
        assert getattr(mine.decoder, part) == getattr(wanted, part), part
    assert mine.decoder.embedding_scale == wanted.embedding_scale
    assert_same(mine.decoder.norm, wanted.norm)
    assert_same(mine.decoder.head, wanted.head)
    if mine.decoder.embedding is not None:
        assert_same(mine.decoder.embedding, wanted.embedding)
    for own, other in zip(mine.decoder.layers, wanted.layers, strict=True):
        for part in vars(own):
            if part != "rotation":
                assert_same(getattr(own, part), getattr(other, part))
        assert (own.rotation is None) == (other.rotation is None)
        if own.rotation is not None:
            tables = mine.decoder.rotations(300)[own.rotation]
            for one, two in zip(tables, wanted.rotations(300)[str(other.rotation)], strict=True):
                np.testing.assert_allclose(
                    one, two, atol={"bfloat16": 0.008, "float16": 0.001}.get(kind, 5e-5)
                )
    for fact in ("context", "class_name", "device", "precision", "parameters", "stop_ids",
                 "stop_sequences", "encoder_decoder"):  # fmt: skip
        assert getattr(mine, fact) == getattr(theirs, fact), fact
    for default in vars(mine.defaults):
        if default != "stop_strings":
            assert getattr(mine.defaults, default) == getattr(theirs.defaults, default), default


def assert_same(one: Any, two: Any) -> None:
    """To the last bit, but for norms that count from one, which torch rounds to bfloat16."""
    if isinstance(one, Linear):
        assert one.kind == two.kind
        assert np.array_equal(one.weights, two.weights)
        assert_same(one.bias, two.bias)
    elif isinstance(one, Norm):
        assert_same(vars(one), vars(two))
    elif isinstance(one, dict):
        assert_same(list(one.items()), list(two.items()))
    elif isinstance(one, list | tuple):
        for part, other in zip(one, two, strict=True):
            assert_same(part, other)
    elif isinstance(one, np.ndarray) and one.dtype == np.float32:
        np.testing.assert_allclose(one, two, rtol=0.004)
    elif isinstance(one, np.ndarray):
        assert np.array_equal(one, two)
    else:
        assert one == two


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32])
def test_weights_are_rounded_as_torch_rounds_them(stored: torch.dtype, tmp_path: Path) -> None:
    tiny_models.save(tmp_path)
    model = tiny_models.make().to(stored)
    model.save_pretrained(tmp_path)
    for kind in ("float32", "bfloat16", "float16"):
        decoder = native_loader.load(native(tmp_path, precision=kind), _ignore).decoder
        assert decoder is not None
        weight = model.model.layers[0].mlp.down_proj.weight.to(getattr(torch, kind))
        assert np.array_equal(decoder.layers[0].down.weights, native_layers._array(weight))


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "opt"}, {"hidden_act": "quick_gelu"}, {"intermediate_size": 63},
        {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}},
        {"quantization_config": {"bits": 4}}, {"architectures": ["LlamaForTokenClassification"]},
        {"num_hidden_layers": None}, {"num_hidden_layers": -1}, {"vocab_size": "many"},
        {"rms_norm_eps": "small"}, {"layer_types": 5}, {"eos_token_id": "</s>"},
        {"partial_rotary_factor": 0.5},
        {"final_logit_softcapping": 30.0}, {"num_key_value_heads": 3}, {"text_config": {}},
        {"rope_scaling": 5}, {"rope_scaling": {"rope_type": "llama3", "factor": "x"}},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_what_is_not_known_here_is_left_to_transformers(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    tiny_models.save(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    assert decoder_config.read(content).layers == 2
    with pytest.raises(Other):
        decoder_config.read({**content, **changes})


@pytest.mark.parametrize("content", [None, [], "llama", {}, {"model_type": ["llama"]}])
def test_what_is_no_config_is_left_to_transformers(content: Any) -> None:
    with pytest.raises(Other):
        decoder_config.read(content)


def _misses_a_tensor(folder: Path) -> None:
    model = tiny_models.make()
    state = {k: v for k, v in model.state_dict().items() if "layers.1.mlp.up" not in k}
    model.save_pretrained(folder, state_dict=state)


def _has_another_shape(folder: Path) -> None:
    tiny_models.make(intermediate_size=32).save_pretrained(folder)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "intermediate_size": 64}))


def _asks_for_more_than_sampling(folder: Path) -> None:
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "no_repeat_ngram_size": 2}))


def _generates_its_own_way(folder: Path) -> None:
    (folder / "custom_generate").mkdir()


@pytest.mark.parametrize(
    "change",
    [
        _misses_a_tensor,
        _has_another_shape,
        _asks_for_more_than_sampling,
        _generates_its_own_way,
    ],
    ids=lambda each: each.__name__[1:],
)
def test_other_files_are_left_to_transformers(change: Any, tmp_path: Path) -> None:
    tiny_models.save(tmp_path)
    native(tmp_path)
    change(tmp_path)
    spec = ModelSpec(str(tmp_path))
    with pytest.raises(Other):
        native_loader.plan(spec, source.resolve(spec, _ignore))


def test_what_only_torch_can_do_is_done_there(tmp_path: Path) -> None:
    tiny_models.save(tmp_path)
    spec = ModelSpec(str(tmp_path), draft_model="bundled:storyteller")
    with pytest.raises(Other):
        native_loader.plan(spec, source.resolve(spec, _ignore))


def test_models_in_shards_are_read_from_all_of_them(tmp_path: Path) -> None:
    tiny_models.save(tmp_path)
    whole = native_loader.load(native(tmp_path), _ignore).decoder
    (tmp_path / "model.safetensors").unlink()
    tiny_models.make().save_pretrained(tmp_path, max_shard_size="20kB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    parts = native_loader.load(native(tmp_path), _ignore).decoder
    assert whole is not None
    assert parts is not None
    for one, two in zip(whole.layers, parts.layers, strict=True):
        assert_same(one.qkv, two.qkv)
        assert_same(one.down, two.down)
