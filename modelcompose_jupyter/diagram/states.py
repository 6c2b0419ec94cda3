"""How the jobs of a run are, as a diagram shows them: a mark, words, and which edges were taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..formatting import duration
from ..workflow.job_states import count_words, ordinal, state_word
from .graph import Edge, Link, Node

EdgeState = Literal["open", "taken", "left"]

MARKS = {
    "pending": "○",
    "running": "●",
    "waiting": "↻",
    "interrupted": "?",
    "completed": "✓",
    "recovered": "✓",
    "failed": "✕",
    "skipped": "–",
    "cancelled": "■",
}
"""A mark for each state, which is not told by its colour alone."""
_WORDS = {"completed": "done", "interrupted": "asks", "waiting": "waits"}
_WORTH_SECONDS = 0.1  # of a word
COLUMNS = 33
"""The room that these words take."""


@dataclass(frozen=True)
class JobState:
    """What is shown of a job: its state in a word, a mark for that, and words beside the mark."""

    state: str
    mark: str
    words: str


def job_state(job: Mapping[str, Any]) -> JobState:
    """How a job is, from what `Run.jobs` says of it."""
    state = state_word(job)
    counts = count_words(job)
    word = _WORDS.get(state, state)
    parts = [word]
    if state == "waiting":
        parts = [f"{ordinal(job.get('attempt', 2))} attempt in {duration(job.get('wait', 0))}"]
    elif state == "running" and (counts or job.get("attempt")):
        parts = []
    if counts and state != "waiting":
        parts.append(counts)
    if state != "waiting" and job.get("attempt"):
        parts.append(f"{ordinal(job['attempt'])} attempt")
    if (job.get("seconds") or 0) >= _WORTH_SECONDS:
        parts.append(duration(job["seconds"]))
    return JobState(state, MARKS[state], " · ".join(parts))


def edge_states(
    nodes: Sequence[Node], links: Mapping[Edge, Link], jobs: Mapping[str, Mapping[str, Any]]
) -> dict[Edge, EdgeState]:
    """Which way a run went: ``taken`` and ``left`` edges, and those that are ``open``."""
    return {edge: _edge_state(nodes, edge, link, jobs) for edge, link in links.items()}


def _edge_state(
    nodes: Sequence[Node], edge: Edge, link: Link, jobs: Mapping[str, Mapping[str, Any]]
) -> EdgeState:
    first, last = (jobs.get(nodes[place].job, {}) for place in edge)
    before, after = first.get("state", ""), last.get("state", "")
    if "skipped" in (before, after):
        return "left"
    has_begun = bool(jobs) and (after not in ("", "pending") or nodes[edge[1]].kind == "output")
    if link.is_route:
        if before not in ("completed", "failed"):
            return "open"
        return "taken" if first.get("route") == nodes[edge[1]].job else "left"
    has_come = nodes[edge[0]].kind == "input" or before == "completed"
    if link.kind == "ended":
        has_come = before in ("completed", "failed")
    return "taken" if has_come and has_begun else "open"
