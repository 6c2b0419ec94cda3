"""The tokenizer in a GGUF file, made anew with the `tokenizers` library.

A file has a vocabulary, the kinds of its tokens, and merges or scores; not the steps of the
original's tokenizer.json. Those follow from the kind of vocabulary, and from names for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import ModelError, one_line, shortened
from ...tokenization.fast_tokenizer import FastTokenizer, Settings
from ...tokenization.tokenizer_limits import check_tokenizer
from .. import file_bounds
from ..file_bounds import BrokenFile
from ..load_errors import is_panic
from .container import Value
from .pre_tokenizers import WAYS, Way

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_NAMED = {
    "bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "sep_token": "seperator",
    "pad_token": "padding", "mask_token": "mask",
}  # fmt: skip
"""What GGUF calls the special tokens that have names; it writes seperator."""
_ENDS = ("eos", "eot", "eom")
_KNOWN_ENDS = {
    "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>",
    "<|end_of_text|>", "<EOT>", "[EOT]", "<end_of_utterance>", "<｜end▁of▁sentence｜>",
    "[|endofturn|]", "<|endofturn|>",
}  # fmt: skip
"""Control tokens that end a text or a turn, whatever a file says: llama.cpp knows them, so files
name one of a model's several ends."""
_PADDING = re.compile(r"\[PAD\d+\]")
"""What fills a vocabulary up to the rows of the embedding; no tokenizer has such tokens."""
_BLANK = "▁"


def load(
    metadata: Mapping[str, Value], model_type: str, rows: int, source: str
) -> tuple[FastTokenizer, list[int]]:
    """The tokenizer of a file, and the tokens that end a text.

    Args:
        rows: how many tokens the model knows.
        source: what messages call the model.

    Raises:
        BrokenFile: what the file says cannot be.
        ModelError: it is of a kind that is not known here, or makes more of a text than any does.
    """
    vocabulary = _Vocabulary(metadata)
    if not 1 <= len(vocabulary.tokens) <= rows:
        raise BrokenFile(f"it has {len(vocabulary.tokens)} tokens, and embeddings for {rows}")
    kind = metadata.get("tokenizer.ggml.model")
    try:
        if kind == "gpt2":
            backend = _byte_level(vocabulary, _way(metadata))
        elif kind == "llama":
            backend = _sentencepiece(vocabulary)
        else:
            raise _unknown(f"its kind, {shortened(str(kind))!r}, is not known")
        _add_tokens(backend, vocabulary, model_type)
    except (ModelError, BrokenFile):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise BrokenFile(f"its vocabulary makes no tokenizer: {one_line(error)}") from None
    special = {name: vocabulary.special(own) for name, own in _NAMED.items()}
    settings = Settings(
        {name: vocabulary.tokens[id] for name, id in special.items() if id is not None},
        chat_template=_templates(metadata),
    )
    tokenizer = FastTokenizer(backend, settings)
    check_tokenizer(tokenizer, f"the tokenizer of {source}")
    return tokenizer, vocabulary.ends


def _unknown(reason: str) -> ModelError:
    return ModelError(
        f"the tokenizer of the GGUF file cannot be made: {reason}",
        hint="Take the original repository, which has its tokenizer.json.",
        code="unsupported_format",
    )


def _way(metadata: Mapping[str, Value]) -> Way:
    name = metadata.get("tokenizer.ggml.pre", "default")
    if not isinstance(name, str) or name not in WAYS:
        raise _unknown(f"its way of words, {shortened(str(name))!r}, is not known")
    return WAYS[name]


@dataclass(frozen=True)
class _Vocabulary:
    """The tokens of a file, and what it says of them."""

    metadata: Mapping[str, Value]

    @cached_property
    def tokens(self) -> list[str]:
        return self.texts("tokens")

    @cached_property
    def types(self) -> list[int]:
        """The kind of each token."""
        found = self._value("token_type")
        if found is None:
            return [_NORMAL] * len(self.tokens)
        return self._list("token_type", "iu").tolist()  # type: ignore[no-any-return]

    @cached_property
    def scores(self) -> list[float]:
        """The score of each token."""
        return self._list("scores", "fiu").tolist()  # type: ignore[no-any-return]

    @cached_property
    def known(self) -> dict[str, int]:
        """The numbers of the tokens, less those that fill up."""
        unused = [id for id, type in enumerate(self.types) if type == _UNUSED]
        left_out = {id for id in unused if _PADDING.fullmatch(self.tokens[id])}
        found = {token: id for id, token in enumerate(self.tokens) if id not in left_out}
        if len(found) + len(left_out) != len(self.tokens):
            raise BrokenFile("two of its tokens are equal")
        return found

    @property
    def ends(self) -> list[int]:
        """The tokens that end a text."""
        named = [self.special(name) for name in _ENDS]
        found = [id for id in named if id is not None]
        for id, (token, type) in enumerate(zip(self.tokens, self.types, strict=True)):
            if type == _CONTROL and token in _KNOWN_ENDS:
                found.append(id)
        return list(dict.fromkeys(found))

    def special(self, name: str) -> int | None:
        """The number of a special token, by what GGUF calls it."""
        found = self._value(f"{name}_token_id")
        if found is None or found in (-1, 0xFFFF_FFFF):
            return None
        if type(found) is not int or not 0 <= found < len(self.tokens):
            raise BrokenFile(f"its {name}_token_id is no token")
        return found if self.tokens[found] in self.known else None

    def flag(self, name: str, usual: bool) -> bool:
        """A switch."""
        found = self._value(name)
        if found is None:
            return usual
        if not isinstance(found, bool):
            raise BrokenFile(f"its {name} is no truth value")
        return found

    def texts(self, name: str) -> list[str]:
        """A list of texts."""
        found = self._value(name)
        if not isinstance(found, list):
            raise BrokenFile(f"it has no tokenizer.ggml.{name}")
        return found

    def _list(self, name: str, kinds: str) -> np.ndarray:
        found = self._value(name)
        if not isinstance(found, np.ndarray) or found.dtype.kind not in kinds:
            raise BrokenFile(f"it has no tokenizer.ggml.{name}")
        if len(found) != len(self.tokens):
            raise BrokenFile(f"its tokenizer.ggml.{name} is not one for each token")
        return found

    def _value(self, name: str) -> Value | None:
        return self.metadata.get(f"tokenizer.ggml.{name}")


