"""The probabilities of a panel's texts, and branches, on the model that ships."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from modelcompose_jupyter import LocalHost, load
from modelcompose_jupyter.widgets.panel import Panel
from modelcompose_jupyter.widgets.static_output import bundle
from modelcompose_jupyter.workflow.tokens import Token

from .conftest import updated, wait_until

STORY = """
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: ${input.length as integer | 12}
"""
CHAT = """
component:
  type: model
  task: chat-completion
  model: bundled:storyteller
  messages: ${input.messages}
  max_output_length: 12
"""


@pytest.fixture(scope="module")
def own_host() -> Iterator[LocalHost]:
    host = LocalHost()
    yield host
    host.close()


def a_panel(host: LocalHost, document: str = STORY) -> Panel:
    return load(document, host=host).panel()


def ended(panel: Panel, *, after: str = "") -> None:
    """Wait until a run has ended and is shown, another one than ``after``."""
    view = panel._view
    wait_until(view, lambda: bool(view.ended and view.run_id not in ("", after)))


def run(panel: Panel, prompt: str = "Once upon a time") -> None:
    panel.inputs.prompt.value = prompt
    panel._run_button.click()
    ended(panel)


def tokens(panel: Panel, text: int = 0) -> list[Token]:
    assert panel.run is not None
    return panel.run.tokens[text]


def switch(panel: Panel, on: bool = True) -> None:
    panel._probabilities.value = on
    updated()


def branch(panel: Panel, token: int, *, text: int = 0) -> Token:
    """Branch at a token to the first alternative that is another one; gives the token."""
    assert panel.run is not None
    before, id = tokens(panel, text)[token], panel.run.id
    other = next(each.id for each in before.alternatives if each.id != before.id)
    message = {"type": "branch", "run": id, "text": text, "token": token, "alternative": other}
    panel._received(message)
    ended(panel, after=id)
    return tokens(panel, text)[token]


def test_tokens_are_asked_for_while_the_switch_is_on(own_host: LocalHost) -> None:
    panel = a_panel(own_host)
    run(panel)
    assert tokens(panel) == []
    assert panel._view.get_state()["tokens"] == []
    switch(panel)
    run(panel, "A little robot")
    assert len(tokens(panel)) == 12
    assert all(len(each.alternatives) == 5 for each in tokens(panel))
    shown = panel._view.get_state()["tokens"]
    assert [len(groups) for *_, groups in shown] == [12]
    switch(panel, False)
    assert panel._view.get_state()["tokens"] == []


def test_a_document_that_asks_for_them_has_the_switch_on(own_host: LocalHost) -> None:
    panel = a_panel(own_host, STORY + "  logprobs: 2\n")
    assert panel._probabilities.value
    run(panel)
    assert all(len(each.alternatives) == 2 for each in tokens(panel))
    assert not a_panel(own_host)._probabilities.value


def test_a_text_that_came_without_them_gets_them_and_stays_as_it_is(own_host: LocalHost) -> None:
    panel = a_panel(own_host)
    run(panel)
    assert panel.run is not None
    first = panel.run
    switch(panel)
    panel._received({"type": "weigh", "run": "another"})
    assert panel.run is first
    panel._received({"type": "weigh", "run": first.id})
    ended(panel, after=first.id)
    updated()
    assert panel.run.text == first.text
    assert len(tokens(panel)) == 12
    # One that says no more than another is none to go back to.
    assert [card["id"] for card in panel._history.cards()] == [panel.run.id]


def test_a_branch_goes_on_from_another_token_and_says_so(own_host: LocalHost) -> None:
    panel = a_panel(own_host)
    switch(panel)
    run(panel)
    assert panel.run is not None
    parent = panel.run
    old = parent.tokens[0][4]
    new = branch(panel, 4)
    assert [each.id for each in tokens(panel)[:4]] == [each.id for each in parent.tokens[0][:4]]
    assert new.id != old.id
    assert panel.run.record["seed"] == parent.record["seed"]
    assert list(panel._view.parting) == [0, 4]
    card, other = panel._history.cards()
    words = [each.token.strip() for each in (new, old)]
    (detail,) = card["details"]
    assert detail == "“{}” for “{}” · branch of {}".format(*words, other["time"])
    assert other["details"] == []
    panel._received({"type": "show", "run": parent.id})
    updated()
    assert list(panel._view.parting) == []


def test_a_branch_of_what_is_not_in_view_or_goes_on_is_none(own_host: LocalHost) -> None:
    panel = a_panel(own_host)
    switch(panel)
    run(panel)
    before = panel.run
    message = {"type": "branch", "run": "another", "text": 0, "token": 0, "alternative": 5}
    panel._received(message)
    assert panel.run is before
    panel._received({**message, "run": before.id, "token": 99})
    updated()
    assert panel.run is before
    assert "99" in panel._view.error
    panel.inputs.length.value = 400
    panel._run_button.click()
    goes = panel.run
    panel._received({**message, "run": goes.id})
    panel._stop_button.click()
    ended(panel, after=before.id)
    assert panel.run is goes


def test_a_reply_is_replaced_by_its_branch_and_brought_back_by_undo(own_host: LocalHost) -> None:
    panel = a_panel(own_host, CHAT)
    switch(panel)
    panel.inputs.messages.value = "Tell me a story."
    panel._run_button.click()
    ended(panel)
    chat = panel.inputs.messages
    said = chat.turns
    branch(panel, 3)
    assert len(chat.turns) == 2
    assert chat.turns[1]["content"] == panel.run.text != said[1]["content"]
    panel._received({"type": "undo"})
    updated()
    assert chat.turns == said


def test_what_a_notebook_keeps_is_coloured(own_host: LocalHost) -> None:
    kept: list[Any] = []
    panel = a_panel(own_host)
    panel._saved.keep = kept.append
    switch(panel)
    run(panel)
    html = bundle(kept[-1], panel.workflow.signature)[0]["text/html"]
    assert html.count("title=") == 12
    assert "background-color" in html
