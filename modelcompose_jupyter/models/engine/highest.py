"""The highest of a row of scores, which are many, without sorting or dividing all of them."""

from __future__ import annotations

import numpy as np

_MOST_IN_BLOCK = 64
_LEAST_IN_BLOCK = 4  # with fewer, the maxima are about as many as the scores
_BLOCKS = 8  # for each of the highest that are wanted, about: so few others come along


def among(scores: np.ndarray, count: int) -> np.ndarray:
    """The places of a few scores, ascending: of the ``count`` highest, of all that equal the lowest
    of these, and of some others.

    The scores are seen as blocks, whose maxima are quickly found. As many blocks as are wanted have
    maxima that are at least the lowest of those, so what is lower is none of the highest.

    Args:
        scores: [scores], none of them NaN.
    """
    size = _block_size(len(scores), count)
    if size < _LEAST_IN_BLOCK:
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
    else:
        blocks = len(scores) // size
        maxima = scores[: blocks * size].reshape(size, blocks).max(0)
        least = np.partition(maxima, blocks - count)[blocks - count]
    return np.flatnonzero(scores >= least)


def highest(scores: np.ndarray, count: int) -> np.ndarray:
    """The places, ascending, of the ``count`` highest in each row of scores [rows, scores]; which
    of those that equal the lowest is left open.

    Returns:
        int64 [rows, count].
    """
    if _block_size(scores.shape[-1], count) < _LEAST_IN_BLOCK:
        return _partitioned(scores, count)
    return np.stack([_highest(row, count) for row in scores])


def _block_size(length: int, count: int) -> int:
    return min(_MOST_IN_BLOCK, length // (_BLOCKS * count))


def _highest(scores: np.ndarray, count: int) -> np.ndarray:
    few = among(scores, count)
    if len(few) < count:  # some are NaN
        return _partitioned(scores, count)
    found: np.ndarray = few[_partitioned(scores[few], count)]
    return found


def _partitioned(scores: np.ndarray, count: int) -> np.ndarray:
    start = scores.shape[-1] - count
    return np.sort(scores.argpartition(start)[..., start:])
