"""``%compose serve`` and ``connect`` between real kernels, on the bundled model."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from standins.kernel import Cell, Kernel, KernelIn, kernel

DECLARE = """%%compose story
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: 30
  seed: 7
"""
OTHER = DECLARE.replace("story", "other", 1).replace("30", "20")
LONG = (
    DECLARE.replace("story", "long", 1).replace("30", "450\n  min_output_length: 440")
    + "workflow: {input: '${input}', repeat_count: 1000}\n"
)


@pytest.fixture
def shell(tmp_path: Path, kernel_in: KernelIn) -> Kernel:
    """A notebook's kernel; those that a test starts besides find it, and nobody else."""
    return kernel_in(tmp_path)


def declared(shell: Kernel, *cells: str) -> None:
    imports = "import modelcompose_jupyter.widgets.snippets"
    for code in ("%load_ext modelcompose_jupyter", imports, *cells):
        cell = shell.run(code)
        assert cell.status == "ok", cell.error


def url_of(cell: Cell) -> str:
    found = re.search(r"http://[^\s,]+", cell.stdout)
    assert found, cell.stdout + str(cell.error)
    return found.group()


def run(url: str, **body: object) -> httpx.Response:
    return httpx.post(f"{url}/workflows/runs", json=body, timeout=120, trust_env=False)


def test_a_notebook_serves_its_workflows_and_their_new_forms(shell: Kernel) -> None:
    declared(shell, DECLARE, OTHER)
    assert shell.run("%compose serve port:=0").stdout.startswith("serving story, other at http")
    both = url_of(shell.run("%compose serve port:=0"))
    asked = {"prompt": "A fox"}
    assert run(both, input=asked).status_code == 404  # none of the two is the default
    here = shell.value("story(prompt='A fox')")
    assert repr(run(both, workflow_id="story", input=asked).json()["output"]) == here

    one = url_of(shell.run("%compose serve story port:=0"))
    assert run(one, input=asked).json()["usage"]["generated"] == 30
    shell.run(DECLARE.replace("30", "12"))
    assert run(one, input=asked).json()["usage"]["generated"] == 12
    assert one in shell.value("modelcompose_jupyter.widgets.snippets.as_curl"
                              "(story.document, story.id, {})")  # fmt: skip
    assert shell.run("%compose serve off").stdout == "nothing is served any more\n"
    with pytest.raises(httpx.ConnectError):
        run(one, input=asked)


def test_it_answers_while_a_cell_computes(shell: Kernel) -> None:
    declared(shell, DECLARE)
    url = url_of(shell.run("%compose serve port:=0"))
    run(url, input={"prompt": "A fox"})  # so that no import of torch goes on below
    answers = []

    def ask(cell: Cell) -> None:
        if cell.stdout and not answers:
            answers.append(run(url, input={"prompt": "A fox"}).status_code)

    # Neither sleeps nor lets go: the cell computes until a second run has ended.
    shell.run(
        "import modelcompose_jupyter\nhost = modelcompose_jupyter.local_host()\n"
        "print('computing', flush=True)\n"
        "while sum(run.done for run in host.runs()) < 2: sum(range(100_000))",
        watch=ask,
    )

    assert answers == [200]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("serve", "there is no workflow to serve yet"),
        ("serve story", "'story' is no workflow of this notebook"),
        ("serve port:=0 prot:=1", "Did you mean 'port'?"),
        ("connect", "no other host of yours"),
        ("connect a b", "usage: %compose connect"),
        ("connect http://127.0.0.1:9/api", "no host answers at"),
    ],
)
def test_mistakes_are_said(shell: Kernel, line: str, says: str) -> None:
    declared(shell)

    cell = shell.run(f"%compose {line}")

    assert cell.error is not None
    assert says in "\n".join(cell.error["traceback"])


