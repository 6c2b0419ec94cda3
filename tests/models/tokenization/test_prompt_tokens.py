"""Long prompts: refused without being read whole, cut to the same tokens, given up in between."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from standins import chat_templates, tiny_models
from standins.tokenizers_of_kinds import KINDS, tokenizer_of
from transformers import GenerationConfig

from modelcompose_jupyter.document.parameters import GenerationParameters
from modelcompose_jupyter.errors import InputError
from modelcompose_jupyter.models.engine import sampling_params
from modelcompose_jupyter.models.engine.sampling_params import SamplingParams, resolve
from modelcompose_jupyter.models.generation import Cancelled
from modelcompose_jupyter.models.tokenization.chat import text_of
from modelcompose_jupyter.models.tokenization.detokenizer import Decoder
from modelcompose_jupyter.models.tokenization.prompt_tokens import SLICE, PromptTokens

STORY = "once upon a time there was small fox. did not it! 옛날 여우 🦊 \n\n x"
WORDS = STORY.split(" ")


class Counted:
    """A tokenizer that counts what it reads."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.read: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: str, **options: Any) -> Any:
        self.read.append(len(text))
        return self._tokenizer(text, **options)


def loaded(tokenizer: Any, context: int | None = 512) -> Any:
    """What settling needs of a model, without one."""
    return SimpleNamespace(
        tokenizer=tokenizer, prompt_tokens=PromptTokens(tokenizer), decode=Decoder(tokenizer),
        context=context, encoder_decoder=False, stop_sequences=[], stop_ids=frozenset(),
        turn_end=lambda template: set(), left_out=(), unbatched=None, defaults=GenerationConfig(),
    )  # fmt: skip


def settled(model: Any, prompt: Any, check: Any = lambda: None, **asked: Any) -> SamplingParams:
    return resolve(model, prompt, GenerationParameters(**{"seed": 1, **asked}), None, check)


