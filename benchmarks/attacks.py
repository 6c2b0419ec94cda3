"""Honest clients beside hostile ones: who is kept waiting, who fails, and what the host takes.

    python benchmarks/attacks.py                     # each attack in turn, a hundred honest clients
    python benchmarks/attacks.py headers slots --seconds 60

Each row has a host of its own, as `model-compose up` starts it, a process of honest clients and one
of attackers. Half of the honest clients are the owner's programs, half are guests; each makes short
runs of the bundled model, one after the other, in turn as an answer that is waited for, a stream, a
task that is polled, and a completion of ``/v1``. Attackers are guests.

Who is answered 429 or 503 with ``Retry-After`` comes again as it says, as libraries do, and is
counted as sent away. A failure is everything else that is no right answer: another status, a
connection that breaks, another text than before for the same prompt and seed, or none within a
minute. The first row, ``nobody``, is without attackers.

The attacks ``template``, ``layers``, ``header`` and ``growth`` are runs of a component whose folder
is hostile: the bundled model's with one file changed.

The host is ended where it takes more than ``--memory``, and everything that was asked of it fails.
The exit status is 1 where an honest request failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import httpx
import psutil

from modelcompose_jupyter.models.weights.source import bundled
from modelcompose_jupyter.server.serving_kernel import serve_document

DOCUMENT = """\
components:
  - id: teller
    type: model
    task: text-generation
    model: bundled:storyteller
    text: ${input.prompt as text}
    seed: ${input.seed as integer | 1}
    max_output_length: 10
    default: true
  - id: hostile
    type: model
    task: HOSTILE_TASK
    model: HOSTILE_MODEL
    HOSTILE_INPUT
    max_output_length: 10
workflows:
  - id: story
    job: {component: teller}
    default: true
  - id: long
    job: {component: teller, repeat_count: 100000}
  - id: hostile
    job: {component: hostile}
