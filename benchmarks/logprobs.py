"""What log-probabilities cost those who ask and those who do not, and how fast texts are scored.

    python benchmarks/logprobs.py asking                       # one stream and sixteen
    python benchmarks/logprobs.py asking --before ../earlier   # and beside another checkout
    python benchmarks/logprobs.py scoring --texts 1000         # beside transformers, one by one

A model of 135 million parameters in the shape of SmolLM2 with random weights, made when it is
first needed. Rounds are interleaved: each way has its turn in each. Ratios are of times, so 1.1 is
a tenth slower; medians, with the quartiles.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

_FOLDER = Path("/tmp/modelcompose-benchmark")
_SHAPE = "smollm2-135m"
_TOKENS = 128
_PROMPT = "The quick brown fox and the old grey dog went down to the river in the morning. "


class Worker:
    """A process that generates with the package of a checkout."""

    def __init__(self, folder: Path, checkout: Path | None = None) -> None:
        environment = dict(os.environ)
        if checkout is not None:
            environment["PYTHONPATH"] = str(checkout.resolve())
        self._process = subprocess.Popen(
            [sys.executable, __file__, "worker", str(folder)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def seconds(self, streams: int, logprobs: int | None) -> float:
        """How long it generates so many texts at once."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps([streams, logprobs]), file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def _folder(precision: str) -> Path:
    from peers import weights

    return weights.folder_of(_SHAPE, precision, _FOLDER)


def _shown(name: str, times: Sequence[float], usual: Sequence[float]) -> str:
    ratios = [one / other for one, other in zip(times, usual, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    each = statistics.median(times) / _TOKENS * 1000
    return f"  {name:32} {each:7.2f} ms a token   {middle:.3f} ({low:.3f} to {high:.3f})"


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@click.option("--rounds", default=7, show_default=True)
@click.option("--before", type=click.Path(path_type=Path), help="Another checkout.")
def asking(rounds: int, before: Path | None) -> None:
    """What it costs to be asked."""
    folder = _folder("bfloat16")
    here = Worker(folder)
    workers: dict[str, tuple[Worker, int | None]] = {
        "not asked": (here, None),
        "not asked, again": (here, None),
        **{f"asked, with {n} alternatives": (here, n) for n in (0, 5, 20)},
    }
    if before is not None:
        workers["not asked, the other checkout"] = (Worker(folder, before), None)
    for streams in (1, 16):
        times: dict[str, list[float]] = {name: [] for name in workers}
        for number in range(rounds + 1):
            names = sorted(workers, reverse=number % 2 == 1)
            for name in names:
                worker, count = workers[name]
                taken = worker.seconds(streams, count)
                if number:  # the first is to warm up
                    times[name].append(taken)
        click.echo(f"{streams} stream{'s' if streams > 1 else ''}:")
        for name, each in times.items():
            click.echo(_shown(name, each, times["not asked"]))
    for worker in {id(worker): worker for worker, _ in workers.values()}.values():
        worker.close()


@main.command(hidden=True)
@click.argument("folder")
def worker(folder: str) -> None:
    from modelcompose_jupyter.document.parameters import GenerationParameters
    from modelcompose_jupyter.models import ModelCache, ModelSpec

    lease = ModelCache().acquire(ModelSpec(folder)).result()
    for line in sys.stdin:
        streams, logprobs = json.loads(line)
        asked: dict[str, Any] = {"min_output_length": _TOKENS, "max_output_length": _TOKENS}
        if logprobs is not None:
            asked["logprobs"] = logprobs
        told: dict[str, Any] = {"on_tokens": lambda *_: None} if logprobs is not None else {}
        begun = time.perf_counter()
        generations = [
            lease.generate(_PROMPT, GenerationParameters(seed=seed, **asked), **told)
            for seed in range(streams)
        ]
        for each in generations:
            each.future.result()
        print(time.perf_counter() - begun, flush=True)


@main.command()
@click.option("--texts", "count", default=1000, show_default=True, help="For us.")
@click.option("--theirs", default=40, show_default=True, help="Texts for transformers.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--precision", default="float32", show_default=True)
def scoring(count: int, theirs: int, rounds: int, precision: str) -> None:
    """Scores of texts that share a beginning of 500 tokens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from modelcompose_jupyter import load

    folder = _folder(precision)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.decode(tokenizer(_PROMPT * 100)["input_ids"][:500]).rstrip()
    length = len(tokenizer(prompt)["input_ids"])
    texts = [f" Then the fox number {n} found a small bird on the hill." for n in range(count)]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, precision))
    component = {"type": "model", "task": "text-generation", "text": "${input.prompt}"}
    flow = load({"component": {**component, "model": str(folder), "precision": precision}})

    def one_by_one() -> list[float]:
        found = []
        for text in texts[:theirs]:
            tokens = torch.tensor([tokenizer(prompt + text)["input_ids"]])
            with torch.inference_mode():
                logits = model(tokens).logits[0, length - 1 : -1].float().log_softmax(-1)
            found.append(float(logits.gather(1, tokens[0, length:, None]).sum()))
        return found

    def together() -> list[float]:
        return [each.logprob for each in flow.score(texts, prompt=prompt, progress=False)]

    ways: dict[str, Callable[[], list[float]]] = {"transformers": one_by_one, "ours": together}
    flow.score(texts[0], prompt=prompt)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        sums = {}
        for name in sorted(ways, reverse=number % 2 == 1):
            begun = time.perf_counter()
            sums[name] = ways[name]()
            times[name].append((time.perf_counter() - begun) / len(sums[name]) * 1000)
        pairs = zip(*sums.values(), strict=False)
        apart = max(abs(one - other) for one, other in pairs)
        click.echo(f"round {number + 1}: sums differ by {apart:.5f} at most")
    for name, each in times.items():
        click.echo(f"{name:14} {statistics.median(each):8.2f} ms a text ({length} tokens shared)")
    ratios = [a / b for a, b in zip(times["transformers"], times["ours"], strict=True)]
    click.echo(f"ratio {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    main()
