"""From what was written to the one normal form, with everything that is wrong on the way.

Rules that no single key can break alone are here: forms that exclude each other, parameters given
twice, references, cycles, and expressions that use what is not there.
"""

from __future__ import annotations

import graphlib
import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from ..errors import ExpressionError, Problem, did_you_mean, listed, shortened
from ..redaction import remember, remember_variables
from . import schema
from .document import Action, Component, Controller, Document, Job, Workflow, choose_default
from .expression import Expression, Key, parse
from .fields import Strict
from .files import BesideFiles
from .parameters import GenerationParameters
from .reader import MAX_PROBLEMS, KeyPath, Source
from .references import NOTES, SOURCES, BrokenExpression, Reference, findings, references
from .render import render
from .templates import OPERATORS, MappingTemplate, Template, TextTemplate, parse_template
from .validator import Validated

KNOWN_SOURCES = (*SOURCES, "error")
_JOB_KEYS = tuple(schema.JobFields.model_fields)
_MODEL_KEYS = tuple(schema.ModelSettings.model_fields)
_FETCH_KEYS = tuple(key for key in _MODEL_KEYS if key in schema.ModelSource.model_fields)
_DEFAULT = "__default__"
_JINJA = ("{{", "{%", "{#")
"""What a chat template has; a text without is the name of a file."""
MAX_CALLED_REFERENCES = 100_000
"""How often the jobs of a document may use the expressions of what they call, all together."""
_MOST_IN_CYCLE = 10  # jobs of a cycle that are named: the first and the last
_PROMPT_KEYS = tuple(itertools.chain(*schema.PROMPT_KEYS.values()))
_MISSING_PROMPT = {
    "text-generation": ("the prompt", "Write 'text: ${input.prompt as text}', say."),
    "chat-completion": ("the conversation", "Write 'messages: ${input.messages}', say."),
}
_INSTEAD = {
    "text-generation": "Write the prompt as 'text', or 'task: chat-completion'.",
    "chat-completion": "Write 'messages': a text of the user's, or a list of 'role' and 'content'.",
}


def compile_document(
    source: Source, checked: Validated, environ: Mapping[str, str], files: BesideFiles
) -> Document:
    """The document in its normal form; the source gets what else is wrong with it."""
    assert checked.compose is not None
    return _Compiler(source, checked, environ, files).document(checked.compose)


