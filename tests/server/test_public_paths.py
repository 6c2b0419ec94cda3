"""Guests see the last names of folders, whatever they ask and whatever goes wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelcompose_jupyter import LocalHost
from modelcompose_jupyter.models.weights.source import bundled

from .conftest import Client, Serve

SECRET = "zq"
FOLDER = "zq of jane, it's zq"


@pytest.fixture(scope="module")
def real_host() -> Iterator[LocalHost]:
    host = LocalHost()
    yield host
    host.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a name that tells much, and a whole model in it."""
    folder = tmp_path / FOLDER
    shutil.copytree(bundled()["storyteller"], folder / "model")
    return folder


def document(model: str, **more: object) -> str:
    """A document of a component with this model."""
    component = {"type": "model", "task": "text-generation", "model": model, **more}
    component |= {"text": "${input.prompt as text}", "max_output_length": 2}
    return json.dumps({"component": component, "workflow": {"title": f"Of {model}"}})


def answers(client: Client, model: str, **input: object) -> dict[str, str]:
    """All that a caller can ask for, as text."""
    given = {"prompt": "a", **input}
    task = client.post("/workflows/runs", json={"input": given}).json().get("task_id", "none")
    later = client.post("/workflows/runs", json={"input": given, "wait_for_completion": False})
    root = client.server.origin
    asked = {
        "run": client.post("/workflows/runs", json={"input": given}),
        "later": later,
        "events": client.get(f"/tasks/{later.json().get('task_id')}/events"),
        "stream": client.post("/workflows/runs", json={"input": given, "stream": True}),
        "texts": client.post(
            "/workflows/runs", json={"input": given, "stream": True, "output_only": True}
        ),
        "task": client.get(f"/tasks/{task}"),
        "again": client.post("/workflows/runs", json={"rerun_of": task}),
        "output": client.get(f"/tasks/{task}?output_only=true"),
        "cancel": client.post(f"/tasks/{task}/cancel"),
        "tasks": client.get("/tasks?include_output=true"),
        "wrong": client.post("/workflows/runs", json={"input": {"nothing": 1}}),
        "workflows": client.get("/workflows?include_schema=true"),
        "schema": client.get("/workflows/__default__/schema"),
        "models": client.get("/models"),
        "metrics": client.get("/metrics"),
        "health": client.get("/health"),
        "openapi": client.get("/openapi.json"),
        "v1 models": client.get(f"{root}/v1/models"),
        "v1 model": client.get(f"{root}/v1/models/model"),
        "v1 unknown": client.get(f"{root}/v1/models/mode"),
        "v1": client.post(f"{root}/v1/completions", json={"model": "model", "prompt": "a"}),
        "v1 stream": client.post(
            f"{root}/v1/completions", json={"model": "model", "prompt": "a", "stream": True}
        ),
    }
    return {name: answer.text for name, answer in asked.items()}


def test_a_model_in_a_folder(serve: Serve, real_host: LocalHost, folder: Path) -> None:
    model = str(folder / "model")
    text = document(model, draft_model=model, cache_dir=str(folder / "cache"))
    server = serve(text, on=real_host)
    with Client(server) as guest:
        told = answers(guest, model)
    assert '"completed"' in told["run"] and '"choices"' in told["v1"]
    assert {name: text for name, text in told.items() if SECRET in text} == {}
    (found,) = json.loads(told["models"])["models"]
    assert (found["id"], found["source"]) == ("model", "…/model")
    assert json.loads(told["workflows"])[0]["title"] == "Of …/model"

    with Client(server, server.access.owner_token) as owner:
        assert owner.get("/models").json()["models"][0]["source"] == model
        assert owner.get("/workflows").json()[0]["title"] == f"Of {model}"
        assert model in owner.run().text  # its record


WRONG = {
    "no folder": lambda folder: shutil.rmtree(folder / "model"),
    "no weights": lambda folder: next((folder / "model").glob("*.safetensors")).unlink(),
    "broken config": lambda folder: (folder / "model/config.json").write_text("{"),
    "broken weights": lambda folder: next((folder / "model").glob("*.safetensors")).write_bytes(
        b"\x09" + bytes(7) + b"{" * 9
    ),
    "pointer": lambda folder: next((folder / "model").glob("*.safetensors")).write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 9\n"
    ),
    "links in a circle": lambda folder: (
        shutil.rmtree(folder / "model"),
        (folder / "model").symlink_to(folder / "model"),
    ),
    "broken tokenizer": lambda folder: (folder / "model/tokenizer.json").write_text("[]"),
    "a folder for a file": lambda folder: (
        (folder / "model/config.json").unlink(),
        (folder / "model/config.json").mkdir(),
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_with_a_folder(
    wrong: str, serve: Serve, real_host: LocalHost, folder: Path
) -> None:
    WRONG[wrong](folder)
    model = str(folder / "model")
    server = serve(document(model), on=real_host)
    with Client(server) as guest:
        told = answers(guest, model)
    assert '"failed"' in told["run"] and '"message":"internal error"' not in told["run"]
    assert {name: text for name, text in told.items() if SECRET in text} == {}


@pytest.mark.parametrize(
    "more",
    [
        {"peft_adapters": [{"type": "lora", "model": "{}/adapter"}]},
        {"draft_model": "{}/draft"},
        {"model": "owner/none", "cache_dir": "{}/file/cache"},
        {"model": "owner/none", "cache_dir": "{}/cache", "local_files_only": True},
        {"model": "${input.model | {}/other}"},
    ],
    ids=["adapter", "draft", "cache", "not cached", "default"],
)
def test_other_places_of_files(
    more: dict[str, object],
    serve: Serve,
    real_host: LocalHost,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    (folder / "file").write_text("no folder")
    model = str(folder / "model")
    there = json.loads(json.dumps(more).replace("{}", json.dumps(str(folder))[1:-1]))
    server = serve(document(there.pop("model", model), **there), on=real_host)
    with Client(server) as guest:
        told = answers(guest, model)
    assert '"failed"' in told["run"]
    assert {name: text for name, text in told.items() if SECRET in text} == {}


def test_guests_give_back_what_they_are_shown(serve: Serve, real_host: LocalHost) -> None:
    """Defaults and choices that are paths."""
    choices = "/zq/one/a,/zq/two/b"
    text = f"""
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${{input.kind as select/{choices} | /zq/one/a @(description see /zq/help/x)}}
  stop_sequences: [/zq/one/c]
  max_output_length: 1
"""
    server = serve(text, on=real_host)
    with Client(server) as guest, Client(server, server.access.owner_token) as owner:
        schema = guest.get("/workflows/__default__/schema")
        (given,) = schema.json()["input"]
        assert (given["default"], given["subtype"]) == ("…/a", "…/a,…/b")
        assert given["description"] == "see …/x"
        assert SECRET not in schema.text
        for value in ("…/b", "/zq/two/b"):
            ran = guest.post("/workflows/runs", json={"input": {"kind": value}}).json()
            assert ran["parameters"]["stop_sequences"] == ["…/c"]
            told = owner.get(f"/tasks/{ran['task_id']}").json()
            assert told["input"] == {"kind": "/zq/two/b"}
            assert told["parameters"]["stop_sequences"] == ["/zq/one/c"]
        refused = guest.post("/workflows/runs", json={"input": {"kind": "…/c"}})
        assert refused.status_code == 422 and SECRET not in refused.text
        assert choices == owner.get("/workflows/__default__/schema").json()["input"][0]["subtype"]
