"""The run API: what each path answers, to good requests and to bad ones."""

from __future__ import annotations

import gc
import json
import select
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from standins.scripted import ScriptedModels
from standins.waiting import until

from modelcompose_jupyter import LocalHost, ModelError, run_store
from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.server import routes, tasks
from modelcompose_jupyter.server.server import Server, ServerSettings

from .conftest import COMPONENT, MANY, Client, Serve, held, raw_request


def error_of(response: Any, status: int) -> dict[str, Any]:
    """The error of an answer that has this status."""
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    return error


# Running


def test_a_blocking_run_answers_with_its_output_and_what_happened(client: Client) -> None:
    answer = client.run("Once")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    state = answer.json()
    assert state["status"] == "completed"
    assert state["output"] == {"generated": "<Once>"}
    assert (state["workflow_id"], state["finish_reason"]) == ("__workflow__", "eos")
    assert state["usage"]["generated"] == 1
    assert "seed" in state["parameters"] and "timings" in state
    assert "error" not in state and "record" not in state


def test_an_async_run_answers_at_once_and_can_be_polled(
    client: Client, models: ScriptedModels
) -> None:
    held(models, "a")

    state = client.run(wait_for_completion=False).json()

    assert state["status"] in ("pending", "processing")
    models.started.acquire(timeout=30)
    going = client.get(f"/tasks/{state['task_id']}").json()
    assert (going["status"], going["text"]) == ("processing", "<a>")
    assert client.get(f"/tasks/{state['task_id']}?output_only=true").status_code == 202
    models.gate.set()
    run = client.server.host.run(state["task_id"])
    assert run.wait(30)
    assert client.get(f"/tasks/{run.id}").json()["output"] == {"generated": "<a>"}
    assert client.get(f"/tasks/{run.id}?output_only=true").json() == {"generated": "<a>"}


def test_output_only_is_the_bare_output(serve: Serve) -> None:
    with Client(serve(MANY)) as client:
        assert client.run("b", output_only=True).json() == "<b>"


TO_ECHO = '{"input": {"prompt": "x"}, "workflow_id": "echo"}'


@pytest.mark.parametrize(
    "sent",
    [
        {"data": {"input[prompt]": "x", "workflow_id": "echo"}},
        {"data": {"input.prompt": "x", "input.n": "1", "workflow_id": "echo"}},
        {"data": {"input": '{"prompt": "x"}', "workflow_id": "echo"}},
        {"files": {"input[prompt]": (None, "x"), "workflow_id": (None, "echo")}},
        {"data": {"input": '\ufeff{"prompt": "x"}', "workflow_id": "echo"}},
        {"json": {"input": {"prompt": "x", "n": 1}, "workflow_id": "echo"}},
        *(
            {"content": TO_ECHO.encode(encoding), "headers": {"Content-Type": "application/json"}}
            for encoding in ("utf-8-sig", "utf-16", "utf-32")
        ),
    ],
)
def test_bodies_are_json_or_forms(serve: Serve, sent: dict[str, Any]) -> None:
    with Client(serve(MANY)) as client:
        answer = client.post("/workflows/runs", **sent)

    assert answer.json()["output"] == {"text": "<x>", "n": 1}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"input": {}}'.encode("utf-16-le"), "it is UTF-16 without a byte order mark"),
        (b'{"input": "\xff"}', "it is not UTF-8 text (byte 11)"),
    ],
)
def test_a_body_that_is_no_text_is_said_to_be_none(
    client: Client, body: bytes, message: str
) -> None:
    json_type = {"Content-Type": "application/json"}
    answer = client.post("/workflows/runs", content=body, headers=json_type)

    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == f"the body cannot be read: {message}"


def test_json_with_a_mark_that_is_sent_as_a_form_is_told_so(client: Client) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = client.post("/workflows/runs", content='\ufeff{"input": {}}'.encode(), headers=form)

    assert "the body is JSON" in answer.json()["error"]["message"]


def test_session_and_metadata_come_back(client: Client) -> None:
    state = client.run(session_id="s", metadata={"k": [1]}).json()

    assert (state["session_id"], state["metadata"]) == ("s", {"k": [1]})


