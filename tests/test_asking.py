"""What a run asks those who wait for it: in words, in a terminal, or not where nobody is there."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from standins.terminal import COMMAND, Terminal

from modelcompose_jupyter import ComposeError, InputError, LocalHost, Run, load
from modelcompose_jupyter.asking import Prompter, answer_of, go_on, in_words, refuse
from modelcompose_jupyter.callable import Workflow
from modelcompose_jupyter.run_follower import follow

COMPONENT = """
component:
  type: model
  task: text-generation
  model: scripted
  text: ${input.prompt as text}
"""
REVIEW = """
workflow:
  jobs:
    - id: write
      input: {prompt: "${input.prompt as text}"}
      interrupt: {after: {message: "Good enough?", metadata: {by: model, tries: 1}}}
"""
SECONDS = 20


def review(host: LocalHost, workflow: str = REVIEW) -> Workflow:
    return load(COMPONENT + workflow, host=host)


class Person:
    """Reads what is written, and enters lines."""

    def __init__(self, *lines: str) -> None:
        self.said: list[str] = []
        self._lines = iter(lines)

    def read(self, prompt: str) -> str:
        self.said.append(prompt)
        try:
            return next(self._lines)
        except StopIteration:
            raise EOFError from None

    @property
    def prompter(self) -> Prompter:
        return Prompter(self.said.append, self.read)


@pytest.mark.parametrize(("entered", "output"), [("", "<a>"), (" better ", "better")])
def test_a_person_answers_and_it_goes_on(host: LocalHost, entered: str, output: str) -> None:
    run, person = review(host).submit(prompt="a"), Person(entered)
    follow(run, ask=person.prompter)
    assert run.output == output
    assert person.said == [
        "\nwrite: Good enough?\n  by: model\n  tries: 1\n\n  │ <a>\n\n",
        "Answer (Enter goes on as it is): ",
    ]


def test_no_line_at_all_stops_the_run(host: LocalHost) -> None:
    run = review(host).submit(prompt="a")
    with pytest.raises(KeyboardInterrupt):
        follow(run, ask=Person().prompter)
    assert run.state == "cancelled"


def test_what_is_no_answer_is_asked_again(host: LocalHost) -> None:
    run = review(host, REVIEW.replace("message:", "choices: [good, bad], message:")).submit(
        prompt="a"
    )
    person = Person("3", "so so", "2")
    follow(run, ask=person.prompter)
    assert run.output == "bad"
    assert "  1. good\n  2. bad" in person.said[0]
    assert person.said.count("Enter a number from 1 to 2.") == 2


QUESTION: dict[str, Any] = {
    "id": "a.after",
    "job": "a",
    "place": [2],
    "phase": "after",
    "message": None,
    "metadata": None,
    "value": None,
    "choices": None,
}


@pytest.mark.parametrize(
    ("more", "entered", "answer"),
    [
        ({"value": "text"}, "1", "1"),
        ({}, "1", "1"),
        ({"value": [1]}, "[2, 3]", [2, 3]),
        ({"value": 3}, '"text"', "text"),
        ({"choices": ["x", "y"]}, "2", "y"),
        ({"choices": ["x", "y"]}, "x", "x"),
        ({"choices": [20, 10]}, "2", 10),
        ({"choices": [20, 10]}, "20", 20),
    ],
)
def test_answers_are_read_as_what_is_in_question(more: Any, entered: str, answer: Any) -> None:
    assert answer_of({**QUESTION, **more}, entered) == answer


def test_what_is_no_json_is_no_answer_to_data() -> None:
    with pytest.raises(InputError, match="This is no JSON"):
        answer_of({**QUESTION, "value": [1]}, "[2")


def test_a_question_without_words_says_where_it_is_asked() -> None:
    assert in_words(QUESTION) == "a[2]: Go on with this?"
    assert in_words({**QUESTION, "job": "__job__", "place": []}) == "Go on with this?"
    shown = in_words({**QUESTION, "value": "x" * 5000})
    assert len(shown) < 2100


def test_somebody_else_may_be_faster(host: LocalHost) -> None:
    run = review(host).submit(prompt="a")

    def read(prompt: str) -> str:
        run.answer("first")
        return "second"

    follow(run, ask=Prompter(lambda text: None, read))
    assert run.output == "first"


def test_where_nobody_is_the_run_stops_and_says_what_to_do(host: LocalHost) -> None:
    flow = review(host)
    waits: list[Callable[[], Any]] = [
        lambda: flow(prompt="a"),
        lambda: flow.run(prompt="a"),
        lambda: list(flow.stream(prompt="a")),
    ]
    for wait in waits:
        with pytest.raises(ComposeError, match="Good enough") as caught:
            wait()
        assert caught.value.code == "needs_answer"
        assert flow.last_run is not None
        assert flow.last_run.wait(SECONDS)
        assert flow.last_run.state == "cancelled"
    run = flow.submit(prompt="a")
    with pytest.raises(ComposeError, match=r"run\.answer"):
        follow(run, ask=refuse)


def test_a_stream_asks_behind_its_text(host: LocalHost, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = review(host)
    monkeypatch.setattr("modelcompose_jupyter.cell_output.asker", lambda: go_on)
    assert "".join(flow.stream(prompt="a")) == "<a>"
    assert flow.last_run is not None
    assert flow.last_run.asked[0]["state"] == "answered"


def test_coroutines_are_told_and_answered_by_others(
    host: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, said = review(host), io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)

    async def both() -> Run:
        waiting = asyncio.ensure_future(flow.arun(prompt="a"))
        while "waits for an answer: write: Good enough?" not in said.getvalue():
            await asyncio.sleep(0)
        assert flow.last_run is not None
        flow.last_run.answer("better")
        return await waiting

    assert asyncio.run(both()).output == "better"


INNER = """
workflows:
  - id: outer
    default: true
    jobs: [{id: call, component: {type: workflow, workflow: inner}}]
  - id: inner
    jobs:
      - id: each
        type: for-each
        input: ${input.lines as list}
        do: {interrupt: {before: true}}
