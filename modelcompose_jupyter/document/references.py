"""Every expression in a template, with what a checker or a form needs to know of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import ExpressionError
from . import expression as grammar
from . import render
from .expression import Expression
from .reader import Path

_MAX_FLAWS = 20  # in one text; who has that many has seen enough of them


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
    path: Path
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
    path: Path


def references(template: Any, path: Path = ()) -> Iterator[Reference | BrokenExpression]:
    """Walk a template; flaws come in the place where they stand."""
    yield from _Walker().walk(template, path)


class _Walker:
    def __init__(self, always: bool = True, local: frozenset[str] = frozenset()) -> None:
        self._always = always
        self._local = local

    def _sometimes(self) -> _Walker:
        return _Walker(False, self._local)

    def _inside(self) -> _Walker:
        return _Walker(self._always, self._local | {"item", "index"})

    def walk(self, template: Any, path: Path) -> Iterator[Reference | BrokenExpression]:
        if isinstance(template, str):
            if "${" in template:
                yield from self._text(template, path)
        elif isinstance(template, list | tuple):
            for index, element in enumerate(template):
                spread = render.spread_of(element) if isinstance(element, str) else None
                yield from self.walk(spread or element, (*path, index))
        elif isinstance(template, Mapping):
            try:
                yield from self._mapping(template, path)
            except ExpressionError as error:
                yield BrokenExpression(error, path)

    def _text(self, template: str, path: Path) -> Iterator[Reference | BrokenExpression]:
        rest = template
        for _ in range(_MAX_FLAWS):
            try:
                yield from self._good_text(rest, path)
                return
            except ExpressionError as error:
                yield from self._good_text(rest[: error.offset], path)
                yield BrokenExpression(error, path)
                end = grammar.expression_end(rest, error.offset) or len(rest)
                rest = rest[end:]

    def _good_text(self, template: str, path: Path) -> Iterator[Reference | BrokenExpression]:
        text = grammar.parse(template)
        for expression in text.expressions:
            whole = text.only is not None
            yield from self._expression(
                Reference(expression, path, self._always, (), self._local, whole)
            )

    def _expression(self, reference: Reference) -> Iterator[Reference | BrokenExpression]:
        yield reference
        try:
            render.check_default(reference.expression)
        except ExpressionError as error:
            yield BrokenExpression(error, reference.path)
        for inner in reference.expression.subscripts():
            yield from self._expression(replace(reference, expression=inner, whole=False))
        if reference.expression.default is not None:
            chain = (*reference.fallback_of, reference.expression)
            for inner in reference.expression.default.text.expressions:
                yield from self._expression(
                    replace(reference, expression=inner, fallback_of=chain, whole=False)
                )

    def _mapping(
        self, template: Mapping[Any, Any], path: Path
    ) -> Iterator[Reference | BrokenExpression]:
        if "+" in template:
            render.stands_alone(template, "+")
        for operator in ("*", "|"):
            if operator in template:
                yield from self._elements(template, operator, path)
                return
        for key, entry in template.items():
            if key == "?":
                yield from self._conditions(entry, (*path, key))
            else:
                yield from self.walk(entry, (*path, key))

    def _elements(
        self, template: Mapping[Any, Any], operator: str, path: Path
    ) -> Iterator[Reference | BrokenExpression]:
        source, where = render.elements_and_filter(template[operator])
        yield from self.walk(source, (*path, operator))
        inside = self._inside()
        if where is not None:
            yield from inside._condition(where, (*path, operator, "where"))
        yield from inside._mapping(render.body_of(template, operator), path)

    def _conditions(self, conditions: Any, path: Path) -> Iterator[Reference | BrokenExpression]:
        if not isinstance(conditions, list):
            yield from self._branches(conditions, path)
            return
        for index, condition in enumerate(conditions):
            yield from self._branches(condition, (*path, index))

    def _condition(self, condition: Any, path: Path) -> Iterator[Reference | BrokenExpression]:
        """A condition on elements, which may be made of others."""
        if isinstance(condition, Mapping) and len(condition) == 1:
            ((word, inner),) = condition.items()
            if word == "not":
                yield from self._condition(inner, (*path, word))
                return
            if word in ("all", "any") and isinstance(inner, list):
                for index, each in enumerate(inner):
                    yield from self._condition(each, (*path, word, index))
                return
        yield from self._branches(condition, path)

    def _branches(self, condition: Any, path: Path) -> Iterator[Reference | BrokenExpression]:
        render.check_condition(condition)
        for key, entry in condition.items():
            walker = self._sometimes() if key in ("if_true", "if_false") else self
            yield from walker.walk(entry, (*path, key))
