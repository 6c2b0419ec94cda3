"""Models that keep a state, which cannot be cut or taken back: texts are those of one alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standins import tiny_models

from modelcompose_jupyter.models import GenerationResult, ModelCache, ModelSpec
from modelcompose_jupyter.models.engine.kv_cache import Slot
from modelcompose_jupyter.models.engine.native_runner import NativeRunner
from modelcompose_jupyter.models.engine.native_sampler import NativeSampler
from modelcompose_jupyter.models.engine.row_state import RowState
from modelcompose_jupyter.models.engine.sampling_params import resolve
from modelcompose_jupyter.models.engine.scheduler import Scheduler
from modelcompose_jupyter.models.weights import loader, native_loader, source
from modelcompose_jupyter.models.weights.loaded_model import LoadedModel
from modelcompose_jupyter.models.weights.native_loader import NativePlan

from ..conftest import ask, done
from .test_exactness import Asking, Driver

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3_5": ("qwen3_5_text", {}),
    "granite 4": ("granitemoehybrid", {"layer_types": ["mamba", "attention"] * 2}),
}
PROMPT = [5 + 7 * number % 380 for number in range(90)]
NEW = 12
ASKED = {"seed": 3, "temperature": 1.5, "max_output_length": NEW, "min_output_length": NEW}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    architecture, options = ARCHITECTURES[request.param]
    folder = tmp_path_factory.mktemp("models") / "m"
    return tiny_models.save(folder, architecture, seed=3, vectors=True, **options)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load(folder)


def load(folder: Path, **options: Any) -> LoadedModel:
    spec = ModelSpec(str(folder), **options)
    plan = loader.plan(spec, source.resolve(spec, lambda _: None), lambda _: None)
    assert isinstance(plan, NativePlan), plan
    return native_loader.load(plan, lambda _: None)


class TokenDriver(Driver):
    """A driver that is given tokens for prompts."""

    def begin(self, tokens: Sequence[int], **parameters: Any) -> Asking:
        asking = Asking(("", {**ASKED, **parameters}), lambda *_: None)  # type: ignore[arg-type]
        request = asking.request
        request.begin()
        self._open.append(asking)
        params = resolve(self.loaded, "", request.parameters)
        self.scheduler.add(request, replace(params, tokens=list(tokens)))
        asking.group = self.scheduler._groups[-1]
        return asking

    def all(self, *prompts: Sequence[int], **parameters: Any) -> list[list[list[int]]]:
        """The new tokens of each sequence of each prompt, all at once."""
        return [
            tokens_of(each)
            for each in self.finish([self.begin(tokens, **parameters) for tokens in prompts])
        ]


def tokens_of(asking: Asking) -> list[list[int]]:
    assert isinstance(asking.outcome, GenerationResult), asking.outcome
    assert asking.group is not None
    prompt = len(asking.group.prompt)
    return [sequence.tokens[prompt:] for sequence in asking.group.sequences]


def reused(asking: Asking) -> int:
    assert isinstance(asking.outcome, GenerationResult)
    return asking.outcome.usage["reused"]


# What is reused


def test_a_state_is_used_where_it_was_taken_and_nowhere_else(loaded: LoadedModel) -> None:
    """At the end of a prompt, and at the end of a text."""
    driver = TokenDriver(loaded)
    ((first,),) = driver.all(PROMPT)
    places = {
        "the same prompt": (PROMPT, len(PROMPT) - 1),
        "one that goes on": ([*PROMPT, 9, 8], len(PROMPT) - 1),
        "the whole text": ([*PROMPT, *first, 7, 8, 9], len(PROMPT) + NEW - 1),
        "a part of the text": ([*PROMPT, *first[:4], 7], len(PROMPT) - 1),
        "one with another end": ([*PROMPT[:-3], 7, 7, 7, 7], 0),
        "a shorter one": (PROMPT[:-3], 0),
        "one that goes on from that": ([*PROMPT[:-3], 7, 7, 8], len(PROMPT) - 4),
        "another one": (PROMPT[1:], 0),
    }
    for name, (tokens, length) in places.items():
        asking = driver.begin(tokens, seed=4)
        driver.finish([asking])
        assert reused(asking) == length, name
        assert [tokens_of(asking)] == TokenDriver(loaded).all(tokens, seed=4), name


@pytest.mark.parametrize("keeps", [True, False])
def test_several_texts_of_a_prompt_read_it_once(
    keeps: bool, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not there is room to keep it."""
    forward, computed = NativeRunner.forward, []

    def run(self: NativeRunner, tokens: Sequence[int], *rest: Any) -> Any:
        computed.append(len(tokens))
        return forward(self, tokens, *rest)

    alone = [TokenDriver(loaded).all(PROMPT, num_return_sequences=3)[0][0]]
    monkeypatch.setattr(NativeRunner, "forward", run)
    driver = TokenDriver(loaded)
    if not keeps:
        driver.scheduler._prefixes.limit = 0
    asking = driver.begin(PROMPT, num_return_sequences=3)
    driver.finish([asking])
    assert tokens_of(asking)[:1] == alone
    assert sum(computed) == len(PROMPT) - 1 + 3 * NEW
    assert (len(driver.scheduler._prefixes) > 0) == keeps


