"""Real clients that ask a server over HTTP what simulated users ask, in a process of their own."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from .workload import Ask, Users, Workload

DOCUMENT = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
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


class _Texts:
    """Prompts of so many tokens."""

    def __init__(self, folder: Path) -> None:
        sys.path.append(str(Path(__file__).parent.parent))
        from peers.weights import Prompts

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

    def took(self, ask: Ask, prompt: str, reply: str) -> None:
        self._chats[ask.chat] = f"{prompt} {reply.strip()}"

    def _drawn(self, tokens: int) -> str:
        return self._prompts.draw(tokens, self._chance)[1].strip()


class _Clients:
    def __init__(self, url: str, workload: Workload, folder: Path, warm: float, end: float) -> None:
        self._url = url
        self._texts = _Texts(folder)
        self._users = Users(workload, 0)
        self._workload = workload
        self._warm, self._end = warm, end
        self._told = Told()

    async def all(self) -> Told:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=self._url, timeout=600, limits=limits, trust_env=False
        ) as client:
            self._began = time.perf_counter()
            users = [
                asyncio.create_task(self._user(client, user))
                for user in range(self._workload.users)
            ]
            await asyncio.sleep(self._end)
            for each in users:
                each.cancel()
            await asyncio.gather(*users, return_exceptions=True)
        return self._told

    async def _user(self, client: httpx.AsyncClient, user: int) -> None:
        while True:
            await asyncio.sleep(self._users.think(user))
            ask = self._users.ask(user, time.perf_counter() - self._began)
            if ask.known and ask.chat not in self._texts._chats:
                ask.known = 0  # of a chat that it is said to be amid, nothing was said yet
            await self._run(client, ask)

    async def _run(self, client: httpx.AsyncClient, ask: Ask) -> None:
        prompt = self._texts.prompt(ask)
        body = {"input": {"prompt": prompt, "tokens": ask.reply}, "stream": True}
        started = time.perf_counter()
        first, text, usage, kind = 0.0, "", dict[str, int](), ""
        while True:
            async with client.stream("POST", "/workflows/runs", json=body) as answer:
                if answer.status_code == 429:
                    self._told.refused += 1
                    await asyncio.sleep(float(answer.headers["Retry-After"]))
                    continue
                async for line in answer.aiter_lines():
                    if line.startswith("event: "):
                        kind = line[7:]
                    elif line.startswith("data: ") and kind in ("text", "state"):
                        data: dict[str, Any] = json.loads(line[6:])
                        if kind == "text":
                            first = first or time.perf_counter()
                            text = text[: data["offset"]] + data["text"]
                        usage = data.get("summary", {}).get("usage") or usage
                break
        ended = time.perf_counter()
        self._texts.took(ask, prompt, text)
        if ended - self._began < self._warm:
            return
        told = self._told
        if not first or not usage:
            told.failed += 1
            return
        told.first.append(first - started)
        told.whole.append(ended - started)
        told.prompt += usage["prompt"]
        told.reused += usage["reused"] or 0
        told.generated += usage["generated"]


def _work(pipe: Any, *given: Any) -> None:
    pipe.send(asyncio.run(_Clients(*given).all()))


def in_another_process(
    url: str, workload: Workload, folder: Path, warm: float, seconds: float
) -> Told:
    """What the users of a workload saw, in so many seconds after those that it takes to warm up.

    Args:
        folder: of a model whose tokenizer counts as that of the one that is asked.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    given = (there, url, workload, folder, warm, warm + seconds)
    process = context.Process(target=_work, args=given)
    process.start()
    there.close()
    told: Told = here.recv()
    process.join(30)
    return told
