"""The public names are typed: a user's script is checked against them as its author would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import modelcompose_jupyter

pytest.importorskip("mypy")

SCRIPT = '''\
import asyncio
from typing import Any, assert_type

from modelcompose_jupyter import (
    ComposeError, Event, Grid, Host, InputError, LocalHost, OnRay, RemoteHost, Run, SaveTo, State,
    Workflow, __version__, compare, load, local_host, on_run, row_files,
)


def shout(text: str) -> str:
    """Write it in capitals."""
    return text.upper()


version: str = __version__
story = load("model-compose.yml", functions=[shout], tools={"shout": shout})
assert_type(story, Workflow)
output: Any = story(prompt="A fox")

run = story.start({"prompt": "A fox"}, seed=7, logprobs=5)
assert_type(run, Run)
assert_type(run.wait(timeout=1.5), bool)
assert_type(run.text, str)
assert_type(run.reasoning, str)
assert_type(run.state, State)
assert_type(run.state.is_final, bool)
assert_type(run.usage, dict[str, int])
assert_type(run.error, ComposeError | None)
assert_type(run.tokens[0][0].logprob, float | None)
assert_type(run.tokens[0][0].alternatives[0].token, str)
assert_type([event.type == "text" for event in run.events()], list[bool])
assert_type([event for event in run.events()], list[Event])
assert_type([piece for piece in story.stream(prompt="A fox")], list[str])
assert_type(story.extend(run, 20), Run)
assert_type(story.branch(run, 3, "fox"), Run)
assert_type(story.rerun(run), Run)
assert_type(story.run({"prompt": "A fox"}, length=20), Run)

grid = story.grid(temperature=[0, 0.7], seed=[1, 2])
assert_type(grid, Grid)
assert_type(grid[0, 1], Run | None)
assert_type(grid.at(temperature=0.7, seed=2), Run | None)
assert_type(compare(story, load({"component": {}}), {"prompt": ["A fox", "An owl"]}), Grid)

results: list[dict[str, Any]] = story.map(
    row_files("rows.parquet", {"text": "prompt"}), save_to=SaveTo("out/"), on=OnRay(workers=2)
)
for index, each in story.imap([{"prompt": "A fox"}], save_to="out.jsonl"):
    assert_type(index, int)

hosts: list[Host] = [local_host(), LocalHost(), RemoteHost("http://127.0.0.1:8080/api")]
assert_type(load("model-compose.yml", host=hosts[0]).host, Host)


@on_run
def log(run: Run) -> None:
    print(run.id, run.finish_reason)


log.stop()


async def main() -> str:
    run = await story.arun(prompt="A fox")
    return run.text + "".join([piece async for piece in story.stream(prompt="An owl")])


try:
    asyncio.run(main())
except InputError as error:
    assert_type(error.hint, str | None)
    assert_type(error.input, str | None)
'''


MISTAKES = {
    "from modelcompose_jupyter import Workflw": 'has no attribute "Workflw"',
    "story.run('', length=3).txt": '"Run" has no attribute "txt"',
    "story.start({}, sed=7)": 'Unexpected keyword argument "sed"',
    "story.extend('a run')": 'incompatible type "str"; expected "Run"',
    "SaveTo('out/', kind='csv')": "expected \"Literal['parquet', 'jsonl'] | None\"",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a strict mypy says of both, with no settings but its own."""
    folder = tmp_path_factory.mktemp("typed")
    names = "from modelcompose_jupyter import SaveTo, load\nstory = load('story.yml')\n"
    (folder / "script.py").write_text(SCRIPT, "utf-8")
    (folder / "mistakes.py").write_text(names + "\n".join(MISTAKES), "utf-8")
    command = ["--strict", "--follow-imports=silent", "--config-file=", "."]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *command],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(Path(modelcompose_jupyter.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_script_of_all_public_names_is_typed(said: str) -> None:
    errors = {"DocumentError", "ExpressionError", "ModelError", "RunCancelled"}
    assert all(name in SCRIPT for name in set(modelcompose_jupyter.__all__) - errors)
    assert "script.py" not in said, said
    assert "checked 2 source files" in said


@pytest.mark.slow
def test_mistakes_are_found(said: str) -> None:
    for number, message in enumerate(MISTAKES.values(), start=3):
        assert re.search(rf"mistakes\.py:{number}: error: .*{re.escape(message)}", said), said