def test_what_begins_as_one_that_runs_takes_its_state_if_it_is_at_that_place(
    loaded: LoadedModel,
) -> None:
    driver = TokenDriver(loaded)
    driver.scheduler._prefixes.limit = 0
    first = driver.begin(PROMPT)
    driver.step()
    assert first.group is not None
    (sequence,) = first.group.sequences
    assert sequence.computed == len(PROMPT) - 1
    there = driver.begin([*PROMPT, 9])
    driver.step()  # of the first alone, which is measured
    driver.step()  # reads one token
    beside = driver.begin([*PROMPT, 8])
    driver.step()
    late = driver.begin([*PROMPT, 7])  # now their states are those of longer texts
    driver.finish([first, there, beside, late])
    found = [reused(each) for each in (there, beside, late)]
    assert found == [len(PROMPT) - 1, len(PROMPT), 0]
    for asking, last in ((there, 9), (beside, 8), (late, 7)):
        assert [tokens_of(asking)] == TokenDriver(loaded).all([*PROMPT, last])


# Steps that fail


def test_a_step_that_failed_is_done_again(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts and tokens in company, each by itself then."""
    prompts = [PROMPT, PROMPT[5:50], PROMPT[7:9]]
    wanted = [TokenDriver(loaded).all(each)[0] for each in prompts]
    forward, failed = NativeRunner.forward, []

    def run(
        self: NativeRunner, tokens: Sequence[int], wanted: Any, slabs: Any, spans: Sequence[Any]
    ) -> Any:
        if len(spans) > 1:
            failed.append(len(tokens))
            raise MemoryError
        return forward(self, tokens, wanted, slabs, spans)

    monkeypatch.setattr(NativeRunner, "forward", run)
    assert TokenDriver(loaded).all(*prompts) == wanted
    assert max(failed) > len(PROMPT)
    assert len(failed) > NEW


def test_where_no_token_can_be_chosen_the_state_is_that_of_one_step(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each text is tried by itself, with the scores that are there; one fails alone."""
    prompts = [PROMPT, PROMPT[5:50], PROMPT[7:9]]
    wanted = [TokenDriver(loaded).all(each)[0] for each in prompts]
    pick, failed = NativeSampler.pick, []

    def run(self: NativeSampler, scores: np.ndarray, rows: Sequence[RowState]) -> Any:
        if len(rows) > 1 or rows[0].params.seed == 99:
            failed.append(len(rows))
            raise MemoryError
        return pick(self, scores, rows)

    monkeypatch.setattr(NativeSampler, "pick", run)
    driver = TokenDriver(loaded)
    askings = [driver.begin(each) for each in prompts]
    fails = driver.begin(PROMPT[3:30], seed=99)
    driver.finish([*askings, fails])
    assert isinstance(fails.outcome, Exception)
    assert [tokens_of(each) for each in askings] == wanted
    assert {1, 2, 3} <= {*failed}


def test_a_state_that_has_gone_on_is_not_used(loaded: LoadedModel) -> None:
    runner = runner_of(loaded)
    slot = runner.cache.open(20)
    runner.forward(PROMPT[:10], [9], (), [(slot, 10)])
    slot.length = 9
    with pytest.raises(RuntimeError, match="a state of 10 tokens is not that of 9"):
        runner.forward(PROMPT[9:10], [0], (), [(slot, 1)])
    slot.length = 0
    again = runner.forward(PROMPT[:10], [9], (), [(slot, 10)])
    other = runner.cache.open(20)
    assert np.array_equal(again, runner.forward(PROMPT[:10], [9], (), [(other, 10)]))


# Memory


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(2, 70), st.integers(0, 6)), min_size=2,
             max_size=8),
    st.integers(4, 9),
)  # fmt: skip
def test_texts_are_the_same_where_memory_is_short(
    loaded: LoadedModel, asked: list[tuple[int, int, int]], rows: int
) -> None:
    layout = runner_of(loaded).cache.layout
    budget = rows * (128 * layout.token_bytes + layout.state_bytes)

    def look(scheduler: Scheduler) -> None:
        cache = scheduler._cache
        assert cache.bytes + scheduler._prefixes.bytes <= budget

    driver = TokenDriver(replace(loaded, cache_budget=budget), before_step=look)
    prompts, askings = [PROMPT[start : start + length] for start, length, _ in asked], []
    for tokens, (*_, gap) in zip(prompts, asked, strict=True):
        askings.append(driver.begin(tokens or PROMPT[:1], max_output_length=60))
        for _ in range(gap):
            driver.step()
    driver.finish(askings)
    for tokens, asking in zip(prompts, askings, strict=True):
        assert tokens_of(asking) == _alone(loaded, tuple(tokens or PROMPT[:1]))


