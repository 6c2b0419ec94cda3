"""Real clients that ask what simulated users ask."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from peers.weights import Prompts

from modelcompose_jupyter import LocalHost
from modelcompose_jupyter.document import load_document

from .workload import Ask, Users, Workload

DOCUMENT = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  include_prompt: false
  min_output_length: ${input.tokens as integer}
  max_output_length: ${input.tokens as integer}
"""


@dataclass
class Told:
    """What clients saw of the runs that ended in their time: seconds, and tokens."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    prompt: int = 0
    reused: int = 0
    generated: int = 0
    refused: int = 0
    failed: int = 0

    def add(self, asked: float, answer: _Answer) -> None:
        self.refused += answer.refusals
        if not answer.first or not answer.usage:
            self.failed += 1
            return
        self.first.append(answer.first - asked)
        self.whole.append(answer.ended - asked)
        self.prompt += answer.usage["prompt"]
        self.reused += answer.usage["reused"] or 0
        self.generated += answer.usage["generated"]


class _Texts:
    """Prompts of so many tokens."""

    def __init__(self, folder: Path) -> None:
        self._prompts = Prompts(folder)
        self._chance = random.Random(1)
        self._beginnings: dict[int, str] = {}
        self._chats: dict[int, str] = {}

    def prompt(self, ask: Ask) -> str:
        if ask.known:
            before = self._chats[ask.chat]
        else:
            if ask.kind not in self._beginnings:
                self._beginnings[ask.kind] = self._drawn(ask.shared)
            before = self._beginnings[ask.kind]
        return f"{before} {self._drawn(ask.prompt - max(ask.known, ask.shared))}"

    def knows(self, ask: Ask) -> bool:
        return ask.chat in self._chats

    def took(self, ask: Ask, prompt: str, reply: str) -> None:
        self._chats[ask.chat] = f"{prompt}{reply}"

    def _drawn(self, tokens: int) -> str:
        return self._prompts.draw(tokens, self._chance)[1].strip()


@dataclass
class _Answer:
    """What came of a run: when its first token was there, and its end."""

    first: float = 0.0
    ended: float = 0.0
    text: str = ""
    usage: dict[str, int] = field(default_factory=dict)
    refusals: int = 0


Asking = Callable[[str, int], Awaitable[_Answer]]


async def _use(asking: Asking, workload: Workload, folder: Path, warm: float, end: float) -> Told:
    """Be the users of a workload for so many seconds."""
    told, texts, users = Told(), _Texts(folder), Users(workload, 0)
    began = time.perf_counter()

    async def be(user: int) -> None:
        while True:
            await asyncio.sleep(users.think(user))
            ask = users.ask(user, 0.0)
            if ask.known and not texts.knows(ask):
                ask.known = 0  # of a chat that it is amid when all begins, nothing was said yet
            prompt = texts.prompt(ask)
            asked = time.perf_counter()
            answer = await asking(prompt, ask.reply)
            texts.took(ask, prompt, answer.text)
            if answer.ended - began > warm:
                told.add(asked, answer)

    tasks = [asyncio.create_task(be(user)) for user in range(workload.users)]
    _, going = await asyncio.wait(tasks, timeout=end)
    for each in going:
        each.cancel()
    for error in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(error, asyncio.CancelledError):
            raise error
    return told


# Over HTTP, in another process


def over_http(url: str, workload: Workload, folder: Path, warm: float, seconds: float) -> Told:
    """What the users of a workload saw, in so many seconds after those that it takes to warm up.

    Args:
        folder: of a model whose tokenizer counts as that of the one that is asked.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    given = (there, url, workload, folder, warm, warm + seconds)
    process = context.Process(target=_in_process, args=given)
    process.start()
    there.close()
    told: Told = here.recv()
    process.join(30)
    return told


def _in_process(pipe: Any, url: str, *given: Any) -> None:
    pipe.send(asyncio.run(_over_http(url, *given)))


async def _over_http(url: str, *given: Any) -> Told:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=url, timeout=600, limits=limits, trust_env=False
    ) as client:
        return await _use(partial(_post, client), *given)


async def _post(client: httpx.AsyncClient, prompt: str, tokens: int) -> _Answer:
    body = {"input": {"prompt": prompt, "tokens": tokens}, "stream": True}
    found, kind = _Answer(), ""
    while True:
        async with client.stream("POST", "/workflows/runs", json=body) as answer:
            if answer.status_code == 429:
                found.refusals += 1
                await asyncio.sleep(float(answer.headers["Retry-After"]))
                continue
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: ") and kind in ("text", "state"):
                    data: dict[str, Any] = json.loads(line[6:])
                    if kind == "text":
                        if data["text"]:  # the first event only says that there will be one
                            found.first = found.first or time.perf_counter()
                        found.text = found.text[: data["offset"]] + data["text"]
                    found.usage = data.get("summary", {}).get("usage") or found.usage
        found.ended = time.perf_counter()
        return found


# Of a host in this process


def of_a_host(
    host: LocalHost, workload: Workload, folder: Path, warm: float, seconds: float
) -> Told:
    """The same of a host in this process, without a server; it is closed then."""
    document = load_document(DOCUMENT)

    async def asking(prompt: str, tokens: int) -> _Answer:
        run = host.submit(document, None, {"prompt": prompt, "tokens": tokens})
        await run.until(lambda: bool(run.text) or run.done)
        first = time.perf_counter()
        await run.until(lambda: run.done)
        return _Answer(first, time.perf_counter(), run.text, run.usage)

    try:
        host.submit(document, None, {"prompt": "Once", "tokens": 1}).result()
        return asyncio.run(_use(asking, workload, folder, warm, warm + seconds))
    finally:
        host.close()
