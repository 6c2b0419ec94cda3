"""Models with random weights in the shapes of real ones, and prompts of exactly so many tokens."""

from __future__ import annotations

import math
import random
import re
import string
import sys
from collections.abc import Iterator
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Any

from modelcompose_jupyter.models import ModelSpec
from modelcompose_jupyter.models.weights import source
from modelcompose_jupyter.models.weights.architectures import context_length

SEED = 20
_VOCABULARY = 49152
_PAD = "<pad>"
_WORD = re.compile(r" [a-z]+")


def _smollm2(hidden: int, inner: int, layers: int, heads: int, key_heads: int, theta: float) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
        **_NO_ENDS,
    )
    return LlamaForCausalLM, config


def _smollm3_3b() -> Any:
    from transformers import SmolLM3Config, SmolLM3ForCausalLM

    config = SmolLM3Config(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=11008,
        num_hidden_layers=36,
        num_attention_heads=16,
        num_key_value_heads=4,
        max_position_embeddings=65536,
        tie_word_embeddings=True,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 5000000.0},
        **_NO_ENDS,
    )
    return SmolLM3ForCausalLM, config


def _gpt2_small() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel, GPT2Config(**_NO_ENDS)  # whose own sizes are these


def _olmo2_1b() -> Any:
    from transformers import Olmo2Config, Olmo2ForCausalLM

    config = Olmo2Config(
        vocab_size=100352,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=16,
        num_key_value_heads=16,
        max_position_embeddings=4096,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        **_NO_ENDS,
    )
    return Olmo2ForCausalLM, config


def _bloom_560m() -> Any:
    from transformers import BloomConfig, BloomForCausalLM

    config = BloomConfig(
        vocab_size=250880, hidden_size=1024, n_layer=24, n_head=16, use_cache=True, **_NO_ENDS
    )
    return BloomForCausalLM, config


_NO_ENDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
_SHAPES = {
    "smollm2-135m": partial(_smollm2, 576, 1536, 30, 9, 3, 100000.0),
    "smollm2-1.7b": partial(_smollm2, 2048, 8192, 24, 32, 32, 130000.0),
    "smollm3-3b": _smollm3_3b,
    "dialogpt-small": _gpt2_small,
    "olmo2-1b": _olmo2_1b,
    "bloom-560m": _bloom_560m,
}
BUNDLED = "storyteller"
SHAPES = (*_SHAPES, BUNDLED)


def folder_of(shape: str, precision: str, work: Path) -> Path:
    """The folder of a model, which is made there if it is not yet.

    Args:
        shape: one of `SHAPES`; the bundled model has its real weights.
        precision: ``float32`` or ``bfloat16``, that of the file.

    None of them ends a text by itself, so that lengths are exact.
    """
    folder = work / f"{shape}-{precision}"
    if not (folder / "complete").exists():
        (_convert if shape == BUNDLED else _make)(shape, precision, folder)
        (folder / "complete").touch()
    return folder


def _make(shape: str, precision: str, folder: Path) -> None:
    import torch
    from transformers import GenerationConfig

    kind, config = _SHAPES[shape]()
    torch.manual_seed(SEED)
    model = kind(config).to(getattr(torch, precision))
    model.generation_config = GenerationConfig(pad_token_id=0)
    model.save_pretrained(folder)
    _tokenizer(config.vocab_size).save_pretrained(folder)


def _convert(shape: str, precision: str, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    stored = source.resolve(ModelSpec(f"bundled:{shape}"), lambda _: None).folder
    model = AutoModelForCausalLM.from_pretrained(stored, dtype=getattr(torch, precision))
    model.config.eos_token_id = None
    model.generation_config = GenerationConfig(pad_token_id=0)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(stored).save_pretrained(folder)


def _tokenizer(size: int) -> Any:
    """A byte-level tokenizer whose tokens are bytes and words of one to four letters.

    Every word is reached by a merge of a shorter one with a letter, so that it is one token.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = list(islice(_words(), size - len(alphabet) - 1))
    vocabulary = {token: id for id, token in enumerate([_PAD, *alphabet, *words])}
    raw = Tokenizer(models.BPE(vocabulary, [(word[:-1], word[-1]) for word in words]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    raw.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token=_PAD)


def _words() -> Iterator[str]:
    length = 1
    while True:
        for letters in product(string.ascii_lowercase, repeat=length):
            yield "Ġ" + "".join(letters)
        length += 1


class Prompts:
    """Texts of random words that a model's tokenizer makes exactly so many tokens of."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        decoded = (self._tokenizer.decode([id]) for id in range(self._tokenizer.get_vocab_size()))
        self._vocabulary = [word for word in decoded if _WORD.fullmatch(word)]

    def draw(self, tokens: int, chance: random.Random) -> tuple[list[int], str]:
        """A prompt's tokens and its text."""
        words: list[str] = []
        while True:
            ids = self._tokenizer.encode("".join(words)).ids
            if len(ids) == tokens:
                return ids, "".join(words)
            if len(ids) > tokens:
                words.pop()
            else:
                words += chance.choices(self._vocabulary, k=tokens - len(ids))


def context_of(folder: Path) -> int:
    """How many tokens the model can attend to; more than any work has where there is no limit."""
    return context_length(_config(folder)) or sys.maxsize


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder)


def least_bytes(folder: Path, precision: str, tokens: int) -> int:
    """Bytes that one decode step of one stream reads at least.

    All weights once, the head among them (an embedding that is no head is a table: one row of it is
    read, as of positions), and the keys and values of ``tokens`` tokens.
    """
    from safetensors import safe_open

    config = _config(folder)
    size = {"float32": 4, "bfloat16": 2, "float16": 2}[precision]
    numbers = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="np") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                shape = tensors.get_slice(name).get_shape()
                embeds = name.endswith("embed_tokens.weight") and not config.tie_word_embeddings
                is_table = embeds or name.endswith("wpe.weight")
                numbers += shape[-1] if is_table else math.prod(shape)
    heads = config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    per_token = 2 * config.num_hidden_layers * key_heads * head_size
    return size * (numbers + per_token * tokens)
