"""How text travels from a run to the page: all of it, in order, and cheaply."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from .pages import Lab
from .test_panel import Panel, opened_panel
from .traffic import Traffic, size

TESTS = Path(__file__).parent.parent
TOKENS = 30_000

# A model that says thirty thousand words, some of them outside the basic plane of Unicode, as fast
# as a page can be expected to follow.
FAST = f"""
import sys, threading
sys.path.insert(0, {str(TESTS)!r})
from standins.scripted import ScriptedModels
from modelcompose_jupyter import LocalHost, load

def reply(prompt):
    pause = threading.Event()
    for number in range({TOKENS}):
        if number % 100 == 0:
            pause.wait(0.01)
        yield "🦊 " if number % 1000 == 0 else f"w{{number}} "

model = {{"type": "model", "task": "text-generation", "model": "m"}}
document = {{"component": {{**model, "text": "${{input.prompt}}"}}}}
load(document, host=LocalHost(ScriptedModels(reply))).panel(prompt="x")
"""
WORDS = "".join("🦊 " if number % 1000 == 0 else f"w{number} " for number in range(TOKENS))
WORDS_UTF16 = WORDS.encode("utf-16-le")


def utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


@pytest.mark.smoke
def test_thirty_thousand_tokens_arrive_in_order_for_three_times_their_bytes(
    lab: Lab, traffic: Traffic, errors: list[str]
) -> None:
    opened = lab.open(FAST)
    opened.run(0)
    panel = Panel(opened.output(0).locator(".modelcompose-panel"))
    traffic.clear()
    panel.run.click()
    panel.is_in("completed")
    expect(panel.root.get_by_role("button", name="Copy text")).to_be_visible()
    assert panel.texts.first.evaluate("e => e.textContent") == WORDS

    messages = traffic.received("comm_msg")
    sent = [each.content["data"] for each in messages]
    changes = [change for each in sent for change in each.get("content", {}).get("changes", ())]
    end = 0  # of what the page has
    for each in sent:
        wholes = [[0, 0, text] for text in each.get("state", {}).get("texts", ())]
        for _, offset, text in wholes + each.get("content", {}).get("changes", []):
            assert offset <= end, "nothing was lost"
            end = offset + utf16(text)
            assert WORDS_UTF16[2 * offset : 2 * end] == text.encode("utf-16-le")
    assert 2 * end == len(WORDS_UTF16)
    assert len(changes) > 20, "it was streamed"
    assert size(messages) <= 3 * len(WORDS.encode())
    assert not errors


@pytest.mark.smoke
def test_a_page_that_is_loaded_in_the_middle_of_a_run_shows_all_of_it(lab: Lab) -> None:
    opened, panel = opened_panel(lab, "print(_2.run.text == ''.join(_2._view._texts()))")
    panel.field("Count").fill("1")
    panel.start("Once upon a time")
    opened.command("docmanager:save")
    opened.reload()
    panel = Panel(opened.output(1).locator(".modelcompose-panel"))
    panel.is_in("completed")
    opened.run(2)
    expect(opened.output(2)).to_have_text("True\n")
    shown = panel.texts.first.evaluate("e => e.textContent")
    assert shown.startswith("Once upon a time")
    assert len(shown) > 1000


@pytest.mark.smoke
def test_a_notebook_without_a_kernel_shows_the_last_text(lab: Lab) -> None:
    opened, panel = opened_panel(lab)
    saved = opened.page.locator(".modelcompose-saved")
    panel.field("Count").fill("1")
    panel.field("Length (tokens)").fill("20")
    panel.start("Once upon a time")
    panel.is_in("completed")
    text = panel.texts.first.evaluate("e => e.textContent")
    expect(saved).to_contain_text(text)
    expect(saved).to_be_hidden()
    opened.command("docmanager:save")
    notebook = json.loads(opened.file.read_text())
    outputs = notebook["cells"][1]["outputs"]
    assert "".join(outputs[1]["data"]["text/plain"]).startswith(text)
    assert outputs[1]["metadata"]["modelcompose"]["input"]["prompt"] == "Once upon a time"
    opened.shut_down()
    opened.reload()
    expect(saved).to_be_visible()
    expect(saved).to_contain_text(text)


def test_going_back_live_and_copying(lab: Lab) -> None:
    opened, panel = opened_panel(lab)
    opened.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    panel.field("Count").fill("1")
    panel.field("Length (tokens)").fill("8")
    for prompt in ("A fox", "A bear"):
        panel.prompt.fill(prompt)
        panel.run.click()
        expect(panel.texts).to_contain_text([prompt])
        panel.is_in("completed")
    expect(panel.cards).to_have_count(2)
    panel.cards.nth(1).get_by_role("button", name="A fox").click()
    expect(panel.texts).to_contain_text(["A fox"])
    expect(panel.prompt).to_have_value("A fox")
    panel.root.get_by_role("button", name="Copy as Python").click()
    expect(panel.root.get_by_role("button", name="Copied")).to_be_visible()
    copied = opened.page.evaluate("navigator.clipboard.readText()")
    given = "{'count': 1, 'prompt': 'A fox', 'length': 8, 'temperature': 0.7, 'top_k': 50}"
    assert re.fullmatch(rf"story\.start\({re.escape(given)}, seed=\d+\)\.result\(\)", copied)
    panel.field("Live").check()
    panel.root.get_by_role("slider").first.press("ArrowRight")
    expect(panel.cards).to_have_count(3)
    panel.prompt.fill("A wolf")
    panel.prompt.blur()
    expect(panel.texts).to_contain_text(["A wolf"])
    panel.field("Live").uncheck()
    expect(panel.cards).to_have_count(4)
