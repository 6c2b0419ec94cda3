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

    def __init__(self, root: Locator) -> None:
        self.root = root
        self.message = self.root.get_by_placeholder("Message")
        self.run = self.root.get_by_role("button", name="Send", exact=True)
        self.stop = self.root.get_by_role("button", name="Stop")
        self.anew = self.root.get_by_role("button", name="New conversation")
        self.conversations = self.root.get_by_role("combobox", name="Conversation")
        self.turns = self.root.get_by_role("log", name="Conversation").locator("section")
        self.text = self.root.get_by_role("log", name="Generated text")
        expect(self.run).to_be_visible()

    def turn(self, index: int, role: str) -> Locator:
        turn = self.turns.nth(index)
        expect(turn).to_have_attribute("data-role", role)
        return turn

    def action(self, index: int, name: str) -> Locator:
        """A button of a message, which is seen where one points at the message."""
        return self.turns.nth(index).get_by_role("button", name=name, exact=True)

    def replied(self) -> None:
        """Wait until the last reply has ended."""
        expect(self.action(-1, "Regenerate")).to_be_visible()

    def say(self, text: str) -> None:
        before = self.turns.count()
        self.message.fill(text)
        self.message.press("Enter")
        expect(self.turns).not_to_have_count(before)  # what was replied before is none to this


def opened_chat(
    application: Jupyter | Voila, cell: str = CHAT
) -> tuple[NotebookPage | VoilaPage, Chat]:
    opened = application.open(LOAD, cell)
    if isinstance(opened, NotebookPage):
        opened.run(0)
        opened.run(1)
    return opened, chat_of(opened)


def chat_of(opened: NotebookPage | VoilaPage, cell: int = 1) -> Chat:
    return Chat(opened.output(cell).locator(".modelcompose-panel"))


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
    expect(chat.turn(1, "assistant")).to_have_text(re.compile(r"Assistant\s*\S+ \S+"))
    expect(chat.message).to_have_value("")
    expect(chat.text).to_be_hidden()  # it is read in the conversation
    chat.replied()
    chat.message.fill("Tell me a story about an owl.")
    chat.message.press("Shift+Enter")
    chat.message.press("x")
    expect(chat.message).to_have_value("Tell me a story about an owl.\nx")
    chat.run.click()
    expect(chat.turns).to_have_count(4)
    chat.replied()
    if isinstance(opened, NotebookPage):
        opened.command("docmanager:save")
        opened.reload()
        chat = chat_of(opened)
        expect(chat.turns).to_have_count(4)
    chat.anew.click()
    expect(chat.turns).to_have_count(0)
    chat.say("Tell me a story about a mouse.")
    chat.replied()
    expect(chat.conversations.locator("option")).to_have_count(2)
    chat.conversations.select_option(index=1)
    expect(chat.turns).to_have_count(4)
    expect(chat.turn(2, "user")).to_contain_text("owl")
    assert not errors
    # Voila's own template asks for icons.
    assert [url for url in elsewhere if "fontawesome" not in url] == []


def test_a_reply_is_changed_and_goes_on_from_there(lab: Lab) -> None:
    _, chat = opened_chat(lab)
    chat.say("Tell me a story about a fox.")
    chat.replied()
    first = chat.turn(1, "assistant").locator(".modelcompose-said").inner_text()
    chat.turn(1, "assistant").hover()
    chat.action(1, "Edit").click()
    edited = chat.root.get_by_label("Edit the message")
    expect(edited).to_be_focused()
    edited.fill("The fox was green, and")
    edited.press("Enter")
    # What it begins with stays in view while the rest comes, and they are one reply.
    expect(chat.turn(1, "assistant")).to_contain_text(re.compile(r"The fox was green, and \w+"))
    chat.replied()
    expect(chat.turns).to_have_count(2)
    expect(chat.turn(1, "assistant")).to_contain_text(re.compile(r"The fox was green, and \w+"))
    chat.say("And then?")
    chat.replied()
    expect(chat.turns).to_have_count(4)
    expect(chat.turn(1, "assistant")).to_contain_text("The fox was green, and")
    assert first not in chat.turn(1, "assistant").inner_text()


def test_messages_are_edited_and_replies_had_again(lab: Lab) -> None:
    opened, chat = opened_chat(lab)
    chat.say("Tell me a story about a fox.")
    chat.replied()
    chat.say("Tell me a story about an owl.")
    chat.replied()
    first = chat.turn(3, "assistant").inner_text()
    chat.action(3, "Regenerate").click()
    expect(chat.turn(3, "assistant")).not_to_have_text(first, use_inner_text=True)
    chat.replied()
    expect(chat.turns).to_have_count(4)
    # Escape leaves a message as it was.
    chat.turn(0, "user").hover()
    chat.action(0, "Edit").click()
    edited = chat.root.get_by_label("Edit the message")
    expect(edited).to_be_focused()
    edited.fill("Tell me a story about a bear.")
    edited.press("Escape")
    expect(edited).to_have_count(0)
    expect(chat.turn(0, "user")).to_contain_text("fox")
    expect(chat.turns).to_have_count(4)
    # What was said after a message that is edited goes.
    chat.action(0, "Edit").click()
    edited.fill("Tell me a story about a bear.")
    edited.press("Enter")
    expect(chat.turns).to_have_count(2)
    expect(chat.turn(0, "user")).to_contain_text("bear")
    chat.replied()
    # The reply was cut at thirty tokens.
    cut = len(chat.turn(1, "assistant").locator(".modelcompose-said").inner_text())
    chat.action(1, "Continue").click()
    chat.replied()
    eventually = "([said, length]) => said.innerText.length > length"
    said = chat.turn(1, "assistant").locator(".modelcompose-said").element_handle()
    opened.page.wait_for_function(eventually, arg=[said, cut])
    expect(chat.turns).to_have_count(2)


@pytest.mark.stop
def test_a_reply_that_is_stopped_stays(lab: Lab) -> None:
    _, chat = opened_chat(lab, ENDLESS)
    chat.say("Tell me a story about a fox.")
    expect(chat.turns).to_have_count(2)
    expect(chat.turn(1, "assistant")).to_have_text(re.compile(r"Assistant\s*[\s\S]{20}"))
    chat.stop.click()
    chat.replied()
    expect(chat.turns).to_have_count(2)
    expect(chat.turn(1, "assistant")).to_have_text(re.compile(r"Assistant\s*\w+"))
    chat.say("Tell me a story about an owl.")
    expect(chat.turn(3, "assistant")).to_have_text(re.compile(r"Assistant\s*[\s\S]{20}"))
    expect(chat.stop).to_be_visible()
    chat.message.press("Escape")
    chat.replied()
    expect(chat.turns).to_have_count(4)
