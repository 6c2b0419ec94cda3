"""Sequences that run in the scheduler, and the groups that they form."""

from __future__ import annotations

import time
from array import array
from collections import abc
from functools import partial
from typing import Any

import numpy as np

from ..generation import GenerationResult
from ..tokenization.reply_text import Added, ReplyText
from ..weights.loaded_model import LoadedModel
from .kv_cache import Slot
from .logprobs import weigh, weigh_chosen
from .request import GenerationRequest, result
from .row_state import RowState
from .sampling_params import SamplingParams, reply_of
from .speculation_throttle import SpeculationThrottle
from .stream import Stream
from .token_stream import TokenStream


class Sequence:
    """One of the texts that a request asks for.

    Attributes:
        tokens: those of the prompt and those generated.
        slot: where the keys and values of its first ``slot.length`` tokens are; None while it
            waits.
        reason: its finish reason; None while it has not ended.
        forced_tokens: how many it got without a choice, and without a step of their own.
        to_score: the places of those tokens, given with the request, whose log-probabilities are
            still to be told.
        earlier: the tokens that an earlier request generated, as long as this one does so too.
    """

    def __init__(self, group: SequenceGroup, number: int, loaded: LoadedModel) -> None:
        params = group.params
        self.group = group
        self.number = number
        self.row = RowState(params, number)
        self.text = ReplyText(
            loaded.decode,
            params.tokens,
            params.stops,
            reply_of(loaded, params),
            params.decode,
        )
        self.prompt = group.prompt
        self.given = params.given[number] if number < len(params.given) else ()
        self.tokens = [*params.tokens, *self.given]
        self.slot: Slot | None = None
        self.reason: str | None = None
        self.throttle = SpeculationThrottle()
        self.forced_tokens = 0
        drafts = group.request.extension.drafts
        self.earlier: abc.Sequence[int] = drafts[number] if number < len(drafts) else ()
        self._scoring = Scoring(self, loaded)
        self._coming_end: str | None = None  # of a text that is given to its end
        self._begin()

    def _begin(self) -> None:
        """Take the tokens that are given."""
        for token in self.given:
            self._add(token)
        if self.given:
            self._coming_end = self._end_after(self.given[-1])
        elif self.remaining == 0:
            self._coming_end = "length"
        self.settle()
        if self._coming_end is None:
            self.take_forced()

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
    def to_read(self) -> int:
        """How many tokens may be computed now: not the last one where nothing comes after it."""
        return self.uncomputed - (self._coming_end is not None)

    @property
    def to_score(self) -> range:
        return self._scoring.places

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
        """The tokens whose keys and values may come from others: what is asked of the model comes
        from those behind them, so the last must be computed, and those before one to score."""
        return np.array(self.tokens[: min([len(self.tokens), *self.to_score[:1]]) - 1])

    def take(self, token: int, scores: np.ndarray | None = None) -> None:
        """Add the next token, pass on the text that is certain by now, and see whether it ends.

        Its ``scores`` are there where log-probabilities are asked for.
        """
        if self.earlier and self.expected(1) != [token]:
            self.earlier = ()  # it is another text from here on
        if scores is not None:
            self._scoring.take_chosen(token, scores, self.row)
        self.tokens.append(token)
        self._add(token)
        reason = self._end_after(token)
        if reason is not None:
            self.finish(reason)

    def take_forced(self) -> None:
        """Take the next tokens as far as the text has no choice; they are read like a prompt's.

        Where log-probabilities are asked for, each is chosen from its own scores.
        """
        if self.group.params.logprobs is not None:
            return
        for token in self.row.forced():
            if self.reason is not None:
                break
            self.forced_tokens += 1
            self.take(token)

    def take_scores(self, rows: np.ndarray) -> None:
        """Take the scores of the next tokens to score."""
        self._scoring.take(rows, self.tokens)
        self.settle()

    def settle(self) -> None:
        """End a text of which nothing more is to be computed."""
        if self._coming_end is not None and not self.to_score:
            self.finish(self._coming_end)

    def _add(self, token: int) -> None:
        self.row.add(token)
        self.group.add_text(self.number, self.text.push(token), self.text.reasoning_tokens)

    def _end_after(self, token: int) -> str | None:
        """Why the text ends with its last token, if it does."""
        if token in self.group.params.stop_ids:
            return "eos"
        if self.text.stopped:
            return "stop"
        if self.row.is_complete:
            return "eos"
        return "length" if self.remaining <= 0 else None

    def tell_read(self) -> None:
        """Tell how much of the prompt is read. The sequences of a request read the same one."""
        if self.number == 0 and self.row.position == len(self.given):
            self.group.request.tell_read(self.computed, len(self.prompt) + len(self.given))

    def finish(self, reason: str) -> None:
        """End the text, with what of it was held back."""
        self.reason = reason
        self.group.add_text(self.number, self.text.finish(), self.text.reasoning_tokens)
        self._scoring.finish()
        if self.text.stopped and reason == "length":
            self.reason = "stop"


