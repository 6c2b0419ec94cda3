"""A workflow's history in JupyterLab: after the kernel is gone, and side by side."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from .pages import Lab
from .test_panel import LOAD, STORY, opened_panel

RUN = STORY.replace("%%compose story", "%%compose story --run prompt='A fox' count=1 length=20")
AGAIN = "story.run(prompt='A fox', count=1, length=20, temperature=1.2)"


def test_the_next_kernel_has_what_the_saved_notebook_shows(lab: Lab) -> None:
    opened, panel = opened_panel(lab, "print(*story.history['remembered'], len(story.history))")
    panel.field("Count").fill("1")
    panel.field("Length (tokens)").fill("8")
    panel.start("Once upon a time")
    panel.is_in("completed")
    text = panel.texts.first.evaluate("e => e.textContent")
    expect(opened.page.locator(".modelcompose-saved")).to_contain_text(text)
    opened.run(2)
    expect(opened.output(2)).to_have_text("False 1\n")
    opened.command("docmanager:save")
    opened.restart()
    opened.idle()
    opened.run(0)
    opened.run(1)
    opened.run(2)
    expect(opened.output(2)).to_have_text("True 1\n")


@pytest.mark.viewport(1280, 900)
def test_texts_stand_side_by_side_and_stay_without_a_kernel(lab: Lab) -> None:
    opened = lab.open(LOAD, RUN, AGAIN, "story.history", "story.side_by_side(story.history)")
    opened.run_all()
    expect(opened.output(3).locator("tbody tr")).to_have_count(2)
    columns = opened.output(4).locator("article")
    expect(columns).to_have_count(2)
    expect(columns.first.locator("mark").first).to_be_visible()
    shown = [each.text_content() for each in columns.all()]
    left, right = (each.bounding_box() for each in columns.all())
    assert left and right and left["y"] == right["y"] and left["x"] < right["x"]
    opened.command("docmanager:save")
    opened.shut_down()
    opened.reload()
    expect(columns).to_have_count(2)
    assert [each.text_content() for each in columns.all()] == shown


@pytest.mark.viewport(400, 800)
def test_where_there_is_little_room_they_stand_below_each_other(lab: Lab) -> None:
    opened = lab.open(LOAD, RUN, AGAIN, "story.side_by_side(story.history)")
    opened.run_all()
    columns = opened.output(3).locator("article")
    expect(columns).to_have_count(2)
    first, second = (each.bounding_box() for each in columns.all())
    assert first and second and first["x"] == second["x"]
    assert first["y"] + first["height"] <= second["y"]
