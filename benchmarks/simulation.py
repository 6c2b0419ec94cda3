"""A cluster of up to 256 replicas and a million users, simulated with service times that are measured.

    python benchmarks/simulation.py measure            # this machine's; minutes, best when it is quiet
    python benchmarks/simulation.py check              # real replicas beside simulated ones
    python benchmarks/simulation.py sweep              # all that the documentation shows; minutes
    python benchmarks/simulation.py plot
    python benchmarks/simulation.py run --users 1000000 --replicas 256 --servers 4 --applications 8

`measure` writes results/service_times.json, which all the others read: another file, by --times, has
figures of your own machines. What is assumed stands in docs/scaling.md.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from peers import plots
from peers.processes import PeerError
from simulated.cluster import Seen, Setting, Simulation
from simulated.service_times import EngineTimes, ServiceTimes
from simulated.workload import Workload

_HERE = Path(__file__).parent
_TIMES = _HERE / "results" / "service_times.json"
_RESULTS = _HERE / "results" / "simulation.json"
_CHECK = _HERE / "results" / "simulation-check.json"
_WORK = Path(tempfile.gettempdir()) / "modelcompose-benchmark"
_MODEL = "smollm2-135m"

_times = click.option(
    "--times", type=click.Path(exists=True, path_type=Path), default=_TIMES,
    show_default="benchmarks/results/service_times.json",
)  # fmt: skip
_seed = click.option("--seed", default=0, show_default=True)
_work = click.option("--folder", "work", type=Path, default=_WORK, help="Of models.")


@click.group(help=__doc__)
def main() -> None: ...


def told_of(seen: Seen) -> dict[str, Any]:
    """What a simulation says, in seconds."""
    first, whole = (statistics.quantiles(each, n=100) for each in (seen.first, seen.whole))
    return {
        "runs_a_second": round(seen.throughput, 2),
        "tokens_a_second": round(seen.reply_tokens / seen.seconds, 1),
        "first_p50": round(first[49], 4),
        "first_p95": round(first[94], 4),
        "whole_p50": round(whole[49], 3),
        "whole_p95": round(whole[94], 3),
        "whole_p99": round(whole[98], 3),
        "paused_p50": round(statistics.median(seen.paused), 3) if seen.paused else None,
        "present": round(seen.present, 1),
        "hit_rate": round(seen.hit_rate, 3),
        "runs": len(seen.whole),
        "refused": seen.refused,
        "failures": seen.failures,
        "begun_anew": seen.begun_anew,
        "lost": seen.lost,
        "busiest_server": round(seen.busiest_server, 3),
        "busiest_directory": round(seen.busiest_directory, 3),
    }


@main.command()
@click.option("--users", default=1000, show_default=True)
@click.option("--think", default=300.0, show_default=True, help="Mean seconds between runs.")
@click.option("--turns", default=4, show_default=True, help="Of a chat.")
@click.option("--classes", default=1000, show_default=True, help="Beginnings that are shared.")
@click.option("--beginning", default=200, show_default=True, help="Tokens of them.")
@click.option("--reply", default=80, show_default=True, help="Mean tokens.")
@click.option("--by-class", is_flag=True, help="Prompts that begin alike go to the same replica.")
@click.option("--replicas", default=1, show_default=True)
@click.option("--servers", default=1, show_default=True, help="Of each application.")
@click.option("--applications", default=1, show_default=True)
@click.option("--least-load", is_flag=True, help="Route by load alone.")
@click.option("--failures", default=0.0, show_default=True, help="Of a replica in an hour.")
@click.option("--model", default=_MODEL, show_default=True)
@click.option("--warm", default=200.0, show_default=True, help="Seconds that do not count.")
@click.option("--seconds", default=200.0, show_default=True)
@_times
@_seed
def run(
    users: int,
    think: float,
    turns: int,
    classes: int,
    beginning: int,
    reply: int,
    by_class: bool,
    replicas: int,
    servers: int,
    applications: int,
    least_load: bool,
    failures: float,
    model: str,
    warm: float,
    seconds: float,
    times: Path,
    seed: int,
) -> None:
    """One setting, once."""
    measured = ServiceTimes.load(times)
    setting = Setting(
        replicas, measured.engines[model], measured.server, servers, applications,
        by_beginning=not least_load, failures=failures, restart=measured.restart,
    )  # fmt: skip
    workload = Workload(
        users, think, turns, classes, beginning=beginning, reply=reply, by_class=by_class
    )
    started = time.perf_counter()
    told = told_of(Simulation(setting, workload, seed).run(warm, seconds))
    click.echo(json.dumps(told, indent=1))
    click.echo(f"simulated in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