def test_a_seed_is_used_and_reported(serve: Serve) -> None:
    host = LocalHost()
    with Client(serve(on=host)) as client:
        texts = [client.run("A fox", seed=11).json() for _ in range(2)]
        again = client.post("/workflows/runs", json={"rerun_of": texts[0]["task_id"]}).json()
    host.close()

    assert texts[0]["parameters"]["seed"] == 11
    assert texts[0]["output"] == texts[1]["output"] == again["output"]


LIMITED = COMPONENT + "  do_sample: false\n  max_output_length: ${input.length as integer | 8}\n"


def test_a_task_goes_on_where_its_text_was_cut(serve: Serve) -> None:
    host = LocalHost()
    server = serve(LIMITED, on=host)
    with Client(server) as client, Client(server, server.access.owner_token) as owner:
        first = client.run("A fox").json()
        id = first["task_id"]
        longer = client.post(
            "/workflows/runs", json={"extension_of": id, "extend_by": 5, "metadata": {"k": 1}}
        ).json()
        doubled = client.post("/workflows/runs", json={"extension_of": id}).json()
        again = client.post("/workflows/runs", json={"rerun_of": longer["task_id"]}).json()
        record = owner.get(f"/tasks/{longer['task_id']}").json()["record"]
        replayed = owner.run("A fox", extend_by=record["extended_by"]).json()
        wanted = client.post(
            "/workflows/runs", json={"input": {"prompt": "A fox", "length": 13}}
        ).json()
        full = client.post("/workflows/runs", json={"extension_of": id, "extend_by": 9**9}).json()
        error = error_of(
            client.post("/workflows/runs", json={"extension_of": full["task_id"]}), 422
        )
        streamed = client.post(
            "/workflows/runs",
            json={"extension_of": id, "extend_by": 5, "stream": True, "output_only": True},
        ).text
        theirs = owner.run("A fox").json()["task_id"]
        unseen = client.post("/workflows/runs", json={"extension_of": theirs})
        assert error_of(unseen, 404)["code"] == "unknown_run"
    host.close()

    assert (first["finish_reason"], first["usage"]["generated"]) == ("length", 8)
    assert longer["output"] == wanted["output"] == again["output"] == replayed["output"]
    assert longer["output"]["generated"].startswith(first["output"]["generated"])
    assert longer["usage"]["generated"] == 13
    assert longer["usage"]["accepted_tokens"] in (7, 8)  # the first may be of the prompt's step
    assert longer["extendable_by"] == first["extendable_by"] - 5 > 0
    assert longer["metadata"] == {"k": 1} and "record" not in longer
    assert doubled["usage"]["generated"] == 16
    assert error["code"] == "not_extendable"
    assert first["output"]["generated"] in streamed


def test_a_task_that_was_not_cut_does_not_go_on(client: Client) -> None:
    first = client.run("a").json()
    error = error_of(client.post("/workflows/runs", json={"extension_of": first["task_id"]}), 422)
    assert (error["code"], error["message"]) == (
        "not_extendable",
        f"nothing was cut in run {first['task_id']}: the model ended its text",
    )
    assert "extendable_by" not in first


def test_text_of_all_kinds_survives(client: Client) -> None:
    prompt = 'é 漢字 🦊 "quoted" \\ \u2028 \x85 \x00 line\nline\r\nend'

    assert client.run(prompt).json()["output"] == {"generated": f"<{prompt}>"}


# What is there


def test_workflows_are_listed_without_the_private_ones(serve: Serve) -> None:
    with Client(serve(MANY)) as client:
        short = client.get("/workflows").json()
        full = client.get("/workflows?include_schema=true").json()
        one = client.get("/workflows/echo/schema").json()

        assert short == [
            {"workflow_id": "plain", "title": "Plain", "default": True},
            {"workflow_id": "echo"},
        ]
        assert full[1] == one
        assert one["description"] == "Gives the text back"
        assert [each["name"] for each in one["input"]] == ["prompt", "n"]
        assert client.get("/workflows/__default__/schema").json() == full[0]
        error_of(client.get("/workflows/hidden/schema"), 404)
        error_of(client.run(workflow_id="hidden"), 404)


def test_health_models_and_openapi(client: Client) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert set(client.get("/models").json()) == {"models", "memory", "capacity"}
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert "/api/workflows/runs" in document["paths"]


