"""A run that waits for a person, over the API: what is told of it, how it is answered."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import ComposeError, InputError, Run, load
from modelcompose_jupyter.server.client import RemoteHost
from modelcompose_jupyter.server.server import Server

from .conftest import COMPONENT, Client, Serve

SECONDS = 20
REVIEW = (
    COMPONENT
    + """
workflow:
  jobs:
    - id: write
      input: {prompt: "${input.prompt as text}"}
      interrupt:
        after: {message: "Good enough?", metadata: {by: model}, timeout: 10m}
"""
)
EACH = (
    COMPONENT
    + """
workflow:
  jobs:
    - id: items
      type: for-each
      input: ${input.lines as list}
      batch_size: 4
      do: {input: {prompt: "${item}"}, interrupt: {after: true}}
"""
)
CHOICES = REVIEW.replace('message: "Good enough?"', "choices: [good, bad]")


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve(REVIEW)


def interrupted(client: Client, **body: Any) -> dict[str, Any]:
    """The state of a task that was started and waits for an answer."""
    response = client.post("/workflows/runs", json={"input": {"prompt": "a"}, **body})
    assert response.status_code == 200
    state: dict[str, Any] = response.json()
    assert state["status"] == "interrupted"
    return state


def resume(client: Client, id: str, body: Any, status: int = 200) -> dict[str, Any]:
    response = client.post(f"/tasks/{id}/resume", json=body)
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    return answer


def asked_in(stream: httpx.Response) -> dict[str, Any]:
    """The data of the first question among the events of a task."""
    lines = stream.iter_lines()
    next(line for line in lines if line == "event: question")
    data: dict[str, Any] = json.loads(next(lines).removeprefix("data: "))
    return data


def ended(server: Server, client: Client, id: str) -> dict[str, Any]:
    """The state of a task when it has ended."""
    with client.stream("GET", f"/tasks/{id}/events") as stream:
        stream.read()
    state: dict[str, Any] = client.get(f"/tasks/{id}").json()
    return state


def test_who_waits_for_a_run_is_told_that_it_waits(client: Client, server: Server) -> None:
    state = interrupted(client)
    (question,) = state["interrupt"]
    assert question.pop("until") > 0
    assert question == {
        "id": "write.after",
        "job_id": "write",
        "phase": "after",
        "message": "Good enough?",
        "metadata": {"by": "model"},
        "value": "<a>",
    }
    assert client.get(f"/tasks/{state['task_id']}").json()["status"] == "interrupted"
    bare = client.get(f"/tasks/{state['task_id']}", params={"output_only": "true"})
    assert (bare.status_code, bare.json()["status"]) == (202, "interrupted")


def test_a_list_of_tasks_has_values_where_it_is_asked_for_them(client: Client) -> None:
    interrupted(client)
    (task,) = client.get("/tasks").json()
    assert task["status"] == "interrupted" and "<a>" not in str(task)
    (task,) = client.get("/tasks", params={"include_output": "true"}).json()
    assert task["interrupt"][0]["value"] == "<a>"


@pytest.mark.parametrize(
    ("body", "output"),
    [
        ({"job_id": "write", "answer": "b"}, "b"),
        ({"job_id": "write"}, "<a>"),
        ({"answer": {"write.after": {"any": "data"}}}, {"any": "data"}),
        ({"answer": {"write.after": None}}, "<a>"),
        ({"answer": None}, "<a>"),
        ({}, "<a>"),
    ],
)
def test_bodies_of_the_reference_answer(
    client: Client, server: Server, body: Any, output: Any
) -> None:
    state = interrupted(client)
    assert resume(client, state["task_id"], body)["task_id"] == state["task_id"]
    final = ended(server, client, state["task_id"])
    assert (final["status"], final["output"]) == ("completed", output)
    assert "interrupt" not in final


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"job_id": "other", "answer": "b"}, 404, "unknown_question"),
        ({"job_id": "write", "run_id": "write[0]"}, 404, "unknown_question"),
        ({"answer": {"other.after": "b"}}, 404, "unknown_question"),
        ({"answer": {"write.after": "good", "other.after": "b"}}, 404, "unknown_question"),
        ({"job_id": "write", "answer": "so so"}, 422, "not_a_choice"),
        ({"answer": "good"}, 400, "invalid_request"),
        ({"run_id": "write"}, 400, "invalid_request"),
        ({"answers": {}}, 400, "invalid_request"),
        ([], 400, "invalid_request"),
    ],
)
def test_what_is_no_answer_is_refused_and_answers_nothing(
    serve: Serve, body: Any, status: int, code: str
) -> None:
    with Client(serve(CHOICES)) as client:
        state = interrupted(client)
        response = client.post(f"/tasks/{state['task_id']}/resume", json=body)
        assert response.json()["error"]["code"] == code
        assert response.status_code == status
        assert client.get(f"/tasks/{state['task_id']}").json()["status"] == "interrupted"


def test_a_task_that_does_not_wait_is_told_so(client: Client, server: Server) -> None:
    state = interrupted(client)
    id = state["task_id"]
    assert resume(client, "unknown", {}, 404)["error"]["code"] == "unknown_run"
    resume(client, id, {})
    ended(server, client, id)
    assert resume(client, id, {}, 409)["error"]["code"] == "no_question"
    again = {"answer": {"write.after": "b"}}
    assert resume(client, id, again, 409)["error"]["code"] == "already_answered"


def test_several_questions_are_answered_one_by_one(serve: Serve) -> None:
    server = serve(EACH)
    with Client(server) as client:
        response = client.post("/workflows/runs", json={"input": {"lines": ["x", "y"]}})
        id = response.json()["task_id"]
        run = server.host.run(id)
        assert run.wait_for(lambda: len(run.questions) == 2, SECONDS)
        questions = client.get(f"/tasks/{id}").json()["interrupt"]
        assert {each["run_id"] for each in questions} == {"items[0]", "items[1]"}
        several = resume(client, id, {"job_id": "items", "answer": "b"}, 409)
        assert several["error"]["code"] == "several_questions"
        state = resume(client, id, {"job_id": "items", "run_id": "items[1]", "answer": "b"})
        assert [each["run_id"] for each in state["interrupt"]] == ["items[0]"]
        resume(client, id, {"answer": {"items[0].after": "c"}})
        assert ended(server, client, id)["output"] == ["c", "b"]


def test_a_run_that_waits_goes_on_though_nobody_watches(
    client: Client, server: Server, models: ScriptedModels
) -> None:
    """However it was asked for: its bound is the question's own."""
    state = interrupted(client, linger=0)
    body = {"input": {"prompt": "a"}, "stream": True}
    with client.stream("POST", "/workflows/runs", json=body) as s:
        question = asked_in(s)
        assert question["state"] == "open"
        streamed = s.headers["X-Task-Id"]
    for id in (state["task_id"], streamed):
        run = server.host.run(id)
        assert not run.done
        resume(client, id, {"job_id": "write", "answer": "b"})
        assert run.wait(SECONDS)
        assert run.output == "b"


