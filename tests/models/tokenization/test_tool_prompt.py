"""Tools, calls and results in what a model reads: by its template, or in words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from standins import chat_templates, tiny_models, tool_templates
from standins.tool_templates import DEEPSEEK, GEMMA, LLAMA_3, MISTRAL, QWEN_3, SMOLLM_3

from modelcompose_jupyter.document.types import Message, messages
from modelcompose_jupyter.errors import InputError
from modelcompose_jupyter.models.tokenization import chat_template
from modelcompose_jupyter.models.tokenization.chat import text_of
from modelcompose_jupyter.models.tokenization.chat_renderer import ChatRenderer
from modelcompose_jupyter.models.tokenization.chat_template import TemplateLimit
from modelcompose_jupyter.models.tokenization.tool_prompt import reading

CHATML = chat_templates.CHATML
PARTS = (
    "{% for m in messages %}<s>{{ m.role }}: {% for p in m.content %}"
    "{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}</s>{% endfor %}<s>assistant: "
)
TOOL = {
    "type": "function",
    "function": {
        "name": "warmth",
        "description": "How warm it is.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}
ASKED: list[Any] = [{"role": "system", "content": "Be brief."}, "How warm is it?"]
PLACE = 'Zürich "<old>"'


def calling(*places: str) -> dict[str, Any]:
    calls = [{"function": {"name": "warmth", "arguments": {"place": place}}} for place in places]
    return {"role": "assistant", "tool_calls": calls}


def told(content: Any) -> dict[str, Any]:
    return {"role": "tool", "content": content}


EXCHANGE = messages([ASKED[1], calling(PLACE), told('{"degrees": 21}')])
CALL_IN_WORDS = (
    '<tool_call>\n{"name": "warmth", "arguments": {"place": "Zürich \\"<old>\\""}}\n</tool_call>'
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_models.tokenizer(bos=True)


@pytest.mark.parametrize("template", [QWEN_3, LLAMA_3, MISTRAL])
def test_a_template_that_knows_tools_gets_what_transformers_gives_it(
    template: str, tokenizer: Any
) -> None:
    theirs = tokenizer.apply_chat_template(
        EXCHANGE, tools=[TOOL], chat_template=template, tokenize=False, add_generation_prompt=True
    )
    assert text_of(tokenizer, EXCHANGE, tools=[TOOL], template=template) == theirs
    assert reading(ChatRenderer(tokenizer, template)).tools


@pytest.mark.parametrize("template", [QWEN_3, LLAMA_3, MISTRAL, DEEPSEEK])
def test_calls_and_results_of_an_earlier_exchange_need_no_tools(
    template: str, tokenizer: Any
) -> None:
    text = text_of(tokenizer, EXCHANGE, template=template)
    assert "Zürich" in text and "21" in text
    assert "<tools>" not in text


def test_arguments_are_a_text_where_a_template_wants_one(tokenizer: Any) -> None:
    text = text_of(tokenizer, EXCHANGE, template=DEEPSEEK)
    assert f"warmth\n```json\n{json.dumps({'place': PLACE}, ensure_ascii=False)}\n```" in text
    assert "<|tool_output_begin|>" in text


@pytest.mark.parametrize("template", [GEMMA, CHATML, DEEPSEEK, PARTS])
def test_a_template_that_knows_no_tools_has_them_in_words(template: str, tokenizer: Any) -> None:
    assert not reading(ChatRenderer(tokenizer, template)).tools
    text = text_of(tokenizer, EXCHANGE, tools=[TOOL], template=template)
    assert f"<tools>\n{json.dumps(TOOL['function'])}\n</tools>" in text
    assert CALL_IN_WORDS in text
    assert '<tool_response>\n{"degrees": 21}\n</tool_response>' in text
    assert [
        text.index(part) for part in ("<tools>", CALL_IN_WORDS, "<tool_response>\n{")
    ] == sorted(text.index(part) for part in ("<tools>", CALL_IN_WORDS, "<tool_response>\n{"))


@pytest.mark.parametrize(
    ("template", "system", "expected"),
    [
        (CHATML, [], "<|im_start|>system\nYou can call functions."),
        (CHATML, ASKED[:1], "<|im_start|>system\nBe brief.\n\nYou can call functions."),
        (GEMMA, [], "<s><start_of_turn>user\nYou can call functions."),
        (QWEN_3, ASKED[:1], "<|im_start|>system\nBe brief.\n\n# Tools"),
    ],
)
def test_where_tools_are_described(
    template: str, system: list[Message], expected: str, tokenizer: Any
) -> None:
    given = messages([*system, "How warm is it?"])
    text = text_of(tokenizer, given, tools=[TOOL], template=template)
    assert text.startswith(expected)
    assert text.count("How warm is it?") == 1


def test_what_a_template_knows_stays_its_own(tokenizer: Any) -> None:
    text = text_of(tokenizer, EXCHANGE, tools=[TOOL], template=SMOLLM_3)
    assert "### Tools" in text and "You can call functions" not in text
    assert f"assistant\n{CALL_IN_WORDS}<|im_end|>" in text
    assert '<|im_start|>user\n{"degrees": 21}<|im_end|>' in text


def test_results_in_words_and_what_the_user_says_then_are_one_message(tokenizer: Any) -> None:
    given = messages(
        [ASKED[1], calling("Seoul", "Oslo"), told(21), told("2\n"), "Where is it warm?"]
    )
    text = text_of(tokenizer, given, template=GEMMA)
    assert (
        "user\n<tool_response>\n21\n</tool_response>\n<tool_response>\n2\n\n</tool_response>\n"
        "Where is it warm?<end_of_turn>"
    ) in text
    given = messages(
        [ASKED[1], calling("Seoul"), told(21), {"role": "assistant", "content": "Warm"}]
    )
    text = text_of(tokenizer, [*given, {"role": "user", "content": "Sure?"}], template=GEMMA)
    assert "model\nWarm<end_of_turn>" in text


def test_calls_come_one_by_one_where_a_template_takes_no_more(tokenizer: Any) -> None:
    said = {**calling("Seoul", "Oslo"), "content": "Let me see."}  # which Llama's leaves out
    given = messages([ASKED[1], said, told("21"), told("2")])
    text = text_of(tokenizer, given, template=LLAMA_3)
    assert [text.index(each) for each in ("Seoul", '"21"', "Oslo", '"2"')] == sorted(
        text.index(each) for each in ("Seoul", '"21"', "Oslo", '"2"')
    )
    answers = {each["tool_call_id"]: each for each in given if each["role"] == "tool"}
    swapped = [*given[:2], *reversed(answers.values())]
    assert text_of(tokenizer, swapped, template=LLAMA_3) == text
    text = text_of(tokenizer, given, template=QWEN_3)
    assert text.index("Oslo") < text.index("21")


@pytest.mark.parametrize(
    ("template", "who"),
    [
        (QWEN_3.replace("{{- content }}", "{{- content[:12] }}"), "tool"),
        (
            QWEN_3.replace("tool_call.arguments | tojson", "(tool_call.arguments | tojson)[:26]"),
            "assistant",
        ),
    ],
)
def test_words_of_calls_and_results_that_a_template_leaves_out_are_an_error(
    template: str, who: str, tokenizer: Any
) -> None:
    given = messages([ASKED[1], calling("the old town of Seoul"), told("It has 21 degrees")])
    with pytest.raises(InputError, match=f"leaves out words of a message of the {who}") as caught:
        text_of(tokenizer, given, template=template)
    assert caught.value.code == "message_lost"


@pytest.mark.parametrize(
    "notation", ["| tojson(indent=2)", "| tojson | upper", "| string", "| items"]
)
def test_calls_may_be_written_in_any_notation(notation: str, tokenizer: Any) -> None:
    template = QWEN_3.replace("tool_call.arguments | tojson", f"tool_call.arguments {notation}")
    given = messages(
        [
            "Hi",
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "function": {
                            "name": "find_it",
                            "arguments": {"a": [1, {"b-c": '한국어, "x"\n'}], "d": None, "e": True},
                        }
                    }
                ],
            },
            told("ok"),
        ]
    )
    text = text_of(tokenizer, given, template=template)
    assert "한국어" in text and "find_it" in text


def test_calls_that_nothing_came_of_cannot_be_replied_to(tokenizer: Any) -> None:
    with pytest.raises(InputError, match="the last message calls tools") as caught:
        text_of(tokenizer, EXCHANGE[:2], template=QWEN_3)
    assert "role 'tool'" in str(caught.value)
    text = text_of(
        tokenizer, [*EXCHANGE[:2], {"role": "user", "content": "Go on"}], template=QWEN_3
    )
    assert "Go on" in text


def test_thoughts_are_there_under_all_their_names(tokenizer: Any) -> None:
    said: list[Message] = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello", "reasoning_content": "Greet."},
        {"role": "user", "content": "Bye"},
    ]
    for name in ("reasoning_content", "reasoning", "thinking"):
        template = (
            "{% for m in messages %}{% if m." + name + " %}({{ m." + name + " }}){% endif %}"
            "{{ m.content }} {% endfor %}"
        )
        assert text_of(tokenizer, said, template=template) == "Hi (Greet.)Hello Bye "


def test_what_a_template_makes_of_tools_is_found_out_once_and_within_bounds(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}"
    with pytest.raises(TemplateLimit):
        reading(ChatRenderer(tokenizer, endless))
    own = QWEN_3 + "{# once #}"
    assert reading(ChatRenderer(tokenizer, own)).tools
    monkeypatch.setattr(chat_template, "render", None)
    assert reading(ChatRenderer(tokenizer, own)).tools


def test_all_of_these_templates_are_read_by_transformers(tokenizer: Any) -> None:
    templates = [value for name, value in vars(tool_templates).items() if name.isupper()]
    assert len(templates) == 6
    for template in templates:
        tokenizer.apply_chat_template(
            [{"role": "user", "content": "Hi"}], chat_template=template, tokenize=False
        )
