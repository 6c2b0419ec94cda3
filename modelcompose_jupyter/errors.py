"""The errors that users meet: one paragraph that says what is wrong, where, and what to do."""

from __future__ import annotations

import dataclasses
import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any

from .path_redaction import last_name, without_folders
from .redaction import redact, redacted
from .translation import ENGLISH, environment_language, localized, translated

_MOST_SECONDS = 10**6


@dataclass(frozen=True)
class Where:
    """A place in a document.

    ``path`` is the way through its keys and indexes; ``line`` and ``column`` count from 1 and are
    None where the document was given as a mapping, which has no text. ``end_column`` is that behind
    the place, or behind its line where it is longer; None where only its beginning is known.
    ``snippet`` is the line, or the piece of a very long one that begins in ``snippet_column``.
    """

    file: str
    path: tuple[str | int, ...] = ()
    line: int | None = None
    column: int | None = None
    snippet: str | None = None
    end_column: int | None = None
    snippet_column: int = 1

    @property
    def keys(self) -> str:
        """The path as people write it: ``component.params.top_p``, ``jobs[0].input``."""
        text = ""
        for step in self.path:
            text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
        return redact(text)

    def to_dict(self) -> dict[str, Any]:
        """The place as plain data; a key may be a secret that was written in the wrong place."""
        return dataclasses.asdict(self) | {"path": redacted(list(self.path))}

    def __str__(self) -> str:
        if self.line is None:
            return f"{self.file}: {self.keys}" if self.path else self.file
        return f"{self.file}:{self.line}:{self.column}"

    def excerpt(self) -> list[str]:
        """The offending line with a caret under the place, or nothing where there is no text."""
        if self.snippet is None or self.line is None or self.column is None:
            return []
        line, start = self.snippet, self.column - self.snippet_column
        if len(line) > 160:
            cut = max(0, start - 80)
            line, start = line[cut : cut + 160], start - cut
        gutter = f"  {self.line} | "
        padding = "".join(map(_blank, line[:start]))
        return [gutter + line, " " * (len(gutter) - 2) + "| " + padding + "^"]


def _blank(char: str) -> str:
    """Blanks as wide as a character in a terminal, so that the caret stands under its place."""
    if char == "\t" or unicodedata.combining(char):
        return "\t" if char == "\t" else ""
    return "  " if unicodedata.east_asian_width(char) in "WF" else " "


