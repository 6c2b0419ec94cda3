"""Continuous batching: which sequences run, and what each step computes for them.

A step admits sequences that wait, computes a token for each that decodes and a chunk of the prompts
that are read, and lets go of those that have ended. Only the engine's thread may use it.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from itertools import accumulate, islice
from typing import Any

import numpy as np

from ...errors import ComposeError, ModelError
from .. import memory
from ..weights.loaded_model import LoadedModel
from .counters import Counters
from .kv_cache import CacheFull, Kept, Slab, Slot, capacity_for
from .logprobs import as_array
from .prefill_chunk import PrefillChunkSize
from .prefix_cache import PrefixCache, in_common
from .request import Deliver, GenerationRequest, explain
from .row_state import RowState
from .runner import Unsupported
from .runner_selection import make_runner
from .sampling_params import SamplingParams
from .sequence import Sequence, SequenceGroup
from .speculative import DraftModel, PromptLookup, Proposer
from .thread_tuner import Threads

_MOST_PREFIX_BYTES = 1 << 30
_PREFIX_SHARE = 8  # of the memory that is free: one in so many bytes
_MOST_SCORE_BYTES = 64 << 20
"""Scores of a step for tokens that are only scored."""
_MOST_EARLIER = 64
"""Draft tokens of a step that come from earlier texts. With each there is a row of scores."""


class Scheduler:
    """The running and waiting sequences of a model.

    Args:
        deliver: called with the result or the error of each request.
        most: how many sequences run at once.
    """

    def __init__(
        self, loaded: LoadedModel, deliver: Deliver, most: int, counters: Counters
    ) -> None:
        self._loaded = loaded
        self._deliver = deliver
        self._most = most
        self._runner = make_runner(loaded)
        self._cache = self._runner.cache
        self._sampler = self._runner.sampler()
        self._threads = Threads(self._runner)
        self._chunk_size = PrefillChunkSize()
        self._prefixes = PrefixCache(_prefix_bytes(loaded), self._cache.cuts)
        self._draft: DraftModel | None = None
        self._no_draft = None if self._cache.cuts else "the model keeps a state"
        if loaded.draft is not None and self._cache.cuts:
            vocabulary = self._runner.vocabulary
            try:
                self._draft = DraftModel(loaded.draft, vocabulary, loaded.cache_budget)
            except Unsupported as reason:
                self._no_draft = str(reason)
        self._lookups: dict[int, PromptLookup] = {}  # by their most draft tokens
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
        if self._no_draft is not None and self._loaded.draft is not None:
            params.warnings.append(f"draft_model has no effect: {self._no_draft}")
        if not self._cache.cuts and request.prompt_lookup:
            params.warnings.append(f"prompt_lookup has no effect: {self._no_draft}")
        group = SequenceGroup(self._loaded, request, params)
        self._groups.append(group)
        self._waiting += group.sequences

    def step(self) -> None:
        """Compute one token for each running sequence, or a chunk of its prompt."""
        started = time.perf_counter()
        with self._runner.inference():
            self._end_cancelled()
            self._end_finished()
            before = {each: each.progress for each in self._active}
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
        """Fail sequences without progress, or the model's thread would compute without an end.

        A prompt may wait for its next chunk while others have progress, and a sequence may wait for
        room while there are others to make it.
        """
        began_idle = not before
        stuck = [each for each in self._active if before.get(each) == each.progress]
        if len(stuck) < len(self._active):
            stuck = [each for each in stuck if each.uncomputed <= 1]
        elif began_idle and not self._active and self._waiting == waiting:
            stuck = waiting
        for sequence in stuck:
            self._fail(sequence.group, RuntimeError("nothing was computed for its text"))

    # Which sequences run

    def _end_cancelled(self) -> None:
        for group in [each for each in self._groups if each.request.cancelled.is_set()]:
            try:
                for sequence in group.sequences:
                    if sequence.reason is None:
                        sequence.finish("cancelled")
            except Exception as error:  # tokens that are no text, say
                self._fail(group, error)

    def _end_finished(self) -> None:
        for sequence in [each for each in self._active if each.reason is not None]:
            self._leave(sequence, keep=True)
        self._waiting = [each for each in self._waiting if each.reason is None]
        for group in [each for each in self._groups if each.ended]:
            self._groups.remove(group)
            self._deliver(group.request, group.result())

    def _fail(self, group: SequenceGroup, error: BaseException) -> None:
        for sequence in group.sequences:
            if sequence in self._active:
                self._leave(sequence, keep=False, clean=True)
        self._waiting = [each for each in self._waiting if each.group is not group]
        if group in self._groups:
            self._groups.remove(group)
            self._deliver(group.request, explain(error, self._loaded.device))

    def fail_all(self, error: BaseException) -> None:
        """End all requests with an error."""
        with self._runner.inference():  # as the tensors that are written were made
            for group in list(self._groups):
                self._fail(group, error)

    def _leave(self, sequence: Sequence, keep: bool, clean: bool = False) -> None:
        """Free a sequence's slot; with ``keep``, the prefix cache has its keys and values."""
        slot = sequence.slot
        assert slot is not None
        for proposer in (*self._lookups.values(), self._draft):
            if proposer is not None:
                proposer.forget(sequence)
        if keep and slot.length:
            self._prefixes.keep(sequence.known, self._cache.held_by(slot), slot.take)
        self._cache.close(slot, clean)
        self._hold_prefixes()
        sequence.slot = None
        self._active.remove(sequence)
        self._crowded = False

    def _keep_prompt(self, sequence: Sequence) -> None:
        """Keep the state at the end of a prompt, which has gone on when the sequence ends."""
        slot = sequence.slot
        if slot is not None and not self._cache.cuts and 0 < slot.length == sequence.reading_end:
            self._prefixes.keep(sequence.known, self._cache.copy_bytes(slot), slot.copy)
            self._hold_prefixes()

    def _hold_prefixes(self) -> None:
        """Count what the prefix cache has, and have it forget what there is no room for."""
        self._cache.held = self._prefixes.bytes
        while self._cache.is_over and self._forget():
            pass

    def _admit(self) -> None:
        """Begin sequences that wait, in order, as long as there is room."""
        for sequence in list(self._waiting):
            if self._crowded or len(self._active) == self._most:
                return
            if self._awaits_prefix(sequence):
                continue
            if not self._begin(sequence):
                return
            self._waiting.remove(sequence)

    def _awaits_prefix(self, sequence: Sequence) -> bool:
        """Whether a prompt that is being read will give this one a longer prefix than there is."""
        reading = [other for other in self._active if other.uncomputed > 1]
        if not reading:
            return False
        tokens = sequence.reusable
        shared = [(self._coming(other, tokens), other.computed) for other in reading]
        most = max((length for length, computed in shared if length > computed), default=0)
        return most > 0 and most > self._prefixes.find(tokens)[1]

    def _coming(self, other: Sequence, tokens: np.ndarray) -> int:
        """How many of the tokens there will be from a sequence once its prompt is read."""
        length = in_common(other.prompt, tokens)
        if self._cache.cuts:
            return length
        return other.reading_end if length >= other.reading_end else 0

    def _begin(self, sequence: Sequence) -> bool:
        """Give a sequence a slot, with the longest prefix that is there; whether there is room."""
        kept, length = self._find_prefix(sequence.reusable)
        slot = self._open(len(sequence.tokens))
        if slot is None:
            if not self._active:
                self._fail(sequence.group, _too_large(self._loaded.device))
            return False
        if kept is not None:
            slot.begin(kept, length)
        sequence.slot = slot
        self._active.append(sequence)
        if sequence.group.reused is None:
            sequence.group.reused = length
        return True

    def _find_prefix(self, tokens: np.ndarray) -> tuple[Kept | None, int]:
        """Keys and values of the sequence with the longest common prefix, and its length."""
        prefix, length = self._prefixes.find(tokens)
        kept = prefix.kept if prefix is not None else None
        for other in self._active:
            shared = min(in_common(other.prompt, tokens), other.computed)
            is_there = self._cache.cuts or shared == other.computed
            if shared > length and is_there and other.slot is not None:
                kept, length = other.slot.kept, shared
        return kept, length

    # Memory

    def _open(self, tokens: int) -> Slot | None:
        while True:
            try:
                return self._cache.open(tokens)
            except CacheFull:
                if not self._forget() and not self._cache.trim():
                    return None

    def _forget(self) -> bool:
        """Evict a prefix; whether there was one."""
        found = self._prefixes.drop_oldest()
        self._cache.held = self._prefixes.bytes
        return found

    def _make_room(self) -> None:
        """Reserve room for the next token of each; where there is none, preempt the youngest."""
        coming = Counter(
            capacity_for(len(each.tokens))
            for each in self._active
            if each.slot is not None and each.uncomputed == 1 and self._must_move(each, each.slot)
        )
        for capacity, count in coming.items():
            if count > 1:
                self._cache.expect(capacity, count)
        for sequence in sorted(self._active, key=lambda each: each.age):
            while (slot := sequence.slot) is not None and sequence.reason is None:
                try:
                    if sequence.uncomputed == 1:
                        self._cache.share(slot)
                    self._cache.reserve(slot, len(sequence.tokens))
                    break
                except CacheFull:
                    self._free_memory()

    def _must_move(self, sequence: Sequence, slot: Slot) -> bool:
        return self._cache.is_own(slot) or len(sequence.tokens) > slot.slab.capacity

    def _free_memory(self) -> None:
        """Evict a prefix, give back free rows, or preempt the youngest sequence."""
        if self._forget() or self._cache.trim():
            return
        youngest = max(self._active, key=lambda each: each.age)
        if len(self._active) == 1:
            self._fail(youngest.group, _too_large(self._loaded.device))
            return
        self._leave(youngest, keep=False)
        self._waiting.insert(0, youngest)
        self._crowded = True  # until somebody leaves

    # The step

    def _propose(self) -> dict[Sequence, list[int]]:
        """Draft tokens for sequences that decode, where there is room to verify them."""
        drafts = self._earlier_tokens()
        by_proposer: dict[Proposer, list[Sequence]] = {}
        for sequence in self._active:
            if sequence in drafts:
                continue
            proposer = self._proposer(sequence.group.request.prompt_lookup)
            if proposer is not None and self._may_speculate(sequence, proposer.most):
                by_proposer.setdefault(proposer, []).append(sequence)
        for proposer, sequences in by_proposer.items():
            for sequence, tokens in zip(sequences, proposer.propose(sequences), strict=True):
                if draft := sequence.row.fitting(tokens[: sequence.remaining - 1]):
                    drafts[sequence] = draft
        return drafts

    def _earlier_tokens(self) -> dict[Sequence, list[int]]:
        """The next tokens of earlier texts, about as many as of a prompt there could be."""
        decoding = [each for each in self._active if each.uncomputed == 1]
        going_on = [each for each in decoding if each.earlier] if self._cache.cuts else []
        most = min(_MOST_EARLIER, self._chunk_size.chunk(len(decoding) - len(going_on)))
        drafts = {}
        for sequence in going_on:
            share = min(max(1, most // len(going_on)), sequence.remaining - 1)
            draft = sequence.row.fitting(sequence.expected(share))
            if draft and self._may_speculate(sequence, len(draft)):
                drafts[sequence] = draft
        return drafts

    def _may_speculate(self, sequence: Sequence, most: int) -> bool:
        slot = sequence.slot
        if slot is None or sequence.uncomputed > 1 or sequence.remaining < 2:
            return False
        if sequence.throttle.allows():  # which counts how often it is asked
            with suppress(CacheFull):
                self._cache.reserve(slot, len(sequence.tokens) + most)
                return True
        return False

    def _proposer(self, lookup: int) -> Proposer | None:
        if not self._cache.cuts:
            return None
        if self._draft is not None or not lookup:
            return self._draft
        return self._lookups.setdefault(lookup, PromptLookup(lookup))

    def _compose(
        self, drafts: dict[Sequence, list[int]]
    ) -> tuple[list[Slab], list[ScheduledSequence]]:
        """The slabs of which each row gets one token, and what all sequences have in the step."""
        by_slot = {sequence.slot: sequence for sequence in self._active}
        together, alone = [], []
        for slab in self._cache.slabs:
            rows = [by_slot[slot] for slot in slab.slots]
            if any(sequence in drafts or sequence.uncomputed > 1 for sequence in rows):
                alone += rows
            else:
                together.append((slab, rows))
        alone += [each for each in self._active if each.slot and self._cache.is_own(each.slot)]
        step = [ScheduledSequence(sequence, 1) for _, rows in together for sequence in rows]
        step += [
            ScheduledSequence(sequence, 1, drafts.get(sequence, []))
            for sequence in alone
            if sequence.uncomputed == 1
        ]
        size = self._chunk_size
        budget = 0 if size.is_without(len(step)) else size.chunk(len(step))
        score_rows = max(1, _MOST_SCORE_BYTES // (4 * self._runner.vocabulary))
        for sequence in alone:
            if sequence.uncomputed > 1 and budget:
                count = min(sequence.to_read, budget)
                if not self._cache.cuts and sequence.computed < sequence.reading_end:
                    count = min(count, sequence.reading_end - sequence.computed)
                if sequence.to_score:  # a row of scores for each of them
                    count = min(count, sequence.to_score[0] - 1 - sequence.computed + score_rows)
                if count <= 0:
                    continue
                step.append(ScheduledSequence(sequence, count))
                budget -= count
                score_rows -= len(step[-1].scored)
        return [slab for slab, _ in together], step

    def _advance(self, slabs: list[Slab], step: list[ScheduledSequence]) -> None:
        started = time.perf_counter()
        try:
            self._compute(slabs, step)
        except Exception as error:
            self._isolate(step, error)
            return
        chunks = [each.length for each in step if each.is_reading]
        decoding = len(step) - len(chunks)
        self._chunk_size.record(decoding, sum(chunks), time.perf_counter() - started)
        self._take(step)

    def _compute(self, slabs: list[Slab], step: list[ScheduledSequence]) -> None:
        """The forward pass, and sampling for those whose tokens are all in the step.

        The first sequences of the step are the rows of the slabs. An error is of the forward pass,
        which has changed nothing then.
        """
        tokens: list[int] = []
        wanted: list[int] = []
        for each in step:
            wanted += (len(tokens) + place for place in each.wanted)
            tokens += each.tokens
        together = sum(len(slab.slots) for slab in slabs)
        spans = [(each.slot, each.length) for each in step[together:]]
        has_chunk = len(tokens) > len(wanted) > 0  # while others decode
        with self._threads.chosen(len(tokens), without_trials=has_chunk):
            started = time.perf_counter()
            logits = self._runner.forward(tokens, wanted or [len(tokens) - 1], slabs, spans)
            self._counters.forward_seconds += time.perf_counter() - started
            for each in step:
                each.slot.length += each.count
            if any(each.scored for each in step):
                logits = _take_scored(step, logits)
            if last := [each for each in step if each.is_last]:
                self._sample(last, logits)

    def _sample(self, step: list[ScheduledSequence], logits: Any) -> None:
        """A token for each row of scores. After an error: each sequence by itself."""
        try:
            rows = [row for each in step for row in each.rows()]
            told = [n for n, row in enumerate(rows) if row.params.logprobs is not None]
            copies = as_array(logits[told]) if told else ()  # the sampler may change the scores
            own_scores = dict(zip(told, copies, strict=True))
            chosen, finite = self._sampler.pick(logits, rows)
        except Exception as error:
            self._give_back()
            if len(step) == 1:
                self._fail(step[0].sequence.group, error)
                return
            ends = accumulate(1 + len(each.draft) for each in step)
            for each, end in zip(step, ends, strict=True):
                if each.sequence.slot is not None:
                    self._sample([each], logits[end - 1 - len(each.draft) : end])
            return
        scores = map(own_scores.get, range(len(rows)))
        sampled = zip(chosen.tolist(), finite.tolist(), scores, strict=True)
        for each in step:
            each.sampled = list(islice(sampled, 1 + len(each.draft)))

    def _take(self, step: list[ScheduledSequence]) -> None:
        for each in step:
            sequence = each.sequence
            self._keep_prompt(sequence)
            if each.count > 1:
                sequence.tell_read()
            if sequence.reason is None and sequence.slot is not None:
                before = len(sequence.tokens)
                try:
                    each.take()
                except Exception as error:
                    self._fail(sequence.group, error)
                self._counters.tokens += len(sequence.tokens) - before

    def _isolate(self, step: list[ScheduledSequence], error: Exception) -> None:
        """After an error: each sequence by itself, so that only those fail that cause it."""
        self._give_back()
        if len(step) == 1:
            self._fail(step[0].sequence.group, error)
            return
        for each in step:
            if each.sequence.slot is None:
                continue
            try:
                self._compute([], [each])
            except Exception as own:
                self._fail(each.sequence.group, own)
            else:
                self._take([each])

    def _give_back(self) -> None:
        """Have as much memory as possible."""
        while self._forget():
            pass
        memory.give_back()


class ScheduledSequence:
    """A sequence in one step.

    Attributes:
        count: how many of its tokens are computed: one, or a chunk of its prompt.
        draft: draft tokens after these.
        is_reading: whether these are of a prompt, or of an earlier text.
        is_last: whether no other tokens come before the one to sample.
        scores: those of tokens to score, [tokens, vocabulary], once they are computed.
        sampled: the token after the last one and after each draft token, whether the scores for it
            were finite, and these where they are asked for, once they are computed.
    """

    def __init__(self, sequence: Sequence, count: int, draft: list[int] | None = None) -> None:
        assert sequence.slot is not None
        self.sequence = sequence
        self.slot = sequence.slot
        self.count = count
        self._start = self.slot.length
        self.draft = draft or []
        self.is_last = count == sequence.uncomputed
        is_chunk = count > 1 or not self.is_last
        self.is_reading = is_chunk or bool(self.draft and sequence.earlier)
        self.scores: np.ndarray | None = None
        self.sampled: list[tuple[int, bool, np.ndarray | None]] = []

    @property
    def length(self) -> int:
        """How many tokens it has in the step, draft tokens included."""
        return self.count + len(self.draft)

    @property
    def tokens(self) -> list[int]:
        start = self.slot.length
        return [*self.sequence.tokens[start : start + self.count], *self.draft]

    @property
    def scored(self) -> range:
        """Which of its tokens are those before tokens to score."""
        places, start = self.sequence.to_score, self._start
        last = min(places.stop - 1, start + self.count)
        return range(places.start - 1 - start, last - start) if places else range(0)

    @property
    def wanted(self) -> list[int]:
        """Which of its tokens scores are wanted of: for those to score, then those to sample."""
        sampled = range(self.count - 1, self.length) if self.is_last else ()
        return [*self.scored, *sampled]

    def rows(self) -> list[RowState]:
        """Its rows for the sampler: for the next token, and for the one after each draft token."""
        rows = [self.sequence.row]
        for token in self.draft:
            rows.append(rows[-1].after([token]))
        return rows

    def take(self) -> None:
        """Take what is scored, then the next token, and those after it as long as draft tokens are
        accepted."""
        if self.scores is not None:
            self.sequence.take_scores(self.scores)
        accepted_tokens = 0
        for place, (token, is_finite, scores) in enumerate(self.sampled):
            if not is_finite:
                problem = self.sequence.row.problem()
                raise problem or ArithmeticError("the model's scores are not finite")
            self.sequence.take(token, scores)
            if self.sequence.reason is not None or self.draft[place : place + 1] != [token]:
                break
            accepted_tokens += 1
            self.slot.length += 1  # the draft token's keys and values are there
        if self.draft:
            self.sequence.throttle.record(len(self.draft), accepted_tokens)
        if self.sampled and self.sequence.reason is None:
            self.sequence.take_forced()


def _take_scored(step: list[ScheduledSequence], logits: Any) -> Any:
    """Take the rows of tokens to score out of a step's scores; returns the others."""
    sampled: list[int] = []
    place = 0
    for each in step:
        end = place + len(each.wanted)
        if each.scored:
            each.scores = as_array(logits[place : place + len(each.scored)])
        sampled += range(place + len(each.scored), end)
        place = end
    return logits[sampled]


def _prefix_bytes(loaded: LoadedModel) -> int:
    """The limit of the prefix cache."""
    if loaded.cache_budget is not None:
        return loaded.cache_budget // 2
    return min(_MOST_PREFIX_BYTES, memory.available(str(loaded.device)) // _PREFIX_SHARE)


def _too_large(device: str) -> ComposeError:
    return ModelError(
        f"the text does not fit into the memory for keys and values on {device}",
        hint="Shorten the prompt, lower max_output_length, raise cache_budget,"
        " or unload other models.",
        code="out_of_memory",
    )
