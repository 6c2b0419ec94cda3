"""Chat templates: programs by whoever made the model, run within bounds.

A template is rendered as transformers' ``apply_chat_template`` renders it. What it does is counted
on the way, in steps and in bytes, and looked at before it is done where its result could be large;
so a template can neither hold a model's thread nor fill its memory. Needs neither transformers nor
torch.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import lru_cache, wraps
from sys import getsizeof
from types import GeneratorType
from typing import Any

from jinja2 import TemplateError, nodes, pass_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.filters import make_attrgetter
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import (
    ImmutableSandboxedEnvironment,
    SandboxedEscapeFormatter,
    SandboxedFormatter,
)
from jinja2.utils import Namespace
from markupsafe import Markup

from ..errors import ModelError

MOST_STEPS = 5_000_000
"""Of one rendering. A step is a block, a call, or work on 1,024 characters; 10,000 messages through
Qwen 3's template take 135,000."""
MOST_CHARACTERS = 8 << 20
"""Of a value, and of what is rendered; all messages of a request together have half of that."""
MOST_BYTES = 256 << 20
"""That all values of one rendering take, those that are gone included: so it never holds more."""
MOST_SOURCE = 256 << 10
"""Characters of a template; the longest that there are have about 30,000."""
MOST_DEPTH = 200
"""Of lists in lists; tool descriptions reach about ten."""
_MOST_BITS = 100_000  # of a whole number
_MOST_COSTLY = 100_000  # characters, for what may take their square
_STEP = 1024
_LOOK_EVERY = 256
_ITEM = 64  # bytes, about, of one item of a list with what it holds

# What costs the same however large its arguments are; the cost of others is that of their size.
_SHALLOW_METHODS = frozenset(
    (
        "get", "keys", "values", "items", "copy", "startswith", "endswith", "removeprefix",
        "removesuffix",
    )
)  # fmt: skip
_SHALLOW = frozenset(
    (
        "length", "count", "first", "last", "items", "reverse", "default", "d", "map", "select",
        "reject", "selectattr", "rejectattr", "random", "attr", "list", "safe", "defined",
        "undefined", "string", "mapping", "sequence", "iterable", "none", "number", "boolean",
        "true", "false", "sameas", "integer", "float", "callable",
    )
)  # fmt: skip
_COSTLY = frozenset(("pprint", "striptags", "title", "truncate", "urlize", "wordwrap"))
_WIDTHS = re.compile(r"\d+")
_PLAIN = frozenset((int, float, bool, type(None)))
_CONTAINERS = (list, tuple, Mapping, AbstractSet, ValuesView)

Check = Callable[[], None]
"""Called now and then; raises where nobody wants the result any more."""


