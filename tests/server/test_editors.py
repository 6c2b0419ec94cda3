"""What a Jupyter server tells editors, and the pages of documents that it has."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from standins.processes import python_path
from standins.waiting import until

from .conftest import STORY
from .test_extension import Jupyter, Start, error_of, runtime, start

__all__ = ["runtime", "start"]  # fixtures

VOILA = "--ServerApp.jpserver_extensions={'voila.server_extension': True}"
NAVIGATES = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
WRONG = STORY.replace("task:", "tsk:")


@pytest.fixture(scope="module")
def running(start: Start) -> Jupyter:
    return start("/user/ann/", VOILA)


@pytest.fixture
def jupyter(running: Jupyter) -> Iterator[Jupyter]:
    (running.root / "work").mkdir(exist_ok=True)
    (running.root / "work" / "story.yml").write_text(STORY)
    yield running
    running.end_all()


def test_problems_are_told_with_their_places(jupyter: Jupyter) -> None:
    (problem,) = jupyter.post("ask", {"question": "check", "text": WRONG}).json()[:1]
    assert WRONG[problem["from"] : problem["to"]] == "tsk"
    assert problem["severity"] == "error" and "Did you mean 'task'?" in problem["hint"]
    assert jupyter.post("ask", {"question": "check", "text": STORY}).json() == []


def test_relative_models_are_beside_the_file(jupyter: Jupyter) -> None:
    """A folder is asked for by where the file is among the server's files."""
    asked = {"question": "check", "text": STORY, "path": "work/story.yml"}
    assert jupyter.post("ask", asked).json() == []
    for path in ("nowhere.yml", "../../etc/passwd", "work"):
        assert jupyter.post("ask", {**asked, "path": path}).status_code == 200


def test_many_large_questions_are_answered_or_refused(jupyter: Jupyter) -> None:
    """One after another, beside the loop, which answers others meanwhile."""
    text = "workflow:\n  jobs:\n" + "    - {id: a, in: b}\n" * 800
    large = {"question": "check", "text": text}
    with ThreadPoolExecutor(50) as pool:
        answers = [pool.submit(jupyter.post, "ask", large) for _ in range(50)]
        while not all(each.done() for each in answers):
            assert jupyter.get("hosts").json() == []
    statuses = {each.result().status_code for each in answers}
    assert statuses == {200, 429}
    busy = next(each.result() for each in answers if each.result().status_code == 429)
    assert busy.json()["error"]["code"] == "busy"


def test_the_newest_question_about_a_file_is_answered(jupyter: Jupyter) -> None:
    asked = {"question": "check", "text": WRONG + "  bad: 1\n" * 2000, "path": "work/story.yml"}
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: jupyter.post("ask", asked), range(20)))
    assert {each.status_code for each in answers} == {200, 409}
    overtaken = next(each for each in answers if each.status_code == 409)
    assert overtaken.json()["error"]["code"] == "overtaken"
    cells = {**asked, "path": "work/book.ipynb"}  # of which there are many
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: jupyter.post("ask", cells), range(5)))
    assert {each.status_code for each in answers} == {200}


def test_a_question_that_is_too_large_is_refused(jupyter: Jupyter) -> None:
    answer = jupyter.post("ask", {"question": "check", "text": "x" * 9_000_000})
    assert error_of(answer, 413)["code"] == "too_large"


def test_what_may_stand_there_is_told(jupyter: Jupyter) -> None:
    text = "component:\n  mod"
    asked = {"question": "complete", "text": text, "cursor": len(text)}
    answer = jupyter.post("ask", asked).json()
    assert answer["start"] == len(text) - len("mod")
    assert "model: " in [each["text"] for each in answer["items"]]


def test_a_document_as_curl_is_where_it_is_served(jupyter: Jupyter) -> None:
    asked = {"question": "curl", "text": STORY, "path": "work/story.yml", "root": "https://hub/m"}
    assert "http://localhost:8080/api/workflows/runs" in jupyter.post("ask", asked).json()
    host = jupyter.post("hosts", {"path": "work/story.yml"}).json()
    command = jupyter.post("ask", asked).json()
    assert f"https://hub/m/hosts/{host['id']}/workflows/runs" in command
    assert "Bearer $JUPYTER_TOKEN" in command
    error = error_of(jupyter.post("ask", {"question": "curl", "text": WRONG}), 422)
    assert error["code"] == "invalid_document"


@pytest.mark.parametrize(
    "asked", [{}, {"question": "dance", "text": ""}, {"question": "check"}, {"question": 1}]
)
def test_what_is_no_question_is_refused(jupyter: Jupyter, asked: dict[str, object]) -> None:
    error_of(jupyter.post("ask", asked), 400)


@pytest.mark.parametrize(("method", "path"), [("POST", "ask"), ("GET", "pages/work/story.yml")])
def test_only_users_are_answered(jupyter: Jupyter, method: str, path: str) -> None:
    answer = httpx.request(method, f"{jupyter.base}modelcompose/{path}", trust_env=False)
    assert answer.status_code in (302, 403)
    assert jupyter.api("kernels") == []


def test_a_page_is_that_of_its_document_on_one_host(jupyter: Jupyter) -> None:
    page = jupyter.get("pages/work/story.yml")
    assert page.status_code == 200
    assert "modelcompose-page" in page.text or "application/vnd.jupyter.widget-view" in page.text
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'")
    (host,) = jupyter.hosts
    assert host["document"] == "work/story.yml"
    assert jupyter.get("pages/work/story.yml").status_code == 200
    assert [each["id"] for each in jupyter.hosts] == [host["id"]]


def test_a_page_says_what_is_wrong_with_its_document(jupyter: Jupyter) -> None:
    (jupyter.root / "work" / "wrong.yml").write_text(WRONG)
    assert jupyter.get("pages/work/wrong.yml").status_code == 200
    assert jupyter.hosts == []


@pytest.mark.parametrize(
    ("path", "status"), [("nothing.yml", 404), ("work", 422), ("../story.yml", 404)]
)
def test_a_page_is_of_a_file(jupyter: Jupyter, path: str, status: int) -> None:
    url = f"{jupyter.base}modelcompose/pages/{path.replace('..', '%2e%2e')}"
    assert jupyter.client.get(url).status_code == status
    assert jupyter.api("kernels") == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
        },
    ],
)
def test_no_page_of_another_origin_starts_kernels(
    jupyter: Jupyter, headers: dict[str, str]
) -> None:
    answer = jupyter.get("pages/work/story.yml", headers=headers)
    assert answer.status_code == 403
    assert jupyter.api("kernels") == []


def test_the_kernel_of_a_page_that_nobody_opens_ends(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "impatient.py").write_text(
        "import modelcompose_jupyter.extension.page as page\n"
        "page.DocumentPageHandler.connect_seconds = 0.1\n"
        "_load_jupyter_server_extension = lambda app: None\n"
        "_jupyter_server_extension_points = lambda: [{'module': 'impatient'}]\n"
    )
    both = "{'voila.server_extension': True, 'impatient': True}"
    jupyter = start(
        "/", f"--ServerApp.jpserver_extensions={both}", PYTHONPATH=python_path(tmp_path)
    )
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(jupyter.runtime))
    (jupyter.root / "story.yml").write_text(STORY)
    assert jupyter.get("pages/story.yml").status_code == 200
    (host,) = jupyter.hosts
    until(lambda: [each["id"] for each in jupyter.api("kernels")] == [host["kernel_id"]])
