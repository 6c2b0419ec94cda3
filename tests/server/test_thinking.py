"""Thoughts over HTTP: in the run API, and as OpenAI's client has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import OpenAI
from standins.thinker import BUDGET, SAID, THINKER

from modelcompose_jupyter import LocalHost, load
from modelcompose_jupyter.server.client import RemoteHost
from modelcompose_jupyter.server.server import Server
from modelcompose_jupyter.workflow import Run

from .conftest import Serve

MODEL = "bundled:storyteller"
ASKED: dict[str, Any] = {"model": MODEL, "messages": SAID, "seed": 3, "max_tokens": 40}
BUDGETED = {"extra_body": {"thinking_budget": BUDGET}}


@pytest.fixture
def server(serve: Serve, real_host: LocalHost) -> Server:
    return serve(THINKER, on=real_host)


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.origin}/v1", api_key="any", max_retries=0) as client:
        yield client


def wanted(host: LocalHost, **given: Any) -> Run:
    """The same run, here."""
    run = load(THINKER, host=host).start({"messages": SAID, **given}, seed=3)
    assert run.wait(30)
    return run


def test_another_process_tells_the_same(server: Server, real_host: LocalHost) -> None:
    here = wanted(real_host)
    remote = RemoteHost(server.url, server.access.owner_token, server.server_info)
    run = load(THINKER, host=remote).start({"messages": SAID}, seed=3)
    assert run.wait(30)
    assert run.reasoning_streams == here.reasoning_streams
    assert run.reasoning_tokens == here.reasoning_tokens
    assert (run.text, run.usage["reasoning"]) == (here.text, BUDGET)
    remote.close()


def test_the_run_api_has_them_beside_the_output(server: Server, real_host: LocalHost) -> None:
    here = wanted(real_host)
    body = {"input": {"messages": SAID}, "seed": 3, "wait_for_completion": True}
    state = httpx.post(f"{server.url}/workflows/runs", json=body, timeout=30).json()
    assert (state["output"], state["reasoning"]) == ({"generated": here.text}, here.reasoning)
    assert state["usage"]["reasoning"] == BUDGET
    events = httpx.get(f"{server.url}/tasks/{state['task_id']}/events", timeout=30).text
    assert "event: reasoning\n" in events


def test_openais_client_gets_them_beside_the_content(client: OpenAI, real_host: LocalHost) -> None:
    here = wanted(real_host)
    answer = client.chat.completions.create(**ASKED, **BUDGETED)
    message: Any = answer.choices[0].message
    assert (message.content, message.reasoning_content) == (here.text, here.reasoning)
    assert answer.usage is not None and answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == BUDGET
    assert answer.usage.completion_tokens == here.usage["generated"]


@pytest.mark.parametrize("options", [{}, {"logprobs": True, "top_logprobs": 2}, {"n": 2}], ids=str)
def test_a_stream_has_them_before_the_content(
    options: dict[str, Any], client: OpenAI, real_host: LocalHost
) -> None:
    here = wanted(real_host)
    stream = client.chat.completions.create(
        **ASKED, **BUDGETED, **options, stream=True, stream_options={"include_usage": True}
    )
    kinds: list[str] = []
    thought, text, told, usage = "", "", "", None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            if choice.index:
                continue
            delta: Any = choice.delta
            if piece := getattr(delta, "reasoning_content", None):
                kinds.append("reasoning")
                thought += piece
            if delta.content:
                kinds.append("text")
                text += delta.content
            if choice.logprobs is not None and choice.logprobs.content:
                told += "".join(each.token for each in choice.logprobs.content)
    assert (thought, text) == (here.reasoning, here.text)
    assert kinds == sorted(kinds)
    assert "text" in kinds
    assert usage is not None and usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens == BUDGET * options.get("n", 1)
    if "logprobs" in options:
        assert told.strip() == here.text


def test_off_is_off(client: OpenAI) -> None:
    for extra in ({"enable_thinking": False}, {"reasoning_effort": "none"}):
        answer = client.chat.completions.create(**ASKED, extra_body=extra)
        message: Any = answer.choices[0].message
        assert message.content
        assert getattr(message, "reasoning_content", None) is None
        assert answer.usage is not None and answer.usage.completion_tokens_details is not None
        assert answer.usage.completion_tokens_details.reasoning_tokens == 0
