"""Expressions: the conformance cases, and what an expression can be made of."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from modelcompose_jupyter.document import render
from modelcompose_jupyter.document.expression import parse
from modelcompose_jupyter.errors import ExpressionError

CONFORMANCE = json.loads(Path(__file__).with_name("expressions.json").read_text("utf-8"))
CONTEXT = CONFORMANCE["context"]


def exact(value):
    """A value as JSON, where 1 and true differ, and 3 and 3.0 do not."""
    return re.sub(r"\b([0-9]+)\.0\b", r"\1", json.dumps(value, ensure_ascii=False))


@pytest.mark.parametrize(
    "case",
    [each for each in CONFORMANCE["cases"] if "result" in each],
    ids=lambda case: json.dumps(case["template"], ensure_ascii=False)[:50],
)
def test_a_template_renders_to_its_exact_result(case):
    assert exact(render(case["template"], CONTEXT)) == exact(case["result"])


@pytest.mark.parametrize(
    "case",
    [each for each in CONFORMANCE["cases"] if "error" in each],
    ids=lambda case: json.dumps(case["template"], ensure_ascii=False)[:50],
)
def test_a_wrong_template_is_an_error_that_names_the_expression(case):
    with pytest.raises(ExpressionError) as caught:
        render(case["template"], CONTEXT)
    named = caught.value.expression
    template = case["template"]
    written = template if isinstance(template, str) else json.dumps(template, ensure_ascii=False)
    assert named in str(caught.value)
    assert named.rstrip("…") in written


@pytest.mark.parametrize(
    ("template", "result"),
    [
        (r"\${input.prompt}", "${input.prompt}"),
        (r"\\${input.prompt}", r"\Hi"),
        (r"\\\${input.prompt}", r"\${input.prompt}"),
        (r"a \ b ${input.prompt}", r"a \ b Hi"),
        (r"${input.missing | \${x}}", "${x}"),
        (r'${input.missing | "\${x} ${input.prompt}"}', "${x} Hi"),
        (r'${input.missing | "a\tb\n\"c\" \u0041 \x"}', 'a\tb\n"c" A \\x'),
        (r'${input.missing | "\u+1a1"}', r"\u+1a1"),
        ("${input.missing | it's}", "it's"),
        ("${input.missing | 'tis}", "'tis"),
        ("${input.missing | 'a' and 'b'}", "'a' and 'b'"),
        ("${input.missing | {a} }", "{a}"),
        ("${input.missing | [1, 2}", "[1, 2"),
        ('${input.missing | {"a": [1, {"b": null}]}}', {"a": [1, {"b": None}]}),
        ("${input.missing | 1e999}", "1e999"),
        ("${input.missing | NaN}", "NaN"),
        ("${input['sp ace']}", "s"),
        ('${input["dot.key"]}', "dk"),
        ("${input.list[-1]}${input.list[:2]}", "30[10, 20]"),
        ("${input.list[:-1]}", [10, 20]),
        ("${input.prompts[input.num]}", None),
        ("${input.prompt @(description Say (anything) here)}", "Hi"),
    ],
)
def test_other_templates(template, result):
    assert exact(render(template, CONTEXT)) == exact(result)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("${input.prompt", "it is never closed in ${input.prompt"),
        ("a ${ } b", "there is nothing between the braces in ${ }"),
        ("${input.x as txt}", "unknown type 'txt' in ${input.x as txt}"),
        ("${input.x as slider}", "type 'slider' needs its range, as in slider/0,1,0.1"),
        ("${input.x as slider/1,0}", "a slider's minimum must be below its maximum"),
        ("${input.x as slider/0,1,0}", "a slider's step must be above 0"),
        ("${input.x as slider/--1,1}", '"--1" is not a number'),
        ("${input.x as select}", "type 'select' needs its choices, as in select/a,b,c"),
        ("${input.x as text/plain}", "type 'text' takes nothing after a slash"),
        ("${input.1}", "expected a name after the dot, found '1'"),
        ("${input[1a]}", "expected ']', found 'a]'"),
        ("${input[1:2:3]}", "expected ']', found ':3]'"),
        ('${input["a}', "a quoted key is never closed"),
        ("${input.x @(a}", "an annotation is never closed"),
        ("${input.list | 1} ${nosuch}", "there is no source 'nosuch' here in ${nosuch}"),
        ("${input.prompt as integer}", '"Hi" is not an integer in ${input.prompt as integer}'),
    ],
)
def test_messages_say_what_is_wrong_and_where(template, message):
    with pytest.raises(ExpressionError) as caught:
        render(template, CONTEXT)
    assert message in str(caught.value)


@pytest.mark.parametrize("type_", ["json", "object", "object/a"])
def test_json_in_a_text_may_begin_with_a_mark(type_):
    context = {"input": {"x": '\ufeff{"a": 1}'}}
    assert render(f"${{input.x as {type_}}}", context) == {"a": 1}


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        ("--5", "integer"),
        ("²", "integer"),
        ("٣", "integer"),
        ("1_000", "number"),
        (10**500, "number"),
        (10**5000, "boolean"),
        ("[" * 5000, "json"),
        ("1" * 5000, "json"),
        ("1e999", "json"),
        ("NaN", "json"),
        (float("nan"), "number"),
        (float("inf"), "integer"),
        ("\ud800", "base64"),
        ({1, 2}, "text"),
        (True, "number"),
        (2, "boolean"),
        ([1, "x"], "integer[]"),
        ({"a": 1}, "list"),
        ([1], "object[]/a"),
    ],
    ids=lambda value: value[:10] if isinstance(value, str) and value.isprintable() else "value",
)
def test_a_value_of_another_type_is_an_error(value, type_):
    with pytest.raises(ExpressionError, match=r"in \$\{input\.value as "):
        render(f"${{input.value as {type_}}}", {"input": {"value": value}})


def test_a_value_without_json_is_an_error_inside_text():
    circular: list = []
    circular.append(circular)
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for value in (circular, deep, float("nan"), object(), 10**5000):
        with pytest.raises(ExpressionError):
            render("x${input.value}", {"input": {"value": value}})


@pytest.mark.parametrize(
    "template",
    [
        {"?": None},
        {"?": {"input": 1, "operator": ["gt"]}},
        {"?": {"input": 1, "operater": "gt"}},
        {"?": {"not": {"input": 1}}},
        {"?": {"input": "a", "operator": "gt", "value": 5}},
        {"?": {"input": "a", "operator": "in", "value": 5}},
        {"?": {"input": "a", "operator": "match", "value": "("}},
        {"x": 1, "?": {"input": 1, "value": 1, "if_true": "no mapping"}},
        {"+": "text"},
        {"+": [], "x": 1},
        {"*": "text"},
        {"*": [], "+": []},
        {"|": [1]},
    ],
    ids=str,
)
def test_a_wrong_operator_is_an_error(template):
    with pytest.raises(ExpressionError) as caught:
        render(template, CONTEXT)
    assert "argument of type" not in str(caught.value)  # Python's own words


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ({"a": 1, "...": None}, {"a": 1}),
        ({"a": 1, "?": {"input": 1, "value": 1, "if_true": {"b": 2}}}, {"a": 1, "b": 2}),
        ({"a": 1, "?": {"input": 1, "value": 2, "if_true": {"b": 2}}}, {"a": 1}),
        ({"*": "${input.list}"}, [10, 20, 30]),
        (
            {
                "*": {
                    "input": "${input.list}",
                    "where": {"not": {"input": "${item}", "operator": "gt", "value": 15}},
                },
                "n": "${item}",
            },
            [{"n": 10}],
        ),
        ({"|": "${input.users}", "id": "${item.id}"}, {"id": [1, 2]}),
        ({"+": []}, None),
        ({"+": [[1], "${input.list[:1]}"]}, [1, 10]),
        (["...${input.missing}", {"?": []}, 1], [1]),
    ],
    ids=str,
)
def test_operators(template, result):
    assert render(template, CONTEXT) == result


def test_a_value_is_never_rendered_again():
    context = {"input": {"prompt": "${env.HOME}"}, "env": {"HOME": "/home/kim"}}
    assert render("${input.prompt}", context) == "${env.HOME}"
    assert render("say ${input.prompt}", context) == "say ${env.HOME}"
    assert render("${input.none | ${input.prompt}}", context) == "${env.HOME}"
    assert render({"*": ["x"], "p": "${input.prompt}"}, context) == [{"p": "${env.HOME}"}]
    assert render(["...${input.list}"], {"input": {"list": ["${env.HOME}"]}}) == ["${env.HOME}"]


def test_what_comes_from_the_environment_is_not_shown():
    for template in ("${env.TOKEN as integer}", "${input.x as integer | ${env.TOKEN}}"):
        with pytest.raises(ExpressionError) as caught:
            render(template, {"input": {}, "env": {"TOKEN": "hunter2"}})
        assert "hunter2" not in str(caught.value)
        assert template in str(caught.value)


def test_an_expression_knows_what_it_is_made_of():
    (only,) = parse("${input.a.b[0] as number | 0.7 @(min 0) @(description How (much))}").parts
    assert only.source == "input"
    assert only.keys == ("a", "b")
    assert str(only.type) == "number"
    assert only.notes == (("min", "0"), ("description", "How (much)"))
    assert only.text.endswith("(much))}")


@pytest.mark.parametrize(
    "piece",
    [
        "${",
        "${input.a",
        "${input.a | ",
        "${input.a | '",
        "${input.a @(",
        "${input.a | [1, }",
        '${input.a | {"a }',
        "${input.a}",
        "\\",
        "{",
        "${input[a",
    ],
)
def test_reading_long_templates_takes_time_in_proportion(piece):
    # Quadratic reading would take minutes here, and the test's own time limit would end it.
    template = piece * (200_000 // len(piece))
    try:
        render(template, {"input": {"a": "x"}})
    except ExpressionError as error:
        assert len(str(error)) < 1000


def test_nested_quotes_are_not_read_twice_at_each_level():
    template = "x"
    for _ in range(19):
        template = '${input.z | "' + template + '" y}'
    assert render(template, {"input": {}}) == '"' * 19 + "x" + '" y' * 19


@pytest.mark.parametrize("opening", ["${input.a | ", "${input[", '${input.a | "'])
def test_nesting_is_bounded(opening):
    with pytest.raises(ExpressionError):
        render(opening * 5000, {"input": {}})
    with pytest.raises(ExpressionError, match="nested more than 20 deep"):
        render("${input" + "[a" * 5000 + "]" * 5000 + "}", {"input": {}})
