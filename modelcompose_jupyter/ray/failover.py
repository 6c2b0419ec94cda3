"""A run that is begun anew tells what it has told already; what comes true is told once.

Texts of a run depend on what it was asked for alone, so the second time the same comes. Until the
second run has come as far as the first one had, its events are held against those.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..workflow import Event, Run

MOST_LOSSES = 8
"""Replicas that one run may lose; it may be the cause."""
_UNFINISHED = "\ufffd"  # what stands at the end of a text for a part of a character
_OF_THE_CLOCK = ("seconds", "wait", "until")  # what is another each time
_PHASES = ("job", "repeat", "item", "round")  # of progress, that tell of the run's own steps


class Replay:
    """The events of a run that is begun anew, without those that it has told.

    Args:
        run: as it was told so far.

    Attributes:
        differences: where the second run did not give what the first one had, a sentence each.
    """

    def __init__(self, run: Run) -> None:
        self.differences: list[str] = []
        told = run.events_so_far()
        self._texts: dict[Any, _Told] = {}
        self._others: dict[Any, deque[Any]] = {}
        for event in told:
            subject = _subject(event)
            if event.type in ("text", "reasoning", "call", "tokens"):
                self._texts.setdefault(subject, _Told(_is_list(event))).add(event)
            elif subject is not None:
                self._others.setdefault(subject, deque()).append(_said(event))

    def fresh(self, events: Iterable[Event]) -> Iterator[Event]:
        """What of the second run's events is new."""
        for event in events:
            subject = _subject(event)
            if subject in self._texts:
                told = self._texts[subject]
                differed = told.differs_at
                yield from told.fresh(event)
                if differed is None and told.differs_at is not None:
                    self.differences.append(_sentence(event, told.differs_at))
            elif self._others.get(subject):
                expected = self._others[subject].popleft()
                if expected != _said(event):
                    self._others[subject].clear()
                    yield event
            elif event.type == "state" and self.differences and event.data.get("summary"):
                yield replace(event, data=_with_warnings(event.data, self.differences))
            else:
                yield event


class _Told:
    """A text, or a list of tokens, that was told, and what comes of it the second time.

    Attributes:
        differs_at: where that is something else.
    """

    def __init__(self, is_list: bool) -> None:
        self.differs_at: int | None = None
        self._key = "tokens" if is_list else "text"
        self._told: Any = [] if is_list else ""
        self._again = self._told
        self._is_over = False
        self._end: Any = None

    def add(self, event: Event) -> None:
        """Something that was told the first time."""
        self._told = self._with(self._told, event)
        self._end = event.data.get("finish_reason", self._end)

    def _with(self, before: Any, event: Event) -> Any:
        return before[: event.data["offset"]] + self._piece(event)

    def _piece(self, event: Event) -> Any:
        piece = event.data[self._key]
        return list(piece) if self._key == "tokens" else piece

    def fresh(self, event: Event) -> Iterator[Event]:
        """What is new of an event of the second time."""
        if self._is_over:
            yield event
            return
        self._again = self._with(self._again, event)
        told, again = _certain(self._told), _certain(self._again)
        same = _common(told, again)
        has_ended = "finish_reason" in event.data and event.data["finish_reason"] is not None
        if same == len(again) and len(again) <= len(told) and not has_ended:
            return
        if same < len(told):  # it differs, or ends earlier
            self.differs_at = same
        self._is_over = True
        if has_ended and self.differs_at is None and self._again == self._told and self._end:
            return
        yield replace(event, data={**event.data, "offset": same, self._key: self._again[same:]})


def _certain(said: Any) -> Any:
    """A text without what stands at its end for a part of a character."""
    return said.rstrip(_UNFINISHED) if isinstance(said, str) else said


def _common(first: Sequence[Any], second: Sequence[Any]) -> int:
    """How many characters or tokens two begin with alike."""
    shorter = min(len(first), len(second))
    if first[:shorter] == second[:shorter]:
        return shorter
    pairs = zip(map(_id, first), map(_id, second), strict=False)
    return next((i for i, (one, other) in enumerate(pairs) if one != other), shorter)


def _id(part: Any) -> Any:
    """What tells a character or a token from others."""
    return part if isinstance(part, str) else part["id"]


def _is_list(event: Event) -> bool:
    return event.type == "tokens"


def _subject(event: Event) -> Any:
    """What an event speaks of; None where it is told again whatever was told."""
    data = event.data
    match event.type:
        case "text" | "reasoning":
            return (event.type, *data["stream"])
        case "tokens":
            return ("tokens", data.get("part"), *data["stream"])
        case "call":
            return ("call", *data["stream"], data["call"])
        case "tool":
            return ("tool", *data["stream"], data["id"])
        case "job":
            return ("job", data["job"])
        case "item":
            return ("item", data["job"], data["index"])
        case "question":
            return ("question", data["id"])
        case "messages":
            return ("messages", data["job"], data["repeat"])
        case "progress" if data["phase"] in _PHASES:
            return ("progress", data["phase"], data.get("job"))
        case "state" if data["state"] == "running":
            return "running"
    return None


def _said(event: Event) -> Any:
    """What an event says, without what is another thing each time."""
    return {key: value for key, value in event.data.items() if key not in _OF_THE_CLOCK}


def _sentence(event: Event, place: int) -> str:
    job, repeat, prompt, sequence = event.data["stream"]
    return (
        f"a replica was lost, and the run was begun anew elsewhere: of the text of {job} "
        f"({repeat}, {prompt}, {sequence}) what follows character {place} is not what was told "
        "before"
    )


def _with_warnings(data: Mapping[str, Any], warnings: Sequence[str]) -> dict[str, Any]:
    summary = data["summary"]
    return {
        **data,
        "summary": {**summary, "warnings": [*summary.get("warnings", ()), *warnings]},
    }
