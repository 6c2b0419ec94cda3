"""Who may call: addresses, names, origins, tokens, and what is told to whom."""

from __future__ import annotations

import json
import logging
import os
import stat
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import ComposeError
from modelcompose_jupyter.path_redaction import without_folders
from modelcompose_jupyter.server.access import Access, is_loopback
from modelcompose_jupyter.server.logs import JsonFormatter
from modelcompose_jupyter.server.server import Server
from modelcompose_jupyter.server.server_info import find_servers, read

from .conftest import Client, Serve, held, raw_request
from .test_api import error_of

BODY = {"input": {"prompt": "a"}}


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "a.localhost"])
def test_loopback_is_known(name: str) -> None:
    assert is_loopback(name)


@pytest.mark.parametrize("name", ["0.0.0.0", "::", "192.168.0.1", "example.org", "", "127.0.0.1.x"])
def test_the_rest_is_not_loopback(name: str) -> None:
    assert not is_loopback(name)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_another_address_demands_a_token(host: str) -> None:
    with pytest.raises(ComposeError, match="needs a token"):
        Access(host)
    assert Access(host, "secret").token == "secret"


def test_every_origin_is_never_allowed() -> None:
    with pytest.raises(ComposeError, match="every web page"):
        Access("127.0.0.1", origins=("*",))


@pytest.mark.parametrize(
    "name", ["evil.example", "evil.example:8080", "localhost.evil.example", "10.0.0.1", "0x7f.1"]
)
def test_foreign_names_are_refused(client: Client, name: str) -> None:
    """DNS rebinding: a page's own name that points here."""
    answer = client.post("/workflows/runs", json=BODY, headers={"Host": name})

    assert error_of(answer, 403)["code"] == "forbidden"
    assert client.server.host.runs() == []


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:8080"])
def test_own_names_are_taken(client: Client, name: str) -> None:
    assert client.get("/health", headers={"Host": name}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "file://"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_foreign_pages_are_refused(client: Client, headers: dict[str, str]) -> None:
    answers = [
        client.post("/workflows/runs", json=BODY, headers=headers),
        client.get("/tasks", headers=headers),
        client.options("/workflows/runs", headers=headers),
    ]

    assert [answer.status_code for answer in answers] == [403] * 3
    assert all("access-control-allow-origin" not in answer.headers for answer in answers)
    assert client.server.host.runs() == []


def test_a_link_to_the_api_may_be_followed(client: Client) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}

    assert client.get("/health", headers=headers).status_code == 200
    error_of(client.post("/workflows/runs", json=BODY, headers=headers), 403)


def test_own_pages_send_json_alone(client: Client) -> None:
    headers = {"Origin": client.server.origin}

    assert client.post("/workflows/runs", json=BODY, headers=headers).status_code == 200
    form = client.post("/workflows/runs", data={"input[prompt]": "a"}, headers=headers)
    assert error_of(form, 415)["code"] == "unsupported_media_type"


def test_an_allowed_origin_gets_its_headers(serve: Serve) -> None:
    page = "https://page.example"
    with Client(serve(access=Access("127.0.0.1", origins=(page,)))) as client:
        asked = client.options(
            "/workflows/runs",
            headers={
                "Origin": page,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type, x-stainless-os",
            },
        )
        answer = client.post("/workflows/runs", json=BODY, headers={"Origin": page})
        other = client.post("/workflows/runs", json=BODY, headers={"Origin": page + ".evil"})

    assert asked.status_code == 204
    assert asked.headers["access-control-allow-methods"] == "POST"
    assert asked.headers["access-control-allow-headers"] == "content-type, x-stainless-os"
    assert answer.headers["access-control-allow-origin"] == page
    assert "access-control-allow-credentials" not in answer.headers
    assert answer.json()["status"] == "completed"
    error_of(other, 403)


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer wrong", "Basic c2VjcmV0", "secret", "Bearer sécret"]
)
def test_a_wrong_token_is_refused(serve: Serve, given: str) -> None:
    with Client(serve(access=Access("127.0.0.1", "secret"))) as client:
        answer = client.get("/workflows", headers={"Authorization": given.encode("utf-8")})

        assert error_of(answer, 401)["code"] == "unauthorized"
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert "secret" not in answer.text
        assert client.get("/health").status_code == 200
        error_of(client.get("/workflows?token=secret"), 401)
        error_of(client.get("/metrics"), 401)


