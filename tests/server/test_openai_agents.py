"""What is built on OpenAI's client speaks to it: agents of pydantic-ai, and `llm`, on the model
that ships. What it is asked for is held to; what it says is chance."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import llm
import pytest
from pydantic import BaseModel, ConfigDict, Field
from pydantic_ai import Agent, ModelRetry, NativeOutput
from pydantic_ai.messages import ModelMessage, ToolCallPart, ToolReturnPart
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.tools import ToolDefinition

from modelcompose_jupyter import LocalHost
from modelcompose_jupyter.server.server import Server

from .conftest import COMPONENT, Serve

pytestmark = pytest.mark.slow
STORYTELLER = "bundled:storyteller"


class Animal(BaseModel):
    """An animal that was looked up."""

    model_config = ConfigDict(extra="forbid")  # else `llm` asks for whatever is beside it, too

    name: Literal["fox", "owl"]
    legs: int = Field(ge=2, le=4)


@pytest.fixture
def server(serve: Serve, real_host: LocalHost) -> Server:
    return serve(COMPONENT, on=real_host)


@pytest.fixture
def model(server: Server) -> OpenAIChatModel:
    """The model as pydantic-ai's agents speak to it."""
    provider = OpenAIProvider(base_url=f"{server.origin}/v1", api_key="none")
    return OpenAIChatModel(STORYTELLER, provider=provider)


def parts(messages: list[ModelMessage], kind: type[Any]) -> list[Any]:
    return [part for each in messages for part in each.parts if isinstance(part, kind)]


@pytest.mark.parametrize("output", [NativeOutput(Animal), Animal], ids=["schema", "tool"])
@pytest.mark.parametrize("seed", range(3))
def test_an_agent_gives_what_its_type_says(model: OpenAIChatModel, output: Any, seed: int) -> None:
    agent = Agent(model, output_type=output, model_settings={"seed": seed, "temperature": 1.5})
    result = agent.run_sync("Describe a fox")
    assert isinstance(result.output, Animal)
    assert result.usage.requests == 1  # nothing had to be asked again


def test_an_agent_uses_a_tool_and_goes_on_with_its_result(model: OpenAIChatModel) -> None:
    settings: Any = {"temperature": 1.5, "parallel_tool_calls": False}
    agent = Agent(model, output_type=Animal, model_settings=settings)
    looked_up: list[str] = []

    async def once(_: Any, tool: ToolDefinition) -> ToolDefinition | None:
        return None if looked_up else tool

    @agent.tool_plain(prepare=once)
    def look_up(name: Literal["fox", "owl"]) -> str:
        """How many legs an animal has."""
        looked_up.append(name)
        return f"{name}: 4"

    for seed in range(20):  # which of its tools the model calls is chance
        result = agent.run_sync("Describe a fox", model_settings={"seed": seed})
        assert isinstance(result.output, Animal)
        if looked_up:
            break

    messages = result.all_messages()
    call, last = parts(messages, ToolCallPart)
    assert (call.tool_name, json.loads(call.args)) == ("look_up", {"name": looked_up[0]})
    told = parts(messages, ToolReturnPart)[0]
    assert (told.tool_call_id, told.content) == (call.tool_call_id, f"{looked_up[0]}: 4")
    assert last.tool_name == "final_result"
    assert result.usage.requests == 2


def test_an_agent_asks_again_where_a_tool_says_so(model: OpenAIChatModel) -> None:
    agent = Agent(model, output_type=Animal, retries=3)
    tried: list[Animal] = []

    @agent.output_validator
    def at_the_second(output: Animal) -> Animal:
        tried.append(output)
        if len(tried) == 1:
            raise ModelRetry("Try again")
        return output

    result = agent.run_sync("Describe a fox")
    assert result.output == tried[1] and len(tried) == 2
    assert "Try again" in str(result.all_messages())


@pytest.mark.parametrize("output", [NativeOutput(Animal), Animal], ids=["schema", "tool"])
def test_an_agents_output_is_streamed(model: OpenAIChatModel, output: Any) -> None:
    async def streamed() -> list[Animal]:
        agent = Agent(model, output_type=output, model_settings={"seed": 1})
        async with agent.run_stream("Describe a fox") as result:
            return [each async for each in result.stream_output(debounce_by=None)]

    assert isinstance(asyncio.run(streamed())[-1], Animal)


@pytest.fixture
def llm_model(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """The model as `llm` has it."""
    known = {
        "model_id": "storyteller",
        "model_name": STORYTELLER,
        "api_base": f"{server.origin}/v1",
        "supports_schema": True,
    }
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps([known]))
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    return lambda: llm.get_model("storyteller")


@pytest.mark.parametrize("stream", [False, True])
def test_llm_asks_for_a_schema(llm_model: Callable[[], Any], stream: bool) -> None:
    response = llm_model().prompt("Describe a fox", schema=Animal, stream=stream, key="none")
    assert Animal.model_validate_json(response.text())