def test_guests_answer_what_they_could_stop(serve: Serve) -> None:
    server = serve(REVIEW)
    with Client(server, server.access.owner_token) as owner, Client(server) as guest:
        own = interrupted(owner)
        assert resume(guest, own["task_id"], {}, 404)["error"]["code"] == "unknown_run"
        theirs = interrupted(guest)
        resume(owner, theirs["task_id"], {})
        ended(server, guest, theirs["task_id"])


def test_a_cancelled_task_asks_nothing_any_more(client: Client, server: Server) -> None:
    id = interrupted(client)["task_id"]
    state = client.post(f"/tasks/{id}/cancel").json()
    assert state["status"] == "cancelled"
    assert "interrupt" not in state


def test_words_of_a_question_show_guests_no_folders(serve: Serve) -> None:
    folder = "/home/somebody/secrets/file.txt"
    text = REVIEW.replace("Good enough?", f"Keep {folder}?").replace("by: model", f"at: {folder}")
    with Client(serve(text)) as guest:
        state = interrupted(guest)
        with guest.stream("GET", f"/tasks/{state['task_id']}/events") as stream:
            question = asked_in(stream)
        for told in (question, state["interrupt"][0]):
            assert "file.txt" in told["message"]
            assert "somebody" not in json.dumps(told)
        resume(guest, state["task_id"], {})


# From another process


@pytest.fixture
def remote(server: Server) -> Iterator[RemoteHost]:
    host = RemoteHost(server.url, server.access.owner_token)
    yield host
    host.close(10)


def asked(run: Run) -> dict[str, Any]:
    assert run.wait_for(lambda: run.done or bool(run.questions), SECONDS)
    (question,) = run.questions
    return question


def test_a_run_of_another_host_is_answered_as_one_of_this(remote: RemoteHost) -> None:
    run = load(REVIEW, host=remote).submit(prompt="a")
    question = asked(run)
    assert (question["message"], question["value"]) == ("Good enough?", "<a>")
    assert (run.state, run.jobs["write"]["state"]) == ("interrupted", "interrupted")
    run.answer(["b"])
    assert run.questions == []  # it is heard of at once
    assert run.result(SECONDS) == ["b"]
    assert run.record["questions"][0]["answer"] == ["b"]
    with pytest.raises(InputError) as caught:
        run.answer("c", "write.after")
    assert caught.value.code == "already_answered"


def test_what_cannot_be_answered_over_there_is_an_error_here(serve: Serve) -> None:
    server = serve(CHOICES)
    host = RemoteHost(server.url, server.access.owner_token)
    run = load(CHOICES, host=host).submit(prompt="a")
    asked(run)
    with pytest.raises(InputError) as caught:
        run.answer("so so")
    assert caught.value.code == "not_a_choice"
    server.close()
    with pytest.raises(ComposeError):
        run.answer("good")
    host.close(10)


def test_a_run_is_found_again_by_its_id_and_answered(server: Server, remote: RemoteHost) -> None:
    first = load(REVIEW, host=remote).submit(prompt="a")
    asked(first)
    other = RemoteHost(server.url, server.access.owner_token)
    again = other.run(first.id)
    assert asked(again)["id"] == "write.after"
    again.answer("b")
    assert first.result(SECONDS) == "b" == again.result(SECONDS)
    other.close(10)


def test_who_watches_a_run_of_another_host_may_answer_at_once(remote: RemoteHost) -> None:
    """On the client's own thread, which does not wait for itself."""
    run = load(REVIEW, host=remote).submit(prompt="a")
    answered = threading.Event()

    def look() -> None:
        if run.questions and not answered.is_set():
            answered.set()
            run.answer("quick")

    run.watch(look)
    look()
    assert run.result(SECONDS) == "quick"
