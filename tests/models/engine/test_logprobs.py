"""Log-probabilities: those of generate()'s own scores, however a token comes about."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from standins import tiny_models

from modelcompose_jupyter.document.parameters import GenerationParameters
from modelcompose_jupyter.errors import InputError
from modelcompose_jupyter.models import Beginning, GenerationResult, Lease, ModelCache, ModelSpec
from modelcompose_jupyter.models.engine.seeded_draws import SeededDraws

from ..conftest import done

TOLERANCE = 2e-4
"""Of a log-probability in float32: sums of another order, over a few layers."""
COUNT = 4
MODELS = {
    "in C": ("llama", {}),
    "on torch": ("llama", {"MODELCOMPOSE_NATIVE": "0"}),
    "in C, with a window": ("gemma3_text", {}),
    "padded": ("bloom", {"MODELCOMPOSE_NATIVE": "0"}),
    "in C, with a state": ("qwen3_5_text", {}),
    "one by one": ("mamba", {}),
    "encoder-decoder": ("t5", {}),
}
BATCHED = [name for name in MODELS if name not in ("one by one", "encoder-decoder")]
ASKED: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "with a penalty": {"do_sample": False, "repetition_penalty": 1.4, "min_output_length": 8},
    "drawn": {"seed": 3, "temperature": 1.3},
    "drawn from all": {"seed": 5, "top_k": 0, "top_p": 0.95, "min_p": 0.02, "temperature": 1.6},
}
PROMPT = "Once upon a time there was 여우"

Told = dict[tuple[int, str], list[dict[str, Any]]]


class Asker:
    """Asks a model, and pristine generate() of transformers."""

    def __init__(self, lease: Lease, folder: Path, is_encoder_decoder: bool) -> None:
        from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

        self.lease = lease
        kind = AutoModelForSeq2SeqLM if is_encoder_decoder else AutoModelForCausalLM
        self.model: Any = kind.from_pretrained(folder, dtype=torch.float32)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.is_encoder_decoder = is_encoder_decoder

    def begin(
        self, prompt: Any = PROMPT, *, beginning: Any = None, scored: Any = None, **asked: Any
    ) -> Callable[[], tuple[GenerationResult, Told]]:
        """Ask for a text; gives how to wait for it."""
        told: Told = defaultdict(list)
        starts: dict[int, int] = {}

        def on_tokens(
            sequence: int, part: str, offset: int, tokens: list[dict[str, Any]], start: int
        ) -> None:
            starts[sequence] = start
            known = told[sequence, part]
            # Each is told once, but for the last one, which gets what was uncertain of the text.
            if offset == len(known) - 1:
                last, known[-1:] = known[-1], tokens
                assert len(tokens) == 1 and tokens[0] == {**last, "text": tokens[0]["text"]}
                return
            assert offset == len(known)
            known.extend(tokens)

        parameters = GenerationParameters(**{"max_output_length": 20, **asked})
        generation = self.lease.generate(
            prompt, parameters, on_tokens=on_tokens, beginning=beginning, scored=scored
        )

        def wait() -> tuple[GenerationResult, Told]:
            result = done(generation.future)
            for sequence, start in starts.items():  # a stop sequence may have cut the text's end
                text = "".join(each["text"] for each in told[sequence, "text"])
                assert text.startswith(result.texts[sequence][start:])
            return result, told

        return wait

    def ask(self, prompt: Any = PROMPT, **asked: Any) -> tuple[GenerationResult, Told]:
        return self.begin(prompt, **asked)()

    def wanted(self, asked: Mapping[str, Any]) -> tuple[list[int], Any, Any]:
        """Tokens, and generate()'s own scores before and after all that is done to them."""
        draws = SeededDraws(asked["seed"]) if "seed" in asked else None
        options = {"do_sample": draws is not None, "max_new_tokens": 20}
        if draws is not None:
            options |= {"temperature": 0.7, "top_k": 50, "top_p": 0.9}
        names = {"min_output_length": "min_new_tokens"}
        options |= {names.get(k, k): v for k, v in asked.items() if k not in ("seed", "do_sample")}
        inputs = torch.tensor([self.tokenizer(PROMPT)["input_ids"]])

        def end(input_ids: Any, *_: Any, **__: Any) -> Any:
            if draws is not None:
                draws.end()
            return torch.zeros(len(input_ids), dtype=torch.bool)

        output = self.model.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            logits_processor=[draws] if draws else [],
            stopping_criteria=[end],
            return_dict_in_generate=True,
            output_scores=True,
            output_logits=True,
            **options,
        )
        start = 1 if self.is_encoder_decoder else inputs.shape[1]
        tokens = output.sequences[0, start:].tolist()
        return tokens, torch.cat(output.logits), torch.cat(output.scores)


