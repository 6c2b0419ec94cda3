"""Users whom a JupyterHub knows: who they are, what is theirs, and what they may take."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from prometheus_client.parser import text_string_to_metric_families
from standins.hub_api import ACCESS, HubApi
from standins.scripted import ScriptedModels
from standins.waiting import until

from modelcompose_jupyter import (
    ComposeError,
    LocalHost,
    RemoteHost,
    host_selection,
    load,
    redaction,
)
from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.errors import UsageError
from modelcompose_jupyter.server import identities
from modelcompose_jupyter.server.access import Access, Caller
from modelcompose_jupyter.server.jupyterhub import HubService, HubUsers
from modelcompose_jupyter.server.server import Server, ServerSettings

from .conftest import STORY, Client, Serve, held, raw_request
from .test_api import error_of

ENVIRONMENT = {
    "JUPYTERHUB_API_URL": "http://127.0.0.1:8081/hub/api",
    "JUPYTERHUB_SERVICE_NAME": "model",
    "JUPYTERHUB_SERVICE_PREFIX": "/services/model/",
    "JUPYTERHUB_SERVICE_URL": "http://127.0.0.1:10101",
    "JUPYTERHUB_OAUTH_ACCESS_SCOPES": json.dumps(["access:services", ACCESS]),
}
OWN = """
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: "Mine: ${input.prompt as text}"
"""


@pytest.fixture
def hub() -> Iterator[HubApi]:
    api = HubApi()
    yield api
    with contextlib.suppress(OSError):
        api.close()


@pytest.fixture
def service(serve: Serve, hub: HubApi) -> Server:
    """A server of the Hub's users, below the service's prefix."""
    return serve(
        access=Access("127.0.0.1", identities=HubUsers(hub.service)),
        settings=ServerSettings(port=0, root_path="/services/model/", user_documents=True),
    )


ClientOf = Callable[..., Client]


@pytest.fixture
def client_of(service: Server, hub: HubApi) -> Iterator[ClientOf]:
    """Clients of users, by their names: ``client_of("ada", admin=True)``."""
    with contextlib.ExitStack() as stack:
        yield lambda name, **facts: stack.enter_context(Client(service, hub.add(name, **facts)))


def begin(client: Client, prompt: str = "a", /, **body: Any) -> str:
    """Begin a run, which nobody waits for; its id."""
    answer = client.run(prompt, wait_for_completion=False, **body)
    assert answer.status_code == 200, answer.text
    id: str = answer.json()["task_id"]
    return id


def ended(client: Client, id: str) -> Any:
    """A task's state when it has ended."""
    states = ("completed", "failed", "cancelled")
    return until(lambda: (s := client.get(f"/tasks/{id}").json())["status"] in states and s)


# Who they are


def test_a_user_is_known_by_their_token(service: Server, hub: HubApi) -> None:
    with Client(service) as client:
        for scheme in ("Bearer", "token"):
            client.headers["Authorization"] = f"{scheme} {hub.add('ada')}"
            assert client.run("a").json()["user"] == "ada"


@pytest.mark.parametrize("token", [None, "nobody's", "unlawful", "tökén", "a b"])
def test_who_is_nobody_does_not_come_in(service: Server, hub: HubApi, token: str | None) -> None:
    hub.owners["unlawful"] = {**hub.owners[hub.add("eve")], "scopes": ["read:users:name!user=eve"]}
    given = b"" if token is None else b"Bearer " + token.encode()
    with Client(service) as client:
        answer = client.post(
            "/workflows/runs", json={"input": {"prompt": "a"}}, headers={"Authorization": given}
        )
        assert f"has the scope {ACCESS}" in error_of(answer, 401)["hint"]
        assert client.get("/health").status_code == 200

    assert service.host.runs() == []


def test_the_owner_and_those_with_its_own_token_come_in_without_the_hub(
    serve: Serve, hub: HubApi
) -> None:
    users = HubUsers(hub.service)
    server = serve(access=Access("127.0.0.1", "own token", identities=users))
    hub.close()
    for token in (server.access.owner_token, "own token"):
        with Client(server, token) as client:
            assert "user" not in client.run("a").json()


def test_a_service_of_the_hub_is_a_user_by_another_name(service: Server, hub: HubApi) -> None:
    token = hub.add("ada", kind="service")
    with Client(service, token) as client:
        assert client.run("a").json()["user"] == "service/ada"


