"""A host in another process is used as this one is, and what happens when it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from standins.processes import environment
from standins.scripted import ScriptedModels
from standins.terminal import forget_hosts

from modelcompose_jupyter import (
    ComposeError,
    InputError,
    LocalHost,
    Run,
    host_selection,
    load,
    on_run,
)
from modelcompose_jupyter.callable import Workflow
from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.server import client
from modelcompose_jupyter.server.access import Access
from modelcompose_jupyter.server.catalog import DocumentFile
from modelcompose_jupyter.server.client import RemoteHost
from modelcompose_jupyter.server.schemas import TaskState
from modelcompose_jupyter.server.server import Server, ServerSettings
from modelcompose_jupyter.server.server_info import ServerInfo, find_servers

from .conftest import COMPONENT, MANY, STORY, Serve, held


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Each test decides anew which host runs what."""
    yield
    for each in host_selection.in_use():
        each.close(10)
    forget_hosts()


@pytest.fixture
def remote(server: Server) -> Iterator[RemoteHost]:
    """The server's host, as its owner sees it."""
    assert server.server_info is not None
    remote = RemoteHost(server.url, server.access.owner_token, server.server_info)
    yield remote
    remote.close(10)


def test_a_run_over_there_is_a_run(remote: RemoteHost, models: ScriptedModels) -> None:
    models.reply = lambda prompt: ["one", " two\u2028", "\x85 three"]
    story = load(STORY, host=remote)

    run = story.run(prompt="a")

    assert run.output == {"generated": "one two\u2028\x85 three"}
    assert (run.state, run.finish_reason) == ("completed", "eos")
    assert run.usage["generated"] == 1
    assert run.record["input"] == {"prompt": "a"}
    assert "".join(story.stream(prompt="b")) == run.text
    assert [each["generated"] for each in story.map(["a", "b", "c"], progress=False)] == [
        run.text
    ] * 3
    grid = story.grid(prompt=["a", "b"], seed=[1, 2])
    assert grid.wait(30)
    assert [each and each.text for each in grid.runs] == [run.text] * 4


def test_it_knows_what_the_host_knows(
    remote: RemoteHost, server: Server, models: ScriptedModels
) -> None:
    document = server.documents.catalog.documents[0]
    before = server.host.submit(document, None, {"prompt": "before"})
    before.wait(30)

    mine = load(STORY, host=remote).run(prompt="mine")

    assert [run.id for run in remote.runs()] == [mine.id, before.id]
    assert [run.id for run in remote.own_runs()] == [mine.id]
    found = remote.run(before.id[:8])
    assert (found.output, found.input) == (before.output, before.input)
    assert found.record == before.record
    again = remote.rerun(before.id)
    again.wait(30)
    assert again.output == before.output
    assert again.record["seed"] == before.record["seed"]
    with pytest.raises(InputError, match="there is no run 'nope'"):
        remote.run("nope")


def test_a_run_over_there_is_told_to_hooks_here_and_is_in_the_history(remote: RemoteHost) -> None:
    story = load(STORY, host=remote)
    told: queue.Queue[Run] = queue.Queue()
    hook = on_run(told.put, story)
    try:
        run = story.run(prompt="a")
        again = remote.rerun(run.id)
        again.wait(30)
        # The server is in this process, too: of each run there are both ends.
        seen = [told.get(timeout=30) for _ in range(4)]
    finally:
        hook.stop()
    assert [each for each in seen if each in (run, again)] == [run, again]
    assert sorted(each.id for each in seen) == sorted([run.id, again.id] * 2)
    assert list(story.history.index) == [run.id, again.id]
    assert story.history["text"].to_list() == [run.text] * 2
    assert story.rerun(story.history.iloc[0]).result(30) == run.output


def test_a_run_over_there_goes_on(serve: Serve) -> None:
    real = LocalHost()
    server = serve(f"{COMPONENT}  max_output_length: 8\n", on=real)
    document = server.documents.catalog.documents[0]
    for token in (server.access.owner_token, None):
        host = RemoteHost(server.url, token)
        flow = Workflow(document, host=host)
        run = flow.start({"prompt": "Once upon a"}, seed=3)
        assert run.wait(30)
        extended = flow.extend(run, 6)
        assert "".join(extended.stream()) == extended.text != run.text
        wanted = real.submit(document, None, {"prompt": "Once upon a"}, seed=3, extended_by=6)
        assert extended.result(30) == wanted.result(30)
        assert extended.extendable_by == run.extendable_by - 6 > 0
        again = host.rerun(extended.id)
        assert again.result(30) == wanted.result(30)
        assert host.run(extended.id[:8]).extendable_by == extended.extendable_by
        if token:
            replayed = flow.rerun(extended.record)
            assert replayed.result(30) == wanted.result(30)
            assert replayed.record["extended_by"] == 6
        with pytest.raises(InputError, match="there is no run"):
            host.extend("nope")
        host.close(10)
    real.close()