@pytest.mark.parametrize("base_path", ["", "/", "deep/er/", "/api"])
def test_the_base_path_is_what_was_asked_for(serve: Serve, base_path: str) -> None:
    server = serve(settings=ServerSettings(port=0, base_path=base_path))

    with Client(server) as client:
        assert client.get("/health").status_code == 200
        assert client.run().json()["status"] == "completed"


def test_tasks_are_listed_by_who_may_see_them(client: Client, owner: Client) -> None:
    mine = client.run("mine").json()["task_id"]
    theirs = owner.run("theirs").json()["task_id"]
    run = client.server.host.submit(
        client.server.documents.catalog.documents[0], None, {"prompt": "k"}
    )
    run.wait(30)

    session = client.run("mine too", session_id="s1").json()["task_id"]

    def listed(**query: str) -> list[str]:
        return [task["task_id"] for task in client.get("/tasks", params=query).json()]

    assert listed() == [mine]
    assert listed(session_id="s1") == [session]
    assert listed(session_id="s2") == []
    assert [task["task_id"] for task in owner.get("/tasks").json()] == [
        *(session, run.id, theirs, mine)
    ]
    assert "output" not in client.get("/tasks").json()[0]
    assert client.get("/tasks?include_output=true").json()[0]["output"]
    error_of(client.get(f"/tasks/{theirs}"), 404)
    error_of(client.get(f"/tasks/{run.id}/events"), 404)
    error_of(client.post("/workflows/runs", json={"rerun_of": theirs}), 404)


# Cancelling


def test_a_cancelled_run_keeps_its_text(client: Client, models: ScriptedModels) -> None:
    held(models, "a")
    id = client.run(wait_for_completion=False).json()["task_id"]
    models.started.acquire(timeout=30)

    state = client.post(f"/tasks/{id}/cancel").json()

    assert (state["status"], state["text"]) == ("cancelled", "<a>")
    assert error_of(client.post(f"/tasks/{id}/cancel"), 409)["code"] == "already_ended"
    assert client.get(f"/tasks/{id}?output_only=true").status_code == 409
    error_of(client.post("/tasks/nope/cancel"), 404)


def test_who_leaves_a_blocking_run_ends_it(server: Server, models: ScriptedModels) -> None:
    held(models, "a")
    with raw_request(server, "POST", "/workflows/runs", {"input": {"prompt": "a"}}):
        models.started.acquire(timeout=30)

    (run,) = server.host.runs()
    assert run.wait(30)
    assert run.state == "cancelled"


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="the system does not tell")
def test_who_leaves_is_noticed_behind_what_was_sent_too_much(
    server: Server, models: ScriptedModels
) -> None:
    held(models, "a")
    body = {"input": {"prompt": "a"}}
    with raw_request(server, "POST", "/workflows/runs", body) as connection:
        connection.sendall(b"\r\n")
        models.started.acquire(timeout=30)

    (run,) = server.host.runs()
    assert run.wait(30)
    assert run.state == "cancelled"


def test_an_unwatched_run_goes_on_unless_it_was_not_to(
    client: Client, models: ScriptedModels
) -> None:
    held(models, "a", "b")
    kept = client.run("a", wait_for_completion=False).json()["task_id"]
    ends = client.run("b", wait_for_completion=False, linger=0).json()["task_id"]

    run = client.server.host.run(ends)
    assert run.wait(30)
    assert run.state == "cancelled"
    assert not client.server.host.run(kept).done


# What is refused