@pytest.fixture(params=MODELS)
def asker(
    request: pytest.FixtureRequest,
    folder_of: Callable[[str], Path],
    cache: ModelCache,
    monkeypatch: pytest.MonkeyPatch,
) -> Asker:
    architecture, environment = MODELS[request.param]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    folder = folder_of(architecture)
    lease: Lease = done(cache.acquire(ModelSpec(str(folder))))
    return Asker(lease, folder, architecture in tiny_models.ENCODER_DECODERS)


def check(told: list[dict[str, Any]], tokens: list[int], raw: Any, processed: Any) -> None:
    """Each token has what these scores say of it."""
    assert [each["id"] for each in told] == tokens
    own, chosen = (each.float().log_softmax(-1) for each in (raw, processed))
    for each, mine, theirs in zip(told, own, chosen, strict=False):
        likeliest = mine.argsort(descending=True, stable=True).tolist()
        shown = [each, *each["alternatives"]]
        assert len(shown) == 1 + COUNT
        assert mine[likeliest[each["rank"] - 1]] == pytest.approx(float(mine[each["id"]]), abs=1e-4)
        for place, other in enumerate(each["alternatives"]):
            at_place = float(mine[likeliest[place]])
            assert other["logprob"] == pytest.approx(at_place, abs=TOLERANCE)
        for one in shown:
            id = one["id"]
            assert one["logprob"] == pytest.approx(float(mine[id]), abs=TOLERANCE)
            if math.isinf(theirs[id]):
                assert one["sampling_logprob"] is None
            else:
                assert one["sampling_logprob"] == pytest.approx(float(theirs[id]), abs=TOLERANCE)


@pytest.mark.parametrize("name", ASKED)
def test_they_are_those_of_generate(name: str, asker: Asker) -> None:
    asked = ASKED[name]
    result, told = asker.ask(**asked, logprobs=COUNT)
    tokens, raw, processed = asker.wanted(asked)
    check(told[0, "text"], tokens[: len(told[0, "text"])], raw, processed)
    if "length" in result.finish_reasons:
        assert len(told[0, "text"]) == 20
    else:  # the token that ends the text is among them
        assert told[0, "text"][-1]["id"] == asker.model.generation_config.eos_token_id
    written = "".join(each["text"] for each in told[0, "text"])
    prompt = "" if asker.is_encoder_decoder else PROMPT
    assert (prompt + written).startswith(result.texts[0])
    assert result.parameters["logprobs"] == COUNT


def assert_same(told: list[dict[str, Any]], wanted: list[dict[str, Any]], asker: Asker) -> None:
    """The same to the last digit in C, where a score depends on nothing else."""
    if asker.lease.info.driver == "native":
        assert told == wanted
        return
    for each, other in zip(told, wanted, strict=True):
        assert rounded(each) == rounded(other)


def rounded(token: Mapping[str, Any]) -> Any:
    """What is told of a token, to a few digits, and without the order of equal alternatives."""

    def number(value: float | None) -> Any:
        return None if value is None else pytest.approx(value, abs=TOLERANCE)

    alternatives = {
        each["id"]: (number(each["logprob"]), number(each["sampling_logprob"]))
        for each in token["alternatives"]
    }
    numbers = (number(token["logprob"]), number(token["sampling_logprob"]))
    return token["id"], token["text"], numbers, alternatives


@pytest.mark.parametrize("name", ASKED)
def test_asking_changes_no_text_and_company_changes_no_number(name: str, asker: Asker) -> None:
    asked = ASKED[name]
    alone, told = asker.ask(**asked, logprobs=COUNT)
    assert asker.ask(**asked)[0].texts == alone.texts
    waiting = [
        asker.begin(prompt, **{**asked, **more}, logprobs=count)
        for prompt, more, count in (
            ("A fox", {}, 2),
            (PROMPT, {}, COUNT),
            (PROMPT + " and so on", {"do_sample": False} if "seed" not in asked else {}, None),
            (PROMPT, {}, 0),
        )
    ]
    results = [wait() for wait in waiting]
    assert results[1][0].texts == alone.texts
    assert_same(results[1][1][0, "text"], told[0, "text"], asker)
    assert not results[2][1]
    bare = [{**each, "alternatives": []} for each in told[0, "text"]]
    assert_same(results[3][1][0, "text"], bare, asker)


