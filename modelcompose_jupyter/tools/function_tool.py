"""A Python function as a tool: what a model is told of it, and how it is called.

The signature says which arguments there are and of which types, the docstring what they are.
pydantic makes the JSON schema of the types, and checks and converts what a model gives.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, NotRequired, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from typing_extensions import TypedDict  # pydantic's own, which wants it before Python 3.12

from ..document.tool_definitions import Definition, definition
from ..document.types import ConversionError
from ..errors import InputError, one_line
from .docstrings import parse

_Kind = inspect.Parameter
_EMPTY = inspect.Parameter.empty
_typed_dict: Any = TypedDict  # of fields that are known when it runs


class FunctionTool:
    """A function that a model may call.

    An argument of a type without a schema, or with a default that is not JSON, is an error or left
    to its default. ``*args`` and ``**kwargs`` get nothing; what `functools.partial` has bound is
    not the model's to give. A parameter without a type has that of its default, else it is a text.

    Args:
        name: what it is called; the function's own name if None.

    Raises:
        InputError: it is nothing that can be called, or a model could not call it.
    """

    def __init__(self, function: Callable[..., Any], name: str | None = None) -> None:
        self.function = function
        self.name = name or _name_of(function)
        if not callable(function):
            raise self._unusable(f"it is a {type(function).__name__}, and no function")
        said = parse(inspect.getdoc(_documented(function)))
        self._parameters = self._called_parameters()
        types = self._types()
        fields: dict[str, Any] = {}
        for parameter in self._parameters:
            text = said.parameters.get(parameter.name)
            given = types[parameter.name]
            type_ = Annotated[given, Field(description=text)] if text else given
            is_required = parameter.default is _EMPTY
            fields[parameter.name] = type_ if is_required else NotRequired[type_]
        self._check = self._adapter(fields)
        try:
            self.definition: Definition = definition(
                {
                    "type": "function",
                    "function": {
                        "name": self.name,
                        "description": said.description,
                        "parameters": self._schema(),
                    },
                }
            )
        except ConversionError as error:
            raise self._unusable(str(error)) from None

    def __call__(self, arguments: Mapping[str, Any]) -> Any:
        """Call the function with a model's arguments, checked and converted.

        Gives what the function gives: of an async one, what is to be awaited.

        Raises:
            InputError: the arguments are not what it takes; the message names each.
        """
        try:
            values = self._check.validate_python(dict(arguments))
        except ValidationError as error:
            raise InputError("; ".join(map(_told, error.errors(include_url=False)))) from None
        positional = [
            values.pop(each.name, each.default)
            for each in self._parameters
            if each.kind is _Kind.POSITIONAL_ONLY
        ]
        return self.function(*positional, **values)

    def _called_parameters(self) -> list[inspect.Parameter]:
        try:
            found = inspect.signature(self.function).parameters.values()
        except (TypeError, ValueError):
            raise self._unusable("nothing says which arguments it takes") from None
        bound = _bound(self.function)
        several = (_Kind.VAR_POSITIONAL, _Kind.VAR_KEYWORD)
        return [each for each in found if each.kind not in several and each.name not in bound]

    def _types(self) -> dict[str, Any]:
        try:
            hints = get_type_hints(_annotated(self.function), include_extras=True)
        except Exception as error:  # a name in an annotation that is not there, say
            raise self._unusable(f"its types cannot be read: {one_line(error)}") from None
        return {each.name: hints.get(each.name, _implied(each)) for each in self._parameters}

    def _adapter(self, fields: dict[str, Any]) -> TypeAdapter[Any]:
        for name, type_ in fields.items():
            self._adapter_of({name: type_}, f"no model can give its argument '{name}'")
        return self._adapter_of(fields, "no model can give its arguments")

    def _adapter_of(self, fields: dict[str, Any], otherwise: str) -> TypeAdapter[Any]:
        arguments = _typed_dict(self.name, fields)
        arguments.__pydantic_config__ = ConfigDict(extra="forbid")
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(arguments)
            adapter.json_schema()
        except PydanticUserError as error:
            reason = one_line(error).partition(". ")[0]
            raise self._unusable(f"{otherwise}: {reason}") from None
        return adapter

    def _schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = untitled(self._check.json_schema())
        properties = schema.setdefault("properties", {})
        for parameter in self._parameters:
            if parameter.default is _EMPTY or parameter.default is None:
                continue
            try:
                default = TypeAdapter(Any).dump_python(parameter.default, mode="json")
            except ValueError:  # it is no JSON, and the model need not know it
                continue
            properties[parameter.name].setdefault("default", default)
        return {"type": "object", **schema}

    def _unusable(self, why: str) -> InputError:
        return InputError(
            f"'{self.name}' cannot be a tool: {why}",
            hint="A tool is a function whose arguments have types that JSON knows, as in"
            " def get_weather(city: str, days: int = 1).",
            code="no_tool",
        )


def function_tools(given: Iterable[Any] | Mapping[str, Any] | None) -> dict[str, Any]:
    """Functions by the names that documents call them by.

    Raises:
        InputError: one has no name.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return dict(given)
    functions = [given] if callable(given) else list(given)
    return {_name_of(each): each for each in functions}


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


def _told(details: Any) -> str:
    place = ".".join(map(str, details["loc"]))
    return f"{place}: {details['msg']}" if place else str(details["msg"])


def _name_of(function: Any) -> str:
    if isinstance(function, functools.partial):
        return _name_of(function.func)
    name = getattr(function, "__name__", None)
    if not isinstance(name, str) or not name.isidentifier() or not callable(function):
        raise InputError(
            f"a tool without a name, of type {type(function).__name__}"
            if callable(function)
            else f"a tool is a function, and this is {type(function).__name__}",
            hint="Give it by a name: tools={'get_weather': …}.",
            code="no_tool",
        )
    return name


def _documented(function: Any) -> Any:
    """Whose docstring says what a tool does."""
    if isinstance(function, functools.partial):
        return _documented(function.func)
    is_object = not inspect.isroutine(function) and not inspect.isclass(function)
    return type(function).__call__ if is_object else function


def _annotated(function: Any) -> Any:
    """Whose annotations are the types of a tool's arguments."""
    if inspect.isclass(function):
        return function.__init__
    return _documented(function)


def _bound(function: Any) -> set[str]:
    return set(function.keywords) if isinstance(function, functools.partial) else set()


def _implied(parameter: inspect.Parameter) -> Any:
    """The type of a parameter that has none."""
    default = parameter.default
    return str if default is _EMPTY or default is None else type(default)
