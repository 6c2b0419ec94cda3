"""A Python function as a tool: what a model is told of it, and how it is called.

The signature says which arguments there are and of which types, the docstring what they are.
pydantic makes the JSON schema of the types, and checks and converts what a model gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..document.tool_definitions import Definition, definition
from ..document.types import ConversionError
from ..errors import InputError
from .checked_function import CheckedFunction, UnusableFunction
from .function_names import name_of


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
        self.name: str = name or name_of(function)
        try:
            self._checked = CheckedFunction(function)
            self.definition: Definition = definition(
                {
                    "type": "function",
                    "function": {
                        "name": self.name,
                        "description": self._checked.said.description,
                        "parameters": self._checked.schema,
                    },
                }
            )
        except (ConversionError, UnusableFunction) as error:
            raise InputError(
                f"'{self.name}' cannot be a tool: {error}",
                hint="A tool is a function whose arguments have types that JSON knows, as in"
                " def get_weather(city: str, days: int = 1).",
                code="no_tool",
            ) from None

    def __call__(self, arguments: Mapping[str, Any]) -> Any:
        """Call the function with a model's arguments, checked and converted.

        Gives what the function gives: of an async one, what is to be awaited.

        Raises:
            InputError: the arguments are not what it takes; the message names each.
        """
        return self._checked(arguments)
