"""Rows in files: each can be read without those before it, whatever the file is."""

from __future__ import annotations

import csv
import json
import sys
from codecs import BOM_UTF8
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelcompose_jupyter import InputError
from modelcompose_jupyter.errors import UsageError
from modelcompose_jupyter.mapping import row_files as module
from modelcompose_jupyter.mapping.row_files import RowFiles, row_files

from .conftest import instant

COUNT = 2500
TEXTS = [f'Text {number}, "with"\nlines' for number in range(COUNT)]


def write_jsonl(path: Path, texts: list[str]) -> None:
    path.write_text("".join(f"{json.dumps({'text': each, 'id': 1})}\n\n" for each in texts))


def write_csv(path: Path, texts: list[str]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["text", "id"], *([each, 1] for each in texts)])


def write_parquet(path: Path, texts: list[str]) -> None:
    table = pyarrow.table({"text": texts, "id": [1] * len(texts)})
    pyarrow.parquet.write_table(table, path, row_group_size=700)


WRITERS: dict[str, Callable[[Path, list[str]], None]] = {
    ".jsonl": write_jsonl,
    ".csv": write_csv,
    ".parquet": write_parquet,
}


@pytest.fixture(scope="module", params=WRITERS)
def two_files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    WRITERS[request.param](folder / f"1{request.param}", TEXTS[:1800])
    WRITERS[request.param](folder / f"2{request.param}", TEXTS[1800:])
    (folder / f"_job{request.param}").write_text("not looked at")
    return folder


def texts_of(files: RowFiles, *ranges: range) -> list[tuple[int, str]]:
    return [(number, row["text"]) for number, row in files.read(ranges)]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, COUNT), st.integers(0, 1200)), max_size=5))
def test_any_rows_are_read_wherever_the_last_ones_were(
    two_files: Path, asked: list[tuple[int, int]]
) -> None:
    files = row_files([str(two_files)])
    assert len(files) == COUNT
    for first, count in asked:
        rows = range(first, first + count)
        expected = list(enumerate(TEXTS))[first : first + count]
        assert texts_of(files, rows) == expected


def test_a_pattern_a_uri_and_files_by_name_are_the_same_rows(two_files: Path) -> None:
    suffix = next(two_files.iterdir()).suffix
    ways = [
        [f"{two_files}/[12]{suffix}"],
        [two_files.as_uri()],
        [f"{two_files}/1{suffix}", f"{two_files.as_uri()}/2{suffix}"],
    ]
    whole = row_files([str(two_files)])
    for paths in ways:
        files = row_files(paths)
        assert texts_of(files, range(1790, 1810)) == texts_of(whole, range(1790, 1810))
        assert files.identity == whole.identity


def test_rows_are_known_by_what_is_in_their_files(two_files: Path, tmp_path: Path) -> None:
    suffix = next(two_files.iterdir()).suffix
    same, other = tmp_path / f"1{suffix}", tmp_path / "other" / f"1{suffix}"
    other.parent.mkdir()
    WRITERS[suffix](same, TEXTS[:1800])
    WRITERS[suffix](other, ["text 0", *TEXTS[1:1800]])
    first = row_files([f"{two_files}/1{suffix}"]).identity
    assert row_files([str(same)]).identity == first
    assert row_files([str(other)]).identity != first


