"""Replicas on Ray, on this machine: what servers and directory take, and what clients see."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import ray

from modelcompose_jupyter.document import RayRuntime, load_document
from modelcompose_jupyter.ray.cluster import Application, deploy
from modelcompose_jupyter.ray.messages import Route
from modelcompose_jupyter.ray.placement import Ring
from modelcompose_jupyter.ray.ray_host import RayHost
from modelcompose_jupyter.server.catalog import Catalog
from modelcompose_jupyter.server.server import Server, ServerSettings

from .clients import DOCUMENT, over_http
from .service_times import EngineTimes, ServerTimes, line
from .slowed import make_host
from .workload import Workload

QUICK = EngineTimes("slowed storyteller", 0.02, 0.0, 0.0005, 64, 2**19, 256)
_SHORT, _LONG = 2, 42


@contextlib.contextmanager
def replicas(
    count: int, times: EngineTimes, most_runs: int = 256
) -> Iterator[tuple[Server, Application]]:
    """A server of so many replicas that are as slow as is said; the cluster has to be there."""
    document = load_document(DOCUMENT)
    catalog = Catalog.of(document)
    runtime = RayRuntime(min_replicas=count, resources={"cpu": 0.5})
    limits = {"max_runs": most_runs, "max_run_seconds": 600.0, "run_ttl": 600.0}
    name = f"simulation-{os.getpid()}-{time.monotonic_ns()}"
    application = deploy(name, runtime, limits, make_host=partial(make_host, times))
    host = RayHost(application)
    server = Server(host, lambda: catalog, settings=ServerSettings(port=0)).start()
    try:
        _load_everywhere(server, count)
        yield server, application
    finally:
        server.close()
        host.close(30)


def _load_everywhere(server: Server, count: int) -> None:
    """Every replica has its model."""
    number = 0
    while len(server.host.models()) == 0 or _loaded(server) < count:
        _ask(server, f"Who {number}", 1)
        number += 1


def _loaded(server: Server) -> int:
    return sum(bool(each) for each in server.host._all("models"))


def _ask(server: Server, prompt: str, tokens: int) -> float:
    """Seconds to the first token of a stream, which is read to its end."""
    body = {"input": {"prompt": prompt, "tokens": tokens}, "stream": True}
    started, first, kind = time.perf_counter(), 0.0, ""
    with httpx.stream(
        "POST", f"{server.url}/workflows/runs", json=body, timeout=300, trust_env=False
    ) as answer:
        if answer.status_code == 429:
            return 0.0
        for each in answer.iter_lines():
            if each.startswith("event: "):
                kind = each[7:]
            elif each.startswith("data: ") and kind == "text" and json.loads(each[6:])["text"]:
                first = first or time.perf_counter() - started
    return first


def server_times(folder: Path) -> ServerTimes:
    """What a server and the directory take of a processor, by the clock of their processes."""
    points: dict[str, list[tuple[float, float]]] = {"server": [], "directory": []}
    with replicas(1, QUICK) as (server, application):
        ask = application.directory.__ray_call__.remote
        watched = {"server": python_seconds, "directory": lambda: ray.get(ask(python_seconds))}
        for reply in (_SHORT, _LONG):
            workload = Workload(
                32, pause=1.0, turns=1, classes=8, beginning=60, question=10, reply=reply,
                spread=0.0, by_class=True,
            )  # fmt: skip
            before = {name: seconds() for name, seconds in watched.items()}
            told = over_http(server.url, workload, folder, 0.0, 20.0)
            for name, seconds in watched.items():
                taken = (seconds() - before[name]) / len(told.whole)
                print(f"{name}, ms of a run of {reply}: {taken * 1000:.2f}", flush=True)
                points[name].append((reply, taken))
        first = statistics.quantiles(
            [_ask(server, f"Once {number}", 2) for number in range(40)], n=4
        )[0]
        print(f"first token alone, ms: {first * 1000:.1f}", flush=True)
    run, event = line(points["server"])
    directory = statistics.fmean(each for _, each in points["directory"])
    path = max(0.0, first - QUICK.step(1) - run - directory)
    refused = {count: _refusal(count) for count in (1, 3)}
    attempt = (refused[3] - refused[1]) / 2
    return ServerTimes(run, event, attempt, _ranking(), directory, path)


def python_seconds(_: Any = None) -> float:
    """What threads that run Python have taken of the processor: of these one runs at a time. Ray
    has others beside, which have cores of their own where there are more than here."""
    own = {each.native_id for each in threading.enumerate()}
    threads = psutil.Process().threads()
    return sum(each.user_time + each.system_time for each in threads if each.id in own)


def _refusal(count: int) -> float:
    """Seconds of the server's for a run that so many replicas refuse."""
    with replicas(count, replace(QUICK, step_base=1.0), most_runs=2) as (server, _):
        with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
            body = {"input": {"prompt": "Once", "tokens": 400}, "wait_for_completion": False}
            while client.post("/workflows/runs", json=body).status_code != 429:
                pass
            before, rounds = python_seconds(), 200
            for _ in range(rounds):
                assert client.post("/workflows/runs", json=body).status_code == 429
            taken = (python_seconds() - before) / rounds
        print(f"ms of a run that {count} refuse, client included: {taken * 1000:.2f}", flush=True)
        for run in server.host.runs():
            run.cancel()
    return taken


def _ranking(count: int = 256, rounds: int = 400) -> float:
    """Seconds for each replica to say which is best."""
    names = [f"{number:012x}" for number in range(count)]
    ring, loads = Ring(names), {name: number % 7 for number, name in enumerate(names)}
    times = []
    for number in range(rounds):
        started = time.perf_counter()
        ring.ranked(Route(beginning=str(number)), loads)
        times.append(time.perf_counter() - started)
    return statistics.median(times) / count


def restart_seconds() -> float:
    """From the end of the only replica to the first token of a run that was there."""
    with replicas(1, replace(QUICK, step_base=0.2)) as (server, application):
        (actor,) = [
            each
            for each in ray.util.list_named_actors(all_namespaces=True)
            if each["name"].startswith(f"SERVE_REPLICA::{application.name}#")
        ]
        handle = ray.get_actor(actor["name"], namespace=actor["namespace"])
        os.kill(ray.get(handle.__ray_call__.remote(lambda _: os.getpid())), signal.SIGKILL)
        started = time.perf_counter()
        _ask(server, "Once upon a time", 1)
        return time.perf_counter() - started
