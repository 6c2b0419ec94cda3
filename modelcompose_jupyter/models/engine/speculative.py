"""Guesses at the next tokens, which the model checks several at a time.

A guess never changes a text. The model chooses each token from its own scores with the number that
is drawn for that position, as it would without; where the guess is the same token, the next one has
been computed already. So greedy texts are equal, and drawn ones too, to the token.
"""

from __future__ import annotations

from collections import abc
from typing import Protocol

from ..weights.loader import LoadedModel
from .kv_cache import CacheFull, Slot
from .model_runner import ModelRunner
from .sampler import RowState, Sampler
from .sequence import Sequence

_LONGEST = 4
"""Tokens that a text must have in common with an earlier place for that to be looked up."""
_SHORTEST = 2
_DRAFTED = 4


class Proposer(Protocol):
    """Where guesses come from."""

    most: int
    """How many tokens are guessed at most."""

    def propose(self, sequences: abc.Sequence[Sequence]) -> list[list[int]]:
        """The tokens that may come next in each."""

    def forget(self, sequence: Sequence) -> None:
        """A sequence has ended."""


class PromptLookup:
    """Guesses that a text goes on as it did where it had its last words before."""

    def __init__(self, tokens: int) -> None:
        self.most = tokens
        self._places: dict[Sequence, _Places] = {}

    def propose(self, sequences: abc.Sequence[Sequence]) -> list[list[int]]:
        guesses = []
        for sequence in sequences:
            places = self._places.setdefault(sequence, _Places())
            guesses.append(places.following(sequence.tokens, self.most))
        return guesses

    def forget(self, sequence: Sequence) -> None:
        self._places.pop(sequence, None)


class _Places:
    """Where a text's runs of tokens ended last."""

    def __init__(self) -> None:
        self._ends: dict[tuple[int, ...], int] = {}
        self._read = 0

    def following(self, tokens: list[int], most: int) -> list[int]:
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
    """Guesses what a smaller model would choose, with the same random numbers."""

    def __init__(self, loaded: LoadedModel, vocabulary: int, budget: int | None) -> None:
        self.most = _DRAFTED
        self._model = ModelRunner(loaded, budget)
        self._sampler = Sampler(self._model.vocabulary, loaded.device)
        self._vocabulary = vocabulary
        self._slots: dict[Sequence, Slot] = {}
        self._texts: dict[Sequence, list[int]] = {}

    def propose(self, sequences: abc.Sequence[Sequence]) -> list[list[int]]:
        guesses: dict[Sequence, list[int]] = {each: [] for each in sequences}
        going_on = [each for each in sequences if self._has_place(each)]
        rows = {each: each.row for each in going_on}
        for _ in range(self.most):
            going_on = self._extend(going_on, guesses, rows)
            if not going_on:
                break
        return [guesses[each] for each in sequences]

    def _extend(
        self,
        sequences: list[Sequence],
        guesses: dict[Sequence, list[int]],
        rows: dict[Sequence, RowState],
    ) -> list[Sequence]:
        """One more token for each; those to go on with."""
        tokens: list[int] = []
        spans, wanted = [], []
        for sequence in sequences:
            slot = self._slots[sequence]
            text = [*sequence.tokens, *guesses[sequence]]
            new = text[slot.length :]
            tokens += new
            spans.append((slot, len(new)))
            wanted.append(len(tokens) - 1)
            self._texts[sequence] = text
        if not spans:
            return []
        logits = self._model.forward(tokens, wanted, (), spans)
        chosen, finite = self._sampler.pick(logits, [rows[each] for each in sequences])
        for (slot, count), sequence in zip(spans, sequences, strict=True):
            slot.length += count
            assert slot.length == len(self._texts[sequence])
        kept = []
        pairs = zip(sequences, chosen.tolist(), finite.tolist(), strict=True)
        for sequence, token, good in pairs:
            if good and token < self._vocabulary and token not in sequence.group.stop_ids:
                guesses[sequence].append(token)
                rows[sequence] = rows[sequence].after([token])
                kept.append(sequence)
        return kept

    def _has_place(self, sequence: Sequence) -> bool:
        """Have a slot with what is still true of the text; whether there is room for one."""
        try:
            slot = self._slots.get(sequence)
            if slot is None:
                slot = self._slots[sequence] = self._model.cache.open(len(sequence.tokens))
                self._texts[sequence] = []
            known, text = self._texts[sequence], sequence.tokens
            limit = min(slot.length, len(text) - 1)
            start = max(0, limit - self.most - 1)  # before that nothing was guessed
            agreed = next((i for i in range(start, limit) if known[i] != text[i]), limit)
            slot.length = agreed
            self._model.cache.reserve(slot, len(text) + self.most)
        except CacheFull:
            return False
        return True

    def forget(self, sequence: Sequence) -> None:
        slot = self._slots.pop(sequence, None)
        self._texts.pop(sequence, None)
        if slot is not None:
            self._model.cache.close(slot)
