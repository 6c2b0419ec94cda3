"""Rendering: a template and a context of sources in, a value out.

Values that come from the context are never rendered again. Templates and inputs come from
different people, and a short template can ask for a value of any size, so what is made of both is
bounded; see `MAX_TEXT`, `MAX_VALUE` and `MAX_STEPS`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import regex

from ..errors import ExpressionError, did_you_mean
from .expression import Default, Each, Expression, Index, Key, Segment, Slice, Text
from .templates import (
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
    parse_template,
)
from .types import ConversionError, Type, convert, parse_json, show, text

MAX_TEXT = 2**25
"""Characters of text that rendering one template writes: ten times the longest context's."""
MAX_VALUE = 2**28
"""Characters of a value written out, be it that some parts of it are the same object: ten thousand
generations of the longest texts, or a million parts, each of which counts as `_PART` more."""
MAX_STEPS = 1_000_000
"""Parts of templates that are rendered, and elements that are copied, for one value."""
MAX_MATCH_SECONDS = 1.0
"""For all that `match` looks for in one value: a pattern that repeats repeats may take for ever."""

_PART = 256
_CHARACTERS = 128  # that a comparison looks at in about the time of a step
_LONGEST_PATTERN = 10_000
_LONGEST_WRITTEN_OUT = 100_000
_PATTERN_TOKENS = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(?P<least>\d+)(?:,(?P<most>\d*))?\}|.", re.DOTALL
)
_NOTHING = object()  # what a `?` without a branch gives: the key or element is left out
_AS_THEY_ARE = {"text", "string", "markdown", "select"}
_TEXTUAL = {*_AS_THEY_ARE, "base64"}


def render(template: Any, context: Mapping[str, Any]) -> Any:
    """Render a template, or a value that is parsed as one; ``context`` has its sources.

    Raises:
        ExpressionError: an expression, which it names, cannot be read, names no source, or has a
            value of another type than it says.
    """
    try:
        parsed = parse_template(template)
        value = _Renderer(context, _Budget()).render(parsed)
    except RecursionError:
        raise ExpressionError("there is no end to the nesting", expression="the template") from None
    if value is _NOTHING:
        return None
    check_size(value, show(parsed.value))
    return value


def holds(test: Template, context: Mapping[str, Any]) -> bool:
    """Whether a test that `templates.parse_test` made holds, in a context as `render` takes.

    Raises:
        ExpressionError: as `render`, and where values cannot be compared.
    """
    return _Renderer(context, _Budget()).holds(test)


def check_size(value: Any, expression: str) -> None:
    """Raise ExpressionError where a value is larger than `MAX_VALUE`; it names the expression."""
    if text_size(value, MAX_VALUE, _PART) > MAX_VALUE:
        raise _too_large(f"the value has more than {MAX_VALUE:,} characters", expression)


class SizeCount:
    """Counts values as they come, which together are no larger than `MAX_VALUE`.

    It names ``expression`` where they are.
    """

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._size = 0

    def add(self, value: Any) -> None:
        """Count another one.

        Raises:
            ExpressionError: it is one too many.
        """
        self._size += text_size(value, MAX_VALUE, _PART)
        if self._size > MAX_VALUE:
            raise _too_large(f"the value has more than {MAX_VALUE:,} characters", self._expression)


def text_size(value: Any, most: int, part: int = 16) -> int:
    """Characters of a value written out, more or less; beyond ``most`` nothing is counted.

    Each part of it, be it a key and its value or an element, takes ``part`` beside its text.
    """
    total, rest = part, [value]
    while rest and total <= most:
        each = rest.pop()
        if isinstance(each, str):
            total += len(each)
        elif isinstance(each, Mapping):
            total += part * len(each) + sum(len(key) for key in each if isinstance(key, str))
            rest += each.values()
        elif isinstance(each, list | tuple):
            total += part * len(each)
            rest += each
    return total


def _too_large(message: str, expression: str) -> ExpressionError:
    hint = "Pass on less of it: repeat no value, or name the parts that are needed."
    return ExpressionError(message, expression=expression, hint=hint, code="value_too_large")


