"""How byte-level vocabularies cut a text into words, by the names that GGUF has for the ways.

A file names a way (``tokenizer.ggml.pre``) in place of having it. Here are those whose rules are
known, as the tokenizer.json of the original models has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BEHIND = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
_BEHIND_SLASH = _BEHIND.replace(r"[\r\n]*", r"[\r\n/]*", 1)

_LLAMA_3 = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_BEHIND}"
_QWEN_2 = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_BEHIND}"
_TEKKEN = rf"{_CASED[0]}|{_CASED[1]}|\p{{N}}|{_BEHIND_SLASH}"
_GPT_4O = rf"{_CASED[0]}{_CONTRACTIONS}?|{_CASED[1]}{_CONTRACTIONS}?|\p{{N}}{{1,3}}|{_BEHIND_SLASH}"
_SEED_CODER = (
    rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Way:
    """How a vocabulary is used.

    Attributes:
        pattern: of the words; None for GPT-2's, which the library has.
        digits: whether each digit is a word of its own first.
        composes: whether characters are composed first (NFC).
        whole_words: whether a word that is in the vocabulary is a token, whatever the merges say.
        begins: whether a text begins with the token for that, where the file does not say.
    """

    pattern: str | None = None
    digits: bool = False
    composes: bool = False
    whole_words: bool = False
    begins: bool = False

    def pre_tokenizer(self) -> Any:
        """The same, of the `tokenizers` library."""
        from tokenizers import Regex, pre_tokenizers

        plain = self.pattern is None
        last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=plain)
        steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if self.digits else []
        if self.pattern is not None:
            steps.append(pre_tokenizers.Split(Regex(self.pattern), "isolated"))
        return pre_tokenizers.Sequence([*steps, last]) if steps else last


_OF_LLAMA_3 = Way(_LLAMA_3, whole_words=True, begins=True)
_OF_QWEN_2 = Way(_QWEN_2, composes=True)
_OF_DIGITS = Way(digits=True)
WAYS = {
    "default": Way(),
    **dict.fromkeys(
        ("gpt-2", "phi-2", "exaone4", "a.x-4.0", "mellum", "olmo", "jais", "trillion", "gigachat",
         "mpt", "granite-docling"), Way()
    ),
    **dict.fromkeys(
        ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
        _OF_LLAMA_3,
    ),
    "smaug-bpe": Way(_LLAMA_3, whole_words=True),
    **dict.fromkeys(("dbrx", "glm4", "chatglm-bpe"), Way(_LLAMA_3)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "kormo", "megrez"), _OF_QWEN_2),
    **dict.fromkeys(("stablelm2", "hunyuan", "solar-open", "grok-2"), Way(_QWEN_2)),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
        _OF_DIGITS,
    ),
    "tekken": Way(_TEKKEN, whole_words=True, begins=True),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2"), Way(_GPT_4O)),
    "seed-coder": Way(_SEED_CODER),
}  # fmt: skip
"""By their names. SmolLM3 is smaug-bpe, and so is what else has Llama 3's words with no beginning
of its own; Phi 4 is dbrx."""
