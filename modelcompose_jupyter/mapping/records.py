"""Outputs of a format, as a map hands them out: columns of a table, or instances of a type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..document import Workflow
from ..document.templates import OPERATORS, MappingTemplate
from ..errors import ComposeError
from ..format_types import GivenFormat, made_of_output, one_name

_VALUE, _ERROR = "output", "error"


class Records:
    """How outputs of a workflow are handed out.

    Args:
        workflow: what runs.
        format: what the call gives; the document has one if None.
        names: the columns that outputs become.
        within: where the output is a mapping, and the value in it, the name there.
        are_mappings: whether the columns are keys of the value.
    """

    def __init__(
        self,
        workflow: Workflow,
        format: GivenFormat | None,
        names: Sequence[str],
        within: str | None,
        are_mappings: bool,
    ) -> None:
        self._workflow = workflow
        self._format = format
        self._names = names
        self._within = within
        self._are_mappings = are_mappings

    def handed_out(self, output: Any) -> Any:
        """A row's output; of a type where that is the format, or the ComposeError that it is
        none."""
        if self._format is None or isinstance(output, ComposeError):
            return output
        try:
            return self._format.value(output, self._workflow)
        except ComposeError as error:
            return error.with_traceback(None)

    def columns(self, outputs: Sequence[Any]) -> dict[str, list[Any]]:
        """Outputs as columns, and one more with the messages of rows that failed."""
        values = [self._value(each) for each in outputs]
        columns = {name: [value.get(name) for value in values] for name in self._names}
        error = _ERROR if _ERROR not in columns else f"{_ERROR}_"
        errors = [each.message if isinstance(each, ComposeError) else None for each in outputs]
        return {**columns, error: errors}

    def _value(self, output: Any) -> Mapping[str, Any]:
        if isinstance(output, ComposeError):
            return {}
        value = output[self._within] if self._within is not None else output
        if self._are_mappings:
            return value if isinstance(value, Mapping) else {}
        return {_VALUE: value}


def records_of(workflow: Workflow, format: GivenFormat | None) -> Records | None:
    """How outputs of a workflow are handed out; None where its texts have no format."""
    call = workflow.last_call
    if call is None:
        return None
    written = call.action.parameters.get("format")
    if format is None and written is None:
        return None
    given = format.plain if format is not None else written.value if written is not None else None
    within, output = one_name(workflow), made_of_output(workflow)
    if within is None and output is not None:
        is_mapping = isinstance(output, MappingTemplate) and not OPERATORS & output.entries.keys()
        names = list(output.entries) if isinstance(output, MappingTemplate) and is_mapping else []
        return Records(workflow, format, names or [_VALUE], None, bool(names))
    is_value = call.action.output is None and not call.gives_several
    names = _properties(given) if is_value and len(workflow.last_jobs) == 1 else []
    return Records(workflow, format, names or [_VALUE], within, bool(names))


def _properties(format: Any) -> list[str]:
    """The properties of the records that a format asks for; none where it is no such format."""
    schema = format.get("json_schema") if isinstance(format, Mapping) else None
    if not isinstance(schema, Mapping):
        return []
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        schema = schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
    properties = schema.get("properties")
    return list(properties) if isinstance(properties, Mapping) else []
