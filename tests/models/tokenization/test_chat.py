"""Chats: messages through the tokenizer's own template, and replies alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from standins import tiny_models
from standins.tiny_models import CONTEXT
from transformers import AutoModelForCausalLM, AutoTokenizer

from modelcompose_jupyter.document.parameters import GenerationParameters
from modelcompose_jupyter.document.types import Message
from modelcompose_jupyter.errors import InputError, ModelError
from modelcompose_jupyter.models import GenerationResult, Lease, ModelCache, ModelSpec
from modelcompose_jupyter.models.tokenization.chat import _special as special_tokens
from modelcompose_jupyter.models.tokenization.chat import later_turns, text_of, turn_end

from ..conftest import Deltas, ask, done

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


def encode(tokenizer: Any, messages: list[Message]) -> tuple[str, list[int]]:
    text = text_of(tokenizer, messages)
    return text, tokenizer(text, add_special_tokens=False)["input_ids"]


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
    whole = tiny_models.text_of(tokenizer, output)
    before = tiny_models.text_of(tokenizer, output[:count])
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
    assert caught.value.message == (
        "the model's chat template wants user and assistant in turns, and message 2 is a second"
        " user's (in its own words: roles must alternate)"
    )
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
    assert later_turns([*system, *turns]) == (system, [3, 5])
    assert later_turns(turns[1:]) == ([], [1, 3])  # a reply without its question goes alone
    assert later_turns([*system, turns[0]]) == (system, [])
    assert later_turns(system) == ([], [])


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


# What a template makes of messages

PARTS = (
    "{% for m in messages %}<s>{{ m.role }}: {% for p in m.content %}"
    "{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}</s>{% endfor %}<s>assistant: "
)
THINKS = (
    MARKS + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>"
    "{% endif %}{% if effort is defined %}[{{ effort }}]{% endif %}"
)


FIRST_LINES = "{% for m in messages %}[{{ m.role }}] {{ m.content.split('\\n')[0] }}{% endfor %}"


def encoded(template: Any, messages: list[Message], **variables: Any) -> str:
    tokenizer = tiny_models.tokenizer(bos=True)
    tokenizer.chat_template = template
    return text_of(tokenizer, messages, variables)


def test_a_template_that_reads_parts_gets_parts() -> None:
    for content in ("a", "What is the capital of France, and why?", "한국어 \"'{}% <s>"):
        assert content in encoded(PARTS, said(content, "Yes", content))


@pytest.mark.parametrize(
    "parts",
    [
        "{{ m.content[0].text }}",
        "{{ m.content[0]['text'] }}",
        "{% if m.content is string %}{% else %}{{ m.content[0].text }}{% endif %}",
        "{{ m.content | map(attribute='text') | join }}",
    ],
)
def test_however_a_template_reads_parts(parts: str) -> None:
    template = "{% for m in messages %}[{{ m.role }}] " + parts + "{% endfor %}"
    assert encoded(template, said("Hello fox")) == "[user] Hello fox"


@pytest.mark.parametrize(
    ("template", "messages", "who"),
    [
        ("Answer: ", said("Hello"), "a message of the user"),
        ("{% for m in messages %}{{ m.role }}{% endfor %}", said("Hello"), "a message of the user"),
        ("{{ messages[-1].content }}", said("Hello", "Hi", "More"), "a message of the user"),
        (
            "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
            said("Hello", "Hi", "More"),
            "a message of the assistant",
        ),
        (
            "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}",
            [{"role": "system", "content": "Be brief"}, *said("Hello")],
            "the system message",
        ),
        ("{{ messages[0].content[:5] }}", said("Hello little fox"), "a message of the user"),
        ("{{ messages[0].content.split('#')[0] }}", said("One # two"), "a message of the user"),
        (FIRST_LINES, said("Compute:\n+ - * / = ?"), "a message of the user"),
        (FIRST_LINES, said("Guess:\n🦊🎉"), "a message of the user"),
        (FIRST_LINES, said("Say:\nuser"), "a message of the user"),
        (FIRST_LINES, said("Task\nsum 1 2 3", "6", "sum 1 2 3"), "a message of the user"),
        (
            "{% for m in messages %}{{ m.content[:250] }} {% endfor %}",
            said(*["word " * 100] * 5),
            "a message of the user",
        ),
        ("{{ messages[0].content | replace('-', '') }}", said("5-3 and -1"), "a message of the"),
    ],
)
def test_words_that_a_template_leaves_out_are_an_error(
    template: str, messages: list[Message], who: str
) -> None:
    with pytest.raises(InputError, match=f"leaves out words of {who}") as caught:
        encoded(template, messages)
    assert caught.value.code == "message_lost"


@pytest.mark.parametrize(
    "change", ["| trim", "| upper", "| tojson", "| e", "| replace('</s>', '')", ".strip() ~ '!'"]
)
def test_what_a_template_changes_in_words_loses_none(change: str) -> None:
    template = "{% for m in messages %}{{ m.content " + change + " }} {% endfor %}"
    assert encoded(template, said('  Hello "little" fox,\n& friend\t', "</s>", "옛날 <b>"))


def test_switches_that_a_template_takes_out_are_no_lost_words() -> None:
    template = (
        "{% for m in messages %}[{{ m.role }}] "
        "{{ m.content | replace('/no_think', '') | replace('/think', '') }}{% endfor %}"
    )
    for switch in ("/no_think", "/think"):
        messages = [
            Message(role="system", content=f"Be brief. {switch}"),
            *said(f"Write a poem {switch}"),
        ]
        assert "Write a poem" in encoded(template, messages)
    with pytest.raises(InputError, match="leaves out"):
        encoded(template.replace("| replace", ".split('/')[0] | replace", 1), said("Write /run"))


def test_a_template_may_speak_of_text_itself() -> None:
    for own in ("Answer in the 'text' field. ", '{"type": "text"} '):
        assert "Hello" in encoded("{% raw %}" + own + "{% endraw %}" + MARKS, said("Hello"))


def test_a_system_message_may_be_a_text_where_the_others_are_parts() -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% else %}"
        "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}"
        "{% endif %}{% endfor %}"
    )
    messages = [Message(role="system", content="Be brief"), *said("Hello")]
    assert encoded(template, messages) == "Be briefHello"


def test_thoughts_of_earlier_replies_may_be_left_out() -> None:
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content.split('</think>')[-1] }}\n{% endfor %}"
    )
    text = encoded(template, said("Hello", "<think>Hm, hello</think>Hi", "More"))
    assert text == "user: Hello\nassistant: Hi\nuser: More\n"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ 'Level ' + 3 }}", "the model's chat template fails: TypeError"),
        ("{{ tools | length }}", "the model's chat template fails: TypeError"),
        ("{{ 1 // 0 }}", "the model's chat template fails: ZeroDivisionError"),
        ("{{ messages[9].content }}", "the model's chat template fails: UndefinedError"),
        ("{{ 'a' | nosuch }}", "the model's chat template cannot be read"),
        ("{% for m in messages %}", "the model's chat template cannot be read"),
        ("{{ ''.__class__.__mro__ }}", "the model's chat template fails: SecurityError"),
    ],
)
def test_a_template_that_fails_is_to_blame(template: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        encoded(template, said("Hello"))
    assert caught.value.code == "chat_template"
    assert "turns" not in (caught.value.hint or "") and "float16" not in (caught.value.hint or "")


def test_several_templates_without_a_default_are_named() -> None:
    with pytest.raises(ModelError, match="'chatml', 'rag'") as caught:
        encoded({"rag": MARKS, "chatml": MARKS}, said("Hello"))
    assert caught.value.code == "no_chat_template"
    assert "Hello" in encoded({"rag": "", "default": MARKS}, said("Hello"))


# Prompts of no tokens

SAYS_CONTENT = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


@pytest.mark.parametrize("native", [True, False])
def test_messages_of_no_words_begin_as_an_empty_text_does(
    native: bool, cache: ModelCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not native:
        monkeypatch.setenv("MODELCOMPOSE_NATIVE", "0")
    folder = saved(tmp_path, SAYS_CONTENT)
    options = {"do_sample": False, "max_output_length": 5}
    result = reply(cache, folder, "", **options)
    assert result.usage["prompt"] == 1
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        assert ask(lease, "", **options).texts == result.texts


def test_messages_of_no_words_without_a_begin_token(cache: ModelCache, tmp_path: Path) -> None:
    folder = saved(tmp_path, SAYS_CONTENT)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        content |= {"bos_token_id": None} if "tokenizer" not in name else {"bos_token": None}
        (folder / name).write_text(json.dumps(content))
    with pytest.raises(InputError, match="the messages are empty"):
        reply(cache, folder, "")


def test_a_text_of_characters_that_the_tokenizer_does_not_know(
    cache: ModelCache, tmp_path: Path
) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    folder = saved(tmp_path, SAYS_CONTENT)
    raw = Tokenizer(models.BPE({"<s>": 0, "a": 1, "b": 2}, []))
    own = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>")
    own.chat_template = SAYS_CONTENT
    own.save_pretrained(folder)
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        for prompt in ("한국어", said("한국어")):
            with pytest.raises(InputError, match="no tokens for the prompt"):
                ask(lease, prompt, max_output_length=3)
        assert ask(lease, "ab", max_output_length=3).usage["prompt"] == 2


# Ends


def says_only(folder: Path, token: int, **configuration: Any) -> Path:
    """A tiny model that says one token again and again."""
    saved(folder, MARKS)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.model.norm.weight.fill_(1)
        model.model.embed_tokens.weight.fill_(1)
        model.lm_head.weight[token] = 1
    for name, value in configuration.items():
        setattr(model.generation_config, name, value)
        setattr(model.config, name, value)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("prompt", ["Hello", said("Hello")])
def test_an_end_that_only_the_tokenizer_knows(
    prompt: Any, beams: int, cache: ModelCache, tmp_path: Path
) -> None:
    folder = says_only(tmp_path, 2, eos_token_id=0)
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        result = ask(lease, prompt, max_output_length=40, do_sample=False, num_beams=beams)
    assert (result.finish_reasons, result.usage["generated"]) == (["eos"], 1)


def tokenizer_with(template: str, *special: str) -> Any:
    tokenizer = tiny_models.tokenizer(bos=True)
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    ("turn", "end"),
    [
        ("<|im_start|>{role}\n{content}<|im_end|>\n", "<|im_end|>"),
        ("[{role}] {content} </s>", "</s>"),
        ("<|{role}|>{content}", "<|user|>"),
        ("{role}: {content}\n", None),
    ],
)
def test_the_end_of_a_turn_is_what_the_template_writes(turn: str, end: str | None) -> None:
    opening = turn.partition("{content}")[0].replace("{role}", "assistant")
    turn = turn.replace("{role}", "{{ m.role }}").replace("{content}", "{{ m.content }}")
    special = ["<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>"]
    tokenizer = tokenizer_with(
        "{% for m in messages %}" + turn + "{% endfor %}" + opening, *special
    )
    assert turn_end(tokenizer) == ({tokenizer.convert_tokens_to_ids(end)} if end else set())


def test_added_tokens_are_looked_up_once_for_a_text() -> None:
    tokenizer = tokenizer_with("[{{ messages[-1].content }}]")
    looked_up = 0

    class Counting:
        def __call__(self, *given: Any, **options: Any) -> Any:
            return tokenizer(*given, **options)

        def __getattr__(self, name: str) -> Any:
            nonlocal looked_up
            looked_up += name in ("added_tokens_decoder", "all_special_ids")
            return getattr(tokenizer, name)

    assert special_tokens(Counting(), "a</s> b" * 100) == [tokenizer.eos_token_id] * 100
    assert looked_up == 2


def test_a_chat_ends_where_its_template_ends_a_turn_and_a_text_does_not(
    cache: ModelCache, tmp_path: Path
) -> None:
    folder = says_only(tmp_path, 1, eos_token_id=2)  # the template's marks are <s> and </s>
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = MARKS.replace("</s>", "<s>")
    tokenizer.save_pretrained(folder)
    options = {"max_output_length": 9, "do_sample": False}
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        assert ask(lease, said("Hello"), **options).usage["generated"] == 1
        assert ask(lease, "Hello", **options).usage["generated"] == 9


def test_the_end_of_a_turn_is_one_beside_those_that_the_model_names(
    cache: ModelCache, tmp_path: Path
) -> None:
    folder = says_only(tmp_path, 1, eos_token_id=[0, 2])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = MARKS.replace("</s>", "<s>")
    tokenizer.save_pretrained(folder)
    options = {"max_output_length": 9, "do_sample": False}
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        assert ask(lease, said("Hello"), **options).finish_reasons == ["eos"]


HARMONY = (
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|end|>{% else %}"
    "<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)


def test_what_ends_a_part_of_a_turn_does_not_end_the_turn() -> None:
    special = ["<|start|>", "<|end|>", "<|channel|>", "<|message|>", "<|return|>"]
    assert turn_end(tokenizer_with(HARMONY, *special)) == set()


@pytest.mark.parametrize(
    "template",
    [
        "{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + MARKS,
        MARKS.replace("message.content", "message.content | upper"),
        MARKS.replace("</s>", " (over) </s>"),
    ],
    ids=["wants a system message", "in capitals", "words behind it"],
)
def test_the_end_of_a_turn_is_found_however_it_is_written(template: str) -> None:
    tokenizer = tokenizer_with(template)
    assert turn_end(tokenizer) == {tokenizer.eos_token_id}


# Switches of templates


def test_variables_reach_the_template(cache: ModelCache, tmp_path: Path) -> None:
    folder = saved(tmp_path, THINKS)
    plain = reply(cache, folder, "Hello", max_output_length=3, seed=1)
    off = reply(cache, folder, "Hello", max_output_length=3, seed=1, enable_thinking=False)
    same = reply(
        cache, folder, "Hello", max_output_length=3, seed=1,
        chat_template_kwargs={"enable_thinking": False},
    )  # fmt: skip
    assert off.texts == same.texts
    assert off.usage["prompt"] == same.usage["prompt"] > plain.usage["prompt"]
    assert off.parameters["enable_thinking"] is False
    assert same.parameters["chat_template_kwargs"] == {"enable_thinking": False}
    assert "chat_template_kwargs" not in plain.parameters
    assert encoded(THINKS, said("Hello"), effort="low").endswith("[low]")
    assert [off.warnings, same.warnings] == [[], []]


def test_a_variable_that_the_template_does_not_read_is_told(
    cache: ModelCache, chat_folder: Callable[[str], Path]
) -> None:
    result = reply(cache, chat_folder(MARKS), "Hello", enable_thinking=True, max_output_length=3)
    assert result.warnings == [
        "enable_thinking has no effect: the model's chat template has no such switch"
    ]
    with done(cache.acquire(ModelSpec(str(chat_folder(MARKS))))) as lease:
        result = ask(lease, "Hello", chat_template_kwargs={"a": 1}, max_output_length=3)
    assert result.warnings == ["chat_template_kwargs has no effect: only chats have a template"]


@pytest.mark.parametrize(
    "given",
    [
        {"chat_template": "x"}, {"tokenize": True}, {"messages": []}, {"tools": []},
        {"add_generation_prompt": False}, {"tokenizer_kwargs": {}}, {"a b": 1}, "text", [1], 5,
        {"a": "x" * 100_001}, {"a": [0] * 1_001}, {"a": [[0] * 999] * 999},
        {"a": {str(i) * 1000: 0 for i in range(100)}}, {"a": json.loads("[" * 99 + "]" * 99)},
    ],
)  # fmt: skip
def test_variables_that_cannot_be_set(given: Any) -> None:
    with pytest.raises(ValidationError):
        GenerationParameters(chat_template_kwargs=given)
    with pytest.raises(ValidationError):
        GenerationParameters(enable_thinking=True, chat_template_kwargs={"enable_thinking": True})
