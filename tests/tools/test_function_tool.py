"""Python functions as tools: what a model is told of them, and how its arguments reach them."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import pytest

from modelcompose_jupyter.errors import InputError
from modelcompose_jupyter.tools import FunctionTool, functions_by_name


class Unit(enum.Enum):
    CELSIUS = "C"
    FAHRENHEIT = "F"


@dataclasses.dataclass
class Place:
    x: int
    y: int = 0


class Trip(pydantic.BaseModel):
    title: str
    days: int = pydantic.Field(ge=1)


def properties(function: Any, name: str | None = None) -> dict[str, Any]:
    return FunctionTool(function, name).definition["function"]["parameters"]["properties"]


def test_a_function_is_described_as_openai_describes_tools():
    def get_weather(city: str, days: Annotated[int, pydantic.Field(ge=1, le=7)] = 1) -> str:
        """Tell the weather.

        Args:
            city: Where.
            days: For how long.
        """
        return f"{city} {days}"

    assert FunctionTool(get_weather).definition == {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Tell the weather.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Where."},
                    "days": {
                        "type": "integer",
                        "minimum": 1,
                        "maximum": 7,
                        "description": "For how long.",
                        "default": 1,
                    },
                },
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }


def test_types_are_checked_and_converted():
    def plan(
        unit: Unit,
        kind: Literal["a", "b"],
        places: list[Place],
        trip: Trip,
        when: datetime.date,
        names: dict[str, int],
        maybe: float | None = None,
    ) -> list[Any]:
        return [unit, kind, places, trip, when, names, maybe]

    given = {
        "unit": "F",
        "kind": "b",
        "places": [{"x": 1}, {"x": 2, "y": 3}],
        "trip": {"title": "a", "days": 2},
        "when": "2026-02-03",
        "names": {"a": 1},
    }
    assert FunctionTool(plan)(given) == [
        Unit.FAHRENHEIT,
        "b",
        [Place(1), Place(2, 3)],
        Trip(title="a", days=2),
        datetime.date(2026, 2, 3),
        {"a": 1},
        None,
    ]
    with pytest.raises(InputError) as wrong:
        FunctionTool(plan)({**given, "kind": "c", "trip": {"title": "a", "days": 0}, "zz": 1})
    for said in ("kind: Input should be 'a' or 'b'", "trip.days: ", "zz: "):
        assert said in wrong.value.message
    assert properties(plan)["trip"] == {"$ref": "#/$defs/Trip"}


def test_a_property_may_be_called_title_or_default():
    def f(title: str, default: int = 3, schema: str = "x", _hidden: int = 1) -> list[Any]:
        return [title, default, schema, _hidden]

    assert list(properties(f)) == ["title", "default", "schema", "_hidden"]
    assert properties(f)["title"] == {"type": "string"}
    assert FunctionTool(f)({"title": "a", "_hidden": 2}) == ["a", 3, "x", 2]


def test_parameters_without_a_type_have_that_of_their_default():
    def f(text, count=3, ratio=0.5, on=True, more=None):
        return [text, count, ratio, on, more]

    kinds = {name: each["type"] for name, each in properties(f).items()}
    assert kinds == {
        "text": "string",
        "count": "integer",
        "ratio": "number",
        "on": "boolean",
        "more": "string",
    }


def test_arguments_that_are_no_keywords():
    def f(a: int, b: int = 2, /, c: int = 3, *rest: int, d: int = 4, **more: int) -> list[Any]:
        return [a, b, c, rest, d, more]

    assert list(properties(f)) == ["a", "b", "c", "d"]
    assert FunctionTool(f)({"a": 1, "c": 5}) == [1, 2, 5, (), 4, {}]


class Counter:
    """Counts."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, number: int) -> int:
        """Add to the count."""
        self.count += number
        return self.count

    def __call__(self, number: int) -> int:
        """Add once more."""
        return self.add(number)


def test_methods_partials_and_objects():
    counter = Counter()
    tool = FunctionTool(counter.add)
    assert (tool.name, tool.definition["function"]["description"]) == ("add", "Add to the count.")
    assert tool({"number": 2}) == 2
    assert FunctionTool(counter, "count")({"number": 2}) == 4

    def greet(name: str, greeting: str = "Hello", mark: str = "!") -> str:
        """Greet."""
        return f"{greeting} {name}{mark}"

    partial = FunctionTool(functools.partial(greet, greeting="Hi"))
    assert partial.name == "greet"
    assert list(properties(functools.partial(greet, greeting="Hi"))) == ["name", "mark"]
    assert partial({"name": "Ada"}) == "Hi Ada!"
    assert list(properties(functools.partial(greet, "Ada"))) == ["greeting", "mark"]


def test_an_async_function_gives_what_is_awaited():
    async def double(number: int) -> int:
        """Double a number."""
        return 2 * number

    assert asyncio.run(FunctionTool(double)({"number": 4})) == 8


def _f(array: np.ndarray) -> None: ...


def _g(function: Callable[[int], int]) -> None: ...


def _h(value: Unknown) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_f, "'_f' cannot be a tool: no model can give its argument 'array': "),
        (_g, "'_g' cannot be a tool: no model can give its argument 'function': "),
        (_h, "'_h' cannot be a tool: its types cannot be read: name 'Unknown' is not defined"),
        (5, "a function is wanted, and this is int"),
        (lambda: 1, "a function without a name, of type function"),
        (Counter(), "a function without a name, of type Counter"),
    ],
)
def test_what_cannot_be_a_tool_is_said(function, message):
    with pytest.raises(InputError) as wrong:
        FunctionTool(function)
    assert wrong.value.message.startswith(message)
    assert wrong.value.hint


def test_functions_come_as_a_list_or_by_name():
    def a() -> None: ...

    def b() -> None: ...

    assert functions_by_name([a, b]) == {"a": a, "b": b}
    assert functions_by_name({"c": a}) == {"c": a}
    assert functions_by_name(a) == {"a": a}
    assert functions_by_name(None) == {}
