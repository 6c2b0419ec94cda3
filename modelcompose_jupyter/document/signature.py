"""What a workflow takes and gives, read off its expressions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from ..errors import ExpressionError, InputError, Where, did_you_mean, listed, shortened
from ..path_redaction import public
from ..redaction import MASK, texts_of
from .components import Action, FunctionComponent, WorkflowComponent
from .document import Document, Workflow
from .expression import Default, Expression, Key, Text
from .fields import Boolean, Integer, Number, TemplateOr
from .functions import FunctionParameter
from .jobs import (
    Accumulate,
    Call,
    Choice,
    Delay,
    Filter,
    ForEach,
    Job,
    Loop,
    RandomChoice,
    model_calls,
)
from .parameters import PARAMETER_NAMES, GenerationParameters, TemplateVariables
from .reachability import routers_of
from .reader import KeyPath
from .references import Reference, references
from .render import render
from .schema import JobFields, ModelSettings, PeftAdapter
from .schema import metadata as metadata_of
from .templates import OPERATORS, ListTemplate, MappingTemplate, Template
from .templates import Loop as TemplateLoop
from .types import ConversionError, Message, Type, convert
from .workflow_compiler import called_references

_TEXT = Type("text")
_MESSAGES = Type("messages")
_TEXTS, _ANY_LIST = Type("text", is_list=True), Type("list")
_LISTS = (_TEXTS, _ANY_LIST)


def _type_data(type_: Type) -> dict[str, Any]:
    data: dict[str, Any] = {"type": type_.name, "is_list": type_.is_list}
    if type_.options:
        data["subtype"] = ",".join(type_.options)
    return data


@dataclass(frozen=True)
class Input:
    """One input of a workflow.

    ``default`` is None where there is none, or where it is only known when the workflow runs.
    ``notes`` are the annotations, such as ``description``; ``examples`` those that are called
    ``example``. ``parameter`` is the generation parameter that the input goes into, if it goes
    into one as it is. A ``secret`` one is a Hub token: it has no default that could be seen, and
    no message shows its value.
    """

    name: str
    type: Type = _TEXT
    required: bool = False
    default: Any = None
    notes: Mapping[str, str] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    parameter: str | None = None
    secret: bool = False

    @property
    def description(self) -> str | None:
        return self.notes.get("description")

    @property
    def help(self) -> str | None:
        """The description, else that of the parameter."""
        if self.description or self.parameter is None:
            return self.description
        return GenerationParameters.model_fields[self.parameter].description

    def to_dict(self) -> dict[str, Any]:
        data = {"name": self.name, **_type_data(self.type), "required": self.required}
        if self.default is not None:
            data["default"] = self.default
        if self.description:
            data["description"] = self.description
        if self.examples:
            data["examples"] = list(self.examples)
        return data

    def for_guests(self) -> Input:
        """The input as guests see it: without this computer's folders."""
        type_ = replace(self.type, options=tuple(public(list(self.type.options))))
        notes, examples = public(dict(self.notes)), tuple(public(list(self.examples)))
        default = public(self.default)
        return replace(self, type=type_, default=default, notes=notes, examples=examples)

    @property
    def hidden(self) -> list[tuple[Any, Any]]:
        """The values that guests see in another form: what they are, and that form."""
        values = [self.default, *self.type.options]
        return [(each, shown) for each in values if (shown := public(each)) != each]

    def __str__(self) -> str:
        text = f"{self.name}: {self.type}"
        if self.default is not None:
            text += f" = {self.default!r}"
        return text + (" (required)" if self.required else "")


@dataclass(frozen=True)
class Output:
    """One output of a workflow; ``name`` is None where the output is one plain value."""

    name: str | None
    type: Type = _TEXT

    def to_dict(self) -> dict[str, Any]:
        name = {} if self.name is None else {"name": self.name}
        return {**name, **_type_data(self.type)}

    def __str__(self) -> str:
        return f"{self.name}: {self.type}" if self.name else str(self.type)


