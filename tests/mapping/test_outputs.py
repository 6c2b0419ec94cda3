"""What a map over a list gives: a list, and as a table what its rows differ in."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from modelcompose_jupyter.errors import InputError
from modelcompose_jupyter.mapping.outputs import ROWS_SHOWN, RowOutputs
from modelcompose_jupyter.table import one_line_each


def table(outputs: RowOutputs) -> list[list[str]]:
    made = outputs._table()
    return [made.headers, *made.rows]


def test_it_is_a_list() -> None:
    outputs = RowOutputs(["a", "b"], [{}, {}])
    assert outputs == ["a", "b"] and repr(outputs) == "['a', 'b']"
    assert pickle.loads(pickle.dumps(outputs)) == outputs


def test_what_rows_differ_in_stands_beside_their_outputs() -> None:
    asked: list[Any] = [{"prompt": "A fox", "length": 3}, {"prompt": "An owl", "length": 3}]
    outputs = RowOutputs([{"told": "red"}, InputError("too long")], asked)
    assert table(outputs) == [
        ["", "prompt", "told", "error"],
        ["0", "A fox", "red", ""],
        ["1", "An owl", "", "too long"],
    ]
    assert repr(outputs._table()).endswith("\nlength 3")
    assert "<td" in outputs._repr_html_() and 'dir="auto"' in outputs._repr_html_()


def test_of_many_rows_the_first_are_shown() -> None:
    many = RowOutputs(list(map(str, range(1000))), [{}] * ROWS_SHOWN)
    assert table(many)[-1] == ["19", "19"]
    assert "the first 20 of 1000 rows" in repr(many._table())
    assert table(RowOutputs([], [])) == [[""]]


@pytest.mark.parametrize(
    ("texts", "lines"),
    [
        (["a  b\nc", "d"], ["a b c", "d"]),
        (["the old fox slept", "the old fox sang"], ["…slept", "…sang"]),
        (["the old fox", "the old"], ["the old fox", "the old"]),
        (["a word that is long", "another"], ["a word tha…", "another"]),
        (["the same long text"] * 2, ["the same l…"] * 2),
        ([], []),
    ],
)
def test_long_texts_begin_where_they_differ(texts: list[str], lines: list[str]) -> None:
    assert one_line_each(texts, 11) == lines
