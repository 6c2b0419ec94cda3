"""Functions of a notebook as steps, in a real kernel."""

from __future__ import annotations

from pathlib import Path

import pytest
from standins.kernel import Cell, Kernel, KernelIn

FUNCTIONS = """\
from typing import Iterator, Literal

def shout(text: str, how: Literal["loud", "louder"] = "loud") -> str:
    "Say it."
    return text.upper() + {"loud": "!", "louder": "!!"}[how]

def words(text: str) -> Iterator[str]:
    for word in text.split():
        yield word + " "

def fail(text: str) -> str:
    return inner(text)

def inner(text):
    raise LookupError(f"no {text}")
"""
CELL = """\
%%compose flow --no-panel
components:
  - {id: say, type: function, function: shout}
  - {id: words, type: function, function: words}
workflow:
  jobs:
    - {id: say, component: say}
    - {id: words, component: words, input: "${jobs.say.output} it is"}
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
    missing = shown(shell.run(CELL))
    assert "cell:3:41: the function 'shout' is not here" in missing
    assert "Define it in a cell above" in missing
    shell.run(FUNCTIONS)
    assert shell.run(CELL).status == "ok"
    assert shell.value("flow(text='hi', how='louder')") == "'HI!! it is '"
    assert shell.value("str(flow.inputs['how'])") == repr("how: select/loud,louder = 'loud'")


def test_a_cell_that_runs_shows_the_text_as_it_comes(shell: Kernel) -> None:
    shell.run(FUNCTIONS)
    cell = shell.run(CELL.replace("--no-panel", "text=hi"))
    assert cell.status == "ok"
    assert cell.data[0]["text/plain"] == "HI! it is "


def test_a_function_that_is_defined_anew_is_the_one_that_is_called(shell: Kernel) -> None:
    shell.run(FUNCTIONS)
    shell.run(CELL)
    shell.run("def shout(text): return text + '?'")
    assert shell.value("flow(text='hi')") == "'hi? it is '"


def test_an_error_has_the_cells_own_lines(shell: Kernel) -> None:
    shell.run(FUNCTIONS)
    shell.run("%%compose broken --no-panel\ncomponent: {type: function, function: fail}\n")
    lines = shown(shell.run("broken(text='a')")).splitlines()
    assert lines[0].endswith("cell:2:39: fail: LookupError: no a")
    at = next(n for n, line in enumerate(lines) if line.startswith("  Cell In["))
    cell = lines[at].partition(",")[0]  # its number: versions of ipykernel count differently
    assert lines[at:] == [
        f"{cell}, line 12, in fail",
        "    return inner(text)",
        f"{cell}, line 15, in inner",
        '    raise LookupError(f"no {text}")',
    ]


def test_a_module_beside_the_notebook(shell: Kernel, tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text("def tidy(text): return ' '.join(text.split())\n")
    cell = "%%compose flow --no-panel\ncomponent: {type: function, function: 'steps:tidy'}\n"
    assert shell.run(cell).status == "ok"
    assert shell.value("flow(text=' a   b ')") == "'a b'"
    (tmp_path / "steps.py").write_text("def tidy(text): return 'new'\n")
    assert shell.value("flow(text=' a   b ')") == "'new'"


def test_an_interrupt_stops_an_async_function(shell: Kernel) -> None:
    shell.run(
        "import asyncio, threading\n"
        "begun, ended = threading.Event(), threading.Event()\n"
        "async def wait():\n"
        "    begun.set()\n"
        "    try:\n"
        "        await asyncio.sleep(600)\n"
        "    finally:\n"
        "        ended.set()\n"
    )
    shell.run("%%compose flow --no-panel\ncomponent: {type: function, function: wait}\n")
    interrupter = (
        "import _thread\n"
        "def interrupt():\n"
        "    begun.wait(90)\n"
        "    _thread.interrupt_main()\n"
        "threading.Thread(target=interrupt).start()\n"
    )
    cell = shell.run(interrupter + "flow()")
    assert cell.error is not None and cell.error["ename"] == "KeyboardInterrupt"
    assert shell.value("(ended.is_set(), str(flow.last_run.state))") == "(True, 'cancelled')"
