"""Weights and settings of GGUF files: those of the original model, or what the format gives."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from standins import gguf_files, tiny_models

from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.models.native import numbers
from modelcompose_jupyter.models.native.numbers import Kind
from modelcompose_jupyter.models.weights import decoder_config, native_loader
from modelcompose_jupyter.models.weights.gguf import model as gguf_model
from modelcompose_jupyter.models.weights.gguf.weights import weights_of
from modelcompose_jupyter.models.weights.source import ResolvedSource

from ...conftest import ask, done
from .test_gguf_models import FAMILIES, texts_of

TYPES = (
    "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K",
    "IQ4_NL", "MXFP4", "Q2_K", "Q3_K", "IQ4_XS",
)  # fmt: skip
FolderOf = Callable[[str], Path]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose rows are long enough for all types."""
    folder = tmp_path_factory.mktemp("wide") / "m"
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 1}
    return tiny_models.save(folder, "llama", **sizes)


@pytest.fixture
def typed(wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes that model with matrices of a type."""

    def add(writer: Any, name: str, weights: np.ndarray, type: str) -> None:
        if weights.ndim == 2 and type in gguf_files.SCALES:
            kind = gguf.GGMLQuantizationType[type]
            writer.add_tensor(
                name, gguf_files.random_blocks(weights.shape, type, len(name)), raw_dtype=kind
            )
        else:
            plain(writer, name, weights, type)

    plain = gguf_files.add_tensor
    monkeypatch.setattr(gguf_files, "add_tensor", add)
    return lambda type: gguf_files.save(tmp_path / f"{type}.gguf", wide, type)


def by_the_format(file: Path) -> dict[str, np.ndarray]:
    """The tensors of a file, as its own package reads them."""
    tensors = gguf.GGUFReader(file).tensors
    found = {}
    for each in tensors:
        shape = tuple(reversed(each.shape.tolist()))
        data = each.data.view(np.uint8) if each.tensor_type.name == "BF16" else each.data
        found[each.name] = gguf.quants.dequantize(data, each.tensor_type).reshape(shape)
    return found


def own(file: Path, kind: Kind) -> dict[str, np.ndarray]:
    """The tensors as they are loaded, by their names in the file; in float32 again."""
    found = {}
    content = np.fromfile(file, np.uint8)
    for _, each in gguf_model.read([file]).tensors.values():
        raw = content[each.begin : each.begin + each.size]
        loaded = weights_of(each, raw, kind)
        assert loaded.dtype == numbers.dtype(kind)
        assert loaded.shape == each.shape
        wide = numbers.as_float32(loaded, kind)
        name = each.stored.name
        found[name] = gguf_files.swapped(wide, each.heads) if each.heads else wide
    return found


@pytest.mark.parametrize("type", TYPES)
def test_weights_are_what_the_format_says(typed: Callable[[str], Path], type: str) -> None:
    file = typed(type)
    theirs, ours = by_the_format(file), own(file, "float32")
    assert theirs.keys() == ours.keys()
    for name, expected in theirs.items():
        assert np.array_equal(ours[name], expected), name
    for name, rounded in own(file, "bfloat16").items():
        assert np.array_equal(rounded, numbers.rounded(theirs[name], "bfloat16")), name


@pytest.mark.parametrize(
    ("type", "kind", "is_mapped"),
    [("F32", "float32", True), ("F16", "float16", True), ("BF16", "bfloat16", True),
     ("Q8_0", "bfloat16", False), ("Q6_K", "bfloat16", False)],
)  # fmt: skip
def test_numbers_stay_in_the_file_and_codes_widen(
    typed: Callable[[str], Path], type: str, kind: str, is_mapped: bool, cache: ModelCache
) -> None:
    with done(cache.acquire(ModelSpec(str(typed(type))))) as lease:
        info = lease.info
        assert (info.driver, info.precision) == ("native", kind)
        # Of queries and keys rows change places, so they are copies; norms are float32 always.
        share = info.mapped_bytes / info.memory_bytes
        assert 0.75 < share < 0.95 if is_mapped else share == 0
        assert ask(lease, max_output_length=5).usage["generated"] == 5


@pytest.mark.parametrize("type", ["Q8_0", "Q4_K", "Q6_K", "MXFP4"])
def test_texts_are_those_of_a_folder_with_the_same_weights(
    typed: Callable[[str], Path], wide: Path, tmp_path: Path, cache: ModelCache, type: str
) -> None:
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = typed(type)
    model = AutoModelForCausalLM.from_pretrained(wide)
    model.save_pretrained(tmp_path / "same")
    AutoTokenizer.from_pretrained(wide).save_pretrained(tmp_path / "same")
    (stored,) = (tmp_path / "same").glob("*.safetensors")
    content = np.fromfile(file, np.uint8)
    state = load_file(stored)
    for name, (_, each) in gguf_model.read([file]).tensors.items():
        raw = content[each.begin : each.begin + each.size]
        state[name] = torch.from_numpy(weights_of(each, raw, "float32").copy())
    save_file(state, stored, {"format": "pt"})
    for precision in ("float32", "bfloat16"):
        assert texts_of(cache, file, precision=precision) == texts_of(
            cache, tmp_path / "same", precision=precision
        )


def same_but(ours: decoder_config.DecoderConfig, theirs: decoder_config.DecoderConfig) -> None:
    for field in dataclasses.fields(theirs):
        if field.name in ("norm_offset", "precision", "special_tokens", "rotations"):
            continue
        assert getattr(ours, field.name) == getattr(theirs, field.name), field.name
    assert ours.rotations.keys() == theirs.rotations.keys()
    for name, rotation in theirs.rotations.items():
        assert np.array_equal(ours.rotations[name].frequencies, rotation.frequencies)


@pytest.mark.parametrize("family", FAMILIES)
def test_settings_are_those_of_config_json(tmp_path: Path, family: str) -> None:
    folder = tiny_models.save(tmp_path / "m", family, **FAMILIES[family])
    file = gguf_files.save(tmp_path / "m.gguf", folder)
    content = json.loads((folder / "config.json").read_text())
    theirs = decoder_config.read(content)
    ours = gguf_model.read([file]).config.decoder
    if family == "mistral":  # which is llama in GGUF
        theirs = dataclasses.replace(theirs, class_name="LlamaForCausalLM")
    same_but(ours, theirs)


ROTATIONS: dict[str, dict[str, Any]] = {
    "llama 3.1": {
        "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    },
    "llama 3.2": {
        "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    },
    "linear": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.5},
    "plain": {"rope_type": "default", "rope_theta": 1_000_000.0},
}  # fmt: skip


@pytest.mark.parametrize("rope", ROTATIONS.values(), ids=list(ROTATIONS))
def test_positions_are_the_same_to_the_last_bit(tmp_path: Path, rope: dict[str, Any]) -> None:
    folder = tiny_models.save(
        tmp_path / "m", "llama", head_dim=64, rope_parameters=rope, max_position_embeddings=8192
    )
    file = gguf_files.save(tmp_path / "m.gguf", folder)
    theirs = decoder_config.read(json.loads((folder / "config.json").read_text()))
    same_but(gguf_model.read([file]).config.decoder, theirs)


def test_factors_that_follow_no_rule_are_taken_as_they_are(
    tmp_path: Path, folder_of: FolderOf
) -> None:
    factors = np.array([1, 3, 2, 7], np.float32)
    folder = folder_of("llama")
    plain = gguf_files.save(tmp_path / "plain.gguf", folder)
    file = gguf_files.save(
        tmp_path / "m.gguf", folder, change=lambda w: w.add_tensor("rope_freqs.weight", factors)
    )
    (before,) = gguf_model.read([plain]).config.decoder.rotations.values()
    (after,) = gguf_model.read([file]).config.decoder.rotations.values()
    assert np.array_equal(after.frequencies, before.frequencies / factors)


def refused(file: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        spec = ModelSpec(str(file))
        try:
            native_loader.plan(spec, ResolvedSource(file.parent, parts=(file,)))
        except decoder_config.Other as other:
            pytest.fail(f"left to torch: {other}")
    return caught.value


def test_what_does_not_run_is_named(tmp_path: Path, folder_of: FolderOf) -> None:
    folder = folder_of("llama")

    def saved(change: Callable[[Any], object], type: str = "F32") -> ModelError:
        return refused(gguf_files.save(tmp_path / "m.gguf", folder, type, change=change))

    def architecture(writer: Any) -> None:
        writer.kv_data[0]["general.architecture"].value = "gpt2"

    error = saved(architecture)
    assert "of the architecture 'gpt2' do not run here" in error.message
    assert "llama, qwen2, qwen3, smollm3, phi3, gemma3" in (error.hint or "")
    error = saved(lambda writer: writer.add_expert_count(8))
    assert "asks for llama.expert_count" in error.message
    scaled = saved(lambda writer: writer.add_rope_scaling_type(gguf.RopeScalingType.YARN))
    assert "positions are of another kind (yarn)" in scaled.message
    extra = np.zeros((4, 4), np.float32)
    error = saved(lambda writer: writer.add_tensor("blk.0.attn_sinks.weight", extra))
    assert "does not have: blk.0.attn_sinks.weight" in error.message
