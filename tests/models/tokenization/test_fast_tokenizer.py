"""Tokenizers without transformers: they give what transformers' do, or they are not used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from standins import tiny_models
from transformers import AutoTokenizer

from modelcompose_jupyter.models.tokenization.chat import text_of, turn_end
from modelcompose_jupyter.models.tokenization.detokenizer import Decoder
from modelcompose_jupyter.models.tokenization.fast_tokenizer import FastTokenizer
from modelcompose_jupyter.models.tokenization.prompt_tokens import PromptTokens
from modelcompose_jupyter.models.weights.source import bundled
from modelcompose_jupyter.models.weights.tokenizer import load_fast_tokenizer

TEXTS = [
    "",
    " ",
    "Once upon a time",
    "  two  blanks \t and\r\nlines\n\n",
    "옛날 옛적에 작은 여우가 살았습니다.",
    "🦊👩‍🔬 naïve café e\u0301 \u200b\ufeff",
    "<s></s><pad> <|user|>\n<|assistant|><|endoftext|>",
    "a\x00b\x7f\u0085\u2028",
    "٠١٢ ½ ﬁ Ａ ß İ",
    "x" * 500,
    " don't won't it's , . ! ?",
]
CHAT: Any = [
    {"role": "user", "content": "Tell me of a fox."},
    {"role": "assistant", "content": "It slept."},
    {"role": "user", "content": "And then? 그리고?"},
]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
)


def changed(folder: Path, name: str = "tokenizer_config.json", **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _plain(folder: Path) -> None:
    tiny_models.tokenizer().save_pretrained(folder)


def _with_beginning(folder: Path) -> None:
    tiny_models.tokenizer(bos=True).save_pretrained(folder)


def _cut_on_the_left(folder: Path) -> None:
    tiny_models.tokenizer(truncation_side="left").save_pretrained(folder)


def _with_template(folder: Path) -> None:
    tiny_models.tokenizer(chat_template=TEMPLATE).save_pretrained(folder)


def _with_template_inside(folder: Path) -> None:
    _plain(folder)
    changed(folder, chat_template=TEMPLATE)


def _with_templates_by_name(folder: Path) -> None:
    _plain(folder)
    templates = [{"name": "default", "template": TEMPLATE}, {"name": "tools", "template": "x"}]
    changed(folder, chat_template=templates)


def _with_names_of_tokens(folder: Path) -> None:
    """As older versions have written it."""
    _plain(folder)
    tokens = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    listed = {str(each.pop("id")): each for each in tokens}
    changed(
        folder, added_tokens_decoder=listed, bos_token={"__type": "AddedToken", "content": "<s>"}
    )


TAKEN = [
    _plain, _with_beginning, _cut_on_the_left, _with_template, _with_template_inside,
    _with_templates_by_name, _with_names_of_tokens,
]  # fmt: skip


@pytest.fixture(params=[*TAKEN, "storyteller"], ids=lambda each: getattr(each, "__name__", each))
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if isinstance(request.param, str):
        return bundled()[request.param]
    request.param(tmp_path)
    return tmp_path


def both(folder: Path) -> tuple[FastTokenizer, Any]:
    fast = load_fast_tokenizer("it", folder, "llama")
    assert fast is not None
    (folder / "config.json").exists() or (folder / "config.json").write_text(
        '{"model_type": "llama"}'
    )
    return fast, AutoTokenizer.from_pretrained(folder)


def test_it_is_as_transformers_has_it(folder: Path) -> None:
    fast, whole = both(folder)
    assert fast.get_vocab() == whole.get_vocab()
    assert len(fast) == len(whole)
    assert fast.special_tokens_map == whole.special_tokens_map
    assert fast.all_special_ids == whole.all_special_ids
    assert fast.chat_template == whole.chat_template
    assert fast.truncation_side == whole.truncation_side
    assert str(fast.added_tokens_decoder) == str(whole.added_tokens_decoder)
    for name in ("bos_token", "unk_token", "bos_token_id", "eos_token_id", "pad_token_id",
                 "unk_token_id"):  # fmt: skip
        assert getattr(fast, name) == getattr(whole, name), name
    decode, wanted = Decoder(fast), Decoder(whole)
    for text in TEXTS:
        for special in (True, False):
            tokens = whole(text, add_special_tokens=special)["input_ids"]
            assert fast(text, add_special_tokens=special)["input_ids"] == tokens
            assert PromptTokens(fast).encode(text, special) == tokens
            for skip in (True, False):
                decoded = whole.decode(tokens, skip_special_tokens=skip)
                assert fast.decode(tokens, skip_special_tokens=skip) == decoded
        asked = {"truncation": True, "max_length": 4, "return_offsets_mapping": True}
        cut = whole(text, **asked)
        assert fast(text, **asked) == {key: cut[key] for key in ("input_ids", "offset_mapping")}
        assert fast(text)["input_ids"] == whole(text)["input_ids"]  # as if nothing had been cut
        for end in range(min(40, len(tokens))):
            assert decode(tokens[:end]) == wanted(tokens[:end])
    for token in range(len(whole)):
        assert fast.convert_ids_to_tokens(token) == whole.convert_ids_to_tokens(token)


def test_chats_are_as_transformers_writes_them(tmp_path: Path) -> None:
    for make in (_with_template, _with_template_inside, _with_templates_by_name):
        folder = tmp_path / make.__name__
        folder.mkdir()
        make(folder)
        fast, whole = both(folder)
        wanted = whole.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
        assert text_of(fast, CHAT) == wanted == text_of(whole, CHAT)
        assert turn_end(fast) == turn_end(whole) != set()


def _of_its_own_class(folder: Path) -> None:
    changed(folder, tokenizer_class="Qwen2Tokenizer")


def _without_class(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    found = json.loads(path.read_text())
    del found["tokenizer_class"]
    path.write_text(json.dumps(found))


def _with_an_unknown_setting(folder: Path) -> None:
    changed(folder, split_special_tokens=True)


def _with_a_new_token(folder: Path) -> None:
    changed(folder, extra_special_tokens=["<|new|>"])


def _with_a_token_of_words(folder: Path) -> None:
    changed(folder, pad_token="fox")


def _with_a_token_that_is_none(folder: Path) -> None:
    changed(folder, pad_token=5)


def _with_tokens_that_differ(folder: Path) -> None:
    token = {"content": "<s>", "lstrip": True, "special": True}
    changed(folder, added_tokens_decoder={"1": token})


def _with_an_older_list(folder: Path) -> None:
    (folder / "added_tokens.json").write_text("{}")


def _damaged(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def _without_settings(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()


@pytest.mark.parametrize(
    "change",
    [
        _of_its_own_class, _without_class, _with_an_unknown_setting, _with_a_new_token,
        _with_a_token_of_words, _with_a_token_that_is_none, _with_tokens_that_differ,
        _with_an_older_list, _damaged, _without_settings,
    ],
    ids=lambda each: each.__name__[1:],
)  # fmt: skip
def test_what_transformers_might_read_otherwise_is_left_to_it(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    _plain(tmp_path)
    assert load_fast_tokenizer("it", tmp_path, "llama") is not None
    assert load_fast_tokenizer("it", tmp_path, "mistral") is None
    change(tmp_path)
    assert load_fast_tokenizer("it", tmp_path, "llama") is None
