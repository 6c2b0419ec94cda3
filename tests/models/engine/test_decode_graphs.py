"""Recorded steps give what steps give."""

from __future__ import annotations

import pytest
import torch
from standins import tiny_models

from modelcompose_jupyter.models.engine import decode_graphs
from modelcompose_jupyter.models.engine.kv_cache import Slot
from modelcompose_jupyter.models.engine.torch_runner import TorchRunner


def prefilled(model: TorchRunner, prompt: list[int]) -> Slot:
    slot = model.cache.open(len(prompt) + 1)
    model.forward(prompt, [len(prompt) - 1], (), [(slot, len(prompt))])
    slot.length = len(prompt)
    model.cache.share(slot)
    return slot


ARCHITECTURES = (
    *("llama", "smollm3", "gpt2", "gpt_neo", "codegen", "qwen2", "qwen3", "gemma3_text", "mistral"),
    *("phi3", "gpt_neox", "gemma2", "gemma4_text", "mixtral", "olmo2"),
)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.inference_mode()
def test_replayed_steps_give_what_steps_give(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_graphs, "_SEEN", 3)
    plain, graphed = (
        TorchRunner(tiny_models.make(architecture), torch.device("cpu"), None) for _ in range(2)
    )
    plain._graphs = None
    assert graphed._graphs is not None
    prompts = [[5, 9, 30], list(range(3, 60)), [7] * 20, list(range(20, 130))[:80], [8, 4]]
    slots = [[prefilled(model, prompt) for prompt in prompts] for model in (plain, graphed)]
    for token in range(40):  # some outgrow their slab on the way, and one leaves
        if token == 20:
            for model, its in zip((plain, graphed), slots, strict=True):
                model.cache.close(its.pop(2))
        scores = []
        for model, its in zip((plain, graphed), slots, strict=True):
            for slot in its:
                model.cache.reserve(slot, slot.length + 1)
            rows = [slot for slab in model.cache.slabs for slot in slab.slots]
            scores.append(
                model.forward([token + 3] * len(rows), range(len(rows)), model.cache.slabs)
            )
            order = [rows.index(slot) for slot in its]
            scores[-1] = scores[-1][order]
            for slot in its:
                slot.length += 1
        torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-4)
    recorded = graphed._graphs._recorded
    assert len(recorded) >= 2
    assert all(replay is not None for replay in recorded.values())
