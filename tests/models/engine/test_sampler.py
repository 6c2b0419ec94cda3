"""The sampler: equal to transformers, the same for a row alone and among others, and fair.

The reference is what generate() does with one row: the processors that the model makes of a config,
then the choice over the whole vocabulary.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from standins import tiny_models
from torch.overrides import TorchFunctionMode
from transformers import GenerationConfig, StoppingCriteriaList

from modelcompose_jupyter.models.engine import top_k_sampling
from modelcompose_jupyter.models.engine.native_sampler import NativeSampler
from modelcompose_jupyter.models.engine.rng import draw, draws
from modelcompose_jupyter.models.engine.row_state import RowState
from modelcompose_jupyter.models.engine.sampler import Sampler, unsupported_options
from modelcompose_jupyter.models.engine.sampling_params import SamplingParams
from modelcompose_jupyter.models.engine.seeded_draws import SeededDraws, choose

STOPS = (2, 5)
DEFAULT = SamplingParams(
    prompt="",
    tokens=[1],
    seed=11,
    stop_ids=frozenset(STOPS),
    max_new_tokens=1000,
    temperature=0.7,
    top_k=50,
    top_p=0.9,
)
GREEDY = replace(DEFAULT, do_sample=False)
MIXED = [
    DEFAULT,
    GREEDY,
    replace(DEFAULT, top_k=0),
    replace(DEFAULT, top_k=0, top_p=1.0, temperature=1.3),
    replace(DEFAULT, top_k=7, min_p=0.1),
    replace(DEFAULT, top_k=5, top_p=1.0, repetition_penalty=1.3),
    replace(GREEDY, repetition_penalty=1.7, min_new_tokens=9),
    replace(DEFAULT, top_k=0, min_p=0.02, top_p=0.5, min_length=500),
    replace(DEFAULT, top_k=10_000),
]
OPTIONS = ("do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty")


class StableSort(TorchFunctionMode):
    """Equal scores by their place: what `torch.sort` leaves open, generate() with a seed not."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = {**(kwargs or {}), "stable": True} if func is torch.sort else (kwargs or {})
        return func(*args, **options)


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_models.make("llama")


def config_of(params: SamplingParams) -> GenerationConfig:
    options = {name: getattr(params, name) for name in OPTIONS}
    lengths = {name: getattr(params, name) or None for name in ("min_new_tokens", "min_length")}
    return GenerationConfig(**options, **lengths, eos_token_id=sorted(params.stop_ids))


def whole_config(model: Any, config: GenerationConfig) -> GenerationConfig:
    """The config with what generate() takes for options that it leaves open."""
    return model._prepare_generation_config(config)[0]


def reference(
    model: Any, scores: torch.Tensor, params: SamplingParams, tokens: list[int], new: int
):
    """A row's scores [vocabulary] after transformers' processors; ``new`` tokens are generated."""
    config = whole_config(model, config_of(params))
    model._prepare_special_tokens(config, True, device="cpu")
    ids = torch.tensor([tokens])
    processors = model._get_logits_processor(
        config,
        input_ids_seq_length=len(tokens) - new,
        device="cpu",
        model_kwargs={"attention_mask": torch.ones_like(ids)},
    )
    with StableSort():
        return processors(ids, scores.unsqueeze(0).to(torch.float32, copy=True))[0]


def row_of(params: SamplingParams, tokens: list[int], new: int, sequence: int = 0) -> RowState:
    """A row with these tokens, the last ``new`` of them generated."""
    row = RowState(replace(params, tokens=tokens[: len(tokens) - new]), sequence)
    for token in tokens[len(tokens) - new :]:
        row.add(token)
    return row


def chosen(sampler: Sampler, scores: torch.Tensor, rows: list[RowState]) -> list[int]:
    """The token of each row; all scores are finite."""
    tokens, finite = sampler.pick(scores, rows)
    assert finite.all()
    return tokens.tolist()