@pytest.mark.parametrize(
    ("body", "status", "code", "says"),
    [
        ({"inputs": {}}, 400, "invalid_request", "Did you mean 'input'?"),
        ({"callback_url": "http://x"}, 400, "invalid_request", "/tasks/{id}"),
        ({"subscribe_task": True}, 400, "invalid_request", "/tasks/{id}/events"),
        ({"wait_for_completion": "perhaps"}, 400, "invalid_request", "wait_for_completion"),
        ({"seed": -1}, 400, "invalid_request", "seed"),
        ({"seed": 2**70}, 422, "invalid_input", "seed"),
        ({"workflow_id": "other"}, 404, "unknown_workflow", "other"),
        ({"input": {}}, 422, "missing_input", "prompt"),
        ({"input": {"prompt": "x", "promt": 1}}, 422, "unknown_input", "Did you mean"),
        ({"input": [1]}, 422, "invalid_input", "mapping"),
        ({"rerun_of": "nope"}, 404, "unknown_run", "task"),
        ({"extension_of": "nope"}, 404, "unknown_run", "task"),
        ({"extend_by": 0}, 400, "invalid_request", "extend_by"),
        ({"branch": {"of": "a", "token": 1.0, "alternative": 5}}, 400, "invalid_request", "token"),
        (
            {"begins_with": [{"stream": ["a", 0, 0, 0], "tokens": ["1"]}]},
            400,
            "invalid_request",
            "tokens",
        ),
        (
            {"branch": {"of": "a", "token": 1, "alternative": 5}, "score": "a"},
            400,
            "invalid_request",
            "score",
        ),
        ({"rerun_of": "a", "extension_of": "b"}, 400, "invalid_request", "extension_of"),
        ({"document": "sha256:0"}, 404, "unknown_document", "document"),
        ({"format": "jsn"}, 422, "invalid_format", 'there is no format "jsn"'),
        ({"format": {"json_schema": {"not": {}}}}, 422, "invalid_format", "json_schema.not"),
        ({"format": {"json_schema": "/etc/passwd"}}, 422, "invalid_format", "no JSON schema"),
        ({"format": "json", "rerun_of": "a"}, 400, "invalid_request", "format"),
    ],
)
def test_bad_bodies_are_told_what_is_wrong(
    client: Client, body: dict[str, Any], status: int, code: str, says: str
) -> None:
    given = {"input": {"prompt": "x"}, **body}

    error = error_of(client.post("/workflows/runs", json=given), status)

    assert error["code"] == code
    assert says in f"{error['message']} {error['hint']}"


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"NaN", "application/json", 400),
        (b'{"input": {"prompt": NaN}}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"", "application/json", 400),
        (b"prompt: x", "text/yaml", 415),
        (b"x", "", 415),
        (b"input=1&input[a]=2", "application/x-www-form-urlencoded", 400),
        (b"garbage", "multipart/form-data; boundary=x", 400),
        (b'{"input": {"prompt": "x"}}', "application/x-www-form-urlencoded", 400),
        (
            b"input[prompt]=a&metadata" + b"[a]" * 1500 + b"=1",
            "application/x-www-form-urlencoded",
            400,
        ),
        (
            b"&".join(b"input[%d]=1" % n for n in range(2000)),
            "application/x-www-form-urlencoded",
            400,
        ),
        (b'{"input": {"prompt": "x"}, "metadata": {"a": 1e999}}', "application/json", 400),
        (b'{"input": {"prompt": [' + b"[]," * 60_000 + b"0]}}", "application/json", 400),
        (b"garbage", "multipart/form-data", 400),
        (b'{"input": {"prompt": "\\ud800"}}', "application/json", 422),
    ],
)
def test_garbage_is_refused(client: Client, content: bytes, kind: str, status: int) -> None:
    answer = client.post("/workflows/runs", content=content, headers={"Content-Type": kind})

    assert error_of(answer, status)["message"]


