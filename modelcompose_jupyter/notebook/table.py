"""Tables of a notebook's runs and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..document.types import show
from ..formatting import duration, size
from ..models import MemoryUse, ModelInfo
from ..progress import ending
from ..table import Table, one_line_each
from ..translation import localized
from ..workflow import Run

_DEFAULTS: Mapping[str, Any] = {
    "do_sample": True, "temperature": 0.7, "top_k": 50, "top_p": 0.9, "num_beams": 1,
    "num_return_sequences": 1, "repetition_penalty": 1.0, "include_prompt": True,
    "stop_sequences": [],
}  # fmt: skip
"""What goes without saying of a run's parameters."""
_CELL_LENGTH = 48


def runs_table(runs: Sequence[Run]) -> Table:
    """How runs ended, and in which inputs and parameters they differ; what all of them have, and is
    no default, stands below."""
    given = [_given(run) for run in runs]
    columns, common = _compared(given)
    headers = ["id", *columns, "ended", "tokens", "tokens/s", "total"]
    cells = zip(*map(one_line_each, columns.values()), strict=True)
    rows = [
        [run.id, *values, *_outcome(run)]
        for run, values in zip(runs, list(cells) or [()] * len(runs), strict=True)
    ]
    shared = ", ".join(f"{name} {show(value, _CELL_LENGTH)}" for name, value in common.items())
    note = f"{'All' if len(runs) > 1 else 'With'}: {shared}" if shared else ""
    return Table(headers, rows, "No runs yet.", note)


def _given(run: Run) -> dict[str, Any]:
    """Inputs of a run, and parameters by other names."""
    inputs = dict(run.input) if isinstance(run.input, Mapping) else {"input": run.input}
    return inputs | {name: run.parameters[name] for name in run.parameters if name not in inputs}


def _compared(given: Sequence[Mapping[str, Any]]) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """The values that differ, by their names, and all others that are worth a word.

    A parameter that is what an input says in each run, by another name, is not told twice.
    """
    columns: dict[str, list[Any]] = {}
    common = {}
    for name in dict.fromkeys(name for values in given for name in values):
        column = [values.get(name) for values in given]
        if any(value != column[0] for value in column):
            if column not in columns.values():
                columns[name] = column
        elif name not in _DEFAULTS or column[0] != _DEFAULTS[name]:
            common[name] = column[0]
    return columns, common


def _outcome(run: Run) -> list[object]:
    timings, tokens = run.timings, run.usage.get("generated")
    return [
        localized(ending(run)),
        "" if tokens is None else tokens,
        f"{timings['tokens_per_second']:.1f}" if "tokens_per_second" in timings else "",
        localized(duration(timings["total"])) if "total" in timings else "",
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
    free, private = size(memory.available), memory.private
    if private is None:
        lines = [f"{place}: {size(memory.resident)} resident (RSS); {free} are free"]
    elif memory.proportional is None:
        lines = [f"{place}: {size(private)} private (USS); {free} are free"]
    else:
        share = size(memory.proportional)
        lines = [
            f"{place}: {size(private)} private (USS), "
            f"{share} with its share of mapped files (PSS); {free} are free"
        ]
    for each in memory.devices:
        line = f"{each.device}: {size(each.allocated)} in use, {size(each.reserved)} reserved"
        if each.free is not None and each.total is not None:
            line = f"{line}; {size(each.free)} of {size(each.total)} are free"
        lines.append(line)
    return "\n".join(lines)