def _check_pattern(pattern: str) -> None:
    """Raise ExpressionError for a regular expression that takes long to be read."""
    if len(pattern) > _LONGEST_PATTERN:
        raise ExpressionError(
            f"the pattern has {len(pattern):,} characters, and {_LONGEST_PATTERN:,} are the most",
            expression=pattern,
            code="match_too_slow",
        )
    if _written_out(pattern) > _LONGEST_WRITTEN_OUT:
        raise ExpressionError(
            f"the pattern is longer than {_LONGEST_WRITTEN_OUT:,} parts once its repeats are"
            " written out",
            expression=pattern,
            hint="Write + or * in place of large numbers in braces.",
            code="match_too_slow",
        )


def _written_out(pattern: str) -> int:
    """How many parts a regular expression has where ``{3}`` is the part before it three times."""
    groups = [[0]]
    for token in _PATTERN_TOKENS.finditer(pattern):
        if token[0] == "(":
            groups.append([0])
        elif token[0] == ")" and len(groups) > 1:
            group = sum(groups.pop())
            groups[-1].append(group + 1)
        elif token["least"]:
            times = token["most"] or token["least"]
            groups[-1][-1] *= int(times) if len(times) < 10 else 10**9
        else:
            groups[-1].append(1)
    return sum(map(sum, groups))


class _Budget:
    """How much may still be made for one value."""

    def __init__(self) -> None:
        self._text = MAX_TEXT
        self._steps = MAX_STEPS
        self._match_seconds = MAX_MATCH_SECONDS

    def step(self, count: int = 1) -> None:
        self._steps -= count
        if self._steps < 0:
            raise _too_large(f"it takes more than {MAX_STEPS:,} steps", "the template")

    def write(self, characters: int, expression: str) -> None:
        self._text -= characters
        if self._text < 0:
            raise _too_large(f"more than {MAX_TEXT:,} characters are written", expression)

    def match(self, pattern: str, within: str) -> bool:
        """Whether a regular expression is found; `regex` lets others run while it looks."""
        began = time.monotonic()
        _check_pattern(pattern)
        try:
            found = regex.search(pattern, within, timeout=max(0.001, self._match_seconds))
        except TimeoutError:
            raise ExpressionError(
                f"matching took more than {MAX_MATCH_SECONDS:g} s",
                expression=pattern,
                hint="Write a pattern that can match in one way only: no repeats of repeats.",
                code="match_too_slow",
            ) from None
        self._match_seconds -= time.monotonic() - began
        return found is not None

    def convert(self, value: Any, type_: Type, expression: Expression) -> None:
        """What converting a value takes: texts stay as they are, and all else is made anew."""
        if not (isinstance(value, str) and type_.name in _AS_THEY_ARE and not type_.is_list):
            self.write(text_size(value, MAX_TEXT), expression.text)


