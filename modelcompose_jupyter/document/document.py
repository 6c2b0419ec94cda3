"""A document in its one normal form, whatever form it was written in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import InputError, Problem, Where, did_you_mean, listed, shortened
from .components import Component, FunctionComponent, ModelComponent, WorkflowComponent
from .files import path_beside
from .functions import FunctionSignature
from .jobs import Job, ModelCall, model_calls
from .reader import KeyPath, Source
from .templates import Template
from .tool_definitions import Definition


@dataclass(frozen=True)
class Workflow:
    """Jobs, and what becomes of their outputs."""

    id: str
    path: KeyPath
    jobs: tuple[Job, ...]
    title: str | None = None
    description: str | None = None
    output: Template | None = None
    default: bool = False
    private: bool = False

    @property
    def last_jobs(self) -> tuple[Job, ...]:
        """The jobs that no other job waits for and that lead to none: their outputs are the
        workflow's."""
        awaited = {name for job in self.jobs for name in job.predecessors}
        return tuple(job for job in self.jobs if job.id not in awaited and not job.routes_to_jobs)

    @cached_property
    def model_calls(self) -> tuple[ModelCall, ...]:
        """The calls of models that its jobs make, in their order."""
        return tuple(model_calls(self.jobs))

    @property
    def only_call(self) -> ModelCall | None:
        """The call of a model that is all that the workflow does; None where it does more."""
        call = self.last_call
        is_all = len(self.jobs) == 1 and call is not None and not call.is_inner
        return call if is_all else None

    @property
    def last_call(self) -> ModelCall | None:
        """The call of a model that the first of the last jobs makes, if it makes one."""
        return next(model_calls(self.last_jobs[:1]), None)


@dataclass(frozen=True)
class RayRuntime:
    """Replicas in a cluster that Ray keeps, in place of one host.

    Attributes:
        address: of the cluster, ``auto`` for the one that this machine belongs to; None starts one
            here.
        min_replicas: how many there are at least; one for each GPU or node if None.
        max_replicas: how many there may be; as many as there are at least if None.
        resources: what each needs: ``cpu``, ``gpu``, ``memory`` in bytes, and the cluster's own.
    """

    address: str | None = None
    min_replicas: int | None = None
    max_replicas: int | None = None
    resources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Controller:
    """Where the workflows are served, if they are; ``ray`` is None where they run in the process
    that serves them."""

    host: str = "127.0.0.1"
    port: int = 8080
    base_path: str = "/api"
    origins: tuple[str, ...] = ()
    webui_host: str = "127.0.0.1"
    webui_port: int = 8081
    ray: RayRuntime | None = None


