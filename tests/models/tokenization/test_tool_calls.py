"""How templates have calls written, the grammar of it, and calls taken out of replies."""

from __future__ import annotations

import json
import random

import pytest

from modelcompose_jupyter.document import grammars
from modelcompose_jupyter.models.constraints.compiler import GrammarCompiler
from modelcompose_jupyter.models.tokenization.chat_renderer import ChatRenderer
from modelcompose_jupyter.models.tokenization.tool_calls import (
    HERMES,
    MOST_CALLS,
    CallParser,
    CallSyntax,
    syntax_of,
)

from ...standins import call_templates as templates
from ...standins.tiny_models import tokenizer

SPECIAL = ("[TOOL_CALLS]", "[ARGS]", "<|tool_calls_begin|>")


def described(name, properties, required=None):
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
    }
    function = {"name": name, "description": "", "parameters": parameters}
    return {"type": "function", "function": function}


TOOLS = [
    described("get", {"city": {"type": "string"}}),
    described("get_weather", {"city": {"enum": ['a"b\\', "서울"]}, "days": {"type": "integer"}}),
    described("날씨", {"when": {"type": "string", "pattern": "^now$"}, "x": {"not": {}}}, []),
]


@pytest.fixture(scope="module")
def tokens():
    """A tokenizer that has the special tokens of the templates."""
    made = tokenizer()
    made.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    return made


@pytest.fixture(scope="module")
def compiled(tokens):
    return GrammarCompiler(tokens)


def syntax(template, tokens):
    return syntax_of(ChatRenderer(tokens, template))


KNOWN = {
    "hermes": (templates.HERMES, "<tool_call>", True),
    "qwen-3": (templates.QWEN_3, "<tool_call>", True),
    "llama-3": (templates.LLAMA_3, None, False),
    "mistral": (templates.MISTRAL, "[TOOL_CALLS]", True),
    "mistral-args": (templates.MISTRAL_ARGS, "[TOOL_CALLS]", True),
    "deepseek": (templates.DEEPSEEK, "<|tool_calls_begin|>", True),
    "xml": (templates.XML, "<tool_call>", True),
    "no tools": (templates.NO_TOOLS, "<tool_call>", True),
}
CALLS = [("get_weather", {"city": "서울", "days": 3}), ("get", {"city": "x}\n</tool_call>"})]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        (
            "hermes",
            '<tool_call>\n{"name": "a", "arguments": {"x": 1}}\n</tool_call>\n'
            '<tool_call>\n{"name": "b", "arguments": {}}\n</tool_call>',
        ),
        ("llama-3", '{"name": "a", "parameters": {"x": 1}}'),
        (
            "mistral",
            '[TOOL_CALLS][{"name": "a", "arguments": {"x": 1}}, {"name": "b", "arguments": {}}]',
        ),
        ("mistral-args", '[TOOL_CALLS]a[ARGS]{"x": 1}[TOOL_CALLS]b[ARGS]{}'),
        (
            "deepseek",
            "<|tool_calls_begin|><|tool_call_begin|>function<|tool_sep|>a\n```json\n"
            '{"x": 1}\n```<|tool_call_end|>\n<|tool_call_begin|>function<|tool_sep|>b\n```json\n'
            "{}\n```<|tool_call_end|><|tool_calls_end|>",
        ),
    ],
)
def test_calls_are_written_as_the_template_writes_them(name, written, tokens):
    found = syntax(KNOWN[name][0], tokens)
    calls = [("a", {"x": 1}), ("b", {})]
    assert found.written(calls if found.between is not None else calls[:1]) == written


@pytest.mark.parametrize("name", KNOWN)
def test_every_template_has_a_syntax(name, tokens):
    template, marker, is_parallel = KNOWN[name]
    found = syntax(template, tokens)
    assert (found.marker, found.between is not None) == (marker, is_parallel)


@pytest.mark.parametrize("name", ["qwen-3", "xml", "no tools"])
def test_others_have_the_usual_one(name, tokens):
    found = syntax(KNOWN[name][0], tokens)
    assert found == HERMES


# The grammar


