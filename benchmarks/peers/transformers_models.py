"""What the peers on transformers share: loading, and the best number of threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, GenerationConfig, StoppingCriteria
from transformers.utils import logging

from peers.protocol import PeerSettings, Request

_TRIAL = Request([1] * 32, "", 24)


def load(settings: PeerSettings, **options: Any) -> Any:
    """A causal model in the precision that was asked for, on its device."""
    logging.set_verbosity_error()
    torch.set_num_threads(settings.threads)
    model = AutoModelForCausalLM.from_pretrained(
        settings.folder, dtype=getattr(torch, settings.precision), **options
    )
    # Lengths are exact: nothing ends a text before.
    model.generation_config.eos_token_id = None
    return model.to(settings.device).eval()


def versions() -> dict[str, str]:
    return {"version": transformers.__version__, "torch": torch.__version__}


def generate(model: Any, requests: Sequence[Request], on_token: Callable[[int, int], None]) -> None:
    """Carry out requests of one shape as one batch."""
    ids = torch.tensor([request.prompt for request in requests], device=model.device)
    first = requests[0]
    drawn = {"do_sample": True, "temperature": first.temperature, "top_k": 50, "top_p": 0.9}
    config = GenerationConfig(
        max_new_tokens=first.tokens,
        pad_token_id=0,
        **(drawn if first.temperature is not None else {"do_sample": False}),
    )
    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        generation_config=config,
        stopping_criteria=[_Watch(on_token)],
    )


class _Watch(StoppingCriteria):  # type: ignore[misc]
    def __init__(self, on_token: Callable[[int, int], None]) -> None:
        self._on_token = on_token

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        for place, id in enumerate(input_ids[:, -1].tolist()):
            self._on_token(place, id)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def choose_threads(model: Any, most: int, batch: int = 1) -> int:
    """Set torch to the number of threads, up to ``most``, with which a trial is quickest."""
    if model.device.type != "cpu":
        return most
    taken = {}
    for count in range(1, most + 1):
        torch.set_num_threads(count)
        taken[count] = min(_seconds(model, batch) for _ in range(3))
    best = min(taken, key=taken.__getitem__)
    torch.set_num_threads(best)
    return best


def _seconds(model: Any, batch: int) -> float:
    started = time.perf_counter()
    generate(model, [_TRIAL] * batch, lambda *_: None)
    return time.perf_counter() - started