FORM, JSON = "application/x-www-form-urlencoded", "application/json"
_MIB = 2**20


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        (b"a." * 2 * _MIB, FORM, "nested too deeply"),
        (b"[a]" * _MIB, FORM, "nested too deeply"),
        (b"a[]" * _MIB, FORM, "nested too deeply"),
        (b"a=1&" * _MIB, FORM, "cannot be read"),
        (b"input=[" + b"[]," * _MIB + b"0]", FORM, "more than 50,000 values"),
        (
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 60_000 + b"--x--",
            "multipart/form-data; boundary=x",
            "cannot be read",
        ),
        (b"[" + b"[]," * _MIB + b"0]", JSON, "more than 50,000 values"),
        (b"{" + b'"a":{},' * (_MIB // 2) + b'"a":0}', JSON, "more than 50,000 values"),
        (b"[" + b"1," * 250_000 + b"1]", JSON, "more than 50,000 values"),
        (b"[" * 4 * _MIB, JSON, "nested too deeply"),
        (b'{"a":' * (_MIB // 2), JSON, "nested too deeply"),
        (b'{"seed": ' + b"1" * 3 * _MIB + b"}", JSON, "too large a number"),
        (b'{"seed": ' + b"1" * 3 * _MIB + b".0}", JSON, "too large a number"),
        (b'"' * 3 * _MIB, JSON, "not JSON"),
        (b'["' + b"\\" * 3 * _MIB, JSON, "not JSON"),
        (b"]" * 3 * _MIB, JSON, "not JSON"),
        (b"{" + b",".join(b'"%d":0' % n for n in range(49_000)) + b"}", JSON, "unknown key '0'"),
    ],
    ids=range(17),
)
def test_a_body_is_refused_before_anything_is_built_of_it(
    client: Client, content: bytes, kind: str, says: str
) -> None:
    """The body itself is there a few times, as bytes and as text; a value takes 50 bytes."""
    client.get("/health")
    tracemalloc.start()
    try:
        answer = client.post("/workflows/runs", content=content, headers={"Content-Type": kind})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert says in error_of(answer, 400)["message"]
    assert peak < 32 * _MIB


def test_values_within_the_bounds_are_taken(client: Client) -> None:
    marks = '[]{},:"\\' * 50_000
    nested: Any = 0
    for _ in range(46):
        nested = [nested]
    for text in (marks, "\U0001f600" * 100_000):
        body = {"metadata": {"nested": nested, "numbers": [0] * 3000}, "input": {"prompt": text}}
        assert client.run(**body).json()["output"] == {"generated": f"<{text}>"}
    form = {f"metadata[{n}]" + "[a]" * 40: "1" for n in range(20)} | {"input.prompt": marks}
    assert client.post("/workflows/runs", data=form).json()["output"] == {"generated": f"<{marks}>"}


def test_bodies_beyond_the_limit_are_refused_before_they_are_read(serve: Serve) -> None:
    with Client(serve(settings=ServerSettings(port=0, max_body=1000))) as client:
        assert error_of(client.run("x" * 2000), 413)["code"] == "too_large"
        chunks = (b"x" * 500 for _ in range(10))
        headers = {"Content-Type": "application/json"}
        answer = client.post("/workflows/runs", content=chunks, headers=headers)
        assert error_of(answer, 413)["code"] == "too_large"
        assert client.run("ok").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"x" * 1_000_000: 1},
        {"workflow_id": "x" * 1_000_000},
        {"input": {"prompt": "a", "x" * 1_000_000: 1}},
        {"metadata": {"a": "x" * 20_000}},
    ],
)
def test_names_of_any_length_are_answered_in_few_words(client: Client, body: Any) -> None:
    answer = client.post("/workflows/runs", json={"input": {"prompt": "a"}, **body})

    assert 400 <= answer.status_code < 500
    assert len(answer.content) < 2000
    assert client.get("/tasks").json() == []


def test_a_document_key_leads_to_no_private_workflow(serve: Serve) -> None:
    server = serve(MANY)
    (document,) = server.documents.catalog.documents
    with Client(server) as client:
        assert client.run(document=document.key, workflow_id="echo").status_code == 200
        error_of(client.run(document=document.key, workflow_id="hidden"), 404)


