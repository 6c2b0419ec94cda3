"""A document in its one normal form, whatever form it was written in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import InputError, Problem, Where, did_you_mean, listed, shortened
from .files import path_beside
from .reader import KeyPath, Source
from .templates import ListTemplate, Template
from .tool_definitions import Definition


@dataclass(frozen=True)
class Action:
    """One call of a component's model.

    ``text`` is the prompt's template, or a list of them; where ``is_chat`` that of a chat's
    messages, where ``takes_tokens`` that of prompts as lists of tokens. ``parameters`` maps the
    names of generation parameters to templates; ``output`` is None where the text itself is the
    output. With ``gives_text`` it is the text as it came, whatever its format, though it was cut,
    in a call of a tool, too.
    """

    id: str
    path: KeyPath
    text: Template
    parameters: dict[str, Template]
    output: Template | None = None
    is_chat: bool = False
    takes_tokens: bool = False
    gives_text: bool = False
    default: bool = False

    @property
    def named_tools(self) -> dict[str, KeyPath]:
        """The Python functions that it names as tools, with the place of each; those that only a
        run's input names are not among them."""
        template = self.parameters.get("tools")
        if template is None or not isinstance(template.value, list):
            return {}
        several = enumerate(template.value)
        return {each: (*template.path, n) for n, each in several if isinstance(each, str)}


@dataclass(frozen=True)
class Component:
    """A model, and the actions that call it.

    ``model`` maps the model's settings to templates. ``chat_template`` is Jinja in place of the
    model's own, or None.
    """

    id: str
    path: KeyPath
    model: dict[str, Template] = field(repr=False)  # which has the Hub's tokens
    actions: tuple[Action, ...]
    default: bool = False
    max_concurrent_count: int = 0
    chat_template: str | None = field(default=None, repr=False)

    @property
    def tokens(self) -> list[Any]:
        """Its Hub tokens as they are written, those of its adapters too."""
        found: list[Any] = []
        rest: list[Any] = [self._written]
        while rest:
            each = rest.pop()
            if isinstance(each, Mapping):
                found += [each["token"]] if "token" in each else []
                rest += each.values()
            elif isinstance(each, list):
                rest += each
        return found

    @property
    def _written(self) -> dict[str, Any]:
        return {key: template.value for key, template in self.model.items()}

    @property
    def sources(self) -> list[str]:
        """Where its model, its draft model and its adapters come from, as they are written."""
        written = self._written
        sources = [written["source"], written.get("draft_model", "")]
        for adapter in written.get("peft_adapters", ()):
            model = adapter["model"]
            # A path in the long form need not begin with a dot.
            sources += [f"./{model.get('path')}"] if isinstance(model, Mapping) else [model]
        return [str(each) for each in sources]


@dataclass(frozen=True)
class Job:
    """One step of a workflow; ``input`` is None where the whole input goes through."""

    id: str
    path: KeyPath
    component: Component
    action: Action
    input: Template | None = None
    output: Template | None = None
    repeat_count: Template | None = None
    depends_on: tuple[str, ...] = ()


def gives_several(job: Job) -> bool:
    """Whether a job gives a list, of which each is what the model gave once."""
    sequences = job.action.parameters.get("num_return_sequences")
    return (
        job.repeat_count is not None
        or (isinstance(job.action.text, ListTemplate) and not job.action.is_chat)
        or (sequences is not None and sequences.value != 1)
    )


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
        """The jobs that no other job waits for: their outputs are the workflow's."""
        awaited = {name for job in self.jobs for name in job.depends_on}
        return tuple(job for job in self.jobs if job.id not in awaited)

    @property
    def sets_seed(self) -> bool:
        """Whether the document says what the seeds are, so that a run's own changes nothing."""
        return all("seed" in job.action.parameters for job in self.jobs)


@dataclass(frozen=True)
class Controller:
    """Where the workflows are served, if they are."""

    host: str = "127.0.0.1"
    port: int = 8080
    base_path: str = "/api"
    origins: tuple[str, ...] = ()
    webui_host: str = "127.0.0.1"
    webui_port: int = 8081


@dataclass(frozen=True)
class Document:
    """A checked document.

    ``environment`` holds the environment variables that it names, and ``files`` the texts of the
    files beside it that it names, as they were when it was read.
    ``warnings`` say which of its keys change nothing, and why. ``tools`` describes the Python
    functions that it names, as far as somebody has given them; the functions are not part of it.
    """

    source: Source = field(repr=False)
    components: tuple[Component, ...]
    workflows: tuple[Workflow, ...]
    controller: Controller = field(default_factory=Controller)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    warnings: tuple[Problem, ...] = ()
    name: str | None = None
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    tools: Mapping[str, Definition] = field(default_factory=dict, repr=False)

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
        it uses, its folder where a model may be beside it, and what its functions are."""
        sources = [source for component in self.components for source in component.sources]
        beside = any(each.startswith((".", "$")) for each in sources)
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

    @property
    def named_tools(self) -> dict[str, KeyPath]:
        """The Python functions that it names as tools, each with one of its places."""
        actions = [action for each in self.components for action in each.actions]
        actions += [job.action for each in self.workflows for job in each.jobs]
        return {name: path for each in actions for name, path in each.named_tools.items()}

    def check_tools(self, workflow: Workflow, near: Iterable[str] = ()) -> None:
        """Raise InputError, with its place, for a function that a workflow names and nobody has
        given; ``near`` are names of functions that there are."""
        for job in workflow.jobs:
            for name, path in job.action.named_tools.items():
                if name not in self.tools:
                    raise self.missing_tool(name, path, near)

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