def processed(sampler: Sampler, scores: torch.Tensor, rows: list[RowState]) -> torch.Tensor:
    """The scores that tokens are chosen from over the whole vocabulary, [rows, vocabulary]."""
    scores = sampler._before_warping(scores, rows)
    result = torch.empty_like(scores)
    for part in sampler._parts(rows):
        theirs = scores[part.index]
        result[part.index] = theirs if part.greedy else part.warp(theirs)
    return result


def expected_token(scores: torch.Tensor, row: RowState) -> int:
    """The token for processed scores [vocabulary], over the whole vocabulary in its order."""
    if not row.params.do_sample:
        return int(scores.argmax())
    number = draw(row.params.seed, row.sequence, row.position)
    return int(choose(scores.softmax(-1).unsqueeze(0), [number]))


def some_scores(rows: int, vocabulary: int, seed: int, step: float = 0.0) -> torch.Tensor:
    """Scores about as spread as a model's; ``step`` makes them multiples of it, many equal."""
    scores = 3 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))
    return (scores / step).round() * step if step else scores


some_params = st.builds(
    SamplingParams,
    prompt=st.just(""),
    tokens=st.just([1]),
    max_new_tokens=st.just(1000),
    do_sample=st.sampled_from([True, True, True, False]),
    temperature=st.sampled_from([0.1, 0.7, 1.0, 1.3]) | st.floats(0.05, 5),
    top_k=st.sampled_from([0, 1, 2, 5, 50, 10_000]),
    top_p=st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]) | st.floats(0, 1),
    min_p=st.sampled_from([None, None, 0.0, 0.05, 0.5, 1.0]) | st.floats(0, 1),
    repetition_penalty=st.sampled_from([1.0, 1.0, 0.8, 1.1, 2.0]),
    min_new_tokens=st.integers(0, 3),
    min_length=st.integers(0, 8),
    stop_ids=st.frozensets(st.integers(0, 12), max_size=2).map(frozenset),
    seed=st.integers(0, 2**63 - 1),
)
score = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 2.5, -float("inf")]), st.floats(-30, 30, width=32)
)


@st.composite
def batches(draw_: Any) -> tuple[torch.Tensor, list[SamplingParams], list[tuple[list[int], int]]]:
    """Scores [rows, vocabulary] with ties and -inf, and each row's settings and tokens."""
    vocabulary = draw_(st.integers(1, 40) | st.integers(40, 300))
    rows = draw_(st.integers(1, 4))
    if draw_(st.booleans()) and vocabulary < 40:
        values = [
            draw_(st.lists(score, min_size=vocabulary, max_size=vocabulary)) for _ in range(rows)
        ]
        scores = torch.tensor(values)
    else:
        step = draw_(st.sampled_from([0.0, 0.0625, 1.0, 4.0]))
        scores = some_scores(rows, vocabulary, draw_(st.integers(0, 10**6)), step)
    tokens = st.lists(st.integers(0, vocabulary + 3), min_size=1, max_size=8)
    histories = [draw_(tokens) for _ in range(rows)]
    pasts = [(each, draw_(st.integers(0, len(each) - 1))) for each in histories]
    return scores, [draw_(some_params) for _ in range(rows)], pasts


@settings(max_examples=300, deadline=None)
@given(batches())
def test_scores_are_those_of_transformers_processors(batch: Any) -> None:
    scores, asked, pasts = batch
    model = _shared_model()
    rows = [row_of(each, *past) for each, past in zip(asked, pasts, strict=True)]
    mine = processed(Sampler(scores.shape[1], "cpu"), scores, rows)
    for place, (each, past) in enumerate(zip(asked, pasts, strict=True)):
        assert torch.equal(mine[place], reference(model, scores[place], each, *past))


