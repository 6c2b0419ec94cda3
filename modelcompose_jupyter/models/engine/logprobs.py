"""Log-probabilities: what a model's scores say of a token and of others in its place.

They are computed for those rows alone that ask for them, in NumPy, with whatever the model runs on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .highest import among
from .native_sampler import adjust, warp
from .row_state import RowState

LEAST = -9999.0
"""In place of the logarithm of a probability of 0, which JSON cannot write; OpenAI's value, too."""
_DIGITS = 7  # after the point: more than float32 scores are good for


class Weighed(NamedTuple):
    """What the model weighed in the place of a token.

    Attributes:
        logprob: the token's, of the model's own scores.
        sampling_logprob: the same of the scores that it was chosen by; None for one that sampling
            cannot draw.
        rank: 1 for the likeliest; of equal ones, the lower id comes first.
        alternatives: the likeliest tokens, each with its id and those two.
    """

    id: int
    logprob: float
    sampling_logprob: float | None
    rank: int
    alternatives: Sequence[tuple[int, float, float | None]]


def as_array(scores: Any) -> np.ndarray:
    """A copy of scores on whatever device, in float32."""
    if isinstance(scores, np.ndarray):
        return scores.astype(np.float32)
    array: np.ndarray = scores.detach().float().cpu().numpy().copy()
    return array


Drawn = tuple[np.ndarray, np.ndarray]
"""The tokens that may be chosen, ascending, and their probabilities but for a factor."""


def weigh(scores: np.ndarray, token: int, count: int, drawn: Drawn | None = None) -> Weighed:
    """What scores say of a token.

    Args:
        scores: the model's own, float32 [vocabulary].
        count: how many of the likeliest tokens are wanted as well.
        drawn: what the token was chosen from; None where it was given.

    Raises:
        ArithmeticError: the scores are not finite.
    """
    likeliest = _likeliest(scores, count)
    asked = np.array([token, *likeliest])
    logprobs = _written(scores[asked] - _log_sum(scores))
    chosen = [None] * len(asked) if drawn is None else _sampling(asked, drawn)
    own = scores[token]
    rank = 1 + np.count_nonzero(scores > own) + np.count_nonzero(scores[:token] == own)
    alternatives = zip(likeliest, logprobs[1:], chosen[1:], strict=True)
    return Weighed(token, logprobs[0], chosen[0], int(rank), list(alternatives))


def weigh_chosen(scores: np.ndarray, token: int, count: int, row: RowState) -> Weighed:
    """What scores say of the token that a row chose from them, which has not taken it yet."""
    is_adjusted = row.seen is not None or row.must_go_on or row.constraint is not None
    samples = row.params.do_sample
    if not (is_adjusted or samples):
        found = weigh(scores, token, count)
        same = [(id, logprob, logprob) for id, logprob, _ in found.alternatives]
        return found._replace(sampling_logprob=found.logprob, alternatives=same)
    adjusted = scores.copy() if is_adjusted else scores
    if is_adjusted:
        adjust(adjusted, row)
    drawn = warp(adjusted, row.params) if samples else _all(adjusted)
    return weigh(scores, token, count, drawn)


def _all(scores: np.ndarray) -> Drawn:
    return np.arange(len(scores)), np.exp(scores - scores.max(), dtype=np.float64)


def _sampling(asked: np.ndarray, drawn: Drawn) -> list[float | None]:
    """The log-probabilities of tokens among those that may be chosen; None of others."""
    tokens, shares = drawn
    places = np.searchsorted(tokens, asked).clip(max=len(tokens) - 1)
    possible = (tokens[places] == asked) & (shares[places] > 0)
    with np.errstate(divide="ignore"):
        values = _written(np.log(shares[places] / shares.sum()))
    return [value if there else None for value, there in zip(values, possible, strict=True)]


def _likeliest(scores: np.ndarray, count: int) -> list[int]:
    """The tokens with the highest scores, the highest first, of equal ones the lower first."""
    count = min(count, len(scores))
    if count == 0:
        return []
    found = among(scores, count)
    order = np.argsort(-scores[found], kind="stable")
    likeliest: list[int] = found[order][:count].tolist()
    return likeliest


def _log_sum(scores: np.ndarray) -> np.float64:
    """The logarithm of the sum of the scores' exponentials."""
    most = scores.max()
    if not np.isfinite(most):
        raise ArithmeticError("the model's scores are not finite")
    total: np.float64 = most + np.log(np.exp(scores - most).sum(dtype=np.float64))
    return total


def _written(values: np.ndarray) -> list[float]:
    written: list[float] = values.astype(np.float64).clip(min=LEAST).round(_DIGITS).tolist()
    return written
