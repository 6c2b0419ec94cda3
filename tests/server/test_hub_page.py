"""The page of a JupyterHub's service: who sees what there, and who stops what."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from html import unescape
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from standins.hub_api import HubApi
from standins.scripted import ScriptedModels
from standins.waiting import until

from modelcompose_jupyter.errors import UsageError
from modelcompose_jupyter.server import serving_kernel
from modelcompose_jupyter.server.access import Access
from modelcompose_jupyter.server.jupyterhub import HubUsers
from modelcompose_jupyter.server.server import Server, ServerSettings

from .conftest import Client, Serve, held
from .test_users import OWN, begin, brought

pytest.importorskip("jupyterhub")

PAGE = "/services/model/"


@pytest.fixture
def hub() -> Iterator[HubApi]:
    api = HubApi()
    yield api
    with contextlib.suppress(OSError):
        api.close()


@pytest.fixture
def service(serve: Serve, hub: HubApi, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server of the Hub's users, as its kernel starts it."""
    for name, value in hub.environment.items():
        monkeypatch.setenv(name, value)
    return serve(
        access=Access("127.0.0.1", identities=HubUsers(hub.service)),
        settings=ServerSettings(port=0, root_path=PAGE, user_documents=True),
        pages=serving_kernel._hub_pages(hub.service),
    )


Visit = Callable[..., httpx.Client]


@pytest.fixture
def visit(service: Server, hub: HubApi) -> Iterator[Visit]:
    """Browsers of users who have logged in, by their names: ``visit("ada", admin=True)``."""

    def visit(name: str, **facts: bool) -> httpx.Client:
        browser = stack.enter_context(httpx.Client(base_url=service.origin, trust_env=False))
        state = parse_qs(urlsplit(browser.get(PAGE).headers["location"]).query)["state"][0]
        given = {"code": hub.add(name, **facts), "state": state}
        back = browser.get(f"{PAGE}oauth_callback", params=given)
        assert (back.status_code, back.headers["location"]) == (302, PAGE)
        return browser

    with contextlib.ExitStack() as stack:
        yield visit


def token_of(browser: httpx.Client) -> str:
    """A user's token for the API: the one that logging in has given."""
    signed = browser.cookies["service-model"].strip('"').split("|")
    return base64.b64decode(signed[4].partition(":")[2]).decode()


def actions(browser: httpx.Client) -> list[str]:
    """Where the page's forms are sent."""
    return list(map(unescape, re.findall(r'<form method="post" action="(.*?)"', shown(browser))))


def shown(browser: httpx.Client) -> str:
    answer = browser.get(PAGE)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    return answer.text


def test_who_is_not_logged_in_is_sent_to_the_hub(service: Server) -> None:
    with httpx.Client(base_url=service.origin, trust_env=False) as browser:
        for path in (PAGE, PAGE.rstrip("/")):
            answer = browser.get(path)
            to = urlsplit(answer.headers["location"])
            asked = parse_qs(to.query)
            assert (answer.status_code, to.path) == (302, "/hub/api/oauth2/authorize")
            assert asked["client_id"] == ["service-model"]
            assert asked["redirect_uri"] == [f"{PAGE}oauth_callback"]
        stopped = browser.post(f"{PAGE}runs/a/stop")
    assert stopped.status_code == 401
    assert "Open this page again" in stopped.text


@pytest.mark.parametrize("given", ["code=a", "code=a&state=another", "state=a", "error=no", ""])
def test_a_login_that_nobody_began_is_none(service: Server, given: str) -> None:
    with httpx.Client(base_url=service.origin, trust_env=False) as browser:
        browser.get(PAGE)
        answer = browser.get(f"{PAGE}oauth_callback?{given}")
    assert answer.status_code >= 400
    assert "<h1>The request cannot be understood</h1>" in answer.text
    assert "service-model" not in browser.cookies


