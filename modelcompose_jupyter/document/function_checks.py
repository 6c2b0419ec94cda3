"""Whether the Python functions that a workflow names are there, and are given what they take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..errors import DocumentError, InputError, Problem, did_you_mean, listed, shortened
from .components import FunctionComponent, WorkflowComponent
from .document import Document, Workflow
from .jobs import Call, Job
from .reader import KeyPath
from .templates import OPERATORS, MappingTemplate


def calls_of(document: Document, workflow: Workflow) -> Iterator[tuple[Job, Call]]:
    """The jobs that call something in a run of a workflow, each with its call: its own, those
    within them, and those of the workflows that these call."""
    rest, seen = [workflow], {workflow.path}
    while rest:
        for job in rest.pop(0).jobs:
            each = job.innermost
            if not isinstance(each.work, Call):
                continue
            yield each, each.work
            component = each.work.component
            if isinstance(component, WorkflowComponent):
                called = document.called(component)
                rest += [called] if called.path not in seen else []
                seen.add(called.path)


def functions_of(document: Document, workflow: Workflow) -> dict[str, KeyPath]:
    """The functions that are steps in a run of a workflow, each with one of its places."""
    components = (call.component for _, call in calls_of(document, workflow))
    functions = (each for each in components if isinstance(each, FunctionComponent))
    return {each.function: (*each.path, "function") for each in functions}


def check_functions(document: Document, workflow: Workflow, near: Iterable[str] = ()) -> None:
    """Look at the functions that a workflow names as tools and steps; ``near`` are names of
    functions that there are.

    Raises:
        InputError: nobody has given one, with its place.
        DocumentError: jobs give functions other arguments than these take.
    """
    problems: list[Problem] = []
    for job, call in calls_of(document, workflow):
        for name, path in ({} if call.action is None else call.action.named_tools).items():
            if name not in document.tools:
                raise document.missing_tool(name, path, near)
        if isinstance(call.component, FunctionComponent):
            if call.component.function not in document.functions:
                raise _missing(document, call.component, near)
            problems += _misgiven(document, job, call.component)
    if problems:
        raise DocumentError(problems)


def _misgiven(document: Document, job: Job, component: FunctionComponent) -> Iterator[Problem]:
    """What is wrong with the arguments that a job has written for a function."""
    takes = document.functions[component.function]
    if not isinstance(job.input, MappingTemplate) or OPERATORS & job.input.entries.keys():
        return
    path, given = job.input.path, job.input.entries
    known = f"It takes {listed(takes.names) or 'nothing'}."
    what = f"the function '{shortened(component.function)}'"
    for name in () if takes.open else given:
        if name not in takes.names:
            hint = did_you_mean(str(name), takes.names) or known
            message = f"{what} takes no '{shortened(str(name))}'"
            yield Problem(message, document.where((*path, name), key=True), hint)
    for parameter in takes.parameters:
        if parameter.required and parameter.name not in given:
            hint = f"Add '{parameter.name}:' to the input."
            message = f"{what} needs '{parameter.name}'"
            yield Problem(message, document.where(path, key=True), hint)


def _missing(document: Document, component: FunctionComponent, near: Iterable[str]) -> InputError:
    name = component.function
    hint = "Define it in a cell above, or give it: load(…, functions=[…])."
    if ":" not in name:
        hint = f"{hint} One of a module beside the document is written module:name."
    return InputError(
        f"the function '{shortened(name)}' is not here",
        hint=did_you_mean(name, near) or hint,
        where=document.where((*component.path, "function"), within=name),
        code="unknown_function",
    )
