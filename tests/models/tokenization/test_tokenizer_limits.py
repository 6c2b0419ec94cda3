"""Tokenizers that make too much of a text are refused; those of models are not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from standins import tiny_models
from standins.tokenizers_of_kinds import KINDS, tokenizer_of
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.models.tokenization import tokenizer_limits

from ..conftest import ask, done

LONG = "b" * 100_000


def replacing(*steps: tuple[str, str]) -> normalizers.Normalizer:
    return normalizers.Sequence([normalizers.Replace(*step) for step in steps])


NORMALIZERS = {
    "a letter": normalizers.Replace("a", LONG),
    "a pattern": normalizers.Replace(Regex("[a-z]"), LONG),
    "a beginning": normalizers.Prepend(LONG),
    "again and again": normalizers.Sequence([normalizers.Replace("a", "aaaaa")] * 8),
    "many steps": normalizers.Sequence([normalizers.Lowercase()] * 300),
    "many texts": normalizers.Sequence([normalizers.Replace("b" * 999, "b" * 999)] * 40),
    "what another step made": replacing(("a", "bcd" * 5), ("cd", "e" * 20)),
    "what was put together": replacing(("a", "bc-bc-bc-bc"), ("-", ""), ("cb", "e" * 40)),
    "the ends of what another step made": replacing(("a", "b" + "c" * 10 + "d"), ("db", "d" * 99)),
    "around what another step made": replacing(("a", "b" * 20), ("b" * 20 + "-", "c" * 200)),
    "in another case": normalizers.Sequence(
        [normalizers.Replace("a", "B" * 20), normalizers.Lowercase(),
         normalizers.Replace("b", "c" * 20)]
    ),
    "a pattern in what another step made": normalizers.Sequence(
        [normalizers.Replace("a", "b" * 20), normalizers.Replace(Regex("[b]"), "c" * 20)]
    ),
    "a long pattern": normalizers.Replace(Regex("a|" * 20_000), "b"),
}  # fmt: skip
MARKS = {
    "line ends and blanks": replacing(("\n", "<|newline|>"), (" ", "<|space|>")),
    "escapes": replacing(("<", "&lt;"), (">", "&gt;"), ("&", "&amp;")),
    "digits": replacing(("0", "zero"), ("1", "one"), ("2", "two"), ("3", "three")),
    "runs of blanks": replacing(*((k * " ", f"<|extratoken_{k}|>") for k in range(2, 25))),
    "left out": replacing(*((chr(0x300 + sign), "") for sign in range(70))),
}
ALPHABETS = {
    "words": models.WordLevel({letter: id for id, letter in enumerate("ACDEFGHIKLMNPQRSTVWY")}),
    "pieces": models.Unigram([(letter, -1.0) for letter in "ACGT"]),
}


def refused(tokenizer: Any) -> str:
    with pytest.raises(ModelError, match="the tokenizer of it ") as caught:
        tokenizer_limits.check_tokenizer(tokenizer, "the tokenizer of it")
    assert caught.value.code == "corrupt_model"
    return caught.value.message


@pytest.mark.parametrize("name", NORMALIZERS)
def test_normalizers_that_grow_a_text_are_refused(name: str) -> None:
    tokenizer = tiny_models.tokenizer()
    tokenizer.backend_tokenizer.normalizer = NORMALIZERS[name]
    assert "the most" in refused(tokenizer)


@pytest.mark.parametrize("name", MARKS)
def test_steps_that_do_not_meet_grow_a_text_once(name: str) -> None:
    tokenizer = tiny_models.tokenizer()
    tokenizer.backend_tokenizer.normalizer = MARKS[name]
    tokenizer_limits.check_tokenizer(tokenizer, "it")
    assert tokenizer("1 <2\n\u0300")["input_ids"]


@pytest.mark.parametrize("name", ALPHABETS)
def test_alphabets_without_an_unknown_token_are_read(name: str) -> None:
    backend = Tokenizer(ALPHABETS[name])
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    tokenizer_limits.check_tokenizer(tokenizer, "it")
    assert len(tokenizer("GATTACA")["input_ids"]) == 7


def test_pieces_of_a_unigram_are_short() -> None:
    pieces = [("a" * length, -1.0) for length in range(1, 300)]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.Unigram(pieces)))
    assert "a piece of 299 characters" in refused(tokenizer)


def test_decoders_that_grow_a_text_are_refused() -> None:
    tokenizer = tiny_models.tokenizer()
    tokenizer.backend_tokenizer.decoder = decoders.Sequence(
        [decoders.ByteLevel(), decoders.Replace("a", LONG)]
    )
    assert "decoder" in refused(tokenizer)


def test_special_tokens_around_a_text_are_few() -> None:
    tokenizer = tiny_models.tokenizer()
    for single, what in (("<s> " * 200_000 + "$A", "200000 special tokens"), ("$A $A", "2 times")):
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=single, special_tokens=[("<s>", 1)]
        )
        assert what in refused(tokenizer)


def test_models_that_take_too_long_or_grow_words_are_refused() -> None:
    tokenizer = tokenizer_of("wordpiece")
    model = tokenizer.backend_tokenizer.model
    for key, value in (
        ("max_input_chars_per_word", 10**9),
        ("continuing_subword_prefix", LONG),
    ):
        before = getattr(model, key)
        setattr(model, key, value)
        try:
            refused(tokenizer)
        finally:
            setattr(model, key, before)


def test_tokens_are_short() -> None:
    tokenizer = tiny_models.tokenizer()
    tokenizer.add_tokens([LONG])
    assert "a token of 100000 characters" in refused(tokenizer)


def test_a_table_of_characters_may_not_grow_them() -> None:
    tree = (4).to_bytes(4, "little") + b"\0" * 4
    for replaced, fits in ((b"fi\0abc\0", True), (b"fi\0" + b"a" * 100_000 + b"\0", False)):
        charsmap = base64.b64encode(tree + replaced).decode()
        step = {"type": "Precompiled", "precompiled_charsmap": charsmap}
        assert (tokenizer_limits._growth(step) <= tokenizer_limits.MOST_GROWTH) == fits


@pytest.mark.parametrize("kind", KINDS)
def test_tokenizers_as_models_have_them_pass(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    tokenizer_limits.check_tokenizer(tokenizer, "it")
    assert tokenizer("once")["input_ids"]


def changed(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A tiny model whose tokenizer.json somebody has changed."""
    tiny_models.save(folder, "llama")
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return folder


