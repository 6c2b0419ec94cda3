"""What a text must be, as documents say it: forms, places of mistakes, schemas in files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelcompose_jupyter.document import Document, load_document, signature
from modelcompose_jupyter.document.format import Format, value_of
from modelcompose_jupyter.document.types import ConversionError
from modelcompose_jupyter.errors import DocumentError, Problem
from modelcompose_jupyter.server.schemas import DocumentText

from .conftest import HEAD

Component = Callable[..., Document]
WrongLines = Callable[..., list[str]]
Problems = Callable[..., list[Problem]]
SCHEMA = """\
type: object
properties:
  name: {type: string}
  age:
    type: integer
required: [name]
"""


def format_of(document: Document) -> Any:
    return document.components[0].actions[0].parameters["format"].value


def indented(text: str, by: int) -> str:
    return "".join(f"{' ' * by}{line}\n" for line in text.splitlines())


@pytest.mark.parametrize(
    ("lines", "plain"),
    [
        ("format: json", {"json": True}),
        ("format: {json: yes}", {"json": True}),
        ("format: {choices: [a, b]}", {"choices": ["a", "b"]}),
        ("format: {choices: one}", {"choices": ["one"]}),
        ('format: {regex: "[a-z]+"}', {"regex": "[a-z]+"}),
        ("format: {json_schema: {type: object}}", {"json_schema": {"type": "object"}}),
        ("format: {json_schema: true}", {"json_schema": True}),
        ('format: {grammar: "start: \\"a\\""}', {"grammar": 'start: "a"'}),
        ("params: {format: json}", {"json": True}),
        ("action: {text: a, format: json}", {"json": True}),
    ],
)
def test_the_forms_of_a_format(component: Component, lines: str, plain: Any) -> None:
    text = "" if "text:" in lines else "\ntext: a"
    assert format_of(component(lines + text)) == plain


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ("format: jsn", "1:9 'format': there is no format \"jsn\""),
        ("format: {}", "1:9 'format': a format has exactly one kind, and it has none"),
        (
            "format: {regex: a, choices: [b]}",
            "1:9 'format': a format has exactly one kind, and it has 'regex' and 'choices'",
        ),
        (
            "format: {type: object, properties: {}}",
            "1:9 'format': a JSON schema stands under 'json_schema'",
        ),
        ("format: [a, b]", "1:9 'format': a list is no format"),
        ("format: {json: no}", "1:16 'json': it is true or left out"),
        ("format: {chices: [a]}", "1:10 unknown key 'chices'"),
        ("format: {choices: []}", "1:19 'choices' must not be empty"),
        ('format: {choices: [a, ""]}', "1:23 'choices[1]': an empty text is not allowed here"),
        (
            "format:\n  json_schema:\n    properties:\n      a:\n        not: {}",
            "5:9 'not' is not supported in a format's schema",
        ),
        (
            "format:\n  json_schema:\n    type: [string, nul]",
            "3:20 'type[1]': there is no type \"nul\"",
        ),
        (
            "format:\n  json_schema:\n    anyOf:\n      - {type: string, pattern: '(?=a)'}",
            "4:33 'pattern': the schema cannot be held to: \"(?=a)\": look-around, including"
            " look-ahead and look-behind, is not supported",
        ),
        (
            'format: {regex: "[a"}',
            "1:17 'regex': the regular expression \"[a\" cannot be used: unclosed character class",
        ),
        (
            'format: {regex: "[^\\\\s\\\\S]"}',
            "1:17 'regex': the regular expression \"[^\\\\s\\\\S]\" cannot be used: it allows no"
            " text",
        ),
        ('format:\n  grammar: |\n    start: a\n    a: "x" b', "4:8 'grammar': unknown name: \"b\""),
        (
            'format:\n  grammar: |\n\n    start: "a"\n      <|end|>',
            "5:7 'grammar': \"<|end|>\" is a token of a model, which a grammar cannot name",
        ),
        (
            'format: {grammar: "start: a"}',
            "1:19 'grammar': unknown name: \"a\" (line 1, column 8 of it)",
        ),
        (
            "format: json\ninclude_prompt: true",
            "2:17 with 'format' the text has no prompt before it, and 'include_prompt' is true",
        ),
    ],
)
def test_what_is_wrong_with_a_format_has_its_place(
    wrong_lines: WrongLines, lines: str, wrong: str
) -> None:
    assert wrong_lines(lines + "\ntext: a") == [wrong]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("response_format: json", "Here it is called 'format'."),
        ("json_schema: {type: object}", "Write it below 'format:', as its one key."),
        ("choices: [a, b]", "Write it below 'format:', as its one key."),
        ("reasoning_effort: low", "Chat templates read it"),
        ("format: [a, b]", "Where the text is one of several, write them below 'choices:'."),
        ("format: {choice: [a, b]}", "Did you mean 'choices'?"),
    ],
)
def test_who_writes_a_format_elsewhere_is_told_where_it_stands(
    problems: Problems, line: str, hint: str
) -> None:
    head = "type: model, task: text-generation, model: m, text: a"
    (found,) = problems(f"component: {{{head}, {line}}}")
    assert (found.hint or "").startswith(hint)


def test_several_mistakes_in_a_schema_are_told_together(wrong_lines: WrongLines) -> None:
    lines = """\