def test_a_run_over_there_branches(serve: Serve) -> None:
    real = LocalHost()
    server = serve(f"{COMPONENT}  max_output_length: 8\n", on=real)
    document = server.documents.catalog.documents[0]
    local = Workflow(document, host=real)
    wanted = local.start({"prompt": "Once upon a"}, seed=3, logprobs=2)
    assert wanted.wait(30)
    for token in (server.access.owner_token, None):
        host = RemoteHost(server.url, token)
        flow = Workflow(document, host=host)
        run = flow.start({"prompt": "Once upon a"}, seed=3, logprobs=2)
        assert run.wait(30)
        assert run.tokens == wanted.tokens
        id = next(e.id for e in run.tokens[0][4].alternatives if e.id != run.tokens[0][4].id)
        branch, same = flow.branch(run, 4, id), local.branch(wanted, 4, id)
        assert branch.result(30) == same.result(30)
        assert branch.tokens == same.tokens
        score = flow.start({"prompt": "Once upon a"}, score=" time").result(30)
        assert score == local.start({"prompt": "Once upon a"}, score=" time").result(30)
        assert flow.score([" time", " dog"], prompt="Once upon a", progress=False)[0].tokens
        if token:
            assert flow.rerun(branch.record).result(30) == same.output
        with pytest.raises(InputError, match="count from 0"):
            flow.branch(run, 99, id)
        host.close(10)
    real.close()


def test_a_run_goes_on_where_it_was(server: Server) -> None:
    """Though what is run from now on goes elsewhere."""
    flow = load(f"{COMPONENT}  max_output_length: 8\n")
    run = flow.start({"prompt": "Once upon a"}, seed=3)
    assert run.wait(30)
    elsewhere = host_selection.connect(server.url)
    try:
        assert flow.host is elsewhere
        extended = flow.extend(run, 6)
        assert extended.result(30)["generated"].startswith(run.text)
        assert extended.usage["generated"] == 14
    finally:
        host_selection.disconnect()
        elsewhere.close(10)


def test_a_run_that_is_forgotten_over_there_says_why(remote: RemoteHost, server: Server) -> None:
    id = load(STORY, host=remote).run(prompt="a").id
    server.host.limit(run_ttl=0)
    for ask in (remote.run, remote.rerun):
        with pytest.raises(InputError, match="the time for which results are kept") as caught:
            ask(id)
        assert caught.value.code == "gone"


def test_a_run_that_is_forgotten_before_it_was_seen_to_the_end_says_why(
    remote: RemoteHost, server: Server
) -> None:
    """As after a connection that was broken for long."""
    server.host.limit(run_ttl=0)
    id = load(STORY, host=server.host).run(prompt="a").id
    run = remote._mirrored(TaskState(task_id=id, status="pending", workflow_id="a"), "a", {})
    assert run.wait(30)
    assert (run.state, run.error and run.error.code) == ("failed", "gone")
    assert f"run {id} is forgotten: the time" in str(run.error)


def test_any_document_of_the_owner_runs_there(remote: RemoteHost, server: Server) -> None:
    other = load(COMPONENT, host=remote)

    assert other(prompt="x") == {"generated": "<x>"}
    assert not remote.serves(other.document)
    assert remote.serves(server.documents.catalog.documents[0])


def test_a_guest_runs_what_is_served(serve: Serve) -> None:
    server = serve(MANY, access=Access("127.0.0.1", "secret"))
    guest = RemoteHost(server.url, "secret")

    assert load(MANY, "echo", host=guest)(prompt="x") == {"text": "<x>", "n": 1}
    with pytest.raises(ComposeError, match="does not serve this document"):
        load(COMPONENT, host=guest)(prompt="x")
    stranger = RemoteHost(server.url, "wrong")
    with pytest.raises(ComposeError, match="the token is wrong"):
        stranger.ping()
    guest.close()
    stranger.close()


def test_errors_are_the_same_as_here(remote: RemoteHost, host: LocalHost) -> None:
    for values in ({}, {"promt": "x"}, {"prompt": "x", "seed": 1}):
        here, there = (pytest.raises(InputError), pytest.raises(InputError))
        with here as expected:
            load(STORY, host=host).submit(values)
        with there as found:
            load(STORY, host=remote).submit(values)
        assert str(found.value) == str(expected.value)
    with pytest.raises(InputError, match="seed"):
        load(STORY, host=remote).start({"prompt": "x"}, seed=-1)


