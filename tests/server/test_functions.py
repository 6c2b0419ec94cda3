"""Functions as steps where several processes have a part: a server that has them, one that was sent
a document, another host that has the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import LocalHost, load
from modelcompose_jupyter.errors import InputError
from modelcompose_jupyter.host_selection import HOST_VARIABLE
from modelcompose_jupyter.server.catalog import Catalog, DocumentFile, Served
from modelcompose_jupyter.server.client import RemoteHost
from modelcompose_jupyter.server.remote_models import FunctionHost
from modelcompose_jupyter.server.server import Server
from modelcompose_jupyter.workflow import Run

from .conftest import Client, Serve

STEPS = """\
def shout(text: str, times: int = 1) -> str:
    return text.upper() + "!" * times


def fail(text: str) -> str:
    raise ValueError(f"no {text}")
"""
DOCUMENT = """\
component: {type: function, function: "steps:shout"}
"""
OF_THE_NOTEBOOK = """\
component: {type: function, function: shout}
"""
MIXED = """\
components:
  - id: story
    type: model
    task: text-generation
    model: bundled:storyteller
    text: ${input.prompt}
    include_prompt: false
    max_output_length: 12
  - {id: tidy, type: function, function: tidy}
workflow:
  jobs:
    - {id: prompt, component: tidy, input: {text: "${input.prompt}"}}
    - {id: story, component: story, input: {prompt: "${jobs.prompt.output}"}, repeat_count: 3}
    - {id: end, component: tidy, input: {text: "${jobs.story.output[0]}"}}
"""


def shout(text: str, times: int = 1) -> str:
    """Say it loudly.

    Args:
        text: What to say.
    """
    return text.upper() + "!" * times


def tidy(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def served_file(tmp_path: Path, serve: Serve) -> Server:
    (tmp_path / "steps.py").write_text(STEPS)
    (tmp_path / "model-compose.yml").write_text(DOCUMENT)
    return serve(catalog=DocumentFile(tmp_path / "model-compose.yml"))


# Whose functions run


def test_a_guest_runs_the_functions_of_the_served_file(served_file: Server) -> None:
    with Client(served_file) as guest:
        answer = guest.post("/workflows/runs", json={"input": {"text": "hi", "times": "2"}})
        inputs = guest.get("/workflows/__workflow__/schema").json()["input"]
    assert answer.json()["output"] == "HI!!"
    assert [(each["name"], each["type"], each["required"]) for each in inputs] == [
        ("text", "text", True),
        ("times", "integer", False),
    ]


def test_the_functions_of_a_served_file_follow_its_module(
    served_file: Server, tmp_path: Path
) -> None:
    (tmp_path / "steps.py").write_text("def shout(word: str) -> str:\n    return word + '?'\n")
    with Client(served_file) as guest:
        inputs = guest.get("/workflows/__workflow__/schema").json()["input"]
        answer = guest.post("/workflows/runs", json={"input": {"word": "hi"}})
    assert [each["name"] for each in inputs] == ["word"]
    assert answer.json()["output"] == "hi?"


def test_guests_are_not_told_of_code(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(STEPS)
    (tmp_path / "model-compose.yml").write_text(DOCUMENT.replace("shout", "fail"))
    server = serve(catalog=DocumentFile(tmp_path / "model-compose.yml"))
    with Client(server) as guest, Client(server, server.access.owner_token) as owner:
        for client in (guest, owner):
            answer = client.post("/workflows/runs", json={"input": {"text": "hi"}})
            assert answer.status_code == 500
            error = answer.json()["error"]
            assert (error["code"], error["message"]) == (
                "function_failed",
                "steps:fail: ValueError: no hi",
            )
            assert ("traceback" in error) == (client is owner)
            events = client.get(f"/tasks/{answer.json()['task_id']}/events").text
            assert (str(tmp_path) in events, "raise ValueError" in events) == (
                (True, True) if client is owner else (False, False)
            )


def test_guests_see_no_folder_in_what_a_failure_gives(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(
        "def fail():\n    raise ValueError('no /srv/of jane/keys.txt')\n"
    )
    (tmp_path / "model-compose.yml").write_text(
        DOCUMENT.replace("shout", "fail")
        + 'workflow: {on_error: {output: ["${error.message}", "${error}"]}}\n'
    )
    server = serve(catalog=DocumentFile(tmp_path / "model-compose.yml"))
    with Client(server) as guest, Client(server, server.access.owner_token) as owner:
        for client, name in ((guest, "…/keys.txt"), (owner, "/srv/of jane/keys.txt")):
            message = f"steps:fail: ValueError: no {name}"
            output = client.post("/workflows/runs", json={}).json()["output"]
            assert output == [message, {"code": "function_failed", "message": message}]


@pytest.mark.parametrize("function", ["steps:shout", "shout", "os:getcwd"])
def test_a_document_that_is_sent_runs_no_function(
    served_file: Server, tmp_path: Path, function: str
) -> None:
    document = {
        "text": DOCUMENT.replace("steps:shout", function) + "# mine\n",
        "name": "mine.yml",
        "folder": str(tmp_path / "elsewhere"),
    }
    with Client(served_file, served_file.access.owner_token) as owner:
        key = owner.post("/documents", json=document).json()["key"]
        answer = owner.post("/workflows/runs", json={"document": key, "input": {"text": "hi"}})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "functions_not_run"
    assert f"calls the function '{function}'" in answer.json()["error"]["message"]


def test_a_notebook_serves_its_functions_with_its_workflows(serve: Serve) -> None:
    flow = load(OF_THE_NOTEBOOK, functions=[shout])
    served = Served(flow.document, flow.document.workflow(), flow.functions)
    server = serve(catalog=lambda: Catalog({"shout": served}))
    with Client(server) as guest:
        assert guest.post("/workflows/runs", json={"input": {"text": "a"}}).json()["output"] == "A!"
        again = guest.post("/workflows/runs", json={"input": {"text": 5}}).json()
        wrong = guest.post("/workflows/runs", json={"input": {"txt": "a"}})
    assert again["output"] == "5!"
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "unknown_input")


def test_a_file_whose_module_is_broken_is_not_served(tmp_path: Path) -> None:
    (tmp_path / "model-compose.yml").write_text(DOCUMENT)
    (tmp_path / "steps.py").write_text("def shout(:\n")
    with pytest.raises(InputError, match="the module 'steps' cannot be imported: SyntaxError"):
        DocumentFile(tmp_path / "model-compose.yml")


# Where another process has the model


@pytest.fixture
def remote(serve: Serve, real_host: LocalHost) -> Iterator[RemoteHost]:
    server = serve(on=real_host)
    host = RemoteHost(server.url, server.access.owner_token)
    yield host
    host.close()


def told(run: Run) -> Any:
    """What does not depend on where a run's models are."""
    record = run.record
    generations = [
        {key: each[key] for key in ("stream", "texts", "parameters", "finish_reasons", "model")}
        for each in record["generations"]
    ]
    return (
        run.output,
        run.streams,
        run.finish_reasons,
        [run.usage[key] for key in ("prompt", "generated")],
        generations,
        [(name, each["state"]) for name, each in run.jobs.items()],
    )


