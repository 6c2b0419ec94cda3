"""Tokens in the colours of their probabilities, what else was likely, and branches."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from dashboard.serving import dashboard
from playwright.sync_api import Browser, Locator, ViewportSize, expect

from .pages import SECONDS, Lab, NotebookPage, leave
from .test_chat import CHAT, chat_of
from .test_panel import LOAD, Panel
from .traffic import Traffic

STORY = """\
%%compose story
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: ${input.length as integer | 40}
  temperature: 1.0
  top_k: 3
"""
MARKDOWN = STORY.replace("component:", "workflow:\n  output: ${output as markdown}\ncomponent:")
WIDTH = "e => parseFloat(getComputedStyle(e, null).getPropertyValue('--share'))"
COLOUR = "e => getComputedStyle(e).backgroundColor"


class Tokens:
    """What there is of tokens in a panel."""

    def __init__(self, root: Locator) -> None:
        self.root = root
        self.switch = root.get_by_role("checkbox", name="Probabilities", exact=True)
        self.box = root.locator(".modelcompose-tokens")
        self.all = self.box.locator(".modelcompose-token")
        self.parting = root.locator(".modelcompose-token-parting")
        self.beside = root.get_by_role("dialog")
        self.choices = self.beside.get_by_role("button", name=re.compile("^Continue with"))
        self.legend = root.locator(".modelcompose-legend")

    def text(self) -> str:
        return str(self.box.evaluate("e => e.textContent"))


def opened_story(lab: Lab, cell: str = STORY, *more: str) -> tuple[NotebookPage, Panel, Tokens]:
    opened = lab.open(LOAD, cell, *more)
    opened.run(0)
    opened.run(1)
    panel = Panel(opened.output(1).locator(".modelcompose-panel"))
    return opened, panel, Tokens(panel.root)


def run(panel: Panel, prompt: str = "Once upon a time") -> None:
    panel.prompt.fill(prompt)
    panel.run.click()
    expect(panel.root.locator(".modelcompose-texts")).to_contain_text(prompt)
    panel.is_in("completed")


@pytest.mark.smoke
def test_by_keys_from_token_to_token_to_an_alternative_to_a_branch(
    lab: Lab, errors: list[str], elsewhere: list[str]
) -> None:
    opened, panel, tokens = opened_story(lab)
    tokens.switch.check()
    run(panel)
    expect(tokens.all).to_have_count(40)
    assert tokens.text().startswith("Once upon a time")
    keyboard = opened.page.keyboard
    panel.text.focus()
    keyboard.press("Tab")
    first = tokens.all.first
    expect(first).to_be_focused()
    expect(first).to_have_role("button")
    expect(first).to_have_accessible_name(re.compile(r"percent, rank \d$"))
    expect(tokens.beside).to_be_visible()
    for _ in range(3):
        keyboard.press("ArrowRight")
    keyboard.press("ArrowLeft")
    expect(tokens.all.nth(2)).to_be_focused()
    assert first.get_attribute("role") is None  # to those who read, it is text again
    expect(tokens.choices).to_have_count(4)
    keyboard.press("Escape")
    expect(tokens.beside).to_be_hidden()
    keyboard.press("Enter")
    expect(tokens.choices.first).to_be_focused()
    keyboard.press("Escape")
    expect(tokens.all.nth(2)).to_be_focused()
    keyboard.press("ArrowDown")
    keyboard.press("ArrowDown")
    chosen = tokens.choices.nth(1)
    expect(chosen).to_be_focused()
    word = chosen.locator("code").inner_text().lstrip("␣")
    before = [tokens.all.nth(place).inner_text() for place in range(2)]
    keyboard.press("Enter")
    expect(tokens.parting).to_have_text(word)
    panel.is_in("completed")
    expect(tokens.parting).to_be_focused()
    assert [tokens.all.nth(place).inner_text() for place in range(2)] == before
    expect(tokens.beside).to_be_hidden()
    expect(panel.cards).to_have_count(2)
    expect(panel.cards.first).to_contain_text(re.compile(f"“{word}” for “.*” · branch of [0-9:]+"))
    keyboard.press("End")
    expect(tokens.all.last).to_be_focused()
    assert opened.cell(2).count() == 0  # no key went to the notebook
    assert not errors
    assert elsewhere == []


def test_pointing_at_a_token_shows_bars_and_one_of_them_branches(lab: Lab) -> None:
    opened, panel, tokens = opened_story(lab)
    tokens.switch.check()
    run(panel)
    place = tokens.all.nth(5)
    place.hover()
    expect(tokens.beside).to_be_visible()
    rows = tokens.beside.locator(".modelcompose-alternative")
    shares = [float(each.evaluate(WIDTH)) for each in rows.locator("i").all()]
    assert len(shares) >= 5
    listed = shares[:5]
    assert listed == sorted(listed, reverse=True)
    said = rows.first.locator(".modelcompose-share").inner_text()
    assert float(said.strip(" >%")) == pytest.approx(100 * shares[0], abs=1.1)
    expect(tokens.beside.locator(".modelcompose-ruled-out").last).to_be_visible()
    expect(tokens.beside).to_contain_text("could not be drawn")
    rows.first.hover()  # one can go there
    expect(tokens.beside).to_be_visible()
    panel.prompt.hover()
    expect(tokens.beside).to_be_hidden()
    tokens.legend.get_by_role("combobox").select_option("of the draw")
    place.hover()
    expect(tokens.beside.locator(".modelcompose-ruled-out .modelcompose-share").first).to_have_text(
        "< 0.1 %"
    )
    ruled_out = tokens.beside.locator("button.modelcompose-ruled-out").last
    word = ruled_out.locator("code").inner_text().lstrip("␣")
    ruled_out.click()
    expect(tokens.parting).to_have_text(word)
    panel.is_in("completed")
    panel.root.get_by_role("checkbox", name="Choose").first.check()
    panel.root.get_by_role("checkbox", name="Choose").last.check()
    panel.root.get_by_role("button", name="Compare", exact=True).click()
    compared = panel.root.locator(".modelcompose-compared mark")
    expect(compared.first).to_contain_text(word)
    assert opened.page.evaluate("document.querySelectorAll('[popover]:popover-open').length") == 0


def test_while_the_switch_is_off_nothing_is_asked_sent_or_drawn(lab: Lab, traffic: Traffic) -> None:
    opened, panel, tokens = opened_story(lab, STORY, "print(_2.run.tokens)")
    traffic.clear()
    run(panel)
    opened.run(2)
    expect(opened.output(2)).to_have_text("[[]]\n")
    expect(tokens.beside).to_have_count(0)
    expect(tokens.box).to_have_count(0)
    expect(tokens.legend).to_be_hidden()
    contents = [str(each.content) for each in traffic.received("comm_msg")]
    assert not any("'tokens'" in each or "logprob" in each for each in contents)


def test_a_text_that_came_without_gets_them_and_is_plain_again(lab: Lab) -> None:
    _, panel, tokens = opened_story(lab)
    run(panel)
    text = panel.texts.first.evaluate("e => e.textContent")
    tokens.switch.check()
    expect(tokens.legend).to_contain_text("without probabilities")
    tokens.legend.get_by_role("button", name="Add them").click()
    expect(tokens.all).to_have_count(40)
    panel.is_in("completed")
    assert tokens.text() == text
    expect(panel.cards).to_have_count(1)  # of the two one is enough
    tokens.switch.uncheck()
    expect(tokens.box).to_have_count(0)
    expect(panel.texts).to_have_text(text)
    expect(panel.texts).to_be_visible()


# A run of 5,000 tokens, in lines; two bytes of a character first, and a stop sequence at the end.
LONG = """
import math
import threading

