"""What tokens write, of tokenizers of all kinds."""

from __future__ import annotations

from typing import Any

import pytest
from standins.tokenizers_of_kinds import KINDS, tokenizer_of

from modelcompose_jupyter.models.constraints.token_bytes import TokenBytes
from modelcompose_jupyter.models.tokenization.detokenizer import Decoder, Detokenizer

TEXTS = ["once upon a time there was a small fox", "다 우 날", "it did n't , really .", "a  b"]


def written(tokenizer: Any, text: str, decode: Any) -> str:
    """A text as it comes behind another, token by token."""
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    before = list(tokenizer("there", add_special_tokens=False)["input_ids"])
    detokenizer = Detokenizer(decode, before, ())
    return "".join([*map(detokenizer.push, ids), detokenizer.finish()])


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_what_the_tokenizer_writes(kind: str, text: str) -> None:
    tokenizer = tokenizer_of(kind)
    bytes_of = TokenBytes(tokenizer)
    assert len(bytes_of) == len(tokenizer)
    mine = written(tokenizer, text, bytes_of.decode)
    theirs = written(tokenizer, text, Decoder(tokenizer))
    if "cleaned" in kind:  # which is left alone: grammars are held to what tokens write
        mine, theirs = (each.replace(" ", "") for each in (mine, theirs))
    assert mine == theirs


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_write_nothing(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    bytes_of = TokenBytes(tokenizer)
    assert set(tokenizer.all_special_ids) == set(bytes_of.special)
    assert all(bytes_of.of[id] == b"" for id in bytes_of.special)
    assert bytes_of.decode(tokenizer.all_special_ids) == ""


def test_a_character_of_several_tokens_comes_whole() -> None:
    tokenizer = tokenizer_of("byte-fallback")
    bytes_of = TokenBytes(tokenizer)
    ids = tokenizer("한", add_special_tokens=False)["input_ids"]
    texts = [bytes_of.decode(ids[:count]) for count in range(1, len(ids) + 1)]
    assert texts[-1].strip() == "한" and all(not text.strip() for text in texts[:-1])


def test_a_token_that_was_added_is_its_text() -> None:
    from standins import tiny_models
    from transformers import AddedToken, PreTrainedTokenizerFast

    tokenizer = tiny_models.tokenizer()
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    tokenizer.add_tokens(
        [AddedToken("<tool_call>", special=False), AddedToken("<x>", special=True)]
    )
    bytes_of = TokenBytes(tokenizer)
    id = tokenizer.convert_tokens_to_ids("<tool_call>")
    hidden = tokenizer.convert_tokens_to_ids("<x>")
    assert (bytes_of.of[id], bytes_of.of[hidden]) == (b"<tool_call>", b"")
    assert hidden in bytes_of.special and id not in bytes_of.special
