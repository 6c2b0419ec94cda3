"""Sampling without torch: one token for each row of scores, in NumPy.

It follows `sampler`, and gives the same tokens but where rounding to float32 decides what top_p or
min_p leave: it computes in float64 there, and such a token has hardly any probability.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import top_k_sampling
from .highest import among
from .row_state import RowState
from .sampling_params import SamplingParams
from .top_k_sampling import Limits


class NativeSampler:
    """Chooses the tokens of a step for a model with ``vocabulary`` output scores; of one thread."""

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary

    def pick(self, scores: np.ndarray, rows: Sequence[RowState]) -> tuple[np.ndarray, np.ndarray]:
        """The next token of each row, [rows] int64, and whether its scores are finite, [rows] bool.

        Where they are not the token is 0.

        Args:
            scores: float32 [rows, vocabulary]; they may be changed.
        """
        if scores.shape != (len(rows), self._vocabulary):
            raise ValueError(f"scores {scores.shape} of {len(rows)} rows")
        for row, own in zip(rows, scores, strict=True):
            adjust(own, row)
        tokens = scores.argmax(-1)
        finite = np.isfinite(scores[np.arange(len(rows)), tokens])
        sampled = [place for place, row in enumerate(rows) if row.params.do_sample]
        short = [place for place in sampled if _is_short(rows[place], scores[place])]
        if short:
            tokens[short], certain = self._pick_short(scores[short], [rows[each] for each in short])
            short = [place for place, sure in zip(short, certain, strict=True) if sure]
        for place in sampled:
            if place not in short and finite[place]:
                tokens[place] = _pick_long(scores[place], rows[place])
        return np.where(finite, tokens, 0), finite

    def _pick_short(
        self, scores: np.ndarray, rows: Sequence[RowState]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tokens, and whether they are certain."""
        limits = Limits.of([row.params for row in rows], self._vocabulary)
        choice = top_k_sampling.choose(scores, limits, [row.number for row in rows])
        return choice.tokens, choice.certain


def _is_short(row: RowState, scores: np.ndarray) -> bool:
    """Whether a row is sampled from its highest scores alone, of many."""
    top_k = row.params.top_k
    many = len(scores) if row.constraint is None else np.count_nonzero(scores > -np.inf)
    return bool(top_k > 0 and 4 * top_k <= many)


def _pick_long(scores: np.ndarray, row: RowState) -> int:
    """A token from the whole vocabulary, or from what a constraint leaves of it."""
    possible = np.flatnonzero(scores > -np.inf)
    tokens, shares = warp(scores[possible], row.params)
    sums = shares.cumsum()
    return int(possible[tokens[np.searchsorted(sums, row.number * sums[-1], side="right")]])


def adjust(scores: np.ndarray, row: RowState) -> None:
    """What holds without sampling too, in a row's scores, float32 [vocabulary]."""
    seen = row.seen
    if seen is not None:
        seen = seen[seen < len(scores)]
        penalty, own = np.float32(row.params.repetition_penalty), scores[seen]
        scores[seen] = np.where(own < 0, own * penalty, own / penalty)
    allowed = row.allowed()
    if allowed is not None:
        some = scores[: len(allowed)]
        some[~allowed[: len(some)]] = -np.inf
        scores[len(allowed) :] = -np.inf
    elif row.must_go_on:
        scores[[stop for stop in row.params.stop_ids if stop < len(scores)]] = -np.inf


def warp(scores: np.ndarray, params: SamplingParams) -> tuple[np.ndarray, np.ndarray]:
    """The tokens that sampling may draw, as transformers' warpers limit them.

    Args:
        scores: float32 [vocabulary], as `adjust` leaves them.

    Returns:
        The tokens, ascending, and their probabilities but for a factor, in float64.
    """
    scores = scores / np.float32(params.temperature)
    if 0 < params.top_k < len(scores):
        tokens = among(scores, params.top_k)
        scores = scores[tokens]
        last = np.partition(scores, len(scores) - params.top_k)[len(scores) - params.top_k]
        tokens, scores = tokens[scores >= last], scores[scores >= last]
    else:
        tokens = np.arange(len(scores))
    shares: np.ndarray = np.exp(scores - scores.max(), dtype=np.float64)
    if params.top_p < 1.0:
        order = scores.argsort(kind="stable")
        sums = shares[order].cumsum()
        removed = np.count_nonzero(sums[:-1] <= (1 - params.top_p) * sums[-1])
        shares[order[:removed]] = 0.0
    if params.min_p:
        shares[shares < params.min_p * shares.max()] = 0.0
    drawn = shares > 0
    return tokens[drawn], shares[drawn]
