"""Steps in C."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from ..native.decoder import Decoder, token_array
from ..native.parts import Parts
from ..native.threads import usual_threads
from .kv_cache import KVCache, Slab, Slot
from .native_sampler import NativeSampler
from .native_slab import NativeSlab


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
        layout = parts.kept_layout
        self.cache = KVCache(
            layout, lambda capacity, rows: NativeSlab(layout, capacity, rows), budget, apart=True
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
        all_spans = [*((slot, 1) for slab in slabs for slot in slab.slots), *spans]
        scores = self._decoder.step(self._tokens(tokens, all_spans), wanted, self.threads)
        for slot, count in all_spans:
            _slab_of(slot).seen = slot.length + count
        return scores

    def _tokens(self, tokens: Sequence[int], spans: Iterable[tuple[Slot, int]]) -> np.ndarray:
        given = token_array(len(tokens))
        place = 0
        for slot, count in spans:
            slab = _slab_of(slot)
            if not self.cache.cuts and slot.length and slab.seen != slot.length:
                raise RuntimeError(f"a state of {slab.seen} tokens is not that of {slot.length}")
            part = given[place : place + count]
            part["kept"], part["capacity"] = slab.memory.ctypes.data, slab.capacity
            part["position"] = range(slot.length, slot.length + count)
            place += count
        given["id"] = tokens
        return given

    def sampler(self) -> NativeSampler:
        """See `Runner.sampler`."""
        return NativeSampler(self.vocabulary)

    def inference(self) -> AbstractContextManager[None]:
        """See `Runner.inference`."""
        return nullcontext()


def _slab_of(slot: Slot) -> NativeSlab:
    assert isinstance(slot.slab, NativeSlab)
    return slot.slab
