"""How many rows are in flight: as many as the host says that it can take, at each moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from standins.scripted import ScriptedModels
from standins.waiting import until

from modelcompose_jupyter import ComposeError, LocalHost, RemoteHost, load
from modelcompose_jupyter.callable import Workflow
from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.mapping import flight
from modelcompose_jupyter.models import MOST_SEQUENCES
from modelcompose_jupyter.server import client as client_module
from modelcompose_jupyter.server.catalog import Catalog
from modelcompose_jupyter.server.server import Server, ServerSettings

from .conftest import BODY

ROWS = [str(number) for number in range(40)]


def test_a_process_takes_as_many_as_a_model_computes_together_of_what_it_may(
    host: LocalHost,
) -> None:
    assert host.capacity() == MOST_SEQUENCES
    host.limit(max_runs=5)
    assert host.capacity() == 5
    host.limit(max_runs=1000)
    assert host.capacity() == MOST_SEQUENCES


def in_background(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    outputs: list[Any] = []
    thread = threading.Thread(target=lambda: outputs.append(work()))
    thread.start()
    return thread, outputs


def test_rows_in_flight_follow_what_the_host_can_take(
    flow: Workflow, models: ScriptedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = 3
    monkeypatch.setattr(flow.host, "capacity", lambda: places)
    models.hold = tuple(ROWS)
    thread, outputs = in_background(lambda: flow.map(ROWS, progress=False))

    def begun(count: int) -> None:
        for _ in range(count):
            assert models.started.acquire(timeout=30)
        assert len(models.prompts) == places

    begun(3)
    places = 9  # replicas have come
    begun(6)
    models.gate.set()
    thread.join(60)
    assert outputs == [[{"generated": f"<{row}>"} for row in ROWS]]


def test_a_host_that_has_no_room_is_asked_again_when_it_says(
    flow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = flow.host
    submit, refusals = host.submit, ["busy"] * 3 + ["overloaded"]
    pauses: list[float] = []

    def busy(*given: Any, **options: Any) -> Any:
        if refusals:
            error = ComposeError("no room", code=refusals.pop())
            error.retry_after = None if refusals else 0.001
            raise error
        return submit(*given, **options)

    pause = flight._pause
    monkeypatch.setattr(flight, "_pause", lambda error: pauses.append(pause(error)) or 0)
    monkeypatch.setattr(host, "submit", busy)
    assert flow.map(ROWS, progress=False) == [{"generated": f"<{row}>"} for row in ROWS]
    assert pauses == [0.1, 0.1, 0.1, 0.001]
    far = ComposeError("no room", code="busy")
    far.retry_after = 1e9
    assert pause(far) == 30


def served(host: LocalHost) -> Server:
    catalog = Catalog.of(load_document(BODY))
    return Server(host, lambda: catalog, None, ServerSettings(port=0)).start()


def test_another_process_says_what_it_can_take_and_rows_wait_there_for_room(
    host: LocalHost, models: ScriptedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_CAPACITY_SECONDS", 0.0)
    server = served(host)
    remote = RemoteHost(server.url, server.access.owner_token)
    try:
        until(lambda: remote.capacity() == MOST_SEQUENCES)
        host.limit(max_runs=2)
        until(lambda: remote.capacity() == 2)
        # Somebody else has both places, then half of them.
        models.hold = ("theirs",)
        theirs = [host.submit(load(BODY).document, None, {"prompt": "theirs"}) for _ in range(2)]
        flow = load(BODY, host=remote)
        refused = threading.Event()
        pause = flight._pause

        def noted(error: ComposeError) -> float:
            refused.set()
            assert error.retry_after == 1
            return min(0.01, pause(error))

        monkeypatch.setattr(flight, "_pause", noted)
        thread, outputs = in_background(lambda: flow.map(ROWS[:6], progress=False))
        assert refused.wait(30)
        assert not outputs
        theirs[0].cancel()
        thread.join(60)
        assert outputs == [[{"generated": f"<{row}>"} for row in ROWS[:6]]]
        theirs[1].cancel()
    finally:
        remote.close()
        server.close()
    assert remote.capacity() == 2  # as it said last
