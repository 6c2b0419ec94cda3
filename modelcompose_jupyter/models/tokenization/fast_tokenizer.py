"""A tokenizer without transformers: the `tokenizers` library, and a model's own settings.

It has what this package asks of a `transformers.PreTrainedTokenizerBase`, by the same names, and
gives the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

NAMED = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip
"""The special tokens that have names, in transformers' order."""


@dataclass(frozen=True)
class Settings:
    """What a model says of its tokenizer beside tokenizer.json.

    Attributes:
        special_tokens: by the names of `NAMED`.
        extra: special tokens that have no name.
        chat_template: its text, several by name, or None.
    """

    special_tokens: Mapping[str, str] = field(default_factory=dict)
    extra: Sequence[str] = ()
    chat_template: str | Mapping[str, str] | None = None
    truncation_side: str = "right"


class FastTokenizer:
    """A tokenizer of the `tokenizers` library with a model's settings.

    Of one thread.

    Attributes:
        backend_tokenizer: the library's.
        chat_template: its text, several by name, or None.
    """

    is_fast = True
    clean_up_tokenization_spaces = False

    def __init__(self, backend: Tokenizer, settings: Settings) -> None:
        self.backend_tokenizer = backend
        self.chat_template = settings.chat_template
        self.truncation_side = settings.truncation_side
        self.special_tokens_map = {
            name: settings.special_tokens[name] for name in NAMED if name in settings.special_tokens
        }
        self.added_tokens_decoder: dict[int, AddedToken] = backend.get_added_tokens_decoder()
        special = dict.fromkeys([*self.special_tokens_map.values(), *settings.extra])
        self.all_special_ids = [self._id(token) for token in special]

    def __call__(
        self,
        text: str,
        add_special_tokens: bool = True,
        truncation: bool = False,
        max_length: int | None = None,
        return_offsets_mapping: bool = False,
    ) -> dict[str, Any]:
        """The tokens of a text as ``input_ids``; with ``offset_mapping`` where that is asked for.

        ``truncation`` leaves out those beyond ``max_length``, on `truncation_side`.
        """
        if truncation and max_length is not None:
            self.backend_tokenizer.enable_truncation(max_length, direction=self.truncation_side)
        try:
            encoding = self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens)
        finally:
            if truncation:
                self.backend_tokenizer.no_truncation()
        found: dict[str, Any] = {"input_ids": encoding.ids}
        if return_offsets_mapping:
            found["offset_mapping"] = encoding.offsets
        return found

    def __len__(self) -> int:
        return int(self.backend_tokenizer.get_vocab_size(with_added_tokens=True))

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of tokens."""
        return self.backend_tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def get_vocab(self) -> dict[str, int]:
        """All tokens with their numbers."""
        return self.backend_tokenizer.get_vocab(with_added_tokens=True)

    def convert_ids_to_tokens(self, id: int) -> str | None:
        """A token as it stands in the vocabulary."""
        return self.backend_tokenizer.id_to_token(id)

    def _id(self, token: str) -> int:
        found = self.backend_tokenizer.token_to_id(token)
        assert found is not None, token
        return found

    def _named(self, name: str) -> int | None:
        token = self.special_tokens_map.get(name)
        return None if token is None else self._id(token)

    @property
    def bos_token(self) -> str | None:
        return self.special_tokens_map.get("bos_token")

    @property
    def unk_token(self) -> str | None:
        return self.special_tokens_map.get("unk_token")

    @property
    def bos_token_id(self) -> int | None:
        return self._named("bos_token")

    @property
    def eos_token_id(self) -> int | None:
        return self._named("eos_token")

    @property
    def pad_token_id(self) -> int | None:
        return self._named("pad_token")

    @property
    def unk_token_id(self) -> int | None:
        return self._named("unk_token")