def test_any_name_of_the_proxy_is_taken(client_of: ClientOf) -> None:
    headers = {"Host": "hub.example.org", "Origin": "https://hub.example.org"}
    answer = client_of("ada").post(
        "/workflows/runs", json={"input": {"prompt": "a"}}, headers=headers
    )
    assert answer.status_code == 200


def test_the_hub_is_asked_now_and_then(service: Server, hub: HubApi) -> None:
    token = hub.add("ada")
    hub.gate.clear()  # all of these ask while it answers the first
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(
                raw_request(service, "GET", "/tasks", headers=f"Authorization: Bearer {token}\r\n")
            )
        until(lambda: hub.asked)
        hub.gate.set()
    with Client(service, token) as client:
        assert [client.get("/tasks").status_code for _ in range(5)] == [200] * 5

    assert hub.asked == [token]


def test_who_is_known_goes_on_while_the_hub_does_not_answer(
    service: Server, hub: HubApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, ben = hub.add("ada"), hub.add("ben")
    with Client(service, ada) as client:
        assert client.get("/tasks").status_code == 200
        monkeypatch.setattr(identities, "FRESH_SECONDS", 0.0)
        hub.status = 503
        assert client.run("a").status_code == 200
        hub.close()
        assert client.run("a").status_code == 200
        monkeypatch.setattr(identities, "KNOWN_SECONDS", 0.0)
        error_of(client.run("a"), 503)
    with Client(service, ben) as client:
        answer = client.run("a")

    assert error_of(answer, 503)["code"] == "overloaded"
    assert answer.headers["retry-after"] == "2"


def test_who_is_let_in_no_more_stays_out(
    service: Server, hub: HubApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = hub.add("ada")
    with Client(service, token) as client:
        assert client.get("/tasks").status_code == 200
        monkeypatch.setattr(identities, "FRESH_SECONDS", 0.0)
        del hub.owners[token]
        error_of(client.get("/tasks"), 401)
        hub.close()
        error_of(client.get("/tasks"), 401)  # and is not taken for who they were


@pytest.mark.parametrize(
    "answer",
    [[], "ada", {}, {"name": 1, "kind": "user", "scopes": [ACCESS]}, {"name": "a", "scopes": None}],
)
def test_an_answer_that_is_none_lets_nobody_in(service: Server, hub: HubApi, answer: Any) -> None:
    hub.owners["strange"] = answer
    with Client(service, "strange") as client:
        error_of(client.get("/tasks"), 503)


def test_few_of_very_many_tokens_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "_KEPT", 10)

    async def ask(token: str) -> Caller | None:
        return Caller(user=token)

    async def look() -> int:
        known = identities.RememberedIdentities(ask)
        for number in range(50):
            assert await known.caller(str(number)) == Caller(user=str(number))
        return len(known._known)

    assert asyncio.run(look()) == 10


def test_what_the_hub_tells_a_service() -> None:
    service = HubService.of_environment(ENVIRONMENT)

    assert service.prefix == "/services/model"
    assert service.address == ("127.0.0.1", 10101)
    assert service.scopes == ("access:services", ACCESS)
    del (without := dict(ENVIRONMENT))["JUPYTERHUB_OAUTH_ACCESS_SCOPES"]
    assert HubService.of_environment(without).scopes == service.scopes


@pytest.mark.parametrize("missing", ["API_URL", "SERVICE_NAME", "SERVICE_PREFIX", "SERVICE_URL"])
def test_what_the_hub_does_not_tell_is_said(missing: str) -> None:
    environment = {key: value for key, value in ENVIRONMENT.items() if not key.endswith(missing)}
    with pytest.raises(UsageError, match=f"JUPYTERHUB_{missing} is not set"):
        HubService.of_environment(environment)


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "http://127.0.0.1", "unix+http://%2Fa", ""])
def test_a_url_that_cannot_be_listened_at_is_said(url: str) -> None:
    environment = {**ENVIRONMENT, "JUPYTERHUB_SERVICE_URL": url}
    with pytest.raises(UsageError, match="listen"):
        _ = HubService.of_environment(environment).address


# Paths


def test_all_paths_begin_with_the_service_s(service: Server, hub: HubApi) -> None:
    assert service.url == f"{service.origin}/services/model/api"
    token = hub.add("ada")
    api = OpenAI(base_url=f"{service.origin}/services/model/v1", api_key=token, max_retries=0)
    assert [each.id for each in api.models.list()] == ["bundled:storyteller"]
    with Client(service, token) as client:
        paths = client.get("/openapi.json").json()["paths"]
        assert client.get(f"{service.origin}/v1/models").status_code == 404

    assert all(path.startswith("/services/model/") for path in paths)
    assert {"/services/model/api/tasks", "/services/model/v1/models"} <= paths.keys()