class _Renderer:
    def __init__(self, context: Mapping[str, Any], budget: _Budget) -> None:
        self._context = context
        self._budget = budget

    def render(self, template: Template) -> Any:
        self._budget.step()
        match template:
            case Constant():
                return template.value
            case TextTemplate():
                return self._text(template.text)
            case MappingTemplate():
                return self._mapping(template.entries)
            case ListTemplate():
                return self._list(template.elements)
            case Loop():
                return self._loop(template)
            case Join():
                return self._join(template.source)
            case Conditional():
                return self._branch(template.conditions)
            case Invalid():
                raise template.error
        raise AssertionError(template)

    # Text and expressions

    def _text(self, template: Text) -> Any:
        if template.only is not None:
            return self.evaluate(template.only)
        return "".join(map(self._written, template.parts))

    def _written(self, part: str | Expression) -> str:
        self._budget.step()
        if isinstance(part, str):
            self._budget.write(len(part), part)
            return part
        value = self.evaluate(part)
        if value is None:
            return ""
        written = len(value) if isinstance(value, str) else text_size(value, MAX_TEXT)
        self._budget.write(written, part.text)
        with _naming(part):
            return text(value)

    def evaluate(self, expression: Expression) -> Any:
        value = self.lookup(expression)
        type_ = expression.type
        if value == "" and type_ is not None and type_.empty_is_missing:
            if expression.default is None:
                raise ExpressionError(
                    f"an empty text is not a {type_.name}", expression=expression.text
                )
            value = None
        if value is None and expression.default is not None:
            return self._default(expression, expression.default)
        return value if type_ is None else self._converted(value, type_, expression)

    def _converted(self, value: Any, type_: Type, expression: Expression) -> Any:
        self._budget.convert(value, type_, expression)
        with _naming(expression):
            return convert(value, type_)

    def _default(self, expression: Expression, default: Default) -> Any:
        value = self._text(default.text)
        type_ = expression.type
        literal = not default.quoted and not default.text.expressions
        if literal and (type_ is None or type_.is_list or type_.name not in _TEXTUAL):
            self._budget.write(len(value), expression.text)
            with suppress(ConversionError):  # else it is no JSON, but its text
                value = parse_json(value)
        return value if type_ is None else self._converted(value, type_, expression)

    def lookup(self, expression: Expression) -> Any:
        """The value at the expression's path, before its type and default."""
        if expression.source not in self._context:
            hint = did_you_mean(expression.source, self._context)
            raise ExpressionError(
                f"there is no source '{expression.source}' here",
                expression=expression.text,
                hint=hint or f"Sources here are {', '.join(self._context) or 'none'}.",
            )
        root, names = self._context[expression.source], expression.keys
        is_job = expression.source == "jobs" and isinstance(root, Mapping)
        if is_job and names and names[0] not in root:
            raise ExpressionError(
                f"there is no job '{names[0]}' with an output here",
                expression=expression.text,
                hint=did_you_mean(names[0], root),
            )
        return self._follow(root, expression.path)

    def _follow(self, value: Any, path: tuple[Segment, ...]) -> Any:
        for position, segment in enumerate(path):
            if isinstance(segment, Each):
                if not isinstance(value, list | tuple):
                    return None
                self._budget.step(len(value))
                rest = path[position + 1 :]
                return [self._follow(element, rest) for element in value]
            value = self._step(value, segment)
            if value is None:
                return None
        return value

    def _step(self, value: Any, segment: Key | Index | Slice) -> Any:
        if isinstance(segment, Slice):
            if not isinstance(value, list | tuple):
                return None
            taken = list(value[segment.start : segment.stop])
            self._budget.step(len(taken))
            return taken
        key: Any = segment.name if isinstance(segment, Key) else segment.value
        if isinstance(key, Expression):
            key = self.evaluate(key)
        if isinstance(value, Mapping):
            return value.get(key) if isinstance(key, str) else None
        if isinstance(value, list | tuple) and isinstance(key, int) and not isinstance(key, bool):
            return value[key] if -len(value) <= key < len(value) else None
        return None

    # Lists and mappings

    def _list(self, elements: tuple[Template, ...]) -> list[Any]:
        result: list[Any] = []
        for element in elements:
            if isinstance(element, Spread):
                value = self.render(element.source)
                if value is not None and not isinstance(value, list | tuple):
                    raise ExpressionError(
                        f"'...' in a list needs a list, and {show(value)} is none",
                        expression=element.source.value,
                    )
                self._budget.step(len(value or ()))
                result += value or []
            elif (value := self.render(element)) is not _NOTHING:
                result.append(value)
        return result

    def _mapping(self, entries: Mapping[Any, Template]) -> Any:
        if len(entries) == 1 and "?" in entries:
            return self.render(entries["?"])
        result: dict[Any, Any] = {}
        for key, entry in entries.items():
            value = self.render(entry)
            if value is _NOTHING:
                continue
            if key not in ("...", "?"):
                result[key] = value
            elif value is not None:
                if not isinstance(value, Mapping):
                    raise ExpressionError(
                        f"'{key}' beside other keys needs a mapping, and {show(value)} is none",
                        expression=show(entry.value),
                    )
                self._budget.step(len(value))
                result.update(value)
        return result

    def _join(self, source: Template) -> Any:
        rendered = self.render(source)
        if not isinstance(rendered, list):
            raise ExpressionError("'+' needs a list", expression=show(source.value))
        values = [value for value in rendered if value is not None]
        if not values:
            return None
        if all(isinstance(value, str) for value in values):
            self._budget.write(sum(map(len, values)), show(source.value))
            return "".join(values)
        self._budget.step(
            sum(len(value) for value in values if isinstance(value, Mapping | list | tuple))
        )
        if all(isinstance(value, Mapping) for value in values):
            return {key: entry for value in values for key, entry in value.items()}
        if all(isinstance(value, list | tuple) for value in values):
            return [element for value in values for element in value]
        raise ExpressionError(
            "'+' joins texts, lists or mappings, all of one kind", expression=show(source.value)
        )

    def _loop(self, loop: Loop) -> Any:
        body = loop.body
        if isinstance(body, Invalid):
            raise body.error
        elements = self._elements(loop)
        if loop.operator == "|" and body is not None:
            inners = list(elements)
            return {
                key: [inner.value(entry) for inner in inners] for key, entry in body.entries.items()
            }
        made = (inner.item if body is None else inner.render(body) for inner in elements)
        return [value for value in made if value is not _NOTHING]

    def _elements(self, loop: Loop) -> Iterator[_ItemRenderer]:
        """A renderer for each element of the list that the filter lets through."""
        values = self.render(loop.source)
        if values is None:
            return
        if not isinstance(values, list | tuple):
            raise ExpressionError(
                f"'{loop.operator}' needs a list, and {show(values)} is none",
                expression=show(loop.source.value),
            )
        for index, item in enumerate(values):
            self._budget.step()
            inner = _ItemRenderer(self._context, self._budget, item, index)
            if loop.where is None or inner.holds(loop.where):
                yield inner

    # Conditions

    def _branch(self, conditions: Iterable[Comparison | Invalid]) -> Any:
        for condition in conditions:
            branch = "if_true" if self.holds(condition) else "if_false"
            assert isinstance(condition, Comparison)
            if branch in condition.entries:
                return self.render(condition.entries[branch])
        return _NOTHING

    def holds(self, condition: Template) -> bool:
        match condition:
            case Combination(word="not", filters=(inner,)):
                return not self.holds(inner)
            case Combination(word=word, filters=filters):
                return (all if word == "all" else any)(map(self.holds, filters))
            case Invalid(error=error):
                raise error
            case Comparison(operator=operator, entries=entries):
                left = self.render(entries["input"])
                right = self.render(entries["value"]) if "value" in entries else None
                return self._compare(left, operator, right, entries["input"])
        raise AssertionError(condition)

    def _compare(self, left: Any, operator: str, right: Any, shown: Template) -> bool:
        self._budget.step(_length(left) + _length(right))
        try:
            if operator == "match":
                return self._budget.match(text(right), text(left))
            return _COMPARISONS[operator](left, right)
        except (TypeError, ConversionError):
            message = f"'{operator}' cannot compare {show(left)} with {show(right)}"
        except regex.error as error:
            message = f"{show(right)} is not a regular expression: {error}"
        raise ExpressionError(message, expression=show(shown.value))


