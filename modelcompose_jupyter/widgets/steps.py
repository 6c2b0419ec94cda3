"""What a panel shows of a run's jobs: their states in the diagram, and elements in tables.

All of it is plain data that ``steps.js`` draws:

- ``nodes``: by the places of jobs in the diagram, how each is: ``state``, ``mark``, ``words``,
  ``name``, ``details`` (a line each), and of one that runs ``elapsed``, in seconds
- ``edges``: which were ``taken`` or ``left``, by the places of both ends: ``0-1``
- ``tables``: by the ids of jobs that go through a list, ``total``, ``done`` and ``rows``, by index:
  ``state``, ``mark``, ``word``, ``label``, ``output``, ``error``
- ``places``: which texts stand in a table, by their numbers: the job and the row
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..diagram import Diagram
from ..diagram.states import MARKS, edge_states, job_state
from ..workflow import Event, Run
from ..workflow.job_states import more_words, ordinal, state_word

Steps = dict[str, dict[str, Any]]
"""What is shown, or of that what has changed."""

LISTS = ("for-each",)
"""Types of jobs whose elements are rows of a table."""
_WITHIN = re.compile(r"\[(\d+)\](.*)", re.DOTALL)


class StepChanges:
    """How much of a run's steps was told to the browser; without a diagram none of its jobs."""

    def __init__(self, run: Run | None, diagram: Diagram | None) -> None:
        self._run = run
        self._diagram = diagram
        self._types: dict[str, str] = {}
        self._began: dict[str, float] = {}
        self._told: Steps = _nothing()
        self._fresh: Steps = _nothing()
        self._is_stale = False

    @property
    def types(self) -> Mapping[str, str]:
        """The types of the jobs, by their ids."""
        return self._types

    def take(self, event: Event) -> None:
        """Take in what an event tells."""
        data = event.data
        match event.type:
            case "job":
                self._is_stale = True
                self._types[data["job"]] = data["type"]
                if data["state"] == "running":
                    self._began.setdefault(data["job"], event.time)
            case "progress" if data["phase"] in ("item", "round", "repeat"):
                self._is_stale = True
                if self._types.get(data["job"]) in LISTS:
                    table = self._table(data["job"])
                    table |= {"total": data["total"], "done": data["done"]}
                    if data["done"] == 0:  # it is tried again
                        table |= {"anew": True, "rows": {}}
            case "item" if self._types.get(data["job"]) in LISTS:
                self._table(data["job"])["rows"][str(data["index"])] = row(data)

    def announced(self, number: int, stream: Sequence[Any]) -> None:
        """Take in that a text has been announced."""
        place = row_of(stream, self._types)
        if place is not None:
            self._fresh["places"][str(number)] = place[:2]

    def advance(self) -> Steps | None:
        """What has changed since the last time."""
        if self._is_stale and self._run is not None and self._diagram is not None:
            jobs = self._run.jobs
            nodes = _nodes(self._diagram, jobs, self._began)
            edges = _edges(self._diagram, jobs)
            for key, now in (("nodes", nodes), ("edges", edges)):
                told = self._told[key]
                self._fresh[key] = {
                    k: each for k, each in now.items() if _differs(each, told.get(k))
                }
                self._told[key] = now
        self._is_stale = False
        fresh, self._fresh = self._fresh, _nothing()
        return {key: each for key, each in fresh.items() if each} or None

    def _table(self, job: str) -> dict[str, Any]:
        fresh: dict[str, Any] = self._fresh["tables"].setdefault(job, {"rows": {}})
        return fresh


def steps_of(run: Run, diagram: Diagram | None) -> Steps:
    """All of a run's steps: what the changes of it add up to."""
    changes = StepChanges(run, diagram)
    numbers: dict[tuple[Any, ...], int] = {}
    for event in run.events_so_far():
        changes.take(event)
        if event.type == "text" and (stream := tuple(event.data["stream"])) not in numbers:
            changes.announced(numbers.setdefault(stream, len(numbers)), stream)
    return {**_nothing(), **(changes.advance() or {})}


def row_of(stream: Sequence[Any], types: Mapping[str, str]) -> tuple[str, int, str, int] | None:
    """Which row a text stands in, of the table of which job; and what tells it from others there:
    the rest of its job's place, and an index. None where it stands in none."""
    job, index = str(stream[0]), int(stream[1])
    if types.get(job) in LISTS:
        return job, index, "", 0
    start, _, _ = job.partition("[")
    if start == job or types.get(start) not in LISTS:
        return None
    found = _WITHIN.match(job, len(start))
    return None if found is None else (start, int(found[1]), found[2].strip("/"), index)


def _nothing() -> Steps:
    return {"nodes": {}, "edges": {}, "tables": {}, "places": {}}


def _nodes(
    diagram: Diagram, jobs: Mapping[str, Mapping[str, Any]], began: Mapping[str, float]
) -> dict[str, Any]:
    now = time.time()
    found: dict[str, Any] = {}
    for place, node in enumerate(diagram.nodes):
        job = jobs.get(node.job)
        if job is None:
            continue
        shown = job_state(job)
        found[str(place)] = {
            "name": node.label,
            "state": shown.state,
            "mark": shown.mark,
            "words": shown.words,
            "details": _details(node.job, jobs),
        }
        if job["state"] == "running" and node.job in began:
            found[str(place)]["elapsed"] = max(0.0, now - began[node.job])
    return found


def _edges(diagram: Diagram, jobs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    states = edge_states(diagram.nodes, diagram.links, jobs)
    return {f"{first}-{last}": state for (first, last), state in states.items()}


def _differs(now: Any, told: Any) -> bool:
    """Whether something is to be told; that time has passed is known."""
    return bool(_timeless(now) != _timeless(told))


def _timeless(each: Any) -> Any:
    return {**each, "elapsed": 0} if isinstance(each, dict) and "elapsed" in each else each


def _details(id: str, jobs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What there is to say of a job, a line each; and of those of a workflow that it calls."""
    job = jobs[id]
    failures = job.get("failures", ())
    told = [_sentence(job), *map(_failure, failures)]
    told += [
        f"{name.removeprefix(f'{id}/')}: {_sentence(each)}"
        for name, each in jobs.items()
        if name.startswith(f"{id}/")
    ]
    left = job.get("failed", 0) - len(failures)
    return [*told, *([f"and {left:,} more failed attempts"] if left > 0 else ())]


def _sentence(job: Mapping[str, Any]) -> str:
    more = " · ".join(more_words(job))
    return f"{state_word(job)}: {more}" if more else state_word(job)


def _failure(failure: Mapping[str, Any]) -> str:
    place = "".join(f", {each + 1}" for each in failure.get("place", ()))
    at = f", at {place.removeprefix(', ')}" if place else ""
    return f"{ordinal(failure['attempt'])} attempt{at}: {failure['message']}"


def row(item: Mapping[str, Any]) -> dict[str, Any]:
    """An element of a list as a row."""
    state = state_word(item)
    attempt = item.get("attempt")
    again = f"{ordinal(attempt)} attempt" if attempt else ""
    word = {"waiting": f"waits for its {again}", "completed": again or "done"}.get(state, state)
    if state == "running" and again:
        word = again
    return {
        "state": state,
        "mark": MARKS[state],
        "word": word,
        "label": item.get("label") or "",
        "output": item.get("output") or "",
        "error": (item.get("error") or {}).get("message", ""),
    }
