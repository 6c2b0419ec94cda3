"""Texts of a format: what the model would choose among what is allowed, in any company."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import regex
import torch
from jsonschema import validate

from modelcompose_jupyter.document.parameters import GenerationParameters
from modelcompose_jupyter.errors import ComposeError
from modelcompose_jupyter.models import (
    Beginning,
    Extension,
    GenerationResult,
    Lease,
    ModelCache,
    ModelSpec,
)
from modelcompose_jupyter.models.engine.seeded_draws import SeededDraws

from ..conftest import done

MODELS = {
    "in C": ("llama", {}),
    "on torch": ("llama", {"MODELCOMPOSE_NATIVE": "0"}),
    "padded": ("bloom", {"MODELCOMPOSE_NATIVE": "0"}),
    "in C, with a state": ("qwen3_5_text", {}),
    "one by one": ("mamba", {}),
    "encoder-decoder": ("t5", {}),
}
ASKED: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "with a penalty": {"do_sample": False, "repetition_penalty": 1.4},
    "drawn": {"seed": 3, "temperature": 1.5},
    "drawn from all": {"seed": 5, "top_k": 0, "top_p": 0.95, "min_p": 0.02, "temperature": 1.6},
}
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "kind": {"enum": ["fox", "여우", 3, None]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["name", "age", "kind"],
    "additionalProperties": False,
}
FORMATS: dict[str, dict[str, Any]] = {
    "schema": {"json_schema": SCHEMA},
    "regex": {"regex": "[a-z가-힣]{2,4}(-[0-9]{2})?"},
    "choices": {"choices": ["yes", "yes, or no", "아니요", 'say "no"\n']},
    "grammar": {"grammar": 'start: "(" inner ")"\ninner: /[xy]/ | "(" /[xy]{1,3}/ ")"'},
}
PROMPT = "Once upon a time there was 여우"
REGEX = FORMATS["regex"]["regex"]


def fits(text: str, name: str) -> bool:
    """Whether a text is of a format, by another's judgement."""
    if name == "schema":
        validate(json.loads(text), SCHEMA)
        return True
    if name == "grammar":
        return regex.fullmatch(r"\(([xy]|\([xy]{1,3}\))\)", text) is not None
    choices = FORMATS["choices"]["choices"]
    return regex.fullmatch(REGEX, text) is not None if name == "regex" else text in choices


class Asker:
    """Asks a model for texts of a format."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease

    def begin(
        self,
        format: Mapping[str, Any] | None,
        prompt: str = PROMPT,
        beginning: Beginning | None = None,
        extension: Extension | None = None,
        on_tokens: Any = None,
        **asked: Any,
    ) -> Callable[[], GenerationResult]:
        """Ask for a text; gives how to wait for it."""
        given = {"max_output_length": 120, "seed": 0, **asked, "format": format}
        if format is None:
            given["include_prompt"] = False
        parameters = GenerationParameters(**given)
        grammar = None
        if parameters.format is not None:
            grammar = done(self.lease.compile(parameters.format.llguidance))
        generation = self.lease.generate(
            prompt,
            parameters,
            beginning=beginning,
            extension=extension,
            on_tokens=on_tokens,
            grammar=grammar,
        )
        return lambda: done(generation.future)

    def ask(self, format: Mapping[str, Any] | None, **asked: Any) -> GenerationResult:
        return self.begin(format, **asked)()


Of = Callable[..., Asker]


@pytest.fixture
def asker_of(folder_of: Callable[[str], Path], cache: ModelCache) -> Of:
    def asker_of(architecture: str = "llama", **spec: Any) -> Asker:
        return Asker(done(cache.acquire(ModelSpec(str(folder_of(architecture)), **spec))))

    return asker_of


@pytest.fixture(params=MODELS)
def asker(request: pytest.FixtureRequest, asker_of: Of, monkeypatch: pytest.MonkeyPatch) -> Asker:
    architecture, environment = MODELS[request.param]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return asker_of(architecture)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ASKED)
def test_texts_are_of_their_format_in_any_company(name: str, format: str, asker: Asker) -> None:
    asked = ASKED[name]
    alone = asker.ask(FORMATS[format], **asked)
    assert alone.finish_reasons == ["eos"]
    assert fits(alone.texts[0], format)
    assert alone.parameters["format"] == FORMATS[format]
    free = asker.ask(None, **asked, max_output_length=12)
    waiting = [
        asker.begin(FORMATS["choices"], "A fox", **asked),
        asker.begin(FORMATS[format], **asked),
        asker.begin(None, max_output_length=12, **asked),
        asker.begin(FORMATS["regex"], "A fox", **asked),
    ]
    results = [wait() for wait in waiting]
    assert results[1].texts == alone.texts
    assert results[2].texts == free.texts
    assert fits(results[0].texts[0], "choices") and fits(results[3].texts[0], "regex")


@pytest.mark.parametrize("name", ASKED)
def test_a_token_is_the_one_that_generate_chooses_among_those_that_are_allowed(
    name: str, folder_of: Callable[[str], Path], asker_of: Of
) -> None:
    """Which are found another way: by trying each token on a text."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    asked, folder = ASKED[name], folder_of("llama")
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    end = model.generation_config.eos_token_id
    inputs = torch.tensor([tokenizer(PROMPT)["input_ids"]])
    pattern = "[a-z]{2,4}(-[0-9]{2})?"
    written = [tokenizer.decode([id]) for id in range(len(tokenizer))]

    def may_be(text: str) -> bool:
        return regex.fullmatch(pattern, text, partial=True) is not None

    def allowed(_: int, ids: Any) -> list[int]:
        text = tokenizer.decode(ids[inputs.shape[1] :])
        found = [
            id
            for id, more in enumerate(written)
            if more and id not in tokenizer.all_special_ids and may_be(text + more)
        ]
        return [*found, end] if regex.fullmatch(pattern, text) else found

    draws = SeededDraws(asked["seed"]) if "seed" in asked else None

    def stop(*_: Any, **__: Any) -> Any:
        if draws is not None:
            draws.end()
        return torch.zeros(1, dtype=torch.bool)

    options = {"do_sample": draws is not None}
    if draws is not None:
        options |= {"temperature": 0.7, "top_k": 50, "top_p": 0.9}
    output = model.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        prefix_allowed_tokens_fn=allowed,
        logits_processor=[draws] if draws else [],
        stopping_criteria=[stop],
        max_new_tokens=30,
        **options | {key: value for key, value in asked.items() if key != "seed"},
    )
    text = tokenizer.decode(output[0, inputs.shape[1] :], skip_special_tokens=True)
    assert asker_of().ask({"regex": pattern}, **asked).texts == [text]


