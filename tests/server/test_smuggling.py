"""Requests that two programs could read differently: what follows one that is refused, or whose
length is in doubt, is not taken for another one."""

from __future__ import annotations

import contextlib
import socket

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter.server import connections
from modelcompose_jupyter.server.access import Access
from modelcompose_jupyter.server.server import Server, ServerSettings

from .conftest import Client, Serve

HIDDEN = b"GET /api/workflows/__default__/schema HTTP/1.1\r\nHost: localhost\r\n\r\n"
RUN = b'{"input": {"prompt": "a"}}'
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(RUN), RUN)
POST = b"POST /api/workflows/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients here send no more at once, which is taken for a hang-up after a while: however slow
    this computer is, that comes too late."""
    monkeypatch.setattr(connections, "_HANGUP_MILLISECONDS", 3_600_000)


def exchanged(server: Server, sent: bytes) -> list[bytes]:
    """The answers, from status line to body, to what was sent at once on one connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answers = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                answers += piece
    return [b"HTTP/1.1 " + each for each in bytes(answers).split(b"HTTP/1.1 ")[1:]]


def length(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n" % len(body)


@pytest.mark.parametrize(
    "sent",
    [
        # Two lengths, and none of them is believed.
        POST + length(CHUNKS) + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS,
        POST + b"Transfer-Encoding: chunked\r\n" + length(CHUNKS) + b"\r\n" + CHUNKS,
        POST + length(RUN) + b"Content-Length: 5\r\n\r\n" + RUN,
        POST + length(RUN) + length(RUN) + b"\r\n" + RUN,
        POST + b"Content-Length: 26, 26\r\n\r\n" + RUN,
        *(
            POST + b"Content-Length: " + number + b"\r\n\r\n" + RUN
            for number in (b"+26", b"-26", b"0x1a", b"26.0", b"2_6", b"26 26", b"", b"9" * 5000)
        ),
        *(
            POST + b"Transfer-Encoding: " + coding + b"\r\n\r\n" + CHUNKS
            for coding in (
                *(b"identity, chunked", b"chunked, identity", b"gzip, chunked", b"xchunked"),
                *(b"chunked, chunked", b"\x0bchunked", b"chunked;q=1", b"'chunked'", b""),
            )
        ),
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + CHUNKS,
        # Sizes of chunks that are none.
        *(
            POST + b"Transfer-Encoding: chunked\r\n\r\n" + size + b"\r\n" + RUN + b"\r\n0\r\n\r\n"
            for size in (b"-1a", b"+1a", b"0x1a", b"1a ", b" 1a", b"1_a", b"", b"1a;x=1", b"F" * 17)
        ),
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 100 + b"1a\r\n" + RUN,
        POST + b"Transfer-Encoding: chunked\r\n\r\n1a\r\n" + RUN + b"XX0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n1a\n" + RUN + b"\n0\n\n",
        # Headers that are none.
        POST + b"Content-Length : 26\r\n\r\n" + RUN,
        POST + b"Content-Length\t: 26\r\n\r\n" + RUN,
        POST + b"X: 1\r\n Content-Length: 26\r\n\r\n" + RUN,
        POST + b"X: \0\r\n" + length(RUN) + b"\r\n" + RUN,
        POST + b"X: a\rb\r\n" + length(RUN) + b"\r\n" + RUN,
        POST + b"X\r\n" + length(RUN) + b"\r\n" + RUN,
        POST + b"Host: 127.0.0.1\r\n" + length(RUN) + b"\r\n" + RUN,
        b"GET /api/health\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET  /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /api/health HTTP/1.1 x\r\nHost: localhost\r\n\r\n",
        b"GET /api/health HTTP/2.0\r\nHost: localhost\r\n\r\n",
        b"GET /api/health HTTP/1.1\r\n\r\n",
        # Targets that lead nowhere.
        b"GET http://evil.example/api/tasks HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET //evil.example/api/tasks HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        # Bodies of requests that are refused.
        POST.replace(b"localhost", b"evil.example") + length(RUN + HIDDEN) + b"\r\n" + RUN,
        POST.replace(b"/runs", b"/none") + length(HIDDEN) + b"\r\n",
        POST.replace(b"POST", b"PATCH") + length(HIDDEN) + b"\r\n",
        POST + length(HIDDEN) + b"Origin: http://evil.example\r\n\r\n",
        POST + b"Content-Length: 99999999\r\n\r\n",
    ],
)
def test_nothing_hides_behind_a_request_that_is_refused(server: Server, sent: bytes) -> None:
    answers = exchanged(server, sent + HIDDEN)

    assert len(answers) <= 1  # none where the end of a line does not come
    assert all(each.startswith(b"HTTP/1.1 4") for each in answers)
    assert server.host.runs() == []


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (POST + length(RUN) + b"\r\n" + RUN, b"200"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS, b"200"),
        (POST + b"Transfer-Encoding: CHUNKED\r\n\r\n" + CHUNKS, b"200"),
        (POST + length(RUN) + b"Expect: 100-continue\r\n\r\n" + RUN, b"100"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (POST + length(HIDDEN) + b"\r\n" + HIDDEN, b"400"),  # a body of its own, and no JSON
        (POST + b"Upgrade: h2c\r\nConnection: Upgrade\r\n" + length(RUN) + b"\r\n" + RUN, b"200"),
        # Bodies that nobody wants are still bodies.
        (b"GET /api/models HTTP/1.1\r\nHost: localhost\r\n" + length(RUN) + b"\r\n" + RUN, b"200"),
        (b"HEAD /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"200"),
        (b"OPTIONS /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"204"),
        # Lines may end with LF alone; the next request begins where this one ends all the same.
        (POST.replace(b"\r\n", b"\n") + length(RUN) + b"\n" + RUN, b"200"),
    ],
)
def test_the_next_request_begins_where_one_ends(server: Server, sent: bytes, status: bytes) -> None:
    first, *others, last = exchanged(server, sent + HIDDEN)

    assert first.startswith(b"HTTP/1.1 " + status)
    assert len(others) == (status == b"100")  # the run itself, behind it
    assert last.startswith(b"HTTP/1.1 200") and b'"workflow_id"' in last


def test_what_is_behind_a_wrong_token_is_not_read(serve: Serve) -> None:
    server = serve(access=Access("127.0.0.1", "secret"))
    own = HIDDEN.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer secret\r\n\r\n")

    (answer,) = exchanged(server, POST + length(own) + b"\r\n" + own)

    assert answer.startswith(b"HTTP/1.1 401")


def test_nobody_is_told_to_go_on_who_is_refused(serve: Serve) -> None:
    server = serve(settings=ServerSettings(port=0, max_body=10))

    (answer,) = exchanged(server, POST + length(RUN) + b"Expect: 100-continue\r\n\r\n" + RUN)

    assert answer.startswith(b"HTTP/1.1 413")


def test_a_body_of_small_chunks_is_one_body(client: Client, models: ScriptedModels) -> None:
    content = b'{"input": {"prompt": "' + b"a" * 5000 + b'"}}'
    pieces = (bytes([each]) for each in content)
    headers = {"Content-Type": "application/json"}

    answer = client.post("/workflows/runs", content=pieces, headers=headers)

    assert answer.json()["output"] == {"generated": f"<{'a' * 5000}>"}
    assert models.prompts == ["a" * 5000]
