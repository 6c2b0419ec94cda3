"""The functions that a document names as tools, looked up where it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..document import Document
from ..errors import InputError
from .function_tool import FunctionTool


class NamedTools:
    """The tools of a document.

    Args:
        document: that names them.
        given: what they are looked up in, each time that they are asked for: a function that was
            defined anew is the new one.

    Attributes:
        given: as it was given.
    """

    def __init__(self, document: Document, given: Mapping[str, Any]) -> None:
        self.given = given
        self._document = document
        self._names = document.named_tools
        self._kept = document.tools
        self._made: dict[str, FunctionTool] = {}

    @property
    def document(self) -> Document:
        """The document, with the descriptions of the tools that can be called."""
        if not self._names:
            return self._document
        found = self._found(strict=False)
        described = {**self._kept, **{name: each.definition for name, each in found.items()}}
        if described != self._document.tools:
            self._document = replace(self._document, tools=described)
        return self._document

    @property
    def names(self) -> list[str]:
        """What could have been meant by a name that stands for nothing."""
        given = list(self.given.items())
        return [name for name, value in given if callable(value) and not name.startswith("_")]

    def functions(self) -> dict[str, FunctionTool]:
        """The tools that are there.

        Raises:
            InputError: one cannot be a tool, with the place where it is named.
        """
        return self._found(strict=True)

    def described(self) -> NamedTools:
        """The same for another process, which has the descriptions alone."""
        return NamedTools(self.document, {})

    def _found(self, strict: bool) -> dict[str, FunctionTool]:
        found: dict[str, FunctionTool] = {}
        for name, path in self._names.items():
            if name not in self.given:
                continue
            try:
                found[name] = self._tool(name, self.given[name])
            except InputError as error:
                if strict:
                    raise error.at(self._document.where(path, within=name)) from None
        return found

    def _tool(self, name: str, function: Any) -> FunctionTool:
        known = self._made.get(name)
        if known is None or known.function is not function:
            known = self._made[name] = FunctionTool(function, name)
        return known
