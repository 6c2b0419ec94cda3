"""The page of `model-compose up`, opened where it says it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from test_up import Terminal, ask

from .pages import SECONDS
from .test_panel import Panel


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def test_a_visitor_runs_the_workflow_on_the_host(
    terminal: Terminal, page: Page, errors: list[str], elsewhere: list[str]
) -> None:
    try:
        service = terminal.up(page=True)
        assert service.page.startswith("http://localhost:")
        page.goto(service.page)
        panel = Panel(page.locator(".modelcompose-panel:visible"))
        panel.start("Once upon a time in a distant galaxy")
        expect(panel.status).to_contain_text("seed", timeout=SECONDS * 1000)
        _, tasks = ask(
            f"{service.api}/tasks?include_output=true", token=service.server_info["token"]
        )
        (task,) = json.loads(tasks)
        assert task["status"] == "completed"
        assert task["output"]["generated"].startswith("Once upon a time in a distant galaxy")
    finally:
        terminal.close()
    assert (errors, elsewhere) == ([], [])