class TemplateLimit(ModelError):
    """A chat template asks for more than any real one."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the model's chat template {what}",
            hint="No chat needs that: its author must mend it, or the chat is too long for it.",
            code="chat_template",
        )


def render(
    source: str,
    messages: Sequence[Mapping[str, Any]],
    variables: Mapping[str, Any],
    check: Check = lambda: None,
) -> str:
    """The text of a chat, up to where the reply begins.

    Args:
        source: the template's text.
        messages: plain data.
        variables: plain data by name, special tokens among it.
        check: what it raises ends the rendering.

    Raises:
        TemplateLimit: the template asks for more than any real one.
        jinja2.TemplateError: as the template raises it, or a subclass: what is wrong with it.
        Exception: what operations of the template raise.
    """
    template = compiled(source)
    said = [{key: each[key] for key in each if each[key] is not None} for each in messages]
    meter = _Meter(check)
    _active.meter, before = meter, getattr(_active, "meter", None)
    try:
        for value in (said, variables):
            meter.weigh(value)
        text: str = template.render(
            **{
                "messages": said, "tools": None, "documents": None,
                "add_generation_prompt": True, **variables,
            }
        )  # fmt: skip
        return text
    except (RecursionError, MemoryError) as error:
        raise TemplateLimit(f"calls itself too deeply ({type(error).__name__})") from None
    finally:
        _active.meter = before


@lru_cache(maxsize=16)
def compiled(source: str) -> Any:
    """A template that is ready to be rendered.

    Raises:
        TemplateLimit: it is too long, or too deep.
        jinja2.TemplateSyntaxError: it is none.
    """
    if len(source) > MOST_SOURCE:
        raise TemplateLimit(f"has {len(source)} characters, and {MOST_SOURCE} are the limit")
    try:
        return _environment().from_string(source)
    except (RecursionError, MemoryError, SyntaxError) as error:
        raise TemplateLimit(f"is nested too deeply ({type(error).__name__})") from None


_active = threading.local()


def _meter() -> _Meter:
    """That of the rendering on this thread."""
    meter: _Meter | None = getattr(_active, "meter", None)
    if meter is None:  # while a template is compiled: nothing is computed then
        raise nodes.Impossible
    return meter


class _Meter:
    """What one rendering has done, and what it may."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._steps = 0
        self._look = _LOOK_EVERY
        self._bytes = 0
        # By identity: containers do not change in the sandbox, and stay while they are here.
        self._known: dict[int, tuple[Any, int, int]] = {}

    def step(self, count: int = 1) -> None:
        """Count work."""
        self._steps += count
        if self._steps >= self._look:
            if self._steps > MOST_STEPS:
                raise TemplateLimit(f"takes more than {MOST_STEPS} steps")
            self._look = self._steps + _LOOK_EVERY
            self._check()

    def hold(self, size: int) -> None:
        """Count memory, before it is taken where that is possible."""
        self._bytes += size
        if self._bytes > MOST_BYTES:
            raise TemplateLimit(f"makes more than {MOST_BYTES >> 20} MiB of values")

    def expect(self, characters: int) -> None:
        """Look at the size that a value is going to have."""
        if characters > MOST_CHARACTERS:
            raise TemplateLimit(f"makes a value of more than {MOST_CHARACTERS} characters")

    def made(self, value: Any) -> Any:
        """Count a value that was made; gives it back."""
        if isinstance(value, str | bytes | bytearray):
            self.expect(len(value))
            self.hold(getsizeof(value))
            if len(value) > _STEP:
                self.step(len(value) // _STEP)
        elif isinstance(value, GeneratorType):
            return self._counted(value)
        elif isinstance(value, int):
            if value.bit_length() > _MOST_BITS:
                raise TemplateLimit("makes a number of too many digits")
        elif isinstance(value, _CONTAINERS):
            self.weigh(value)
            self.hold(_ITEM * (len(value) + 1))
            self.step(len(value) // _ITEM)
        return value

    def _counted(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            self.step()
            yield self.made(item) if isinstance(item, _CONTAINERS) else item

    def weigh(self, value: Any) -> int:
        """How many characters a value has, with all that is in it, as if it were written out.

        So it bounds what it takes to write it, to compare it and to look for something in it, also
        where the same list stands in a list many times.
        """
        return self._weigh(value)[0]

    def _weigh(self, value: Any) -> tuple[int, int]:
        if isinstance(value, str | bytes | bytearray):
            return len(value) + 1, 0
        if not isinstance(value, _CONTAINERS):
            return 8, 0
        known = self._known.get(id(value))
        if known is not None:
            return known[1], known[2]
        parts = [*value, *value.values()] if isinstance(value, Mapping) else value
        self.step(len(value) // _ITEM)
        weight, depth = 2, 0
        for part in parts:
            if type(part) in _PLAIN:
                weight += 8
                continue
            size, below = self._weigh(part)
            weight += size
            depth = max(depth, below)
        if weight > 4 * MOST_CHARACTERS:
            raise TemplateLimit(f"makes a list of more than {4 * MOST_CHARACTERS} characters")
        if depth >= MOST_DEPTH:
            raise TemplateLimit(f"nests lists more than {MOST_DEPTH} deep")
        self._known[id(value)] = (value, weight, depth + 1)
        return weight, depth + 1

    def work(self, name: str, given: Iterable[Any], shallow: bool = False) -> None:
        """Count a call, by its name and all its arguments, before it is made."""
        self.step()
        if shallow:
            return
        total = 0
        for each in given:
            if isinstance(each, _CONTAINERS):
                total += self.weigh(each)
            elif isinstance(each, str | bytes | bytearray):
                total += len(each)
            elif isinstance(each, int) and each.bit_length() > _MOST_BITS:
                raise TemplateLimit("makes a number of too many digits")
        if total > _STEP:
            self.step(total // _STEP)
            if name in _COSTLY and total > _MOST_COSTLY:
                raise TemplateLimit(f"gives '{name}' more than {_MOST_COSTLY} characters")


# How large the result of a call may get, where that is not about as large as its arguments


def _of_width(value: Any, width: Any = 0, *_: Any, **__: Any) -> int:
    return len(value) + _number(width)


def _of_replace(value: Any, old: Any, new: Any, *_: Any, **__: Any) -> int:
    if not old:
        return (len(value) + 1) * (len(new) + 1)
    return len(value) + int(value.count(old)) * max(0, len(new) - len(old))


def _of_expandtabs(value: Any, tabsize: Any = 8, *_: Any, **__: Any) -> int:
    tabs: int = value.count("\t" if isinstance(value, str) else b"\t")
    return len(value) + tabs * _number(tabsize)


def _of_translate(value: Any, table: Any = None, *_: Any, **__: Any) -> int:
    parts = table.values() if isinstance(table, Mapping) else ()
    return len(value) * max((len(each) for each in parts if isinstance(each, str)), default=1)


def _parts(name: str, value: Any, sep: Any = None, maxsplit: Any = -1) -> int:
    """How many parts a text is split into, at most; each is an object of its own."""
    if name == "splitlines" or not sep:
        return len(value) // 2 + 1
    parts: int = value.count(sep)
    return min(parts, _number(maxsplit) or parts) + 1


def _of_join(value: Any, items: Any, *_: Any, **__: Any) -> int:
    return sum(map(len, items)) + len(value) * len(items)


_METHODS: dict[str, Callable[..., int]] = {
    "center": _of_width, "ljust": _of_width, "rjust": _of_width, "zfill": _of_width,
    "replace": _of_replace, "expandtabs": _of_expandtabs, "translate": _of_translate,
    "join": _of_join,
}  # fmt: skip


def _of_center(value: Any, width: Any = 80) -> int:
    return len(str(value)) + _number(width)


def _of_indent(text: Any, width: Any = 4, *_: Any, **__: Any) -> int:
    each = len(width) if isinstance(width, str) else _number(width)
    return len(text) + (len(text.splitlines()) + 1) * each


def _of_batch(value: Any, count: Any, *_: Any, **__: Any) -> int:
    return _number(count) * _ITEM // 4


def _of_wordwrap(
    text: Any, width: Any = 79, long: Any = True, wrap: Any = None, hyphens: Any = True
) -> int:
    return len(text) * (1 + len(wrap or ""))


def _of_filter_replace(_: Any, value: Any, old: Any, new: Any, *__: Any, **___: Any) -> int:
    return _of_replace(str(value), str(old), str(new))


def _of_tojson(
    value: Any, ensure_ascii: Any = False, indent: Any = None, *rest: Any, **named: Any
) -> int:
    given = [indent, *rest, *named.values()]
    sizes = [sum(map(len, each)) if isinstance(each, list | tuple) else each for each in given]
    widths = [len(each) if isinstance(each, str) else _number(each) for each in sizes]
    return MOST_CHARACTERS + 1 if max(widths, default=0) > _STEP else 0


def _number(value: Any) -> int:
    return max(0, value) if isinstance(value, int) else 0


_FILTERS: dict[str, Callable[..., int]] = {
    "center": _of_center, "indent": _of_indent, "batch": _of_batch, "slice": _of_batch,
    "wordwrap": lambda _, *given, **named: _of_wordwrap(*given, **named),
    "replace": _of_filter_replace, "tojson": _of_tojson,
}  # fmt: skip


def _of_format(meter: _Meter, pattern: Any, given: Any) -> int:
    """Of a text with ``%``. A number in it, or in place of a ``*`` in it, may be a width."""
    plain = pattern if isinstance(pattern, str) else pattern.decode("latin-1")
    widths = [int(each) if len(each) < 10 else MOST_CHARACTERS for each in _WIDTHS.findall(plain)]
    parts = given if isinstance(given, tuple) else (given,)
    if "*" in plain:
        widths += map(_number, parts)
    each = 6 * meter.weigh(given) if isinstance(given, _CONTAINERS) else len(str(given))
    times = plain.count("%(") if isinstance(given, Mapping) else 1
    return len(plain) + sum(widths) + each * times


class _Formatter(SandboxedFormatter):
    """``str.format``, whose parts are counted as they come."""

    def __init__(self, environment: Any, meter: _Meter, **options: Any) -> None:
        super().__init__(environment, **options)
        self._meter = meter
        self._total = 0

    def format_field(self, value: Any, format_spec: str) -> Any:
        for width in _WIDTHS.findall(format_spec):
            self._meter.expect(int(width) if len(width) < 10 else MOST_CHARACTERS + 1)
        text = super().format_field(value, format_spec)
        self._total += len(text)
        self._meter.step()
        self._meter.expect(self._total)
        return text


class _EscapeFormatter(_Formatter, SandboxedEscapeFormatter):
    pass


class _Code(CodeGenerator):
    """Compiles templates so that they tell the environment what they do."""

    environment: _Environment

    def blockvisit(self, nodes: Iterable[nodes.Node], frame: Frame) -> None:
        self.writeline("environment.step()")
        super().blockvisit(nodes, frame)

    def visit_For(self, node: nodes.For, frame: Frame) -> None:  # noqa: N802
        if node.test is not None:  # which is evaluated where no block may follow
            step = nodes.Call(nodes.EnvironmentAttribute("step"), [], [], None, None)
            node.test = nodes.And(step, node.test)
            node.test.set_lineno(node.lineno)
        super().visit_For(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self.write("environment.take(")
        joined = nodes.Concat([_measured(each) for each in node.nodes])
        joined.set_lineno(node.lineno)
        super().visit_Concat(joined, frame)
        self.write(")")

    def visit_Operand(self, node: nodes.Operand, frame: Frame) -> None:  # noqa: N802
        operator = node.op
        self.write(f" {_OPERATORS[operator]} ")
        if isinstance(node.expr, nodes.Const):
            self.visit(node.expr, frame)
            return
        self.write("environment.looked_at(")
        self.visit(node.expr, frame)
        self.write(")")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:  # noqa: N802
        if not isinstance(node.arg, nodes.Slice):
            super().visit_Getitem(node, frame)
            return
        self.write("environment.take(")
        super().visit_Getitem(node, frame)
        self.write(")")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:  # noqa: N802
        self._container(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802
        self._container(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:  # noqa: N802
        if node.ctx == "store":
            super().visit_Tuple(node, frame)
        else:
            self._container(super().visit_Tuple, node, frame)

    def _container(self, write: Callable[[Any, Frame], None], node: Any, frame: Frame) -> None:
        self.write("environment.take(")
        write(node, frame)
        self.write(")")


def _measured(node: nodes.Expr) -> nodes.Expr:
    """An operand of ``~``: what is written of it is bounded first."""
    if isinstance(node, nodes.Const):
        return node
    call = nodes.Call(nodes.EnvironmentAttribute("written"), [node], [], None, None)
    call.set_lineno(node.lineno)
    return call


_OPERATORS = {
    "eq": "==", "ne": "!=", "gt": ">", "gteq": ">=", "lt": "<", "lteq": "<=",
    "in": "in", "notin": "not in",
}  # fmt: skip


class _Generation(Extension):
    """``{% generation %}``: what the assistant says, which only those who train ask for."""

    tags = {"generation"}  # noqa: RUF012 - as jinja has it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller: Callable[[], str]) -> str:
        return caller()


class _Dict:
    """The ``dict`` of templates, without what the type itself would open."""

    def __call__(self, *given: Any, **named: Any) -> dict[Any, Any]:
        return dict(*given, **named)

    def fromkeys(self, *given: Any) -> dict[Any, Any]:
        return dict.fromkeys(*given)


class _Namespace(Namespace):
    """The ``namespace`` of templates; it may hold itself, so it does not write out what it has."""

    def __init__(*given: Any, **named: Any) -> None:
        self, rest = given[0], given[1:]
        attributes = dict(*rest, **named)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace has no attribute that begins with _, and not {name!r}")


def _raise(message: Any) -> None:
    raise TemplateError(message)


def _now(format: str) -> str:
    if len(format) > _STEP:
        raise TemplateLimit("asks for a date in a form of more than 1,024 characters")
    return datetime.now().strftime(format)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    meter = _meter()
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    if indent is None and separators is None:
        return encoder.encode(value)
    pieces, total = [], 0
    for piece in encoder.iterencode(value):
        pieces.append(piece)
        total += len(piece)
        meter.expect(total)
    return "".join(pieces)


class _Environment(ImmutableSandboxedEnvironment):
    """The environment of chat templates; what it counts is that of the rendering on this thread."""

    code_generator_class = _Code
    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, LoopControlExtension],
            optimized=False,  # or it would compute with constants while it compiles
            finalize=_finalize,
        )
        self.filters["tojson"] = _tojson
        self.filters = {name: _bounded(name, each) for name, each in self.filters.items()}
        tests: Mapping[str, Any] = self.tests
        self.tests = {name: _bounded(name, each) for name, each in tests.items()}
        self.globals |= {
            "raise_exception": _raise,
            "strftime_now": _now,
            "dict": _Dict(),
            "namespace": _Namespace,
        }

    def step(self) -> bool:
        """A block begins, or the condition of a loop is asked."""
        _meter().step()
        return True

    def take(self, value: Any) -> Any:
        """A value was made."""
        return _meter().made(value)

    def written(self, value: Any) -> Any:
        """A value that will stand in a text."""
        _meter().expect(_meter().weigh(value))
        return value

    def looked_at(self, value: Any) -> Any:
        """What something is compared with, or looked for in."""
        if isinstance(value, (str, bytes, *_CONTAINERS)) and len(value) > _ITEM:
            _meter().step(_meter().weigh(value) // _STEP)
        return value

    def concat(self, pieces: Iterable[str]) -> str:
        """The pieces of a text, joined."""
        meter, found, total = _meter(), [], 0
        for piece in pieces:
            found.append(piece)
            total += len(piece)
            if total > MOST_CHARACTERS:
                raise TemplateLimit(f"writes more than {MOST_CHARACTERS} characters")
        meter.hold(total)
        return "".join(found)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        meter = _meter()
        meter.step()
        if operator == "*":
            _check_product(meter, left, right)
        elif operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            meter.expect(len(left) + len(right))
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            if left.bit_length() * abs(right) > _MOST_BITS:
                raise TemplateLimit("makes a number of too many digits")
        elif operator == "%" and isinstance(left, str | bytes):
            meter.expect(_of_format(meter, left, right))
        return meter.made(super().call_binop(context, operator, left, right))

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        meter = _meter()
        owner = getattr(function, "__self__", None)
        if owner is self:  # what this environment has compiled in
            return function(*args)
        name = getattr(function, "__name__", "")
        if isinstance(owner, str | bytes | bytearray | list | tuple | dict | int | AbstractSet):
            if name == "join" and len(args) == 1 and not isinstance(args[0], list):
                args = (_listed(meter, args[0]),)
            named = {key: kwargs[key] for key in kwargs if not key.startswith("_")}
            given = [*args, *named.values()]
            meter.work(name, [owner, *given], name in _SHALLOW_METHODS)
            if isinstance(owner, int) and name == "to_bytes":
                meter.expect(max(map(_number, given), default=0))
            elif isinstance(owner, str | bytes | bytearray) and name in _METHODS:
                meter.expect(_estimate(_METHODS[name], owner, *args, **named))
            elif name in ("split", "rsplit", "splitlines"):
                meter.hold(_ITEM * _estimate(_parts, name, owner, *args, **named))
            elif name == "striptags":
                meter.work("striptags", [owner])
        else:
            meter.step()
            if name == "generate_lorem_ipsum":
                meter.expect(_STEP * sum(map(_number, [*args, *kwargs.values()])))
        result = super().call(context, function, *args, **kwargs)
        # Macros count what they write themselves.
        return result if isinstance(function, Macro) else meter.made(result)

    def wrap_str_format(self, value: Any) -> Any:
        if super().wrap_str_format(value) is None:
            return None
        text, named = value.__self__, value.__name__ == "format_map"
        kind: type[str] = type(text)

        def format(*given: Any, **names: Any) -> str:
            meter = _meter()
            formatter: _Formatter = (
                _EscapeFormatter(self, meter, escape=text.escape)
                if isinstance(text, Markup)
                else _Formatter(self, meter)
            )
            if not named:
                return kind(formatter.vformat(text, given, names))
            if names or len(given) != 1:
                raise TypeError("format_map() takes exactly one argument")
            return kind(formatter.vformat(text, (), given[0]))

        return format


def _check_product(meter: _Meter, left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > _MOST_BITS:
            raise TemplateLimit("makes a number of too many digits")
        return
    for value, times in ((left, right), (right, left)):
        if isinstance(times, int) and hasattr(value, "__len__"):
            size = meter.weigh(value) if isinstance(value, _CONTAINERS) else len(value)
            meter.expect(size * max(0, times))


def _estimate(of: Callable[..., int], *given: Any, **named: Any) -> int:
    """How large a result gets; 0 where the call is wrong, which then says so itself."""
    try:
        return of(*given, **named)
    except (TypeError, ValueError, AttributeError):
        return 0


def _listed(meter: _Meter, items: Any) -> Any:
    """The items of something that can be iterated over, as a list."""
    try:
        iterator = iter(items)
    except TypeError:
        return items  # which the call complains of
    found: list[Any] = []
    total = 0
    for item in iterator:
        found.append(item)
        total += len(item) if isinstance(item, str | bytes) else 1
        meter.step()
        meter.expect(total)
    return found


@pass_context
def _finalize(context: Context, value: Any) -> Any:
    """What is written. Asks for the context, so that nothing is computed in compiling."""
    if isinstance(value, _CONTAINERS):
        _meter().expect(_meter().weigh(value))
    return value


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter or a test whose calls are counted."""
    growth = _FILTERS.get(name)
    # jinja's own gets the environment or a context before the value
    first = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        meter = _meter()
        given = args[first:]
        meter.work(name, [*given, *kwargs.values()], name in _SHALLOW)
        if growth is not None:
            placed = args if name in ("replace", "wordwrap") else given
            meter.expect(_estimate(growth, *placed, **kwargs))
        elif name == "format":
            meter.expect(_of_format(meter, str(given[0]), kwargs or given[1:]))
        elif name in ("join", "sum"):
            args, kwargs = _gathered(meter, name, args, kwargs)
        elif name in ("list", "sort", "unique", "groupby", "reverse") and given:
            meter.hold(_ITEM * len(given[0]) if isinstance(given[0], str) else 0)
        return meter.made(function(*args, **kwargs))

    return call


def _gathered(
    meter: _Meter, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of ``join`` and ``sum``, with the items as a list of what is put together."""
    names = ("d", "attribute") if name == "join" else ("attribute", "start")
    before, value, rest = args[0], args[1], args[2:]
    given = dict(zip(names, rest, strict=False)) | kwargs
    attribute = given.pop("attribute", None)
    items: Iterable[Any] = value
    if attribute is not None:
        environment = getattr(before, "environment", before)
        items = map(make_attrgetter(environment, attribute), value)
    found: list[Any] = []
    total, between = 0, len(str(given.get("d", "")))
    for item in items:
        found.append(item)
        meter.step()
        total += (meter.weigh(item) if name == "join" else _lengths(item)) + between
        meter.expect(total)
    return (before, found), given


def _lengths(item: Any) -> int:
    """What an item adds to a sum, each time it is copied."""
    return _STEP * len(item) if isinstance(item, _CONTAINERS) else 0


@lru_cache(maxsize=1)
def _environment() -> _Environment:
    return _Environment()
