"""The functions that a document names, as tools and as steps, looked up where it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ..document import Document
from ..document.reader import KeyPath
from ..errors import InputError
from .function_modules import function_beside
from .function_step import FunctionStep
from .function_tool import FunctionTool

T = TypeVar("T", FunctionTool, FunctionStep)


class NamedFunctions:
    """The functions of a document.

    A name such as ``module:name`` is one of a module beside the document.

    Args:
        document: that names them.
        given: what other names are looked up in, each time that they are asked for: a function that
            was defined anew is the new one.

    Attributes:
        given: as it was given.
    """

    def __init__(self, document: Document, given: Mapping[str, Any]) -> None:
        self.given = given
        self._document = document
        self._tool_names = document.named_tools
        self._step_names = document.named_functions
        self._kept = document
        self._tools: dict[str, FunctionTool] = {}
        self._steps: dict[str, FunctionStep] = {}

    @property
    def document(self) -> Document:
        """The document, with the descriptions of the functions that can be called."""
        if not self._tool_names and not self._step_names:
            return self._document
        tools = {name: each.definition for name, each in self._found_tools(False).items()}
        steps = {name: each.signature for name, each in self._found_steps(False).items()}
        tools, steps = {**self._kept.tools, **tools}, {**self._kept.functions, **steps}
        if (tools, steps) != (self._document.tools, self._document.functions):
            self._document = replace(self._document, tools=tools, functions=steps)
        return self._document

    @property
    def names(self) -> list[str]:
        """What could have been meant by a name that stands for nothing."""
        given = list(self.given.items())
        return [name for name, value in given if callable(value) and not name.startswith("_")]

    def tools(self) -> dict[str, FunctionTool]:
        """The tools that are there.

        Raises:
            InputError: one cannot be a tool, with the place where it is named.
        """
        return self._found_tools(strict=True)

    def steps(self) -> dict[str, FunctionStep]:
        """The steps that are there.

        Raises:
            InputError: one cannot be a step, or its module cannot be imported, with the place where
                it is named.
        """
        return self._found_steps(strict=True)

    def described(self) -> NamedFunctions:
        """The same for another process, which has the descriptions alone."""
        return NamedFunctions(self.document, {})

    def _found_tools(self, strict: bool) -> dict[str, FunctionTool]:
        return self._found(self._tool_names, FunctionTool, self._tools, strict)

    def _found_steps(self, strict: bool) -> dict[str, FunctionStep]:
        return self._found(self._step_names, FunctionStep, self._steps, strict)

    def _found(
        self,
        names: Mapping[str, KeyPath],
        kind: Callable[[Any, str], T],
        made: dict[str, T],
        strict: bool,
    ) -> dict[str, T]:
        found: dict[str, T] = {}
        for name, path in names.items():
            try:
                if ":" in name:
                    function = function_beside(self._document.source.folder, name)
                elif name in self.given:
                    function = self.given[name]
                else:
                    continue
                known = made.get(name)
                if known is None or known.function is not function:
                    known = made[name] = kind(function, name)
                found[name] = known
            except InputError as error:
                if strict:
                    raise error.at(self._document.where(path, within=name)) from None
        return found
