"""The jobs of a run as people see them: a diagram while it goes, elements in a table that fills."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Locator, expect

from .pages import Lab, Theme, Voila
from .test_panel import LOAD

FLOW = """\
%%compose
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: 60
  seed: 3
workflow:
  title: Write, criticise, improve
  jobs:
    - id: draft
      input: {prompt: "${input.prompt | Once upon a time}"}
    - id: hurry
      type: delay
      duration: 9s
      timeout: 0.2s
      retry: {max_attempt_count: 2, delay: 2s}
      on_error: {output: late}
    - id: pages
      type: for-each
      depends_on: [hurry]
      input: [a fox, a hen, "an owl that lives in the old tree behind the house", a cow]
      do:
        input: {prompt: "There was ${item}"}
    - id: pauses
      type: for-each
      depends_on: [pages]
      input: [1, 2, 3]
      batch_size: 1
      do: {type: delay, duration: 1s}
    - id: check
      type: if
      depends_on: [pauses]
      input: ${jobs.draft.output}
      operator: match
      value: .*zebra.*
      if_true: publish
      if_false: improve
    - id: improve
      type: loop
      input: ${jobs.draft.output}
      max_iteration_count: 3
      while: {input: "${iteration}", operator: lt, value: 9}
      do: {type: delay, duration: 1s, input: "${output | again}"}
    - id: publish
      input: {prompt: Publish}
    - id: last
      depends_on: [[improve, publish]]
      input: {prompt: At last}
"""
NODES = {
    name: place
    for place, name in enumerate(
        ("draft", "hurry", "pages", "pauses", "check", "improve", "publish", "last"), 1
    )
}


def node(panel: Locator, name: str, state: str) -> Locator:
    return panel.locator(f'[data-node="{NODES[name]}"][data-state="{state}"]')


def run(panel: Locator) -> None:
    """Run it, and see how each of its jobs goes."""
    expect(panel.locator("[data-node][data-state]")).to_have_count(0)
    panel.get_by_role("button", name="Run Workflow").click()
    waiting = node(panel, "hurry", "waiting")
    expect(waiting).to_contain_text("2nd attempt in 2.0 s")
    expect(panel.locator(".modelcompose-progress")).to_contain_text(
        "Trying again in 2.0 s (attempt 2 of 2): hurry, the job took longer than 0.2 s"
    )
    expect(node(panel, "hurry", "recovered")).to_be_visible()
    expect(node(panel, "pauses", "running")).to_contain_text("1 / 3")
    rows = panel.get_by_role("table", name="pauses").locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.last).to_have_attribute("data-state", "pending")
    expect(node(panel, "improve", "running")).to_contain_text("round 2 of at most 3")
    expect(node(panel, "publish", "skipped")).to_be_visible()
    expect(panel.locator('[data-edge="5-6"]')).to_have_attribute("data-state", "taken")
    expect(panel.locator('[data-edge="5-7"]')).to_have_attribute("data-state", "left")


def has_ended(panel: Locator) -> None:
    """See what there is to see at its end."""
    expect(node(panel, "last", "completed")).to_be_visible()
    expect(panel.locator(".modelcompose-status")).to_contain_text(
        "skipped: publish · went on after a failure: hurry"
    )
    rows = panel.get_by_role("table", name="pages").locator("tbody tr")
    expect(rows).to_have_count(4)
    expect(rows.first.locator(".modelcompose-text")).to_contain_text("There was a fox")
    expect(rows.nth(1)).to_have_attribute("data-state", "completed")
    expect(panel.locator(".modelcompose-texts > .modelcompose-text").first).to_contain_text("Once")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_jobs_are_seen_as_they_go_and_afterwards(lab: Lab, theme: Theme) -> None:
    notebook = lab.open(LOAD, FLOW, theme=theme)
    notebook.run(0)
    notebook.run(1)
    panel = notebook.output(1).locator(".modelcompose-panel")
    run(panel)
    has_ended(panel)
    node(panel, "hurry", "recovered").press("Enter")
    told = panel.locator(".modelcompose-step")
    expect(told).to_contain_text("2nd attempt: the job took longer than 0.2 s")
    notebook.command("docmanager:save")
    kept = json.loads(notebook.file.read_text())["cells"][1]["outputs"]
    html = "".join("".join(each["data"].get("text/html", "")) for each in kept if "data" in each)
    assert "recovered · 2nd attempt" in html
    assert '<th scope="row"' in html
    notebook.reload()
    panel = notebook.output(1).locator(".modelcompose-panel")
    has_ended(panel)


@pytest.mark.viewport(400, 800)
def test_a_page_shows_them_and_fits_a_phone(voila: Voila) -> None:
    opened = voila.open(LOAD, FLOW)
    panel = opened.output(1).locator(".modelcompose-panel")
    run(panel)
    has_ended(panel)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 400