# What is theirs


def test_users_see_their_own_runs_and_no_others(client_of: ClientOf) -> None:
    ada, ben = client_of("ada"), client_of("ben")
    run = ada.run("a", session_id="s").json()["task_id"]

    assert ada.get(f"/tasks/{run}").json()["output"] == {"generated": "<a>"}
    assert [each["task_id"] for each in ada.get("/tasks").json()] == [run]
    assert ben.get("/tasks").json() == ben.get("/tasks?session_id=s").json() == []
    for answer in (
        ben.get(f"/tasks/{run}"),
        ben.get(f"/tasks/{run}/events"),
        ben.post(f"/tasks/{run}/cancel"),
        ben.post("/workflows/runs", json={"rerun_of": run}),
        ben.post("/workflows/runs", json={"extension_of": run}),
    ):
        assert error_of(answer, 404)["code"] == "unknown_run"


def test_an_admin_sees_who_runs_what_and_stops_it(
    client_of: ClientOf, service: Server, models: ScriptedModels
) -> None:
    held(models, "secret")
    ada, tia = client_of("ada"), client_of("tia", admin=True)
    own = service.host.submit(load_document(STORY), None, {"prompt": "the owner's"})
    run = begin(ada, "secret")
    models.started.acquire()
    listed = tia.get("/tasks?include_output=true")

    assert [(each["task_id"], each["user"]) for each in listed.json()] == [(run, "ada")]
    assert "secret" not in listed.text
    error_of(tia.get(f"/tasks/{run}"), 404)
    error_of(tia.get(f"/tasks/{run}/events"), 404)
    stopped = tia.post(f"/tasks/{run}/cancel")
    assert stopped.json()["status"] == "cancelled"
    assert "secret" not in stopped.text
    error_of(tia.post(f"/tasks/{own.id}/cancel"), 404)
    assert ada.get(f"/tasks/{run}").json()["status"] == "cancelled"


def test_metrics_tell_who_runs_what_to_whom_it_concerns(
    client_of: ClientOf, service: Server, models: ScriptedModels
) -> None:
    held(models, "stands")
    ada, tia = client_of("ada"), client_of("tia", admin=True)
    ada.run("a")
    begin(ada, "stands")
    models.started.acquire()
    with Client(service, service.access.owner_token) as owner:
        for client in (tia, owner):
            samples = {
                (sample.name, *map(sample.labels.get, ("user", "state", "kind"))): sample.value
                for family in text_string_to_metric_families(client.get("/metrics").text)
                for sample in family.samples
            }
            assert samples["modelcompose_user_runs_total", "ada", "completed", None] == 1
            assert samples["modelcompose_user_runs_in_flight", "ada", "running", None] == 1
            assert ("modelcompose_user_tokens_total", "ada", None, "generated") in samples
    assert "ada" not in ada.get("/metrics").text


def test_the_log_says_who_asked(client_of: ClientOf, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "modelcompose_jupyter.server")
    client_of("ada").run("a")
    until(lambda: [e for e in caplog.records if e.getMessage() == "request"])
    facts = [vars(e)["facts"] for e in caplog.records if e.getMessage() == "request"]

    assert [(each["caller"], each["user"]) for each in facts] == [("user", "ada")]


# What they may take


def test_a_user_s_runs_wait_for_each_other_and_for_nobody_else_s(
    client_of: ClientOf, service: Server, models: ScriptedModels
) -> None:
    service.host.limit(max_user_running=2)
    held(models, "a", "b", "c", "d")
    ada, ben = client_of("ada"), client_of("ben")
    ids = [begin(ada, prompt) for prompt in ("a", "b", "c")]
    for _ in range(2):
        models.started.acquire()
    other = begin(ben, "d")
    models.started.acquire()
    waiting = service.host.run(ids[2])
    ahead = [event.data["ahead"] for event in waiting.events_so_far() if event.type == "progress"]

    assert sorted(models.prompts) == ["a", "b", "d"]
    assert ada.get(f"/tasks/{ids[2]}").json()["status"] == "pending"
    assert ahead == [1]
    models.gate.set()
    assert {ended(ada, id)["status"] for id in ids} == {"completed"}
    assert ended(ben, other)["status"] == "completed"