def test_a_run_over_there_stops(remote: RemoteHost, server: Server, models: ScriptedModels) -> None:
    held(models, "a")
    run = load(STORY, host=remote).submit(prompt="a")
    models.started.acquire(timeout=30)

    run.cancel()

    assert run.wait(30)
    assert (run.state, run.text) == ("cancelled", "<a>")
    assert server.host.run(run.id).state == "cancelled"


def test_closing_stops_the_runs_of_this_client_alone(
    remote: RemoteHost,
    server: Server,
    models: ScriptedModels,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "_LINGER_SECONDS", 3600.0)  # it asks for it, and does not wait
    held(models, "a", "b")
    document = server.documents.catalog.documents[0]
    other = server.host.submit(document, None, {"prompt": "b"})
    run = load(STORY, host=remote).submit(prompt="a")
    models.started.acquire(timeout=30)
    models.started.acquire(timeout=30)
    assert {each.id for each in remote.runs()} == {run.id, other.id}

    assert remote.close(10)

    assert run.state == "cancelled"
    there = server.host.run(run.id)
    assert there.wait(30)
    assert there.state == "cancelled"
    assert not other.done


def test_a_closed_connection_stays_closed(remote: RemoteHost, models: ScriptedModels) -> None:
    held(models, "a")
    story = load(STORY, host=remote)
    run = story.submit(prompt="a")
    assert remote.close(10) and remote.close(10)

    for use in (lambda: story.submit(prompt="b"), remote.runs, remote.models, remote.ping):
        with pytest.raises(ComposeError) as raised:
            use()
        assert raised.value.code == "host_closed"
    run.cancel()
    assert not _client_threads()


def test_closing_lets_go_those_who_wait_for_an_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        remote = RemoteHost(f"http://127.0.0.1:{silent.getsockname()[1]}/api")
        raised: list[ComposeError] = []

        def ask() -> None:
            try:
                remote.runs()
            except ComposeError as error:
                raised.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        connection, _ = silent.accept()
        assert connection.recv(1000)

        assert remote.close(10)

        asking.join(30)
        connection.close()
    assert [error.code for error in raised] == ["host_closed"]


def _client_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == client.CLIENT_THREAD_NAME]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
def test_a_forked_process_says_that_it_has_no_connection(remote: RemoteHost) -> None:
    story = load(STORY, host=remote)
    run = story.run(prompt="a")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()

    def use() -> None:
        try:
            story.submit(prompt="b")
        except ComposeError as error:
            run.cancel()
            queue.put((error.code, remote.close()))

    child = context.Process(target=use)
    child.start()
    assert queue.get(timeout=60) == ("forked", True)
    child.join(60)
    assert not remote.closed
    assert story(prompt="c") == {"generated": "<c>"}


def test_coroutines_stream_from_over_there(remote: RemoteHost, models: ScriptedModels) -> None:
    models.reply = lambda prompt: ["one ", prompt]
    held(models, "held")
    story = load(STORY, host=remote)

    async def read(prompt: str) -> str:
        return "".join([piece async for piece in story.stream(prompt=prompt)])

    async def main() -> list[str]:
        async for piece in story.stream(prompt="held"):
            assert piece == "one "
            break
        return await asyncio.gather(read("a"), read("b"))

    assert asyncio.run(main()) == ["one a", "one b"]
    (left,) = (run for run in remote.own_runs() if run.input["prompt"] == "held")
    assert left.wait(30)
    assert left.state == "cancelled"


def test_a_host_that_is_long_in_answering_holds_up_no_coroutine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        remote = RemoteHost(f"http://127.0.0.1:{listener.getsockname()[1]}/api")
        story = load(STORY, host=remote)

        async def main() -> None:
            stream = story.stream(prompt="a")
            task = asyncio.ensure_future(anext(stream))
            # Taken and not answered, by the loop that the reader waits on.
            taken = await asyncio.to_thread(listener.accept)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            taken[0].close()

        asyncio.run(main())
        assert remote.close(10)


def test_a_host_that_ends_says_how_its_runs_ended(
    remote: RemoteHost, server: Server, models: ScriptedModels
) -> None:
    held(models, "a")
    run = load(STORY, host=remote).submit(prompt="a")
    next(run.stream())

    server.close()

    assert run.wait(30)
    assert (run.state, run.text) == ("cancelled", "<a>")
    assert run.error is not None
    assert run.error.code == "host_gone"


# Losing it


