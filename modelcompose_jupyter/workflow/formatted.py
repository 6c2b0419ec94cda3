"""What texts of a format say: the values that they are the JSON of, or the texts; none that was
cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..document.format import Format
from ..errors import ComposeError, Where
from ..models import GenerationResult

_CUT = {
    "length": (
        "the text was cut after {tokens} tokens, before it was as 'format' asks",
        "Raise max_output_length, or bound what may be long: maxLength and maxItems in a schema.",
    ),
    "stop": (
        "a stop sequence ended the text before it was as 'format' asks",
        "Leave out stop_sequences: a text of a format ends by itself.",
    ),
    "cancelled": ("the text was stopped before it was as 'format' asks", None),
}


def outputs(result: GenerationResult, format: Format | None, where: Where | None) -> Sequence[Any]:
    """What each text of a result gives its component.

    Raises:
        ComposeError: a text was cut, and does not end by itself; its text stays with the run.
    """
    if format is None:
        return result.texts
    return [
        _value(text, reason, format, result, where)
        for text, reason in zip(result.texts, result.finish_reasons, strict=True)
    ]


def _value(
    text: str, reason: str, format: Format, result: GenerationResult, where: Where | None
) -> Any:
    if reason in _CUT:
        message, hint = _CUT[reason]
        tokens = result.parameters.get("max_output_length")
        raise ComposeError(message.format(tokens=tokens), hint=hint, code="format_cut", where=where)
    return format.value(text)