def test_columns_have_other_names_and_others_are_not_read(two_files: Path) -> None:
    files = row_files([str(two_files)], {"text": "prompt"})
    flow, host = instant(lambda given: given["prompt"])
    assert flow.map(files, progress=False) == TEXTS
    assert host.submitted[0] == {"prompt": TEXTS[0]}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_column_is_read_for_no_input_that_there_is_none(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"1{suffix}"
    WRITERS[suffix](path, TEXTS[:3])
    flow, host = instant(lambda given: given["prompt"])
    with pytest.raises(InputError, match="there is no input 'promt'") as caught:
        flow.map(row_files([str(path)], {"text": "promt"}), progress=False, prompt="a")
    assert caught.value.hint == "Did you mean 'prompt'?"
    assert not host.submitted


def test_the_first_rows_alone(two_files: Path) -> None:
    files = row_files([str(two_files)])
    files.limit(3)
    assert len(files) == 3
    assert [number for number, _ in files.read([range(10)])] == [0, 1, 2]


def test_what_is_missing_in_a_table_is_not_given(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,length\na,\n,3\n")
    table = pyarrow.table({"prompt": ["a", None], "length": [None, 3]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        flow, host = instant(lambda given: None)
        flow.map(tmp_path / name, progress=False)
        assert [each.keys() for each in host.submitted] == [{"prompt"}, {"length"}]


def test_a_row_that_cannot_be_read_has_its_error_and_ends_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"prompt": "a"}\n{"prompt"\n"plain"\n\xff\n')
    (tmp_path / "a.csv").write_text("prompt,length\na,1\nb\nc,2,3\nd,4\n")
    flow, _ = instant(lambda given: given["prompt"])
    a, broken, plain, bytes_ = flow.map(tmp_path / "a.jsonl", progress=False)
    assert (a, plain) == ("a", "plain")
    assert "the line is not JSON" in str(broken)
    assert isinstance(bytes_, InputError)
    a, short, long, d = flow.map(tmp_path / "a.csv", progress=False)
    assert (a, d) == ("a", "d")
    assert str(short) == "the row has 1 values, and there are 2 columns"
    assert isinstance(long, InputError)


def test_a_mark_before_a_text_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(BOM_UTF8 + b"prompt\nx\n")
    (tmp_path / "a.jsonl").write_bytes(BOM_UTF8 + b'{"prompt": "x"}\n')
    for name in ("a.csv", "a.jsonl"):
        assert dict(row_files([str(tmp_path / name)]).read([range(9)])) == {0: {"prompt": "x"}}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"x", "rows are not read from"),
        ("a.csv", b"", "no line with the names of its columns"),
        ("a.csv", b"a,a\n1,2\n", "several columns of one name"),
        ("a.csv", b"a\n\xff\n", "not UTF-8"),
        ("a.jsonl", "\ufeff{}".encode("utf-16-le"), "not UTF-8"),
        ("a.parquet", b"PAR1 or not", "no Parquet file"),
    ],
)
def test_files_of_something_else(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        row_files([str(tmp_path / name)])


def test_files_that_are_not_there_or_of_several_kinds(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        row_files([str(tmp_path / "no.jsonl")])
    (tmp_path / "a.jsonl").write_text("{}")
    (tmp_path / "a.csv").write_text("a\n")
    with pytest.raises(InputError, match=r"several kinds: \.csv, \.jsonl"):
        row_files([str(tmp_path)])
    with pytest.raises(InputError) as caught:
        row_files([str(tmp_path / "a.csv")], {"A": "prompt"})
    assert str(caught.value) == "there is no column 'A'\n  There are a."
    with pytest.raises(UsageError, match="no://such cannot be used"):
        row_files(["no://such"])


def test_a_file_that_has_become_shorter(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a"}\n' * 3)
    files = row_files([str(path)])
    path.write_text('{"prompt": "a"}\n')
    with pytest.raises(InputError, match="has less rows than before"):
        list(files.read([range(3)]))


def test_without_pyarrow_other_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path / "a.parquet", ["a"])
    write_jsonl(tmp_path / "a.jsonl", ["a"])
    for name in list(sys.modules):
        if name.partition(".")[0] == "pyarrow":
            monkeypatch.setitem(sys.modules, name, None)
    assert len(row_files([str(tmp_path / "a.jsonl")])) == 1
    with pytest.raises(UsageError, match="need pyarrow, which is not installed"):
        row_files([str(tmp_path / "a.parquet")])
    with pytest.raises(UsageError, match="needs pyarrow, which is not installed"):
        row_files(["s3://bucket/a.jsonl"])


def test_parquet_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one large row group, one after the other, are one reading of it."""
    write_parquet(tmp_path / "a.parquet", TEXTS)
    files = row_files([str(tmp_path / "a.parquet")])
    begun: list[Any] = []
    read = module._READERS[".parquet"]

    def counted(*given: Any) -> Any:
        begun.append(given)
        return read(*given)

    monkeypatch.setitem(module._READERS, ".parquet", counted)
    for first in range(0, 700, 100):
        assert len(texts_of(files, range(first, first + 100))) == 100
    assert len(begun) == 1
