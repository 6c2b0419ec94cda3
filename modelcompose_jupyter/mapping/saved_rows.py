"""What is in a folder of results, read as it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import islice
from typing import Any, overload

from ..errors import ComposeError
from ..table import data_frame
from ..translation import localized
from .job_folder import JobFolder
from .outputs import ROWS_SHOWN, RowOutputs
from .parts import Line


class SavedRows(Sequence[Any]):
    """The outputs in the order of the rows, or a ComposeError for one that failed. They stay in the
    folder: no more than a block of them is in memory.

    Attributes:
        path: of the folder.
    """

    def __init__(self, folder: JobFolder, count: int) -> None:
        self.path = folder.path
        self._folder = folder
        self._count = count
        self._block: tuple[int, list[Line]] = (-1, [])

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        return _output(self._line(place))

    def __iter__(self) -> Iterator[Any]:
        return (_output(self._line(index)) for index in range(len(self)))

    def _line(self, index: int) -> Line:
        block = self._folder.block_of(index)
        if self._block[0] != block:
            self._block = (block, self._folder.read(block))
        return self._block[1][index - self._folder.rows_of(block).start]

    def inputs(self, most: int) -> list[Any]:
        """The inputs of the first rows."""
        return [self._line(index)["input"] for index in range(min(len(self), most))]

    @property
    def failed(self) -> int:
        """How many rows have failed."""
        return sum(self._folder.failures(block) for block in self._folder.blocks())

    def failures(self, most: int) -> Iterator[tuple[int, ComposeError]]:
        """The first rows that have failed, with their errors."""
        blocks = (each for each in sorted(self._folder.blocks()) if self._folder.failures(each))
        lines = (line for block in blocks for line in self._folder.read(block) if "error" in line)
        return ((line["index"], _output(line)) for line in islice(lines, most))

    def to_frame(self) -> Any:
        """A DataFrame of pandas: the column ``output``, or one for each output by name, and
        ``error``.

        Raises:
            UsageError: pandas is not installed.
        """
        return data_frame([_record(each) for each in self])

    def __repr__(self) -> str:
        return f"{len(self):,} row{'' if len(self) == 1 else 's'} in {self.path}"

    def _repr_html_(self) -> str:
        shown = RowOutputs(self[:ROWS_SHOWN], self.inputs(ROWS_SHOWN))
        return f"{shown._repr_html_()}<p>{escape(localized(repr(self)))}</p>"


def _output(line: Line) -> Any:
    return line["output"] if "output" in line else ComposeError.from_dict(line["error"])


def _record(output: Any) -> dict[str, Any]:
    if isinstance(output, ComposeError):
        return {"error": output.message}
    named = output if isinstance(output, dict) else {"output": output}
    return {**{str(name): value for name, value in named.items()}, "error": None}
