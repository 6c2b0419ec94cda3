"""The run API under load, on the bundled model: whether answers are right, and what serving costs.

    python benchmarks/serving.py clients --clients 16 --runs 200
    python benchmarks/serving.py clients --clients 100 --runs 400
    python benchmarks/serving.py memory --runs 5000
    python benchmarks/serving.py overhead --rounds 200

The server has this process, clients have another one, so that they do not share an interpreter.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import click
import httpx
import psutil

from modelcompose_jupyter import LocalHost, Workflow
from modelcompose_jupyter.document import Document, load_document
from modelcompose_jupyter.server.catalog import Catalog
from modelcompose_jupyter.server.server import Server, ServerSettings

DOCUMENT = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  seed: ${input.seed as integer}
  max_output_length: ${input.tokens as integer | 40}
"""
_PROMPTS = [f"Once upon a time a {who}" for who in ("fox", "owl", "robot", "baker", "mouse")]
_SEEDS = 8


@contextlib.contextmanager
def serving() -> Iterator[tuple[Server, Document]]:
    document = load_document(DOCUMENT)
    host = LocalHost()
    host.limit(max_runs=1000)
    catalog = Catalog.of(document)
    server = Server(host, lambda: catalog, settings=ServerSettings(port=0)).start()
    try:
        yield server, document
    finally:
        server.close()
        host.close()


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


# Clients (another process)


async def one_run(client: httpx.AsyncClient, solo: dict[str, str], chance: random.Random) -> str:
    """One run by a client that may leave or cancel; says what came of it."""
    prompt, seed = chance.choice(_PROMPTS), chance.randrange(_SEEDS)
    expected = solo[f"{prompt}/{seed}"]
    body: dict[str, Any] = {"input": {"prompt": prompt, "seed": seed}}
    what = chance.choice(["blocking", "blocking", "stream", "stream", "leave", "cancel", "poll"])
    if what == "blocking":
        answer = await client.post("/workflows/runs", json={**body, "output_only": True})
        if answer.status_code == 429:
            return "busy"
        return what if answer.json() == {"generated": expected} else "WRONG"
    if what == "poll":
        id = (
            await client.post("/workflows/runs", json={**body, "wait_for_completion": False})
        ).json()["task_id"]
        while (state := (await client.get(f"/tasks/{id}")).json())["status"] in (
            "pending",
            "processing",
        ):
            await asyncio.sleep(0.2)
        return what if state["output"] == {"generated": expected} else "WRONG"
    text, events = "", 0
    leaves_at = chance.randrange(1, 20)
    async with client.stream("POST", "/workflows/runs", json={**body, "stream": True}) as answer:
        if answer.status_code == 429:
            return "busy"
        event = ""
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: "):
                data = json.loads(line[6:])
                events += 1
                if event == "text":
                    text = text[: data["offset"]] + data["text"]
                if what == "leave" and events >= leaves_at:
                    return what if expected.startswith(text.rstrip("\ufffd")) else "WRONG"
                if what == "cancel" and events == leaves_at:
                    await client.post(f"/tasks/{answer.headers['x-task-id']}/cancel")
                if event == "state" and data["state"] in ("completed", "failed", "cancelled"):
                    if data["state"] == "failed":
                        return "FAILED"
                    whole = data["state"] == "completed"
                    right = text == expected if whole else expected.startswith(text)
                    return what if right and (whole or what == "cancel") else "WRONG"
    return "LOST"


async def clients(
    url: str, solo: dict[str, str], count: int, runs: int, seed: int
) -> dict[str, Any]:
    results: Counter[str] = Counter()
    health: list[float] = []
    left = runs

    async def work(number: int) -> None:
        nonlocal left
        chance = random.Random(seed * 1000 + number)
        while left > 0:
            left -= 1
            results[await one_run(client, solo, chance)] += 1

    async def probe() -> None:
        while True:
            started = time.perf_counter()
            await client.get("/health")
            health.append(time.perf_counter() - started)
            await asyncio.sleep(0.05)

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=url, timeout=600, limits=limits, trust_env=False
    ) as client:
        probing = asyncio.create_task(probe())
        await asyncio.gather(*(work(number) for number in range(count)))
        probing.cancel()
    return {"results": results, "health": health}


def in_another_process(
    server: Server, solo: dict[str, str], count: int, runs: int
) -> dict[str, Any]:
    command = [sys.executable, __file__, "client", server.url, str(count), str(runs)]
    done = subprocess.run(command, input=json.dumps(solo), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def solo_texts(server: Server, document: Document) -> dict[str, str]:
    """What each prompt and seed gives when nothing else runs."""
    flow = Workflow(document, host=server.host)
    return {
        f"{prompt}/{seed}": flow(prompt=prompt, seed=seed)["generated"]
        for prompt in _PROMPTS
        for seed in range(_SEEDS)
    }


class LoopDelay:
    """How late the server's event loop is, tried every 10 ms."""

    def __init__(self, server: Server) -> None:
        self.delays: list[float] = []
        assert server._loop is not None
        self._task = asyncio.run_coroutine_threadsafe(self._measure(), server._loop)

    async def _measure(self) -> None:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0.01)
            self.delays.append(time.perf_counter() - started - 0.01)

    def stop(self) -> list[float]:
        self._task.cancel()
        return self.delays


