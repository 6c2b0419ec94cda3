"""How much weights in few bits change what a model says: ours, and llama.cpp's own formats.

    .venv/bin/python benchmarks/quality.py
    .venv/bin/python benchmarks/quality.py --types Q8_0,Q4_K_M,Q4_0,IQ4_NL --texts 300

On texts of the kind that the bundled model was trained on, which it has not seen. Each token's
probabilities are compared with those of the model in float32, by transformers: the mean KL
divergence, with its standard error over texts, that of the hundredth worst token, and how often
the likeliest token is the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

from corpus.documents import documents
from peers import processes, weights
from tokenizers import Tokenizer

from modelcompose_jupyter.models import ModelSpec
from modelcompose_jupyter.models.engine.native_runner import NativeRunner
from modelcompose_jupyter.models.weights import loader
from modelcompose_jupyter.models.weights.source import ResolvedSource

_SEED = 31
"""Of texts; the training has others."""
_LONGEST = 400
"""Tokens of a text."""


def log_probabilities(scores: np.ndarray) -> np.ndarray:
    wide = scores.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    found: np.ndarray = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    return found


def by_transformers(folder: str, texts: Sequence[list[int]]) -> np.ndarray:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        return np.concatenate([model(torch.tensor([text])).logits[0].numpy() for text in texts])


def by_us(
    folder: str, texts: Sequence[list[int]], quantization: Any = None, cache: Any = None
) -> np.ndarray:
    spec = ModelSpec(folder, driver="native", quantization=quantization, cache_quantization=cache)
    planned = loader.plan(spec, ResolvedSource(Path(folder)), lambda progress: None)
    loaded = loader.load(planned, lambda progress: None)
    runner = NativeRunner(loaded.decoder, None)
    found = []
    for text in texts:
        slot = runner.cache.open(len(text))
        found.append(runner.forward(text, range(len(text)), [], [(slot, len(text))]))
        runner.cache.close(slot)
    return np.concatenate(found)


def by_llama_cpp(
    folder: str, precision: str, types: str, texts: Sequence[list[int]], work: Path
) -> dict[str, np.ndarray]:
    python = processes.environment(processes.PEERS["llama.cpp"], work / "venvs")
    script = Path(__file__).parent / "peers" / "llama_cpp" / "scores.py"
    with tempfile.TemporaryDirectory() as made:
        given = Path(made) / "texts.json"
        given.write_text(json.dumps(texts))
        line = [str(python), str(script), folder, precision, types, str(given), made]
        variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        subprocess.run(line, check=True, env=variables)
        return {name: np.load(Path(made) / f"{name}.npy") for name in types.split(",")}


def figures(
    name: str, wanted: np.ndarray, scores: np.ndarray, lengths: Sequence[int]
) -> tuple[float, str]:
    """The mean KL divergence, and a line that says all."""
    found = log_probabilities(scores)
    of_tokens = (np.exp(wanted) * (wanted - found)).sum(-1)
    of_texts = [each.mean() for each in np.split(of_tokens, np.cumsum(lengths)[:-1])]
    error = np.std(of_texts) / len(of_texts) ** 0.5
    same = (wanted.argmax(-1) == found.argmax(-1)).mean()
    mean, worst = float(of_tokens.mean()), np.quantile(of_tokens, 0.99)
    return mean, f"{name:<16} {mean:9.2e} ± {error:.1e}  {worst:9.2e}  {same:7.2%}"


@click.command()
@click.option("--types", default="F32,Q8_0,Q4_K_M,Q4_0,IQ4_NL", help="Of llama.cpp.")
@click.option("--texts", "count", default=100, help="How many.")
@click.option(
    "--folder", "work", type=Path, default=Path(tempfile.gettempdir()) / "modelcompose-benchmark",
    help="Of models.",
)  # fmt: skip
def main(types: str, count: int, work: Path) -> None:
    """KL divergences to the model in float32."""
    folder = str(weights.folder_of(weights.BUNDLED, "float32", work))
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    told = (each.text for each in documents(seed=_SEED, count=count, stage=2))
    texts = [tokenizer.encode(text).ids[:_LONGEST] for text in told]
    lengths = [len(each) for each in texts]
    wanted = log_probabilities(by_transformers(folder, texts))
    found = {
        "ours float32": by_us(folder, texts),
        "cache int8": by_us(folder, texts, cache="int8"),
        "ours int8": by_us(folder, texts, "int8"),
        "ours int4": by_us(folder, texts, "int4"),
        "int4, cache int8": by_us(folder, texts, "int4", "int8"),
        **by_llama_cpp(folder, "float32", types, texts, work),
    }
    print(f"{sum(lengths)} tokens of {len(texts)} texts")
    print(f"{'':<16} KL divergence         hundredth worst  same likeliest")
    means = {}
    for name, scores in found.items():
        means[name], line = figures(name, wanted, scores, lengths)
        print(line)
    for ours, theirs in (("ours int8", "Q8_0"), ("ours int4", "Q4_K_M")):
        if theirs in means:
            print(f"{ours} over {theirs}: {means[ours] / means[theirs]:.2f}")


if __name__ == "__main__":
    main()