"""
_TEXT, _MESSAGES = "text: ${input.prompt as text}", "messages: ${input.messages}"
_PROMPTS = [f"Once upon a time a {who}" for who in ("fox", "owl", "robot", "baker", "mouse")]
_SEEDS = 4
_SECONDS = 60.0  # bounds each honest request
_LOOK_SECONDS = 0.05
_AHEAD_SECONDS = 1.0  # that attackers have before the honest ones begin
_MIB = 2**20
_CONNECTIONS = 1100  # more than a host has


# The host (a process of its own)


def hostile_folder(attack: str, folder: Path) -> None:
    """The bundled model with one file that harms who reads it."""
    shutil.copytree(bundled()["storyteller"], folder)
    if attack == "template":
        loops = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"
        (folder / "chat_template.jinja").write_text(loops)
    elif attack == "layers":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3_000_000}))
    elif attack == "header":
        shape = ["a", 1_500_000_000]
        tensor = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}
        header = json.dumps({"model.embed_tokens.weight": tensor}).encode()
        content = struct.pack("<Q", len(header)) + header + bytes(4)
        (folder / "model.safetensors").write_bytes(content)
    elif attack == "growth":
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        tokenizer["normalizer"] = {
            "type": "Replace",
            "pattern": {"String": "a"},
            "content": "b" * 100_000,
        }
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def write_document(attack: str, folder: Path) -> Path:
    chats = attack == "template"
    model = "bundled:storyteller"
    if attack in _FOLDERS:
        hostile_folder(attack, folder / "hostile")
        model = "./hostile"
    text = DOCUMENT.replace("HOSTILE_MODEL", model)
    text = text.replace("HOSTILE_TASK", "chat-completion" if chats else "text-generation")
    path = folder / "model-compose.yml"
    path.write_text(text.replace("HOSTILE_INPUT", _MESSAGES if chats else _TEXT))
    return path


class Host:
    """A host's process, and the most memory that it has had.

    Attributes:
        url: of its run API.
        token: the owner's.
        peak: the most resident bytes that were seen.
        killed: whether it was ended for taking too much.
    """

    def __init__(self, document: Path, max_queue: int = 256, memory: int = 8 * 2**30) -> None:
        command = [sys.executable, __file__, "host", str(document), str(max_queue)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        told = json.loads(self._process.stdout.readline())
        self.url: str = told["url"]
        self.token: str = told["token"]
        self.peak = 0
        self.killed = False
        self._memory = memory
        self._looking = threading.Thread(target=self._look, daemon=True)
        self._looking.start()
        _answer("honest", [self.url, self.token, 1, 0.1])  # the model is loaded

    def _look(self) -> None:
        process = psutil.Process(self._process.pid)
        with contextlib.suppress(psutil.NoSuchProcess):
            while self._process.poll() is None:
                self.peak = max(self.peak, process.memory_info().rss)
                if self.peak > self._memory:
                    self.killed = True
                    process.kill()
                time.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        self._process.kill()  # whatever it does just now
        self._process.wait()
        self._looking.join()


# Honest clients (another process)


class Honest:
    """An honest client: one request after the other, of all kinds."""

    def __init__(self, url: str, token: str | None, number: int, texts: dict[Any, str]) -> None:
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            # The owner's programs keep their connections; curl opens one for each request.
            limits=httpx.Limits(max_keepalive_connections=None if token else 0),
            timeout=_SECONDS,
            trust_env=False,
            verify=False,
        )
        parts = urlsplit(url)
        self._v1 = f"{parts.scheme}://{parts.netloc}/v1/completions"
        self._number = number
        self._texts = texts
        self.seconds: list[float] = []
        self.sent_away = 0
        self.failures: list[str] = []

    async def work(self, until: float) -> None:
        kinds = itertools.cycle([self._wait, self._stream, self._poll, self._complete])
        async with self._http:
            for count in itertools.count(self._number):
                if time.monotonic() > until:
                    return
                started = time.monotonic()
                try:
                    async with asyncio.timeout(_SECONDS):
                        await self._one(next(kinds), count, until)
                except (httpx.HTTPError, ValueError, KeyError, TimeoutError) as error:
                    self.failures.append(repr(error)[:200])
                    await asyncio.sleep(0.1)
                self.seconds.append(time.monotonic() - started)

    async def _one(
        self, kind: Callable[[str, int], Awaitable[str]], count: int, until: float
    ) -> None:
        prompt, seed = _PROMPTS[count % len(_PROMPTS)], count % _SEEDS
        while True:
            try:
                text = await kind(prompt, seed)
                break
            except SentAway as error:
                self.sent_away += 1
                if time.monotonic() > until:
                    return
                await asyncio.sleep(error.seconds)
        if kind == self._complete:
            text = prompt + text
        expected = self._texts.setdefault((prompt, seed), text)
        if text != expected:
            raise ValueError(f"{text!r} in place of {expected!r}")

    async def _ask(self, body: dict[str, Any], url: str = "/workflows/runs") -> httpx.Response:
        return checked(await self._http.post(url, json=body))

    async def _wait(self, prompt: str, seed: int) -> str:
        answer = await self._ask({"input": {"prompt": prompt, "seed": seed}})
        return str(answer.json()["output"])

    async def _stream(self, prompt: str, seed: int) -> str:
        body = {"input": {"prompt": prompt, "seed": seed}, "stream": True}
        answer = await self._ask(body)
        lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
        results = [data["output"] for data in map(json.loads, lines) if "output" in data]
        return str(results[0]) if results else "nothing"

    async def _poll(self, prompt: str, seed: int) -> str:
        body = {"input": {"prompt": prompt, "seed": seed}, "wait_for_completion": False}
        id = (await self._ask(body)).json()["task_id"]
        while True:
            state = checked(await self._http.get(f"/tasks/{id}")).json()
            if state["status"] not in ("pending", "processing"):
                return str(state["output"])
            await asyncio.sleep(0.1)

    async def _complete(self, prompt: str, seed: int) -> str:
        body = {"model": "bundled:storyteller", "prompt": prompt, "seed": seed, "max_tokens": 10}
        answer = await self._ask(body, self._v1)
        return str(answer.json()["choices"][0]["text"])


class SentAway(Exception):
    """The host is full, and says when to come again."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