@dataclass(frozen=True)
class Signature:
    """The inputs in the order in which the document names them, and the outputs.

    ``open`` tells that the workflow uses its input as a whole, so that any key is welcome.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    open: bool
    _references: tuple[Reference, ...] = field(repr=False)
    _document: Document = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The signature as plain data, with the keys that model-compose's API has."""
        return {
            "input": [each.to_dict() for each in self.inputs],
            "output": [each.to_dict() for each in self.outputs],
        }

    def for_guests(self) -> Signature:
        """The signature as guests see it: without this computer's folders.

        What they see they may give back: see `from_guests`.
        """
        return replace(self, inputs=tuple(each.for_guests() for each in self.inputs))

    def from_guests(self, values: Any) -> Any:
        """Inputs with the document's own values in place of those that guests see of them."""
        return self._exchanged(values, {e.name: [(b, a) for a, b in e.hidden] for e in self.inputs})

    def to_guests(self, values: Any) -> Any:
        """The way back from `from_guests`, for inputs that are shown again."""
        return self._exchanged(values, {each.name: each.hidden for each in self.inputs})

    @staticmethod
    def _exchanged(values: Any, pairs: Mapping[str, list[tuple[Any, Any]]]) -> Any:
        if not isinstance(values, Mapping):
            return values

        def other(value: Any, known: list[tuple[Any, Any]]) -> Any:
            found = next((to for of, to in known if of == value), value)
            if found is value and isinstance(value, list):
                return [other(each, known) for each in value]
            return found

        return {
            name: other(value, known) if (known := pairs.get(name)) else value
            for name, value in values.items()
        }

    @property
    def conversations(self) -> tuple[str, ...]:
        """The names of inputs that are the whole of what a chat answers, turn after turn."""
        return tuple(each.name for each in self.inputs if each.type == _MESSAGES)

    def validate(self, values: Any) -> Any:
        """The inputs as the workflow gets them: as they are, but conversations as messages.

        Raises:
            InputError: the workflow cannot run with these inputs.
        """
        if not isinstance(values, Mapping):
            if self.open:
                return values
            example = ", ".join(f'"{each.name}": …' for each in self.inputs[:2])
            raise InputError("the input must be a mapping", hint=f"For example {{{example}}}.")
        self.check_names(values)
        self._check_required(values)
        for name, value in self._secrets(values).items():
            if not isinstance(value, str | Mapping):
                what = f"input '{name}' is a token, which is a text"
                raise InputError(what, hint="Put it in quotes.")
        values = {**values, **dict(self._messages(values))}
        self._check_types(values)
        return values

    def _secrets(self, values: Any) -> dict[str, Any]:
        """The inputs that hold a token."""
        if not isinstance(values, Mapping):
            return {}
        names = (each.name for each in self.inputs if each.secret)
        return {name: values[name] for name in names if values.get(name) is not None}

    def masked(self, values: Any) -> tuple[Any, list[str]]:
        """The inputs as they may be shown, and the texts in them that may not."""
        found = self._secrets(values)
        return ({**values, **dict.fromkeys(found, MASK)} if found else values), texts_of(found)

    def check_names(self, values: Mapping[str, Any]) -> None:
        """Raise InputError where the workflow has no input of such a name."""
        if self.open:
            return
        names = {each.name: None for each in self.inputs}
        unknown = next((str(name) for name in values if name not in names), None)
        if unknown is not None:
            known = f"Inputs are {listed(names)}." if names else "The workflow takes no input."
            raise InputError(
                f"there is no input '{shortened(unknown)}'",
                hint=did_you_mean(unknown, names) or known,
                code="unknown_input",
            )

    def _check_required(self, values: Mapping[str, Any]) -> None:
        missing: dict[str, Reference] = {}
        for reference in self._references:
            keys = reference.expression.keys
            needed = reference.demands and all(
                _is_missing(e, values) for e in reference.fallback_of
            )
            if needed and keys and _is_missing(reference.expression, values):
                missing.setdefault(".".join(keys), reference)
        if not missing:
            return
        quoted = [f"'{shortened(name)}'" for name in missing]
        names = " and ".join(quoted) if len(quoted) < 4 else listed(quoted)
        assigned = (name if "." in name else f'{name}="…"' for name in missing)
        raise InputError(
            f"missing input{'s' if len(missing) > 1 else ''} {names}",
            where=self._where(next(iter(missing.values()))),
            hint=f"Give {listed(assigned)}.",
            code="missing_input",
        )

    def _messages(self, values: Mapping[str, Any]) -> Iterator[tuple[str, list[Message]]]:
        """The conversations among the inputs, each as its messages."""
        first = {each.expression.keys[0]: each for each in reversed(self._references)}
        for name in self.conversations:
            if values.get(name) is not None:
                with self._naming(name, first[name]):
                    yield name, convert(values[name], _MESSAGES)

    @contextmanager
    def _naming(self, name: str, reference: Reference) -> Iterator[None]:
        """Turn a conversion's error into one that names the input, and where it is used."""
        try:
            yield
        except ConversionError as error:
            raise InputError(
                f"input '{name}': {error}", hint=error.hint, where=self._where(reference)
            ).of(name) from None

    def _check_types(self, values: Mapping[str, Any]) -> None:
        by_name = {each.name: each for each in self.inputs}
        checked: set[tuple[str, Type]] = set()
        for reference in self._references:
            path = reference.expression.path
            name = path[0].name if len(path) == 1 and isinstance(path[0], Key) else None
            if name is None or reference.fallback_of or not reference.always:
                continue
            type_ = reference.expression.type or (by_name[name].type if reference.whole else None)
            value = values.get(name)
            if type_ is None or value is None or (value == "" and type_.empty_is_missing):
                continue
            if (name, type_) in checked:
                continue
            checked.add((name, type_))
            with self._naming(name, reference):
                convert(value, type_)

    def _where(self, reference: Reference) -> Where:
        return self._document.where(reference.path, within=reference.expression.text)