"""


@pytest.mark.parametrize("workflow", [REVIEW, INNER])
def test_what_runs_many_times_asks_nobody(host: LocalHost, workflow: str) -> None:
    flow = review(host, workflow)
    for many in (flow.map, flow.imap, lambda rows: flow.grid(prompt=rows)):
        with pytest.raises(InputError, match="nobody is asked") as caught:
            many(["a", "b"])
        assert caught.value.code == "needs_answer"
        assert caught.value.where is not None


# A terminal


STORY = (COMPONENT + REVIEW).replace("model: scripted", "model: bundled:storyteller")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    (tmp_path / "model-compose.yml").write_text(STORY + "\n", "utf-8")
    with contextlib.closing(Terminal(tmp_path)) as terminal:
        yield terminal


def test_a_command_without_a_terminal_ends_with_an_error(terminal: Terminal) -> None:
    done = terminal.call("run", "-i", "prompt=Once")
    assert done.exit_code == 1
    assert "nobody can be asked here: write: Good enough?" in done.stderr
    assert "--auto-resume" in done.stderr
    assert done.stdout == ""


def test_auto_resume_goes_on_with_all_that_is_asked(terminal: Terminal) -> None:
    done = terminal.call("run", "-i", "prompt=Once", "--auto-resume")
    assert done.exit_code == 0
    assert done.stdout.strip()


def talk(folder: Path, entered: str) -> tuple[str, str, int]:
    """What a command writes to a terminal when a line is entered there, its output, its status."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "run", "-i", "prompt=Once"],
        cwd=folder, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen = ""
    try:
        while "as it is): " not in seen:
            seen += os.read(ours, 4096).decode()
        os.write(ours, entered.encode())
        output = process.communicate(timeout=60)[0].decode()
    finally:
        process.kill()
        os.close(ours)
    return seen, output, process.returncode


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_a_terminal_asks_and_its_line_is_the_answer(terminal: Terminal) -> None:
    seen, output, status = talk(terminal.folder, "My own end.\n")
    assert "write: Good enough?" in seen
    assert (output, status) == ("My own end.\n", 0)
