"""Sampling from a row's highest scores alone, for rows with a top_k on a CPU.

It gives the token that sampling from the whole vocabulary gives, at a small part of the cost. It is
in NumPy, whose calls cost less than torch's where numbers are so few, and which needs no torch. It
computes in float64 where transformers computes in float32; where that difference could change the
token, it says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from .highest import highest
from .sampling_params import SamplingParams

SPARE = 32
"""Candidates beyond top_k, in case their scores equal the lowest of the top_k."""

_ULP = 2.0**-24
"""Relative error of one rounding to float32."""

_FEW_ULP = 16 * _ULP
"""That of a share, and of float64 sums of shares that are float32."""


@dataclass(frozen=True)
class Choice:
    """The sampled tokens: arrays [rows].

    Attributes:
        tokens: int64, without meaning where ``finite`` or ``certain`` is False.
        finite: whether the highest score is finite.
        certain: whether sampling from the whole vocabulary surely gives the same token.
    """

    tokens: np.ndarray
    finite: np.ndarray
    certain: np.ndarray


@dataclass(frozen=True, eq=False)
class Limits:
    """The sampling params of rows, as columns [rows, 1]; ``most`` is the highest top_k.

    ``top_p_rest`` (1 - top_p) and ``min_p`` are None where no row has such a limit; a row without
    one has there what limits nothing.
    """

    most: int
    temperature: np.ndarray
    top_k: np.ndarray
    top_p_rest: np.ndarray | None
    min_p: np.ndarray | None
    row: np.ndarray

    @classmethod
    def of(cls, params: Sequence[SamplingParams], vocabulary: int) -> Self:
        """Those of rows, each of which has a top_k."""
        top_k = _column([min(each.top_k, vocabulary) for each in params], np.int64)
        top_p_rest = min_p = None
        if any(each.top_p < 1.0 for each in params):
            # No sum is below -1, so that is no limit.
            rests = [1 - each.top_p if each.top_p < 1.0 else -1.0 for each in params]
            top_p_rest = _column(rests)
        if any(each.min_p for each in params):
            min_p = _column([each.min_p or 0.0 for each in params])
        return cls(
            most=int(top_k.max()),
            temperature=_column([each.temperature for each in params]),
            top_k=top_k,
            top_p_rest=top_p_rest,
            min_p=min_p,
            row=np.arange(len(params))[:, None],
        )


def _column(values: Sequence[float], kind: Any = np.float32) -> np.ndarray:
    return np.array(values, dtype=kind)[:, None]


def choose(scores: np.ndarray, limits: Limits, numbers: Sequence[float]) -> Choice:
    """A token for each row of scores, float32 [rows, vocabulary].

    Args:
        numbers: the rows' random numbers in [0, 1).
    """
    row, vocabulary = limits.row, scores.shape[-1]
    width = min(limits.most + SPARE, vocabulary)
    tokens = highest(scores, width)
    with np.errstate(over="ignore", invalid="ignore"):  # in rows that are not finite
        values = scores[row, tokens] / limits.temperature
        # As transformers sorts: of equal scores, those of lower tokens come first.
        by_value = values.argsort(-1, kind="stable")
        ascending = values[row, by_value]
        shares = np.exp(ascending - ascending[:, -1:], dtype=np.float64)
    last = ascending[row, width - limits.top_k]
    shares[ascending < last] = 0.0
    certain = np.ones(len(tokens), bool)
    if width < vocabulary:
        certain &= ascending[:, 0] < last[:, 0]  # else one as high may have been left out
    if limits.top_p_rest is not None:
        certain &= _keep_top_p(shares, limits.top_p_rest)
    if limits.min_p is not None:
        certain &= _keep_min_p(shares, limits.min_p)
    chances = np.empty_like(shares)
    chances[row, by_value] = shares
    sums = chances.cumsum(-1)
    whole = sums[:, -1:]
    target, error = np.array(numbers)[:, None] * whole, _FEW_ULP * whole
    chosen = (sums <= target - error).sum(-1)
    certain &= chosen == (sums <= target + error).sum(-1)
    return Choice(tokens[row[:, 0], chosen], np.isfinite(whole[:, 0]), certain)


# Where a comparison is close, rounding to float32 could turn it. So each is made twice, with what
# it could be off by taken away and added, and a row is certain where that comes to the same.


def _keep_top_p(shares: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Of ascending shares, the lowest become 0: as many as sum up to ``rest`` of all at most."""
    sums = shares.cumsum(-1)
    lower, whole = sums[:, :-1], sums[:, -1:]  # the last share stays, whatever the sums are
    bound, error = rest * whole, _sum_error(shares.shape[-1]) * whole
    removed = lower <= bound - error
    certain: np.ndarray = (removed == (lower <= bound + error)).all(-1)
    shares[:, :-1][removed] = 0.0
    return certain


def _keep_min_p(shares: np.ndarray, min_p: np.ndarray) -> np.ndarray:
    """Of ascending shares, those become 0 that are less than ``min_p`` of the last."""
    lower, least = shares[:, :-1], min_p * shares[:, -1:]
    removed = lower < least * (1 - _FEW_ULP)
    certain: np.ndarray = (removed == (lower < least * (1 + _FEW_ULP))).all(-1)
    lower[removed] = 0.0
    return certain


def _sum_error(width: int) -> float:
    """How far off a float32 sum of ``width`` shares of 1 can be, whatever their order."""
    return (2 * width + 16) * _ULP
