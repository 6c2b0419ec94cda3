"""LoRA adapters: merged as peft itself applies them, shared, and refused where they do not fit."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from standins import tiny_models
from standins.hub import HubStandIn

from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models import LoadProgress, ModelCache, ModelSpec
from modelcompose_jupyter.models.engine import native_layers
from modelcompose_jupyter.models.engine.native_runner import NativeRunner
from modelcompose_jupyter.models.spec import AdapterSpec
from modelcompose_jupyter.models.tokenization import regex_safety
from modelcompose_jupyter.models.weights import (
    hub,
    native_loader,
    optional_libraries,
    source,
    torch_loader,
)
from modelcompose_jupyter.models.weights.config_reader import Other
from modelcompose_jupyter.models.weights.loaded_model import LoadedModel

from ..conftest import done
from .conftest import FolderOf, Spoil, change

WEIGHTS = "adapter_model.safetensors"
PROJECTIONS = ("q_proj", "v_proj")


def save_adapter(
    folder: Path, base: Path, seed: int = 1, config: Any = None, **options: Any
) -> Path:
    """Write an adapter with random weights, large enough to change what the model says."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    settings = {"target_modules": list(PROJECTIONS), "r": 4, "lora_alpha": 8} | options
    wrapped = get_peft_model(model, config or LoraConfig(**settings))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name, weight in wrapped.named_parameters():
            if weight.requires_grad and "original" not in name:
                weight.data.normal_(0, 0.2)
    wrapped.save_pretrained(folder)
    return folder


def spec_of(base: Path, *adapters: AdapterSpec, **options: Any) -> ModelSpec:
    return ModelSpec(str(base), adapters=adapters, **options)


def adapter(folder: Path | str, weight: float = 1.0, **options: Any) -> AdapterSpec:
    return AdapterSpec(ModelSpec(str(folder), **options), weight)


def load(spec: ModelSpec) -> LoadedModel:
    plan = torch_loader.plan(spec, source.resolve(spec, _ignore), _ignore)
    return torch_loader.load(plan, _ignore)


def _ignore(_: LoadProgress) -> None:
    pass


TOKENS = torch.arange(5, 35)[None]


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(TOKENS).logits


