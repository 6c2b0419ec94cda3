"""A Hub token is shown to nobody, whatever is wrong with it or with the network."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from standins.hub import Answer, HubStandIn

from modelcompose_jupyter import LocalHost
from modelcompose_jupyter.server.logs import configure

from .conftest import Client, Serve

SECRET = re.compile(r"[A-Za-z_]4711")
"""What all of them end in; numbers alone may be a seed's."""

PRIVATE = """
component:
  type: model
  task: text-generation
  model: owner/private
  token: ${env.MYTOK}
  text: ${input.prompt as text}
"""
TOKENS = {
    "line break": "hf_notatoken4711\n",
    "blanks": "  hf_x4711 ",
    "two lines": "hf_first4711\nhf_second4711",
    "wide letters": "ｈｆ＿４７１１",
    "control": "hf_4711\x01",
    "quotes": "hf_47\"11'\\",
}


@pytest.fixture
def real_host() -> Iterator[LocalHost]:
    host = LocalHost()
    yield host
    host.close()


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
@pytest.mark.parametrize("status", [200, 401, 404, 500])
def test_a_token_is_in_no_answer_event_record_or_log(
    token: str,
    status: int,
    serve: Serve,
    real_host: LocalHost,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MYTOK", token)
    log = io.StringIO()
    undo = configure(log, level=logging.DEBUG)
    try:
        with HubStandIn() as hub, hub.client(tmp_path / "cache"):
            if status != 200:
                hub.statuses["owner/private"] = [status] * 40
            server = serve(PRIVATE, on=real_host)
            told = []
            for key in (None, server.access.owner_token):
                with Client(server, key) as client:
                    ran = client.run()
                    task = client.run(wait_for_completion=False).json()["task_id"]
                    events = client.get(f"/tasks/{task}/events")
                    told += [ran, events, client.get(f"/tasks/{task}"), client.get("/tasks")]
                    told.append(client.run(stream=True))
                    told += [client.get("/workflows/__default__/schema"), client.get("/models")]
                    asked = {"model": "owner/private", "prompt": "a"}
                    told.append(client.post(f"{server.origin}/v1/completions", json=asked))
            assert ran.status_code >= 400
    finally:
        undo()
    told_texts = [each.text for each in told] + [log.getvalue()]
    told_texts += [json.dumps(run.record) + str(run.error) for run in real_host.runs()]
    secret = [line.strip() for line in token.splitlines()]
    shown = {form for each in secret for form in (each, json.dumps(each)[1:-1], repr(each)[1:-1])}
    assert [text for text in told_texts if any(form in text for form in shown)] == []
    assert not any("Illegal header" in text or "codec" in text for text in told_texts)


def test_the_password_of_an_endpoint_is_in_no_answer(
    serve: Serve, real_host: LocalHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYTOK", "")
    with HubStandIn() as hub:
        address = hub.url.replace("http://", "http://me:pa55word@")
        with hub.client(tmp_path / "cache", address):
            hub.stop()
            with Client(serve(PRIVATE, on=real_host)) as client:
                answer = client.run()
    assert answer.json()["error"]["code"] == "no_network"
    assert "pa55word" not in answer.text and "127.0.0.1" in answer.text


HOSTILE = {
    "signed": Answer(302, {"Location": "http://127.0.0.1:9/x?X-Amz-Signature=S1G4711&sig=S1G4711"}),
    "login": Answer(302, {"Location": "http://me:S1G4711@127.0.0.1:9/hf_notatoken4711"}),
    "echo": Answer(
        403,
        {"X-Error-Message": "Authorization: Bearer hf_notatoken4711", "X-Error-Code": "S1G4711"},
        b'{"error": "Bearer hf_notatoken4711 S1G4711"}',
    ),
    "gated": Answer(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "hf_notatoken4711"}),
    "redirect": Answer(307, {"Location": "file:///etc/hf_notatoken4711"}),
    "garbage": Answer(200, {"Content-Type": "application/json"}, b'{"hf_notatoken4711": '),
    "page": Answer(200, {"Content-Type": "text/html"}, b"<title>hf_notatoken4711</title>"),
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_a_hub_or_proxy_answers_is_not_passed_on(
    hostile: str,
    serve: Serve,
    real_host: LocalHost,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither what it echoes nor where it sends to, to guests, the owner or the log."""
    monkeypatch.setenv("MYTOK", "hf_notatoken4711")
    log = io.StringIO()
    undo = configure(log, level=logging.DEBUG)
    try:
        with HubStandIn() as hub, hub.client(tmp_path / "cache"):
            hub.statuses["owner/private"] = [HOSTILE[hostile]] * 40
            server = serve(PRIVATE, on=real_host)
            told = []
            for key in (None, server.access.owner_token):
                with Client(server, key) as client:
                    told += [client.run().text, client.run(stream=True).text]
            assert hub.requests[0].authorization == "Bearer hf_notatoken4711"
    finally:
        undo()
    told.append(log.getvalue())
    assert '"code":"internal"' not in told[0]
    assert [text for text in told if SECRET.search(text)] == []


def test_a_password_of_a_proxy_and_a_token_in_a_wrong_place_are_shown_to_nobody(
    serve: Serve, real_host: LocalHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYTOK", "")
    with HubStandIn() as hub, hub.client(tmp_path / "cache", "http://hub.example"):
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, "http://me:pa55word@127.0.0.1:9")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for written in ("revision: hf_AbCdEfGhIjKl4711", "cache_dir: ./hf_AbCdEfGhIjKl4711"):
            server = serve(PRIVATE + "  " + written, on=real_host)
            for key in (None, server.access.owner_token):
                with Client(server, key) as client:
                    told = client.run()
                    assert told.json()["error"]["code"] == "no_network"
                    assert "http://127.0.0.1:9" in told.text
                    assert "pa55word" not in told.text and not SECRET.search(told.text)
