"""Steps in C."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ..native import numbers
from ..native.decoder import Decoder, token_array
from ..native.parts import Parts
from ..native.threads import usual_threads
from .kv_cache import Array, KVCache, Layout, Slab, Slot
from .native_sampler import NativeSampler


class NativeRunner:
    """A `Runner` whose steps are one call each, without torch.

    Args:
        parts: of the decoder.
        budget: of keys and values, in bytes.
        owner: what must live as long: a model whose weights these are.
    """

    def __init__(self, parts: Parts, budget: int | None, owner: object = None) -> None:
        self._owner = owner
        self._decoder = Decoder(parts)
        self.vocabulary = self._decoder.vocabulary
        dtype = numbers.dtype(parts.kept_kind)
        layout = Layout(
            layers=len(parts.layers),
            heads=parts.key_heads,
            head_size=parts.head_size,
            itemsize=dtype.itemsize,
            device="cpu",
        )
        self.cache = KVCache(
            layout,
            lambda capacity, rows: Slab(
                layout, capacity, rows, lambda shape: np.empty(shape, dtype)
            ),
            budget,
            apart=True,
        )
        self.most_threads = self.threads = usual_threads()

    def forward(
        self,
        tokens: Sequence[int],
        wanted: Sequence[int],
        slabs: Sequence[Slab] = (),
        spans: Sequence[tuple[Slot, int]] = (),
    ) -> np.ndarray:
        """See `Runner.forward`; the scores are float32."""
        return self._decoder.step(self._tokens(tokens, slabs, spans), wanted, self.threads)

    def _tokens(
        self, tokens: Sequence[int], slabs: Iterable[Slab], spans: Iterable[tuple[Slot, int]]
    ) -> np.ndarray:
        given = token_array(len(tokens))
        place = 0
        for slot, count in [*((slot, 1) for slab in slabs for slot in slab.slots), *spans]:
            data: Any = slot.slab.data
            layer, to_values, row, head, _, _ = data.strides
            part = given[place : place + count]
            part["row"] = data.ctypes.data + slot.row * row
            for name, stride in (
                ("layer_size", layer), ("to_values", to_values), ("head_stride", head),
            ):  # fmt: skip
                part[name] = stride // data.itemsize
            part["position"] = range(slot.length, slot.length + count)
            place += count
        given["id"] = tokens
        return given

    def sampler(self) -> NativeSampler:
        """See `Runner.sampler`."""
        return NativeSampler(self.vocabulary)

    def kept(self, data: Array) -> Array:
        """See `Runner.kept`: each slot has a slab of its own, which nobody else gets."""
        return data

    def inference(self) -> AbstractContextManager[None]:
        """See `Runner.inference`."""
        return nullcontext()
