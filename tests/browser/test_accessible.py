"""Panels, chats and pages by the rules of axe-core: nothing serious that it can find."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from dashboard.serving import dashboard
from playwright.sync_api import Locator, Page, expect

from .pages import Lab, Theme, leave
from .test_chat import CHAT, Chat, chat_of
from .test_history import AGAIN, RUN
from .test_panel import LOAD, STORY, Panel
from .test_probabilities import STORY as PROBABLE
from .test_probabilities import Tokens, run
from .test_steps import FLOW, has_ended
from .test_steps import node as step

AXE = Path(__file__).parents[2] / "labextension" / "node_modules" / "axe-core" / "axe.min.js"

# What is found in a part of the page: the rule, where, and what is wrong there. The body of
# JupyterLab has no height of its own, so that all in it would pass for hidden.
FOUND = """
async part => {
    document.body.style.minHeight = '100vh';
    const { violations } = await axe.run(part, { resultTypes: ['violations'] });
    return violations
        .filter(({ impact }) => ['serious', 'critical'].includes(impact))
        .flatMap(({ id, nodes }) => nodes.map(
            ({ target, failureSummary }) => `${id}: ${target.join(' ')}: ${failureSummary}`));
}
"""


@pytest.fixture
def axe() -> str:
    """The source of axe-core; without it, skip the test, or fail it where browsers are required."""
    if AXE.exists():
        return AXE.read_text("utf-8")
    reason = "no axe-core: run `jlpm install` in labextension/"
    if os.environ.get("MODELCOMPOSE_BROWSER") == "required":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def violations(root: Locator, axe: str) -> list[str]:
    """What is seriously wrong with a part of a page for people who cannot see or point."""
    if not root.page.evaluate("'axe' in window"):
        root.page.evaluate(axe)
    found: list[str] = root.evaluate(FOUND)
    return found


@pytest.mark.viewport(1280, 900)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_panels_and_chats_are_accessible(lab: Lab, theme: Theme, axe: str) -> None:
    opened = lab.open(LOAD, STORY, CHAT, theme=theme)
    opened.run_all()
    panel = Panel(opened.output(1).locator(".modelcompose-panel"))
    chat = chat_of(opened, 2)
    assert violations(panel.root, axe) == []
    panel.run.click()
    expect(panel.error).to_be_visible()
    panel.root.get_by_role("button", name="Advanced").click()
    for each in panel.root.locator(".modelcompose-ask:visible").all():
        each.click()
    assert violations(panel.root, axe) == []
    panel.field("Count").fill("1")
    panel.field("Length (tokens)").fill("20")
    panel.prompt.fill("A fox")
    panel.root.get_by_role("button", name="Three temperatures").click()
    panel.root.get_by_role("button", name="Compare values").click()
    panel.root.get_by_label("And what else varies").select_option("Prompt")
    expect(panel.root.get_by_role("gridcell")).to_have_count(3)
    expect(panel.root.get_by_role("button", name="Stop all")).to_have_count(0)
    panel.root.get_by_role("gridcell").last.click()
    panel.is_in("completed")
    assert violations(panel.root, axe) == []
    chat.say("Tell me a story about a fox.")
    chat.replied()
    chat.root.get_by_role("button", name="Settings").click()
    assert violations(chat.root, axe) == []
    chat.action(0, "Edit").click()
    assert violations(chat.root, axe) == []


@pytest.mark.viewport(1280, 900)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_runs_side_by_side_are_accessible(lab: Lab, theme: Theme, axe: str) -> None:
    opened = lab.open(LOAD, RUN, AGAIN, "story.side_by_side(story.history)", theme=theme)
    opened.run_all()
    expect(opened.output(3).locator("article mark").first).to_be_visible()
    assert violations(opened.output(3), axe) == []


@pytest.mark.viewport(1280, 900)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_probabilities_are_accessible(lab: Lab, theme: Theme, axe: str) -> None:
    opened = lab.open(LOAD, PROBABLE, theme=theme)
    opened.run_all()
    panel = Panel(opened.output(1).locator(".modelcompose-panel"))
    tokens = Tokens(panel.root)
    tokens.switch.check()
    run(panel)
    assert violations(panel.root, axe) == []
    tokens.all.nth(8).click()
    expect(tokens.beside).to_be_visible()
    assert violations(panel.root, axe) == []
    tokens.choices.last.click()
    expect(tokens.parting).to_be_visible()
    panel.is_in("completed")
    assert violations(panel.root, axe) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_are_accessible(tmp_path: Path, page: Page, theme: Theme, axe: str) -> None:
    with dashboard(tmp_path, CHAT.partition("\n")[2]) as server:
        page.goto(f"{server.url}/?theme={theme}&tone=sad")
        chat = Chat(page.locator(".modelcompose-panel:visible"))
        expect(page.locator("#mc-loading")).to_have_count(0)
        for each in page.locator("summary:visible").all():
            each.click()
        assert violations(page.locator("html"), axe) == []
        chat.say("Tell me a story about a fox.")
        chat.replied()
        assert violations(page.locator("html"), axe) == []
        leave(page)


@pytest.mark.viewport(1280, 900)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_steps_are_accessible(lab: Lab, theme: Theme, axe: str) -> None:
    opened = lab.open(LOAD, FLOW, theme=theme)
    opened.run_all()
    panel = opened.output(1).locator(".modelcompose-panel")
    panel.get_by_role("button", name="Run Workflow").click()
    expect(step(panel, "pauses", "running")).to_be_visible()
    assert violations(panel, axe) == []
    has_ended(panel)
    step(panel, "hurry", "recovered").press("Enter")
    assert violations(panel, axe) == []
