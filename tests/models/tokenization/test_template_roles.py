"""Chat templates that refuse messages: the error says which they take."""

from __future__ import annotations

from typing import Any

import pytest
from standins import chat_templates, tiny_models, tool_templates

from modelcompose_jupyter.document.types import Message
from modelcompose_jupyter.errors import InputError, ModelError
from modelcompose_jupyter.models.tokenization.chat import text_of

GEMMA, MISTRAL = tool_templates.GEMMA, tool_templates.MISTRAL
ROLES = {"s": "system", "u": "user", "a": "assistant"}
TURNS_WORDS = "user and assistant take turns"
MISTRAL_WORDS = "behind the system message user and assistant take turns"
ONE_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
    "{{ raise_exception('System message must be at the beginning.') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}{% endfor %}"
)
WANTS_SYSTEM = (
    "{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages[1:] %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('in turns') }}{% endif %}{% endfor %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
)
CAPITALS = (
    "{% for m in messages %}{% if m.content | upper == m.content %}"
    "{{ raise_exception('do not shout') }}{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}"
)


def said(roles: str) -> list[Message]:
    return [{"role": ROLES[each], "content": f"word {place}"} for place, each in enumerate(roles)]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_models.tokenizer(bos=True)


@pytest.mark.parametrize(
    ("template", "roles", "message", "hint", "words"),
    [
        (GEMMA, "su", "takes no system message",
         "Say it in the user's first message.", "no system messages here"),
        (GEMMA, "uu", "wants user and assistant in turns, and message 2 is a second user's",
         "Make one of the two, or put one of the assistant's between them.", TURNS_WORDS),
        (GEMMA, "uaau", "wants user and assistant in turns, and message 3 is a second assistant's",
         "Make one of the two, or put one of the user's between them.", TURNS_WORDS),
        (GEMMA, "au", "begins with the user, and message 1 is the assistant's",
         "Leave it out, or put what it replies to before it.", TURNS_WORDS),
        (MISTRAL, "suauu", "wants user and assistant in turns, and message 5 is a second user's",
         "Make one of the two, or put one of the assistant's between them.", MISTRAL_WORDS),
        (MISTRAL, "sau", "begins with the user, and message 2 is the assistant's",
         "Leave it out, or put what it replies to before it.", MISTRAL_WORDS),
        (MISTRAL, "uasu",
         "takes a system message at the beginning alone, and message 3 is one",
         "Say it there, or as the user.", MISTRAL_WORDS),
        (ONE_SYSTEM, "ssu", "takes one system message, and message 2 is another",
         "Say all of it in one.", "System message must be at the beginning."),
        (ONE_SYSTEM, "suuusu",
         "takes a system message at the beginning alone, and message 5 is one",
         "Say it there, or as the user.", "System message must be at the beginning."),
        (WANTS_SYSTEM, "u", "wants a system message at the beginning",
         "Begin with one.", "no system"),
        (WANTS_SYSTEM, "suu", "wants user and assistant in turns, and message 3 is a second user's",
         "Make one of the two, or put one of the assistant's between them.", "in turns"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_is_taken(
    template: str, roles: str, message: str, hint: str, words: str, tokenizer: Any
) -> None:
    with pytest.raises(InputError) as caught:
        text_of(tokenizer, said(roles), template=template)
    expected = f"the model's chat template {message} (in its own words: {words})"
    assert caught.value.message == expected
    assert caught.value.hint == hint


def test_a_refusal_of_another_kind_keeps_its_words(tokenizer: Any) -> None:
    with pytest.raises(InputError) as caught:
        text_of(tokenizer, [{"role": "user", "content": "HELLO"}], template=CAPITALS)
    expected = "the model's chat template cannot take these messages: do not shout"
    assert caught.value.message == expected


def test_what_is_taken_is_found_out_within_bounds(tokenizer: Any) -> None:
    slow = (
        "{% if messages | length == 1 or messages[-1].content == 'word 1' %}"
        "{{ raise_exception('no') }}{% endif %}"
        "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}"
    )
    with pytest.raises((InputError, ModelError)):
        text_of(tokenizer, said("uu"), template=slow)


@pytest.mark.parametrize("name", ["chatml", "gemma", "llama-3", "qwen-3"])
def test_what_a_template_takes_is_no_error(name: str, tokenizer: Any) -> None:
    assert "word 2" in text_of(tokenizer, said("suau"), template=chat_templates.ALL[name])