def test_a_cancel_that_takes_long_answers_with_what_there_is(
    client: Client, models: ScriptedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(models, "a")
    monkeypatch.setattr(routes, "_CANCEL_SECONDS", 0)
    id = client.run(wait_for_completion=False).json()["task_id"]
    models.started.acquire(timeout=30)

    assert client.post(f"/tasks/{id}/cancel").json()["task_id"] == id


def test_paths_and_methods_that_there_are_not(client: Client) -> None:
    assert error_of(client.get("/nope"), 404)["code"] == "not_found"
    for path in ("/../secrets", "/tasks/..%2f..%2fetc", "/tasks/%00/events", "//etc/passwd"):
        error_of(client.get(path), 404)
    answer = client.get("/workflows/runs")
    assert answer.headers["allow"] == "POST"
    assert error_of(answer, 405)["code"] == "method_not_allowed"
    assert client.head("/health").status_code == 200
    assert client.head("/health").content == b""


def test_a_full_host_says_when_to_come_again(client: Client, models: ScriptedModels) -> None:
    held(models, "a")
    client.server.host.limit(max_runs=1)
    client.run("a", wait_for_completion=False)
    models.started.acquire(timeout=30)

    answer = client.run("b")

    assert error_of(answer, 429)["code"] == "busy"
    assert answer.headers["retry-after"] == "1"


def test_guests_leave_some_of_the_runs_to_the_owner(
    client: Client, owner: Client, models: ScriptedModels
) -> None:
    held(models, "a")
    host = client.server.host
    host.limit(max_runs=5)
    for _ in range(3):
        id = client.run("a", wait_for_completion=False).json()["task_id"]
    v1 = f"{client.server.origin}/v1/completions"

    for body in ({"input": {"prompt": "a"}}, {"rerun_of": id}):
        answer = client.post("/workflows/runs", json=body)
        assert error_of(answer, 429)["code"] == "busy"
    asked = {"model": "bundled:storyteller", "prompt": "b"}
    assert client.post(v1, json=asked).status_code == 429
    own = host.submit(load_document(COMPONENT), None, {"prompt": "a"})  # a cell's
    assert owner.run("b").json()["status"] == "completed"
    assert owner.post(v1, json=asked).status_code == 200
    assert owner.run("a", wait_for_completion=False).status_code == 200
    assert error_of(owner.run("b"), 429)["code"] == "busy"
    own.cancel()


def test_failed_runs_are_no_200(client: Client, models: ScriptedModels) -> None:
    models.failure = ModelError("no such model in /home/me/models/x", code="model_not_found")

    answer = client.run()

    error = error_of(answer, 500)
    assert answer.json()["status"] == "failed"
    assert (error["code"], error["message"]) == ("model_not_found", "no such model in …/x")
    assert error["where"]["line"] == 5
    only = client.run(output_only=True)
    assert error_of(only, 500)["code"] == "model_not_found"
    assert "Traceback" not in answer.text + only.text


def test_the_owner_sees_errors_whole(owner: Client, models: ScriptedModels) -> None:
    models.failure = ModelError("no such model in /home/me/models/x")

    assert owner.run().json()["error"]["message"] == "no such model in /home/me/models/x"


def test_defects_of_ours_show_no_traceback(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret /etc/path")

    monkeypatch.setattr(client.server.host, "submit", broken)

    answer = client.run()

    assert error_of(answer, 500)["code"] == "internal"
    assert "secret" not in answer.text
    assert any(record.exc_info for record in caplog.records)


def test_a_busy_port_is_a_clear_error(server: Server, serve: Serve) -> None:
    port = int(server.origin.rpartition(":")[2])

    with pytest.raises(Exception, match=f"port {port} of 127.0.0.1 is taken"):
        serve(settings=ServerSettings(port=port))


# Documents of the owner


def test_the_owner_brings_documents(owner: Client, client: Client) -> None:
    body = {"text": COMPONENT, "name": "cell", "folder": "/tmp"}

    known = owner.post("/documents", json=body).json()
    answer = owner.run(document=known["key"])

    assert not known["served"]
    assert answer.json()["output"] == {"generated": "<a>"}
    assert owner.get(f"/documents/{known['key']}").json() == known
    error_of(client.run(document=known["key"]), 404)
    error_of(client.post("/documents", json=body), 403)
    error_of(client.get(f"/documents/{known['key']}"), 403)


def test_a_document_that_is_a_path_is_read_as_text(owner: Client) -> None:
    body = {"text": "/etc/passwd", "name": "cell", "folder": "/tmp"}

    error = error_of(owner.post("/documents", json=body), 422)

    assert "root:" not in json.dumps(error)


def test_only_the_owner_unloads_and_ends(owner: Client, client: Client) -> None:
    error_of(client.post("/models/unload", json={}), 403)
    error_of(client.post("/shutdown"), 403)
    assert owner.post("/models/unload", json={}).json() == []
    assert owner.post("/shutdown").status_code == 202
    assert owner.server.wait(30)


# What is kept, and what is forgotten


def polled(client: Client, prompt: str = "a", **body: Any) -> str:
    """The id of a run that has ended, and whose result is still to be fetched."""
    id: str = client.run(prompt, wait_for_completion=False, **body).json()["task_id"]
    run = client.server.host.run(id)
    assert run.wait(30)
    return id


def is_forgotten(server: Server, id: str) -> bool:
    return isinstance(server.host.run_store.find(id), run_store.Forgotten)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was fetched is forgotten at once."""
    monkeypatch.setattr(run_store, "KEPT_RUNS", 0)


def completed(client: Client) -> str:
    """The id of a completion of OpenAI's routes."""
    body = {"model": "bundled:storyteller", "prompt": "a"}
    answer = client.post(f"{client.server.origin}/v1/completions", json=body)
    return str(answer.headers["x-task-id"])


def completed_in_a_stream(client: Client) -> str:
    body = {"model": "bundled:storyteller", "prompt": "a", "stream": True}
    answer = client.post(f"{client.server.origin}/v1/completions", json=body)
    assert answer.text.endswith("data: [DONE]\n\n")
    return str(answer.headers["x-task-id"])


def fetched(path: str = "") -> Callable[[Client], str]:
    """Fetches a run that was polled."""

    def fetch(client: Client) -> str:
        id = polled(client)
        assert client.get(f"/tasks/{id}{path}").is_success
        return id

    return fetch


def seen_to_the_end(client: Client) -> str:
    id = polled(client)
    last = client.server.host.run(id).last_event
    assert client.get(f"/tasks/{id}/events?after={last}").status_code == 204
    return id


def stopped(client: Client) -> str:
    host: Any = client.server.host
    host._cache.hold = ("held",)
    id: str = client.run("held", wait_for_completion=False).json()["task_id"]
    assert client.post(f"/tasks/{id}/cancel").json()["status"] == "cancelled"
    return id


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.run().json()["task_id"],
        lambda client: client.run(output_only=True).headers["x-task-id"],
        lambda client: client.run(stream=True).headers["x-task-id"],
        lambda client: client.run(stream=True, output_only=True).headers["x-task-id"],
        completed,
        completed_in_a_stream,
        fetched(),
        fetched("?output_only=true"),
        fetched("/events"),
        seen_to_the_end,
        stopped,
    ],
)
def test_a_result_that_was_handed_over_is_fetched(
    client: Client, ask: Callable[[Client], str]
) -> None:
    id = ask(client)

    until(lambda: is_forgotten(client.server, id))
    error = error_of(client.get(f"/tasks/{id}"), 410)
    assert error["message"] == f"run {id} is forgotten: newer ones have taken its place"


