"""Attention for a step of many sequences, each with keys and values of its own.

The tokens of all sequences are one input without padding, [1, tokens], on which every other part of
the model works as it is. Attention alone must know which sequence a token belongs to. The `Step`
says that; it is set for the thread that runs it. Without a step, a model has its own attention.

A model asks transformers for its masks and its attention, and gets both from here: a mask as the
rule that transformers would have drawn it by (`Mask`), and attention over each sequence's own keys.

It is written out in matrix products, which give a token the same bits however many others there
are, as far as the processor's kernels do. Ready-made attention kernels do not.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch.nn import functional

from .kv_cache import Slot
from .runner import Unsupported
from .torch_slab import Rows, TensorLayout, TorchSlab

_NAME = "modelcompose"
"""Under which transformers knows it, as an attention implementation."""

_thread = threading.local()


class Mask:
    """Which tokens a token sees, as transformers says it: a rule about positions.

    Args:
        rule: takes numbers of a batch, heads, queries' and keys' positions; gives booleans. All
            are tensors of [batch, heads, queries, keys], or of 1 where all are alike.
    """

    def __init__(self, rule: Callable[..., torch.Tensor]) -> None:
        self._rule = rule

    def visible(self, positions: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Whether tokens at positions [rows, tokens] see those at columns [columns].

        Returns:
            Booleans, [rows, tokens, columns].
        """
        none = positions.new_zeros((1, 1, 1, 1))
        query, key = positions[:, None, :, None], columns[None, None, None, :]
        # Broadcast by what is always true, since a recorded step has other numbers of columns.
        seen = self._rule(none, none, query, key) & (query >= 0) & (key >= 0)
        return seen[:, 0]


CAUSAL = Mask(lambda batch, head, query, key: key <= query)
"""A token sees itself, and all before it."""

OwnAttention = Callable[..., torch.Tensor]
"""A model's own function, for attention that is more than a softmax of scaled products.

From queries [rows, query heads, tokens, size], keys and values [rows, heads, columns, size], and
what is added to scores [rows, 1, tokens, columns], to [rows, tokens, query heads, size].
"""


