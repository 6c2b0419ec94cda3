"""Taking a magic's line apart."""

from __future__ import annotations

from typing import Any

import pytest

from modelcompose_jupyter.errors import UsageError
from modelcompose_jupyter.magic_args import parse_line


def evaluate(expression: str) -> Any:
    return eval(expression, {"row": {"a b": 1}})


@pytest.mark.parametrize(
    ("line", "inputs"),
    [
        ("prompt=Once", {"prompt": "Once"}),
        ('prompt="Once upon a time" n=3', {"prompt": "Once upon a time", "n": "3"}),
        ("prompt='it is \"so\"'", {"prompt": 'it is "so"'}),
        (r'prompt="a \"b\" c\n"', {"prompt": 'a "b" c\n'}),
        (r"prompt='C:\new $x {} ${env.HOME}'", {"prompt": r"C:\new $x {} ${env.HOME}"}),
        (r'prompt="C:\dir"', {"prompt": r"C:\dir"}),
        ("prompt=a=b", {"prompt": "a=b"}),
        ("prompt=it's fine:=1", {"prompt": "it's", "fine": 1}),
        ("n:=1+2", {"n": 3}),
        ("n:=[1, 2, (3, 4)] m:=2", {"n": [1, 2, (3, 4)], "m": 2}),
        ("n:=row['a b']", {"n": 1}),
        ("n:='two words'", {"n": "two words"}),
        ("prompt=", {"prompt": ""}),
        ("prompt=안녕", {"prompt": "안녕"}),
    ],
)
def test_inputs(line: str, inputs: dict[str, Any]) -> None:
    assert parse_line(line, (), evaluate).inputs == inputs


def test_words_and_flags() -> None:
    parsed = parse_line("story --run prompt=a", ("run",), evaluate)
    assert (parsed.words, parsed.flags, parsed.inputs) == (["story"], {"run"}, {"prompt": "a"})


@pytest.mark.parametrize("line", ["--run", "prompt='a", "n:=[1", "=a"])
def test_what_cannot_be_read_is_a_usage_error(line: str) -> None:
    with pytest.raises(UsageError):
        parse_line(line, (), evaluate)
