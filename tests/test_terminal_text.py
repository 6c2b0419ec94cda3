"""Text on a terminal: lines end between words, however the text comes."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelcompose_jupyter.terminal import TerminalLine, WordWrap, for_terminal


def wrapped(pieces: list[str], columns: int = 10) -> str:
    written: list[str] = []
    wrap = WordWrap(written.append, lambda: columns)
    for piece in [*pieces, "\n"]:
        wrap(piece)
    return "".join(written)[:-1]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Once upon a time", ["Once upon", "a time"]),
        ("1234567890 2", ["1234567890", "2"]),
        ("a  b\n\n  c", ["a  b", "", "  c"]),
        ("a 123456789", ["a", "123456789"]),
        ("a 12345678901234", ["a", "12345678901234"]),  # the terminal has to break it
        ("가나다라마바사", ["가나다라마", "바사"]),
        ("a\tb c", ["a\tb", "c"]),
        ("e\u0301" * 10, ["e\u0301" * 10]),
    ],
)
def test_lines_end_between_words(text: str, lines: list[str]) -> None:
    assert wrapped([text]).split("\n") == lines
    assert wrapped(list(text)).split("\n") == lines


WORDS = st.lists(st.sampled_from(["a", "four", "seventy", " ", "  ", "\n", "한", "\t"]))


@given(WORDS, st.integers(1, 12))
def test_no_word_is_lost_or_divided(pieces: list[str], columns: int) -> None:
    text = "".join(pieces).replace("한", " 한 ")
    assert wrapped([text], columns).split() == text.split()


def test_what_is_no_terminal_gets_the_text_as_it_is() -> None:
    stream = io.StringIO()
    for_terminal(stream)("Once upon a time " * 20)
    assert stream.getvalue() == "Once upon a time " * 20


def test_a_line_is_never_longer_than_the_terminal_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("COLUMNS", "12")
    with TerminalLine() as line:
        line.show("Loading a model")
        line.show("Loading a model")
    assert stream.getvalue() == f"\r\rLoading a …\r{' ' * 11}\r"
