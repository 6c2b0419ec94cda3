"""Whether steps give what a model itself gives, tried where no test has shown it.

Tests run on processors; on an accelerator other kernels compute. So there a model first computes
some texts by itself, and then the same in steps: in company, in parts, and token by token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ...errors import one_line
from .. import memory
from .kv_cache import Slab, Slot
from .runner import Runner, Unsupported

_LENGTHS = (37, 8, 90)
"""Of the texts, in tokens."""
_AT_ONCE = 20
"""Most tokens of a text in one step, but for the first text, which is read whole."""
_ONE_BY_ONE = 5
"""The last tokens of each text, which come in steps of their own."""
_PRECISION = {torch.float32: 0.005, torch.float16: 0.02, torch.bfloat16: 0.1}
"""How far scores of half of the tokens may differ, as the root of the mean square, in standard
deviations. Single tokens of trained models differ by more between any two ways to compute them."""


class SelfCheck:
    """What a model's own forward gives for some texts.

    Made before its modules are replaced.

    Raises:
        Unsupported: it fails.
    """

    def __init__(self, model: Any) -> None:
        known = int(model.get_input_embeddings().weight.shape[0])
        self._precision = _PRECISION.get(model.dtype, max(_PRECISION.values()))
        self._texts = [
            [(11 + 7 * place + 13 * number) % known for number in range(length)]
            for place, length in enumerate(_LENGTHS)
        ]
        with torch.inference_mode(), _failures_unsupported():
            self._wanted = [
                model(torch.tensor([text], device=model.device)).logits[0].float()
                for text in self._texts
            ]

    def run(self, runner: Runner) -> None:
        """Compute the same in steps.

        Raises:
            Unsupported: they fail, or give something else.
        """
        with runner.inference(), _failures_unsupported():
            slots = [runner.cache.open(len(text)) for text in self._texts]
            try:
                off = max(self._in_parts(runner, slots), self._one_by_one(runner, slots))
            finally:
                for slot in slots:
                    runner.cache.close(slot)
        if not off <= self._precision:  # nor where it is no number
            raise Unsupported(f"its scores in steps are off by {off:.2g} standard deviations")

    def _in_parts(self, runner: Runner, slots: Sequence[Slot]) -> float:
        """By how much scores are off where the texts are read but for their ends."""
        found: list[list[torch.Tensor]] = [[] for _ in slots]
        while True:
            left = [
                len(text) - _ONE_BY_ONE - s.length
                for text, s in zip(self._texts, slots, strict=True)
            ]
            counts = [left[0], *(min(each, _AT_ONCE) for each in left[1:])]
            spans = [(slot, count) for slot, count in zip(slots, counts, strict=True) if count]
            if not spans:
                return _most(found)
            self._step(runner, slots, [], spans, found)

    def _one_by_one(self, runner: Runner, slots: Sequence[Slot]) -> float:
        """By how much scores are off where each text gets a token in a step."""
        found: list[list[torch.Tensor]] = [[] for _ in slots]
        for slot in slots:
            runner.cache.share(slot)
        for _ in range(_ONE_BY_ONE):
            own = [(slot, 1) for slot in slots if runner.cache.is_own(slot)]
            self._step(runner, slots, runner.cache.slabs, own, found)
        return _most(found)

    def _step(
        self,
        runner: Runner,
        slots: Sequence[Slot],
        slabs: Sequence[Slab],
        spans: Sequence[tuple[Slot, int]],
        found: Sequence[list[torch.Tensor]],
    ) -> None:
        """So many tokens more of some texts; ``found`` gets by how much their scores are off."""
        parts = [*((slot, 1) for slab in slabs for slot in slab.slots), *spans]
        places = [slots.index(slot) for slot, _ in parts]
        ranges = [slice(slot.length, slot.length + count) for slot, count in parts]
        tokens = [
            token
            for place, own in zip(places, ranges, strict=True)
            for token in self._texts[place][own]
        ]
        scores = torch.as_tensor(runner.forward(tokens, range(len(tokens)), slabs, spans))
        split = scores.float().split([count for _, count in parts])
        for place, own, (slot, count), part in zip(places, ranges, parts, split, strict=True):
            wanted = self._wanted[place][own]
            off = (part.to(wanted.device) - wanted).square().mean(-1).sqrt() / wanted.std(-1)
            found[place].append(off)
            slot.length += count


def _most(found: Sequence[Sequence[torch.Tensor]]) -> float:
    """The median of a text's tokens, of the text where it is greatest."""
    return max(float(torch.cat(list(each)).median()) for each in found)


@contextmanager
def _failures_unsupported() -> Iterator[None]:
    """Have what goes wrong mean that the scheduler cannot run the model, except want of memory."""
    try:
        yield
    except Unsupported:
        raise
    except Exception as error:
        if memory.is_out_of_memory(error):
            raise
        raise Unsupported(f"a check of its steps failed: {one_line(error)}") from None
