"""Runs in replicas, as those who ask see them: like runs of any host."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import openai
import pytest
from standins.waiting import until

from modelcompose_jupyter import Workflow
from modelcompose_jupyter.document import RayRuntime, load_document
from modelcompose_jupyter.errors import ComposeError, InputError
from modelcompose_jupyter.server.client import RemoteHost
from modelcompose_jupyter.workflow import Run

from .conftest import LIMITS, LONG, NODES, Replicas

pytestmark = pytest.mark.ray


def of_plain(told):
    """What a reader of the events has at their end: the texts by stream, and the last state."""
    run = Run("w", {}, lambda: None)
    for number, kind, data in told:
        assert number > run.last_event
        run.take(event(number, kind, data))
    return run


def event(number, kind, data):
    from modelcompose_jupyter.workflow import Event

    return Event(number, kind, data.pop("time", 0.0), data)


def events(client, path, after=None, most=None, **options):
    """Number, type and data of a stream's events, the first ``most`` of them."""
    import json

    headers = {} if after is None else {"Last-Event-ID": str(after)}
    found, fields = [], {}
    with client.stream(
        "GET" if not options else "POST", path, headers=headers, **options
    ) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
                fields = {}
                if len(found) == most:
                    return found
    return found


@pytest.fixture
def client():
    """``client(server)``: one of its owner's."""
    made = []

    def make(server, token=None):
        headers = {"Authorization": f"Bearer {token or server.access.owner_token}"}
        made.append(httpx.Client(base_url=server.url, headers=headers, timeout=60, trust_env=False))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_text_is_that_of_one_host(host, story, solo):
    for seed in range(4):
        given = {"prompt": "Once upon a time", "tokens": 60, "texts": 2}
        run = host.submit(story, None, given, seed=seed)
        assert run.wait(60) and run.error is None
        alone = solo(story, given, seed)
        assert run.output == alone.output and run.streams == alone.streams
        assert (
            run.record["generations"][0]["parameters"]
            == (alone.record["generations"][0]["parameters"])
        )
        assert run.parameters["seed"] == seed and run.document == story.hash


def test_it_streams_and_is_read_over_http(host, story, serve, client, solo):
    caller = client(serve(host, story))
    given = {"prompt": "A fox", "tokens": 60}
    told = events(caller, "/workflows/runs", json={"input": given, "seed": 5, "stream": True})
    assert of_plain(told).text == solo(story, given, 5).text
    assert sum(kind == "text" for _, kind, _ in told) > 2
    whole = caller.post("/workflows/runs", json={"input": given, "seed": 5})
    assert whole.status_code == 200 and whole.json()["output"] == [solo(story, given, 5).text]


def test_wrong_inputs_are_refused_at_once_and_what_fails_there_says_why(host, story, serve, client):
    caller = client(serve(host, story))
    with pytest.raises(InputError, match="prompt"):
        host.submit(story, None, {})
    assert caller.post("/workflows/runs", json={"input": {"prompt": 1, "x": 2}}).status_code == 422
    missing = load_document("""
component: {type: model, task: text-generation, model: ./nowhere, text: "${input.prompt as text}"}
""")
    run = host.submit(missing, None, {"prompt": "a"})
    assert run.wait(60) and run.error.code not in ("internal", "replicas_lost")
    assert "nowhere" in run.error.message


def test_cancel_reaches_the_model(host, story, replicas):
    run = host.submit(story, None, {"prompt": "Once", **LONG}, seed=1)
    run.wait_for(lambda: len(run.text) > 200, 60)
    run.cancel()
    assert run.wait(20) and run.state == "cancelled" and run.finish_reason == "cancelled"
    assert run.usage["generated"] < 480 * 16  # what the model has told of it
    until(lambda: all(each.running == 0 for each in host.models()))


def test_a_run_that_is_nowhere_yet_can_be_stopped(host, story):
    runs = [host.submit(story, None, {"prompt": "Once", **LONG}, seed=1) for _ in range(3)]
    for run in runs:
        run.cancel()
    assert all(run.wait(20) and run.state == "cancelled" for run in runs)


def places(host, runs):
    return [host._followed[run.id].replica for run in runs]


def test_what_begins_alike_is_run_where_its_beginning_is_known(host, story, replicas):
    def runs_of(prompt):
        runs = [host.submit(story, None, {"prompt": prompt}, seed=seed) for seed in range(3)]
        assert all(run.wait(60) for run in runs)
        return places(host, runs)

    homes = {frozenset(runs_of(f"{number} little pigs")) for number in range(12)}
    assert all(len(home) == 1 for home in homes) and len(homes) > 1


