"""Calls of tools in a panel, as people see them."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from .pages import Lab, Theme, Voila
from .test_accessible import axe as axe
from .test_accessible import violations
from .test_chat import Chat, chat_of
from .test_panel import LOAD

FUNCTIONS = f"""\
{LOAD}
import threading
from typing import Literal
gate = threading.Event()
City = Literal["Paris", "Seoul"]

def get_weather(city: City) -> dict:
    "Tell the weather."
    gate.wait(90)
    return {{"city": city, "sky": "Sunny, <b>warm</b> and clear", "degrees": 24}}

def convert(city: City) -> str:
    "Convert money."
    raise ValueError("the rates of <b>today</b> are not there yet")
"""
CHAT = """\
%%compose chat
workflow:
  title: A chat with tools
component:
  type: model
  task: chat-completion
  model: bundled:storyteller
  messages: ${input.messages as json}
  tools: [get_weather, convert]
  tool_choice: ${input.choice as select/required,get_weather,convert,auto | get_weather}
  parallel_tool_calls: false
  max_output_length: 60
  temperature: 0
"""
ASK = "Tell me a story about the weather in Seoul."


def calls(root: Locator) -> Locator:
    return root.locator(".modelcompose-call:visible")


def state(call: Locator, expected: str) -> Locator:
    expect(call).to_have_attribute("data-state", expected)
    return call


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_call_is_seen_with_what_came_of_it(
    lab: Lab, errors: list[str], theme: Theme, axe: str
) -> None:
    opened = lab.open(FUNCTIONS, CHAT, "gate.set()", theme=theme)
    opened.run(0)
    opened.run(1)
    chat = chat_of(opened)
    chat.say(ASK)
    expect(chat.turns).to_have_count(2)
    call = state(calls(chat.root).first, "running")
    expect(call).to_contain_text("get_weather(city=")
    expect(call).to_contain_text("running")
    opened.run(2)
    chat.replied()
    state(call, "completed")
    expect(call.locator("pre").last).to_be_hidden()
    call.locator("summary").press("Enter")
    expect(call.locator("pre").last).to_contain_text('"sky": "Sunny, <b>warm</b> and clear"')
    # The exchange is what the next turn begins with.
    chat.root.get_by_role("button", name="Settings").click()
    chat.root.get_by_role("button", name="Advanced").click()
    chat.root.get_by_label("Choice", exact=True).select_option("convert")
    chat.say("Another one.")
    chat.replied()
    expect(chat.turns).to_have_count(4)
    expect(calls(chat.root)).to_have_count(2)
    failed = state(calls(chat.root).last, "failed")
    expect(failed).to_contain_text("ValueError: the rates of <b>today</b> are not there yet")
    assert violations(chat.root, axe) == []
    assert not errors


def test_a_saved_notebook_has_them_without_a_kernel(lab: Lab) -> None:
    opened = lab.open(FUNCTIONS + "gate.set()\n", CHAT)
    opened.run(0)
    opened.run(1)
    chat = chat_of(opened)
    chat.say(ASK)
    chat.replied()
    opened.command("docmanager:save")
    opened.shut_down()
    opened.reload()
    saved = opened.output(1).locator(".modelcompose-saved")
    expect(saved.locator("details")).to_have_count(1)
    saved.locator("summary").click()
    expect(saved).to_contain_text('"sky": "Sunny, <b>warm</b> and clear"')


@pytest.mark.viewport(400, 800)
def test_a_page_shows_calls_that_are_not_made(voila: Voila, page: Page) -> None:
    opened = voila.open(FUNCTIONS, CHAT)
    chat = Chat(opened.output(1).locator(".modelcompose-panel"))
    chat.say(ASK)
    call = state(calls(chat.root).first, "returned")
    expect(call).to_contain_text("returned, not run here")
    is_narrow = "() => document.documentElement.scrollWidth <= window.innerWidth"
    assert page.evaluate(is_narrow)
    chat.say("Another one.")
    expect(calls(chat.root)).to_have_count(2)


def test_calls_stand_before_a_text(lab: Lab) -> None:
    form = CHAT.replace(
        "${input.messages as json}", "[{role: user, content: '${input.topic as text}'}]"
    )
    opened = lab.open(FUNCTIONS + "gate.set()\n", form)
    opened.run(0)
    opened.run(1)
    panel = opened.output(1).locator(".modelcompose-panel")
    panel.get_by_role("textbox", name="Topic *").fill(ASK)
    panel.get_by_role("button", name="Run Workflow").click()
    state(calls(panel).first, "completed")
    expect(panel.get_by_role("log", name="Generated text").locator("h4:visible")).to_have_count(0)
    expect(panel.get_by_role("button", name="Copy text")).to_be_visible()