@pytest.fixture
def takes(compiled, tokens):
    """Whether a whole reply is of a syntax's grammar, by the longest tokens that may be next."""
    written_by = compiled._bytes.of

    def take(found: CallSyntax, reply: str, *args, **kwargs) -> bool:
        grammar = found.grammar(TOOLS, *args, **kwargs)
        constraint = compiled.compile(grammar).result().constraint([tokens.eos_token_id])
        special = {id: text.encode() for text, id in found.special.items()}
        left = reply.encode()
        while left:
            fitting = {
                id: special.get(id, written_by[id])
                for id in map(int, constraint.allowed().nonzero()[0])
                if left.startswith(special.get(id, written_by[id])) and id != tokens.eos_token_id
            }
            if not fitting:
                return False
            id = max(fitting, key=lambda id: len(fitting[id]))
            constraint.take(id)
            left = left[len(fitting[id]) :]
        return constraint.is_complete or bool(constraint.allowed()[tokens.eos_token_id])

    return take


@pytest.mark.parametrize("name", KNOWN)
def test_the_grammar_is_text_with_calls_behind_it(name, takes, tokens):
    found = syntax(KNOWN[name][0], tokens)
    one = found.written(CALLS[:1])
    assert takes(found, "") and takes(found, "hello <tool")
    assert takes(found, one)
    if found.marker is None:
        return
    assert takes(found, f"hello {one}")
    assert not takes(found, f"{one} hello")
    two = found.written(CALLS)
    assert takes(found, two) and not takes(found, two, parallel=False)
    assert takes(found, one, parallel=False)
    many = found.written(CALLS[:1] * MOST_CALLS)
    assert takes(found, many)
    assert not takes(found, found.written(CALLS[:1] * (MOST_CALLS + 1)))


@pytest.mark.parametrize("name", KNOWN)
def test_a_choice_is_held_to(name, takes, tokens):
    found = syntax(KNOWN[name][0], tokens)
    one = found.written(CALLS[:1])
    for choice in ("required", "get_weather"):
        assert takes(found, one, choice)
        assert not takes(found, "", choice) and not takes(found, "hello", choice)
    assert not takes(found, one, "get")


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (("get_weather", {"city": 'a"b\\', "days": 3}), True),
        (("get_weather", {"city": "Paris", "days": 3}), False),
        (("get_weather", {"city": "서울", "days": 0.5}), False),
        (("get_weather", {"city": "서울"}), False),
        (("get", {"city": 'any " \\ \n 서울'}), True),
        (("get", {"city": "a", "more": 1}), False),
        (("날씨", {}), True),
        (("날씨", {"when": "now"}), True),
        (("nothing", {}), False),
        (("ge", {"city": "a"}), False),
    ],
)
@pytest.mark.parametrize("name", ["hermes", "llama-3", "mistral", "mistral-args", "deepseek"])
def test_arguments_are_of_their_schema(name, call, expected, takes, tokens):
    found = syntax(KNOWN[name][0], tokens)
    assert takes(found, found.written([call]), "required") is expected


def test_text_of_a_format_or_calls(takes, tokens):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    for text, said in ((grammars.of_schema(schema), '{"a": 3}'), (grammars.of_choices(["x"]), "x")):
        assert takes(HERMES, said, text=text)
        assert takes(HERMES, HERMES.written(CALLS[:1]), text=text)
        assert not takes(HERMES, "hello", text=text)
        assert not takes(HERMES, said, "required", text=text)


def test_very_many_tools_compile(compiled):
    properties = {f"argument_{n}": {"type": "string", "description": "x" * 50} for n in range(8)}
    tools = [described(f"tool_{number}", properties) for number in range(128)]
    constraint = compiled.compile(HERMES.grammar(tools)).result().constraint([2])
    assert constraint.allowed().any()


# Reading


def parsed(found, text, is_whole=True, step=1):
    parser = CallParser(found)
    pieces = [parser.push(text[at : at + step]) for at in range(0, len(text), step)]
    return "".join([*pieces, parser.finish(is_whole)]), parser.calls, parser.is_cut


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_calls_are_taken_out_however_they_come(name, step, tokens):
    found = syntax(KNOWN[name][0], tokens)
    before = "" if found.marker is None else "Let me look: <tool"
    calls = CALLS if found.between is not None else CALLS[:1]
    text = f"{before}{found.written(calls)}"
    assert parsed(found, text, step=step) == (before, calls, False)


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_arguments_are_there_as_they_are_written(name, step, tokens):
    found = syntax(KNOWN[name][0], tokens)
    calls = CALLS if found.between is not None else CALLS[:1]
    text = found.written(calls)
    parser = CallParser(found)
    told: dict[int, list[tuple[str, str]]] = {}
    for at in range(0, len(text), step):
        parser.push(text[at : at + step])
        for place, each in enumerate(parser.written):
            told.setdefault(place, []).append(each)
    parser.finish()

    whole = [(name, json.dumps(arguments, ensure_ascii=False)) for name, arguments in calls]
    assert parser.written == whole
    for place, (of, arguments) in enumerate(whole):
        assert {each for each, _ in told[place]} == {of}
        assert all(arguments.startswith(each) for _, each in told[place])
        if step == 1:
            assert {each for _, each in told[place]} >= {
                arguments[:end] for end in range(1, len(arguments) + 1)
            }


