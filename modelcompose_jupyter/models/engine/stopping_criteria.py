"""The stopping criteria of generate(), which also stream the text and let the scheduler step."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from threading import Event
from typing import Any

import torch

from ..tokenization.detokenizer import Decode, find_stop
from ..tokenization.reply_text import Added, ReplyText
from ..tokenization.thinking import Reply
from .constraint_processor import ConstraintProcessor
from .sampling_params import SamplingParams
from .score_tap import GeneratedTokens
from .seeded_draws import SeededDraws
from .stream import Stream

_BEAM_WINDOW = 16


class StoppingCriteria:
    """A `transformers.StoppingCriteria`, which generate() calls after each token of all rows.

    It may be called again after it ended a row: on MPS transformers notices the end a step later.

    Args:
        prompt: the tokens before the first one of the text in generate()'s own sequences.
        given: what the text begins with.
        tokens: what tells its tokens, if anybody asks for them.
        constraint: of the texts, if they have one.
        reply: at its beginning; None where replies have no thoughts.

    Attributes:
        first_token: when the first token came, by the monotonic clock.
        reasons: the finish reason of each row.
        generated: tokens of all rows together, once `finish` was called.
    """

    def __init__(
        self,
        params: SamplingParams,
        decode: Decode,
        prompt: list[int],
        cancelled: Event,
        stream: Stream,
        draws: SeededDraws | None,
        between: Callable[[], None],
        *,
        given: Sequence[int] = (),
        tokens: GeneratedTokens | None = None,
        constraint: ConstraintProcessor | None = None,
        reply: Reply | None = None,
    ) -> None:
        self.stream = stream
        self.first_token: float | None = None
        self.reasons = ["length"] * params.num_return_sequences
        self.generated = 0
        self._params = params
        self._decode = decode
        self._prompt = prompt
        self._cancelled = cancelled
        self._draws = draws
        self._between = between
        self._tokens = tokens
        self._constraint = constraint
        self._given = given
        self._new_text: Callable[[], ReplyText] = lambda: ReplyText(
            decode, prompt, params.stops, copy.copy(reply), params.decode
        )
        self._rows = [self._new_text() for _ in self.reasons]
        self._lengths = [0] * params.num_return_sequences
        self._complete = [False] * params.num_return_sequences
        self._ended = [params.max_new_tokens == 0] * params.num_return_sequences
        self._beams = params.num_beams > 1
        self._cancel_seen = False
        if given:
            for token in given:
                self._add(0, token)
            self._see_end(0, given[-1])

    def __call__(self, input_ids: torch.Tensor, scores: Any = None, **_: Any) -> torch.Tensor:
        """Which rows have ended, a bool for each."""
        if self._draws is not None:
            self._draws.end()
        self._between()
        if self.first_token is None:
            self.first_token = time.monotonic()
        self._cancel_seen = self._cancel_seen or self._cancelled.is_set()
        if self._beams:
            ended = self._stopped_beams(input_ids)
        else:
            for row, token in enumerate(input_ids[:, -1].tolist()):
                if not self._ended[row]:
                    self._take(row, token)
            ended = self._ended
        if self._cancel_seen:
            ended = [True] * len(ended)
        return torch.tensor(ended, device=input_ids.device)

    @property
    def reasoning_tokens(self) -> list[int]:
        """How many tokens the thoughts of each row have."""
        return [text.reasoning_tokens for text in self._rows]

    @property
    def has_ended(self) -> bool:
        """Whether all texts have."""
        return all(self._ended)

    def _take(self, row: int, token: int) -> None:
        if self._tokens is not None:
            self._tokens.chosen(row, token)
        self._add(row, token)
        self._see_end(row, token)

    def _add(self, row: int, token: int) -> None:
        self._lengths[row] += 1
        text = self._rows[row]
        self.stream.add_reply(row, text.push(token), text.reasoning_tokens)
        if self._constraint is not None:
            self._complete[row] = self._constraint.take(row, token)

    def _see_end(self, row: int, token: int) -> None:
        text = self._rows[row]
        if token in self._params.stop_ids:
            self.reasons[row] = "eos"
        elif text.stopped:
            self.reasons[row] = "stop"
        elif self._complete[row]:
            self.reasons[row] = "eos"
        elif self._cancel_seen:
            self.reasons[row] = "cancelled"
        self._ended[row] = (
            self.reasons[row] != "length" or self._lengths[row] >= self._params.max_new_tokens
        )

    def _stopped_beams(self, input_ids: torch.Tensor) -> list[bool]:
        stops = self._params.stops
        if not stops:
            return [False] * input_ids.shape[0]
        if self._params.thinking is not None:  # stop sequences are of the answer alone
            rows = input_ids[:, len(self._prompt) :].tolist()
            return [self._is_stopped(row) for row in rows]
        window = _BEAM_WINDOW + max(map(len, stops))
        start = max(len(self._prompt), input_ids.shape[1] - window)
        texts = [self._decode(row) for row in input_ids[:, start:].tolist()]
        return [find_stop(text, stops) is not None for text in texts]

    def _is_stopped(self, tokens: Sequence[int]) -> bool:
        text = self._new_text()
        for token in tokens:
            text.push(token)
        return text.stopped

    def finish(self, output: torch.Tensor | None = None) -> None:
        """End the texts; with beams, only now it is known which they are."""
        if self._beams and output is not None:
            for row, tokens in enumerate(output[:, len(self._prompt) :].tolist()):
                self._finish_beam(row, tokens)
            return
        for row, text in enumerate(self._rows):
            self.stream.add_reply(row, text.finish(), text.reasoning_tokens)
            if text.stopped and self.reasons[row] == "length":
                self.reasons[row] = "stop"
        self.generated = sum(self._lengths) - len(self._given)

    def _finish_beam(self, row: int, tokens: list[int]) -> None:
        stop_ids, chosen = self._params.stop_ids, tokens[len(self._given) :]
        end = next((i + 1 for i, token in enumerate(chosen) if token in stop_ids), None)
        text = self._rows[row]
        added = [*map(text.push, chosen[:end]), text.finish()]
        self.generated += len(chosen[:end])
        if self._tokens is not None:
            self._tokens.ended(row, chosen[:end])
        reasoning = "".join(each.reasoning for each in added)
        whole = Added(reasoning, "".join(each.text for each in added))
        self.stream.add_reply(row, whole, text.reasoning_tokens)
        if text.stopped:
            self.reasons[row] = "stop"
        elif self._cancel_seen:
            self.reasons[row] = "cancelled"
        elif end is not None:
            self.reasons[row] = "eos"
