"""Functions of a notebook as tools, in a real kernel, on the bundled model."""

from __future__ import annotations

from pathlib import Path

import pytest
from standins.kernel import Cell, Kernel, KernelIn

FUNCTION = """\
from typing import Literal

def get_weather(city: Literal["Paris", "Seoul"]) -> str:
    "Tell the weather."
    seen.append(city)
    return f"It is {sky} in {city}."
sky, seen = "sunny", []
"""
CELL = """\
%%compose chat --no-panel
component:
  type: model
  task: chat-completion
  model: bundled:storyteller
  messages: ${input.messages}
  tools: [get_weather]
  tool_choice: required
  parallel_tool_calls: false
  max_output_length: 60
  temperature: 0
workflow:
  output: ${output}
"""


@pytest.fixture
def shell(tmp_path: Path, kernel_in: KernelIn, ipykernel: str) -> Kernel:
    shell = kernel_in(tmp_path, ipykernel)
    assert shell.run("%load_ext modelcompose_jupyter").status == "ok"
    return shell


def shown(cell: Cell) -> str:
    assert cell.error is not None
    return "\n".join(cell.error["traceback"])


def test_a_cell_names_functions_of_the_notebook(shell: Kernel) -> None:
    cell = shell.run(CELL)
    assert cell.status == "error"
    assert "cell:7:11: the tool 'get_weather' is a Python function, and it is not here" in shown(
        cell
    )
    assert "Define it in a cell above" in shown(cell)
    shell.run(FUNCTION)
    assert shell.run(CELL).status == "ok"
    assert shell.run("text = chat(messages='Tell me of Paris.')").status == "ok"
    assert shell.value("len(seen)") == "1"
    assert (
        shell.value("chat.last_run.tool_calls[0]['result'] == f'It is sunny in {seen[0]}.'")
        == "True"
    )


def test_a_function_that_is_defined_anew_is_the_one_that_is_called(shell: Kernel) -> None:
    shell.run(FUNCTION)
    shell.run(CELL)
    shell.run("chat(messages='Tell me of Paris.')")
    shell.run(FUNCTION.replace('"Tell the weather."', '"Tell more."').replace("sunny", "rainy"))
    shell.run("chat(messages='Tell me of Paris.')")
    assert "rainy" in shell.value("chat.last_run.tool_calls[0]['result']")
    described = "chat.document.tools['get_weather']['function']['description']"
    assert shell.value(described) == "'Tell more.'"


def test_what_is_no_function_is_said(shell: Kernel) -> None:
    shell.run("get_weather = 5")
    assert "'get_weather' cannot be a tool: it is a int, and no function" in shown(shell.run(CELL))


def test_an_interrupt_does_not_wait_for_a_function(shell: Kernel) -> None:
    shell.run("import threading; begun, goes_on = threading.Event(), threading.Event()")
    shell.run(FUNCTION.replace("seen.append(city)", "begun.set(); goes_on.wait(90)"))
    shell.run(CELL)
    interrupter = (
        "import _thread\n"
        "def interrupt():\n"
        "    begun.wait(90)\n"
        "    _thread.interrupt_main()\n"
        "threading.Thread(target=interrupt).start()\n"
    )
    cell = shell.run(interrupter + "chat(messages='Tell me of Paris.')")
    assert cell.error is not None and cell.error["ename"] == "KeyboardInterrupt"
    assert shell.value("chat.last_run.wait(60), str(chat.last_run.state)") == "(True, 'cancelled')"
    assert shell.value("chat.last_run.tool_calls[0]['state']") == "'cancelled'"
    shell.run("goes_on.set()")