@pytest.mark.usefixtures("at_once")
def test_a_look_is_not_a_fetch(client: Client, owner: Client, models: ScriptedModels) -> None:
    id = polled(client, session_id="s")
    for _ in range(2):
        assert client.head(f"/tasks/{id}").status_code == 200
        assert client.head(f"/tasks/{id}/events").status_code == 200
        assert owner.get(f"/tasks/{id}").json()["status"] == "completed"
        assert owner.get(f"/tasks/{id}/events").text
        assert client.get("/tasks?include_output=true&session_id=s").json()[0]["output"]
        assert error_of(client.get(f"/tasks/{id}/events?after=999"), 400)
        assert error_of(client.post(f"/tasks/{id}/cancel"), 409)
    assert client.post("/workflows/runs", json={"rerun_of": id}).json()["output"]
    held(models, "held")
    going = client.run("held", wait_for_completion=False).json()["task_id"]
    assert client.get(f"/tasks/{going}?output_only=true").status_code in (202, 200)
    client.post(f"/tasks/{going}/cancel?wait_for_completion=false")
    assert client.server.host.run(going).wait(30)
    assert client.get(f"/tasks/{going}").json()["status"] == "cancelled"
    assert client.get(f"/tasks/{id}").json()["output"] == {"generated": "<a>"}


@pytest.mark.usefixtures("at_once")
def test_an_answer_that_nobody_took_is_not_a_fetch(
    server: Server, models: ScriptedModels, client: Client
) -> None:
    models.reply = lambda prompt: ["x" * 1_000_000] * 20
    id = polled(client)
    for path in (f"/tasks/{id}", f"/tasks/{id}/events"):
        with raw_request(server, "GET", path) as connection:
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
    held(models, "held")
    with raw_request(server, "POST", "/workflows/runs", {"input": {"prompt": "held"}}):
        models.started.acquire(timeout=30)
    (left,) = [run for run in server.host.runs() if run.id != id]
    assert left.wait(30)
    assert client.get("/health").status_code == 200  # the server has had its turn
    assert client.get(f"/tasks/{left.id}").json()["status"] == "cancelled"
    assert len(client.get(f"/tasks/{id}").json()["output"]["generated"]) == 20_000_000


