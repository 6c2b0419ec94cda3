"""Three users of one host while one of them floods: what the others wait for.

    python benchmarks/users.py --runs 30 --flood 60

Two users, ada and cem, run one story after the other; ben keeps as many runs going as --flood says
and begins a new one whenever one ends or is refused. Once without ben; once where all are guests of
one group, as on a server that knows nobody by name; once as users, who take turns; and once as
users with the limits that `model-compose up --jupyterhub` has by default. The component lets eight
requests through at a time, so that there is something to wait for.

The server has a process of its own. First tokens are counted from the request. The exit status is 1
where a run of ada's or cem's fails.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import click
import httpx

from modelcompose_jupyter import LocalHost
from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.host import SERVING_LIMITS
from modelcompose_jupyter.server.access import Access, Caller
from modelcompose_jupyter.server.catalog import Catalog
from modelcompose_jupyter.server.server import Server, ServerSettings

DOCUMENT = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_concurrent_count: 8
  min_output_length: 100
  max_output_length: 100
"""
_LIMITS = {"max_user_running": 4, "max_user_runs": 40}
_AGAIN_SECONDS = 0.2  # after which who was refused asks again, whatever Retry-After says
_POLITE = ("ada", "cem")


@dataclass(frozen=True)
class Setting:
    """How the server sees who calls.

    Attributes:
        title: in the table.
        floods: whether ben is there.
        knows_users: whether callers are known by name.
        limits: whether users have limits.
    """

    title: str
    floods: bool = True
    knows_users: bool = True
    limits: bool = False


SETTINGS = (
    Setting("nobody floods", floods=False),
    Setting("one group of guests", knows_users=False),
    Setting("users take turns"),
    Setting("users with limits", limits=True),
)


class Names:
    """Everybody is who they say they are."""

    async def caller(self, token: str) -> Caller | None:
        return Caller(user=token)


def serve(setting: Setting, pipe: Connection) -> None:
    """Serve, in a process of its own, until the pipe says something."""
    document = load_document(DOCUMENT)
    host = LocalHost()
    host.limit(**{**SERVING_LIMITS, **(_LIMITS if setting.limits else {})})
    access = Access("127.0.0.1", identities=Names() if setting.knows_users else None)
    catalog = Catalog.of(document)
    server = Server(host, lambda: catalog, access, ServerSettings(port=0, max_user_requests=500))
    host.submit(document, None, {"prompt": "Once"}).result()  # the model is in memory then
    pipe.send(server.start().url)
    pipe.recv()
    server.close()
    host.close()


@dataclass
class Seen:
    """What one user saw of their runs."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    tokens: int = 0
    refused: int = 0
    failed: int = 0


async def run(client: httpx.AsyncClient, number: int, seen: Seen) -> bool:
    """One run as a stream; whether it was taken."""
    body = {"input": {"prompt": f"Once upon a time {number}"}, "seed": number, "stream": True}
    began = time.perf_counter()
    first: float | None = None
    async with client.stream("POST", "/workflows/runs", json=body) as answer:
        if answer.status_code != 200:
            seen.refused += 1
            return False
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            data = json.loads(line.removeprefix("data: "))
            if first is None and data.get("text"):
                first = time.perf_counter() - began
            if summary := data.get("summary"):
                seen.tokens += summary["usage"]["generated"]
                seen.failed += data["state"] != "completed"
    if first is not None:
        seen.first.append(first)
    seen.whole.append(time.perf_counter() - began)
    return True


@asynccontextmanager
async def client_of(url: str, user: str) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    headers = {"Authorization": f"Bearer {user}"}
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=600, limits=limits, trust_env=False
    ) as client:
        yield client


async def one_after_the_other(url: str, user: str, runs: int, seen: Seen) -> None:
    async with client_of(url, user) as client:
        for number in range(runs):
            while not await run(client, number, seen):
                await asyncio.sleep(_AGAIN_SECONDS)


async def flood(url: str, at_once: int, seen: Seen) -> None:
    async def again_and_again(number: int) -> None:
        while True:
            number += at_once
            if not await run(client, number, seen):
                await asyncio.sleep(_AGAIN_SECONDS)

    async with client_of(url, "ben") as client:
        await asyncio.gather(*(again_and_again(number) for number in range(at_once)))


async def measure(url: str, setting: Setting, runs: int, at_once: int) -> dict[str, Seen]:
    """What everybody saw until ada and cem had all of theirs."""
    seen = {name: Seen() for name in (*_POLITE, "ben")}
    flooding = None
    if setting.floods:
        flooding = asyncio.create_task(flood(url, at_once, seen["ben"]))
        while not seen["ben"].whole:  # it is there before the others come
            await asyncio.sleep(0.01)
        seen["ben"].tokens = 0
    await asyncio.gather(*(one_after_the_other(url, name, runs, seen[name]) for name in _POLITE))
    if flooding is not None:
        flooding.cancel()
        await asyncio.wait([flooding])
    return seen


def measured(setting: Setting, runs: int, at_once: int) -> dict[str, Seen]:
    """What everybody saw."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(setting, there))
    server.start()
    there.close()  # so that it is heard here if the server ends
    try:
        url = here.recv()
        return asyncio.run(measure(url, setting, runs, at_once))
    finally:
        here.send("end")
        server.join(30)
        server.kill()


@click.command()
@click.option("--runs", default=30, show_default=True, help="Of ada and of cem, each.")
@click.option("--flood", "at_once", default=60, show_default=True, help="Runs of ben's at a time.")
def main(runs: int, at_once: int) -> None:
    """Print a table."""
    click.echo(
        "| | first token, median | 95 % | whole run, median | refused | ben's share of tokens |"
        " ben refused |\n|---|---|---|---|---|---|---|"
    )
    failed = 0
    for setting in SETTINGS:
        seen = measured(setting, runs, at_once)
        polite = [seen[name] for name in _POLITE]
        first = [each for one in polite for each in one.first]
        whole = [each for one in polite for each in one.whole]
        ben = seen["ben"]
        total = ben.tokens + sum(each.tokens for each in polite)
        failed += sum(each.failed for each in polite)
        click.echo(
            f"| {setting.title} | {statistics.median(first) * 1000:.0f} ms"
            f" | {statistics.quantiles(first, n=20)[-1] * 1000:.0f} ms"
            f" | {statistics.median(whole) * 1000:.0f} ms"
            f" | {sum(each.refused for each in polite)}"
            f" | {ben.tokens / total:.0%} | {ben.refused} |"
        )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