def signature(document: Document, workflow: Workflow) -> Signature:
    """What a workflow takes and gives."""
    pairs = [pair for job in workflow.jobs for pair in _job_references(job, document)]
    pairs += _of_input(workflow.output, None)
    found = sorted(pairs, key=lambda pair: document.source.order(pair[0].path))
    inputs: dict[str, Input] = {}
    for reference, expected in found:
        if reference.expression.keys:
            each = _input(reference, expected)
            known = inputs.get(each.name)
            inputs[each.name] = each if known is None else _merged(known, each)
    return Signature(
        inputs=tuple(inputs.values()),
        outputs=tuple(_outputs(workflow, document)),
        open=any(not reference.expression.path for reference, _ in found),
        _references=tuple(reference for reference, _ in found if reference.expression.keys),
        _document=document,
    )


def _is_missing(expression: Expression, values: Mapping[str, Any]) -> bool:
    """Whether the workflow's input has nothing at an expression's path."""
    if expression.source != "input":
        return False
    found: Any = values
    for key in expression.keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found is None


def _job_references(job: Job, document: Document) -> Iterator[tuple[Reference, Type | None]]:
    """A job's references to the workflow's input, each with the type that its place expects."""
    do, from_above = job.do, isinstance(job.work, Loop) and job.input is not None
    if isinstance(job.work, Call):
        yield from _call_references(job, document)
    elif isinstance(job.work, ForEach | Accumulate | Filter) and job.input is not None:
        yield from _of_list(job.input)
    else:
        yield from _of_input(job.input, None)
    if do is not None and not from_above:  # whose inner job has another input
        yield from _inner_references(do, document)
    for template, expected in _own_templates(job):
        yield from _of_input(template, expected)


def _inner_references(do: Job, document: Document) -> Iterator[tuple[Reference, Type | None]]:
    """Those of an inner job: what it does not pass on by itself is an element, or what the round
    before gave."""
    if do.input is None and do.do is None:
        for template, expected in _own_templates(do):
            yield from _of_input(template, expected)
    else:
        yield from _job_references(do, document)


