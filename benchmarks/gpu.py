"""All that there is to check and to measure on a machine with a GPU, in ten minutes at most.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --parts models,company --shape smollm2-135m
    python benchmarks/gpu.py --device cpu --shape storyteller --tokens 6 --output gpu.json  # a try

Parts, each in a process of its own: ``machine``; ``weights`` of the chosen shape, made beside the
next one; ``models``: steps of a small model of each architecture against its own forward, and
recorded steps against others; ``shape``: the same of the chosen shape; ``company``: texts of seeds
alone and beside others; ``speed`` beside transformers, and the share of the memory's speed. A part
that fails says so, the others go on, and the exit status is 1.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import engine
import psutil
from on_gpu import cases, company, correctness
from on_gpu.cases import Part, Settings, Told
from peers import machine, report, weights
from peers.work import WORK

_HERE = Path(__file__).parent
_PEERS = ("ours", "static-batch", "continuous-batching")
_WORK = ("one-stream", "64-streams")
_PATIENCE = 0.4
"""How much of the time for speed a peer may take to load, or to answer."""
_LEFT_OVER = 15
"""Seconds for what comes after the rounds, and for processes to end."""


def _machine(settings: Settings, _: str, __: float) -> Told:
    told = machine.describe(settings.device)
    speeds = machine.bandwidths(settings.device, settings.threads)
    name = told.get("gpu", told["processor"])
    shown = ", ".join(f"{way} {speed / 1e9:.0f} GB/s" for way, speed in speeds.items())
    driver = f", driver {told['driver']}" if told.get("driver") else ""
    torch = told["versions"]["torch"]
    return {**told, "bandwidths": speeds, "summary": f"{name}{driver}, torch {torch}; {shown}"}


def _weights(settings: Settings, _: str, __: float) -> Told:
    size = sum(file.stat().st_size for file in settings.model.glob("*.safetensors"))
    return {"summary": f"{size / 1e9:.2f} GB", "bytes": size}


def _speed(settings: Settings, _: str, seconds: float) -> Told:
    """Rounds of `engine.py`; what is told of one stream has the share of the memory's speed."""
    ends = time.monotonic() + seconds - _LEFT_OVER
    bench = engine.Bench(
        settings.shape,
        settings.precision,
        settings.threads,
        settings.device,
        settings.folder,
        settings.folder / "venvs",
        patience=_PATIENCE * seconds,
    )
    work = [WORK[name] for name in _WORK]
    with cases.device_watched(settings.device) as most:
        told = engine.measure(bench, _PEERS, work, settings.rounds, settings.tokens, ends)
    if most():
        told["device_bytes_at_most"] = most()
    lines = [*_shown(told, "one-stream", report.LIMIT), *_shown(told, "64-streams", _RATE)]
    told["summary"] = f"{told['rounds']} rounds; {'; '.join(lines)}"
    if told["missing"]:
        told["error"] = "; ".join(f"{name}: {reason}" for name, reason in told["missing"].items())
    elif not told["rounds"]:
        told["error"] = cases.NO_TIME
    return told


_RATE = "tokens a second"


def _shown(told: Told, work: str, measure: str) -> list[str]:
    figures = [
        f"{line['peer']} {line['figure']['median']:.3g}"
        for line in told["lines"]
        if (line["work"], line["measure"]) == (work, measure)
    ]
    return [f"{work}, {measure}: {', '.join(figures)}"] if figures else []


def _only(name: str) -> Callable[[Settings], list[str]]:
    return lambda _: [name]


_PARTS = {
    part.name: part
    for part in (
        Part("machine", _only("machine"), _machine, share=25),
        Part("weights", _only("weights"), _weights, share=0),
        Part("models", correctness.small_cases, correctness.check_small, share=130, longest=45),
        Part("shape", correctness.shape_cases, correctness.check_shape, share=65, longest=45,
             needs_model=True),
        Part("company", company.cases, company.run, share=90, longest=90, needs_model=True),
        Part("speed", _only("speed"), _speed, share=260, needs_model=True),
    )
}  # fmt: skip
_WEIGHTS_SHARE = 0.35
"""How much of all time the weights may take, which are made while other parts run."""


