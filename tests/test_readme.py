"""The examples of the README and of the guide to notebooks, run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from standins.kernel import KernelIn, kernel
from standins.terminal import Terminal
from standins.waiting import until

from modelcompose_jupyter import DocumentError, load
from modelcompose_jupyter.document import load_document

ROOT = Path(__file__).parent.parent
READMES = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ko.md")]
README = READMES[0]
GUIDE, KOREAN = (
    (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("notebook.md", "ko/notebook.md")
)


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def cell_of(readme: str) -> str:
    """The cell that a README declares a workflow with."""
    return next(block for block in blocks("yaml", readme) if block.startswith("%%compose"))


@pytest.mark.parametrize(
    "cells",
    [
        *(
            ["%load_ext modelcompose_jupyter", cell_of(readme), *blocks("python", readme)]
            for readme in READMES
        ),
        *(blocks("(?:ipython|yaml|python)", guide) for guide in (GUIDE, KOREAN)),
    ],
    ids=["readme", "readme-ko", "guide", "guide-ko"],
)
def test_the_notebook_examples_run(cells: list[str], kernel_in: KernelIn) -> None:
    shell = kernel_in(ROOT)
    for code in cells:
        cell = shell.run(code)
        assert cell.status == "ok", f"{code}\n{cell.error}"


def test_the_page_on_history_runs_and_logs_to_mlflow(tmp_path: Path) -> None:
    """All of it, in a folder of its own, with a local MLflow that tells nobody."""
    page = (ROOT / "docs" / "history.md").read_text(encoding="utf-8")
    with kernel(tmp_path, MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true") as shell:
        shell.run("%load_ext modelcompose_jupyter")
        for code in blocks("(?:yaml|python)", page):
            cell = shell.run(code)
            assert cell.status == "ok", f"{code}\n{cell.error}"
        shell.run("story.run(prompt='', length=3); story.submit(prompt='A fox', length=-1).wait()")
        ended = "len(mlflow.search_runs(filter_string=\"status = 'FINISHED'\"))"
        until(lambda: shell.value(ended) == "3")
        shell.run(
            "logged = mlflow.search_runs().set_index('tags.run')\n"
            "ours = story.history.loc[logged.index]\n"
            "def text(run): return mlflow.artifacts.load_text(f'{run.artifact_uri}/text.txt')\n"
            "def record(run): return mlflow.artifacts.load_dict(f'{run.artifact_uri}/record.json')"
        )
        for same in (
            "logged['metrics.tokens'] == ours['tokens']",
            "logged['params.temperature'].astype(float)[1:] == 0.7",
            "logged['tags.document'] == story.document.hash",
            "logged['tags.model'] == ours['model'].fillna('')",
            "logged.apply(text, axis=1) == ours['text']",
            "logged.apply(record, axis=1) == ours['record']",
        ):
            assert shell.value(f"bool(({same}).all())") == "True", same
        assert shell.value("logged['tags.finish'].to_list()") == "['failed', 'length', 'length']"


def test_the_guide_has_what_it_says_of_the_same_again() -> None:
    assert "again.result() == run.result()" in blocks("python", GUIDE)[-1]


@pytest.mark.parametrize("readme", READMES, ids=["en", "ko"])
def test_the_error_example_is_what_the_mistake_gives(readme: str) -> None:
    wrong = "\n" + cell_of(readme).partition("\n")[2].replace("temperature: ", "temprature: ")
    with pytest.raises(DocumentError) as caught:
        load_document(wrong, name="cell")
    assert str(caught.value) + "\n" in blocks("text", readme)


def test_the_terminal_examples_run() -> None:
    """Each in this process, where all is imported."""
    script = next(block for block in blocks("bash") if block.startswith("cd notebooks"))
    (_, folder), *commands = [shlex.split(each, comments=True) for each in script.splitlines()]
    terminal = Terminal(ROOT / folder)
    printed = ""
    for program, *arguments in commands:
        assert program == "model-compose"
        done = terminal.call(*arguments)
        assert done.exit_code == 0, done.stderr
        printed += done.stdout
    assert "Once upon a time in a distant galaxy" in printed


@pytest.mark.parametrize("readme", READMES, ids=["en", "ko"])
def test_the_document_that_makes_a_model_fit_is_one(readme: str) -> None:
    """And runs as it stands, with a model that is here."""
    (document,) = [each for each in blocks("yaml", readme) if "quantization: int4" in each]
    assert load_document(document, environ={}).workflows
    workflow = load(document.replace("HuggingFaceTB/SmolLM3-3B", "bundled:storyteller"))
    run = workflow.submit(prompt="Once upon a time")
    run.wait()
    assert run.record["generations"][0]["model"]["precision"] == "int4"


def test_both_set_up_commands_exist() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert {"demo", "test"} <= set(targets)
    for readme in READMES:
        assert "make demo" in readme
        assert "make test" in readme
