"""Runs that wait for a person, in a panel and on a page: the question, its answer, a reload."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from .pages import Lab, Theme, leave
from .test_accessible import axe as axe
from .test_accessible import violations
from .test_dashboard import host as host
from .test_dashboard import hosted
from .test_panel import LOAD, Panel

REVIEW = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: 10
  temperature: 0
workflow:
  title: A story with a review
  jobs:
    - id: draft
      input: {prompt: "${input.prompt as text}"}
      interrupt:
        after:
          message: Is the **draft** good enough? Change what is not.
          metadata: {model: storyteller, words: "at most ten"}
    - id: rest
      input: {prompt: "${jobs.draft.output}"}
      interrupt:
        after: {message: How is it?, choices: [good, bad]}
"""
CELL = f"%%compose story\n{REVIEW}"


def forms(root: Locator) -> Locator:
    return root.locator("form.modelcompose-question:visible")


def asked(root: Locator, words: str) -> Locator:
    """The one question that is open, when it is this one."""
    form = forms(root)
    expect(form).to_contain_text(words)
    expect(form).to_have_count(1)
    return form


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_question_is_answered_in_the_panel_also_after_a_reload(
    lab: Lab, page: Page, errors: list[str], theme: Theme, axe: str
) -> None:
    opened = lab.open(LOAD, CELL, "story.last_run.asked", theme=theme)
    opened.run(0)
    opened.run(1)
    panel = Panel(opened.output(1).locator(".modelcompose-panel"))
    panel.start("The old man")
    form = asked(panel.root, "Is the draft good enough?")
    expect(form.locator("strong")).to_have_text("draft")
    expect(form.locator("tr")).to_have_text(["modelstoryteller", "wordsat most ten"])
    field = form.locator("textarea")
    expect(field).to_be_focused()
    assert violations(panel.root, axe) == []

    opened.command("docmanager:save")
    opened.reload()
    panel = Panel(opened.output(1).locator(".modelcompose-panel"))
    form = asked(panel.root, "Is the draft good enough?")
    form.locator("textarea").fill("The old cat sat by the door and")
    form.get_by_role("button", name="Continue").click()
    form = asked(panel.root, "How is it?")
    assert violations(panel.root, axe) == []
    form.get_by_role("button", name="bad").click()
    expect(panel.status).to_contain_text("2 of 2 texts cut at 10 tokens")
    expect(panel.root).to_contain_text("bad")
    expect(forms(panel.root)).to_have_count(0)
    opened.run(2)
    expect(opened.output(2)).to_contain_text("The old cat sat by the door and")
    assert not errors


def test_stop_ends_a_run_that_waits(lab: Lab) -> None:
    opened = lab.open(LOAD, CELL)
    opened.run(0)
    opened.run(1)
    panel = Panel(opened.output(1).locator(".modelcompose-panel"))
    panel.start("The old man")
    asked(panel.root, "Is the draft good enough?")
    panel.root.get_by_role("button", name="Stop", exact=True).click()
    expect(panel.status).to_contain_text("Stopped by you")
    expect(forms(panel.root)).to_have_count(0)


def test_a_cell_that_waits_asks_below_itself(lab: Lab) -> None:
    opened = lab.open(
        LOAD, f"{CELL.replace('story', 'story --no-panel', 1)}", 'story(prompt="The")'
    )
    opened.run(0)
    opened.run(1)
    opened.run(2, wait=False)
    output = opened.cell(2).locator(".jp-OutputArea")
    expect(output).to_contain_text("Is the **draft** good enough?")
    fields = output.locator("input.jp-Stdin-input")
    fields.fill("Another beginning")
    fields.press("Enter")
    expect(output).to_contain_text("1. good")
    expect(fields).to_have_count(2)
    fields.last.fill("1")
    fields.last.press("Enter")
    expect(output).to_contain_text("'good'")


@pytest.mark.viewport(400, 800)
def test_a_visitor_answers_after_the_page_was_loaded_again(
    tmp_path: Path, page: Page, host: object, errors: list[str], axe: str
) -> None:
    with hosted(host, tmp_path, REVIEW) as server:  # type: ignore[arg-type]
        page.goto(server.url)
        panel = Panel(page.locator(".modelcompose-panel:visible"))
        panel.start("The old man")
        form = asked(panel.root, "Is the draft good enough?")
        is_narrow = "() => document.documentElement.scrollWidth <= window.innerWidth"
        assert page.evaluate(is_narrow)
        page.reload()
        panel = Panel(page.locator(".modelcompose-panel:visible"))
        form = asked(panel.root, "Is the draft good enough?")
        expect(form.locator("textarea")).to_be_focused()
        form.locator("textarea").fill("The old cat sat by the door and")
        form.locator("textarea").press("Control+Enter")
        form = asked(panel.root, "How is it?")
        page.reload()
        panel = Panel(page.locator(".modelcompose-panel:visible"))
        form = asked(panel.root, "How is it?")
        form.get_by_role("button", name="good").click()
        expect(panel.status).to_contain_text("2 of 2 texts cut at 10 tokens")
        expect(panel.root.locator("pre.modelcompose-error")).to_be_hidden()
        page.reload()
        panel = Panel(page.locator(".modelcompose-panel:visible"))
        expect(panel.root.get_by_role("button", name="Run Workflow")).to_be_enabled()
        expect(forms(panel.root)).to_have_count(0)
        leave(page)
    assert not errors
