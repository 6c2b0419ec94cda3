"""What a panel shows of a run that asks something, and what it does with the answers."""

from __future__ import annotations

from typing import Any

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import LocalHost, load
from modelcompose_jupyter.callable import Workflow
from modelcompose_jupyter.widgets.panel import Panel
from modelcompose_jupyter.workflow import Run

from .conftest import updated, wait_until

COMPONENT = """
component:
  type: model
  task: text-generation
  model: scripted
  text: ${input.prompt as text}
"""
REVIEW = """
workflow:
  jobs:
    - id: write
      input: {prompt: "${input.prompt as text}"}
      output: {text: "${output}"}
      interrupt:
        before: {choices: ["${job.input}", {prompt: other}, 3]}
        after: {message: "**Good**?", metadata: {by: model, tries: [1]}}
"""
CHAT = """
component:
  type: model
  task: chat-completion
  model: scripted
  messages: ${input.messages as messages}
workflow: {interrupt: {after: {message: "Send it?"}}}
"""


def panel_of(host: LocalHost, text: str = COMPONENT + REVIEW, **options: Any) -> Panel:
    return Panel(Workflow(load(text).document, host=host, **options))


def asked(panel: Panel, id: str) -> dict[str, Any]:
    """The one question that a panel shows, when it is this one."""
    view = panel._view
    wait_until(view, lambda: [each["id"] for each in view.questions] == [id])
    question: dict[str, Any] = view.questions[0]
    return question


def ended(panel: Panel) -> None:
    wait_until(panel._view, lambda: panel._view.ended)


def answer(panel: Panel, question: str, **given: Any) -> None:
    assert panel.run is not None
    panel._received({"type": "answer", "run": panel.run.id, "question": question, **given})


def begun(panel: Panel) -> None:
    panel.inputs.prompt.value = "a"
    panel._run_button.click()


def test_questions_come_into_view_and_are_answered(host: LocalHost) -> None:
    panel = panel_of(host)
    begun(panel)
    question = asked(panel, "write.before")
    assert (question["job"], question["json"], question["message"]) == ("write", True, "")
    assert question["choices"] == ['{\n  "prompt": "a"\n}', '{\n  "prompt": "other"\n}', "3"]
    view = panel._view
    assert (view.state, view.progress) == ("interrupted", {"text": "Waiting for an answer"})
    assert (panel._run_button.disabled, panel._stop_button.disabled) == (True, False)
    assert view.kept_run == view.run_id

    answer(panel, "write.before", choice=1)
    question = asked(panel, "write.after")
    assert (question["text"], question["json"], question["choices"]) == ("<other>", False, [])
    assert question["metadata"] == [["by", "model"], ["tries", "[\n  1\n]"]]
    assert "<strong>Good</strong>" in question["html"]

    answer(panel, "write.after", text="better")
    ended(panel)
    assert panel.run is not None
    assert panel.run.output == {"text": "better"}
    assert (view.state, view.questions, view.kept_run) == ("completed", [], "")


def test_data_is_read_as_json_and_what_is_none_is_said(host: LocalHost) -> None:
    choices = 'choices: ["${job.input}", {prompt: other}, 3]'
    panel = panel_of(host, COMPONENT + REVIEW.replace(choices, "metadata: {a: 1}"))
    begun(panel)
    asked(panel, "write.before")
    answer(panel, "write.before", text="{")
    wait_until(panel._view, lambda: panel._view.error.startswith("the answer is no JSON"))
    answer(panel, "write.before", text='{"prompt": "c"}')
    assert asked(panel, "write.after")["text"] == "<c>"
    answer(panel, "write.after")
    ended(panel)
    assert panel.run is not None
    assert panel.run.output == {"text": "<c>"}


