"""What holds for any text, any mapping and any value."""

from __future__ import annotations

import contextlib
import json
import sys
from functools import cache
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelcompose_jupyter.document import json_schema, load_document, render
from modelcompose_jupyter.document.completion import input_names
from modelcompose_jupyter.document.expression import parse
from modelcompose_jupyter.document.parameters import PARAMETER_NAMES
from modelcompose_jupyter.document.reader import MAX_PROBLEMS, read_text
from modelcompose_jupyter.errors import LONGEST_MESSAGE, DocumentError, ExpressionError
from modelcompose_jupyter.language_service import complete, diagnostics

SEEDS = Path(__file__).parent.parent / "seed"
PIECES = [
    "${", "}", "{", "input", ".a", "[0]", "[", "]", "*", "[*]", " as ", "integer", "select/a,b",
    "slider/0,1", " | ", "'", '"', "\\", "@(x y)", "@(", "${input.a}", "env.X", "jobs.j.output",
    "한글", "1", ":", "...", "\n", " ", "#", "- ", "&a ", "*a", "<<: ", "? ", "|", ">", "!!int ",
    "\t", "component", "model", "text", "true", "\ud800", "\x00", "\ufeff",
]  # fmt: skip
templates = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=15).map("".join))
CONTEXT = {"input": {"a": "v", "list": [1, {"a": None}]}, "env": {"X": "x"}, "jobs": {}}
DOCUMENT = """\
x-base: &base {seed: 1, top_p: 0.9}
controller: {type: http-server, port: 8080, webui: {port: 8081}}
component:
  <<: *base
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt | "Say: ${input.topic}"}
  params: {temperature: "${input.t as number | 0.7}", stop_sequences: ["\\n"]}
workflow:
  jobs:
    - {id: a, repeat_count: 2, input: {prompt: "${input.p[${index}]}"}}
    - {id: b, input: "${jobs.a.output}", output: {"+": ["x", "${output}"]}}
"""

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | templates,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["...", "?", "+", "*", "|", "a", "input", "operator", "where"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(template=plain)
def test_rendering_gives_a_value_or_an_expression_error(template):
    with contextlib.suppress(ExpressionError):
        render(template, CONTEXT)


@settings(max_examples=100, deadline=None)
@given(text=st.text().filter(lambda text: "${" not in text))
def test_text_without_expressions_stays_as_it_is(text):
    assert render(text, {}) == text


@settings(max_examples=200, deadline=None)
@given(text=templates)
def test_escaped_text_comes_back_as_it_was(text):
    escaped = ""
    for position, char in enumerate(text):
        rest = text[position:].lstrip("\\")
        escaped += "\\\\" if char == "\\" and rest.startswith("${") else char
    # Every backslash that stands before an expression is doubled; the expression gets one.
    escaped = escaped.replace("${", "\\${")
    assert render(escaped, {}) == text


@settings(max_examples=100, deadline=None)
@given(value=templates)
def test_a_value_is_never_rendered(value):
    assert render("${input.v}", {"input": {"v": value}}) == value
    assert render("<${input.v}>", {"input": {"v": value}}) == f"<{value}>"
    assert render("${input.w | ${input.v}}", {"input": {"v": value}}) == value


@settings(max_examples=200, deadline=None)
@given(text=templates)
def test_the_expressions_of_a_text_are_pieces_of_it(text):
    with contextlib.suppress(ExpressionError):
        for expression in parse(text).expressions:
            assert text.startswith(expression.text, expression.offset)


@settings(max_examples=200, deadline=None)
@given(text=templates.map(lambda text: text + "\n"))
def test_any_text_is_a_document_or_a_document_error(text):
    with contextlib.suppress(DocumentError):
        load_document(text, environ={})


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_a_broken_document_has_problems_with_places(data):
    start = data.draw(st.integers(0, len(DOCUMENT)))
    end = data.draw(st.integers(start, min(len(DOCUMENT), start + 8)))
    middle = data.draw(templates)
    text = DOCUMENT[:start] + middle + DOCUMENT[end:]
    try:
        load_document(text, environ={})
    except DocumentError as error:
        lines = str(error).splitlines()
        for problem in error.problems:
            line, column = problem.where.line, problem.where.column
            assert 1 <= line <= text.count("\n") + text.count("\r") + 1
            assert column >= 1
            assert any(each.startswith(f"<text>:{line}:{column}: ") for each in lines)
        places = [(problem.where.line, problem.where.column) for problem in error.problems]
        assert places == sorted(places)


EXAMPLES = [DOCUMENT, *(path.read_text() for path in sorted(SEEDS.glob("*.yml")))]
LINES = [line for text in EXAMPLES for line in text.splitlines(keepends=True)]


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A real document, with pieces taken out, put in, repeated and taken from other documents."""
    text = draw(st.sampled_from(EXAMPLES))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 60)))
        middle = draw(templates | st.sampled_from(LINES) | st.just(text[start:end]))
        text = text[:start] + middle * draw(st.sampled_from([1, 1, 1, 2, 50])) + text[end:]
    return text


class Work:
    """Counts the lines of Python that are run, and ends what runs more than it may."""

    def __init__(self, most: int) -> None:
        self.left = most

    def __call__(self, frame: object, event: str, argument: object) -> Work:
        self.left -= 1
        assert self.left > 0, "it takes more work than its size allows"
        return self

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self)

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._before)


@settings(max_examples=60, deadline=None)
@given(text=mutated(), part=st.floats(0, 1))
def test_what_is_asked_of_any_document_is_answered_within_its_size(text: str, part: float) -> None:
    cursor = round(part * len(text))
    with Work(200_000 + 1000 * len(text)):
        found = diagnostics(text)
        offered = complete(text, cursor)
        names = input_names(text)
    assert found is not None and len(found) <= MAX_PROBLEMS + 1
    for each in found:
        assert (
            0 <= each["from"] <= each["to"] <= len(text.encode("utf-16-le", "surrogatepass")) // 2
        )
        assert each["message"] and len(each["message"]) <= LONGEST_MESSAGE + 1
    assert 0 <= offered["start"] <= cursor
    assert len(names) == len(set(names))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=15,
)
white = st.text(" \t\n\r", max_size=3)


@settings(max_examples=300, deadline=None)
@given(
    value=json_values,
    indent=st.none() | st.integers(0, 3) | st.text(" \t", max_size=3),
    spaces=st.tuples(white, white, white, white),
    ascii=st.booleans(),
)
def test_any_json_is_read_as_json(value, indent, spaces, ascii):
    before, comma, colon, after = spaces
    text = json.dumps(
        value,
        indent=indent,
        separators=(f"{after},{comma}", f"{after}:{colon}"),
        ensure_ascii=ascii,
    )
    source = read_text(f"{before}{text}{after}", "<text>", Path())
    assert (source.data, source.problems) == (json.loads(text), [])


KEYS = [
    "component", "components", "workflow", "workflows", "controller", "type", "task", "model",
    "text", "prompt", "params", "action", "actions", "job", "jobs", "id", "input", "output",
    "repeat_count", "depends_on", "adapter", "webui", "port", "default", "x-a", "nosuch",
    *PARAMETER_NAMES,
]  # fmt: skip
LEAVES = st.sampled_from(
    ["model", "text-generation", "http-server", "a", "b", "", "0.5", "${input.a}", "never",
     "${jobs.a.output}", True, False, None, 0, 1, -1, 0.5, 2.0, 10**30, "yes", "${", "${env.X}"]
)  # fmt: skip
mappings = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)
    ),
    max_leaves=20,
)
components = st.fixed_dictionaries(
    {"type": st.just("model"), "task": st.just("text-generation"), "model": st.just("m")},
    optional={
        "quantization": LEAVES,
        "cache_quantization": LEAVES,
        "draft_model": LEAVES,
        "prompt_lookup": LEAVES,
        "cache_budget": LEAVES | st.sampled_from(["2GB", "1.5 GiB", "0 B"]),
        "peft_adapters": st.lists(
            st.fixed_dictionaries({"model": LEAVES}, optional={"weight": LEAVES}), max_size=2
        ),
        "text": LEAVES | st.lists(LEAVES, max_size=2),
        "params": st.dictionaries(st.sampled_from(PARAMETER_NAMES), LEAVES, max_size=3),
        **dict.fromkeys(PARAMETER_NAMES[:8], LEAVES),
    },
)
PLAIN = {"type": "model", "task": "text-generation", "model": "m", "text": "hi"}
documents = st.fixed_dictionaries(
    {"component": components}, optional={"workflow": mappings, "controller": mappings}
)


@cache
def validator():
    return jsonschema.Draft202012Validator(json_schema())


@settings(max_examples=250, deadline=None)
@given(document=st.dictionaries(st.sampled_from(KEYS), mappings, max_size=4) | documents)
def test_any_mapping_is_a_document_or_a_document_error(document):
    try:
        load_document(document, environ={})
    except DocumentError as error:
        assert "Input should" not in str(error)
    else:
        validator().validate(document)


@settings(max_examples=250, deadline=None)
@given(component=components)
def test_what_the_checker_accepts_fits_the_schema(component):
    document = {"component": {"text": "hi", **component}}
    with contextlib.suppress(DocumentError):
        load_document(document, environ={"X": "1"})
        validator().validate(document)


TEST = st.fixed_dictionaries(
    {"input": st.sampled_from(["${output}", "${item}", 1]), "value": st.integers(0, 2)},
    optional={"operator": st.sampled_from(["eq", "in", "match", "=="])},
)
TESTS = st.recursive(
    TEST,
    lambda inner: (
        st.fixed_dictionaries({"not": inner})
        | st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=2) | inner})
    ),
    max_leaves=3,
)
ROUTES = (
    st.sampled_from(["a", "b", "c"])
    | st.fixed_dictionaries({"output": LEAVES}, optional={"to": st.sampled_from(["a", "b"])})
    | LEAVES
)
CASES = st.lists(st.fixed_dictionaries({"value": LEAVES, "then": ROUTES}), min_size=1, max_size=2)
WAYS = st.lists(
    st.fixed_dictionaries({"to": st.sampled_from(["a", "b"])}, optional={"weight": LEAVES}),
    min_size=1,
    max_size=2,
)
DURATIONS = st.sampled_from(["30s", "1h 5m", 3, "${input.a}", "5 eons", -1])
COMMON = {
    "output": LEAVES,
    "retry": st.integers(0, 3) | st.fixed_dictionaries({"max_attempt_count": st.integers(0, 2)}),
    "on_error": st.just("ignore") | ROUTES,
    "timeout": DURATIONS,
    "depends_on": st.sampled_from(["a", ["b"], [["a", "b"]], [[]], [], None]),
    "interrupt": st.fixed_dictionaries(
        {}, optional={"before": LEAVES, "after": st.fixed_dictionaries({"condition": TESTS})}
    ),
}
COMPONENTS = st.sampled_from(
    [PLAIN, {"type": "function", "function": "f"}, {"type": "workflow"}, {"type": "modle"}, "x"]
)
AMISS = st.dictionaries(
    st.sampled_from(["inputs", "then", "cases", "do", "text", "type", "items"]), LEAVES, max_size=1
)


def _job(type_, needed, also=None, do=None):
    """Jobs of a type, most of them as they must be."""
    inner = {} if do is None else {"do": do}
    fixed = {"type": st.just(type_), **needed, **inner}
    made = st.fixed_dictionaries(fixed, optional={**COMMON, **(also or {})})
    return made | st.builds(lambda job, other: {**job, **other}, made, AMISS)


_LIST = {"input": st.sampled_from(["${input.list}", [1, 2], None])}
_ROUNDS = {"max_iteration_count": st.sampled_from([3, "${input.n}", 0, 20_000])}
_PLAIN_JOBS = st.one_of(
    _job("component", {}, {"component": COMPONENTS, "repeat_count": LEAVES, "input": LEAVES}),
    _job("if", {"value": LEAVES, "if_true": ROUTES}, {"if_false": ROUTES, "otherwise": ROUTES}),
    _job("if", {"conditions": st.lists(TEST, min_size=1, max_size=2), "otherwise": ROUTES}),
    _job("switch", {"input": LEAVES, "cases": CASES}, {"otherwise": ROUTES}),
    _job("filter", _LIST, {"where": TESTS}),
    _job("random-router", {"routings": WAYS}, {"session": LEAVES, "mode": LEAVES}),
    _job("delay", {"duration": DURATIONS}, {"input": LEAVES}),
    _job("delay", {"time": st.sampled_from(["2026-12-24", "noon", "${input.a}", 5])}),
)
jobs = st.recursive(
    _PLAIN_JOBS,
    lambda inner: st.one_of(
        _job("for-each", _LIST, {"batch_size": LEAVES}, do=inner),
        _job("accumulate", _LIST, {"accumulator": LEAVES}, do=inner),
        _job("loop", {**_ROUNDS, "until": TESTS}, {"input": LEAVES, "while": TESTS}, do=inner),
    ),
    max_leaves=3,
)


@settings(max_examples=150, deadline=None)
@given(several=st.lists(jobs, min_size=1, max_size=3))
def test_any_jobs_are_a_document_or_a_document_error(several):
    named = [{**job, "id": name} for job, name in zip(several, "abc", strict=False)]
    document = {"component": PLAIN, "workflow": {"jobs": named}}
    try:
        load_document(document, environ={})
    except DocumentError as error:
        assert "Input should" not in str(error)
    else:
        validator().validate(document)


def test_the_schema_is_one_itself():
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert json.loads(json.dumps(json_schema())) == json_schema()


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"component": 5},
        {"component": {"type": "model"}},
        {"componnet": {}},
        {"component": {"type": "model", "task": "text-generation", "model": "m", "top_p": 7}},
        {"component": {"type": "model", "task": "text-generation", "model": "m", "text": 5}},
        {"component": {**PLAIN, "quantization": "int3"}},
        {"component": {**PLAIN, "peft_adapters": [{"weight": 1}]}},
        {"component": {**PLAIN, "prompt_lookup": -1}},
        {"component": {**PLAIN, "cache_budget": "much"}},
        {"component": {"type": "shell", "task": "text-generation", "model": "m"}},
        {"component": {"type": "model", "task": "text-generation", "model": "m", "seed": "x"}},
    ],
    ids=str,
)
def test_the_schema_refuses_wrong_documents(wrong):
    with pytest.raises(DocumentError):
        load_document(wrong)
    if wrong:  # an empty document is one that is not finished, to an editor
        assert not validator().is_valid(wrong)
