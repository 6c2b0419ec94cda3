"""Server-sent events: order, names, ids, resuming, errors, readers that leave or do not read."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import tracemalloc
from typing import Any

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import LocalHost, ModelError
from modelcompose_jupyter.server import events
from modelcompose_jupyter.server.access import Caller
from modelcompose_jupyter.server.events import run_events
from modelcompose_jupyter.server.http import EventStream
from modelcompose_jupyter.server.server import Server, ServerSettings
from modelcompose_jupyter.server.tasks import Task, Tasks, Terms
from modelcompose_jupyter.workflow import Run

from .conftest import Client, Serve, held, raw_request
from .test_api import error_of


def parse(text: str) -> list[dict[str, Any]]:
    """Events of a stream as a browser's EventSource reads them; comments are left out."""
    found = []
    for block in text.split("\n\n"):
        fields: dict[str, Any] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            if name in ("id", "event", "data"):
                fields[name] = f"{fields[name]}\n{value}" if name in fields else value
        if fields:
            found.append(fields)
    return found


def text_of(found: list[dict[str, Any]]) -> str:
    """The text that the text events of one stream build."""
    text = ""
    for event in found:
        if event["event"] == "text":
            data = json.loads(event["data"])
            text = text[: data["offset"]] + data["text"]
    return text


def test_a_stream_tells_the_run_in_order(client: Client, models: ScriptedModels) -> None:
    models.reply = lambda prompt: list("abc")

    answer = client.run(stream=True)

    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    found = parse(answer.text)
    assert [int(each["id"]) for each in found] == sorted(int(each["id"]) for each in found)
    assert found[0]["event"] == "state"
    assert [each["event"] for each in found][-2:] == ["result", "state"]
    assert text_of(found) == "abc"
    last = json.loads(found[-1]["data"])
    assert last["state"] == "completed"
    assert last["summary"]["usage"]["generated"] == 1
    assert "record" not in last["summary"]
    assert json.loads(found[-2]["data"])["output"] == {"generated": "abc"}


def test_accept_asks_for_a_stream_too(client: Client) -> None:
    headers = {"Accept": "text/event-stream"}

    answer = client.post("/workflows/runs", json={"input": {"prompt": "a"}}, headers=headers)

    assert parse(answer.text)[-1]["event"] == "state"


def test_the_output_alone_streams_as_text(client: Client, models: ScriptedModels) -> None:
    models.reply = lambda prompt: ["one\n", "two", " three"]

    found = parse(client.run(stream=True, output_only=True).text)

    assert "".join(each["data"] for each in found) == "one\ntwo three"
    assert all("event" not in each for each in found)


def test_carriage_returns_of_a_text_end_no_fields(client: Client, models: ScriptedModels) -> None:
    models.reply = lambda prompt: ["a\rdata: b\r\revent: error"]

    text = client.run(stream=True, output_only=True).text

    assert "\r" not in text
    assert [line for line in text.split("\n") if line.startswith("event")] == []


def test_who_comes_back_starts_the_wait_anew(server: Server, models: ScriptedModels) -> None:
    held(models, "a")
    host = server.host
    run = host.submit(server.documents.catalog.documents[0], None, {"prompt": "a"})
    timers = []

    async def watch_twice() -> None:
        tasks = Tasks(host)
        terms = Terms(tasks, Caller.GUEST, linger=3600)
        with Task(run, terms).watching():
            assert terms.end is None
        for _ in range(2):
            timers.append(terms.end)
            with Task(run, terms).watching():
                assert terms.end is not None and terms.end.cancelled()
        timers.append(terms.end)

    asyncio.run(watch_twice())

    assert len({id(each) for each in timers}) == 3
    assert not timers[-1].cancelled()
    run.cancel()


def test_a_stream_that_nobody_begins_to_read_ends_its_run(
    server: Server, models: ScriptedModels
) -> None:
    held(models, "a")
    run = server.host.submit(server.documents.catalog.documents[0], None, {"prompt": "a"})

    async def leave_at_once() -> None:
        tasks = Tasks(server.host)
        task = Task(run, Terms(tasks, Caller.GUEST, linger=0.0))
        stream = EventStream(task, run_events(task, Caller.GUEST, -1))
        assert tasks.watchers == 1
        stream.close()
        assert tasks.watchers == 0

    asyncio.run(leave_at_once())

    assert run.wait(30)
    assert run.state == "cancelled"


def test_errors_arrive_in_the_stream(client: Client, models: ScriptedModels) -> None:
    models.failure = ModelError("gone from /a/b/c", code="load_failed")

    found = parse(client.run(stream=True).text)
    only = parse(client.run(stream=True, output_only=True).text)

    assert [each["event"] for each in found][-2:] == ["error", "state"]
    assert json.loads(found[-2]["data"])["message"] == "gone from …/c"
    assert json.loads(found[-1]["data"])["state"] == "failed"
    assert only[-1]["event"] == "error"
    assert json.loads(only[-1]["data"])["error"]["code"] == "load_failed"