class Wire:
    """A connection to a server that can be cut."""

    def __init__(self, server: Server) -> None:
        host, _, port = server.origin.removeprefix("http://").rpartition(":")
        self._target = (host, int(port))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/api"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(self._target)
                self.connections += 1
                self._open += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Break all connections that there are."""
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
                each.close()
        self._open.clear()

    def close(self) -> None:
        self._listening.close()
        self.cut()


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    wire = Wire(server)
    yield wire
    wire.close()


def test_a_stream_survives_a_broken_connection(
    server: Server, wire: Wire, models: ScriptedModels
) -> None:
    pieces = [f"{number} " for number in range(400)]
    cuts = threading.Semaphore(0)

    def reply(prompt: str) -> Iterator[str]:
        for place, piece in enumerate(pieces):
            if place and place % 100 == 0:
                cuts.acquire(timeout=30)
            yield piece

    models.reply = reply  # type: ignore[assignment]
    remote = RemoteHost(wire.url, server.access.owner_token)
    run = load(STORY, host=remote).submit(prompt="a")
    for part in range(1, 4):
        while len(run.text) < len("".join(pieces[: part * 100])):
            assert not run.done
            threading.Event().wait(0.01)
        wire.cut()
        cuts.release()

    assert run.wait(60)
    assert (run.state, run.text) == ("completed", "".join(pieces))
    assert wire.connections > 3
    remote.close(10)


def _host_process(path: Path, runtime: Path, models: str = "None") -> subprocess.Popen[str]:
    """Another process that serves a document; returns when it does.

    Args:
        path: the document.
        runtime: the folder in which it is announced.
        models: what it generates with, as an expression; None is real models.
    """
    path.write_text(STORY)
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE.format(models=models, path=str(path))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**environment(), "JUPYTER_RUNTIME_DIR": str(runtime)},
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("http")
    return process


_SERVE = """
import sys
from standins.scripted import ScriptedModels
from modelcompose_jupyter import host
from modelcompose_jupyter.server.serving_kernel import serve_document

host._local_host = host.LocalHost({models})
print(serve_document({path!r}).url, flush=True)
sys.stdin.read()
"""
_HOLDING = "ScriptedModels(hold=('Once',))"


def test_a_host_that_is_gone_is_said_so_and_the_next_call_starts_again(
    tmp_path: Path, runtime: Path
) -> None:
    path = tmp_path / "model-compose.yml"
    process = _host_process(path, runtime, _HOLDING)
    story = load(path)
    assert isinstance(story.host, RemoteHost)
    run = story.submit(prompt="Once")
    for _ in run.stream():
        break

    process.kill()
    process.communicate()

    assert run.wait(60)
    assert run.error is not None
    assert run.error.code == "host_gone"
    assert run.text == "<Once>"
    assert isinstance(story.host, LocalHost)
    assert story(prompt="A fox")["generated"].startswith("A fox")
    assert find_servers() == []


def test_a_host_that_went_before_it_was_asked_is_not_missed(serve: Serve) -> None:
    server = serve()
    host_selection._chosen[load_document(STORY).key] = RemoteHost(
        server.url, server.access.owner_token
    )
    story = load(STORY)
    assert isinstance(story.host, RemoteHost)
    server.close()

    assert story(prompt="A fox")["generated"].startswith("A fox")
    assert isinstance(story.host, LocalHost)


@pytest.mark.skipif(os.name != "posix", reason="ports are used again at once")
def test_the_port_of_a_host_that_died_is_not_spoken_to(tmp_path: Path, runtime: Path) -> None:
    """Whoever listens there now would get its token, prompts and documents."""
    path = tmp_path / "model-compose.yml"
    process = _host_process(path, runtime, _HOLDING)
    (found,) = find_servers()
    remote = RemoteHost(found.url, found.token, found)
    story = load(path, host=remote)
    run = story.submit(prompt="Once")
    next(run.stream())

    process.kill()
    process.communicate()

    with _listener(found.url) as other:
        assert run.wait(60)
        assert run.error is not None
        assert run.error.code == "host_gone"
        for use in (lambda: story.submit(prompt="private"), remote.ping, remote.models):
            with pytest.raises(ComposeError, match="is gone or does not answer"):
                use()
        with pytest.raises(BlockingIOError):
            other.accept()
    assert remote.closed
    remote.close(10)


@pytest.mark.skipif(os.name != "posix", reason="ports are used again at once")
def test_nor_is_the_port_of_a_server_that_ended(remote: RemoteHost, server: Server) -> None:
    """Its process goes on, as a notebook's does."""
    story = load(STORY, host=remote)
    story(prompt="a")
    server.close()

    with _listener(server.url) as other:
        with pytest.raises(ComposeError, match="is gone or does not answer"):
            story.submit(prompt="private")
        with pytest.raises(BlockingIOError):
            other.accept()


