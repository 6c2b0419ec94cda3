"""In which words texts differ."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelcompose_jupyter.widgets.text_diff import marked

ALIKE = "The red fox ran home, and the owl slept."


@pytest.mark.parametrize(
    ("text", "other", "words"),
    [
        (ALIKE, ALIKE, []),
        (ALIKE, ALIKE.replace("red ", ""), ["red"]),
        (ALIKE.replace("red ", ""), ALIKE, []),
        (ALIKE, ALIKE.replace("red fox", "old  bear"), ["red fox"]),
        (ALIKE, ALIKE.replace(" ran", "\nran"), []),  # the words are the same
        (ALIKE, ALIKE.replace(".", "!"), ["."]),
        ("여우가 숲에서 살았습니다", "여우가 산에서 살았습니다", ["숲에서"]),
        # Texts that are not alike: where they part.
        ("Once upon a time a fox ran.", "Once upon one day it was very cold outside", ["a"]),
        ("Once upon", "Once upon a time it was very cold and dark outside", []),
        ("Once upon a time it was very cold and dark outside", "Once upon", ["a"]),
        ("", "Once", []),
        ("Once", "", ["Once"]),
    ],
)
def test_words_are_marked_that_the_other_text_lacks(
    text: str, other: str, words: list[str]
) -> None:
    pieces = marked(text, other)
    assert [piece for kind, piece in pieces if kind == "other"] == words
    assert "".join(piece for _, piece in pieces) == text


@given(*[st.text("ab 🦊.\n", max_size=40)] * 2)
def test_nothing_of_a_text_is_lost(text: str, other: str) -> None:
    pieces = marked(text, other)
    assert "".join(piece for _, piece in pieces) == text
    assert all(piece for _, piece in pieces)
    assert all(a[0] != b[0] for a, b in pairwise(pieces))
