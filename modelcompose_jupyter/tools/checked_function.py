"""A Python function that is called with arguments from outside: checked and converted against its
signature, by pydantic."""

from __future__ import annotations

import functools
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterator,
    Mapping,
)
from typing import Annotated, Any, NotRequired, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from typing_extensions import TypedDict  # pydantic's own, which wants it before Python 3.12

from ..errors import InputError, one_line
from .docstrings import Docstring, parse

_Kind = inspect.Parameter
_EMPTY = inspect.Parameter.empty
_typed_dict: Any = TypedDict  # of fields that are known when it runs


class UnusableFunction(Exception):
    """Why a function cannot be called so, in words that go on from its name."""


class CheckedFunction:
    """A function, what it takes and what its docstring says.

    ``*args`` gets nothing, nor does what `functools.partial` has bound. A parameter without a type
    has that of its default, else it is a text, or where ``is_lenient`` anything.

    Args:
        is_open: whether ``**kwargs`` gets what has no parameter of its own; else nothing does.
        is_lenient: whether anything is taken where a type cannot be checked; else that is an error.

    Attributes:
        parameters: those that may be given.
        said: what its docstring says.
        schema: the JSON schema of the arguments.
        takes_more: whether arguments of any name are taken.

    Raises:
        UnusableFunction: it is nothing that can be called, or a type cannot be checked.
    """

    def __init__(
        self, function: Callable[..., Any], *, is_open: bool = False, is_lenient: bool = False
    ) -> None:
        self.function = function
        self._is_lenient = is_lenient
        if not callable(function):
            raise UnusableFunction(f"it is a {type(function).__name__}, and no function")
        self.said: Docstring = parse(inspect.getdoc(_documented(function)))
        every = self._every_parameter()
        several = (_Kind.VAR_POSITIONAL, _Kind.VAR_KEYWORD)
        self.parameters: list[inspect.Parameter] = [
            each for each in every if each.kind not in several
        ]
        self.takes_more: bool = is_open and any(each.kind is _Kind.VAR_KEYWORD for each in every)
        self._hints = self._read_hints()
        fields: dict[str, Any] = {}
        for parameter in self.parameters:
            text = self.said.parameters.get(parameter.name)
            given = self._type(parameter)
            type_ = Annotated[given, Field(description=text)] if text else given
            is_required = parameter.default is _EMPTY
            fields[parameter.name] = type_ if is_required else NotRequired[type_]
        self._check = self._adapter_of(fields, "no model can give its arguments")
        self.schema: dict[str, Any] = self._described()

    def __call__(self, arguments: Mapping[str, Any]) -> Any:
        """Call the function with arguments by name, checked and converted.

        Gives what the function gives: of an async one, what is to be awaited.

        Raises:
            InputError: the arguments are not what it takes; the message names each.
        """
        return self.call(self.checked(arguments))

    def call(self, values: dict[str, Any]) -> Any:
        """Call the function with arguments that were checked."""
        values = dict(values)
        positional = [
            values.pop(each.name, each.default)
            for each in self.parameters
            if each.kind is _Kind.POSITIONAL_ONLY
        ]
        return self.function(*positional, **values)

    def checked(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments as the function gets them.

        Raises:
            InputError: they are not what it takes; the message names each.
        """
        try:
            values: dict[str, Any] = self._check.validate_python(dict(arguments))
        except ValidationError as error:
            details = error.errors(include_url=False)
            raise InputError("; ".join(map(_told, details))).of(str(details[0]["loc"][0])) from None
        return values

    @property
    def result_schema(self) -> dict[str, Any] | None:
        """The JSON schema of what it gives; of a generator, of one thing that it yields. None where
        nothing says it, or JSON cannot."""
        if "return" not in self._hints:
            return None
        try:
            return TypeAdapter(_yielded(self._hints["return"])).json_schema()
        except (PydanticUserError, TypeError):
            return None

    @property
    def is_generator(self) -> bool:
        """Whether what it gives comes piece by piece, by what is written of it."""
        return get_origin(self._hints.get("return")) in _PIECEWISE

    def _every_parameter(self) -> list[inspect.Parameter]:
        try:
            found = inspect.signature(self.function).parameters.values()
        except (TypeError, ValueError):
            raise UnusableFunction("nothing says which arguments it takes") from None
        bound = _bound(self.function)
        return [each for each in found if each.name not in bound]

    def _read_hints(self) -> dict[str, Any]:
        try:
            return get_type_hints(_annotated(self.function), include_extras=True)
        except Exception as error:  # a name in an annotation that is not there, say
            if self._is_lenient:
                return {}
            raise UnusableFunction(f"its types cannot be read: {one_line(error)}") from None

    def _type(self, parameter: inspect.Parameter) -> Any:
        """The type of a parameter, if it can be checked."""
        otherwise = Any if self._is_lenient else str
        type_ = self._hints.get(parameter.name, _implied(parameter, otherwise))
        try:
            what = f"no model can give its argument '{parameter.name}'"
            self._adapter_of({parameter.name: type_}, what)
        except UnusableFunction:
            if not self._is_lenient:
                raise
            return Any
        return type_

    def _adapter_of(self, fields: dict[str, Any], otherwise: str) -> TypeAdapter[Any]:
        arguments = _typed_dict("Arguments", fields)
        config = ConfigDict(extra="allow" if self.takes_more else "forbid")
        arguments.__pydantic_config__ = config
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(arguments)
            adapter.json_schema()
        except PydanticUserError as error:
            reason = one_line(error).partition(". ")[0]
            raise UnusableFunction(f"{otherwise}: {reason}") from None
        return adapter

    def _described(self) -> dict[str, Any]:
        schema: dict[str, Any] = untitled(self._check.json_schema())
        properties = schema.setdefault("properties", {})
        for parameter in self.parameters:
            if parameter.default is _EMPTY or parameter.default is None:
                continue
            try:
                default = TypeAdapter(Any).dump_python(parameter.default, mode="json")
            except ValueError:  # it is no JSON, and nobody need know it
                continue
            properties[parameter.name].setdefault("default", default)
        return {"type": "object", **schema}


def untitled(schema: Any) -> Any:
    """A JSON schema without the titles that pydantic gives, which only repeat names."""
    if isinstance(schema, list):
        return [untitled(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            found[key] = {name: untitled(each) for name, each in value.items()}
        elif key in ("default", "const", "enum", "examples"):
            found[key] = value
        elif key != "title":
            found[key] = untitled(value)
    return found


def _documented(function: Any) -> Any:
    """Whose docstring says what a function does."""
    if isinstance(function, functools.partial):
        return _documented(function.func)
    is_object = not inspect.isroutine(function) and not inspect.isclass(function)
    return type(function).__call__ if is_object else function


_PIECEWISE = (Iterator, Generator, AsyncIterator, AsyncGenerator)


def _yielded(hint: Any) -> Any:
    """The type of what is given piece by piece; the type itself where it is not."""
    return next(iter(get_args(hint)), Any) if get_origin(hint) in _PIECEWISE else hint


def _told(details: Any) -> str:
    place = ".".join(map(str, details["loc"]))
    return f"{place}: {details['msg']}" if place else str(details["msg"])


def _annotated(function: Any) -> Any:
    """Whose annotations are the types of a function's arguments."""
    if inspect.isclass(function):
        return function.__init__
    return _documented(function)


def _bound(function: Any) -> set[str]:
    return set(function.keywords) if isinstance(function, functools.partial) else set()


def _implied(parameter: inspect.Parameter, otherwise: Any) -> Any:
    """The type of a parameter that has none."""
    default = parameter.default
    return otherwise if default is _EMPTY or default is None else type(default)