def test_what_is_forgotten_says_so_everywhere(client: Client, owner: Client) -> None:
    id = polled(client)
    client.server.host.limit(run_ttl=0)

    for each in (client, owner):
        for answer in (
            each.get(f"/tasks/{id}"),
            each.get(f"/tasks/{id}?output_only=true"),
            each.get(f"/tasks/{id}/events"),
            each.post(f"/tasks/{id}/cancel"),
            each.post("/workflows/runs", json={"rerun_of": id}),
        ):
            error = error_of(answer, 410)
            assert (error["code"], error["hint"]) == ("gone", "Run it again.")
            assert error["message"] == (
                f"run {id} is forgotten: the time for which results are kept"
                " after a run's end is over"
            )
    assert client.head(f"/tasks/{id}").status_code == 410
    assert client.get("/tasks").json() == owner.get("/tasks").json() == []
    assert error_of(client.get("/tasks/000000000000"), 404)["code"] == "unknown_run"
    assert error_of(client.get(f"/tasks/{id[:-1]}"), 404)["code"] == "unknown_run"


def test_what_became_of_others_runs_is_nobodys_business(
    client: Client, owner: Client, serve: Serve
) -> None:
    server = client.server
    theirs, guests = polled(owner), polled(client)
    own = server.host.submit(server.documents.catalog.documents[0], None, {"prompt": "k"})
    assert own.wait(30)
    server.host.limit(run_ttl=0)

    for id in (theirs, own.id):
        error_of(owner.get(f"/tasks/{id}"), 410)
        for path in (f"/tasks/{id}", f"/tasks/{id}/events"):
            assert error_of(client.get(path), 404) == error_of(client.get("/tasks/nope"), 404)
        error_of(client.post(f"/tasks/{id}/cancel"), 404)
        error_of(client.post("/workflows/runs", json={"rerun_of": id}), 404)
    with Client(serve()) as guest_of_another_server:
        error_of(guest_of_another_server.get(f"/tasks/{guests}"), 404)


def test_results_on_the_disk_are_tasks_like_others(
    client: Client, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_store, "OWED_BYTES", 0)
    ids = [polled(client, str(n), session_id="s", metadata={"n": n}, seed=n) for n in range(3)]
    store: Any = client.server.host.run_store
    until(lambda: len(store._spilled) == 3)

    listed = client.get("/tasks?session_id=s&include_output=true").json()
    assert [each["task_id"] for each in listed] == ids[::-1]
    assert client.get("/tasks").json() == []
    assert [each["task_id"] for each in owner.get("/tasks").json()] == ids[::-1]
    assert len(store._spilled) == 3
    for number, id in enumerate(ids):
        again = client.post("/workflows/runs", json={"rerun_of": id}).json()
        state = client.get(f"/tasks/{id}").json()
        assert (state["session_id"], state["metadata"]) == ("s", {"n": number})
        assert state["output"] == again["output"] == {"generated": f"<{number}>"}
        assert state == client.get(f"/tasks/{id}").json()
    assert "event: result" in client.get(f"/tasks/{ids[0]}/events").text
    until(lambda: len(store._spilled) == 0)


def test_a_list_has_an_end(client: Client, owner: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [polled(client, str(number)) for number in range(4)]
    monkeypatch.setattr(tasks, "_LISTED", 3)
    assert [each["task_id"] for each in client.get("/tasks").json()] == ids[:0:-1]
    monkeypatch.setattr(tasks, "_LISTED_BYTES", 1)
    assert [each["task_id"] for each in owner.get("/tasks").json()] == ids[3:]


def test_a_long_linger_keeps_no_ended_run_in_memory(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_store, "OWED_BYTES", 0)
    id = client.run(wait_for_completion=False, linger=3600).json()["task_id"]
    store: Any = client.server.host.run_store
    until(lambda: len(store._spilled) == 1)

    def is_on_the_disk_alone() -> bool:
        gc.collect()
        return store.find(id).in_memory is None

    until(is_on_the_disk_alone)
    assert client.get(f"/tasks/{id}").json()["output"] == {"generated": "<a>"}
