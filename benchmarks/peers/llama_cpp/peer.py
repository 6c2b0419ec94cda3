"""llama.cpp's library, driven as its server does: slots that share each step.

A step takes the next token of every slot that generates, then tokens of prompts up to the size of
a batch. A slot keeps what it has read; a prompt goes to the slot with the longest common beginning.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from peers.llama_cpp.convert import convert
from peers.llama_cpp.quantise import quantised
from peers.protocol import PeerSettings, Request, SteppingEngine, serve

_SLOTS = 16
_SLOT_TOKENS = 4352
_BATCH, _MICRO_BATCH = 2048, 512  # llama-server's own
_TOP_K, _TOP_P = 50, 0.9
_ERROR = 4


@dataclass
class Slot:
    """A sequence in the cache.

    Attributes:
        cached: the tokens that are in it.
        number: of the request that has the slot, or None.
        pending: tokens of it that are not in the cache yet.
    """

    id: int
    cached: list[int] = field(default_factory=list)
    number: int | None = None
    request: Request | None = None
    pending: list[int] = field(default_factory=list)
    generated: int = 0


class LlamaCpp(SteppingEngine):
    def load(self, settings: PeerSettings) -> dict[str, Any]:
        llama_cpp.llama_backend_init()
        file = settings.cache / "model.gguf"
        if not file.exists():
            convert(settings.folder, settings.precision, file)
        if (type := settings.options.get("quantization")) is not None:
            file = quantised(file, type)
        self._context = _context(file, settings.threads)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._vocabulary = llama_cpp.llama_vocab_n_tokens(
            llama_cpp.llama_model_get_vocab(llama_cpp.llama_get_model(self._context))
        )
        self._batch = llama_cpp.llama_batch_init(_BATCH, 0, 1)
        self._slots = [Slot(id) for id in range(_SLOTS)]
        self._waiting: deque[tuple[int, Request]] = deque()
        self._chance = np.random.default_rng(0)
        system = llama_cpp.llama_print_system_info().decode().strip()
        return {"version": f"llama-cpp-python {llama_cpp.__version__}", "system": system}

    def add(self, number: int, request: Request) -> None:
        self._waiting.append((number, request))

    def step(self) -> Iterable[tuple[int, int]]:
        self._seat()
        asked = self._fill()
        status = llama_cpp.llama_decode(self._context, self._batch)
        if status:
            raise RuntimeError(f"llama_decode gave {status}")
        return [self._take(slot, place) for slot, place in asked]

    def _seat(self) -> None:
        """Give waiting requests the slots that are free."""
        while self._waiting and (free := [s for s in self._slots if s.number is None]):
            number, request = self._waiting.popleft()
            slot = max(free, key=lambda s: _common(s.cached, request.prompt))
            kept = min(_common(slot.cached, request.prompt), len(request.prompt) - 1)
            llama_cpp.llama_memory_seq_rm(self._memory, slot.id, kept, -1)
            slot.cached = request.prompt[:kept]
            slot.pending = request.prompt[kept:]
            slot.number, slot.request, slot.generated = number, request, 0

    def _fill(self) -> list[tuple[Slot, int]]:
        """Fill the batch; gives the slots that get a token and where its logits will be."""
        self._batch.n_tokens = 0
        asked = []
        going = [slot for slot in self._slots if slot.number is not None]
        for slot in sorted(going, key=lambda s: s.generated == 0):
            taken = slot.pending[: _BATCH - self._batch.n_tokens]
            slot.pending = slot.pending[len(taken) :]
            for id in taken:
                self._put(slot, id)
            if taken and not slot.pending:
                last = self._batch.n_tokens - 1
                self._batch.logits[last] = True
                asked.append((slot, last))
        return asked

    def _put(self, slot: Slot, id: int) -> None:
        place = self._batch.n_tokens
        self._batch.token[place] = id
        self._batch.pos[place] = len(slot.cached)
        self._batch.n_seq_id[place] = 1
        self._batch.seq_id[place][0] = slot.id
        self._batch.logits[place] = False
        self._batch.n_tokens += 1
        slot.cached.append(id)

    def _take(self, slot: Slot, place: int) -> tuple[int, int]:
        assert slot.request is not None and slot.number is not None
        pointer = llama_cpp.llama_get_logits_ith(self._context, place)
        id = self._choose(np.ctypeslib.as_array(pointer, (self._vocabulary,)), slot.request)
        number = slot.number
        slot.pending = [id]
        slot.generated += 1
        if slot.generated == slot.request.tokens:
            slot.number = slot.request = None
            slot.pending = []
        return number, id

    def _choose(self, logits: Any, request: Request) -> int:
        if request.temperature is None:
            return int(logits.argmax())
        best = np.argpartition(logits, -_TOP_K)[-_TOP_K:]
        best = best[np.argsort(-logits[best])]
        shares = np.exp((logits[best] - logits[best[0]]).astype(np.float64) / request.temperature)
        shares /= shares.sum()
        kept = int(np.searchsorted(shares.cumsum(), _TOP_P)) + 1
        return int(self._chance.choice(best[:kept], p=shares[:kept] / shares[:kept].sum()))


def _context(file: Path, threads: int) -> Any:
    model_options = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(str(file).encode(), model_options)
    if not model:
        raise RuntimeError("llama.cpp cannot load the converted model")
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = _SLOTS * _SLOT_TOKENS
    options.n_seq_max = _SLOTS
    options.n_batch, options.n_ubatch = _BATCH, _MICRO_BATCH
    options.n_threads = options.n_threads_batch = threads
    options.kv_unified = False
    context = llama_cpp.llama_init_from_model(model, options)
    if not context:
        raise RuntimeError("llama.cpp cannot make a context")
    return context


def _common(left: list[int], right: list[int]) -> int:
    """How many tokens at the beginning are the same."""
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _only_errors(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    if level == _ERROR:
        print(text.decode(errors="replace"), end="")


llama_cpp.llama_log_set(_only_errors, ctypes.c_void_p(0))
serve(LlamaCpp())
