"""Small tokenizers of the kinds that models have: how they write characters differs."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from . import tiny_models

BOS, EOS, UNKNOWN = "<s>", "</s>", "<unk>"
KINDS = ("byte-level", "byte-fallback", "wordpiece", "wordpiece, cleaned up")

_WORDS = "once upon a time there was small fox who did not do n t s ve re m ' . , ! ?"
_KOREAN = "옛날 에 여우 가 살았다"


@lru_cache
def tokenizer_of(kind: str) -> Any:
    """A tokenizer; all but WordPiece's can write every text."""
    if kind == "byte-level":
        return tiny_models.tokenizer()
    return _byte_fallback() if kind == "byte-fallback" else _wordpiece("cleaned" in kind)


def _byte_fallback() -> Any:
    """As SentencePiece's of Llama 2: blanks as ▁, single bytes for what has no token."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    special = [UNKNOWN, BOS, EOS]
    names = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = [
        "▁",
        *"abcdefghijklmnopqrstuvwxyzOT'.,!?",
        "▁a",
        "▁t",
        "on",
        "ce",
    ]
    vocabulary = {name: place for place, name in enumerate([*names, *pieces])}
    raw = Tokenizer(
        models.BPE(
            vocabulary, [("▁", "a"), ("▁", "t"), ("o", "n"), ("c", "e")],
            unk_token=UNKNOWN, fuse_unk=True, byte_fallback=True,
        )
    )  # fmt: skip
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )  # fmt: skip
    raw.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=BOS, eos_token=EOS, unk_token=UNKNOWN
    )


def _wordpiece(cleans_up: bool) -> Any:
    """As BERT's: words and their continuations, blanks between words when they are written."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*_WORDS.split(), *_KOREAN.split(), *"abcdefghijklmnopqrstuvwxyz", "날", "우", "다"]
    names = dict.fromkeys([UNKNOWN, BOS, EOS, *words, *(f"##{word}" for word in words)])
    vocabulary = {name: place for place, name in enumerate(names)}
    raw = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN))
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece(cleanup=cleans_up)
    raw.add_special_tokens([UNKNOWN, BOS, EOS])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=BOS, eos_token=EOS, unk_token=UNKNOWN,
        clean_up_tokenization_spaces=cleans_up,
    )  # fmt: skip