def test_a_run_that_waits_for_its_user_s_others_can_be_stopped_and_ends_in_time(
    client_of: ClientOf, service: Server, models: ScriptedModels
) -> None:
    service.host.limit(max_user_running=1)
    held(models, "a")
    ada = client_of("ada")
    first = begin(ada, "a")
    models.started.acquire()
    second = begin(ada, "b")
    assert ada.post(f"/tasks/{second}/cancel").json()["status"] == "cancelled"
    service.host.limit(max_run_seconds=0.05)
    late = ended(ada, begin(ada, "c"))
    assert late["error"]["code"] == "timeout"
    service.host.limit(max_run_seconds=None)
    fourth = begin(ada, "d")
    models.gate.set()

    assert ended(ada, first)["status"] == ended(ada, fourth)["status"] == "completed"
    assert models.prompts == ["a", "d"]


def test_who_has_many_runs_waits_and_others_do_not(
    client_of: ClientOf, service: Server, models: ScriptedModels
) -> None:
    service.host.limit(max_user_runs=2)
    held(models, "a")
    ada, ben = client_of("ada"), client_of("ben")
    runs = [begin(ada) for _ in range(2)]
    answer = ada.run("a")

    assert error_of(answer, 429)["message"].startswith("2 of your runs have not ended")
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["error"]["retry_after"] == 1
    assert ben.run("b").status_code == 200
    ada.post(f"/tasks/{runs[0]}/cancel")
    assert ada.run("b").status_code == 200


def test_who_has_had_their_tokens_waits_and_others_do_not(
    client_of: ClientOf, service: Server
) -> None:
    usage = client_of("eve").run("a").json()["usage"]
    taken = usage["prompt"] - usage["reused"] + usage["generated"]
    assert taken > 1
    service.host.limit(max_user_tokens=taken)
    ada, ben = client_of("ada"), client_of("ben")
    assert ada.run("a").status_code == 200
    answer = ada.run("a")

    assert "tokens of a minute" in error_of(answer, 429)["message"]
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert ben.run("a").status_code == 200
    service.host.limit(max_user_tokens=None)
    assert ada.run("a").status_code == 200


def test_a_minute_gives_back_what_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    from modelcompose_jupyter.user_limits import UserLimits

    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    limits = UserLimits()
    limits.tokens_per_minute = 60

    def run(tokens: int) -> None:
        limits.begin("ada")
        limits.end("ada", {"prompt": tokens, "reused": 0, "generated": 0})

    def refusal() -> ComposeError:
        with pytest.raises(ComposeError) as caught:
            limits.begin("ada")
        assert caught.value.code == "busy"
        return caught.value

    run(59)
    run(61)  # who has one left may begin
    assert refusal().retry_after == 61
    now[0] += 60
    assert refusal().retry_after == 1
    now[0] += 1
    run(60)
    limits.begin("ben")
    now[0] += 3600
    run(59)
    run(1)
    assert refusal().retry_after == 1
    now[0] += 3600
    run(0)
    assert list(limits._accounts) == ["ben"]  # nothing is kept of who owes nothing


def test_texts_that_are_given_cost_what_had_to_be_read_of_them() -> None:
    from modelcompose_jupyter.user_limits import UserLimits

    limits = UserLimits()
    limits.tokens_per_minute = 1000

    def run(**usage: int) -> None:
        limits.begin("ada")
        limits.end("ada", usage)

    run(prompt=10, reused=0, generated=0, given=400)  # a score
    run(prompt=10, reused=395, generated=590, given=400)  # a branch of what is in memory
    with pytest.raises(ComposeError) as caught:
        limits.begin("ada")

    assert caught.value.retry_after == pytest.approx(0.06 * (410 + 15 + 590 - 1000 + 1), abs=0.05)


def test_users_take_turns_at_a_component(serve: Serve, hub: HubApi, models: ScriptedModels) -> None:
    one = STORY.replace("  type: model\n", "  type: model\n  max_concurrent_count: 1\n")
    server = serve(one, access=Access("127.0.0.1", identities=HubUsers(hub.service)))
    held(models, "stands")
    with Client(server, hub.add("ada")) as ada, Client(server, hub.add("ben")) as ben:
        first = begin(ada, "stands")
        models.started.acquire()
        flood = [begin(ada, f"ada {n}") for n in range(5)]
        others = [begin(ben, f"ben {n}") for n in range(2)]
        until(lambda: server.host.run(others[-1]).state == "running")
        models.gate.set()
        for client, ids in ((ada, [first, *flood]), (ben, others)):
            assert {ended(client, id)["status"] for id in ids} == {"completed"}

    assert models.prompts[:5] == ["stands", "ada 0", "ben 0", "ada 1", "ben 1"]


