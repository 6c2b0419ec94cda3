"""Files that a document names beside itself: their texts are read with it, and are a part of it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from ..errors import did_you_mean, shortened
from ..text_encoding import EncodingError, decode
from .reader import KeyPath, Source

_MOST_COMPARED = 1000


class BesideFiles:
    """Reads the files that a document names.

    Args:
        source: the document, which gets the problems.
        given: texts of files by the names that the document has for them: these are not read.
        only_given: whether others are not read either.

    Attributes:
        texts: those that were read, by their names.
    """

    def __init__(
        self, source: Source, given: Mapping[str, str], *, only_given: bool = False
    ) -> None:
        self._source = source
        self._given = given
        self._only_given = only_given
        self.texts: dict[str, str] = {}

    def read(self, name: str, path: KeyPath, most: int) -> str | None:
        """The text of a file; None where there is none that can be read, and why is a problem.

        Args:
            name: its path, from the folder of the document that names it on.
            path: where it is named.
            most: how many bytes it may have.
        """
        name = self._source.named(path, name)
        if name not in self.texts:
            text = self._given[name] if name in self._given else self._text(name, path, most)
            if text is None:
                return None
            self.texts[name] = text
        return self.texts[name]

    def _text(self, name: str, path: KeyPath, most: int) -> str | None:
        shown = shortened(name)
        if self._only_given:
            self._source.report(f"the file '{shown}' did not come with the document", path)
            return None
        try:
            file = path_beside(self._source, name)
            if not file.is_file():  # a device or a pipe may have no end
                self._source.report(f"there is no file '{shown}'", path, hint=self._hint(file))
                return None
            with file.open("rb") as opened:
                data = opened.read(most + 1)
            if len(data) > most:
                what = f"the file '{shown}' has more than {most:,} bytes, which are the limit"
                self._source.report(what, path)
                return None
            return decode(data)
        except EncodingError as error:
            self._source.report(f"the file '{shown}': {error}", path, hint=error.hint)
        except (OSError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            self._source.report(f"the file '{shown}' cannot be read: {reason}", path)
        return None

    def _hint(self, file: Path) -> str:
        found = did_you_mean(file.name, _names_beside(file))
        return found or "It is looked for in the folder of the document."


def path_beside(source: Source, name: str) -> Path:
    """Where a file is that a document names.

    Raises:
        RuntimeError: it begins with the home of somebody who has none.
    """
    return source.folder / Path(name).expanduser()


def _names_beside(file: Path) -> list[str]:
    try:
        found = islice(file.parent.iterdir(), _MOST_COMPARED)
        return sorted(each.name for each in found if each.is_file())
    except OSError:
        return []
