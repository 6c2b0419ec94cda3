"""Connections that keep others from theirs: which go, and who gets in all the same."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from standins.scripted import ScriptedModels
from standins.waiting import until

from modelcompose_jupyter.server import request_body
from modelcompose_jupyter.server.server import Server, ServerSettings

from .conftest import Client, Serve, held, raw_request

HALF_A_HEADER = b"GET /api/health HTTP/1.1\r\nHost: local"
HEALTH = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /api/workflows/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HALF_A_BODY = POST + b'Content-Length: 100\r\n\r\n{"input": '
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def connect() -> Iterator[Callable[..., socket.socket]]:
    """Opens connections on which something was sent: ``connect(server, sent)``."""
    with contextlib.ExitStack() as stack:

        def connect(server: Server, sent: bytes = b"") -> socket.socket:
            address = ("127.0.0.1", server.port)
            connection = stack.enter_context(socket.create_connection(address, timeout=60))
            connection.sendall(sent)
            return connection

        yield connect


def is_silent(connection: socket.socket) -> bool:
    """Whether the server has neither closed a connection nor said anything."""
    return not select.select([connection], [], [], 0)[0]


def until_closed(connection: socket.socket) -> int:
    """Read until the server closes a connection; returns how many bytes came."""
    count = 0
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            count += len(piece)
    return count


@pytest.mark.parametrize("sent", [b"", HALF_A_HEADER, HALF_A_BODY, CHUNKED + b"1\r\na\r\n"])
def test_the_oldest_of_what_was_half_sent_gives_way(
    serve: Serve, connect: Callable[..., socket.socket], sent: bytes
) -> None:
    server = serve(settings=ServerSettings(port=0, max_connections=3, reserved_connections=0))
    with Client(server) as kept:  # idle, which stays while there are others
        assert kept.get("/health").status_code == 200
        oldest, younger = (connect(server, sent) for _ in range(2))

        with Client(server) as client:
            assert client.get("/health").status_code == 200
        until_closed(oldest)
        assert is_silent(younger)
        assert kept.get("/health").status_code == 200


def test_a_silent_one_gives_way_before_half_a_request(
    serve: Serve, connect: Callable[..., socket.socket]
) -> None:
    server = serve(settings=ServerSettings(port=0, max_connections=3, reserved_connections=0))
    half, silent, other = connect(server, HALF_A_HEADER), connect(server), connect(server, HEALTH)
    assert b"200 OK" in other.recv(1000)

    with Client(server) as client:
        assert client.get("/health").status_code == 200
    until_closed(silent)
    assert is_silent(half) and is_silent(other)


@pytest.mark.parametrize("method", ["OPTIONS", "GET"])
@pytest.mark.parametrize("header", ["Content-Length: 10", "Transfer-Encoding: chunked"])
def test_where_no_token_is_asked_for_no_body_is_read(
    serve: Serve, connect: Callable[..., socket.socket], method: str, header: str
) -> None:
    head = f"{method} /api/health HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n"
    connection = connect(serve(), head.encode())
    assert b"400 Bad Request" in connection.recv(1000)
    until_closed(connection)


def test_the_longest_idle_one_gives_way(
    serve: Serve, connect: Callable[..., socket.socket]
) -> None:
    server = serve(settings=ServerSettings(port=0, max_connections=3, reserved_connections=0))
    first, second, third = (connect(server) for _ in range(3))
    for each in (second, first, third, second):
        each.sendall(HEALTH)
        assert b"200 OK" in each.recv(1000)

    with Client(server) as client:
        assert client.get("/health").status_code == 200
    until_closed(first)
    assert is_silent(second) and is_silent(third)


def test_a_flood_of_half_sent_headers_keeps_nobody_out(
    serve: Serve, connect: Callable[..., socket.socket]
) -> None:
    server = serve(settings=ServerSettings(port=0, max_connections=30))
    with Client(server) as client:
        for _ in range(4):
            for _ in range(20):
                connect(server, HALF_A_HEADER)
            assert client.run().json()["status"] == "completed"
            with Client(server) as other:
                assert other.run().json()["status"] == "completed"


def test_the_owner_gets_in_whatever_guests_hold(serve: Serve, models: ScriptedModels) -> None:
    held(models, "a")
    server = serve(settings=ServerSettings(port=0, max_connections=6, reserved_connections=3))
    body = {"input": {"prompt": "a"}, "stream": True}
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(raw_request(server, "POST", "/workflows/runs", body))
            models.started.acquire(timeout=60)
        guest = stack.enter_context(Client(server))
        for path in ("/health", "/workflows", "/tasks"):
            answer = guest.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["connection"] == "close"

        owner = stack.enter_context(Client(server, server.access.owner_token))
        assert owner.get("/health").json() == {"status": "ok"}
        id = owner.get("/tasks").json()[0]["task_id"]
        assert owner.post(f"/tasks/{id}/cancel").json()["status"] == "cancelled"
        until(lambda: guest.get("/health").status_code == 200)
        assert owner.post("/shutdown").status_code == 202


def test_of_guests_the_body_that_has_been_coming_for_longest_gives_way(
    serve: Serve, connect: Callable[..., socket.socket]
) -> None:
    server = serve(settings=ServerSettings(port=0, max_connections=6, reserved_connections=3))
    oldest, *younger = (connect(server, HALF_A_BODY) for _ in range(3))
    until(lambda: len(server._http._admitted) == 3)

    with Client(server) as guest:
        until(lambda: guest.get("/health").status_code == 200)  # once they had their time
    until_closed(oldest)
    assert all(map(is_silent, younger))


def test_a_header_has_its_time_from_its_first_byte(
    serve: Serve, connect: Callable[..., socket.socket]
) -> None:
    server = serve(settings=ServerSettings(port=0, header_seconds=0.5))
    idle, begun = connect(server, HEALTH), connect(server, HEALTH)
    for each in (idle, begun):
        assert b"200 OK" in each.recv(1000)
    begun.sendall(b"G")
    silent, half, drop_by_drop = connect(server), connect(server, HALF_A_HEADER), connect(server)
    with contextlib.suppress(OSError):
        for _ in range(1000):
            drop_by_drop.sendall(b"G")
            threading.Event().wait(0.01)
        raise AssertionError("it was let send for ever")
    for each in (silent, half, begun):
        until_closed(each)
    idle.sendall(HEALTH)  # which has its time, too, and that is another one
    assert b"200 OK" in idle.recv(1000)


def test_half_a_body_and_an_idle_connection_do_not_stay(
    serve: Serve, connect: Callable[..., socket.socket]
) -> None:
    server = serve(settings=ServerSettings(port=0, idle_seconds=0.2, body_seconds=0.2))
    for sent in (HALF_A_BODY, HEALTH):
        until_closed(connect(server, sent))


def test_bodies_that_do_not_come_whole_are_kept_within_bounds(
    serve: Serve, connect: Callable[..., socket.socket]
) -> None:
    server = serve(settings=ServerSettings(port=0, max_held=2**20))
    part = POST + b"Content-Length: 2000000\r\n\r\n" + b"a" * 700_000
    both = [connect(server, part) for _ in range(2)]

    closed, _, _ = select.select(both, [], [], 60)
    assert len(closed) == 1
    with Client(server) as client:
        assert client.run("x" * 200_000).json()["status"] == "completed"


def test_few_bodies_in_chunks_are_taken_at_once(
    serve: Serve, connect: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "_CHUNKED_SECONDS", 0.2)
    server = serve()
    begun = [connect(server, CHUNKED + b"1\r\n{\r\n") for _ in range(8)]
    with Client(server) as guest, Client(server, server.access.owner_token) as owner:
        kind = {"Content-Type": "application/json"}

        def chunked(client: Client) -> int:
            pieces = iter([b'{"input": ', b'{"prompt": "a"}}'])
            return client.post("/workflows/runs", content=pieces, headers=kind).status_code

        until(lambda: chunked(guest) == 503)
        assert (chunked(owner), guest.run("a").status_code) == (200, 200)
        begun[0].close()  # in the middle
        begun[1].sendall(b"1\r\n}\r\n0\r\n\r\n")  # whole
        until(lambda: chunked(guest) == 200)
        assert begun[1].recv(1000).startswith(b"HTTP/1.1 422")  # {} has no input


def test_answers_that_nobody_takes_are_kept_within_bounds(
    serve: Serve, models: ScriptedModels
) -> None:
    models.reply = lambda prompt: [prompt * 16_000_000]
    server = serve(settings=ServerSettings(port=0, max_held=24_000_000))
    body: Any = {"input": {"prompt": "a"}}
    with raw_request(server, "POST", "/workflows/runs", body) as first:
        until(
            lambda: not is_silent(first)
        )  # it has begun, and does not fit into the system's buffers
        streamed, close = {**body, "stream": True}, "Connection: close\r\n"
        with raw_request(server, "POST", "/workflows/runs", streamed, close) as second:
            assert until_closed(second) > 2 * 16_000_000  # the text, and the result
        assert 0 < until_closed(first) < 16_000_000