format:
  json_schema:
    properties:
      a: {type: strin}
    requird: [a]
    required: [b]
    additionalProperties: false
text: a"""
    assert wrong_lines(lines) == [
        "4:17 'type': there is no type \"strin\"",
        "5:5 'requird' is no keyword of JSON Schema",
        "6:16 'required[0]': 'b' is required, and 'additionalProperties: false' forbids it",
    ]


def test_expressions_are_left_until_they_are_rendered(component: Component) -> None:
    lines = """\
text: ${input.text}
format:
  json_schema:
    type: object
    properties: {kind: {enum: "${input.kinds}"}, not_checked: {not: "${input.other as object}"}}
"""
    document = component(lines)
    given = {
        each.name: str(each.type) for each in signature(document, document.default_workflow).inputs
    }
    assert given == {"text": "text", "kinds": "list", "other": "object"}


@pytest.mark.parametrize(
    ("format", "type_"),
    [
        ("json", "json"),
        ("{json_schema: {type: object}}", "object"),
        ("{json_schema: {type: array}}", "list"),
        ("{json_schema: {type: integer}}", "integer"),
        ("{json_schema: {enum: [1]}}", "json"),
        ("{choices: [a]}", "text"),
        ("{regex: a}", "text"),
    ],
)
def test_the_signature_knows_what_a_format_gives(
    component: Component, format: str, type_: str
) -> None:
    document = component(f"text: a\nformat: {format}")
    (output,) = signature(document, document.default_workflow).outputs
    assert output.type.name == type_


# Schemas in files


def document_in(folder: Path, schema: str, name: str = "person.schema.json") -> Path:
    (folder / name).write_text(schema)
    path = folder / "model-compose.yml"
    path.write_text(f"{HEAD}  text: a\n  format:\n    json_schema: ./{name}\n")
    return path


@pytest.mark.parametrize("name", ["person.schema.json", "person.yml"])
def test_a_schema_in_a_file_is_a_part_of_the_document(tmp_path: Path, name: str) -> None:
    written = SCHEMA if name.endswith("yml") else json.dumps(load_yaml(SCHEMA), indent="\t")
    path = document_in(tmp_path, written, name)
    first = load_document(path)
    assert format_of(first) == {"json_schema": load_yaml(SCHEMA)}
    assert load_document(path).key == first.key
    document_in(tmp_path, written.replace("integer", "number"), name)
    changed = load_document(path)
    assert changed.hash != first.hash and changed.key != first.key
    assert changed.file_paths == [tmp_path / f"./{name}"]


def load_yaml(text: str) -> Any:
    from modelcompose_jupyter.document.reader import read

    return read(text).data


def test_what_is_wrong_in_the_file_of_a_schema_has_its_place_there(tmp_path: Path) -> None:
    path = document_in(tmp_path, '{\n  "properties": {\n    "a": {"not": {}}\n  }\n}\n')
    with pytest.raises(DocumentError) as caught:
        load_document(path)
    assert str(caught.value).splitlines()[:3] == [
        "./person.schema.json:3:11: 'not' is not supported in a format's schema",
        '  3 |     "a": {"not": {}}',
        "    |           ^",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a\n", 'the file holds no schema, but ["a"]'),
        ("a: [", "not YAML: expected the node content, but found '<stream end>'"),
        ("a: 1\na: 2\n", "key 'a' stands twice in one mapping, on line 1 and line 2"),
        ("a: \ud800".encode("utf-8", "surrogatepass"), "the file './person.schema.json': "),
    ],
)
def test_a_file_that_holds_no_schema(tmp_path: Path, content: Any, message: str) -> None:
    path = document_in(tmp_path, "{}")
    schema = tmp_path / "person.schema.json"
    schema.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DocumentError) as caught:
        load_document(path)
    (problem,) = caught.value.problems
    assert problem.message.startswith(message)


def test_there_is_no_such_file(tmp_path: Path) -> None:
    path = document_in(tmp_path, "{}")
    (tmp_path / "person.schema.json").rename(tmp_path / "persons.schema.json")
    with pytest.raises(DocumentError) as caught:
        load_document(path)
    (problem,) = caught.value.problems
    assert problem.message == "there is no file './person.schema.json'"
    assert problem.hint == "Did you mean 'persons.schema.json'?"
    assert (problem.where.line, problem.where.column) == (7, 18)


def test_a_schema_in_quotes_is_told_from_the_name_of_a_file(wrong_lines: WrongLines) -> None:
    lines = 'text: a\nformat:\n  json_schema: \'{"type": "object"}\''
    assert wrong_lines(lines) == ["3:16 'json_schema' is a text: a schema is a mapping"]


def test_a_schema_travels_with_its_document(tmp_path: Path) -> None:
    document = load_document(document_in(tmp_path, '{"type": "object"}'))
    sent = DocumentText.of(document).model_dump()
    (tmp_path / "person.schema.json").unlink()
    there = DocumentText(**sent).read()
    assert there.key == document.key
    assert format_of(there) == {"json_schema": {"type": "object"}}
    data = {"component": {**load_yaml(HEAD)["component"], "text": "a"}}
    (tmp_path / "other.json").write_text('{"type": "array"}')
    data["component"]["format"] = {"json_schema": "other.json"}
    given = load_document(data, folder=tmp_path)
    sent = DocumentText.of(given).model_dump()
    (tmp_path / "other.json").unlink()
    assert DocumentText(**sent).read().key == given.key


def test_what_stands_in_an_input_is_no_name_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "model-compose.yml"
    lines = "  text: a\nworkflow:\n  input: {format: {json_schema: ./none.json}}\n"
    path.write_text(HEAD + lines)
    job = load_document(path).default_workflow.jobs[0]
    assert job.input is not None
    assert job.input.value == {"format": {"json_schema": "./none.json"}}


# Values


def test_a_value_is_what_the_text_says() -> None:
    assert Format.model_validate({"choices": ["1"]}).value("1") == "1"
    assert Format.model_validate("json").value('{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": ', "it is no JSON"),
        ("[" * 201 + "]" * 201, "it is nested more than 200 deep"),
        ("[" * 100_000 + "]" * 100_000, "it is nested more than 200 deep"),
        ("[1e999]", 'the number "1e999" is too large'),
        ("[" + "9" * 5000 + "]", "it is no JSON"),
        ("[NaN]", "NaN is no number of JSON"),
    ],
)
def test_a_text_whose_value_cannot_be_held(text: str, message: str) -> None:
    with pytest.raises(ConversionError, match="^" + message):
        value_of(text)
