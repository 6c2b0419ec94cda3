"""OpenAI's own client, and `llm` which is built on it, against the routes under /v1."""

from __future__ import annotations

import asyncio
import json
import queue
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import llm.cli
import openai
import pytest
from click.testing import CliRunner
from openai import AsyncOpenAI, OpenAI
from standins.scripted import ScriptedModels
from tokenizers import Tokenizer

from modelcompose_jupyter import LocalHost, ModelError
from modelcompose_jupyter.models.weights.source import bundled
from modelcompose_jupyter.server import tasks
from modelcompose_jupyter.server.access import Access
from modelcompose_jupyter.server.openai_logprobs import TextWithTokens, of_chat, of_completion
from modelcompose_jupyter.server.server import Server, ServerSettings
from modelcompose_jupyter.workflow import Run
from modelcompose_jupyter.workflow.tokens import Alternative, Token

from .conftest import COMPONENT, Serve, client_of, raw_request

STORYTELLER = "bundled:storyteller"
TEMPLATE = """
components:
  - id: one
    type: model
    task: text-generation
    model: bundled:storyteller
    text: "Never said: ${input.prompt as text}"
    params: {max_output_length: 1}
  - id: same
    type: model
    task: chat-completion
    model: bundled:storyteller
    precision: bfloat16
    messages: ${input.messages}
workflows:
  - id: w
    job: {component: one}
"""


@pytest.fixture
def real(serve: Serve, real_host: LocalHost) -> Server:
    return serve(TEMPLATE, on=real_host)


@pytest.fixture
def client(real: Server) -> Iterator[OpenAI]:
    """OpenAI's client of a real model."""
    with client_of(real) as client:
        yield client


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The model's."""
    return Tokenizer.from_file(str(bundled()["storyteller"] / "tokenizer.json"))


def texts(stream: Any) -> dict[int, str]:
    """The texts of a stream's choices."""
    found: dict[int, str] = {}
    for chunk in stream:
        for choice in chunk.choices:
            piece = choice.delta.content if hasattr(choice, "delta") else choice.text
            found[choice.index] = found.get(choice.index, "") + (piece or "")
    return found


# Models


def test_models_are_those_of_the_components_loaded_or_not(client: OpenAI) -> None:
    listed = client.models.list().data

    assert [each.id for each in listed] == [STORYTELLER]
    assert client.models.retrieve(STORYTELLER) == listed[0]
    with pytest.raises(openai.NotFoundError, match="there is no model"):
        client.models.retrieve("other")


@pytest.mark.parametrize(
    ("model", "ids"),
    [
        ("owner/name", ["owner/name"]),
        ("./models/mine", ["./models/mine"]),
        ("/srv/secret/models/mine/", ["mine"]),
        ("~/models/mine", ["mine"]),
        ("'${input.model}'", []),
        ("'${input.model | owner/name}'", ["owner/name"]),
        ("'${input.prompt | owner/name}'", []),
        ("{repository: owner/name, revision: '${input.revision}'}", []),
        ("{repository: owner/name, revision: '${input.revision | main}'}", ["owner/name"]),
        ("'${env.COMPOSE_MODEL | owner/other}'", ["owner/other"]),
    ],
)
def test_models_are_named_as_the_document_names_them(
    serve: Serve, model: str, ids: list[str]
) -> None:
    server = serve(COMPONENT.replace(STORYTELLER, model))

    with client_of(server) as client:
        assert [each.id for each in client.models.list()] == ids


# Completions


def test_a_completion_speaks_to_the_model_without_the_documents_template(
    client: OpenAI, real_host: LocalHost
) -> None:
    answer = client.completions.create(
        model=STORYTELLER, prompt="Once upon a time", max_tokens=12, seed=3
    )

    [choice] = answer.choices
    assert choice.text and not choice.text.startswith("Once upon")
    assert choice.finish_reason == "length"
    assert (answer.object, answer.model) == ("text_completion", STORYTELLER)
    assert answer.usage is not None
    assert (answer.usage.completion_tokens, answer.usage.prompt_tokens) == (12, 4)
    assert answer.usage.total_tokens == 16
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    run = real_host.run(answer.id.removeprefix("cmpl-"))
    assert (run.workflow, run.parameters["seed"]) == ("v1/completions", 3)
    assert run.parameters["max_output_length"] == 12


def test_the_same_seed_gives_the_same_text_streaming_or_not(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": STORYTELLER, "prompt": "The fox", "max_tokens": 20}

    first = client.completions.create(**asked, seed=5).choices[0].text
    again = client.completions.create(**asked, seed=5).choices[0].text
    streamed = texts(client.completions.create(**asked, seed=5, stream=True))
    other = client.completions.create(**asked, seed=6).choices[0].text

    assert first == again == streamed[0] != other


def test_several_prompts_and_choices_have_an_index_each(client: OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": STORYTELLER, "prompt": ["One", "Two"], "n": 3, "seed": 1, "max_tokens": 12,
        "echo": True,
    }  # fmt: skip

    answer = client.completions.create(**asked)
    streamed = texts(client.completions.create(**asked, stream=True))

    assert [each.index for each in answer.choices] == list(range(6))
    assert {each.index: each.text for each in answer.choices} == streamed
    assert len(set(streamed.values())) == 6
    assert [text.startswith("One") for text in streamed.values()].count(True) == 3
    assert streamed[0].startswith("One") and streamed[5].startswith("Two")


def test_a_stop_ends_the_text_before_it(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": STORYTELLER, "prompt": "Once upon a time", "seed": 3}
    whole = client.completions.create(**asked, max_tokens=20).choices[0].text
    stop = whole.split()[4]

    for given in (stop, [stop, "never said"]):
        [choice] = client.completions.create(**asked, max_tokens=20, stop=given).choices
        assert choice.finish_reason == "stop"
        assert choice.text == whole[: whole.index(stop)]


def test_our_own_parameters_are_extras(client: OpenAI, real_host: LocalHost) -> None:
    answer = client.completions.create(
        model=STORYTELLER,
        prompt="a",
        max_tokens=2,
        temperature=0.5,
        top_p=0.8,
        user="somebody",
        extra_body={"top_k": 7, "min_p": 0.1, "repetition_penalty": 1.2, "logit_bias": {}},
    )

    used = real_host.run(answer.id.removeprefix("cmpl-")).parameters
    wanted = {"temperature": 0.5, "top_p": 0.8, "top_k": 7, "min_p": 0.1}
    assert {name: used[name] for name in wanted} == wanted
    assert used["repetition_penalty"] == 1.2


def test_what_is_sent_is_never_a_template(serve: Serve, models: ScriptedModels) -> None:
    said = "${input.prompt} ${env.HOME} ${"

    with client_of(serve()) as client:
        client.completions.create(model=STORYTELLER, prompt=said, stop="${input.prompt}")

    assert models.prompts == [said]
    assert models.parameters[0]["stop_sequences"] == ["${input.prompt}"]


# Chats


def test_a_chat_replies(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=STORYTELLER,
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "Tell me of a fox"}]},
            {"role": "assistant", "content": "A fox ran."},
            {"role": "user", "content": "And then?"},
        ],
        max_completion_tokens=8,
        temperature=0,
    )

    [choice] = answer.choices
    assert answer.object == "chat.completion"
    assert choice.message.role == "assistant"
    assert choice.message.content and "fox ran" not in choice.message.content
    assert choice.finish_reason in ("length", "stop")