@settings(max_examples=300, deadline=None)
@given(batches(), st.integers(0, 5))
def test_tokens_are_chosen_from_those_scores(batch: Any, sequence: int) -> None:
    scores, asked, pasts = batch
    rows = [row_of(each, *past, sequence) for each, past in zip(asked, pasts, strict=True)]
    sampler = Sampler(scores.shape[1], "cpu")
    wanted = processed(sampler, scores, rows)
    tokens, finite = sampler.pick(scores, rows)
    assert finite.tolist() == wanted.amax(-1).isfinite().tolist()
    for row, theirs, token, fine in zip(rows, wanted, tokens.tolist(), finite, strict=True):
        assert token == (expected_token(theirs, row) if fine else 0)


def in_numpy(scores: torch.Tensor, rows: list[RowState]) -> tuple[list[int], list[bool]]:
    """What the sampler without torch chooses."""
    tokens, finite = NativeSampler(scores.shape[1]).pick(scores.float().numpy().copy(), rows)
    return tokens.tolist(), finite.tolist()


def is_clear(scores: torch.Tensor, row: RowState) -> bool:
    """Whether rounding decides nothing, where top_p and min_p end for processed scores."""
    params = row.params
    limited = scores.double() / params.temperature
    if params.top_k:
        last = limited.sort(descending=True).values[min(params.top_k, len(limited)) - 1]
        limited = limited.where(limited >= last, -torch.inf)
    shares = limited.softmax(-1)
    sums, least = shares.sort().values.cumsum(-1), (params.min_p or 0.0) * shares.max()
    edges = [(sums - (1 - params.top_p)).abs().min(), (shares - least).abs().min()]
    chosen = (shares.cumsum(-1) - row.number).abs().min()
    return all(edge > 1e-5 for edge in edges) and bool(chosen > 1e-5)


@settings(max_examples=300, deadline=None)
@given(batches(), st.integers(0, 5))
def test_without_torch_tokens_are_the_same(batch: Any, sequence: int) -> None:
    scores, asked, pasts = batch
    rows = [row_of(each, *past, sequence) for each, past in zip(asked, pasts, strict=True)]
    sampler = Sampler(scores.shape[1], "cpu")
    tokens, finite = sampler.pick(scores, rows)
    before = sampler._before_warping(scores, rows)
    mine, is_finite = in_numpy(scores, rows)
    assert is_finite == finite.tolist()
    for place, row in enumerate(rows):
        if not finite[place] or not row.params.do_sample or is_clear(before[place], row):
            assert mine[place] == tokens[place]


@pytest.mark.parametrize("step", [0.0, 0.0625])
def test_without_torch_tokens_of_large_vocabularies_are_the_same(step: float) -> None:
    for seed in range(20):
        scores = some_scores(len(MIXED), 50_000, seed, step)
        rows = [row_of(replace(each, seed=seed), [3, 1, 4], 1, seed) for each in MIXED]
        assert in_numpy(scores, rows)[0] == chosen(Sampler(50_000, "cpu"), scores, rows)


_MODELS: list[Any] = []


def _shared_model() -> Any:
    if not _MODELS:
        _MODELS.append(tiny_models.make("llama"))
    return _MODELS[0]


@pytest.mark.parametrize("step", [0.0, 0.0625, 0.5])
def test_the_short_way_ends_where_the_long_one_does(model: Any, step: float) -> None:
    """Scores of a real size; with steps there are equal ones at the ends of top_k and top_p."""
    rows = [RowState(replace(DEFAULT, seed=seed), 0) for seed in range(40)]
    sampler = Sampler(5000, "cpu")
    for position in range(5):
        scores = some_scores(len(rows), 5000, position, step)
        tokens = chosen(sampler, scores, rows)
        for row, theirs, token in zip(rows, scores, tokens, strict=True):
            wanted = reference(model, theirs, row.params, [1, *[0] * position], position)
            assert token == expected_token(wanted, row)
            row.add(token)


