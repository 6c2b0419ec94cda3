"""What is an axis of a grid, and where it stands in the table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy
import pandas
import polars
import pytest

from modelcompose_jupyter import InputError, load
from modelcompose_jupyter.comparing.axes import Axis, arranged, input_axis, told_apart

TEXT = """
component:
  type: model
  task: text-generation
  model: scripted
  text: ${input.prompt as text} ${input.tags as text[] | []} ${input.data as object | null}
  stop_sequences: ${input.stops as list | []}
  temperature: ${input.temperature as number | 0.7}
"""
CHAT = """
component:
  type: model
  task: chat-completion
  model: scripted
  messages: ${input.messages}
"""
SAID = [{"role": "user", "content": "Hello"}]


def varied(document: str, **given: Any) -> dict[str, list[Any]]:
    return told_apart(load(document).signature, given)[0]


def generated() -> Iterator[float]:
    yield from (0.5, 1.0)


@pytest.mark.parametrize(
    "values",
    [
        [0.5, 1.0],
        (0.5, 1.0),
        numpy.array([0.5, 1.0]),
        pandas.Series([0.5, 1.0], index=["a", "b"]),
        polars.Series([0.5, 1.0]),
        [numpy.float64(0.5), numpy.float64(1.0)],
        generated(),
    ],
    ids=lambda values: type(values).__name__,
)
def test_any_collection_of_values_is_an_axis(values: Any) -> None:
    found = varied(TEXT, temperature=values)
    assert found == {"temperature": [0.5, 1.0]}
    assert {type(each) for each in found["temperature"]} == {float}


@pytest.mark.parametrize(
    "value", ["a text", 0.5, None, {"a": [1, 2]}, numpy.float64(0.5), numpy.array(0.5), b"bytes"]
)
def test_one_value_is_none(value: Any) -> None:
    assert varied(TEXT, prompt=value) == {}


def test_of_lists_a_list_of_lists_is_one() -> None:
    assert varied(TEXT, tags=["a", "b"], stops=["."]) == {}
    assert varied(TEXT, tags=[["a", "b"], []]) == {"tags": [["a", "b"], []]}
    assert varied(TEXT, stops=[["."], ["!"]]) == {"stops": [["."], ["!"]]}
    assert varied(TEXT, tags=[], stops=[["."], "!"]) == {}
    assert varied(TEXT, data=[{"a": 1}, {"a": 2}]) == {"data": [{"a": 1}, {"a": 2}]}


def test_of_conversations_several_are_one() -> None:
    assert varied(CHAT, messages=SAID) == varied(CHAT, messages="Hello") == {}
    assert varied(CHAT, messages=[SAID, SAID]) == {"messages": [SAID, SAID]}
    assert varied(CHAT, messages=["Hello", SAID]) == {"messages": ["Hello", SAID]}
    assert varied(CHAT, messages=[*SAID, "And"]) == {}  # a conversation of two messages


def test_names_that_are_no_inputs_are_told_apart_too() -> None:
    given = {"seed": range(2), "other": 1}
    assert told_apart(load(TEXT).signature, given) == ({"seed": [0, 1]}, {"other": 1})


LONG = "A dragon who was afraid of the dark"
TEMPERATURES = input_axis("temperature", [0, 0.7])
SEEDS = input_axis("seed", [1, 2])
PROMPTS = input_axis("prompt", ["A fox", "An owl"])
LONG_PROMPTS = input_axis("prompt", ["A fox", LONG])
MANY = input_axis("length", range(20))
MODELS = Axis("workflow", (1, 2), ("a", f"b: {LONG}"), are_workflows=True)


@pytest.mark.parametrize(
    ("axes", "rows", "columns"),
    [
        ([TEMPERATURES], [], TEMPERATURES),
        ([PROMPTS], [], PROMPTS),
        ([LONG_PROMPTS], [LONG_PROMPTS], None),
        ([MANY], [MANY], None),
        ([TEMPERATURES, SEEDS], [TEMPERATURES], SEEDS),
        ([SEEDS, TEMPERATURES], [SEEDS], TEMPERATURES),
        ([TEMPERATURES, LONG_PROMPTS], [LONG_PROMPTS], TEMPERATURES),
        ([TEMPERATURES, PROMPTS], [PROMPTS], TEMPERATURES),
        ([TEMPERATURES, MANY], [MANY], TEMPERATURES),
        ([PROMPTS, TEMPERATURES, SEEDS], [PROMPTS, TEMPERATURES], SEEDS),
        ([MODELS, TEMPERATURES, LONG_PROMPTS], [TEMPERATURES, LONG_PROMPTS], MODELS),
    ],
)
def test_columns_are_short_and_not_many(
    axes: list[Axis], rows: list[Axis], columns: Axis | None
) -> None:
    assert arranged(axes) == (tuple(rows), columns)


def test_values_are_called_as_people_write_them() -> None:
    values = [None, "a text", 0.7, True, SAID, {"a": 1}]
    labels = ("not given", "a text", "0.7", "true", "Hello", '{"a": 1}')
    assert input_axis("x", values).labels == labels
    assert input_axis("token", ["hf_secret"], secret=True).labels == ("•••",)


def test_a_value_is_found_by_itself_and_by_its_label() -> None:
    assert [PROMPTS.place("An owl"), TEMPERATURES.place(0.7), TEMPERATURES.place("0.7")] == [1] * 3
    with pytest.raises(InputError, match=r"0\.5 is no value of 'temperature'") as caught:
        TEMPERATURES.place(0.5)
    assert caught.value.hint == "It has 0, 0.7."
