"""The grammar of templates: a value as it was written, parsed once into a tree.

A template is any value: text with expressions, a list, a mapping (with the operators below), or a
plain value. ``render`` evaluates the tree, ``references`` reads it.

    {"...": m, k: v}     the entries of a mapping, in the place where they stand
    ["...${list}", v]    the elements of a list
    {"?": condition}     the branch of the first condition that has one; without one, nothing
    {"+": [a, b]}        texts, lists or mappings joined
    {"*": list, ...t}    the template `t` for each element, as `item` and `index`
    {"|": list, ...t}    each value of `t` for each element: a mapping of lists

    condition = {"input": template, "operator": name, "value": template,
                 "if_true": template, "if_false": template}
    filter    = condition | {"not": filter} | {"all": [filter, ...]} | {"any": [filter, ...]}

The list of `*` and `|` may be ``{"input": list, "where": filter}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..errors import ExpressionError, did_you_mean
from . import expression as grammar
from .expression import Expression, Text
from .reader import KeyPath
from .types import show

OPERATORS = frozenset(("...", "?", "*", "|", "+"))
Operator = Literal[
    "eq", "neq", "gt", "gte", "lt", "lte", "in", "not-in", "starts-with", "ends-with", "match"
]
COMPARISONS: tuple[str, ...] = get_args(Operator)
BRANCHES = ("if_true", "if_false")
_CONDITION_KEYS = ("input", "operator", "value", *BRANCHES)
_MAX_ERRORS = 20  # in one text; who has that many has seen enough of them


@dataclass(slots=True)
class Template:
    """A node of the tree: its value as it was written, and where it stands in the document.

    Nothing changes one; to be frozen would take seven times as long to make.
    """

    value: Any
    path: KeyPath

    def __str__(self) -> str:
        return str(self.value)

    @property
    def only(self) -> Expression | None:
        """The expression that all of it consists of, or None."""
        return None


class Constant(Template):
    """A value without expressions: it gives itself."""

    __slots__ = ()


@dataclass(slots=True)
class TextTemplate(Template):
    """Text with expressions in it."""

    text: Text

    @property
    def only(self) -> Expression | None:
        return self.text.only


@dataclass(slots=True)
class ListTemplate(Template):
    elements: tuple[Template, ...]


@dataclass(slots=True)
class Spread(Template):
    """An element ``"...${list}"``: the elements of the list stand in its place."""

    source: TextTemplate


@dataclass(slots=True)
class MappingTemplate(Template):
    """A mapping; under ``?`` its entry is a `Conditional`, and that of ``...`` is spread."""

    entries: dict[Any, Template]


@dataclass(slots=True)
class Join(Template):
    """``+``"""

    source: Template


@dataclass(slots=True)
class Loop(Template):
    """``*`` or ``|``: the body, or the element itself, for each that the filter lets through."""

    operator: str
    source: Template
    where: Template | None
    body: MappingTemplate | Invalid | None


@dataclass(slots=True)
class Conditional(Template):
    """``?``: its value is that of a branch of the first condition that has one."""

    conditions: tuple[Comparison | Invalid, ...]


@dataclass(slots=True)
class Comparison(Template):
    """A condition; ``entries`` has the templates under its keys, in the order of the document."""

    operator: str
    entries: dict[str, Template]


@dataclass(slots=True)
class Combination(Template):
    """A filter that is made of others: ``not`` of one, ``all`` or ``any`` of several."""

    word: str
    filters: tuple[Template, ...]


@dataclass(slots=True)
class Invalid(Template):
    """What cannot be rendered, whatever the context: its errors, and the text between them."""

    pieces: tuple[Text | ExpressionError, ...]

    @property
    def error(self) -> ExpressionError:
        return next(piece for piece in self.pieces if isinstance(piece, ExpressionError))


def parse_template(value: Any, path: KeyPath = ()) -> Template:
    """Parse a value, unless it is a template; what is wrong in it is `Invalid` where it stands."""
    if isinstance(value, Template):
        return value
    if isinstance(value, str):
        return _text(value, path) if "${" in value else Constant(value, path)
    if value is None or isinstance(value, int | float):
        return Constant(value, path)
    if isinstance(value, list | tuple):
        return ListTemplate(value, path, tuple(_elements(value, path)))
    if isinstance(value, Mapping):
        return _mapping(value, path)
    return Constant(value, path)


def _text(value: str, path: KeyPath) -> TextTemplate | Invalid:
    try:
        return TextTemplate(value, path, grammar.parse(value))
    except ExpressionError:
        return Invalid(value, path, tuple(_pieces(value)))


def _pieces(rest: str) -> Iterator[Text | ExpressionError]:
    """A text in which expressions break the grammar: what stands between them, and each error."""
    for _ in range(_MAX_ERRORS):
        try:
            yield grammar.parse(rest)
            return
        except ExpressionError as error:
            yield grammar.parse(rest[: error.offset])
            yield error
            end = grammar.read_to_end(rest, error.offset)[0] or len(rest)
            rest = rest[end:]


def _elements(values: list[Any] | tuple[Any, ...], path: KeyPath) -> Iterator[Template]:
    for index, value in enumerate(values):
        at = (*path, index)
        if isinstance(value, str) and value.startswith("...${"):
            source = _text(value[3:], at)
            if isinstance(source, Invalid):
                yield source
                continue
            if source.only is not None:
                yield Spread(value, at, source)
                continue
        yield parse_template(value, at)


def _mapping(value: Mapping[Any, Any], path: KeyPath) -> Template:
    if "+" in value:
        if len(value) == 1:
            return Join(value, path, parse_template(value["+"], (*path, "+")))
        other = next(key for key in value if key != "+")
        return _invalid(f"'+' stands alone, and '{other}' is beside it", value, path)
    for operator in ("*", "|"):
        if operator in value:
            return _loop(operator, value, path)
    return _plain_mapping(value, path)


def _plain_mapping(value: Mapping[Any, Any], path: KeyPath) -> MappingTemplate:
    entries = {
        key: _conditional(entry, (*path, key), path)
        if key == "?"
        else parse_template(entry, (*path, key))
        for key, entry in value.items()
    }
    return MappingTemplate(value, path, entries)


def _loop(operator: str, value: Mapping[Any, Any], path: KeyPath) -> Loop:
    source, where, at = value[operator], None, (*path, operator)
    if isinstance(source, Mapping) and "input" in source and set(source) <= {"input", "where"}:
        source, where = source["input"], source.get("where")
    return Loop(
        value,
        path,
        operator,
        parse_template(source, at),
        None if where is None else _filter(where, (*at, "where"), path),
        _body(operator, value, path),
    )


def _body(
    operator: str, value: Mapping[Any, Any], path: KeyPath
) -> MappingTemplate | Invalid | None:
    """What stands beside `*` or `|`: the template for each element."""
    body = {key: entry for key, entry in value.items() if key != operator}
    if other := next((each for each in ("*", "|") if each in body), None):
        return _invalid(f"'{operator}' and '{other}' cannot stand side by side", value, path)
    if operator == "|" and not body:
        return _invalid("'|' needs a template beside it, a key for each list", value, path)
    return _plain_mapping(body, path) if body else None


def _conditional(value: Any, path: KeyPath, owner: KeyPath) -> Conditional:
    if isinstance(value, list | tuple):
        conditions = [_condition(each, (*path, at), owner) for at, each in enumerate(value)]
    else:
        conditions = [_condition(value, path, owner)]
    return Conditional(value, path, tuple(conditions))


def _filter(value: Any, path: KeyPath, owner: KeyPath) -> Template:
    if isinstance(value, Mapping) and len(value) == 1:
        ((word, inner),) = value.items()
        at = (*path, word)
        if word == "not":
            return Combination(value, path, word, (_filter(inner, at, owner),))
        if word in ("all", "any") and isinstance(inner, list | tuple | Mapping):
            several = [inner] if isinstance(inner, Mapping) else inner
            filters = tuple(_filter(each, (*at, i), owner) for i, each in enumerate(several))
            return Combination(value, path, word, filters)
    return _condition(value, path, owner)


def parse_test(value: Any, path: KeyPath) -> Template:
    """Parse a filter as it was written: a comparison, or ``not``, ``all`` or ``any`` of such.

    What comes of it is evaluated by `render.holds`.
    """
    return _filter(value, path, path)


def _condition(value: Any, path: KeyPath, owner: KeyPath) -> Comparison | Invalid:
    """A comparison; what is wrong with it is said of the mapping with its operator, the owner."""
    if not isinstance(value, Mapping) or "input" not in value:
        message = "a condition is a mapping with 'input', 'operator' and 'value'"
        return _invalid(message, value, owner)
    unknown = next((key for key in value if key not in _CONDITION_KEYS), None)
    if unknown is not None:
        hint = did_you_mean(str(unknown), _CONDITION_KEYS)
        return _invalid(f"a condition has no key '{unknown}'", value, owner, hint)
    operator = value.get("operator", "eq")
    if not isinstance(operator, str) or operator not in COMPARISONS:
        hint = did_you_mean(str(operator), COMPARISONS) or (
            f"Operators are {', '.join(COMPARISONS)}."
        )
        return _invalid(f"a condition has no operator '{operator}'", value, owner, hint)
    entries = {
        key: parse_template(entry, (*path, key))
        for key, entry in value.items()
        if key != "operator"
    }
    return Comparison(value, path, operator, entries)


def _invalid(message: str, value: Any, path: KeyPath, hint: str | None = None) -> Invalid:
    written = show(dict(value) if isinstance(value, Mapping) else value)
    return Invalid(value, path, (ExpressionError(message, expression=written, hint=hint),))
