"""A Python function as a step of a workflow: what it takes of a job's input, and what it gives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..document.functions import FunctionParameter, FunctionSignature
from ..document.types import ConversionError, Type, convert
from ..errors import InputError, listed
from .checked_function import CheckedFunction, UnusableFunction
from .described_types import type_of


class FunctionStep:
    """A function that jobs call.

    Args:
        name: what the document calls it.

    Attributes:
        signature: what it takes and gives, as the document knows it.

    Raises:
        InputError: it is nothing that can be called.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function = function
        self.name = name
        try:
            self._checked = CheckedFunction(function, is_open=True, is_lenient=True)
        except UnusableFunction as error:
            raise InputError(
                f"'{name}' cannot be a step: {error}",
                hint="A step is a function, as def tidy(text: str) -> str.",
                code="no_function",
            ) from None
        self.signature: FunctionSignature = self._described()

    def __call__(self, arguments: Mapping[str, Any]) -> Any:
        """Call it with what `arguments` gives.

        Gives what the function gives: of an async one, what is to be awaited.
        """
        return self._checked.call(dict(arguments))

    def arguments(self, input: Any, *, is_written: bool) -> dict[str, Any]:
        """What it gets of a job's input, checked and converted: a mapping gives its arguments by
        name, anything else its one argument. Of an input that nobody has written it takes those
        that it has a name for.

        Raises:
            InputError: that is not what it takes; the message names each that is wrong.
        """
        try:
            return self._checked.checked(self._given(input, is_written))
        except InputError as error:
            message = f"the function '{self.name}' cannot be called: {error.message}"
            hint = error.hint or f"It takes {listed(self.signature.names) or 'nothing'}."
            raise InputError(message, hint=hint).of(error.input or "") from None

    def _given(self, input: Any, is_written: bool) -> dict[str, Any]:
        parameters = self.signature.parameters
        if isinstance(input, Mapping):
            given = {str(name): value for name, value in input.items()}
            return given if is_written else self._taken(given)
        if parameters:
            return {parameters[0].name: input}
        if is_written:
            raise InputError("it takes no argument", hint="Leave out the job's input.")
        return {}

    def _taken(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Those of many values that it takes, as it takes them: a text that a form gives as the
        number that it is."""
        known = {each.name: each for each in self.signature.parameters}
        others = given.keys() - known.keys() if self.signature.open else ()
        found = {name: given[name] for name in given if name in others}
        for name in given.keys() & known.keys():
            parameter, value = known[name], given[name]
            if not parameter.required and _is_missing(value, parameter.type):
                continue
            try:
                type_ = parameter.type
                found[name] = value if type_ is None else convert(value, type_)
            except ConversionError as error:
                raise InputError(f"{name}: {error}", hint=error.hint).of(name) from None
        return found

    def _described(self) -> FunctionSignature:
        schema, said = self._checked.schema, self._checked.said
        definitions = schema.get("$defs", {})
        properties = schema["properties"]
        parameters = tuple(
            FunctionParameter(
                name=each.name,
                type=type_of(properties[each.name], definitions),
                required=each.default is inspect.Parameter.empty,
                default=properties[each.name].get("default"),
                description=said.parameters.get(each.name),
            )
            for each in self._checked.parameters
        )
        return FunctionSignature(parameters, self._checked.takes_more, self._result_type())

    def _result_type(self) -> Type:
        schema = self._checked.result_schema
        type_ = None if schema is None else type_of(schema, schema.get("$defs", {}))
        if type_ is None or not self._checked.is_generator:
            return _simple(type_)
        return type_ if type_ == Type("text") else Type("list")


def _simple(type_: Type | None) -> Type:
    """The type of a result: of a choice, a text; of a number within bounds, a number."""
    if type_ is None:
        return Type("json")
    if type_.name == "slider":
        return Type("integer" if type_.counts_whole else "number")
    return Type("text") if type_.name == "select" else type_


def _is_missing(value: Any, type_: Type | None) -> bool:
    return value is None or (value == "" and type_ is not None and type_.empty_is_missing)