def same_as_alone(asked: list[SamplingParams], scores: torch.Tensor) -> bool:
    """Whether each row gets the token that its processed scores give over the whole vocabulary."""
    rows = [RowState(each, place) for place, each in enumerate(asked)]
    sampler = Sampler(scores.shape[1], "cpu")
    wanted = processed(sampler, scores, rows)
    return chosen(sampler, scores, rows) == [
        expected_token(*each) for each in zip(wanted, rows, strict=True)
    ]


def test_as_many_equal_scores_as_there_are_may_be_the_last_of_top_k() -> None:
    asked = [replace(DEFAULT, top_k=5, top_p=1.0, seed=seed) for seed in range(50)]
    assert same_as_alone(asked, torch.zeros(50, 400))


# Next, comparisons as close as they can be: sums over a few candidates round otherwise than those
# over the vocabulary, which would turn some of them.


def test_top_p_that_ends_where_rounding_decides() -> None:
    for seed in range(20):
        scores = some_scores(1, 405, seed)[0]
        kept = torch.where(scores < scores.topk(50).values[-1], -torch.inf, scores)
        sums = kept.sort(stable=True).values.softmax(-1).cumsum(-1)
        rests = [float(sums[place]) for place in range(-45, -5)]
        asked = [replace(DEFAULT, temperature=1.0, top_p=1 - rest, seed=seed) for rest in rests]
        assert same_as_alone(asked, scores.expand(len(asked), -1))


def certain(scores: torch.Tensor, number: float, **asked: float) -> bool:
    """Whether the short way is certain of the token for scores [vocabulary]."""
    asked = {"temperature": 1.0, "top_k": 3, "top_p_rest": -1.0, "min_p": 0.0, **asked}
    kinds = {"top_k": np.int64}
    columns = {
        name: np.array([[each]], kinds.get(name, np.float32)) for name, each in asked.items()
    }
    limits = top_k_sampling.Limits(most=int(asked["top_k"]), row=np.array([[0]]), **columns)
    choice = top_k_sampling.choose(scores.unsqueeze(0).numpy(), limits, [number])
    assert choice.finite.all()
    return bool(choice.certain)


@pytest.mark.parametrize(
    ("sure", "number", "asked"),
    [
        (True, 0.55, {}),
        (True, 0.001, {}),
        (False, 0.5, {}),
        (False, 0.5 - 1e-7, {}),
        (True, 0.5 - 1e-5, {}),
        (False, 0.55, {"top_p_rest": 0.2}),
        (False, 0.55, {"top_p_rest": 0.2 + 3e-7}),
        (False, 0.55, {"top_p_rest": 0.2 - 3e-7}),
        (True, 0.55, {"top_p_rest": 0.2 + 1e-4}),
        (True, 0.55, {"top_p_rest": 1e-4}),
        (True, 0.45, {"top_p_rest": 1.0}),  # the likeliest stays, whatever the sums are
        (False, 0.55, {"min_p": 0.6}),
        (False, 0.55, {"min_p": 0.6 + 1e-7}),
        (True, 0.55, {"min_p": 0.61}),
        (True, 0.55, {"min_p": 1.0}),
    ],
)
def test_the_short_way_knows_where_rounding_could_decide(
    sure: bool, number: float, asked: dict[str, float]
) -> None:
    scores = torch.linspace(-300.0, -200.0, 400)
    scores[[7, 70, 170]] = torch.tensor([0.5, 0.3, 0.2]).log()
    assert certain(scores, number, **asked) is sure


@pytest.mark.parametrize(("sure", "equal"), [(True, 5), (True, 35), (False, 36), (False, 300)])
def test_the_short_way_knows_whether_it_has_all_of_equal_scores(sure: bool, equal: int) -> None:
    scores = torch.linspace(-9.0, -5.0, 400)
    scores[:equal] = 1.0
    assert certain(scores, 0.123, top_k=4) is sure