def test_the_right_token_lets_in_and_is_no_owner(serve: Serve) -> None:
    with Client(serve(access=Access("127.0.0.1", "secret")), "secret") as client:
        assert client.run().json()["status"] == "completed"
        error_of(client.post("/models/unload", json={}), 403)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Host: [\r\n", 400),
        ("Origin: http://[\r\n", 403),
        ("Content-Length: 0\r\n", 400),
        ("Content-Length: 24, 24\r\n", 400),
    ],
)
def test_malformed_headers_are_refused(
    server: Server, caplog: pytest.LogCaptureFixture, headers: str, status: int
) -> None:
    with raw_request(server, "GET", "/health", None, headers) as connection:
        answer = connection.recv(1000)

    assert answer.split()[1] == str(status).encode()
    assert not any(record.exc_info for record in caplog.records)


def test_a_name_that_is_none_is_refused(client: Client) -> None:
    error_of(client.get("/health", headers={"Host": "["}), 403)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("the folder /home/Jo Doe/My models/x is not there", "the folder …/x is not there"),
        ("no file in '/a/b/c.txt' or '/d'", "no file in '…/c.txt' or '…/d'"),
        ("C:\\Users\\me\\x is not there", "…/x is not there"),
        (
            "see https://huggingface.co/a/b and org/name",
            "see https://huggingface.co/a/b and org/name",
        ),
        ("1/2 of them", "1/2 of them"),
    ],
)
def test_messages_for_guests_have_no_folders(message: str, shown: str) -> None:
    assert without_folders(message) == shown


def test_bodies_of_strangers_are_not_read(serve: Serve) -> None:
    """401 comes while the body is still to be sent."""
    server = serve(access=Access("127.0.0.1", "secret"))

    head = "Expect: none\r\n"
    with raw_request(server, "POST", "/workflows/runs", None, head) as connection:
        assert b"401" in connection.recv(1000)
    assert server.host.runs() == []


def test_the_file_is_for_this_user_alone(serve: Serve, runtime: Path) -> None:
    server = serve(access=Access("127.0.0.1", "secret"), title="mine")
    (path,) = runtime.glob("modelcompose-*.json")

    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (found,) = find_servers()
    assert (found.url, found.title, found.client_token) == (server.url, "mine", "secret")
    assert "secret" not in repr(found) and found.token not in repr(found)
    server.close()
    assert not path.exists()
    assert find_servers() == []


def test_servers_are_found_by_what_they_serve_and_where(serve: Serve, tmp_path: Path) -> None:
    document = tmp_path / "story.yml"
    facts = {"document": str(document.resolve()), "kernel_id": "kernel"}
    server = serve(webui="http://localhost:18081", **facts)
    other = serve()
    assert server.server_info is not None and other.server_info is not None

    def urls(**wanted: Any) -> list[str]:
        return sorted(each.url for each in find_servers(**wanted))

    assert urls() == sorted([server.url, other.url])
    assert urls(document=document) == urls(document=tmp_path / "." / "story.yml") == [server.url]
    assert urls(id=server.server_info.id) == urls(id="kernel") == [server.url]
    assert urls(port=server.port) == urls(port=18081) == urls(url=f"{server.url}/") == [server.url]
    assert urls(port=1808) == urls(port=int(str(server.port)[:-1])) == []
    assert urls(id=server.server_info.id, port=other.port) == urls(other_processes=True) == []


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_files_that_others_could_have_written_are_not_believed(
    server: Server, runtime: Path
) -> None:
    (path,) = runtime.glob("modelcompose-*.json")
    path.chmod(0o644)

    assert read(path) is None
    assert find_servers() == []


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"id": 3}', "\xff", '{"pid": "x"}', "[" * 100_000, " " * 2**20 + "[]"],
)
def test_broken_files_are_passed_over(server: Server, runtime: Path, content: str) -> None:
    broken = runtime / "modelcompose-broken.json"
    broken.write_text(content)
    broken.chmod(0o600)

    assert [each.url for each in find_servers()] == [server.url]


