"""transformers' own continuous batching, with its paged cache."""

from __future__ import annotations

import threading
import time
from typing import Any

import torch
from peers import transformers_models
from peers.protocol import CallingEngine, PeerSettings, Request, Timeline, serve
from transformers import ContinuousBatchingConfig, GenerationConfig

_PAGE = 256
_PAGES = 128  # for 32,768 tokens; left to itself it takes more than half of the memory
_ATTENTION = ("sdpa", "paged|eager")


class ContinuousBatching(CallingEngine):
    """Takes the most likely token at every temperature: it has one setting for all requests."""

    def load(self, settings: PeerSettings) -> dict[str, Any]:
        taken = {}
        for attention in _ATTENTION:
            self._start(settings, attention)
            taken[attention] = self._trial()
            self._manager.stop(block=True)
        best = min(taken, key=taken.__getitem__)
        self._start(settings, best)
        return {**transformers_models.versions(), "attention": best, "trial_seconds": taken}

    def submit(self, number: int, request: Request, timeline: Timeline) -> None:
        self._timeline = timeline
        self._work = getattr(self, "_work", 0) + (number == 0)
        self._manager.add_request(
            request.prompt,
            request_id=f"{self._work}/{number}",
            max_new_tokens=request.tokens,
            streaming=True,
        )

    def _start(self, settings: PeerSettings, attention: str) -> None:
        model = transformers_models.load(settings, attn_implementation=attention)
        self._manager = model.init_continuous_batching(
            generation_config=GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0),
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=_PAGE, num_blocks=_PAGES, auto_switch_to_flash=False
            ),
        )
        self._manager.warmup()
        self._manager.start()
        threading.Thread(target=self._listen, args=[self._manager], daemon=True).start()

    def _trial(self) -> float:
        timeline = Timeline([Request([1] * 32, "", 16)] * 2)
        started = time.perf_counter()
        self.run(timeline)
        return time.perf_counter() - started

    def _listen(self, manager: Any) -> None:
        told: dict[str, int] = {}
        for output in manager:
            number = int(output.request_id.rpartition("/")[2])
            if output.error is not None:
                self._timeline.fail(RuntimeError(output.error))
                continue
            before = told.get(output.request_id, 0)
            told[output.request_id] = len(output.generated_tokens)
            for id in output.generated_tokens[before:]:
                self._timeline.token(number, int(id))


torch.set_grad_enabled(False)
serve(ContinuousBatching())
