"""Architectures in C: read from their files, they compute what transformers' own models do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from standins import tiny_models
from transformers.models.qwen3_5 import modeling_qwen3_5

from modelcompose_jupyter.models import ModelSpec
from modelcompose_jupyter.models.engine import layers, native_layers
from modelcompose_jupyter.models.engine.native_layers import unsupported_layers
from modelcompose_jupyter.models.engine.native_runner import NativeRunner
from modelcompose_jupyter.models.engine.torch_runner import torch_runner
from modelcompose_jupyter.models.native.decoder import Decoder
from modelcompose_jupyter.models.native.linear import Linear
from modelcompose_jupyter.models.native.parts import (
    Attention,
    Convolution,
    Heads,
    Norm,
    Recurrence,
    RecurrentHeads,
)
from modelcompose_jupyter.models.weights import (
    decoder_config,
    loader,
    native_loader,
    source,
    torch_loader,
)
from modelcompose_jupyter.models.weights.config_reader import Other
from modelcompose_jupyter.models.weights.loaded_model import LoadedModel
from modelcompose_jupyter.models.weights.native_loader import NativePlan

YARN = {
    "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {}),
    "gpt2 untied": ("gpt2", {"tie_word_embeddings": False, "n_inner": 48}),
    "gpt2 unscaled": ("gpt2", {"scale_attn_weights": False, "activation_function": "relu"}),
    "gpt2 scaled by layer": (
        "gpt2",
        {"scale_attn_by_inverse_layer_idx": True, "activation_function": "gelu"},
    ),
    "gpt_neo": ("gpt_neo", {}),
    "gpt_neo untied": (
        "gpt_neo",
        {
            "tie_word_embeddings": False,
            "intermediate_size": 48,
            "num_layers": 3,
            "attention_types": [[["local"], 2], [["global"], 1]],
        },
    ),
    "gpt_neox": ("gpt_neox", {}),
    "gpt_neox in turn": (
        "gpt_neox",
        {"use_parallel_residual": False, "attention_bias": False, "hidden_act": "gelu_fast"},
    ),
    "gpt_neox turning wholly": (
        "gpt_neox",
        {
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "linear",
                "rope_theta": 3e4,
                "factor": 2.0,
                "partial_rotary_factor": 1.0,
            },
        },
    ),
    "codegen": ("codegen", {}),
    "codegen of many heads": ("codegen", {"n_head": 8, "n_embd": 64, "rotary_dim": 8}),
    "codegen tied": ("codegen", {"tie_word_embeddings": True, "n_inner": 48}),
    "gptj": ("gptj", {}),
    "gptj tied": ("gptj", {"tie_word_embeddings": True, "rotary_dim": 8, "n_head": 2}),
    "gemma2": ("gemma2", {}),
    "gemma2 untied": (
        "gemma2",
        {
            "tie_word_embeddings": False,
            "attention_bias": True,
            "final_logit_softcapping": None,
            "layer_types": ["full_attention", "sliding_attention"] * 2,
        },
    ),
    "gemma2 uncapped": ("gemma2", {"attn_logit_softcapping": None}),
    "gemma3 capped": ("gemma3_text", {"final_logit_softcapping": 4.0}),
    "granite": ("granite", {}),
    "granite tied": (
        "granite",
        {
            "tie_word_embeddings": True,
            "attention_bias": True,
            "mlp_bias": True,
            "residual_multiplier": 1.0,
            "logits_scaling": 8,
        },
    ),
    "granite 4": ("granitemoehybrid", {}),
    "granite 4 without positions": (
        "granitemoehybrid",
        {"position_embedding_type": "nope", "attention_bias": True, "tie_word_embeddings": True},
    ),
    "granite 4 with states": (
        "granitemoehybrid",
        {
            "layer_types": ["mamba", "attention", "mamba", "mamba"],
            "position_embedding_type": "nope",
            "mamba_d_state": 16,
        },
    ),
    "granite 4 with states of other sizes": (
        "granitemoehybrid",
        {
            "layer_types": ["attention", "mamba", "mamba", "attention"],
            "mamba_n_heads": 6,
            "mamba_d_head": 16,
            "mamba_expand": 3,
            "mamba_n_groups": 2,
            "mamba_d_state": 10,
            "mamba_d_conv": 3,
            "mamba_conv_bias": False,
            "mamba_proj_bias": True,
        },
    ),
    "lfm2": ("lfm2", {}),
    "lfm2 untied": (
        "lfm2",
        {
            "tie_word_embeddings": False,
            "conv_bias": True,
            "conv_L_cache": 5,
            "layer_types": None,
            "full_attn_idxs": [1],
            "block_auto_adjust_ff_dim": False,
        },
    ),
    "gemma4_text": ("gemma4_text", {}),
    "gemma4_text of one projection": (
        "gemma4_text",
        {
            "attention_k_eq_v": True,
            "per_layer_config": {
                1: {"head_dim": 16, "num_key_value_heads": 1},
                3: {"head_dim": 16, "num_key_value_heads": 1},
            },
            "hidden_size_per_layer_input": 0,
            "num_kv_shared_layers": 0,
            "use_bidirectional_attention": "vision",
            "final_logit_softcapping": 4.0,
            "tie_word_embeddings": False,
            "attention_bias": True,
        },
    ),
    "gemma4_text wider": (
        "gemma4_text",
        {"use_double_wide_mlp": True, "vocab_size_per_layer_input": 410, "head_dim": 24},
    ),
    "gemma4": ("gemma4", {}),
    "hyperclovax": ("hyperclovax", {}),
    "hyperclovax without norms after": (
        "hyperclovax",
        {
            "use_post_norm": False,
            "attention_multiplier": None,
            "head_dim": 16,
            "mlp_bias": True,
            "attention_bias": True,
            "tie_word_embeddings": True,
        },
    ),
    "olmo2": ("olmo2", {}),
    "olmo2 tied": (
        "olmo2",
        {"tie_word_embeddings": True, "attention_bias": True, "num_key_value_heads": 4},
    ),
    "olmo3": ("olmo3", {}),
    "olmo3 yarn": ("olmo3", {"rope_parameters": {"full_attention": YARN}}),
    "exaone4": ("exaone4", {}),
    "exaone4 of full attention": (
        "exaone4",
        {
            "sliding_window": None,
            "layer_types": ["full_attention"] * 4,
            "tie_word_embeddings": True,
        },
    ),
    "qwen3_5": ("qwen3_5_text", {}),
    "qwen3_5 of other sizes": (
        "qwen3_5_text",
        {
            "num_hidden_layers": 5,
            "layer_types": None,
            "tie_word_embeddings": True,
            "attention_bias": True,
            "linear_num_key_heads": 1,
            "linear_num_value_heads": 3,
            "linear_key_head_dim": 12,
            "linear_value_head_dim": 40,
            "linear_conv_kernel_dim": 3,
            "partial_rotary_factor": 0.5,
        },
    ),
    "qwen3_5 of one tap": ("qwen3_5_text", {"linear_conv_kernel_dim": 1, "head_dim": 16}),
    "llama yarn": ("llama", {"rope_parameters": YARN}),
    "llama yarn scaled": (
        "llama",
        {
            "head_dim": 32,
            "rope_parameters": {**YARN, "mscale": 1.2, "mscale_all_dim": 0.8, "beta_fast": 8},
        },
    ),
    "kanana": (
        "llama",
        {
            "head_dim": 16,
            "num_key_value_heads": 1,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
        },
    ),
}
TOKENS = [5 + 7 * number % 380 for number in range(100)]
"""More than `tiny_models.WINDOW`, and more than attention takes at once."""


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(autouse=True)
def delta_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """The delta rule token by token, which rounds less than transformers' chunks do."""
    rule = modeling_qwen3_5.torch_recurrent_gated_delta_rule
    monkeypatch.setattr(modeling_qwen3_5, "torch_chunk_gated_delta_rule", rule)