@pytest.mark.parametrize("name", ["greedy", "drawn"])
def test_draft_tokens_change_no_number(
    name: str, folder_of: Callable[[str], Path], cache: ModelCache
) -> None:
    folder = folder_of("llama")
    plain, drafted = (
        Asker(done(cache.acquire(ModelSpec(str(folder), prompt_lookup=n))), folder, False)
        for n in (0, 4)
    )
    asked = {**ASKED[name], "logprobs": COUNT, "max_output_length": 60}
    wanted = plain.ask("fox fox fox fox", **asked)
    result, told = drafted.ask("fox fox fox fox", **asked)
    assert result.usage["draft_tokens"]
    assert told == wanted[1]


def test_a_prompt_has_them_too(asker: Asker) -> None:
    if asker.is_encoder_decoder:
        result, told = asker.ask(do_sample=False, prompt_logprobs=COUNT)
        assert not told
        assert any("prompt_logprobs" in each for each in result.warnings)
        return
    asker.ask(do_sample=False)  # what is known of the prompt by now does not get in the way
    result, told = asker.ask(do_sample=False, prompt_logprobs=COUNT, max_output_length=0)
    first, *others = told[0, "prompt"]
    ids = asker.tokenizer(PROMPT)["input_ids"]
    assert (first["id"], "logprob" in first) == (ids[0], False)
    with torch.inference_mode():
        raw = asker.model(torch.tensor([ids])).logits[0, :-1]
    assert [each["id"] for each in others] == ids[1:]
    own = raw.log_softmax(-1)
    for each, mine in zip(others, own, strict=True):
        for one in (each, *each["alternatives"]):
            assert one["logprob"] == pytest.approx(float(mine[one["id"]]), abs=TOLERANCE)
            assert one["sampling_logprob"] is None
    assert "".join(each["text"] for each in told[0, "prompt"]) == PROMPT
    assert (result.texts, result.usage["generated"]) == ([PROMPT], 0)
    assert not told[0, "text"]


def test_a_scored_text_has_what_it_had_when_it_was_generated(asker: Asker) -> None:
    _, told = asker.ask(seed=4, temperature=1.5, logprobs=COUNT)
    written = "".join(each["text"] for each in told[0, "text"])
    scored, again = asker.ask(scored=written, do_sample=False, logprobs=COUNT)
    assert (scored.usage["generated"], scored.finish_reasons) == (0, ["length"])
    numbers = [
        [(each["id"], pytest.approx(each["logprob"], abs=TOLERANCE), each["rank"]) for each in of]
        for of in (told[0, "text"], again[0, "text"])
    ]
    tokens = [each["id"] for each in again[0, "text"]]
    if tokens == [each["id"] for each in told[0, "text"]]:  # else it may be written otherwise
        assert numbers[1] == numbers[0]
    assert "".join(each["text"] for each in again[0, "text"]) == written


def test_what_texts_share_is_read_once(folder_of: Callable[[str], Path], cache: ModelCache) -> None:
    folder = folder_of("llama")
    asker = Asker(done(cache.acquire(ModelSpec(str(folder)))), folder, False)
    prompt = "Once upon a time there was a small fox." * 3
    waiting = [
        asker.begin(prompt, scored=text, do_sample=False, logprobs=0)
        for text in (" The dog", " A fox", " had a friend", " x")
    ]
    results = [wait()[0] for wait in waiting]
    read = len(asker.tokenizer(prompt)["input_ids"])
    assert [each.usage["reused"] for each in results] == [0, read - 1, read - 1, read - 1]


@pytest.mark.parametrize("name", ["greedy", "drawn"])
def test_a_text_goes_on_from_tokens_that_are_given(name: str, asker: Asker) -> None:
    """Given the tokens that it has chosen before, a model goes on as it has gone on."""
    asked = {**ASKED[name], "logprobs": COUNT}
    whole, told = asker.ask(**asked)
    ids = [each["id"] for each in told[0, "text"]]
    given = Beginning([ids[:6]])
    result, again = asker.ask(**asked, beginning=given)
    assert result.texts == whole.texts
    assert result.finish_reasons == whole.finish_reasons
    assert result.usage["generated"] == whole.usage["generated"] - 6
    for each, other in zip(again[0, "text"], told[0, "text"], strict=True):
        assert each["id"] == other["id"]
        assert each["logprob"] == pytest.approx(other["logprob"], abs=TOLERANCE)
    behind = told_behind(asker, asked, Beginning([ids[:6]], told=[6]))
    assert_same(behind, again[0, "text"][6:], asker)


