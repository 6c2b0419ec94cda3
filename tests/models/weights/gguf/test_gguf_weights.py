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
from modelcompose_jupyter.models.native.decoder import Decoder, Parts, token_array
from modelcompose_jupyter.models.native.numbers import Kind
from modelcompose_jupyter.models.weights import decoder_config, native_loader
from modelcompose_jupyter.models.weights.gguf import container, repack
from modelcompose_jupyter.models.weights.gguf import model as gguf_model
from modelcompose_jupyter.models.weights.gguf.dequantize import dequantized
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
def typed(wide: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Writes that model with matrices of a type."""
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


FLOATS = {"Q4_1": (0, 2), "Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
"""Where blocks have numbers in float16; those of other types begin with one."""


@pytest.mark.parametrize("type", sorted(repack.FORMS))
@pytest.mark.parametrize("outputs", [16, 40, 1])
def test_codes_are_the_same_in_our_order(type: str, outputs: int) -> None:
    (own,) = (each for each in container.TYPES.values() if each.name == type)
    draw = np.random.default_rng(outputs)
    blocks = draw.integers(0, 256, (outputs, 3, own.size), np.uint8)
    if type == "MXFP4":
        blocks[..., 0] = draw.integers(104, 144, blocks.shape[:2])
    for place in () if type == "MXFP4" else FLOATS.get(type, (0,)):
        scales = draw.normal(0, 0.01, blocks.shape[:2]).astype(np.float16)
        blocks[..., place : place + 2] = scales[..., None].view(np.uint8)
    assert repack.is_exact(own, blocks)
    inputs = 3 * own.block
    room = np.empty(repack.FORMS[type].size(outputs, inputs), np.uint8)
    made = repack.repacked(own, blocks, room)
    expected = dequantized(own, blocks).reshape(outputs, inputs)
    assert np.array_equal(made.as_float32(), expected)
    assert np.array_equal(repack.found(own, outputs, inputs, room).as_float32(), expected)


def test_scales_that_are_no_float16_are_not_rounded() -> None:
    blocks = np.full((4, 2, 17), 60, np.uint8)  # 2 ** -68
    assert not repack.is_exact(container.TYPES[39], blocks)


@pytest.mark.parametrize(
    ("type", "precision", "mapped"),
    [("F32", "float32", True), ("F16", "float16", True), ("BF16", "bfloat16", True),
     ("Q8_0", "int8 (Q8_0)", False), ("Q4_0", "int4 (Q4_0)", False),
     ("MXFP4", "int4 (MXFP4)", False), ("Q4_K", "int4 (Q4_K)", False),
     ("Q6_K", "int8 (Q6_K)", False), ("Q3_K", "bfloat16 (Q3_K)", False)],
)  # fmt: skip
def test_what_becomes_of_weights_is_said(
    typed: Callable[[str], Path], type: str, precision: str, mapped: bool, cache: ModelCache
) -> None:
    with done(cache.acquire(ModelSpec(str(typed(type))))) as lease:
        info = lease.info
        assert (info.driver, info.precision) == ("native", precision)
        if mapped:  # of queries and keys rows change places, so they are copies; norms are, too
            assert 0.75 < info.mapped_bytes / info.memory_bytes < 0.95
        if precision.startswith("int"):
            bits = 9 if "int8" in precision else 5
            assert info.memory_bytes < info.parameters * bits / 8
        assert ask(lease, max_output_length=5).usage["generated"] == 5


def with_the_same_weights(file: Path, original: Path, folder: Path) -> Path:
    """A folder whose weights are what those of a file stand for."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(original).save_pretrained(folder)
    AutoTokenizer.from_pretrained(original).save_pretrained(folder)
    (stored,) = folder.glob("*.safetensors")
    content = np.fromfile(file, np.uint8)
    state = load_file(stored)
    for name, (_, each) in gguf_model.read([file]).tensors.items():
        raw = content[each.begin : each.begin + each.size]
        state[name] = torch.from_numpy(weights_of(each, raw, "float32").copy())
    save_file(state, stored, {"format": "pt"})
    return folder


@pytest.mark.parametrize("type", ["Q8_0", "Q4_K", "Q6_K", "MXFP4"])
def test_texts_are_those_of_a_folder_with_the_same_weights(
    typed: Callable[[str], Path], wide: Path, tmp_path: Path, cache: ModelCache, type: str
) -> None:
    file = typed(type)
    folder = with_the_same_weights(file, wide, tmp_path / "same")
    for precision in ("float32", "bfloat16"):
        assert texts_of(cache, file, precision=precision) == texts_of(
            cache, folder, precision=precision
        )


@pytest.mark.parametrize("family", ["llama", "phi3", "gemma3_text", "lfm2"])
@pytest.mark.parametrize("type", sorted(repack.FORMS))
def test_scores_of_codes_are_those_of_their_numbers(
    tmp_path: Path, cache: ModelCache, family: str, type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 256 if type.endswith("K") else 32  # rows of blocks
    options = {**FAMILIES[family], "hidden_size": size, "intermediate_size": max(64, size)}
    options |= {"num_attention_heads": size // options.get("head_dim", 8)}
    folder = tiny_models.save(tmp_path / "m", family, **options)
    file = gguf_files.save(tmp_path / f"{type}.gguf", folder, type)
    found = {}
    for precision in ("auto", "float32", "auto"):  # the second time the codes are kept already
        spec = ModelSpec(str(file), precision=precision)
        source = ResolvedSource(file.parent, parts=(file,))
        plan = native_loader.plan(spec, source)
        loaded = native_loader.load(plan, lambda _: None)
        assert loaded.decoder is not None
        assert loaded.decoder.has_codes == (precision == "auto")
        found.setdefault(precision, []).append(scores_of(loaded.decoder))
    assert np.array_equal(*found["auto"])
    (exact,) = found["float32"]
    # Inputs are rounded to 16 bits, keys and values to float16.
    assert np.abs(found["auto"][0] - exact).max() < 5e-3 * np.abs(exact).max()


def scores_of(parts: Parts) -> np.ndarray:
    """Those of the next token at each place of a text."""
    decoder = Decoder(parts)
    ids = [5, 17, 200, 3, 3, 90, 41]
    kept = np.zeros(16 * parts.kept_layout.token_bytes, np.uint8)
    tokens = token_array(len(ids))
    tokens["kept"], tokens["capacity"] = kept.ctypes.data, 16
    tokens["position"], tokens["id"] = np.arange(len(ids)), ids
    return decoder.step(tokens, range(len(ids)), 1)


def test_weights_that_are_no_codes_stand_beside_those_that_are(
    wide: Path, tmp_path: Path, cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in files whose head has a type that we have no codes for."""

    def add(writer: Any, name: str, weights: np.ndarray, type: str) -> None:
        plain(writer, name, weights, "Q3_K" if name == "output.weight" else type)

    plain = gguf_files.add_tensor
    monkeypatch.setattr(gguf_files, "add_tensor", add)
    file = gguf_files.save(tmp_path / "m.gguf", wide, "Q4_0")
    folder = with_the_same_weights(file, wide, tmp_path / "same")
    with done(cache.acquire(ModelSpec(str(file)))) as lease:
        assert lease.info.precision == "float32 (Q3_K), int4 (Q4_0)"
    assert texts_of(cache, file)[1] == texts_of(cache, folder, precision="float32")[1]


def test_a_few_codes_among_others_are_numbers_too(
    wide: Path, tmp_path: Path, cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(writer: Any, name: str, weights: np.ndarray, type: str) -> None:
        plain(writer, name, weights, "Q8_0" if "attn" in name else type)

    plain = gguf_files.add_tensor
    monkeypatch.setattr(gguf_files, "add_tensor", add)
    file = gguf_files.save(tmp_path / "m.gguf", wide, "Q3_K")
    with done(cache.acquire(ModelSpec(str(file)))) as lease:
        assert lease.info.precision == "bfloat16 (Q3_K), bfloat16 (Q8_0)"
        assert lease.info.memory_bytes < 2.1 * lease.info.parameters


def test_codes_may_be_made_of_weights_that_are_others(
    typed: Callable[[str], Path], wide: Path, tmp_path: Path, cache: ModelCache
) -> None:
    file = typed("Q4_K")
    folder = with_the_same_weights(file, wide, tmp_path / "same")
    with done(cache.acquire(ModelSpec(str(file), quantization="int8"))) as lease:
        assert lease.info.precision == "int8"
    assert texts_of(cache, file, quantization="int8") == texts_of(
        cache, folder, quantization="int8", precision="float32"
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


def test_settings_of_sampling_are_those_that_can_be(tmp_path: Path, folder_of: FolderOf) -> None:
    def change(writer: Any) -> None:
        writer.add_float32("general.sampling.penalty_repeat", 1.5)
        writer.add_float32("general.sampling.min_p", 7.0)

    file = gguf_files.save(tmp_path / "m.gguf", folder_of("llama"), change=change)
    defaults = gguf_model.read([file]).defaults
    assert (defaults.repetition_penalty, defaults.min_p) == (1.5, None)


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
    error = saved(lambda writer: writer.add_type("adapter"))
    assert "is no model: it says that it is of the type 'adapter'" in error.message
    error = saved(lambda writer: writer.tensors[0].pop("blk.1.ffn_up.weight"))
    assert error.message.endswith("is damaged: it has no model.layers.1.mlp.up_proj.weight")
    error = saved(lambda writer: writer.add_expert_count(8))
    assert "asks for llama.expert_count" in error.message
    scaled = saved(lambda writer: writer.add_rope_scaling_type(gguf.RopeScalingType.YARN))
    assert "positions are of another kind ('yarn')" in scaled.message
    extra = np.zeros((4, 4), np.float32)
    error = saved(lambda writer: writer.add_tensor("blk.0.attn_sinks.weight", extra))
    assert "does not have: 'blk.0.attn_sinks.weight'" in error.message
