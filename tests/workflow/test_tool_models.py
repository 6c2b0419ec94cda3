"""Models with random weights call tools in the syntax of their templates, in C and on torch.

Their tokens are drawn at random, so what keeps calls whole is the grammar alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field
from standins import call_templates as templates
from standins import tiny_models

from modelcompose_jupyter import LocalHost, State, load

SPECIAL = ["[TOOL_CALLS]", "[ARGS]", "<|tool_calls_begin|>"]
TEMPLATES = {
    "hermes": templates.HERMES,
    "qwen-3": templates.QWEN_3,
    "llama-3": templates.LLAMA_3,
    "mistral": templates.MISTRAL,
    "mistral-args": templates.MISTRAL_ARGS,
    "deepseek": templates.DEEPSEEK,
    "no tools": templates.NO_TOOLS,
}
CHAT = """\
component:
  type: model
  task: chat-completion
  model: {folder}
  driver: {driver}
  messages: ${{input.messages}}
  tools: [convert, report]
  tool_choice: ${{input.choice | required}}
  parallel_tool_calls: false
  thinking: false
  max_output_length: 200
  temperature: 1.5
"""
DOCUMENT = CHAT + "workflow: {{output: '${{output}}'}}\n"


class Unit(Enum):
    METRE = "m"
    INCH = 'in"ch'


def convert(value: Annotated[int, Field(ge=-5, le=5)], unit: Unit) -> str:
    """Convert a length."""
    assert isinstance(unit, Unit) and -5 <= value <= 5
    return f"{value} {unit.value}"


def report(rows: Annotated[list[Literal["가", "나"]], Field(max_length=3)], *, brief: bool) -> str:
    """Report rows."""
    assert set(rows) <= {"가", "나"} and isinstance(brief, bool)
    return "ok"


@pytest.fixture(scope="module")
def host() -> Iterator[LocalHost]:
    host = LocalHost()
    yield host
    host.close()


@pytest.fixture(scope="module")
def folder_with(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model with each template."""
    found = {}
    for name, template in TEMPLATES.items():
        folder = tmp_path_factory.mktemp("models") / name.replace(" ", "-")
        tokenizer = tiny_models.tokenizer(additional_special_tokens=SPECIAL)
        sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 4096}
        found[name] = tiny_models.save(folder, "llama", **sizes)
        tokenizer.save_pretrained(folder)
        (folder / "chat_template.jinja").write_text(template)
    return found


@pytest.mark.parametrize("driver", ["native", "huggingface"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_every_call_is_whole(
    host: LocalHost, folder_with: dict[str, Path], name: str, driver: str
) -> None:
    document = DOCUMENT.format(folder=folder_with[name], driver=driver)
    flow = load(document, tools=[convert, report], host=host)
    runs = [flow.start({"messages": "Hello"}, seed=seed) for seed in range(4)]
    for run in runs:
        assert run.wait(90)
        assert run.state is State.COMPLETED, run.error
        assert run.tool_calls
        assert {call["state"] for call in run.tool_calls} == {"completed"}
        assert all(special not in run.text for special in SPECIAL)


def test_a_call_that_thoughts_leave_no_room_for_is_an_error(
    host: LocalHost, folder_with: dict[str, Path]
) -> None:
    document = DOCUMENT.format(folder=folder_with["qwen-3"], driver="native")
    flow = load(document.replace("thinking: false", "thinking: true"), tools=[convert, report])
    run = flow.start({"messages": "Hello"}, seed=0)
    assert run.wait(90)
    assert run.error is not None and run.error.code == "tool_call_cut"


def test_calls_begin_behind_thoughts_which_the_exchange_keeps(
    host: LocalHost, folder_with: dict[str, Path]
) -> None:
    document = DOCUMENT.format(folder=folder_with["qwen-3"], driver="native")
    document = document.replace("thinking: false", "thinking: true\n  thinking_budget: 8")
    flow = load(document, tools=[convert, report], host=host)
    run = flow.start({"messages": "Hello"}, seed=0)
    assert run.wait(90)
    assert run.state is State.COMPLETED, run.error
    assert run.tool_calls[0]["state"] == "completed"
    assert run.messages[1]["reasoning_content"] == next(iter(run.reasoning_streams.values()))


def test_a_call_comes_from_text_now_and_then(host: LocalHost, folder_with: dict[str, Path]) -> None:
    """With ``auto`` a marker of one token is drawn by chance; what comes after it is a call."""
    document = DOCUMENT.format(folder=folder_with["mistral"], driver="native")
    flow = load(document, tools=[convert, report], host=host)
    runs = [flow.start({"messages": "Hello", "choice": "auto"}, seed=seed) for seed in range(24)]
    states = []
    for run in runs:
        assert run.wait(90)
        # One that begins near the limit is cut, which is said.
        assert run.error is None or run.error.code == "tool_call_cut"
        states += [call["state"] for call in run.tool_calls]
        assert "[TOOL_CALLS]" not in run.text
    assert "completed" in states and "failed" not in states