def _listener(url: str) -> socket.socket:
    """A socket at a URL's port, whose ``accept`` tells at once whether somebody has come."""
    parts = httpx.URL(url)
    listener = socket.create_server((parts.host, parts.port or 0))
    listener.setblocking(False)
    return listener


def test_a_refused_connection_is_a_clear_error(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/api"
    remote = RemoteHost(url)

    with pytest.raises(ComposeError, match="is gone or does not answer"):
        load(STORY, host=remote).submit(prompt="a")

    assert remote.closed


def test_something_else_that_answers_is_no_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            connection, _ = other.accept()
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<htm")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        remote = RemoteHost(f"http://127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(ComposeError, match="is no host"):
            remote.ping()
        remote.close(10)


class Stranger:
    """A server that answers what a test says.

    Attributes:
        answer: status and body of every answer but streams.
        events: the body of every stream of events.
        streams: how many streams it was asked for.
    """

    def __init__(self) -> None:
        self.answer = (200, b'{"task_id": "a", "status": "pending", "workflow_id": "x"}')
        self.headers: dict[str, str] = {}
        self.events = b""
        self.streams = 0
        stranger = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                streams = self.path.endswith("/events")
                stranger.streams += streams
                status, body = (200, stranger.events) if streams else stranger.answer
                self.send_response(status)
                kind = "text/event-stream" if streams else "application/json"
                for name, value in ({"Content-Type": kind} | stranger.headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/api"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    stranger = Stranger()
    yield stranger
    stranger.close()


@pytest.fixture
def misled(stranger: Stranger) -> Iterator[RemoteHost]:
    """A client of what is no host."""
    remote = RemoteHost(stranger.url, "token")
    yield remote
    remote.close(10)


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"5",
        b'"x"',
        b"null",
        b"",
        b"{}",
        b"<html>",
        b"\xff",
        b"[" * 100_000,
        b'{"error": "boom"}',
        b'{"error": []}',
        b'{"error": {"code": "x"}}',
        b'{"message": "Forbidden", "reason": null}',
        b'{"task_id": 5, "status": "pending", "workflow_id": "x"}',
        b'{"task_id": "a", "status": "sleeping", "workflow_id": "x"}',
    ],
)
def test_strange_answers_are_said_to_be_so(
    stranger: Stranger, misled: RemoteHost, status: int, body: bytes
) -> None:
    stranger.answer = (status, body)
    story = load(STORY, host=misled)

    uses: list[Callable[[], Any]] = [
        lambda: story.submit(prompt="a"),
        misled.ping,
        misled.models,
        misled.memory,
    ]
    if body != b"[]" or status != 200:
        uses += [misled.runs, misled.unload]
    for use in uses:
        with pytest.raises(ComposeError) as raised:
            use()
        assert raised.value.code == "bad_answer"
        assert stranger.url in raised.value.message
    assert not misled.closed


def test_a_redirect_is_not_followed(stranger: Stranger, misled: RemoteHost) -> None:
    stranger.answer = (302, b"")
    stranger.headers = {"Location": f"{stranger.url}/tasks/a/events"}

    with pytest.raises(ComposeError, match="is no host"):
        misled.ping()
    assert stranger.streams == 0


def test_an_error_that_says_little_is_told_nevertheless(
    stranger: Stranger, misled: RemoteHost
) -> None:
    error = {"code": "x", "message": "no more", "where": {"file": "f", "line": "3"}}
    stranger.answer = (500, json.dumps({"error": error}).encode())

    with pytest.raises(ComposeError, match="f: no more") as raised:
        misled.runs()
    assert (raised.value.code, raised.value.hint) == ("x", None)


def test_nothing_that_answers_behind_a_gateway_is_a_host_that_is_gone(
    stranger: Stranger, misled: RemoteHost
) -> None:
    stranger.answer = (502, b"<html>Bad Gateway</html>")

    with pytest.raises(ComposeError, match="is gone or does not answer"):
        misled.ping()


def test_connecting_to_another_program_fails(stranger: Stranger) -> None:
    stranger.answer = (200, b'{"status": "ok"}')

    with pytest.raises(ComposeError, match="is no host"):
        host_selection.connect(stranger.url)
    with pytest.raises(ComposeError, match="is no URL"):
        host_selection.connect("http://localhost:port")