class Series:
    """The parts in turn, and the file with what they found, which is written after each.

    Args:
        seconds: in which all must end.
    """

    def __init__(self, settings: Settings, output: Path, seconds: float) -> None:
        self.found: dict[str, dict[str, Told]] = {}
        self._settings = settings
        self._output = output
        self._seconds = seconds
        self._began = time.monotonic()

    @property
    def failed(self) -> list[str]:
        """The parts in which something failed."""
        return [
            name
            for name, found in self.found.items()
            if any("error" in told for told in found.values())
        ]

    def run(self, parts: Sequence[Part]) -> None:
        """Run parts; those without the model run while that is made."""
        before = [part for part in parts if not part.needs_model]
        after = [part for part in parts if part.needs_model]
        making = _PARTS["weights"]
        with ThreadPoolExecutor(1) as beside:
            made: Future[dict[str, Told]] | None = None
            if after or making in before:
                seconds = _WEIGHTS_SHARE * self._seconds
                made = beside.submit(cases.run, making, self._settings, seconds)
            before = [part for part in before if part is not making]
            for number, part in enumerate(before):
                self._run(part, [*before[number:], *after])
            if made is not None:
                self._keep(making, made.result())
        for number, part in enumerate(after):
            if making.name in self.failed:
                self._keep(part, {part.name: {"error": "there are no weights"}})
            else:
                self._run(part, after[number:])

    def _run(self, part: Part, ahead: Sequence[Part]) -> None:
        """Run a part within its share of the time that is left."""
        left = self._seconds - (time.monotonic() - self._began)
        share = part.share / sum(each.share for each in ahead)
        click.echo(f"{part.name}: {left * share:.0f} s at most", err=True)
        self._keep(part, cases.run(part, self._settings, left * share))

    def _keep(self, part: Part, found: dict[str, Told]) -> None:
        self.found[part.name] = found
        told = {
            "measured": time.strftime("%Y-%m-%d"),
            "settings": {**asdict(self._settings), "folder": None},
            "seconds": round(time.monotonic() - self._began, 1),
            "failed": self.failed,
            "parts": self.found,
        }
        self._output.parent.mkdir(parents=True, exist_ok=True)
        self._output.write_text(json.dumps(told, indent=1) + "\n", "utf-8")


def _table(found: dict[str, dict[str, Told]]) -> str:
    text = []
    for part, by_case in found.items():
        seconds = sum(told.get("seconds", 0) for told in by_case.values())
        peaks = [told.get("device_bytes_at_most", 0) for told in by_case.values()]
        memory = f", {max(peaks) / 1e9:.1f} GB of the device at most" if any(peaks) else ""
        text += ["", f"{part}, {seconds:.0f} s{memory}"]
        for case, told in by_case.items():
            text.append(f"  {case:34}{told.get('summary', '')}".rstrip())
            if "error" in told:
                text.append(f"  {'':34}FAILED: {told['error']}")
    return "\n".join(text)


def _parts(_: click.Context, __: click.Parameter, value: str) -> list[Part]:
    names = value.split(",") if value else list(_PARTS)
    if unknown := [name for name in names if name not in _PARTS]:
        raise click.BadParameter(f"{unknown[0]}; there are {', '.join(_PARTS)}")
    return [part for part in _PARTS.values() if part.name in names]


@click.command(help=__doc__)
@click.option("--parts", callback=_parts, default="", help="All if unset.")
@click.option(
    "--shape",
    type=click.Choice(weights.SHAPES),
    default="smollm3-3b",
    show_default=True,
    help="Of the model, which is made when it is first asked for.",
)
@click.option(
    "--precision",
    type=click.Choice(["bfloat16", "float32"]),
    default="bfloat16",
    show_default=True,
    help="Of `company` and `speed`.",
)
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--threads", default=psutil.cpu_count(logical=False) or 1, show_default=True)
@click.option("--rounds", default=5, show_default=True, help="Of `speed`, if there is time.")
@click.option("--tokens", type=int, help="At most so many a text: a try, no measurement.")
@click.option("--seconds", default=570, show_default=True, help="In which all must end.")
@click.option("--folder", type=Path, default=engine.TEMPORARY, show_default=True, help="Of models.")
@click.option(
    "--output", type=Path, default=_HERE / "results" / "gpu.json",
    show_default="benchmarks/results/gpu.json",
)  # fmt: skip
def main(parts: list[Part], output: Path, seconds: float, folder: Path, **options: Any) -> None:
    series = Series(Settings(folder=folder.resolve(), **options), output, seconds)
    series.run(parts)
    click.echo(_table(series.found))
    click.echo(f"\n{output}")
    if series.failed:
        click.echo(f"failed: {', '.join(series.failed)}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
