"""Tables of runs: what differs stands in them, what all have below."""

from __future__ import annotations

from typing import Any

from modelcompose_jupyter.notebook.table import runs_table
from modelcompose_jupyter.workflow import Run, State


def run(input: Any, **parameters: Any) -> Run:
    made = Run("w", input, lambda: None, id="run", parameters={"temperature": 0.7, **parameters})
    usage = {"prompt": 1, "reused": 0, "generated": 2}
    summary = {"usage": usage, "timings": {"total": 1.0, "tokens_per_second": 2.0}}
    made.add("state", {"state": State.COMPLETED, "summary": summary})
    return made


def lines(*runs: Run) -> list[list[str]]:
    return [line.split("  ") for line in repr(runs_table(runs)).splitlines()]


def cells(line: list[str]) -> list[str]:
    return [cell.strip() for cell in line if cell.strip()]


OUTCOME = ["ended", "tokens", "tokens/s", "total"]


def test_what_differs_stands_in_the_table_and_the_rest_below() -> None:
    head, first, second, note = lines(
        run({"prompt": "A  fox", "length": 3}, max_output_length=3, seed=1),
        run({"prompt": "A  fox", "length": 4}, max_output_length=4, seed=1),
    )
    assert cells(head) == ["id", "length", *OUTCOME]  # and not the same by another name
    assert cells(first)[:3] == ["run", "3", "Finished"]
    assert cells(second)[:3] == ["run", "4", "Finished"]
    assert note == ['All: prompt "A', 'fox", seed 1']  # not the temperature, which is the default


def test_a_default_is_told_where_others_have_something_else() -> None:
    head, first, second = lines(run({}), run({}, temperature=1.2))
    assert cells(head) == ["id", "temperature", *OUTCOME]
    assert [cells(first)[1], cells(second)[1]] == ["0.7", "1.2"]


def test_a_value_that_a_run_lacks_is_empty_and_a_long_one_is_cut() -> None:
    head, first, second = lines(run({"prompt": "word " * 50}), run(["no mapping"]))
    assert cells(head) == ["id", "prompt", "input", *OUTCOME]
    assert cells(first)[1] == f"{('word ' * 50)[:47]}…"
    assert cells(second)[1] == '["no mapping"]'


def test_one_run_has_all_below_and_none_is_said() -> None:
    head, first, note = lines(run({"prompt": "A"}, seed=1))
    assert cells(head) == ["id", *OUTCOME]
    assert cells(first) == ["run", "Finished", "2", "2.0", "1.0 s"]
    assert note == ['With: prompt "A", seed 1']
    assert lines() == [["No runs yet."]]