def test_a_run_on_another_hosts_model_is_the_run_here(
    remote: RemoteHost, real_host: LocalHost
) -> None:
    here = load(MIXED, functions=[tidy], host=real_host)
    there = load(MIXED, functions=[tidy], host=remote)
    assert isinstance(there.host, FunctionHost)
    runs = [each.start({"prompt": "Once   upon a time"}, seed=7) for each in (here, there)]
    assert all(run.wait(90) for run in runs)
    assert told(runs[1]) == told(runs[0])
    assert [run.id for run in there.host.own_runs()] == [runs[1].id]
    assert remote.own_runs() == []
    assert not there.host._cache.list()


CHAT = """\
components:
  - id: chat
    type: model
    task: chat-completion
    model: bundled:storyteller
    messages: ${input.messages}
    tools: [find]
    tool_choice: required
    parallel_tool_calls: false
    max_output_length: 40
  - {id: tidy, type: function, function: tidy}
workflow:
  jobs:
    - {id: question, component: tidy, input: {text: "${input.question}"}}
    - {id: chat, component: chat, input: {messages: "${jobs.question.output}"}}
"""


def find(place: Literal["forest", "sea"]) -> str:
    return f"a fox in {place}"


def test_tools_are_called_here_though_the_model_is_elsewhere(
    remote: RemoteHost, real_host: LocalHost
) -> None:
    runs = [
        load(CHAT, functions=[tidy, find], host=host).start({"question": "Where?"}, seed=3)
        for host in (real_host, remote)
    ]
    assert all(run.wait(90) for run in runs)
    assert told(runs[1]) == told(runs[0])
    calls = [
        [{key: value for key, value in call.items() if key != "seconds"} for call in run.tool_calls]
        for run in runs
    ]
    assert calls[1] == calls[0]
    assert [call["state"] for call in calls[0]] == ["completed"]
    assert runs[1].messages == runs[0].messages
    assert runs[1].written_calls == runs[0].written_calls


