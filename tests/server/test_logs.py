"""The structured log: a JSON object a line, and nothing in it that is nobody's business."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import LocalHost
from modelcompose_jupyter.errors import ModelError, UsageError
from modelcompose_jupyter.server import logs
from modelcompose_jupyter.server.access import Access

from .conftest import Client, Serve, raw_request

SECRET = "a secret\nprompt"
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def lines(stream: io.StringIO) -> Iterator[Lines]:
    """The lines that were logged so far; the log is configured while a test uses this."""
    undo = logs.configure(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    undo()


def events(lines: Lines, *names: str) -> list[dict[str, Any]]:
    return [line for line in lines() if line["event"] in names]


def test_a_request_its_run_and_the_servers_life(serve: Serve, lines: Lines) -> None:
    server = serve()
    with Client(server, server.access.owner_token) as client:
        run = client.run(SECRET).json()["task_id"]
    server.close()
    server.close()

    told = lines()
    assert [line["event"] for line in told] == [
        "server started",
        "run began",
        "run ended",
        "request",
        "server ended",
    ]
    assert {line["logger"] for line in told} == {"modelcompose_jupyter.server"}
    assert {line["level"] for line in told} == {"info"}
    _, began, ended, request, _ = told
    assert (began["run"], began["workflow"]) == (run, "__workflow__")
    assert ended["run"] == run
    assert (ended["state"], ended["finish_reason"]) == ("completed", "eos")
    assert ended["tokens"] == {"prompt": 1, "reused": 0, "generated": 1}
    assert ended["seconds"] >= 0 and "error" not in ended
    assert request["ms"] >= 0
    assert {key: request[key] for key in ("method", "route", "status", "caller", "run")} == {
        "method": "POST",
        "route": "/api/workflows/runs",
        "status": 200,
        "caller": "owner",
        "run": run,
    }


def test_neither_prompts_nor_texts_nor_tokens_are_in_it(
    serve: Serve, lines: Lines, stream: io.StringIO
) -> None:
    server = serve(access=Access("127.0.0.1", token="guest-token"))
    with Client(server, "guest-token") as client:
        client.run("told", session_id="told", metadata={"told": "told"})
        client.post("/v1/completions", json={"model": "m", "prompt": "told"})
        client.get("/health?told=told")
    with Client(server, "wrong-token") as client:
        assert client.run("told").status_code == 401
    server.close()

    written = stream.getvalue()
    assert len(lines()) >= 6
    for secret in ("told", "guest-token", "wrong-token", server.access.owner_token):
        assert secret not in written


def test_prompts_and_texts_are_in_it_where_that_is_asked_for(
    serve: Serve, stream: io.StringIO
) -> None:
    undo = logs.configure(stream, log_prompts=True)
    with Client(serve()) as client:
        client.run(SECRET)
    undo()
    with Client(serve()) as client:
        client.run("later")

    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["input"] for line in told if "input" in line] == [{"prompt": SECRET}]
    assert [line["text"] for line in told if "text" in line] == [f"<{SECRET}>"]


def test_values_cannot_forge_lines(host: LocalHost, lines: Lines, stream: io.StringIO) -> None:
    evil = 'x"}\r\n{"event": "forged"}\x0b\x85\u2028\u2029'

    logs.log_event("told", path=evil, nested={evil: [evil]})
    logging.getLogger("modelcompose_jupyter.other").warning("a %s", evil)

    assert len(stream.getvalue().splitlines()) == 2
    told, warned = lines()
    assert told["path"] == evil and told["nested"] == {evil: [evil]}
    assert warned["event"] == f"a {evil}"


def test_a_run_that_fails_is_a_warning_with_the_errors_code(
    serve: Serve, lines: Lines, models: ScriptedModels
) -> None:
    models.failure = ModelError("no room for it in /srv/x", code="out_of_memory")
    with Client(serve()) as client:
        assert client.run("a").status_code == 500

    [ended] = events(lines, "run ended")
    assert (ended["level"], ended["state"], ended["error"]) == (
        "warning",
        "failed",
        "out_of_memory",
    )
    assert "/srv" not in json.dumps(lines())


def test_a_defect_leaves_its_traceback_in_the_log_and_not_in_the_answer(
    serve: Serve, lines: Lines, host: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("what was broken")

    monkeypatch.setattr(host, "submit", broken)
    server = serve()
    with Client(server) as client:
        answer = client.run("a")
    server.close()

    assert answer.status_code == 500
    assert "broken" not in answer.text and "Traceback" not in answer.text
    [failed] = [line for line in lines() if line["level"] == "error"]
    assert failed["traceback"].endswith("ZeroDivisionError: what was broken")
    [request] = events(lines, "request")
    assert request["status"] == 500 and "run" not in request


def test_a_request_whose_client_left_says_so(
    serve: Serve, lines: Lines, models: ScriptedModels, host: LocalHost
) -> None:
    models.hold = ("a",)
    server = serve()
    with raw_request(server, "POST", "/workflows/runs", {"input": {"prompt": "a"}}):
        assert models.started.acquire(timeout=30)
    [run] = host.runs()
    assert run.wait(30)
    server.close()

    [request] = events(lines, "request")
    assert (request["left"], request["run"]) == (True, run.id)
    [ended] = events(lines, "run ended")
    assert (ended["state"], ended["error"]) == ("cancelled", "cancelled")


def test_requests_about_a_run_name_it(serve: Serve, lines: Lines) -> None:
    server = serve()
    with Client(server) as client:
        run = client.run("a").json()["task_id"]
        client.get(f"/tasks/{run}")
        client.get("/tasks/nobody")
    server.close()

    _, known, unknown = events(lines, "request")
    assert (known["run"], known["route"]) == (run, "/api/tasks/{task_id}")
    assert "run" not in unknown and unknown["status"] == 404


def test_a_file_is_added_to_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for number in range(2):
        undo = logs.configure(path)
        logs.log_event("told", number=number)
        undo()
        logs.log_event("not told")

    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [0, 1]
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        logs.configure(tmp_path / "none" / "log")


def test_the_level_is_the_least_that_is_written(serve: Serve, stream: io.StringIO) -> None:
    undo = logs.configure(stream, "WARNING")
    with Client(serve()) as client:
        client.run("a")
    undo()

    assert stream.getvalue() == ""
