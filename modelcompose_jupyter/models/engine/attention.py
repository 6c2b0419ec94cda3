"""Attention for a step of many sequences, each with keys and values of its own.

The tokens of all sequences are one input without padding, [1, tokens], on which every other part of
the model works as it is. Attention alone must know which sequence a token belongs to. The `Step`
says that; it is set for the thread that runs it. Without a step, attention is transformers' own.

It is written out in matrix products, which give a token the same bits however many others there
are, as far as the processor's kernels do. Ready-made attention kernels do not.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch

from .kv_cache import Slot
from .runner import Unsupported
from .torch_slab import Rows, TorchSlab

NAME = "modelcompose"
"""Under which transformers knows it, as an attention implementation."""

_thread = threading.local()


class Span:
    """Tokens of one sequence, from ``start`` to ``end`` of the step's tokens.

    The sequence has ``slot.length`` tokens before them.
    """

    def __init__(self, slot: Slot, start: int, end: int) -> None:
        self.slot = slot
        self.start = start
        self.end = end

    @property
    def slab(self) -> TorchSlab:
        """Where its keys and values are."""
        return cast("TorchSlab", self.slot.slab)


class Step:
    """The sequences of one forward pass.

    Args:
        groups: rows that have one token each in this step, and how many; their tokens come first.
        spans: the tokens of other sequences: how many, and where their past is.
        positions: of each token in its sequence, [tokens].
        heads: of keys and values.
    """

    def __init__(
        self,
        groups: Sequence[tuple[Rows, int]],
        spans: Sequence[tuple[Slot, int]],
        positions: torch.Tensor,
        heads: int,
    ) -> None:
        self.positions = positions
        self._heads = heads
        self._groups: list[tuple[Rows, int, int]] = []
        self._spans: list[Span] = []
        place = 0
        for rows, count in groups:
            self._groups.append((rows, place, place + count))
            place += count
        for slot, count in spans:
            self._spans.append(Span(slot, place, place + count))
            place += count
        rows = groups[0][0] if groups else self._spans[0].slab
        self._visible = rows.keys[0].new_zeros(())
        self._hidden = rows.keys[0].new_full((), float("-inf"))
        self._targets = self._find_targets()
        self._masks: dict[tuple[int, int | None], torch.Tensor] = {}

    @classmethod
    def of(cls, slabs: Sequence[TorchSlab], spans: Sequence[tuple[Slot, int]] = ()) -> Step:
        """A step of one token for each used row of slabs, and of spans, after what they have."""
        positions = [slot.length for slab in slabs for slot in slab.slots]
        for slot, count in spans:
            positions += range(slot.length, slot.length + count)
        layout = (slabs[0] if slabs else spans[0][0].slab).layout
        return cls(
            [(slab, len(slab.slots)) for slab in slabs],
            spans,
            torch.tensor(positions, device=layout.device),
            layout.heads,
        )

    def _find_targets(self) -> list[tuple[Rows, int, int, torch.Tensor]]:
        """For each part: which tokens go where, of the rows' [rows * heads * capacity]."""
        head = torch.arange(self._heads, device=self.positions.device)
        targets = []
        for rows, start, end in self._groups:
            row = torch.arange(end - start, device=self.positions.device)
            base = (row[:, None] * self._heads + head) * (rows.columns[-1] + 1)
            targets.append((rows, start, end, (base + self.positions[start:end, None]).flatten()))
        for span in self._spans:
            slab = span.slab
            base = (span.slot.row * self._heads + head) * slab.capacity
            places = base + self.positions[span.start : span.end, None]
            targets.append((slab, span.start, span.end, places.flatten()))
        return targets

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float,
        window: int | None = None,
    ) -> torch.Tensor:
        """Keep keys and values, and attend.

        Args:
            query: [tokens, query heads, head size].
            key, value: [tokens, heads, head size].
            window: how many tokens a token sees, itself included; None for all before it.

        Returns:
            [tokens, query heads * head size].
        """
        size = query.shape[-1]
        for rows, start, end, places in self._targets:
            rows.flat_keys[layer].index_copy_(0, places, key[start:end].reshape(-1, size))
            rows.flat_values[layer].index_copy_(0, places, value[start:end].reshape(-1, size))
        parts = [
            self._attend_rows(number, layer, query, scaling, window)
            for number in range(len(self._groups))
        ]
        parts += [self._attend_span(span, layer, query, scaling, window) for span in self._spans]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _attend_rows(
        self, number: int, layer: int, query: torch.Tensor, scaling: float, window: int | None
    ) -> torch.Tensor:
        """One token for each row of a slab; the query heads of a key's head are its queries."""
        rows, start, end = self._groups[number]
        count = (end - start) * self._heads
        queries = query[start:end].reshape(count, -1, query.shape[-1])
        mask = self._mask(number, start, end, rows.columns, window)
        keys, values = rows.keys[layer][:count], rows.values[layer][:count]
        return _attention(queries, keys, values, mask, scaling).view(end - start, -1)

    def _attend_span(
        self, span: Span, layer: int, query: torch.Tensor, scaling: float, window: int | None
    ) -> torch.Tensor:
        count, size = span.end - span.start, query.shape[-1]
        queries = query[span.start : span.end].unflatten(1, (self._heads, -1))
        groups = queries.shape[2]
        queries = queries.transpose(0, 1).reshape(self._heads, count * groups, size)
        mask = self._span_mask(span, groups, window)
        slot = span.slot
        out = _attention(queries, slot.keys(layer), slot.values(layer), mask, scaling)
        return out.view(self._heads, count, -1).transpose(0, 1).reshape(count, -1)

    def _mask(
        self, number: int, start: int, end: int, columns: torch.Tensor, window: int | None
    ) -> torch.Tensor:
        """[rows * heads, 1, capacity]"""
        mask = self._masks.get((number, window))
        if mask is None:
            mask = self._find_mask(start, end, columns, window)
            mask = mask.repeat_interleave(self._heads, 0).unsqueeze(1)
            self._masks[number, window] = mask
        return mask

    def _span_mask(self, span: Span, groups: int, window: int | None) -> torch.Tensor:
        """[1, tokens * groups, capacity]"""
        key = (span.start + len(self._groups), window)
        mask = self._masks.get(key)
        if mask is None:
            mask = self._find_mask(span.start, span.end, span.slab.columns, window)
            mask = mask.repeat_interleave(groups, 0).unsqueeze(0)
            self._masks[key] = mask
        return mask

    def _find_mask(
        self, start: int, end: int, columns: torch.Tensor, window: int | None
    ) -> torch.Tensor:
        """[tokens, capacity]: 0 where a token sees another, -inf elsewhere."""
        position = self.positions[start:end, None]
        hidden = columns > position
        if window is not None:
            hidden = hidden | (columns <= position - window)
        return torch.where(hidden, self._hidden, self._visible)


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    """softmax(scaling * query keyᵀ + mask) value, over a batch of matrices."""
    scores = torch.baddbmm(mask, query, key.transpose(1, 2), alpha=scaling)
    return torch.bmm(scores.softmax(-1), value)


