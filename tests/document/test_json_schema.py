"""The JSON Schema of documents, which other editors read, goes by the types of mappings."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from modelcompose_jupyter.document import json_schema, load_document
from modelcompose_jupyter.document.reader import read

ROOT = Path(__file__).parents[2]
PAGES = "\n".join(
    page.read_text("utf-8")
    for page in sorted((ROOT / "docs").glob("*.md"))
    if page.stem != "errors"  # whose documents are wrong
)
DOCUMENTS = [path.read_text("utf-8") for path in sorted((ROOT / "notebooks").glob("*.yml"))]
DOCUMENTS += re.findall(r"^```yaml\n(component.*?)\n```$", PAGES, re.DOTALL | re.MULTILINE)
MODEL = {"type": "model", "task": "text-generation", "model": "m", "text": "hi"}
TEST = {"input": "${output}", "operator": "gt", "value": 1}
LOOP = {"type": "loop", "do": {}, "until": TEST, "max_iteration_count": 3}


@cache
def validator() -> Any:
    return jsonschema.Draft202012Validator(json_schema())


def with_job(job: dict[str, Any]) -> dict[str, Any]:
    return {"component": MODEL, "workflow": {"jobs": [{"id": "a", **job}, {"id": "b"}]}}


GOOD: list[dict[str, Any]] = [
    {"repeat_count": 2},
    {"type": "action"},
    {"type": "component", "retry": 3, "on_error": "ignore", "timeout": "30s"},
    {"retry": {"max_attempt_count": 3, "delay": "2s", "backoff": "exponential"}},
    {"on_error": {"to": "b", "output": "${error.message}"}},
    {"depends_on": ["b"]},
    {"depends_on": [["b"]]},
    {"type": "if", "value": 1, "if_true": "b", "if_false": {"output": 1}},
    {"type": "if", "conditions": [{"operator": "in", "value": [1], "if_true": "b"}]},
    {"type": "switch", "input": 1, "cases": [{"value": 1, "then": "b"}], "otherwise": "b"},
    {"type": "random-router", "routings": [{"to": "b", "weight": 2}, {"output": 1}]},
    {"type": "for-each", "input": [1], "batch_size": 2, "do": {"input": {"p": "${item}"}}},
    {"type": "for-each", "input": [1], "do": LOOP},
    {"type": "filter", "input": [1], "where": {"not": {"any": [{"input": 1, "value": 1}]}}},
    LOOP,
    {"type": "accumulate", "input": [1], "accumulator": 0, "do": {}},
    {"type": "delay", "duration": "30s"},
    {"component": {"type": "function", "function": "f"}},
    {"component": {"type": "workflow", "workflow": "other"}},
    {"interrupt": {"before": True, "after": {"message": "Well?", "choices": ["yes", "no"]}}},
]
BAD: list[dict[str, Any]] = [
    {"cases": []},
    {"type": "nosuch"},
    {"type": "loop", "do": {}},
    {**LOOP, "cases": []},
    {**LOOP, "do": {"type": "loop"}},
    {**LOOP, "until": {"input": 1}},
    {**LOOP, "until": {**TEST, "operator": "=="}},
    {**LOOP, "max_iteration_count": 0},
    {"type": "if", "value": 1, "if_true": {}},
    {"type": "switch", "input": 1, "cases": []},
    {"type": "switch", "input": 1, "cases": [{"value": 1}]},
    {"type": "for-each", "input": [1], "do": "b"},
    {"type": "for-each", "input": [1]},
    {"type": "filter", "input": [1], "where": {}},
    {"type": "random-router", "routings": [{"weight": 1}]},
    {"type": "delay", "duration": "soon"},
    {"retry": 0},
    {"retry": {}},
    {"timeout": "soon"},
    {"component": {"type": "function"}},
    {"component": {"type": "function", "function": "f", "text": "hi"}},
    {"component": {"type": "workflow", "model": "m"}},
]


@pytest.mark.parametrize("job", GOOD, ids=str)
def test_jobs_that_the_checker_accepts_fit(job: dict[str, Any]) -> None:
    document = with_job(job) | {"workflows": [with_job(job)["workflow"], {"id": "other"}]}
    del document["workflow"]
    assert load_document(document, environ={}).workflows
    validator().validate(document)


@pytest.mark.parametrize("job", BAD, ids=str)
def test_jobs_that_are_wrong_do_not(job: dict[str, Any]) -> None:
    assert not validator().is_valid(with_job(job))


def test_what_is_wrong_is_said_of_the_type_alone() -> None:
    part = json_schema() | {"$ref": "#/$defs/AnyJob"}
    job = jsonschema.Draft202012Validator({"$defs": part["$defs"], "$ref": part["$ref"]})
    told = [each.message for each in job.iter_errors({**LOOP, "cases": []})]
    assert told == ["Additional properties are not allowed ('cases' was unexpected)"]
    told = [each.message for each in job.iter_errors({"type": "loop"})]
    assert told == [f"'{key}' is a required property" for key in ("do", "max_iteration_count")]


@pytest.mark.parametrize("text", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_documents_of_the_pages_and_notebooks_fit(text: str) -> None:
    validator().validate(read(text).data)


def test_every_definition_is_used() -> None:
    schema = json_schema()
    written = json.dumps(schema)
    assert all(f'"#/$defs/{name}"' in written for name in schema["$defs"])


def test_operators_and_types_say_what_they_do() -> None:
    definitions = json_schema()["$defs"]
    said = [part for part in _parts(definitions) if "enumDescriptions" in part]
    values = {value for part in said for value in part["enum"]}
    assert {"not-in", "for-each", "if", "workflow", "exponential"} <= values
    assert all(all(part["enumDescriptions"]) for part in said)


def _parts(value: Any) -> list[dict[str, Any]]:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = [part for each in below for part in _parts(each)]
    return [value, *found] if isinstance(value, dict) else found
