"""Chats whose last message is the assistant's: the reply goes on from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from standins import chat_templates, tiny_models, tool_templates
from transformers import AutoModelForCausalLM, AutoTokenizer

from modelcompose_jupyter.document.types import Message
from modelcompose_jupyter.errors import InputError
from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.models.tokenization.chat import text_of

from ..conftest import Deltas, ask, done

QUESTION: Message = {"role": "user", "content": "How warm is it?"}
TEMPLATES = {
    "chatml": chat_templates.CHATML, "gemma 3": chat_templates.GEMMA,
    "qwen 3": tool_templates.QWEN_3, "smollm 3": tool_templates.SMOLLM_3,
    "llama 3": tool_templates.LLAMA_3, "mistral": tool_templates.MISTRAL,
    "gemma": tool_templates.GEMMA, "deepseek": tool_templates.DEEPSEEK,
}  # fmt: skip
BEHIND = {"<|im_end|>", "<end_of_turn>", "<|eot_id|>", "</s>", "<|end_of_sentence|>"}


def begun(content: str, **more: Any) -> list[Message]:
    return [QUESTION, {"role": "assistant", "content": content, **more}]  # type: ignore[typeddict-item]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_models.tokenizer(bos=True)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("content", ["It is", 'It is\n\n"quite', "그것은", "{", "a <b> &", "21."])
def test_a_reply_goes_on_as_in_transformers(name: str, content: str, tokenizer: Any) -> None:
    theirs = tokenizer.apply_chat_template(
        begun(content), chat_template=TEMPLATES[name], tokenize=False, continue_final_message=True
    )
    ours = text_of(tokenizer, begun(content), template=TEMPLATES[name])
    assert ours == theirs
    assert ours.endswith(content)


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_a_template_trims_stays_as_it_was_said(name: str, tokenizer: Any) -> None:
    plain = text_of(tokenizer, begun("It is"), template=TEMPLATES[name])
    for behind in (" ", "\n", " \n\n "):
        text = text_of(tokenizer, begun("It is" + behind), template=TEMPLATES[name])
        assert text == plain + behind


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_reply_that_begins_with_nothing(name: str, tokenizer: Any) -> None:
    text = text_of(tokenizer, begun(""), template=TEMPLATES[name])
    assert text == text_of(tokenizer, begun("It is"), template=TEMPLATES[name])[: -len("It is")]
    assert not any(text.rstrip().endswith(each) for each in BEHIND)


def test_a_reply_that_is_there_is_behind_its_thoughts(tokenizer: Any) -> None:
    thought = begun("It is", reasoning_content="Warm?")
    opening = "<|im_start|>assistant\n<think>\n"
    for said, between in ((thought, "Warm?"), (begun("It is"), ""),
                          (begun("<think>\nWarm?\n</think>\n\nIt is"), "Warm?")):  # fmt: skip
        text = text_of(tokenizer, said, template=tool_templates.QWEN_3)
        assert text.endswith(f"{opening}{between}\n</think>\n\nIt is")
    off = {"enable_thinking": False}
    text = text_of(tokenizer, begun("It is"), off, template=tool_templates.SMOLLM_3)
    assert text.endswith("assistant\n<think>\n\n</think>\nIt is")
    text = text_of(tokenizer, begun("It is"), template=tool_templates.DEEPSEEK)
    assert text.endswith("<|Assistant|>It is")


def test_a_template_that_reads_parts_and_one_that_changes_letters(tokenizer: Any) -> None:
    parts = (
        "{% for m in messages %}<{{ m.role }}>{% for p in m.content %}{{ p.text }}{% endfor %}</s>"
        "{% endfor %}"
    )
    assert text_of(tokenizer, begun("It is "), template=parts).endswith("<assistant>It is ")
    upper = "{% for m in messages %}<{{ m.role }}>{{ m.content | upper }}</s>{% endfor %}"
    assert text_of(tokenizer, begun("It is "), template=upper).endswith("<assistant>IT IS ")


@pytest.mark.parametrize("what", ["m.content[:5]", "'(a reply)'"])
def test_a_reply_that_a_template_cuts_cannot_go_on(what: str, tokenizer: Any) -> None:
    template = (
        "{% for m in messages %}{{ m.content if m.role == 'user' else " + what + " }}{% endfor %}"
    )
    with pytest.raises(InputError, match="leaves out words of a message of the assistant"):
        text_of(tokenizer, begun("It is quite"), template=template)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_what_is_new_comes_as_generate_gives_it(
    architecture: str, cache: ModelCache, tmp_path: Path
) -> None:
    tiny_models.save(tmp_path, architecture, bos=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.chat_template = chat_templates.CHATML
    tokenizer.save_pretrained(tmp_path)
    inputs = tokenizer.apply_chat_template(
        begun("Once upon"), continue_final_message=True, return_tensors="pt", return_dict=True
    )
    count = inputs["input_ids"].shape[1]
    model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    output = model.generate(**inputs, do_sample=False, max_new_tokens=20)[0].tolist()
    whole, before = (tiny_models.text_of(tokenizer, ids) for ids in (output, output[:count]))
    assert before.endswith("Once upon")
    streamed = Deltas()
    with done(cache.acquire(ModelSpec(str(tmp_path)))) as lease:
        result = ask(
            lease, begun("Once upon"), do_sample=False, max_output_length=20, on_text=streamed
        )
    assert result.texts == [whole[len(before) :]] == [streamed.texts[0]]


def test_the_bundled_model_goes_on(cache: ModelCache) -> None:
    said: list[Message] = [
        {"role": "user", "content": "Tell me a story about a toaster named Zorblax."},
        {"role": "assistant", "content": "Zorblax was a green"},
    ]
    with done(cache.acquire(ModelSpec("bundled:storyteller"))) as lease:
        result = ask(lease, said, seed=3, max_output_length=12)
    assert result.texts[0].startswith(" ")
