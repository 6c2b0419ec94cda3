"""A panel while its model comes from the Hub, and stopping that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from standins import tiny_models
from standins.hub import HubStandIn

from modelcompose_jupyter import LocalHost, load

from .conftest import wait_until

MODEL = "HuggingFaceTB/SmolLM3-3B"
WEIGHTS = "model.safetensors"
TEXT = f"""
component:
  type: model
  task: text-generation
  model: {MODEL}
  text: ${{input.prompt as text}}
  max_output_length: 4
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubStandIn]:
    with HubStandIn() as hub, hub.client(tmp_path / "cache"):
        hub.add(MODEL, tiny_models.save(tmp_path / "model", "smollm3"))
        yield hub


@pytest.fixture
def host() -> Iterator[LocalHost]:
    host = LocalHost()
    yield host
    host.close()


def test_a_download_is_shown_and_then_the_text(hub: HubStandIn, host: LocalHost) -> None:
    gate = hub.gates[WEIGHTS] = threading.Event()
    panel = load(TEXT, host=host).panel(prompt="Once")
    panel.submit()
    view = panel._view
    wait_until(view, lambda: view.progress.get("text", "").startswith(f"Downloading {MODEL} "))
    assert " of " in view.progress["text"]
    assert 0 <= view.progress["share"] < 1
    gate.set()
    wait_until(view, lambda: view.ended)
    assert (view.state, view.progress) == ("completed", {})
    assert view.status.startswith("Cut at 4 tokens")


def test_a_download_can_be_stopped_and_goes_on_with_the_next_run(
    hub: HubStandIn, host: LocalHost
) -> None:
    gate = hub.gates[WEIGHTS] = threading.Event()
    panel = load(TEXT, host=host).panel(prompt="Once")
    panel.submit()
    assert hub.began.wait(30)
    panel._stop_button.click()
    wait_until(panel._view, lambda: panel._view.ended)
    assert panel._view.state == "cancelled"
    panel.submit()
    gate.set()
    wait_until(panel._view, lambda: panel._view.state == "completed")
    assert hub.ranges(WEIGHTS) == [None]