class Scoring:
    """Which log-probabilities are asked for of a sequence, and telling them.

    Attributes:
        places: of the tokens, given with the request, that are still to be told.
    """

    def __init__(self, sequence: Sequence, loaded: LoadedModel) -> None:
        group, number = sequence.group, sequence.number
        params, prompt, given = group.params, group.params.tokens, sequence.given
        self._prompt_end = len(prompt)
        self._count = params.logprobs
        self._prompt_count = params.prompt_logprobs if number == 0 else None
        end = len(sequence.tokens)
        self.places = range(end, end)
        if self._count is not None:
            tell = partial(group.add_tokens, number, "text")
            told = given[: group.request.beginning.told_of(number)]
            self._row = RowState(params, number)
            for token in told:
                self._row.add(token)
            reply = reply_of(loaded, params)
            self._tokens = TokenStream(loaded, prompt, tell, told, reply, params.decode)
            self.places = range(len(prompt) + len(told), end)
        if self._prompt_count is not None:
            tell = partial(group.add_tokens, number, "prompt")
            self._prompt = TokenStream(loaded, (), tell)
            self._prompt.begin(prompt[0])
            self.places = range(1, end if self.places else len(prompt))

    def take(self, rows: np.ndarray, tokens: abc.Sequence[int]) -> None:
        """Tell the next of the given tokens, of which these are the scores."""
        places, self.places = self.places[: len(rows)], self.places[len(rows) :]
        of_prompt, of_text = [], []
        for place, scores in zip(places, rows, strict=True):
            token = tokens[place]
            if place < self._prompt_end:
                of_prompt.append(weigh(scores, token, self._prompt_count or 0))
            else:
                of_text.append(weigh_chosen(scores, token, self._count or 0, self._row))
                self._row.add(token)
        if of_prompt:
            self._prompt.add(of_prompt)
        if of_text:
            self._tokens.add(of_text)

    def take_chosen(self, token: int, scores: np.ndarray, row: RowState) -> None:
        """Tell a token that the row, which has not taken it yet, chose from these scores."""
        self._tokens.add([weigh_chosen(scores, token, self._count or 0, row)])

    def finish(self) -> None:
        """Tell what is left of the text."""
        if self._count is not None:
            self._tokens.finish()


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
        self._stream = Stream(params, request.on_text, request.on_tokens, request.on_reasoning)
        self._first_token: float | None = None
        count = params.num_return_sequences
        self.sequences = [Sequence(self, number, loaded) for number in range(count)]

    def add_text(self, number: int, added: Added, thought_tokens: int) -> None:
        """Add what is new of a sequence's text and thoughts, which have so many tokens by now;
        nothing may be."""
        if self._first_token is None:
            self._first_token = time.monotonic()
        self._stream.add_reply(number, added, thought_tokens)

    def add_tokens(self, number: int, part: str, offset: int, tokens: list[dict[str, Any]]) -> None:
        """Add what is new of a sequence's tokens, or of its prompt's, as plain data."""
        self._stream.add_tokens(number, part, offset, tokens)

    @property
    def ended(self) -> bool:
        """Whether all its sequences have."""
        return all(sequence.reason is not None for sequence in self.sequences)

    def result(self) -> GenerationResult:
        """The request's result."""
        reasons = [sequence.reason or "cancelled" for sequence in self.sequences]
        usage = {
            "reused": self.reused or 0,
            "generated": sum(each.row.position - len(each.given) for each in self.sequences),
        }
        if given := sum(len(each.given) for each in self.sequences):
            usage["given"] = given
        if forced := sum(each.forced_tokens for each in self.sequences):
            usage["forced"] = forced
        reasoning = [each.text.reasoning_tokens for each in self.sequences]
        if self.params.thinking is not None:
            usage["reasoning"] = sum(reasoning)
        draft_tokens = sum(each.throttle.draft_tokens for each in self.sequences)
        if draft_tokens:
            accepted_tokens = sum(each.throttle.accepted_tokens for each in self.sequences)
            usage |= {"draft_tokens": draft_tokens, "accepted_tokens": accepted_tokens}
        tokens = [each.generated for each in self.sequences]
        return result(
            self.request, self.params, self._stream, reasons, usage, self._first_token, tokens,
            reasoning,
        )  # fmt: skip
