"""A model in memory, whoever loaded it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..spec import Driver
from ..tokenization import chat
from ..tokenization.detokenizer import Decoder
from ..tokenization.prompt_tokens import PromptTokens
from ..tokenization.token_texts import TokenTexts
from .generation_defaults import LeftOut

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ..native.parts import Parts
    from ..tokenization.marker_tokens import MarkerTokens


_MOST_TEMPLATES = 16


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory. Only its engine's thread may hold this.

    Attributes:
        tokenizer: a `FastTokenizer`, or one of transformers.
        precision: ``int8`` where linear layers are quantised.
        class_name: that of its class in transformers.
        context: how many tokens it can attend to, None where it has no limit.
        memory_bytes: what the weights take, those of the draft model too; ``mapped_bytes`` of it
            in files, which other processes share, and the system may drop and read again.
        stop_sequences: those of its generation_config.
        defaults: what its generation_config gives for what a request leaves open, by the names of
            generate(); None is what it leaves open as well.
        model: of transformers; None for a decoder that runs in C alone.
        decoder: that, or None.
        reload: loads the model once more, with transformers, as nobody has changed it.
        encoder_decoder: whether the prompt goes to an encoder and the text is a reply of its own.
        draft: of the same vocabulary, though its scores may be more or fewer by what pads them.
        cache_budget: as the `ModelSpec` says.
        left_out: what the model's own settings ask for and do not get.
        driver_reason: why it does not run in C, where that was not asked for.
        unbatched: why it runs through generate() alone: what a check of its steps has found.
    """

    tokenizer: Any
    device: str
    precision: str
    class_name: str
    context: int | None
    parameters: int
    memory_bytes: int
    stop_sequences: list[str]
    defaults: Any
    mapped_bytes: int = 0
    model: PreTrainedModel | None = None
    decoder: Parts | None = None
    reload: Callable[[], LoadedModel] | None = None
    encoder_decoder: bool = False
    draft: LoadedModel | None = None
    cache_budget: int | None = None
    left_out: Sequence[LeftOut] = ()
    unbatched: str | None = None
    driver_reason: str | None = None

    @property
    def driver(self) -> Driver:
        """What computes."""
        return "huggingface" if self.decoder is None else "native"

    @property
    def runs_as(self) -> str | None:
        """Why it does not run in C, and why not with others; None where nothing is to be said."""
        alone = None if self.unbatched is None else f"one request at a time: {self.unbatched}"
        return "; ".join(filter(None, (self.driver_reason, alone))) or None

    @cached_property
    def for_generate(self) -> LoadedModel:
        """The same model in transformers; loaded when it is first asked for, and kept."""
        if self.decoder is None:
            return self
        assert self.reload is not None
        return self.reload()

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """The tokens that end a text, by the generation_config, the config and the tokenizer."""
        return frozenset(self.defaults.eos_token_id or ())

    @cached_property
    def _turn_ends(self) -> dict[str | None, set[int]]:
        return {}

    def turn_end(self, template: str | None = None) -> set[int]:
        """The token that ends the reply in a chat, by a chat template, or that of the tokenizer;
        none where it has none."""
        known = self._turn_ends
        if template not in known:
            if len(known) >= _MOST_TEMPLATES:
                known.clear()
            known[template] = chat.turn_end(self.tokenizer, template)
        return known[template]

    @cached_property
    def prompt_tokens(self) -> PromptTokens:
        """Gives prompts as tokens."""
        return PromptTokens(self.tokenizer)

    @cached_property
    def decode(self) -> Decoder:
        """Gives tokens as text, without special ones."""
        return Decoder(self.tokenizer)

    @cached_property
    def token_texts(self) -> TokenTexts:
        """Gives single tokens as text."""
        return TokenTexts(self.decode)

    @cached_property
    def marker_tokens(self) -> MarkerTokens:
        """Gives markers of thoughts as tokens."""
        from ..tokenization.marker_tokens import MarkerTokens

        return MarkerTokens(self.tokenizer, self.decode, self.token_texts)