def text(length: int, seed: int = 1) -> str:
    """Words with blanks of all lengths between them."""
    draw = random.Random(seed)
    pieces = [draw.choice(WORDS) + " " * draw.choice((1, 1, 1, 2, 5)) for _ in range(length // 8)]
    return ("".join(pieces) * 2)[:length]


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_far_beyond_the_context_is_not_read(kind: str) -> None:
    tokenizer = Counted(tokenizer_of(kind))
    model = loaded(tokenizer)
    with pytest.raises(InputError, match="has more than 512 tokens and the model's context is 512"):
        settled(model, text(1_000_000))
    assert sum(tokenizer.read) <= 8 * SLICE
    if kind.startswith("byte"):  # where each character has tokens of its own
        assert tokenizer.read == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_part_that_is_read_has_the_tokens_of_the_whole(kind: str) -> None:
    plain = copy.deepcopy(tokenizer_of(kind))  # others have theirs without a side
    for seed in range(2):
        whole = text(8 * SLICE, seed)
        for side in ("right", "left"):
            tokenizer = Counted(plain)
            plain.truncation_side = side
            limit = 700
            model = loaded(tokenizer, None)
            got = settled(model, whole, max_input_length=limit)
            expected = plain(whole, truncation=True, max_length=limit)["input_ids"]
            assert got.tokens == expected
            assert got.prompt and got.prompt in whole
            sliced = side == "right" or kind != "byte-fallback"
            assert (max(tokenizer.read) < len(whole)) == sliced
            assert got.warnings[0].startswith("the prompt was cut from ")


def test_a_text_close_to_the_limit_is_counted_exactly() -> None:
    tokenizer = tokenizer_of("wordpiece")
    prompt = "fox " * 20_000
    model = loaded(tokenizer, 20_001)
    assert len(settled(model, prompt).tokens) == 20_000
    with pytest.raises(
        InputError, match="has 20000 tokens and the model's context is 20000, which"
    ):
        settled(loaded(tokenizer, 20_000), prompt)


def test_what_has_no_tokens_of_its_own_is_not_refused_by_its_characters() -> None:
    from tokenizers import normalizers

    blank = "fox" + " " * 1_000_000 + "fox"
    assert len(settled(loaded(tokenizer_of("wordpiece")), blank).tokens) == 2
    assert not PromptTokens(tokenizer_of("wordpiece")).cannot_fit(10**9, 1)
    shortened = tiny_models.tokenizer()
    assert PromptTokens(shortened).cannot_fit(10**9, 1)
    shortened.backend_tokenizer.normalizer = normalizers.Replace("fox", "")
    assert len(settled(loaded(shortened), "fox" * 100_000 + "a").tokens) == 1


@pytest.mark.parametrize("prompt", [text(800_000), [{"role": "user", "content": text(800_000)}]])
def test_a_request_is_given_up_between_slices(prompt: Any) -> None:
    tokenizer = Counted(tokenizer_of("wordpiece"))
    tokenizer._tokenizer.chat_template = chat_templates.CHATML
    looked = 0

    def check() -> None:
        nonlocal looked
        looked += bool(tokenizer.read)
        if looked == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        settled(loaded(tokenizer, 10**6), prompt, check)
    assert len(tokenizer.read) <= 2


# Chats


def chat(turns: int, words: int = 3) -> list[Any]:
    return [
        {"role": role, "content": f"{number} " + "fox " * words}
        for number in range(turns)
        for role in ("user", "assistant")
    ]


@pytest.fixture(scope="module")
def chatting() -> Any:
    tokenizer = tiny_models.tokenizer()
    tokenizer.chat_template = chat_templates.CHATML
    return tokenizer


def one_by_one(tokenizer: Any, messages: list[Any], limit: int) -> list[int]:
    """The tokens of a chat that loses its oldest turn until it fits."""
    start = next(i for i, each in enumerate(messages) if each["role"] != "system")
    places = [i for i, each in enumerate(messages) if each["role"] == "user" and i > start]
    for kept in [messages, *([*messages[:start], *messages[place:]] for place in places)]:
        tokens = tokenizer(text_of(tokenizer, kept), add_special_tokens=False)["input_ids"]
        if len(tokens) <= limit:
            return list(tokens)
    raise AssertionError


def test_a_chat_is_cut_as_turn_by_turn(chatting: Any) -> None:
    system = [{"role": "system", "content": "Be brief"}]
    messages = chat(12)
    messages[6]["content"] += " and" * 30
    for each in (messages, [*system, *messages], messages[1:], [*system, *messages[1:-1]]):
        for limit in (150, 200, 333, 500, 900):
            got = settled(loaded(chatting, 1024), each, max_input_length=limit)
            assert got.tokens == one_by_one(chatting, each, limit)


def test_a_long_chat_is_cut_in_few_steps(chatting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[int] = []

    def counted(tokenizer: Any, messages: Any, *rest: Any, **named: Any) -> str:
        rendered.append(len(messages))
        return text_of(tokenizer, messages, *rest, **named)

    monkeypatch.setattr(sampling_params.chat, "text_of", counted)
    got = settled(loaded(chatting, 2000), chat(8_000), max_input_length=1000)
    assert 900 < len(got.tokens) <= 1000
    assert "the chat was cut from more than 1000 to" in got.warnings[0]
    assert len(rendered) <= 16
    assert sum(rendered) < 1000


def test_a_chat_that_cannot_fit_is_refused_before_its_template_runs(chatting: Any) -> None:
    tokenizer = Counted(chatting)
    with pytest.raises(InputError, match="more than 512 tokens"):
        settled(loaded(tokenizer), [{"role": "user", "content": "fox " * 100_000}])
    assert tokenizer.read == []
    with pytest.raises(InputError, match="last message needs more than 50 tokens"):
        settled(
            loaded(tokenizer), [{"role": "user", "content": "fox " * 100_000}], max_input_length=50
        )


def test_a_request_that_is_cancelled_while_it_is_settled_ends(tmp_path: Path) -> None:
    from modelcompose_jupyter.models import ModelCache, ModelSpec

    from ..conftest import eventually
    from .test_chat import MARKS, saved

    slow = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}" + MARKS
    cache = ModelCache()
    try:
        with cache.acquire(ModelSpec(str(saved(tmp_path, slow)))).result(60) as lease:
            asked = GenerationParameters(max_output_length=2, seed=1)
            first = lease.generate([{"role": "user", "content": "Hello"}], asked)
            eventually(lambda: lease.info.running == 1)
            first.cancel()
            assert first.future.result(60).finish_reasons == ["cancelled"]
            assert lease.generate("Hello", asked).future.result(60).usage["generated"] > 0
    finally:
        cache.close()


def test_each_word_of_a_long_chat_is_counted_once(
    chatting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelcompose_jupyter.models.tokenization import said_words

    added = 0

    class Counting(said_words.Counter):  # type: ignore[type-arg,name-defined,misc]
        def update(self, *given: Any, **named: Any) -> None:
            nonlocal added
            added += len(given[0]) if given and given[0] else 0
            super().update(*given, **named)

        def __add__(self, other: Any) -> Any:
            raise AssertionError("copies all that was counted before")

    monkeypatch.setattr(said_words, "Counter", Counting)
    messages = [{"role": "user", "content": f"a word {number}"} for number in range(1000)]
    assert text_of(chatting, messages).count("word") == 1000  # type: ignore[arg-type]
    assert added < 40 * 1000


# What a request leaves open


@pytest.mark.parametrize(
    ("model_has", "asked", "wanted"),
    [
        ({}, {}, (1.0, None, 0, 0)),
        ({"repetition_penalty": 2, "min_p": 0.1}, {}, (2.0, 0.1, 0, 0)),
        ({"repetition_penalty": 2}, {"repetition_penalty": 1.5, "min_p": 0.2}, (1.5, 0.2, 0, 0)),
        ({"min_length": 7}, {}, (1.0, None, 0, 7)),
        ({"min_length": 100}, {}, (1.0, None, 0, 20)),
        ({"min_length": 7, "min_new_tokens": 4}, {}, (1.0, None, 4, 0)),
        ({"min_length": 7}, {"min_output_length": 3}, (1.0, None, 3, 0)),
    ],
)
def test_what_a_request_leaves_open_is_as_the_model_says(
    model_has: dict[str, Any], asked: dict[str, Any], wanted: tuple[Any, ...]
) -> None:
    model = loaded(tokenizer_of("byte-level"))
    model.defaults = GenerationConfig(**model_has)
    params = settled(model, "once", max_output_length=20, **asked)
    found = params.repetition_penalty, params.min_p, params.min_new_tokens, params.min_length
    assert found == wanted
    assert (params.temperature, params.top_k, params.top_p) == (0.7, 50, 0.9)
