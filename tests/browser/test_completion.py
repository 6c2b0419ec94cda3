"""Completion as one types, in the applications' own completers."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from .pages import Jupyter
from .test_panel import LOAD

# A cell, what is typed at its end, and what it is completed to.
TYPED = [
    ("%%compose x\ncomponent:\n  model: ", "bundled:st", "bundled:storyteller"),
    ("%%compose x\ncomponent:\n  params:\n    ", "temp", "temperature: "),
    ("%compose ", "val", "%compose validate"),
]


@pytest.mark.parametrize(
    "application", [pytest.param("lab", marks=pytest.mark.smoke), "notebook7"], indirect=True
)
def test_tab_completes_what_may_stand_there(application: Jupyter) -> None:
    opened = application.open(LOAD, *(cell for cell, _, _ in TYPED))
    opened.run(0)
    opened.wait_for_completion()
    items = opened.page.locator(".jp-Completer-item:visible")
    keyboard = opened.page.keyboard
    for index, (cell, typed, completed) in enumerate(TYPED, 1):
        editor = opened.cell(index).locator(".cm-content")
        editor.click()
        keyboard.press("Control+End")
        keyboard.type(typed)
        keyboard.press("Tab")
        expect(items).to_contain_text([typed])
        ours = opened.page.locator(".modelcompose-completion:visible")
        expect(ours).to_have_count(items.count() if cell.startswith("%%") else 0)  # and no others
        keyboard.press("Enter")
        expect(items).to_have_count(0)
        expect(editor).to_contain_text(completed)