from modelcompose_jupyter.workflow import Run

STREAM = ["job", 0, 0, 0]
pause = threading.Event()


def token(place):
    text = "\\n" if place % 100 == 99 else f" word{place}"
    text = {0: "", 1: "한", 4999: " STOP"}.get(place, text)
    logprob = math.log(((37 * place) % 100 + 1) / 101)
    shown = {"token": text or "\\\\xed", "logprob": logprob, "sampling_logprob": None}
    others = [{**shown, "id": id} for id in range(5)]
    return {**shown, "id": 0, "text": text, "rank": 1, "alternatives": others}


def add(run, begin, end, known=[""]):
    tokens = [token(place) for place in range(begin, end)]
    run.add("tokens", {"stream": STREAM, "offset": begin, "tokens": tokens, "start": 6})
    text = "".join(each["text"] for each in tokens).removesuffix(" STOP")
    run.add("text", {"stream": STREAM, "offset": 6 + len(known[0]), "text": text})
    known[0] += text


run = Run("story", {"prompt": "Prompt"}, lambda: None)
run.add("state", {"state": "running"})
run.add("text", {"stream": STREAM, "offset": 0, "text": "Prompt"})
_2._view.show(run)
add(run, 0, 500)
"""
MORE = """
for begin in range(500, 5000, 100):
    add(run, begin, begin + 100)
    pause.wait(0.01)