def test_a_user_s_requests_leave_room_for_those_of_others(
    serve: Serve, hub: HubApi, models: ScriptedModels
) -> None:
    server = serve(
        access=Access("127.0.0.1", identities=HubUsers(hub.service)),
        settings=ServerSettings(port=0, max_user_requests=3),
    )
    held(models, "stands")
    ada, ben = hub.add("ada"), hub.add("ben")
    header = f"Authorization: Bearer {ada}\r\n"
    body = {"input": {"prompt": "stands"}, "stream": True}
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(raw_request(server, "POST", "/workflows/runs", body, header))
            models.started.acquire()
        with Client(server, ada) as client:
            assert error_of(client.get("/tasks"), 503)["code"] == "overloaded"
        with Client(server, ben) as client:
            assert client.get("/tasks").status_code == 200
    with Client(server, ada) as client:  # they have left
        until(lambda: client.get("/tasks").status_code == 200)


# Documents of their own


def brought(client: Client, text: str, **more: Any) -> Any:
    body = {"text": text, "name": "mine", "folder": "/home/ada", **more}
    return client.post("/documents", json=body)


def test_a_user_runs_own_documents_on_the_models_that_are_served(client_of: ClientOf) -> None:
    ada, ben = client_of("ada"), client_of("ben")
    key = brought(ada, OWN).json()["key"]

    assert ada.get(f"/documents/{key}").json() == {"key": key, "served": False}
    assert ada.run("a", document=key).json()["output"] == {"generated": "<Mine: a>"}
    error_of(ben.get(f"/documents/{key}"), 404)
    assert error_of(ben.run("a", document=key), 404)["code"] == "unknown_document"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"text": OWN.replace("bundled:storyteller", "./model")}, "none of the models here"),
        ({"text": OWN.replace("storyteller", "other")}, "none of the models here"),
        ({"text": OWN + "  precision: float32\n"}, "none of the models here"),
        ({"text": OWN + "  cache_budget: 8GB\n"}, "none of the models here"),
        ({"text": OWN + "  trust_remote_code: true\n"}, "none of the models here"),
        ({"text": OWN.replace("bundled:storyteller", "${input.model}")}, "an input says"),
        ({"text": OWN + "  token: hf_abcdefghijkl\n"}, "a token"),
        ({"text": OWN, "environment": {"HOME": "/"}}, "environment variables"),
    ],
)
def test_what_takes_more_than_a_model_that_is_served_runs_elsewhere(
    client_of: ClientOf, change: dict[str, Any], reason: str
) -> None:
    answer = brought(client_of("ada"), **change)

    error = error_of(answer, 403)
    assert error["code"] == "forbidden"
    assert reason in error["message"]


def test_functions_of_a_user_are_not_called_here(client_of: ClientOf) -> None:
    answer = brought(
        client_of("ada"),
        "components:\n  - {id: f, type: function, function: 'os:getcwd'}\n"
        "workflow:\n  component: f\n  output: ${output}\n",
    )
    assert "no model" in error_of(answer, 403)["message"]


