"""Metrics as Prometheus reads them: its own parser looks at what the server gives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from standins.scripted import ScriptedModels

from modelcompose_jupyter import LocalHost
from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.server.access import Access
from modelcompose_jupyter.server.metrics import Metrics
from modelcompose_jupyter.server.server import ServerSettings

from .conftest import MANY, STORY, Client, Serve, raw_request


@pytest.fixture
def real_host() -> Iterator[LocalHost]:
    """A host with the bundled model."""
    host = LocalHost()
    yield host
    host.close()


class Samples:
    """What a server's metrics say."""

    def __init__(self, client: Client) -> None:
        answer = client.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        self.families = list(text_string_to_metric_families(answer.text))

    def __call__(self, name: str, /, **labels: str) -> float | None:
        """The value of a sample; None where there is none."""
        found = [
            sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == f"modelcompose_{name}" and sample.labels == labels
        ]
        assert len(found) < 2
        return found[0] if found else None

    def labels(self, name: str, label: str) -> set[str]:
        return {
            sample.labels[label]
            for family in self.families
            for sample in family.samples
            if sample.name == f"modelcompose_{name}"
        }


def test_runs_tokens_and_times_of_a_real_model(serve: Serve, real_host: LocalHost) -> None:
    server = serve(on=real_host)
    with Client(server) as client:
        first = client.run("Once upon a time", seed=1).json()
        client.run("Once upon a time", seed=2)
        samples = Samples(client)

    workflow = first["workflow_id"]
    assert samples("runs_total", workflow=workflow, state="completed") == 2
    runs = [real_host.run(run.id) for run in real_host.runs()]
    for kind in ("prompt", "reused", "generated"):
        assert samples("tokens_total", kind=kind) == sum(run.usage[kind] for run in runs)
    for name in ("queue", "first_token", "token", "run"):
        assert samples(f"{name}_seconds_count") == 2
    assert samples("first_token_seconds_sum") == pytest.approx(
        sum(run.timings["first_token"] for run in runs)
    )
    assert samples("model_load_seconds_count") == 1  # the second one found it there
    [model] = real_host.models()
    assert samples("model_memory_bytes", model=model.id) == model.memory_bytes
    assert samples("model_leases", model=model.id) == 0
    assert samples("model_requests", model=model.id, state="queued") == 0
    assert (samples("process_memory_bytes", kind="resident") or 0) > 2**20
    assert samples("runs_in_flight", state="running") == 0
    assert samples.labels("process_memory_bytes", "kind") >= {"resident"}


def test_runs_that_fail_or_are_stopped_and_those_that_go_on(
    serve: Serve, real_host: LocalHost
) -> None:
    server = serve(STORY.replace("bundled:storyteller", "bundled:none"), on=real_host)
    with Client(server) as client:
        failed = client.run("a").json()
        samples = Samples(client)

    assert samples("runs_total", workflow=failed["workflow_id"], state="failed") == 1
    assert samples("queue_seconds_count") == 0
    assert samples("run_seconds_count") == 1


class Measured(ScriptedModels):
    """Scripted models that tell what memory there is."""

    def memory(self) -> object:
        from modelcompose_jupyter.models import memory

        return memory.use()


@pytest.fixture
def models() -> ScriptedModels:
    return Measured()


def test_runs_in_flight_and_stopped(serve: Serve, models: ScriptedModels, host: LocalHost) -> None:
    models.hold = ("a",)
    with Client(serve()) as client:
        task = client.run("a", wait_for_completion=False).json()
        assert models.started.acquire(timeout=30)
        going = Samples(client)
        client.post(f"/tasks/{task['task_id']}/cancel")
        after = Samples(client)

    assert going("runs_in_flight", state="running") == 1
    assert after("runs_in_flight", state="running") == 0
    assert after("runs_total", workflow=task["workflow_id"], state="cancelled") == 1


def test_requests_are_counted_by_route_not_by_path(serve: Serve, host: LocalHost) -> None:
    with Client(serve(MANY)) as client:
        task = client.run("a").json()["task_id"]
        client.get(f"/tasks/{task}")
        client.get("/tasks/nobody")
        client.get("/such/a/path")
        # The server may end the connection with it, which a client can see too late.
        client.request("BREW", "/health", headers={"Connection": "close"})
        host.limit(max_runs=0)
        assert client.run("a").status_code == 429
        samples = Samples(client)

    def count(route: str, method: str, status: int) -> float | None:
        return samples("http_requests_total", route=route, method=method, status=str(status))

    assert count("/api/workflows/runs", "POST", 200) == 1
    assert count("/api/workflows/runs", "POST", 429) == 1
    assert count("/api/tasks/{task_id}", "GET", 200) == 1
    assert count("/api/tasks/{task_id}", "GET", 404) == 1
    assert count("other", "GET", 404) == 1
    assert samples("rejected_total") == 1
    assert samples("http_request_seconds_count", route="/api/workflows/runs", method="POST") == 2
    assert samples.labels("http_requests_total", "method") <= {"GET", "POST", "other"}


def test_a_client_that_left_has_a_status_of_its_own(
    serve: Serve, models: ScriptedModels, host: LocalHost
) -> None:
    models.hold = ("a",)
    server = serve(settings=ServerSettings(port=0, base_path="/base"))
    body = {"input": {"prompt": "a"}, "stream": True}
    with raw_request(server, "POST", "/workflows/runs", body):
        assert models.started.acquire(timeout=30)
    [run] = host.runs()
    assert run.wait(30)

    with Client(server) as client:
        samples = Samples(client)

    assert samples(
        "http_requests_total", route="/base/workflows/runs", method="POST", status="499"
    ) == 1  # fmt: skip


def test_runs_of_others_than_callers_count_too_until_the_server_ends(
    serve: Serve, host: LocalHost
) -> None:
    server = serve()
    host.submit(load_document(STORY), input={"prompt": "a"}).result(30)
    with Client(server) as client:
        assert Samples(client)("run_seconds_count") == 1
    server.close()

    host.submit(load_document(STORY), input={"prompt": "a"}).result(30)

    assert "modelcompose_run_seconds_count 1.0" in server.state.metrics.text()


def test_the_workflows_that_are_told_apart_are_few(host: LocalHost) -> None:
    metrics = Metrics(host)
    run = host.submit(load_document(STORY), input={"prompt": "a"})
    run.result(30)
    for number in range(1000):
        run.workflow = f'flow "{number}"\n'
        metrics.run_ended(run, 1.0)

    families = {each.name: each for each in text_string_to_metric_families(metrics.text())}
    labels = {sample.labels["workflow"] for sample in families["modelcompose_runs"].samples}
    assert len(labels) == 101
    assert "other" in labels and 'flow "0"\n' in labels


def test_where_a_token_is_set_the_metrics_need_it(serve: Serve) -> None:
    server = serve(access=Access("127.0.0.1", token="secret"))
    with Client(server) as nobody, Client(server, "secret") as guest:
        assert nobody.get("/metrics").status_code == 401
        assert guest.get("/metrics").status_code == 200
