"""A host with scripted models, and one that answers at once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from standins.waiting import until

from modelcompose_jupyter import Host, InputError, LocalHost, Run, load
from modelcompose_jupyter.callable import Workflow
from modelcompose_jupyter.document import Document
from modelcompose_jupyter.document.to_plain import to_plain
from modelcompose_jupyter.models import MOST_SEQUENCES

BODY = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: ${input.length as integer | 4}
"""


class InstantHost:
    """A host whose runs have ended before anybody can watch them, as another process's may.

    ``answer`` gives the output for a run's input, or raises its InputError.
    """

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self.answer = answer
        self.submitted: list[Any] = []
        self._numbers = itertools.count()

    def capacity(self) -> int:
        return MOST_SEQUENCES

    def submit(
        self, document: Document, workflow: str | None = None, input: Any = None, **_: Any
    ) -> Run:
        input = to_plain(input)
        self.submitted.append(input)
        run = Run(str(workflow), input, cancel=lambda: None, id=f"run-{next(self._numbers)}")
        record = {"run": run.id, "workflow": workflow, "document": document.hash}
        try:
            run.add("result", {"output": self.answer(input)})
            state = "completed"
        except InputError as error:
            run.add("error", error.to_dict())
            state = "failed"
        usage = {"prompt": 1, "reused": 0, "generated": 1}
        run.add("state", {"state": state, "summary": {"usage": usage, "record": record}})
        return run


def instant(answer: Callable[[Any], Any], document: str = BODY) -> tuple[Workflow, InstantHost]:
    host = InstantHost(answer)
    return load(document, host=host), host  # type: ignore[arg-type]


class Gates:
    """Prompts that are answered when their gate is opened."""

    def __init__(self) -> None:
        self._limiters: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def __getitem__(self, prompt: str) -> threading.Event:
        with self._lock:
            return self._limiters.setdefault(prompt, threading.Event())

    def reply(self, prompt: str) -> list[str]:
        self[prompt].wait(30)
        return [f"<{prompt}>"]


def rows_that_raise(host: Host, error: BaseException) -> Iterator[str]:
    """A row that is held, one that has ended, and an error in place of a third."""
    yield "held"
    yield "go"
    until(lambda: [run.done for run in host.runs()] == [True, False])
    raise error


@pytest.fixture
def flow(host: LocalHost) -> Workflow:
    return load(BODY, host=host)