@click.group(help=__doc__)
def main() -> None: ...


@main.command("clients")
@click.option("--clients", "count", default=16, show_default=True)
@click.option("--runs", default=200, show_default=True)
def clients_command(count: int, runs: int) -> None:
    """Many clients at once that stream, wait, poll, leave and cancel."""
    with serving() as (server, document):
        solo = solo_texts(server, document)
        delay = LoopDelay(server)
        started = time.perf_counter()
        told = in_another_process(server, solo, count, runs)
        taken = time.perf_counter() - started
        delays = delay.stop()
        going = [run for run in server.host.runs() if not run.done]
        for run in going:
            run.wait(60)
    results = told["results"]
    health = [each * 1000 for each in told["health"]]
    click.echo(f"{count} clients, {sum(results.values())} runs in {taken:.1f} s: {results}")
    bad = {name: results.get(name, 0) for name in ("WRONG", "LOST", "FAILED", "busy")}
    click.echo(f"of these: {bad}")
    click.echo(
        f"/health ms: median {statistics.median(health):.1f}, p99 {percentile(health, 0.99):.1f}; "
        f"event loop late by ms: median {statistics.median(delays) * 1000:.2f}, "
        f"p99 {percentile(delays, 0.99) * 1000:.1f}, worst {max(delays) * 1000:.1f}"
    )
    if {"WRONG", "LOST", "FAILED"} & set(results):
        raise SystemExit(1)


@main.command("client", hidden=True)
@click.argument("url")
@click.argument("count", type=int)
@click.argument("runs", type=int)
def client_command(url: str, count: int, runs: int) -> None:
    told = asyncio.run(clients(url, json.load(sys.stdin), count, runs, 1))
    click.echo(json.dumps(told))


@main.command()
@click.option("--runs", default=5000, show_default=True)
@click.option("--clients", "count", default=16, show_default=True)
@click.option("--tokens", default=10, show_default=True)
def memory(runs: int, count: int, tokens: int) -> None:
    """The process's own memory (USS) over many runs through the API, half of them streamed."""
    process = psutil.Process()
    with serving() as (server, _):
        steps = 10
        for step in range(steps + 1):
            uss = process.memory_full_info().uss / 2**20
            click.echo(f"{step * runs // steps:6} runs  {uss:7.1f} MiB")
            if step < steps:
                asyncio.run(_many(server.url, runs // steps, count, tokens))


async def _many(url: str, runs: int, count: int, tokens: int) -> None:
    limits = httpx.Limits(max_connections=None)
    gate = asyncio.Semaphore(count)
    async with httpx.AsyncClient(
        base_url=url, timeout=600, limits=limits, trust_env=False
    ) as client:

        async def one(number: int) -> None:
            async with gate:
                values = {"prompt": _PROMPTS[number % 5], "seed": number, "tokens": tokens}
                body = {"input": values, "stream": number % 2 == 0}
                answer = await client.post("/workflows/runs", json=body)
                assert answer.status_code == 200, answer.text

        await asyncio.gather(*(one(number) for number in range(runs)))


@main.command()
@click.option("--rounds", default=200, show_default=True)
@click.option("--tokens", default=1, show_default=True)
def overhead(rounds: int, tokens: int) -> None:
    """What a blocking run over the API takes beyond one in this process, turn by turn."""
    with serving() as (server, document):
        flow = Workflow(document, host=server.host)
        values = {"prompt": "A fox", "seed": 1, "tokens": tokens}
        taken: dict[str, list[float]] = {"in process": [], "over HTTP": []}
        with httpx.Client(base_url=server.url, trust_env=False) as client:

            def over_http() -> Any:
                return client.post(
                    "/workflows/runs", json={"input": values, "output_only": True}
                ).json()

            ways = {"in process": lambda: flow(values), "over HTTP": over_http}
            assert ways["in process"]() == ways["over HTTP"]()
            for number in range(rounds):
                for name in sorted(ways, reverse=number % 2 == 1):
                    started = time.perf_counter()
                    ways[name]()
                    taken[name].append((time.perf_counter() - started) * 1000)
    for name, times in taken.items():
        median = statistics.median(times)
        click.echo(f"{name:10} median {median:6.2f} ms, p90 {percentile(times, 0.9):6.2f}")
    differences = [h - p for h, p in zip(taken["over HTTP"], taken["in process"], strict=True)]
    quarter = statistics.quantiles(differences, n=4)
    click.echo(
        f"over HTTP takes {statistics.median(differences):.2f} ms more "
        f"(quartiles {quarter[0]:.2f} to {quarter[2]:.2f}, {rounds} rounds)"
    )


if __name__ == "__main__":
    main()