class AnyStep(Protocol):
    """What a model's masks and attention are asked of while it makes a step.

    Attributes:
        asks_own: whether it has the model attend by a function of its own in any case.
    """

    asks_own: bool

    def mask(self, rule: Callable[..., torch.Tensor], dtype: torch.dtype) -> Any:
        """What attention is given as its mask."""

    def attend_all(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float,
        mask: Any,
        own: OwnAttention | None,
    ) -> torch.Tensor:
        """From [batch, heads, tokens, size] to [batch, tokens, query heads, size]."""


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
        layout: of the rows.
    """

    asks_own = False

    def __init__(
        self,
        groups: Sequence[tuple[Rows, int]],
        spans: Sequence[tuple[Slot, int]],
        positions: torch.Tensor,
        layout: TensorLayout,
    ) -> None:
        self.positions = positions
        self._heads, self._size = layout.heads, layout.head_size
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
        self._masks: dict[tuple[int, Mask, int | None], torch.Tensor] = {}

    @classmethod
    def of(cls, slabs: Sequence[TorchSlab], spans: Sequence[tuple[Slot, int]] = ()) -> Step:
        """A step of one token for each used row of slabs, and of spans, after what they have."""
        positions = [slot.length for slab in slabs for slot in slab.slots]
        for slot, count in spans:
            positions += range(slot.length, slot.length + count)
        layout = (slabs[0] if slabs else cast("TorchSlab", spans[0][0].slab)).layout
        return cls(
            [(slab, len(slab.slots)) for slab in slabs],
            spans,
            torch.tensor(positions, device=layout.device),
            layout,
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

    def mask(self, rule: Callable[..., torch.Tensor], dtype: torch.dtype) -> Mask:
        """See `AnyStep`: the rule itself, which each sequence applies to its own positions."""
        return Mask(rule)

    def attend_all(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float,
        mask: Any,
        own: OwnAttention | None,
    ) -> torch.Tensor:
        """See `AnyStep`; of a batch of one.

        Raises:
            Unsupported: the model draws masks by itself.
        """
        if not (mask is None or isinstance(mask, Mask)):
            raise Unsupported("it draws the masks of its attention by itself")
        queries, keys, values = (each[0].transpose(0, 1) for each in (query, key, value))
        out = self.attend(layer, queries, keys, values, scaling, mask or CAUSAL, own)
        return out.view(1, query.shape[2], query.shape[1], -1)

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float,
        mask: Mask,
        own: OwnAttention | None = None,
    ) -> torch.Tensor:
        """Keep keys and values, and attend.

        Args:
            query: [tokens, query heads, head size].
            key, value: [tokens, heads, head size]; of fewer heads or a smaller size than the
                layout's where layers differ.
            own: attends to each sequence by itself, if not None.

        Returns:
            [tokens, query heads * head size of the values].
        """
        sizes = _Sizes(key.shape[1], key.shape[2], value.shape[2])
        key, value = (self._fitted(each) for each in (key, value))
        for rows, start, end, places in self._targets:
            for flat, new in ((rows.flat_keys, key), (rows.flat_values, value)):
                flat[layer].index_copy_(0, places, new[start:end].reshape(-1, self._size))
        if own is None and query.shape[-1] < self._size:
            query = functional.pad(query, (0, self._size - query.shape[-1]))
        parts = []
        for number, (rows, start, end) in enumerate(self._groups):
            count = (end - start) * self._heads
            found = rows.keys[layer][:count], rows.values[layer][:count]
            part = _Part(number, start, end, end - start, rows.columns)
            parts.append(self._attend_part(part, query, found, scaling, mask, own, sizes))
        for number, span in enumerate(self._spans, len(self._groups)):
            found = span.slab.attended(layer, span.slot.row)
            part = _Part(number, span.start, span.end, 1, span.slab.columns)
            parts.append(self._attend_part(part, query, found, scaling, mask, own, sizes))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _fitted(self, new: torch.Tensor) -> torch.Tensor:
        """Keys or values as the layout has them: heads repeated, and their ends filled with 0."""
        if new.shape[1] != self._heads:
            new = new.repeat_interleave(self._heads // new.shape[1], 1)
        if new.shape[2] != self._size:
            new = functional.pad(new, (0, self._size - new.shape[2]))
        return new

    def _attend_part(
        self,
        part: _Part,
        query: torch.Tensor,
        found: tuple[torch.Tensor, torch.Tensor],
        scaling: float,
        mask: Mask,
        own: OwnAttention | None,
        sizes: _Sizes,
    ) -> torch.Tensor:
        """Tokens of some rows, as many of each; ``found`` is [rows * heads, capacity, size]."""
        queries = query[part.start : part.end].unflatten(0, (part.rows, -1))
        tokens, heads = queries.shape[1], queries.shape[2]
        keys, values = found
        if own is not None:
            step = self._heads // sizes.heads
            keys, values = (each.unflatten(0, (part.rows, -1))[:, ::step] for each in found)
            keys, values = keys[..., : sizes.key], values[..., : sizes.value]
            added = self._mask(part, mask, None).unsqueeze(1)
            return own(queries.transpose(1, 2), keys, values, added).reshape(part.rows * tokens, -1)
        # The query heads of a key's head are its queries.
        groups = heads // self._heads
        queries = queries.unflatten(2, (self._heads, groups)).transpose(1, 2)
        queries = queries.reshape(part.rows * self._heads, tokens * groups, -1)
        out = _attention(queries, keys, values, self._mask(part, mask, groups), scaling)
        if sizes.value != self._size:
            out = out[..., : sizes.value]
        out = out.unflatten(0, (part.rows, -1)).unflatten(2, (tokens, groups))
        return out.transpose(1, 2).reshape(part.rows * tokens, -1)

    def _mask(self, part: _Part, mask: Mask, groups: int | None) -> torch.Tensor:
        """What is added to scores: 0 where a token sees another, -inf elsewhere.

        Returns:
            [rows * heads, tokens * groups, capacity], either of the first two 1 if it may be; or
            without groups [rows, tokens, capacity].
        """
        key = part.number, mask, groups
        found = self._masks.get(key)
        if found is None:
            positions = self.positions[part.start : part.end].view(part.rows, -1)
            seen = mask.visible(positions, part.columns)
            found = torch.where(seen, self._visible, self._hidden)
            if groups is not None and found.shape[1] > 1:
                found = found.repeat_interleave(groups, 1)
            if groups is not None and part.rows > 1:
                found = found.repeat_interleave(self._heads, 0)
            self._masks[key] = found
        return found


class _Part(NamedTuple):
    """Tokens of a step that attend together: as many of each of some rows."""

    number: int
    start: int
    end: int
    rows: int
    columns: torch.Tensor


class _Sizes(NamedTuple):
    """What a layer's keys and values are, where layers differ."""

    heads: int
    key: int
    value: int


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
def running(step: AnyStep, configs: Sequence[Any]) -> Iterator[None]:
    """Have models of these configs ask a step for masks and attention, on this thread.

    Before and after, and on other threads, they are as they were loaded.
    """
    own = [config._attn_implementation_internal for config in configs]
    _thread.step = step
    try:
        for config in configs:
            config._attn_implementation_internal = _NAME
        yield
    finally:
        for config, before in zip(configs, own, strict=True):
            config._attn_implementation_internal = before
        _thread.step = None