@dataclass(frozen=True)
class Document:
    """A checked document.

    ``environment`` holds the environment variables that it names, and ``files`` the texts of the
    files beside it that it names, as they were when it was read; ``included`` the workflows of the
    documents among these, by where they are named. ``warnings`` say which of its keys change
    nothing, and why. ``tools`` and ``functions`` describe the Python functions that it names as
    tools and as steps, as far as somebody has given them; the functions are not part of it.
    """

    source: Source = field(repr=False)
    components: tuple[Component, ...]
    workflows: tuple[Workflow, ...]
    included: Mapping[KeyPath, tuple[Workflow, ...]] = field(default_factory=dict, repr=False)
    controller: Controller = field(default_factory=Controller)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    warnings: tuple[Problem, ...] = ()
    name: str | None = None
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    tools: Mapping[str, Definition] = field(default_factory=dict, repr=False)
    functions: Mapping[str, FunctionSignature] = field(default_factory=dict, repr=False)

    @cached_property
    def hash(self) -> str:
        """A digest of what the document says, whatever its layout and comments, and of the files
        that it names."""
        included = {each.file for each in self.source.included.values()}  # which the data has
        others = {name: text for name, text in self.files.items() if name not in included}
        said = [self.source.data, others] if others else self.source.data
        return digest(json.dumps(said, sort_keys=True, ensure_ascii=False, default=str))

    @cached_property
    def key(self) -> str:
        """A digest of all that decides what it runs: what it says, the environment variables that
        it uses, its folder where a model or a module of functions may be beside it, and what its
        tools are."""
        sources = [source for each in self.callable_components for source in each.sources]
        beside = any(each.startswith((".", "$")) for each in sources)
        beside = beside or any(":" in name for name in self.named_functions)
        parts: list[Any] = [self.hash, dict(self.environment)]
        parts += [str(self.source.folder) if beside else None]
        parts += [dict(self.tools)] if self.tools else []
        return digest(json.dumps(parts, sort_keys=True, ensure_ascii=False))

    @property
    def file_paths(self) -> list[Path]:
        """Where the files are that it names."""
        return [path_beside(self.source, name) for name in self.files]

    @property
    def default_workflow(self) -> Workflow:
        """The only workflow, or the one that is marked ``default``."""
        chosen: Workflow | None = choose_default(self.workflows)
        if chosen is None:
            names = listed(workflow.id for workflow in self.workflows)
            raise InputError(
                "the document has several workflows and none is the default",
                hint=f"Name one of {names}, or write 'default: true' in one.",
            )
        return chosen

    def workflow(self, name: str | None = None) -> Workflow:
        """A workflow by id; None and ``__default__`` are the default one."""
        if name in (None, "__default__"):
            return self.default_workflow
        names = [workflow.id for workflow in self.workflows]
        if name in names:
            return self.workflows[names.index(name)]
        raise InputError(
            f"there is no workflow '{shortened(str(name))}'",
            hint=did_you_mean(str(name), names) or f"The document has {listed(names)}.",
            code="unknown_workflow",
        )

    def called(self, component: WorkflowComponent) -> Workflow:
        """The workflow that a component calls: of its file, else of the document that it is in."""
        path, workflows = component.path, self.workflows
        if component.is_of_file:
            workflows = self.included[*path, "file"]
        else:
            around = [at for at in self.included if at == path[: len(at)]]
            workflows = self.included[max(around, key=len)] if around else workflows
        if component.workflow is None:
            found: Workflow = choose_default(workflows)
            return found
        return next(each for each in workflows if each.id == component.workflow)

    def model_calls(self, workflow: Workflow) -> Iterator[ModelCall]:
        """The calls of models in a workflow, and in those that it calls, in their order."""
        for job in workflow.jobs:
            yield from model_calls((job,))
            component = None if job.call is None else job.call.component
            if isinstance(component, WorkflowComponent):
                yield from self.model_calls(self.called(component))

    def sets_seed(self, workflow: Workflow) -> bool:
        """Whether it says what the seeds are, so that a run's own changes nothing."""
        return all("seed" in each.action.parameters for each in self.model_calls(workflow))

    @property
    def all_workflows(self) -> tuple[Workflow, ...]:
        """Its workflows, and those of the documents that it names."""
        return (*self.workflows, *(each for several in self.included.values() for each in several))

    @property
    def callable_components(self) -> tuple[Component, ...]:
        """Its components, and those that stand in jobs or in the documents that it names."""
        calls = (job.call for each in self.all_workflows for job in each.jobs)
        return (*self.components, *(each.component for each in calls if each is not None))

    @property
    def named_tools(self) -> dict[str, KeyPath]:
        """The Python functions that it names as tools, each with one of its places."""
        models = [each for each in self.components if isinstance(each, ModelComponent)]
        actions = [action for each in models for action in each.actions]
        actions += [call.action for each in self.all_workflows for call in each.model_calls]
        return {name: path for each in actions for name, path in each.named_tools.items()}

    @cached_property
    def named_functions(self) -> dict[str, KeyPath]:
        """The Python functions that it names as steps, each with one of its places."""
        functions = [
            each for each in self.callable_components if isinstance(each, FunctionComponent)
        ]
        return {each.function: (*each.path, "function") for each in functions}

    def missing_tool(self, name: str, path: KeyPath, near: Iterable[str] = ()) -> InputError:
        """The error for a name of `tools` that stands for nothing."""
        return InputError(
            f"the tool '{shortened(name)}' is a Python function, and it is not here",
            hint=did_you_mean(name, near)
            or "Define it in a cell above, or give it: load(…, tools=[…]); in a terminal there are"
            " none. Where no function is to be called, write the tool's description in its place:"
            " type and function.",
            where=self.where(path, within=name),
            code="unknown_tool",
        )

    def where(self, path: KeyPath, *, key: bool = False, within: str | None = None) -> Where:
        """The place of a value or its key, for an error that comes up when it is rendered."""
        return self.source.where(path, key=key, within=within)


def digest(text: str) -> str:
    """What tells whether another text is the same."""
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def choose_default(candidates: Any) -> Any:
    """The only one, else the first that is marked default, else None."""
    if len(candidates) == 1:
        return candidates[0]
    return next((each for each in candidates if each.default), None)
