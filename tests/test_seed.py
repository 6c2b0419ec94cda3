"""The example in its own form and in the later one: from a cell, from Python and a terminal.

The model comes from a stand-in for the Hub, under its real name, with tiny random weights of its
real architecture.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from standins import tiny_models
from standins.hub import HubStandIn
from standins.kernel import kernel
from standins.terminal import Terminal

from modelcompose_jupyter import load
from modelcompose_jupyter.host import local_host
from modelcompose_jupyter.models.weights import hub as transfers

PROMPT = "Once upon a time in a distant galaxy"
MODEL = "HuggingFaceTB/SmolLM3-3B"
SEED = Path(__file__).parent / "seed"
FORMS = ("flat.yml", "nested.yml")
RUN = ("--input", json.dumps({"prompt": PROMPT}))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smollm3")
    tiny_models.save(folder, "smollm3")
    return folder


@pytest.fixture
def hub(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    """A Hub that this process asks, with a cache that is empty."""
    monkeypatch.setattr(transfers, "RETRY_WAITS", (0.0, 0.0))
    with HubStandIn() as hub, hub.client(tmp_path / "hf" / "hub"):
        hub.add(MODEL, weights)
        yield hub
        local_host().unload()


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    folder = tmp_path / "folder"
    folder.mkdir()
    for form in FORMS:
        shutil.copy(SEED / form, folder)
    return Terminal(folder)


def continues(output: str) -> bool:
    result = json.loads(output)
    text = result["generated"]
    return list(result) == ["generated"] and text.startswith(PROMPT) and len(text) > len(PROMPT)


def test_it_runs_from_everywhere_and_then_without_a_network(
    hub: HubStandIn, terminal: Terminal, tmp_path: Path
) -> None:
    first = terminal.call("run", "-f", "flat.yml", *RUN)
    assert first.exit_code == 0, first.stderr
    assert continues(first.stdout)
    weights = [name for name in hub.fetched() if name.endswith(".safetensors")]
    assert weights == ["model.safetensors"]

    hub.stop()
    asked = len(hub.requests)
    local_host().unload()
    second = terminal.call("run", "-f", "nested.yml", *RUN)
    assert second.exit_code == 0, second.stderr
    assert continues(second.stdout)
    for form in FORMS:
        assert continues(json.dumps(load(terminal.folder / form)(prompt=PROMPT)))
    with kernel(terminal.folder, **hub.environment(tmp_path / "hf")) as shell:
        shell.run("%load_ext modelcompose_jupyter")
        for form in FORMS:
            body = (terminal.folder / form).read_text()
            cell = shell.run(f"%%compose story --run prompt='{PROMPT}'\n{body}")
            assert cell.status == "ok", cell.error
            assert cell.shown[0].startswith(PROMPT)
            assert continues(
                shell.run("import json; print(json.dumps(story.last_run.output))").stdout
            )
    assert len(hub.requests) == asked


def test_a_download_that_was_cut_goes_on_where_it_stopped(
    hub: HubStandIn, terminal: Terminal
) -> None:
    hub.cuts["model.safetensors"] = [20_000] + [0] * 50
    broken = terminal.call("run", "-f", "flat.yml", *RUN)
    assert broken.exit_code == 1
    assert "flat.yml:16:10: " in broken.stderr
    assert MODEL in broken.stderr

    hub.cuts.clear()
    tried = len(hub.ranges("model.safetensors"))
    resumed = terminal.call("run", "-f", "flat.yml", *RUN)
    assert resumed.exit_code == 0, resumed.stderr
    assert continues(resumed.stdout)
    assert hub.ranges("model.safetensors")[tried:] == ["bytes=20000-"]
