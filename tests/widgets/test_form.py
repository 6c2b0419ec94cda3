"""The rows of a form: labels in words, help, examples, errors at their field, what is folded."""

from __future__ import annotations

import ipywidgets

from modelcompose_jupyter import load
from modelcompose_jupyter.widgets.form import Form, Row
from modelcompose_jupyter.widgets.inputs import Inputs

COMPONENT = """
component:
  type: model
  task: text-generation
  model: m
  text: ${input.prompt as text @(description What it is <about>) @(example A fox) @(example B)}
  max_output_length: ${input.max_output_length as integer | 60}
  temperature: ${input.temperature as number | 0.7}
  top_p: ${input.top_p as number | 0.9}
  min_p: ${input.min_p as number}
"""


def form(document: str = COMPONENT) -> tuple[Form, Inputs]:
    signature = load(document).signature
    inputs = Inputs(signature, {})
    return Form(inputs, signature.inputs), inputs


def html(row: Row, name: str) -> str:
    (found,) = [each for each in row.children if name in each._dom_classes]
    return str(found.value)


def test_labels_are_in_words_with_units_and_mark_what_is_required() -> None:
    _, inputs = form()
    assert [inputs[name].description for name in inputs] == [
        "Prompt *",
        "Max output length (tokens)",
        "Temperature",
        "Top p",
        "Min p *",
    ]


def test_a_label_may_be_in_any_script() -> None:
    _, inputs = form(COMPONENT.replace("input.prompt", "input.주제_이름"))
    assert inputs["주제_이름"].description == "주제 이름 *"


def test_the_documents_help_is_seen_and_that_of_a_parameter_on_demand() -> None:
    found, _ = form()
    assert html(found.rows["prompt"], "modelcompose-help") == "What it is &lt;about&gt;"
    help = found.rows["temperature"].children[1]
    assert "modelcompose-on-demand" in help._dom_classes
    assert help.value.startswith("How random the draw is")


def test_examples_are_entered_by_their_buttons() -> None:
    found, inputs = form()
    chips = found.rows["prompt"].children[2]
    assert [each.description for each in chips.children] == ["A fox", "B"]
    chips.children[0].click()
    assert inputs.prompt.value == "A fox"


def test_an_error_stands_at_its_field_until_it_is_mended() -> None:
    found, inputs = form()
    row = found.rows["min_p"]
    row.say("no <number>")
    shown = '<span role="alert">no &lt;number&gt;</span>'
    assert html(row, "modelcompose-field-error") == shown
    assert "modelcompose-missing" in inputs.min_p._dom_classes
    row.say("")
    assert html(row, "modelcompose-field-error") == ""
    assert "modelcompose-missing" not in inputs.min_p._dom_classes


def test_parameters_that_few_change_are_folded_away_if_they_have_a_value() -> None:
    found, _ = form()
    *usual, toggle, folded = found.fields()
    assert [each.input.name for each in usual] == [
        "prompt",
        "max_output_length",
        "temperature",
        "min_p",
    ]
    assert isinstance(toggle, ipywidgets.ToggleButton)
    assert (toggle.description, toggle.value) == ("Advanced", False)
    assert [each.input.name for each in folded.children] == ["top_p"]


def test_a_label_of_the_document_stands_as_it_is() -> None:
    _, inputs = form(COMPONENT.replace("@(example B)", "@(label 첫 문장)"))
    assert inputs.prompt.description == "첫 문장 *"
