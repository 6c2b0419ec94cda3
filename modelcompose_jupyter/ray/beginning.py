"""What a request begins with, by which it finds the replica that knows the beginning."""

from __future__ import annotations

import json
from typing import Any

from ..document import Document, Workflow, render
from ..errors import ComposeError

_LONGEST = 256
"""Characters of a text; what begins with the same is best run in the same place."""


def beginning_of(document: Document, workflow: Workflow, values: Any) -> str | None:
    """What the first prompt of a run begins with: of a chat all up to what its user said first,
    which all of its turns have; None where the run asks no model."""
    calls = workflow.model_calls
    if not calls:
        return None
    action = calls[0].action
    context = {"input": values, "env": document.environment}
    try:
        prompt = render(action.text, context)
    except ComposeError:  # it speaks of jobs
        prompt = values
    source = calls[0].component.sources[0] if calls[0].component.sources else ""
    return f"{source}\n{_first(prompt)}"


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
