"""lm-evaluation-harness: what `model-compose up` tells it, beside what its own backend finds.

    python benchmarks/evaluation.py
    python benchmarks/evaluation.py --stories 20 --concurrent 1

The bundled model in float32, asked by lm_eval twice: by its model `local-completions` over HTTP,
and by its model `hf`, which is transformers. The tasks are of all kinds that it has, on texts of
the kind that the model was trained on, which it has not seen. Both tables are printed, and how long
each took; the exit status is 1 where they differ.

lm_eval has an environment of its own, which finds torch and transformers in this one.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

from corpus.documents import documents
from peers import weights

from modelcompose_jupyter.models.weights.source import bundled

_HERE = Path(__file__).parent
_TASKS = _HERE / "evaluation_tasks"
_REQUIREMENTS = _TASKS / "requirements.txt"
_CONSTRAINTS = _HERE.parent / "constraints.txt"
_SEED = 41
"""Of texts; the training has others."""
_METRICS_EQUAL = 1e-4
"""How far a metric may be from the other's: it is printed with four decimals."""
_SAMPLES_EQUAL = 1e-3
"""How far the log-likelihood of a sample may be from the other's."""
_SHARE_EQUAL = 1e-5
"""Both as a share, where that is more: the log-likelihood of a long text is a sum of a thousand."""

_NAMED = re.compile(r" named ([A-Z][a-z]+)\b")
_SENTENCE = re.compile(r'(?<=[.!?"]) ')


# The data set


def write_data(folder: Path, count: int) -> None:
    """Write ``stories.jsonl`` of so many stories, and ``texts.jsonl`` of texts of all lengths."""
    chance = random.Random(_SEED)
    found = list(islice(_stories(), count))
    events = [_SENTENCE.split(text)[2].replace(name, "{}") for text, name in found]
    with (folder / "stories.jsonl").open("w", encoding="utf-8") as file:
        for (text, name), own in zip(found, events, strict=True):
            choices = [own, *chance.sample(sorted(set(events) - {own}), 3)]
            chance.shuffle(choices)
            line = {
                "before": text[: text.rindex(f" {name}")],
                "name": name,
                "opening": _SENTENCE.split(text)[0],
                "events": [choice.replace("{}", name) for choice in choices],
                "event": choices.index(own),
            }
            file.write(json.dumps(line) + "\n")
    texts = [text for text, _ in found]
    half = len(texts) // 2
    # The model's context ends within those of six stories.
    joined = ["\n\n".join(texts[at : at + 6]) for at in range(half, len(texts), 6)]
    with (folder / "texts.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in [*texts[:half], *joined])


def _stories() -> Iterator[tuple[str, str]]:
    """Stories, and the names of their heroes, which each says again."""
    for told in documents(seed=_SEED, count=sys.maxsize, stage=2):
        named = _NAMED.search(told.text)
        if named and told.text.count(f" {named[1]}") > 2 and "<|" not in told.text:
            yield told.text, named[1]


# The model, as both load it


@dataclass(frozen=True)
class Evaluated:
    """A model in float32: its folder, the tokens that it can attend to, and whether its tokenizer
    begins texts with one of its own, which clients of a server must be told to do as well."""

    folder: Path
    context: int
    begins_texts: bool

    @classmethod
    def made(cls, given: Path, folder: Path) -> Evaluated:
        """Write a model to a folder.

        What its settings say of the lengths of texts is left out: transformers would follow them,
        and lm_eval tells others.
        """
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

        model = AutoModelForCausalLM.from_pretrained(given, dtype=torch.float32)
        ends = model.generation_config.eos_token_id
        model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=0)
        model.save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(given)
        tokenizer.save_pretrained(folder)
        begins = tokenizer.num_special_tokens_to_add() > 0
        return cls(folder, weights.context_of(folder), begins)


# lm_eval


def environment(folder: Path) -> Path:
    """The command of lm_eval in an environment, which is made if it is not there."""
    command, installed = folder / "bin" / "lm_eval", folder / "installed.txt"
    pins = _REQUIREMENTS.read_text("utf-8")
    if not installed.exists() or installed.read_text("utf-8") != pins:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
        (packages / "shared.pth").write_text(sysconfig.get_path("purelib"), "utf-8")
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "-c", _CONSTRAINTS, "-r", _REQUIREMENTS], check=True)
        installed.write_text(pins, "utf-8")
    return command


@dataclass(frozen=True)
class Outcome:
    """What lm_eval found.

    Attributes:
        metrics: by task and name.
        samples: what a model answered, by task and number of the sample: for each request a text,
            a log-likelihood, or that and whether all of it is what is likeliest.
        seconds: from loading to the last metric.
    """

    metrics: Mapping[tuple[str, str], float]
    samples: Mapping[tuple[str, int], Sequence[Any]]
    seconds: float

    @classmethod
    def of(cls, folder: Path) -> Outcome:
        """The last one that was written there."""
        [written] = folder.rglob("results_*.json")
        told = json.loads(written.read_text("utf-8"))
        metrics = {
            (task, name.partition(",")[0]): value
            for task, found in told["results"].items()
            for name, value in found.items()
            if "," in name and "_stderr" not in name
        }
        samples = {}
        for file in written.parent.glob("samples_*.jsonl"):
            task = file.name.removeprefix("samples_").rpartition("_")[0]
            for line in file.read_text("utf-8").splitlines():
                sample = json.loads(line)
                samples[task, sample["doc_id"]] = sample["resps"]
        return cls(metrics, samples, float(told["total_evaluation_time_seconds"]))


