"""What is prepared for a first run: what its models need, and no more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from standins import tiny_models

from modelcompose_jupyter import load
from modelcompose_jupyter.host import LocalHost
from modelcompose_jupyter.host_selection import HOST_VARIABLE
from modelcompose_jupyter.models import ModelSpec, preparation

TEXT = """\
component:
  type: model
  task: text-generation
  model: {model}
  text: ${{input.prompt as text}}
"""
SCRIPT = """\
import json, sys
from modelcompose_jupyter import load
flow = load(sys.argv[1])
flow.prepare().join()
print(json.dumps([name for name in ("torch", "transformers") if name in sys.modules]))
print(json.dumps([model.id for model in flow.host.models()]))
"""


def imported(folder: Path, model: object) -> list[str]:
    """What of torch a process has when a workflow of a model was prepared in it."""
    document = folder / "model-compose.yml"
    document.write_text(TEXT.format(model=model))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(document)], capture_output=True, text=True, check=True
    )
    modules, models = map(json.loads, done.stdout.splitlines())
    assert models == []
    return list(modules)


def test_torch_is_imported_for_a_model_that_is_left_to_it(tmp_path: Path) -> None:
    model = tiny_models.save(tmp_path / "model")
    assert imported(tmp_path, f"{model}\n  driver: huggingface") == [
        "torch",
        "transformers",
    ]


@pytest.mark.parametrize(
    "model",
    ["bundled:storyteller", "./nowhere", "owner/never-fetched", "${input.model as text}"],
)
def test_torch_is_not_imported_for_others(tmp_path: Path, model: str) -> None:
    assert imported(tmp_path, model) == []


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[list[ModelSpec]]:
    """The models of each call."""
    calls: list[list[ModelSpec]] = []
    monkeypatch.setattr(preparation, "prepare", lambda specs: calls.append(list(specs)))
    return calls


STORY = TEXT.format(model="bundled:storyteller")


def test_each_model_is_prepared_once_where_this_process_runs_it(
    prepared: list[list[ModelSpec]],
) -> None:
    thread = load(STORY).prepare()
    assert thread is not None
    thread.join()
    assert [[spec.source for spec in specs] for specs in prepared] == [["bundled:storyteller"]]


def test_nothing_is_prepared_where_another_process_runs_it(
    prepared: list[list[ModelSpec]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOST_VARIABLE, "/nowhere")
    thread = load(STORY).prepare()
    assert thread is not None
    thread.join()
    assert load(STORY, host=object()).prepare() is None  # type: ignore[arg-type]
    assert prepared == []


def test_a_host_that_was_named_is_this_process(prepared: list[list[ModelSpec]]) -> None:
    host = LocalHost()
    thread = load(STORY, host=host).prepare()
    assert thread is not None
    thread.join()
    assert len(prepared) == 1
    host.close()


def test_code_of_a_model_is_not_run_before_its_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ModelSpec] = []
    monkeypatch.setattr(preparation, "_prepare", asked.append)
    preparation.prepare([ModelSpec("./a", trust_remote_code=True), ModelSpec("./b")])
    assert [spec.source for spec in asked] == ["./b"]
    assert asked[0].local_files_only