run.add("text", {"stream": STREAM, "offset": len(run.text), "text": "", "finish_reason": "stop"})
run.add("state", {"state": "completed", "summary": {"usage": {"generated": 5000}}})
"""
WATCH = """box => {
    window.changed = [];
    const seen = new Set(box.querySelectorAll('.modelcompose-token'));
    window.first = [...seen];
    new MutationObserver(changes => {
        for (const { type, target, removedNodes } of changes) {
            const isDrawn = type !== 'childList' || seen.has(target);
            if (isDrawn || [...removedNodes].some(each => seen.has(each)))
                window.changed.push(`${type} ${target.className}`);
        }
    }).observe(box, { subtree: true, childList: true, characterData: true, attributes: true });
}"""
SAME = "box => window.first.every(span => box.contains(span))"
COPY = "box => { getSelection().selectAllChildren(box); return String(getSelection()); }"


def test_five_thousand_tokens_are_drawn_once_each_and_the_text_is_copied_as_it_is(
    lab: Lab, errors: list[str]
) -> None:
    opened, panel, tokens = opened_story(lab, STORY, LONG, MORE, "print(run.text)")
    tokens.switch.check()
    opened.run(2)
    expect(tokens.all).to_have_count(499)  # two are one character
    tokens.box.evaluate(WATCH)
    opened.run(3)
    panel.is_in("completed")
    expect(tokens.all).to_have_count(4999)
    assert opened.page.evaluate("window.changed") == []
    assert tokens.box.evaluate(SAME)
    first, last = tokens.all.first, tokens.all.last
    expect(first).to_have_text("한")
    first.click()
    expect(tokens.beside.locator("header")).to_have_count(2)  # a character of two tokens
    opened.page.keyboard.press("Escape")
    expect(last).to_have_class(re.compile("modelcompose-token-beyond"))
    expect(last).to_have_text("␣STOP")
    opened.run(4)
    text = opened.output(4).inner_text()
    copied = tokens.box.evaluate(COPY)
    assert copied.removesuffix("␣STOP").strip() == text.strip()
    assert not errors


def test_without_its_kernel_a_panel_shows_what_was_likely_and_offers_no_branch(
    lab: Lab, errors: list[str]
) -> None:
    opened, panel, tokens = opened_story(lab)
    tokens.switch.check()
    run(panel)
    opened.restart()
    expect(
        opened.output(1).locator(".modelcompose-panel.jupyter-widgets-disconnected")
    ).to_be_visible()
    tokens.all.nth(3).click()
    expect(tokens.choices.first).to_be_disabled()
    expect(tokens.beside).not_to_contain_text("Choose one")
    opened.page.keyboard.press("Enter")
    opened.page.keyboard.press("ArrowDown")
    expect(tokens.all.nth(3)).to_be_focused()
    assert not any("Cannot send" in each for each in errors)  # JupyterLab has errors of its own


def test_a_notebook_without_a_kernel_shows_the_colours(lab: Lab) -> None:
    opened, panel, tokens = opened_story(lab)
    tokens.switch.check()
    run(panel)
    text = panel.texts.first.evaluate("e => e.textContent")
    saved = opened.page.locator(".modelcompose-saved")
    expect(saved).to_contain_text(text)
    opened.command("docmanager:save")
    opened.shut_down()
    # As one that a colleague sent: nothing vouches for it, so styles and scripts are taken out.
    opened.file.write_text(opened.file.read_text("utf-8").replace("Once upon", "Long upon"))
    opened.reload(idle=False)
    expect(saved).to_be_visible()
    expect(saved).to_contain_text(text.replace("Once upon", "Long upon"))
    spans = saved.locator("span[title]")
    expect(spans).to_have_count(40)
    expect(spans.first).to_have_attribute("title", re.compile(r"%, rank \d"))
    colours = {each.evaluate(COLOUR) for each in spans.all()}
    assert len(colours) > 2
    assert any(each.startswith("rgba(224, 100, 0, ") for each in colours)


@pytest.mark.viewport(900, 900)
def test_a_reply_has_tokens_and_its_branch_can_be_undone(lab: Lab) -> None:
    opened = lab.open(LOAD, CHAT)
    opened.run(0)
    opened.run(1)
    chat = chat_of(opened)
    tokens = Tokens(chat.root)
    chat.say("Tell me a story about a fox.")
    chat.replied()
    chat.root.get_by_role("button", name="Settings").click()
    tokens.switch.check()
    tokens.legend.get_by_role("button", name="Add them").click()
    expect(tokens.all).to_have_count(30)
    chat.replied()
    text = tokens.text()
    tokens.all.nth(3).click()
    word = tokens.choices.first.locator("code").inner_text().lstrip("␣")
    tokens.choices.first.click()
    expect(tokens.parting).to_have_text(word)
    chat.replied()
    assert tokens.text() != text
    chat.root.get_by_role("button", name="Undo").click()
    expect(chat.turn(1, "assistant")).to_contain_text(text)
    expect(chat.turns).to_have_count(2)


def test_markdown_is_shown_as_the_tokens_that_it_was_written_in(lab: Lab) -> None:
    _, panel, tokens = opened_story(lab, MARKDOWN)
    tokens.switch.check()
    run(panel, "**Once** upon a time")
    expect(tokens.all).to_have_count(40)
    expect(tokens.box).to_be_visible()
    assert tokens.text().startswith("**Once** upon a time")
    tokens.switch.uncheck()
    expect(panel.root.locator(".modelcompose-texts strong")).to_have_text("Once")


def test_on_a_page_by_touch(browser: Browser, tmp_path: Path) -> None:
    size = ViewportSize(width=400, height=900)
    context = browser.new_context(viewport=size, has_touch=True, is_mobile=True)
    context.set_default_timeout(1000 * SECONDS)
    with dashboard(tmp_path, STORY.partition("\n")[2]) as server:
        page = context.new_page()
        page.goto(f"{server.url}/?prompt=Once%20upon%20a%20time")
        panel = Panel(page.locator(".modelcompose-panel:visible"))
        tokens = Tokens(panel.root)
        panel.run.tap()
        panel.is_in("completed")
        text = panel.texts.first.evaluate("e => e.textContent")
        tokens.switch.tap()
        tokens.legend.get_by_role("button", name="Add them").tap()
        expect(tokens.all).to_have_count(40)
        panel.is_in("completed")
        assert tokens.text() == text
        tokens.all.nth(7).tap()
        expect(tokens.beside).to_be_visible()
        box: Any = tokens.beside.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= size["width"]
        choice = tokens.choices.first
        target: Any = choice.bounding_box()
        assert target["height"] >= 44  # as large as a finger
        word = choice.locator("code").inner_text().lstrip("␣")
        choice.tap()
        expect(tokens.parting).to_have_text(word)
        expect(tokens.beside).to_be_hidden()
        leave(page)
    context.close()