@pytest.mark.parametrize(
    "asked", [{}, {"continue_final_message": True, "add_generation_prompt": False}]
)
def test_a_reply_that_has_begun_is_continued(client: OpenAI, asked: dict[str, Any]) -> None:
    question = {"role": "user", "content": "Tell me a story about a toaster named Zorblax."}
    begun = {"role": "assistant", "content": [{"type": "text", "text": "Zorblax was a green"}]}
    given: dict[str, Any] = {"model": STORYTELLER, "max_tokens": 8, "temperature": 0}

    answer = client.chat.completions.create(
        **given, messages=[question, begun], extra_body=asked
    ).choices[0]
    streamed = client.chat.completions.create(
        **given, messages=[question, begun], extra_body=asked, stream=True
    )

    assert answer.message.content and answer.message.content.startswith(" ")
    assert texts(streamed) == {0: answer.message.content}


def test_a_chat_has_called_a_tool(client: OpenAI) -> None:
    function = {"name": "weather", "arguments": '{"place": "Seoul"}'}
    answer = client.chat.completions.create(
        model=STORYTELLER,
        messages=[
            {"role": "user", "content": "How warm is it?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": function}],  # type: ignore[list-item]
            },
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "21"}]},
        ],
        max_tokens=4,
    )

    assert answer.usage and answer.usage.prompt_tokens > 10


def test_a_component_has_a_chat_template_of_its_own(serve: Serve, real_host: LocalHost) -> None:
    own = "  chat_template: '{% for m in messages %}{{ m.content }} {% endfor %}'\n"
    served = serve(COMPONENT + own, on=real_host)

    with client_of(served) as client:
        counts = [
            client.chat.completions.create(
                model=STORYTELLER, messages=[{"role": "user", "content": said}], max_tokens=1
            ).usage.prompt_tokens
            for said in ("A fox", "A fox and a fox")
        ]
        plain = client.completions.create(model=STORYTELLER, prompt="A fox ", max_tokens=1)

    assert counts[0] < counts[1]
    assert abs(counts[0] - plain.usage.prompt_tokens) <= 1  # the tokenizer's own begins with one


def test_a_chat_streams_the_role_first_and_the_usage_last(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model=STORYTELLER,
            messages=[{"role": "user", "content": "Tell me of a fox"}],
            n=2,
            max_tokens=5,
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    first = [chunk.choices[0] for chunk in chunks[:2]]
    assert [(each.index, each.delta.role, each.delta.content) for each in first] == [
        (0, "assistant", ""),
        (1, "assistant", ""),
    ]
    ends = [c for chunk in chunks for c in chunk.choices if c.finish_reason]
    assert sorted(end.index for end in ends) == [0, 1]
    assert all(end.delta.content is None for end in ends)
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 10
    assert {chunk.usage for chunk in chunks[:-1]} == {None}
    assert len({chunk.id for chunk in chunks}) == 1


def test_an_answer_can_be_sent_back_as_it_came(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": STORYTELLER, "max_tokens": 4}
    question = {"role": "user", "content": "Who are you?"}
    reply = client.chat.completions.create(messages=[question], **asked).choices[0].message

    again = client.chat.completions.create(
        messages=[question, reply.model_dump(), {"role": "user", "content": "And?"}], **asked
    )

    assert again.choices[0].message.content


def test_an_answer_can_be_sent_back_as_an_object_and_without_its_nulls(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": STORYTELLER, "max_tokens": 4}
    question = {"role": "user", "content": "Who are you?"}
    reply = client.chat.completions.create(messages=[question], **asked).choices[0].message
    said_nothing = client.chat.completions.create(
        messages=[question], model=STORYTELLER, max_tokens=0
    )
    for each in (
        reply,
        reply.model_dump(exclude_none=True),
        reply.model_dump(exclude_unset=True),
        said_nothing.choices[0].message,
    ):
        answer = client.chat.completions.create(messages=[question, each, question], **asked)
        assert answer.choices[0].message.content


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"content": None}, ""),
        ({}, ""),
        ({"content": []}, ""),
        ({"content": None, "tool_calls": None, "function_call": None, "audio": None}, ""),
        ({"content": "a", "tool_calls": [], "annotations": [], "refusal": None}, "a"),
        ({"content": "a", "reasoning_content": None, "reasoning": None, "name": None}, "a"),
        ({"content": "a", "tool_call_id": None, "refusal": "", "images": [], "prefix": False}, "a"),
        ({"content": None, "refusal": "I will not"}, "I will not"),
        ({"content": [{"type": "refusal", "refusal": "No"}]}, "No"),
        ({"content": [{"type": "text", "text": "a", "cache_control": None}]}, "a"),
        ({"content": [{"type": "output_text", "text": "a", "annotations": []}]}, "a"),
    ],
)
def test_messages_as_clients_send_them_back(
    serve: Serve, models: ScriptedModels, given: dict[str, Any], said: str
) -> None:
    models.reply = lambda prompt: ["ok"]
    sent = [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"role": "assistant", **given},
        {"role": "user", "content": "b", "name": None},
    ]
    with client_of(serve()) as client:
        client.chat.completions.create(model=STORYTELLER, messages=sent)  # type: ignore[arg-type]

    assert [dict(each) for each in models.prompts[0]] == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": said},
        {"role": "user", "content": "b"},
    ]