def _alone(loaded: LoadedModel, tokens: tuple[int, ...]) -> list[list[int]]:
    return TokenDriver(loaded).all(tokens, max_output_length=60)[0]


def test_who_had_to_wait_for_memory_goes_on_where_it_was(loaded: LoadedModel) -> None:
    layout = runner_of(loaded).cache.layout
    budget = 4 * (64 * layout.token_bytes + layout.state_bytes)
    prompts = [PROMPT[start : start + 30] for start in range(5)]
    waited: set[int] = set()

    def look(scheduler: Scheduler) -> None:
        waited.update(
            id(each) for each in scheduler._waiting if len(each.tokens) > len(each.prompt)
        )

    driver = TokenDriver(replace(loaded, cache_budget=budget), before_step=look)
    found = driver.all(*prompts, max_output_length=60, min_output_length=60)
    for each, tokens in zip(prompts, found, strict=True):
        again = TokenDriver(loaded).all(each, max_output_length=60, min_output_length=60)
        assert again == [tokens]
    assert waited


# Steps


def runner_of(loaded: LoadedModel) -> NativeRunner:
    assert loaded.decoder is not None
    return NativeRunner(loaded.decoder, None)


@pytest.fixture(
    params=[
        {"precision": "float32"}, {"precision": "bfloat16"}, {"precision": "float16"},
        {"quantization": "int8"}, {"quantization": "int4"},
        {"cache_quantization": "int8"}, {"quantization": "int8", "cache_quantization": "int8"},
    ],
    ids=lambda options: " ".join(options.values()),
)  # fmt: skip
def stored(request: pytest.FixtureRequest, folder: Path) -> LoadedModel:
    """A model in each kind of weights, of keys and values."""
    return load(folder, **request.param)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_scores_are_the_same_in_any_company_and_division(threads: int, stored: LoadedModel) -> None:
    """To the last bit."""
    runner = runner_of(stored)
    texts = [PROMPT, PROMPT[3:80], PROMPT[50:60], PROMPT[7:8]]
    runner.threads = 1
    alone = [_read(runner, [(each, len(each))]) for each in texts]
    runner.threads = threads
    slots = [runner.cache.open(100) for _ in texts]
    parts: list[list[np.ndarray]] = [[] for _ in texts]
    for sizes in ([1, 20, 3, 1], [40, 1, 1, 0], [1, 2, 6, 0], [48, 54, 0, 0]):
        spans, tokens = [], []
        for slot, text, size in zip(slots, texts, sizes, strict=True):
            if size:
                spans.append((slot, size))
                tokens += text[slot.length : slot.length + size]
        found = runner.forward(tokens, range(len(tokens)), (), spans)
        at = 0
        for slot, size in spans:
            parts[slots.index(slot)].append(found[at : at + size])
            slot.length += size
            at += size
    for own, wanted in zip(parts, alone, strict=True):
        assert np.array_equal(np.concatenate(own), wanted)