@contextmanager
def running(step: Step) -> Iterator[None]:
    """Have attention of this thread work on a step."""
    _thread.step = step
    try:
        yield
    finally:
        _thread.step = None


def current() -> Step | None:
    """The step of this thread."""
    return getattr(_thread, "step", None)


class StepCache:
    """The cache that a model is given during a step. The `Step` keeps keys and values itself."""

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the new keys and values alone; attention finds the earlier ones in the step."""
        return key, value

    def get_seq_length(self, *_: Any, **__: Any) -> int:
        return 0


_NO_EFFECT = {"dropout", "output_attentions", "is_causal", "use_cache", "position_ids"}


def interface(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers' models call it: [1, heads, tokens, head size]."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    step = current()
    if step is None:
        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask,
            scaling=scaling, sliding_window=sliding_window, **options,
        )  # fmt: skip
        return out, None
    for name, option in options.items():
        if option is not None and name not in _NO_EFFECT:
            raise Unsupported(name)
    out = step.attend(
        module.layer_idx,
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        query.shape[-1] ** -0.5 if scaling is None else scaling,
        sliding_window,
    )
    return out.view(1, query.shape[2], query.shape[1], -1), None


def register() -> None:
    """Make it known to transformers. Idempotent."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(NAME, interface)
    AttentionMaskInterface.register(NAME, sdpa_mask)
