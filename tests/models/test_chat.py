"""Chats: messages through the tokenizer's own template, and replies alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from standins import tiny_models
from standins.tiny_models import CONTEXT
from transformers import AutoModelForCausalLM, AutoTokenizer

from modelcompose_jupyter.document.parameters import GenerationParameters
from modelcompose_jupyter.document.types import Message
from modelcompose_jupyter.errors import InputError, ModelError
from modelcompose_jupyter.models import GenerationResult, Lease, ModelCache, ModelSpec
from modelcompose_jupyter.models.chat import encode, without_oldest

from .conftest import Deltas, ask, done

# As llama's: it writes the begin token itself, and wants the turns in order.
TURNS = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "[{{ message.role }}] {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
# As qwen's: special tokens around each message, and any order.
MARKS = (
    "{% for message in messages %}"
    "<s>{{ message.role }}\n{{ message.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def said(*contents: str) -> list[Message]:
    """Turns of user and assistant, the user's first."""
    return [
        {"role": "assistant" if index % 2 else "user", "content": content}
        for index, content in enumerate(contents)
    ]


def saved(folder: Path, template: str, architecture: str = "llama") -> Path:
    """A tiny model with a chat template; its tokenizer begins every text with a token."""
    tiny_models.save(folder, architecture, bos=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folders: dict[str, Path] = {}

    def chat_folder(template: str) -> Path:
        if template not in folders:
            folders[template] = saved(tmp_path_factory.mktemp("chat"), template)
        return folders[template]

    return chat_folder


def reply(cache: ModelCache, folder: Path | str, *contents: str, **options: Any) -> Any:
    return _ask(cache, folder, said(*contents), **options)


def _ask(
    cache: ModelCache, folder: Path | str, messages: list[Message], **options: Any
) -> GenerationResult:
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        return ask(lease, messages, **options)


@pytest.mark.parametrize("template", [TURNS, MARKS], ids=["turns", "marks"])
def test_a_reply_is_that_of_the_template_and_generate(
    template: str, cache: ModelCache, chat_folder: Callable[[str], Path]
) -> None:
    folder = chat_folder(template)
    messages = said("Hello fox", "Hi", "옛날 이야기")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    count = inputs["input_ids"].shape[1]
    output = model.generate(**inputs, do_sample=False, max_new_tokens=20)[0].tolist()
    whole = tokenizer.decode(output, skip_special_tokens=True)
    before = tokenizer.decode(output[:count], skip_special_tokens=True)
    streamed = Deltas()
    result = _ask(cache, folder, messages, do_sample=False, max_output_length=20, on_text=streamed)
    assert result.texts == [whole[len(before) :]] == [streamed.texts[0]]
    assert result.usage["prompt"] == count
    assert result.parameters["include_prompt"] is False
    assert result.warnings == []


def test_a_template_may_begin_with_a_mark(cache: ModelCache, tmp_path: Path) -> None:
    plain, marked = (saved(tmp_path / name, TURNS) for name in ("plain", "marked"))
    template = marked / "chat_template.jinja"
    template.write_text(template.read_text(), encoding="utf-8-sig")
    replies = [reply(cache, each, "Hello", max_output_length=5, seed=1) for each in (plain, marked)]
    assert replies[0].texts == replies[1].texts
    assert replies[0].usage["prompt"] == replies[1].usage["prompt"]


def test_special_tokens_are_not_added_twice(chat_folder: Callable[[str], Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat_folder(TURNS))
    text, tokens = encode(tokenizer, said("Hello"))
    assert text == "<s>[user] Hello\n[assistant]"
    assert tokens.count(tokenizer.bos_token_id) == 1
    assert tokenizer(text)["input_ids"].count(tokenizer.bos_token_id) == 2


def test_several_replies_are_the_replies_alone(
    cache: ModelCache, chat_folder: Callable[[str], Path]
) -> None:
    result = reply(cache, chat_folder(TURNS), "Hello", num_return_sequences=3, max_output_length=5)
    assert len(result.texts) == 3
    assert not any("user" in text or "Hello" in text for text in result.texts)


def test_a_prompt_that_is_asked_for_is_not_there(
    cache: ModelCache, chat_folder: Callable[[str], Path]
) -> None:
    result = reply(cache, chat_folder(TURNS), "Hello", include_prompt=True, max_output_length=5)
    assert "[user]" not in result.texts[0]
    assert result.warnings == ["include_prompt has no effect: the text is the reply to a chat"]


def test_messages_that_the_template_refuses(
    cache: ModelCache, chat_folder: Callable[[str], Path]
) -> None:
    messages = [*said("Hello"), *said("Hello?")]
    with pytest.raises(InputError) as caught:
        _ask(cache, chat_folder(TURNS), messages)
    assert "cannot take these messages: roles must alternate" in caught.value.message
    assert _ask(cache, chat_folder(MARKS), messages, max_output_length=5).finish_reasons


@pytest.mark.parametrize("architecture", ["llama", "blenderbot"])
def test_a_model_without_a_template_takes_no_messages(
    architecture: str, lease_of: Callable[[str], Lease]
) -> None:
    with pytest.raises(ModelError) as caught:
        ask(lease_of(architecture), said("Hello"))
    assert caught.value.code == "no_chat_template"
    assert "task: text-generation" in str(caught.value)
    assert ask(lease_of(architecture), "Hello", max_output_length=5).texts  # it goes on


def test_an_encoder_decoder_with_a_template_replies(cache: ModelCache, tmp_path: Path) -> None:
    folder = saved(tmp_path, TURNS, "blenderbot")
    result = reply(cache, folder, "Hello", max_output_length=5, do_sample=False)
    assert "Hello" not in result.texts[0]


def test_the_bundled_model_replies(cache: ModelCache) -> None:
    result = reply(
        cache, "bundled:storyteller", "Tell me a story about a toaster named Zorblax.", seed=3
    )
    assert "Zorblax" in result.texts[0]
    assert "Tell me" not in result.texts[0]
    assert result.finish_reasons == ["eos"]


# Chats that are too long


def test_max_input_length_leaves_out_the_oldest_turns(
    cache: ModelCache, chat_folder: Callable[[str], Path]
) -> None:
    folder = chat_folder(MARKS)
    system: list[Message] = [{"role": "system", "content": "Be brief"}]
    messages = [*system, *said("First", "One", "Second", "Two", "Third")]
    kept = [*system, *messages[3:]]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    whole, limit = (len(encode(tokenizer, each)[1]) for each in (messages, kept))
    options = {"do_sample": False, "max_output_length": 8}
    result = _ask(cache, folder, messages, max_input_length=limit, **options)
    assert result.texts == _ask(cache, folder, kept, **options).texts
    assert result.usage["prompt"] == limit
    assert result.warnings == [
        f"the chat was cut from {whole} to {limit} tokens by max_input_length:"
        " without its 2 oldest messages"
    ]


def test_a_message_that_is_too_long_is_not_cut(
    cache: ModelCache, chat_folder: Callable[[str], Path]
) -> None:
    with pytest.raises(InputError, match="max_input_length is 5") as caught:
        reply(cache, chat_folder(TURNS), "Hello", "Hi", "Tell me a story", max_input_length=5)
    assert caught.value.code == "prompt_too_long"
    with pytest.raises(InputError, match=f"the model's context is {CONTEXT}") as caught:
        reply(cache, chat_folder(TURNS), "fox " * CONTEXT)
    assert "Begin a new conversation" in str(caught.value)


def test_turns_begin_with_the_user() -> None:
    system: list[Message] = [{"role": "system", "content": "s"}]
    turns = said("a", "b", "c", "d", "e")
    assert without_oldest([*system, *turns]) == [*system, *turns[2:]]
    assert without_oldest(turns[1:]) == turns[2:]  # a reply without its question goes alone
    assert without_oldest([*system, turns[0]]) is None
    assert without_oldest(system) is None


def test_a_chat_that_is_stopped_in_the_queue_has_no_text(
    cache: ModelCache, chat_folder: Callable[[str], Path]
) -> None:

    with done(cache.acquire(ModelSpec(str(chat_folder(TURNS))))) as lease:
        first = lease.generate("Hello", GenerationParameters(min_output_length=100))
        second = lease.generate(said("Hello"), GenerationParameters())
        second.cancel()
        first.cancel()
        assert done(second.future).texts == [""]
        done(first.future)
