"""Texts of a format, asked for by OpenAI's own client: whole, streamed, cut, and refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel
from standins.thinker import BUDGET, SAID, THINKER

from modelcompose_jupyter import LocalHost
from modelcompose_jupyter.server.server import Server

from .conftest import COMPONENT, Serve, client_of

STORYTELLER = "bundled:storyteller"
ASKED: dict[str, Any] = {
    "model": STORYTELLER,
    "messages": [{"role": "user", "content": "Describe a fox"}],
    "temperature": 1.5,
}


class Animal(BaseModel):
    """What a model is to write."""

    name: str
    legs: Literal[2, 4]
    sounds: list[str]
    parent: Animal | None = None


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "legs": {"enum": [2, 4]}},
    "required": ["name", "legs"],
    "additionalProperties": False,
}


@pytest.fixture
def server(serve: Serve, real_host: LocalHost) -> Server:
    return serve(COMPONENT, on=real_host)


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with client_of(server) as client:
        yield client


def of_schema(schema: Any, **more: Any) -> dict[str, Any]:
    named = {"name": "animal", "schema": schema, **more}
    return {"type": "json_schema", "json_schema": named}


# Whole


@pytest.mark.parametrize("seed", range(5))
def test_the_client_parses_what_its_models_describe(client: OpenAI, seed: int) -> None:
    answer = client.chat.completions.parse(**ASKED, response_format=Animal, seed=seed)

    [choice] = answer.choices
    assert choice.finish_reason == "stop"
    assert isinstance(choice.message.parsed, Animal)
    assert choice.message.content
    assert json.loads(choice.message.content) == choice.message.parsed.model_dump()


@pytest.mark.parametrize("strict", [True, False, None])
@pytest.mark.parametrize("described", [{}, {"description": "An animal"}])
def test_a_schema_is_always_held_to(
    client: OpenAI, strict: bool | None, described: dict[str, str]
) -> None:
    answer = client.chat.completions.create(
        **ASKED, response_format=of_schema(SCHEMA, strict=strict, **described), n=8, seed=1
    )

    told = [json.loads(choice.message.content or "") for choice in answer.choices]
    assert {choice.finish_reason for choice in answer.choices} == {"stop"}
    assert all(list(each) == ["name", "legs"] and each["legs"] in (2, 4) for each in told)
    assert len({each["name"] for each in told}) > 1


def test_json_is_an_object(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        **ASKED, response_format={"type": "json_object"}, n=16, seed=1, max_tokens=60
    )
    ended = [choice for choice in answer.choices if choice.finish_reason == "stop"]
    assert ended
    for choice in ended:
        assert isinstance(json.loads(choice.message.content or ""), dict)
    assert all((choice.message.content or "").startswith("{") for choice in answer.choices)


@pytest.mark.parametrize("asked", [{"response_format": {"type": "text"}}, {"guided_json": None}])
def test_any_text_will_do(client: OpenAI, asked: dict[str, Any]) -> None:
    given = {**ASKED, "seed": 3, "max_tokens": 8}
    plain = client.chat.completions.create(**given)
    answer = client.chat.completions.create(**given, extra_body=asked)
    assert answer.choices[0].message == plain.choices[0].message


@pytest.mark.parametrize(
    ("asked", "pattern"),
    [
        ({"guided_json": SCHEMA}, r'\{"name": ".*", "legs": [24]\}'),
        ({"guided_json": json.dumps(SCHEMA)}, r'\{"name": ".*", "legs": [24]\}'),
        ({"guided_regex": "[a-z]{3,5}!"}, "[a-z]{3,5}!"),
        ({"guided_choice": ["${input.prompt}", "no"]}, r"\$\{input.prompt\}|no"),
        ({"guided_grammar": 'start: "a" NUMBER\nNUMBER: /[0-9]{2}/'}, "a[0-9]{2}"),
        ({"structured_outputs": {"json": SCHEMA}}, r'\{"name": ".*", "legs": [24]\}'),
        ({"structured_outputs": {"regex": "[a-z]{3,5}!", "json": None}}, "[a-z]{3,5}!"),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, "yes|no"),
        ({"structured_outputs": {"grammar": 'start: "a"+ "!"'}}, "a+!"),
        ({"structured_outputs": {"json_object": True}}, r"(?s)\{.*\}"),
        ({"response_format": of_schema(SCHEMA)}, r'\{"name": ".*", "legs": [24]\}'),
        ({"response_format": {"type": "json_object"}}, r"(?s)\{.*\}"),
    ],
)
def test_formats_as_vllm_has_them_and_of_completions(
    client: OpenAI, asked: dict[str, Any], pattern: str
) -> None:
    [prompted] = client.completions.create(
        model=STORYTELLER, prompt="The fox", seed=1, max_tokens=200, extra_body=asked
    ).choices
    [replied] = client.chat.completions.create(
        **ASKED, seed=1, max_tokens=200, extra_body=asked
    ).choices

    assert prompted.finish_reason == replied.finish_reason == "stop"
    assert re.fullmatch(pattern, prompted.text)
    assert re.fullmatch(pattern, replied.message.content or "")


# Streamed


def test_a_stream_has_the_events_of_the_clients_own_helper(client: OpenAI) -> None:
    asked: dict[str, Any] = {**ASKED, "response_format": Animal, "seed": 2}
    whole = client.chat.completions.parse(**asked).choices[0].message

    pieces, kinds = [], []
    with client.chat.completions.stream(**asked) as stream:
        for event in stream:
            kinds.append(event.type)
            if event.type == "content.delta":
                pieces.append(event.delta)
            elif event.type == "content.done":
                assert event.parsed == whole.parsed
        final = stream.get_final_completion()

    assert "".join(pieces) == whole.content == final.choices[0].message.content
    assert final.choices[0].message.parsed == whole.parsed
    assert kinds.count("content.done") == 1 and kinds.count("content.delta") > 1


def test_the_streams_of_several_choices(client: OpenAI) -> None:
    asked: dict[str, Any] = {**ASKED, "response_format": Animal, "seed": 2, "n": 3}
    whole = client.chat.completions.parse(**asked)
    with client.chat.completions.stream(**asked) as stream:
        final = stream.get_final_completion()
    assert [each.message.parsed for each in final.choices] == [
        each.message.parsed for each in whole.choices
    ]
    assert len({each.message.content for each in final.choices}) > 1


def test_its_log_probabilities_are_those_of_its_text(client: OpenAI) -> None:
    [choice] = client.chat.completions.create(
        **ASKED, response_format=of_schema(SCHEMA), seed=4, logprobs=True
    ).choices
    assert choice.logprobs and choice.logprobs.content
    told = b"".join(bytes(each.bytes or ()) for each in choice.logprobs.content)
    assert told.decode().removesuffix("<|endoftext|>") == choice.message.content


def test_a_format_begins_behind_the_thoughts(serve: Serve, real_host: LocalHost) -> None:
    asked: dict[str, Any] = {"model": STORYTELLER, "messages": SAID, "seed": 3, "max_tokens": 200}
    thinking = {"extra_body": {"thinking_budget": BUDGET}}
    with client_of(serve(THINKER, on=real_host)) as client:
        answer = client.chat.completions.parse(**asked, **thinking, response_format=Animal)
        with client.chat.completions.stream(**asked, **thinking, response_format=Animal) as stream:
            final = stream.get_final_completion()

    message: Any = answer.choices[0].message
    assert isinstance(message.parsed, Animal) and message.reasoning_content
    streamed_message: Any = final.choices[0].message
    assert streamed_message.parsed == message.parsed
    assert streamed_message.reasoning_content == message.reasoning_content


# Cut


def test_a_text_that_was_cut_is_an_answer_and_says_so(client: OpenAI, real_host: LocalHost) -> None:
    whole = client.chat.completions.create(**ASKED, response_format=of_schema(SCHEMA), seed=5)
    asked: dict[str, Any] = {**ASKED, "seed": 5, "max_tokens": 6}
    answer = client.chat.completions.create(**asked, response_format=of_schema(SCHEMA))

    [choice] = answer.choices
    assert choice.finish_reason == "length"
    assert choice.message.content
    assert (whole.choices[0].message.content or "").startswith(choice.message.content)
    run = real_host.run(answer.id.removeprefix("chatcmpl-"))
    assert (run.state, run.output, run.error) == ("completed", choice.message.content, None)
    for parsed in (
        lambda: client.chat.completions.parse(**asked, response_format=Animal),
        lambda: streamed(client, **asked, response_format=Animal),
    ):
        with pytest.raises(openai.LengthFinishReasonError):
            parsed()


def streamed(client: OpenAI, **asked: Any) -> Any:
    with client.chat.completions.stream(**asked) as stream:
        return stream.get_final_completion()


def test_a_stop_sequence_cuts_it_as_it_cuts_any_text(client: OpenAI) -> None:
    [choice] = client.chat.completions.create(
        **ASKED, response_format=of_schema(SCHEMA), stop='"legs"'
    ).choices
    assert choice.finish_reason == "stop"
    assert (choice.message.content or "").endswith('", ')


# Refused


@pytest.mark.parametrize(
    ("asked", "param", "said"),
    [
        (of_schema({"type": "strin"}), "response_format", "json_schema.schema.type': there is no"),
        (of_schema({"properties": {"a": {"if": {}}}}), "response_format",
         "'response_format.json_schema.schema.properties.a.if': 'if' is not supported"),
        (of_schema({"$ref": "#/$defs/a"}), "response_format", "there is no #/$defs/a in the"),
        (of_schema({"pattern": "(?=a)"}), "response_format", "json_schema.schema.pattern'"),
        (of_schema({"allOf": [{"pattern": letter} for letter in "abcdefghijklmnop"]}),
         "response_format", "more than 12 patterns"),
        (of_schema("animal"), "response_format", "is no JSON schema"),
        (of_schema(None), "response_format", "'response_format.json_schema' has no 'schema'"),
        (of_schema(SCHEMA, strict="yes"), "response_format", "strict' is true or false"),
        (of_schema(SCHEMA, name=5), "response_format", "json_schema.name' is a text"),
        (of_schema(SCHEMA, shema={}), "response_format", "has no \"shema\". Did you mean 'schema'"),
        ({"type": "json_schema"}, "response_format", "'response_format.json_schema' is a mapping"),
        ({"type": "json"}, "response_format", "is text, json_object or json_schema"),
        ({}, "response_format", "is text, json_object or json_schema, and not null"),
        ({"type": "text", "json_schema": {}}, "response_format", "is json_schema where there is"),
        ({"type": "json_object", "schema": {}}, "response_format", "has no \"schema\""),
        ("json_object", "response_format", "is a mapping, and not \"json_object\""),
        ({"guided_json": "{"}, "guided_json", "this text is no JSON"),
        ({"guided_json": 5}, "guided_json", "is no JSON schema"),
        ({"guided_regex": "a("}, "guided_regex", "cannot be used"),
        ({"guided_regex": ""}, "guided_regex", "is a text"),
        ({"guided_choice": []}, "guided_choice", "must not be empty"),
        ({"guided_choice": ["a", 5]}, "guided_choice", "'guided_choice[1]' is a text, and not 5"),
        ({"guided_choice": "a"}, "guided_choice", "is a list of texts"),
        ({"guided_grammar": 'root ::= "a"'}, "guided_grammar", "(line 1, column 7)"),
        ({"guided_json": {"items": {"type": 5}}}, "guided_json", "'guided_json.items.type'"),
        ({"structured_outputs": {"json": {"type": 5}}}, "structured_outputs",
         "'structured_outputs.json.type'"),
        ({"guided_whitespace_pattern": " "}, "guided_whitespace_pattern", "is not offered"),
        ({"guided_decoding_backend": "outlines"}, "guided_decoding_backend", "is not offered"),
        ({"structured_outputs": {}}, "structured_outputs", "has one of"),
        ({"structured_outputs": {"json": {}, "regex": "a"}}, "structured_outputs", "has one of"),
        ({"structured_outputs": {"json_object": False}}, "structured_outputs", "is true or left"),
        ({"structured_outputs": {"structural_tag": "a"}}, "structured_outputs", "has no"),
        ({"structured_outputs": {"regex": "[b"}}, "structured_outputs", "cannot be used"),
        ({"guided_json": {}, "guided_regex": "a"}, "guided_regex", "both say what the text must"),
        ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "guided_regex", "both"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_held_to_is_refused(
    client: OpenAI, real_host: LocalHost, asked: Any, param: str, said: str, stream: bool
) -> None:
    before = real_host.runs()
    is_other = isinstance(asked, dict) and not asked.keys() & {"type", "json_schema"} and asked
    body = asked if is_other else {"response_format": asked}

    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**ASKED, stream=stream, extra_body=body)

    assert (caught.value.param, caught.value.type) == (param, "invalid_request_error")
    assert said in caught.value.message
    assert real_host.runs() == before


def test_an_echo_has_no_format(client: OpenAI) -> None:
    with pytest.raises(
        openai.BadRequestError, match="with 'guided_regex' the text has no"
    ) as caught:
        client.completions.create(
            model=STORYTELLER, prompt="a", echo=True, extra_body={"guided_regex": "a"}
        )
    assert caught.value.param == "echo"


def test_a_format_that_is_too_complex_to_use_is_the_requests_fault(client: OpenAI) -> None:
    both = " & ".join(f"/.*{letter}.*/" for letter in "abcdefghijklmnopqrst")
    with pytest.raises(openai.BadRequestError, match="the format cannot be used") as caught:
        client.chat.completions.create(
            **ASKED, extra_body={"guided_grammar": f"start: T\nT: {both}"}
        )
    assert (caught.value.param, caught.value.code) == ("guided_grammar", "format_too_complex")
