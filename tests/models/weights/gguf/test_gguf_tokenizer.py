"""Tokenizers of GGUF files, next to the tokenizer.json that they were made from."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from standins import gguf_files, tiny_models
from standins.tiny_models import BOS, EOS, PAD
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    processors,
    trainers,
)
from tokenizers import pre_tokenizers as ways

from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.models.tokenization import chat
from modelcompose_jupyter.models.tokenization.fast_tokenizer import FastTokenizer
from modelcompose_jupyter.models.weights.gguf import container
from modelcompose_jupyter.models.weights.gguf import tokenizer as gguf_tokenizer
from modelcompose_jupyter.models.weights.tokenizer import load_fast_tokenizer

from ...conftest import ask, done
from ..conftest import failure

CALL, TOOL = "<|tool call|>", "[tool]"
END = "<|im_end|>"
TEXTS = [
    "", " ", "   ", "\n", "\n\n\n", " \n \t x", "Hello, World! 1 + 22 = 23", "  two\n\tlines \r\n",
    "옛날 옛적에 작은 여우가 숲에서 살았습니다. 2024년 12월 25일ㅋㅋㅋ",
    "naïve café — é e\u0301 Å A\u030a",
    "🦊👩‍🔬🇰🇷🏳️‍🌈", "٠½ﬁＡßİ\u200b\ufeff", "don't I'LL WE'RE they've 'tis", "x" * 300,
    "def f(x):\n    return x ** 2  # twice\n\n\nclass A:\n        pass\n", "日本語とカナ。中文字符",
    "1234567890123456789012345 3.14159 1,000,000", "a\x00b\x01c\x7f\x1b[0m", "\u00a0\u3000wide",
    f"a{EOS}b {BOS} c", f"{CALL}x {CALL} {TOOL}y{TOOL}{END} {END}\n", "<0x0A> ▁a ▁", "!!!???...",
    "camelCase snake_case SHOUTING MixedCASEWord", "https://a.b/c?d=e&f=%20#g", "\u2028 \u0085 x",
]  # fmt: skip
"""Korean, emoji, code, blanks, control characters, long numbers, special tokens, odd characters."""

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_2 = LLAMA_3.replace("{1,3}", "")
GPT_4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = ways.ByteLevel(add_prefix_space=False, use_regex=False)
PLAIN = ways.ByteLevel(add_prefix_space=False)


def split(pattern: str) -> Any:
    return ways.Sequence([ways.Split(Regex(pattern), "isolated"), BYTES])


DIGITS = ways.Sequence([ways.Digits(individual_digits=True), PLAIN])
BYTE_LEVEL: dict[str, tuple[Any, Any]] = {
    "gpt-2": (None, PLAIN),
    "default": (None, PLAIN),
    "exaone4": (None, PLAIN),
    "llama-bpe": (None, split(LLAMA_3)),
    "smaug-bpe": (None, split(LLAMA_3)),
    "dbrx": (None, split(LLAMA_3)),
    "qwen2": (normalizers.NFC(), split(QWEN_2)),
    "hunyuan": (None, split(QWEN_2)),
    "smollm": (None, DIGITS),
    "exaone": (None, DIGITS),
    "gpt-4o": (None, split(GPT_4O)),
}
"""The normalizer and the pre-tokenizer of the models whose words have these names."""


def corpus() -> list[str]:
    draw = random.Random(0)
    kinds = [
        lambda: chr(draw.randrange(32, 127)), lambda: chr(draw.randrange(0xAC00, 0xD7A4)),
        lambda: chr(draw.randrange(0x80, 0x3000)), lambda: chr(draw.randrange(0x1F300, 0x1F700)),
        lambda: " ", lambda: "\n", lambda: draw.choice(["the", "ing", " a", "1", CALL, EOS]),
    ]  # fmt: skip
    random_texts = (
        "".join(draw.choice(kinds)() for _ in range(draw.randrange(40))) for _ in range(200)
    )
    return [*TEXTS, *random_texts]


def same(own: FastTokenizer, original: Tokenizer) -> None:
    """Assert that both read all texts alike, and write all tokens alike."""
    for text in corpus():
        for adds in (True, False):
            ids = original.encode(text, add_special_tokens=adds).ids
            assert own(text, add_special_tokens=adds)["input_ids"] == ids, text
        for skips in (True, False):
            decoded = original.decode(ids, skip_special_tokens=skips)
            assert own.decode(ids, skip_special_tokens=skips) == decoded, text
    assert own.get_vocab() == original.get_vocab()
    theirs = original.get_added_tokens_decoder()
    assert {id: token.special for id, token in own.added_tokens_decoder.items()} == {
        id: token.special for id, token in theirs.items()
    }


def metadata_of(folder: Path, file: Path, **options: Any) -> dict[str, Any]:
    """What a file says that has the vocabulary of a folder, and hardly more."""
    writer = gguf.GGUFWriter(file, "llama")
    gguf_files.add_vocabulary(writer, folder, **options)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return dict(container.read(file).metadata)


def saved(folder: Path, raw: Tokenizer, **settings: Any) -> Tokenizer:
    """Write a tokenizer as a repository has it."""
    folder.mkdir(parents=True, exist_ok=True)
    raw.save(str(folder / "tokenizer.json"))
    given = {"tokenizer_class": "PreTrainedTokenizerFast", **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(given))
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("pre", BYTE_LEVEL)
def test_byte_level_vocabularies_read_as_their_tokenizer_json(tmp_path: Path, pre: str) -> None:
    normalizer, pre_tokenizer = BYTE_LEVEL[pre]
    raw = Tokenizer(models.BPE(ignore_merges=pre in ("llama-bpe", "smaug-bpe")))
    if normalizer is not None:
        raw.normalizer = normalizer
    raw.pre_tokenizer = pre_tokenizer
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=[PAD, BOS, EOS], show_progress=False,
        initial_alphabet=ways.ByteLevel.alphabet(),
    )  # fmt: skip
    raw.train_from_iterator(TEXTS * 4, trainer)
    raw.add_special_tokens([CALL, END])
    raw.add_tokens([AddedToken(TOOL, normalized=False)])
    around = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 1)])
    raw.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), around])
    names = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD}
    original = saved(tmp_path, raw, **names)
    size = original.get_vocab_size()
    metadata = metadata_of(tmp_path, tmp_path / "m.gguf", pre=pre, padded_to=size + 10)
    own, ends = gguf_tokenizer.load(metadata, "llama", size + 10, "m")
    same(own, original)
    assert own.special_tokens_map == names
    assert ends == [original.token_to_id(EOS), original.token_to_id(END)]
    hub = load_fast_tokenizer("m", tmp_path, "llama")
    assert hub is not None
    assert [own(each) for each in TEXTS] == [hub(each) for each in TEXTS]


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("end", [True, False])
def test_sentencepiece_vocabularies_read_as_their_tokenizer_json(
    tmp_path: Path, prefix: bool, end: bool
) -> None:
    learned = Tokenizer(models.BPE())
    replaced = normalizers.Replace(" ", "▁")
    learned.normalizer = replaced
    learned.pre_tokenizer = ways.Split(Regex("(?=▁)"), "isolated")
    trainer = trainers.BpeTrainer(vocab_size=500, show_progress=False)
    texts = [text.replace("\n", "") for text in TEXTS if "<0x" not in text]
    learned.train_from_iterator(texts * 4, trainer)
    content = json.loads(learned.to_str())["model"]
    learned_merges = [tuple(each) for each in content["merges"]]
    scores = {left + right: -float(place) for place, (left, right) in enumerate(learned_merges)}
    special = ["<unk>", BOS, EOS]
    pieces = [*(f"<0x{byte:02X}>" for byte in range(256)), *content["vocab"], "▁▁", "▁▁▁▁"]
    vocabulary = {each: id for id, each in enumerate(dict.fromkeys([*special, *pieces]))}
    # As transformers makes merges of scores: all pairs of pieces, the best first. Bytes are made
    # of nothing, though a text may have their names.
    pairs = sorted(
        (
            (scores.get(piece, -1e6), len(piece[:place]), piece[:place], piece[place:])
            for piece in dict.fromkeys(pieces[256:])
            for place in range(1, len(piece))
            if piece[:place] in vocabulary and piece[place:] in vocabulary
        ),
        key=lambda pair: pair[:2],
        reverse=True,
    )
    merges = [(left, right) for *_, left, right in pairs]
    raw = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    raw.normalizer = (
        normalizers.Sequence([normalizers.Prepend("▁"), replaced]) if prefix else replaced
    )
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    raw.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    raw.add_special_tokens(special)
    raw.add_special_tokens([CALL, END])
    raw.add_tokens([AddedToken(TOOL, normalized=False), AddedToken("\n\n", normalized=False)])
    single, tokens = [BOS, "$A", *([EOS] if end else [])], [(BOS, 1), (EOS, 2)]
    raw.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=tokens if end else tokens[:1]
    )
    names = {"bos_token": BOS, "eos_token": EOS, "unk_token": "<unk>"}
    original = saved(tmp_path, raw, **names)
    metadata = metadata_of(
        tmp_path, tmp_path / "m.gguf", scores={piece: scores.get(piece, -1e6) for piece in pieces}
    )
    metadata["tokenizer.ggml.add_space_prefix"] = prefix
    own, ends = gguf_tokenizer.load(metadata, "llama", original.get_vocab_size(), "m")
    same(own, original)
    assert ends == [2, original.token_to_id(END)]


TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MESSAGES: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "옛날 옛적에 {{ x }} 🦊"},
    {"role": "assistant", "content": "Once."},
    {"role": "user", "content": "And then?"},
]


@pytest.mark.parametrize("named", [False, True])
def test_chats_read_and_end_as_in_the_folder(
    tmp_path: Path, cache: ModelCache, named: bool
) -> None:
    folder = tiny_models.save(tmp_path / "m", "llama")
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")

    def add(writer: Any) -> None:
        if named:
            templates = [{"name": "default", "template": TEMPLATE},
                         {"name": "tools", "template": "{{ messages[0].content }}"}]  # fmt: skip
            writer.kv_data[0].pop("tokenizer.chat_template")
            writer.add_chat_template(templates)

    file = gguf_files.save(tmp_path / "m.gguf", folder, change=add)
    metadata = container.read(file).metadata
    own, _ = gguf_tokenizer.load(metadata, "llama", 1000, "m")
    hub = load_fast_tokenizer("m", folder, "llama")
    assert chat.text_of(own, MESSAGES) == chat.text_of(hub, MESSAGES)
    assert isinstance(own.chat_template, dict) == named
    texts = []
    for source in (file, folder):
        with done(cache.acquire(ModelSpec(str(source), driver="native"))) as lease:
            texts.append(ask(lease, MESSAGES[:2], max_output_length=30).texts)
    assert texts[0] == texts[1]


def test_neither_torch_nor_transformers_is_imported(
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    import subprocess
    import sys

    file = gguf_files.save(tmp_path / "m.gguf", folder_of("llama"), "Q8_0")
    code = (
        "import sys; from modelcompose_jupyter.models import *;"
        "from modelcompose_jupyter.document.parameters import GenerationParameters as P;"
        f"lease = ModelCache().acquire(ModelSpec({str(file)!r})).result(60);"
        "print(lease.generate('A', P(max_output_length=3)).future.result(60).texts);"
        "assert not {'torch', 'transformers', 'gguf'} & set(sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_a_vocabulary_that_is_not_known_is_named(
    folder_of: Callable[[str], Path], tmp_path: Path, cache: ModelCache
) -> None:
    def changed(key: str, value: object) -> str:
        def change(writer: Any) -> None:
            writer.kv_data[0][f"tokenizer.ggml.{key}"].value = value

        file = gguf_files.save(tmp_path / "m.gguf", folder_of("llama"), change=change)
        return failure(cache, file).message

    assert "its kind, 't5', is not known" in changed("model", "t5")
    assert "its way of words, 'kimi-k2', is not known" in changed("pre", "kimi-k2")
    assert "one of its merges is none" in changed("merges", ["ab"])
    assert "makes no tokenizer" in changed("merges", ["\u4e00 \u4e01"])
    assert "eos_token_id is no token" in changed("eos_token_id", 100_000)
    assert "two of its tokens are equal" in changed("tokens", ["a"] * 400)


def test_scores_must_be_numbers(tmp_path: Path) -> None:
    metadata = {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["a", "b"],
        "tokenizer.ggml.scores": np.array([0, np.nan], np.float32),
    }  # fmt: skip
    with pytest.raises(ValueError, match="are no numbers"):
        gguf_tokenizer.load(metadata, "llama", 2, "m")
