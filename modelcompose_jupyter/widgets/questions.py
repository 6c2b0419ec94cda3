"""What a run asks, in a panel: as plain data that ``questions.js`` draws, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ..asking import job_name
from ..errors import InputError
from ..progress import as_text
from ..workflow import Run
from .outputs import markdown


def questions_of(run: Run, shown: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """The open questions of a run.

    Each has its ``id``, ``job``, ``message`` (markdown) and that as ``html``, ``metadata`` as rows
    of a key and a text, the ``text`` of the value in question and whether that is ``json``,
    ``choices`` as texts, and ``until``, in milliseconds since the epoch.

    Args:
        shown: makes of a question's words what those may see who look at the panel.
    """
    return [_question(each, shown) for each in run.questions]


def _question(question: Mapping[str, Any], shown: Callable[[Any], Any]) -> dict[str, Any]:
    message = shown(question["message"] or "")
    metadata: Mapping[str, Any] = shown(question["metadata"] or {})
    value = question["value"]
    return {
        "id": question["id"],
        "job": job_name(question),
        "message": message,
        "html": markdown(message) if message else "",
        "metadata": [[str(key), as_text(each)] for key, each in metadata.items()],
        "text": "" if value is None else as_text(value),
        "json": not isinstance(value, str | None),
        "choices": [as_text(each) for each in question["choices"] or ()],
        "until": 1000 * question["until"],
    }


def answer(run: Run, message: Mapping[str, Any]) -> None:
    """Answer as the browser says it: by the place of a ``choice``, by a ``text``, or by neither,
    which goes on as it is. Where somebody else was faster, their answer counts.

    Raises:
        ComposeError: that is no answer, or it cannot be given.
    """
    id = str(message["question"])
    question = next((each for each in run.questions if each["id"] == id), None)
    if question is None:
        return
    try:
        run.answer(_value(question, message), id)
    except InputError as error:
        if error.code not in ("already_answered", "no_question"):
            raise


def _value(question: Mapping[str, Any], message: Mapping[str, Any]) -> Any:
    match message:
        case {"choice": int(place)} if 0 <= place < len(question["choices"] or ()):
            return question["choices"][place]
        case {"text": str(text)} if isinstance(question["value"], str | None):
            return text
        case {"text": str(text)}:
            try:
                return json.loads(text)
            except (ValueError, RecursionError) as error:
                raise InputError(f"the answer is no JSON: {error}") from None
    return None
