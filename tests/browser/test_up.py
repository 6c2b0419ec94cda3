"""The page of `model-compose up`, opened where it says it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from .pages import SECONDS
from .test_panel import Panel

DOCUMENT = Path(__file__).parents[2] / "notebooks" / "model-compose.yml"
UP = [sys.executable, "-m", "modelcompose_jupyter.cli", "up", "--port=0", "--webui-port=0"]


@contextmanager
def served(document: Path, folder: Path) -> Iterator[dict[str, str]]:
    """`up` in the foreground: the ``API`` and the ``Page`` that it names, and its ``token``."""
    (folder / "model-compose.yml").write_bytes(document.read_bytes())
    runtime = folder / "runtime"
    home = {"JUPYTER_RUNTIME_DIR": str(runtime), "IPYTHONDIR": str(folder / "ipython")}
    with subprocess.Popen(
        UP, cwd=folder, env={**os.environ, **home}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = dict(process.stdout.readline().split() for _ in range(2))
            (server_info,) = runtime.glob("modelcompose-*.json")
            yield {**said, "token": json.loads(server_info.read_text())["token"]}
        finally:
            process.terminate()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[dict[str, str]]:
    with served(DOCUMENT, tmp_path) as said:
        yield said


def test_a_visitor_runs_the_workflow_on_the_host(
    up: dict[str, str], page: Page, errors: list[str], elsewhere: list[str]
) -> None:
    assert up["Page"].startswith("http://localhost:")
    page.goto(up["Page"])
    panel = Panel(page.locator(".modelcompose-panel:visible"))
    panel.start("Once upon a time in a distant galaxy")
    expect(panel.status).to_contain_text("seed")
    url = f"{up['API']}/tasks?include_output=true"
    tasks = httpx.get(url, headers={"Authorization": f"Bearer {up['token']}"}, timeout=SECONDS)
    (task,) = tasks.json()
    assert task["status"] == "completed"
    assert task["output"]["generated"].startswith("Once upon a time in a distant galaxy")
    assert (errors, elsewhere) == ([], [])
