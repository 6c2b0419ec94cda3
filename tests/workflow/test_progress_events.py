"""What a run tells of what it waits for: what is made ready, weights, a long prompt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standins import tiny_models

from modelcompose_jupyter import load
from modelcompose_jupyter.host import LocalHost
from modelcompose_jupyter.models.engine import request
from modelcompose_jupyter.workflow import Run

TEXT = """\
component:
  type: model
  task: text-generation
  model: {model}
  driver: {driver}
  text: ${{input.prompt as text}}
  max_output_length: 2
"""


@pytest.fixture
def host() -> Iterator[LocalHost]:
    host = LocalHost()
    yield host
    host.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save(tmp_path_factory.mktemp("model") / "model", "llama")


def ran(
    host: LocalHost, folder: Path, driver: str, prompt: str
) -> tuple[Run, list[dict[str, Any]]]:
    """A run that has ended, and what was told of its progress before it became compact."""
    told: list[dict[str, Any]] = []
    seen = -1
    flow = load(TEXT.format(model=folder, driver=driver), host=host)
    leave = host.observe(lambda run: run.watch(lambda: look(run)))

    def look(run: Run) -> None:
        nonlocal seen
        for event in run.events_so_far(seen):
            seen = event.number
            if event.type == "progress" and not run.done:
                told.append(dict(event.data))

    run = flow.run(prompt=prompt)
    leave()
    assert run.error is None
    return run, told


@pytest.mark.parametrize("driver", ["native", "huggingface"])
def test_a_load_tells_its_start_its_bytes_and_its_end_once_the_model_is_there(
    host: LocalHost, folder: Path, driver: str
) -> None:
    _, told = ran(host, folder, driver, "fox")
    phases = [each["phase"] for each in told if each["phase"] != "job"]
    assert phases[0] == "start"
    loads = [each for each in told if each["phase"] == "load"]
    assert {each["unit"] for each in loads} == {"B"}
    assert [each["done"] == each["total"] for each in loads] == [False] * (len(loads) - 1) + [True]
    assert loads[0]["done"] == 0 and loads[0]["model"] == str(folder)
    assert {each["step"] for each in told if each["phase"] == "start"} <= {
        "engine",
        "kernels",
        "torch",
    }
    _, again = ran(host, folder, driver, "fox")
    assert {each["phase"] for each in again} == {"job"}  # what is in memory is not waited for


@pytest.mark.parametrize("driver", ["native", "huggingface"])
def test_a_long_prompt_tells_how_much_is_read_and_a_short_one_nothing(
    host: LocalHost, folder: Path, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request, "_READ_SECONDS", 0.0)
    monkeypatch.setattr("modelcompose_jupyter.models.engine.prefill_chunk._FIRST", 16)
    monkeypatch.setattr("modelcompose_jupyter.models.engine.prefill_chunk._MOST", 16)
    run, told = ran(host, folder, driver, "a fox and an owl " * 5)
    reads = [each for each in told if each["phase"] == "prefill"]
    tokens = run.usage["prompt"]
    assert {(each["total"], each["unit"]) for each in reads} == {(tokens, "tokens")}
    done = [each["done"] for each in reads]
    assert done == [*range(16, tokens, 16), tokens]
    _, told = ran(host, folder, driver, "x")
    assert [each for each in told if each["phase"] == "prefill"] == []


def test_a_prompt_that_generate_reads_is_told_of_until_its_first_token(
    host: LocalHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelcompose_jupyter.models.engine.engine._LONG_PROMPT", 4)
    folder = tiny_models.save(tmp_path / "model", "llama")
    flow_text = TEXT.format(model=folder, driver="huggingface") + "  num_beams: 2\n"
    run = load(flow_text, host=host).run(prompt="a fox and an owl")
    reads = [each.data for each in run.events_so_far() if each.data.get("phase") == "prefill"]
    assert [(each["done"], each["total"]) for each in reads] == [(run.usage["prompt"],) * 2]
