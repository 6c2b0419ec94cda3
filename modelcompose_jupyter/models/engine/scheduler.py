"""The texts that a model generates at the same time, step by step.

Each step admits who waits, gives every running sequence its next token, goes on with prompts in
chunks, and lets go who has ended. Of one thread.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from ...errors import ComposeError, ModelError
from .. import memory
from ..weights.loader import LoadedModel
from .counters import Counters
from .kv_cache import CacheFull, Slab, Slot, capacity_for
from .model_runner import ModelRunner, unsupported_model
from .prefill_chunk import PrefillChunkSize
from .prefix_cache import PrefixCache, in_common
from .request import Deliver, GenerationRequest, explain
from .sampler import RowState, Sampler
from .sampling_params import SamplingParams
from .sequence import Sequence, SequenceGroup
from .speculative import DraftModel, PromptLookup, Proposer
from .threads import Threads

_MOST_KEPT = 1 << 30
_SHARE_KEPT = 8


class Scheduler:
    """The running and waiting sequences of a model.

    Args:
        loaded: the model.
        facts: what results say of it.
        deliver: called with what came of each request.
        most: how many sequences run at once.
        counters: of the model.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        model_info: dict[str, Any],
        deliver: Deliver,
        most: int,
        counters: Counters,
    ) -> None:
        self._loaded = loaded
        self._model_info = model_info
        self._deliver = deliver
        self._most = most
        self._model = ModelRunner(loaded, loaded.cache_budget)
        memory.give_back()  # what the weights took before they were packed
        self._cache = self._model.cache
        self._sampler = Sampler(self._model.vocabulary, loaded.device)
        self._threads = Threads(loaded.device)
        self._chunk_size = PrefillChunkSize()
        self._prefixes = PrefixCache(_kept_bytes(loaded))
        self._draft = _draft(loaded, self._model.vocabulary)
        self._lookup: dict[int, PromptLookup] = {}
        self._groups: list[SequenceGroup] = []
        self._waiting: list[Sequence] = []
        self._active: list[Sequence] = []
        self._crowded = False
        self._counters = counters

    @property
    def busy(self) -> bool:
        """Whether there is something to do."""
        return bool(self._active or self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether another request would begin at once."""
        return not self._waiting and len(self._active) < self._most

    def add(self, request: GenerationRequest, params: SamplingParams) -> None:
        """Take a request in; its sequences begin with the next step."""
        if self._loaded.draft is not None and self._draft is None:
            reason = unsupported_model(self._loaded.draft.model)
            params.warnings.append(f"draft_model has no effect: {reason}")
        group = SequenceGroup(self._loaded, request, params)
        self._groups.append(group)
        self._waiting += group.sequences

    def step(self) -> None:
        """Bring everybody one token, or one part of a prompt, further."""
        started = time.perf_counter()
        with torch.inference_mode():
            self._end_cancelled()
            self._end_finished()
            before = {each: each.standing for each in self._active}
            waiting = list(self._waiting)
            self._admit()
            self._make_room()
            if self._active:
                self._advance(*self._compose(self._propose()))
            self._fail_stuck(before, waiting)
            self._end_finished()
        self._counters.steps += 1
        self._counters.step_seconds += time.perf_counter() - started

    def _fail_stuck(self, before: dict[Sequence, tuple[int, int]], waiting: list[Sequence]) -> None:
        """Fail those that a step brought no further, or the model's thread would never rest.

        Waiting is for those who have no place yet while somebody has or had, and for prompts of
        which another is read first.
        """
        began_idle = not before
        stuck = [each for each in self._active if before.get(each) == each.standing]
        if len(stuck) < len(self._active):
            stuck = [each for each in stuck if each.behind <= 1]
        elif began_idle and not self._active and self._waiting == waiting:
            stuck = waiting
        for sequence in stuck:
            self._fail(sequence.group, RuntimeError("nothing was computed for its text"))

    # Who runs

    def _end_cancelled(self) -> None:
        for group in list(self._groups):
            if group.request.cancelled.is_set():
                self._finish(group, "cancelled")

    def _finish(self, group: SequenceGroup, reason: str) -> None:
        try:
            for sequence in group.sequences:
                if sequence.reason is None:
                    sequence.finish(reason)
        except Exception as error:  # tokens that are no text, say
            self._fail(group, error)

    def _end_finished(self) -> None:
        for sequence in [each for each in self._active if each.reason is not None]:
            self._leave(sequence, keep=True)
        self._waiting = [each for each in self._waiting if each.reason is None]
        for group in [each for each in self._groups if each.ended]:
            self._groups.remove(group)
            self._deliver(group.request, group.result(self._model_info))

    def _fail(self, group: SequenceGroup, error: BaseException) -> None:
        for sequence in group.sequences:
            if sequence in self._active:
                self._leave(sequence, keep=False, clean=True)
        self._waiting = [each for each in self._waiting if each.group is not group]
        if group in self._groups:
            self._groups.remove(group)
            self._deliver(group.request, explain(error, self._model_info))

    def fail_all(self, error: BaseException) -> None:
        """End everything with an error."""
        with torch.inference_mode():  # as the places that are given back were made
            for group in list(self._groups):
                self._fail(group, error)

    def _leave(self, sequence: Sequence, keep: bool, clean: bool = False) -> None:
        """Give a sequence's place to others; what it knows of its text may be kept for them."""
        slot = sequence.slot
        assert slot is not None
        for proposer in self._proposers():
            proposer.forget(sequence)
        if keep and slot.length:
            tokens = np.array(sequence.tokens[: slot.length])
            self._prefixes.keep(tokens, slot.data, copy=not self._cache.apart)
        self._cache.close(slot, clean)
        self._cache.held = self._prefixes.bytes
        while self._cache.is_over and self._forget():
            pass
        sequence.slot = None
        self._active.remove(sequence)
        self._crowded = False

    def _admit(self) -> None:
        """Begin with those who wait, in order, as long as there is room."""
        for sequence in list(self._waiting):
            if self._crowded or len(self._active) == self._most:
                return
            if self._is_coming(sequence):
                continue
            if not self._begin(sequence):
                return
            self._waiting.remove(sequence)

    def _is_coming(self, sequence: Sequence) -> bool:
        """Whether a running sequence is about to compute what this one could take from it."""
        reading = [other for other in self._active if other.behind > 1]
        if not reading:
            return False
        tokens = sequence.known
        most = max(
            (
                shared
                for other in reading
                if (shared := in_common(other.prompt, tokens)) > other.done
            ),
            default=0,
        )
        return most > 0 and most > self._prefixes.find(tokens)[1]

    def _begin(self, sequence: Sequence) -> bool:
        """Give a sequence a place, with as much of its beginning as is known; whether it worked."""
        data, length = self._find_beginning(sequence.known)
        slot = self._open(len(sequence.tokens))
        if slot is None:
            if not self._active:
                self._fail(sequence.group, _too_large(self._model_info))
            return False
        if data is not None:
            slot.length = length
            slot.data.copy_(data[..., :length, :])
        sequence.slot = slot
        self._active.append(sequence)
        if sequence.group.reused is None:
            sequence.group.reused = length
        return True

    def _find_beginning(self, tokens: np.ndarray) -> tuple[torch.Tensor | None, int]:
        """Keys and values of another text that begins like this one, and how much is the same."""
        prefix, length = self._prefixes.find(tokens)
        data = prefix.data if prefix is not None else None
        for other in self._active:
            shared = min(in_common(other.prompt, tokens), other.done)
            if shared > length and other.slot is not None:
                data, length = other.slot.data, shared
        return data, length

    # Memory

    def _open(self, tokens: int) -> Slot | None:
        while True:
            try:
                return self._cache.open(tokens)
            except CacheFull:
                if not self._forget() and not self._cache.trim():
                    return None

    def _forget(self) -> bool:
        """Let go of a text that is kept for others; whether there was one."""
        found = self._prefixes.drop_oldest()
        self._cache.held = self._prefixes.bytes
        return found

    def _make_room(self) -> None:
        """Room for the next token of each; where there is none the youngest ones wait."""
        coming = Counter(
            capacity_for(len(each.tokens))
            for each in self._active
            if each.slot is not None and each.behind == 1 and self._must_move(each, each.slot)
        )
        for capacity, count in coming.items():
            if count > 1:
                self._cache.expect(capacity, count)
        for sequence in sorted(self._active, key=lambda each: each.age):
            while sequence.slot is not None and sequence.reason is None:
                try:
                    self._reserve(sequence, sequence.slot)
                    break
                except CacheFull:
                    self._yield_memory()

    def _must_move(self, sequence: Sequence, slot: Slot) -> bool:
        return self._cache.is_own(slot) or len(sequence.tokens) > slot.slab.capacity

    def _reserve(self, sequence: Sequence, slot: Slot) -> None:
        if sequence.behind == 1:
            self._cache.share(slot)
        self._cache.reserve(slot, len(sequence.tokens))

    def _yield_memory(self) -> None:
        if self._forget() or self._cache.trim():
            return
        youngest = max(self._active, key=lambda each: each.age)
        if len(self._active) == 1:
            self._fail(youngest.group, _too_large(self._model_info))
            return
        self._leave(youngest, keep=False)
        self._waiting.insert(0, youngest)
        self._crowded = True  # until somebody leaves

    # The step

    def _propose(self) -> dict[Sequence, list[int]]:
        """What may come next in sequences that get a token, where there is room to check it."""
        by_source: dict[Proposer, list[Sequence]] = {}
        for sequence in self._active:
            proposer = self._proposer(sequence.group.request.prompt_lookup)
            if proposer is not None and self._may_speculate(sequence, proposer.most):
                by_source.setdefault(proposer, []).append(sequence)
        found = {}
        for proposer, sequences in by_source.items():
            for sequence, tokens in zip(sequences, proposer.propose(sequences), strict=True):
                if kept := tokens[: sequence.left - 1]:
                    found[sequence] = kept
        return found

    def _may_speculate(self, sequence: Sequence, most: int) -> bool:
        slot = sequence.slot
        if slot is None or sequence.behind > 1 or sequence.left < 2:
            return False
        if not sequence.throttle.willing:
            return False
        try:
            self._cache.reserve(slot, len(sequence.tokens) + most)
        except CacheFull:
            return False
        return True

    def _proposer(self, lookup: int) -> Proposer | None:
        if self._draft is not None or not lookup:
            return self._draft
        return self._lookup.setdefault(lookup, PromptLookup(lookup))

    def _proposers(self) -> list[Proposer]:
        return [*self._lookup.values(), *([] if self._draft is None else [self._draft])]

    def _compose(
        self, proposer: dict[Sequence, list[int]]
    ) -> tuple[list[Slab], list[ScheduledSequence]]:
        """The slabs whose rows all get one token, and what each sequence has in the step."""
        by_slot = {sequence.slot: sequence for sequence in self._active}
        together, alone = [], []
        for slab in self._cache.slabs:
            rows = [by_slot[slot] for slot in slab.slots]
            if any(sequence in proposer for sequence in rows):
                alone += rows
            else:
                together.append((slab, rows))
        own = [each for each in self._active if each.slot and self._cache.is_own(each.slot)]
        alone += [sequence for sequence in own if sequence.behind == 1]
        parts = [ScheduledSequence(sequence, 1) for _, rows in together for sequence in rows]
        parts += [ScheduledSequence(sequence, 1, proposer.get(sequence, [])) for sequence in alone]
        budget = self._chunk_size.chunk(len(parts))
        for sequence in own:
            if sequence.behind > 1 and budget:
                parts.append(ScheduledSequence(sequence, min(sequence.behind, budget)))
                budget -= parts[-1].count
        return [slab for slab, _ in together], parts

    def _advance(self, slabs: list[Slab], parts: list[ScheduledSequence]) -> None:
        started = time.perf_counter()
        try:
            asked, chosen, finite = self._compute(slabs, parts)
        except Exception as error:
            self._isolate(parts, error)
            return
        prompts = [part.count for part in parts if part.count > 1]
        rows = len(parts) - len(prompts)
        self._chunk_size.took(rows, sum(prompts), time.perf_counter() - started)
        self._take(parts, asked, chosen, finite)

    def _compute(
        self, slabs: list[Slab], parts: list[ScheduledSequence]
    ) -> tuple[list[ScheduledSequence], list[int], list[bool]]:
        """The parts that end a text so far, and for these the tokens that come next.

        The first parts are the rows of the slabs. A part with guesses has as many tokens more.
        """
        tokens: list[int] = []
        wanted: list[int] = []
        asked, rows = [], []
        for part in parts:
            tokens += part.tokens
            if part.is_last:
                asked.append(part)
                wanted += range(len(tokens) - 1 - len(part.draft), len(tokens))
                rows += part.rows()
        together = sum(len(slab.slots) for slab in slabs)
        spans = [(part.slot, part.length) for part in parts[together:]]
        reads_beside = len(tokens) > len(wanted) > 0  # a prompt, while others get tokens
        with self._threads.chosen(len(tokens), urgent=reads_beside):
            started = time.perf_counter()
            logits = self._model.forward(tokens, wanted or [len(tokens) - 1], slabs, spans)
            self._counters.forward_seconds += time.perf_counter() - started
            if not asked:
                return [], [], []
            chosen, finite = self._sampler.pick(logits, rows)
        return asked, chosen.tolist(), finite.tolist()

    def _take(
        self,
        parts: Iterable[ScheduledSequence],
        asked: list[ScheduledSequence],
        chosen: list[int],
        finite: list[bool],
    ) -> None:
        for part in parts:
            part.slot.length += part.count
        place = 0
        for part in asked:
            end = place + 1 + len(part.draft)
            if part.sequence.reason is None and part.sequence.slot is not None:
                before = len(part.sequence.tokens)
                try:
                    part.take(chosen[place:end], finite[place:end])
                except Exception as error:
                    self._fail(part.sequence.group, error)
                self._counters.tokens += len(part.sequence.tokens) - before
            place = end

    def _isolate(self, parts: list[ScheduledSequence], error: Exception) -> None:
        """After an error: each sequence by itself, so that only those fail that cause it."""
        while self._forget():
            pass
        memory.give_back()
        if len(parts) == 1:
            self._fail(parts[0].sequence.group, error)
            return
        for part in parts:
            if part.sequence.slot is None:
                continue
            try:
                computed = self._compute([], [part])
            except Exception as own:
                self._fail(part.sequence.group, own)
            else:
                self._take([part], *computed)


class ScheduledSequence:
    """What a sequence has in a step: its next tokens, and guesses at those after them."""

    def __init__(self, sequence: Sequence, count: int, draft: list[int] | None = None) -> None:
        assert sequence.slot is not None
        self.sequence = sequence
        self.slot = sequence.slot
        self.count = count
        self.draft = draft or []
        self.is_last = count == sequence.behind

    @property
    def length(self) -> int:
        """How many tokens it has."""
        return self.count + len(self.draft)

    @property
    def tokens(self) -> list[int]:
        start = self.slot.length
        return [*self.sequence.tokens[start : start + self.count], *self.draft]

    def rows(self) -> list[RowState]:
        """For the next token, and for the one after each guess."""
        row = self.sequence.row
        return [row, *(row.after(self.draft[:end]) for end in range(1, len(self.draft) + 1))]

    def take(self, chosen: list[int], finite: list[bool]) -> None:
        """Take the next token, and for as long as guesses came true those after it."""
        accepted_tokens = 0
        for place, token in enumerate(chosen):
            if not finite[place]:
                raise ArithmeticError("the model's scores are not finite")
            self.sequence.take(token)
            if self.sequence.reason is not None or self.draft[place : place + 1] != [token]:
                break
            accepted_tokens += 1
            self.slot.length += 1  # it was computed along with the guess
        if self.draft:
            self.sequence.throttle.learn(len(self.draft), accepted_tokens)


def _draft(loaded: LoadedModel, vocabulary: int) -> DraftModel | None:
    if loaded.draft is None or unsupported_model(loaded.draft.model) is not None:
        return None
    return DraftModel(loaded.draft, vocabulary, loaded.cache_budget)


def _kept_bytes(loaded: LoadedModel) -> int:
    """How much of earlier texts is kept."""
    if loaded.cache_budget is not None:
        return loaded.cache_budget // 2
    return min(_MOST_KEPT, memory.available(str(loaded.device)) // _SHARE_KEPT)


def _too_large(model_info: dict[str, Any]) -> ComposeError:
    return ModelError(
        f"the text does not fit into the memory for keys and values on {model_info.get('device')}",
        hint="Shorten the prompt, lower max_output_length, raise cache_budget,"
        " or unload other models.",
        code="out_of_memory",
    )
