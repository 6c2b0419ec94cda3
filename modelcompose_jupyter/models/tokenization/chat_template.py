"""Chat templates: Jinja programs by whoever made the model, rendered within bounds.

A template is rendered as transformers' ``apply_chat_template`` renders it, with the filters and the
methods that chats need and no others. What it does is counted on the way, in steps and in bytes,
and looked at before it is done where its result could be large; so a template can neither hold a
model's thread nor fill its memory. Needs neither transformers nor torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache, wraps
from itertools import chain
from sys import getsizeof
from time import monotonic
from types import GeneratorType
from typing import Any

from jinja2 import TemplateError, nodes, pass_context, sandbox
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.filters import make_attrgetter
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

from ...document.jinja_syntax import EXTENSIONS, MOST_SOURCE
from ...errors import ModelError

MOST_STEPS = 5_000_000
"""Of one rendering. A step is a block, a call, or work on 1,024 characters; 10,000 messages through
Qwen 3's template take 135,000."""
MOST_CHARACTERS = 8 << 20
"""Of a value, and of what is rendered; all messages of a request together have half of that."""
MOST_BYTES = 256 << 20
"""That all values of one rendering take, those that are gone included: so it never holds more."""
MOST_SECONDS = 10.0
"""Of one rendering, where steps take longer than they should; 10,000 messages take under one."""
MOST_NAMES = 500
"""That a template sets; compiling takes time for each of them at each block. Some 30 are usual."""
MOST_CODE = 2 << 20
"""Characters of what a template is compiled into; some 200,000 for the longest."""
MOST_DEPTH = 200
"""Of lists in lists; tool descriptions reach about ten."""
_MOST_BITS = 100_000  # of a whole number
_MOST_PATTERN = 1000  # characters of what is looked for; tags have some 20
_MOST_ATTRIBUTE = 100  # characters of the name of an attribute, as filters take it
_MOST_PRECISION = 10  # decimal places, to either side
_STEP = 1024
_LOOK_EVERY = 256
_ITEM = 64  # bytes, about, of one item of a list with what it holds

_FILTERS = {
    "abs", "attr", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first",
    "float", "format", "groupby", "indent", "int", "items", "join", "last", "length", "list",
    "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "safe",
    "select", "selectattr", "sort", "string", "sum", "title", "tojson", "trim", "unique", "upper",
}  # fmt: skip
# Filters that go through all items, which are counted as they come
_OVER_ITEMS = {
    "groupby", "join", "list", "map", "max", "min", "reject", "rejectattr", "select", "selectattr",
    "sort", "sum", "unique",
}  # fmt: skip
_COPYING = {"dictsort", "groupby", "sort"}  # keep a copy of each text to compare it
# Filters that make a text of what they are given, a list say
_WRITING = {"e", "escape", "format", "indent", "replace", "string", "title", "trim"}
# Methods of texts: those that look for a text, those that fill up to a width, and others
_SEARCHES = {
    "count", "find", "index", "lstrip", "partition", "replace", "rfind", "rindex", "rpartition",
    "rsplit", "rstrip", "split", "strip",
}  # fmt: skip
_WIDE = {"center", "ljust", "rjust", "zfill"}
_SHORT = {"endswith", "removeprefix", "removesuffix", "startswith"}
_OF_TEXTS = _SEARCHES | _WIDE | _SHORT | {each for each in dir(str) if each.startswith("is")} | {
    "capitalize", "casefold", "format", "join", "lower", "splitlines", "swapcase", "title", "upper",
}  # fmt: skip
_OF_CONTAINERS = {"copy", "count", "get", "index", "items", "keys", "values", "grouper", "list"}
# What costs the same however large its arguments are; the cost of others is that of their size.
_SHALLOW = _OVER_ITEMS | {
    "length", "count", "first", "last", "items", "reverse", "default", "d", "attr", "safe",
    "defined", "undefined", "string", "mapping", "sequence", "iterable", "none", "number",
    "boolean", "true", "false", "sameas", "integer", "float", "callable",
}  # fmt: skip
_WIDTHS = re.compile(r"\d+")
_REPR = re.compile(r"%(\([^)]*\))?[^a-zA-Z%]*[ar]")
_PLAIN = {int, float, bool, type(None)}
_VIEWS = (range, AbstractSet, ValuesView)  # whose items are made when they are asked for
_CONTAINERS = (list, tuple, Mapping, *_VIEWS)
_FOREIGN = (nodes.Block, nodes.Extends, nodes.FromImport, nodes.Import, nodes.Include)

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