def _ignore(_: object) -> None:
    pass


def in_c(folder: Path, **options: Any) -> LoadedModel:
    """A model in C, as its files are read."""
    spec = ModelSpec(str(folder), **options)
    plan = loader.plan(spec, source.resolve(spec, _ignore), _ignore)
    assert isinstance(plan, NativePlan), plan
    return native_loader.load(plan, _ignore)


def in_torch(folder: Path, **options: Any) -> LoadedModel:
    """A model as transformers loads it."""
    spec = ModelSpec(str(folder), **options)
    return torch_loader.load(
        torch_loader.plan(spec, source.resolve(spec, _ignore), _ignore), _ignore
    )


def runner_of(loaded: LoadedModel) -> NativeRunner:
    assert loaded.decoder is not None
    return NativeRunner(loaded.decoder, None)


def scores_of(runner: NativeRunner, parts: tuple[int, ...] = (60, 61, 62, 95, 100)) -> np.ndarray:
    """Those of all tokens, read in parts that end so."""
    slot, found, start = runner.cache.open(len(TOKENS)), [], 0
    for end in parts:
        count = end - start
        found.append(runner.forward(TOKENS[start:end], range(count), (), [(slot, count)]))
        start = slot.length = end
    return np.concatenate(found)


@pytest.fixture(params=MODELS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    architecture, options = MODELS[request.param]
    return tiny_models.save(tmp_path / "m", architecture, vectors=True, **options)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_scores_are_those_of_transformers(folder: Path, kind: str) -> None:
    """To the rounding of float32; in others nearer to what is right than transformers' own are."""
    wanted = in_torch(folder, precision="float32").model
    theirs = in_torch(folder, precision=kind).model
    found = scores_of(runner_of(in_c(folder, precision=kind)))
    for weight in wanted.parameters():
        weight.copy_(weight.to(getattr(torch, kind)))
    tokens = torch.tensor([TOKENS])
    right = wanted(tokens).logits[0].double().numpy()
    if kind == "float32":
        assert np.abs(found - right).max() < 1e-4 * right.std()
        return
    own = np.abs(found - right).mean()
    assert own < 1.1 * np.abs(theirs(tokens).logits[0].double().numpy() - right).mean()
    assert own < 0.05 * right.std()


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=str)
def test_a_model_that_torch_has_loaded_has_the_same_scores(folder: Path, kind: torch.dtype) -> None:
    """Pickled, say, or with adapters merged; and it generates as before. Only of models whose
    layers are replaced torch computes the rotations."""
    precision = str(kind).removeprefix("torch.")
    wanted = scores_of(runner_of(in_c(folder, precision=precision)))
    loaded = in_torch(folder, precision=precision)
    tokens = torch.tensor([TOKENS[:8]])
    options = {"attention_mask": torch.ones_like(tokens), "do_sample": False, "max_new_tokens": 5}
    before = loaded.model.generate(tokens, **options)
    replaced = layers.are_known(loaded.model) and not unsupported_layers(loaded.model)
    runner = torch_runner(loaded)
    assert isinstance(runner, NativeRunner)
    found = scores_of(runner)
    assert np.abs(found - wanted).max() <= (0.05 * wanted.std() if replaced else 0)
    assert loaded.model.generate(tokens, **options).tolist() == before.tolist()


