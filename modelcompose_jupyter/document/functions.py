"""Python functions as steps, as far as a document knows them: what they take and give.

What is described is data. Functions that can be called are `tools.FunctionStep`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .types import Type


@dataclass(frozen=True)
class FunctionParameter:
    """What a function takes under a name.

    Attributes:
        type: None where anything is taken.
        default: as plain data; None where there is none, or none that is.
    """

    name: str
    type: Type | None
    required: bool = True
    default: Any = None
    description: str | None = None


@dataclass(frozen=True)
class FunctionSignature:
    """What a function takes and gives.

    Attributes:
        open: whether it takes arguments of any name beside its parameters.
        result: the type of what it gives; ``json`` where nothing simple says it.
    """

    parameters: tuple[FunctionParameter, ...] = ()
    open: bool = False
    result: Type = field(default=Type("json"))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its parameters."""
        return tuple(each.name for each in self.parameters)
