"""How jobs of a run are, in words: the same in a repr, a diagram, a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from ..formatting import duration
from ..terminal import width_of
from ..translation import localized

_LONGEST_ERROR = 200
_CELL = 'style="text-align:left;text-align:start;vertical-align:top;overflow-wrap:break-word"'


class Jobs(dict[str, dict[str, Any]]):
    """The jobs of a run by their ids, as plain data; it shows itself as a table."""

    def __repr__(self) -> str:
        rows = self._rows()
        widths = [max((width_of(row[i]) for row in rows), default=0) for i in range(4)]
        return "\n".join(
            "  ".join(
                f"{cell}{' ' * (widths[i] - width_of(cell))}" for i, cell in enumerate(row)
            ).rstrip()
            for row in rows
        )

    def _repr_html_(self) -> str:
        names = map(localized, ("job", "type", "state", ""))
        head = "".join(f"<th {_CELL}>{name}</th>" for name in names)
        body = "".join(
            f"<tr>{''.join(f'<td {_CELL}>{escape(cell)}</td>' for cell in row)}</tr>"
            for row in self._rows()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [
            (name, job["type"], localized(state_word(job)), localized(" · ".join(more_words(job))))
            for name, job in self.items()
        ]


def state_word(job: Mapping[str, Any]) -> str:
    """The state of a job or an element in a word; a failure after which the run went on is one."""
    if job["state"] == "completed" and job.get("error"):
        return "recovered"
    return str(job["state"])


def more_words(job: Mapping[str, Any]) -> list[str]:
    """What else there is to say of a job, a few words each."""
    parts = []
    if "done" in job:
        parts.append(f"{job['done']:,} of {job['total']:,}")
    if job.get("attempt"):
        parts.append(f"attempt {job['attempt']} of {job['attempts']}")
    elif job.get("failed"):
        parts.append(f"{job['failed']:,} failed attempt{'' if job['failed'] == 1 else 's'}")
    if job.get("route"):
        parts.append(f"led to {job['route']}")
    if job.get("error"):
        parts.append(short_error(job["error"]))
    if job.get("seconds") is not None:
        parts.append(duration(job["seconds"]))
    return parts


def short_error(error: Mapping[str, Any]) -> str:
    """What went wrong, in a line."""
    line = " ".join(str(error["message"]).split())
    return line if len(line) <= _LONGEST_ERROR else f"{line[: _LONGEST_ERROR - 1]}…"


def count_words(job: Mapping[str, Any]) -> str:
    """How many of its repeats, elements or rounds have ended, or which round it is at."""
    done, total = job.get("done"), job.get("total")
    if done is None or total is None:
        return ""
    if job["type"] != "loop":
        return f"{done:,} / {total:,}"
    if job["state"] in ("running", "waiting"):
        return f"round {min(done + 1, total):,} of at most {total:,}"
    return f"{done:,} round{'' if done == 1 else 's'}"


def ordinal(number: int) -> str:
    """``2nd``, ``3rd``, ``11th``."""
    ends = {1: "st", 2: "nd", 3: "rd"}
    end = "th" if number % 100 in (11, 12, 13) else ends.get(number % 10, "th")
    return f"{number}{end}"