def _read(runner: NativeRunner, texts: Sequence[tuple[Sequence[int], int]]) -> np.ndarray:
    spans: list[tuple[Slot, int]] = [(runner.cache.open(100), count) for _, count in texts]
    tokens = [token for text, count in texts for token in text[:count]]
    return runner.forward(tokens, range(len(tokens)), (), spans)


@pytest.mark.parametrize(("quantization", "off"), [("int8", 0.05), ("int4", 0.5)])
def test_weights_in_few_bits_are_near(
    quantization: Any, off: float, folder: Path, loaded: LoadedModel
) -> None:
    wanted = _read(runner_of(loaded), [(PROMPT, 40)])
    found = _read(runner_of(load(folder, quantization=quantization)), [(PROMPT, 40)])
    assert np.abs(found - wanted).mean() < off * wanted.std()


def test_a_state_moves_with_its_text(loaded: LoadedModel) -> None:
    """Into a larger slab, and out of a slab in which another one was."""
    runner = runner_of(loaded)
    slot = runner.cache.open(30)
    for start, end in ((0, 30), (30, 70)):
        runner.cache.reserve(slot, end)
        found = runner.forward(PROMPT[start:end], [end - start - 1], (), [(slot, end - start)])
        slot.length = end
    assert np.array_equal(found[0], _read(runner, [(PROMPT, 70)])[-1])
    kept = slot.copy()
    runner.forward(PROMPT[:5], [4], (), [(slot, 5)])  # does not change what was kept
    slot.length = 75
    runner.cache.close(slot, clean=True)
    other = runner.cache.open(80)
    other.begin(kept, 70)
    found = runner.forward(PROMPT[70:80], [9], (), [(other, 10)])
    assert np.array_equal(found[0], _read(runner, [(PROMPT, 80)])[-1])


def test_memory_of_a_text_counts_its_state(tmp_path: Path) -> None:
    loaded = load(tiny_models.save(tmp_path / "m", "qwen3_5_text"))
    cache = runner_of(loaded).cache
    slot = cache.open(10)
    heads, size, values = 4, 8, 32  # padded to whole blocks of columns
    net = 4 * (heads * size * values + 3 * (2 * 2 * size + heads * size))
    assert cache.layout.state_bytes == 2 * net
    assert cache.bytes == 64 * cache.layout.token_bytes + 2 * net
    assert cache.held_by(slot) == slot.slab.bytes == slot.slab.memory.nbytes  # type: ignore[attr-defined]


# Draft tokens


def test_draft_tokens_are_none_and_it_is_told(folder: Path, cache: ModelCache) -> None:
    texts = []
    for lookup in (0, 4):
        with done(cache.acquire(ModelSpec(str(folder), prompt_lookup=lookup))) as lease:
            result = ask(lease, "one two one two one two", max_output_length=20)
        texts.append(result.texts)
        assert "draft_tokens" not in result.usage
        told = [each for each in result.warnings if "prompt_lookup has no effect" in each]
        assert len(told) == bool(lookup)
    assert texts[0] == texts[1]


@pytest.mark.parametrize("is_draft", [True, False])
def test_a_draft_model_is_none_where_there_are_states(
    is_draft: bool, folder: Path, tmp_path: Path, cache: ModelCache
) -> None:
    other = tiny_models.save(tmp_path / "other", "llama")
    main, draft = (other, folder) if is_draft else (folder, other)
    with done(cache.acquire(ModelSpec(str(main)))) as lease:
        wanted = ask(lease, max_output_length=20).texts
    with done(cache.acquire(ModelSpec(str(main), draft_model=str(draft)))) as lease:
        result = ask(lease, max_output_length=20)
    assert result.texts == wanted
    assert any("draft_model has no effect" in each for each in result.warnings)
