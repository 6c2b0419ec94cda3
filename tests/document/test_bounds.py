"""What a document, an input and a template may cost, whoever wrote them."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from importlib import import_module
from types import FrameType
from typing import Any

import pytest

from modelcompose_jupyter import errors
from modelcompose_jupyter.document import (
    completion,
    expression,
    load_document,
    render,
    signature,
    types,
)
from modelcompose_jupyter.document.completion import complete
from modelcompose_jupyter.document.reader import MAX_CHARACTERS, MAX_KEY, MAX_PROBLEMS
from modelcompose_jupyter.document.render import text_size
from modelcompose_jupyter.errors import (
    LONGEST_MESSAGE,
    ComposeError,
    DocumentError,
    ExpressionError,
    InputError,
    Problem,
    Where,
    did_you_mean,
)

from .conftest import HEAD

STORY = f"{HEAD}  text: ${{input.prompt}}\n"
JOBS = f"{STORY}workflow:\n  jobs:\n"


def numbered(line: str, count: int) -> str:
    return "".join(line.replace("N", str(number)) for number in range(count))


def references(count: int) -> str:
    job = "    - id: nameN\n      input: {prompt: '${jobs.nomeNx.output}'}\n"
    return JOBS + numbered(job, count)


def components(count: int) -> str:
    one = "  - {id: cN, type: model, task: text-generation, model: m, text: a}\n"
    return "components:\n" + numbered(one, count)


GROWING: dict[str, Callable[[int], str]] = {
    "unknown keys": lambda n: STORY + numbered("  kN: 1\n", n),
    "unknown keys on one line": lambda n: STORY + f"x-a: {{}}\ny: {{{numbered('kN: 1, ', n)}}}\n",
    "wrong values": lambda n: f"{STORY}  stop_sequences: [{'{}, ' * n}]\n",
    "keys that stand twice": lambda n: STORY + "  a: 1\n" * n,
    "tags": lambda n: f"{STORY}x-a: [{'!!foo 1, ' * n}]\n",
    "jobs": lambda n: JOBS + numbered("    - id: jN\n", n),
    "jobs in a chain": lambda n: (
        f"{JOBS}    - id: j\n"
        + numbered("    - id: jN\n      depends_on: j\n", n).replace("j\n", "jN\n", 1)
    ),
    "jobs that use jobs": lambda n: (
        JOBS
        + numbered("    - id: jN\n", n)
        + f"    - id: z\n      input: '{numbered('${jobs.jN.output}', n)}'\n"
    ),
    "jobs that wait for nobody": lambda n: (
        JOBS + "    - id: a\n" + f"    - id: b\n      depends_on: [{numbered('xN, ', n)}]\n"
    ),
    "references to jobs": references,
    "ids that stand twice": lambda n: JOBS + "    - id: a\n" * n,
    "components": lambda n: components(n) + "workflow: {component: c0}\n",
    "references to components": lambda n: (
        components(n) + "workflows:\n" + numbered("  - {id: cN, component: cN}\n", n)
    ),
    "wrong references to components": lambda n: (
        components(n) + "workflows:\n" + numbered("  - {id: cN, component: dN}\n", n)
    ),
    "no default component": lambda n: (
        components(n) + "workflows:\n" + numbered("  - {id: cN}\n", n)
    ),
    "references to actions": lambda n: (
        f"{HEAD}  actions:\n"
        + numbered("    - {id: aN, text: a}\n", n)
        + "workflow:\n  jobs:\n"
        + numbered("    - {id: jN, action: aN}\n", n)
    ),
    "unknown sources": lambda n: f"{HEAD}  text: '{'${inptu.b} ' * n}'\n",
    "what never closes": lambda n: f"{STORY}workflow:\n  input:\n" + "    - ${\n" * n,
    "inputs": lambda n: f"{HEAD}  text: '{numbered('${input.aN}', n)}'\n",
    "variables that are not set": lambda n: f"{HEAD}  text: '{numbered('${env.AN}', n)}'\n",
    "origins": lambda n: f"{STORY}controller: {{origins: '{'x,' * n}'}}\n",
    "adapters": lambda n: (
        f"{STORY}  peft_adapters:\n" + "    - {model: {path: a, nam: b}, precision: x}\n" * n
    ),
    "messages": lambda n: (
        STORY.replace("text-generation", "chat-completion").replace("text: $", "messages:\n    - $")
        + "    - {role: usr, content: a}\n" * n
    ),
}


def lines_run(call: Callable[[], Any]) -> int:
    """How many lines of Python a call runs, each turn of a loop counted, with nothing known."""
    count = 0
    for known in (expression._parse_short, expression._parse_long, completion._named):
        known.cache_clear()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except ComposeError:
        pass
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("construct", GROWING)
def test_checking_takes_as_long_as_the_document_is(construct: str) -> None:
    """Three times the size: three times the work, and some for each of the first problems."""

    def work(count: int) -> int:
        text = GROWING[construct](count)
        return lines_run(lambda: load_document(text, environ={}))

    work(10)  # what is read once
    assert work(240) < 4 * work(80)


def problems_of(text: Any) -> list[Problem]:
    with pytest.raises(DocumentError) as caught:
        load_document(text, environ={})
    return caught.value.problems


def test_beyond_a_bound_problems_are_counted() -> None:
    text = references(MAX_PROBLEMS + 23)
    *told, last = problems_of(text)
    assert len(told) == MAX_PROBLEMS
    assert [each.where.line for each in told] == sorted({each.where.line or 0 for each in told})
    assert last.message == "23 more problems were found"
    assert last.hint is not None and "mend these first" in last.hint
    assert len(problems_of(references(MAX_PROBLEMS))) == MAX_PROBLEMS


def test_suggestions_of_a_check_share_a_bound_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    matches = difflib.get_close_matches

    def counted(word: str, known: list[str], **options: Any) -> list[str]:
        nonlocal compared
        compared += len(known)
        return matches(word, known, **options)

    monkeypatch.setattr(errors.difflib, "get_close_matches", counted)
    told = problems_of(references(400))
    assert 0 < compared <= errors._MOST_COMPARED
    assert "Did you mean" in str(told[0].hint)
    assert len(told) == MAX_PROBLEMS + 1
    assert did_you_mean("nam", ["name"]) == "Did you mean 'name'?"  # has a bound of its own


def test_hints_name_some_of_many() -> None:
    names = {f"name{number}": 1 for number in range(5000)}
    component = {"type": "model", "task": "text-generation", "model": "m", "text": "${input.a}"}
    (found,) = problems_of({"component": component, "workflow": {"input": names}})
    assert len(found.message) + len(found.hint or "") < 500
    document = load_document(numbered("  - {id: nameN}\n", 1000).join([f"{JOBS}", ""]))
    with pytest.raises(InputError) as caught:
        document.workflow("x")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text",
    [
        f"x-a: &a '{'x' * 1000}'\nx-b: [{'*a,' * 1000}]\n",
        f"x-a: &a '{'é' * 1000}'\nx-b: [{'*a,' * 1000}]\n",
        f"x-a: &a {{'{'k' * 1000}': 1}}\nx-b:\n" + "  - {<<: *a}\n" * 1000,
    ],
    ids=["text", "not ASCII", "keys"],
)
def test_aliases_are_bounded_by_characters_too(text: str) -> None:
    (found,) = problems_of(text)
    assert f"more than {MAX_CHARACTERS:,} characters once its aliases" in found.message


def test_empty_merges_are_counted() -> None:
    text = "a0: &a0 {}\n"
    for level in range(1, 20):
        text += f"a{level}: &a{level} {{<<: [{','.join([f'*a{level - 1}'] * 10)}]}}\n"
    (found,) = problems_of(text)
    assert "once its aliases are expanded" in found.message


def test_a_mapping_has_the_bounds_of_a_text() -> None:
    (found,) = problems_of({"x-a": ["x" * 1000] * 1001})
    assert f"{MAX_CHARACTERS:,} characters" in found.message
    for wrong in ({"k" * (MAX_KEY + 1): 1}, f"{'k' * (MAX_KEY + 1)}: 1\n"):
        (found,) = problems_of(wrong)
        assert f"a key has at most {MAX_KEY:,} characters" in found.message


def test_a_very_long_line_is_shown_around_the_place() -> None:
    blanks = " " * 50_000
    text = (
        f"component: {{type: model, task: text-generation, model: m,{blanks}tex: a,{blanks}k: 1}}\n"
    )
    first = problems_of(text)[0]
    assert first.message == "unknown key 'tex'"
    assert len(first.where.snippet or "") <= 2000
    line, caret = first.where.excerpt()
    assert line.index("tex: a") == caret.index("^")
    again = ComposeError.from_dict(ComposeError("x", where=first.where).to_dict())
    assert again.where == first.where


@pytest.mark.parametrize("distance", [990, 1000, 1010, 1990, 2000, 2010])
def test_no_part_of_a_secret_is_at_a_cut(distance: int) -> None:
    secret = "hf_" + "aB3dE5gH" * 4
    text = f"component: {{type: model, task: text-generation, model: m, text: a, token: {secret},"
    for between in (" " * distance, " " * 50_000):
        document = f"{text}{between}tex: a,{between}x: 1, token: {secret}}}\n"
        for problem in problems_of(document):
            assert "aB3dE5gH" not in str(problem.where.snippet)
    message = str(ComposeError(f"{'x ' * (distance + 1000)}{secret} {'x ' * 5000}"))
    assert "aB3dE5gH" not in message and len(message) <= LONGEST_MESSAGE + 1


def test_messages_are_bounded() -> None:
    long = "x" * 900_000
    for text in (f"{HEAD}  text: ${{{long}.a}}\n", f"{STORY}  seed: {long}\n", f"'{long}': 1\n"):
        for found in problems_of(text):
            assert len(found.message) + len(found.hint or "") + len(str(found.where.snippet)) < 9000
    assert len(Problem(long, Where("a")).message) <= LONGEST_MESSAGE + 1


def test_jobs_and_the_expressions_that_they_use_are_bounded_together() -> None:
    text = f"{HEAD}  text: '{'${input.a}' * 1000}'\nworkflow:\n  jobs:\n"
    (found,) = problems_of(text + numbered("    - id: jN\n", 120))
    assert "use more than 100,000 expressions" in found.message
    assert found.where.path == ("workflow", "jobs", 100)
    assert len(load_document(text + numbered("    - id: jN\n", 100)).workflows[0].jobs) == 100


@pytest.mark.parametrize("construct", ["unknown sources", "messages", "inputs", "adapters"])
def test_completing_takes_as_long_as_the_document_is(construct: str) -> None:
    def work(count: int) -> int:
        text = GROWING[construct](count) + "workflow:\n  input: ${input."
        return lines_run(lambda: complete(text, len(text), environ={}))

    work(10)
    assert work(240) < 4 * work(80)


# Inputs


def test_inputs_are_looked_up_and_converted_once_for_each_type() -> None:
    names = [f"a{number}" for number in range(2000)]
    text = "".join(f"${{input.{name}}}" for name in names) + "${input.big as json}" * 50
    document = load_document(
        {"component": {"type": "model", "task": "text-generation", "model": "m", "text": text}}
    )
    taken = signature(document, document.workflow())
    given = {**dict.fromkeys(names, "x"), "big": f"[{'1,' * 1000}1]"}
    assert taken.validate(given)["big"] == given["big"]
    unknown = {**given, **{f"x{number}": 1 for number in range(50_000)}}
    few = lines_run(lambda: taken.validate(given))
    with pytest.raises(InputError, match="there is no input 'x0'") as caught:
        taken.validate(unknown)
    assert len(str(caught.value)) < 500
    assert few < 100 * len(names)
    assert lines_run(lambda: taken.check_names(unknown)) < 50 * len(names)


def test_values_are_shown_without_being_written_out() -> None:
    value: Any = []
    for _ in range(100):
        value = [value, value]
    assert types.show(value) == "[" * 59 + "…"
    assert types.show("x" * 10**6) == '"' + "x" * 58 + "…"


def test_a_type_has_a_bound_of_options() -> None:
    options = ",".join(map(str, range(types.MAX_OPTIONS)))
    assert render(f"${{input.a as select/{options}}}", {"input": {"a": "7"}}) == "7"
    with pytest.raises(ExpressionError) as caught:
        render(f"${{input.a as select/{options}}}", {"input": {"a": "no"}})
    assert "one of 0, 1, 2" in caught.value.message and len(caught.value.message) < 500
    with pytest.raises(ExpressionError, match=r"takes at most 1,000"):
        render(f"${{input.a as select/{options},more}}", {"input": {"a": "7"}})


# Rendering

TEXT, MANY = "x" * 2**20, list(range(2000))


@pytest.mark.parametrize(
    "template",
    [
        "${input.text} " * 40,
        {"+": ["${input.text}"] * 40},
        ["${input.text as base64}"] * 40,
        ["<${input.text}>"] * 40,
        "${input.double} ",
        "${input.double as text}",
        {"*": "${input.many}", "x": {"*": "${input.many}", "y": 1}},
        {"|": "${input.many}", "x": {"|": "${input.many}", "y": 1}},
        [["${input.many[0:]}"] * 600],
        ["...${input.many}"] * 600,
        {"+": ["${input.many}"] * 600},
        ["${input.json as json}"] * 40,
        {"*": {"input": "${input.many}", "where": {
            "input": "${item}", "operator": "in", "value": "${input.many}"}}},
        {"a": "${input.double}"},
    ],
    ids=lambda each: str(each)[:50],
)  # fmt: skip
def test_a_value_has_a_bound_however_it_is_made(template: Any) -> None:
    double: Any = ["x"]
    for _ in range(60):
        double = [double, double]
    context = {
        "input": {"text": TEXT, "many": MANY, "double": double, "json": f'["{TEXT}"]'},
    }
    with pytest.raises(ExpressionError) as caught:
        render(template, context)
    assert caught.value.code == "value_too_large"
    assert caught.value.hint is not None
    assert len(str(caught.value)) < 1000


def test_a_pattern_that_never_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = import_module("modelcompose_jupyter.document.render")
    monkeypatch.setattr(renderer, "MAX_MATCH_SECONDS", 0.05)
    condition = {"input": "${input.text}", "operator": "match", "value": "^(a+)+$"}
    template = {"?": {**condition, "if_true": "all", "if_false": "some"}}
    assert render(template, {"input": {"text": "a" * 40}}) == "all"
    with pytest.raises(ExpressionError) as caught:
        render(template, {"input": {"text": "a" * 40_000 + "!"}})
    assert caught.value.code == "match_too_slow"
    with pytest.raises(ExpressionError, match="is not a regular expression"):
        render({"?": {**condition, "value": "(", "if_true": 1}}, {"input": {"text": "a"}})


@pytest.mark.parametrize(
    "pattern",
    ["(((((a{30}){30}){30}){30}){30})", "(?:a{1,1000}){1,1000}b", "[a-z]" * 3000, "a{9999999999}"],
)
def test_a_pattern_that_takes_long_to_be_read_is_refused_before(pattern: str) -> None:
    condition = {"operator": "match", "input": "${input.text}", "value": pattern}
    with pytest.raises(ExpressionError) as caught:
        render({"?": {**condition, "if_true": 1}}, {"input": {"text": "a" * 100}})
    assert caught.value.code == "match_too_slow"


@pytest.mark.parametrize(
    "pattern", [r"\d{4}-\d{2}", r".{0,1000}fox.{0,1000}", r"[{]{2}\{(a|b)*[]x]"]
)
def test_usual_patterns_are_short_enough(pattern: str) -> None:
    condition = {"operator": "match", "input": "${input.text}", "value": pattern}
    assert render({"?": {**condition, "if_true": 1, "if_false": 0}}, {"input": {"text": "a"}}) == 0


def test_looking_for_texts_in_texts_is_counted_by_their_lengths() -> None:
    where = {"input": "${item}", "operator": "in", "value": "${input.text}"}
    found = {"*": {"input": "${input.words}", "where": where}}
    few = {"words": ["fox", "owl"] * 100, "text": "the fox " * 10_000}
    assert render(found, {"input": few}) == ["fox"] * 100
    with pytest.raises(ExpressionError, match="more than 1,000,000 steps"):
        render(found, {"input": {"words": ["a" * 500 + "b"] * 5000, "text": "a" * 1_500_000}})


def test_large_values_are_not_too_large() -> None:
    context = {"input": {"text": TEXT, "many": MANY, "texts": ["x" * 2000] * 10_000}}
    assert render("${input.text}" * 10, context) == TEXT * 10
    assert render({"all": "${input.texts}"}, context)["all"] is context["input"]["texts"]
    assert len(render({"*": "${input.texts}", "said": "${item} ${index}"}, context)) == 10_000
    assert len(render({"+": ["${input.many}"] * 100}, context)) == 200_000


def test_what_is_counted_of_a_value_ends_at_the_bound() -> None:
    assert text_size({"a": ["xy", None]}, 1000, part=10) == 4 * 10 + 3
    assert lines_run(lambda: text_size([["x"] * 10**6] * 10**6, 1000)) < 100
