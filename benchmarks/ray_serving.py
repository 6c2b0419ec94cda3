"""Replicas on Ray under load: whether answers are right, and what a run costs more than on one
host without Ray. Models and clients are those of `serving.py`.

    python benchmarks/ray_serving.py clients --replicas 3 --clients 100 --runs 400
    python benchmarks/ray_serving.py overhead --rounds 60

Ray, its replicas and the server are on this machine, so they share its cores: what is said of
several replicas is what they cost, not how fast many machines are.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

import click
import httpx
from serving import DOCUMENT, LoopDelay, in_another_process, percentile, serving, solo_texts

from modelcompose_jupyter.document import RayRuntime, load_document
from modelcompose_jupyter.ray.cluster import cluster, deploy
from modelcompose_jupyter.ray.ray_host import RayHost
from modelcompose_jupyter.server.catalog import Catalog
from modelcompose_jupyter.server.server import Server, ServerSettings

_LIMITS = {"max_runs": 1000, "max_run_seconds": 600.0, "run_ttl": 600.0}


@contextlib.contextmanager
def replicated(replicas: int) -> Iterator[Server]:
    """A server of so many replicas; the cluster has to be there."""
    document = load_document(DOCUMENT)
    catalog = Catalog.of(document)
    runtime = RayRuntime(min_replicas=replicas, resources={"cpu": 0.5})
    host = RayHost(deploy(f"benchmark-{replicas}", runtime, _LIMITS))
    server = Server(host, lambda: catalog, settings=ServerSettings(port=0)).start()
    try:
        yield server
    finally:
        server.close()
        host.close(30)


@click.group(help=__doc__)
def main() -> None: ...


@main.command()
@click.option("--replicas", default=3, show_default=True)
@click.option("--clients", "count", default=100, show_default=True)
@click.option("--runs", default=400, show_default=True)
def clients(replicas: int, count: int, runs: int) -> None:
    """Many clients at once that stream, wait, poll, leave and cancel; without Ray, and with it."""
    with serving() as (alone, document):
        solo = solo_texts(alone, document)
        started = time.perf_counter()
        told = in_another_process(alone, solo, count, runs)
        _tell("without Ray", told, time.perf_counter() - started, [])
    with cluster(None), replicated(replicas) as server:
        solo_texts(server, document)  # every replica has its model
        delay = LoopDelay(server)
        started = time.perf_counter()
        told = in_another_process(server, solo, count, runs)
        _tell(f"{replicas} replicas", told, time.perf_counter() - started, delay.stop())
    if {"WRONG", "LOST", "FAILED"} & set(told["results"]):
        raise SystemExit(1)


def _tell(name: str, told: dict[str, Any], seconds: float, delays: list[float]) -> None:
    results, health = told["results"], [each * 1000 for each in told["health"]]
    bad = {name: results.get(name, 0) for name in ("WRONG", "LOST", "FAILED", "busy")}
    click.echo(f"{name}: {sum(results.values())} runs in {seconds:.1f} s: {results}")
    click.echo(
        f"  of these {bad}; /health ms: median {statistics.median(health):.1f}, "
        f"p99 {percentile(health, 0.99):.1f}"
        + (f"; loop late by ms: p99 {percentile(delays, 0.99) * 1000:.1f}" if delays else "")
    )


@main.command()
@click.option("--rounds", default=60, show_default=True)
@click.option("--tokens", default=100, show_default=True)
def overhead(rounds: int, tokens: int) -> None:
    """First token, and time for each further token, of one stream at a time over HTTP: without
    Ray, and with 1 to 3 replicas."""
    with serving() as (server, _):
        _measure("without Ray", server, rounds, tokens)
    with cluster(None):
        for replicas in (1, 2, 3):
            with replicated(replicas) as server:
                _measure(f"{replicas} replicas", server, rounds, tokens)


def _measure(name: str, server: Server, rounds: int, tokens: int) -> None:
    first, each = [], []
    with httpx.Client(base_url=server.url, trust_env=False, timeout=120) as client:
        for number in range(rounds + 5):
            values = {"prompt": f"A fox {number % 5}", "seed": number, "tokens": tokens}
            started = time.perf_counter()
            times, generated = [], 0
            with client.stream(
                "POST", "/workflows/runs", json={"input": values, "stream": True}
            ) as answer:
                kind = ""
                for line in answer.iter_lines():
                    if line.startswith("event: "):
                        kind = line[7:]
                    elif line.startswith("data: ") and kind in ("text", "state"):
                        data = json.loads(line[6:])
                        if kind == "text" and data["text"]:
                            times.append(time.perf_counter())
                        generated = data.get("summary", {}).get("usage", {}).get("generated", 0)
            if number >= 5 and generated > 1:
                first.append((times[0] - started) * 1000)
                each.append((times[-1] - times[0]) * 1000 / (generated - 1))
    click.echo(
        f"{name:12} first token ms: median {statistics.median(first):6.2f}, "
        f"p90 {percentile(first, 0.9):6.2f}; each further: median {statistics.median(each):.3f}, "
        f"p90 {percentile(each, 0.9):.3f}"
    )


if __name__ == "__main__":
    main()
