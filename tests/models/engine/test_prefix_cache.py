"""What is kept of earlier texts, and what is found again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelcompose_jupyter.models.engine import prefix_cache
from modelcompose_jupyter.models.engine.prefix_cache import PrefixCache, in_common

TOKEN_BYTES = 8


def data_of(tokens: list[int]) -> torch.Tensor:
    """[1, 2, 1, tokens, 1], which says whose it is."""
    return torch.tensor(tokens, dtype=torch.float32).view(1, 1, 1, -1, 1).repeat(1, 2, 1, 1, 1)


def keep(cache: PrefixCache, *tokens: int) -> None:
    data = data_of(list(tokens))
    cache.keep(np.array(tokens), data.nbytes, lambda: data)


def find(cache: PrefixCache, *tokens: int) -> tuple[list[int] | None, int]:
    prefix, length = cache.find(np.array(tokens))
    return (None if prefix is None else prefix.tokens.tolist()), length


def test_the_longest_beginning_is_found() -> None:
    cache = PrefixCache(1000)
    keep(cache, 1, 2, 3)
    keep(cache, 1, 2, 4, 5)
    keep(cache, 7)
    assert find(cache, 1, 2, 4, 6) == ([1, 2, 4, 5], 3)
    assert find(cache, 1, 2, 3, 4) == ([1, 2, 3], 3)
    assert find(cache, 7, 7) == ([7], 1)
    assert find(cache, 2) == (None, 0)
    assert find(cache) == (None, 0)


def test_what_is_kept_is_counted() -> None:
    cache = PrefixCache(1000)
    keep(cache, 1, 2)
    prefix, _ = cache.find(np.array([1]))
    assert prefix is not None
    assert torch.equal(torch.as_tensor(prefix.kept), data_of([1, 2]))
    assert prefix.bytes == 2 * TOKEN_BYTES == cache.bytes


def test_what_is_too_large_is_not_taken() -> None:
    cache = PrefixCache(7)
    cache.keep(np.array([1]), 8, lambda: pytest.fail("it was taken"))
    assert find(cache, 1) == (None, 0)


def test_a_longer_text_takes_the_place_of_its_beginnings() -> None:
    cache = PrefixCache(1000)
    keep(cache, 1)
    keep(cache, 2)
    keep(cache, 1, 2)
    assert len(cache) == 2
    keep(cache, 1, 2, 3)
    assert len(cache) == 2
    assert cache.bytes == 4 * TOKEN_BYTES
    keep(cache, 1, 2)
    assert find(cache, 1, 2) == ([1, 2, 3], 2)


def test_what_cannot_be_cut_serves_as_a_whole() -> None:
    cache = PrefixCache(1000, cuts=False)
    for tokens in ([1, 2], [1, 2, 3, 4], [1, 2, 3]):
        keep(cache, *tokens)
    assert len(cache) == 3
    assert find(cache, 1, 2, 3, 5) == ([1, 2, 3], 3)
    assert find(cache, 1, 2, 5) == ([1, 2], 2)
    assert find(cache, 1, 3) == (None, 0)
    assert find(cache, 1) == (None, 0)
    assert find(cache, 1, 2, 3, 4) == ([1, 2, 3, 4], 4)
    keep(cache, 1, 2)  # is there
    assert (len(cache), cache.bytes) == (3, 9 * TOKEN_BYTES)


def test_what_was_used_least_recently_goes_first() -> None:
    cache = PrefixCache(3 * TOKEN_BYTES)
    for token in (1, 2, 3):
        keep(cache, token)
    find(cache, 1)
    keep(cache, 4)
    assert [find(cache, token)[1] for token in (1, 2, 3, 4)] == [1, 0, 1, 1]
    keep(cache, 1)  # is there, and counts as used; the order is 3, 4, 1
    keep(cache, 5)
    assert [find(cache, token)[1] for token in (3, 4, 1, 5)] == [0, 1, 1, 1]


def test_what_is_larger_than_all_is_not_kept() -> None:
    cache = PrefixCache(3 * TOKEN_BYTES)
    keep(cache, 1)
    keep(cache, 2, 3, 4, 5)
    assert find(cache, 2) == (None, 0)
    assert find(cache, 1) == ([1], 1)
    keep(cache)
    assert len(cache) == 1


def test_there_are_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_cache, "_MOST", 4)
    cache = PrefixCache(1000)
    for token in range(9):
        keep(cache, token)
    assert len(cache) == 4
    assert find(cache, 4) == (None, 0)
    assert find(cache, 5) == ([5], 1)


def test_dropping_ends_when_all_are_gone() -> None:
    cache = PrefixCache(1000)
    keep(cache, 1)
    keep(cache, 2)
    assert [cache.drop_oldest() for _ in range(3)] == [True, True, False]
    assert (len(cache), cache.bytes) == (0, 0)


TEXTS = st.lists(st.integers(0, 2), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.booleans(), TEXTS), max_size=30), st.integers(4, 30))
def test_any_use(steps: list[tuple[bool, list[int]]], room: int) -> None:
    """Against a list of texts, that used least recently first."""
    cache = PrefixCache(room * TOKEN_BYTES)
    known: list[list[int]] = []
    for keeps, text in steps:
        if keeps:
            keep(cache, *text)
            longer = next((each for each in known if each[: len(text)] == text), None)
            if longer is not None:
                known.remove(longer)
                known.append(longer)
            elif len(text) <= room:
                known = [each for each in known if text[: len(each)] != each]
                known.append(text)
                while sum(map(len, known)) > room:
                    known.pop(0)
        else:
            found, length = find(cache, *text)
            common = [_common(each, text) for each in known]
            assert length == max(common, default=0)
            if found is not None:
                assert _common(found, text) == length
                assert found in known
                known.remove(found)
                known.append(found)
        assert len(cache) == len(known)
        assert cache.bytes == TOKEN_BYTES * sum(map(len, known))


def _common(first: list[int], second: list[int]) -> int:
    length = 0
    while first[: length + 1] == second[: length + 1] and length < min(len(first), len(second)):
        length += 1
    return length


@given(TEXTS, TEXTS)
def test_in_common(first: list[int], second: list[int]) -> None:
    assert in_common(np.array(first), np.array(second)) == _common(first, second)
