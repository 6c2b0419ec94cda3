"""A host in another process is used as this one is, and what happens when it is lost."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import ComposeError, InputError, LocalHost, hosts, load
from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.server.access import Access
from modelcompose_jupyter.server.announcement import announced
from modelcompose_jupyter.server.client import RemoteHost
from modelcompose_jupyter.server.service import Server, Settings

from .conftest import COMPONENT, MANY, STORY, Serve, held


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Each test decides anew which host runs what."""
    yield
    hosts.disconnect()
    hosts.stop_serving()
    for each in hosts.in_use():
        each.close(10)
    hosts._after_fork()


@pytest.fixture
def remote(server: Server) -> Iterator[RemoteHost]:
    """The server's host, as its owner sees it."""
    assert server.announcement is not None
    remote = RemoteHost(server.url, server.access.owner_token, server.announcement)
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
        stranger.check()
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
    remote: RemoteHost, server: Server, models: ScriptedModels
) -> None:
    held(models, "a", "b")
    document = server.documents.catalog.documents[0]
    other = server.host.submit(document, None, {"prompt": "b"})
    run = load(STORY, host=remote).submit(prompt="a")
    models.started.acquire(timeout=30)
    models.started.acquire(timeout=30)

    assert remote.close(10)

    assert run.state == "cancelled"
    there = server.host.run(run.id)
    assert there.wait(30)
    assert there.state == "cancelled"
    assert other.state != "cancelled" or models.gate.is_set()


def test_a_host_that_ends_says_how_its_runs_ended(
    remote: RemoteHost, server: Server, models: ScriptedModels
) -> None:
    held(models, "a")
    run = load(STORY, host=remote).submit(prompt="a")
    models.started.acquire(timeout=30)

    server.close()

    assert run.wait(30)
    assert (run.state, run.text) == ("cancelled", "<a>")


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


def test_a_host_that_is_gone_is_said_so_and_the_next_call_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "model-compose.yml"
    path.write_text(STORY.replace("  text:", "  min_output_length: 300\n  text:"))
    process = _host_process(path)
    story = load(path)
    assert isinstance(story.host, RemoteHost)
    run = story.submit(prompt="Once upon a time")
    for _ in run.stream():
        break

    process.kill()
    process.wait()

    assert run.wait(60)
    assert run.error is not None
    assert run.error.code == "host_gone"
    assert run.text.startswith("Once")
    assert isinstance(story.host, LocalHost)
    assert story(prompt="A fox")["generated"].startswith("A fox")
    assert announced() == []


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
        with pytest.raises(ComposeError, match="does not answer"):
            remote.check()
        remote.close(10)


def test_a_proxy_of_the_environment_has_no_part(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    remote = RemoteHost(server.url, server.access.owner_token)

    remote.check()
    remote.close(10)


# Which host


def _host_process(path: Path) -> subprocess.Popen[str]:
    """Another process that serves a document; returns when it does."""
    code = (
        "import sys; from modelcompose_jupyter.server.kernel import serve_document;"
        f"s = serve_document({str(path)!r}, port=0); print(s.url, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("http")
    return process


def test_a_document_that_is_served_runs_there_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "model-compose.yml"
    path.write_text(STORY)
    process = _host_process(path)
    try:
        there, same, elsewhere = load(path), load(STORY), load(COMPONENT)

        assert isinstance(there.host, RemoteHost)
        assert same.host is there.host
        assert isinstance(elsewhere.host, LocalHost)
        assert there(prompt="A fox")["generated"].startswith("A fox")
        assert [model.source for model in there.host.models()] == ["bundled:storyteller"]
        assert elsewhere.host.models() == []
        (known,) = hosts.others()
        hosts.connect()
        assert elsewhere.host is there.host
        assert elsewhere(prompt="A fox")["generated"].startswith("A fox")
        hosts.disconnect()
        assert isinstance(elsewhere.host, LocalHost)
        assert known.pid == process.pid
    finally:
        process.kill()
        process.wait()


def test_a_file_that_was_edited_runs_there_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "model-compose.yml"
    path.write_text(STORY)
    process = _host_process(path)
    try:
        path.write_text(STORY.replace("  text:", "  max_output_length: 3\n  text:"))
        edited = load(path)

        assert isinstance(edited.host, RemoteHost)
        assert edited.run(prompt="A fox").usage["generated"] == 3
    finally:
        process.kill()
        process.wait()


def test_the_environment_can_name_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model-compose.yml"
    path.write_text(STORY)
    process = _host_process(path)
    try:
        (found,) = announced()
        monkeypatch.setenv(hosts.HOST_VARIABLE, str(found.path))
        assert isinstance(load(COMPONENT).host, RemoteHost)
    finally:
        process.kill()
        process.wait()
    hosts._chosen.clear()
    with pytest.raises(ComposeError, match="the host that runs the workflows is gone"):
        _ = load(COMPONENT).host


def test_this_process_serves_and_runs_its_own(serve: Serve, host: LocalHost) -> None:
    server = hosts.serve(_server(host))

    assert isinstance(load(STORY).host, LocalHost)
    assert hosts.serving() is server
    assert hosts.url_of(load_document(STORY), "__workflow__") == (server.url, None)
    assert hosts.stop_serving()
    assert not hosts.stop_serving()
    assert announced() == []


def _server(host: LocalHost) -> Server:
    from modelcompose_jupyter.server.catalog import Catalog

    catalog = Catalog.of(load_document(STORY))
    return Server(host, lambda: catalog, settings=Settings(port=0))


def test_there_is_nobody_to_connect_to() -> None:
    with pytest.raises(ComposeError, match="no other host of yours"):
        hosts.connect()


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
