"""What workflows that stand side by side are called: by what tells them from each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..document.types import show
from ..path_redaction import public_source, without_folders
from ..redaction import redact
from ..workflow import Runnable
from ..workflow.runnable import UNNAMED

_SOURCE = "source"
_VALUE_LENGTH = 40


def workflow_labels(workflows: Sequence[Runnable]) -> tuple[str, ...]:
    """A label for each workflow: the first that all have, and that tells them apart, of its name,
    its title, and its model with what else differs; else a number."""
    for labels in _candidates(workflows):
        if all(labels) and len(set(labels)) == len(labels):
            return tuple(labels)
    return tuple(f"workflow {number}" for number, _ in enumerate(workflows, start=1))


def _candidates(workflows: Sequence[Runnable]) -> Iterator[list[str]]:
    yield [_name(each) for each in workflows]
    yield [each.title or "" for each in workflows]
    yield _differences(workflows)


def _name(workflow: Runnable) -> str:
    """What its author called it; empty where nobody did."""
    return "" if workflow.__name__ == UNNAMED else workflow.__name__


def _differences(workflows: Sequence[Runnable]) -> list[str]:
    """The models, with the settings and parameters in which workflows differ."""
    settings = [_settings(each) for each in workflows]
    names = dict.fromkeys(name for each in settings for name in each)
    differing = [
        name
        for name in names
        if name != _SOURCE and any(each.get(name) != settings[0].get(name) for each in settings)
    ]
    return [
        " · ".join(
            [public_source(each[_SOURCE])]
            + [f"{name} {_shown(each[name])}" for name in differing if name in each]
        )
        for each in settings
    ]


def _settings(workflow: Runnable) -> dict[str, Any]:
    """What the first job's model and its generation are, as the document has it."""
    document = workflow.document
    first = next(document.model_calls(document.workflow(workflow.id)), None)
    if first is None:
        return {}
    component, action = first.component, first.action
    templates = {**component.model, **action.parameters, "text": action.text}
    written = {name: each.value for name, each in templates.items() if name != "token"}
    return {**written, _SOURCE: str(written[_SOURCE])}


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else show(value, _VALUE_LENGTH)
    return redact(without_folders(text))[:_VALUE_LENGTH]