STARTED = 'id: 0\nevent: state\ndata: {"state": "running"}\n\n'
ENDED = 'id: 9\nevent: state\ndata: {"state": "completed"}\n\n'


@pytest.mark.parametrize(
    "event",
    [
        'id: 1\nevent: state\ndata: {"state": ',
        'event: state\ndata: {"state": "running"}',
        'id: x\nevent: state\ndata: {"state": "running"}',
        'id: 1\ndata: {"state": "running"}',
        'id: 0\nevent: state\ndata: {"state": "running"}',
        'id: -1\nevent: state\ndata: {"state": "running"}',
        "id: 1\nevent: state\ndata: []",
        "id: 1\nevent: state\ndata: {}",
        'id: 1\nevent: state\ndata: {"state": "asleep"}',
        'id: 1\nevent: state\ndata: {"state": "completed", "summary": 5}',
        'id: 1\nevent: text\ndata: {"text": "a"}',
        'id: 1\nevent: text\ndata: {"text": 5, "offset": 0, "stream": ["", 0, 0, 0]}',
        'id: 1\nevent: text\ndata: {"text": "a", "offset": 0, "stream": [{}]}',
        'id: 1\nevent: progress\ndata: {"done": 1}',
        'id: 1\nevent: progress\ndata: {"phase": "load", "job": []}',
        'id: 1\nevent: progress\ndata: {"phase": "load", "done": "many"}',
        "id: 1\nevent: result\ndata: {}",
        "id: 1\nevent: error\ndata: {}",
        'id: 1\nevent: error\ndata: {"code": "x", "message": 5}',
        'id: 1\nevent: state\ndata: "\udcff"',
        "id: 1\nevent: state\ndata: " + "[" * 100_000,
    ],
)
def test_a_run_ends_whatever_its_stream_says(
    stranger: Stranger, misled: RemoteHost, event: str
) -> None:
    stranger.events = f"{STARTED}{event}\n\n{ENDED}".encode("utf-8", "surrogateescape")

    run = load(STORY, host=misled).submit(prompt="a")

    assert run.wait(60)
    assert run.state == "failed"
    assert run.error is not None
    assert run.error.code == "bad_answer"
    assert stranger.streams == 1


@pytest.mark.parametrize("kind", ["text/event-stream", "text/html"])
def test_a_run_that_gets_nowhere_is_lost(stranger: Stranger, misled: RemoteHost, kind: str) -> None:
    """Each connection says the same, and ends."""
    stranger.events = STARTED.encode()
    stranger.headers = {"Content-Type": kind}

    run = load(STORY, host=misled).submit(prompt="a")

    assert run.wait(60)
    assert run.error is not None
    assert run.error.code == "bad_answer"
    assert stranger.streams == (2 if kind == "text/event-stream" else 1)


def test_events_of_later_versions_are_passed_over(stranger: Stranger, misled: RemoteHost) -> None:
    output = "é\r\u2028" * 2**18
    result = f"id: 2\nevent: result\ndata: {json.dumps({'output': output}, ensure_ascii=False)}\n\n"
    stranger.events = f"{STARTED}id: 1\nevent: news\ndata: []\n\n{result}{ENDED}".encode()

    run = load(STORY, host=misled).submit(prompt="a")

    assert run.wait(60)
    assert (run.state, run.output == output) == ("completed", True)
    assert [event.type for event in run.events()] == ["state", "result", "state"]


