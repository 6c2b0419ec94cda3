"""The highest scores of a row: those that sorting all of them gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelcompose_jupyter.models.engine.highest import among, highest


def row(length: int, kinds: int, seed: int) -> np.ndarray:
    """Scores of which many are equal where there are few kinds of them."""
    random = np.random.default_rng(seed)
    return random.integers(0, kinds, length).astype(np.float32) - kinds / 2


@settings(max_examples=150, deadline=None)
@given(
    length=st.integers(1, 3000),
    count=st.integers(1, 90),
    kinds=st.sampled_from([1, 3, 50, 10**6]),
    seed=st.integers(0, 99),
    ruled_out=st.booleans(),
)
def test_they_are_those_of_a_sort(
    length: int, count: int, kinds: int, seed: int, ruled_out: bool
) -> None:
    count = min(count, length)
    scores = row(length, kinds, seed)
    if ruled_out:
        scores[::2] = -np.inf
    wanted = np.sort(scores)[length - count :]
    (found,) = highest(scores[None], count)
    assert np.array_equal(np.sort(scores[found]), wanted)
    assert np.array_equal(found, np.unique(found))
    few = among(scores, count)
    assert np.array_equal(few, np.unique(few))
    assert set(np.flatnonzero(scores >= wanted[0])) <= set(few)


def test_few_others_come_along() -> None:
    scores = row(50_000, 10**6, 1)
    assert len(among(scores, 50)) < 500


@pytest.mark.parametrize("length", [50, 5000])
def test_what_is_no_number_does_not_get_in_the_way(length: int) -> None:
    scores = row(length, 1000, 2)
    scores[3::5] = np.nan
    assert highest(scores[None], 20).shape == (1, 20)
