"""What it costs that a text must be of a format, and what comes of it.

    python benchmarks/constraints.py rates     # tokens a second with and without, 1 stream and 16
    python benchmarks/constraints.py delays    # until the first token: a new schema, a known one
    python benchmarks/constraints.py rows      # 2,000 records at temperature 1.5; without a schema

A model of 135 million parameters in the shape of SmolLM2 with random weights, made when it is
first needed; for `rows` a tiny one. Rounds are interleaved. Medians, with the quartiles.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

_FOLDER = Path("/tmp/modelcompose-benchmark")
_TOKENS = 128
_PROMPT = "The quick brown fox and the old grey dog went down to the river in the morning. "
_FREE = {"json_schema": {"type": "string", "minLength": 4000}}
"""Hardly any token is ruled out, none is forced, and no text ends before its limit."""


def _record(number: int = 0) -> dict[str, Any]:
    """A schema of eight fields; each number another."""
    text = {"type": "string", "maxLength": 24}
    fields: dict[str, Any] = {
        f"name_{number}": text,
        "city": text,
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "score": {"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.001},
        "kind": {"enum": ["private", "company", "public body"]},
        "is_new": {"type": "boolean"},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "c", "d"]}, "maxItems": 3},
        "note": {"anyOf": [{"type": "string", "maxLength": 40}, {"type": "null"}]},
    }
    return {
        "type": "object", "properties": fields, "required": [*fields],
        "additionalProperties": False,
    }  # fmt: skip


def _record_or_null(number: int) -> dict[str, Any]:
    """A format that leaves a choice of the first token, which the model must make then."""
    return {"json_schema": {"anyOf": [_record(number), {"type": "null"}]}}


def _spread(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


class Model:
    """A model that is loaded, and texts that it is asked for."""

    def __init__(self, precision: str) -> None:
        from peers import weights

        from modelcompose_jupyter.models import ModelCache, ModelSpec

        folder = weights.folder_of("smollm2-135m", precision, _FOLDER)
        self.lease = ModelCache().acquire(ModelSpec(str(folder))).result()

    def begin(self, format: dict[str, Any] | None, seed: int, **asked: Any) -> Any:
        from modelcompose_jupyter.document.parameters import GenerationParameters

        asked = {"max_output_length": _TOKENS, "temperature": 1.0, "seed": seed, **asked}
        parameters = GenerationParameters(**asked, format=format)
        grammar = None
        if parameters.format is not None:
            grammar = self.lease.compile(parameters.format.llguidance).result()
        return self.lease.generate(_PROMPT, parameters, grammar=grammar).future


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@click.option("--rounds", default=7, show_default=True)
@click.option("--precision", default="bfloat16", show_default=True)
def rates(rounds: int, precision: str) -> None:
    """Tokens a second, with and without."""
    model = Model(precision)
    ways: dict[str, dict[str, Any] | None] = {
        "free": None, "free, again": None, "a long text": _FREE,
        "a record": {"json_schema": _record()},
    }  # fmt: skip
    for streams in (1, 16):
        found: dict[str, list[float]] = {name: [] for name in ways}
        forced: Counter[str] = Counter()
        for number in range(rounds + 1):
            for name in sorted(ways, reverse=number % 2 == 1):
                least = {} if ways[name] else {"min_output_length": _TOKENS}
                begun = time.perf_counter()
                futures = [model.begin(ways[name], seed, **least) for seed in range(streams)]
                usages = [each.result().usage for each in futures]
                taken = time.perf_counter() - begun
                tokens = sum(each["generated"] for each in usages)
                if number:  # the first is to warm up
                    found[name].append(tokens / taken)
                    forced[name] = sum(each.get("forced", 0) for each in usages) * 100 // tokens
        click.echo(f"{streams} stream{'s' if streams > 1 else ''}:")
        for name, values in found.items():
            ratios = [one / other for one, other in zip(values, found["free"], strict=True)]
            rate = statistics.median(values)
            share = f", {forced[name]} % of its tokens forced" if forced[name] else ""
            click.echo(f"  {name:12} {rate:8.1f} tokens/s   {_spread(ratios)}{share}")


@main.command()
@click.option("--rounds", default=15, show_default=True)
@click.option("--precision", default="bfloat16", show_default=True)
def delays(rounds: int, precision: str) -> None:
    """Seconds until the first token."""
    model = Model(precision)
    model.begin(None, 0).result()
    begun = time.perf_counter()
    model.begin({"regex": "a"}, 0).result()
    click.echo(f"the first text of any format: {time.perf_counter() - begun:.3f} s")
    ways: dict[str, Callable[[int], dict[str, Any] | None]] = {
        "free": lambda _: None,
        "a new schema": lambda number: _record_or_null(number + 1),
        "a known one": lambda _: _record_or_null(0),
    }
    model.begin(_record_or_null(0), 0).result()
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in sorted(ways, reverse=number % 2 == 1):
            begun = time.perf_counter()
            model.begin(ways[name](number), number, max_output_length=1).result()
            found[name].append((time.perf_counter() - begun) * 1000)
    for name, values in found.items():
        click.echo(f"  {name:14} {_spread(values)} ms")


@main.command()
@click.option("--rows", "count", default=2000, show_default=True)
def rows(count: int) -> None:
    """Records of a tiny random model at temperature 1.5, checked by another library."""
    from jsonschema import Draft202012Validator

    def read(text: str) -> Any:
        return json.loads(text, parse_float=Decimal)  # else 0.043 is no multiple of 0.001

    validator = Draft202012Validator(read(json.dumps(_record())))

    def is_valid(text: str) -> bool:
        try:
            return validator.is_valid(read(text))
        except ValueError:
            return False

    def _text(value: Any) -> Any:
        value = value["generated"] if isinstance(value, dict) and "generated" in value else value
        return value if isinstance(value, str | Exception) else json.dumps(value)

    with tempfile.TemporaryDirectory() as folder:
        from modelcompose_jupyter import load
        from tests.standins import tiny_models

        tiny_models.save(Path(folder), "llama", **tiny_models.with_context("llama", 512))
        component = {
            "type": "model", "task": "text-generation", "model": folder, "temperature": 1.5,
            "text": "Row ${input.row}: ", "max_output_length": 400, "include_prompt": False,
            "seed": "${input.row as integer}",
        }  # fmt: skip
        inputs = [{"row": row} for row in range(count)]
        for name, more in (
            ("without", {}),
            ("with", {"format": {"json_schema": _record()}}),
        ):
            begun = time.perf_counter()
            flow = load({"component": component | more})
            values = flow.map(inputs, progress=False)
            taken = time.perf_counter() - begun
            texts = [_text(each) for each in values]
            failed = Counter(each.code for each in texts if not isinstance(each, str))
            valid = sum(is_valid(each) for each in texts if isinstance(each, str))
            click.echo(f"{name} a schema: {valid} of {count} valid, {taken:.1f} s {dict(failed)}")


if __name__ == "__main__":
    main()