class ComposeError(Exception):
    """Base of every error that this package raises on purpose.

    Attributes:
        message: what is wrong, in one sentence.
        hint: what to do about it, or None.
        where: the place in the document that it comes from, or None.
        code: a stable word for programs.
        text: what a model wrote of which nothing came, or None.
        traceback: of an error of the user's own code, the lines that are theirs; or None. Guests
            are not told.
        retry_after: seconds after which it may be tried again, where that is known.
    """

    code: str = "error"
    text: str | None = None
    traceback: str | None = None
    retry_after: float | None = None

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        where: Where | None = None,
        code: str | None = None,
        text: str | None = None,
        traceback: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.message: str = _told(message)
        self.hint: str | None = hint and _told(hint)
        super().__init__(self.message)
        self.where = where
        self.text = text
        self.traceback = traceback and _told(traceback)
        self.retry_after = retry_after
        if code is not None:
            self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), vars(self))

    def at(self, where: Where) -> ComposeError:
        """Say where it happened, unless that is known already; returns the error itself."""
        if self.where is None:
            self.where = where
        return self

    def to_dict(self) -> dict[str, Any]:
        """The error as plain data, for events and answers; `from_dict` is the way back."""
        return {
            "type": type(self).__name__,
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "where": self.where.to_dict() if self.where else None,
            **({} if self.text is None else {"text": self.text}),
            **({} if self.traceback is None else {"traceback": self.traceback}),
            **({} if self.retry_after is None else {"retry_after": self.retry_after}),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> ComposeError:
        """The error that plain data tells of, however little it tells."""

        def text(key: str) -> str | None:
            value = data.get(key)
            return value if isinstance(value, str) and value else None

        kind: type[ComposeError] = _PLAIN_KINDS.get(text("type") or "", ComposeError)
        return kind(
            text("message") or "something went wrong, and nobody says what",
            hint=text("hint"),
            where=_where(data.get("where")),
            code=text("code"),
            text=text("text"),
            traceback=text("traceback"),
            retry_after=_seconds(data.get("retry_after")),
        )

    def lines(self, language: str = ENGLISH) -> list[str]:
        """The whole message, a line each, and below it the user's own lines of code."""
        return [*_lines(self, language), *(self.traceback or "").splitlines()]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def shown(self, *, for_guests: bool, language: str = ENGLISH) -> str:
        """The whole message; for guests without the document's line and this computer's folders."""
        if not for_guests:
            return "\n".join(self.lines(language))
        parts = self.problems if isinstance(self, DocumentError) else [self]
        return "\n".join(line for each in parts for line in _lines(each, language, for_guests=True))

    def _render_traceback_(self) -> list[str]:
        """IPython's hook for errors that show themselves: the paragraph, without a traceback."""
        text = "\n".join(self.lines(environment_language()))
        return f"{type(self).__name__}: {text}".splitlines()


def _lines(
    wrong: ComposeError | Problem, language: str = ENGLISH, *, for_guests: bool = False
) -> list[str]:
    """What an error or a problem says: where it is, what is wrong, the line, what to do."""
    message, hint, where, excerpt = wrong.message, wrong.hint, wrong.where, list[str]()
    if for_guests:
        message, hint = without_folders(message), hint and without_folders(hint)
        where = where and dataclasses.replace(where, file=last_name(where.file))
    elif where:
        excerpt = where.excerpt()
    place = f"{where}: " if where else ""
    message, hint = translated(message, language), hint and translated(hint, language)
    return [f"{place}{message}", *excerpt, *([f"  {hint}"] if hint else [])]


def _seconds(data: Any) -> float | None:
    """The seconds that plain data tells of; None where it is none."""
    is_number = isinstance(data, int | float) and not isinstance(data, bool)
    return float(data) if is_number and 0 <= data <= _MOST_SECONDS else None


def _where(data: Any) -> Where | None:
    """The place that plain data tells of; None where it is none."""
    kinds = {
        "file": str, "path": list | tuple, "line": int, "column": int, "snippet": str,
        "end_column": int, "snippet_column": int,
    }  # fmt: skip
    given = dict(data) if isinstance(data, Mapping) else {}
    known = {key: given[key] for key, kind in kinds.items() if isinstance(given.get(key), kind)}
    if "file" not in known:
        return None
    path = tuple(step for step in known.pop("path", ()) if isinstance(step, str | int))
    return Where(**known, path=path)


def _restored(kind: type[ComposeError], state: dict[str, Any]) -> ComposeError:
    """A copy of an error, of another process say, without calling its constructor."""
    error = kind.__new__(kind)
    error.args = (state["message"],)
    vars(error).update(state)
    return error


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a document; ``named_at`` is where that names the file which has
    the problem, where it is in another one."""

    message: str
    where: Where
    hint: str | None = None
    named_at: Where | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", _told(self.message))
        object.__setattr__(self, "hint", self.hint and _told(self.hint))

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"

    def lines(self, language: str = ENGLISH) -> list[str]:
        return _lines(self, language)


class DocumentError(ComposeError):
    """A document that cannot run; ``problems`` holds all that was found, in document order."""

    code = "invalid_document"

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        super().__init__(first.message, hint=first.hint, where=first.where)
        self.problems: list[Problem] = list(problems)

    def lines(self, language: str = ENGLISH) -> list[str]:
        return [line for problem in self.problems for line in problem.lines(language)]

    def _render_traceback_(self) -> list[str]:
        count = len(self.problems)
        said = localized(f"{count} problem{'s' if count > 1 else ''} in the document")
        return [f"{type(self).__name__}: {said}", *self.lines(environment_language())]


class ExpressionError(ComposeError):
    """A ``${...}`` expression that cannot be read or has no value; ``expression`` is its text."""

    code = "invalid_expression"

    def __init__(
        self,
        message: str,
        *,
        expression: str,
        hint: str | None = None,
        offset: int = 0,
        code: str | None = None,
    ) -> None:
        super().__init__(f"{message} in {shortened(expression, 200)}", hint=hint, code=code)
        self.expression = expression
        self.offset = offset


class InputError(ComposeError):
    """An input that the workflow cannot take: missing, unknown, of the wrong type or range.

    ``input`` is its name, where it is about one, for forms that show errors beside their fields.
    """

    code = "invalid_input"
    input: str | None = None

    def of(self, input: str) -> InputError:
        """Say which input it is about; returns the error itself."""
        self.input = input
        return self


class UsageError(ComposeError):
    """A command or magic line that cannot be understood."""

    code = "usage"


class ModelError(ComposeError):
    """A model that cannot be found, fetched, loaded or run; ``code`` tells which."""

    code = "model_error"


class RunCancelled(ComposeError):
    """The run was stopped before it ended; its partial text is on the run."""

    code = "cancelled"


_PLAIN_KINDS = {each.__name__: each for each in (InputError, ModelError, RunCancelled, UsageError)}


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that led to it, the last one first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


# Whoever writes names chooses how many there are and how long; what is said of them is bounded.

LONGEST_MESSAGE = 4000
"""Characters of a message or a hint: many times those of ours, and of what libraries say."""

_MARGIN = 1000  # characters at a cut that are not shown: part of a secret is not known as one
_LONGEST_NAME = 100
_LONGEST_TEXT = 10_000  # of a library's error that is looked at
_LONGEST_LINE = 500  # libraries quote what is wrong, however long it is
_MOST_NAMED = 20  # names in one sentence
_MOST_COMPARED = 10_000  # names in one check of a document: less than a second in the worst case


def _told(text: str) -> str:
    """A message without credentials, and without an end where it is very long."""
    if len(text) <= LONGEST_MESSAGE:
        return redact(text)
    shown = redact(text[: LONGEST_MESSAGE + _MARGIN])
    return f"{shown[: min(LONGEST_MESSAGE, max(0, len(shown) - _MARGIN))]}…"


_NUMBER = re.compile(r"\[(?:Errno|WinError) -?\d+\] ?")


def one_line(error: BaseException) -> str:
    """The first line of a library's error, with the next where it leads to it; or its kind.

    The numbers of the system's errors are left out, which the words beside them say.
    """
    try:
        words = _NUMBER.sub("", str(error)[:_LONGEST_TEXT])
    except Exception:  # a user's own error may have any code
        words = ""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    text = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}…"


def shortened(name: str, longest: int = _LONGEST_NAME) -> str:
    """A name as messages show it: what a program sends as one may have any length."""
    return name if len(name) <= longest else f"{name[:longest]}…"


def listed(names: Iterable[str]) -> str:
    """Names as messages list them: the first, where there are many."""
    first = list(islice(names, _MOST_NAMED + 1))
    shown = ", ".join(map(shortened, first[:_MOST_NAMED]))
    return f"{shown}, …" if len(first) > _MOST_NAMED else shown


# Gives something for each name that may still be compared.
_comparisons: ContextVar[Iterator[None] | None] = ContextVar("comparisons", default=None)


@contextmanager
def shared_comparisons() -> Iterator[None]:
    """All suggestions that are looked for inside share one bound of names to compare.

    Beyond it there is no suggestion. Outside, each has a bound of its own.
    """
    token = _comparisons.set(repeat(None, _MOST_COMPARED))
    try:
        yield
    finally:
        _comparisons.reset(token)


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A hint with the nearest known word, or None where nothing is near."""
    near = nearest(word, known)
    return f"Did you mean '{near}'?" if near else None


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like ``word``, or None where none is.

    Long words are like none, and of very many words the first alone are looked at; see
    `shared_comparisons`.
    """
    if len(word) > _LONGEST_NAME:
        return None
    left = _comparisons.get() or repeat(None, _MOST_COMPARED)
    names = [name for name, _ in zip(known, left, strict=False) if len(name) <= _LONGEST_NAME]
    return next(iter(difflib.get_close_matches(word, names, n=1, cutoff=0.6)), None)
