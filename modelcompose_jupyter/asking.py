"""What a run asks, while somebody waits for it in the foreground: put to them in words, or not.

An `Ask` is called while questions of a run are open, again and again until none is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from .errors import ComposeError, InputError
from .progress import as_text
from .workflow import Run

Ask = Callable[[Run], None]

_SHOWN = 2000
"""Characters of a value that is shown beside a question."""


def go_on(run: Run) -> None:
    """Have all that is asked go on as it is."""
    for question in run.questions:
        _answer(run, question, None)


def refuse(run: Run) -> None:
    """Raise ComposeError (``needs_answer``): nobody is there to be asked."""
    questions = run.questions
    if questions:
        raise ComposeError(
            f"the run waits for an answer, and nobody can be asked here: {_heading(questions[0])}",
            hint="Start it by workflow.submit(…), and answer by run.answer(…); in a terminal"
            " 'model-compose run' asks, or goes on with --auto-resume.",
            code="needs_answer",
        )


class Prompter:
    """Asks in words, one question after the other; an empty answer goes on as it is.

    Args:
        write: takes lines of text.
        read: gives the line that is entered after a prompt, as `input` does.
    """

    def __init__(self, write: Callable[[str], object], read: Callable[[str], str]) -> None:
        self._write = write
        self._read = read

    def __call__(self, run: Run) -> None:
        for question in run.questions:
            self._write(f"\n{in_words(question)}\n")
            while not self._asked(run, question):
                pass

    def _asked(self, run: Run, question: Mapping[str, Any]) -> bool:
        """Whether it needs not be asked again."""
        choices = question["choices"]
        prompt = "Number of the answer" if choices else "Answer"
        try:
            entered = self._read(f"{prompt} (Enter goes on as it is): ").strip()
        except EOFError:  # Ctrl-D: there will be no answer
            raise KeyboardInterrupt from None
        try:
            value = None if not entered else answer_of(question, entered)
        except InputError as error:
            self._write(str(error))
            return False
        _answer(run, question, value)
        return True


def announce(run: Run) -> Callable[[], None]:
    """Say on standard error what is asked, where the call that waits cannot ask; returns how to
    stop."""
    told: set[str] = set()

    def look() -> None:
        for question in run.questions if run.has_asked else ():
            if question["id"] not in told:
                told.add(question["id"])
                sys.stderr.write(
                    f"run {run.id} waits for an answer: {_heading(question)}\n"
                    "  Answer by workflow.last_run.answer(…).\n"
                )

    leave = run.watch(look)
    look()
    return leave


def in_words(question: Mapping[str, Any]) -> str:
    """A question with what is to be known beside it, in lines."""
    lines = [_heading(question)]
    lines += [f"  {key}: {as_text(value)}" for key, value in (question["metadata"] or {}).items()]
    if question["value"] is not None:
        text = as_text(question["value"])
        text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        lines += ["", *(f"  │ {line}" for line in text.splitlines()), ""]
    choices = question["choices"] or ()
    lines += [f"  {number}. {as_text(each)}" for number, each in enumerate(choices, start=1)]
    return "\n".join(lines)


def answer_of(question: Mapping[str, Any], entered: str) -> Any:
    """What was entered as an answer: of choices one, by its number or itself; a text where the
    value in question is one, else JSON.

    Raises:
        InputError: it is neither.
    """
    choices = question["choices"]
    if choices:
        if entered.isdecimal() and 0 < int(entered) <= len(choices):
            return choices[int(entered) - 1]
        found = next((each for each in choices if as_text(each) == entered), None)
        if found is None:
            raise InputError(f"Enter a number from 1 to {len(choices)}.", code="not_a_choice")
        return found
    if isinstance(question["value"], str | None):
        return entered
    try:
        return json.loads(entered)
    except (ValueError, RecursionError) as error:
        raise InputError(f"This is no JSON: {error}", hint="A text stands in quotes.") from None


def job_name(question: Mapping[str, Any]) -> str:
    """The job that asks, and which element or round of it; empty where it has no name."""
    place = "".join(f"[{index}]" for index in question["place"])
    return "" if question["job"].startswith("__") else question["job"] + place


def _heading(question: Mapping[str, Any]) -> str:
    asked = question["message"] or "Go on with this?"
    return ": ".join(filter(None, [job_name(question), asked]))


def _answer(run: Run, question: Mapping[str, Any], value: Any) -> None:
    try:
        run.answer(value, question["id"])
    except InputError as error:  # somebody else was faster, or its time is over
        if error.code not in ("already_answered", "no_question"):
            raise