def _own_templates(job: Job) -> Iterator[tuple[Template | None, Type | None]]:
    """The templates of a job beside its input, with the types that their places expect."""
    yield job.output, None
    for route in (*job.routes, *(each for each in (job.on_error,) if each is not None)):
        yield route.output, None
    for interrupt in (job.before, job.after):
        if interrupt is not None:
            yield from ((each, None) for each in interrupt.templates)
    whole, any_type = Type("integer"), None
    match job.work:
        case Call(repeat_count=repeat_count):
            yield repeat_count, whole
        case Choice(conditions=conditions):
            yield from ((each.test, any_type) for each in conditions)
        case RandomChoice(routes=routes, session=session, salt=salt):
            yield from ((weight, Type("number")) for _, weight in routes)
            yield from ((session, any_type), (salt, any_type))
        case ForEach(batch_size=batch_size):
            yield batch_size, whole
        case Filter(where=where):
            yield where, any_type
        case Loop(condition=condition, max_iteration_count=most):
            yield most, whole
            if job.input is None:
                yield condition, any_type
        case Accumulate(accumulator=accumulator):
            yield accumulator, any_type
        case Delay(duration=duration, time=time, timezone=timezone):
            yield from ((each, any_type) for each in (duration, time, timezone))


def _call_references(job: Job, document: Document) -> Iterator[tuple[Reference, Type | None]]:
    """Those of what a job calls, through the input that it gets."""
    if not isinstance(job.work, Call):
        return
    inner = list(_called(job.work, document))
    component = job.work.component
    if job.input is None or _passes_through(job.input):
        yield from inner
    elif isinstance(job.input, MappingTemplate):
        called = {
            reference.expression.keys[0]: _type_of(reference, type_)
            for reference, type_ in inner
            if reference.expression.keys
        }
        given = {(name,) for name in job.input.entries}
        for key, template in job.input.entries.items():
            if key == "..." and _passes_through(template):
                for reference, type_ in inner:
                    if reference.expression.keys[:1] not in given:
                        yield reference, type_
            else:
                yield from _of_input(template, called.get(key))
    elif isinstance(component, FunctionComponent):  # which gets it as its one argument
        yield from _of_input(job.input, next((type_ for _, type_ in inner), None))
    elif isinstance(job.input, TemplateLoop):  # whose elements are what the component gets
        yield from _of_list(job.input)
    else:
        yield from _of_input(job.input, None)


@dataclass(frozen=True)
class _ParameterReference(Reference):
    """What a function takes of the workflow's input, as if an expression said it."""

    parameter: FunctionParameter = field(kw_only=True)

    @classmethod
    def of(cls, parameter: FunctionParameter, component: FunctionComponent) -> _ParameterReference:
        name = parameter.name
        default = None if parameter.required else Default(Text(()))
        expression = Expression(
            f"${{input.{name}}}", 0, "input", (Key(name),), parameter.type, default
        )
        path = (*component.path, "function")
        return cls(expression, path, whole=True, parameter=parameter)

    @property
    def input(self) -> Input:
        """The input that it is."""
        parameter = self.parameter
        description = parameter.description
        return Input(
            name=parameter.name,
            type=parameter.type or _TEXT,
            required=parameter.required,
            default=parameter.default,
            notes={} if description is None else {"description": description},
        )


def _called(call: Call, document: Document) -> Iterator[tuple[Reference, Type | None]]:
    """The references to the input of what is called, with the types that their places expect."""
    component = call.component
    if isinstance(component, WorkflowComponent):
        called = document.called(component)
        yield from _of_input(component.output, None)
        if component.input is None:
            for job in called.jobs:
                yield from _job_references(job, document)
            yield from _of_input(called.output, None)
        else:
            yield from _of_input(component.input, None)
        return
    if isinstance(component, FunctionComponent):
        takes = document.functions.get(component.function)
        for parameter in () if takes is None else takes.parameters:
            yield _ParameterReference.of(parameter, component), parameter.type
        yield from _of_input(component.output, None)
        return
    conversation = None if call.action is None else _conversation_path(call.action)
    types = _types_of_keys()
    for reference in called_references(call):
        if reference.expression.source == "input":
            is_chat = reference.path == conversation
            yield reference, _MESSAGES if is_chat else _expected(reference, types)


