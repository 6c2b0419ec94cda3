"""How much weights in few bits change what a model says: ours, and formats of other engines.

    .venv/bin/python benchmarks/quality.py run
    .venv/bin/python benchmarks/quality.py run --types Q8_0,Q4_K_M,Q4_0,IQ4_NL --texts 300
    .venv/bin/python benchmarks/quality.py plot benchmarks/results/engine-quantised.json

On texts of the kind that the bundled model was trained on, which it has not seen. Each token's
probabilities are compared with those of the model in float32, by transformers: the mean KL
divergence, with its standard error over texts, that of the hundredth worst token, and how often
the likeliest token is the same. The plot has it beside the speed, which `engine.py` measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

from corpus.documents import documents
from peers import machine, plots, weights
from peers.processes import PEERS, PeerError, environment, last_words
from peers.work import ONE_STREAM
from tokenizers import Tokenizer

from modelcompose_jupyter.models import ModelSpec
from modelcompose_jupyter.models.engine.native_runner import NativeRunner
from modelcompose_jupyter.models.weights import loader
from modelcompose_jupyter.models.weights.source import ResolvedSource

_HERE = Path(__file__).parent
_SEED = 31
"""Of texts; the training has others."""
_LONGEST = 400
"""Tokens of a text."""
_STORED = "float32"
"""The precision of the model's files."""
_MEASURED = "bfloat16"
"""The precision in which `engine.py` measures: that of names of peers without another one."""

# Formats by name, which is that of the peer where `engine.py` has one of it.
_OURS: dict[str, dict[str, Any]] = {
    "ours, float32": {},
    "ours, cache int8": {"cache_quantization": "int8"},
    "ours": {"precision": _MEASURED},
    "ours-int8": {"quantization": "int8"},
    "ours-int4": {"quantization": "int4"},
    "ours-int4, cache int8": {"quantization": "int4", "cache_quantization": "int8"},
}
_LLAMA_CPP = {"F32": "llama.cpp, float32", "BF16": "llama.cpp"}
_OPENVINO = {
    "openvino, float32": "float32",
    "openvino-cb": _MEASURED,
    "openvino-int8, float32": "int8-float32",
    "openvino-int8": f"int8-{_MEASURED}",
    "openvino-int4, float32": "int4-float32",
    "openvino-int4": f"int4-{_MEASURED}",
}

Texts = Sequence[list[int]]
Scores = Iterator[tuple[str, np.ndarray]]
"""Names of formats, and float32 [tokens of all texts, vocabulary] of each."""


@dataclass(frozen=True)
class Change:
    """How much a format changes what the model says.

    Attributes:
        divergence: the mean KL divergence of a token's probabilities, in nats.
        error: its standard error over texts.
        hundredth_worst: the divergence that one token in a hundred exceeds.
        same_likeliest: the share of tokens after which the likeliest one is the same.
    """

    name: str
    divergence: float
    error: float
    hundredth_worst: float
    same_likeliest: float

    @classmethod
    def of(
        cls, name: str, wanted: np.ndarray, scores: np.ndarray, lengths: Sequence[int]
    ) -> Change:
        """What scores say.

        Args:
            wanted: log probabilities, float64 [tokens of all texts, vocabulary].
            scores: of the same shape.
            lengths: tokens of each text.
        """
        found = log_probabilities(scores)
        of_tokens = (np.exp(wanted) * (wanted - found)).sum(-1)
        of_texts = [each.mean() for each in np.split(of_tokens, np.cumsum(lengths)[:-1])]
        return cls(
            name,
            float(of_tokens.mean()),
            float(np.std(of_texts) / len(of_texts) ** 0.5),
            float(np.quantile(of_tokens, 0.99)),
            float((wanted.argmax(-1) == found.argmax(-1)).mean()),
        )

    def __str__(self) -> str:
        return (
            f"{self.name:<24} {self.divergence:9.2e} ± {self.error:.1e}"
            f"  {self.hundredth_worst:9.2e}  {self.same_likeliest:7.2%}"
        )


def log_probabilities(scores: np.ndarray) -> np.ndarray:
    wide = scores.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    found: np.ndarray = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    return found


# Scores


def by_transformers(folder: Path, texts: Texts) -> np.ndarray:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        return np.concatenate([model(torch.tensor([text])).logits[0].numpy() for text in texts])


def by_us(folder: Path, texts: Texts) -> Scores:
    for name, options in _OURS.items():
        spec = ModelSpec(str(folder), driver="native", **options)
        planned = loader.plan(spec, ResolvedSource(folder), lambda progress: None)
        loaded = loader.load(planned, lambda progress: None)
        runner = NativeRunner(loaded.decoder, None)
        found = []
        for text in texts:
            slot = runner.cache.open(len(text))
            found.append(runner.forward(text, range(len(text)), [], [(slot, len(text))]))
            runner.cache.close(slot)
        yield name, np.concatenate(found)


