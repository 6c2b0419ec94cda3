"""Components and their actions: from what was written to the one normal form."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypedDict

from pydantic import ValidationError

from ..errors import ExpressionError, shortened
from ..redaction import remember, remember_variables
from . import schema
from .checks import Checks, optional
from .components import Action, Component, FunctionComponent, ModelComponent, WorkflowComponent
from .expression import parse
from .parameters import GenerationParameters
from .reader import KeyPath
from .references import references
from .templates import ListTemplate, Template, TextTemplate, parse_template

_MODEL_KEYS = tuple(schema.ModelSettings.model_fields)
_FETCH_KEYS = tuple(key for key in _MODEL_KEYS if key in schema.ModelSource.model_fields)
_JINJA = ("{{", "{%", "{#")
"""What a chat template has; a text without is the name of a file."""
_PROMPT_KEYS = tuple(itertools.chain(*schema.PROMPT_KEYS.values()))
_MISSING_PROMPT = {
    "text-generation": ("the prompt", "Write 'text: ${input.prompt as text}', say."),
    "chat-completion": ("the conversation", "Write 'messages: ${input.messages}', say."),
}
_INSTEAD = {
    "text-generation": "Write the prompt as 'text', or 'task: chat-completion'.",
    "chat-completion": "Write 'messages': a text of the user's, or a list of 'role' and 'content'.",
}
_SOURCES = ("input", "env", "context")
_OF_RESULTS = (*_SOURCES, "output", "result", "response")


class _Common(TypedDict):
    """What all components have."""

    default: bool
    max_concurrent_count: int


class ComponentCompiler:
    """Compiles the components of a document, also those that stand in jobs. ``include`` compiles
    the documents whose workflows they are."""

    def __init__(self, checks: Checks, include: Callable[[schema.Compose, KeyPath], None]) -> None:
        self._checks = checks
        self._include = include
        self._spoiled_within = {path[:-1] for path in checks.spoiled if path}
        self._made: list[Component] = []

    def component(self, written: schema.Component, path: KeyPath) -> Component:
        """A component in its normal form."""
        self._checks.note_unused_keys(written, path)
        common = _Common(
            default=bool(written.default), max_concurrent_count=written.max_concurrent_count or 0
        )
        id = written.id or "__component__"
        made: Component
        if isinstance(written, schema.FunctionComponent):
            output = self._output(written.output, path)
            if not self._checks.is_spoiled(path, "function"):
                self._check_function(written.function, (*path, "function"))
            function = written.function
            if ":" in function:  # of a module beside the document that names it
                function = self._checks.source.named(path, function)
            made = FunctionComponent(id, path, function, output, **common)
        elif isinstance(written, schema.WorkflowComponent):
            input = optional(written.input, (*path, "input"))
            self._checks.check_references(input, _SOURCES)
            output = self._output(written.output, path)
            if isinstance(written.file, schema.Compose):
                self._include(written.file, (*path, "file"))
            is_of_file = written.file is not None or self._checks.is_spoiled(path, "file")
            made = WorkflowComponent(
                id, path, written.workflow, is_of_file, input, output, **common
            )
        else:
            made = self._model_component(written, id, path, common)
        self._made.append(made)
        return made

    def _check_function(self, name: str, path: KeyPath) -> None:
        module, colon, attribute = name.rpartition(":")
        parts = [*(module.split(".") if colon else ()), *attribute.split(".")]
        dotted = "." in attribute and not colon
        if not all(map(str.isidentifier, parts)) or dotted:
            hint = (
                "Write the name of a function of the notebook's, or module:name of a file beside"
                " the document: steps:tidy is tidy of steps.py."
            )
            self._checks.problem(f"'{shortened(name)}' names no function", path, hint=hint)

    def _output(self, written: Any, path: KeyPath) -> Template | None:
        output = optional(written, (*path, "output"))
        self._checks.check_references(output, _OF_RESULTS)
        return output

    def _model_component(
        self, written: schema.ModelComponent, id: str, path: KeyPath, common: _Common
    ) -> ModelComponent:
        model = self._model(written, path)
        found = self._checks.listed(written, "action", path, (*_PROMPT_KEYS, "output"))
        actions = [self._action(each, at, written, path) for each, at in found or [(written, path)]]
        for template in model.values():
            self._checks.check_references(template, _SOURCES)
        chat_template = self._chat_template(written, (*path, "chat_template"))
        unique = self._checks.unique(actions, "action")
        return ModelComponent(id, path, model, unique, chat_template, **common)

    def _chat_template(self, written: schema.ModelComponent, path: KeyPath) -> str | None:
        """A component's own chat template, which may stand in a file; None where it has none."""
        text = written.chat_template
        if text is None:
            return None
        from . import jinja_syntax  # and Jinja, which few documents need

        if written.task != "chat-completion":
            self._checks.warn(
                "'chat_template' has no effect: only chats have a template", path, key=True
            )
        if not any(mark in text for mark in _JINJA):
            if "${" in text:
                hint = "Write Jinja, or name a file such as ./chat.jinja."
                what = "a chat template is read with the document, so inputs do not decide it"
                self._checks.problem(what, path, hint=hint)
                return None
            text = self._checks.files.read(text, path, jinja_syntax.MOST_SOURCE) or ""
        if text and (flaw := jinja_syntax.flaw(text)) is not None:
            hint = "It is a template in Jinja, as models have it in chat_template.jinja."
            self._checks.problem(f"the chat template cannot be read: {flaw}", path, hint=hint)
        return text or None

    def remember_secrets(self) -> None:
        """Keep tokens, written out or of the environment, out of all messages from now on."""
        environment = self._checks.environment
        remember_variables(environment)
        for component in self._made:
            for written in component.tokens:
                for text in _literals(written):
                    remember(text)
                for reference in references(parse_template(written)):
                    if reference.expression.source == "env":
                        remember(environment.get(reference.expression.keys[0]))

    def _model(self, written: schema.ModelComponent, path: KeyPath) -> dict[str, Template]:
        model: dict[str, Template] = {}
        for key in _MODEL_KEYS:
            if key != "peft_adapters" and getattr(written, key) is not None:
                model[key] = parse_template(self._checks.raw((*path, key)), (*path, key))
        if (adapters := self._adapters(written, path)) is not None:
            model["peft_adapters"] = adapters
        at = (*path, "model")
        model["source"] = parse_template(self._source_of(written.model, at), at)
        if isinstance(written.model, schema.ModelSource):
            for key in _FETCH_KEYS:
                value = getattr(written.model, key)
                if value is None:
                    continue
                if key in model:
                    self._checks.given_twice(key, model[key].path, (*at, key))
                model[key] = parse_template(value, (*at, key))
        return model

    def _adapters(self, written: schema.ModelComponent, path: KeyPath) -> Template | None:
        """The list of a component's adapters, whichever of its two keys has them."""
        if written.peft_adapter is not None and written.peft_adapters is not None:
            hint = "They mean the same: keep one."
            self._checks.exclude(path, "peft_adapter", "peft_adapters", hint)
        key = "peft_adapters" if written.peft_adapter is None else "peft_adapter"
        adapters = self._checks.elements(getattr(written, key) or [], (*path, key))
        for adapter, at in adapters:
            self._checks.note_unused_keys(adapter, at)
            self._source_of(adapter.model, (*at, "model"))
        given = [parse_template(self._checks.raw(at), at) for _, at in adapters]
        if not given:
            return None
        return ListTemplate([each.value for each in given], (*path, key), tuple(given))

    def _source_of(self, model: schema.ModelSource | str, at: KeyPath) -> str:
        if isinstance(model, str):
            return model
        given = model.given
        if len(given) != 1 and at not in self._checks.spoiled and at not in self._spoiled_within:
            self._checks.problem("a model has exactly one of 'repository', 'path' and 'name'", at)
        self._check_file(model, at)
        return next(iter(given), "")

    def _check_file(self, model: schema.ModelSource, at: KeyPath) -> None:
        """Report a file that is no model in GGUF, or that nothing is said to have."""
        at = (*at, "file")
        if model.file is None:
            return
        if model.name is not None:
            self._checks.problem(
                "'file' is of a repository or a folder, not of a bundled model", at
            )
        elif "$" not in model.file and not model.file.lower().endswith(".gguf"):
            hint = "Other weights are found by themselves: leave this line out."
            self._checks.problem("'file' names a GGUF file, which ends in .gguf", at, hint=hint)
        elif "/" not in (model.repository or "/") and "$" not in (model.repository or ""):
            hint = "Write it as the Hub shows it: repository: owner/name."
            self._checks.problem("the repository of a GGUF file has an owner", at[:-1], hint=hint)

    def _action(
        self,
        written: schema.ActionFields,
        path: KeyPath,
        component: schema.ModelComponent,
        component_path: KeyPath,
    ) -> Action:
        levels: list[tuple[KeyPath, schema.ActionFields]] = [(component_path, component)]
        if written is not component:
            self._checks.note_unused_keys(written, path)
            levels.append((path, written))
        parameters = self._parameters(levels)
        key = self._prompt_key(written, path, component, component_path)
        is_chat = key == "messages"
        include_prompt = parameters.get("include_prompt")
        if is_chat and include_prompt is not None and include_prompt.value is not False:
            hint = "What a chat gives is the reply alone. Leave this line out."
            at = include_prompt.path
            self._checks.problem("a chat cannot include its prompt", at, key=True, hint=hint)
        said = getattr(written, key)
        if is_chat and said is not None:
            said = self._checks.raw((*path, key))
        text = parse_template("" if said is None else said, (*path, key))
        self._checks.check_references(text, _SOURCES)
        for name, template in parameters.items():
            before = self._checks.source.found
            self._checks.check_references(template, _SOURCES)
            if self._checks.source.found == before and _is_of_environment(template):
                self._checks.fixed(GenerationParameters, name, template)
        output = self._output(written.output, path)
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
        component: schema.ModelComponent,
        component_path: KeyPath,
    ) -> str:
        """The key that holds what an action says to the model, given or missing."""
        keys = schema.PROMPT_KEYS[component.task]
        knows_task = not self._checks.is_spoiled(component_path, "task")
        given = [key for key in _PROMPT_KEYS if getattr(written, key) is not None]
        for key in given if knows_task else ():
            if key not in keys:
                message = f"'{key}' does not go with task {component.task}"
                self._checks.problem(message, (*path, key), key=True, hint=_INSTEAD[component.task])
        if {"text", "prompt"}.issubset(given) and "text" in keys:
            self._checks.exclude(path, "text", "prompt", "They mean the same: keep one.")
        if not given and not self._checks.is_spoiled(path, *_PROMPT_KEYS, "action", "actions"):
            what, hint = _MISSING_PROMPT[component.task]
            self._checks.problem(f"'{keys[0]}' is missing: {what}", path, hint=hint)
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
                    self._checks.given_twice(name, parameters[name].path, at)
                parameters[name] = parse_template(value, at)
        self._check_together(parameters)
        return parameters

    def _check_together(self, parameters: dict[str, Template]) -> None:
        try:
            GenerationParameters.model_validate({k: each.value for k, each in parameters.items()})
        except ValidationError as error:
            for details in error.errors():
                message = details["msg"]
                known = any(problem.message == message for problem in self._checks.source.problems)
                if details["type"] == "together" and not known:
                    self._checks.problem(message, parameters[details["ctx"]["key"]].path)


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