class _Compiler:
    def __init__(
        self, source: Source, checked: Validated, environ: Mapping[str, str], files: BesideFiles
    ) -> None:
        self._source = source
        self._files = files
        self._problem = source.report
        self._spoiled = checked.spoiled
        self._environ = environ
        self._environment: dict[str, str] = {}
        self._warnings: list[Problem] = []
        self._components: tuple[Component, ...] = ()
        self._default_component: Component | None = None
        self._default_actions: dict[KeyPath, Action | None] = {}
        self._by_id: dict[tuple[str, KeyPath], dict[str, Any]] = {}
        self._lost = {path[-1] for path in self._spoiled if path}
        self._spoiled_within = {path[:-1] for path in self._spoiled if path}
        self._called: dict[KeyPath, list[Reference]] = {}
        self._called_count = 0

    def document(self, compose: schema.Compose) -> Document:
        found = self._listed(compose, "component", ())
        if not found and not self._is_spoiled((), "component", "components"):
            self._problem("'component' is missing", (), hint="It names the model and its prompt.")
        components = (self._component(model, path) for model, path in found)
        self._components = self._unique(components, "component")
        self._default_component = choose_default(self._components)
        self._remember_secrets()
        written = self._listed(compose, "workflow", ())
        workflows = [self._workflow(model, path) for model, path in written]
        if not written and found:
            workflows = [self._workflow(schema.Workflow(), ())]
        return Document(
            source=self._source,
            components=self._components,
            workflows=self._unique(workflows, "workflow"),
            controller=self._controller(compose.controller),
            environment=self._environment,
            warnings=tuple(self._warnings),
            name=compose.name,
            files=self._files.texts,
        )

    # Reporting

    def _warn(self, message: str, path: KeyPath, *, key: bool = False) -> None:
        if len(self._warnings) < MAX_PROBLEMS:
            self._warnings.append(Problem(message, self._source.where(path, key=key)))

    def _is_spoiled(self, path: KeyPath, *keys: str) -> bool:
        """Whether one of a mapping's keys was wrong, so that what it lacks is no new problem."""
        return any((*path, key) in self._spoiled for key in keys)

    def _is_known_badly(self, kind: str) -> bool:
        """Whether ids of this kind may have been lost with something that was wrong."""
        return not self._lost.isdisjoint(("id", kind, f"{kind}s"))

    def _exclude(self, path: KeyPath, first: str, second: str, hint: str) -> None:
        place = self._source.where((*path, first), key=True).line
        also = f" (line {place})" if place else ""
        message = f"'{second}' cannot stand beside '{first}'{also}"
        self._problem(message, (*path, second), key=True, hint=hint)

    # Forms

    def _listed(
        self, model: Any, one: str, path: KeyPath, flat: Iterable[str] = ()
    ) -> list[tuple[Any, KeyPath]]:
        """What a key or its plural holds, with the path of each element.

        ``flat`` are the keys of an only element, which cannot stand beside them.
        """
        many = f"{one}s"
        single, several = getattr(model, one), getattr(model, many)
        if single is not None and several is not None:
            self._exclude(path, one, many, f"Move the one under '{one}' into '{many}'.")
        form = one if single is not None else many
        for key in flat if getattr(model, form) is not None else ():
            if getattr(model, key) is not None:
                self._exclude(path, form, key, f"Move it into '{form}'.")
        if several is None:
            return [] if single is None else [(single, (*path, one))]
        raw = self._raw((*path, many))
        if not isinstance(raw, list):
            return [(several[0], (*path, many))]
        return [(element, (*path, many, index)) for index, element in enumerate(several)]

    def _raw(self, path: KeyPath) -> Any:
        data = self._source.data
        for step in path:
            data = data[step]
        return data

    def _unique(self, elements: Iterable[Any], kind: str) -> tuple[Any, ...]:
        by_id: dict[str, Any] = {}
        for element in elements:
            path = (*element.path, "id")
            if element.id == _DEFAULT:
                self._problem(f"'{_DEFAULT}' is no id: it means the default {kind}", path)
            elif element.id not in by_id:
                by_id[element.id] = element
            elif element.id.startswith("__"):
                hint = f"Give each {kind} an 'id'."
                self._problem(f"a second {kind} has no 'id'", element.path, hint=hint)
            else:
                line = self._source.where((*by_id[element.id].path, "id")).line
                first = f", first on line {line}" if line else ""
                self._problem(f"two {kind}s have the id '{element.id}'{first}", path)
        return tuple(by_id.values())

    # Components and actions

    def _component(self, written: schema.Component, path: KeyPath) -> Component:
        self._note_unused_keys(written, path)
        model = self._model(written, path)
        found = self._listed(written, "action", path, (*_PROMPT_KEYS, "output"))
        actions = [self._action(each, at, written, path) for each, at in found or [(written, path)]]
        for template in model.values():
            self._check_references(template, ("input", "env", "context"))
        return Component(
            id=written.id or "__component__",
            path=path,
            model=model,
            actions=self._unique(actions, "action"),
            default=bool(written.default),
            max_concurrent_count=written.max_concurrent_count or 0,
            chat_template=self._chat_template(written, (*path, "chat_template")),
        )

    def _chat_template(self, written: schema.Component, path: KeyPath) -> str | None:
        """A component's own chat template, which may stand in a file; None where it has none."""
        text = written.chat_template
        if text is None:
            return None
        from . import jinja_syntax  # and Jinja, which few documents need

        if written.task != "chat-completion":
            self._warn("'chat_template' has no effect: only chats have a template", path, key=True)
        if not any(mark in text for mark in _JINJA):
            if "${" in text:
                hint = "Write Jinja, or name a file such as ./chat.jinja."
                what = "a chat template is read with the document, so inputs do not decide it"
                self._problem(what, path, hint=hint)
                return None
            text = self._files.read(text, path, jinja_syntax.MOST_SOURCE) or ""
        if text and (flaw := jinja_syntax.flaw(text)) is not None:
            hint = "It is a template in Jinja, as models have it in chat_template.jinja."
            self._problem(f"the chat template cannot be read: {flaw}", path, hint=hint)
        return text or None

    def _remember_secrets(self) -> None:
        """Keep tokens, written out or of the environment, out of all messages from now on."""
        remember_variables(self._environment)
        for component in self._components:
            for written in component.tokens:
                for text in _literals(written):
                    remember(text)
                for reference in references(parse_template(written)):
                    if reference.expression.source == "env":
                        remember(self._environment.get(reference.expression.keys[0]))

    def _note_unused_keys(self, written: Strict, path: KeyPath) -> None:
        for key, reason in schema.without_effect(type(written)).items():
            if key in written.model_fields_set:
                self._warn(f"'{key}' has no effect: {reason}", (*path, key), key=True)

    def _model(self, written: schema.Component, path: KeyPath) -> dict[str, Template]:
        model: dict[str, Template] = {}
        for key in _MODEL_KEYS:
            if getattr(written, key) is not None:
                model[key] = parse_template(self._raw((*path, key)), (*path, key))
        for index, adapter in enumerate(written.peft_adapters or ()):
            at = (*path, "peft_adapters", index)
            self._note_unused_keys(adapter, at)
            self._source_of(adapter.model, (*at, "model"))
        at = (*path, "model")
        model["source"] = parse_template(self._source_of(written.model, at), at)
        if isinstance(written.model, schema.ModelSource):
            for key in _FETCH_KEYS:
                value = getattr(written.model, key)
                if value is None:
                    continue
                if key in model:
                    self._given_twice(key, model[key].path, (*at, key))
                model[key] = parse_template(value, (*at, key))
        return model

    def _source_of(self, model: schema.ModelSource | str, at: KeyPath) -> str:
        if isinstance(model, str):
            return model
        given = model.given
        if len(given) != 1 and at not in self._spoiled and at not in self._spoiled_within:
            self._problem("a model has exactly one of 'repository', 'path' and 'name'", at)
        self._check_file(model, at)
        return next(iter(given), "")

    def _check_file(self, model: schema.ModelSource, at: KeyPath) -> None:
        """Report a file that is no model in GGUF, or that nothing is said to have."""
        at = (*at, "file")
        if model.file is None:
            return
        if model.name is not None:
            self._problem("'file' is of a repository or a folder, not of a bundled model", at)
        elif "$" not in model.file and not model.file.lower().endswith(".gguf"):
            hint = "Other weights are found by themselves: leave this line out."
            self._problem("'file' names a GGUF file, which ends in .gguf", at, hint=hint)
        elif "/" not in (model.repository or "/") and "$" not in (model.repository or ""):
            hint = "Write it as the Hub shows it: repository: owner/name."
            self._problem("the repository of a GGUF file has an owner", at[:-1], hint=hint)

    def _action(
        self,
        written: schema.ActionFields,
        path: KeyPath,
        component: schema.Component,
        component_path: KeyPath,
    ) -> Action:
        levels: list[tuple[KeyPath, schema.ActionFields]] = [(component_path, component)]
        if written is not component:
            self._note_unused_keys(written, path)
            levels.append((path, written))
        parameters = self._parameters(levels)
        key = self._prompt_key(written, path, component, component_path)
        is_chat = key == "messages"
        include_prompt = parameters.get("include_prompt")
        if is_chat and include_prompt is not None and include_prompt.value is not False:
            hint = "What a chat gives is the reply alone. Leave this line out."
            at = include_prompt.path
            self._problem("a chat cannot include its prompt", at, key=True, hint=hint)
        said = getattr(written, key)
        if is_chat and said is not None:
            said = self._raw((*path, key))
        text = parse_template("" if said is None else said, (*path, key))
        self._check_references(text, ("input", "env", "context"))
        for name, template in parameters.items():
            before = self._source.found
            self._check_references(template, ("input", "env", "context"))
            if self._source.found == before and _is_of_environment(template):
                self._fixed(GenerationParameters, name, template)
        output = _optional(written.output, (*path, "output"))
        results = ("input", "env", "context", "output", "result", "response")
        self._check_references(output, results)
        in_full = written if isinstance(written, schema.Action) else schema.Action()
        return Action(
            id=in_full.id or "__action__",
            path=path,
            text=text,
            parameters=parameters,
            output=output,
            is_chat=is_chat,
            default=bool(in_full.default),
        )

    def _prompt_key(
        self,
        written: schema.ActionFields,
        path: KeyPath,
        component: schema.Component,
        component_path: KeyPath,
    ) -> str:
        """The key that holds what an action says to the model, given or missing."""
        keys = schema.PROMPT_KEYS[component.task]
        knows_task = not self._is_spoiled(component_path, "task")
        given = [key for key in _PROMPT_KEYS if getattr(written, key) is not None]
        for key in given if knows_task else ():
            if key not in keys:
                message = f"'{key}' does not go with task {component.task}"
                self._problem(message, (*path, key), key=True, hint=_INSTEAD[component.task])
        if {"text", "prompt"}.issubset(given) and "text" in keys:
            self._exclude(path, "text", "prompt", "They mean the same: keep one.")
        if not given and not self._is_spoiled(path, *_PROMPT_KEYS, "action", "actions"):
            what, hint = _MISSING_PROMPT[component.task]
            self._problem(f"'{keys[0]}' is missing: {what}", path, hint=hint)
        return next((key for key in given if key in keys or not knows_task), keys[0])

    def _parameters(self, levels: list[tuple[KeyPath, schema.ActionFields]]) -> dict[str, Template]:
        parameters: dict[str, Template] = {}
        for path, fields in levels:
            nested = {} if fields.params is None else fields.params.given()
            given = [((*path, name), value) for name, value in fields.given().items()]
            given += [((*path, "params", name), value) for name, value in nested.items()]
            for at, value in given:
                name = str(at[-1])
                if name in parameters:
                    self._given_twice(name, parameters[name].path, at)
                parameters[name] = parse_template(value, at)
        self._check_together(parameters)
        return parameters

    def _given_twice(self, name: str, first: KeyPath, second: KeyPath) -> None:
        line = self._source.where(first, key=True).line
        also = f", first on line {line}" if line else ""
        self._problem(f"'{name}' is given twice{also}", second, key=True, hint="Keep one of them.")

    def _check_together(self, parameters: dict[str, Template]) -> None:
        try:
            GenerationParameters.model_validate({k: each.value for k, each in parameters.items()})
        except ValidationError as error:
            for details in error.errors():
                message = details["msg"]
                known = any(problem.message == message for problem in self._source.problems)
                if details["type"] == "together" and not known:
                    self._problem(message, parameters[details["ctx"]["key"]].path)

    # Workflows and jobs

    def _workflow(self, written: schema.Workflow, path: KeyPath) -> Workflow:
        found = self._listed(written, "job", path, (key for key in _JOB_KEYS if key != "output"))
        output, output_path = None, (*path, "output")
        jobs = [self._job(job, at) for job, at in found or [(written, path)]]
        if found:
            output = _optional(written.output, output_path)
        elif jobs[0].action.output is None and all(getattr(written, k) is None for k in _JOB_KEYS):
            output = parse_template({"generated": "${output}"}, output_path)
        unique = self._unique(jobs, "job")
        names = {job.id: None for job in unique}
        if found:
            jobs_sources = ("input", "env", "jobs", "output", "context")
            self._check_references(output, jobs_sources, jobs=names)
        jobs_checked = tuple(self._connected(job, names) for job in unique)
        self._check_cycles(jobs_checked)
        return Workflow(
            id=written.id or "__workflow__",
            path=path,
            jobs=jobs_checked,
            title=written.title or written.name,
            description=written.description,
            output=output,
            default=bool(written.default),
            private=bool(written.private),
        )

    def _job(self, written: schema.JobFields, path: KeyPath) -> Job:
        component = self._job_component(written, path)
        return Job(
            id=(written.id if isinstance(written, schema.Job) else None) or "__job__",
            path=path,
            component=component,
            action=self._job_action(written, path, component),
            input=_optional(written.input, (*path, "input")),
            output=_optional(written.output, (*path, "output")),
            repeat_count=_optional(written.repeat_count, (*path, "repeat_count")),
            depends_on=tuple(written.depends_on or ()),
        )

    def _job_component(self, written: schema.JobFields, path: KeyPath) -> Component:
        at = (*path, "component")
        if isinstance(written.component, schema.Component):
            return self._component(written.component, at)
        if written.component in (None, _DEFAULT):
            chosen = self._default_component
            lost = self._is_spoiled(path, "component", "job", "jobs")
            if chosen is None and self._components and not lost:
                hint = f"Name one of {self._ids(self._components)}, or mark one 'default: true'."
                self._problem("the job names none of the several components", path, hint=hint)
        else:
            chosen = self._referred(written.component, self._components, "component", (), at)
        return chosen or _MISSING_COMPONENT

    def _job_action(self, written: schema.JobFields, path: KeyPath, component: Component) -> Action:
        if component is _MISSING_COMPONENT:
            return _MISSING_ACTION
        if written.action in (None, _DEFAULT):
            chosen = self._default_action(component)
            if chosen is None:
                message = f"the job names none of the actions of '{component.id}'"
                hint = f"Name one of {self._ids(component.actions)}, or mark one 'default: true'."
                self._problem(message, path, hint=hint)
        else:
            at, known = (*path, "action"), component.actions
            chosen = self._referred(written.action, known, "action", component.path, at)
        return chosen or _MISSING_ACTION

    def _default_action(self, component: Component) -> Action | None:
        if component.path not in self._default_actions:
            self._default_actions[component.path] = choose_default(component.actions)
        return self._default_actions[component.path]

    def _referred(
        self, name: str, known: Iterable[Any], kind: str, owner: KeyPath, path: KeyPath
    ) -> Any:
        """The element with an id, of those of a kind that stand at ``owner``."""
        if (kind, owner) not in self._by_id:
            self._by_id[kind, owner] = {element.id: element for element in known}
        by_id = self._by_id[kind, owner]
        if name not in by_id and not self._is_known_badly(kind):
            there = self._ids(by_id.values())
            hint = did_you_mean(name, by_id) or (
                f"There is {there}." if there else f"The {kind} has no id: leave this line out."
            )
            self._problem(f"there is no {kind} '{name}'", path, hint=hint)
        return by_id.get(name)

    @staticmethod
    def _ids(elements: Iterable[Any]) -> str:
        return listed(f"'{e.id}'" for e in elements if not e.id.startswith("__"))

    def _connected(self, job: Job, names: Mapping[str, None]) -> Job:
        """The job, waiting for those it names and for those whose output it uses."""
        others = _OtherJobs(names, job.id)
        for index, name in enumerate(job.depends_on):
            if name not in others and not self._is_known_badly("job"):
                at = (*job.path, "depends_on")
                at = (*at, index) if isinstance(self._raw(at), list) else at
                itself = "a job cannot wait for itself" if name == job.id else None
                hint = did_you_mean(name, others)
                self._problem(itself or f"there is no job '{name}'", at, hint=hint)
        repeats = ("index",) if job.repeat_count is not None else ()
        base = ("input", "env", "jobs", "context")
        used = [
            *self._check_references(job.input, (*base, *repeats), jobs=others),
            *self._check_references(job.repeat_count, base, jobs=others),
            *self._check_references(job.output, (*base, "output"), jobs=others),
        ]
        if job.component is not _MISSING_COMPONENT and job.action is not _MISSING_ACTION:
            self._check_provided(job)
        awaited = [name for name in (*job.depends_on, *used) if name in others]
        return replace(job, depends_on=tuple(dict.fromkeys(awaited)))

    def _check_provided(self, job: Job) -> None:
        """Whether a job's input mapping holds what its action cannot do without."""
        key = job.action.text.path
        if key not in self._called:
            self._called[key] = list(called_references(job))
        before = self._called_count
        self._called_count += len(self._called[key])
        if before <= MAX_CALLED_REFERENCES < self._called_count:
            many = f"more than {MAX_CALLED_REFERENCES:,} expressions of what they call"
            hint = "Write fewer jobs, or fewer expressions in their prompt."
            self._problem(f"the jobs down to this one use {many}", job.path, hint=hint)
        if self._called_count > MAX_CALLED_REFERENCES:
            return
        if not isinstance(job.input, MappingTemplate) or OPERATORS & job.input.entries.keys():
            return
        given = job.input.entries
        for reference in self._called[key]:
            keys = reference.expression.keys
            missing = reference.expression.source == "input" and keys and keys[0] not in given
            if missing and reference.demands and not reference.fallback_of:
                name = shortened(keys[0])
                message = f"the job gives no '{name}', which {reference.expression} needs"
                hint = did_you_mean(keys[0], given) or f"Add '{name}:' to the input."
                self._problem(message, (*job.path, "input"), key=True, hint=hint)

    def _check_cycles(self, jobs: tuple[Job, ...]) -> None:
        names = {job.id for job in jobs}
        graph = {job.id: names.intersection(job.depends_on) for job in jobs}
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            cycle = list(reversed(error.args[1]))
            path = next(job.path for job in jobs if job.id == cycle[0])
            half = _MOST_IN_CYCLE // 2
            long = len(cycle) > _MOST_IN_CYCLE + 1
            shown = " → ".join([*cycle[:half], "…", *cycle[-half:]] if long else cycle)
            hint = "None of them can ever start. Take away one of the links."
            self._problem(f"these jobs wait for each other: {shown}", path, hint=hint)

    # Expressions

    def _check_references(
        self, template: Template | None, sources: tuple[str, ...], jobs: Collection[str] = ()
    ) -> list[str]:
        """Report what is wrong with a template's expressions; returns the jobs that it uses."""
        used: list[str] = []
        for reference in findings(template):
            if isinstance(reference, BrokenExpression):
                self._source.report_error(reference.error, reference.path)
                continue
            for name, _ in reference.expression.notes:
                if name not in NOTES:
                    hint = did_you_mean(name, NOTES) or f"There are {', '.join(NOTES)}."
                    self._warn(f"a note '{shortened(name)}' says nothing. {hint}", reference.path)
            source = reference.expression.source
            if source not in (*sources, *reference.local):
                self._unknown_source(reference, (*sources, *sorted(reference.local)))
            elif source == "jobs":
                used += self._used_job(reference, jobs)
            elif source == "env":
                self._read_environment(reference)
        return used

    def _misused(self, reference: Reference, message: str, hint: str) -> None:
        within = reference.expression.text
        self._problem(message, reference.path, hint=hint, within=within)

    def _unknown_source(self, reference: Reference, sources: tuple[str, ...]) -> None:
        name, hint = shortened(reference.expression.source), None
        if name in KNOWN_SOURCES:
            message = f"'{name}' is not available here, in {reference.expression}"
        else:
            message = f"unknown source '{name}' in {reference.expression}"
            hint = did_you_mean(name, sources)
        if name == "index":
            hint = "It exists in the input of a job with 'repeat_count'."
        self._misused(reference, message, hint or f"Available here: {', '.join(sources)}.")

    def _used_job(self, reference: Reference, jobs: Collection[str]) -> Iterator[str]:
        expression = reference.expression
        name = expression.keys[0] if expression.keys else None
        if name is None or (name not in jobs and not self._is_known_badly("job")):
            what = "a job is named, as jobs.ID.output"
            if name:
                what = f"there is no other job '{shortened(name)}'"
            hint = did_you_mean(name or "", jobs) or f"There is {listed(jobs) or 'no other'}."
            self._misused(reference, f"{what}, in {expression}", hint)
        elif len(expression.path) < 2 or expression.path[1] != Key("output"):
            message = f"of a job only its output is known, in {expression}"
            self._misused(reference, message, f"Write ${{jobs.{name}.output}}.")
        else:
            yield name

    def _read_environment(self, reference: Reference) -> None:
        expression = reference.expression
        name = expression.keys[0] if len(expression.keys) == len(expression.path) == 1 else None
        if name is None:
            self._misused(reference, f"name one variable in {expression}", "Write ${env.NAME}.")
        elif name in self._environ:
            self._environment[name] = self._environ[name]
        elif expression.default is None and not any(map(self._is_set, reference.fallback_of)):
            name = shortened(name)
            message = f"the environment variable {name} is not set, for {expression}"
            self._misused(reference, message, f"Set it, or give a default: ${{env.{name} | …}}.")

    def _is_set(self, expression: Expression) -> bool:
        """Whether an expression is a variable that is set, so that its default is not needed."""
        return expression.source == "env" and any(k in self._environ for k in expression.keys[:1])

    # Serving

    def _controller(self, written: schema.Controller | None) -> Controller:
        if written is None:
            return Controller()
        path: KeyPath = ("controller",)
        found = self._listed(written, "adapter", path, schema.Adapter.model_fields)
        if len(found) > 1:
            self._problem("one adapter is enough: the run API", found[1][1])
        adapter, at = found[0] if found else (written, path)
        values = {key: self._serving(adapter, at, key) for key in schema.Api.model_fields}
        values["origins"] = tuple(self._origins(values["origins"] or (), (*at, "origins")))
        if written.webui is not None:
            for key in schema.Address.model_fields:
                at = (*path, "webui")
                values[f"webui_{key}"] = self._serving(written.webui, at, key)
        return Controller(**{key: value for key, value in values.items() if value is not None})

    def _origins(self, written: Iterable[str], path: KeyPath) -> Iterator[str]:
        """Each origin that is named; model-compose takes several in one text, with commas."""
        for text in written:
            for origin in filter(None, map(str.strip, text.split(","))):
                if origin == "*":
                    reason = "it would let every web page use the models"
                    self._warn(f"'*' in 'origins' has no effect: {reason}", path)
                elif not re.fullmatch(r"https?://[^/\s]+", origin):
                    hint = "An origin is a scheme, a name and perhaps a port, without a path."
                    message = f"'{shortened(origin)}' is no origin such as https://example.org"
                    self._problem(message, path, hint=hint)
                else:
                    yield origin

    def _serving(self, written: Any, path: KeyPath, key: str) -> Any:
        template = _optional(getattr(written, key), (*path, key))
        before = self._source.found
        self._check_references(template, ("env",))
        if template is None or self._source.found > before:
            return None
        return self._fixed(schema.Api, key, template)

    def _fixed(self, model: type[Strict], key: str, template: Template) -> Any:
        """A value that only the environment decides, which is not shown: it may be a secret."""
        try:
            value = render(template, {"env": self._environment})
            checked = model.model_validate({key: value}, context={"rendered": True})
            return getattr(checked, key)
        except ExpressionError as error:
            self._source.report_error(error, template.path)
        except ValidationError:
            written = shortened(str(template))
            self._problem(f"'{key}' cannot be what {written} gives", template.path)
        return None


