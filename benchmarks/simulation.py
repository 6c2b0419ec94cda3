"""Up to 256 replicas and a million users, simulated with service times that were measured.

    python benchmarks/simulation.py measure     # this machine's; minutes, best while it is quiet
    python benchmarks/simulation.py check       # real replicas beside simulated ones; minutes
    python benchmarks/simulation.py sweep       # all that the documentation shows; minutes
    python benchmarks/simulation.py plot
    python benchmarks/simulation.py run --users 1000000 --replicas 256 --applications 8 --servers 4

`measure` writes results/service_times.json, which the others read: another file, by --times, has
figures of your own machines. What is assumed stands in docs/scaling.md.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
from peers import machine, plots, weights
from peers.processes import PeerError
from simulated.cluster import Seen, Setting, Simulation
from simulated.service_times import EngineTimes, ServerTimes, ServiceTimes
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
        "given_up": seen.given_up,
        "failures": seen.failures,
        "begun_anew": seen.begun_anew,
        "lost": seen.lost,
        "busiest_server": round(seen.busiest_server, 3),
        "busiest_directory": round(seen.busiest_directory, 3),
    }


@main.command()
@click.option("--users", default=1000, show_default=True)
@click.option("--think", default=30.0, show_default=True, help="Mean seconds within a chat.")
@click.option("--pause", default=7200.0, show_default=True, help="Mean seconds between chats.")
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
    pause: float,
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
        users, think, pause, turns, classes, beginning=beginning, reply=reply, by_class=by_class
    )
    started = time.perf_counter()
    told = told_of(Simulation(setting, workload, seed).run(warm, seconds))
    click.echo(json.dumps(told, indent=1))
    click.echo(f"simulated in {time.perf_counter() - started:.0f} s")


# The sweep

_APPLICATION = 64
"""Replicas of an application at most, and those of each of its servers."""
_OF_A_SERVER = 4
_CHATS = Workload(0, classes=1000)
_PROMPTS = Workload(0, turns=1, pause=1800.0, classes=2000, beginning=400, by_class=True)
_USERS = 3000  # of each replica, about half of what it bears


def setting_of(replicas: int, measured: ServiceTimes, **more: Any) -> Setting:
    """So many replicas, with as many servers as they need, and applications."""
    applications = max(1, replicas // _APPLICATION)
    servers = max(1, replicas // applications // _OF_A_SERVER)
    engine = measured.engines[_MODEL]
    return Setting(
        replicas, engine, measured.server, servers, applications, restart=measured.restart, **more
    )


@main.command()
@click.option("--most", default=256, show_default=True, help="Replicas.")
@click.option("--parts", default="scale,routing,failures", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=_RESULTS)
@_times
@_seed
def sweep(most: int, parts: str, output: Path, times: Path, seed: int) -> None:
    """Throughput and first token by replicas and users; routing; failures."""
    measured = ServiceTimes.load(times)
    told: dict[str, Any] = {"seed": seed, "times": asdict(measured), "model": _MODEL}
    settings = {"scale": _scale, "routing": _routing, "failures": _failures}
    for name in parts.split(","):
        told[name] = []
        for row, setting, workload, warm, seconds in settings[name](measured, most):
            started = time.perf_counter()
            seen = Simulation(setting, workload, seed).run(warm, seconds)
            row |= told_of(seen)
            row["simulated_in"] = round(time.perf_counter() - started, 1)
            if name == "failures":
                row["whole"] = [round(each, 3) for each in _tail(seen.whole)]
            click.echo(f"{name} {row}")
            told[name].append(row)
            output.write_text(json.dumps(told) + "\n", "utf-8")


Item = tuple[dict[str, Any], Setting, Workload, float, float]


def _scale(measured: ServiceTimes, most: int) -> Iterator[Item]:
    for users, seconds in ((10_000, 1200.0), (100_000, 300.0), (1_000_000, 150.0)):
        for replicas in _doubled(most):
            if users / replicas < 40_000:  # with less it takes as much as it can, no more
                row = {"users": users, "replicas": replicas}
                setting = setting_of(replicas, measured)
                yield row, setting, replace(_CHATS, users=users), 150.0, seconds


def _routing(measured: ServiceTimes, most: int) -> Iterator[Item]:
    for name, workload in (("chats", _CHATS), ("prompts", _PROMPTS)):
        for replicas in _doubled(most, 4):
            seconds = 100.0 if replicas > 64 else 400.0
            for by_beginning in (True, False):
                row = {"workload": name, "replicas": replicas, "by_beginning": by_beginning}
                setting = setting_of(replicas, measured, by_beginning=by_beginning)
                yield row, setting, replace(workload, users=_USERS * replicas), 150.0, seconds


def _failures(measured: ServiceTimes, most: int) -> Iterator[Item]:
    replicas = min(most, _APPLICATION)
    workload = replace(_CHATS, users=_USERS * replicas)
    for failures, seconds in ((0.0, 600.0), (0.01, 3600.0), (1.0, 1800.0)):
        row = {"failures_an_hour": failures, "replicas": replicas}
        yield row, setting_of(replicas, measured, failures=failures), workload, 100.0, seconds


def _doubled(most: int, times: int = 2) -> Iterator[int]:
    number = 1
    while number <= most:
        yield number
        number *= times


def _tail(values: list[float]) -> list[float]:
    """What a share of 1, 0.5, 0.25, … of the values is beyond."""
    ordered, found, left = sorted(values), [], float(len(values))
    while left >= 1:
        found.append(ordered[len(ordered) - int(left)])
        left /= 2
    return found


# Beside the real thing

_SLOWED = EngineTimes("slowed storyteller", 0.2, 0.01, 0.005, 64, 2**19, 256)
_CLIENTS = Workload(
    0, think=5.0, pause=10.0, turns=3, classes=12, beginning=80, question=20, reply=24,
    by_class=True,
)  # fmt: skip
_ALONE = replace(_CLIENTS, think=0.05, pause=0.1)


@main.command()
@click.option("--seconds", default=60.0, show_default=True, help="Of each, after as many.")
@click.option("--clients", default=20, show_default=True, help="Of each replica.")
@click.option("--output", type=click.Path(path_type=Path), default=_CHECK)
@_times
@_work
def check(seconds: float, clients: int, output: Path, times: Path, work: Path) -> None:
    """Real replicas on Ray, whose steps sleep, and a real host, beside simulated ones."""
    from peers import weights
    from simulated import clients as real
    from simulated import engine_times, real_cluster, slowed

    from modelcompose_jupyter import LocalHost
    from modelcompose_jupyter.ray.cluster import cluster

    measured = ServiceTimes.load(times)
    folder = weights.folder_of(weights.BUNDLED, "bfloat16", work)
    rows: list[dict[str, Any]] = []

    def compare(name: str, setting: Setting, workload: Workload, seen: Any) -> None:
        row = {
            "what": name,
            "clients": workload.users,
            "seen": _figures(seen.first, seen.whole, seen.reused / seen.prompt, seconds),
            "failed": seen.failed,
            "refused": seen.refused,
            "load": os.getloadavg()[0],
        }
        each = Simulation(setting, workload, 1).run(seconds, seconds)
        row["simulated"] = _figures(each.first, each.whole, each.hit_rate, seconds)
        row["error"] = {
            key: round(row["simulated"][key] / value - 1, 3) for key, value in row["seen"].items()
        }
        click.echo(json.dumps(row))
        rows.append(row)
        output.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")

    nothing = ServerTimes(0, 0, 0, 0, 0, 0)
    for users in (4, 16):
        # What else this machine does now slows both.
        engine = engine_times.measure_as_it_is(weights.BUNDLED, work, 3, users)
        workload = replace(_ALONE, users=users)
        seen = real.of_a_host(LocalHost(), workload, folder, seconds, seconds)
        compare("one host, bundled model", Setting(1, engine, nothing), workload, seen)
    workload = replace(_CLIENTS, users=clients)
    seen = real.of_a_host(slowed.make_host(_SLOWED), workload, folder, seconds, seconds)
    compare("one host, slowed", Setting(1, _SLOWED, nothing), workload, seen)
    _prepare_workers()
    with cluster(None):
        for replicas in (1, 2, 3):
            workload = replace(_CLIENTS, users=clients * replicas)
            with real_cluster.replicas(replicas, _SLOWED) as (server, _):
                seen = real.over_http(server.url, workload, folder, seconds, seconds)
            setting = Setting(replicas, _SLOWED, measured.server)
            compare(f"{replicas} replicas on Ray, slowed", setting, workload, seen)


def _figures(
    first: list[float], whole: list[float], reused: float, seconds: float
) -> dict[str, float]:
    parts = statistics.quantiles(first, n=20)
    return {
        "runs_a_second": round(len(whole) / seconds, 3),
        "first_p50": round(parts[9], 4),
        "first_p95": round(parts[18], 4),
        "whole_p50": round(statistics.median(whole), 4),
        "reused": round(reused, 3),
    }


def _prepare_workers() -> None:
    """Have Ray's processes find this folder, and the package that this one uses; and not stand back
    behind all else that this machine does, as they do by default."""
    paths = (str(_HERE), str(_HERE.parent), os.environ.get("PYTHONPATH"))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112


@main.command()
@click.option("--rounds", default=6, show_default=True)
@click.option("--parts", default="engine,server", show_default=True)
@click.option(
    "--results", type=click.Path(exists=True, path_type=Path),
    help="Of engine.py, with one-stream, 16-streams and prompt-512: times of its model.",
)  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), default=_TIMES)
@_work
def measure(rounds: int, parts: str, results: Path | None, output: Path, work: Path) -> None:
    """Times of engine, servers, directory and a restart, on this machine."""
    from simulated import engine_times, real_cluster

    from modelcompose_jupyter.ray.cluster import cluster

    found = ServiceTimes.load(output) if output.exists() else ServiceTimes.empty()
    found = replace(found, machine=machine.describe("cpu"))
    if "engine" in parts:
        shapes = [weights.BUNDLED] if results else [weights.BUNDLED, _MODEL]
        engines = [engine_times.measure(shape, work, rounds) for shape in shapes]
        if results:
            told = json.loads(results.read_text("utf-8"))
            engines.append(engine_times.of_results(told, work))
        found = replace(found, engines={each.model: each for each in engines})
    if "server" in parts:
        _prepare_workers()
        folder = weights.folder_of(weights.BUNDLED, "bfloat16", work)
        with cluster(None):
            found = replace(
                found,
                server=real_cluster.server_times(folder),
                restart=real_cluster.restart_seconds(),
            )
    found.save(output)
    click.echo(output)


@main.command()
@click.argument("results", type=click.Path(exists=True, path_type=Path), default=_RESULTS)
@_work
def plot(results: Path, work: Path) -> None:
    """Draw what `sweep` found, into pictures beside its results."""
    told = json.loads(results.read_text("utf-8"))
    for name in ("scale", "routing", "failures"):
        picture = results.with_name(f"{results.stem}-{name}.svg")
        try:
            plots.draw("simulation.py", {**told, "picture": name}, picture, work / "venvs")
        except PeerError as error:
            raise click.ClickException(f"no plot: {error}") from None
        click.echo(picture)


if __name__ == "__main__":
    main()