def told_behind(
    asker: Asker, asked: Mapping[str, Any], beginning: Beginning
) -> list[dict[str, Any]]:
    """What is told behind tokens that are known."""
    told: list[dict[str, Any]] = []

    def on_tokens(_: int, __: str, offset: int, tokens: list[dict[str, Any]], ___: int) -> None:
        assert offset in (6 + len(told), 5 + len(told))
        told[offset - 6 :] = tokens

    parameters = GenerationParameters(**{"max_output_length": 20, **asked})
    done(asker.lease.generate(PROMPT, parameters, on_tokens=on_tokens, beginning=beginning).future)
    return told


def test_another_token_gives_another_text(asker: Asker) -> None:
    asked = {"seed": 3, "temperature": 1.3, "logprobs": COUNT}
    _, told = asker.ask(**asked)
    place = told[0, "text"][5]
    other = next(each for each in place["alternatives"] if each["id"] != place["id"])
    ids = [*(each["id"] for each in told[0, "text"][:5]), other["id"]]
    result, branch = asker.ask(**asked, beginning=Beginning([ids]))
    assert [each["id"] for each in branch[0, "text"][:6]] == ids
    assert branch[0, "text"][5]["logprob"] == pytest.approx(other["logprob"], abs=TOLERANCE)
    assert len(branch[0, "text"]) == 20 or "eos" in result.finish_reasons


def test_beams_have_those_of_the_model(folder_of: Callable[[str], Path], cache: ModelCache) -> None:
    folder = folder_of("llama")
    asker = Asker(done(cache.acquire(ModelSpec(str(folder)))), folder, False)
    _, told = asker.ask(num_beams=3, do_sample=False, num_return_sequences=2, logprobs=COUNT)
    assert told.keys() == {(0, "text"), (1, "text")}
    ids = asker.tokenizer(PROMPT)["input_ids"]
    for row in told.values():
        tokens = [each["id"] for each in row]
        with torch.inference_mode():
            logits = asker.model(torch.tensor([[*ids, *tokens]])).logits[0, len(ids) - 1 : -1]
        own = logits.log_softmax(-1)
        for each, mine in zip(row, own, strict=True):
            assert each["logprob"] == pytest.approx(float(mine[each["id"]]), abs=TOLERANCE)
            assert each["sampling_logprob"] is None


def test_a_limit_on_memory_changes_no_number(
    folder_of: Callable[[str], Path], cache: ModelCache
) -> None:
    """Sequences that make room for others, and begin anew, tell each token once."""
    folder = folder_of("llama")
    wide = Asker(done(cache.acquire(ModelSpec(str(folder)))), folder, False)
    narrow = Asker(done(cache.acquire(ModelSpec(str(folder), cache_budget=400_000))), folder, False)
    prompts = [f"{number} foxes lived in the wood" for number in range(6)]
    asked = {"seed": 2, "logprobs": 1, "prompt_logprobs": 1, "max_output_length": 60}
    wanted = [wide.ask(prompt, **asked)[1] for prompt in prompts]
    waiting = [narrow.begin(prompt, **asked) for prompt in prompts]
    assert [wait()[1] for wait in waiting] == wanted


def test_prompts_may_be_tokens(asker: Asker) -> None:
    ids = tuple(asker.tokenizer(PROMPT)["input_ids"])
    assert asker.ask(ids, do_sample=False)[0].texts == asker.ask(do_sample=False)[0].texts
    with pytest.raises(InputError, match="no token with the id 99999"):
        asker.ask((1, 99_999), do_sample=False)


def test_a_part_of_a_character_has_its_bytes(asker: Asker) -> None:
    if asker.is_encoder_decoder:
        pytest.skip("its texts are other ones")
    _, told = asker.ask("a", scored="🦊", do_sample=False, logprobs=1)
    *parts, last = told[0, "text"]
    assert parts  # the vocabulary has no token for it
    assert b"".join(bytes(each["bytes"]) for each in (*parts, last)) == "🦊".encode()
    assert [each["text"] for each in (*parts, last)] == [""] * len(parts) + ["🦊"]
    assert all(each["token"].startswith("\\x") for each in parts)