def in_time() -> Check:
    """What raises `TemplateLimit` when `MOST_SECONDS` are over, from now on."""
    until = monotonic() + MOST_SECONDS

    def check() -> None:
        if monotonic() > until:
            raise TemplateLimit(f"takes more than {MOST_SECONDS:.0f} seconds")

    return check


def render(
    source: str,
    messages: Sequence[Mapping[str, Any]],
    variables: Mapping[str, Any],
    check: Check = lambda: None,
) -> str:
    """The text of a chat, up to where the reply begins.

    Args:
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
    active = _active.set(meter)
    try:
        for value in (said, variables):
            meter.weigh(value)
        given = {"messages": said, "tools": None, "documents": None, "add_generation_prompt": True}
        return str(template.render({**given, **variables}))
    except (RecursionError, MemoryError) as error:
        raise TemplateLimit(f"calls itself too deeply ({type(error).__name__})") from None
    finally:
        _active.reset(active)


@lru_cache(maxsize=16)
def compiled(source: str) -> Any:
    """A template that is ready to be rendered.

    Raises:
        TemplateLimit: it is too long, too deep, or of other templates.
        jinja2.TemplateSyntaxError: it is none.
    """
    if len(source) > MOST_SOURCE:
        raise TemplateLimit(f"has {len(source)} characters, and {MOST_SOURCE} are the limit")
    try:
        environment = _environment()
        parsed = environment.parse(source)
        for foreign in parsed.find_all(_FOREIGN):
            raise TemplateLimit(f"has {type(foreign).__name__} (line {foreign.lineno})")
        names = {each.name for each in parsed.find_all(nodes.Name) if each.ctx != "load"}
        names |= {each.name for each in parsed.find_all(nodes.Macro)}
        if len(names) > MOST_NAMES:
            raise TemplateLimit(f"sets {len(names)} names, and {MOST_NAMES} are the limit")
        _Instrument().visit(parsed)
        return environment.from_string(parsed)
    except (RecursionError, MemoryError, SyntaxError) as error:
        raise TemplateLimit(f"is nested too deeply ({type(error).__name__})") from None


@lru_cache(maxsize=16)
def names_read(source: str) -> frozenset[str]:
    """The names that a template reads, variables among them; none of one that cannot be read."""
    try:
        compiled(source)  # within bounds
        found = _environment().parse(source).find_all(nodes.Name)
    except (TemplateLimit, TemplateError):
        return frozenset()
    return frozenset(each.name for each in found if each.ctx == "load")


_active: ContextVar[_Meter] = ContextVar("meter")


def _meter() -> _Meter:
    """That of the rendering on this thread."""
    try:
        return _active.get()
    except LookupError:  # while a template is compiled: nothing is computed then
        raise nodes.Impossible from None


class _Meter:
    """What one rendering has done, and what it may."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._in_time = in_time()
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
            self._in_time()
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

    def expect_bits(self, bits: int) -> None:
        """Look at the length that a whole number has, or is going to have."""
        if bits > _MOST_BITS:
            raise TemplateLimit("makes a number of too many digits")

    def made(self, value: Any) -> Any:
        """Count a value that was made; gives it back."""
        if isinstance(value, str):
            self.expect(len(value))
            self.hold(getsizeof(value))
            if len(value) > _STEP:
                self.step(len(value) // _STEP)
        elif isinstance(value, GeneratorType):
            return self.counted(value)
        elif isinstance(value, int):
            self.expect_bits(value.bit_length())
        elif isinstance(value, _CONTAINERS):
            self.weigh(value)
            if not isinstance(value, _VIEWS):
                self.hold(_ITEM * (len(value) + 1))
                self.step(len(value) // _ITEM)
        return value

    def counted(
        self, items: Any, *, copied: bool = False, hashed: bool = False, between: int | None = None
    ) -> Iterator[Any]:
        """The items of anything, counted as they come.

        Args:
            items: also a text, whose characters become objects of their own.
            copied: the texts in them are copied, all at once.
            hashed: each is looked for among those before it; all could have the same hash.
            between: how many characters come between them where they are joined.
        """
        total = 0
        for place, item in enumerate(items):
            self.step(1 + (place // _ITEM if hashed else 0))
            weight = len(item) if isinstance(item, str) else self.weigh(item)
            if isinstance(item, str):
                self.hold(getsizeof(item))
            elif isinstance(item, _CONTAINERS):
                self.step(weight // _STEP)
            if copied:
                self.hold(4 * weight)
            if between is not None:
                total += weight + between
                self.expect(total)
            yield item

    def search(self, text: str, pattern: Any) -> None:
        """Count looking for a text: each character may be compared with all of it."""
        if isinstance(pattern, str):
            if len(pattern) > _MOST_PATTERN:
                raise TemplateLimit(f"looks for a text of more than {_MOST_PATTERN} characters")
            self.step(len(text) * len(pattern) // _STEP)

    def weigh(self, value: Any) -> int:
        """How many characters a value has, with all that is in it, as if it were written out.

        So it bounds what it takes to write it, to compare it and to look for something in it, also
        where the same list stands in a list many times.
        """
        return self._weigh(value)[0]

    def _weigh(self, value: Any) -> tuple[int, int]:
        if isinstance(value, str):
            # characters that do not print are written in up to ten
            return len(value) * (1 if value.isprintable() else 10) + 1, 0
        if not isinstance(value, _CONTAINERS):
            if type(value) not in _PLAIN and not isinstance(value, Undefined):
                raise TemplateLimit(f"has {type(value).__name__} in a list, which is no data")
            return 8, 0
        if isinstance(value, range):
            return 8 * len(value) + 2, 1
        known = self._known.get(id(value))
        if known is not None:
            return known[1], known[2]
        self.step(len(value) // 16)
        if isinstance(value, ItemsView):  # which would make tuples
            value = value.mapping  # type: ignore[attr-defined]
        parts = chain(value, value.values()) if isinstance(value, Mapping) else value
        weight, depth = 2, 0
        for part in parts:
            if type(part) in _PLAIN:
                weight += 8
                continue
            size, below = self._weigh(part)
            weight += size
            depth = max(depth, below)
        if weight > 8 * MOST_CHARACTERS:
            raise TemplateLimit(f"makes a list of more than {8 * MOST_CHARACTERS} characters")
        if depth >= MOST_DEPTH:
            raise TemplateLimit(f"nests lists more than {MOST_DEPTH} deep")
        if isinstance(value, list | tuple | dict):
            self.hold(4 * _ITEM)
            self._known[id(value)] = (value, weight, depth + 1)
        return weight, depth + 1

    def work(self, given: Iterable[Any]) -> None:
        """Count a call, by all its arguments, before it is made."""
        total = 0
        for each in given:
            if isinstance(each, _CONTAINERS):
                total += self.weigh(each)
            elif isinstance(each, str):
                total += len(each)
            elif isinstance(each, int):
                self.expect_bits(each.bit_length())
        self.step(1 + total // _STEP)

    def written(self, value: Any) -> Any:
        """Look at a value that is going to be written; gives it back."""
        if isinstance(value, _CONTAINERS):
            self.expect(self.weigh(value))
        return value

    def replace(self, text: str, old: Any, new: Any) -> None:
        """Look at a replacement that is going to be made."""
        self.search(text, old)
        if isinstance(old, str) and isinstance(new, str):
            self.expect(len(text) + text.count(old) * max(0, len(new) - len(old)))

    def split(self, text: str, separator: Any) -> None:
        """Count the parts that a text is going to be split into, which are objects of their own."""
        named = isinstance(separator, str) and separator
        parts = text.count(separator) if named else len(text) // 2
        self.hold((_ITEM if text.isascii() else 2 * _ITEM) * (parts + 1))


def _number(value: Any) -> int:
    return max(0, value) if isinstance(value, int) else 0


def _of_format(meter: _Meter, pattern: str, given: Any) -> int:
    """Of a text with ``%``. A number in it, or in place of a ``*`` in it, may be a width."""
    widths = [int(each) if len(each) < 10 else MOST_CHARACTERS for each in _WIDTHS.findall(pattern)]
    parts = given if isinstance(given, tuple) else (given,)
    if "*" in pattern:
        widths += map(_number, parts)
    if isinstance(given, Mapping):
        parts = (*given.values(),)
    each = sum(len(part) if isinstance(part, str) else meter.weigh(part) for part in parts)
    times = max(1, pattern.count("%(")) * (10 if _REPR.search(pattern) else 1)
    return len(pattern) + sum(widths) + each * times


class _Formatter(sandbox.SandboxedFormatter):
    """``str.format``, whose parts are counted as they come."""

    _total = 0

    def format_field(self, value: Any, format_spec: str) -> Any:
        meter = _meter()
        for width in _WIDTHS.findall(format_spec):
            meter.expect(int(width) if len(width) < 10 else MOST_CHARACTERS + 1)
        text = super().format_field(meter.written(value), format_spec)
        self._total += len(text)
        meter.step()
        meter.expect(self._total)
        return text


class _EscapeFormatter(_Formatter, sandbox.SandboxedEscapeFormatter):
    pass


class _Code(CodeGenerator):
    """Compiles templates so that they count their blocks, up to a length of code."""

    _written = 0

    def blockvisit(self, nodes: Iterable[nodes.Node], frame: Frame) -> None:
        self.writeline("environment.step()")
        super().blockvisit(nodes, frame)

    def write(self, x: str) -> None:
        self._written += len(x)
        if self._written > MOST_CODE:
            raise TemplateLimit(f"is compiled into more than {MOST_CODE} characters")
        super().write(x)


class _Instrument(NodeTransformer):
    """Changes a parsed template so that it tells its environment what it makes and looks at."""

    def visit(self, node: nodes.Node, *_: Any, **__: Any) -> nodes.Node:
        self.generic_visit(node)
        match node:
            case nodes.List() | nodes.Dict() | nodes.Getitem(arg=nodes.Slice()):
                return _called("take", node)
            case nodes.Tuple() if node.ctx != "store":
                return _called("take", node)
            case nodes.Concat():
                node.nodes = [_unless_constant("written", each) for each in node.nodes]
                return _called("take", node)
            case nodes.Compare() | nodes.Operand():
                node.expr = _unless_constant("looked_at", node.expr)
            case nodes.For(test=nodes.Expr() as test):  # where no block may follow
                node.test = nodes.And(_called("step"), test).set_lineno(node.lineno)
            case nodes.Call() | nodes.Filter() | nodes.Test() if node.dyn_args is not None:
                node.dyn_args = _called("spread", node.dyn_args)
        return node


def _unless_constant(name: str, node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.Const) else _called(name, node)


def _called(name: str, *given: nodes.Expr) -> nodes.Call:
    """A call of a method of the environment, with the line of what is given to it."""
    call = nodes.Call(nodes.EnvironmentAttribute(name), list(given), [], None, None)
    for each in given:
        call.set_lineno(each.lineno)
    return call


def _dict(*given: Any, **named: Any) -> dict[Any, Any]:
    """The ``dict`` of templates, without what the type itself would open."""
    if given and not isinstance(given[0], Mapping):
        given = (_meter().counted(given[0], hashed=True), *given[1:])
    return dict(*given, **named)


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
    for each in (indent, *(separators or ())):
        if (len(each) if isinstance(each, str) else _number(each)) > _STEP:
            raise TemplateLimit("indents or separates by more than 1,024 characters")
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    pieces, total = [], 0
    for piece in encoder.iterencode(value):
        pieces.append(piece)
        total += len(piece)
        meter.expect(total)
    return "".join(pieces)


class _Environment(sandbox.ImmutableSandboxedEnvironment):
    """The environment of chat templates; what it counts is that of the rendering on this thread."""

    code_generator_class = _Code
    intercepted_binops = frozenset(sandbox.ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=EXTENSIONS,
            optimized=False,  # or it would compute with constants while it compiles
            finalize=_finalize,
        )
        filters = {**self.filters, "tojson": _tojson}
        self.filters = {name: _bounded(name, filters[name]) for name in _FILTERS}
        tests: Mapping[str, Any] = self.tests
        self.tests = {name: _bounded(name, each) for name, each in tests.items()}
        del self.globals["lipsum"]
        self.globals |= {
            "raise_exception": _raise,
            "strftime_now": _now,
            "dict": _dict,
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
        return _meter().written(value)

    def spread(self, items: Any) -> list[Any]:
        """Items that become arguments."""
        return list(_meter().counted(items))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if not super().is_safe_attribute(obj, attr, value):
            return False
        if isinstance(obj, str):
            known = attr in _OF_TEXTS
        elif isinstance(obj, _CONTAINERS):
            known = attr in _OF_CONTAINERS
        else:
            known = not isinstance(obj, int | float)
        if not known:
            raise TemplateLimit(f"has the method '{attr}' of a {type(obj).__name__}")
        return True

    def getitem(self, obj: Any, argument: Any) -> Any:
        return super().getitem(obj, self.looked_at(argument))

    def looked_at(self, value: Any) -> Any:
        """What something is compared with, or looked for in."""
        if isinstance(value, (str, *_CONTAINERS)):
            weight = len(value) if isinstance(value, str) else _meter().weigh(value)
            if weight > _STEP:
                _meter().step(weight // _STEP)
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
        if isinstance(left, AbstractSet):
            raise TemplateLimit("calculates with what is no number")
        if operator == "*":
            _check_product(meter, left, right)
        elif operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            meter.expect(len(left) + len(right))
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            meter.expect_bits(left.bit_length() * abs(right))
        elif operator == "%" and isinstance(left, str):
            meter.expect(_of_format(meter, left, right))
        return meter.made(super().call_binop(context, operator, left, right))

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        meter = _meter()
        owner = getattr(function, "__self__", None)
        if owner is self:  # what this environment has compiled in
            return function(*args)
        meter.step(1 + len(args) // _ITEM)
        name = getattr(function, "__name__", "")
        if isinstance(owner, str):
            args = _looked_through(meter, name, owner, args, kwargs)
        elif isinstance(owner, _CONTAINERS):
            meter.work([owner, *args] if name in ("index", "count") else args)
        elif isinstance(owner, LoopContext):
            meter.work(args)
        result = super().call(context, function, *args, **kwargs)
        # Macros count what they write themselves.
        return result if isinstance(function, Macro) else meter.made(result)

    def wrap_str_format(self, value: Any) -> Any:
        if super().wrap_str_format(value) is None:
            return None
        if value.__name__ == "format_map":
            raise TemplateLimit("has the method 'format_map' of a str")
        text = value.__self__
        kind: type[str] = type(text)

        def format(*given: Any, **names: Any) -> str:
            formatter = _Formatter(self)
            if isinstance(text, Markup):
                formatter = _EscapeFormatter(self, escape=text.escape)
            return kind(formatter.vformat(text, given, names))

        return format


def _looked_through(
    meter: _Meter, name: str, text: str, args: tuple[Any, ...], named: Mapping[str, Any]
) -> tuple[Any, ...]:
    """The arguments of a method of a text, looked at."""
    first = args[0] if args else named.get("sep")
    if name not in _SHORT:
        meter.work([text, *args, *named.values()])
    if name == "replace" and len(args) > 1:
        meter.replace(text, first, args[1])
    elif name in _SEARCHES:
        meter.search(text, first)
    elif name in _WIDE:
        meter.expect(len(text) + _number(first))
    elif name == "join" and isinstance(first, Iterable):
        return (list(meter.counted(first, between=len(text))),)
    if name in ("split", "rsplit", "splitlines"):
        meter.split(text, None if name == "splitlines" else first)
    return args


def _check_product(meter: _Meter, left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        meter.expect_bits(left.bit_length() + right.bit_length())
        return
    for value, times in ((left, right), (right, left)):
        if isinstance(times, int) and hasattr(value, "__len__"):
            size = meter.weigh(value) if isinstance(value, _CONTAINERS) else len(value)
            meter.expect(size * max(0, times))


@pass_context
def _finalize(context: Context, value: Any) -> Any:
    """What is written. Asks for the context, so that nothing is computed in compiling."""
    return _meter().written(value)


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter or a test whose calls are counted."""
    # jinja's own gets the environment or a context before the value
    first = 1 if hasattr(function, "jinja_pass_arg") else 0
    is_filter = name in _FILTERS

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        meter = _meter()
        meter.step()
        if name not in _SHALLOW:
            meter.work([*args[first:], *kwargs.values()])
        if is_filter and len(args) > first:
            args, kwargs = _ready(meter, name, args[:first], args[first:], kwargs)
        return meter.made(function(*args, **kwargs))

    return call


def _ready(
    meter: _Meter, name: str, before: tuple[Any, ...], given: Any, named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a filter, looked at."""
    value, rest = given[0], given[1:]
    if name in _WRITING:
        meter.written(value)
    if name in _OVER_ITEMS or name == "attr":
        _check_attributes(name, rest, named)
    if name in ("join", "sum"):
        return _gathered(meter, name, before[0], value, rest, named)
    if name in _OVER_ITEMS:
        if value:  # what is empty, or is not there at all, has its own way
            value = meter.counted(value, copied=name in _COPYING, hashed=name == "unique")
        return (*before, value, *rest), named
    if name == "dictsort":
        meter.hold(4 * meter.weigh(value))
    elif name == "round":
        precision = rest[0] if rest else named.get("precision")
        if isinstance(precision, int) and abs(precision) > _MOST_PRECISION:
            raise TemplateLimit(f"rounds to more than {_MOST_PRECISION} places")
    elif name == "format":
        meter.expect(_of_format(meter, str(value), named or rest))
    elif name == "replace" and len(rest) > 1:
        meter.replace(str(value), str(rest[0]), str(rest[1]))
    elif name == "trim":
        meter.search(str(value), rest[0] if rest else named.get("chars"))
    elif name == "title":
        meter.hold(3 * _ITEM * len(str(value)))  # each word, what is between, and both again
    elif name == "indent":
        width = rest[0] if rest else named.get("width", 4)
        each = len(width) if isinstance(width, str) else _number(width)
        lines = len(str(value).splitlines()) if each > 1 else len(str(value))
        meter.split(str(value), "\n")
        meter.expect(len(str(value)) + (lines + 1) * each)
    elif name in ("e", "escape", "tojson") and isinstance(value, str):
        meter.expect(len(value) if value.isalnum() else 6 * len(value))
    return (*before, value, *rest), named


def _check_attributes(name: str, rest: Sequence[Any], named: Mapping[str, Any]) -> None:
    if name == "join":
        rest = rest[1:]
    elif name in ("map", "reject", "rejectattr", "select", "selectattr"):
        rest = rest[:1]  # what follows are arguments of a test or a filter
    for each in (*rest, named.get("attribute")):
        if isinstance(each, str) and len(each) > _MOST_ATTRIBUTE:
            raise TemplateLimit(f"names an attribute in more than {_MOST_ATTRIBUTE} characters")


def _gathered(
    meter: _Meter, name: str, before: Any, items: Any, rest: Any, named: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of ``join`` and ``sum``, with the items as a list of what is put together."""
    names = ("d", "attribute") if name == "join" else ("attribute", "start")
    given = {**dict(zip(names, rest, strict=False)), **named}
    attribute = given.pop("attribute", None)
    if attribute is not None:
        environment = getattr(before, "environment", before)
        items = map(make_attrgetter(environment, attribute), items)
    if name == "join":
        return (before, list(meter.counted(items, between=len(str(given.get("d", "")))))), given
    found = list(meter.counted(items))  # each sum is a copy of all before it
    meter.expect(sum(_STEP * len(each) for each in found if isinstance(each, _CONTAINERS)))
    return (before, found), given


_environment = lru_cache(maxsize=1)(_Environment)