def test_an_answer_to_what_is_not_asked_any_more_is_nothing(host: LocalHost) -> None:
    panel = panel_of(host)
    begun(panel)
    asked(panel, "write.before")
    panel._received({"type": "answer", "run": "another", "question": "write.before", "choice": 2})
    assert panel.run is not None
    panel.run.answer()
    answer(panel, "write.before", choice=1)
    asked(panel, "write.after")
    assert panel._view.error == ""
    panel.stop()
    ended(panel)
    assert (panel._view.state, panel._view.questions) == ("cancelled", [])


def test_a_run_that_waits_goes_on_when_nobody_looks(
    host: LocalHost, models: ScriptedModels
) -> None:
    panel = panel_of(host)
    begun(panel)
    asked(panel, "write.before")
    panel._received({"type": "gone"})
    assert panel.run is not None
    assert not panel.run.wait(0.1)
    answer(panel, "write.before")
    asked(panel, "write.after")
    panel.stop()
    models.hold = ("held",)
    other = panel_of(host, COMPONENT)
    other.inputs.prompt.value = "held"
    other._run_button.click()
    other._received({"type": "gone"})
    ended(other)
    assert other._view.state == "cancelled"


def test_a_page_that_is_loaded_again_finds_its_run(host: LocalHost) -> None:
    first = panel_of(host)
    begun(first)
    asked(first, "write.before")
    again = panel_of(host)
    assert first.run is not None
    again._received({"type": "rejoin", "run": first.run.id})
    asked(again, "write.before")
    assert (again._run_button.disabled, again._stop_button.disabled) == (True, False)
    answer(again, "write.before")
    asked(again, "write.after")
    answer(again, "write.after", text="better")
    ended(again)
    ended(first)
    assert again.run is not None
    assert again.run.output == {"text": "better"}


@pytest.mark.parametrize("id", ["unknown", ""])
def test_a_page_whose_run_is_forgotten_begins_anew(host: LocalHost, id: str) -> None:
    panel = panel_of(host)
    panel._received({"type": "rejoin", "run": id})
    updated()
    assert (panel.run, panel._view.error) == (None, "")


def test_a_run_whose_input_nobody_says_ends_in_view(host: LocalHost) -> None:
    panel = panel_of(host, for_guests=True)  # as a guest's, when its page was loaded again
    run = Run("w", None, lambda: None)
    panel._view.show(run)
    run.add("state", {"state": "completed", "summary": {}})
    ended(panel)
    assert (panel._view.error, panel._view.snippets) == ("", [])


def test_a_run_of_another_workflow_is_not_found(host: LocalHost) -> None:
    other = load(COMPONENT + "workflow: {id: other}", host=host).submit(prompt="a")
    panel = panel_of(host)
    panel._received({"type": "rejoin", "run": other.id})
    assert panel.run is None


def test_a_chat_asks_and_is_found_again(host: LocalHost) -> None:
    panel = panel_of(host, CHAT)
    conversation = panel._conversation
    assert conversation is not None
    conversation.value = "Hello"
    panel._run_button.click()
    asked(panel, "__job__.after")
    again = panel_of(host, CHAT)
    assert again._conversation is not None
    assert panel.run is not None
    again._received({"type": "restore", "kept": conversation.kept()})
    again._received({"type": "rejoin", "run": panel.run.id})
    assert asked(again, "__job__.after")["message"] == "Send it?"
    answer(again, "__job__.after")
    ended(again)
    said = [each["content"] for each in again._conversation.turns]
    assert said[0] == "Hello"
    assert len(said) == 2


def test_words_of_a_question_show_visitors_no_folders(host: LocalHost) -> None:
    text = COMPONENT + REVIEW.replace("**Good**?", "Keep /home/me/x.txt?").replace(
        "by: model", "at: /home/me/y.txt"
    )
    panel = panel_of(host, text, for_guests=True)
    begun(panel)
    asked(panel, "write.before")
    answer(panel, "write.before")
    question = asked(panel, "write.after")
    assert "/home/me" not in str(question)
    assert "x.txt" in question["message"]
    panel.stop()