def test_a_full_cluster_says_so_and_takes_what_has_room(application, address, story, serve, client):
    from modelcompose_jupyter.ray.cluster import deploy
    from modelcompose_jupyter.ray.ray_host import RayHost

    small = deploy("small", RayRuntime(min_replicas=2), {"max_runs": 2})
    host = RayHost(small)
    try:
        caller = client(serve(host, story))
        body = {"input": {"prompt": "a", **LONG}, "wait_for_completion": False}
        answers = [caller.post("/workflows/runs", json=body) for _ in range(6)]
        assert sorted(each.status_code for each in answers) == [200] * 4 + [429] * 2
        refused = next(each for each in answers if each.status_code == 429)
        assert refused.headers["Retry-After"] and refused.json()["error"]["code"] == "busy"
        for each in answers:
            if each.status_code == 200:
                caller.post(f"/tasks/{each.json()['task_id']}/cancel")
        assert caller.post("/workflows/runs", json={"input": {"prompt": "a"}}).status_code == 200
    finally:
        host.close(20)
    import ray

    assert "small" not in ray.serve.status().applications  # the last server takes it along


def test_events_resume_at_whichever_server_is_asked(hosts, story, serve, client, solo):
    first, second = (client(serve(host, story)) for host in (hosts(), hosts()))
    given = {"prompt": "Once", **LONG}
    body = {"input": given, "seed": 3, "wait_for_completion": False, "session_id": "mine"}
    id = first.post("/workflows/runs", json=body).json()["task_id"]
    seen = events(first, f"/tasks/{id}/events", most=30)
    rest = events(second, f"/tasks/{id}/events", after=seen[-1][0])
    assert of_plain([*seen, *rest]).streams == solo(story, given, 3).streams
    other = first.post("/workflows/runs", json=body).json()["task_id"]
    assert second.post(f"/tasks/{other}/cancel").json()["status"] == "cancelled"
    until(lambda: first.get(f"/tasks/{other}").json()["status"] == "cancelled")
    state = second.get(f"/tasks/{id}").json()
    assert state["status"] == "completed" and state["session_id"] == "mine"
    again = second.post("/workflows/runs", json={"rerun_of": id}).json()
    assert again["output"] == state["output"]
    assert second.get("/tasks/0123456789ab").status_code == 404


def test_guests_see_no_more_elsewhere_than_where_they_asked(hosts, story, serve, client):
    first, second = (serve(host, story) for host in (hosts(), hosts()))
    owner, guest = client(first), client(second, second.access.token)
    body = {"input": {"prompt": "a"}, "wait_for_completion": False}
    id = owner.post("/workflows/runs", json=body).json()["task_id"]
    assert guest.get(f"/tasks/{id}").status_code == 404
    assert client(second).get(f"/tasks/{id}").status_code == 200


def test_runs_go_on_from_others(host, story, solo):
    given = {"prompt": "Once upon a time", "tokens": 20}
    run = host.submit(story, None, given, seed=7, logprobs=2)
    assert run.wait(60) and run.finish_reason == "length"
    longer = host.extend(run.id, 20)
    assert longer.wait(60)
    assert longer.text == solo(story, {**given, "tokens": 40}, 7).text
    assert longer.usage["accepted_tokens"] == 20  # what there was is read
    other = run.tokens[0][5].alternatives[1].id
    branch = host.branch(run.id, 5, other)
    assert branch.wait(60) and branch.tokens[0][5].id == other
    assert [each.id for each in branch.tokens[0][:5]] == [each.id for each in run.tokens[0][:5]]
    again = host.rerun(run.id[:8])
    assert again.wait(60) and again.text == run.text
    assert host.own_runs()[0] is again and host.run(run.id) is run


def test_models_of_all_replicas_are_told_and_unloaded(host, story, replicas):
    runs = [host.submit(story, None, {"prompt": str(number)}) for number in range(40)]
    assert all(run.wait(60) for run in runs) and len({*places(host, runs)}) == NODES
    [model] = host.models()
    assert model.source == "bundled:storyteller" and model.state == "ready"
    assert model.memory_bytes > 6_000_000 * NODES
    assert host.memory().resident > 10**8 * NODES
    assert len(host.unload("bundled:storyteller")) == NODES
    assert host.models() == []
    with pytest.raises(ComposeError, match="nothing-like-it"):
        host.unload("nothing-like-it")


def test_clients_need_no_ray(host, story, serve):
    server = serve(host, story)
    remote = RemoteHost(server.url, server.access.owner_token)
    other = load_document({"component": {
        "type": "model", "task": "text-generation", "model": "bundled:storyteller",
        "text": "Once upon a time a ${input.who}", "max_output_length": 30,
    }})  # fmt: skip
    flow = Workflow(other, host=remote)
    texts = list(flow.map([{"who": who} for who in ("fox", "owl", "mouse")], progress=False))
    assert len(texts) == 3 and "".join(flow.start({"who": "fox"}, seed=1).stream())
    remote.close()
    client = openai.OpenAI(base_url=f"{server.origin}/v1", api_key=server.access.owner_token)
    said = client.completions.create(
        model="bundled:storyteller", prompt="Once", max_tokens=12, seed=1
    )
    assert said.usage.completion_tokens == 12
    client.close()


