"""Keys and values in 8 bits: near those that they were, and the same in any company."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from standins import tiny_models

from modelcompose_jupyter.document.parameters import GenerationParameters
from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.models.engine.kv_cache import Slot
from modelcompose_jupyter.models.engine.native_runner import NativeRunner
from modelcompose_jupyter.models.engine.native_slab import NativeSlab
from modelcompose_jupyter.models.native.parts import Parts
from modelcompose_jupyter.models.weights import native_loader
from modelcompose_jupyter.models.weights.source import ResolvedSource

from ..conftest import done

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")

TOKENS = [(11 * each) % 250 for each in range(150)]
PRECISIONS: list[dict[str, Any]] = [
    {"precision": "float32"},
    {"precision": "bfloat16"},
    {"precision": "float16"},
    {"quantization": "int4"},
]


def parts_of(tmp_path: Path, architecture: str = "llama", **options: Any) -> Parts:
    asked = {key: options.pop(key) for key in ("precision", "quantization") if key in options}
    folder = tiny_models.save(tmp_path / "m", architecture, **options)
    plan = native_loader.plan(ModelSpec(str(folder), **asked), ResolvedSource(folder))
    decoder = native_loader.load(plan, lambda _: None).decoder
    assert decoder is not None
    return decoder


def read(runner: NativeRunner, counts: list[int]) -> tuple[Slot, np.ndarray]:
    """A slot with the tokens, read in parts, and the scores after each."""
    slot, scores = runner.cache.open(len(TOKENS)), []
    for count in counts:
        part = TOKENS[slot.length : slot.length + count]
        scores.append(runner.forward(part, range(count), (), [(slot, count)]))
        slot.length += count
    return slot, np.concatenate(scores)


@pytest.mark.parametrize("options", PRECISIONS, ids=str)
@pytest.mark.parametrize(
    ("architecture", "more"),
    [
        ("llama", {}), ("llama", {"head_dim": 20}), ("llama", {"head_dim": 96}),
        ("gemma3_text", {}), ("gpt_neox", {}), ("lfm2", {}), ("gemma4_text", {}),
    ],
)  # fmt: skip
def test_scores_are_near_and_the_same_however_a_prompt_is_divided(
    architecture: str, more: Any, options: Any, tmp_path: Path
) -> None:
    parts = parts_of(tmp_path, architecture, **more, **options)
    wanted = read(NativeRunner(parts, None), [len(TOKENS)])[1]
    runner = NativeRunner(replace(parts, coded_cache=True), None)
    found = read(runner, [len(TOKENS)])[1]
    assert 1e-6 < np.sqrt(np.square(found - wanted).mean()) / wanted.std() < 0.05
    for threads, counts in enumerate(([1] * len(TOKENS), [70, 3, 77]), 1):
        runner.threads = threads
        assert np.array_equal(read(runner, counts)[1], found)


@pytest.mark.parametrize("head_size", [16, 20, 96])
def test_a_record_is_codes_and_their_scales(head_size: int, tmp_path: Path) -> None:
    """The first layer's, which do not depend on what attention makes of earlier ones."""
    parts = parts_of(tmp_path, precision="float32", head_dim=head_size)
    coded = replace(parts, coded_cache=True)
    blocks = -(-head_size // 32)
    heads, record = coded.tracks(coded.layers[0])[0]
    assert record == head_size + 2 * blocks
    tracks = []
    for each in (parts, coded):
        slab = read(NativeRunner(each, None), [len(TOKENS)])[0].slab
        assert isinstance(slab, NativeSlab)
        (track,) = slab._tracks()
        tracks.append(track[: 2 * heads, : len(TOKENS)])
    wanted = np.ascontiguousarray(tracks[0]).view(np.float32)
    codes = tracks[1][..., :head_size].view(np.int8).astype(np.float32)
    scales = np.ascontiguousarray(tracks[1][..., head_size:]).view(np.float16).astype(np.float32)
    whole = np.repeat(scales, 32, axis=-1)[..., :head_size]
    assert np.abs(codes).max() == 127
    assert (np.abs(codes * whole - wanted) <= 0.5001 * whole + 1e-3 * np.abs(wanted)).all()


def test_what_is_not_finite_stays_so(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, precision="float32")
    values = parts.layers[0].qkv[2].weights
    assert isinstance(values, np.ndarray)
    broken = values.copy()
    broken[3, 5] = np.nan
    linear = replace(parts.layers[0].qkv[2], weights=broken)
    first = replace(parts.layers[0], qkv=[*parts.layers[0].qkv[:2], linear])
    whole = replace(parts, layers=[first, *parts.layers[1:]], coded_cache=True)
    assert not np.isfinite(read(NativeRunner(whole, None), [len(TOKENS)])[1]).all()


def test_texts_are_the_same_in_company_and_after_a_prefix_that_was_kept(
    tmp_path: Path, cache: ModelCache
) -> None:
    folder = tiny_models.save(tmp_path / "m")
    spec = ModelSpec(str(folder), cache_quantization="int8")
    asked = [GenerationParameters(max_output_length=10 + 5 * each, seed=each) for each in range(5)]
    prompts = ["A fox " * (1 + each) for each in range(5)]
    with done(cache.acquire(spec)) as lease, done(cache.acquire(ModelSpec(str(folder)))) as plain:
        assert lease.info.id != plain.info.id
        alone = [
            done(lease.generate(*each).future).texts for each in zip(prompts, asked, strict=True)
        ]
        handles = [lease.generate(*each) for each in zip(prompts, asked, strict=True)]
        results = [done(each.future) for each in handles]
        assert [each.texts for each in results] == alone
        assert results[-1].usage["reused"] > 0
        assert results[-1].model["cache_quantization"] == "int8"
        beams = GenerationParameters(max_output_length=5, num_beams=2)
        result = done(lease.generate("A fox", beams).future)
        assert (result.model["driver"], result.model["cache_quantization"]) == ("huggingface", None)
        assert any("cache_quantization has no effect" in each for each in result.warnings)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"driver": "huggingface"}, "'driver: huggingface' asks for it"),
        ({"architecture": "opt"}, "this one runs on torch, since"),
    ],
)
def test_torch_keeps_numbers(
    options: dict[str, Any], reason: str, tmp_path: Path, cache: ModelCache
) -> None:
    folder = tiny_models.save(tmp_path / "m", options.pop("architecture", "llama"))
    spec = ModelSpec(str(folder), cache_quantization="int8", **options)
    with pytest.raises(ModelError, match="cannot have 'cache_quantization: int8'") as caught:
        done(cache.acquire(spec))
    assert reason in str(caught.value)
    assert caught.value.code == "driver_unavailable"