def test_addresses_and_ports_are_checked(shell: Kernel) -> None:
    declared(shell, DECLARE)
    for line, says in (
        ("serve host=0.0.0.0", "needs a token"),
        ("serve port=eighty", "'eighty' is no port"),
        ("serve port:=70000", "'70000' is no port"),
    ):
        cell = shell.run(f"%compose {line}")
        assert cell.error is not None
        assert says in "\n".join(cell.error["traceback"])
    secret = shell.run("%compose serve host=0.0.0.0 token:='s3'+'cret' port:=0")
    assert secret.stdout.startswith("serving story at http://127.0.0.1:")
    assert "s3cret" not in secret.stdout
    assert run(url_of(secret), input={"prompt": "x"}).status_code == 401


def test_another_notebook_uses_the_model_that_is_there(tmp_path: Path, shell: Kernel) -> None:
    declared(shell, DECLARE)
    url = url_of(shell.run("%compose serve port:=0"))
    expected = shell.value("story(prompt='A fox')")
    with kernel(tmp_path) as other:
        declared(other, DECLARE, OTHER)

        assert other.value("story(prompt='A fox')") == expected
        assert other.value("'torch' in __import__('sys').modules") == "False"
        assert other.value("''.join(story.stream(prompt='A fox'))") in expected
        assert other.value("[r['generated'] for r in story.map(['A fox'], progress=False)][0]") in (
            expected
        )
        assert url in other.run("%compose models").text
        assert "storyteller" in other.run("%compose models").text
        id = other.value("story.last_run.id").strip("'")
        assert id in other.run("%compose runs").text
        again = other.run(f"%compose rerun {id}")
        assert "the same text" in again.stdout
        # Another document runs here, until all goes there.
        assert url not in other.value("repr(other.host)")
        assert other.run("%compose connect").stdout == f"workflows run on {url} now\n"
        assert url in other.value("repr(other.host)")
        other.run("other(prompt='A fox')")
        assert other.value("'torch' in __import__('sys').modules") == "False"
        other.run("%compose connect off")
        assert url not in other.value("repr(other.host)")
        other.run("%compose unload")
        assert "storyteller" in other.run("%compose models").text  # others use it
        unloaded = other.run("%compose unload storyteller").stdout
        assert unloaded == f"unloaded storyteller at {url} (a notebook)\n"
    assert shell.value("modelcompose_jupyter.local_host().models()") == "[]"


def test_an_interrupt_stops_the_run_over_there(tmp_path: Path, shell: Kernel) -> None:
    declared(shell, LONG)
    shell.run("%compose serve port:=0")
    with kernel(tmp_path) as other:
        declared(other, LONG)
        interrupted = []

        def interrupt(cell: Cell) -> None:
            if "Once" in cell.stdout and not interrupted:
                interrupted.append(True)
                other.interrupt()

        cell = other.run("for piece in long.stream(prompt='Once'): print(piece, flush=True)",
                         watch=interrupt)  # fmt: skip

        assert cell.error is not None
        assert cell.error["ename"] == "KeyboardInterrupt"
        assert other.value("str(long.last_run.state)") == "'cancelled'"
    shell.run("run = modelcompose_jupyter.local_host().runs()[0]; run.wait(60)")
    assert shell.value("str(run.state)") == "'cancelled'"


def test_a_kernel_that_dies_frees_its_runs(tmp_path: Path, shell: Kernel) -> None:
    declared(shell, LONG)
    shell.run("%compose serve port:=0")
    with kernel(tmp_path) as other:
        declared(other, LONG)
        other.run("run = long.submit(prompt='Once')\nnext(run.stream())")
        other._manager.shutdown_kernel(now=True)
        shell.run("run = modelcompose_jupyter.local_host().runs()[0]; run.wait(60)")
    assert shell.value("str(run.state)") == "'cancelled'"


def test_when_the_serving_notebook_restarts_the_next_call_runs_here(
    tmp_path: Path, shell: Kernel
) -> None:
    with kernel(tmp_path) as other:
        declared(other, DECLARE)
        url = url_of(other.run("%compose serve port:=0"))
        declared(shell, DECLARE)
        assert url in shell.value("repr(story.host)")
        other.run("%compose serve off")

        assert "A fox" in shell.value("story(prompt='A fox')")
        assert url not in shell.value("repr(story.host)")