def checked(answer: httpx.Response) -> httpx.Response:
    if answer.status_code in (429, 503) and "retry-after" in answer.headers:
        raise SentAway(float(answer.headers["retry-after"]))
    answer.raise_for_status()
    return answer


async def honest(url: str, token: str, count: int, seconds: float) -> dict[str, Any]:
    """What became of the requests of honest clients, of the owner's and of guests."""
    texts: dict[Any, str] = {}
    owners = [Honest(url, token, number, texts) for number in range(count - count // 2)]
    guests = [Honest(url, None, number, texts) for number in range(count // 2)]
    until = time.monotonic() + seconds
    await asyncio.gather(*(each.work(until) for each in owners + guests))
    return {
        name: {
            "seconds": [each for client in clients for each in client.seconds],
            "sent away": sum(client.sent_away for client in clients),
            "failures": [each for client in clients for each in client.failures],
        }
        for name, clients in (("owner", owners), ("guest", guests))
    }


# Attackers (another process)


class Attacker:
    """What guests do to a host until they are ended."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None and parts.port is not None
        self._address = parts.hostname, parts.port
        self._path = parts.path

    def _head(self, kind: str, length: int) -> bytes:
        return (
            f"POST {self._path}/workflows/runs HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        ).encode()

    def _json(self, body: Any) -> bytes:
        content = json.dumps(body).encode()
        return self._head("application/json", len(content)) + content

    async def send(self, sent: bytes, count: int, *, waits: bool = True) -> None:
        """Send this on so many connections at once, and again where they end; read what comes, or
        leave."""

        async def again() -> None:
            while True:
                try:
                    reader, writer = await asyncio.open_connection(*self._address)
                    try:
                        writer.write(sent)
                        await writer.drain()
                        while waits and await reader.read(65536):
                            pass
                    finally:
                        writer.close()
                except OSError:
                    await asyncio.sleep(0.1)

        await asyncio.gather(*(again() for _ in range(count)))

    async def forms(self) -> None:
        name = b"a." * (2 * _MIB - 100) + b"a=1"
        await self.send(self._head("application/x-www-form-urlencoded", len(name)) + name, 6)

    async def json(self) -> None:
        lists = b"[" + b"[]," * (_MIB - 100) + b"0]"
        await self.send(self._head("application/json", len(lists)) + lists, 6)

    async def headers(self) -> None:
        await self.send(b"GET /api/health HTTP/1.1\r\nHost: local", _CONNECTIONS)

    async def bodies(self) -> None:
        part = self._head("application/json", 4 * _MIB) + b" " * _MIB
        await self.send(part, _CONNECTIONS)

    async def slots(self) -> None:
        body = {"workflow_id": "long", "input": {"prompt": "a"}, "wait_for_completion": False}
        await self.send(self._json(body).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), 8)

    async def streams(self) -> None:
        body = {"workflow_id": "long", "input": {"prompt": "a"}, "wait_for_completion": False}
        url = f"http://{self._address[0]}:{self._address[1]}{self._path}/workflows/runs"
        id = httpx.post(url, json=body, trust_env=False).json()["task_id"]
        head = f"GET {self._path}/tasks/{id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await self.send(head.encode(), _CONNECTIONS)

    async def prompts(self) -> None:
        body = {"input": {"prompt": "word " * (4 * _MIB // 5 - 100)}}
        await self.send(self._json(body), 8, waits=False)

    async def hostile(self) -> None:
        given = {"prompt": "a" * 1000}
        if self.name == "template":
            given = {"messages": [{"role": "user", "content": "a"}]}  # type: ignore[dict-item]
        await self.send(self._json({"workflow_id": "hostile", "input": given}), 4)

    template = layers = header = growth = hostile
    name = ""


_FOLDERS = ("template", "layers", "header", "growth")
ATTACKS = ("forms", "json", "headers", "bodies", "slots", "streams", "prompts", *_FOLDERS)


# A row


@contextlib.contextmanager
def hosting(attack: str, **options: int) -> Iterator[Host]:
    """A `Host` with these options that an attack can be made on."""
    with tempfile.TemporaryDirectory() as folder:
        host = Host(write_document(attack, Path(folder)), **options)
        try:
            yield host
        finally:
            host.close()


def measure(attack: str, host: Host, clients: int, seconds: float) -> dict[str, Any]:
    """What becomes of honest requests beside an attack.

    Args:
        attack: its name, or ``nobody``.
        host: that all of them ask.
        clients: honest ones.
        seconds: for which they begin requests.
    """
    with contextlib.ExitStack() as stack:
        if attack != "nobody":
            command = [sys.executable, __file__, "attacker", attack, host.url]
            attacker = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(attacker.kill)
            assert attacker.stdout is not None
            attacker.stdout.readline()  # it has begun
        told = _answer("honest", [host.url, host.token, clients, seconds])
    return {**told, "peak": host.peak, "killed": host.killed}


def _answer(command: str, asked: Any) -> Any:
    arguments = [sys.executable, __file__, command]
    done = subprocess.run(
        arguments, input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def rows(name: str, told: dict[str, Any]) -> Iterator[str]:
    for who in ("owner", "guest"):
        seconds, failures = told[who]["seconds"], told[who]["failures"]
        peak = f"{told['peak'] / _MIB:,.0f}" + (" (ended)" if told["killed"] else "")
        median = f"{statistics.median(seconds):.2f}" if seconds else ""
        worst = f"{max(seconds):.2f}" if seconds else ""
        yield (
            f"| `{name}` | {who} | {len(seconds)} | {len(failures)} | {told[who]['sent away']} "
            f"| {median} | {worst} | {peak} |"
        )


@click.command(help=__doc__)
@click.argument("names", nargs=-1, type=click.Choice(("nobody", *ATTACKS)))
@click.option("--clients", default=100, show_default=True, help="Honest ones.")
@click.option("--seconds", default=20.0, show_default=True, help="Of each row.")
@click.option("--max-queue", default=256, show_default=True, help="As that of `up`.")
@click.option("--memory", default=8, show_default=True, help="GiB that a host may take.")
def main(names: tuple[str, ...], clients: int, seconds: float, max_queue: int, memory: int) -> None:
    failed = False
    click.echo(
        "| attack | who asks | requests | failures | sent away | median, s | worst, s | peak, MiB |"
        "\n|---|---|---|---|---|---|---|---|"
    )
    for name in names or ("nobody", *ATTACKS):
        with hosting(name, max_queue=max_queue, memory=memory * 2**30) as host:
            told = measure(name, host, clients, seconds)
        for row in rows(name, told):
            click.echo(row)
        failures = told["owner"]["failures"] + told["guest"]["failures"]
        for each in sorted(set(failures))[:5]:
            click.echo(f"  {name}: {failures.count(each)} × {each}", err=True)
        failed = failed or bool(failures)
    sys.exit(1 if failed else 0)


def _host(document: str, max_queue: str) -> None:
    server = serve_document(document, limits={"max_runs": int(max_queue)})
    print(json.dumps({"url": server.url, "token": server.access.owner_token}), flush=True)
    server.wait()


def _attack(name: str, url: str) -> None:
    async def attack() -> None:
        attacker = Attacker(url)
        attacker.name = name
        going = asyncio.create_task(getattr(attacker, name)())
        await asyncio.wait([going], timeout=_AHEAD_SECONDS)
        print("it has begun", flush=True)
        await going

    asyncio.run(attack())


if __name__ == "__main__":
    if sys.argv[1:2] == ["host"]:
        _host(*sys.argv[2:])
    elif sys.argv[1:2] == ["honest"]:
        print(json.dumps(asyncio.run(honest(*json.load(sys.stdin)))))
    elif sys.argv[1:2] == ["attacker"]:
        _attack(*sys.argv[2:])
    else:
        main()