@pytest.mark.parametrize("name", ["greedy", "drawn"])
@pytest.mark.parametrize("format", FORMATS)
def test_draft_tokens_change_no_text(name: str, format: str, asker_of: Of) -> None:
    asked = {**ASKED[name], "prompt": 'xy xy yes 12-12 fox fox {"name": "fox"} (x) (x)'}
    plain = asker_of().ask(FORMATS[format], **asked)
    assert asker_of(prompt_lookup=8).ask(FORMATS[format], **asked).texts == plain.texts
    free = asker_of(prompt_lookup=8).ask(None, **asked, max_output_length=20)
    assert free.texts == asker_of().ask(None, **asked, max_output_length=20).texts


@pytest.mark.parametrize("format", FORMATS)
def test_a_draft_model_changes_no_text(
    format: str, folder_of: Callable[[str], Path], asker_of: Of
) -> None:
    asked = ASKED["drawn"]
    plain = asker_of().ask(FORMATS[format], **asked)
    drafted = asker_of(draft_model=str(folder_of("llama"))).ask(FORMATS[format], **asked)
    assert drafted.texts == plain.texts
    if len(plain.texts[0]) > 10:
        assert drafted.usage["accepted_tokens"]


def test_several_texts_are_each_of_the_format(asker: Asker) -> None:
    asked = {**ASKED["drawn"], "num_return_sequences": 4}
    result = asker.ask(FORMATS["schema"], **asked)
    assert result.finish_reasons == ["eos"] * 4
    assert all(fits(text, "schema") for text in result.texts)
    assert len(set(result.texts)) > 1
    assert asker.ask(FORMATS["schema"], **ASKED["drawn"]).texts == result.texts[:1]


def test_a_text_that_is_cut_says_so_and_a_longer_one_goes_on(asker: Asker) -> None:
    whole = asker.ask(FORMATS["schema"], **ASKED["drawn"])
    cut = asker.ask(FORMATS["schema"], **ASKED["drawn"], max_output_length=9)
    assert cut.finish_reasons == ["length"]
    assert whole.texts[0].startswith(cut.texts[0]) and len(cut.texts[0]) < len(whole.texts[0])
    longer = Extension(111, cut.tokens)
    again = asker.ask(FORMATS["schema"], **ASKED["drawn"], max_output_length=9, extension=longer)
    assert (again.texts, again.finish_reasons) == (whole.texts, ["eos"])