def test_system_and_developer_are_one_role(serve: Serve, models: ScriptedModels) -> None:
    models.reply = lambda prompt: ["ok"]
    with client_of(serve()) as client:
        client.chat.completions.create(
            model=STORYTELLER,
            messages=[
                {"role": "developer", "content": "Be brief"},
                {"role": "user", "content": "${input.messages}"},
            ],
        )

    assert [dict(each) for each in models.prompts[0]] == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "${input.messages}"},
    ]


def test_the_async_client_with_several_requests_at_once(real: Server) -> None:
    asked: dict[str, Any] = {"model": STORYTELLER, "prompt": "a", "max_tokens": 4, "seed": 1}

    async def ask() -> set[str]:
        async with AsyncOpenAI(base_url=f"{real.origin}/v1", api_key="any") as client:

            async def streamed() -> str:
                stream = await client.completions.create(**asked, stream=True)
                return "".join([chunk.choices[0].text async for chunk in stream])

            async def whole() -> str:
                return str((await client.completions.create(**asked)).choices[0].text)

            return set(await asyncio.gather(streamed(), whole(), streamed(), whole()))

    assert len(asyncio.run(ask())) == 1


@pytest.mark.parametrize(
    ("asked", "parameters"),
    [
        ({"enable_thinking": False}, {"enable_thinking": False}),
        (
            {"chat_template_kwargs": {"enable_thinking": True, "a": [1, {"b": "${env.HOME}"}]}},
            {"chat_template_kwargs": {"enable_thinking": True, "a": [1, {"b": "${env.HOME}"}]}},
        ),
        ({"reasoning_effort": "low"}, {"chat_template_kwargs": {"reasoning_effort": "low"}}),
        ({"reasoning_effort": "none"}, {"enable_thinking": False}),
        ({"reasoning_effort": None, "enable_thinking": None, "chat_template_kwargs": None}, {}),
    ],
)
def test_switches_of_the_template_reach_the_model(
    serve: Serve, models: ScriptedModels, asked: dict[str, Any], parameters: dict[str, Any]
) -> None:
    with client_of(serve()) as client:
        client.chat.completions.create(
            model=STORYTELLER, messages=[{"role": "user", "content": "a"}], extra_body=asked
        )
    given = {name: models.parameters[0].get(name) for name in parameters}
    assert given == parameters
    assert not {"enable_thinking", "chat_template_kwargs"} & (
        models.parameters[0].keys() - parameters.keys()
    )


# What is refused


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": "1"}, "logprobs"),
        ({"extra_body": {"top_logprobs": 1}}, "top_logprobs"),
        ({"n": 2, "logprobs": 1, "echo": True, "stream": True}, "n"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": -1}, "frequency_penalty"),
        ({"best_of": 2}, "best_of"),
        ({"suffix": "end"}, "suffix"),
        ({"prompt": []}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": ["a"] * 200, "n": 2}, "prompt"),
        ({"prompt": [[1]] * 200, "n": 2}, "prompt"),
        ({"prompt": [1, 2, -1]}, "prompt[2]"),
        ({"prompt": [1, 2.5]}, "prompt[1]"),
        ({"prompt": [True]}, "prompt[0]"),
        ({"prompt": [2**31]}, "prompt[0]"),
        ({"prompt": [[1], [2, None]]}, "prompt[1][1]"),
        ({"prompt": [[1], 2]}, "prompt[1]"),
        ({"prompt": ["a", [1]]}, "prompt[1]"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": "${input.prompt}"}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"temperature": 2.001}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": -0.001}, "top_p"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": 300}, "n"),
        ({"n": 2, "temperature": 0}, "n"),
        ({"n": 2, "top_p": 0}, "n"),
        ({"seed": -(2**63) - 1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 1e300}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"extra_body": {"top_k": -1}}, "top_k"),
        ({"extra_body": {"best_of": False}}, "best_of"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"extra_body": {"num_beams": 2}}, "num_beams"),
        ({"extra_body": {"prompt": None}}, "prompt"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    client: OpenAI, real_host: LocalHost, asked: dict[str, Any], param: str
) -> None:
    before = real_host.runs()

    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**{"model": STORYTELLER, "prompt": "a", **asked})

    assert caught.value.param == param
    assert f"'{param}'" in caught.value.message or param == "prompt"
    assert caught.value.type == "invalid_request_error"
    assert real_host.runs() == before


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [0, 0]}, "messages"),
        ({"logprobs": 1}, "logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"logprobs": False, "top_logprobs": 1}, "top_logprobs"),
        ({"extra_body": {"chat_template_kwargs": {"tokenize": True}}}, "chat_template_kwargs"),
        ({"extra_body": {"chat_template_kwargs": [1]}}, "chat_template_kwargs"),
        ({"extra_body": {"enable_thinking": "maybe"}}, "enable_thinking"),
        ({"reasoning_effort": "endless"}, "reasoning_effort"),
        ({"extra_body": {"continue_final_message": True}}, "continue_final_message"),
        ({"extra_body": {"add_generation_prompt": False}}, "add_generation_prompt"),
        (
            {
                "messages": [{"role": "assistant", "content": "a"}],
                "extra_body": {"add_generation_prompt": True},
            },
            "add_generation_prompt",
        ),
        (
            {
                "extra_body": {
                    "enable_thinking": True,
                    "chat_template_kwargs": {"enable_thinking": True},
                }
            },
            "enable_thinking",
        ),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "content": {}}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": []}]},
            "messages[1].content",
        ),
        (
            {"messages": [{"role": "tool", "content": "a", "tool_call_id": "b"}]},
            "messages[0].tool_call_id",
        ),
        (
            {"messages": [{"role": "assistant", "content": None, "audio": {"id": "a"}}]},
            "messages[0].audio",
        ),
        ({"messages": [{"role": "user", "content": "a", "name": ["b"]}]}, "messages[0].name"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content",
        ),
        ({"messages": [{"role": "user", "content": "a", "mood": "b"}]}, "messages[0].mood"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content",
        ),
        (
            {"messages": [{"role": "assistant", "content": "a", "tool_calls": [{}]}]},
            "messages[0].tool_calls",
        ),
    ],
)
def test_what_a_chat_cannot_honour(client: OpenAI, asked: dict[str, Any], param: str) -> None:
    messages = [{"role": "user", "content": "a"}]

    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": STORYTELLER, "messages": messages, **asked})

    assert caught.value.param == param


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"temperature": 3}, "'temperature' must be from 0 to 2, and it is 3"),
        ({"temperature": -0.5}, "'temperature' must be from 0 to 2, and it is -0.5"),
        ({"top_p": 1.5}, "'top_p' must be from 0 to 1, and it is 1.5"),
        ({"n": 0}, "'n' must be from 1 to 128, and it is 0"),
        ({"max_tokens": -1}, "'max_tokens' must be at least 0, and it is -1"),
        ({"seed": 2**64}, f"'seed' must be from -{2**63} to {2**63 - 1}, and it is {2**64}"),
    ],
)
def test_a_number_beyond_its_range_is_told_the_range(
    client: OpenAI, asked: dict[str, Any], said: str
) -> None:
    for create, what in (
        (client.completions.create, {"prompt": "a"}),
        (client.chat.completions.create, {"messages": [{"role": "user", "content": "a"}]}),
    ):
        with pytest.raises(openai.BadRequestError, match=re.escape(said)):
            create(model=STORYTELLER, **what, **asked)
    with pytest.raises(openai.BadRequestError, match="'max_completion_tokens' must be at least 0"):
        client.chat.completions.create(
            model=STORYTELLER,
            messages=[{"role": "user", "content": "a"}],
            max_completion_tokens=-1,
        )


