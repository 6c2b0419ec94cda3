"""Of an error's traceback the lines that are the user's: those of their files and cells, and none
of ours, of Python's own or of installed libraries."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from functools import cache
from pathlib import Path
from types import FrameType, TracebackType

_MOST_FRAMES = 20
_LONGEST_LINE = 300
_PACKAGE = Path(__file__).parent.parent
_STANDARD = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
_LIBRARIES = {"site-packages", "dist-packages"}


def user_traceback(error: BaseException) -> str | None:
    """Those lines, as Python writes them, the innermost last; None where there are none.

    Where there are very many, of a recursion say, the first and the last are shown.
    """
    frames = [(frame, line) for frame, line in _frames(error.__traceback__) if _is_users(frame)]
    if len(frames) > _MOST_FRAMES:
        frames = [*frames[: _MOST_FRAMES // 2], *frames[-_MOST_FRAMES // 2 :]]
    shown = [_shown(frame, line) for frame, line in frames]
    if isinstance(error, SyntaxError) and error.filename and not _is_installed(error.filename):
        shown += [f"  {_place(error.filename)}, line {error.lineno}"]
    return "\n".join(shown) or None


def _frames(raised: TracebackType | None) -> list[tuple[FrameType, int]]:
    found = []
    while raised is not None:
        found.append((raised.tb_frame, raised.tb_lineno))
        raised = raised.tb_next
    return found


def _is_users(frame: FrameType) -> bool:
    return not _is_installed(frame.f_code.co_filename)


@cache
def _is_installed(filename: str) -> bool:
    """Whether a file is ours, Python's own or a library's; so is what is compiled, or made."""
    path = Path(filename)
    if not path.is_absolute():  # a cell of a terminal is kept where its lines are looked up
        return not filename.startswith("<ipython")
    in_folder = any(path.is_relative_to(folder) for folder in (_PACKAGE, *_STANDARD))
    return in_folder or not _LIBRARIES.isdisjoint(path.parts)


def _shown(frame: FrameType, line: int) -> str:
    """A line of the traceback, and below it the line of code that it is about."""
    name = frame.f_code.co_filename
    place = f"  {_place(name)}, line {line}, in {frame.f_code.co_name}"
    (summary,) = traceback.StackSummary.extract(iter([(frame, line)]))
    code = (summary.line or "")[:_LONGEST_LINE]
    return f"{place}\n    {code}" if code else place


def _place(filename: str) -> str:
    """What a file is called: a cell by its number."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    label = None if shell is None else shell.compile.format_code_name(filename)
    return " ".join(label) if label else f'File "{filename}"'
