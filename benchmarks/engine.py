"""The generation engine beside its peers, on models with random weights in the shape of real ones.

    python benchmarks/engine.py run                       # everything, every peer
    python benchmarks/engine.py run --peers ours,llama.cpp --work one-stream,16-streams --rounds 3
    python benchmarks/engine.py ours --work one-stream    # ours alone
    python benchmarks/engine.py peer openvino-cb          # one peer alone
    python benchmarks/engine.py plot benchmarks/results/NAME.json

In each round every item of work goes to one peer after the other, in turning order, while all
others are stopped. benchmarks/README.md says what is compared and what each figure means.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import psutil
from peers import machine, plots, report, weights
from peers.processes import PEERS, USUAL_PEERS, Peer, PeerError, PeerProcess, environment
from peers.protocol import PeerSettings
from peers.work import ONE_STREAM, USUAL, WORK, Work, disturbance

_HERE = Path(__file__).parent
TEMPORARY = Path("/tmp/modelcompose-benchmark")
_WARM_UP_TOKENS = 8
_REFERENCES = ("generate", "static-batch")


@dataclass(frozen=True)
class Bench:
    """Where and on what is measured.

    Attributes:
        patience: seconds that a peer may take to load, or to answer.
    """

    shape: str
    precision: str
    threads: int
    device: str
    folder: Path
    venvs: Path
    patience: float = 1800

    @property
    def model(self) -> Path:
        return weights.folder_of(self.shape, self.precision, self.folder)

    def settings(self, peer: Peer) -> PeerSettings:
        cache = self.folder / "peers" / f"{peer.script}-{self.shape}-{self.precision}"
        return PeerSettings(
            self.model, self.precision, self.threads, self.device, cache, peer.options
        )


@contextmanager
def started(
    bench: Bench, names: Sequence[str]
) -> Iterator[tuple[list[PeerProcess], dict[str, str]]]:
    """Peers that are loaded and stopped, and the reasons why others are not."""
    processes: list[PeerProcess] = []
    missing: dict[str, str] = {}
    try:
        for name in names:
            peer = PEERS[name]
            click.echo(f"loading {name}", err=True)
            try:
                python = environment(peer, bench.venvs)
                processes.append(PeerProcess(peer, python, bench.settings(peer), bench.patience))
            except PeerError as error:
                missing[name] = str(error)
                click.echo(f"  {error}", err=True)
        yield processes, missing
    finally:
        for process in processes:
            process.close()


class Rounds:
    """Rounds of work; ``rows`` has what came of them.

    Args:
        tokens: at most so many a text; None is as the items say.
    """

    def __init__(self, bench: Bench, work: Sequence[Work], tokens: int | None) -> None:
        context = weights.context_of(bench.model)
        fitting = [item for item in work if item.context <= context]
        self.work = [item if tokens is None else item.shortened(tokens) for item in fitting]
        self.left_out = [item.name for item in work if item not in fitting]
        self.rows: list[report.Row] = []
        self.failures: dict[str, str] = {}
        self.bandwidths: list[float] = []
        self.loads: list[float] = []
        self.counters: list[dict[str, Any]] = []
        self.heads: dict[str, dict[int, list[int]]] = {}
        self._bench = bench
        self._prompts = weights.Prompts(bench.model)
        one = WORK[ONE_STREAM]
        tokens_held = one.lengths[0] + one.requests[0].tokens // 2
        self.least_bytes = weights.least_bytes(bench.model, bench.precision, tokens_held)

    def warm_up(self, processes: Sequence[PeerProcess]) -> None:
        """Have each peer generate once; on a GPU each item, since kernels and recordings of steps
        are made when a shape comes first, or often."""
        items = [WORK[ONE_STREAM].shortened(_WARM_UP_TOKENS)]
        if self._bench.device != "cpu":
            items += self.work
        for item in items:
            for process in processes:
                if process.peer.kind == item.kind:
                    self._try(process, item, round=-1)

    def run(self, processes: Sequence[PeerProcess], round: int) -> None:
        """One round: every item by every peer, in an order that turns with the rounds."""
        self.loads.append(machine.load_average())
        self.bandwidths.append(machine.bandwidth(self._bench.device, self._bench.threads))
        for item in self.work:
            able = [each for each in processes if each.peer.kind == item.kind]
            first = round % len(able) if able else 0
            for process in able[first:] + able[:first]:
                click.echo(f"round {round + 1}: {item.name}: {process.peer.name}", err=True)
                answer = self._try(process, item, round)
                if answer is not None:
                    self._keep(process.peer.name, item, round, answer)

    def _try(self, process: PeerProcess, item: Work, round: int) -> dict[str, Any] | None:
        name = process.peer.name
        try:
            requests = item.ready(self._prompts, round)
            if not item.busy:
                return process.run(requests)
            with disturbance():
                process.settle()
                told = process.run(requests)
            process.settle()
            return told
        except PeerError as error:
            self.failures[f"{name}, {item.name}"] = str(error)
            click.echo(f"  {error}", err=True)
            return None

    def _keep(self, peer: str, item: Work, round: int, answer: dict[str, Any]) -> None:
        figures = report.figures(item, answer["requests"])
        if item.name == ONE_STREAM:
            self.heads.setdefault(peer, {})[round] = answer["requests"][0]["head"]
            if "token" in figures and "quantization" not in PEERS[peer].options:
                figures[report.LIMIT] = report.limit_share(
                    self.least_bytes, figures["token"], self.bandwidths[-1]
                )
        if answer["counters"] is not None:
            told = {"peer": peer, "work": item.name, "round": round}
            self.counters.append({**told, **answer["counters"]})
        self.rows.append(report.Row(round, item.name, peer, figures))


def measure(
    bench: Bench,
    names: Sequence[str],
    work: Sequence[Work],
    rounds: int,
    tokens: int | None,
    until: float | None = None,
) -> dict[str, Any]:
    """Measure, print the table as it is after the last round, and return all that there is.

    Args:
        rounds: at most so many.
        until: no round begins that would not end before this moment of ``time.monotonic()``, if
            it takes as long as the longest one so far, or the warm-up.
    """
    kinds = {item.kind for item in work}
    names = [name for name in names if PEERS[name].kind in kinds]
    described = machine.describe(bench.device)
    series = Rounds(bench, work, tokens)
    with started(bench, names) as (processes, missing):
        began = time.monotonic()
        series.warm_up(processes)
        done = _run(series, processes, rounds, until, time.monotonic() - began)
        facts = {process.peer.name: process.facts for process in processes}
    lines = report.lines(series.rows)
    click.echo(report.table(lines, {**missing, **series.failures}))
    for name in series.left_out:
        click.echo(f"left out, the model's context is too short: {name}")
    click.echo(f"\none step of one stream reads {series.least_bytes / 1e6:.1f} MB at least")
    if series.bandwidths:
        speed = report.Spread.of([each / 1e9 for each in series.bandwidths])
        click.echo(f"memory: {speed.median:.1f} GB/s ({speed.low:.1f} to {speed.high:.1f})")
    reference = next((each for each in _REFERENCES if each in names), "")
    for name, rounds_alike in report.agreement(series.heads, reference).items():
        click.echo(f"{name}: the first token of one stream as {reference}'s in {rounds_alike}")
    _tell_overhead(series.counters)
    return {
        "measured": time.strftime("%Y-%m-%d"),
        "machine": described,
        "model": {"shape": bench.shape, "precision": bench.precision, "seed": weights.SEED},
        "threads": bench.threads,
        "device": bench.device,
        "rounds": done,
        "at_most_tokens": tokens,
        "peers": {name: {"title": PEERS[name].title, **told} for name, told in facts.items()},
        "missing": {**missing, **series.failures},
        "least_bytes": series.least_bytes,
        "bandwidths": series.bandwidths,
        "load_averages": series.loads,
        "counters": series.counters,
        "first_tokens": series.heads,
        **report.as_json(lines, series.rows),
    }


def _run(
    series: Rounds,
    processes: Sequence[PeerProcess],
    rounds: int,
    until: float | None,
    longest: float,
) -> int:
    """How many rounds there was time for, if one takes so many seconds at first."""
    for round in range(rounds):
        began = time.monotonic()
        if until is not None and began + longest > until:
            return round
        series.run(processes, round)
        longest = max(longest, time.monotonic() - began)
    return rounds


def _tell_overhead(counters: Sequence[dict[str, Any]]) -> None:
    """The engine's own part of a step: what is not the model's forward."""
    for peer, work in dict.fromkeys((each["peer"], each["work"]) for each in counters):
        theirs = [
            each
            for each in counters
            if (each["peer"], each["work"]) == (peer, work) and each["steps"]
        ]
        if theirs:
            own = [each["step_seconds"] - each["forward_seconds"] for each in theirs]
            took = [seconds / each["steps"] for seconds, each in zip(own, theirs, strict=True)]
            share = [
                seconds / each["forward_seconds"] for seconds, each in zip(own, theirs, strict=True)
            ]
            spread, part = report.Spread.of(took), report.Spread.of(share)
            spent = f"{1000 * spread.median:.2f} ms ({1000 * spread.low:.2f} to"
            spent += f" {1000 * spread.high:.2f})"
            click.echo(
                f"{peer}, {work}: a step takes {spent} beside the model's forward,"
                f" {part.median:.1%} of it"
            )


# Commands


def _names(known: Sequence[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    def parse(_: click.Context, __: click.Parameter, value: str) -> list[str]:
        names = [name.strip() for name in value.split(",")] if value else list(known)
        if unknown := [name for name in names if name not in known]:
            raise click.BadParameter(f"{unknown[0]}; there are {', '.join(known)}")
        return names

    return parse


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option(
            "--work", callback=_names(list(WORK)), default=",".join(USUAL),
            help=f"If unset, all but {', '.join(name for name in WORK if name not in USUAL)}.",
        ),
        click.option("--rounds", default=5, show_default=True),
        click.option(
            "--precision", type=click.Choice(["bfloat16", "float32"]), default="bfloat16",
            show_default=True,
        ),
        click.option(
            "--threads", default=psutil.cpu_count(logical=False) or 1, show_default=True,
            help="That a peer may use.",
        ),
        click.option(
            "--shape", type=click.Choice(weights.SHAPES), default=weights.SHAPES[0],
            show_default=True, help="Of the model, which is made when it is first asked for.",
        ),
        click.option(
            "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True
        ),
        click.option("--tokens", type=int, help="At most so many a text: a try, no measurement."),
        click.option("--folder", type=Path, default=TEMPORARY, show_default=True,
                     help="Of models and conversions."),
        click.option("--venvs", type=Path, default=TEMPORARY / "venvs", show_default=True,
                     help="Of the peers' environments, made when first used."),
    ):  # fmt: skip
        command = option(command)
    return command


def _bench(options: dict[str, Any]) -> Bench:
    fields = ("shape", "precision", "threads", "device", "folder", "venvs")
    bench = Bench(**{name: options[name] for name in fields})
    return replace(bench, folder=bench.folder.resolve(), venvs=bench.venvs.resolve())


def _measure(names: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
    work = [WORK[name] for name in options["work"]]
    return measure(_bench(options), names, work, options["rounds"], options["tokens"])


@click.group(help=__doc__)
def main() -> None:
    # Else peers that stand still would outlive this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@main.command()
@click.option(
    "--peers", "names", callback=_names(list(PEERS)), default=",".join(USUAL_PEERS),
    help="If unset, all but those whose weights have fewer bits.",
)  # fmt: skip
@click.option("--results", type=Path, default=_HERE / "results", show_default="benchmarks/results")
@click.option("--name", default="engine", show_default=True, help="Of the files of results.")
@_options
def run(names: list[str], results: Path, name: str, **options: Any) -> None:
    """Peers beside ours: a table, and results as JSON and as a plot."""
    told = _measure(names, options)
    results.mkdir(parents=True, exist_ok=True)
    file = results / f"{name}.json"
    file.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    _draw(file, options["venvs"])


@main.command()
@_options
def ours(**options: Any) -> None:
    """Ours alone."""
    _measure(["ours", "ours-http"], options)


@main.command("peer")
@click.argument("name", type=click.Choice(list(PEERS)))
@_options
def peer_command(name: str, **options: Any) -> None:
    """One peer alone."""
    told = _measure([name], options)
    click.echo(f"\n{name}: {json.dumps(told['peers'].get(name, told['missing']), indent=1)}")


@main.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--venvs", type=Path, default=TEMPORARY / "venvs")
def plot(file: Path, venvs: Path) -> None:
    """Draw results again."""
    _draw(file, venvs)


def _draw(file: Path, venvs: Path) -> None:
    picture = file.with_suffix(".svg")
    try:
        plots.draw("draw.py", json.loads(file.read_text("utf-8")), picture, venvs)
    except PeerError as error:
        raise click.ClickException(f"no plot: {error}") from None
    click.echo(f"{file}\n{picture}")


if __name__ == "__main__":
    main()
