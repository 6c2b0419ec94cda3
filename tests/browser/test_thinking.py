"""What a model thinks: folded above its text, while it comes and after, by keys, as tokens, and in
saved notebooks."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect

from .pages import Jupyter, Lab, Voila
from .test_chat import CHAT, opened_chat
from .test_panel import LOAD, Panel
from .test_probabilities import COLOUR, Tokens

TEMPLATE = (
    "{% for m in messages %}{{ m.content }}\\n{% endfor %}"
    "{% if add_generation_prompt %}<think>\\n{% endif %}{# </think> #}"
)
BUDGET = 24
THINKER = CHAT.replace(
    "  temperature:",
    f'  chat_template: "{TEMPLATE}"\n'
    f"  thinking_budget: ${{input.budget as integer | {BUDGET}}}\n  seed: 3\n  temperature:",
).replace("| 30}", "| 60}")
# One of a prompt, which thinks for many times as long as a test needs.
ENDLESS = (
    THINKER.replace("${input.messages as json}", '[{role: user, content: "${input.prompt}"}]')
    .replace("| 60}", "| 400}")
    .replace(f"| {BUDGET}}}", "| 400}")
    .replace("component:", "  repeat_count: 500\ncomponent:")
)
LABEL = f"Thought for {BUDGET} tokens"
SAID = "Once upon a time there was a fox."


def thought_in(place: Locator) -> tuple[Locator, Locator]:
    """What is pressed to see a thought, and the thought."""
    fold = place.locator("details.modelcompose-thought")
    return fold.locator("summary"), fold.get_by_role("region", name="Thoughts")


def test_a_thought_is_folded_above_the_reply(
    application: Jupyter | Voila, errors: list[str]
) -> None:
    _, chat = opened_chat(application, THINKER)
    chat.say(SAID)
    chat.replied()
    reply = chat.turn(1, "assistant")
    label, thought = thought_in(reply)
    expect(label).to_have_text(LABEL)
    expect(thought).to_be_hidden()
    label.focus()
    label.press("Enter")
    expect(thought).to_be_visible()
    expect(thought).to_have_text(re.compile(r"\w"))
    words = thought.inner_text().strip()
    assert len(words) > 20
    answer = reply.locator(".modelcompose-said").inner_text()
    assert answer
    assert words not in answer
    assert "think>" not in reply.inner_text()
    label.press("Enter")
    expect(thought).to_be_hidden()
    chat.say("And then?")  # what was thought before stays
    chat.replied()
    expect(thought_in(chat.turn(1, "assistant"))[0]).to_have_text("Thoughts")
    expect(thought_in(chat.turn(3, "assistant"))[0]).to_have_text(LABEL)
    assert not errors


def test_while_it_thinks_there_is_a_hint_of_it(lab: Lab) -> None:
    opened = lab.open(LOAD, ENDLESS)
    opened.run(0)
    opened.run(1)
    panel = Panel(opened.output(1).locator(".modelcompose-panel"))
    panel.prompt.fill(SAID)
    panel.run.click()
    growing = panel.root.locator(".modelcompose-thought.modelcompose-thinks")
    label = growing.locator("summary").first
    expect(label.locator("span")).to_have_text("Thinking…")
    expect(label.locator("small")).to_be_visible()
    expect(label.locator("small")).to_have_text(re.compile(r"\w+ \w+"))
    panel.stop.click()
    panel.is_in("cancelled")
    expect(growing).to_have_count(0)
    first = panel.root.locator(".modelcompose-thought summary").first
    expect(first).to_have_text(re.compile(r"^Thought for \d+ tokens$"))


def test_a_reply_that_is_cut_within_its_thought_goes_on(lab: Lab) -> None:
    _, chat = opened_chat(lab, THINKER.replace("| 60}", f"| {BUDGET - 8}}}"))
    chat.say(SAID)
    further = chat.action(1, "Continue")
    expect(further).to_be_visible()
    reply = chat.turn(1, "assistant")
    label, _ = thought_in(reply)
    expect(label).to_have_text(f"Thought for {BUDGET - 8} tokens")
    assert reply.locator(".modelcompose-said").inner_text() == ""
    further.click()
    expect(label).to_have_text(LABEL)
    expect(reply.locator(".modelcompose-said")).to_have_text(re.compile(r"\w"))


@pytest.mark.viewport(900, 900)
def test_a_thought_is_seen_as_tokens(lab: Lab) -> None:
    _, chat = opened_chat(lab, THINKER)
    tokens = Tokens(chat.root)
    chat.root.get_by_role("button", name="Settings").click()
    tokens.switch.check()
    chat.say(SAID)
    chat.replied()
    reply = chat.turn(1, "assistant")
    label, thought = thought_in(reply)
    label.click()
    spans = thought.locator(".modelcompose-token")
    expect(spans.first).to_be_visible()
    assert len({each.evaluate(COLOUR) for each in spans.all()}) > 2
    answer = reply.locator(".modelcompose-tokens").last.inner_text()
    spans.nth(4).click()  # another token in the thought: another thought and another answer
    word = tokens.choices.first.locator("code").inner_text().lstrip("␣")
    tokens.choices.first.click()
    expect(tokens.parting).to_have_text(word)
    chat.replied()
    label, thought = thought_in(chat.turn(1, "assistant"))
    expect(label).to_have_text(LABEL)
    assert chat.turn(1, "assistant").locator(".modelcompose-tokens").last.inner_text() != answer


def test_a_notebook_without_a_kernel_has_the_thought_folded(lab: Lab) -> None:
    opened, chat = opened_chat(lab, THINKER)
    chat.say(SAID)
    chat.replied()
    label, thought = thought_in(chat.turn(1, "assistant"))
    label.click()
    expect(thought).to_have_text(re.compile(r"\w"))
    words = thought.inner_text().strip()
    saved = opened.page.locator(".modelcompose-saved")
    expect(saved.locator("summary")).to_have_text(LABEL)
    opened.command("docmanager:save")
    opened.shut_down()
    # As one that a colleague sent: nothing vouches for it, so styles and scripts are taken out.
    opened.file.write_text(opened.file.read_text("utf-8").replace("a fox.", "a vixen."))
    opened.reload(idle=False)
    expect(saved).to_be_visible()
    expect(saved).to_contain_text("a vixen.")
    fold = saved.locator("details")
    expect(fold.get_by_text(words)).to_be_hidden()
    fold.locator("summary").click()
    expect(fold.get_by_text(words)).to_be_visible()


@pytest.mark.viewport(400, 800)
def test_a_thought_fits_a_narrow_page(voila: Voila) -> None:
    opened, chat = opened_chat(voila, THINKER)
    chat.say(SAID)
    chat.replied()
    label, thought = thought_in(chat.turn(1, "assistant"))
    label.click()
    expect(thought).to_be_visible()
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 400