def test_logins_that_never_end_are_few_and_small(
    service: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelcompose_jupyter.server import hub_login

    monkeypatch.setattr(hub_login, "_LOGINS", 3)
    oauth = hub_login._BoundedOAuth()
    states = [oauth.generate_state(f"/{number}") for number in range(5)]
    assert [oauth.get_next_url(each) for each in states] == [PAGE, PAGE, "/2", "/3", "/4"]
    kept: list[str] = []
    generate = hub_login._BoundedOAuth.generate_state
    monkeypatch.setattr(
        hub_login._BoundedOAuth,
        "generate_state",
        lambda self, next_url, **more: kept.append(next_url) or generate(self, next_url, **more),
    )
    with httpx.Client(base_url=service.origin, trust_env=False) as browser:
        assert browser.get(f"{PAGE}?long={'a' * 9000}").status_code == 302
    assert kept == [PAGE]


def test_who_the_hub_does_not_let_in_sees_nothing(service: Server, hub: HubApi) -> None:
    stranger = hub.add("eve", "read:users:name!user=eve")
    with httpx.Client(base_url=service.origin, trust_env=False) as browser:
        answer = browser.get(PAGE, headers={"Authorization": f"token {stranger}"})
    assert answer.status_code == 302


def test_a_user_sees_what_is_served_and_their_own_runs(visit: Visit, service: Server) -> None:
    ada, ben = visit("ada"), visit("ben")
    with Client(service, ada_token := token_of(ada)) as client:
        run = client.run("a secret").json()["task_id"]
        key = brought(client, OWN).json()["key"]
        client.run("b", document=key)
    page = shown(ada)

    assert "<b>ada</b>" in page
    assert "<h2>Your runs</h2>" in page
    assert f"<code>{run}</code></td><td>Story</td>" in page
    assert "<td>a document of yours</td>" in page
    assert "secret" not in page and ada_token not in page
    assert run not in shown(ben)
    assert "<td>bundled:storyteller</td>" in page
    assert f"curl {service.origin}/services/model/api/workflows/runs" in page
    assert "model: bundled:storyteller\n" in page
    assert '<a href="/hub/token">' in page
    assert "<h2>Users</h2>" not in page


def test_the_page_is_in_the_language_that_the_browser_asks_for(
    visit: Visit, service: Server, hub: HubApi
) -> None:
    tia = visit("Stop", admin=True)
    tia.headers["Accept-Language"] = "ko-KR,ko;q=0.9,en;q=0.8"
    with Client(service, token_of(tia)) as client:
        client.run("a")
    page = shown(tia)
    assert '<html lang="ko">' in page
    assert "<p>이 JupyterHub의 서비스입니다. 로그인한 사용자: <b>Stop</b></p>" in page
    assert "<h2>모든 사용자의 실행</h2>" in page
    assert "<td>Stop</td><td>Story</td>" in page, "names stay"
    assert '<span data-state="completed">완료</span>' in page
    assert '<a href="/hub/token">Token</a>' in page
    english = set(
        re.findall(
            r"[A-Za-z]+ [a-z]+ [a-z]+",
            re.sub(r"<(pre|style|script).*?</\1>|<[^>]*>", "", page, flags=re.S),
        )
    )
    assert english == set()
    hub.close()
    tia.cookies.set("jupyterhub-session-id", "another")
    answer = tia.get(PAGE)
    assert answer.status_code == 503
    assert "<h1>JupyterHub가 응답하지 않습니다</h1>" in answer.text
    assert "페이지로 돌아가기" in answer.text


def test_an_admin_sees_who_runs_what_and_stops_it(
    visit: Visit, service: Server, models: ScriptedModels
) -> None:
    ada, tia = visit("ada"), visit("tia", admin=True)
    with Client(service, token_of(ada)) as client:
        client.run("before")
        held(models, "secret")
        run = begin(client, "secret")
        models.started.acquire()
        page = shown(tia)
        assert "<h2>Runs of all users</h2>" in page
        assert f"<code>{run}</code></td><td>ada</td><td>Story</td>" in page
        assert re.search(r"<td>ada</td><td>1</td><td>1</td><td>\d+</td><td>\d+</td>", page)
        assert "secret" not in page
        (action,) = actions(tia)
        answer = tia.post(action, headers={"Origin": service.origin})
        assert (answer.status_code, answer.headers["location"]) == (303, PAGE)
        assert until(lambda: client.get(f"/tasks/{run}").json()["status"] == "cancelled")
    assert actions(tia) == []


def test_runs_are_stopped_by_their_user_s_own_forms_alone(
    visit: Visit, service: Server, models: ScriptedModels
) -> None:
    held(models, "a", "b", "c")
    ada, ben = visit("ada"), visit("ben")
    with Client(service, token_of(ada)) as client:
        run = begin(client, "a")
        begun = begin(client, "b")
        with Client(service, token_of(ben)) as other:
            own = begin(other, "c")
        first, second = actions(ada)
        bare = first.partition("?")[0]
        (ben_s,) = actions(ben)
        answers = {
            "without a form": ada.post(bare),
            "a form of somebody's": ada.post(f"{bare}?_xsrf=ab"),
            "a form of another user's": ada.post(ben_s.replace(own, begun)),
            "from elsewhere": ada.post(first, headers={"Origin": "https://example.org"}),
            "another's run": ben.post(ben_s.replace(own, run)),
        }
        statuses = {what: answer.status_code for what, answer in answers.items()}
        assert list(statuses.values()) == [401, 401, 401, 403, 404], statuses
        assert {e["status"] for e in client.get("/tasks").json()} <= {"processing", "pending"}
        assert ada.post(first).status_code == ada.post(second).status_code == 303
    models.gate.set()


def test_cookies_open_the_page_and_not_the_api(visit: Visit) -> None:
    ada = visit("ada")
    assert ada.get(f"{PAGE}api/tasks").status_code == 401
    cookies = {each.name: each for each in ada.cookies.jar}
    assert cookies["service-model"].path == PAGE
    assert cookies["service-model"].has_nonstandard_attr("HttpOnly")


def test_names_are_no_markup_and_nothing_else_is_loaded(visit: Visit, service: Server) -> None:
    eve = visit("<script>eve", admin=True)
    with Client(service, token_of(eve)) as client:
        client.run("a")
    answer = eve.get(PAGE)
    policy = answer.headers["content-security-policy"]

    assert "<script>eve" not in answer.text
    assert answer.text.count("&lt;script&gt;eve") >= 3
    assert "unsafe" not in policy and policy.startswith("default-src 'none'")
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", answer.text)


def test_what_strangers_send_is_not_read(service: Server) -> None:
    for method, path in (("POST", "runs/a/stop"), ("GET", "oauth_callback"), ("GET", "")):
        head = (
            f"{method} {PAGE}{path} HTTP/1.1\r\nHost: {service.origin.removeprefix('http://')}\r\n"
        )
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
            connection.sendall(f"{head}Content-Length: 99999999999\r\n\r\n".encode())
            said = connection.recv(65536).decode()
            assert re.match(r"HTTP/1.1 (400|401|302) ", said), said
            assert "Connection: close" in said


def test_a_hub_that_does_not_answer_is_said(visit: Visit, hub: HubApi) -> None:
    ada = visit("ada")
    ada.cookies.set("jupyterhub-session-id", "another")  # so that it is asked again
    hub.close()
    answer = ada.get(PAGE)

    assert answer.status_code == 503
    assert "<h1>The JupyterHub does not answer</h1>" in answer.text


def test_who_logs_out_at_the_hub_logs_out_here(visit: Visit, hub: HubApi) -> None:
    ada = visit("ada")
    shown(ada)
    hub.owners.clear()
    ada.cookies.set("jupyterhub-session-id", "another")
    assert ada.get(PAGE).status_code == 302


def test_jupyterhub_is_imported_for_the_page_alone(
    hub: HubApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys, modelcompose_jupyter.server.serving_kernel; print('jupyterhub' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"
    monkeypatch.delenv("JUPYTERHUB_CLIENT_ID", raising=False)
    with pytest.raises(UsageError, match="JUPYTERHUB_CLIENT_ID is not set"):
        serving_kernel._hub_pages(hub.service)
    monkeypatch.setitem(sys.modules, "modelcompose_jupyter.server.hub_login", None)
    with pytest.raises(UsageError, match="JupyterHub is not installed"):
        serving_kernel._hub_pages(hub.service)