def test_tokens_and_what_goes_on_are_those_of_a_run_here(
    remote: RemoteHost, real_host: LocalHost
) -> None:
    found = []
    for host in (real_host, remote):
        flow = load(MIXED, functions=[tidy], host=host)
        run = flow.start({"prompt": "Once upon a time"}, seed=7, logprobs=2)
        assert run.wait(90)
        longer = flow.extend(run, 5)
        assert longer.wait(90)
        found.append((run.tokens, run.extendable_by, told(longer), longer.tokens))
    assert found[1] == found[0]
    assert any(found[0][0])


def test_a_cancel_reaches_the_model_elsewhere(remote: RemoteHost, real_host: LocalHost) -> None:
    text = MIXED.replace("max_output_length: 12", "min_output_length: 900").replace(
        "repeat_count: 3", "repeat_count: 1"
    )
    run = load(text, functions=[tidy], host=remote).start({"prompt": "Once upon a time"}, seed=7)
    assert run.wait_for(lambda: len(run.text) > 20, 90)
    (part,) = [each for each in real_host.runs() if each.metadata == {"part_of": run.id}]
    run.cancel()
    assert run.wait(90) and part.wait(90)
    assert (run.state, part.state) == ("cancelled", "cancelled")
    assert run.finish_reason == "cancelled"
    assert run.text and part.text == run.text
    assert run.jobs["story"]["state"] == "cancelled"


def test_what_is_wrong_elsewhere_has_its_place_here(remote: RemoteHost) -> None:
    text = MIXED.replace("bundled:storyteller", "./nowhere")
    run = load(text, functions=[tidy], host=remote).run(prompt="a")
    assert run.error is not None and run.error.where is not None
    assert (run.error.code, run.error.where.line) == ("model_not_found", 5)
    text = MIXED.replace("max_output_length: 12", "max_output_length: ${input.most}").replace(
        'input: {prompt: "', 'input: {most: "${input.most}", prompt: "'
    )
    run = load(text, functions=[tidy], host=remote).start({"prompt": "a", "most": "-1"})
    assert run.wait(90)
    assert run.error is not None and run.error.where is not None
    assert (run.error.code, run.error.where.line) == ("invalid_input", 8)


def test_a_text_that_its_limit_cut_keeps_its_error(
    remote: RemoteHost, real_host: LocalHost
) -> None:
    text = MIXED.replace("include_prompt: false", "format: json").replace(": 12", ": 3")
    runs = [
        load(text, functions=[tidy], host=host).start({"prompt": "a"}, seed=1)
        for host in (real_host, remote)
    ]
    assert all(run.wait(90) for run in runs)
    errors = [run.error.to_dict() for run in runs if run.error is not None]
    assert errors[0]["code"] == "format_cut"
    assert errors[1] == errors[0]
    assert runs[1].extendable_by == runs[0].extendable_by > 0


def test_a_host_that_ends_meanwhile_ends_the_run(serve: Serve) -> None:
    models = ScriptedModels(hold=("Once",))
    server = serve(on=LocalHost(models))  # type: ignore[arg-type]
    remote = RemoteHost(server.url, server.access.owner_token)
    flow = load(MIXED.replace("repeat_count: 3", "repeat_count: 1"), functions=[tidy], host=remote)
    run = flow.submit(prompt="Once")
    assert models.started.acquire(timeout=90)
    server.close()
    assert run.wait(90)
    assert run.error is not None and run.error.code == "host_gone"
    remote.close()


def test_many_calls_go_there_side_by_side(serve: Serve) -> None:
    models = ScriptedModels()
    server = serve(on=LocalHost(models))  # type: ignore[arg-type]
    remote = RemoteHost(server.url, server.access.owner_token)
    flow = load(MIXED.replace("repeat_count: 3", "repeat_count: 50"), functions=[tidy], host=remote)
    run = flow.run(prompt="a ${input.x} \\${y}")
    assert run.state == "completed", run.error
    assert len(run.streams) == 50
    assert set(models.prompts) == {"a ${input.x} \\${y}"}
    remote.close()


def test_who_may_not_send_documents_is_told_so(serve: Serve) -> None:
    server = serve()
    guest = RemoteHost(server.url, None)
    run = load(MIXED, functions=[tidy], host=guest).run(prompt="a")
    assert run.error is not None and run.error.code == "unknown_document"
    assert "Only its owner can run others there" in str(run.error)
    guest.close()


def test_a_page_leaves_the_functions_to_the_host_that_serves_it(
    served_file: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = served_file.server_info
    assert info is not None
    monkeypatch.setenv(HOST_VARIABLE, str(info.path))
    flow = load(tmp_path / "model-compose.yml")
    assert isinstance(flow.host, RemoteHost)
    assert flow(text="hi", times=3) == "HI!!!"
    assert served_file.host.runs()[0].output == "HI!!!"
    flow.host.close()  # which this process would ask of models, though it is gone