def unmerged(base: Path, *adapters: tuple[Path, float]) -> torch.Tensor:
    """What peft's own layers give, beside the weights."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    names = [f"a{number}" for number in range(len(adapters))]
    wrapped = PeftModel.from_pretrained(model, str(adapters[0][0]), names[0])
    for name, (folder, _) in list(zip(names, adapters, strict=True))[1:]:
        wrapped.load_adapter(str(folder), name)
    wrapped.base_model.set_adapter(names)
    for module in wrapped.modules():
        for name, (_, weight) in zip(names, adapters, strict=True):
            if isinstance(module, LoraLayer) and name in module.scaling:
                module.scaling[name] *= weight
    return logits(wrapped.eval())


@pytest.fixture(scope="module")
def base(folder_of: FolderOf) -> Path:
    return folder_of("llama")


@pytest.fixture(scope="module")
def lora(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(tmp_path_factory.mktemp("adapters") / "lora", base)


@pytest.fixture(scope="module")
def other(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "other"
    targets = [*PROJECTIONS, "up_proj", "lm_head"]
    return save_adapter(folder, base, 2, target_modules=targets, r=2, use_rslora=True)


@pytest.mark.parametrize("weight", [1.0, 0.25, -1.0, 0.0])
def test_one_is_merged_as_peft_applies_it(base: Path, lora: Path, weight: float) -> None:
    loaded = load(spec_of(base, adapter(lora, weight)))
    expected = unmerged(base, (lora, weight))
    assert torch.allclose(logits(loaded.model), expected, atol=1e-4)
    plain = logits(load(ModelSpec(str(base))).model)
    assert torch.allclose(expected, plain, atol=1e-4) == (weight == 0.0)


def test_several_are_added_each_by_its_weight(base: Path, lora: Path, other: Path) -> None:
    loaded = load(spec_of(base, adapter(lora, 0.7), adapter(other, 0.4)))
    expected = unmerged(base, (lora, 0.7), (other, 0.4))
    assert torch.allclose(logits(loaded.model), expected, atol=1e-4)


def in_c(spec: ModelSpec) -> LoadedModel:
    plan = native_loader.plan(spec, source.resolve(spec, _ignore))
    return native_loader.load(plan, _ignore)


def scores(loaded: LoadedModel) -> torch.Tensor:
    assert loaded.decoder is not None
    runner = NativeRunner(loaded.decoder, None)
    tokens = TOKENS[0].tolist()
    spans = [(runner.cache.open(len(tokens)), len(tokens))]
    return torch.tensor(runner.forward(tokens, range(len(tokens)), (), spans))[None]


@pytest.mark.parametrize(
    "architecture", ["llama", "gpt2", "smollm3", "phi3", "gpt_neox", "lfm2", "gemma4_text"]
)
def test_in_c_they_are_added_while_weights_are_read(
    folder_of: FolderOf, tmp_path: Path, architecture: str
) -> None:
    base = folder_of(architecture)
    targets = {"gpt2": ["c_attn", "c_fc"], "phi3": ["qkv_proj", "o_proj"]}.get(
        architecture, "all-linear"
    )
    one = save_adapter(tmp_path / "a", base, target_modules=targets)
    two = save_adapter(tmp_path / "b", base, 2, target_modules=targets, r=2, use_rslora=True)
    found = scores(in_c(spec_of(base, adapter(one, 0.7), adapter(two, -0.4))))
    expected = unmerged(base, (one, 0.7), (two, -0.4))
    assert torch.allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_in_c_they_give_what_peft_merges(base: Path, lora: Path, precision: str) -> None:
    spec = spec_of(base, adapter(lora, 0.5), precision=precision)
    layer = load(spec).model.model.layers[0].self_attn.q_proj.weight
    own = in_c(spec).decoder
    assert own is not None
    assert np.array_equal(own.layers[0].qkv[0].weights, native_layers._array(layer))


def test_in_c_weights_become_small_after_them(cache: ModelCache, base: Path, lora: Path) -> None:
    merged = scores(in_c(spec_of(base, adapter(lora))))
    for quantization, off in (("int8", 0.06), ("int4", 0.5)):
        small = scores(in_c(spec_of(base, adapter(lora), quantization=quantization)))
        assert 0 < (small - merged).norm() < off * merged.norm()
    again = scores(in_c(spec_of(base, adapter(lora, 0.9), quantization="int4")))
    assert not torch.equal(small, again)
    with done(cache.acquire(spec_of(base, adapter(lora), quantization="int4"))) as lease:
        assert (lease.info.driver, lease.info.precision) == ("native", "int4")


@pytest.mark.parametrize(
    "options",
    [
        {"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"rank_pattern": {"q_proj": 2}},
        {"target_modules": ["embed_tokens"]}, {"target_modules": r".*\.(q|v)_proj"},
        {"bias": "lora_only"},
    ],
    ids=lambda each: next(iter(each)),
)  # fmt: skip
def test_what_does_more_than_adding_is_merged_by_peft(
    base: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    spec = spec_of(base, adapter(save_adapter(tmp_path / "a", base, **options)))
    with pytest.raises(Other):
        in_c(spec)


def test_what_is_merged_has_plain_layers(base: Path, lora: Path) -> None:
    plain, merged = load(ModelSpec(str(base))), load(spec_of(base, adapter(lora)))
    assert [(name, type(each)) for name, each in merged.model.named_modules()] == [
        (name, type(each)) for name, each in plain.model.named_modules()
    ]
    assert (merged.parameters, merged.memory_bytes) == (plain.parameters, plain.memory_bytes)


@pytest.mark.parametrize("architecture", ["gpt2", "smollm3"])
def test_layers_of_other_kinds(folder_of: FolderOf, tmp_path: Path, architecture: str) -> None:
    base = folder_of(architecture)
    targets = ["c_attn", "c_fc"] if architecture == "gpt2" else "all-linear"
    folder = save_adapter(tmp_path / "a", base, target_modules=targets)
    loaded = load(spec_of(base, adapter(folder, 0.5)))
    assert torch.allclose(logits(loaded.model), unmerged(base, (folder, 0.5)), atol=1e-4)


def test_a_head_that_is_tied_to_the_embedding(tmp_path: Path) -> None:
    base = tiny_models.save(tmp_path / "tied", tie_word_embeddings=True)
    folder = save_adapter(tmp_path / "a", base, target_modules=["lm_head", "q_proj"])
    loaded = load(spec_of(base, adapter(folder)))
    assert torch.allclose(logits(loaded.model), unmerged(base, (folder, 1.0)), atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [{"use_dora": True}, {"modules_to_save": ["lm_head"]}],
    ids=lambda each: next(iter(each)),
)
def test_what_replaces_weights_works_alone(
    base: Path, lora: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    folder = save_adapter(tmp_path / "a", base, **options)
    loaded = load(spec_of(base, adapter(folder)))
    assert torch.allclose(logits(loaded.model), unmerged(base, (folder, 1.0)), atol=1e-4)
    for spec in (
        spec_of(base, adapter(folder, 0.5)),
        spec_of(base, adapter(folder), adapter(lora)),
    ):
        assert failure(spec).code == "adapter_mismatch"


def test_merging_comes_before_quantising(base: Path, lora: Path) -> None:
    merged = logits(load(spec_of(base, adapter(lora))).model)
    small = logits(load(spec_of(base, adapter(lora), quantization="int8")).model)
    assert (small - merged).norm() < 0.06 * merged.norm()


def test_other_weights_are_other_models_and_the_same_are_shared(
    cache: ModelCache, base: Path, lora: Path, other: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(lora)
    specs = [
        spec_of(base),
        spec_of(base, adapter(lora)),
        spec_of(base, adapter(link)),
        spec_of(base, adapter(lora, 0.5)),
        spec_of(base, adapter(lora), adapter(other)),
    ]
    ids = [done(cache.acquire(spec)).info.id for spec in specs]
    assert ids == ["llama", "llama-2", "llama-2", "llama-3", "llama-4"]


def test_an_adapter_that_changed_is_loaded_anew(
    cache: ModelCache, base: Path, lora: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(lora, tmp_path / "a")
    spec = spec_of(base, adapter(folder))
    done(cache.acquire(spec)).release()
    save_adapter(folder, base, seed=9)
    assert done(cache.acquire(spec)).info.id == "llama-2"


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: Path) -> Iterator[HubStandIn]:
    monkeypatch.setattr(hub, "RETRY_WAITS", (0.0, 0.0))
    with HubStandIn() as standin, standin.client(tmp_path / "cache"):
        standin.add("owner/lora", lora, {"optimizer.pt": b"x" * 99}, revisions={"v1"})
        yield standin


def test_from_the_hub_and_then_from_its_cache(
    standin: HubStandIn, cache: ModelCache, base: Path, lora: Path
) -> None:
    seen: list[LoadProgress] = []
    spec = spec_of(base, adapter("owner/lora", revision="v1"))
    standin.cuts[WEIGHTS] = [1000]
    done(cache.acquire(spec, seen.append)).release()
    assert set(standin.fetched()) == {"adapter_config.json", WEIGHTS}
    downloads = [each for each in seen if each.phase == "download"]
    assert downloads[-1].model == "owner/lora"
    assert downloads[-1].done == downloads[-1].total
    standin.stop()
    count = len(standin.requests)
    again = load(spec)
    assert len(standin.requests) == count
    assert torch.allclose(logits(again.model), unmerged(base, (lora, 1.0)), atol=1e-4)


def test_repositories_that_cannot_be_had(
    standin: HubStandIn, cache: ModelCache, folder_of: FolderOf, base: Path
) -> None:
    standin.add("owner/model", folder_of("llama"))
    expected = {
        adapter("owner/none"): "model_not_found",
        adapter("owner/model"): "not_an_adapter",
        adapter("owner/lora", local_files_only=True): "not_cached",
    }
    for wanted, code in expected.items():
        with pytest.raises(ModelError) as caught:
            done(cache.acquire(spec_of(base, wanted)))
        assert caught.value.code == code, caught.value


def failure(spec: ModelSpec) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load(spec)
    assert caught.value.hint
    return caught.value


def _no_config(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()


def _no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def _cut_short(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def _no_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def _fewer_tensors(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors.pop(next(iter(tensors)))
    save_file(tensors, folder / WEIGHTS)


def _of_more_layers(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    further = {
        name.replace("layers.1.", "layers.2."): each.clone() for name, each in tensors.items()
    }
    save_file(tensors | further, folder / WEIGHTS)


def _marked(folder: Path) -> None:
    path = folder / "adapter_config.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")


def _unknown_layers(folder: Path) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target_modules": ["c_attn"]}))


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (_no_folder, "model_not_found", "does not exist"),
        (_no_config, "incomplete_model", "adapter_config.json"),
        (_no_weights, "incomplete_model", WEIGHTS),
        (_cut_short, "corrupt_model", "bytes"),
        (_fewer_tensors, "adapter_mismatch", "counterpart"),
        (_of_more_layers, "adapter_mismatch", "counterpart"),
        (_marked, "corrupt_model", "begins with a byte order mark"),
        (_unknown_layers, "adapter_mismatch", "layers"),
    ],
    ids=lambda value: value.__name__[1:] if callable(value) else "",
)
def test_spoiled_adapters(
    spoil: Spoil, code: str, words: str, base: Path, lora: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(lora, tmp_path / "a")
    spoil(folder)
    error = failure(spec_of(base, adapter(folder)))
    assert (error.code, words in error.message) == (code, True), error


def test_an_adapter_of_a_model_of_another_shape(base: Path, tmp_path: Path) -> None:
    wide = tiny_models.save(tmp_path / "wide", hidden_size=64)
    folder = save_adapter(tmp_path / "a", wide)
    error = failure(spec_of(base, adapter(folder)))
    assert error.code == "adapter_mismatch"
    assert str(wide) in (error.hint or "")


def test_an_adapter_of_another_kind(base: Path, tmp_path: Path) -> None:
    config = IA3Config(target_modules=["k_proj", "up_proj"], feedforward_modules=["up_proj"])
    folder = save_adapter(tmp_path / "a", base, config=config)
    error = failure(spec_of(base, adapter(folder)))
    assert (error.code, "IA3" in error.message) == ("not_lora", True)


def test_without_the_library(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError) as caught:
        optional_libraries.require(spec_of(base, adapter("owner/lora")))
    assert caught.value.code == "not_installed"
    assert "pip install 'modelcompose-jupyter[lora]'" in (caught.value.hint or "")


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
