"""Tools as they are described: OpenAI's shape, and what is wrong with others."""

from __future__ import annotations

import pytest

from modelcompose_jupyter.document.tool_definitions import (
    MOST_TOOLS,
    definition,
    tool_choice,
    tools,
)
from modelcompose_jupyter.document.types import ConversionError


def described(**function):
    return {"type": "function", "function": function}


def test_a_description_gets_what_it_lacks():
    assert definition({"function": {"name": "f"}}) == {
        "type": "function",
        "function": {
            "name": "f",
            "description": "",
            "parameters": {"type": "object", "properties": {}},
        },
    }
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    given = described(name="get-weather.v2", description="x", parameters=schema, strict=True)
    assert definition(given)["function"]["parameters"] == schema


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "a tool has a 'function'"),
        ({"type": "web_search"}, 'there is no tool of type "web_search"'),
        ({"type": "function", "name": "f"}, 'a tool has no "name"'),
        (described(), "null is no name of a tool"),
        (described(name='a"b'), "is no name of a tool"),
        (described(name="a b"), '"a b" is no name of a tool'),
        (described(name="a" * 65), "is no name of a tool"),
        (described(name="f", description=5), "the description of 'f' is a text"),
        (described(name="f", parameters={"type": "array"}), "the parameters of 'f' are a JSON"),
        (described(name="f", parameters=[]), None),
        ({"name": "f", "parameters": {}}, "its name, description, parameters stand in 'function'"),
        (described(name="f", parameter={}), 'a tool\'s function has no "parameter"'),
    ],
)
def test_what_is_wrong_with_a_description_is_said(given, message):
    if message is None:  # OpenAI's clients send an empty one for none
        assert definition(given)["function"]["parameters"]["type"] == "object"
        return
    with pytest.raises(ConversionError) as wrong:
        definition(given)
    assert message in str(wrong.value)


def test_tools_are_named_or_described():
    assert tools("get_weather") == ["get_weather"]
    assert tools(["날씨", described(name="f")])[0] == "날씨"
    for wrong in (["get weather"], [5], ["a.b"], ["f", "f"], ["f", described(name="f")]):
        with pytest.raises(ConversionError):
            tools(wrong)
    with pytest.raises(ConversionError):
        tools([f"f{number}" for number in range(MOST_TOOLS + 1)])


def test_a_choice_is_a_word_or_a_name():
    assert tool_choice("required") == "required"
    assert tool_choice({"type": "function", "function": {"name": "f"}}) == "f"
    for wrong in (None, 5, "", "a b", {}, {"function": {}}):
        with pytest.raises(ConversionError):
            tool_choice(wrong)