def test_min_p_that_ends_where_rounding_decides() -> None:
    for seed in range(20):
        scores = some_scores(1, 405, seed)[0] / 3
        kept = torch.where(scores < scores.topk(50).values[-1], -torch.inf, scores).softmax(-1)
        least = (kept[kept > 0] / kept.max()).tolist()
        asked = [
            replace(DEFAULT, temperature=1.0, top_p=1.0, min_p=each, seed=seed) for each in least
        ]
        assert same_as_alone(asked, scores.expand(len(asked), -1))


def test_a_number_that_points_where_rounding_decides() -> None:
    """Seeds with which it would turn on at least one kind of processor; it does with few."""
    for seed, top_k in ((357, 20), (372, 20), (105, 50), (215, 50), (390, 50), (134, 100)):
        asked = replace(DEFAULT, temperature=1.0, top_p=1.0, top_k=top_k, seed=seed)
        scores = some_scores(1, 405, seed)[0]
        highest = scores.topk(top_k)
        first = int(highest.indices.min())
        # The score with which the first token's share is the number.
        share = RowState(asked, 0).number
        others = highest.values.double().exp().sum() - scores[first].double().exp()
        score = (others * share / (1 - share)).log().float()
        batch = scores.repeat(16, 1)
        batch[:, first] = score * (1 + (torch.arange(16) - 8) * 2.0**-23)
        rows = [RowState(asked, 0) for _ in batch]
        sampler = Sampler(405, "cpu")
        wanted = processed(sampler, batch, rows)
        expected = [expected_token(*each) for each in zip(wanted, rows, strict=True)]
        assert 0 < expected.count(first) < 16
        assert chosen(sampler, batch, rows) == expected


def test_rows_without_top_p_lose_nothing_to_those_with_it(model: Any) -> None:
    scores = torch.full((2, 400), -1000.0)
    scores[:, [7, 8, 9]] = torch.tensor([10.0, -500.0, -600.0])
    rows = [RowState(replace(DEFAULT, top_k=3, top_p=top_p), 0) for top_p in (1.0, 0.5)]
    warped = processed(Sampler(400, "cpu"), scores, rows)
    for mine, theirs, row in zip(warped, scores, rows, strict=True):
        assert torch.equal(mine, reference(model, theirs, row.params, [1], 0))


@pytest.mark.parametrize("top_p", [0.1 * tenth for tenth in range(1, 10)])
@pytest.mark.parametrize("count", range(2, 13))
def test_top_p_that_ends_exactly_on_a_sum_keeps_what_transformers_keeps(
    model: Any, count: int, top_p: float
) -> None:
    asked = replace(DEFAULT, top_k=count, top_p=top_p, temperature=1.0)
    scores = torch.full((1, 200), -50.0)
    scores[0, 20 : 20 + count] = 1.0
    sampler = Sampler(200, "cpu")
    for seed in range(12):
        row = RowState(replace(asked, seed=seed), 0)
        wanted = reference(model, scores[0], row.params, [1], 0)
        assert chosen(sampler, scores, [row]) == [expected_token(wanted, row)]


def test_distinct_scores_need_no_say_in_how_equal_ones_are_sorted(model: Any) -> None:
    scores = some_scores(1, 3000, 1)
    row = RowState(replace(DEFAULT, top_k=0), 0)
    config = whole_config(model, config_of(row.params))
    processors = model._get_logits_processor(config, input_ids_seq_length=1, device="cpu")
    theirs = processors(torch.tensor([[1]]), scores.clone())
    assert torch.equal(processed(Sampler(3000, "cpu"), scores, [row]), theirs)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_row_is_the_same_alone_and_among_others(kind: torch.dtype) -> None:
    asked = [replace(each, seed=seed) for seed, each in enumerate(MIXED + MIXED[:7])]
    assert len(asked) == 16
    scores = some_scores(16, 5000, 3).to(kind)
    before = scores.clone()
    rows = [row_of(each, [3, 1, 4, 1, 5, 9], 2, at) for at, each in enumerate(asked)]
    together = Sampler(5000, "cpu")
    tokens, warped = chosen(together, scores, rows), processed(together, scores, rows)
    for at, each in enumerate(asked):
        alone, row = Sampler(5000, "cpu"), row_of(each, [3, 1, 4, 1, 5, 9], 2, at)
        mine = scores[at : at + 1]
        assert chosen(alone, mine, [row]) == tokens[at : at + 1]
        assert torch.equal(processed(alone, mine, [row])[0], warped[at])
    assert torch.equal(scores, before)


