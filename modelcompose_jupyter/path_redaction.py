"""Folders of this computer are kept from guests: of an absolute path they see the last name.

``/srv/llms/of jane/model`` is ``…/model`` to them, in whatever text it stands. Relative paths stay
as they are written: they tell of a document's neighbours alone.

A path in a sentence has no certain end, since names may hold blanks. So folders that the process
knows (`remember`) are found exactly, whatever is in their names, and what else begins as a path
goes on to the last separator of its part of the sentence: rather too much than too little.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import tempfile
import threading
from pathlib import Path
from typing import Any, NamedTuple

from .redaction import each_text

HIDDEN = "…/"
"""What stands in place of the folders before the last name."""

_LONGEST = 4096  # of a path that a system takes
_MOST = 300  # of known folders; a document has a handful, and each is looked for in each message

# What the first letter of a name is not: "/ in front", "./ or /.", "/>" and regular expressions
# begin no path.
_NAME = r"(?=[^\s/\\'\"`<>|,.;:()\[\]{}*?+^$…]|\.\w)"
# Words that begin with a slash and are no paths of this computer: those of the APIs.
_ROUTE = (
    r"(?:/api)?/(?:tasks/\{\w+\}(?:/\w+)?|workflows/(?:runs|\{\w+\}/schema)|models/unload"
    r"|v1/(?:models|completions|chat/completions)|modelcompose/hosts(?:/\w*)?)(?![\w/\\-])"
)
_DRIVE = rf"(?<![A-Za-z0-9])[A-Za-z]:[\\/]+{_NAME}"
_SHARE = (
    rf"(?<![\w/\\:\])}}])(?:\\\\+(?:[?.]\\+)?|//(?:[?.]/)?)(?:(?<=[?.][\\/])[A-Za-z]:\\+)?{_NAME}"
)
_ROOT = rf"(?<![\w/\\.…~*<\])}}])(?!{_ROUTE})/{_NAME}"
_HOME = rf"(?<![\w/\\.…])~[\w.-]*[\\/]+{_NAME}"
_FILE_URL = rf"(?i:file):/+{_NAME}"
_ADDRESS = r"(?P<address>(?<![\w.+-])(?!(?i:file):)[A-Za-z][\w+.-]{1,30}://[^\s'\"<>]*)"

# Where a part of a sentence ends, and what stands in it up to its last separator.
_END = r"[,;:](?=\s|$)|[.!?](?=\s+[A-Z]|\s*$)|\w+://|\s(?=\.{0,2}[/\\]|~|…)|[{}<>|]"
_ON = rf"(?:(?!{_END})[^\n…]){{1,4000}}[/\\]"
_PATH = re.compile(
    rf"{_ADDRESS}|(?:{_ROOT}|{_DRIVE}|{_SHARE}){_ON}|(?:{_HOME}|{_FILE_URL})(?:{_ON})?"
)
_QUOTED = re.compile(
    rf"(?<=(['\"`]))(?:{_ROOT}|{_DRIVE}|{_SHARE}|{_HOME}|{_FILE_URL})(?:(?!\1(?!\w))[^\n]){{1,4000}}"
)
_HAS_FOLDERS = re.compile(r"[/\\][^/\\]+[/\\]+[^/\\]|^~|^[A-Za-z]:")
_ABSOLUTE = re.compile(r"\s*(?:[/\\~]|[A-Za-z]:[\\/]|(?i:file):/)")

_lock = threading.Lock()
_remembered: dict[str, _Folder] = {}


class _Folder(NamedTuple):
    """A folder of this computer, in the forms in which messages quote it."""

    path: str
    forms: tuple[str, ...]
    pattern: re.Pattern[str]

    def hidden(self, text: str) -> str:
        """A text without what leads to this folder."""
        if not any(form in text for form in self.forms):
            return text
        name = last_name(self.path)
        return self.pattern.sub(lambda found: HIDDEN + ("" if found["on"] else name), text)


def remember(path: str | os.PathLike[str]) -> None:
    """Find this folder in messages from now on, whatever is in its name.

    Nothing is done for a path that is relative or has one name alone. The last ones are kept.
    """
    given = os.fspath(path)
    with _lock:
        if given in _remembered:  # the last one used is the last to go
            _remembered[given] = _remembered.pop(given)
            return
    folders = list(map(_folder, _ways_to(given)))
    with _lock:
        _remembered.update((each.path, each) for each in folders)
        while len(_remembered) > _MOST:
            del _remembered[next(iter(_remembered))]


def _ways_to(given: str) -> set[str]:
    """An absolute path as it is written, and where it leads to."""
    if not is_absolute(given) or len(given) > _LONGEST:
        return set()
    found = {given}
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # it leads nowhere
        found |= {str(Path(given).expanduser()), str(Path(given).expanduser().resolve())}
    return {each for each in (path.rstrip("/\\") for path in found) if _HAS_FOLDERS.search(each)}


def _folder(path: str) -> _Folder:
    escaped = (repr(path), json.dumps(path), json.dumps(path, ensure_ascii=False))
    forms = tuple(sorted({path, *(each[1:-1] for each in escaped)}, key=len, reverse=True))
    either = "|".join(map(re.escape, forms))
    on = rf"(?P<on>[/\\]+(?:{_ON})?)?"
    return _Folder(path, forms, re.compile(rf"(?<![\w/\\.…])(?:{either})(?![\w-]){on}"))


@functools.lru_cache(maxsize=8)
def _own(*paths: str) -> list[_Folder]:
    """The folders of this process itself."""
    return [_folder(way) for path in paths for way in _ways_to(path)]


def without_folders(text: str) -> str:
    """A message as guests see it: of absolute paths with the last names alone."""
    if "/" not in text and "\\" not in text:
        return text
    with _lock:
        folders = [*_remembered.values()]
    working_folder = ""
    with contextlib.suppress(OSError):  # it was removed
        working_folder = str(Path.cwd())
    folders += _own(os.environ.get("HOME", ""), tempfile.gettempdir(), working_folder)
    for each in sorted(folders, key=lambda folder: len(folder.path), reverse=True):
        text = each.hidden(text)
    text = _QUOTED.sub(lambda found: HIDDEN + last_name(found[0]), text)
    return _PATH.sub(lambda found: found["address"] or HIDDEN, text)


def public(data: Any) -> Any:
    """Plain data as guests see it: its texts without folders."""
    return each_text(data, without_folders)


def public_source(source: str) -> str:
    """Where a model comes from, as guests see it: of an absolute folder the last name."""
    return HIDDEN + last_name(source) if is_absolute(source) else without_folders(source)


def is_absolute(path: str) -> bool:
    """Whether a path begins at a root, a drive, a share or somebody's home."""
    return _ABSOLUTE.match(path) is not None


def last_name(path: str) -> str:
    """The last name of a path of any system."""
    return re.split(r"[/\\]+", path.rstrip("/\\"))[-1]