def _length(value: Any) -> int:
    """In steps: what it takes to compare a value, or to look for something in it."""
    if isinstance(value, str):
        return len(value) // _CHARACTERS
    return len(value) if isinstance(value, list | tuple) else 0


class _ItemRenderer(_Renderer):
    """A renderer inside `*` or `|`, where `item` and `index` are sources too."""

    def __init__(self, context: Mapping[str, Any], budget: _Budget, item: Any, index: int) -> None:
        super().__init__({**context, "item": item, "index": index}, budget)
        self.item = item

    def value(self, template: Template) -> Any:
        value = self.render(template)
        return None if value is _NOTHING else value


@contextmanager
def _naming(expression: Expression) -> Iterator[None]:
    """Turn a conversion's error into one that names the expression.

    It does not show what comes from the environment: that may be a secret.
    """
    try:
        yield
    except ConversionError as error:
        message, hint = str(error), error.hint
        inner = expression.default.text.expressions if expression.default else ()
        if "env" in {expression.source, *(each.source for each in inner)}:
            wanted = f"of type {expression.type}" if expression.type else "text"
            message, hint = f"the value is not {wanted}", None
        raise ExpressionError(message, expression=expression.text, hint=hint) from None


def check_default(expression: Expression) -> None:
    """Raise ExpressionError where a default without expressions is not of the type beside it."""
    if expression.default is not None and not expression.default.text.expressions:
        _Renderer({}, _Budget())._default(expression, expression.default)


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda left, right: bool(left == right),
    "neq": lambda left, right: bool(left != right),
    "gt": lambda left, right: bool(left > right),
    "gte": lambda left, right: bool(left >= right),
    "lt": lambda left, right: bool(left < right),
    "lte": lambda left, right: bool(left <= right),
    "in": lambda left, right: left in right,
    "not-in": lambda left, right: left not in right,
    "starts-with": lambda left, right: text(left).startswith(text(right)),
    "ends-with": lambda left, right: text(left).endswith(text(right)),
}
