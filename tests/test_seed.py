"""The example in its own form and in the later one: from a cell, from Python and a terminal.

The model comes from a stand-in for the Hub, under its real name, with tiny random weights of its
real architecture.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from standins import tiny_models
from standins.hub import HubStandIn
from standins.kernel import kernel

PROMPT = "Once upon a time in a distant galaxy"
MODEL = "HuggingFaceTB/SmolLM3-3B"
SEED = Path(__file__).parent / "seed"
FORMS = ("flat.yml", "nested.yml")

FROM_PYTHON = """
import json, modelcompose_jupyter as m
flow = m.load({file!r})
print(json.dumps(flow(prompt={prompt!r})))
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smollm3")
    tiny_models.save(folder, "smollm3")
    return folder


@pytest.fixture
def hub(weights: Path) -> Iterator[HubStandIn]:
    with HubStandIn() as hub:
        hub.add(MODEL, weights)
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for form in FORMS:
        shutil.copy(SEED / form, tmp_path)
    return tmp_path


def from_terminal(
    folder: Path, form: str, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    given = json.dumps({"prompt": PROMPT})
    return subprocess.run(
        [sys.executable, "-m", "modelcompose_jupyter.cli", "run", "-f", form, "--input", given],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


def from_python(folder: Path, form: str, environment: dict[str, str]) -> str:
    script = FROM_PYTHON.format(file=form, prompt=PROMPT)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def continues(output: str) -> bool:
    result = json.loads(output)
    text = result["generated"]
    return list(result) == ["generated"] and text.startswith(PROMPT) and len(text) > len(PROMPT)


def test_it_runs_from_everywhere_and_then_without_a_network(
    hub: HubStandIn, folder: Path, tmp_path: Path
) -> None:
    environment = hub.environment(tmp_path / "hf")
    first = from_terminal(folder, "flat.yml", environment)
    assert first.returncode == 0, first.stderr
    assert continues(first.stdout)
    weights = [name for name in hub.fetched() if name.endswith(".safetensors")]
    assert weights == ["model.safetensors"]

    hub.stop()
    asked = len(hub.requests)
    second = from_terminal(folder, "nested.yml", environment)
    assert second.returncode == 0, second.stderr
    assert continues(second.stdout)
    for form in FORMS:
        assert continues(from_python(folder, form, environment))
    with kernel(folder, **environment) as shell:
        shell.run("%load_ext modelcompose_jupyter")
        for form in FORMS:
            body = (folder / form).read_text()
            cell = shell.run(f"%%compose story --run prompt='{PROMPT}'\n{body}")
            assert cell.status == "ok", cell.error
            assert cell.stdout.startswith(PROMPT)
            assert continues(
                shell.run("import json; print(json.dumps(story.last_run.output))").stdout
            )
    assert len(hub.requests) == asked


def test_a_download_that_was_cut_goes_on_where_it_stopped(
    hub: HubStandIn, folder: Path, tmp_path: Path
) -> None:
    environment = hub.environment(tmp_path / "hf")
    hub.cuts["model.safetensors"] = [20_000] + [0] * 50
    broken = from_terminal(folder, "flat.yml", environment)
    assert broken.returncode == 1
    assert "flat.yml:16:10: " in broken.stderr
    assert MODEL in broken.stderr

    hub.cuts.clear()
    tried = len(hub.ranges("model.safetensors"))
    resumed = from_terminal(folder, "flat.yml", environment)
    assert resumed.returncode == 0, resumed.stderr
    assert continues(resumed.stdout)
    assert hub.ranges("model.safetensors")[tried:] == ["bytes=20000-"]
