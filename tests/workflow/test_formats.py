"""Runs whose texts have a format: values, what was cut, the format of a call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from modelcompose_jupyter import ComposeError, DocumentError, InputError, LocalHost, Workflow, load

BODY = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.text}
  max_output_length: ${input.length as integer | 200}
"""
PET: dict[str, Any] = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["cat", "dog"]},
        "name": {"type": "string", "minLength": 2, "maxLength": 8},
    },
    "required": ["kind", "name"],
    "additionalProperties": False,
}
FORMAT = f"  format: {json.dumps({'json_schema': PET})}\n"


@pytest.fixture(scope="module")
def host() -> Iterator[LocalHost]:
    host = LocalHost()
    yield host
    host.close()


def flow(host: LocalHost, *more: str) -> Workflow:
    return load(BODY + "".join(more), host=host)


def is_pet(value: Any) -> bool:
    return value["kind"] in ("cat", "dog") and 2 <= len(value["name"]) <= 8


def test_the_output_of_a_schema_is_a_value(host: LocalHost) -> None:
    run = flow(host, FORMAT).run(text="A pet.")
    assert is_pet(run.output["generated"])
    assert json.loads(run.text) == run.output["generated"]
    assert run.finish_reason == "eos" and run.parameters["include_prompt"] is False


def test_jobs_use_parts_of_a_value(host: LocalHost) -> None:
    more = FORMAT + (
        "workflow:\n  jobs:\n"
        "  - {id: read, input: {text: A pet.}}\n"
        "  - {id: again, input: {text: 'Of ${jobs.read.output.name}.', length: 200}}\n"
        "  output: {first: '${jobs.read.output.kind}', then: '${output.name}'}\n"
    )
    output = flow(host, more)()
    assert output["first"] in ("cat", "dog") and 2 <= len(output["then"]) <= 8


def test_several_texts_are_several_values(host: LocalHost) -> None:
    output = flow(host, FORMAT, "  num_return_sequences: 3\n")(text="A pet.")
    assert len(output["generated"]) == 3 and all(map(is_pet, output["generated"]))
    repeated = flow(host, FORMAT, "workflow:\n  repeat_count: 2\n")(text="A pet.")
    assert len(repeated) == 2 and all(map(is_pet, repeated))


@pytest.mark.parametrize(
    ("more", "length", "reason", "message"),
    [
        ("", 4, "length", "the text was cut after 4 tokens, before it was as 'format' asks"),
        (
            "  stop_sequences: ['name']\n",
            200,
            "stop",
            "a stop sequence ended the text before it was as 'format' asks",
        ),
    ],
)
def test_what_was_cut_is_an_error_and_keeps_its_text(
    host: LocalHost, more: str, length: int, reason: str, message: str
) -> None:
    run = flow(host, FORMAT, more).run(text="A pet.", length=length)
    assert run.state == "failed" and run.output is None
    assert (run.error.code, run.error.message) == ("format_cut", message)  # type: ignore[union-attr]
    assert run.error.where.line == 7  # type: ignore[union-attr]
    assert list(run.finish_reasons.values()) == [reason]
    assert run.text.startswith('{"kind": ') or length == 4
    assert run.error.text == run.text != ""  # type: ignore[union-attr]
    copied = ComposeError.from_dict(run.error.to_dict())  # type: ignore[union-attr]
    assert copied.text == run.text


def test_what_was_cut_goes_on(host: LocalHost) -> None:
    whole = flow(host, FORMAT).start({"text": "A pet."}, seed=3)
    whole.wait()
    cut = flow(host, FORMAT).start({"text": "A pet.", "length": 4}, seed=3)
    cut.wait()
    assert cut.error is not None and cut.extendable_by > 0
    longer = host.extend(cut.id, tokens=100)
    longer.wait()
    assert longer.output == whole.output
    stopped = flow(host, FORMAT, "  stop_sequences: name\n").start({"text": "A pet."})
    stopped.wait()
    assert stopped.error is not None and stopped.extendable_by == 0


def test_of_several_texts_one_is_cut_at_the_limit_of_one(host: LocalHost) -> None:
    run = flow(host, FORMAT, "  num_return_sequences: 3\n").run(text="A pet.", length=4)
    assert "cut after 4 tokens," in run.error.message  # type: ignore[union-attr]


def test_a_text_is_not_longer_than_its_format_lets_it(host: LocalHost) -> None:
    run = flow(host, FORMAT, "  min_output_length: 150\n").run(text="A pet.")
    assert is_pet(run.output["generated"])