def test_what_is_said_of_a_model_is_what_is_said_of_it_on_torch(folder: Path) -> None:
    mine, theirs = in_c(folder), in_torch(folder)
    for fact in ("context", "class_name", "device", "precision", "parameters", "stop_ids",
                 "stop_sequences", "encoder_decoder"):  # fmt: skip
        assert getattr(mine, fact) == getattr(theirs, fact), fact
    for default in vars(mine.defaults):
        if default != "stop_strings":
            assert getattr(mine.defaults, default) == getattr(theirs.defaults, default), default
    decoder = mine.decoder
    assert decoder is not None
    rows = 0 if decoder.inputs is None else decoder.inputs.table.arrays[0].nbytes
    assert mine.memory_bytes == decoder.bytes >= 4 * mine.parameters - rows


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_a_prompt_has_the_same_scores_however_it_is_divided(folder: Path, kind: str) -> None:
    """To the last bit, with any number of threads."""
    runner = runner_of(in_c(folder, precision=kind))
    runner.threads = 1
    whole = scores_of(runner, (100,))
    runner.threads = 3
    assert np.array_equal(scores_of(runner), whole)
    assert np.array_equal(scores_of(runner, tuple(range(1, 101))), whole)


@pytest.mark.parametrize("quantization", ["int8", "int4"])
@pytest.mark.parametrize("architecture", ["lfm2", "gemma4_text"])
def test_so_it_has_with_weights_in_few_bits(
    architecture: str, quantization: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tiny_models.save(tmp_path / "m", architecture, hidden_size=64)
    runner = runner_of(in_c(folder, quantization=quantization))
    whole = scores_of(runner, (100,))
    runner.threads = 3
    assert np.array_equal(scores_of(runner, (1, 2, 40, 64, 99, 100)), whole)


@pytest.mark.parametrize("architecture", ["lfm2", "gemma4_text"])
def test_a_text_goes_on_from_any_of_its_tokens(architecture: str, tmp_path: Path) -> None:
    """After draft tokens that are not taken, and from what another text has kept."""
    runner = runner_of(in_c(tiny_models.save(tmp_path / "m", architecture)))
    whole = scores_of(runner, (100,))
    first = runner.cache.open(len(TOKENS))
    runner.forward(TOKENS[:60], [59], (), [(first, 60)])
    for length in (50, 51, 30, 1):
        first.length = length
        runner.forward([7] * 9, range(9), (), [(first, 9)])
        second = runner.cache.open(200)
        second.begin(first.kept, length)
        for slot in (first, second):
            rest = runner.forward(TOKENS[length:60], range(60 - length), (), [(slot, 60 - length)])
            assert np.array_equal(rest, whole[length:60])


@pytest.mark.parametrize("architecture", ["llama", "gemma4_text"])
def test_scores_are_the_same_whichever_are_wanted(architecture: str, tmp_path: Path) -> None:
    """Layers that keep nothing compute those alone."""
    runner = runner_of(in_c(tiny_models.save(tmp_path / "m", architecture)))
    whole = scores_of(runner, (100,))
    first, second = runner.cache.open(100), runner.cache.open(100)
    spans = [(first, 40), (second, 100)]
    for wanted in ([], [139], [39, 139, 41, 0], [120, 40, 7, 39, 38]):
        for runner.threads in (1, 2):
            found = runner.forward([*TOKENS[:40], *TOKENS], wanted, (), spans)
            assert np.array_equal(
                found, whole[[each % 40 if each < 40 else each - 40 for each in wanted]]
            )


def test_a_token_beyond_the_positions_of_a_model_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "m", "gpt2", n_positions=40)
    runner = runner_of(in_c(folder))
    slot = runner.cache.open(50)
    runner.forward(TOKENS[:40], [39], (), [(slot, 40)])
    slot.length = 40
    with pytest.raises(IndexError, match="beyond the 40 positions"):
        runner.forward([5], [0], (), [(slot, 1)])


