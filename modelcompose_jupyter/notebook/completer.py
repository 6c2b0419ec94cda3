"""Completion in cells: what IPython's completer asks about ``%%compose`` and ``%compose``.

It is answered in the kernel, so every frontend has it. Nothing of the language is imported until
the cursor stands in one of our cells.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)

from ..magic_args import word_at_end
from .magics import VERBS

if TYPE_CHECKING:
    from ..callable import Workflow
    from ..magic_args import MagicArgs

_IDENTIFIER = "modelcompose_jupyter"
_FIRST = 1000.0  # before IPython's own matchers, which need not work then
_FILE_KINDS = ("NAME", "FILE", "NOTEBOOK")  # a file may stand for what a usage calls so
_CELL = re.compile(r"\s*%%compose(?!\S)")
_LINE = re.compile(r"[ \t]*%compose(?=[ \t])")

Item = tuple[str, str]
"""A text that may stand at the cursor, and a word for what it is."""


class _Answer(NamedTuple):
    """What may stand at the cursor in place of what is typed there. Nothing else shows."""

    typed: str
    items: list[Item]
    files: bool = False  # whether IPython may add names of files


class _Nothing(list[Any]):
    """No completions, but a length: IPython heeds ``suppress`` only of who has completions."""

    def __len__(self) -> int:
        return 1


def register(shell: Any) -> None:
    """Let a shell's completer ask us, once however often this is called."""
    unregister(shell)
    shell.Completer.custom_matchers.append(ComposeCompleter(shell).match)


def unregister(shell: Any) -> None:
    """Take back what `register` did."""
    matchers = shell.Completer.custom_matchers
    matchers[:] = [m for m in matchers if getattr(m, "matcher_identifier", "") != _IDENTIFIER]


class ComposeCompleter:
    """Answers in cells and on lines of ours: alone there, and nowhere else."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    @context_matcher(identifier=_IDENTIFIER, priority=_FIRST)
    def match(self, context: CompletionContext) -> SimpleMatcherResult:
        """IPython's matcher."""
        text = context.full_text
        line_start = sum(len(line) + 1 for line in text.split("\n")[: context.cursor_line])
        cursor = line_start + context.cursor_position
        cell = _CELL.match(text)
        if cell is None:
            line = _LINE.match(text, line_start, cursor)
            return _result(self._on_line(text[line.end() : cursor]) if line else None)
        body = text.find("\n", cell.end()) + 1 or len(text) + 1
        if cursor >= body:
            return _result(self._in_document(text[body:], cursor - body))
        return _result(_on_cell_line(text[cell.end() : cursor], text[body:]))

    def _in_document(self, text: str, cursor: int) -> _Answer:
        from ..document.completion import complete
        from ..language_service import LONGEST

        if len(text) > LONGEST:
            return _Answer("", [])
        functions = function_names(self._shell)
        found = complete(text, cursor, models=_models, functions=lambda: functions)
        return _Answer(text[found.start : cursor], [(item.text, item.kind) for item in found.items])

    def _on_line(self, written: str) -> _Answer | None:
        """Verbs, and what they are about."""
        found = word_at_end(written, ())
        if found is None:
            return None
        line, typed = found
        if not line.words:
            return _fitting(typed, [(verb, "verb") for verb in VERBS])
        verb, *given = line.words
        usage = VERBS.get(verb, ("", ""))[0].split()
        kind = usage[len(given)].strip("[]") if len(given) < len(usage) else ""
        answer = _fitting(typed, self._named(kind, line))
        return answer._replace(files=kind in _FILE_KINDS and not answer.items)

    def _named(self, kind: str, line: MagicArgs) -> Iterable[Item]:
        """What there is of a kind that a verb's usage names."""
        if kind == "NAME":
            return [(name, "workflow") for name in self._workflows()]
        if kind in ("ID", "MODEL"):
            from ..host import local_host
            from ..host_selection import own_runs

            # Of other hosts their runs alone, which are known here: completion asks no network.
            found = own_runs() if kind == "ID" else local_host().models()
            return [(each.id, kind.lower()) for each in found]
        workflow = self._workflows().get(line.words[1]) if kind == "key=text" else None
        return _assignments(workflow.inputs, line) if workflow else []

    def _workflows(self) -> dict[str, Workflow]:
        found: dict[str, Workflow]
        found = self._shell.magics_manager.registry["ComposeMagics"].workflows()
        return found


def _on_cell_line(written: str, document: str) -> _Answer | None:
    from ..language_service import complete_cell_line

    found = complete_cell_line(written, document)
    if found is None:
        return None
    return _Answer(written[found.start :], [(item.text, item.kind) for item in found.items])


def function_names(shell: Any) -> list[str]:
    """The functions of a notebook, those that its cells have defined or imported."""
    names = list(shell.user_ns.items())  # at once, since a cell may run meanwhile
    hidden = shell.user_ns_hidden
    found = (name for name, value in names if name not in hidden and inspect.isroutine(value))
    return [name for name in found if not name.startswith("_")]


def _models(typed: str) -> Iterable[str]:
    from ..models.weights.installed import suggested

    return suggested(typed)


def _assignments(names: Iterable[str], line: MagicArgs) -> list[Item]:
    return [(f"{name}=", "input") for name in names if name not in line.inputs]


def _fitting(typed: str, items: Iterable[Item]) -> _Answer:
    return _Answer(typed, [item for item in items if item[0].startswith(typed)])


def _result(answer: _Answer | None) -> SimpleMatcherResult:
    """An answer as IPython wants it; without one, all others may answer."""
    if answer is None:
        return {"completions": []}
    completions = [SimpleCompletion(text, type=kind) for text, kind in answer.items]
    return {
        "completions": completions or _Nothing(),
        "suppress": True,
        "do_not_suppress": {"IPCompleter.file_matcher"} if answer.files else set(),
        "ordered": True,
        "matched_fragment": answer.typed,
    }
