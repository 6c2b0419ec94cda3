"""Panels and chats on narrow and wide pages, in their colours."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, ViewportSize, expect

from .pages import Jupyter, NotebookPage, Theme, Voila
from .test_chat import CHAT, chat_of
from .test_panel import LOAD, STORY, Panel

NARROW, WIDE = (400, 900), (1280, 900)

# The classes of elements whose content does not fit, but for those who hear it.
CUT_OFF = """
panel => [panel, ...panel.querySelectorAll('*')]
    .filter(each => each.clientWidth > 1 && each.scrollWidth > each.clientWidth + 1)
    .filter(each => getComputedStyle(each).overflowX !== 'visible')
    .map(each => each.className)
"""
COLOURS = "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]"


@pytest.mark.viewport(*NARROW)
@pytest.mark.parametrize(
    ("application", "theme"),
    [
        ("lab", "light"),
        pytest.param("lab", "dark", marks=pytest.mark.smoke),
        ("voila", "light"),
        ("voila", "dark"),
    ],
    indirect=["application"],
)
def test_a_panel_and_a_chat_fit_their_page_in_its_colours(
    application: Jupyter | Voila, theme: Theme
) -> None:
    opened = application.open(LOAD, STORY, CHAT, theme=theme)
    if isinstance(opened, NotebookPage):
        opened.run_all()
    panel = Panel(opened.output(1).locator(".modelcompose-panel"))
    chat = chat_of(opened, 2)
    panel.field("Count").fill("1")
    panel.field("Length (tokens)").fill("300")
    panel.start("Once upon a time")
    panel.is_in("completed")
    chat.say("Tell me a story about a fox.")
    expect(chat.turns).to_have_count(2)
    for root, coloured in [(panel.root, panel.root), (chat.root, chat.turns.first)]:
        assert root.evaluate(CUT_OFF) == []
        box = root.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= NARROW[0]
        assert is_dark(coloured) == (theme == "dark")
    assert not stands_beside(panel)
    opened.page.set_viewport_size(ViewportSize(width=WIDE[0], height=WIDE[1]))
    assert stands_beside(panel)
    assert panel.root.evaluate(CUT_OFF) == chat.root.evaluate(CUT_OFF) == []


def stands_beside(panel: Panel) -> bool:
    """Whether the text is at the right of the inputs, not below them."""
    form, text = panel.prompt.bounding_box(), panel.text.bounding_box()
    assert form is not None and text is not None
    return form["x"] + form["width"] < text["x"]


def is_dark(root: Locator) -> bool:
    """Whether its text is brighter than its ground, of ``rgb(1, 2, 3)`` as browsers write it."""
    ground, text = (sum(map(int, re.findall(r"\d+", each)[:3])) for each in root.evaluate(COLOURS))
    return ground < text
