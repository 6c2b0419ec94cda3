"""From files to a model, and what is said when that cannot be."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from standins import tiny_models
from standins.hub import HubStandIn
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

from modelcompose_jupyter.models import ModelCache, ModelSpec

from ..conftest import ask, done
from .conftest import WEIGHTS, FolderOf, Spoil, change, failure, name_of, spoiled


def test_shards(standin: HubStandIn, cache: ModelCache, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "m", shards="60KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    standin.add("me/sharded", folder)
    with done(cache.acquire(ModelSpec("me/sharded"))) as lease:
        remote = ask(lease, do_sample=False, max_output_length=8)
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        assert ask(lease, do_sample=False, max_output_length=8).texts == remote.texts
    (folder / sorted(p.name for p in folder.glob("*.safetensors"))[1]).unlink()
    assert failure(cache, folder).code == "incomplete_model"


def _fewer_layers(folder: Path) -> None:
    change(folder, num_hidden_layers=3)


def _larger_vocabulary(folder: Path) -> None:
    change(folder, vocab_size=500)


def _wider(folder: Path) -> None:
    change(folder, intermediate_size=80)


def _changed(**values: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        change(folder, **values)

    spoil.__name__ = f"_changed_{next(iter(values))}"
    return spoil


def _empty_pickle(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")


def _no_mapping(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def _unknown(folder: Path) -> None:
    change(folder, model_type="not_yet_invented")


def _own_code(folder: Path) -> None:
    change(folder, model_type="own", auto_map={"AutoConfig": "own.OwnConfig"})


def _enormous(folder: Path) -> None:
    """A header that claims a tensor of 1 TiB, and a sparse file that has it."""
    size = 1 << 40
    tensor = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    header = json.dumps({"model.embed_tokens.weight": tensor}).encode()
    with (folder / WEIGHTS).open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (_fewer_layers, "incomplete_model", "missing"),
        (_unknown, "unknown_architecture", "not_yet_invented"),
        (_own_code, "trust_remote_code", "Python code"),
        (_enormous, "out_of_memory", "1.1 TB"),
        (_larger_vocabulary, "incomplete_model",
         "do not fit config.json: model.embed_tokens.weight is 400×32, 500×32 expected (and 1"),
        (_wider, "incomplete_model", "mlp.gate_proj.weight is 64×32, 80×32 expected (and 5 more)"),
        (_no_mapping, "unknown_architecture", "None"),
        (_changed(architectures=[5], vocab_size=500), "incomplete_model", "500×32 expected"),
        (_changed(eos_token_id="</s>"), "load_failed", "'eos_token_id': TypeError"),
        (_changed(hidden_act="nosuch"), "load_failed", "KeyError: 'nosuch'"),
        (_empty_pickle, "load_failed", "damaged"),
    ],
    ids=name_of,
)  # fmt: skip
def test_models_that_cannot_be_loaded(
    spoil: Spoil, code: str, words: str, folder: Path, cache: ModelCache
) -> None:
    spoiled(spoil, (code, words), cache, folder)


def test_own_code_runs_when_it_is_trusted(folder: Path, cache: ModelCache) -> None:
    (folder / "own.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    change(folder, model_type="own", architectures=["OwnForCausalLM"], auto_map=auto_map)
    with done(cache.acquire(ModelSpec(str(folder), trust_remote_code=True))) as lease:
        assert lease.info.class_name == "OwnForCausalLM"
        assert ask(lease, max_output_length=2).usage["generated"] == 2


def test_other_errors(folder_of: FolderOf, cache: ModelCache) -> None:
    expected = {
        ModelSpec("/no/such/folder"): ("model_not_found", "/no/such/folder"),
        ModelSpec("bundled:storytelle"): ("model_not_found", "storytelle"),
        ModelSpec(str(folder_of("llama")), device="cuda:7"): ("device_unavailable", "cuda:7"),
        ModelSpec(str(folder_of("llama")), device="tpu"): ("device_unavailable", "tpu"),
    }
    for spec, (code, words) in expected.items():
        error = failure(cache, spec)
        assert (error.code, words in error.message) == (code, True), error
    assert "storyteller" in (failure(cache, ModelSpec("bundled:storytelle")).hint or "")


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
    assert "tokenizer" in failure(cache, folder).message
