"""A real JupyterHub with its real proxy, as docs/jupyterhub.md configures it, and three users."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from typing import Any

import pytest
from openai import OpenAI
from standins.jupyterhub_process import JupyterHub, Notebook, commands, system_users
from standins.waiting import until

pytestmark = [
    pytest.mark.hub,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        commands() is None,
        reason="jupyterhub (PyPI) or configurable-http-proxy (npm) is not here",
    ),
]

USERS = ("ada", "ben", "cem")
LONG = """
from modelcompose_jupyter import load
story = load('''
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  min_output_length: 480
  seed: 1
workflow:
  title: Long
  repeat_count: 500
''')
"""
SERVED = "from modelcompose_jupyter import load\nstory = load('/FOLDER/model-compose.yml')\n"


@pytest.fixture(scope="module")
def hub() -> Iterator[JupyterHub]:
    names = ["model", *USERS]
    with system_users(names), JupyterHub(USERS, admin="tia", base="/lab/") as hub:
        with ThreadPoolExecutor() as pool:
            list(pool.map(hub.start_server, USERS))
        yield hub


@pytest.fixture(scope="module")
def notebooks(hub: JupyterHub) -> dict[str, Notebook]:
    return {user: hub.notebook(user) for user in USERS}


def tasks_of(hub: JupyterHub, user: str) -> list[dict[str, Any]]:
    """A user's tasks, the newest first, as the admin sees them."""
    with hub.client(hub.token_of(hub.admin)) as admin:
        return [each for each in admin.get("/tasks").json() if each["user"] == user]


def test_notebooks_attach_by_themselves(hub: JupyterHub, notebooks: dict[str, Notebook]) -> None:
    served = SERVED.replace("/FOLDER", str(hub.folder))
    own = LONG.replace("min_output_length: 480", "max_output_length: 20")
    own = own.replace("repeat_count: 500", "repeat_count: 2")
    show = """
import sys
from modelcompose_jupyter.host_selection import host_for
print(story(prompt="A fox"))
print(host_for(story.document))
print("torch" in sys.modules, story.last_run.usage["generated"] > 0)
"""
    for code in (served, own):
        said = notebooks["ada"].run(code + show).splitlines()
        assert said[1:] == [f"{hub.own_address}/api", "False True"]
    assert {each["status"] for each in tasks_of(hub, "ada")} == {"completed"}
    assert len(tasks_of(hub, "ada")) == 2


def test_what_the_service_does_not_offer_runs_in_the_user_s_own_server(
    hub: JupyterHub, notebooks: dict[str, Notebook]
) -> None:
    other = LONG.replace("  seed: 1", "  precision: bfloat16").replace("480", "20")
    said = notebooks["ben"].run(
        other.replace("repeat_count: 500", "repeat_count: 1")
        + "from modelcompose_jupyter.host_selection import host_for\n"
        "print(type(host_for(story.document)).__name__)"
    )
    assert said == "LocalHost\n"


def test_events_come_through_the_proxy_as_they_happen(hub: JupyterHub) -> None:
    token = hub.token_of("ben")
    body = {"input": {"prompt": "A fox"}, "seed": 1, "linger": 30}
    headers = {"Accept": "text/event-stream"}
    with hub.client(token) as client:
        with client.stream("POST", "/workflows/runs", json=body, headers=headers) as answer:
            run = answer.headers["x-task-id"]
            numbers: list[int] = []
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    numbers.append(int(line.removeprefix("id: ")))
                if line == "event: text":
                    break  # in the middle of the text
        events = {"Last-Event-ID": str(numbers[-1])}
        with client.stream("GET", f"/tasks/{run}/events", headers=events) as answer:
            rest = [line for line in answer.iter_lines() if line.startswith("id: ")]
        assert rest[0] == f"id: {numbers[-1] + 1}"
        assert client.get(f"/tasks/{run}").json()["status"] == "completed"


def test_openai_s_clients_work_behind_the_proxy(hub: JupyterHub) -> None:
    client = OpenAI(base_url=f"{hub.service}/v1", api_key=hub.token_of("cem"), max_retries=0)
    stream = client.completions.create(
        model="bundled:storyteller", prompt="A fox", max_tokens=5, stream=True
    )
    assert "".join(each.choices[0].text for each in stream)
    assert tasks_of(hub, "cem")[0]["workflow_id"] == "v1/completions"


def test_who_the_hub_does_not_let_in_stays_out(hub: JupyterHub) -> None:
    without = hub.token_of("ada", "read:users:name!user=ada")
    for token in ("", "nobody's", without):
        with hub.client(token or "-") as client:
            assert client.get("/workflows").status_code == 401


