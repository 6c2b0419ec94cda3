"""The runs of a panel that one can go back to: a few, those that were pinned, and several side by
side."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..document.types import last_said, show
from ..progress import as_text, ending
from ..workflow import Run
from .form import label_of_name
from .outputs import said
from .text_diff import marked

_KEPT = 20
_MOST_COMPARED = 6
_TITLE_LENGTH = 60
_VALUE_LENGTH = 24


class RunHistory:
    """Runs that have ended, the latest at the end.

    Args:
        input_of: what a run was given, as those who look at it gave it.
        note_of: what else is to be said of a run; empty for nothing.
    """

    def __init__(
        self, input_of: Callable[[Run], Mapping[str, Any]], note_of: Callable[[Run], str]
    ) -> None:
        self._input_of = input_of
        self._note_of = note_of
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._pinned: set[str] = set()
        self._columns: tuple[Sequence[str], list[dict[str, Any]]] = ((), [])

    def __contains__(self, run: Run) -> bool:
        return run.id in self._runs

    def __getitem__(self, id: str) -> Run:
        return self._runs[id]

    def keep(self, run: Run) -> None:
        """Keep a run; the oldest that are not pinned go."""
        self._runs[run.id] = run
        loose = [id for id in self._runs if id not in self._pinned]
        for id in loose[: max(0, len(self._runs) - _KEPT)]:
            if id != run.id:
                del self._runs[id]

    def discard(self, run: Run) -> None:
        """Keep a run no more, unless it is pinned."""
        if run.id not in self._pinned:
            self._runs.pop(run.id, None)

    def pin(self, id: str, pinned: bool) -> None:
        """Keep a run however many follow, or no more."""
        if id in self._runs:
            (self._pinned.add if pinned else self._pinned.discard)(id)

    def cards(self) -> list[dict[str, Any]]:
        """What the list shows of each run, the latest first: when, its first input, what else
        tells it from the others, how it ended."""
        given = {id: self._input_of(run) for id, run in self._runs.items()}
        differing = _differing(list(given.values()))
        return [
            {
                "id": id,
                "time": _clock(run),
                "title": _title(given[id], run),
                "details": [*_details(given[id], differing), *filter(None, [self._note_of(run)])],
                "status": ending(run),
                "pinned": id in self._pinned,
            }
            for id, run in reversed(self._runs.items())
        ]

    def compared(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Runs as columns: each with a label, and its text in pieces, which are in the first run's
        text, too (``same``), or not (``other``); in the first, which of them the second lacks."""
        if list(ids) != list(self._columns[0]):  # they have ended, so it is looked at once
            self._columns = (ids, self._side_by_side(ids))
        return self._columns[1]

    def _side_by_side(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        runs = [self._runs[id] for id in ids if id in self._runs][:_MOST_COMPARED]
        if len(runs) < 2:
            return []
        columns = side_by_side(runs, list(map(self._input_of, runs)))
        for run, column in zip(runs, columns, strict=True):
            column["label"] = " · ".join(filter(None, [column["label"], self._note_of(run)]))
        return columns


def side_by_side(runs: Sequence[Run], given: Sequence[Any]) -> list[dict[str, Any]]:
    """Two runs or more as columns: see `RunHistory.compared`. ``given`` is what each was given."""
    values = [each if isinstance(each, Mapping) else {"input": each} for each in given]
    names = dict.fromkeys(name for each in values for name in each)
    differing = [name for name in names if any(e.get(name) != values[0].get(name) for e in values)]
    texts = list(map(said, runs))
    others = [texts[1], *texts[:1] * (len(texts) - 1)]
    labels = [" · ".join(_details(each, differing)) for each in values]
    if len(set(labels)) < len(labels):
        both = zip(labels, map(_at, runs), strict=True)
        labels = [" · ".join(filter(None, each)) for each in both]
    return [
        {"id": run.id, "label": label, "parts": marked(text, other)}
        for run, label, text, other in zip(runs, labels, texts, others, strict=True)
    ]


def _at(run: Run) -> str:
    """When it began, and with which seed: of runs with the same inputs."""
    seed = run.parameters.get("seed")
    return _clock(run) if seed is None else f"{_clock(run)} · seed {seed}"


def _clock(run: Run) -> str:
    return time.strftime("%H:%M:%S", time.localtime(run.began_at))


def _title(given: Mapping[str, Any], run: Run) -> str:
    texts = (each for each in given.values() if isinstance(last_said(each), str))
    first = next(texts, next(iter(given.values()), run.id))
    return _short(as_text(last_said(first)), _TITLE_LENGTH)


def _short(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


def _differing(given: Sequence[Mapping[str, Any]]) -> list[str]:
    """The inputs, beside the first, that are not the same in all of these."""
    names = dict.fromkeys(name for each in given for name in each)
    first = next(iter(names), None)
    return [
        name
        for name in names
        if name != first and any(each.get(name) != given[0].get(name) for each in given[1:])
    ]


def _details(given: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [
        f"{label_of_name(name)} {show(last_said(given[name]), _VALUE_LENGTH)}"
        for name in names
        if given.get(name) is not None
    ]
