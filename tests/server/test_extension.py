"""Hosts behind a Jupyter server: a real one, with real kernels, its own login and its rules."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from browser.servers import free_port
from browser.servers import serve as jupyter_server
from standins.processes import python_path
from standins.scripted import ScriptedModels
from standins.waiting import until

from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.processes import own_start
from modelcompose_jupyter.server.observer import RequestRecord
from modelcompose_jupyter.server.server import Server, ServerSettings
from modelcompose_jupyter.server.server_info import ServerInfo
from modelcompose_jupyter.workflow import Run

from .conftest import MANY, STORY, Serve, held

SECONDS = 60
TOKEN = "a-token-of-jupyter"
# A run of this takes minutes, and ends within a token.
LONG = """
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: Once
workflow:
  repeat_count: 5000
"""
READ_ONLY = '''
from pathlib import Path

from jupyter_server.auth.authorizer import Authorizer

class ReadOnly(Authorizer):
    """Lets only read what is of modelcompose, once there is a file of that name."""

    def is_authorized(self, handler, user, action, resource):
        is_read_only = resource == "modelcompose" and Path("read-only").exists()
        return action == "read" or not is_read_only
'''


@dataclass
class Jupyter:
    """A Jupyter server, its files, and a client that it knows."""

    base: str
    root: Path
    runtime: Path
    data: Path
    pid: int
    client: httpx.Client

    @property
    def hosts(self) -> list[dict[str, Any]]:
        answer = self.get("hosts")
        assert answer.status_code == 200, answer.text
        hosts: list[dict[str, Any]] = answer.json()
        return hosts

    @property
    def files(self) -> list[Path]:
        return sorted(self.runtime.glob("modelcompose-*.json"))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(f"{self.base}modelcompose/{path}", **options)

    def post(self, path: str, json: Any = None, **options: Any) -> httpx.Response:
        return self.client.post(f"{self.base}modelcompose/{path}", json=json, **options)

    def delete(self, path: str) -> httpx.Response:
        return self.client.delete(f"{self.base}modelcompose/{path}")

    def api(self, path: str) -> Any:
        """What Jupyter's own API says."""
        answer = self.client.get(f"{self.base}api/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def start(self, name: str, text: str = STORY) -> dict[str, Any]:
        """Start a host for a document of this name."""
        (self.root / name).write_text(text)
        answer = self.post("hosts", {"path": name})
        assert answer.status_code == 201, answer.text
        host: dict[str, Any] = answer.json()
        return host

    def end_all(self) -> None:
        for each in self.api("sessions"):
            self.client.delete(f"{self.base}api/sessions/{each['id']}")
        for each in self.api("kernels"):
            self.client.delete(f"{self.base}api/kernels/{each['id']}")


Start = Callable[..., Jupyter]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts Jupyter servers: ``start(base_url, *arguments)``."""
    with ExitStack() as stack:

        def start(base_url: str, *arguments: str, **environment: str) -> Jupyter:
            home = tmp_path_factory.mktemp("home")
            root = home / "root"
            root.mkdir()
            (home / "data").mkdir()
            (home / "config").mkdir()
            config = {"ServerApp": {"jpserver_extensions": _EXTENSIONS}}
            (home / "config" / "jupyter_server_config.json").write_text(json.dumps(config))
            port = free_port()
            command = [
                *(sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root"),
                "--ServerApp.ip=127.0.0.1",
                f"--ServerApp.port={port}",
                "--ServerApp.port_retries=0",
                f"--ServerApp.base_url={base_url}",
                *arguments,
            ]
            folders = {
                "IPYTHONDIR": str(home / "ipython"),
                "JUPYTER_CONFIG_DIR": str(home / "config"),
                "JUPYTER_DATA_DIR": str(home / "data"),
                "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
                "JUPYTER_TOKEN": TOKEN,
                # Kernels of a thread each: the tests' own are not alone here.
                "OMP_NUM_THREADS": "1",
            }
            server = stack.enter_context(
                jupyter_server(command, port, root, {**folders, **environment})
            )
            headers = {"Authorization": f"token {TOKEN}"}
            client = httpx.Client(headers=headers, timeout=SECONDS, trust_env=False)
            stack.callback(client.close)
            base = f"{server.url}{base_url}"
            return Jupyter(base, root, home / "runtime", home / "data", server.process.pid, client)

        yield start


# Installed or not, and without the extensions that have nothing to do here.
_OTHERS = ("jupyterlab", "notebook", "jupyter_lsp", "notebook_shim", "voila.server_extension")
_EXTENSIONS = {"modelcompose_jupyter": True, **dict.fromkeys(_OTHERS, False)}


@pytest.fixture(scope="module")
def running(start: Start) -> Jupyter:
    """A server as a hub starts one, below a path of its own."""
    return start("/user/ann/")


@pytest.fixture(scope="module")
def with_authorizer(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Jupyter:
    """A server at the root, with an authorizer."""
    folder = tmp_path_factory.mktemp("authorizer")
    (folder / "read_only.py").write_text(READ_ONLY)
    return start(
        "/", "--ServerApp.authorizer_class=read_only.ReadOnly", PYTHONPATH=python_path(folder)
    )


@pytest.fixture
def jupyter(running: Jupyter) -> Iterator[Jupyter]:
    """That server, without hosts at the beginning and at the end."""
    yield running
    running.end_all()


@pytest.fixture(autouse=True)
def runtime(running: Jupyter, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Servers of this process are announced where the Jupyter server looks."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(running.runtime))
    return running.runtime


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    return error


def id_of(server: Server) -> str:
    assert server.server_info is not None
    return server.server_info.id


# Who may ask


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "hosts"),
        ("POST", "hosts"),
        ("GET", "hosts/{id}"),
        ("DELETE", "hosts/{id}"),
        ("GET", "hosts/{id}/workflows"),
        ("POST", "hosts/{id}/workflows/runs"),
        ("GET", "api/workflows"),
        ("POST", "api/workflows/runs"),
    ],
)
def test_nothing_is_answered_without_a_login(
    jupyter: Jupyter, server: Server, models: ScriptedModels, method: str, path: str
) -> None:
    url = f"{jupyter.base}modelcompose/{path.format(id=id_of(server))}"

    for headers in ({}, {"Authorization": "token wrong"}):
        answer = httpx.request(method, url, headers=headers, json={}, trust_env=False)
        assert answer.status_code == 403
    assert server.server_info is not None
    tokens = {"Authorization": f"Bearer {server.server_info.token}"}  # is none of Jupyter's
    assert httpx.request(method, url, headers=tokens, trust_env=False).status_code == 403
    assert models.prompts == []


def test_a_page_needs_jupyters_xsrf_token_beside_its_cookie(
    jupyter: Jupyter, server: Server
) -> None:
    runs = f"{jupyter.base}modelcompose/hosts/{id_of(server)}/workflows/runs"
    with httpx.Client(trust_env=False, timeout=SECONDS) as page:
        page.get(f"{jupyter.base}login?token={TOKEN}", follow_redirects=True)
        page.get(f"{jupyter.base}login")
        xsrf = page.cookies["_xsrf"]
        body = {"input": {"prompt": "a"}}

        assert page.post(runs, json=body).status_code == 403
        assert page.get(f"{jupyter.base}modelcompose/hosts").status_code == 200
        answer = page.post(runs, json=body, headers={"X-XSRFToken": xsrf})
        assert answer.json()["output"] == {"generated": "<a>"}
        foreign = {"X-XSRFToken": xsrf, "Origin": "https://evil.example"}
        assert page.post(runs, json=body, headers=foreign).status_code == 404
        by_rebinding = {"X-XSRFToken": xsrf, "Host": "evil.example"}
        assert page.post(runs, json=body, headers=by_rebinding).status_code == 403


def test_jupyters_authorizer_is_asked(
    with_authorizer: Jupyter,
    serve: Serve,
    models: ScriptedModels,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jupyter = with_authorizer
    (jupyter.root / "read-only").touch()
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(jupyter.runtime))
    server = serve()
    host = f"hosts/{id_of(server)}"

    assert [each["id"] for each in jupyter.hosts] == [id_of(server)]
    assert jupyter.get(f"{host}/workflows").status_code == 200
    assert jupyter.post(f"{host}/workflows/runs", {"input": {"prompt": "a"}}).status_code == 403
    assert jupyter.post("hosts", {"path": "story.yml"}).status_code == 403
    assert jupyter.delete(host).status_code == 403
    assert models.prompts == [] and not server.wait(0)
    (jupyter.root / "read-only").unlink()


# The run API, passed on


def test_a_run_is_answered_as_the_host_answers_it(jupyter: Jupyter, serve: Serve) -> None:
    server = serve(MANY)
    host = f"hosts/{id_of(server)}"

    answer = jupyter.post(f"{host}/workflows/runs", {"input": {"prompt": "a"}})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    state = answer.json()
    assert state["output"] == "<a>"
    assert jupyter.get(f"{host}/tasks/{state['task_id']}").json() == state
    assert jupyter.get(f"{host}/tasks/{state['task_id']}?output_only=true").text == '"<a>"'
    assert {each["workflow_id"] for each in jupyter.get(f"{host}/workflows").json()} == {
        "plain",
        "echo",
    }
    assert jupyter.get(f"{host}/models").status_code == 200
    assert jupyter.post(f"{host}/models/unload", {}).json() == []
    assert jupyter.get(f"{host}/openapi.json").json()["openapi"] == "3.1.0"


def test_what_the_host_refuses_is_refused_in_its_words(jupyter: Jupyter, server: Server) -> None:
    host = f"hosts/{id_of(server)}"

    error = error_of(jupyter.post(f"{host}/workflows/runs", {"input": {"promt": "a"}}), 422)
    assert error["code"] == "unknown_input"
    assert error_of(jupyter.post(f"{host}/workflows/runs", {"imput": {}}), 400)["hint"]
    assert error_of(jupyter.get(f"{host}/tasks/none"), 404)["code"] == "unknown_run"
    form = jupyter.client.post(
        f"{jupyter.base}modelcompose/{host}/workflows/runs", content=b"a", headers={}
    )
    assert form.status_code == 415


def test_the_owner_speaks_through_jupyter(jupyter: Jupyter, server: Server) -> None:
    """Who may use the Jupyter server is the user, so documents of theirs run as well."""
    host = f"hosts/{id_of(server)}"
    other = load_document(MANY)

    brought = {"text": MANY, "name": "other.yml", "folder": "."}
    key = jupyter.post(f"{host}/documents", brought).json()["key"]

    assert key == other.key
    assert jupyter.get(f"{host}/documents/{key}").json()["served"] is False
    body = {"document": key, "workflow_id": "plain", "input": {"prompt": "b"}}
    state = jupyter.post(f"{host}/workflows/runs", body).json()
    assert state["output"] == "<b>" and state["record"]["seed"] is not None


def test_events_come_as_they_happen_and_can_be_resumed(
    jupyter: Jupyter, server: Server, models: ScriptedModels
) -> None:
    models.reply = lambda prompt: ["one ", "two\u2028", "three"]
    held(models, "a")
    url = f"{jupyter.base}modelcompose/hosts/{id_of(server)}/workflows/runs"
    body = {"input": {"prompt": "a"}, "stream": True}

    with jupyter.client.stream("POST", url, json=body) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        events = _events(answer)
        seen = []
        while not seen or seen[-1][1] != "text" or not seen[-1][2]["text"]:
            seen.append(next(events))
        # It stands still, and what it has said is here.
        assert seen[-1][2]["text"] == "one "
        (task,) = jupyter.get(f"hosts/{id_of(server)}/tasks").json()
        assert task["status"] == "processing"
        models.gate.set()
        seen += list(events)

    numbers = [number for number, _, _ in seen]
    assert numbers == sorted(set(numbers))
    assert seen[-1][1:] and seen[-1][2]["state"] == "completed"
    again = f"{url.removesuffix('/workflows/runs')}/tasks/{task['task_id']}/events"
    with jupyter.client.stream("GET", again, headers={"Last-Event-ID": str(numbers[-2])}) as rest:
        assert list(_events(rest)) == [seen[-1]]
    done = jupyter.client.get(again, headers={"Last-Event-ID": str(numbers[-1])})
    assert done.status_code == 204 and done.content == b""


def _events(answer: httpx.Response) -> Iterator[tuple[int, str, dict[str, Any]]]:
    rest = b""
    for piece in answer.iter_raw():
        *messages, rest = (rest + piece).split(b"\n\n")
        for message in messages:
            fields = dict(line.split(": ", 1) for line in message.decode().split("\n"))
            if "data" in fields:
                yield int(fields["id"]), fields["event"], json.loads(fields["data"])


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_its_run(
    jupyter: Jupyter, server: Server, models: ScriptedModels, stream: bool
) -> None:
    held(models, "a")
    body = {"input": {"prompt": "a"}, "stream": stream}

    stays = threading.Event()
    leaving = threading.Thread(target=_abandon, args=(jupyter, server, body, stays))
    leaving.start()
    assert models.started.acquire(timeout=SECONDS)
    (run,) = server.host.runs()
    assert not run.done
    stays.set()
    leaving.join()

    assert run.wait(SECONDS)
    assert run.state == "cancelled"


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_client_may_leave_while_something_is_on_its_way_to_it(
    jupyter: Jupyter, server: Server, models: ScriptedModels
) -> None:
    held(models, "a")
    url = f"{jupyter.base}modelcompose/hosts/{id_of(server)}/workflows/runs"
    body = {"input": {"prompt": "a"}, "stream": True}

    for _ in range(10):
        with httpx.Client(headers=jupyter.client.headers, trust_env=False) as client:
            with client.stream("POST", url, json=body) as answer:
                next(answer.iter_raw())
                # The text and the end of the connection reach the Jupyter server at once.
                os.kill(jupyter.pid, signal.SIGSTOP)
            run = server.host.runs()[0]
            try:  # it may have been heard before the server stood still
                until(lambda run=run: models.started.acquire(blocking=False) or run.done)
            finally:
                os.kill(jupyter.pid, signal.SIGCONT)
        assert run.wait(SECONDS)
        assert run.state == "cancelled"
        models.gate.clear()


def _abandon(jupyter: Jupyter, server: Server, body: Any, stays: threading.Event) -> None:
    """Ask, and leave without an answer once there is something to stop."""
    address = urlsplit(f"{jupyter.base}modelcompose/hosts/{id_of(server)}/workflows/runs")
    headers = {**jupyter.client.headers, "Content-Type": "application/json"}
    connection = http.client.HTTPConnection(str(address.hostname), address.port, SECONDS)
    with contextlib.closing(connection):
        connection.request("POST", address.path, json.dumps(body), headers)
        assert stays.wait(SECONDS)


def test_jupyters_own_tokens_and_cookies_stay_with_jupyter(
    jupyter: Jupyter, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelcompose_jupyter.server.handler import ApiHandler

    asked: list[Any] = []
    answer = ApiHandler._answer

    async def spy(self: ApiHandler, **path: str) -> None:
        asked.append((dict(self.request.headers), self.request.uri))
        self.set_cookie("host", "cookie")
        await answer(self, **path)

    monkeypatch.setattr(ApiHandler, "get", spy)
    got = jupyter.get(
        f"hosts/{id_of(server)}/tasks?token={TOKEN}&include_output=true",
        headers={"Cookie": "mine=1", "Referer": jupyter.base, "X-Forwarded-For": "10.0.0.1"},
    )

    assert got.status_code == 200 and "host=cookie" not in str(got.headers)
    ((headers, uri),) = asked
    assert server.server_info is not None
    assert headers["Authorization"] == f"Bearer {server.server_info.token}"
    assert not headers.keys() & {"Cookie", "Referer", "Origin", "X-Forwarded-For"}
    assert uri == "/api/tasks?include_output=true"


def test_the_only_host_has_a_name_that_stays(jupyter: Jupyter, serve: Serve) -> None:
    assert error_of(jupyter.get("api/workflows"), 404)["code"] == "unknown_host"

    serve()
    answer = jupyter.post("api/workflows/runs", {"input": {"prompt": "a"}})
    assert answer.json()["output"] == {"generated": "<a>"}

    serve(MANY)
    assert error_of(jupyter.get("api/workflows"), 409)["code"] == "ambiguous"


def test_clients_of_openai_are_at_home(jupyter: Jupyter, server: Server) -> None:
    models = jupyter.get(
        f"hosts/{id_of(server)}/v1/models", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    assert [each["id"] for each in models.json()["data"]] == ["bundled:storyteller"]


def test_models_of_the_hub_have_a_slash_in_their_ids(jupyter: Jupyter, serve: Serve) -> None:
    server = serve(STORY.replace("bundled:storyteller", "org/name"))
    models = f"hosts/{id_of(server)}/v1/models"

    assert jupyter.get(f"{models}/org%2Fname").json()["id"] == "org/name"
    assert jupyter.get(f"{models}/org%2Fname/").json()["id"] == "org/name"
    for other in (
        "org/name",
        "org%2F..%2Fname",
        "org%2F%2Fname",
        "%2Fname",
        "org%2F",
        "org%5Cname",
    ):
        answer = _raw_get(jupyter, f"modelcompose/{models}/{other}")
        assert answer.startswith(b"HTTP/1.1 404"), other


def test_what_is_no_text_is_refused(jupyter: Jupyter, server: Server) -> None:
    host = f"hosts/{id_of(server)}"
    runs = f"{jupyter.base}modelcompose/{host}/workflows/runs"
    for name in ("Accept", "Content-Type", "Last-Event-ID"):
        headers = {name.encode(): "é".encode("latin-1")}
        assert error_of(jupyter.get(f"{host}/workflows", headers=headers), 400)["message"]
        answer = jupyter.client.post(runs, content=b"{}", headers=headers)
        assert name in error_of(answer, 400)["message"]
    for body in (b"\xff", b'{"path": "\xff"}'):
        answer = jupyter.client.post(f"{jupyter.base}modelcompose/hosts", content=body)
        assert "UTF-8" in error_of(answer, 400)["message"]


def test_bodies_may_begin_with_a_mark(jupyter: Jupyter) -> None:
    hosts = f"{jupyter.base}modelcompose/hosts"
    answers = [jupyter.client.post(hosts, content=body) for body in (b"{}", b"\xef\xbb\xbf{}")]
    assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize(
    "rest",
    [
        "../../../api/status",
        "..%2f..%2f..%2fapi/status",
        "%2e%2e/%2e%2e/v1/models",
        "tasks/..%5c..%5chealth",
        "tasks//health",
        "http://127.0.0.1:1/api/health",
        "@127.0.0.1:1/health",
        "health%00",
        "%2f%2f127.0.0.1:1/health",
    ],
)
def test_no_path_leads_to_anything_else(jupyter: Jupyter, server: Server, rest: str) -> None:
    path = f"modelcompose/hosts/{id_of(server)}/{rest}"
    answer = _raw_get(jupyter, path)
    assert answer.startswith(b"HTTP/1.1 40"), answer
    assert b"127.0.0.1" not in answer and b'"status":"ok"' not in answer


@pytest.mark.parametrize("id", ["..", "%2e%2e", "", "*", "127.0.0.1:80", "None", "null"])
def test_what_is_no_id_names_no_host(jupyter: Jupyter, server: Server, id: str) -> None:
    answer = _raw_get(jupyter, f"modelcompose/hosts/{id}/health")
    assert answer.startswith(b"HTTP/1.1 404"), answer


def _raw_get(jupyter: Jupyter, path: str) -> bytes:
    """An answer to a path that clients would put in order before they send it."""
    import socket

    url = httpx.URL(jupyter.base)
    request = (
        f"GET {url.path}{path} HTTP/1.1\r\nHost: {url.host}:{url.port}\r\n"
        f"Authorization: token {TOKEN}\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection((url.host, url.port or 80), timeout=SECONDS) as connection:
        connection.sendall(request.encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_host_does_not_end_through_its_api(jupyter: Jupyter, server: Server) -> None:
    for path in ("shutdown", "shutdown/", "%73hutdown"):
        assert jupyter.post(f"hosts/{id_of(server)}/{path}", {}).status_code == 403
    assert not server.wait(0)


_RUN = b'{"input": {"prompt": "a"}}'
_HIDDEN = b"POST /api/shutdown HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"


class _Requests:
    """Counts requests by their routes."""

    def __init__(self, seen: Counter[str | None]) -> None:
        self._seen = seen

    def run_began(self, run: Run) -> None: ...

    def run_ended(self, run: Run, seconds: float) -> None: ...

    def request_ended(self, record: RequestRecord) -> None:
        self._seen[record.route] += 1


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Length: 26\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
        (b"Content-Length: 26\r\nContent-Length: 0", _RUN),
        (b"Transfer-Encoding: identity, chunked", b"0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\nAccept: */*\r\n x: y", b"0\r\n\r\n"),
        (b"Content-Length: 26\r\nLast-Event-ID: 1\rX: y", _RUN),
        (b"Content-Length: 26\r\nAccept: a\0b", _RUN),
        # These are one request, and go on as one, with nothing of what is hop by hop.
        (b"Content-Length: %d" % len(_HIDDEN), _HIDDEN),
        (b"Content-Length: 26\r\nConnection: content-type, content-length", _RUN),
        (b"Content-Length: 26\r\nExpect: 100-continue", _RUN),
        (b"Content-Length: 26\r\nUpgrade: h2c\r\nTE: trailers\r\nTrailer: Host", _RUN),
        (b"Transfer-Encoding: chunked", b"1a\r\n%s\r\n0\r\n\r\n" % _RUN),
    ],
)
def test_a_host_gets_one_request_for_one(
    jupyter: Jupyter, server: Server, head: bytes, body: bytes
) -> None:
    seen = Counter[str | None]()
    server.state.observers.append(_Requests(seen))
    address = urlsplit(jupyter.base)
    path = f"{address.path}modelcompose/hosts/{id_of(server)}/workflows/runs"
    lines = [
        f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: token {TOKEN}\r\n",
        "Content-Type: application/json\r\n",
    ]
    sent = "".join(lines).encode() + head + b"\r\n\r\n" + body + _HIDDEN
    with socket.create_connection((address.hostname, address.port), timeout=SECONDS) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(65536):
                pass

    assert not server.wait(0)  # nobody has asked it to end
    assert jupyter.get(f"hosts/{id_of(server)}/workflows").status_code == 200
    until(lambda: "/api/workflows" in seen)  # it is counted when it has been answered
    runs = seen.pop("/api/workflows/runs", 0)  # one that was left may end later
    assert (seen, runs <= 1) == ({"/api/workflows": 1}, True)


@pytest.mark.parametrize("line", ["%0d%0aX:%20y", "a%00", "%0aGET%20/api/tasks"])
def test_what_ends_lines_goes_on_in_no_path(jupyter: Jupyter, server: Server, line: str) -> None:
    base = f"hosts/{id_of(server)}"
    for path in (f"{base}/tasks/{line}", f"{base}/tasks?session_id={line}"):
        assert jupyter.get(path).status_code in (200, 404)
    many = "&".join(["a=1"] * 1100)
    assert jupyter.get(f"{base}/workflows?{many}").status_code == 400
    assert jupyter.get(f"{base}/workflows").status_code == 200


def test_a_body_has_a_limit(jupyter: Jupyter, server: Server) -> None:
    body = {"input": {"prompt": "a" * ServerSettings().max_body}}
    answer = jupyter.post(f"hosts/{id_of(server)}/workflows/runs", body)
    assert error_of(answer, 413)["code"] == "too_large"


def test_a_host_that_does_not_answer_is_said_to_be_gone(jupyter: Jupyter) -> None:
    dead = ServerInfo(
        id="dead",
        url=f"http://127.0.0.1:{free_port()}/api",
        token="token",
        pid=os.getpid(),
        started=own_start(),
        title="Dead",
        version="0",
    )
    dead.publish()
    try:
        (host,) = jupyter.hosts
        assert (host["id"], host["state"]) == ("dead", "unreachable")
        assert error_of(jupyter.get("hosts/dead/workflows"), 502)["code"] == "host_gone"
        assert error_of(jupyter.delete("hosts/dead"), 502)["code"] == "host_gone"
    finally:
        dead.withdraw()


# Hosts of other programs


def test_a_list_of_hosts_tells_no_secret(jupyter: Jupyter, serve: Serve) -> None:
    document = jupyter.root / "folder" / "story.yml"
    server = serve(title="Story", document=str(document.resolve()), webui="http://localhost:8081")
    elsewhere = serve(MANY, title="Many", document="/somewhere/else.yml")

    answer = jupyter.get("hosts")

    by_id = {each["id"]: each for each in answer.json()}
    story = by_id[id_of(server)]
    assert (story["title"], story["document"]) == ("Story", "folder/story.yml")
    assert (story["state"], story["pid"]) == ("ready", os.getpid())
    assert story["webui"] == "http://localhost:8081"
    assert by_id[id_of(elsewhere)]["document"] is None
    for each in (server, elsewhere):
        assert each.access.owner_token not in answer.text
        assert each.url not in answer.text
    assert jupyter.get(f"hosts/{id_of(server)}").json() == story


def test_a_host_of_another_program_is_asked_to_end(jupyter: Jupyter, server: Server) -> None:
    assert jupyter.delete(f"hosts/{id_of(server)}").status_code == 202
    assert server.wait(SECONDS)
    assert error_of(jupyter.delete("hosts/none"), 404)["code"] == "unknown_host"


# Hosts that the server starts


def test_a_host_is_started_shown_used_and_ended(jupyter: Jupyter) -> None:
    (jupyter.root / "story.yml").write_text(STORY)

    answer = jupyter.post("hosts", {"path": "story.yml"})

    assert answer.status_code == 201, answer.text
    host = answer.json()
    assert answer.headers["location"].endswith(f"/user/ann/modelcompose/hosts/{host['id']}")
    assert (host["document"], host["state"]) == ("story.yml", "ready")
    (session,) = jupyter.api("sessions")
    assert (session["path"], session["name"], session["type"]) == (
        "story.yml",
        "story.yml",
        "modelcompose",
    )
    assert session["kernel"]["id"] == host["kernel_id"]
    assert [each["id"] for each in jupyter.api("kernels")] == [host["kernel_id"]]

    again = jupyter.post("hosts", {"path": "story.yml"})
    assert (again.status_code, again.json()["id"]) == (200, host["id"])
    body = {"input": {"prompt": "A fox"}, "output_only": True}
    told = jupyter.post(f"hosts/{host['id']}/workflows/runs", body).json()
    assert told["generated"].startswith("A fox")

    assert jupyter.delete(f"hosts/{host['id']}").status_code == 204
    assert jupyter.api("sessions") == jupyter.api("kernels") == jupyter.hosts == []
    assert jupyter.files == []
    assert not psutil.pid_exists(host["pid"])


def test_two_who_start_the_same_get_the_same(jupyter: Jupyter) -> None:
    (jupyter.root / "story.yml").write_text(STORY)

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda path: jupyter.post("hosts", {"path": path}),
                                ["story.yml", "/story.yml"]))  # fmt: skip

    assert sorted(each.status_code for each in answers) == [200, 201]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert len(jupyter.api("kernels")) == len(jupyter.hosts) == 1


def test_its_api_is_closed_to_others_on_this_computer(jupyter: Jupyter) -> None:
    jupyter.start("story.yml")
    (file,) = jupyter.files
    server_info = json.loads(file.read_text())

    assert server_info["url"].startswith("http://127.0.0.1:")
    refused = httpx.get(f"{server_info['url']}/workflows", trust_env=False)
    assert refused.status_code == 401
    arguments = psutil.Process(server_info["pid"]).cmdline()
    assert not any(server_info[key] in " ".join(arguments) for key in ("token", "client_token"))


def test_what_cannot_be_served_is_said_before_anything_starts(jupyter: Jupyter) -> None:
    (jupyter.root / "bad.yml").write_text("component:\n  tpe: model\n  modl: x\n")
    (jupyter.root / "folder").mkdir(exist_ok=True)
    (jupyter.root / "story.yml").write_text(STORY)

    error = error_of(jupyter.post("hosts", {"path": "bad.yml"}), 422)
    assert error["code"] == "invalid_document"
    found = {problem["message"] for problem in error["problems"]}
    assert {"unknown key 'tpe'", "unknown key 'modl'"} <= found
    assert {problem["where"]["file"] for problem in error["problems"]} == {"bad.yml"}

    for path, status in (("none.yml", 404), ("../home.yml", 404), ("folder", 422), ("", 422)):
        assert error_of(jupyter.post("hosts", {"path": path}), status)["code"] == "unknown_file"
    assert error_of(jupyter.post("hosts", {}), 400)["message"] == "'path' is missing"
    unknown = {"path": "story.yml", "kernel_name": "none"}
    assert error_of(jupyter.post("hosts", unknown), 422)["code"] == "unknown_kernel"
    assert jupyter.api("kernels") == jupyter.api("sessions") == []


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            "import sys; sys.modules['modelcompose_jupyter'] = None; "
            "from ipykernel.kernelapp import launch_new_instance; launch_new_instance()",
            "ModuleNotFoundError: No module named 'modelcompose_jupyter",
        ),
        ("raise SystemExit(3)", "the kernel does not answer"),
    ],
)
def test_a_kernel_that_cannot_serve_says_why_and_goes(
    jupyter: Jupyter, program: str, said: str
) -> None:
    folder = jupyter.data / "kernels" / "bare"
    folder.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-c", program, "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Bare", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    (jupyter.root / "story.yml").write_text(STORY)

    error = error_of(jupyter.post("hosts", {"path": "story.yml", "kernel_name": "bare"}), 500)

    assert error["code"] == "kernel_failed" and said in error["message"]
    assert jupyter.api("kernels") == jupyter.api("sessions") == jupyter.hosts == []


def test_a_document_that_has_changed_is_served_as_it_is_now(jupyter: Jupyter) -> None:
    host = jupyter.start("story.yml")
    (jupyter.root / "story.yml").write_text(MANY)

    again = jupyter.post("hosts", {"path": "story.yml"})

    assert (again.status_code, again.json()["id"]) == (200, host["id"])
    served = jupyter.get(f"hosts/{host['id']}/workflows").json()
    assert [each["workflow_id"] for each in served] == ["plain", "echo"]


def test_a_kernel_that_jupyter_shuts_down_takes_its_host_along(jupyter: Jupyter) -> None:
    host = jupyter.start("story.yml")

    answer = jupyter.client.delete(f"{jupyter.base}api/kernels/{host['kernel_id']}")

    assert answer.status_code == 204
    assert jupyter.files == []
    assert error_of(jupyter.get(f"hosts/{host['id']}/health"), 404)
    assert jupyter.api("sessions") == []


def test_a_kernel_that_is_restarted_serves_again(jupyter: Jupyter) -> None:
    host = jupyter.start("story.yml")

    url = f"{jupyter.base}api/kernels/{host['kernel_id']}/restart"
    assert jupyter.client.post(url).status_code == 200

    (again,) = until(lambda: jupyter.hosts)
    assert again["id"] != host["id"] and again["pid"] != host["pid"]
    assert jupyter.get(f"hosts/{host['kernel_id']}").json() == again
    assert jupyter.get(f"hosts/{host['kernel_id']}/health").json() == {"status": "ok"}


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_terminated_kernel_withdraws_its_file(jupyter: Jupyter) -> None:
    host = jupyter.start("story.yml")
    (file,) = jupyter.files

    os.kill(host["pid"], signal.SIGTERM)

    until(lambda: not file.exists())  # nobody has asked for the hosts meanwhile
    until(lambda: jupyter.files)  # Jupyter starts it anew, as any kernel


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_host_that_is_killed_breaks_its_streams_off(jupyter: Jupyter) -> None:
    host = jupyter.start("long.yml", LONG)
    url = f"{jupyter.base}modelcompose/hosts/{host['id']}/workflows/runs"

    with (
        pytest.raises(httpx.RemoteProtocolError),
        jupyter.client.stream("POST", url, json={"stream": True}) as answer,
    ):
        for _, type, data in _events(answer):
            if type == "text" and data["text"]:
                os.kill(host["pid"], signal.SIGKILL)

    # Its process may be there still, as one that nobody has asked how it ended.
    assert jupyter.get(f"hosts/{host['id']}/health").status_code in (404, 502)
    (again,) = until(lambda: [each for each in jupyter.hosts if each["id"] != host["id"]])
    assert again["kernel_id"] == host["kernel_id"]


def test_runs_make_a_kernel_busy(jupyter: Jupyter) -> None:
    """Jupyter culls what is idle."""
    host = jupyter.start("long.yml", LONG)

    def state() -> str:
        kernel: dict[str, str] = jupyter.api(f"kernels/{host['kernel_id']}")
        return kernel["execution_state"]

    assert state() == "idle"
    runs = f"hosts/{host['id']}/workflows/runs"
    tasks = [jupyter.post(runs, {"wait_for_completion": False}).json() for _ in range(2)]
    until(lambda: state() == "busy")
    jupyter.post(f"hosts/{host['id']}/tasks/{tasks[0]['task_id']}/cancel", {})
    assert state() == "busy"
    jupyter.post(f"hosts/{host['id']}/tasks/{tasks[1]['task_id']}/cancel", {})
    until(lambda: state() == "idle")


def test_a_kernel_whose_host_was_asked_to_end_stays_empty(jupyter: Jupyter) -> None:
    """A Jupyter server starts kernels anew that end by themselves."""
    host = jupyter.start("story.yml")
    (file,) = jupyter.files
    server_info = json.loads(file.read_text())

    owner = {"Authorization": f"Bearer {server_info['token']}"}
    httpx.post(f"{server_info['url']}/shutdown", json={}, headers=owner, trust_env=False)

    until(lambda: not file.exists())
    assert [each["id"] for each in jupyter.api("kernels")] == [host["kernel_id"]]
    again = jupyter.post("hosts", {"path": "story.yml"})
    assert again.status_code == 201
    assert len(jupyter.api("kernels")) == len(jupyter.api("sessions")) == 1


def test_a_host_runs_without_a_base_url_too(
    with_authorizer: Jupyter,
) -> None:
    jupyter = with_authorizer
    host = jupyter.start("story.yml")
    assert jupyter.get(f"hosts/{host['id']}/health").json() == {"status": "ok"}
    assert jupyter.delete(f"hosts/{host['id']}").status_code == 204


# Installed


def test_the_package_names_its_extension_and_ships_what_activates_it() -> None:
    import importlib
    import tomllib

    import modelcompose_jupyter

    (point,) = modelcompose_jupyter._jupyter_server_extension_points()
    assert importlib.import_module(point["module"])._load_jupyter_server_extension
    project = Path(__file__).parents[2]
    build = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    shipped = build["targets"]["wheel"]["shared-data"]
    ((source, _),) = [
        (source, target)
        for source, target in shipped.items()
        if target == "etc/jupyter/jupyter_server_config.d/modelcompose_jupyter.json"
    ]
    config = json.loads((project / source).read_text())
    assert config == {"ServerApp": {"jpserver_extensions": {"modelcompose_jupyter": True}}}


def test_a_jupyter_server_stays_without_torch(running: Jupyter) -> None:
    code = (
        "import sys; from modelcompose_jupyter.extension import handlers, host_manager, proxy; "
        "print({'torch', 'transformers', 'ipywidgets'} & sys.modules.keys())"
    )
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