@pytest.mark.parametrize(
    ("format", "given", "place", "message"),
    [
        (
            '  format: {json_schema: {properties: {a: {enum: "${input.x}"}}}}\n',
            {"x": []},
            (7, 49),
            "'enum' is a list of values, and not []",
        ),
        (
            '  format: {json_schema: "${input.x}"}\n',
            {"x": {"items": {"not": {}}}},
            (7, 25),
            "'not' is not supported in a format's schema",
        ),
        ('  format: {choices: "${input.x}"}\n', {"x": []}, (7, 21), "'choices' must not be empty"),
        ('  format: {regex: "${input.x}"}\n', {"x": "("}, (7, 19), "unclosed group"),
        ('  format: "${input.x}"\n', {"x": {"json_schema": "./a.json"}}, (7, 11), "no JSON schema"),
        ('  format: "${input.x}"\n', {"x": "text"}, (7, 11), 'there is no format "text"'),
    ],
)  # fmt: skip
def test_what_expressions_give_is_checked_where_they_stand(
    host: LocalHost, format: str, given: Any, place: tuple[int, int], message: str
) -> None:
    run = flow(host, format).start({"text": "a", **given})
    run.wait()
    assert isinstance(run.error, InputError) and message in run.error.message
    assert run.error.where is not None
    assert (run.error.where.line, run.error.where.column) == place


def test_choices_come_from_an_input(host: LocalHost) -> None:
    labels = flow(host, "  format: {choices: '${input.labels}'}\n")
    assert labels(text="A pet.", labels=["x y", "é"])["generated"] in ("x y", "é")


# The format of a call


def test_a_call_gives_a_format(host: LocalHost) -> None:
    plain = flow(host)
    assert plain(text="A pet.", format={"choices": ["a"]}) == {"generated": "a"}
    own = flow(host, FORMAT)
    run = own.start({"text": "A pet."}, format={"choices": ["a"]})
    assert run.result() == {"generated": "a"}
    assert run.record["format"] == {"choices": ["a"]}
    again = own.rerun(run)
    assert again.result() == {"generated": "a"}
    assert isinstance(plain(text="A pet.", format="json")["generated"], dict | list)


def test_what_cut_the_format_of_a_call_has_no_place_in_the_document(host: LocalHost) -> None:
    run = flow(host, FORMAT).run(text="A pet.", length=4, format={"regex": "[a-z]{50}"})
    assert run.error.code == "format_cut" and run.error.where is None  # type: ignore[union-attr]
    assert "{1,20} in place of '+'" in str(run.error.hint)  # type: ignore[union-attr]


def test_an_input_that_is_called_format_is_one(host: LocalHost) -> None:
    named = load(BODY.replace("${input.text}", "As ${input.format}."), host=host)
    assert named(format="JSON", length=2)["generated"].startswith("As JSON.")
    output = named.start({"format": "JSON"}, format={"choices": ["a"]}).result()
    assert output == {"generated": "a"}


@pytest.mark.parametrize(
    ("format", "message"),
    [
        ({"json_schema": {"items": {"not": {}}}}, "'format.json_schema.items.not': 'not' is not"),
        ({"json_schema": "./person.json"}, "'format.json_schema': \"./person.json\" is no JSON"),
        ({"choices": ["a", ""]}, "'format.choices[1]': an empty text is not allowed here"),
        ({"choices": ["a"], "regex": "a"}, "'format': a format has exactly one kind"),
        ({"choice": ["a"]}, "'format.choice' is not known here"),
        ("jsn", "'format': there is no format"),
    ],
)
def test_the_format_of_a_call_is_checked_before_anything_runs(
    host: LocalHost, format: Any, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        flow(host).submit(text="A pet.", format=format)
    assert caught.value.message.startswith(message) and caught.value.code == "invalid_format"


def test_a_workflow_of_several_jobs_has_its_formats_in_the_document(host: LocalHost) -> None:
    two = flow(host, "workflow:\n  jobs: [{id: a}, {id: b, depends_on: [a]}]\n")
    with pytest.raises(
        InputError, match="that of one job that calls a model, and the workflow has 2"
    ):
        two(text="A pet.", format="json")


def test_a_branch_that_the_format_forbids_says_so(host: LocalHost) -> None:
    own = flow(host, FORMAT)
    run = own.start({"text": "A pet."}, logprobs=2)
    run.wait()
    forbidden = own.branch(run, 0, run.tokens[0][0].alternatives[0].id)
    forbidden.wait()
    assert forbidden.error is not None and forbidden.error.code == "format_violated"
    same = own.branch(run, 2, run.tokens[0][2].id)
    assert same.result() == run.output


def test_a_score_pays_no_heed_to_a_format(host: LocalHost) -> None:
    own = load(BODY.replace("input.text", "input.prompt") + FORMAT, host=host)
    assert own.score(" castle", prompt="In a").logprob < 0


def test_a_beam_search_refuses_a_format(host: LocalHost) -> None:
    with pytest.raises(DocumentError, match="a beam search cannot hold to 'format'"):
        flow(host, FORMAT, "  num_beams: 2\n")
    run = flow(host, "  num_beams: 2\n").start({"text": "A pet."}, format="json")
    run.wait()
    assert isinstance(run.error, InputError) and "a beam search" in run.error.message


def test_a_format_that_turns_out_too_complex_is_named_with_its_place(host: LocalHost) -> None:
    grammar = "start: " + " | ".join(f'"a{n}"' for n in range(3000))
    run = flow(host, f"  format: {{grammar: {json.dumps(grammar)}}}\n").start({"text": "A pet."})
    run.wait()
    assert run.error is not None and run.error.code == "format_too_complex"
    assert run.error.where is not None and run.error.where.line == 7
