"""Completion as one types, in the applications' own completers."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from .pages import Jupyter
from .test_panel import LOAD


@pytest.mark.parametrize("application", ["lab", "notebook7"], indirect=True)
@pytest.mark.parametrize(
    ("cell", "typed", "accepted"),
    [
        ("%%compose x\ncomponent:\n  model: ", "bundled:st", "bundled:storyteller"),
        ("%%compose x\ncomponent:\n  params:\n    ", "temp", "temperature: "),
        ("%compose ", "val", "%compose validate"),
    ],
)
def test_tab_completes_what_may_stand_there(
    application: Jupyter, cell: str, typed: str, accepted: str
) -> None:
    opened = application.open(LOAD, cell)
    opened.run(0)
    editor = opened.cell(1).locator(".cm-content")
    editor.click()
    keyboard = opened.page.keyboard
    keyboard.press("Control+End")
    keyboard.type(typed)
    keyboard.press("Tab")
    expect(opened.page.locator(".jp-Completer-item")).to_contain_text([typed])
    keyboard.press("Enter")
    expect(editor).to_contain_text(accepted)