def test_every_event_can_be_resumed_after(client: Client, models: ScriptedModels) -> None:
    models.reply = lambda prompt: list("hello world")
    whole = parse(client.run(stream=True).text)
    id = client.get("/tasks").json()[0]["task_id"]

    for place, event in enumerate(whole):
        headers = {"Last-Event-ID": event["id"]}
        rest = client.get(f"/tasks/{id}/events", headers=headers)
        seen = [*whole[: place + 1], *parse(rest.text)]
        assert text_of(seen) == "hello world"
        assert seen[-1]["id"] == whole[-1]["id"]
        same = client.get(f"/tasks/{id}/events?after={event['id']}")
        assert parse(same.text) == parse(rest.text)
    assert rest.status_code == 204


@pytest.mark.parametrize("given", ["x", "-2", "1e3", "9" * 30, "99999", "१"])
def test_a_malformed_resume_is_refused(client: Client, given: str) -> None:
    id = client.run().json()["task_id"]

    answer = client.get(f"/tasks/{id}/events", params={"after": given})

    assert "event" in error_of(answer, 400)["message"]


def test_a_watcher_that_joins_late_sees_it_all(client: Client, models: ScriptedModels) -> None:
    held(models, "a")
    models.reply = lambda prompt: ["first", " second"]
    id = client.run(wait_for_completion=False).json()["task_id"]
    models.started.acquire(timeout=30)
    texts: list[str] = []

    def watch() -> None:
        with Client(client.server) as other:
            texts.append(text_of(parse(other.get(f"/tasks/{id}/events").text)))

    threads = [threading.Thread(target=watch) for _ in range(3)]
    for thread in threads:
        thread.start()
    models.gate.set()
    for thread in threads:
        thread.join(30)

    assert texts == ["first second"] * 3


def test_who_leaves_a_stream_ends_the_run_unless_others_watch(
    client: Client, models: ScriptedModels
) -> None:
    held(models, "a")
    body = {"input": {"prompt": "a"}, "stream": True}
    with raw_request(client.server, "POST", "/workflows/runs", body) as first:
        models.started.acquire(timeout=30)
        while b"event: state" not in first.recv(10_000):
            pass
        (run,) = client.server.host.runs()
        with raw_request(client.server, "GET", f"/tasks/{run.id}/events") as second:
            while b"event: text" not in second.recv(10_000):
                pass
            first.close()
            assert client.get("/health").status_code == 200  # the server has had its turn
            assert not run.done
    assert run.wait(30)
    assert run.state == "cancelled"


def test_who_leaves_a_silent_stream_ends_the_run(
    client: Client, models: ScriptedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(models, "a")
    monkeypatch.setattr(events.run_events, "__defaults__", (3600.0,))
    body = {"input": {"prompt": "a"}, "stream": True}
    with raw_request(client.server, "POST", "/workflows/runs", body) as connection:
        while b"event: text" not in connection.recv(10_000):
            pass
        models.started.acquire(timeout=30)
        (run,) = client.server.host.runs()
    assert run.wait(30)
    assert run.state == "cancelled"


def test_silence_is_filled_with_heartbeats(
    client: Client, models: ScriptedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(models, "a")
    monkeypatch.setattr(events.run_events, "__defaults__", (0.05,))
    id = client.run(wait_for_completion=False).json()["task_id"]

    with client.stream("GET", f"/tasks/{id}/events") as answer:
        for line in answer.iter_lines():
            if line.startswith(":"):
                break
    client.post(f"/tasks/{id}/cancel")


def test_a_reader_that_does_not_read_is_let_go(serve: Serve, models: ScriptedModels) -> None:
    server = serve(settings=ServerSettings(port=0, write_seconds=0.2))
    models.reply = lambda prompt: ["x" * 1_000_000] * 40
    body = {"input": {"prompt": "a"}, "stream": True}

    with raw_request(server, "POST", "/workflows/runs", body) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        (run,) = _runs(server)
        assert run.wait(60)  # the run does not wait for its reader
        models.reply = lambda prompt: ["b"]  # which is taken in no time
        with Client(server) as other:
            assert other.run().status_code == 200  # nor do others
        for _ in range(600):
            if server.state.tasks.watchers == 0:
                break
            threading.Event().wait(0.05)
        assert server.state.tasks.watchers == 0


def test_those_who_are_far_behind_hold_nobody_up(host: LocalHost) -> None:
    """Neither memory nor the event loop: a batch a turn, of all of them together."""
    run = Run("a", {}, lambda: None)
    for number in range(20_000):
        run.add("text", {"stream": [0, 0, number, 0], "offset": 0, "text": "x"})
    task = Task(run, Terms(Tasks(host), Caller.GUEST))
    turns = 0

    async def watch() -> None:
        watchers = [run_events(task, Caller.GUEST, -1) for _ in range(50)]
        for _ in range(2):  # what comes first is no event
            await asyncio.gather(*(anext(each) for each in watchers))
        for each in watchers[1:]:
            await each.aclose()
        _, peak = tracemalloc.get_traced_memory()
        assert peak < 4 * 2**20  # a list of all of the events has 0.16

        assert turns >= 50
        tracemalloc.stop()
        run.add("state", {"state": "cancelled"})
        text = "".join([each async for each in watchers[0]])
        assert parse(text)[-1]["id"] == str(run.last_event)

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def both() -> None:
        counting = asyncio.create_task(count())
        await watch()
        counting.cancel()

    tracemalloc.start()
    try:
        asyncio.run(both())
    finally:
        tracemalloc.stop()


def _runs(server: Server) -> list[Any]:
    for _ in range(600):
        if runs := server.host.runs():
            return runs
        threading.Event().wait(0.05)
    raise AssertionError("no run was started")