def _of_list(template: Template) -> Iterator[tuple[Reference, Type | None]]:
    """Those of an input that is a list, each element of which is used."""
    if isinstance(template, TemplateLoop):
        for reference, _ in _of_input(template, None):
            yield replace(reference, local=frozenset()), None
    elif template.only is not None:
        expected = Type("list") if template.only.path else None
        yield from _of_input(template, expected)
    else:
        yield from _of_input(template, None)


def _conversation_path(action: Action) -> KeyPath | None:
    """Where an expression is all that a chat has to answer: its messages, or the last of them."""
    if not action.is_chat:
        return None
    text = action.text
    return text.elements[-1].path if isinstance(text, ListTemplate) else text.path


def _passes_through(template: Template) -> bool:
    """Whether a template gives the workflow's input as it is."""
    only = template.only
    return only is not None and only.source == "input" and not only.path


def _of_input(
    template: Template | None, expected: Type | None
) -> Iterator[tuple[Reference, Type | None]]:
    for reference in references(template):
        if reference.expression.source == "input":
            yield reference, expected


def _key_of(reference: Reference) -> str:
    """The key that a reference stands under."""
    return next((step for step in reversed(reference.path) if isinstance(step, str)), "")


def _expected(reference: Reference, types: Mapping[str, Type]) -> Type | None:
    """The type that the key expects whose value a reference is; None within a list of several."""
    type_ = types.get(_key_of(reference))
    is_element = bool(reference.path) and isinstance(reference.path[-1], int)
    return None if type_ in _LISTS and is_element else type_


@cache
def _types_of_keys() -> dict[str, Type]:
    """The types that keys of the schema expect of their templates' values, by the keys' names."""
    kinds: dict[str, Any] = {
        "integer": Integer, "number": Number, "boolean": Boolean, "object": TemplateVariables,
    }  # fmt: skip
    found: dict[str, Type] = {}
    for model in (GenerationParameters, ModelSettings, PeftAdapter, JobFields):
        for name, info in model.model_fields.items():
            metadata = metadata_of(info)
            takes_template = any(isinstance(each, TemplateOr) for each in metadata)
            for kind, annotated in kinds.items():
                if takes_template and annotated.__metadata__[0] in metadata:
                    found[name] = Type(kind)
    # Of a format, what is a list in it, and a schema's own keys.
    lists = dict.fromkeys(("choices", "required"), _TEXTS)
    return {**found, **lists, "enum": _ANY_LIST, "json_schema": Type("object")}


def _type_of(reference: Reference, expected: Type | None) -> Type:
    path = reference.expression.path
    if len(path) > 1:
        return Type("object") if isinstance(path[1], Key) else Type("list")
    if expected == _MESSAGES and reference.whole and _may_hold_messages(reference.expression.type):
        return expected
    if reference.expression.type is not None:
        return reference.expression.type
    return expected if expected not in (None, _MESSAGES) and reference.whole else _TEXT


def _may_hold_messages(type_: Type | None) -> bool:
    if type_ is None or type_.is_list:
        return type_ is None or type_.name in ("object", "json")
    return type_.name in ("messages", "list", "json")


def _input(reference: Reference, expected: Type | None) -> Input:
    if isinstance(reference, _ParameterReference):
        return reference.input
    expression = reference.expression
    key = _key_of(reference)
    secret = key == "token"  # which the options of a type may be, too
    type_ = _TEXT if secret else _type_of(reference, expected)
    has_default = len(expression.path) == 1 and not secret
    return Input(
        name=expression.keys[0],
        type=type_,
        required=reference.demands and not reference.fallback_of,
        default=_known_default(expression, type_) if has_default else None,
        notes=dict(expression.notes),
        examples=tuple(text for name, text in expression.notes if name == "example" and text),
        parameter=key if reference.whole and key in PARAMETER_NAMES else None,
        secret=secret,
    )


