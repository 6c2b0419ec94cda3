"""Speculative decoding: draft tokens, of which the model verifies several in one step.

Drafts never change a text. The model samples each token from its own scores, with the random number
of that position, as it does without drafts. Where that is the draft token, the draft is accepted,
and the scores for the next position are there already. So nothing is sampled by rejection, and
texts are the same to the token, with sampling too.
"""

from __future__ import annotations

from collections import abc
from dataclasses import replace

from ..weights.loaded_model import LoadedModel
from .kv_cache import CacheFull, Slot
from .row_state import RowState
from .runner import Unsupported
from .runner_selection import make_runner
from .sequence import Sequence

_LONGEST = 4
"""The last tokens that are looked up in the text before: this many at most."""
_SHORTEST = 2
_MODEL_DRAFT = 4
"""Draft tokens for each step of a draft model."""


class PromptLookup:
    """Prompt lookup: where the last tokens stood before, what followed them is the draft.

    Attributes:
        most: most draft tokens for a sequence in a step.
    """

    def __init__(self, tokens: int) -> None:
        self.most = tokens
        self._ngrams: dict[Sequence, _NGrams] = {}

    def propose(self, sequences: abc.Sequence[Sequence]) -> list[list[int]]:
        """Draft tokens for each sequence; there may be none."""
        return [
            self._ngrams.setdefault(each, _NGrams()).following(each.tokens, self.most)
            for each in sequences
        ]

    def forget(self, sequence: Sequence) -> None:
        """Free what is kept for a sequence, which has ended."""
        self._ngrams.pop(sequence, None)


class _NGrams:
    """Where in a text each n-gram ended last."""

    def __init__(self) -> None:
        self._ends: dict[tuple[int, ...], int] = {}
        self._read = 0

    def following(self, tokens: list[int], most: int) -> list[int]:
        """What followed the longest n-gram at the end of the tokens when it came before."""
        for end in range(self._read, len(tokens)):
            for length in range(_SHORTEST, min(_LONGEST, end) + 1):
                self._ends[tuple(tokens[end - length : end])] = end
        self._read = max(self._read, len(tokens))
        for length in range(min(_LONGEST, len(tokens) - 1), _SHORTEST - 1, -1):
            place = self._ends.get(tuple(tokens[-length:]))
            if place is not None:
                return tokens[place : place + most]
        return []


class DraftModel:
    """A smaller model, which generates the draft with the same random numbers.

    Raises:
        Unsupported: it cannot.
    """

    def __init__(self, loaded: LoadedModel, vocabulary: int, budget: int | None) -> None:
        self.most = _MODEL_DRAFT
        self._runner = make_runner(replace(loaded, cache_budget=budget))
        if not self._runner.cache.cuts:
            raise Unsupported("it keeps a state, from which no draft token can be taken back")
        self._sampler = self._runner.sampler()
        self._vocabulary = vocabulary
        self._slots: dict[Sequence, Slot] = {}
        self._computed: dict[Sequence, list[int]] = {}  # the tokens in the slot

    def propose(self, sequences: abc.Sequence[Sequence]) -> list[list[int]]:
        drafts: dict[Sequence, list[int]] = {each: [] for each in sequences}
        active = [each for each in sequences if self._has_room(each)]
        rows = {each: each.row for each in active}
        for _ in range(self.most):
            if active:
                active = self._extend(active, drafts, rows)
        return [drafts[each] for each in sequences]

    def _extend(
        self,
        sequences: list[Sequence],
        drafts: dict[Sequence, list[int]],
        rows: dict[Sequence, RowState],
    ) -> list[Sequence]:
        """One more draft token for each; returns the sequences whose drafts may still grow."""
        tokens: list[int] = []
        spans, wanted = [], []
        for sequence in sequences:
            slot = self._slots[sequence]
            computed = [*sequence.tokens, *drafts[sequence]]
            new = computed[slot.length :]
            tokens += new
            spans.append((slot, len(new)))
            wanted.append(len(tokens) - 1)
            self._computed[sequence] = computed
        logits = self._runner.forward(tokens, wanted, (), spans)
        chosen, finite = self._sampler.pick(logits, [rows[each] for each in sequences])
        for (slot, count), sequence in zip(spans, sequences, strict=True):
            slot.length += count
            assert slot.length == len(self._computed[sequence])
        active = []
        sampled = zip(sequences, chosen.tolist(), finite.tolist(), strict=True)
        for sequence, token, is_finite in sampled:
            stop_ids = sequence.group.params.stop_ids
            if is_finite and token < self._vocabulary and token not in stop_ids:
                drafts[sequence].append(token)
                rows[sequence] = rows[sequence].after([token])
                if not rows[sequence].is_complete:
                    active.append(sequence)
        return active

    def _has_room(self, sequence: Sequence) -> bool:
        """Open a slot, or take back rejected draft tokens; whether there is room for a draft."""
        try:
            slot = self._slots.get(sequence)
            if slot is None:
                slot = self._slots[sequence] = self._runner.cache.open(len(sequence.tokens))
                self._computed[sequence] = []
            computed, tokens = self._computed[sequence], sequence.tokens
            limit = min(slot.length, len(tokens) - 1)
            start = max(0, limit - self.most - 1)  # before that, none were draft tokens
            slot.length = next((i for i in range(start, limit) if computed[i] != tokens[i]), limit)
            self._runner.cache.reserve(slot, len(tokens) + self.most)
        except CacheFull:
            return False
        return True

    def forget(self, sequence: Sequence) -> None:
        slot = self._slots.pop(sequence, None)
        self._computed.pop(sequence, None)
        if slot is not None:
            self._runner.cache.close(slot)


Proposer = PromptLookup | DraftModel
