"""The forms in which people have rows, and what becomes an input."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import pandas
import polars
import pytest

from modelcompose_jupyter import ComposeError, InputError
from modelcompose_jupyter.callable import Workflow

from .conftest import BODY, instant

TWO = BODY.replace("${input.prompt as text}", "${input.topic as text} ${input.style as text}")
NONE = BODY.replace("${input.prompt as text}", "x").replace("${input.length as integer | 4}", "4")
OPTIONAL = BODY.replace("as text", "as text | x")
COLUMNS: dict[str, list[Any]] = {
    "prompt": ["a", "b", None],
    "length": [1, None, 3],
    "note": ["x", "y", "z"],
}
TAKEN = [{"prompt": "a", "length": 1}, {"prompt": "b"}, {"length": 3}]


def echo(document: str = BODY) -> Workflow:
    """A workflow whose output is its input; it fails where there is no prompt."""

    def answer(given: Any) -> Any:
        if "prompt" not in given:
            raise InputError("missing input 'prompt'")
        return given

    return instant(answer, document)[0]


def outputs_of(flow: Workflow, rows: Any, **shared: Any) -> Any:
    return flow.map(rows, progress=False, **shared)


@pytest.mark.parametrize(
    "make",
    [
        lambda lines: list(csv.DictReader(lines)),
        lambda lines: csv.DictReader(lines),
        lambda lines: pandas.DataFrame(list(csv.DictReader(lines))),
        lambda lines: polars.DataFrame(list(csv.DictReader(lines))),
        lambda lines: datasets.Dataset.from_list(list(csv.DictReader(lines))),
    ],
)
def test_a_first_column_may_begin_with_the_mark_of_its_file(make: Callable[[Any], Any]) -> None:
    rows = make(["\ufeffprompt,length", "a,1", "b,2"])
    expected = [{"prompt": "a", "length": "1"}, {"prompt": "b", "length": "2"}]
    assert list(outputs_of(echo(), rows)) == expected


@pytest.mark.parametrize(
    "make",
    [
        pandas.DataFrame,
        lambda columns: pandas.DataFrame(columns).convert_dtypes(),
        lambda columns: pandas.DataFrame(columns).astype(object).fillna(np.nan),
        polars.DataFrame,
        datasets.Dataset.from_dict,
    ],
)
def test_a_tables_columns_that_are_inputs_are_taken(make: Callable[[Any], Any]) -> None:
    outputs = list(outputs_of(echo(), make(COLUMNS)))
    assert outputs[:2] == TAKEN[:2]
    assert isinstance(outputs[2], InputError)
    assert list(outputs_of(echo(), make(COLUMNS), prompt="p"))[2] == {"prompt": "p", "length": 3}


@pytest.mark.parametrize(
    "rows",
    [
        ["a", "b"],
        ("a", "b"),
        np.array(["a", "b"]),
        iter(["a", "b"]),
        (each for each in "ab"),
        [{"prompt": "a"}, "b"],
        datasets.Dataset.from_dict({"prompt": ["a", "b"]}),
    ],
)
def test_other_rows_give_a_list(rows: Any) -> None:
    outputs = outputs_of(echo(), rows)
    assert isinstance(outputs, list)
    assert outputs == [{"prompt": "a"}, {"prompt": "b"}]


def test_pandas_gives_a_series_with_the_same_index() -> None:
    index = pandas.MultiIndex.from_tuples([("x", 1), ("y", 2), ("y", 2)], names=["k", "n"])
    frame = pandas.DataFrame(COLUMNS, index=index)
    for rows in (frame, frame["prompt"]):
        outputs = outputs_of(echo(), rows)
        assert isinstance(outputs, pandas.Series)
        assert outputs.index.equals(index)
        assert outputs.index.names == ["k", "n"]
        assert outputs.dtype == object
        assert isinstance(outputs.iloc[2], InputError)
    assert frame.assign(out=outputs)["out"].iloc[0] == {"prompt": "a"}
    assert list(outputs_of(echo(), frame.iloc[:0])) == []


def test_polars_gives_a_series_of_the_type_that_fits() -> None:
    whole = outputs_of(echo(), polars.Series(["a", "b"]))
    assert isinstance(whole, polars.Series)
    assert whole.dtype == polars.Struct({"prompt": polars.String})
    mixed = outputs_of(echo(), polars.DataFrame(COLUMNS))
    assert mixed.dtype == polars.Object
    assert mixed.to_list()[:2] == TAKEN[:2]
    assert isinstance(mixed[2], InputError)
    # A struct would say that the first row has a length, which is null.
    different = outputs_of(echo(), polars.DataFrame({"prompt": ["a", "b"], "length": [None, 1]}))
    assert different.to_list() == [{"prompt": "a"}, {"prompt": "b", "length": 1}]
    flow, _ = instant(lambda given: len(given["prompt"]))
    assert outputs_of(flow, polars.Series(["a", "bc"])).to_list() == [1, 2]


def test_values_of_series_are_pythons_own() -> None:
    flow, host = instant(lambda given: None, BODY.replace("as text", "as list"))
    for rows in (polars.Series([["a", "b"]]), pandas.Series([np.array(["a", "b"])])):
        outputs_of(flow, rows)
    assert host.submitted == [{"prompt": ["a", "b"]}] * 2
    outputs_of(flow, pandas.Series([{"prompt": ["c"], "length": 1}]))
    assert host.submitted[2] == {"prompt": ["c"], "length": 1}


def test_what_a_plain_row_stands_for() -> None:
    flow, host = instant(lambda given: None)
    outputs_of(flow, ["a"], length=2)
    outputs_of(flow, ["b"], prompt="shared")
    assert host.submitted == [{"prompt": "a", "length": 2}, {"prompt": "b"}]

    flow, host = instant(lambda given: None, TWO)
    outputs_of(flow, ["a"], style="noir")
    assert host.submitted == [{"topic": "a", "style": "noir"}]

    only = OPTIONAL.replace("${input.length as integer | 4}", "4")
    flow, host = instant(lambda given: None, only)
    outputs_of(flow, ["a"])
    assert host.submitted == [{"prompt": "a"}]

    flow, host = instant(
        lambda given: None, only.replace("${input.prompt as text | x}", "${input}")
    )
    outputs_of(flow, ["a"])
    assert host.submitted == ["a"]


@pytest.mark.parametrize("document", [TWO, OPTIONAL, NONE])
@pytest.mark.parametrize("make", [list, iter, pandas.Series, polars.Series])
def test_a_plain_row_that_can_stand_for_nothing(document: str, make: Callable[[Any], Any]) -> None:
    flow, host = instant(lambda given: None, document)
    with pytest.raises(InputError, match="no one input that it can stand for"):
        outputs_of(flow, make(["a"]))
    assert host.submitted == []
    assert outputs_of(flow, [{}]) == [None]


def test_shared_inputs_hold_for_all_rows_and_a_rows_own_win(flow: Workflow) -> None:
    echoing, host = instant(lambda given: None)
    echoing.map([{"prompt": "a"}, {"length": 1}], {"prompt": "p"}, length=2, progress=False)
    assert host.submitted == [{"prompt": "a", "length": 2}, {"prompt": "p", "length": 1}]
    with pytest.raises(InputError, match="no input 'lenght'") as caught:
        flow.map([{"prompt": "a"}], lenght=2)
    assert caught.value.hint == "Did you mean 'length'?"
    with pytest.raises(InputError, match="must be a mapping"):
        flow.map(["a"], "b")


@pytest.mark.parametrize("make", [pandas.DataFrame, polars.DataFrame, datasets.Dataset.from_dict])
def test_a_table_without_a_column_that_fits(make: Callable[[Any], Any]) -> None:
    flow, host = instant(lambda given: None)
    with pytest.raises(InputError) as caught:
        outputs_of(flow, make({"promt": ["a"], "text": ["b"]}))
    assert str(caught.value) == (
        "no column is named like the input 'prompt': the columns are promt, text; "
        "the inputs are prompt, length\n  Did you mean 'prompt'? The column is 'promt'."
    )
    with pytest.raises(InputError, match="no column is named like an input"):
        outputs_of(flow, make({"text": ["b"]}), prompt="p")
    with pytest.raises(InputError, match="'prompt'"):
        outputs_of(flow, make({"length": [1]}))
    assert host.submitted == []
    outputs_of(flow, make({"length": [1]}), prompt="p")
    assert host.submitted == [{"prompt": "p", "length": 1}]


def test_a_wide_table_is_named_in_short(flow: Workflow) -> None:
    wide = pandas.DataFrame({f"c{number}": ["a"] for number in range(500)})
    with pytest.raises(InputError, match="c8, c9 and 490 more"):
        flow.map(wide)


def test_a_table_with_an_input_twice(flow: Workflow) -> None:
    twice = pandas.DataFrame([["a", "b"]], columns=["prompt", "prompt"])
    with pytest.raises(InputError, match="several columns 'prompt'"):
        flow.map(twice)


@pytest.mark.parametrize("rows", ["abc", b"abc", {"prompt": "a"}, 5, None, polars.LazyFrame()])
def test_what_is_not_many_rows(flow: Workflow, rows: Any) -> None:
    with pytest.raises(ComposeError, match="rows must be many"):
        flow.map(rows)


def test_no_library_of_tables_is_imported_for_a_list() -> None:
    script = f"""
import sys
import modelcompose_jupyter.callable
assert "tqdm" not in sys.modules
flow = modelcompose_jupyter.load({BODY!r})
try:
    flow.map([{{"promt": "a"}}], progress=False)
finally:
    print([m for m in ("pandas", "polars", "datasets", "pyarrow", "torch") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
