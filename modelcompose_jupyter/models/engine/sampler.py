"""Batched sampling: one token for each row of scores, each as its own request's params say.

A row's token is what transformers' logits processors and `rng.choose` give for that row alone, over
the whole vocabulary in its order. So it depends on the row's scores, its `SamplingParams`, and the
number drawn for (seed, sequence, position), and never on the other rows.

On a CPU, rows with a top_k are sampled from their highest scores alone (`top_k_sampling`). Where
rounding could make that another token, the row is sampled from the whole vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from . import top_k_sampling
from .row_state import RowState
from .sampling_params import SamplingParams
from .seeded_draws import choose
from .top_k_sampling import Limits

_SUPPORTED = {
    *("do_sample", "temperature", "top_k", "top_p", "min_p"),
    *("repetition_penalty", "min_length", "min_new_tokens"),
    # What each request says, and what changes no token:
    *("max_length", "max_new_tokens", "num_return_sequences"),
    *("num_beams", "length_penalty", "early_stopping"),
    *("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"),
    *("use_cache", "cache_implementation", "cache_config", "max_cache_len"),
    *("compile_config", "disable_compile", "prefill_chunk_size", "continuous_batching_config"),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits"),
    *("return_dict_in_generate", "transformers_version"),
}


def unsupported_options(model: Any) -> str | None:
    """The name of an option of a model's generation_config that the sampler lacks, or None.

    An option counts where it is in force: where it is not what generate() takes if nothing is said.
    So those that transformers will add count too. For a model whose class has its own way to
    generate, it is the name of that method.
    """
    from transformers import GenerationConfig, GenerationMixin

    for name in ("generate", "_sample", "_get_logits_processor"):
        if getattr(type(model), name) is not getattr(GenerationMixin, name):
            return name
    usual = model.generation_config._get_default_generation_params()
    for name in vars(GenerationConfig()):
        value = getattr(model.generation_config, name, None)
        matters = name not in _SUPPORTED and not name.startswith("_")
        if matters and value is not None and value != usual.get(name):
            return str(name)
    return None


class Sampler:
    """Chooses the tokens of a step for a model with ``vocabulary`` output scores.

    Of one thread. Scores are [rows, vocabulary] of any float type on ``device`` and stay as they
    are; they are computed with in float32, as in generate(), and chosen from in float64.
    """

    def __init__(self, vocabulary: int, device: torch.device | str) -> None:
        self._vocabulary = vocabulary
        self._device = torch.device(device)
        # MPS has no float64.
        self._home = torch.device("cpu") if self._device.type == "mps" else self._device
        self._params: list[SamplingParams] = []
        self._cached: list[_Part] = []

    def pick(
        self, logits: torch.Tensor, rows: Sequence[RowState]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The next token of each row, [rows] int64, and whether its scores are finite, [rows] bool.

        Where they are not the token is 0. On a GPU it waits for nothing.
        """
        scores = self._before_warping(logits, rows)
        parts = self._parts(rows)
        if len(parts) == 1:
            tokens, finite = self._pick(parts[0], scores, rows)
        else:
            tokens = torch.empty(len(rows), dtype=torch.int64, device=self._home)
            finite = torch.empty(len(rows), dtype=torch.bool, device=self._home)
            for part in parts:
                at, theirs = part.index, [rows[place] for place in part.places]
                tokens[at], finite[at] = self._pick(part, scores[at], theirs)
        return tokens.where(finite, 0).to(self._device), finite.to(self._device)

    def _before_warping(self, logits: torch.Tensor, rows: Sequence[RowState]) -> torch.Tensor:
        """Scores in float32 with what holds without sampling too; a copy where that changes any."""
        if logits.shape != (len(rows), self._vocabulary):
            raise ValueError(f"scores {tuple(logits.shape)} of {len(rows)} rows")
        scores = logits.detach().to(self._home, torch.float32)
        seen = [
            (place, torch.from_numpy(row.seen))
            for place, row in enumerate(rows)
            if row.seen is not None
        ]
        allowed = [
            (place, mask) for place, row in enumerate(rows) if (mask := row.allowed()) is not None
        ]
        constrained = {place for place, _ in allowed}
        going_on = [
            place for place, row in enumerate(rows) if row.must_go_on and place not in constrained
        ]
        if not (seen or going_on or allowed):
            return scores
        scores = scores.clone() if scores.data_ptr() == logits.data_ptr() else scores
        if seen:
            self._penalise(scores, rows, seen)
        self._forbid_stops(scores, rows, going_on)
        self._forbid_others(scores, allowed)
        return scores

    def _penalise(
        self, scores: torch.Tensor, rows: Sequence[RowState], seen: list[tuple[int, torch.Tensor]]
    ) -> None:
        known = [(place, ids[ids < self._vocabulary]) for place, ids in seen]
        counts = torch.tensor([len(ids) for _, ids in known])
        penalties = torch.tensor(
            [rows[place].params.repetition_penalty for place, _ in known], dtype=torch.float32
        )
        places = torch.tensor([place for place, _ in known])
        row = self._send(places.repeat_interleave(counts))
        penalty = self._send(penalties.repeat_interleave(counts))
        token = self._send(torch.cat([ids for _, ids in known]))
        score = scores[row, token]
        scores[row, token] = torch.where(score < 0, score * penalty, score / penalty)

    def _forbid_stops(
        self, scores: torch.Tensor, rows: Sequence[RowState], places: Iterable[int]
    ) -> None:
        pairs = [
            (place, stop)
            for place in places
            for stop in rows[place].params.stop_ids
            if stop < self._vocabulary
        ]
        if pairs:
            row, token = self._send(torch.tensor(pairs)).unbind(1)
            scores.index_put_((row, token), scores.new_full((), -torch.inf))

    def _forbid_others(
        self, scores: torch.Tensor, allowed: Sequence[tuple[int, np.ndarray]]
    ) -> None:
        """Leave some rows those tokens alone that constraints allow."""
        if not allowed:
            return
        masks = np.zeros((len(allowed), self._vocabulary), bool)
        for mask, (_, own) in zip(masks, allowed, strict=True):
            mask[: len(own)] = own[: len(mask)]
        places = self._send(torch.tensor([place for place, _ in allowed]))
        forbidden = ~self._send(torch.from_numpy(masks))
        scores[places] = scores[places].masked_fill(forbidden, -torch.inf)

    def _send(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._home, non_blocking=True)

    def _parts(self, rows: Sequence[RowState]) -> list[_Part]:
        """The rows in parts that are sampled alike; cached, since steps mostly have equal rows."""
        params = [row.params for row in rows]
        same = len(params) == len(self._params)
        if not same or any(a is not b for a, b in zip(params, self._params, strict=True)):
            self._params, self._cached = params, _parts(params, self._vocabulary, self._home)
        return self._cached

    def _pick(
        self, part: _Part, scores: torch.Tensor, rows: Sequence[RowState]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if part.greedy:
            tokens = _argmax(scores)
            return tokens, scores.gather(1, tokens.unsqueeze(1)).squeeze(1).isfinite()
        numbers = [row.number for row in rows]
        if part.limits is not None:
            return self._pick_short(part, part.limits, scores, numbers)
        return _pick_long(part, scores, numbers)

    def _pick_short(
        self, part: _Part, limits: Limits, scores: torch.Tensor, numbers: list[float]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        choice = top_k_sampling.choose(scores.numpy(), limits, numbers)
        tokens, finite = torch.from_numpy(choice.tokens), torch.from_numpy(choice.finite)
        if not choice.certain.all():
            again = torch.from_numpy(choice.finite & ~choice.certain).nonzero().flatten()
            params = [part.params[place] for place in again.tolist()]
            for rest in _parts(params, self._vocabulary, self._home, shorten=False):
                at = again[rest.index]
                theirs = [numbers[place] for place in at.tolist()]
                tokens[at], finite[at] = _pick_long(rest, scores[at], theirs)
        return tokens, finite


def _argmax(scores: torch.Tensor) -> torch.Tensor:
    """The first of the highest, or of those that are no numbers, [rows]."""
    if scores.device.type != "cpu":
        return scores.argmax(-1)
    return torch.from_numpy(scores.numpy().argmax(-1))  # four times as fast as torch's own


def _pick_long(
    part: _Part, scores: torch.Tensor, numbers: list[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    probabilities = part.warp(scores).softmax(-1)
    tokens = choose(probabilities, numbers).squeeze(1)
    return tokens, probabilities.amax(-1).isfinite()


class _Part:
    """Rows that are sampled alike, and their params as columns [rows, 1].

    Attributes:
        places: of the rows in the step; ``index`` is the same as a tensor.
        limits: of rows that are sampled from their highest scores alone, else None.
    """

    def __init__(
        self,
        places: list[int],
        params: list[SamplingParams],
        vocabulary: int,
        device: torch.device,
        *,
        greedy: bool,
        short: bool,
    ) -> None:
        def column(values: Sequence[float], kind: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.tensor(values, dtype=kind).unsqueeze(1).to(device, non_blocking=True)

        self.places = places
        self.index = torch.tensor(places).to(device, non_blocking=True)
        self.params = mine = [params[place] for place in places]
        self.greedy = greedy
        limits = [min(each.top_k, vocabulary) for each in mine]
        self._most = max(limits)  # 0 where none of the rows has a top_k
        self._top_k = column(limits, torch.int64)
        self._temperature = column([each.temperature for each in mine])
        self._top_p_rest = self._min_p = None
        if any(each.top_p < 1.0 for each in mine):
            # No sum is below -1, so that is no limit.
            rest = [1 - each.top_p if each.top_p < 1.0 else -1.0 for each in mine]
            self._top_p_rest = column(rest)
        if any(each.min_p for each in mine):
            self._min_p = column([each.min_p or 0.0 for each in mine])
        self.limits = Limits.of(mine, vocabulary) if short else None

    def warp(self, scores: torch.Tensor) -> torch.Tensor:
        """What sampling does to scores [rows, vocabulary], in transformers' order."""
        scores = scores / self._temperature
        if self._most:
            last = scores.topk(self._most).values.gather(1, self._top_k - 1)
            scores = scores.masked_fill(scores < last, -torch.inf)
        if self._top_p_rest is not None:
            scores = _within_top_p(scores, self._top_p_rest)
        if self._min_p is not None:
            probabilities = scores.softmax(-1)
            least = self._min_p * probabilities.amax(-1, keepdim=True)
            scores = scores.masked_fill(probabilities < least, -torch.inf)
        return scores


def _within_top_p(scores: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
    """Without the lowest scores, whose probabilities sum up to ``rest`` (1 - top_p) at most.

    Of equal scores, those of lower tokens go first. Only the values are sorted: that is much faster
    than to sort them with their tokens.
    """
    ascending = _sorted(scores)
    removed = (ascending.softmax(-1).cumsum(-1) <= rest).sum(-1, keepdim=True)
    removed = removed.clamp_(max=scores.shape[-1] - 1)
    edge = ascending.gather(1, removed)
    equal_removed = removed - (ascending < edge).sum(-1, keepdim=True)
    equal = scores == edge
    out = (scores < edge) | (equal & (equal.cumsum(-1) <= equal_removed))
    return scores.masked_fill(out, -torch.inf)


def _sorted(scores: torch.Tensor) -> torch.Tensor:
    if scores.device.type != "cpu":
        return scores.sort(-1).values
    return torch.from_numpy(np.sort(scores.numpy(), axis=-1))


def _parts(
    params: list[SamplingParams], vocabulary: int, device: torch.device, shorten: bool = True
) -> list[_Part]:
    """Divide rows into parts, so that no row pays for an option that only others have.

    Rows that are sampled from few candidates are one part whatever their options are: there, one
    call for all costs least. On a CPU, rows that are sampled from the whole vocabulary are a part
    each, whose scores then stay in the processor's cache.
    """
    cpu = device.type == "cpu"

    def kind(place: int) -> tuple[int, ...]:
        each = params[place]
        if not each.do_sample:
            return (True, False)
        if cpu and shorten and each.top_k > 0 and 4 * each.top_k <= vocabulary:
            return (False, True)
        if cpu:
            return (False, False, place)
        return (False, False, each.top_k > 0, each.top_p < 1.0, bool(each.min_p))

    groups = itertools.groupby(sorted(range(len(params)), key=kind), key=kind)
    return [
        _Part(list(places), params, vocabulary, device, greedy=bool(greedy), short=bool(short))
        for (greedy, short, *_), places in groups
    ]
