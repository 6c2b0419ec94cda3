"""Whether a model can be computed in steps: tried when it is loaded, whatever its architecture.

A model first computes some texts by itself, each alone, by its own forward. Then the same texts are
computed in steps: in company, in parts, and token by token; and the last tokens once more in
smaller companies. Scores must be those of the model, and a text's the same in each company, as far
as its numbers are rounded. Nothing of it is kept: a load tries what it has loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from ...errors import one_line
from .. import memory
from ..weights.library_logging import quiet
from .kv_cache import Slab, Slot
from .runner import Runner, Unsupported

_LENGTHS = (19, 6, 66)
"""Of the texts, in tokens: so few that a load does not become noticeably longer, and in rows of two
capacities."""
_AT_ONCE = 40
"""Most tokens of a text in one step."""
_COLUMNS = 4096
"""Of keys and values in a step as among long texts."""
_COMPARED = 12
"""Most tokens of a part whose scores are compared, the last ones: vocabularies are large."""
_ONE_BY_ONE = 3
"""The last tokens of each text, which come in steps of their own."""
_PRECISION = {torch.float32: 0.005, torch.float16: 0.02, torch.bfloat16: 0.1}
"""How far scores of half of the tokens may differ, as the root of the mean square, in standard
deviations. Single tokens of trained models differ by more between any two ways to compute them."""
_ALIKE = {torch.float32: 0.001, torch.float16: 0.01, torch.bfloat16: 0.03}
"""How far those of a token may differ in another company: less, since they are computed alike."""


class Padding(Runner, Protocol):
    """A runner that may pad texts.

    Attributes:
        least_columns: so many keys and values a padded step reads of each text, at least.
    """

    least_columns: int


class SelfCheck:
    """What a model's own forward gives for some texts.

    Made before its modules are replaced.

    Raises:
        Unsupported: it fails.
    """

    def __init__(self, model: Any) -> None:
        known = int(model.get_input_embeddings().weight.shape[0])
        dtype = model.dtype
        if any(each.dtype == torch.int8 for each in model.parameters()):
            dtype = torch.bfloat16  # as such layers compute on a processor
        self._precision = _PRECISION.get(dtype, max(_PRECISION.values()))
        self._alike = _ALIKE.get(dtype, max(_ALIKE.values()))
        self._texts = [
            [(11 + 7 * place + 13 * number) % known for number in range(length)]
            for place, length in enumerate(_LENGTHS)
        ]
        with torch.inference_mode(), failures_unsupported():
            self._wanted = [
                model(torch.tensor([text], device=model.device), use_cache=False).logits[0].float()
                for text in self._texts
            ]

    def run(self, runner: Padding) -> None:
        """Compute the same in steps.

        Raises:
            Unsupported: they fail, or give something else.
        """
        with runner.inference(), failures_unsupported():
            slots = [runner.cache.open(len(text)) for text in self._texts]
            try:
                off = self._in_parts(runner, slots)
                off = max(off, self._one_by_one(runner, slots))
                apart = self._in_other_companies(runner, slots)
            finally:
                for slot in slots:
                    runner.cache.close(slot)
        if not off <= self._precision:  # nor where it is no number
            raise Unsupported(f"its scores in steps are off by {off:.2g} standard deviations")
        if not apart <= self._alike:
            raise Unsupported(
                f"its scores depend on who else is there, by {apart:.2g} standard deviations"
            )

    def _in_parts(self, runner: Padding, slots: Sequence[Slot]) -> float:
        """By how much scores are off where the texts are read but for their ends."""
        found: list[list[torch.Tensor]] = [[] for _ in slots]
        while True:
            left = [
                len(text) - _ONE_BY_ONE - s.length
                for text, s in zip(self._texts, slots, strict=True)
            ]
            counts = [min(each, _AT_ONCE) for each in left]
            spans = [(slot, count) for slot, count in zip(slots, counts, strict=True) if count]
            if not spans:
                return _most(found)
            for place, _, off in self._step(runner, slots, [], spans):
                found[place].append(off)

    def _one_by_one(self, runner: Padding, slots: Sequence[Slot]) -> float:
        """By how much scores are off where each text gets a token in a step; of all, the median."""
        found: list[torch.Tensor] = []
        self._last: list[list[torch.Tensor]] = [[] for _ in slots]
        for slot in slots:
            runner.cache.share(slot)
        for _ in range(_ONE_BY_ONE):
            own = [(slot, 1) for slot in slots if runner.cache.is_own(slot)]
            for place, scores, off in self._step(runner, slots, runner.cache.slabs, own):
                found.append(off)
                self._last[place].append(scores)
        return float(torch.cat(found).median())

    def _in_other_companies(self, runner: Padding, slots: list[Slot]) -> float:
        """By how much scores of the last tokens differ where fewer and fewer texts are there.

        Where a step pads texts, the last is tried among so many columns as if one of the others
        were long.

        The median of a company: single ones may, where rounding decides about an expert, say.
        Closes the slots of those who leave.
        """
        apart: list[torch.Tensor] = []
        while len(slots) > 1:
            runner.cache.close(slots.pop())
            for slot in slots:
                slot.length -= _ONE_BY_ONE
            runner.least_columns = _COLUMNS if len(slots) == 1 else 0
            found = self._step(runner, slots, [], [(slot, _ONE_BY_ONE) for slot in slots])
            off = [_off(scores, torch.cat(self._last[place])) for place, scores, _ in found]
            apart.append(torch.cat(off).median())
        runner.least_columns = 0
        return float(torch.stack(apart).max())

    def _step(
        self,
        runner: Padding,
        slots: Sequence[Slot],
        slabs: Sequence[Slab],
        spans: Sequence[tuple[Slot, int]],
    ) -> list[tuple[int, torch.Tensor, torch.Tensor]]:
        """So many tokens more of some texts.

        Returns:
            Of each: which text, the scores of its last tokens, by how much they are off.
        """
        parts = [*((slot, 1) for slab in slabs for slot in slab.slots), *spans]
        tokens: list[int] = []
        compared: list[int] = []
        for slot, count in parts:
            tokens += self._texts[slots.index(slot)][slot.length : slot.length + count]
            compared += range(len(tokens) - min(count, _COMPARED), len(tokens))
        scores = torch.as_tensor(runner.forward(tokens, compared, slabs, spans)).float()
        split = scores.split([min(count, _COMPARED) for _, count in parts])
        found = []
        for (slot, count), part in zip(parts, split, strict=True):
            slot.length += count
            place = slots.index(slot)
            wanted = self._wanted[place][slot.length - len(part) : slot.length]
            part = part.to(wanted.device)
            found.append((place, part, _off(part, wanted)))
        return found


def _off(scores: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Root mean square differences of tokens' scores [tokens, vocabulary], in deviations."""
    return (scores - wanted).square().mean(-1).sqrt() / wanted.std(-1)


def _most(found: Sequence[Sequence[torch.Tensor]]) -> float:
    """The median of a text's tokens, of the text where it is greatest."""
    return max(float(torch.cat(list(each)).median()) for each in found)


@contextmanager
def failures_unsupported() -> Iterator[None]:
    """Have what goes wrong mean that the scheduler cannot run the model, except want of memory."""
    try:
        with quiet("transformers"):
            yield
    except Unsupported:
        raise
    except Exception as error:
        if memory.is_out_of_memory(error):
            raise
        raise Unsupported(f"a check of its steps failed: {one_line(error)}") from None
