"""Builds of models that would take too much or never end: refused, or given up."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.models.weights import files
from modelcompose_jupyter.models.weights.model_building import building

from ..conftest import ask, done, eventually
from .conftest import CONFIG, WEIGHTS, FolderOf, change, failure


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
    error = failure(cache, folder)
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
    save_file(nothing | {"a": torch.zeros(10)}, folder / WEIGHTS, {"format": "pt"})
    assert files.read_weights([folder / WEIGHTS]).tensors == 1
    settings = {
        "model_type": "nllb-moe", "architectures": ["NllbMoeForConditionalGeneration"],
        "d_model": 8, "encoder_layers": 20, "decoder_layers": 20, "encoder_attention_heads": 1,
        "decoder_attention_heads": 1, "encoder_ffn_dim": 2, "decoder_ffn_dim": 2,
        "num_experts": 1000, "encoder_sparse_step": 1, "decoder_sparse_step": 1,
        "max_position_embeddings": 64,
    }  # fmt: skip
    (folder / CONFIG).write_text(json.dumps(settings))
    assert "makes more than 20040 tensors of 1" in failure(cache, folder).message


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


def sources(cache: ModelCache) -> list[str]:
    return [info.source for info in cache.list()]


def test_a_load_without_end_is_given_up_and_others_go_on(
    endless: tuple[ModelSpec, Path], cache: ModelCache, folder_of: FolderOf
) -> None:
    spec, began = endless
    # Made before: transformers leaves weights untied in the whole process while it loads a model.
    mamba, t5 = (ModelSpec(str(folder_of(name))) for name in ("mamba", "t5"))
    hostile = cache.acquire(spec)
    eventually(began.exists)
    good = cache.acquire(mamba)
    leaving = cache.acquire(t5)
    assert not good.done()
    # Who waits for its turn to build can be given up while the other one builds.
    assert leaving.cancel()
    eventually(lambda: sources(cache) == [spec.source, mamba.source])
    eventually(lambda: not any(each.name == "model t5" for each in threading.enumerate()))
    assert (hostile.done(), good.done()) == (False, False)
    # And who builds.
    assert hostile.cancel()
    with done(good) as lease:
        assert ask(lease, max_output_length=2).usage["generated"] == 2
    assert sources(cache) == [mamba.source]
    eventually(lambda: not any(each.name == "model m" for each in threading.enumerate()))
    assert torch.get_default_dtype() == torch.float32


def test_a_load_that_is_only_weighed_is_given_up_too(
    endless: tuple[ModelSpec, Path], cache: ModelCache
) -> None:
    """A quantised model is built without its weights first, to know what it takes."""
    spec, began = endless
    hostile = cache.acquire(replace(spec, quantization="int8"))
    eventually(began.exists)
    assert hostile.cancel()
    eventually(lambda: not any(each.name == "model m" for each in threading.enumerate()))
    assert sources(cache) == []
