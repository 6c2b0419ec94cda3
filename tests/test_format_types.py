"""Types of Python as formats, and what comes of texts as instances of them."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, field_validator
from standins.grammar_texts import accepts, drawn
from typing_extensions import TypedDict

from modelcompose_jupyter import ComposeError, InputError, LocalHost, load
from modelcompose_jupyter.document.format import Format
from modelcompose_jupyter.document.grammars import of_schema
from modelcompose_jupyter.format_types import GivenFormat

BODY = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.text}
  max_output_length: 300
"""


class Label(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Pet(BaseModel):
    kind: Literal["cat", "dog"] = "cat"
    age: int = Field(ge=0, le=20)


class Owl(BaseModel):
    kind: Literal["owl"]


class Person(BaseModel):
    name: str = Field(min_length=1, max_length=8)
    born: datetime.date
    seen: datetime.datetime | None
    id: uuid.UUID
    money: decimal.Decimal = Field(ge=0, le=100, decimal_places=2)
    pets: list[Pet] = Field(max_length=2)
    best: Annotated[Pet | Owl, Field(discriminator="kind")]
    mood: Label
    tags: set[Literal["a", "b"]] = Field(max_length=2)
    names: dict[Literal["x", "y"], bool]
    counts: dict[str, Annotated[int, Field(ge=0, le=9)]] = Field(max_length=2)


class Node(BaseModel):
    value: Annotated[int, Field(ge=0, le=9)]
    next: Node | None = None


@dataclasses.dataclass
class Point:
    x: Annotated[int, Field(ge=0, le=9)]
    y: bool


class Keys(TypedDict):
    a: Literal[1, 2]


@pytest.fixture(scope="module")
def host() -> Iterator[LocalHost]:
    host = LocalHost()
    yield host
    host.close()


@pytest.mark.parametrize(
    ("type_", "is_one"),
    [
        (Person, lambda value: isinstance(value, Person)),
        (Node, lambda value: isinstance(value, Node)),
        (Point, lambda value: isinstance(value, Point)),
        (Keys, lambda value: value in ({"a": 1}, {"a": 2})),
        (Label, lambda value: value in Label),
        (Literal["x", "y"], lambda value: value in ("x", "y")),
        (list[Point], lambda value: all(isinstance(each, Point) for each in value)),
        (tuple[bool, bool], lambda value: isinstance(value, tuple) and len(value) == 2),
        (bool, lambda value: isinstance(value, bool)),
        (Annotated[list[int], Field(max_length=2)], lambda value: len(value) <= 2),
    ],
)
def test_a_call_gives_an_instance_of_the_type(host: LocalHost, type_: Any, is_one: Any) -> None:
    story = load(BODY, host=host)
    for seed in range(3):
        run = story.start({"text": "A pet."}, seed=seed, format=type_)
        if run.wait() and run.error is not None and run.error.code == "format_cut":
            continue  # a node within a node within a node
        value = GivenFormat(type_).value(run.result(), story._workflow)
        assert is_one(value), value


def test_a_call_gives_it_at_once(host: LocalHost) -> None:
    assert isinstance(load(BODY, host=host)(text="A pet.", format=Point), Point)


def test_texts_alone_are_choices() -> None:
    assert GivenFormat(Label).plain == {"choices": ["good", "bad"]}
    assert GivenFormat(Literal["a", "b"]).plain == {"choices": ["a", "b"]}
    assert "json_schema" in GivenFormat(Literal["a", 1]).plain


def test_the_schema_of_a_type_is_closed() -> None:
    grammar = of_schema(GivenFormat(Point).plain["json_schema"])
    assert accepts(grammar, '{"x": 1, "y": true}')
    assert not accepts(grammar, '{"x": 1, "y": true, "z": 1}')


def test_whatever_is_written_is_of_the_type(host: LocalHost) -> None:
    story = load(BODY, host=host)
    given = GivenFormat(Person)
    format = Format.model_validate(given.plain)
    texts = [drawn(format.llguidance, seed) for seed in range(40)]
    found = [
        given.value({"generated": format.value(text)}, story._workflow) for text in texts if text
    ]
    assert len(found) > 20 and all(isinstance(each, Person) for each in found)


def test_several_texts_are_several_instances(host: LocalHost) -> None:
    several = load(BODY + "  num_return_sequences: 2\n", host=host)
    assert [type(each) for each in several(text="A pet.", format=Point)] == [Point, Point]
    named = load(BODY + "workflow:\n  job: {id: a}\n  output: {it: '${output}'}\n", host=host)
    assert isinstance(named(text="A pet.", format=Point), Point)


def test_streams_and_grids_have_formats_too(host: LocalHost) -> None:
    story = load(BODY, host=host)
    assert "".join(story.stream(text="A pet.", format=Literal["one two"])) == "one two"
    grid = story.grid(text=["A", "B"], format=Literal["x"])
    assert grid.wait(60) and [run and run.text for run in grid] == ["x", "x"]


def test_a_rule_that_no_schema_says_is_told(host: LocalHost) -> None:
    class Odd(BaseModel):
        number: Literal[2, 4]

        @field_validator("number")
        @classmethod
        def is_odd(cls, value: int) -> int:
            if value % 2 == 0:
                raise ValueError("it is even")
            return value

    story = load(BODY, host=host)
    with pytest.raises(ComposeError) as caught:
        story(text="A pet.", format=Odd)
    assert caught.value.code == "format_invalid"
    assert (
        caught.value.message == "what the model wrote is no Odd, at number: Value error, it is even"
    )
    assert story.last_run is not None and story.last_run.output["generated"]["number"] in (2, 4)


@pytest.mark.parametrize("given", [len, 5, [Point], LocalHost])
def test_what_is_no_type_is_refused(host: LocalHost, given: Any) -> None:
    with pytest.raises(InputError, match="cannot be a format"):
        load(BODY, host=host)(text="A pet.", format=given)


def test_a_list_is_no_format(host: LocalHost) -> None:
    story = load(BODY, host=host)
    for given, hint in ((["a", "b"], '{"choices": […]}'), ([Point], "list[Model]")):
        with pytest.raises(InputError) as caught:
            story(text="A pet.", format=given)
        assert hint in str(caught.value.hint)


def test_a_type_that_no_grammar_holds_to_is_refused(host: LocalHost) -> None:
    class Ahead(BaseModel):
        code: str = Field(json_schema_extra={"pattern": "(?=a)"})

    with pytest.raises(InputError) as caught:
        load(BODY, host=host)(text="A pet.", format=Ahead)
    assert "format.json_schema.properties.code.pattern" in caught.value.message
