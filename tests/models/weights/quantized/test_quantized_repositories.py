"""Repositories whose weights are stored quantised: the numbers that the formats define, in C."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from standins import quantized_models, tiny_models
from standins.quantized_models import Format

from modelcompose_jupyter import LocalHost, load
from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.models.native import numbers
from modelcompose_jupyter.models.native.codes import Codes
from modelcompose_jupyter.models.native.decoder import Parts
from modelcompose_jupyter.models.native.numbers import Kind
from modelcompose_jupyter.models.spec import AdapterSpec
from modelcompose_jupyter.models.weights import native_loader
from modelcompose_jupyter.models.weights.config_reader import Other
from modelcompose_jupyter.models.weights.decoder_files import DecoderFiles
from modelcompose_jupyter.models.weights.source import ResolvedSource

from ...conftest import ask, done
from ..conftest import change, failure
from ..gguf.test_gguf_weights import scores_of
from ..test_lora import save_adapter

GPTQ, AWQ, PACK, INT = (Format(layout) for layout in ("gptq", "awq", "pack", "int"))
INT8 = replace(INT, bits=8, group=-1, scale="BF16")
FP8 = Format("fp8", scale="BF16")
FORMATS = {
    "gptq": GPTQ,
    "gptq 64": replace(GPTQ, group=64),
    "gptq whole": replace(GPTQ, group=-1),
    "gptq uneven": replace(GPTQ, symmetric=False),
    "gptq uneven v2": replace(GPTQ, symmetric=False, offset=0),
    "gptq v2": replace(GPTQ, offset=0),
    "gptq 8": replace(GPTQ, bits=8, group=64),
    "gptq 8 uneven": replace(GPTQ, bits=8, symmetric=False),
    "awq": replace(AWQ, symmetric=False),
    "awq 64": replace(AWQ, symmetric=False, group=64),
    "pack": replace(PACK, scale="BF16"),
    "pack whole": replace(PACK, group=-1),
    "pack uneven": replace(PACK, symmetric=False, scale="BF16"),
    "pack 8": replace(PACK, bits=8, group=-1, scale="BF16"),
    "pack 8 uneven": replace(PACK, bits=8, symmetric=False),
    "int8": INT8,
    "int8 uneven": replace(INT8, symmetric=False),
    "mxfp4": Format("mxfp4"),
}
"""Those whose codes are kept."""
NUMBERS = {
    "gptq shuffled": replace(GPTQ, shuffled=True),
    "gptq shuffled uneven": replace(GPTQ, shuffled=True, symmetric=False),
    "gptq 16": replace(GPTQ, group=16),
    "pack shuffled": replace(PACK, shuffled=True),
    "fp8": FP8,
    "fp8 blocks": replace(FP8, block=(48, 40), scale="F32"),
    "fp8 large blocks": replace(FP8, block=(16, 1 << 30)),
}
"""Those that become numbers."""
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1}
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save(tmp_path_factory.mktemp("original") / "m", "llama", **SIZES)


@pytest.fixture
def write(original: Path, tmp_path: Path) -> Write:
    """Writes that model in a format."""
    return lambda format, **options: quantized_models.save(
        tmp_path / "m", original, format, **options
    )


def loaded(folder: Path, **spec: Any) -> Parts:
    decoder = native_loader.load(planned(folder, **spec), lambda _: None).decoder
    assert decoder is not None
    return decoder


def planned(folder: Path, **spec: Any) -> native_loader.NativePlan:
    return native_loader.plan(ModelSpec(str(folder), **spec), ResolvedSource(folder))


def tensors_of(folder: Path) -> DecoderFiles:
    return planned(folder).found


def raw_of(found: DecoderFiles, name: str) -> np.ndarray:
    path, tensor = found.tensors[name]
    return np.fromfile(path, np.uint8)[tensor.begin : tensor.begin + tensor.size]


def same(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-same")


@pytest.mark.parametrize("name", FORMATS | NUMBERS)
def test_weights_are_what_the_format_says(write: Write, name: str) -> None:
    folder = write((FORMATS | NUMBERS)[name])
    expected = load_file(same(folder) / "model.safetensors")
    found = tensors_of(folder)
    quantized = [each for each in found.tensors if found.tensors[each][1].kind is None]
    assert len([each for each in quantized if each.endswith("proj.weight")]) == 7
    for each in (each for each in quantized if each.endswith("proj.weight")):
        tensor, raw, right = found.tensors[each][1], raw_of(found, each), expected[each].numpy()
        assert np.array_equal(tensor.numbers(raw, "float32"), right)
        half = numbers.as_float32(tensor.numbers(raw, "bfloat16"), "bfloat16")
        assert np.array_equal(half, numbers.rounded(right, "bfloat16"))
        assert (tensor.form is not None) == (name in FORMATS)
        if tensor.form is None:
            continue
        assert tensor.has_exact_codes(raw)
        for rows in (slice(0, len(right)), slice(8, 31)):
            room = np.empty(tensor.form.size(rows.stop - rows.start, right.shape[1]), np.uint8)
            made = tensor.codes(raw, rows, room)
            assert np.array_equal(made.as_float32(), right[rows])
            assert np.array_equal(tensor.kept_codes(rows, room).as_float32(), right[rows])


@pytest.mark.parametrize("name", FORMATS | NUMBERS)
def test_scores_are_those_of_the_numbers(write: Write, name: str) -> None:
    folder = write((FORMATS | NUMBERS)[name])
    found = []
    for source in (folder, folder, same(folder)):  # the second time the codes are kept already
        decoder = loaded(source)
        assert decoder.has_codes == (name in FORMATS and source == folder)
        found.append(scores_of(decoder))
    first, again, exact = found
    assert np.array_equal(first, again)
    # Of codes, inputs are rounded to 16 bits, keys and values to float16.
    tolerance = 5e-3 if name in FORMATS else 1e-6
    assert np.abs(first - exact).max() < tolerance * np.abs(exact).max()


@pytest.mark.parametrize("architecture", ["qwen2", "mistral", "phi3", "gpt_neox", "gpt2"])
def test_families(tmp_path: Path, architecture: str) -> None:
    """With biases, and with queries, keys and values in one tensor."""
    sizes = {"n_embd": 64, "n_layer": 1} if architecture == "gpt2" else SIZES
    original = tiny_models.save(tmp_path / "o", architecture, **sizes)
    folder = quantized_models.save(tmp_path / "m", original, replace(GPTQ, symmetric=False))
    scores = [scores_of(loaded(each)) for each in (folder, same(folder))]
    assert np.abs(scores[0] - scores[1]).max() < 5e-3 * np.abs(scores[1]).max()


def test_a_prompt_runs(original: Path, tmp_path: Path) -> None:
    folder = quantized_models.save(tmp_path / "m", original, replace(AWQ, symmetric=False))
    component = {
        "type": "model", "task": "text-generation", "model": str(folder), "text": "A fox",
        "max_output_length": 12,
    }  # fmt: skip
    host = LocalHost()
    try:
        text = load({"component": component}, host=host)()
        (model,) = host.models()
    finally:
        host.close()
    assert text
    assert (model.driver, model.precision) == ("native", "int4 (AWQ)")


# What becomes of them


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("gptq", "int4 (GPTQ)"),
        ("gptq 8", "int8 (GPTQ)"),
        ("awq", "int4 (AWQ)"),
        ("pack", "int4 (compressed-tensors)"),
        ("int8", "int8 (compressed-tensors)"),
        ("mxfp4", "int4 (MXFP4)"),
        ("gptq shuffled", "float32 (GPTQ)"),
        ("fp8", "float32 (FP8)"),
    ],
)
def test_what_becomes_of_weights_is_said(
    write: Write, name: str, precision: str, cache: ModelCache
) -> None:
    folder = write((FORMATS | NUMBERS)[name])
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        assert (lease.info.driver, lease.info.precision) == ("native", precision)
        plain = lease.info.parameters
        assert ask(lease, max_output_length=5).usage["generated"] == 5
    with done(cache.acquire(ModelSpec(str(same(folder))))) as lease:
        assert lease.info.parameters == plain


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_numbers_are_of_the_kind_of_the_model(write: Write, kind: str) -> None:
    folder = write(NUMBERS["fp8"])
    change(folder, dtype=kind)
    assert planned(folder).found.precision == f"{kind} (FP8)"
    assert planned(folder, precision="float32").found.precision == "float32 (FP8)"


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32"])
def test_layers_that_are_numbers_stand_beside_codes(tmp_path: Path, kind: Kind, tied: bool) -> None:
    original = tiny_models.save(tmp_path / "o", "qwen2", **SIZES, tie_word_embeddings=tied)
    skip = ("down_proj", "q_proj")
    folder = quantized_models.save(tmp_path / "m", original, GPTQ, skip=skip, others=kind)
    decoder, other = loaded(folder), loaded(same(folder))
    for each in (decoder.head, decoder.layers[0].down, decoder.layers[0].qkv[0]):
        assert isinstance(each.weights, np.ndarray)
        assert numbers.kind_of(each.weights) == kind
    first, exact = scores_of(decoder), scores_of(other)
    assert np.abs(first - exact).max() < 5e-3 * np.abs(exact).max()


@pytest.mark.parametrize("name", ["awq", "gptq shuffled"])
def test_codes_may_be_made_of_weights_that_are_others(write: Write, name: str) -> None:
    folder = write((FORMATS | NUMBERS)[name])
    scores = []
    for source in (folder, same(folder)):
        assert planned(source, quantization="int8").found.precision == "int8"
        scores.append(scores_of(loaded(source, quantization="int8")))
    assert np.array_equal(*scores)


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_adapters_are_added_to_the_numbers(
    write: Write, original: Path, tmp_path: Path, quantization: str | None
) -> None:
    folder = write(GPTQ)
    adapter = AdapterSpec(ModelSpec(str(save_adapter(tmp_path / "a", original))))
    scores = [
        scores_of(loaded(each, adapters=(adapter,), quantization=quantization))
        for each in (folder, same(folder))
    ]
    assert np.array_equal(*scores)
    assert not np.array_equal(scores[0], scores_of(loaded(folder, quantization=quantization)))


def test_scales_in_float32_are_rounded_and_that_is_said(write: Write) -> None:
    folder = write(replace(INT8, scale="F32"))
    assert planned(folder).found.precision == "int8 (compressed-tensors, rounded scales)"
    first, exact = scores_of(loaded(folder)), scores_of(loaded(same(folder)))
    assert np.abs(first - exact).max() < 5e-3 * np.abs(exact).max()


@pytest.mark.parametrize("scale", ["BF16", "F32"])
def test_scales_that_float16_does_not_have_make_numbers(write: Write, scale: str) -> None:
    """Those that are too small for it."""
    folder = write(replace(PACK, scale=scale))
    name = "model.layers.0.mlp.down_proj.weight"

    def change_scale(tensors: dict[str, Any]) -> None:
        tensors[f"{name}_scale"][5, 1] = 2.0**-30

    edit(folder, change_scale)
    found = tensors_of(folder)
    assert not found.tensors[name][1].has_exact_codes(raw_of(found, name))
    decoder = loaded(folder)
    down, up = decoder.layers[0].down.weights, decoder.layers[0].gate_up[1].weights
    assert isinstance(up, Codes)
    assert isinstance(down, np.ndarray)
    tensor = found.tensors[name][1]
    assert np.array_equal(down, tensor.numbers(raw_of(found, name), "float32"))


def test_a_config_that_reads_the_same_files_in_another_way_gives_other_weights(
    write: Write,
) -> None:
    """Also where the weights of the first reading have been kept."""
    folder = write(replace(GPTQ, symmetric=False))
    before = scores_of(loaded(folder))
    content = json.loads((folder / "config.json").read_text())["quantization_config"]
    change(folder, quantization_config={**content, "checkpoint_format": "gptq_v2"})
    assert not np.array_equal(scores_of(loaded(folder)), before)


def test_room_for_numbers_that_codes_are_made_of_is_counted(write: Write) -> None:
    folder = write(FP8)
    tensors = [each for _, each in tensors_of(folder).tensors.values()]
    largest = max(each.elements for each in tensors if each.kind is None)
    assert planned(folder, quantization="int4").found.largest_converted == 4 * largest
    assert planned(same(folder), quantization="int4").found.largest_converted == 0


# What does not run, and what is damaged


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the tensors in a folder."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file({name: each.contiguous() for name, each in tensors.items()}, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"bits": 3}, "its weights are quantised to 3 bits by GPTQ"),
        ({"bits": [4]}, "bits by GPTQ"),
        ({"checkpoint_format": "marlin"}, "its weights are GPTQ's in the format marlin"),
        ({"quant_method": "awq", "bits": 4.0}, "quantised to 4.0 bits by AWQ"),
        ({"quant_method": "awq", "version": "gemv"}, "its weights are AWQ's in the version gemv"),
        ({"quant_method": "aqlm"}, "its weights are quantised with aqlm"),
        ({"quant_method": ["gptq"]}, "its weights are quantised with"),
        ({"quant_method": "compressed-tensors", "format": "marlin-24"}, "format marlin-24"),
        ({"quant_method": "compressed-tensors", "format": ["int"]}, "in the format"),
        ({"quant_method": "compressed-tensors", "sparsity_config": {"format": "sparse-bitmask"}},
         "its weights are sparse"),
        ({"quant_method": "compressed-tensors", "transform_config": {"config_groups": {"a": {}}}},
         "its weights are transformed"),
        ({"quant_method": "compressed-tensors"}, "says compressed-tensors, and no weights are in"),
        ({"quant_method": "compressed-tensors",
          "config_groups": {"a": {"weights": {"num_bits": 7}}}}, "quantised to 7 bits"),
        ({"quant_method": "fp8", "weight_block_size": [0, 1]}, "its blocks are of no size"),
    ],
)  # fmt: skip
def test_what_does_not_run_in_c_says_why(
    write: Write, settings: dict[str, Any], reason: str
) -> None:
    folder = write(GPTQ)
    content = json.loads((folder / "config.json").read_text())["quantization_config"]
    change(folder, quantization_config={**content, **settings})
    with pytest.raises(Other) as caught:
        planned(folder)
    assert reason in str(caught.value)


def test_what_else_to_take_is_said(write: Write, cache: ModelCache) -> None:
    folder = write(GPTQ)
    content = json.loads((folder / "config.json").read_text())["quantization_config"]
    change(folder, quantization_config={**content, "bits": 3})
    error = failure(cache, folder)
    assert "gptq, which does not run in C (its weights are quantised to 3 bits by" in error.message
    assert "the libraries gptqmodel and optimum" in error.message
    assert "not quantised, with 'quantization: int4'" in (error.hint or "")


LAYER = "model.layers.0.mlp.down_proj."


def _no(end: str) -> Callable[[dict[str, Any]], None]:
    def spoil(tensors: dict[str, Any]) -> None:
        del tensors[LAYER + end]

    return spoil


def _cut(end: str, count: int = 1, axis: int = 0) -> Callable[[dict[str, Any]], None]:
    def spoil(tensors: dict[str, Any]) -> None:
        whole = tensors[LAYER + end]
        tensors[LAYER + end] = whole.narrow(axis, 0, count)

    return spoil


def _put(end: str, value: float, *place: int) -> Callable[[dict[str, Any]], None]:
    def spoil(tensors: dict[str, Any]) -> None:
        tensors[LAYER + end][place] = value

    return spoil


@pytest.mark.parametrize(
    ("format", "spoil", "words"),
    [
        (GPTQ, _no("scales"), "has no model.layers.0.mlp.down_proj.scales"),
        (GPTQ, _cut("scales", 3), "qzeros is not 3×8, which the codes beside it ask for"),
        (GPTQ, _cut("scales", 8, 1), "scales is not 4×64"),
        (GPTQ, _cut("scales", 0), "scales is not of groups of 128 inputs"),
        (GPTQ, _cut("qzeros"), "qzeros is not 4×8"),
        (GPTQ, _cut("qzeros", 0), "qzeros is not 4×8"),
        (GPTQ, _cut("g_idx", 127), "g_idx is not 128"),
        (GPTQ, _put("g_idx", 4, 7), "g_idx has groups that there are not"),
        (GPTQ, _put("g_idx", -1, 7), "g_idx has groups that there are not"),
        (GPTQ, _put("qzeros", 0, 1, 2), "qzeros has zero points that are not in the middle"),
        (GPTQ, _put("scales", float("nan"), 1, 2), "scales has scales that are no numbers"),
        (replace(GPTQ, symmetric=False), _no("qzeros"), "has no model.layers.0.mlp.down_proj.qz"),
        (replace(GPTQ, shuffled=True), _no("g_idx"), "has no model.layers.0.mlp.down_proj.g_idx"),
        (replace(PACK, shuffled=True), _no("weight_g_idx"), "has no model.layers.0.mlp.down_proj"),
        (replace(PACK, symmetric=False), _no("weight_zero_point"), "config.json asks for it"),
        (replace(INT8, symmetric=False), _no("weight_zero_point"), "config.json asks for it"),
        (replace(GPTQ, bits=8), _cut("qweight", 0), "qweight is no matrix"),
        (AWQ, _no("qzeros"), "has no model.layers.0.mlp.down_proj.qzeros"),
        (AWQ, _cut("scales", 3), "scales is not of groups of 128 inputs"),
        (AWQ, _cut("qzeros", 2, 1), "qzeros is not 4×8"),
        (AWQ, _put("scales", float("inf"), 1, 2), "scales has scales that are no numbers"),
        (PACK, _no("weight_shape"), "has no model.layers.0.mlp.down_proj.weight_shape"),
        (PACK, _cut("weight_shape"), "has no model.layers.0.mlp.down_proj.weight_shape"),
        (PACK, _put("weight_shape", 65, 0), "weight_shape is not that of"),
        (PACK, _put("weight_shape", -1, 1), "weight_shape is not that of"),
        (PACK, _cut("weight_scale", 2), "weight_scale is not 64×4"),
        (PACK, _cut("weight_scale", 3, 1), "weight_scale is not of groups of 128 inputs"),
        (INT8, _cut("weight_scale", 2), "weight_scale is not 64×"),
        (FP8, _cut("weight_scale", 2), "weight_scale is not 64×1"),
        (FP8, _put("weight_scale", float("nan"), 3), "has scales that are no numbers"),
        (Format("mxfp4"), _cut("weight_scale", 2), "weight_scale is not 64×4"),
        (Format("mxfp4"), _put("weight_scale", 255, 1, 2), "has scales that are no numbers"),
    ],
)
def test_damaged_ones_are_refused(
    write: Write, format: Format, spoil: Callable[[dict[str, Any]], None], words: str,
    cache: ModelCache,
) -> None:  # fmt: skip
    folder = write(format)
    edit(folder, spoil)
    error = failure(cache, folder)
    assert (error.code, words in error.message) == ("corrupt_model", True), error


def test_a_size_beyond_all_is_refused(write: Write) -> None:
    folder = write(PACK)
    edit(folder, _put("weight_shape", 1 << 60, 1))
    with pytest.raises(Other, match="of neither 4 nor 8 bits"):
        planned(folder)