ENDS: list[dict[str, Any]] = [
    {"temperature": 0}, {"temperature": 2}, {"temperature": 2.0}, {"temperature": -0.0},
    {"temperature": 5e-324}, {"top_p": 0}, {"top_p": 1}, {"top_p": 0.0}, {"top_p": 5e-324},
    {"temperature": 0, "top_p": 0}, {"n": 1}, {"n": None}, {"n": 1.0},
    {"max_tokens": None, "stop": ["e"]}, {"max_tokens": 2.0}, {"max_tokens": 10**30, "stop": "e"},
    {"stop": None}, {"stop": ""}, {"stop": []}, {"stop": ["a", "b", "c", "d"]}, {"stop": [""]},
    {"seed": 0}, {"seed": -1}, {"seed": -(2**63)}, {"seed": 2**63 - 1}, {"seed": 5.0},
    {"seed": None}, {"presence_penalty": 0, "frequency_penalty": 0.0}, {"presence_penalty": -0.0},
    {"presence_penalty": None, "frequency_penalty": None}, {"logit_bias": {}}, {"logit_bias": None},
    {"logprobs": None}, {"logprobs": False}, {"top_logprobs": 0}, {"top_logprobs": None},
    {"logprobs": False, "top_logprobs": 0},
    {"stream": None}, {"stream_options": None}, {"stream_options": {"include_usage": None}},
    {"user": None, "store": None, "metadata": None, "service_tier": None},
    {"temperature": None, "top_p": None, "top_k": None, "min_p": None, "repetition_penalty": None},
    {"top_k": 0.0}, {"top_k": 10**30}, {"min_p": 0}, {"min_p": 1},
]  # fmt: skip
"""Values at the ends of the ranges of both kinds of completion, and nulls."""


@pytest.mark.parametrize("asked", ENDS)
def test_values_at_the_ends_of_their_ranges(real: Server, asked: dict[str, Any]) -> None:
    body = {"model": STORYTELLER, "max_tokens": 3, **asked}
    bodies = {
        "completions": {**body, "prompt": "a"},
        "chat/completions": {**body, "messages": [{"role": "user", "content": "a"}]},
    }
    for path, whole in bodies.items():
        answer = httpx.post(f"{real.origin}/v1/{path}", json=whole, timeout=60)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["choices"]) == 1


@pytest.mark.parametrize("best_of", [None, 0, 1])
def test_the_best_of_one(client: OpenAI, best_of: int | None) -> None:
    answer = client.completions.create(
        model=STORYTELLER, prompt="a", max_tokens=2, best_of=best_of, suffix="", echo=None
    )
    assert answer.choices[0].text