def evaluate(command: Path, model: str, arguments: str, data: Path, *options: str) -> Outcome:
    """Have lm_eval run the tasks with one of its models."""
    with tempfile.TemporaryDirectory() as written:
        tasks = ",".join(sorted(each.stem for each in _TASKS.glob("*.yaml")))
        line = [command, "run", "--model", model, "--model_args", arguments, *options]
        line += ["--include_path", _TASKS, "--tasks", tasks]
        line += ["--output_path", written, "--log_samples"]
        variables = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_CACHE": written,
            "TOKENIZERS_PARALLELISM": "false",
            "NO_PROXY": "127.0.0.1",
        }
        done = subprocess.run(line, cwd=data, env=variables, capture_output=True, text=True)
        if done.returncode:
            raise click.ClickException(f"lm_eval's {model} failed:\n{done.stderr[-3000:]}")
        click.echo(done.stdout)
        return Outcome.of(Path(written))


# The server


@contextlib.contextmanager
def serving(model: Path) -> Iterator[str]:
    """`model-compose up` of a model; gives the URL of its completions."""
    document = {
        "component": {
            "type": "model",
            "task": "text-generation",
            "model": str(model),
            "precision": "float32",
            "text": "${input.prompt as text}",
        }
    }
    with tempfile.TemporaryDirectory() as runtime:
        file = Path(runtime) / "model-compose.yml"
        file.write_text(json.dumps(document), "utf-8")  # JSON is YAML
        up = subprocess.Popen(
            [
                *(sys.executable, "-m", "modelcompose_jupyter.cli", "up", "--no-webui"),
                *("--file", file, "--port", "0"),
            ],
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                "JUPYTER_RUNTIME_DIR": runtime,
                "PYTHONPATH": str(_HERE.parent),  # the package is that of this checkout
            },
            text=True,
        )
        try:
            assert up.stdout is not None
            said = re.search(r"http\S+", up.stdout.readline())
            if said is None:
                raise click.ClickException("the server did not start")
            yield said[0].removesuffix("/api") + "/v1/completions"
        finally:
            up.send_signal(signal.SIGTERM)
            up.wait()


# What is compared


def differences(ours: Outcome, theirs: Outcome) -> list[str]:
    """A line for each metric, and each sample, that is not the same."""
    lines = []
    for key in sorted(ours.metrics.keys() | theirs.metrics.keys()):
        one, other = ours.metrics.get(key), theirs.metrics.get(key)
        if one is None or other is None or not _near(one, other, _METRICS_EQUAL):
            lines.append(f"{' '.join(key)}: {one} and {other}")
    for place in sorted(ours.samples.keys() | theirs.samples.keys()):
        answers, expected = ours.samples.get(place), theirs.samples.get(place)
        if answers is None or expected is None or not _same(answers, expected):
            lines.append(f"{place[0]}, sample {place[1]}: {answers} and {expected}")
    return lines


def _same(one: Any, other: Any) -> bool:
    """Whether two answers are the same; numbers, which may be written as texts, within bounds."""
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return all(map(_same, one, other))
    try:
        return _near(float(one), float(other), _SAMPLES_EQUAL)
    except (TypeError, ValueError):
        return bool(one == other)


def _near(one: float, other: float, bound: float) -> bool:
    return math.isclose(one, other, rel_tol=_SHARE_EQUAL, abs_tol=bound)


@click.command(help=__doc__)
@click.option(
    "--stories", type=click.IntRange(min=8), default=120, show_default=True, help="How many."
)
@click.option("--concurrent", default=8, show_default=True, help="Requests at once.")
@click.option("--batch", default=8, show_default=True, help="Prompts of a request, texts of hf.")
@click.option(
    "--folder", type=Path, default=Path(tempfile.gettempdir()) / "modelcompose-benchmark",
    help="Of models and environments.",
)  # fmt: skip
@click.option("--model", "given", type=Path, help="Of another model than the bundled one.")
def main(stories: int, concurrent: int, batch: int, folder: Path, given: Path | None) -> None:
    folder = folder.resolve()
    command = environment(folder / "venvs" / "lm_eval")
    model = Evaluated.made(given or bundled()[weights.BUNDLED], folder / "evaluated")
    data = folder / "evaluation-data"
    data.mkdir(exist_ok=True)
    write_data(data, stories)
    size = ("--batch_size", str(batch))
    # A request has room for one more token, which the other has not: so windows are the same.
    arguments = f"pretrained={model.folder},dtype=float32,max_length={model.context - 2}"
    theirs = evaluate(command, "hf", arguments, data, "--device", "cpu", *size)
    with serving(model.folder) as url:
        arguments = f"model={model.folder.name},tokenizer={model.folder},base_url={url}"
        arguments += f",max_length={model.context},add_bos_token={model.begins_texts}"
        arguments += f",num_concurrent={concurrent}"
        ours = evaluate(command, "local-completions", arguments, data, *size)
    found = differences(ours, theirs)
    click.echo(f"{'':17}{'':17}{'served':>10}{'hf':>10}")
    for (task, name), value in ours.metrics.items():
        click.echo(f"{task:17}{name:17}{value:10.4f}{theirs.metrics[task, name]:10.4f}")
    click.echo(f"{'seconds':34}{ours.seconds:10.1f}{theirs.seconds:10.1f}")
    if found:
        raise click.ClickException("\n".join([f"{len(found)} differ", *found[:20]]))
    click.echo(
        f"equal: metrics within {_METRICS_EQUAL}, log-likelihoods of {len(ours.samples)} samples "
        f"within {_SAMPLES_EQUAL} or {_SHARE_EQUAL} of them, texts and what is likeliest exactly"
    )


if __name__ == "__main__":
    main()