def test_a_sampler_follows_rows_that_come_and_go() -> None:
    sampler, scores = Sampler(400, "cpu"), some_scores(9, 400, 5)
    rows = [RowState(each, 0) for each in MIXED]
    tokens = chosen(sampler, scores, rows)
    for places in ([0], [3, 1], [1, 3], [8, 0, 4], list(range(9))):
        some = chosen(sampler, scores[places], [rows[place] for place in places])
        assert some == [tokens[place] for place in places]


@pytest.mark.parametrize("step", [0.0, 0.25])
@pytest.mark.parametrize(
    "asked",
    [
        *(MIXED[place] for place in (0, 2, 3, 4, 5, 7)),
        replace(DEFAULT, temperature=3.0, top_k=200, top_p=1.0, min_new_tokens=4, min_length=30),
    ],
)
def test_generate_with_seeded_draws_gives_the_same_tokens(
    model: Any, asked: SamplingParams, step: float
) -> None:
    class Coarse(torch.nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            scores = head(hidden)
            return (scores / step).round() * step if step else scores

    head, prompt = model.lm_head, [7, 8, 9]
    config = config_of(asked)
    config.update(
        max_new_tokens=30, num_return_sequences=3, output_logits=True, return_dict_in_generate=True
    )
    draws_ = SeededDraws(asked.seed)

    def end_draws(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        draws_.end()
        return torch.zeros(len(ids), dtype=torch.bool)

    model.lm_head = Coarse()
    try:
        output = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, 3, dtype=torch.long),
            generation_config=config,
            logits_processor=[draws_],
            stopping_criteria=StoppingCriteriaList([end_draws]),
        )
    finally:
        draws_.end()
        model.lm_head = head
    # In generate() min_new_tokens takes the place of min_length.
    least = 0 if asked.min_new_tokens else asked.min_length
    asked = replace(asked, tokens=prompt, min_length=least)
    rows = [RowState(asked, sequence) for sequence in range(3)]
    sampler = Sampler(output.logits[0].shape[1], "cpu")
    ended = [False] * 3
    for position, scores in enumerate(output.logits):
        tokens = chosen(sampler, scores, rows)
        for place, (row, token) in enumerate(zip(rows, tokens, strict=True)):
            if not ended[place]:
                assert token == output.sequences[place, len(prompt) + position]
                row.add(token)
                ended[place] = token in STOPS
    assert len(output.logits) > 5


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "all"])
@pytest.mark.parametrize("asked", MIXED)
def test_scores_that_are_not_finite_fail_their_row_alone(asked: SamplingParams, bad: Any) -> None:
    scores = some_scores(4, 400, 2)
    rows = [RowState(each, 0) for each in (DEFAULT, asked, GREEDY, asked)]
    good = chosen(Sampler(400, "cpu"), scores, rows)
    scores[1, :] = -float("inf") if bad == "all" else scores[1]
    scores[1, 17] = scores[1, 17] if bad == "all" else bad
    tokens, finite = Sampler(400, "cpu").pick(scores, rows)
    assert finite.tolist() == [True, False, True, True]
    assert tokens.tolist() == [0 if place == 1 else token for place, token in enumerate(good)]