# Files as they are met


def changed(folder: Path, **config: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


def renamed(folder: Path, name: Callable[[str], str], **more: torch.Tensor) -> None:
    """Give tensors other names, and the file others beside them."""
    path = folder / "model.safetensors"
    there = safetensors.torch.load_file(path)
    found = {name(old): tensor for old, tensor in there.items()}
    safetensors.torch.save_file({**found, **more}, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("architecture", "prefix"), [("gpt2", "transformer."), ("gpt_neo", "transformer."),
                                 ("llama", "model.")]
)  # fmt: skip
def test_files_that_were_written_without_the_head_are_read(
    architecture: str, prefix: str, tmp_path: Path
) -> None:
    """As the first file of GPT-2 is: with masks among its tensors, and without a prefix."""
    folder = tiny_models.save(tmp_path / "m", architecture, tie_word_embeddings=True)
    wanted = scores_of(runner_of(in_c(folder)))
    masks = {
        "h.0.attn.bias": torch.ones(1, 1, 900, 900, dtype=torch.uint8),
        "h.0.attn.masked_bias": torch.tensor(-1e4),
        "rotary_emb.inv_freq": torch.ones(4).half(),
    }
    renamed(folder, lambda name: name.removeprefix(prefix), **masks)
    loaded = in_c(folder)
    assert np.array_equal(scores_of(runner_of(loaded)), wanted)
    assert loaded.parameters == in_torch(folder).parameters


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_that_reads_images_is_read_for_its_text(tied: bool, tmp_path: Path) -> None:
    """What it has for images, and for drafts, stays where it is."""
    model = tiny_models.make("qwen3_5", vectors=True)
    if tied:
        model.lm_head.weight = model.model.language_model.embed_tokens.weight
        model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = True
    model.save_pretrained(tmp_path)
    tiny_models.tokenizer().save_pretrained(tmp_path)
    renamed(tmp_path, lambda name: name, **{"mtp.layers.0.mlp.up_proj.weight": torch.ones(4, 4)})
    loaded = in_c(tmp_path)
    found = scores_of(runner_of(loaded))
    wanted = model(torch.tensor([TOKENS])).logits[0].numpy()
    assert np.abs(found - wanted).max() < 1e-4 * wanted.std()
    theirs = in_torch(tmp_path)
    assert loaded.class_name == theirs.class_name == "Qwen3_5ForCausalLM"
    assert loaded.parameters == theirs.parameters
    assert np.array_equal(scores_of(torch_runner(theirs)), found)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"text_config": None}, {"text_config": {"model_type": "qwen3_5_moe_text"}},
        {"architectures": ["Qwen3_5ForSequenceClassification"]}, {"quantization_config": {}},
    ],
    ids=str,
)  # fmt: skip
def test_models_that_read_images_and_are_others_are_left_to_transformers(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = tiny_models.save(tmp_path / "m", "qwen3_5")
    content = json.loads((folder / "config.json").read_text())
    assert decoder_config.read(content).layers == 2
    with pytest.raises(Other):
        decoder_config.read({**content, **changes})


def test_the_head_of_a_newer_file_is_found(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "m", "gpt_neox")
    wanted = scores_of(runner_of(in_c(folder)))
    renamed(folder, lambda name: name.replace("embed_out", "lm_head"))
    assert np.array_equal(scores_of(runner_of(in_c(folder))), wanted)


def test_configs_as_older_models_have_them_are_read(tmp_path: Path) -> None:
    """With other keys, and without what was added to transformers later."""
    folder = tiny_models.save(tmp_path / "m", "gpt2")
    wanted = scores_of(runner_of(in_c(folder)))
    content = json.loads((folder / "config.json").read_text())
    for name in ("activation_function", "n_inner", "tie_word_embeddings", "scale_attn_weights",
                 "reorder_and_upcast_attn", "dtype"):  # fmt: skip
        del content[name]
    content |= {"hidden_size": content["n_embd"], "n_ctx": 128, "gradient_checkpointing": False}
    (folder / "config.json").write_text(json.dumps(content))
    assert np.array_equal(scores_of(runner_of(in_c(folder))), wanted)

    folder = tiny_models.save(tmp_path / "x", "gpt_neox")
    wanted = scores_of(runner_of(in_c(folder)))
    content = json.loads((folder / "config.json").read_text())
    del content["rope_parameters"], content["use_parallel_residual"], content["attention_bias"]
    content |= {"rotary_pct": 0.25, "rotary_emb_base": 10000}
    (folder / "config.json").write_text(json.dumps(content))
    assert np.array_equal(scores_of(runner_of(in_c(folder))), wanted)


def test_heads_of_gemma_4_are_read_as_its_first_models_say_them(tmp_path: Path) -> None:
    """By two keys for all layers without a window; and the last has none, whatever is said."""
    options = {"attention_k_eq_v": True, "num_kv_shared_layers": 0}
    layers = {layer: {"head_dim": 16, "num_key_value_heads": 1} for layer in (1, 3)}
    folder = tiny_models.save(tmp_path / "m", "gemma4_text", per_layer_config=layers, **options)
    wanted = scores_of(runner_of(in_c(folder)))
    content = json.loads((folder / "config.json").read_text())
    del content["per_layer_config"], content["rope_parameters"], content["layer_types"][3]
    content["layer_types"] += ["sliding_attention"]
    content |= {"global_head_dim": 16, "num_global_key_value_heads": 1}
    (folder / "config.json").write_text(json.dumps(content))
    assert np.array_equal(scores_of(runner_of(in_c(folder))), wanted)


def test_of_what_layers_get_of_a_token_only_its_rows_are_read(tmp_path: Path) -> None:
    """The table stays in its file, in whatever numbers it is there."""
    folder = tiny_models.save(tmp_path / "m", "gemma4_text", vocab_size_per_layer_input=4000)
    for kind in ("float32", "bfloat16"):
        spec = ModelSpec(str(folder), precision=kind)
        plan = native_loader.plan(spec, source.resolve(spec, _ignore))
        loaded = in_c(folder, precision=kind)
        assert loaded.decoder is not None
        assert loaded.decoder.inputs is not None
        table = loaded.decoder.inputs.table
        assert (table.kind, table.outputs, table.weights.flags.writeable) == (
            "float32",
            4000,
            False,
        )
        size = plan.found.tensors[plan.found.config.input_table_name][1].size
        assert size == 4 * table.outputs * table.inputs
        factors = len(loaded.decoder.layers)
        read = sum(end - begin for _, begin, end in plan.found.spans)
        assert read == 4 * (loaded.parameters + factors) - size
        assert loaded.memory_bytes < size
        assert plan.size.peak < 2 * size


def test_what_is_about_images_and_sound_is_left_out(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "m", "gemma4")
    loaded = in_c(folder)
    towers = {"model.vision_tower.x": torch.ones(3).long(), "model.audio_tower.y": torch.ones(2)}
    renamed(folder, lambda name: name, **towers)
    changed(folder, vision_config={"hidden_size": 16}, audio_config={})
    again = in_c(folder)
    assert np.array_equal(scores_of(runner_of(again)), scores_of(runner_of(loaded)))
    assert again.parameters == loaded.parameters


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("gpt2", {"reorder_and_upcast_attn": True}), ("gpt2", {"add_cross_attention": True}),
        ("gpt2", {"hidden_size": 64}), ("gpt2", {"activation_function": "tanh"}),
        ("gpt2", {"n_head": 5}), ("gpt2", {"num_key_value_heads": 2}), ("gpt2", {"n_inner": 7}),
        ("gpt_neo", {"attention_types": [[["global"], 1]]}),
        ("gpt_neo", {"attention_types": [[["global", "far"], 1]]}),
        ("gpt_neo", {"attention_types": [[["global"], 10**12]]}),
        ("gpt_neo", {"attention_types": [[["global"], -2], [["local"], 4]]}),
        ("gpt2", {"n_layer": 10**12}), ("llama", {"head_dim": 10**12}),
        ("gpt_neo", {"attention_layers": ["local", "local"]}),
        ("lfm2", {"layer_types": ["conv", "mamba"] * 2}), ("lfm2", {"conv_L_cache": 0}),
        ("lfm2", {"full_attn_idxs": 3, "layer_types": None}), ("lfm2", {"block_multiple_of": 0}),
        ("lfm2", {"block_ffn_dim_multiplier": 1e400}), ("lfm2", {"num_key_value_heads": None}),
        ("gemma4_text", {"enable_moe_block": True}), ("gemma4_text", {"head_dim": 7}),
        ("gemma4_text", {"use_bidirectional_attention": "all"}),
        ("gemma4_text", {"num_kv_shared_layers": 3}), ("gemma4_text", {"num_kv_shared_layers": 4}),
        ("gemma4_text", {"num_kv_shared_layers": -1}), ("gemma4_text", {"sliding_window": 0}),
        ("gemma4_text", {"per_layer_config": {"1": {"hidden_size": 8}}}),
        ("gemma4_text", {"per_layer_config": {"1": {"head_dim": 16}}}),
        ("gemma4_text", {"per_layer_config": [3]}), ("gemma4_text", {"rope_parameters": {}}),
        ("gemma4_text", {"rope_parameters": {"full_attention": 3}}),
        ("gemma4_text", {"vocab_size_per_layer_input": 300}),
        ("gemma4_text", {"hidden_size_per_layer_input": 3}),
        ("gemma4", {"text_config": None}), ("gemma4", {"text_config": {"model_type": "llama"}}),
        ("gemma4", {"quantization_config": {}}),
        ("gpt_neox", {"head_dim": 16}), ("gpt_neox", {"rope_theta": 5.0}),
        ("gpt_neox", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
        ("gpt_neox", {"rope_parameters": {"partial_rotary_factor": 0.01}}),
        ("codegen", {"n_head": 2}), ("codegen", {"rotary_dim": None}),
        ("gptj", {"rotary_dim": 0}),
        ("exaone4", {"sliding_window": None}), ("exaone4", {"num_key_value_heads": None}),
        ("exaone4", {"layer_types": None, "sliding_window": None}),
        ("exaone4", {"layer_types": None, "sliding_window_pattern": "LLLG"}),
        ("olmo3", {"layer_types": ["chunked_attention"] * 4}),
        ("olmo2", {"final_logit_softcapping": 3.0}),
        ("granitemoehybrid", {"num_local_experts": 4}), ("granitemoehybrid", {"layer_types": None}),
        ("granitemoehybrid", {"layer_types": ["attention", "mamba"] * 2}),
        ("granitemoehybrid", {"layer_types": ["conv"] * 4}),
        *(
            ("granitemoehybrid", {"layer_types": ["attention", "mamba"] * 2, **each})
            for each in (
                {"mamba_d_head": 8}, {"time_step_limit": [0.0, 1.0]}, {"mamba_n_groups": 3},
                {"mamba_d_state": 7}, {"mamba_n_heads": "many"}, {"mamba_expand": 0},
            )
        ),
        ("granitemoehybrid", {"shared_intermediate_size": 7}),
        ("gemma2", {"use_bidirectional_attention": True}),
        ("qwen3_5_text", {"layer_types": ["conv"] * 4}),
        ("qwen3_5_text", {"attn_output_gate": False}),
        ("qwen3_5_text", {"linear_num_key_heads": 3}), ("qwen3_5_text", {"linear_key_head_dim": 7}),
        ("qwen3_5_text", {"linear_conv_kernel_dim": 0}),
        ("qwen3_5_text", {"linear_conv_kernel_dim": 5}),
        ("qwen3_5_text", {"layer_types": None, "full_attention_interval": 0}),
        ("qwen3_5_text", {"linear_value_head_dim": None}),
        ("llama", {"rope_parameters": {**YARN, "truncate": False}}),
        ("llama", {"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_known_of_a_family_is_left_to_transformers(
    architecture: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = changed(tiny_models.save(tmp_path / "m", architecture), **changes)
    spec = ModelSpec(str(folder))
    with pytest.raises(Other):
        native_loader.plan(spec, source.resolve(spec, _ignore))


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_weights_the_other_way_round_are_copied_and_the_rest_stays_in_its_file(
    kind: str, tmp_path: Path
) -> None:
    folder = tiny_models.save(tmp_path / "m", "gpt2")
    loaded = in_c(folder, precision=kind)
    assert loaded.decoder is not None
    mapped = 4 * (400 + 128 + 2 * 13 + 2) * 32 if kind == "float32" else 0
    assert loaded.mapped_bytes == mapped
    weight = loaded.decoder.layers[1].down.weights
    stored = in_torch(folder, precision=kind).model.transformer.h[1].mlp.c_proj.weight
    assert np.array_equal(weight, native_layers._array(stored.t()))


def test_code_that_comes_with_a_model_is_transformers_to_run_if_it_is_trusted(
    tmp_path: Path,
) -> None:
    """Else transformers takes its own class, and so do the kernels."""
    folder = tiny_models.save(tmp_path / "m", "hyperclovax")
    wanted = scores_of(runner_of(in_c(folder)))
    changed(folder, auto_map={"AutoModelForCausalLM": "modeling.HyperCLOVAXForCausalLM"})
    assert np.array_equal(scores_of(runner_of(in_c(folder))), wanted)
    spec = ModelSpec(str(folder), trust_remote_code=True)
    with pytest.raises(Other, match="code of its own"):
        native_loader.plan(spec, source.resolve(spec, _ignore))


def test_a_way_to_keep_keys_and_values_is_no_reason_for_torch(tmp_path: Path) -> None:
    """Gemma's settings ask for one, and each of them gives the same text."""
    options: dict[str, Any] = {"generation": {"cache_implementation": "hybrid"}}
    assert in_c(tiny_models.save(tmp_path / "m", "gemma2", **options)).decoder is not None


# What would lead beyond the memory


@pytest.mark.parametrize(
    "changes",
    [
        {"heads": RecurrentHeads(2, 4, 8, 16, 4)}, {"heads": RecurrentHeads(4, 4, 8, 8, 4)},
        {"heads": RecurrentHeads(2, 3, 8, 8, 4)}, {"heads": RecurrentHeads(0, 4, 8, 8, 4)},
        {"heads": RecurrentHeads(2, 4, 7, 8, 4)}, {"heads": RecurrentHeads(2, 4, 8, 8, 0)},
        {"filter": np.ones((3, 64), np.float32)}, {"filter": np.ones((4, 64))},
        {"decay": np.ones(2, np.float32)}, {"bias": np.ones(4)},
        {"norm": np.ones(32, np.float32)},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_recurrences_that_do_not_fit_are_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    parts = in_c(tiny_models.save(tmp_path / "m", "qwen3_5_text")).decoder
    assert parts is not None
    Decoder(parts)
    net, gated = parts.layers[0], parts.layers[1]
    assert isinstance(net.mixer, Recurrence)
    with pytest.raises(ValueError, match=r"\w"):
        Decoder(replace(parts, layers=[replace(net, mixer=replace(net.mixer, **changes))]))
    for gates in (None, Heads(8, 1, 40), Heads(-1, 1, 16)):
        with pytest.raises(ValueError, match=r"\w"):
            Decoder(replace(parts, layers=[replace(gated, gates=gates)]))


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("layer", {"mixer": Attention(3, 4, 8)}), ("layer", {"mixer": Attention(4, 0, 8)}),
        ("layer", {"mixer": Attention(4, 4, 10)}), ("layer", {"mixer": Attention(4, -4, 8)}),
        ("layer", {"mixer": Convolution(np.ones((3, 32), np.float32), np.ones(8, np.float32))}),
        ("layer", {"mixer": Convolution(np.ones((3, 16), np.float32))}),
        ("layer", {"heads": (Heads(0, 1, 24), Heads(8, 1, 28), Heads(16, 1, 24))}),
        ("layer", {"heads": (Heads(-8, 4), Heads(32, 4), Heads(64, 4))}),
        ("layer", {"heads": (Heads(0, 0), Heads(32, 4), Heads(64, 4))}),
        ("parts", {"positions": np.zeros((10, 16), np.float32)}),
        ("parts", {"embedding": Linear(np.zeros((10, 16), np.float32), None, "float32")}),
        ("parts", {"norm": Norm(np.ones(16, np.float32))}),
        ("parts", {"norm": Norm(np.ones(32, np.float32), np.ones(16, np.float32))}),
        ("parts", {"norm": Norm(np.ones(32))}),
        ("layer", {"rotation": "none"}), ("layer", {"rotation": "wide"}),
        ("layer", {"window": -1}), ("layer", {"window": 1 << 40}),
        ("layer", {"query_norm": Norm(np.ones(16, np.float32))}),
        ("layer", {"before_mlp": Norm(np.ones(8, np.float32))}),
        ("layer", {"qkv": []}), ("layer", {"gate_up": []}),
        ("layer", {"output": Linear(np.ones((32, 16), np.float32), None, "float32")}),
        ("layer", {"down": Linear(np.ones((16, 128), np.float32), None, "float32")}),
        ("layer", {"down": Linear(np.ones((32, 64), np.float32), None, "float32")}),
        ("layer", {"gate_up": [Linear(np.ones((128, 32), np.float32), np.ones(4, np.float32),
                                      "float32")]}),
    ],
    ids=lambda each: each if isinstance(each, str) else next(iter(each)),
)  # fmt: skip
def test_parts_that_do_not_fit_are_refused(
    part: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    parts = in_c(tiny_models.save(tmp_path / "m", "gpt2")).decoder
    assert parts is not None
    parts = replace(parts, rotations=lambda positions: {"wide": (np.ones((positions, 9)),) * 2})
    Decoder(parts)
    if part == "layer":
        changes = {"layers": [parts.layers[0], replace(parts.layers[1], **changes)]}
    with pytest.raises(ValueError, match=r"\w"):
        Decoder(replace(parts, **changes))
