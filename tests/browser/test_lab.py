"""The JupyterLab extension, used as people use it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from .pages import Lab, NotebookPage
from .test_panel import LOAD, STORY, Panel


def editor(page: NotebookPage, index: int) -> Locator:
    return page.cell(index).locator(".cm-content")

@pytest.mark.viewport(1500, 900)
def test_explore(lab: Lab, errors: list[str]) -> None:
    opened = lab.open(LOAD, STORY, theme=os.environ.get("THEME", "light"))
    page = opened.page
    page.wait_for_timeout(500)
    opened.command("modelcompose:new", wait=False)
    page.wait_for_timeout(1000)
    page.keyboard.press("Enter")
    page.frame_locator("iframe").locator(".modelcompose-diagram").wait_for()
    page.wait_for_timeout(1000)
    page.locator(".jp-FileEditor .cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.type("    top_p: 7\n")
    page.keyboard.type("min_")
    page.keyboard.press("Tab")
    page.wait_for_timeout(2500)
    page.screenshot(path="/tmp/shots/file.png")
    page.keyboard.press("Enter")
    page.keyboard.type("3")
    page.wait_for_timeout(1500)
    opened.command("modelcompose:curl", wait=False)
    opened.command("modelcompose:serve", wait=False)
    page.wait_for_timeout(3500)
    page.screenshot(path="/tmp/shots/serve.png")
    opened.command("modelcompose:run", wait=False)
    page.wait_for_timeout(9500)
    page.screenshot(path="/tmp/shots/run.png")
    opened.command("running:show-panel")
    page.wait_for_timeout(1500)
    page.screenshot(path="/tmp/shots/running.png")
    print(errors)