def test_arguments_that_were_cut_are_there():
    parser = CallParser(HERMES)
    whole = HERMES.written(CALLS)
    parser.push(whole[: whole.index('{"city": "x}') + 8])
    assert parser.finish(is_whole=False) == "" and parser.is_cut
    assert parser.written == [
        ("get_weather", json.dumps(CALLS[0][1], ensure_ascii=False)), ("get", '{"city":')
    ]  # fmt: skip


def test_calls_that_nothing_holds_are_written_too():
    parser = CallParser(HERMES)
    parser.push('<tool_call> {"name": "f", "parameters": {"a": 1}} ok')
    assert parser.finish() == ""
    assert parser.written == [("f", '{"a": 1}')]


@pytest.mark.parametrize("name", KNOWN)
def test_text_is_text(name, tokens):
    found = syntax(KNOWN[name][0], tokens)
    for text in ("", "hello", "{", "  ", "<tool_cal", '{"name', "[TOOL_", 'a {"name": "x"}'):
        assert parsed(found, text) == (text, [], False)


def test_text_comes_as_soon_as_it_is_certain():
    parser = CallParser(HERMES)
    assert [parser.push(each) for each in ("a <", "b <tool_c", "x", "<tool_call>")] == [
        "a ", "<b ", "<tool_cx", "",
    ]  # fmt: skip
    assert parser.push('\n{"name": "f", "arguments": {"a": {"b": 1}') == ""
    assert parser.calls == []
    parser.push("}")
    assert parser.calls == [("f", {"a": {"b": 1}})]


@pytest.mark.parametrize("name", KNOWN)
def test_a_call_that_was_cut_is_lost(name, tokens):
    found = syntax(KNOWN[name][0], tokens)
    whole = found.written(CALLS[:1])
    start = len(found.opening)
    for end in range(start, len(whole.removesuffix(found.closing))):
        assert parsed(found, whole[:end], is_whole=False) == ("", [], True)
    assert parsed(found, whole, is_whole=False) == ("", CALLS[:1], False)


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ('<tool_call>{"name":"f","arguments":{"a":1}}</tool_call>', [("f", {"a": 1})]),
        ('<tool_call>\n\n{"arguments": {"a": 1}, "name": "f"}', [("f", {"a": 1})]),
        ('<tool_call> {"name": "f", "parameters": {"a": 1}} ok', [("f", {"a": 1})]),
        ('<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', [("f", {"a": 1})]),
        ('<tool_call>[{"name": "f"}, {"name": "g"}]</tool_call>', [("f", {}), ("g", {})]),
    ],
)
def test_what_models_write_that_nothing_holds(text, calls):
    assert parsed(HERMES, text) == ("", calls, False)


@pytest.mark.parametrize(
    "text", ["<tool_call>", "<tool_call>\nno JSON</tool_call>", "<tool_call>{" * 5000, "{" * 5000]
)
def test_what_is_no_call_is_text(text):
    assert parsed(HERMES, text, step=100) == (text, [], False)


def test_any_beginning_of_any_text_ends():
    """Pieces of calls in any order: nothing raises, and nothing is said twice."""
    pieces = [HERMES.opening, HERMES.middle, HERMES.between, HERMES.closing, "x", "{", "}", '"a"']
    chance = random.Random(0)
    for _ in range(2000):
        text = "".join(chance.choices(pieces, k=chance.randint(0, 8)))
        said, calls, _ = parsed(HERMES, text, step=chance.randint(1, 9))
        assert text.startswith(said)
        assert all(json.dumps(arguments) for _, arguments in calls)