def test_padding_and_truncation_of_the_file_are_off(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["padding"] = {
            "strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>",
        }  # fmt: skip
        content["truncation"] = {
            "direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0,
        }  # fmt: skip

    tokenizer = AutoTokenizer.from_pretrained(changed(tmp_path, change))
    tokenizer_limits.check_tokenizer(tokenizer, "it")
    assert tokenizer.backend_tokenizer.padding is None
    assert tokenizer.backend_tokenizer.truncation is None


def test_a_load_of_a_tokenizer_that_grows_is_an_error(cache: ModelCache, tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["normalizer"] = {
            "type": "Replace",
            "pattern": {"String": "e"},
            "content": LONG[:999],
        }

    folder = changed(tmp_path, change)
    with pytest.raises(ModelError, match="makes 999 bytes of one, and 64 is the most"):
        done(cache.acquire(ModelSpec(str(folder))))


def test_a_pattern_that_tries_too_much_fails_its_request_alone(
    cache: ModelCache, tmp_path: Path
) -> None:
    def change(content: dict[str, Any]) -> None:
        split = {"type": "Split", "pattern": {"Regex": "(?:a|a)*$"}, "behavior": "Isolated"}
        content["pre_tokenizer"] = {
            "type": "Sequence",
            "pretokenizers": [{**split, "invert": False}, content["pre_tokenizer"]],
        }

    folder = changed(tmp_path, change)
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        with pytest.raises(ModelError, match="PanicException") as caught:
            ask(lease, "a" * 60 + "!", max_output_length=2)
        assert caught.value.code == "run_failed"
        assert ask(lease, "fox", max_output_length=2).usage["generated"] == 2
