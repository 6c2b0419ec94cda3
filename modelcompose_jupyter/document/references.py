"""Every expression of a template, with what a checker or a form needs to know of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ..errors import ExpressionError
from .expression import Expression, Index, Text
from .reader import KeyPath
from .render import check_default
from .templates import (
    BRANCHES,
    Combination,
    Comparison,
    Conditional,
    Constant,
    Invalid,
    Join,
    ListTemplate,
    Loop,
    MappingTemplate,
    Spread,
    Template,
    TextTemplate,
)

SOURCES = {
    "input": "The workflow's input; in a component, what its job passes on.",
    "env": "Environment variables, by name.",
    "jobs": "Other jobs: ${jobs.ID.output} is what one gave.",
    "output": "What came back: the model's text, what a job gave; in a loop, of the round before.",
    "result": "The same as ${output}.",
    "response": "The same as ${output}.",
    "item": "The element that '*', '|' or a job's 'do' is at.",
    "index": "The number of the repeat, from 0; inside '*', '|' and 'do' the element's place.",
    "accumulator": "In a job of type accumulate: what came of the elements before.",
    "iteration": "In a loop: the number of the round, from 0.",
    "job": "What a condition or an interrupt is of: ${job.input}; after the job ${job.output}.",
    "error": "Why a job has failed: ${error.message}, ${error.code}.",
    "context": "About the run itself: ${context.run_id}.",
}
"""What expressions may take values from, with a sentence about each for editors."""

NOTES = {
    "description": "What the input is: forms show it below the field.",
    "label": "What forms call the input, in place of its name.",
    "example": "What may be entered: forms have a button for it. There may be several.",
    "placeholder": "What an empty field shows.",
}
"""The notes of expressions, ``@(name text)``, with a sentence about each for editors."""


@dataclass(frozen=True)
class Reference:
    """One expression in a template.

    Attributes:
        path: the place of the value that holds it, in the document.
        always: whether it is evaluated whenever the template is; not so in branches.
        fallback_of: the expressions in whose defaults it stands, the outermost first.
        local: sources that exist only here, ``item`` and ``index`` of the operators around it.
        whole: whether it is the value's whole text, so that the value has its type.
    """

    expression: Expression
    path: KeyPath
    always: bool = True
    fallback_of: tuple[Expression, ...] = ()
    local: frozenset[str] = frozenset()
    whole: bool = False

    @property
    def demands(self) -> bool:
        """Whether the template cannot be rendered well without a value for it."""
        return self.always and self.expression.default is None and not self.local


@dataclass(frozen=True)
class BrokenExpression:
    """A part of a template that cannot be rendered, whatever the context."""

    error: ExpressionError
    path: KeyPath


_LOCAL = frozenset(("item", "index"))


def references(template: Template | None) -> Iterator[Reference]:
    """The expressions of a template that can be rendered, in the order of the document."""
    return (each for each in findings(template) if isinstance(each, Reference))


def findings(template: Template | None) -> Iterator[Reference | BrokenExpression]:
    """The expressions of a template, and what is wrong with it, each in its place."""
    return iter(()) if template is None else _walk(template, True, frozenset())


def _walk(
    template: Template, always: bool, local: frozenset[str]
) -> Iterator[Reference | BrokenExpression]:
    parts: Iterable[Template] = ()
    match template:
        case TextTemplate(text=text):
            yield from _expressions(text, template.path, always, local)
        case Invalid(pieces=pieces):
            for piece in pieces:
                if isinstance(piece, Text):
                    yield from _expressions(piece, template.path, always, local)
                else:
                    yield BrokenExpression(piece, template.path)
        case Comparison(entries=entries):
            for key, entry in entries.items():
                yield from _walk(entry, always and key not in BRANCHES, local)
        case Loop(source=source, where=where, body=body):
            yield from _walk(source, always, local)
            for inner in (where, body):
                if inner is not None:
                    yield from _walk(inner, always, local | _LOCAL)
        case MappingTemplate(entries=entries):
            parts = entries.values()
        case ListTemplate(elements=parts) | Conditional(conditions=parts):
            pass
        case Combination(filters=parts):
            pass
        case Spread(source=source) | Join(source=source):
            parts = (source,)
    for part in parts:
        if not isinstance(part, Constant):
            yield from _walk(part, always, local)


def _expressions(
    text: Text, path: KeyPath, always: bool, local: frozenset[str]
) -> Iterator[Reference | BrokenExpression]:
    whole = text.only is not None
    for expression in text.expressions:
        yield from _expression(Reference(expression, path, always, (), local, whole))


def _expression(reference: Reference) -> Iterator[Reference | BrokenExpression]:
    """An expression, what is wrong with its default, and those inside it: in path and default."""
    yield reference
    expression = reference.expression
    try:
        check_default(expression)
    except ExpressionError as error:
        yield BrokenExpression(error, reference.path)
    for segment in expression.path:
        if isinstance(segment, Index) and isinstance(segment.value, Expression):
            yield from _expression(replace(reference, expression=segment.value, whole=False))
    if expression.default is not None:
        chain = (*reference.fallback_of, expression)
        for inner in expression.default.text.expressions:
            yield from _expression(
                replace(reference, expression=inner, fallback_of=chain, whole=False)
            )
