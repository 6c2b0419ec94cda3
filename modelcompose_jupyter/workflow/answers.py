"""Answers to the questions of a run: which question is meant, and what may be its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..document.to_plain import to_plain
from ..document.types import show
from ..errors import InputError, did_you_mean, listed, one_line, shortened

Asked = Mapping[str, Mapping[str, Any]]
"""Questions by their ids, as plain data: see `events.QuestionData`."""


def meant(run: str, asked: Asked, id: str | None) -> str:
    """The id of the open question that is meant; None means the only one.

    Raises:
        InputError: ``no_question``, ``several_questions``, ``unknown_question`` or
            ``already_answered``.
    """
    waiting = [key for key, each in asked.items() if each["state"] == "open"]
    if not isinstance(id, str | None):
        raise InputError(
            f"a question is named by its id, a text, and this is {show(id)}",
            hint="Give question['id'] of one of run.questions.",
            code="unknown_question",
        )
    if id is not None and id in asked:
        if id not in waiting:
            raise not_open(id)
        return id
    if not waiting:
        raise InputError(f"run {run} waits for no answer", code="no_question")
    if id is not None:
        raise InputError(
            f"run {run} has no question '{shortened(id)}'",
            hint=did_you_mean(id, waiting) or f"There are {listed(waiting)}.",
            code="unknown_question",
        )
    if len(waiting) > 1:
        raise InputError(
            f"run {run} has several questions: {listed(waiting)}",
            hint=f"Say which: run.answer(…, question={waiting[0]!r}).",
            code="several_questions",
        )
    return waiting[0]


def not_open(id: str) -> InputError:
    return InputError(
        f"the question '{id}' is not open any more",
        hint="It was answered, its time was over, or the run has ended.",
        code="already_answered",
    )


def plain_answer(value: Any) -> Any:
    """An answer as plain data, which a run on any host takes.

    Raises:
        InputError: JSON cannot say it.
    """
    plain = to_plain(value)
    try:
        json.dumps(plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the answer is no plain data: {one_line(error)}",
            hint="Give texts, numbers, lists and mappings.",
        ) from None
    return plain


def check_choice(question: Mapping[str, Any], value: Any) -> None:
    """Raise InputError (``not_a_choice``) for an answer that is none of a question's choices."""
    choices = question.get("choices")
    if choices is not None and value is not None and value not in choices:
        raise InputError(
            f"{show(value)} is none of the answers that there are",
            hint=f"There are {', '.join(map(show, choices))}.",
            code="not_a_choice",
        )