@pytest.mark.parametrize(
    "changes",
    [
        {"pid": "1"},
        {"pid": -1},
        {"pid": 10**30},
        {"pid": True},
        {"started": "now"},
        {"started": float("nan")},
        {"url": None},
        {"url": "http://127.0.0.1:99999/api"},
        {"webui": "http://[::1/"},
        {"client_token": 5},
        {"title": ["x"]},
    ],
)
def test_files_with_values_of_other_kinds_are_passed_over(
    server: Server, runtime: Path, changes: dict[str, Any]
) -> None:
    (path,) = runtime.glob("modelcompose-*.json")
    broken = runtime / "modelcompose-broken.json"
    broken.write_text(json.dumps({**json.loads(path.read_text()), "id": "broken", **changes}))
    broken.chmod(0o600)

    assert [each.url for each in find_servers()] == [server.url]


def test_a_copy_of_a_file_is_no_other_server(server: Server, runtime: Path) -> None:
    (path,) = runtime.glob("modelcompose-*.json")
    copy = runtime / "modelcompose-0.json"
    copy.write_text(path.read_text().replace(server.url, "http://127.0.0.1:1/api"))
    copy.chmod(0o600)

    assert [each.url for each in find_servers()] == [server.url]
    assert path.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_what_is_no_file_is_not_read(server: Server, runtime: Path) -> None:
    os.mkfifo(runtime / "modelcompose-pipe.json", 0o600)
    (runtime / "modelcompose-folder.json").mkdir(0o700)

    assert [each.url for each in find_servers()] == [server.url]


def test_a_file_may_begin_with_a_mark(server: Server, runtime: Path) -> None:
    (path,) = runtime.glob("modelcompose-*.json")
    path.write_bytes(BOM_UTF8 + path.read_bytes())

    assert [each.url for each in find_servers()] == [server.url]


def test_a_file_that_was_withdrawn_stands_no_more(server: Server) -> None:
    assert server.server_info is not None
    assert server.server_info.stands

    server.close()

    assert server.server_info.alive  # its process goes on
    assert not server.server_info.stands


def test_files_of_dead_processes_are_removed(server: Server, runtime: Path) -> None:
    (path,) = runtime.glob("modelcompose-*.json")
    assert server.server_info is not None
    dead = runtime / "modelcompose-dead.json"
    dead.write_text(path.read_text().replace(str(server.server_info.started), "1.5"))
    dead.chmod(0o600)

    assert len(find_servers()) == 1
    assert not dead.exists()


def test_tokens_and_prompts_are_in_no_log(
    serve: Serve, models: ScriptedModels, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = serve(access=Access("127.0.0.1", "s3cret"))
    with Client(server, "s3cret") as client:
        client.run("a very private prompt")
        client.get("/workflows", headers={"Authorization": "Bearer wr0ng"})
        held(models, "hold")
        client.post("/workflows/runs", content=b"{", headers={"Content-Type": "application/json"})

    ours = [JsonFormatter().format(r) for r in caplog.records if r.name.startswith("modelcompose")]
    assert any('"route": "/api/workflows/runs"' in line for line in ours)
    for secret in ("s3cret", "wr0ng", server.access.owner_token, "private prompt"):
        assert not any(secret in line for line in ours)
