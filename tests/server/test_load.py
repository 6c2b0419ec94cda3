"""Many clients at once: whatever they asked for is there when they come for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from typing import Any

import httpx
import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import LocalHost, run_store
from modelcompose_jupyter.host import SERVING_LIMITS

from .conftest import COMPONENT, Serve
from .test_streams import parse

FLOWS = (
    COMPONENT
    + """
workflows:
  - id: plain
    default: true
    output: ${output}
  - id: several
    jobs:
      - id: draft
        input: {prompt: "${input.prompt}"}
      - id: final
        input: {prompt: "${jobs.draft.output}!"}
    output: ${output}
  - id: repeated
    repeat_count: ${input.count as integer}
    output: ${output}
"""
)
RUNS = "/workflows/runs"


class Caller:
    """A client that submits runs of all kinds, and comes for the results when all others have."""

    def __init__(self, http: httpx.AsyncClient, name: str, runs: int) -> None:
        self.http = http
        self.name = name
        self.runs = runs
        self.polled: list[tuple[str, str, Any]] = []  # id, and the status and output expected
        self.wrong: list[Any] = []

    async def submit(self) -> None:
        kinds = [
            *(self.poll, self.poll_several, self.poll_failing, self.poll_repeated, self.wait),
            *(self.wait_for_output, self.stream, self.cancel, self.complete, self.again),
        ]
        for number in range(self.runs):
            await kinds[number % len(kinds)](f"{self.name}-{number}")

    async def ask(self, body: dict[str, Any], path: str = RUNS) -> httpx.Response:
        while True:
            answer = await self.http.post(path, json=body)
            if answer.status_code != 429:
                return answer
            await asyncio.sleep(0.05)  # long before Retry-After

    def check(self, found: Any, expected: Any) -> None:
        if found != expected:
            self.wrong.append((found, expected))

    async def later(self, body: dict[str, Any], status: str, output: Any = None) -> str:
        answer = (await self.ask({**body, "wait_for_completion": False})).json()
        assert "task_id" in answer, answer
        self.polled.append((answer["task_id"], status, output))
        return str(answer["task_id"])

    async def poll(self, prompt: str) -> None:
        await self.later({"input": {"prompt": prompt}}, "completed", f"<{prompt}>")

    async def poll_several(self, prompt: str) -> None:
        body = {"input": {"prompt": prompt}, "workflow_id": "several"}
        await self.later(body, "completed", f"<<{prompt}>!>")

    async def poll_failing(self, prompt: str) -> None:
        body = {"input": {"prompt": prompt, "count": 0}, "workflow_id": "repeated"}
        await self.later(body, "failed")

    async def poll_repeated(self, prompt: str) -> None:
        body = {"input": {"prompt": prompt, "count": 2}, "workflow_id": "repeated"}
        await self.later(body, "completed", [f"<{prompt}>"] * 2)

    async def wait(self, prompt: str) -> None:
        answer = await self.ask({"input": {"prompt": prompt}})
        self.check(answer.json()["output"], f"<{prompt}>")

    async def wait_for_output(self, prompt: str) -> None:
        answer = await self.ask({"input": {"prompt": prompt}, "output_only": True})
        self.check(answer.json(), f"<{prompt}>")

    async def stream(self, prompt: str) -> None:
        answer = await self.ask({"input": {"prompt": prompt}, "stream": True})
        results = [e["data"] for e in parse(answer.text) if e.get("event") == "result"]
        self.check([json.loads(each)["output"] for each in results], [f"<{prompt}>"])

    async def cancel(self, prompt: str) -> None:
        id = await self.later({"input": {"prompt": "held"}}, "cancelled")
        await self.http.post(f"/tasks/{id}/cancel?wait_for_completion=false")

    async def complete(self, prompt: str) -> None:
        body = {"model": "bundled:storyteller", "prompt": prompt}
        url = str(self.http.base_url).removesuffix("/api/") + "/v1/completions"
        self.check((await self.ask(body, url)).json()["choices"][0]["text"], f"<{prompt}>")

    async def again(self, prompt: str) -> None:
        first = self.polled[0]
        await self.later({"rerun_of": first[0]}, *first[1:])

    async def fetch(self) -> None:
        for id, status, output in self.polled:
            while True:
                answer = await self.http.get(f"/tasks/{id}")
                state = answer.json()
                if state.get("status") not in ("pending", "processing"):
                    break
                await asyncio.sleep(0.05)
            self.check((answer.status_code, state.get("status")), (200, status))
            self.check(state.get("output"), output)


@pytest.mark.parametrize(
    ("clients", "runs"), [(20, 20), pytest.param(100, 30, marks=pytest.mark.slow)]
)
def test_no_result_is_lost_among_many(
    serve: Serve,
    host: LocalHost,
    models: ScriptedModels,
    monkeypatch: pytest.MonkeyPatch,
    clients: int,
    runs: int,
) -> None:
    # Of about four times as much.
    monkeypatch.setattr(run_store, "OWED_BYTES", clients * runs * 1400)
    models.hold = ("held",)
    host.limit(**SERVING_LIMITS)
    server = serve(FLOWS)

    async def all_of_them() -> list[Caller]:
        async with contextlib.AsyncExitStack() as stack:
            callers = []
            for number in range(clients):
                http = httpx.AsyncClient(
                    base_url=server.url, timeout=60, trust_env=False, verify=False
                )
                callers.append(Caller(await stack.enter_async_context(http), str(number), runs))
            await asyncio.gather(*(each.submit() for each in callers))
            await asyncio.gather(*(each.fetch() for each in callers))
            return callers

    callers = asyncio.run(all_of_them())

    wrong = [each for caller in callers for each in caller.wrong]
    assert (len(wrong), wrong[:3]) == (0, [])
    statuses = Counter(status for caller in callers for _, status, _ in caller.polled)
    assert statuses.total() == clients * runs * 6 // 10
    assert statuses["failed"] == statuses["cancelled"] == clients * runs // 10