def chi_square_p(counts: torch.Tensor, chances: torch.Tensor) -> float:
    """How likely counts so far from ``chances`` are; tokens expected under 5 times count as one."""
    expected = chances.double() / chances.double().sum() * counts.sum()
    rare = expected < 5
    if counts[chances == 0].sum():
        return 0.0
    pairs = [(counts[~rare], expected[~rare])]
    if expected[rare].sum() >= 5:
        pairs.append((counts[rare].sum().view(1), expected[rare].sum().view(1)))
    observed, wanted = (torch.cat(each).double() for each in zip(*pairs, strict=True))
    statistic = ((observed - wanted) ** 2 / wanted).sum()
    freedom = torch.tensor((len(wanted) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, statistic / 2))


def frequencies(asked: SamplingParams, scores: torch.Tensor, tokens: list[int]) -> torch.Tensor:
    """How often each token [vocabulary] comes in 40,000 draws of 400 rows."""
    rows = [
        row_of(replace(asked, seed=seed), tokens, 0, sequence)
        for seed, sequence in itertools.product(range(100), range(4))
    ]
    sampler, counts = Sampler(len(scores), "cpu"), torch.zeros(len(scores))
    batch = scores.expand(len(rows), -1)
    for position in range(100):
        for row in rows:
            row.position = position
        tokens = torch.tensor(chosen(sampler, batch, rows))
        counts += torch.bincount(tokens, minlength=len(scores))
    return counts


@pytest.mark.parametrize(
    "asked",
    [
        DEFAULT,
        replace(DEFAULT, top_k=20, top_p=1.0, temperature=1.2),
        replace(DEFAULT, top_k=0, top_p=0.8, temperature=1.0),
        replace(DEFAULT, top_k=0, top_p=1.0, temperature=1.0, repetition_penalty=1.4),
        replace(DEFAULT, top_k=30, top_p=1.0, temperature=1.0, min_p=0.05, min_new_tokens=200),
    ],
)
def test_frequencies_are_the_processed_probabilities(model: Any, asked: SamplingParams) -> None:
    """False alarms: one in a million settings, were the seeds not fixed."""
    scores, tokens = some_scores(1, 240, 8)[0] / 2, [3, 4, 5, 6]
    counts = frequencies(asked, scores, tokens)
    assert chi_square_p(counts, reference(model, scores, asked, tokens, 0).softmax(-1)) > 1e-6
    other = replace(asked, temperature=asked.temperature * 1.1)
    assert chi_square_p(counts, reference(model, scores, other, tokens, 0).softmax(-1)) < 1e-6


def test_numbers_ahead_are_those_drawn_one_by_one() -> None:
    row = RowState(replace(DEFAULT, seed=2**63 - 1), 3)
    for position in [*range(130), 5, 1000, 999]:
        row.position = position
        assert row.number == draw(2**63 - 1, 3, position)
    assert draws(4, 1, 7, 3) == [draw(4, 1, 7 + more) for more in range(3)]


def test_numbers_of_sequences_positions_and_seeds_have_nothing_in_common() -> None:
    numbers = [draw(*each) for each in itertools.product(range(8), repeat=3)]
    assert len(set(numbers)) == len(numbers)
    pairs = torch.tensor([draws(9, sequence, 0, 4000) for sequence in range(3)])
    apart = torch.corrcoef(pairs) - torch.eye(3)
    assert apart.abs().max() < 5 / 4000**0.5  # five standard deviations


def test_a_row_that_is_tried_ahead_stays_as_it_is() -> None:
    row = row_of(replace(DEFAULT, repetition_penalty=1.5, min_new_tokens=3), [1, 2, 3, 2], 1)
    ahead = row.after([9, 9, 1])
    assert (row.position, ahead.position) == (1, 4)
    assert row.must_go_on
    assert not ahead.must_go_on
    assert row.seen is not None
    assert ahead.seen is not None
    assert sorted(row.seen.tolist()) == [1, 2, 3]
    assert sorted(ahead.seen.tolist()) == [1, 2, 3, 9]
    assert row_of(DEFAULT, [1, 2], 0).after([4]).seen is None