def current() -> Any:
    """The step of this thread, or None."""
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

    def get_query_offset(self, *_: Any, **__: Any) -> int:
        return 0

    def get_mask_sizes(self, query_length: int, *_: Any, **__: Any) -> tuple[int, int]:
        return query_length, 0

    def __getattr__(self, name: str) -> Any:
        if name in _NOT_THERE:
            raise AttributeError(name)
        raise Unsupported(f"it keeps a state besides keys and values ({name})")


_NOT_THERE = ("is_compileable", "is_initialized", "is_sliding")
"""What models ask whether a cache has it."""
_NO_EFFECT = {
    *("dropout", "output_attentions", "output_router_logits", "is_causal", "use_cache"),
    *("position_ids", "sliding_window"),
}
"""Options of attention that change nothing in a step; the mask has the window."""


def interface(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers' models call it: [batch, heads, tokens, head size]."""
    step: AnyStep = current()
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    effective = {
        name: option
        for name, option in options.items()
        if option is not None and name not in _NO_EFFECT
    }
    own = _own(module, scaling, effective) if effective or step.asks_own else None
    layer: int = module.layer_idx
    return step.attend_all(layer, query, key, value, scaling, attention_mask, own), None


def _own(module: Any, scaling: float, options: dict[str, Any]) -> OwnAttention:
    """The attention that a model has written out itself, for what ours does not know.

    Raises:
        Unsupported: it has none.
    """
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if eager is None:
        raise Unsupported(f"its attention has options: {', '.join(options)}")

    def attend(query: Any, key: Any, value: Any, added: Any) -> torch.Tensor:
        out: torch.Tensor = eager(module, query, key, value, added, scaling=scaling, **options)[0]
        return out

    return attend


def _mask(
    mask_function: Callable[..., torch.Tensor], dtype: torch.dtype = torch.float32, **_: Any
) -> Any:
    """A mask as transformers' models ask for it."""
    step: AnyStep = current()
    return step.mask(mask_function, dtype)


def register() -> None:
    """Make it known to transformers. Idempotent."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(_NAME, interface)
    AttentionMaskInterface.register(_NAME, _mask)
