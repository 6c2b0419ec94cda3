"""A chat in the panel: turns that join the conversation, as people see it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect

from .pages import Jupyter, Lab, NotebookPage, Voila, VoilaPage
from .test_panel import LOAD

CHAT = """\
%%compose chat
workflow:
  title: A chat
component:
  type: model
  task: chat-completion
  model: bundled:storyteller
  messages: ${input.messages as json}
  max_input_length: 60
  max_output_length: ${input.length as integer | 30}
  temperature: ${input.temperature as number | 0.7}
"""
# For many times as long as a test needs to press Stop.
ENDLESS = CHAT.replace("component:", "  repeat_count: 500\ncomponent:").replace(
    "max_output_length: ${input.length as integer | 30}",
    "min_output_length: 400\n  max_output_length: 400",
)


class Chat:
    """What a person finds in the panel of a chat."""

    def __init__(self, opened: NotebookPage | VoilaPage, cell: int = 1) -> None:
        self.root = opened.output(cell).locator(".modelcompose-panel")
        self.message = self.root.get_by_label("messages *")
        self.run = self.root.get_by_role("button", name="Run Workflow")
        self.anew = self.root.get_by_role("button", name="New conversation")
        self.turns = self.root.get_by_role("log", name="Conversation").locator("section")
        self.text = self.root.get_by_role("log", name="Generated text")
        expect(self.run).to_be_visible()

    def turn(self, index: int, role: str) -> Locator:
        turn = self.turns.nth(index)
        expect(turn).to_have_attribute("data-role", role)
        return turn

    def say(self, text: str) -> None:
        self.message.fill(text)
        self.message.press("Control+Enter")


def opened_chat(
    application: Jupyter | Voila, cell: str = CHAT
) -> tuple[NotebookPage | VoilaPage, Chat]:
    opened = application.open(LOAD, cell)
    if isinstance(opened, NotebookPage):
        opened.run(0)
        opened.run(1)
    return opened, Chat(opened)


@pytest.mark.parametrize(
    "application", [pytest.param("lab", marks=pytest.mark.smoke), "voila"], indirect=True
)
def test_turns_join_the_conversation(
    application: Jupyter | Voila, errors: list[str], elsewhere: list[str]
) -> None:
    opened, chat = opened_chat(application)
    expect(chat.turns).to_have_count(0)
    chat.say("Tell me a story about a <b>fox</b>.")
    expect(chat.turns).to_have_count(2)
    expect(chat.turn(0, "user")).to_contain_text("Tell me a story about a <b>fox</b>.")
    expect(chat.turn(1, "assistant")).to_have_text(re.compile(r"Assistant\s*\w+ \w+"))
    expect(chat.message).to_have_value("")
    expect(chat.text).to_be_hidden()  # it is read in the conversation
    chat.message.fill("Tell me a story about an owl.")
    chat.run.click()
    expect(chat.turns).to_have_count(4)
    if isinstance(opened, NotebookPage):
        opened.command("docmanager:save")
        opened.reload()
        chat = Chat(opened)
        expect(chat.turns).to_have_count(4)
    chat.root.get_by_label("Earlier runs").select_option(index=1)
    expect(chat.turns).to_have_count(2)
    chat.say("Tell me a story about a mouse.")
    expect(chat.turns).to_have_count(4)
    expect(chat.turn(2, "user")).to_contain_text("mouse")
    chat.anew.click()
    expect(chat.turns).to_have_count(0)
    assert not errors
    # Voila's own template asks for icons.
    assert [url for url in elsewhere if "fontawesome" not in url] == []


@pytest.mark.stop
def test_a_reply_that_is_stopped_stays(lab: Lab) -> None:
    _, chat = opened_chat(lab, ENDLESS)
    chat.say("Tell me a story about a fox.")
    expect(chat.turns).to_have_count(1)
    expect(chat.text).to_have_text(re.compile(r"[\s\S]{20}"))
    chat.root.get_by_role("button", name="Stop").click()
    expect(chat.turns).to_have_count(2)
    expect(chat.turn(1, "assistant")).to_have_text(re.compile(r"Assistant\s*\w+"))