def test_a_document_that_is_changed_loses_no_run(host, story, serve, client, tmp_path):
    from modelcompose_jupyter.server.catalog import DocumentFile
    from modelcompose_jupyter.server.server import Server, ServerSettings

    path = tmp_path / "story.yml"
    text = """
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: "WHO ${input.prompt as text}"
  max_output_length: 480
workflow: {job: {repeat_count: 12}}
"""
    path.write_text(text.replace("WHO", "A fox"))
    server = Server(host, DocumentFile(path), settings=ServerSettings(port=0)).start()
    try:
        caller = client(server)
        body = {"input": {"prompt": "and"}, "wait_for_completion": False}
        id = caller.post("/workflows/runs", json=body).json()["task_id"]
        path.write_text(text.replace("WHO", "An old owl"))
        new = caller.post("/workflows/runs", json={"input": {"prompt": "and"}}).json()
        assert all(each.startswith("An old owl and") for each in new["output"])
        until(lambda: caller.get(f"/tasks/{id}").json()["status"] == "completed")
        old = caller.get(f"/tasks/{id}").json()["output"]
        assert len(old) == 12 and all(each.startswith("A fox and") for each in old)
    finally:
        server.close()


def test_many_at_once(host, story, solo):
    given = [{"prompt": f"Once upon a time a {who}"} for who in ("fox", "owl", "robot")]
    asked = [(each, seed) for each in given for seed in range(20)]
    runs = [host.submit(story, None, each, seed=seed) for each, seed in asked]
    for run, (each, seed) in zip(runs, asked, strict=True):
        assert run.wait(120) and run.text == solo(story, each, seed).text


def test_replicas_are_replaced_without_a_run_that_is_lost(address, story, solo):
    from modelcompose_jupyter.ray.cluster import deploy
    from modelcompose_jupyter.ray.ray_host import RayHost

    def scale(least, most, longest):
        runtime = RayRuntime(min_replicas=least, max_replicas=most)
        return deploy("changed", runtime, {"max_output_length": longest, "max_run_seconds": 300.0})

    host = RayHost(scale(1, 1, 480))
    try:
        given = {"prompt": "Once", **LONG}
        runs = [host.submit(story, None, given, seed=seed) for seed in range(3)]
        assert all(run.wait_for(lambda run=run: len(run.text) > 100, 60) for run in runs)
        scale(1, 2, 10)  # other limits are other replicas, and there may be more
        new = host.submit(story, None, {"prompt": "Once", "tokens": 40})
        assert new.wait(60) and new.usage["generated"] == 10
        for seed, run in enumerate(runs):
            assert run.wait(120) and run.streams == solo(story, given, seed).streams
            assert host._followed[run.id].epoch == 0
    finally:
        host.close(20)


SECRET = "sk-0123456789-very-secret"


def test_no_log_has_what_is_secret(host, serve, client, monkeypatch, address, solo):
    monkeypatch.setenv("STORY_TOKEN", SECRET)
    document = load_document("""
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  token: ${env.STORY_TOKEN}
  text: "${input.prompt as text}"
""")
    run = host.submit(document, None, {"prompt": "A prompt that is nobody's business"}, seed=1)
    assert run.wait(60) and run.error is None
    failing = load_document("""
component:
  type: model
  task: text-generation
  model: "./${env.STORY_TOKEN}"
  text: "${input.prompt as text}"
""")
    assert host.submit(failing, None, {"prompt": "x"}).wait(60)
    logs = [each for each in Path(os.environ["RAY_TMPDIR"]).rglob("*.*") if each.is_file()]
    assert len(logs) > 10
    for path in logs:
        content = path.read_bytes()
        assert SECRET.encode() not in content, path
        assert b"nobody's business" not in content, path


def test_replicas_come_where_there_is_much_to_do_and_go_again(address, story, solo, monkeypatch):
    from modelcompose_jupyter.ray import cluster
    from modelcompose_jupyter.ray.ray_host import RayHost

    eager = {"target_ongoing_requests": 4, "upscale_delay_s": 0.0, "downscale_delay_s": 0.0}
    monkeypatch.setattr(cluster, "_SCALING", eager | {"metrics_interval_s": 1.0})
    application = cluster.deploy("scaled", RayRuntime(min_replicas=1, max_replicas=2), LIMITS)
    host, found = RayHost(application), Replicas(application)
    try:
        given = {"prompt": "Once", **LONG}
        runs = []

        def are_two():  # while there is much to do
            if all(run.done for run in runs[-8:]):
                runs.extend(host.submit(story, None, given, seed=seed) for seed in range(8))
            return len(found.pids()) == 2

        until(are_two)
        until(lambda: len(found.pids()) == 1)
        for number, run in enumerate(runs):
            assert run.wait(240) and run.error is None
            assert run.streams == solo(story, given, number % 8).streams
        assert not host.begun_anew
    finally:
        host.close(20)