def _known_default(expression: Expression, type_: Type) -> Any:
    """A default that is written out: not of other inputs, nor of the environment's secrets."""
    if expression.default is None or expression.default.text.expressions:
        return None
    try:
        value = render(expression.text, {expression.source: {}})
        return convert(value, _MESSAGES) if type_ == _MESSAGES else value
    except (ConversionError, ExpressionError):
        return None


def _merged(first: Input, second: Input) -> Input:
    """One input that stands in several places: the most that any of them says."""
    secret = first.secret or second.secret
    return Input(
        name=first.name,
        type=first.type if first.type != _TEXT else second.type,
        required=first.required or second.required,
        default=None if secret else first.default if first.default is not None else second.default,
        notes={**second.notes, **first.notes},
        examples=tuple(dict.fromkeys((*first.examples, *second.examples))),
        parameter=first.parameter or second.parameter,
        secret=secret,
    )


def _outputs(workflow: Workflow, document: Document) -> Iterator[Output]:
    last = workflow.last_jobs
    if workflow.output is None and len(last) > 1:
        if routers_of(workflow.jobs):  # which of them runs is not known
            yield Output(None, Type("json"))
            return
        yield from (
            Output(job.id, _result_type(job.output, _value_type(job, document))) for job in last
        )
        return
    job = last[0] if last else None
    template = workflow.output if workflow.output is not None or job is None else job.output
    value = _value_type(job, document)
    if not isinstance(template, MappingTemplate) or OPERATORS & template.entries.keys():
        yield Output(None, _result_type(template, value))
        return
    for key, entry in template.entries.items():
        yield Output(str(key), _result_type(entry, value))


def _value_type(job: Job | None, document: Document) -> Type:
    """The type of ``${output}``."""
    if job is None:
        return _TEXT
    if isinstance(job.work, ForEach | Filter):
        return _ANY_LIST
    if isinstance(job.work, Call) and isinstance(job.work.component, FunctionComponent):
        return _given_type(job.work, job.work.component, document)
    calls = list(model_calls((job,)))
    if not calls or not isinstance(job.work, Call):
        return Type("json")
    return Type(_type_of_text(calls[0].action), is_list=calls[0].gives_several)


def _given_type(call: Call, component: FunctionComponent, document: Document) -> Type:
    """The type of what a call of a function gives."""
    if call.repeat_count is not None:
        return _ANY_LIST
    takes = document.functions.get(component.function)
    return _result_type(component.output, Type("json") if takes is None else takes.result)


def _type_of_text(action: Action) -> str:
    """The type of what comes of a text."""
    if _may_return_calls(action):
        return "json"
    written = action.parameters.get("format")
    format = written.value if written is not None else {}
    if not isinstance(format, Mapping) or "json_schema" not in format:
        return "json" if "json" in format else "text"
    schema = format["json_schema"]
    type_ = schema.get("type") if isinstance(schema, Mapping) else None
    return _OF_SCHEMAS.get(type_, "json") if isinstance(type_, str) else "json"


_OF_SCHEMAS = {
    "object": "object", "array": "list", "string": "text", "integer": "integer",
    "number": "number", "boolean": "boolean",
}  # fmt: skip


def _may_return_calls(action: Action) -> bool:
    """Whether what an action gives may be calls of tools in place of a text."""
    tools = action.parameters.get("tools")
    return tools is not None and len(action.named_tools) < len(tools.value)


def _result_type(template: Template | None, value: Type) -> Type:
    """The type of an output, where that of ``${output}`` is ``value``."""
    if template is None:
        return value
    only = template.only
    if only is None:
        return _TEXT if isinstance(template.value, str) else Type("json")
    if only.type is not None:
        return only.type
    return value if only.source == "output" and not only.path else Type("json")
