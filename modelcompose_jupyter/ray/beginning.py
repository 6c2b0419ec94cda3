"""What a request begins with, by which it finds the replica that knows the beginning."""

from __future__ import annotations

import json
from typing import Any

from ..document import Document, Template, Workflow, render
from ..errors import ComposeError

_LONGEST = 256
"""Characters of a text; what begins with the same is best run in the same place."""


def beginning_of(document: Document, workflow: Workflow, values: Any) -> str | None:
    """What the first prompt of a run begins with: of a chat all up to what its user said first,
    which all of its turns have; None where the run asks no model."""
    call = next(iter(workflow.model_calls), None)
    if call is None:
        return None
    job = next(each for each in workflow.jobs if each.id == call.job)
    try:
        prompt = _rendered(document, call.action.text, _rendered(document, job.input, values))
    except ComposeError:  # it speaks of what other jobs give
        prompt = values
    return f"{' '.join(call.component.sources)}\n{_first(prompt)}"


def _rendered(document: Document, template: Template | None, input: Any) -> Any:
    """A template's value; the input itself where there is none."""
    if template is None:
        return input
    return render(template, {"input": input, "env": document.environment, "index": 0})


def _first(prompt: Any) -> str:
    if isinstance(prompt, list) and prompt and all(isinstance(e, dict) for e in prompt):
        roles = [message.get("role") for message in prompt]
        end = roles.index("user") + 1 if "user" in roles else len(prompt)
        return _text(prompt[:end])
    if isinstance(prompt, list) and prompt:
        prompt = prompt[0]
    return _text(prompt)[:_LONGEST]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
