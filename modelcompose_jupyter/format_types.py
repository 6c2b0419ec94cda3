"""Formats as Python says them: a model of pydantic, a dataclass, an enumeration, a list of them.

A type becomes a JSON schema, or choices where it is texts alone, and what comes of a text an
instance of it.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from typing import Any, Literal, cast, get_args, get_origin

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from .document.document import Workflow, digest
from .document.templates import MappingTemplate, Template
from .document.types import show
from .errors import ComposeError, InputError
from .workflow import Run, Runnable


class GivenFormat:
    """What a call gives as its format.

    Attributes:
        plain: it as a document says it.
        name: what messages call it.
    """

    def __init__(self, given: Any) -> None:
        """Raises InputError for what is no format and no type."""
        self._adapter: TypeAdapter[Any] | None = None
        self.plain: Any = given
        self.name: str = "format"
        if isinstance(given, Mapping | str):
            return
        self.name = getattr(given, "__name__", str(given))
        try:
            self._adapter = TypeAdapter(given)
            choices = _choices(given)
            if choices is not None:
                self.plain = {"choices": choices}
            else:
                schema = self._adapter.json_schema(schema_generator=_Schemas)
                self.plain = {"json_schema": _adapted(schema)}
        except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema) as error:
            raise _no_format(given, error) from None
        except PydanticUserError as error:  # a class that is not ready yet, say
            raise _no_format(given, error) from None

    @property
    def is_type(self) -> bool:
        """Whether it is a type, of which outputs become instances."""
        return self._adapter is not None

    @classmethod
    def of(cls, given: Any) -> GivenFormat:
        """What is given, unless that is one already."""
        return given if isinstance(given, cls) else cls(given)

    def value(self, output: Any, workflow: Workflow) -> Any:
        """What a run's output is as an instance of the type; as it is where that is a mapping.

        Raises:
            ComposeError: it is none, by a rule of the type that no schema says.
        """
        if not self.is_type:
            return output
        name = one_name(workflow)
        value = output[name] if name is not None else output
        call = workflow.last_call
        if call is not None and call.gives_several and isinstance(value, list):
            return [self._instance(each) for each in value]
        return self._instance(value)

    def _instance(self, value: Any) -> Any:
        assert self._adapter is not None
        written = json.dumps(value, ensure_ascii=False)
        try:
            return self._adapter.validate_json(written)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise ComposeError(
                f"what the model wrote is no {self.name}"
                f"{f', at {place}' if place else ''}: {first['msg']}",
                hint="A rule that the type's schema does not say; run.output has the plain value.",
                code="format_invalid",
                text=written,
            ) from None


def _no_format(given: Any, error: Exception) -> InputError:
    reason = str(error).partition(". Set `")[0].partition("\n")[0]
    if isinstance(given, list | tuple):
        are_texts = all(isinstance(each, str) for each in given)
        return InputError(
            f"{show(str(given))} cannot be a format: it is a list",
            hint='Where the text is one of several, give {"choices": […]}.'
            if are_texts
            else "A list of records is list[Model].",
        )
    return InputError(
        f"{show(str(given))} cannot be a format: {reason}",
        hint="A format is a mapping, 'json', or a type: a pydantic model, a dataclass, an Enum, a"
        " Literal, list[Model].",
    )


def made_of_output(workflow: Workflow) -> Template | None:
    """What a workflow makes of the value that its model gives, by one template; None where it
    gives the value itself."""
    last = workflow.last_jobs[0]
    return workflow.output if workflow.output is not None else last.output


def one_name(workflow: Workflow) -> str | None:
    """Where a workflow's output is a mapping with what the model gave and nothing else: its name
    there."""
    output = made_of_output(workflow)
    if isinstance(output, MappingTemplate) and len(output.entries) == 1:
        ((name, entry),) = output.entries.items()
        only = entry.only
        if only is not None and only.source == "output" and not only.path and only.type is None:
            return str(name)
    return None


def _choices(given: Any) -> list[str] | None:
    """The texts that a type consists of; None where it has other values."""
    values: Any = None
    if get_origin(given) is Literal:
        values = [each.value if isinstance(each, enum.Enum) else each for each in get_args(given)]
    elif isinstance(given, type) and issubclass(given, enum.Enum):
        values = [each.value for each in given]
    if values and all(isinstance(each, str) and each for each in values):
        return list(dict.fromkeys(map(str, values)))
    return None


class _Schemas(GenerateJsonSchema):
    """JSON schemas that grammars know: a decimal is a number, and not a text of one as well; of a
    set, elements may be written twice, and count once."""

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        """One of several that have a tag each, though it has a default."""
        found = super().tagged_union_schema(schema)
        tag = found.get("discriminator", {}).get("propertyName")
        if tag is None or "oneOf" not in found:
            return found
        return {"anyOf": [{**each, "required": [tag]} for each in found["oneOf"]]}

    def set_schema(self, schema: core_schema.SetSchema) -> JsonSchemaValue:
        return _without_unique(super().set_schema(schema))

    def frozenset_schema(self, schema: core_schema.FrozenSetSchema) -> JsonSchemaValue:
        return _without_unique(super().frozenset_schema(schema))

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        given: Mapping[str, Any] = cast(Mapping[str, Any], schema)
        bounds = {key: float(given[key]) for key in ("gt", "ge", "lt", "le") if key in given}
        number: Any = {"type": "float", **bounds}
        number = self.float_schema(number)
        places = schema.get("decimal_places")
        bounded = {} if places is None else {"multipleOf": 10.0**-places}
        return {**number, **bounded}


def _without_unique(schema: JsonSchemaValue) -> JsonSchemaValue:
    return {key: value for key, value in schema.items() if key != "uniqueItems"}


def _adapted(schema: Any) -> Any:
    """A schema of a type as grammars hold to it: without properties of other names, which the type
    would drop, and with the names that there are as properties."""
    if isinstance(schema, list):
        return [_adapted(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _adapted(value) for key, value in schema.items()}
    if found.get("type") != "object":
        return found
    names = found.get("propertyNames", {})
    known = [names["const"]] if "const" in names else names.get("enum")
    if known and "properties" not in found:
        del found["propertyNames"]
        found["properties"] = dict.fromkeys(known, found.get("additionalProperties", True))
        found["additionalProperties"] = False
    if isinstance(found.get("properties"), dict):
        found.setdefault("additionalProperties", False)
    return found


class Formatted:
    """A workflow whose runs have a format: what maps and grids run. All else is the workflow's."""

    def __init__(self, workflow: Runnable, format: GivenFormat) -> None:
        self._workflow = workflow
        self._format = format

    @property
    def id(self) -> str:
        """Another one for each format, so that results of one are not taken for another's."""
        return f"{self._workflow.id}#{digest(json.dumps(self._format.plain, default=str))[7:19]}"

    def start(self, values: Any, **options: Any) -> Run:
        return self._workflow.start(values, **{**options, "format": self._format.plain})

    def check(self, values: Any, **options: Any) -> None:
        self._workflow.check(values, **{**options, "format": self._format.plain})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._workflow, name)


def formatted(workflow: Runnable, format: GivenFormat | None) -> Runnable:
    """A workflow whose runs have a format, if there is one."""
    return workflow if format is None else cast(Runnable, Formatted(workflow, format))