def test_seen_tokens_are_kept_however_many_they_become() -> None:
    row = row_of(replace(DEFAULT, repetition_penalty=1.5), [0], 0)
    for token in range(1000):
        row.add(token % 700)
    assert row.seen is not None
    assert sorted(row.seen.tolist()) == list(range(700))


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scores \(1, 7\) of 2 rows"):
        Sampler(7, "cpu").pick(torch.zeros(1, 7), [RowState(DEFAULT, 0)] * 2)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("no_repeat_ngram_size", 2),
        ("encoder_no_repeat_ngram_size", 2),
        ("encoder_repetition_penalty", 1.2),
        ("bad_words_ids", [[3]]),
        ("suppress_tokens", [3]),
        ("begin_suppress_tokens", [3]),
        ("forced_bos_token_id", 3),
        ("forced_eos_token_id", 2),
        ("sequence_bias", [[[3], 1.0]]),
        ("typical_p", 0.9),
        ("top_h", 0.4),
        ("epsilon_cutoff", 0.01),
        ("eta_cutoff", 0.01),
        ("exponential_decay_length_penalty", (2, 1.1)),
        ("guidance_scale", 1.5),
        ("remove_invalid_values", True),
        ("renormalize_logits", True),
        ("watermarking_config", {"bias": 1.0}),
        ("penalty_alpha", 0.6),
        ("prompt_lookup_num_tokens", 3),
        ("dola_layers", "low"),
        ("max_time", 3.0),
        ("stop_strings", ["x"]),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_options_that_the_sampler_does_not_know_are_named(option: str, value: Any) -> None:
    model = tiny_models.make("llama")
    assert unsupported_options(model) is None
    setattr(model.generation_config, option, value)
    assert unsupported_options(model) == option


def test_only_processors_that_the_sampler_knows_come_of_supported_options() -> None:
    """Every option in turn: if generate() makes more of it than of none, it is named."""
    model = tiny_models.make("llama")
    known = {
        *("RepetitionPenaltyLogitsProcessor", "MinLengthLogitsProcessor"),
        *("MinNewTokensLengthLogitsProcessor", "TemperatureLogitsWarper"),
        *("TopKLogitsWarper", "TopPLogitsWarper", "MinPLogitsWarper"),
    }
    made = set()
    for name, value in itertools.product(vars(GenerationConfig()), (True, 0.5, 3, [3], [[3]])):
        try:
            options = {"do_sample": True, "eos_token_id": 2, name: value}
            model.generation_config = GenerationConfig(**options)
            whole = whole_config(model, GenerationConfig())
            model._prepare_special_tokens(whole, True, device="cpu")
            processors = model._get_logits_processor(whole, input_ids_seq_length=1, device="cpu")
        except (TypeError, ValueError, AttributeError, RuntimeError, LookupError):
            continue  # not a value of this option
        kinds = {type(each).__name__ for each in processors}
        made |= kinds
        if kinds - known:
            assert unsupported_options(model) == name
    assert known < made


def test_supported_options_are_supported() -> None:
    model = tiny_models.make("smollm3")
    model.generation_config.update(min_new_tokens=4, repetition_penalty=1.2, max_length=99)
    model.generation_config.update(do_sample=True, top_k=0, top_p=0.8, num_beams=3)
    assert unsupported_options(model) is None


def test_a_model_with_its_own_way_to_generate_is_not_for_the_sampler() -> None:
    class Own(type(tiny_models.make("llama"))):  # type: ignore[misc]
        def _sample(self, *args: Any, **options: Any) -> Any:
            return super()._sample(*args, **options)

    own = Own(tiny_models.make("llama").config)
    assert unsupported_options(own) == "_sample"
