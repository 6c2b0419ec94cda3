"""Sequences that run in the scheduler, and the groups that they form."""

from __future__ import annotations

import time
from array import array
from collections import abc

import numpy as np

from ..generation import GenerationResult
from ..tokenization.detokenizer import Decoder, Detokenizer
from ..weights.loaded_model import LoadedModel
from .kv_cache import Slot
from .request import GenerationRequest, result
from .row_state import RowState
from .sampling_params import SamplingParams
from .speculation_throttle import SpeculationThrottle
from .stream import Stream


class Sequence:
    """One of the texts that a request asks for.

    Attributes:
        tokens: those of the prompt and those generated.
        slot: where the keys and values of its first ``slot.length`` tokens are; None while it
            waits.
        reason: its finish reason; None while it has not ended.
        earlier: the tokens that an earlier request generated, as long as this one does so too.
    """

    def __init__(self, group: SequenceGroup, number: int, decode: Decoder) -> None:
        params = group.params
        self.group = group
        self.number = number
        self.row = RowState(params, number)
        self.detokenizer = Detokenizer(decode, params.tokens, params.stops)
        self.prompt = group.prompt
        self.tokens = list(params.tokens)
        self.slot: Slot | None = None
        self.reason: str | None = None
        self.throttle = SpeculationThrottle()
        drafts = group.request.extension.drafts
        self.earlier: abc.Sequence[int] = drafts[number] if number < len(drafts) else ()

    @property
    def age(self) -> tuple[float, int]:
        """Sorts sequences by arrival."""
        return self.group.request.made, self.number

    @property
    def computed(self) -> int:
        """How many tokens have keys and values."""
        return 0 if self.slot is None else self.slot.length

    @property
    def uncomputed(self) -> int:
        """How many tokens have none yet; the last one never has between steps."""
        return len(self.tokens) - self.computed

    @property
    def reading_end(self) -> int:
        """How many tokens of its prompt have been read when the last one is left."""
        return len(self.prompt) - 1

    @property
    def known(self) -> np.ndarray:
        """The tokens that its slot has."""
        return np.array(self.tokens[: self.computed])

    @property
    def progress(self) -> tuple[int, int]:
        """What a step changes: how many tokens there are, and how many are computed."""
        return len(self.tokens), self.computed

    @property
    def remaining(self) -> int:
        """How many tokens it may still generate."""
        return self.group.params.max_new_tokens - self.row.position

    def expected(self, most: int) -> list[int]:
        """What comes next of the earlier tokens."""
        return list(self.earlier[self.row.position : self.row.position + most])

    @property
    def generated(self) -> abc.Sequence[int]:
        """The tokens after the prompt."""
        return array("i", self.tokens[len(self.prompt) :])

    @property
    def reusable(self) -> np.ndarray:
        """The tokens whose keys and values may come from others: the last must be computed."""
        return np.array(self.tokens[:-1])

    def take(self, token: int) -> None:
        """Add the next token, pass on the text that is certain by now, and see whether it ends."""
        if self.earlier and self.expected(1) != [token]:
            self.earlier = ()  # it is another text from here on
        self.tokens.append(token)
        self.row.add(token)
        self.group.add_text(self.number, self.detokenizer.push(token))
        if token in self.group.params.stop_ids:
            self.reason = "eos"
        elif self.detokenizer.stopped:
            self.reason = "stop"
        elif self.row.position >= self.group.params.max_new_tokens:
            self.reason = "length"
        if self.reason is not None:
            self.finish(self.reason)

    def tell_read(self) -> None:
        """Tell how much of the prompt is read. The sequences of a request read the same one."""
        if self.number == 0 and self.row.position == 0:
            self.group.request.tell_read(self.computed, len(self.prompt))

    def finish(self, reason: str) -> None:
        """End the text, with what of it was held back."""
        self.reason = reason
        self.group.add_text(self.number, self.detokenizer.finish())
        if self.detokenizer.stopped and reason == "length":
            self.reason = "stop"


class SequenceGroup:
    """A request in the scheduler, and its sequences.

    Attributes:
        reused: how many tokens of its prompt were not computed; None before it runs.
    """

    def __init__(
        self, loaded: LoadedModel, request: GenerationRequest, params: SamplingParams
    ) -> None:
        self.request = request
        self.params = params
        self.prompt = np.array(params.tokens)
        self.reused: int | None = None
        self._stream = Stream(params, request.on_text)
        self._first_token: float | None = None
        count = params.num_return_sequences
        self.sequences = [Sequence(self, number, loaded.decode) for number in range(count)]

    def add_text(self, number: int, delta: str) -> None:
        """Add what is new of a sequence's text; nothing may be."""
        if self._first_token is None:
            self._first_token = time.monotonic()
        self._stream.add(number, delta)

    @property
    def ended(self) -> bool:
        """Whether all its sequences have."""
        return all(sequence.reason is not None for sequence in self.sequences)

    def result(self) -> GenerationResult:
        """The request's result."""
        reasons = [sequence.reason or "cancelled" for sequence in self.sequences]
        usage = {
            "reused": self.reused or 0,
            "generated": sum(each.row.position for each in self.sequences),
        }
        draft_tokens = sum(each.throttle.draft_tokens for each in self.sequences)
        if draft_tokens:
            accepted_tokens = sum(each.throttle.accepted_tokens for each in self.sequences)
            usage |= {"draft_tokens": draft_tokens, "accepted_tokens": accepted_tokens}
        tokens = [each.generated for each in self.sequences]
        return result(
            self.request, self.params, self._stream, reasons, usage, self._first_token, tokens
        )