def test_as_many_choices_as_openai_gives(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": STORYTELLER, "n": 128, "max_tokens": 1}
    assert len(client.completions.create(prompt="a", **asked).choices) == 128
    messages: Any = [{"role": "user", "content": "a"}]
    assert len(client.chat.completions.create(messages=messages, **asked).choices) == 128


@pytest.mark.parametrize("zero", [0, 0.0])
@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize("n", [1, 2])
def test_a_completion_of_no_token(client: OpenAI, zero: Any, echo: bool, n: int) -> None:
    asked: dict[str, Any] = {
        "model": STORYTELLER, "prompt": ["Once upon", "A fox"], "max_tokens": zero, "echo": echo,
        "n": n,
    }  # fmt: skip
    whole = client.completions.create(**asked)
    chunks = list(
        client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    expected = [text if echo else "" for text in asked["prompt"] for _ in range(n)]
    assert [each.text for each in whole.choices] == expected
    assert [each.finish_reason for each in whole.choices] == ["length"] * len(expected)
    assert texts(chunks) == dict(enumerate(expected))
    ends = [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason]
    assert ends == ["length"] * len(expected)
    for usage in (whole.usage, chunks[-1].usage):
        assert usage is not None
        assert (usage.completion_tokens, usage.total_tokens) == (0, usage.prompt_tokens)
        assert usage.prompt_tokens > 0


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_a_reply_of_no_token(client: OpenAI, limit: str) -> None:
    asked: dict[str, Any] = {
        "model": STORYTELLER, "messages": [{"role": "user", "content": "a"}], limit: 0,
    }  # fmt: skip
    whole = client.chat.completions.create(**asked)
    streamed = list(client.chat.completions.create(**asked, stream=True))
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("", "length")
    assert whole.usage is not None and whole.usage.completion_tokens == 0
    assert texts(streamed) == {0: ""}
    assert streamed[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize("seed", [-1, -(2**63), -12345, 2**63 - 1])
def test_any_seed_gives_its_text_again(client: OpenAI, real_host: LocalHost, seed: int) -> None:
    asked: dict[str, Any] = {
        "model": STORYTELLER, "prompt": "The fox", "max_tokens": 20, "temperature": 2,
    }  # fmt: skip
    first, again = (client.completions.create(**asked, seed=seed) for _ in range(2))
    assert first.choices[0].text == again.choices[0].text
    other = client.completions.create(**asked, seed=seed + 1 if seed < 0 else seed - 1)
    assert other.choices[0].text != first.choices[0].text
    used = real_host.run(first.id.removeprefix("cmpl-")).parameters["seed"]
    assert used == seed % 2**63
    same = client.completions.create(**asked, seed=used)
    assert same.choices[0].text == first.choices[0].text


def test_what_asks_for_nothing_is_taken(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=STORYTELLER,
        messages=[{"role": "user", "content": "a", "name": "ann"}],
        max_tokens=2,
        response_format={"type": "text"},
        logprobs=False,
        tools=[],
        presence_penalty=0,
        frequency_penalty=0.0,
        store=False,
        metadata={"a": "b"},
        stop=[],
    )

    assert answer.choices


def test_a_prompt_that_is_too_long_has_openais_code_streaming_or_not(client: OpenAI) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="context is 512") as caught:
            client.completions.create(model=STORYTELLER, prompt="word " * 600, stream=stream)
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")


def test_errors_have_openais_statuses(serve: Serve, host: LocalHost) -> None:
    server = serve(access=Access("127.0.0.1", token="secret"))
    with client_of(server, "wrong") as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            client.models.list()
        assert refused.value.code == "invalid_api_key"
    with client_of(server, "secret") as client:
        assert client.models.list().data
        with pytest.raises(openai.NotFoundError) as missing:
            client.completions.create(model="storyteler", prompt="a")
        assert missing.value.code == "model_not_found"
        host.limit(max_runs=0)
        with pytest.raises(openai.RateLimitError) as busy:
            client.completions.create(model=STORYTELLER, prompt="a")
        assert busy.value.response.headers["Retry-After"] == "1"
        assert busy.value.code == "rate_limit_exceeded"


def test_a_model_that_fails_is_a_server_error_that_is_not_tried_again(
    serve: Serve, models: ScriptedModels
) -> None:
    models.failure = ModelError("no room in /srv/models/x", code="out_of_memory")
    server = serve()
    with OpenAI(base_url=f"{server.origin}/v1", api_key="any", max_retries=3) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.completions.create(model=STORYTELLER, prompt="a")
        with pytest.raises(openai.InternalServerError):
            client.completions.create(model=STORYTELLER, prompt="a", stream=True)

    assert caught.value.type == "server_error"
    assert "/srv" not in caught.value.message
    assert len(models.specs) == 2


def test_a_body_that_is_no_json_or_too_large(serve: Serve) -> None:
    server = serve(settings=ServerSettings(port=0, max_body=100))
    url = f"{server.origin}/v1/completions"

    for answer, status in (
        (httpx.post(url, content=b"{", headers={"Content-Type": "application/json"}), 400),
        (httpx.post(url, json=[]), 400),
        (httpx.post(url, json={"prompt": "a" * 200}), 413),
        (httpx.post(url, data={"prompt": "a"}), 415),
        (httpx.get(url), 405),
    ):
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"} or status == 405


# Prompts of tokens


def test_tokens_say_the_same_as_their_text(client: OpenAI, tokenizer: Tokenizer) -> None:
    asked: dict[str, Any] = {"model": STORYTELLER, "max_tokens": 12, "seed": 3, "echo": True}
    texts_ = ["Once upon a time", "The fox"]
    ids = [tokenizer.encode(text).ids for text in texts_]

    by_text = client.completions.create(prompt=texts_, **asked)
    by_tokens = client.completions.create(prompt=ids, **asked)
    one = client.completions.create(prompt=ids[0], **asked)

    assert [each.text for each in by_tokens.choices] == [each.text for each in by_text.choices]
    assert [each.text for each in one.choices] == [by_text.choices[0].text]
    assert by_tokens.usage and by_text.usage
    assert by_tokens.usage.prompt_tokens == by_text.usage.prompt_tokens
    assert client.completions.create(prompt=[float(id) for id in ids[0]], **asked)  # type: ignore


def test_tokens_are_taken_as_they_are(client: OpenAI) -> None:
    """Also special ones, which a text cannot say here, and none is added."""
    answer = client.completions.create(
        model=STORYTELLER, prompt=[0, 1, 300], max_tokens=0, echo=True, logprobs=0
    )
    assert tokens_of(answer.choices[0]) == ["<|endoftext|>", "<|user|>", "am"]
    assert answer.choices[0].text == "am"
    assert answer.usage and answer.usage.prompt_tokens == 3


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("prompt", "code", "says"),
    [
        # Of several prompts the first may have begun to stream by then.
        ([[5, 2048]], "unknown_token", "the model has no token with the id 2048"),
        ([5] * 512, "context_length_exceeded", "the prompt has 512 tokens"),
        ([5] * 600, "context_length_exceeded", "the prompt has 600 tokens"),
    ],
)
def test_tokens_that_the_model_cannot_read(
    client: OpenAI, prompt: Any, code: str, says: str, stream: bool
) -> None:
    with pytest.raises(openai.BadRequestError, match=says) as caught:
        client.completions.create(model=STORYTELLER, prompt=prompt, stream=stream)
    assert (caught.value.code, caught.value.param) == (code, "prompt")


def test_many_tokens_are_taken(client: OpenAI) -> None:
    answer = client.completions.create(
        model=STORYTELLER, prompt=[[300 + n % 700 for n in range(500)]] * 200, max_tokens=0
    )
    assert answer.usage and answer.usage.prompt_tokens == 100_000


# Log-probabilities


def tokens_of(choice: Any) -> list[str]:
    assert choice.logprobs is not None and choice.logprobs.tokens is not None
    return list(choice.logprobs.tokens)


def likeliest(choice: Any) -> list[str]:
    """The likeliest token in each place, by OpenAI's ``top_logprobs``."""
    return [max(each, key=each.__getitem__) for each in choice.logprobs.top_logprobs if each]


def test_log_probabilities_of_a_completion(client: OpenAI) -> None:
    [choice] = client.completions.create(
        model=STORYTELLER, prompt="The fox", max_tokens=20, seed=5, temperature=1.5, logprobs=3
    ).choices

    told = choice.logprobs
    assert told and told.token_logprobs and told.top_logprobs and told.text_offset
    assert "".join(tokens_of(choice)) == choice.text
    assert len(told.token_logprobs) == len(told.top_logprobs) == len(tokens_of(choice)) == 20
    for token, logprob, top in zip(
        tokens_of(choice), told.token_logprobs, told.top_logprobs, strict=True
    ):
        assert top[token] == logprob < 0
        values = list(top.values())
        assert values == sorted(values, reverse=True)
        assert len(top) == 3 or (len(top) == 4 and values[-1] == logprob)
    for token, offset in zip(tokens_of(choice), told.text_offset, strict=True):
        assert choice.text[offset:].startswith(token)
    assert likeliest(choice) != tokens_of(choice)  # which were drawn


def test_the_likeliest_tokens_at_temperature_0(client: OpenAI) -> None:
    [choice] = client.completions.create(
        model=STORYTELLER, prompt="Once upon", max_tokens=8, temperature=0, logprobs=1
    ).choices
    assert choice.logprobs and choice.logprobs.top_logprobs
    assert likeliest(choice) == tokens_of(choice)
    assert all(len(each) == 1 for each in choice.logprobs.top_logprobs)


def test_scoring_a_prompt_is_a_completion_of_no_token(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": STORYTELLER, "temperature": 0}
    [said] = client.completions.create(
        prompt="Once upon a time", max_tokens=12, logprobs=2, echo=True, **asked
    ).choices

    [scored] = client.completions.create(
        prompt=said.text, max_tokens=0, logprobs=2, echo=True, **asked
    ).choices
    [plain] = client.completions.create(
        prompt="Once upon a time", max_tokens=12, logprobs=2, **asked
    ).choices

    assert said.logprobs and scored.logprobs and plain.logprobs
    assert (scored.text, scored.finish_reason) == (said.text, "length")
    assert tokens_of(scored) == tokens_of(said) == [
        *("Once", " upon", " a", " time"), *tokens_of(plain)
    ]  # fmt: skip
    assert scored.logprobs.text_offset == said.logprobs.text_offset
    assert scored.logprobs.token_logprobs and said.logprobs.token_logprobs
    assert scored.logprobs.token_logprobs[0] is said.logprobs.token_logprobs[0] is None
    assert scored.logprobs.top_logprobs and scored.logprobs.top_logprobs[0] is None
    assert scored.logprobs.token_logprobs[1:] == pytest.approx(
        said.logprobs.token_logprobs[1:], abs=1e-4
    )
    assert said.logprobs.token_logprobs[4:] == plain.logprobs.token_logprobs


def test_the_token_that_ends_a_text_is_told(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": STORYTELLER, "prompt": "Tell me a story.", "temperature": 0}
    [ended] = client.completions.create(**asked, logprobs=0).choices
    assert ended.finish_reason == "stop" and ended.logprobs and ended.logprobs.text_offset
    assert tokens_of(ended)[-1] == "<|endoftext|>"
    assert "".join(tokens_of(ended)[:-1]) == ended.text
    assert ended.logprobs.text_offset[-1] == len(ended.text)

    stop = tokens_of(ended)[5]
    [stopped] = client.completions.create(**asked, logprobs=0, stop=stop).choices
    place = tokens_of(ended).index(stop)
    assert tokens_of(stopped) == tokens_of(ended)[: place + 1]
    assert stopped.text == "".join(tokens_of(ended)[:place])


def test_parts_of_characters_are_told_as_their_bytes(client: OpenAI) -> None:
    [choice] = client.completions.create(
        model=STORYTELLER, prompt="é 🦊", max_tokens=0, echo=True, logprobs=0
    ).choices
    told = [f"bytes:\\x{byte:02x}" for byte in "é".encode()]
    fox = [f"bytes:\\x{byte:02x}" for byte in "🦊".encode()]
    assert tokens_of(choice) == [*told, " ", *fox]
    assert choice.logprobs and choice.logprobs.text_offset == [0, 0, 1, 2, 2, 2, 2]


def test_each_choice_has_its_own(client: OpenAI) -> None:
    answer = client.completions.create(
        model=STORYTELLER, prompt=["One", "Two"], n=2, seed=1, max_tokens=6, echo=True, logprobs=0
    )
    assert [each.index for each in answer.choices] == list(range(4))
    for choice in answer.choices:
        assert "".join(tokens_of(choice)) == choice.text
        assert choice.logprobs and choice.logprobs.token_logprobs
        assert [each is None for each in choice.logprobs.token_logprobs].count(True) == 1


@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize("tokens", [0, 30])
def test_a_stream_has_the_tokens_of_each_piece(client: OpenAI, echo: bool, tokens: int) -> None:
    asked: dict[str, Any] = {
        "model": STORYTELLER, "prompt": ["Once upon a time 🦊", "A fox"], "max_tokens": tokens,
        "seed": 2, "logprobs": 1, "echo": echo, "stop": "never said",
    }  # fmt: skip
    whole = client.completions.create(**asked)
    parts: dict[int, dict[str, list[Any]]] = {}
    for chunk in client.completions.create(**asked, stream=True):
        [choice] = chunk.choices
        if choice.finish_reason is None:
            told = choice.logprobs
            assert told and told.text_offset and told.tokens
            [text] = {"".join(t for t in told.tokens if "bytes:" not in t)}
            assert text == choice.text.replace("🦊", "")
            for name, values in told.model_dump().items():
                parts.setdefault(choice.index, {}).setdefault(name, []).extend(values)
    told_whole = {c.index: c.logprobs.model_dump() for c in whole.choices if c.logprobs}
    assert parts == {index: told for index, told in told_whole.items() if told["tokens"]}


def test_log_probabilities_of_a_chat(client: OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": STORYTELLER, "messages": [{"role": "user", "content": "Tell me of a fox"}],
        "max_tokens": 20, "seed": 4, "temperature": 1.5, "logprobs": True,
    }  # fmt: skip
    [choice] = client.chat.completions.create(**asked, top_logprobs=2).choices
    [without] = client.chat.completions.create(**asked).choices
    streamed: list[Any] = []
    for chunk in client.chat.completions.create(**asked, top_logprobs=2, stream=True):
        [piece] = chunk.choices
        if piece.logprobs:
            assert piece.logprobs.content
            assert "".join(t.token for t in piece.logprobs.content) == piece.delta.content
            streamed += piece.logprobs.content

    assert choice.logprobs and choice.logprobs.content and choice.logprobs.refusal is None
    content = choice.logprobs.content
    assert "".join(each.token for each in content) == choice.message.content
    for each in content:
        assert each.bytes == list(each.token.encode())
        assert [top.bytes for top in each.top_logprobs] == [
            list(top.token.encode()) for top in each.top_logprobs
        ]
        first, second = each.top_logprobs
        assert first.logprob >= second.logprob and first.logprob >= each.logprob
    assert any(each.logprob < each.top_logprobs[0].logprob for each in content)
    assert streamed == content
    assert without.logprobs and without.logprobs.content
    assert [(e.token, e.logprob, e.top_logprobs) for e in without.logprobs.content] == [
        (each.token, each.logprob, []) for each in content
    ]


def test_what_lm_evaluation_harness_sends_and_reads(client: OpenAI, tokenizer: Tokenizer) -> None:
    """Its model ``local-completions``: batches of tokens of various lengths, and one more token,
    which it leaves out."""
    context, texts_ = "Once upon a", [" time", " quantum reactor", " time, there was a fox"]
    begin = tokenizer.encode(context).ids
    ids = [tokenizer.encode(context + text).ids for text in texts_]
    answer = client.post(
        "/completions",
        body={
            "model": STORYTELLER, "prompt": ids, "temperature": 0, "max_tokens": 1, "logprobs": 1,
            "seed": 1234, "echo": True,
        },
        cast_to=httpx.Response,
    ).json()  # fmt: skip

    found = []
    for choice, own in zip(answer["choices"], ids, strict=True):
        told = choice["logprobs"]
        of_text = told["token_logprobs"][len(begin) : -1]
        top = told["top_logprobs"][len(begin) : -1]
        assert len(of_text) == len(own) - len(begin)
        is_greedy = all(a == max(b.values()) for a, b in zip(of_text, top, strict=True))
        found.append((sum(of_text), is_greedy))
    assert found[0] > found[1]
    assert [is_greedy for _, is_greedy in found] == [True, False, False]


TOKENS = [
    Token("", 1, None, None, None, "\\xc3", (), b"\xc3"),
    Token("é", 2, -1.0, None, 2, "\\xa9", (Alternative(3, "a", -0.5, None),), b"\xa9"),
    Token(
        "a", 4, -1.5, None, 2, "a",
        (Alternative(3, "a", -0.5, None), Alternative(5, "\\xc3", -2.0, None, b"\xc3")),
    ),
]  # fmt: skip


def test_tokens_in_openais_shapes() -> None:
    assert of_completion(TOKENS, 7) == {
        "tokens": ["bytes:\\xc3", "bytes:\\xa9", "a"],
        "token_logprobs": [None, -1.0, -1.5],
        # Two of one name: the likelier one is told, or an unlikely token would be the likeliest.
        "top_logprobs": [None, {"a": -0.5, "bytes:\\xa9": -1.0}, {"a": -0.5, "bytes:\\xc3": -2.0}],
        "text_offset": [7, 7, 8],
    }
    entries = of_chat(TOKENS, 0)["content"]
    assert [(each["token"], each["bytes"]) for each in entries] == [
        ("\\xc3", [0xC3]), ("\\xa9", [0xA9]), ("a", [97])
    ]  # fmt: skip
    assert entries[2]["top_logprobs"] == [
        {"token": "a", "logprob": -0.5, "bytes": [97]},
        {"token": "\\xc3", "logprob": -2.0, "bytes": [0xC3]},
    ]


def test_a_text_and_its_tokens_come_together() -> None:
    def data(*texts_: str) -> list[dict[str, Any]]:
        return [{"id": 0, "token": text, "text": text} for text in texts_]

    coming = TextWithTokens()
    coming.add_text(0, "Once upon")  # a prompt, whose tokens come later
    assert coming.take(is_whole=False) == ("", [], 0)
    coming.add_tokens("prompt", 0, data("Once", " upon"))
    coming.add_tokens("text", 0, data(" a"))  # tokens come before their text
    text, tokens, offset = coming.take(is_whole=False)
    assert (text, [each.text for each in tokens], offset) == ("Once upon", ["Once", " upon"], 0)
    coming.add_text(9, " a")
    coming.add_tokens("text", 1, data(" ti", "me"))
    coming.add_text(11, " t")  # the rest is held back
    text, tokens, offset = coming.take(is_whole=False)
    assert (text, [each.text for each in tokens], offset) == (" a", [" a"], 9)
    coming.add_text(0, "Once upon a time")  # all of it again, as a run tells it that has ended
    coming.add_tokens("text", 0, data(" a", " ti", "me"))
    text, tokens, offset = coming.take(is_whole=True)
    assert (text, [each.text for each in tokens], offset) == (" time", [" ti", "me"], 11)
    assert coming.take(is_whole=True) == ("", [], 16)


# Ends


def test_a_stream_opens_though_its_text_is_long_in_coming(
    serve: Serve, models: ScriptedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_HEARTBEAT_SECONDS", 0.05)
    models.reply = lambda prompt: ["", "at last"]
    models.hold = ("a",)
    with client_of(serve()) as client:
        answer = client.completions.with_raw_response.create(
            model=STORYTELLER, prompt="a", stream=True
        )
        assert answer.headers["content-type"].startswith("text/event-stream")
        models.gate.set()
        assert texts(answer.parse()) == {0: "at last"}


def test_a_completion_is_a_run_that_can_be_run_again(
    client: OpenAI, real: Server, real_host: LocalHost
) -> None:
    answer = client.completions.create(model=STORYTELLER, prompt="The fox", max_tokens=8)
    task = answer.id.removeprefix("cmpl-")
    assert real_host.run(task).record["input"]["prompt"] == ["The fox"]

    again = httpx.post(f"{real.url}/workflows/runs", json={"rerun_of": task}).json()

    assert again["output"] == [answer.choices[0].text]


def test_an_error_after_the_start_is_a_chunk(
    serve: Serve, models: ScriptedModels, host: LocalHost
) -> None:
    models.hold = ("a",)
    with client_of(serve()) as client:
        stream = client.completions.create(model=STORYTELLER, prompt="a", stream=True)
        assert models.started.acquire(timeout=30)
        host.runs()[0].cancel()
        with pytest.raises(openai.APIError, match="was stopped"):
            list(stream)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_its_run(
    serve: Serve, models: ScriptedModels, host: LocalHost, stream: bool
) -> None:
    models.hold = ("a",)
    runs = runs_of(host)
    server = serve(settings=ServerSettings(port=0, base_path=""))
    body = {"model": STORYTELLER, "prompt": "a", "stream": stream}

    with raw_request(server, "POST", "/v1/completions", body) as connection:
        assert models.started.acquire(timeout=30)
        if stream:
            assert connection.recv(100).startswith(b"HTTP/1.1 200")

    run = runs.get(timeout=30)
    assert run.wait(30)
    assert run.state == "cancelled"
    assert models.leases == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_while_it_waits_ends_its_run(
    serve: Serve, models: ScriptedModels, host: LocalHost, stream: bool
) -> None:
    models.hold = ("first",)
    runs = runs_of(host)
    text = COMPONENT + "  max_concurrent_count: 1\n"
    server = serve(text, settings=ServerSettings(port=0, base_path=""))
    with client_of(server) as client:
        first = client.completions.create(model=STORYTELLER, prompt="first", stream=True)
        assert runs.get(timeout=30).state == "running"
        body = {"model": STORYTELLER, "prompt": "second", "stream": stream}

        with raw_request(server, "POST", "/v1/completions", body):
            second = runs.get(timeout=30)

        assert second.wait(30)
        assert second.state == "cancelled"
        assert models.prompts == ["first"]
        first.close()


def runs_of(host: LocalHost) -> queue.SimpleQueue[Run]:
    """The runs of a host as they are submitted."""
    runs: queue.SimpleQueue[Run] = queue.SimpleQueue()
    host.observe(runs.put)
    return runs


# Other clients


def test_llm_speaks_to_it(real: Server, tmp_path: Path) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(
        json.dumps(
            [
                {
                    "model_id": name,
                    "model_name": STORYTELLER,
                    "api_base": f"{real.origin}/v1",
                    "completion": name == "text",
                }
                for name in ("text", "chat")
            ]
        )
    )
    runner = CliRunner(env={"LLM_USER_PATH": str(tmp_path)}, catch_exceptions=False)

    def said(*arguments: str) -> str:
        done = runner.invoke(llm.cli.cli, [*arguments, "--key", "any"])
        assert done.exit_code == 0, done.stderr
        return done.stdout.strip()

    asked = ["-o", "seed", "7", "-o", "max_tokens", "8"]
    streamed = said("-m", "chat", "Tell me of a fox", *asked)
    assert streamed
    assert streamed == said("-m", "chat", "Tell me of a fox", "--no-stream", *asked)
    assert said("-m", "text", "Once upon a time", *asked)


@pytest.mark.parametrize(
    ("page", "heading", "count"),
    [("serving.md", "OpenAI clients", 5), ("ko/serving.md", "OpenAI 클라이언트", 1)],
)
def test_the_examples_of_the_guide_run(
    page: str, heading: str, count: int, real: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    guide = (Path(__file__).parents[2] / "docs" / page).read_text("utf-8")
    [section] = re.findall(rf"^## {heading}\n(.*?)^## ", guide, re.M | re.S)
    examples = re.findall(r"^```python\n(.*?)^```", section, re.M | re.S)
    names: dict[str, Any] = {}
    for example in examples:
        code = example.replace("http://127.0.0.1:8080", real.origin)
        exec(compile(code, page, "exec", dont_inherit=True), names)
        assert capsys.readouterr().out.strip()
    assert len(examples) == count