def test_a_text_ends_as_soon_as_nothing_may_follow(asker: Asker) -> None:
    """And not before: a limit that is reached with the last token cuts nothing."""
    result = asker.ask({"regex": "a{4}"}, **ASKED["drawn"])
    assert (result.texts, result.finish_reasons) == (["aaaa"], ["eos"])
    length = result.usage["generated"]
    exact = asker.ask({"regex": "a{4}"}, **ASKED["drawn"], max_output_length=length)
    assert (exact.texts, exact.finish_reasons) == (["aaaa"], ["eos"])
    less = asker.ask({"regex": "a{4}"}, **ASKED["drawn"], max_output_length=length - 1)
    assert less.finish_reasons == ["length"]


def test_a_text_that_is_whole_is_not_made_longer(asker: Asker) -> None:
    result = asker.ask({"regex": "ab?"}, **ASKED["drawn"], min_output_length=40)
    assert (result.texts, result.finish_reasons) == (["ab"], ["eos"])


def test_stop_sequences_end_a_text_before_it_is_whole(asker: Asker) -> None:
    result = asker.ask(FORMATS["schema"], **ASKED["drawn"], stop_sequences=['"age"'])
    assert result.finish_reasons == ["stop"]
    assert result.texts[0].endswith(", ")


def test_a_beginning_that_is_not_of_the_format_is_refused(asker: Asker) -> None:
    whole = asker.ask(FORMATS["schema"], **ASKED["drawn"])
    if whole.tokens:  # those of generate() are not told
        given = Beginning([list(whole.tokens[0][:5])])
        again = asker.ask(FORMATS["schema"], **ASKED["drawn"], beginning=given)
        assert again.texts == whole.texts
    with pytest.raises(ComposeError) as raised:
        asker.ask(FORMATS["schema"], **ASKED["drawn"], beginning=Beginning([[5, 6, 7]]))
    assert raised.value.code == "format_violated"
    assert asker.ask(FORMATS["choices"], do_sample=False).finish_reasons == ["eos"]


def test_what_the_format_rules_out_cannot_be_drawn(asker: Asker) -> None:
    told: list[Mapping[str, Any]] = []

    def on_tokens(_: int, __: str, offset: int, tokens: Sequence[Any], ___: int) -> None:
        told[offset:] = tokens

    asked = {**ASKED["greedy"], "logprobs": 20, "on_tokens": on_tokens}
    text = asker.ask({"regex": "[a-z ]{12}"}, **asked).texts[0]
    assert "".join(each["text"] for each in told) == text
    assert all(each["sampling_logprob"] is not None for each in told)
    others = [other for each in told for other in each["alternatives"]]
    written = [other["token"] for other in others if other["sampling_logprob"] is not None]
    assert written and regex.fullmatch("[a-z ]+", "".join(written))
    assert any(other["sampling_logprob"] is None for other in others)


def test_two_requests_with_one_format_are_two_texts(asker_of: Of) -> None:
    asker = asker_of()
    waiting = [asker.begin(FORMATS["schema"], seed=seed, temperature=1.5) for seed in range(24)]
    texts = [wait().texts[0] for wait in waiting]
    assert all(fits(text, "schema") for text in texts)
    assert len(set(texts)) > 20
    alone = [asker.ask(FORMATS["schema"], seed=seed, temperature=1.5) for seed in (3, 17)]
    assert [each.texts[0] for each in alone] == [texts[3], texts[17]]


def test_a_beginning_that_others_have_read_is_reused(asker_of: Of) -> None:
    asker, prompt = asker_of(), PROMPT * 5
    first = asker.ask(FORMATS["schema"], prompt=prompt, **ASKED["drawn"])
    second = asker.ask(FORMATS["schema"], prompt=prompt, **ASKED["drawn"])
    assert second.texts == first.texts
    assert second.usage["reused"] > 0


def test_what_is_forced_takes_no_step_of_its_own(asker_of: Of) -> None:
    asker, counters = asker_of(), lambda lease: lease._entry.engine.counters
    before = counters(asker.lease).steps
    schema = {"properties": {"once upon a time": {"type": "boolean"}}, "type": "object"}
    schema |= {"required": ["once upon a time"], "additionalProperties": False}
    result = asker.ask({"json_schema": schema}, **ASKED["drawn"])
    steps = counters(asker.lease).steps - before
    assert result.usage["forced"] >= 8
    assert steps <= result.usage["generated"] - result.usage["forced"] + 1
    assert "draft_tokens" not in result.usage
