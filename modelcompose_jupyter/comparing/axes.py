"""The axes of a grid: what varies, by which values, and where these stand in a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..document import Input, Signature
from ..document.to_plain import to_plain
from ..document.types import Type, last_said, show
from ..errors import InputError, listed
from ..redaction import MASK

MAX_CELLS = 400
"""Cells of a grid at most: more than anyone compares."""

SEED = "seed"
"""The name of what varies where a grid's runs have several seeds of their own."""

_MESSAGES = Type("messages")
_LABEL_LENGTH = 300
_SHORT = 24  # characters of labels that stand in a column's head
_MOST_COLUMNS = 8  # beyond which a table is scrolled


@dataclass(frozen=True)
class Axis:
    """What varies along one direction of a grid.

    Attributes:
        name: of an input, or `SEED`; what workflows are called together.
        values: what it has one after the other.
        labels: the values in words.
        are_workflows: whether its values are what runs, and no inputs.
    """

    name: str
    values: tuple[Any, ...]
    labels: tuple[str, ...]
    are_workflows: bool = False

    def __len__(self) -> int:
        return len(self.values)

    def place(self, value: Any) -> int:
        """Where a value is, or one that has this label.

        Raises:
            InputError: it is not there.
        """
        for place, pair in enumerate(zip(self.values, self.labels, strict=True)):
            if value in pair:
                return place
        what = f"{show(value)} is no value of '{self.name}'"
        raise InputError(what, hint=f"It has {listed(self.labels)}.")

    @property
    def _fits(self) -> bool:
        """Whether its values can be the heads of columns."""
        are_short = all(len(each) <= _SHORT and "\n" not in each for each in self.labels)
        return (self.are_workflows or are_short) and len(self) <= _MOST_COLUMNS


def input_axis(name: str, values: Sequence[Any], *, secret: bool = False) -> Axis:
    """The axis of an input; of one that is a token, no value is told."""
    return Axis(name, tuple(values), tuple(MASK if secret else _label(each) for each in values))


def _label(value: Any) -> str:
    said = last_said(value)
    if said is None:
        return "not given"
    return said if isinstance(said, str) else show(said, _LABEL_LENGTH)


def _several(each: Input | None, given: Any) -> list[Any] | None:
    """What is given for an input as the values of an axis; None where it is one value.

    Any list, range, array or Series is an axis where a value is no list; else a list of lists is.
    A conversation is a list of messages, or a text: a list of these is an axis. Of more values
    than a grid has cells, or of values without end, one too many are taken.

    Args:
        each: the input; None where the workflow does not name it.
    """
    plain = to_plain(given)
    if isinstance(plain, str | bytes | Mapping) or not isinstance(plain, Iterable):
        return None
    values = [to_plain(value) for value in islice(plain, MAX_CELLS + 1)]
    if each is None:
        return values
    if each.type != _MESSAGES and not each.type.holds_list:
        return values
    whole = (list, str) if each.type == _MESSAGES else list
    return values if values and all(isinstance(value, whole) for value in values) else None


def told_apart(
    signature: Signature, given: Mapping[str, Any]
) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """What is given for inputs by name: those that have several values, and those that have one."""
    inputs = {each.name: each for each in signature.inputs}
    varied = {name: _several(inputs.get(name), value) for name, value in given.items()}
    return (
        {name: values for name, values in varied.items() if values is not None},
        {name: value for name, value in given.items() if varied[name] is None},
    )


def arranged(axes: Sequence[Axis]) -> tuple[tuple[Axis, ...], Axis | None]:
    """The axes whose values are rows, nested in their order, and the one whose values are columns.

    Columns are workflows, else several short values, and not too many of them, rather numbers than
    texts, and rather the last: rows have room for longer ones. The only axis is rows where it does
    not fit so.
    """

    def fitness(place: int) -> tuple[bool, bool, bool, int]:
        axis = axes[place]
        is_text = any(isinstance(value, str) for value in axis.values)
        return axis.are_workflows, axis._fits and len(axis) > 1, not is_text, place

    chosen = max(range(len(axes)), key=fitness)
    if len(axes) == 1 and not fitness(chosen)[1]:
        return tuple(axes), None
    return tuple(axis for place, axis in enumerate(axes) if place != chosen), axes[chosen]
