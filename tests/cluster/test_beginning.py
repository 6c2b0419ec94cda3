"""What requests have in common that are best run in the same place."""

from __future__ import annotations

from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.ray.beginning import beginning_of

STORY = """
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: "Examples: ${input.examples}\\n\\n${input.question}"
"""
CHAT = """
component:
  type: model
  task: chat-completion
  model: bundled:storyteller
  messages: ${input.messages}
"""


def beginning(text, **values):
    document = load_document(text)
    return beginning_of(document, document.workflow(), values)


def test_a_prompt_is_rendered():
    long = "one two three " * 50
    first = beginning(STORY, question="Why?", examples=long)
    assert first == beginning(STORY, question="How?", examples=long)
    assert first != beginning(STORY, question="Why?", examples="others")
    assert beginning(STORY, question="a", examples="") != beginning(
        STORY, question="b", examples=""
    )


def test_the_turns_of_a_chat_have_one():
    system = {"role": "system", "content": "You are kind. " * 100}
    turns = [system, {"role": "user", "content": "Hello"}]
    first = beginning(CHAT, messages=turns)
    more = [*turns, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Why?"}]
    assert first == beginning(CHAT, messages=more)
    assert first != beginning(CHAT, messages=[system, {"role": "user", "content": "Bye"}])


def test_models_differ():
    other = STORY.replace("bundled:storyteller", "another/model")
    given = {"question": "a", "examples": "b"}
    assert beginning(STORY, **given) != beginning(other, **given)


def test_what_is_rendered_of_jobs_goes_by_its_input():
    document = load_document("""
component: {type: model, task: text-generation, model: "bundled:storyteller", text: "${input.a}"}
workflow:
  jobs:
    - {id: one, input: {a: "${input.topic}"}}
    - {id: two, input: {a: "${jobs.one.output}"}, depends_on: [one]}
""")
    flow = document.workflow()
    first = beginning_of(document, flow, {"topic": "cats"})
    assert first == beginning_of(document, flow, {"topic": "cats"})
    assert first != beginning_of(document, flow, {"topic": "dogs"})