def test_users_see_their_own_runs_and_an_admin_who_runs_what(hub: JupyterHub) -> None:
    ada, ben, tia = (hub.client(hub.token_of(name)) for name in ("ada", "ben", "tia"))
    with ada, ben, tia:
        run = ada.post("/workflows/runs", json={"input": {"prompt": "A secret"}}).json()["task_id"]
        assert ben.get(f"/tasks/{run}").status_code == 404
        assert run not in {each["task_id"] for each in ben.get("/tasks").json()}
        listed = tia.get("/tasks")
        assert {"task_id": run, "user": "ada"}.items() <= listed.json()[0].items()
        assert "A secret" not in listed.text
        assert 'user="ada"' in tia.get("/metrics").text
        assert 'user="ada"' not in ada.get("/metrics").text


def test_people_log_in_at_the_page_and_an_admin_stops_runs_there(hub: JupyterHub) -> None:
    page = f"{hub.service}/"
    with hub.client(hub.token_of("ben")) as client, hub.browser("ben") as ben:
        text = LONG.split("'''")[1]
        key = client.post("/documents", json={"text": text, "name": "long", "folder": "/"}).json()
        body = {
            "document": key["key"],
            "input": {"prompt": "A secret"},
            "wait_for_completion": False,
        }
        run = client.post("/workflows/runs", json=body).json()["task_id"]
        mine = ben.get(page)
        assert (mine.status_code, str(mine.url)) == (200, page)
        assert "<h2>Your runs</h2>" in mine.text and run in mine.text
        with hub.browser(hub.admin) as tia:
            listed = tia.get(page).text
            assert "<h2>Runs of all users</h2>" in listed and "<td>ben</td>" in listed
            assert "secret" not in listed
            action = re.search(rf'action="(\S*/runs/{run}/stop\S*)"', listed)
            assert action is not None
            stopped = tia.post(f"http://127.0.0.1:{hub.port}{unescape(action[1])}")
            assert (stopped.status_code, str(stopped.url)) == (200, page)
        until(lambda: _status(client, run) == "cancelled")
        ben.get(f"{hub.url}/hub/logout")
        assert "/hub/login" in str(ben.get(page).url)


def test_one_who_floods_waits_and_others_do_not(
    hub: JupyterHub, notebooks: dict[str, Notebook]
) -> None:
    ben = hub.token_of("ben")
    with hub.client(ben) as client:
        body = {"input": {"prompt": "A flood"}, "wait_for_completion": False, "linger": 60}
        answers = [client.post("/workflows/runs", json=body) for _ in range(50)]
        refused = [each for each in answers if each.status_code == 429]
        begun = [each.json()["task_id"] for each in answers if each.status_code == 200]
        assert refused
        assert refused[0].headers["retry-after"] == "1"
        assert json.loads(refused[0].text)["error"]["code"] == "busy"
        notebooks["cem"].run(SERVED.replace("/FOLDER", str(hub.folder)) + "story(prompt='A fox')")
        left = [each for each in begun if _status(client, each) in ("pending", "processing")]
        assert left, "the flood is over before another user was served"
        for each in begun:
            client.post(f"/tasks/{each}/cancel?wait_for_completion=false")


def _status(client: Any, id: str) -> str:
    status: str = client.get(f"/tasks/{id}").json()["status"]
    return status


def test_the_runs_of_a_user_who_leaves_end(hub: JupyterHub, notebooks: dict[str, Notebook]) -> None:
    notebooks["cem"].run(LONG + "run = story.submit(prompt='A fox')")
    until(lambda: tasks_of(hub, "cem")[0]["status"] == "processing")
    hub.stop_server("cem")

    assert until(lambda: tasks_of(hub, "cem")[0]["status"] == "cancelled")


def test_a_user_s_page_runs_on_the_service(hub: JupyterHub, notebooks: dict[str, Notebook]) -> None:
    notebooks["ada"].run(f"import shutil; shutil.copy('{hub.folder}/model-compose.yml', '.')")
    headers = {"Authorization": f"token {hub.token_of('ada', 'access:servers!user=ada')}"}
    mine = f"{hub.url}/user/ada/modelcompose"
    page = hub.http.get(f"{mine}/pages/model-compose.yml", headers=headers)

    assert page.status_code == 200
    assert "Story" in page.text
    assert hub.http.get(f"{mine}/hosts", headers=headers).json() == []  # none is started for it


def test_a_terminal_of_a_user_s_runs_on_the_service(
    hub: JupyterHub, notebooks: dict[str, Notebook]
) -> None:
    before = len(tasks_of(hub, "ada"))
    command = f"model-compose run -f {hub.folder}/model-compose.yml --input prompt=Once"
    said = notebooks["ada"].run(
        f"import subprocess\nprint(subprocess.check_output({command!r}, shell=True, text=True))"
    )

    assert "generated" in said
    assert len(tasks_of(hub, "ada")) == before + 1
