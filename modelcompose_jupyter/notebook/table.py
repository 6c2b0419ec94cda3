"""A small table that shows as HTML in a notebook and as text elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..document.types import show
from ..formatting import duration, size
from ..models import MemoryUse, ModelInfo
from ..workflow import Run


class Table:
    """Rows of text under headers, and a note below.

    ``empty`` is what stands there when there are no rows.
    """

    def __init__(
        self, headers: Sequence[str], rows: Sequence[Sequence[object]], empty: str, note: str = ""
    ) -> None:
        self.headers = list(headers)
        self.rows = [[str(cell) for cell in row] for row in rows]
        self._empty = empty
        self._note = note

    def __repr__(self) -> str:
        return "\n".join([*self._lines(), *([self._note] if self._note else [])])

    def _lines(self) -> list[str]:
        if not self.rows:
            return [self._empty]
        lines = [self.headers, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.headers))]
        return [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]

    def _repr_html_(self) -> str:
        lines = "<br>".join(map(escape, self._note.splitlines()))
        note = f"<div><small>{lines}</small></div>" if lines else ""
        if not self.rows:
            return f"<em>{escape(self._empty)}</em>{note}"
        style = "style='text-align:left'"
        head = "".join(f"<th {style}>{escape(header)}</th>" for header in self.headers)
        body = "".join(
            "<tr>" + "".join(f"<td {style}>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


def runs_table(runs: Sequence[Run]) -> Table:
    """Runs with their inputs, parameters and timings."""
    headers = ["id", "state", "input", "parameters", "tokens", "tokens/s", "first token", "total"]
    return Table(headers, [_run_row(run) for run in runs], "No runs yet.")


def _run_row(run: Run) -> list[object]:
    timings, tokens = run.timings, run.usage.get("generated")
    return [
        run.id,
        f"{run.state} ({run.finish_reason})" if run.finish_reason else run.state,
        show(run.input),
        ", ".join(f"{key} {value}" for key, value in run.parameters.items()),
        "" if tokens is None else tokens,
        f"{timings['tokens_per_second']:.1f}" if "tokens_per_second" in timings else "",
        duration(timings["first_token"]) if "first_token" in timings else "",
        duration(timings["total"]) if "total" in timings else "",
    ]


def models_table(hosts: Sequence[tuple[str, Sequence[ModelInfo], MemoryUse]]) -> Table:
    """Models in memory by host, and below them what the hosts' processes really hold."""
    headers = ["id", "source", "device", "precision", "driver", "state", "weights", "in use"]
    rows: list[list[object]] = [
        [m.id, m.source, m.device or "", m.precision or "", _driver(m),
         m.state, _weights(m), m.leases]
        for _, models, _ in hosts
        for m in models
    ]  # fmt: skip
    if len(hosts) > 1:
        headers = ["host", *headers]
        places = [place for place, models, _ in hosts for _ in models]
        rows = [[place, *row] for place, row in zip(places, rows, strict=True)]
    notes = [_memory_note(place, memory) for place, _, memory in hosts]
    return Table(headers, rows, "No models in memory.", "\n".join(notes))


def _driver(model: ModelInfo) -> str:
    reason = "" if model.driver_reason is None else f" ({model.driver_reason})"
    return (model.driver or "") + reason


def _weights(model: ModelInfo) -> str:
    if model.memory_bytes is None:
        return ""
    return size(model.memory_bytes) + (" (mapped)" if model.mapped_bytes else "")


def _memory_note(place: str, memory: MemoryUse) -> str:
    parts = []
    if memory.private is not None:
        parts.append(f"{size(memory.private)} private (USS)")
    if memory.proportional is not None:
        parts.append(f"{size(memory.proportional)} with its share of mapped files (PSS)")
    parts = parts or [f"{size(memory.resident)} resident (RSS)"]
    lines = [f"{place}: {', '.join(parts)}; {size(memory.available)} are free"]
    for each in memory.devices:
        line = f"{each.device}: {size(each.allocated)} in use, {size(each.reserved)} reserved"
        if each.free is not None and each.total is not None:
            line += f"; {size(each.free)} of {size(each.total)} are free"
        lines.append(line)
    return "\n".join(lines)
