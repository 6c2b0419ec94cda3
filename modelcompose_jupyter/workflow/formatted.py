"""What texts of a format say: the values that they are the JSON of, or the texts; none that was
cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..document import Document, Workflow
from ..document.format import Format
from ..document.types import ConversionError
from ..errors import ComposeError, InputError, Where
from ..models import GenerationResult
from .tool_loop import called

_CUT = {
    "length": (
        "the text was cut after {tokens} tokens, before it was as 'format' asks",
        "Raise max_output_length, or bound what may be long{how}.",
    ),
    "stop": (
        "a stop sequence ended the text before it was as 'format' asks",
        "Leave out stop_sequences: a text of a format ends by itself.",
    ),
    "cancelled": ("the text was stopped before it was as 'format' asks", None),
}
_HOW = {
    "json_schema": ": by maxLength, maxItems, multipleOf",
    "regex": ": write {0,20} in place of '*', {1,20} in place of '+'",
    "grammar": ": write {0,20} in place of '*', {1,20} in place of '+'",
}
"""How what a format allows is made shorter."""


def check_formattable(document: Document, workflow: Workflow) -> None:
    """Raise InputError for a workflow of which nobody could say which text a format is of."""
    if workflow.only_call is None:
        several = len(workflow.jobs)
        has = f"has {several}" if several > 1 else "does more"
        raise InputError(
            f"a run's 'format' is that of one job that calls a model, and the workflow {has}",
            hint="Write 'format:' into the document, in the component whose texts have it.",
            where=document.where(workflow.path),
        )


def outputs(result: GenerationResult, format: Format | None, where: Where | None) -> Sequence[Any]:
    """What each text of a result gives its component.

    Raises:
        ComposeError: a text was cut, or says what cannot be held; it stays with the run.
    """
    if format is None:
        return result.texts
    return [
        _value(text, reason, format, result, where)
        for text, reason in zip(result.texts, result.finish_reasons, strict=True)
    ]


def tool_outputs(
    result: GenerationResult, format: Format | None, where: Where | None
) -> Sequence[Any]:
    """`outputs` of replies that may be calls of tools: such a reply gives its calls.

    Raises:
        ComposeError: a text was cut, and does not end by itself.
    """
    return [
        called(calls)
        if reason == "tool_calls"
        else text
        if format is None
        else _value(text, reason, format, result, where)
        for text, reason, calls in zip(
            result.texts,
            result.finish_reasons,
            result.tool_calls or [()] * len(result.texts),
            strict=True,
        )
    ]


def _value(
    text: str, reason: str, format: Format, result: GenerationResult, where: Where | None
) -> Any:
    if reason in _CUT:
        message, hint = _CUT[reason]
        message = message.format(tokens=result.parameters["max_output_length"])
        how = _HOW.get(format.kind, "")
        if format.kind == "json_schema" and where is None:  # a call's own, which may be of a type
            how = f"{how}, in a type by Field(max_length=…)"
        hint = hint and hint.format(how=how)
        raise ComposeError(message, hint=hint, code="format_cut", where=where, text=text)
    try:
        return format.value(text)
    except ConversionError as error:
        raise ComposeError(
            f"the text is as 'format' asks, and cannot be used: {error}",
            hint="Bound it in the schema: minimum and maximum of numbers, say.",
            code="format_unusable",
            where=where,
            text=text,
        ) from None
