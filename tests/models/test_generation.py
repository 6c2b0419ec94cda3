"""Text from a model: equal to generate(), seeded, with every parameter in force, and honest."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from standins import tiny_models
from standins.tiny_models import ARCHITECTURES, CONTEXT, ENCODER_DECODERS, WITH_IMAGES
from standins.tokenizers_of_kinds import tokenizer_of
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
)

from modelcompose_jupyter.document.parameters import GenerationParameters
from modelcompose_jupyter.errors import InputError, ModelError
from modelcompose_jupyter.models import Lease, ModelCache, ModelSpec
from modelcompose_jupyter.models.engine.native_runner import NativeRunner
from modelcompose_jupyter.models.engine.rng import draw

from .conftest import Deltas, ask, done

LeaseOf = Callable[[str], Lease]
PROMPTS = ("Once upon a time", "옛날에 여우", "🦊 the")


@pytest.fixture
def lease(lease_of: LeaseOf) -> Lease:
    return lease_of("llama")


def reference(folder: Path, prompt: str, **options: object) -> tuple[list[int], str]:
    """What transformers itself generates: the new ids, and the text as we define it."""
    config = json.loads((folder / "config.json").read_text())
    replies = config.get("is_encoder_decoder")
    auto = AutoModelForSeq2SeqLM if replies else AutoModelForCausalLM
    if "vision_config" in config:
        auto = AutoModelForImageTextToText
    model = auto.from_pretrained(folder, dtype="auto").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(prompt, return_tensors="pt")
    options = {"do_sample": False, "max_new_tokens": 40, **options}
    inputs = {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}
    output = model.generate(**inputs, **options)[0].tolist()
    if replies:
        return output[1:], tiny_models.text_of(tokenizer, output)
    start = tokens["input_ids"].shape[1]
    before = tiny_models.text_of(tokenizer, output[:start])
    whole = tiny_models.text_of(tokenizer, output)
    return output[start:], prompt + whole[len(before) :]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_text_is_that_of_generate(
    architecture: str, lease_of: LeaseOf, folder_of: Callable[[str], Path]
) -> None:
    for prompt in PROMPTS:
        ids, text = reference(folder_of(architecture), prompt)
        result = ask(lease_of(architecture), prompt, do_sample=False, max_output_length=40)
        assert result.texts == [text]
        assert result.usage["generated"] == len(ids)


@pytest.mark.parametrize("architecture", ["llama", "blenderbot"])
def test_stop_ids_end_the_text_as_in_generate(
    architecture: str, folder_of: Callable[[str], Path], tmp_path: Path, cache: ModelCache
) -> None:
    ids, _ = reference(folder_of(architecture), PROMPTS[0])
    stops = [ids[9], 2]
    folder = tiny_models.save(tmp_path / "m", architecture, generation={"eos_token_id": stops})
    ids, text = reference(folder, PROMPTS[0])
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        result = ask(lease, PROMPTS[0], do_sample=False, max_output_length=40)
    assert ids[-1] in stops
    assert (result.texts, result.finish_reasons) == ([text], ["eos"])
    assert result.usage["generated"] == len(ids) <= 10


def test_stop_ids_come_from_the_config_where_the_generation_config_has_none(
    folder_of: Callable[[str], Path], tmp_path: Path, cache: ModelCache
) -> None:
    ids, _ = reference(folder_of("llama"), PROMPTS[0])
    folder = tiny_models.save(tmp_path / "m", "llama")
    for name, ends in (("config.json", ids[5]), ("generation_config.json", None)):
        content = json.loads((folder / name).read_text())
        content["eos_token_id"] = ends
        (folder / name).write_text(json.dumps(content))
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        result = ask(lease, PROMPTS[0], do_sample=False, max_output_length=40)
    assert result.finish_reasons == ["eos"]
    assert result.usage["generated"] <= 6


def test_what_the_tokenizer_does_not_know_is_told(cache: ModelCache, tmp_path: Path) -> None:
    tokenizer = tokenizer_of("wordpiece")
    tiny_models.save(tmp_path, vocab_size=len(tokenizer))
    tokenizer.save_pretrained(tmp_path)
    with done(cache.acquire(ModelSpec(str(tmp_path)))) as lease:
        assert ask(lease, "once upon a time", max_output_length=1).warnings == []
        (warning,) = ask(lease, "once 東京 upon 京", max_output_length=1).warnings
    assert "2 of 4 tokens are <unk>" in warning


def test_beams_give_the_text_of_generate(
    lease_of: LeaseOf, folder_of: Callable[[str], Path]
) -> None:
    for architecture in ("llama", "t5"):
        _, text = reference(folder_of(architecture), PROMPTS[0], num_beams=3, max_new_tokens=12)
        streamed = Deltas()
        result = ask(
            lease_of(architecture), PROMPTS[0], do_sample=False, num_beams=3,
            max_output_length=12, on_text=streamed,
        )  # fmt: skip
        assert result.texts == [text] == [streamed.texts[0]]
        assert any("num_beams" in warning for warning in result.warnings)


def test_same_seed_same_text(lease: Lease) -> None:
    first = ask(lease, seed=7, max_output_length=30)
    torch.manual_seed(99)
    assert ask(lease, seed=7, max_output_length=30).texts == first.texts
    assert ask(lease, seed=8, max_output_length=30).texts != first.texts
    assert first.parameters["seed"] == 7


def test_a_seed_is_drawn_and_gives_the_text_again(lease: Lease) -> None:
    first = ask(lease, max_output_length=20, seed=None)
    seed = first.parameters["seed"]
    assert 0 <= seed < 2**32
    assert ask(lease, max_output_length=20, seed=seed).texts == first.texts
    assert ask(lease, max_output_length=20, seed=None).parameters["seed"] != seed


def test_seeds_of_a_fixed_model_mean_the_same_tomorrow() -> None:
    drawn = [draw(0, 0, 0), draw(1, 0, 0), draw(1, 1, 0), draw(1, 0, 1), draw(2**63 - 1, 3, 5)]
    known = [0.011546754286, 0.303568034307, 0.358114484026, 0.900268453112, 0.208737022636]
    assert drawn == pytest.approx(known, abs=1e-12)


def test_the_global_generator_is_left_alone(lease: Lease) -> None:
    torch.manual_seed(3)
    expected = torch.random.get_rng_state()
    ask(lease, seed=1, max_output_length=10)
    ask(lease, seed=1, max_output_length=5, num_beams=2)
    assert torch.equal(torch.random.get_rng_state(), expected)


def test_sampling_does_not_depend_on_other_threads(lease: Lease) -> None:
    alone = ask(lease, seed=5, max_output_length=40).texts
    stop = threading.Event()

    def draw_on() -> None:
        while not stop.is_set():
            torch.multinomial(torch.ones(8), 1)

    other = threading.Thread(target=draw_on)
    other.start()
    try:
        assert ask(lease, seed=5, max_output_length=40).texts == alone
    finally:
        stop.set()
        other.join()


def test_first_of_several_sequences_is_the_single_one(lease: Lease) -> None:
    single = ask(lease, seed=4, max_output_length=20)
    streamed = Deltas()
    several = ask(lease, seed=4, max_output_length=20, num_return_sequences=3, on_text=streamed)
    assert several.texts[0] == single.texts[0]
    assert len(set(several.texts)) == 3
    assert [streamed.texts[i] for i in range(3)] == several.texts


def test_seeded_beams_repeat(lease: Lease) -> None:
    texts = [ask(lease, seed=2, num_beams=3, max_output_length=10).texts for _ in range(2)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": 3.0},
        {"top_k": 2},
        {"top_p": 0.05},
        {"min_p": 0.9},
        {"repetition_penalty": 5.0},
        {"num_beams": 4},
        {"do_sample": False},
    ],
    ids=lambda parameters: next(iter(parameters)),
)
def test_each_parameter_changes_the_text(lease: Lease, parameters: dict[str, object]) -> None:
    base = {"seed": 11, "max_output_length": 40, "temperature": 1.5, "top_k": 0, "top_p": 1.0}
    plain = ask(lease, **base)
    changed = ask(lease, **{**base, **parameters})
    assert changed.texts != plain.texts
    for name, value in parameters.items():
        assert changed.parameters[name] == value


def test_beam_parameters_change_the_text(lease_of: LeaseOf) -> None:
    lease = lease_of("gpt2")
    base = {"do_sample": False, "num_beams": 4, "max_output_length": 30}
    short = ask(lease, **base, length_penalty=-20.0, stop_sequences=["e", "o", "a"])
    long = ask(lease, **base, length_penalty=20.0, stop_sequences=["e", "o", "a"])
    assert short.parameters["length_penalty"] == -20.0
    assert len(short.texts[0]) <= len(long.texts[0])
    assert ask(lease, **base, early_stopping=True).parameters["early_stopping"] is True


def test_unset_parameters_are_those_that_are_promised(lease: Lease) -> None:
    used = ask(lease, max_output_length=2).parameters
    promised = {
        "do_sample": True, "temperature": 0.7, "top_k": 50, "top_p": 0.9, "num_beams": 1,
        "num_return_sequences": 1, "include_prompt": True,
    }  # fmt: skip
    assert promised.items() <= used.items()


def test_unset_length_runs_to_the_end_of_the_context(tmp_path: Path, cache: ModelCache) -> None:
    folder = tiny_models.save(tmp_path / "m", generation={"eos_token_id": None, "max_length": 20})
    content = json.loads((folder / "config.json").read_text()) | {"eos_token_id": None}
    (folder / "config.json").write_text(json.dumps(content))
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        result = ask(lease, do_sample=False)
    assert result.finish_reasons == ["length"]
    assert result.usage["prompt"] + result.usage["generated"] == CONTEXT


def test_min_output_length_keeps_going(folder_of: Callable[[str], Path], tmp_path: Path,
                                       cache: ModelCache) -> None:  # fmt: skip
    ids, _ = reference(folder_of("llama"), "Once upon a")
    folder = tiny_models.save(tmp_path / "m", generation={"eos_token_id": ids[3]})
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        short = ask(lease, do_sample=False)
        long = ask(lease, do_sample=False, min_output_length=25)
    assert short.usage["generated"] <= 4
    assert long.usage["generated"] >= 25


@pytest.mark.parametrize(
    "asked", [{"temperature": 0}, {"temperature": -0.0}, {"top_p": 0}, {"temperature": 5e-324}]
)
@pytest.mark.parametrize("architecture", ["llama", "t5"])
def test_zero_is_greedy_and_says_so(
    lease_of: LeaseOf, architecture: str, asked: dict[str, float]
) -> None:
    lease = lease_of(architecture)
    greedy = ask(lease, do_sample=False, max_output_length=10)
    zero = ask(lease, **asked, max_output_length=10, seed=None)
    assert zero.texts == greedy.texts
    assert zero.parameters["do_sample"] is False
    assert zero.warnings == []
    contradicted = ask(lease, **asked, do_sample=True, max_output_length=10)
    assert any("do_sample" in warning for warning in contradicted.warnings)


@pytest.mark.parametrize("architecture", ["llama", "t5", "blenderbot", "mamba"])
@pytest.mark.parametrize(
    "asked", [{}, {"num_beams": 2}, {"num_return_sequences": 3}, {"include_prompt": False}]
)
def test_no_token_at_all(lease_of: LeaseOf, architecture: str, asked: dict[str, Any]) -> None:
    shown = Deltas()
    result = ask(lease_of(architecture), "A fox", max_output_length=0, on_text=shown, **asked)
    echoed = architecture in ("llama", "mamba") and asked.get("include_prompt") is not False
    count = asked.get("num_return_sequences", 1)
    assert result.texts == ["A fox" if echoed else ""] * count
    assert list(shown.texts.values()) == (result.texts if echoed else [])
    assert result.finish_reasons == ["length"] * count
    assert (result.usage["generated"], result.usage["prompt"] > 0) == (0, True)
    assert result.parameters["max_output_length"] == 0
    assert result.timings["tokens_per_second"] == 0


def test_no_token_beside_those_who_get_some(lease: Lease) -> None:
    alone = ask(lease, seed=3, max_output_length=30).texts
    asked = GenerationParameters(seed=3, max_output_length=30)
    none = GenerationParameters(max_output_length=0)
    every = [lease.generate("Once upon a", each) for each in (asked, none, none, asked)]
    texts = [done(each.future).texts for each in every]
    assert texts == [alone, ["Once upon a"], ["Once upon a"], alone]


def test_no_token_needs_no_room(lease: Lease) -> None:
    prompt = "x" * CONTEXT
    result = ask(lease, prompt, max_output_length=0)
    assert (result.usage["prompt"], result.texts) == (CONTEXT, [prompt])
    with pytest.raises(InputError, match="context is"):
        ask(lease, prompt + "x", max_output_length=0)
    with pytest.raises(InputError, match="leaves no room"):
        ask(lease, prompt, max_output_length=1)


@pytest.mark.parametrize("architecture", ["llama", "t5", "mamba"])
def test_a_limit_beyond_all_lengths_is_no_error(lease_of: LeaseOf, architecture: str) -> None:
    result = ask(
        lease_of(architecture), "A fox", max_output_length=10**30, stop_sequences=list("aeiou .,")
    )
    assert result.finish_reasons[0] in ("stop", "eos", "length")


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"do_sample": False, "top_k": 5}, "top_k"),
        ({"do_sample": False, "temperature": 0.5}, "temperature"),
        ({"length_penalty": 2.0}, "length_penalty"),
        ({"early_stopping": True}, "early_stopping"),
        ({"min_output_length": 1000, "max_output_length": None}, "min_output_length"),
        ({"max_input_length": 2}, "max_input_length"),
    ],
)
def test_what_has_no_effect_is_said(lease: Lease, parameters: dict[str, object], word: str) -> None:
    result = ask(lease, **{"max_output_length": 4, **parameters})
    assert any(word in warning for warning in result.warnings), result.warnings


@pytest.mark.parametrize("asked", [None, 32768])
def test_a_length_beyond_the_context_is_lowered_without_a_warning(
    lease: Lease, asked: int | None
) -> None:
    result = ask(lease, max_output_length=asked, do_sample=False)
    assert result.parameters["max_output_length"] == CONTEXT - result.usage["prompt"]
    assert (result.limited_by, result.warnings) == ("context", [])
    assert ask(lease, max_output_length=4).limited_by is None


def test_prompt_beyond_the_context(lease: Lease) -> None:
    with pytest.raises(InputError, match=rf"\d{{3}} tokens.*context is {CONTEXT}"):
        ask(lease, "fox " * 200)


def test_the_longest_prompt_gives_one_token(lease: Lease) -> None:
    prompt = "x" * (CONTEXT - 1)
    result = ask(lease, prompt)
    assert (result.usage["prompt"], result.usage["generated"]) == (CONTEXT - 1, 1)


@pytest.mark.parametrize("architecture", ["llama", "blenderbot", "t5", "mamba"])
def test_empty_prompt(architecture: str, lease_of: LeaseOf) -> None:
    result = ask(lease_of(architecture), "", max_output_length=5, seed=1)
    assert result.usage["generated"] >= 1


def test_empty_prompt_without_a_token_to_begin_with(tmp_path: Path, cache: ModelCache) -> None:
    folder = tiny_models.save(tmp_path / "m")
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        content["bos_token_id"] = content["bos_token"] = None
        (folder / name).write_text(json.dumps(content))
    with (
        done(cache.acquire(ModelSpec(str(folder)))) as lease,
        pytest.raises(InputError, match="prompt is empty"),
    ):
        ask(lease, "")


def test_max_input_length_keeps_the_beginning(lease_of: LeaseOf) -> None:
    prompt = "옛날 옛적에 작은 여우가 the fox"
    for architecture in ("llama", "t5"):
        result = ask(lease_of(architecture), prompt, max_input_length=3, max_output_length=5)
        assert result.usage["prompt"] == 3
    used = ask(lease_of("llama"), prompt, max_input_length=3, max_output_length=1).texts[0]
    assert used.startswith(prompt[:2])
    assert not used.startswith(prompt)


def test_a_prompt_that_spells_its_begin_token_has_it_once(
    tmp_path: Path, cache: ModelCache
) -> None:
    folder = tiny_models.save(tmp_path / "m", bos=True)
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        plain = ask(lease, "fox", do_sample=False, max_output_length=8)
        spelled = ask(lease, "<s>fox", do_sample=False, max_output_length=8)
    assert spelled.usage["prompt"] == plain.usage["prompt"]
    assert spelled.texts[0] == "<s>" + plain.texts[0]


def test_include_prompt_false_gives_the_completion_alone(lease: Lease) -> None:
    whole = ask(lease, "Once upon a", seed=1, max_output_length=9).texts[0]
    alone = ask(lease, "Once upon a", seed=1, max_output_length=9, include_prompt=False).texts[0]
    assert whole == "Once upon a" + alone


def test_copies_are_refused(lease: Lease) -> None:
    with pytest.raises(InputError, match="same text 3 times"):
        ask(lease, do_sample=False, num_return_sequences=3)
    with pytest.raises(InputError, match="above num_beams 2"):
        ask(lease, num_beams=2, num_return_sequences=3)


def test_a_model_without_a_context_limit(lease_of: LeaseOf) -> None:
    alone = "runs one by one, by generate(): it keeps something else than keys and values"
    for architecture, warned in (("mamba", [alone]), ("t5", [])):
        assert lease_of(architecture).info.context is None
        result = ask(lease_of(architecture), "fox " * 60, max_output_length=200, do_sample=False)
        assert [each.removesuffix(" of each token") for each in result.warnings] == warned


def test_a_result_says_what_ran(lease: Lease) -> None:
    result = ask(lease, max_output_length=3, seed=1)
    assert result.model == {
        "source": lease.info.source,
        "revision": None,
        "device": "cpu",
        "precision": "float32",
        "cache_quantization": None,
        "driver": "native",
        "driver_reason": None,
        "class": "LlamaForCausalLM",
    }
    assert 0 <= result.usage["reused"] < result.usage["prompt"]
    assert 0 <= result.timings["queue"] <= result.timings["first_token"]
    assert result.timings["first_token"] <= result.timings["total"]
    json.dumps([result.usage, result.parameters, result.timings, result.model])


def test_an_error_in_the_model_fails_one_request(tmp_path: Path, cache: ModelCache) -> None:
    tokenizer = tiny_models.tokenizer()
    folder = tiny_models.save(tmp_path / "m")
    tokenizer.add_tokens(["unheard"])
    tokenizer.save_pretrained(folder)
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        with pytest.raises(ModelError, match="failed inside the model") as caught:
            ask(lease, "unheard")
        assert caught.value.code == "run_failed"
        assert caught.value.__context__ is None
        assert ask(lease, "heard", max_output_length=2).usage["generated"] == 2


def test_running_out_of_memory_fails_one_request(
    lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> None:
        torch.empty(2**62, dtype=torch.uint8)

    with monkeypatch.context() as patch:
        patch.setattr(NativeRunner, "forward", run)
        with pytest.raises(ModelError, match="ran out of memory on cpu") as caught:
            ask(lease)
    assert caught.value.code == "out_of_memory"
    assert ask(lease, max_output_length=2).usage["generated"] == 2


def test_a_reply_has_no_prompt(lease_of: LeaseOf) -> None:
    for architecture in ENCODER_DECODERS:
        result = ask(lease_of(architecture), "fox", max_output_length=6, include_prompt=True)
        assert not result.texts[0].startswith("fox")
        assert any("include_prompt" in warning for warning in result.warnings)


@pytest.mark.parametrize("architecture", WITH_IMAGES)
def test_models_that_read_images_too_generate_from_text(
    architecture: str, folder_of: Callable[[str], Path], cache: ModelCache
) -> None:
    folder = folder_of(architecture)
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        for prompt in PROMPTS:
            _, text = reference(folder, prompt)
            assert ask(lease, prompt, do_sample=False, max_output_length=40).texts == [text]
        assert len(ask(lease, seed=1, num_return_sequences=2, max_output_length=5).texts) == 2
        _, text = reference(folder, PROMPTS[0], num_beams=2)
        beams = ask(lease, PROMPTS[0], do_sample=False, num_beams=2, max_output_length=40)
        assert beams.texts == [text]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_text_is_the_same_while_another_model_is_built(
    lease_of: LeaseOf, architecture: str
) -> None:
    """Whoever builds one changes torch's default dtype for the whole process."""
    lease = lease_of(architecture)
    asked = {"seed": 5, "temperature": 1.2, "repetition_penalty": 1.3, "max_output_length": 24}
    alone = [ask(lease, prompt, **asked).texts for prompt in PROMPTS]
    usual = torch.get_default_dtype()
    for dtype in (torch.float64, torch.bfloat16):
        torch.set_default_dtype(dtype)
        try:
            beside = [ask(lease, prompt, **asked).texts for prompt in PROMPTS]
        finally:
            torch.set_default_dtype(usual)
        assert beside == alone