def _byte_level(vocabulary: _Vocabulary, way: Way) -> Tokenizer:
    """As GPT-2's: bytes are written as characters, and merged."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors

    # Characters stand for bytes, the one for a blank too: it is between the two of a merge alone.
    parted = [each.partition(" ") for each in vocabulary.texts("merges")]
    merges = [(left, right) for left, _, right in parted]
    if not all(map(all, merges)):
        raise BrokenFile("one of its merges is none")
    backend = Tokenizer(models.BPE(vocabulary.known, merges, ignore_merges=way.whole_words))
    if way.composes:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = way.pre_tokenizer()
    backend.decoder = decoders.ByteLevel()
    around = _around(vocabulary, way.begins)
    own = processors.ByteLevel(trim_offsets=False)
    backend.post_processor = processors.Sequence([own, around]) if around else own
    return backend


def _sentencepiece(vocabulary: _Vocabulary) -> Tokenizer:
    """As Llama 2's: blanks are written as ▁, and what has no token as its bytes."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    unknown = vocabulary.special("unknown")
    backend = Tokenizer(
        models.BPE(
            vocabulary.known, _merges(vocabulary), fuse_unk=True, byte_fallback=True,
            unk_token=None if unknown is None else vocabulary.tokens[unknown],
        )
    )  # fmt: skip
    prefixed = vocabulary.flag("add_space_prefix", True)
    replaced = normalizers.Replace(" ", _BLANK)
    backend.normalizer = (
        normalizers.Sequence([normalizers.Prepend(_BLANK), replaced]) if prefixed else replaced
    )
    steps = [decoders.Replace(_BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefixed else steps)
    if around := _around(vocabulary, True):
        backend.post_processor = around
    return backend


def _merges(vocabulary: _Vocabulary) -> list[tuple[str, str]]:
    """The pairs that SentencePiece would join, the best first: by the score of what they become.

    Each piece may come of any two others that it consists of; of several such pairs, that with the
    longest first part, as in the tokenizer.json that transformers makes of the same vocabulary.
    """
    known, scores, types = vocabulary.known, vocabulary.scores, vocabulary.types
    if not np.isfinite(scores).all():
        raise BrokenFile("its tokenizer.ggml.scores are no numbers")
    kinds = (_NORMAL, _USER_DEFINED, _UNUSED)
    pieces = [(scores[id], piece) for piece, id in known.items() if types[id] in kinds]
    pieces.sort(key=lambda each: -each[0])
    return [
        (left, right)
        for _, piece in pieces
        for place in range(len(piece) - 1, 0, -1)
        if (left := piece[:place]) in known and (right := piece[place:]) in known
    ]


def _around(vocabulary: _Vocabulary, begins: bool) -> Any:
    """What puts tokens before and behind a text; None where nothing does."""
    from tokenizers import processors

    wanted = {
        "bos": vocabulary.flag("add_bos_token", begins),
        "eos": vocabulary.flag("add_eos_token", False),
    }
    special = {name: vocabulary.special(name) for name, is_wanted in wanted.items() if is_wanted}
    there = {name: id for name, id in special.items() if id is not None}
    if not there:
        return None
    texts = {name: vocabulary.tokens[id] for name, id in there.items()}
    single = [texts.get("bos"), "$A", texts.get("eos")]
    # The template is a list, since in a text blanks would part it.
    return processors.TemplateProcessing(
        single=[each for each in single if each is not None],
        special_tokens=[(texts[name], id) for name, id in there.items()],
    )


def _add_tokens(backend: Tokenizer, vocabulary: _Vocabulary, model_type: str) -> None:
    """Have tokens of the file's own kinds found in a text as they are."""
    from tokenizers import AddedToken

    known, types = vocabulary.known, vocabulary.types
    added = [
        AddedToken(token, special=types[id] != _USER_DEFINED, normalized=False,
                   rstrip=model_type == "phi3" and _takes_blanks(token, types[id]))
        for token, id in known.items()
        if types[id] in (_UNKNOWN, _CONTROL, _USER_DEFINED) and token
    ]  # fmt: skip
    backend.add_tokens(added)


def _takes_blanks(token: str, type: int) -> bool:
    """Whether a token of Phi 3 takes the blanks behind it; files do not say it of any."""
    if type == _CONTROL:
        return token not in ("<unk>", "<s>", "<|endoftext|>")
    return token == "</s>"


def _templates(metadata: Mapping[str, Value]) -> str | dict[str, str] | None:
    """The chat template, or several by name."""
    plain = metadata.get("tokenizer.chat_template")
    names = metadata.get("tokenizer.chat_templates", [])
    found: dict[str, Any] = {} if plain is None else {"default": plain}
    for name in names if isinstance(names, list) else ():
        found[name] = metadata.get(f"tokenizer.chat_template.{name}")
    for template in found.values():
        if not isinstance(template, str):
            raise BrokenFile("one of its chat templates is no text")
        file_bounds.TEMPLATE.check(len(template.encode()))
    if set(found) == {"default"}:
        return plain  # type: ignore[return-value]
    return found or None
