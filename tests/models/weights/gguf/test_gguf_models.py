"""Models in GGUF, next to the folders that they were made from: the same weights, tokens, texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from standins import gguf_files, tiny_models

from modelcompose_jupyter.models import ModelCache, ModelSpec

from ...conftest import ask, done

FAMILIES = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {},
    "smollm3": {},
    "phi3": {},
    "lfm2": {"block_multiple_of": 256},
    "gemma3_text": {
        "query_pre_attn_scalar": 8, "layer_types": None, "num_hidden_layers": 7,
        "tie_word_embeddings": True,
    },
}  # fmt: skip


def texts_of(cache: ModelCache, source: Path, **spec: Any) -> list[str]:
    with done(cache.acquire(ModelSpec(str(source), driver="native", **spec))) as lease:
        drawn = ask(lease, "Once upon", seed=7, max_output_length=40)
        greedy = ask(lease, "A fox", do_sample=False, max_output_length=40)
        return [*drawn.texts, *greedy.texts]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_gives_the_same_texts_as_its_folder(
    cache: ModelCache, tmp_path: Path, family: str
) -> None:
    folder = tiny_models.save(tmp_path / "m", family, vectors=True, **FAMILIES[family])
    file = gguf_files.save(tmp_path / "m.gguf", folder)
    assert texts_of(cache, file) == texts_of(cache, folder)
