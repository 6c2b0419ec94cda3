"""A panel whose input is a conversation: what is said joins it, turn by turn."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage
from standins.scripted import ScriptedModels

from modelcompose_jupyter import InputError, LocalHost, ModelError, load
from modelcompose_jupyter.document.types import Message
from modelcompose_jupyter.widgets.conversation import Conversation
from modelcompose_jupyter.widgets.inputs import Inputs, entered, read, write
from modelcompose_jupyter.widgets.panel import Panel
from modelcompose_jupyter.widgets.static_output import bundle

from .conftest import updated, wait_until

CHAT = """
component:
  type: model
  task: chat-completion
  model: scripted
  messages: ${input.messages as json}
  temperature: ${input.temperature as number | 0.7}
"""


@pytest.fixture
def models() -> ScriptedModels:
    return ScriptedModels(lambda prompt: ["to", f" {prompt[-1]['content']}"])


@pytest.fixture
def panel(host: LocalHost) -> Panel:
    return load(CHAT, host=host).panel()


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


def conversation(panel: Panel) -> Conversation:
    found: Conversation = panel.inputs.messages
    return found


def ended(panel: Panel) -> None:
    view = panel._view
    wait_until(view, lambda: view.run is not None and view.ended and view.run_id == view.run.id)


def say(panel: Panel, text: str) -> None:
    panel.inputs.messages.value = text
    panel._run_button.click()
    ended(panel)


def held(panel: Panel, models: ScriptedModels, text: str) -> Any:
    """A run that stands after the first piece of its reply, as the panel shows it."""
    models.hold = ([*conversation(panel).turns, user(text)],)  # type: ignore[assignment]
    panel.inputs.messages.value = text
    run = panel.submit()
    assert models.started.acquire(timeout=30)
    updated()
    return run


def test_a_reply_joins_the_conversation(panel: Panel, models: ScriptedModels) -> None:
    say(panel, "Hello")
    assert conversation(panel).turns == [user("Hello"), assistant("to Hello")]
    assert conversation(panel).value == ""
    say(panel, "And now?")
    asked = [user("Hello"), assistant("to Hello"), user("And now?")]
    assert models.prompts == [asked[:1], asked]
    assert conversation(panel).turns == [*asked, assistant("to And now?")]
    assert panel.run is not None
    assert panel.run.text == "to And now?"


def test_a_panel_goes_on_from_messages_of_a_client(host: LocalHost, models: ScriptedModels) -> None:
    reply = ChatCompletionMessage(role="assistant", content=None)
    before: list[Any] = [
        {"role": "developer", "content": "Be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}], "name": None},
        reply,
        user("b"),
    ]
    panel = load(CHAT, host=host).panel(messages=before)
    system: Message = {"role": "system", "content": "Be brief"}
    assert conversation(panel).turns == [system, user("a"), assistant("")]
    panel._run_button.click()
    ended(panel)
    assert models.prompts == [[system, user("a"), assistant(""), user("b")]]


def test_what_is_said_is_shown_at_once_and_is_safe(panel: Panel, models: ScriptedModels) -> None:
    models.reply = lambda prompt: ["**so** <script>x</script>", " ![a](http://a.example/b)"]
    run = held(panel, models, "<b>Hello</b>\n*you*")
    assert panel._view.turns == [user("<b>Hello</b>\n*you*")]
    assert panel._view.reply == 0
    models.gate.set()
    ended(panel)
    _, reply = panel._view.turns
    assert reply["content"] == "**so** <script>x</script> ![a](http://a.example/b)"
    assert "<strong>so</strong>" in reply["html"]
    assert "<script" not in reply["html"]
    assert "<img" not in reply["html"]
    assert run.state == "completed"


def test_a_reply_that_is_stopped_stays(panel: Panel, models: ScriptedModels) -> None:
    held(panel, models, "Hello")
    panel._stop_button.click()
    ended(panel)
    assert conversation(panel).turns == [user("Hello"), assistant("to")]


def test_a_next_message_takes_the_place_of_a_reply_that_goes_on(
    panel: Panel, models: ScriptedModels
) -> None:
    first = held(panel, models, "Hello")
    say(panel, "Stop!")
    assert first.wait(30)
    assert first.state == "cancelled"
    asked = [user("Hello"), assistant("to"), user("Stop!")]
    assert conversation(panel).turns == [*asked, assistant("to Stop!")]
    assert models.prompts[-1] == asked


def test_a_message_without_a_reply_is_sent_again_or_replaced(
    panel: Panel, models: ScriptedModels
) -> None:
    models.failure = ModelError("no such model", code="model_not_found")
    say(panel, "Hello")
    assert conversation(panel).turns == [user("Hello")]
    assert "no such model" in panel._view.error
    models.failure = None
    say(panel, "")
    assert conversation(panel).turns == [user("Hello"), assistant("to Hello")]
    models.failure = ModelError("no such model", code="model_not_found")
    say(panel, "Wrong")
    models.failure = None
    say(panel, "Right")
    assert conversation(panel).turns[2:] == [user("Right"), assistant("to Right")]


def test_there_must_be_something_to_reply_to(panel: Panel) -> None:
    panel._run_button.click()
    assert "there is no message to send" in panel._form.rows["messages"].children[-1].value
    say(panel, "Hello")
    with pytest.raises(InputError, match="there is no message to send"):
        panel.submit()
    assert len(conversation(panel).turns) == 2


def test_a_message_that_cannot_be_sent_stays_to_be_changed(panel: Panel, host: LocalHost) -> None:
    host.close()
    panel.inputs.messages.value = "Hello"
    panel._run_button.click()
    wait_until(panel._view, lambda: "the host is closed" in panel._view.error)
    assert conversation(panel).value == "Hello"
    assert conversation(panel).turns == []


def browser_says(panel: Panel, **message: Any) -> None:
    panel._view._handle_custom_msg(message, [])
    updated()


def test_a_new_conversation_stops_the_old_one_which_stays(
    panel: Panel, models: ScriptedModels
) -> None:
    run = held(panel, models, "Hello")
    browser_says(panel, type="new")
    assert run.wait(30) and run.state == "cancelled"
    assert (panel._view.turns, panel._view.state) == ([], "idle")
    say(panel, "Once more")
    assert models.prompts[-1] == [user("Once more")]
    assert [each["name"] for each in panel._view.conversations] == ["Once more", "Hello"]
    browser_says(panel, type="conversation", id=panel._view.conversations[1]["id"])
    assert panel._view.turns[0] == user("Hello")
    assert panel._view.turns[1]["content"] == "to"


def test_conversations_have_names_and_are_forgotten(panel: Panel) -> None:
    say(panel, "Hello")
    (only,) = panel._view.conversations
    browser_says(panel, type="rename", id=only["id"], name=" Greetings ")
    assert [each["name"] for each in panel._view.conversations] == ["Greetings"]
    browser_says(panel, type="remove", id=only["id"])
    assert panel._view.turns == []
    assert [each["name"] for each in panel._view.conversations] == ["New conversation"]


def test_a_message_is_said_in_other_words(panel: Panel, models: ScriptedModels) -> None:
    say(panel, "One")
    say(panel, "Two")
    browser_says(panel, type="edit", index=0, text="Other")
    ended(panel)
    assert models.prompts[-1] == [user("Other")]
    assert conversation(panel).turns == [user("Other"), assistant("to Other")]


def test_a_reply_is_had_again(panel: Panel, models: ScriptedModels) -> None:
    say(panel, "One")
    panel._keep_seed.value = True
    browser_says(panel, type="regenerate")
    ended(panel)
    assert conversation(panel).turns == [user("One"), assistant("to One")]
    first, second = models.parameters
    assert first["seed"] != second["seed"]


def test_a_message_leaves_its_field_in_the_browser(panel: Panel, models: ScriptedModels) -> None:
    panel.inputs.messages.value = "typed meanwhile"
    browser_says(panel, type="send", text="Hello")
    ended(panel)
    assert models.prompts == [[user("Hello")]]
    assert panel.inputs.messages.value == "typed meanwhile"


def test_a_message_that_cannot_be_sent_comes_back(panel: Panel, host: LocalHost) -> None:
    host.close()
    browser_says(panel, type="send", text="Hello")
    wait_until(panel._view, lambda: "the host is closed" in panel._view.error)
    assert (conversation(panel).value, conversation(panel).turns) == ("Hello", [])


def test_what_was_forgotten_last_can_be_brought_back(panel: Panel) -> None:
    say(panel, "One")
    say(panel, "Two")
    browser_says(panel, type="edit", index=0, text="Other")
    ended(panel)
    assert panel._view.undoable
    browser_says(panel, type="undo")
    assert [each["content"] for each in panel._view.turns] == ["One", "to One", "Two", "to Two"]
    assert not panel._view.undoable
    browser_says(panel, type="remove", id=panel._view.conversation)
    assert panel._view.turns == []
    browser_says(panel, type="undo")
    assert len(panel._view.turns) == 4
    say(panel, "Three")
    assert not panel._view.undoable


def test_a_reply_that_was_edited_goes_on_from_there(panel: Panel, models: ScriptedModels) -> None:
    say(panel, "One")
    begun = [user("One"), assistant("Well,")]
    models.hold = (begun,)  # type: ignore[assignment]
    browser_says(panel, type="edit", index=1, text="Well,")
    assert models.started.acquire(timeout=30)
    wait_until(panel._view, lambda: panel._view.turns[-1].get("begun"))
    assert panel._view.turns[-1]["content"] == "Well,"
    models.gate.set()
    ended(panel)
    assert models.prompts[-1] == begun
    assert conversation(panel).turns == [user("One"), assistant("Well,to Well,")]
    assert "begun" not in panel._view.turns[-1]
    browser_says(panel, type="undo")
    assert conversation(panel).turns == [user("One"), assistant("to One")]


def test_what_a_reply_had_gone_on_by_stays_when_it_is_broken_off(
    panel: Panel, models: ScriptedModels
) -> None:
    say(panel, "One")
    models.hold = ([user("One"), assistant("Well,")],)  # type: ignore[assignment]
    browser_says(panel, type="edit", index=1, text="Well,")
    assert models.started.acquire(timeout=30)
    updated()
    assert conversation(panel).entered("Two") == [user("One"), assistant("Well,to"), user("Two")]
    say(panel, "Two")
    assert models.prompts[-1][1:] == [assistant("Well,to"), user("Two")]


def test_a_saved_notebook_has_a_continued_reply_in_one(host: LocalHost) -> None:
    chat = load(CHAT, host=host)
    run = chat.run(messages=[user("One"), assistant("Well, ")])
    data, _ = bundle(run, chat.signature)
    assert "assistant:\nWell, to Well, \n[" in data["text/plain"]
    assert data["text/html"].count("<h4>Assistant</h4>") == 1
    assert "Well, to Well," in data["text/html"]


def test_an_edit_of_another_conversation_changes_nothing(panel: Panel) -> None:
    say(panel, "One")
    before = panel._view.conversation
    browser_says(panel, type="new")
    browser_says(panel, type="edit", index=0, text="Other", conversation=before)
    assert panel._view.turns == []
    browser_says(panel, type="conversation", id=before)
    assert panel._view.turns[0] == user("One")


def test_new_conversations_that_nothing_is_said_in_push_out_none(panel: Panel) -> None:
    say(panel, "One")
    for _ in range(60):
        browser_says(panel, type="new")
    assert [each["name"] for each in panel._view.conversations] == ["New conversation", "One"]


def test_the_latest_conversations_come_back_where_there_are_too_many(panel: Panel) -> None:
    long = [{"id": f"c{number}", "name": "", "turns": [user("x" * 300_000)]} for number in range(5)]
    browser_says(panel, type="restore", kept={"current": "c4", "conversations": long})
    ids = [each["id"] for each in conversation(panel).kept()["conversations"]]
    assert ids == ["c2", "c3", "c4"]
    assert panel._view.conversation == "c4"


def test_a_setting_that_is_missing_is_said_also_when_a_reply_is_had_again(host: LocalHost) -> None:
    text = CHAT.replace("as number | 0.7", "as number")
    panel = load(text, host=host).panel(temperature=0.7)
    say(panel, "One")
    panel.inputs.temperature.value = ""
    browser_says(panel, type="regenerate")
    row = panel._form.rows["temperature"]
    assert "Fill this in." in row.children[-1].value
    assert row.folds[0].value
    assert len(conversation(panel).turns) == 2


def test_what_a_browser_kept_comes_back(host: LocalHost, panel: Panel) -> None:
    say(panel, "One")
    kept = conversation(panel).kept()
    other = load(CHAT, host=host).panel()
    browser_says(other, type="restore", kept=kept)
    assert conversation(other).turns == [user("One"), assistant("to One")]
    say(other, "Two")
    assert len(conversation(other).turns) == 4


@pytest.mark.parametrize(
    "kept",
    [
        None,
        [],
        "text",
        {"conversations": 3},
        {"conversations": [None, {"id": "a"}, {"id": "b", "name": "", "turns": [{"role": "x"}]}]},
        {"current": 5, "conversations": [{"id": "a", "name": "", "turns": "x" * 2_000_000}]},
    ],
)
def test_what_a_browser_made_up_is_left_out(panel: Panel, kept: Any) -> None:
    browser_says(panel, type="restore", kept=kept)
    assert conversation(panel).turns == []
    say(panel, "Hello")
    assert len(conversation(panel).turns) == 2


def test_a_chat_has_its_own_controls_and_layout(panel: Panel) -> None:
    view, composer, toggle, settings = panel.children
    assert view is panel._view
    assert [each.description for each in composer.children[-1].children] == ["Send", "Stop"]
    assert (toggle.description, toggle.value) == ("Settings", False)
    assert settings.children[0].input.name == "temperature"
    panel.live = True
    panel.inputs.temperature.value = 1.0
    assert panel.run is None


def test_only_the_reply_of_the_last_job_is_the_turn(host: LocalHost) -> None:
    flow = load(
        CHAT.replace(" as json", "")
        + "workflow:\n  jobs:\n    - id: a\n    - {id: b, input: {messages: '${jobs.a.output}'}}\n",
        host=host,
    )
    panel = flow.panel()
    say(panel, "Hello")
    assert conversation(panel).turns == [user("Hello"), assistant("to to Hello")]


def test_a_conversation_that_is_told_from_python_goes_on(host: LocalHost) -> None:
    flow = load(CHAT, host=host)
    before = [user("One"), assistant("1")]
    panel = flow.panel(messages=[*before, user("Two")])
    assert (conversation(panel).turns, conversation(panel).value) == (before, "Two")
    panel = flow.panel(messages=[{"role": "system", "content": "Be brief"}])
    with pytest.raises(InputError, match="there is no message to send"):
        panel.submit()
    panel = flow.panel(messages="Hello")
    assert (conversation(panel).turns, conversation(panel).value) == ([], "Hello")
    with pytest.raises(InputError, match='there is no role "usr"'):
        flow.panel(messages=[{"role": "usr", "content": "a"}])


def test_a_new_conversation_begins_with_the_default(host: LocalHost) -> None:
    start = '[{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}]'
    text = CHAT.replace("${input.messages as json}", f"${{input.messages as json | {start}}}")
    panel = load(text, host=host).panel()
    say(panel, "Hello")
    assert len(conversation(panel).turns) == 3
    browser_says(panel, type="new")
    assert conversation(panel).turns == [{"role": "system", "content": "Be brief"}]
    assert conversation(panel).value == "Hi"


def test_turns_are_complete_as_soon_as_the_run_is(panel: Panel) -> None:
    panel.inputs.messages.value = "One"
    assert panel.submit().wait(30)
    assert conversation(panel).turns == [user("One"), assistant("to One")]


def test_what_was_said_is_carried_to_a_cell_that_runs_again(host: LocalHost) -> None:
    panel = load(CHAT, host=host).panel()
    say(panel, "One")
    signature = load(CHAT).signature
    assert entered(panel.inputs, signature) == {"messages": conversation(panel).turns}
    panel.inputs.messages.value = "Two"
    again = load(CHAT, host=host).panel(entered(panel.inputs, signature))
    assert conversation(again).turns == [user("One"), assistant("to One")]
    assert conversation(again).value == "Two"
    assert entered(Inputs(signature, {}), signature) == {}


def test_inputs_of_a_run_can_be_put_back() -> None:
    inputs = Inputs(load(CHAT).signature, {})
    said = [user("One"), assistant("1"), user("Two")]
    write(inputs, {"messages": said, "temperature": 1})
    assert read(inputs) == {"messages": said, "temperature": 1}
    write(inputs, {})
    assert inputs.messages.turns == []


def test_a_notebook_keeps_what_was_said(panel: Panel) -> None:
    say(panel, "One")
    say(panel, "Two <b>")
    assert panel.run is not None
    data, _ = bundle(panel.run, panel.workflow.signature)
    assert data["text/plain"].startswith(
        "user:\nOne\n\nassistant:\nto One\n\nuser:\nTwo <b>\n\nassistant:\nto Two <b>\n[Finished"
    )
    assert "Two &lt;b&gt;" in data["text/html"]
    assert "to One" in data["text/html"]
    assert data["text/html"].count('data-role="assistant"') == 2  # the last reply, too