class _OtherJobs(Collection[str]):
    """The ids of the jobs of a workflow but for one."""

    def __init__(self, names: Mapping[str, None], own: str) -> None:
        self._names, self._own = names, own

    def __contains__(self, name: object) -> bool:
        return name != self._own and name in self._names

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._names if name != self._own)

    def __len__(self) -> int:
        return len(self._names) - (self._own in self._names)


def _optional(value: Any, path: KeyPath) -> Template | None:
    """The template under a key, or None where none was written."""
    return None if value is None else parse_template(value, path)


def _is_of_environment(template: Template) -> bool:
    """Whether the environment alone decides a template's value."""
    return isinstance(template, TextTemplate) and all(
        reference.expression.source == "env" for reference in references(template)
    )


def _literals(template: Any) -> Iterator[str]:
    """What is written out in a template: beside its expressions, and as their defaults."""
    try:
        texts = [parse(str(template))]
    except ExpressionError:  # reported already
        return
    while texts:
        for part in texts.pop().parts:
            if isinstance(part, str):
                yield part
            elif part.default is not None:
                texts.append(part.default.text)


_MISSING_ACTION = Action("__missing__", (), parse_template(""), {})
_MISSING_COMPONENT = Component("__missing__", (), {}, (_MISSING_ACTION,))


def called_references(job: Job) -> Iterator[Reference]:
    """The references of what a job calls: prompt, parameters, model, output of the action."""
    action = job.action
    templates = (action.text, *action.parameters.values(), *job.component.model.values())
    for template in (*templates, action.output):
        yield from references(template)