def by_peer(
    peer: str, formats: Mapping[str, str], folder: Path, texts: Texts, venvs: Path
) -> Scores:
    """What a peer's ``scores.py`` gives.

    Args:
        formats: from our names to those that the script knows.

    Raises:
        PeerError: it cannot be installed, or failed.
    """
    python = environment(PEERS[peer], venvs)
    script = _HERE / "peers" / PEERS[peer].script / "scores.py"
    variables = {**os.environ, "PYTHONPATH": str(_HERE), "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as made:
        given = Path(made) / "texts.json"
        given.write_text(json.dumps(texts), "utf-8")
        line = [python, script, folder, _STORED, ",".join(formats.values()), given, made]
        done = subprocess.run(
            line, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise PeerError(f"ended: {last_words(done.stderr)}")
        for name, theirs in formats.items():
            yield name, np.load(Path(made) / f"{theirs}.npy")


# Commands


@click.group(help=__doc__)
def main() -> None: ...


@main.command()
@click.option("--types", default="F32,BF16,Q8_0,Q4_K_M,Q4_0,IQ4_NL", help="Of llama.cpp.")
@click.option("--texts", "count", default=100, help="How many.")
@click.option(
    "--folder", "work", type=Path, default=Path(tempfile.gettempdir()) / "modelcompose-benchmark",
    help="Of models and environments.",
)  # fmt: skip
@click.option(
    "--output", type=Path, default=_HERE / "results" / "quality.json",
    show_default="benchmarks/results/quality.json",
)  # fmt: skip
def run(types: str, count: int, work: Path, output: Path) -> None:
    """KL divergences to the model in float32: a table, and as JSON."""
    venvs = work.resolve() / "venvs"
    folder = weights.folder_of(weights.BUNDLED, _STORED, work)
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    told = (each.text for each in documents(seed=_SEED, count=count, stage=2))
    texts = [tokenizer.encode(text).ids[:_LONGEST] for text in told]
    lengths = [len(each) for each in texts]
    wanted = log_probabilities(by_transformers(folder, texts))
    llama_cpp = {
        _LLAMA_CPP.get(type, f"llama.cpp-{type.lower()}"): type for type in types.split(",")
    }
    print(f"{sum(lengths)} tokens of {len(texts)} texts")
    print(f"{'':<24} KL divergence         hundredth worst  same likeliest")
    changes: dict[str, Change] = {}
    missing: dict[str, str] = {}
    for peer, scores in (
        ("ours", by_us(folder, texts)),
        ("llama.cpp", by_peer("llama.cpp", llama_cpp, folder, texts, venvs)),
        ("openvino-cb", by_peer("openvino-cb", _OPENVINO, folder, texts, venvs)),
    ):
        try:
            for name, found in scores:
                changes[name] = Change.of(name, wanted, found, lengths)
                print(changes[name], flush=True)
        except PeerError as error:
            missing[peer] = str(error)
            print(f"{peer}: {error}", flush=True)
    for name, ratio in ratios(changes).items():
        print(f"{PEERS[name].ours} over {name}: {ratio:.2f}")
    results = {
        "measured": time.strftime("%Y-%m-%d"),
        "machine": machine.describe("cpu"),
        "model": weights.BUNDLED,
        "texts": len(texts),
        "tokens": sum(lengths),
        "missing": missing,
        "formats": [asdict(each) for each in changes.values()],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    print(output)


def ratios(changes: Mapping[str, Change]) -> dict[str, float]:
    """Our divergence over that of each peer whose weights have as many bits, by its name."""
    return {
        name: changes[PEERS[name].ours].divergence / change.divergence
        for name, change in changes.items()
        if name in PEERS and name != PEERS[name].ours != "ours"
    }


@main.command()
@click.argument("engine", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--quality", type=click.Path(exists=True, path_type=Path),
    default=_HERE / "results" / "quality.json", show_default="benchmarks/results/quality.json",
)  # fmt: skip
@click.option(
    "--folder", "work", type=Path, default=Path(tempfile.gettempdir()) / "modelcompose-benchmark",
    help="Of the environment that draws.",
)  # fmt: skip
def plot(engine: Path, quality: Path, work: Path) -> None:
    """Draw the divergences beside the speeds of ENGINE, results of `engine.py run`."""
    speeds, changes = (json.loads(file.read_text("utf-8")) for file in (engine, quality))
    if speeds["model"]["precision"] != _MEASURED:
        raise click.ClickException(f"{engine}: measured in another precision than {_MEASURED}")
    found = points(speeds["lines"], changes["formats"])
    if not found:
        raise click.ClickException(f"{engine}: has none of the formats of {quality}")
    picture = quality.with_suffix(".svg")
    try:
        plots.draw(
            "quality.py",
            {"engine": {**speeds, "lines": [], "rows": []}, "quality": changes, "points": found},
            picture,
            work / "venvs",
        )
    except PeerError as error:
        raise click.ClickException(f"no plot: {error}") from None
    click.echo(picture)


def points(
    lines: Sequence[dict[str, Any]], formats: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What is known of both: the divergence, and the tokens a second of one stream.

    Args:
        lines: of the results of `engine.py`.
        formats: each as a `Change`.
    """
    times = {
        line["peer"]: line["figure"]
        for line in lines
        if (line["work"], line["measure"]) == (ONE_STREAM, "token")
    }
    return [
        {
            "engine": name.partition("-")[0],
            "format": PEERS[name].options.get("quantization", _MEASURED),
            "speed": {
                "low": 1000 / times[name]["high"],
                "median": 1000 / times[name]["median"],
                "high": 1000 / times[name]["low"],
            },
            "divergence": each["divergence"],
            "error": each["error"],
        }
        for each in formats
        if (name := each["name"]) in times
    ]


if __name__ == "__main__":
    main()
