"""What a workflow takes and gives, and how values are held against it."""

from __future__ import annotations

import pytest

from modelcompose_jupyter.document import load_document, signature
from modelcompose_jupyter.errors import InputError

COMPONENT = {"type": "model", "task": "text-generation", "model": "bundled:storyteller"}


def signed(text="hi", workflow=None, **keys):
    document = load_document(
        {"component": {**COMPONENT, "text": text, **keys}, "workflow": workflow}, environ={}
    )
    return signature(document, document.workflow())


def inputs(*arguments, **keys):
    return [str(each) for each in signed(*arguments, **keys).inputs]


@pytest.mark.parametrize(
    ("text", "keys", "expected"),
    [
        ("${input.a}", {}, ["a: text (required)"]),
        ("${input.a as integer | 7}", {}, ["a: integer = 7"]),
        ("${input.a | 7}", {}, ["a: text = 7"]),
        ("${input.a as select/x,y | x}", {}, ["a: select/x,y = 'x'"]),
        ("${input.a as number[]}", {}, ["a: number[] (required)"]),
        ("${input.a | ${input.b}}", {}, ["a: text", "b: text"]),
        ("${input.a.b} ${input.c[0]}", {}, ["a: object (required)", "c: list (required)"]),
        ("${input.a} ${input.a as text | x}", {}, ["a: text = 'x' (required)"]),
        ("hi", {"top_k": "${input.k}"}, ["k: integer (required)"]),
        ("hi", {"do_sample": "${input.s | true}"}, ["s: boolean = True"]),
        ("hi", {"params": {"top_p": "${input.p}"}}, ["p: number (required)"]),
        ("hi", {"format": {"choices": "${input.c}"}}, ["c: text[] (required)"]),
        ("hi", {"format": {"choices": ["${input.c}", "b"]}}, ["c: text (required)"]),
        ("hi", {"format": {"json_schema": {"enum": "${input.c}"}}}, ["c: list (required)"]),
        ("hi", {"format": {"json_schema": {"enum": ["${input.c}"]}}}, ["c: text (required)"]),
        (["${input.a}", "${input.b | x}"], {}, ["a: text (required)", "b: text = 'x'"]),
        (r"\${input.a}", {}, []),
    ],
)
def test_inputs_are_read_off_the_expressions(text, keys, expected):
    assert inputs(text, **keys) == expected


@pytest.mark.parametrize(
    ("workflow", "expected"),
    [
        ({"input": "${input}"}, ["a: text (required)", "k: integer (required)"]),
        ({"input": {"a": "${input.topic}", "k": "${input.n}"}},
         ["topic: text (required)", "n: integer (required)"]),
        ({"input": {"...": "${input}", "a": "fixed"}}, ["k: integer (required)"]),
        ({"input": {"a": "fixed", "k": 5}}, []),
        ({"input": {"a": "${index}", "k": 5}, "repeat_count": "${input.count | 3}"},
         ["count: integer = 3"]),
        ({"input": {"*": "${input.list}", "a": "${input.topic}"}},
         ["list: text (required)", "topic: text (required)"]),
        ({"input": {"?": {"input": "${input.c}", "if_true": {"a": "${input.x}", "k": 1}}}},
         ["c: text (required)", "x: text"]),
    ],
    ids=range(7),
)  # fmt: skip
def test_inputs_pass_through_a_job(workflow, expected):
    assert inputs("${input.a as text}", workflow, top_k="${input.k}") == expected


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ({}, "text"),
        ({"type": "if", "value": 1, "if_true": {"output": 1}}, "text"),
        ({"type": "delay", "duration": 1}, "text"),
        ({"type": "filter"}, "list"),
        ({"type": "for-each", "do": {}}, "list"),
        ({"type": "accumulate", "do": {}}, "list"),
        (
            {"type": "loop", "do": {}, "max_iteration_count": 2,
             "until": {"input": "${output}", "value": 1}},
            "text",
        ),
    ],
    ids=range(7),
)  # fmt: skip
def test_an_input_that_is_a_job_s_own_is_a_list_where_it_goes_through_one(job, expected):
    workflow = {"jobs": [{**job, "input": "${input.x}"}]}
    assert inputs("${input}", workflow) == [f"x: {expected} (required)"]


@pytest.mark.parametrize(
    ("workflow", "keys", "expected"),
    [
        (None, {}, ["generated: text"]),
        (None, {"num_return_sequences": 2}, ["generated: text[]"]),
        ({"repeat_count": 1}, {}, ["text[]"]),
        ({"input": "${input}"}, {}, ["text"]),
        ({"output": {"a": "${output as json}", "b": "x ${output}"}}, {}, ["a: json", "b: text"]),
        ({"jobs": [{"id": "a"}, {"id": "b"}]}, {}, ["a: text", "b: text"]),
    ],
    ids=range(6),
)
def test_outputs(workflow, keys, expected):
    assert [str(each) for each in signed("hi", workflow, **keys).outputs] == expected


def test_notes_describe_an_input():
    (only,) = signed("${input.a as text @(description What (exactly)?) @(label A)}").inputs
    assert only.description == "What (exactly)?"
    assert only.notes["label"] == "A"
    assert only.to_dict() == {
        "name": "a",
        "type": "text",
        "is_list": False,
        "required": True,
        "description": "What (exactly)?",
    }


def test_a_workflow_that_uses_its_input_as_a_whole_takes_any_key():
    open_one = signed("${input as json}")
    open_one.validate({"anything": 1})
    open_one.validate("text")
    assert open_one.open
    assert not signed("${input.a}").open


@pytest.mark.parametrize(
    ("text", "values", "message"),
    [
        ("${input.prompt}", {}, "missing input 'prompt'"),
        ("${input.prompt}", {"prompt": None}, "missing input 'prompt'"),
        ("${input.a} ${input.b}", {}, "missing inputs 'a' and 'b'"),
        ("${input.a.b}", {"a": {}}, "missing input 'a.b'"),
        ("${input.a | ${input.b}}", {}, "missing input 'b'"),
        ("${input.prompt}", {"prompt": "x", "promt": 1}, "there is no input 'promt'"),
        ("hi", {"x": 1}, "there is no input 'x'"),
        ("${input.n as integer}", {"n": "x"}, "input 'n': \"x\" is not an integer"),
        ("${input.s as select/a,b}", {"s": "c"}, "input 's': \"c\" is not one of a, b"),
        ("${input.s as slider/0,2}", {"s": 3}, "input 's': 3 is not between 0 and 2"),
        ("${input.x}", "text", "the input must be a mapping"),
    ],
)
def test_values_that_the_workflow_cannot_take(text, values, message):
    with pytest.raises(InputError) as caught:
        signed(text).validate(values)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("${input.a | x}", {}),
        ("${input.a | x}", {"a": None}),
        ("${input.a as number | 3}", {"a": ""}),
        ("${input.a | ${input.b}}", {"a": 1}),
        ("${input.a | ${input.b}}", {"b": 1}),
        ("${input.n as integer}", {"n": "3"}),
        ("hi", {}),
    ],
)
def test_values_that_it_can_take(text, values):
    assert signed(text).validate(values) == values


def test_hints_name_what_was_meant():
    with pytest.raises(InputError) as caught:
        signed("${input.prompt}").validate({"promt": "x"})
    assert caught.value.hint == "Did you mean 'prompt'?"
    with pytest.raises(InputError) as caught:
        signed("${input.prompt}").validate({})
    assert caught.value.hint == 'Give prompt="…".'
    assert caught.value.where.keys == "component.text"