def test_no_file_of_this_computer_is_read_for_a_user(client_of: ClientOf, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jinja"
    secret.write_text("{{ 'top secret' }}")
    text = f"""
component:
  type: model
  task: chat-completion
  model: bundled:storyteller
  chat_template: {secret}
  messages: [{{role: user, content: hello}}]
"""
    ada = client_of("ada")
    for folder in (str(tmp_path), "/"):
        answer = brought(ada, text, folder=folder)
        assert "did not come with the document" in error_of(answer, 422)["message"]
        assert "top secret" not in answer.text
    with_it = brought(ada, text, files={str(secret): "{{ 'mine' }}"})
    assert with_it.status_code == 200, with_it.text


def test_what_other_documents_call_is_looked_at_too(client_of: ClientOf, tmp_path: Path) -> None:
    text = """
components:
  - {id: other, type: workflow, file: ./other.yml}
workflow: {component: other}
"""
    function = """
component: {type: function, function: "os:getcwd"}
workflow: {output: "${output}"}
"""
    ada = client_of("ada")
    (tmp_path / "other.yml").write_text(OWN, "utf-8")
    assert "did not come" in error_of(brought(ada, text, folder=str(tmp_path)), 422)["message"]
    error_of(brought(ada, text, files={"./other.yml": function}), 403)
    error_of(brought(ada, text, files={"./other.yml": OWN + "  precision: float32\n"}), 403)
    assert brought(ada, text, files={"./other.yml": OWN}).status_code == 200


def test_a_user_s_document_makes_no_secret_of_the_owner_s_forgotten(client_of: ClientOf) -> None:
    known = list(redaction._secrets)
    error_of(brought(client_of("ada"), OWN + "  token: story_of_2026\n"), 403)
    assert [each for each in redaction._secrets if each not in known] == []


def test_users_bring_nothing_where_nobody_allows_it(serve: Serve, hub: HubApi) -> None:
    server = serve(access=Access("127.0.0.1", identities=HubUsers(hub.service)))
    with Client(server, hub.add("ada")) as ada:
        assert "--user-documents" in error_of(brought(ada, OWN), 403)["hint"]
        key = load_document(STORY).key
        assert ada.get(f"/documents/{key}").json() == {"key": key, "served": True}
        assert ada.run("a", document=key).status_code == 200


def test_guests_bring_nothing(serve: Serve) -> None:
    server = serve(settings=ServerSettings(port=0, user_documents=True))
    with Client(server) as guest:
        error_of(brought(guest, OWN), 403)
        error_of(guest.get(f"/documents/{load_document(STORY).key}"), 403)


# Their notebooks


@pytest.fixture
def notebook(service: Server, hub: HubApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """This process as a notebook of ada's, in a server of the Hub; gives the service's URL."""
    monkeypatch.setenv("MODELCOMPOSE_HUB_SERVICE", service.url)
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", hub.add("ada"))
    # The server of another user is not in this one's runtime folder.
    assert service.server_info is not None
    service.server_info.withdraw()
    yield service.url
    for host in host_selection.in_use():
        if isinstance(host, RemoteHost):
            host.close()
    monkeypatch.setattr(host_selection, "_service", None)
    host_selection._chosen.clear()


def test_notebooks_attach_to_the_service(notebook: str, service: Server) -> None:
    for text, output in ((STORY, {"generated": "<a>"}), (OWN, {"generated": "<Mine: a>"})):
        workflow = load(text)
        run = workflow.run(prompt="a")
        assert run.output == output
        host = host_selection.host_for(workflow.document)
        assert isinstance(host, RemoteHost)
        assert host.url == notebook
        assert not host_selection.runs_here(workflow.document)
        endpoint = host_selection.served_at(workflow.document, workflow.id)
        assert endpoint is not None
        assert (endpoint.url, endpoint.token) == (notebook, "JUPYTERHUB_API_TOKEN")
        assert host.run(run.id).output == output


def test_what_the_service_does_not_take_runs_here(notebook: str) -> None:
    document = load(OWN + "  precision: float32\n").document

    assert host_selection.runs_here(document)
    assert isinstance(host_selection.host_for(document), LocalHost)


def test_a_service_that_begins_anew_is_told_again(
    notebook: str, service: Server, serve: Serve, hub: HubApi
) -> None:
    workflow = load(OWN)
    workflow(prompt="a")
    service.close()
    settings = replace(service.settings, port=service.port)
    again = serve(access=Access("127.0.0.1", identities=HubUsers(hub.service)), settings=settings)
    assert again.server_info is not None
    again.server_info.withdraw()

    assert workflow(prompt="b") == {"generated": "<Mine: b>"}


def test_a_service_that_is_gone_is_said_and_nothing_is_loaded_here(
    notebook: str, service: Server
) -> None:
    service.close()
    with pytest.raises(ComposeError, match="does not answer") as caught:
        load(STORY)(prompt="a")
    assert caught.value.code == "host_gone"


def test_a_user_who_may_not_come_in_is_told(notebook: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "another")
    with pytest.raises(ComposeError, match="does not let you in"):
        load(STORY)(prompt="a")


def test_a_map_waits_as_long_as_the_host_says(
    notebook: str, service: Server, models: ScriptedModels
) -> None:
    service.host.limit(max_user_runs=2, max_user_running=1)

    rows = [{"prompt": str(n)} for n in range(6)]
    assert list(load(STORY).map(rows)) == [{"generated": f"<{n}>"} for n in range(6)]
