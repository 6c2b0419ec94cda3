"""What a workflow ran: the runs of this process, and those that the notebook remembers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import InputError, UsageError
from .notebook_records import runs_in, this_notebook
from .progress import ending
from .workflow import Run, Runnable, State

if TYPE_CHECKING:
    from pandas import DataFrame

_COLUMNS = (
    "when", "seed", "text", "finish", "finish_reason", "tokens", "prompt_tokens",
    "tokens_per_second", "seconds", "model", "output", "parameters", "record", "remembered",
)  # fmt: skip
"""Beside the inputs, which stand behind the first."""


class PastRun(NamedTuple):
    """A run of a workflow; ``remembered`` where the notebook alone has it."""

    run: Run
    remembered: bool


class PastRuns:
    """The runs of a workflow that are known, the oldest first.

    Those of an earlier state of its document are another workflow's.

    Args:
        own: gives the runs that this process started, of any workflow.
    """

    def __init__(self, workflow: Runnable, own: Callable[[], Iterable[Run]]) -> None:
        self._workflow = workflow
        self._own = own

    @cached_property
    def _known(self) -> dict[str, PastRun]:
        found = {run.id: PastRun(run, False) for run in self._own() if self._is_own(run)}
        path = this_notebook()
        for run in runs_in(path) if path is not None else ():
            if self._is_own(run):
                found.setdefault(run.id, PastRun(run, True))
        return dict(sorted(found.items(), key=lambda each: each[1].run.began_at or float("inf")))

    def table(self) -> DataFrame:
        """See `Workflow.history`.

        Raises:
            UsageError: pandas is not installed.
            InputError: the notebook's file cannot be read.
        """
        try:
            import pandas
        except ImportError:
            raise UsageError(
                "a history is a table of pandas, which is not installed",
                hint="Install it with 'pip install pandas'; %compose runs needs none.",
            ) from None

        runs = [each.run for each in self._known.values()]
        given = list(map(self.given, runs))
        rows = [_outcome(run, remembered) for run, remembered in self._known.values()]
        columns = {"when": [run.began_at for run in runs]}
        columns |= {
            f"input.{name}" if name in _COLUMNS else name: [each.get(name) for each in given]
            for name in self._input_names(given)
        }
        columns |= {name: [row[name] for row in rows] for name in _COLUMNS[1:]}
        index = pandas.Index([run.id for run in runs], name="run", dtype=object)
        table = pandas.DataFrame(
            {name: _column(pandas, values, index) for name, values in columns.items()}, index
        )
        when = pandas.to_datetime(table["when"].astype(float), unit="s", utc=True)
        here = datetime.now().astimezone().tzinfo
        table["when"] = when.dt.floor("s").dt.tz_convert(here)
        return table

    def given(self, run: Run) -> Mapping[str, Any]:
        """The inputs of a run by name, and the defaults of those that were not given."""
        values = self._workflow.as_given(run.input)
        named = values if isinstance(values, Mapping) else {"input": values}
        if not self._is_own(run):
            return named
        return {**{each.name: each.default for each in self._workflow.signature.inputs}, **named}

    def _is_own(self, run: Run) -> bool:
        here = (self._workflow.document.hash, self._workflow.id)
        return (run.document, run.workflow) == here

    def _input_names(self, given: Sequence[Mapping[str, Any]]) -> list[str]:
        """The inputs that have columns: all but those that are a column already."""
        inputs = {each.name: each for each in self._workflow.signature.inputs}
        names = dict.fromkeys(name for each in given for name in each)
        told = {n for n, each in inputs.items() if n in _COLUMNS and each.parameter == n}
        return [name for name in (inputs | names) if name not in told]

    def find(self, id: str) -> Run:
        """A run by its id, or the beginning of it.

        Raises:
            InputError: there is none, or it is not clear which is meant.
        """
        found = [each.run for key, each in self._known.items() if key.startswith(id)]
        if len(found) == 1:
            return found[0]
        what = "several runs of this workflow begin with" if found else "this workflow has no run"
        raise InputError(
            f"{what} '{id}'",
            hint="Its history has those of this kernel and of the saved notebook, with the document"
            " as it is now.",
            code="unknown_run",
        )

    def runs(self, chosen: Iterable[Any]) -> list[Run]:
        """Runs, as themselves or by their ids, by rows of the table, or by tables of these.

        Raises:
            InputError: there is no such run, or what is given names none.
        """
        return [run for each in chosen for run in self._runs(each)]

    def _runs(self, chosen: Any) -> Iterator[Run]:
        pandas = sys.modules.get("pandas")
        if isinstance(chosen, Run):
            yield chosen
        elif isinstance(chosen, str):
            yield self.find(chosen)
        elif isinstance(chosen, list | tuple):
            for each in chosen:
                yield from self._runs(each)
        elif pandas is not None and isinstance(chosen, pandas.Series):
            yield self.find(str(chosen.name))
        elif pandas is not None and isinstance(chosen, pandas.DataFrame):
            yield from map(self.find, map(str, chosen.index))
        else:
            raise _no_run(chosen)

    def record(self, chosen: Any) -> Mapping[str, Any]:
        """The record of a run, which may be given as itself, as in `runs`, or as the row that has
        it.

        Raises:
            InputError: there is no such run, what is given names none, or the run has no record.
        """
        pandas = sys.modules.get("pandas")
        if pandas is not None and isinstance(chosen, pandas.Series) and "record" in chosen:
            chosen = chosen["record"]
        if isinstance(chosen, Mapping):
            record: Mapping[str, Any] = chosen
        else:
            found = self.runs([chosen])
            if len(found) != 1:
                raise _no_run(chosen)
            record = found[0].record
        if not record:
            raise InputError(
                "the run has no record: it has not ended, or never began, or is a guest's",
                hint="Call the workflow with its inputs again.",
                code="no_record",
            )
        return record


def _outcome(run: Run, remembered: bool) -> dict[str, Any]:
    """What the table has of a run beside its inputs."""
    timings, parameters = run.timings, run.parameters
    why = f": {run.error.message}" if run.error is not None and run.state is State.FAILED else ""
    return {
        "seed": parameters.get("seed"),
        "text": run.text,
        "output": run.output,
        "finish": ending(run) + why,
        "finish_reason": run.finish_reason,
        "tokens": run.usage.get("generated"),
        "prompt_tokens": run.usage.get("prompt"),
        "tokens_per_second": _rounded(timings.get("tokens_per_second"), 1),
        "seconds": _rounded(timings.get("total"), 3),
        "model": ", ".join(run.models) or None,
        "parameters": parameters,
        "record": run.record,
        "remembered": remembered,
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _column(pandas: Any, values: list[Any], index: Any) -> Any:
    """A column of the kind of its values; whole numbers stay what they are beside empty places,
    where pandas would make floats of them."""
    column = pandas.Series(values, index, dtype=object)
    has_holes = any(each is None for each in values)
    is_whole = has_holes and any(isinstance(each, int) for each in values)
    return column if is_whole else column.infer_objects()


def _no_run(chosen: Any) -> InputError:
    return InputError(
        f"this names no run: {type(chosen).__name__}",
        hint="Give a run, its id, its row of the history, or for a rerun its record.",
    )
