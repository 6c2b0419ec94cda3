"""Inputs of every type as widgets, and what is read from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import ipywidgets
import pytest
from pydantic import Field

from modelcompose_jupyter import InputError, load
from modelcompose_jupyter.widgets.inputs import Inputs, entered, read, write


def inputs(values: dict[str, Any] | None = None, **fields: str) -> Inputs:
    """The inputs of a workflow whose output mentions these expressions."""
    output = "".join(f"    {name}: {value}\n" for name, value in fields.items())
    flow = load(
        "component: {type: model, task: text-generation, model: m, text: hello}\n"
        f"workflow:\n  output:\n{output}"
    )
    return Inputs(flow.signature, values or {})


KINDS = [
    ("${input.x as text}", ipywidgets.Textarea, ""),
    ("${input.x as string}", ipywidgets.Text, ""),
    ("${input.x as markdown | # Hi}", ipywidgets.Textarea, "# Hi"),
    ("${input.x as integer | 3}", ipywidgets.IntText, 3),
    ("${input.x as integer}", ipywidgets.Text, ""),
    ("${input.x as number | 0.5}", ipywidgets.FloatText, 0.5),
    ("${input.x as boolean | true}", ipywidgets.Checkbox, True),
    ("${input.x as boolean}", ipywidgets.Checkbox, False),
    ("${input.x as slider/1,5 | 2}", ipywidgets.IntSlider, 2),
    ("${input.x as slider/0,1,0.1 | 0.3}", ipywidgets.FloatSlider, 0.3),
    ("${input.x as slider/2,4}", ipywidgets.IntSlider, 2),
    ("${input.x as select/a,b | b}", ipywidgets.Dropdown, "b"),
    ("${input.x as select/a,b}", ipywidgets.Dropdown, "a"),
    ("${input.z | ${input.x as select/a,b}}", ipywidgets.Dropdown, None),
    ("${input.x as text[]}", ipywidgets.Textarea, ""),
    ("${input.x as object}", ipywidgets.Textarea, ""),
]


@pytest.mark.parametrize(("expression", "kind", "value"), KINDS)
def test_each_type_has_its_widget(expression: str, kind: type, value: Any) -> None:
    widget = inputs(a=f"'{expression}'").x
    assert type(widget) is kind
    assert widget.value == value


def test_parameters_that_people_try_are_sliders() -> None:
    flow = load(
        "component: {type: model, task: text-generation, model: m, text: hello,"
        " temperature: '${input.warmth as number | 0.7}', top_k: '${input.k as integer | 40}',"
        " top_p: '${input.top_p | 0.9}', max_output_length: '${input.length | 200}'}"
    )
    found = Inputs(flow.signature, {})
    assert (found.warmth.min, found.warmth.max, found.warmth.value) == (0, 2, 0.7)
    assert type(found.k) is ipywidgets.IntSlider
    assert type(found.top_p) is ipywidgets.FloatSlider
    assert type(found.length) is ipywidgets.IntText


def test_a_default_beyond_the_usual_range_widens_it() -> None:
    flow = load(
        "component: {type: model, task: text-generation, model: m, text: hello,"
        " temperature: '${input.t | 3.5}'}"
    )
    found = Inputs(flow.signature, {})
    assert (found.t.value, found.t.max) == (3.5, 3.5)
    write(found, {"t": 9})
    assert found.t.value == 9


def test_what_is_empty_is_not_given() -> None:
    found = inputs(
        a="'${input.t as text}'", n="'${input.n as integer}'", l="'${input.l as text[]}'",
        d="'${input.d as text | hello}'", o="'${input.z | ${input.o as select/a,b}}'",
    )  # fmt: skip
    assert read(found) == {"d": "hello"}
    found.d.value = ""
    assert read(found) == {}


def test_lists_are_lines_or_json() -> None:
    found = inputs(a="'${input.x as text[]}'")
    found.x.value = "one\n two \n\n"
    assert read(found) == {"x": ["one", "two"]}
    found.x.value = '["one\\nmore", 2]'
    assert read(found) == {"x": ["one\nmore", 2]}
    found.x.value = '\ufeff["one"]'
    assert read(found) == {"x": ["one"]}
    found.x.value = '["one"'
    with pytest.raises(InputError, match="input 'x' is not JSON"):
        read(found)


def test_objects_are_json() -> None:
    found = inputs(a="'${input.x as object}'")
    for mark in ("", "\ufeff"):
        found.x.value = mark + '{"a": 1}'
        assert read(found) == {"x": {"a": 1}}


@pytest.mark.parametrize(
    "given",
    [
        {"t": "a\nb", "n": 3, "b": True, "l": ["x", "y"], "j": {"a": [1]}, "s": 4, "o": "b"},
        {"t": " ", "n": 0, "b": False, "l": ["[x]", "b"], "j": [1, "2"], "s": 1, "o": "a"},
    ],
)
def test_inputs_of_a_run_can_be_put_back(given: dict[str, Any]) -> None:
    found = inputs(
        t="'${input.t as text | hello}'", n="'${input.n as integer | 7}'",
        b="'${input.b as boolean | false}'", l="'${input.l as text[]}'", j="'${input.j as json}'",
        s="'${input.s as slider/1,5 | 3}'", o="'${input.o as select/a,b | a}'",
    )  # fmt: skip
    defaults = read(found)
    write(found, given)
    assert read(found) == given
    write(found, {})
    assert read(found) == defaults


def test_values_can_be_given_and_names_need_not_be_pythons() -> None:
    found = inputs({"a b": "x"}, a="'${input[\"a b\"]}'")
    assert found["a b"].value == "x"
    assert list(found) == ["a b"]
    with pytest.raises(AttributeError, match="no input 'nothing'"):
        _ = found.nothing


def test_values_that_cannot_be_are_refused() -> None:
    fields = {"n": "'${input.number as integer | 3}'", "s": "'${input.size as slider/1,5 | 2}'"}
    with pytest.raises(InputError, match="Did you mean 'number'"):
        inputs({"numbr": 1}, **fields)
    with pytest.raises(InputError, match="input 'number': \"x\" is not an integer"):
        inputs({"number": "x"}, **fields)
    with pytest.raises(InputError, match="input 'size': 500 is not between 1 and 5"):
        inputs({"size": 500}, **fields)
    assert inputs({"number": "4"}, **fields).number.value == 4


def test_a_widget_is_not_replaced_by_a_slip() -> None:
    found = inputs(a="'${input.x as text}'")
    with pytest.raises(AttributeError, match=r"write inputs\.x\.value = 'y'"):
        found.x = "y"


def test_what_was_entered_is_carried_to_a_document_that_has_it_too() -> None:
    old = inputs(a="'${input.a as text}'", n="'${input.n | 1}'", s="'${input.s as slider/1,5}'")
    old.a.value, old.s.value = "hello", 4
    new = load(
        "component: {type: model, task: text-generation, model: m, text: '${input.a as text}'}\n"
        "workflow: {output: {s: '${input.s as slider/1,3}', n: '${input.n | 2}'}}"
    )
    assert entered(old, new.signature) == {"a": "hello"}


def test_a_function_that_is_a_step_has_fields_of_its_types() -> None:
    def f(
        text: str,
        mood: Literal["glad", "sad"] = "sad",
        size: Annotated[int, Field(ge=1, le=7)] = 3,
        loud: bool = True,
    ) -> str:
        """Say it.

        Args:
            text: What to say.
        """
        return f"{text} {mood} {size} {loud}"

    panel = load("component: {type: function, function: f}", functions=[f]).panel(text="hi")
    assert isinstance(panel.inputs.mood, ipywidgets.Dropdown)
    assert (panel.inputs.mood.value, panel.inputs.loud.value) == ("sad", True)
    assert panel.inputs.size.value == 3
    panel.inputs.mood.value = "glad"
    run = panel.submit()
    assert run.wait(90)
    assert run.output == "hi glad 3 True"
