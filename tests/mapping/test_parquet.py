"""Results as a Parquet file: whole at the end, durable before it, and gone on with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelcompose_jupyter import ComposeError, InputError
from modelcompose_jupyter.errors import UsageError

from .conftest import BODY, instant
from .test_journal import VALUES

LISTS = BODY.replace("as text", "as list")


def echo(given: Any) -> Any:
    if given["prompt"] == "bad":
        raise InputError("not this one", hint="Another.")
    return {"generated": given["prompt"]}


def test_uniform_columns_have_their_own_type(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    flow, _ = instant(echo)
    outputs = flow.map(["a", "bad", "c"], save_to=path, progress=False)
    table = pyarrow.parquet.read_table(path)
    assert table.column_names == ["index", "input", "output", "error", "record"]
    assert table["index"].to_pylist() == [0, 1, 2]
    assert table["input"].to_pylist() == [{"prompt": each} for each in ("a", "bad", "c")]
    assert table["output"].to_pylist() == [{"generated": "a"}, None, {"generated": "c"}]
    first, second, _ = table["error"].to_pylist()
    assert first is None
    assert ComposeError.from_dict(json.loads(second)).hint == "Another."
    assert json.loads(table["record"][0].as_py())["document"] == flow.document.hash
    assert pandas.read_parquet(path)["output"][0] == outputs[0]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "values",
    [
        ["a", {"b": 1}, None],
        [{"a": 1}, {"b": 1}],
        [1, 2.5],
        [1, True],
        [{}, {}],
        [10**30, 1],
        [[], [1], ["x"]],
        [None, None],
    ],
)
def test_other_values_stand_as_json_text(values: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    answers = iter(values)
    flow, _ = instant(lambda given: next(answers))
    flow.map([str(number) for number in range(len(values))], save_to=path, progress=False)
    column = pyarrow.parquet.read_table(path)["output"].to_pylist()
    assert [each if each is None else json.loads(each) for each in column] == values
    flow, host = instant(lambda given: None)
    again = flow.map([str(n) for n in range(len(values))], save_to=path, progress=False)
    assert json.dumps(again) == json.dumps(values)
    assert host.submitted == []


@settings(deadline=None, max_examples=60)
@given(values=st.lists(VALUES, max_size=6), uniform=st.booleans())
def test_any_results_come_back_as_they_were(
    values: list[Any], uniform: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "out.parquet"
    rows = [{"prompt": [number if uniform else value]} for number, value in enumerate(values)]
    answers = iter(values)
    outputs = instant(lambda given: next(answers), LISTS)[0].map(rows, save_to=path, progress=False)
    flow, host = instant(lambda given: None, LISTS)
    again = flow.map(rows, save_to=path, progress=False)
    assert host.submitted == []
    assert json.dumps(again, sort_keys=True) == json.dumps(outputs, sort_keys=True)


def test_a_map_that_was_closed_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    rows = [str(number) for number in range(100)]
    flow, _ = instant(echo)
    stream = flow.imap(rows, save_to=path, progress=False)
    handed = {next(stream).index for _ in range(20)}
    assert not path.exists()  # it is written whole, at the end
    stream.close()
    done = pyarrow.parquet.read_table(path)["index"].to_pylist()
    assert handed <= set(done)
    assert done == sorted(done)
    assert list(tmp_path.iterdir()) == [path]

    flow, host = instant(echo)
    assert flow.map(rows, save_to=path, progress=False) == [{"generated": row} for row in rows]
    assert len(host.submitted) == 100 - len(done)
    assert pyarrow.parquet.read_table(path)["index"].to_pylist() == list(range(100))
    assert list(tmp_path.iterdir()) == [path]


def test_more_rows_than_are_written_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelcompose_jupyter.mapping.journal._PARQUET_ROWS", 7)
    path = tmp_path / "out.parquet"
    rows = [str(number) for number in range(50)]
    # The type changes where another portion of rows begins.
    flow, _ = instant(lambda given: given["prompt"] if int(given["prompt"]) < 14 else 1)
    outputs = flow.map(rows, save_to=path, progress=False)
    table = pyarrow.parquet.read_table(path)
    assert table["input"].type == pyarrow.struct({"prompt": pyarrow.string()})
    assert [json.loads(each) for each in table["output"].to_pylist()] == outputs
    flow, host = instant(echo)
    assert flow.map(rows, save_to=path, progress=False) == outputs
    assert host.submitted == []


def test_rows_stand_in_their_order_whenever_they_ended(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    flow, _ = instant(echo)
    flow.map(["a", "b", "c"], save_to=tmp_path / "out.jsonl", progress=False)
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "out.parquet.jsonl").write_bytes(b"".join(reversed(lines)))
    flow.map(["a", "b", "c"], save_to=path, progress=False)
    assert pyarrow.parquet.read_table(path)["index"].to_pylist() == [0, 1, 2]


def test_the_file_stays_as_it_was_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    flow, _ = instant(echo)
    flow.map(["a"], save_to=path, progress=False)
    before = path.read_bytes()
    for row in flow.imap(["a", "b", "c"], save_to=path, progress=False):
        assert path.read_bytes() == before
        beside = (tmp_path / "out.parquet.jsonl").read_bytes().splitlines()
        assert row.index in {json.loads(line)["index"] for line in beside}
    assert pyarrow.parquet.read_table(path).num_rows == 3


def test_a_file_that_cannot_be_written_at_the_end_leaves_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    flow, _ = instant(echo)
    stream = flow.imap(["a"], save_to=path, progress=False)
    next(stream)
    path.mkdir()
    with pytest.raises(ComposeError, match=r"out\.parquet cannot be written") as caught:
        stream.close()
    assert f"All results are in {path}.jsonl" in str(caught.value.hint)
    path.rmdir()
    flow, host = instant(echo)
    assert flow.map(["a"], save_to=path, progress=False) == [{"generated": "a"}]
    assert host.submitted == []
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", [b"notes", b"", b"PAR1notesPAR1"])
def test_a_file_of_something_else_is_left_as_it_is(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    path.write_bytes(text)
    with pytest.raises(UsageError, match="holds no results of rows"):
        instant(echo)[0].map(["a"], save_to=path)
    assert path.read_bytes() == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    like_ours = {name: ["a"] for name in ("index", "input", "error", "record")}
    for table in ({"prompt": ["a"]}, like_ours):
        pandas.DataFrame(table).to_parquet(path)
        with pytest.raises(UsageError, match="holds no results of rows"):
            instant(echo)[0].map(["a"], save_to=path)
        assert list(tmp_path.iterdir()) == [path]


def test_without_pyarrow_it_says_what_to_install() -> None:
    script = f"""
import sys
sys.modules["pyarrow"] = None
from modelcompose_jupyter import ComposeError, load
try:
    load({BODY!r}).map(["a"], save_to="out.parquet")
except ComposeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "pip install pyarrow" in done.stdout
    assert done.stderr == ""
