"""Real servers on free ports, over scripted models or real ones, and clients for them."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI
from standins.scripted import ScriptedModels

from modelcompose_jupyter import LocalHost
from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.server.access import Access
from modelcompose_jupyter.server.catalog import Catalog
from modelcompose_jupyter.server.server import Server, ServerSettings

COMPONENT = """
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
"""
STORY = (
    COMPONENT
    + """
workflow:
  title: Story
  input: ${input}
  output:
    generated: ${output}
"""
)
MANY = (
    COMPONENT
    + """
workflows:
  - id: plain
    title: Plain
    default: true
    output: ${output}
  - id: echo
    description: Gives the text back
    output: {text: "${output}", n: "${input.n as integer | 1}"}
  - id: hidden
    private: true
    output: ${output}
"""
)


class Client(httpx.Client):
    """A client of a server; its URLs begin with the run API's base path."""

    def __init__(self, server: Server, token: str | None = None, **options: Any) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        super().__init__(
            base_url=server.url, headers=headers, timeout=60, trust_env=False, **options
        )
        self.server = server

    def run(self, prompt: str = "a", /, **body: Any) -> httpx.Response:
        return self.post("/workflows/runs", json={"input": {"prompt": prompt}, **body})


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime folder of its own, where nobody else is announced."""
    folder = tmp_path / "runtime"
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder))
    return folder


Serve = Callable[..., Server]


@pytest.fixture
def serve(host: LocalHost) -> Iterator[Serve]:
    """Starts servers: ``serve(text, access=…, settings=…)`` on a host of scripted models."""
    started: list[Server] = []

    def serve(
        text: str = STORY,
        access: Access | None = None,
        settings: ServerSettings | None = None,
        on: LocalHost | None = None,
        catalog: Callable[[], Catalog] | None = None,
        **facts: Any,
    ) -> Server:
        fixed = Catalog.of(load_document(text))
        server = Server(
            on or host,
            catalog or (lambda: fixed),
            access,
            settings or ServerSettings(port=0),
            **facts,
        ).start()
        started.append(server)
        return server

    yield serve
    for server in started:
        server.close()


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A guest's client."""
    with Client(server) as client:
        yield client


@pytest.fixture
def owner(server: Server) -> Iterator[Client]:
    """The owner's client."""
    with Client(server, server.access.owner_token) as client:
        yield client


@pytest.fixture(scope="module")
def real_host() -> Iterator[LocalHost]:
    """A host with real models, for all tests of a module."""
    host = LocalHost()
    yield host
    host.close()


def client_of(server: Server, key: str = "any", **options: Any) -> OpenAI:
    """OpenAI's client of a server."""
    return OpenAI(base_url=f"{server.origin}/v1", api_key=key, max_retries=0, **options)


@contextlib.contextmanager
def raw_request(
    server: Server, method: str, path: str, body: Any = None, headers: str = ""
) -> Iterator[socket.socket]:
    """A connection on which a request was sent; closed at the end, whatever was read."""
    content = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {server.settings.api_path}{path} HTTP/1.1\r\n"
        f"Host: {server.origin.removeprefix('http://')}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n{headers}\r\n"
    )
    host, _, port = server.origin.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode() + content)
        yield connection


def held(models: ScriptedModels, *prompts: str) -> None:
    """Let these prompts stand still after their first piece."""
    models.hold = prompts