def test_a_proxy_of_the_environment_has_no_part(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    remote = RemoteHost(server.url, server.access.owner_token)

    remote.ping()
    remote.close(10)


# Which host


@dataclass
class Elsewhere:
    """Another process that serves a document."""

    path: Path
    runtime: Path
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def host_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    folder = tmp_path_factory.mktemp("elsewhere")
    path, runtime = folder / "model-compose.yml", folder / "runtime"
    process = _host_process(path, runtime)
    yield Elsewhere(path, runtime, process)
    process.kill()
    process.communicate()


@pytest.fixture
def elsewhere(host_process: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> Iterator[Elsewhere]:
    """A process that serves STORY on the bundled model, where this one looks for others."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(host_process.runtime))
    yield host_process
    host_process.path.write_text(STORY)


def test_a_document_that_is_served_runs_there_by_itself(elsewhere: Elsewhere) -> None:
    there, same, other = load(elsewhere.path), load(STORY), load(COMPONENT)

    assert isinstance(there.host, RemoteHost)
    assert same.host is there.host
    assert isinstance(other.host, LocalHost)
    assert there(prompt="A fox")["generated"].startswith("A fox")
    assert [model.source for model in there.host.models()] == ["bundled:storyteller"]
    assert other.host.models() == []
    (known,) = find_servers(other_processes=True)
    host_selection.connect()
    assert other.host is there.host
    assert other(prompt="A fox")["generated"].startswith("A fox")
    host_selection.disconnect()
    assert isinstance(other.host, LocalHost)
    assert known.pid == elsewhere.process.pid


def test_functions_run_here_though_another_process_has_the_model(elsewhere: Elsewhere) -> None:
    elsewhere.path.write_text(
        "components:\n"
        "  - {id: story, type: model, task: text-generation, model: 'bundled:storyteller',"
        " text: '${input.prompt}', max_output_length: 8}\n"
        "  - {id: place, type: function, function: 'steps:place'}\n"
        "workflow:\n"
        "  jobs:\n"
        "    - {id: story, component: story}\n"
        "    - {id: place, component: place, input: '${jobs.story.output}'}\n"
    )
    module = elsewhere.path.with_name("steps.py")
    module.write_text("import os\ndef place(text): return [text, os.getpid()]\n")
    flow = load(elsewhere.path)
    run = flow.run(prompt="A fox")
    host_selection.connect()
    again = flow.rerun(run)
    assert again.wait(60)
    host_selection.disconnect()
    assert run.output == again.output
    assert (run.output[0][:5], run.output[1]) == ("A fox", os.getpid())
    assert run in host_selection.own_runs() and run in flow.host.own_runs()
    assert host_selection.host_of(run.id) is flow.host
    assert [each.source for each in flow.host.models()] == ["bundled:storyteller"]
    assert host_selection.local_host().models() == []
    assert set(flow.history["text"]) == {run.text}
    module.unlink()


def test_a_file_that_was_edited_runs_there_as_it_is_now(elsewhere: Elsewhere) -> None:
    elsewhere.path.write_text(STORY.replace("  text:", "  max_output_length: 3\n  text:"))
    edited = load(elsewhere.path)

    assert isinstance(edited.host, RemoteHost)
    assert edited.host.serves(edited.document)
    assert edited.run(prompt="A fox").usage["generated"] == 3


def test_the_environment_can_name_the_host(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = find_servers()
    monkeypatch.setenv(host_selection.HOST_VARIABLE, str(found.path))
    guest = load(STORY)
    assert isinstance(guest.host, RemoteHost)
    run = guest.run(prompt="A fox")
    assert run.text.startswith("A fox")
    assert [each.id for each in guest.host.runs()] == [run.id]
    with pytest.raises(ComposeError, match="does not serve this document"):
        load(COMPONENT)(prompt="A fox")
    with pytest.raises(ComposeError):
        guest.host.unload()


def test_a_host_that_the_environment_names_may_be_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = ServerInfo("gone", "http://127.0.0.1:9/api", "t", os.getpid(), 0.0, "t", "0")
    gone.publish()  # by a process that had the same pid
    for path in (gone.path, tmp_path / "nowhere.json"):
        monkeypatch.setenv(host_selection.HOST_VARIABLE, str(path))
        with pytest.raises(ComposeError, match="the host that runs the workflows is gone"):
            _ = load(COMPONENT).host


def test_this_process_serves_and_runs_its_own(serve: Serve, host: LocalHost) -> None:
    server = host_selection.serve(_server(host))

    assert isinstance(load(STORY).host, LocalHost)
    assert host_selection.serving() is server
    endpoint = host_selection.endpoint_of(load_document(STORY), "__workflow__")
    assert endpoint == (server.url, None, None)
    assert host_selection.stop_serving()
    assert not host_selection.stop_serving()
    assert find_servers() == []


def _server(host: LocalHost, port: int = 0) -> Server:
    from modelcompose_jupyter.server.catalog import Catalog

    catalog = Catalog.of(load_document(STORY))
    return Server(host, lambda: catalog, settings=ServerSettings(port=port))


def test_a_server_that_cannot_start_leaves_the_one_that_serves(
    serve: Serve, host: LocalHost
) -> None:
    taken = serve()
    first = host_selection.serve(_server(host))

    with pytest.raises(ComposeError, match="is taken"):
        host_selection.serve(_server(host, taken.port))

    assert host_selection.serving() is first
    again = host_selection.serve(_server(host, first.port))
    assert again.port == first.port
    assert not first.running


def test_connecting_in_vain_leaves_the_runs_of_a_known_host(
    remote: RemoteHost, server: Server, models: ScriptedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(models, "a")
    run = load(STORY, host=remote).submit(prompt="a")
    assert server.server_info is not None
    monkeypatch.setattr(
        "modelcompose_jupyter.server.server_info.find_servers", lambda **_: [server.server_info]
    )
    monkeypatch.setitem(host_selection._remote, server.server_info.id, remote)

    def slow() -> None:
        raise ComposeError("it does not answer", code="host_gone")

    monkeypatch.setattr(remote, "ping", slow)
    with pytest.raises(ComposeError, match="no host answers"):
        host_selection.connect()

    assert not run.done
    run.cancel()


def test_there_is_nobody_to_connect_to() -> None:
    with pytest.raises(ComposeError, match="no other host of yours"):
        host_selection.connect()


def test_a_page_that_is_open_goes_on_when_its_document_is_edited(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "model-compose.yml"
    path.write_text(STORY)
    server = serve(catalog=DocumentFile(path))
    page, guest = load(STORY), RemoteHost(server.url)
    document = page.document

    assert guest.submit(document, None, {"prompt": "a"}).result(30) == {"generated": "<a>"}
    path.write_text(MANY)
    assert guest.submit(document, None, {"prompt": "b"}).result(30) == {"generated": "<b>"}
    guest.close(10)


def test_an_edit_that_breaks_the_document_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "model-compose.yml"
    path.write_text(STORY)
    catalog = DocumentFile(path)
    first = catalog()

    path.write_text("workflow: [")
    assert catalog() is first
    path.unlink()
    assert catalog() is first
    path.write_text(MANY)
    assert set(catalog().workflows) == {"plain", "echo"}


def test_documents_that_run_differently_have_other_keys(tmp_path: Path) -> None:
    """The same text means other models in other folders, and other values of the environment."""
    beside = STORY.replace("bundled:storyteller", "./model")
    env = STORY.replace("${input.prompt as text}", "${env.GREETING}")

    def key(text: str, folder: Path, **environ: str) -> str:
        return load_document(text, folder=folder, environ=environ).key

    here, there = tmp_path, tmp_path / "other"
    assert key(STORY, here) == key(STORY, there)
    assert key(beside, here) != key(beside, there)
    assert key(env, here, GREETING="a") != key(env, here, GREETING="b")
    assert key("# comment\n" + STORY, here) == key(STORY, here)


CHAT = """
component:
  type: model
  task: chat-completion
  model: bundled:storyteller
  messages: ${input.messages}
  chat_template: ./own.jinja
"""


def test_a_template_beside_a_document_comes_along_as_it_was_read(
    remote: RemoteHost, tmp_path: Path
) -> None:
    file = tmp_path / "own.jinja"
    file.write_text("{{ messages[0].content }}")
    document = load_document(CHAT, folder=tmp_path)
    file.unlink()

    run = remote.submit(document, None, {"messages": "a"})

    assert run.wait(30) and run.state == "completed"
    assert run.record["document"] == document.hash


def test_a_document_is_read_again_when_a_file_that_it_names_was_edited(tmp_path: Path) -> None:
    file, path = tmp_path / "own.jinja", tmp_path / "model-compose.yml"
    file.write_text("{{ messages[0].content }}")
    path.write_text(CHAT)
    served = DocumentFile(path)
    (before,) = served().documents
    file.write_text("{{ messages[0].content }}{{ 'more' }}")
    (after,) = served().documents
    assert before.key != after.key
    assert served().documents == [after]
    file.unlink()
    assert served().documents == [after]


def test_a_schema_in_a_file_is_served_as_it_is_now(tmp_path: Path) -> None:
    file, path = tmp_path / "pet.json", tmp_path / "model-compose.yml"
    file.write_text('{"enum": ["cat"]}')
    path.write_text(
        STORY.replace("component:\n", "component:\n  format: {json_schema: ./pet.json}\n")
    )
    served = DocumentFile(path)
    (before,) = served().documents
    file.write_text('{"enum": ["dog"]}')
    (after,) = served().documents
    assert before.key != after.key
    file.write_text("{")
    assert served().documents == [after]


def test_a_format_reaches_another_host(serve: Serve) -> None:
    with contextlib.closing(LocalHost()) as real:
        server = serve(on=real)
        remote = RemoteHost(server.url, server.access.owner_token)
        story = load(STORY, host=remote)
        run = story.start({"prompt": "A pet."}, format=Literal["cat"])
        assert run.result() == {"generated": "cat"}
        assert story(prompt="A pet.", format=Literal["dog"]) == "dog"
        cut = story.start({"prompt": "A pet."}, format={"json_schema": {"const": "x" * 9999}})
        assert cut.wait(60) and cut.error is not None and cut.error.code == "format_cut"
        assert (cut.error.text or "").startswith('"xxx')
        remote.close()
