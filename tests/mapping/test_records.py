"""Maps whose texts have a format: columns of tables, instances, what was cut, going on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas
import polars
import pytest
from pydantic import BaseModel, Field

from modelcompose_jupyter import ComposeError, LocalHost, Workflow, load
from modelcompose_jupyter.errors import InputError, UsageError
from modelcompose_jupyter.format_types import GivenFormat

BODY = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.text}
  max_output_length: ${input.length as integer | 200}
"""


class Pet(BaseModel):
    kind: Literal["cat", "dog"]
    age: Annotated[int, Field(ge=1, le=9)]
    error: bool
    home: dict[Literal["town"], Annotated[str, Field(max_length=4)]] = Field(max_length=1)


SCHEMA = GivenFormat(Pet).plain["json_schema"]
COLUMNS = ["kind", "age", "error", "home", "error_"]
FRAME = pandas.DataFrame({"text": ["a", "b", "c"], "other": 1}, index=[5, 6, 7])


@pytest.fixture(scope="module")
def host() -> Iterator[LocalHost]:
    host = LocalHost()
    yield host
    host.close()


def flow(host: LocalHost, more: str = "") -> Workflow:
    return load(BODY + more, host=host)


def mapped(workflow: Workflow, rows: Any, **more: Any) -> Any:
    return workflow.map(rows, progress=False, **more)


@pytest.mark.parametrize("given", ["in the call", "in the document"])
def test_a_table_of_rows_gives_a_table_of_records(host: LocalHost, given: str) -> None:
    if given == "in the call":
        table = mapped(flow(host), FRAME, format=Pet)
    else:
        table = mapped(flow(host, f"  format: {json.dumps({'json_schema': SCHEMA})}\n"), FRAME)
    assert list(table.columns) == COLUMNS and list(table.index) == [5, 6, 7]
    assert table.kind.isin(["cat", "dog"]).all() and table.age.between(1, 9).all()
    assert str(table.age.dtype) == "int64" and str(table.error.dtype) == "bool"
    assert all(isinstance(each, dict) for each in table.home)
    assert table.error_.isna().all()


def test_a_table_of_polars_is_one_of_polars(host: LocalHost) -> None:
    table = mapped(flow(host), polars.DataFrame({"text": ["a", "b"]}), format=Pet)
    assert isinstance(table, polars.DataFrame) and table.columns == COLUMNS
    assert table["age"].dtype == polars.Int64 and table["kind"].to_list()[0] in ("cat", "dog")


def test_choices_are_a_column(host: LocalHost) -> None:
    table = mapped(flow(host, "  format: {choices: [x, y]}\n"), FRAME)
    assert list(table.columns) == ["output", "error"] and table.output.isin(["x", "y"]).all()


def test_a_mapping_as_output_names_the_columns(host: LocalHost) -> None:
    schema = {"json_schema": SCHEMA}
    more = f"  format: {json.dumps(schema)}\nworkflow:\n  job: {{id: a}}\n"
    table = mapped(
        flow(host, more + "  output: {what: '${output.kind}', old: '${output.age}'}\n"), FRAME
    )
    assert list(table.columns) == ["what", "old", "error"]
    assert table.what.isin(["cat", "dog"]).all()


def test_other_rows_give_instances_of_a_type(host: LocalHost) -> None:
    assert all(isinstance(each, Pet) for each in mapped(flow(host), ["a", "b"], format=Pet))
    series = mapped(flow(host), FRAME.text, format=Pet)
    assert isinstance(series, pandas.Series) and isinstance(series[6], Pet)
    rows = sorted(flow(host).imap(["a", "b"], progress=False, format=Literal["x"]))
    assert rows == [(0, "x"), (1, "x")]
    plain = mapped(flow(host), ["a"], format={"json_schema": SCHEMA})
    assert set(plain[0]) == {"generated"} and "kind" in plain[0]["generated"]


def test_a_format_that_no_row_could_have_is_refused_at_once(host: LocalHost) -> None:
    with pytest.raises(InputError, match="'not' is not supported"):
        flow(host).imap(["a"], format={"json_schema": {"not": {}}})


def test_without_a_format_a_table_gives_a_series_as_ever(host: LocalHost) -> None:
    assert isinstance(mapped(flow(host), FRAME, length=2), pandas.Series)


def test_a_row_that_was_cut_is_its_own_error_and_has_its_text(host: LocalHost) -> None:
    rows = FRAME.assign(length=[200, 5, 200])
    workflow = flow(host)
    table = mapped(workflow, rows, format=Pet)
    assert table.error_.isna().tolist() == [True, False, True]
    assert table.error_[6].startswith("the text was cut after 5 tokens")
    assert table.age.isna().tolist() == [False, True, False] and str(table.age.dtype) == "Int64"
    assert workflow.last_map is not None
    cut = workflow.last_map[1]
    assert isinstance(cut, ComposeError) and (cut.text or "").startswith('{"')


@pytest.mark.parametrize("name", ["pets.jsonl", "pets.parquet"])
def test_a_file_goes_on_and_holds_one_format(host: LocalHost, tmp_path: Path, name: str) -> None:
    file, workflow = tmp_path / name, flow(host)
    rows = FRAME.assign(length=[200, 5, 200])
    first = mapped(workflow, rows, format=Pet, save_to=file)
    again = mapped(workflow, rows, format=Pet, save_to=file)
    assert first.drop(index=6).equals(again.drop(index=6))
    with pytest.raises(UsageError, match="holds results of another format"):
        mapped(workflow, rows, format=Literal["x"], save_to=file)
    if name.endswith("jsonl"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        cut = next(line["error"] for line in lines if line["index"] == 1)
        assert cut["code"] == "format_cut" and cut["text"].startswith('{"')
