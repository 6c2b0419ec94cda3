"""Tools through the API: calls are returned, whoever has functions of these names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest

from modelcompose_jupyter import LocalHost, load
from modelcompose_jupyter.server.catalog import Catalog, Served
from modelcompose_jupyter.server.client import RemoteHost

from .conftest import Client, Serve

CHAT = """\
component:
  type: model
  task: chat-completion
  model: bundled:storyteller
  messages: ${input.messages}
  tools: [get_weather]
  tool_choice: required
  parallel_tool_calls: false
  max_output_length: 60
workflow:
  output: ${output}
"""


@pytest.fixture
def real_host() -> Iterator[LocalHost]:
    host = LocalHost()
    yield host
    host.close()


def get_weather(city: Literal["Paris"]) -> str:
    raise AssertionError("it was called")


@pytest.mark.parametrize("as_owner", [False, True])
def test_calls_are_returned_to_clients(serve: Serve, real_host: LocalHost, as_owner: bool) -> None:
    flow = load(CHAT, tools=[get_weather], host=real_host)
    document = flow.document
    catalog = Catalog({"chat": Served(document, document.workflow())})
    server = serve(on=real_host, catalog=lambda: catalog)
    with Client(server, server.access.owner_token if as_owner else None) as client:
        body = {"input": {"messages": "Tell me of Paris."}, "wait_for_completion": True}
        answer = client.post("/workflows/runs", json=body).json()
    assert answer["finish_reason"] == "tool_calls"
    (call,) = answer["tool_calls"]
    assert (call["state"], call["arguments"]) == ("returned", {"city": "Paris"})
    assert answer["output"] == [{key: call[key] for key in ("id", "name", "arguments")}]


def test_a_client_of_this_package_sees_the_exchange(serve: Serve, real_host: LocalHost) -> None:
    document = load(CHAT, tools=[get_weather]).document
    catalog = Catalog({"chat": Served(document, document.workflow())})
    server = serve(on=real_host, catalog=lambda: catalog)
    host = RemoteHost(server.url, server.access.owner_token)
    run = host.submit(document, None, {"messages": "Tell me of Paris."})
    assert run.wait(90)
    assert (run.finish_reason, run.tool_calls[0]["state"]) == ("tool_calls", "returned")
    assert [each["role"] for each in run.messages] == ["user", "assistant"]
    host.close()


def test_functions_that_nobody_has_given_are_an_error(serve: Serve) -> None:
    with Client(serve(CHAT)) as client:
        answer = client.post("/workflows/runs", json={"input": {"messages": "Hello"}})
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "unknown_tool"
    assert error["message"] == "the tool 'get_weather' is a Python function, and it is not here"
