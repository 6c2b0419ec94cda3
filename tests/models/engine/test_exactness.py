"""What an engine gives is what generate() gives, token for token, whoever else asks and when."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from standins import tiny_models

from modelcompose_jupyter.document.parameters import GenerationParameters
from modelcompose_jupyter.models import GenerationResult, Lease, ModelCache, ModelSpec
from modelcompose_jupyter.models.engine import layers
from modelcompose_jupyter.models.engine.counters import Counters
from modelcompose_jupyter.models.engine.request import GenerationRequest
from modelcompose_jupyter.models.engine.runner import Unsupported
from modelcompose_jupyter.models.engine.runner_selection import make_runner
from modelcompose_jupyter.models.engine.sampling_params import resolve
from modelcompose_jupyter.models.engine.scheduler import Scheduler
from modelcompose_jupyter.models.engine.seeded_draws import SeededDraws
from modelcompose_jupyter.models.engine.sequence import SequenceGroup
from modelcompose_jupyter.models.engine.torch_runner import torch_runner
from modelcompose_jupyter.models.generation import Generation
from modelcompose_jupyter.models.native.build import kernels
from modelcompose_jupyter.models.request_queue import QueuePosition
from modelcompose_jupyter.models.tokenization.detokenizer import find_stop
from modelcompose_jupyter.models.weights import loader, source, torch_loader
from modelcompose_jupyter.models.weights.decoder_families import FAMILIES
from modelcompose_jupyter.models.weights.loaded_model import LoadedModel

from ..conftest import Deltas, ask, done

CONTEXT = 400
MOST_STEPS = 5000
STORY = " ".join(
    f"{number} small foxes lived in the wood and had {number % 7} friends who lived there too."
    for number in range(1, 9)
)
"""About 190 tokens: three slabs, and more than a step takes of a prompt at first."""

Parameters = Mapping[str, Any]
Ask = tuple[str, Parameters]

GREEDY: Parameters = {"do_sample": False, "max_output_length": 30}
ASKED: Sequence[Ask] = (
    ("Once upon a time", {**GREEDY, "max_output_length": 135}),
    (STORY, {**GREEDY, "max_output_length": 40}),
    (STORY + " Or not", {**GREEDY, "repetition_penalty": 1.3}),
    (STORY[:200] + "다른 이야기", {**GREEDY, "max_output_length": 12}),
    ("옛날에 여우", {**GREEDY, "repetition_penalty": 1.6, "max_output_length": 70}),
    ("fox", {**GREEDY, "min_output_length": 25, "stop_sequences": ["a", "e"]}),
    ("x", {**GREEDY, "max_output_length": 1}),
    ("y" * 64, {**GREEDY, "max_output_length": 65}),
    ("🦊 the", {"seed": 5, "temperature": 1.5, "num_return_sequences": 3, "max_output_length": 35}),
    (STORY, {"seed": 7, "top_k": 0, "top_p": 1.0, "temperature": 1.2, "max_output_length": 40}),
    ("Once upon", {"seed": 9, "min_p": 0.02, "repetition_penalty": 1.1, "max_output_length": 70}),
    ("wood", {"seed": 1, "stop_sequences": ["o", " f"], "max_output_length": 60}),
)

RECURRENT = {"mamba"}
ONLY_IN_C = {"lfm2", "qwen3_5", "qwen3_5_text", "granite 4 with states"}
"""On torch they keep a state, and run one by one."""
LLAMAS = {"llama", "smollm3", "mistral", "phi3", "qwen2", "qwen3", "gemma3_text"}
OTHERS = [
    *("bloom", "deepseek_v3", "falcon", "gemma2", "gemma4_text", "gpt_oss", "gptj", "mixtral"),
    *("mpt", "olmo2", "opt", "starcoder2"),
]
"""Each with something of its own: what is added to scores or caps them, heads that differ among
layers, experts, attention that is code of their own."""
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        architecture: (architecture, {})
        for architecture in sorted(
            {*tiny_models.ARCHITECTURES, *OTHERS, *FAMILIES}
            - tiny_models.ENCODER_DECODERS
            - RECURRENT
        )
    },
    # Others repeat themselves soon.
    "gpt2": ("gpt2", {"tie_word_embeddings": False}),
    "granite": ("granite", {"logits_scaling": 0.3}),
    "exaone4": ("exaone4", {"tie_word_embeddings": False}),
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma3 tied": ("gemma3_text", {"tie_word_embeddings": True, "final_logit_softcapping": 5.0}),
    "gpt2 scaled": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    "gpt_neox in turn": (
        "gpt_neox",
        {"use_parallel_residual": False, "attention_bias": False},
    ),
    "granite 4 with states": (
        "granitemoehybrid",
        {"layer_types": ["mamba", "attention"] * 2, "logits_scaling": 0.3},
    ),
    "llama biased": ("llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 16}),
    "llama tied": ("llama", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "llama yarn": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e4,
                "factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    "mistral unbounded": ("mistral", {"sliding_window": None, "head_dim": 16}),
    "phi3 partial": ("phi3", {"partial_rotary_factor": 0.5, "sliding_window": None}),
    "qwen2 sliding": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    ),
    "smollm3 sliding": (
        "smollm3",
        {
            "use_sliding_window": True,
            "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "no_rope_layers": [1, 0, 0, 1],
        },
    ),
}


def has_kernels(name: str) -> bool:
    """Whether a model has kernels in C."""
    return {**OPTIONS, **VARIANTS}[name][0] in FAMILIES


@dataclass(frozen=True)
class Wanted:
    """What generate() gives: the new tokens of each sequence, and whole texts up to a stop."""

    tokens: list[list[int]]
    texts: list[str]


class Twins:
    """A model for engines, and another one of the same files that only generate() touches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._loaded = _load(torch_loader, folder)
        self.pristine: Any = _load(torch_loader, folder).model
        self._known: dict[str, Wanted] = {}

    def loaded(self, budget: int | None = None) -> LoadedModel:
        """A copy, as it comes from the loader: on the runtime that the model gets."""
        loaded = _load(loader, self.folder)
        if loaded.decoder is not None:
            return replace(loaded, cache_budget=budget)
        return self.in_torch(budget)

    def in_torch(self, budget: int | None = None) -> LoadedModel:
        """A copy, as transformers loads it."""
        model = copy.deepcopy(self._loaded.model)
        return replace(self._loaded, model=model, cache_budget=budget)

    def wanted(self, asked: Ask) -> Wanted:
        """What generate() gives for a request that has it to itself."""
        known = self._known.get(repr(asked))
        if known is None:
            known = self._known[repr(asked)] = self._generate(*asked)
        return known

    def _generate(self, prompt: str, parameters: Parameters) -> Wanted:
        asked = {
            "max_new_tokens": parameters["max_output_length"],
            "min_new_tokens": parameters.get("min_output_length"),
            "num_return_sequences": parameters.get("num_return_sequences", 1),
        }
        for name in ("repetition_penalty", "num_beams", "do_sample"):
            asked[name] = parameters.get(name)
        draws = None
        if parameters.get("do_sample") is not False:
            asked |= {"do_sample": True, "min_p": parameters.get("min_p")}
            defaults = {"temperature": 0.7, "top_k": 50, "top_p": 0.9}
            asked |= {name: parameters.get(name, value) for name, value in defaults.items()}
            draws = SeededDraws(parameters["seed"])
        prefix = self.tokens(prompt)
        inputs = torch.tensor([prefix])
        output = self.pristine.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            logits_processor=[draws] if draws else [],
            stopping_criteria=[_Between(draws)] if draws else [],
            **{name: value for name, value in asked.items() if value is not None},
        )
        tokens = [self._to_end(row[len(prefix) :]) for row in output.tolist()]
        texts = [self.text(prompt, prefix, each, parameters) for each in tokens]
        return Wanted(tokens, texts)

    def tokens(self, prompt: str) -> list[int]:
        """Those of a prompt."""
        return list(self._loaded.tokenizer(prompt)["input_ids"])

    def _to_end(self, tokens: list[int]) -> list[int]:
        ends = (place + 1 for place, token in enumerate(tokens) if token in self._loaded.stop_ids)
        return tokens[: next(ends, None)]

    def text(
        self, prompt: str, prefix: list[int], tokens: list[int], parameters: Parameters
    ) -> str:
        """Prompt and answer as a caller should see them."""
        before, whole = (
            tiny_models.text_of(self._loaded.tokenizer, each) for each in (prefix, prefix + tokens)
        )
        assert whole.startswith(before)
        new = whole[len(before) :]
        return prompt + new[: find_stop(new, parameters.get("stop_sequences", ()))]


class _Between:
    """Called by generate() between two tokens."""

    def __init__(self, draws: SeededDraws) -> None:
        self._draws = draws

    def __call__(self, input_ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        self._draws.end()
        return torch.zeros(len(input_ids), dtype=torch.bool)


def _load(how: Any, folder: Path) -> LoadedModel:
    spec = ModelSpec(str(folder))
    plan = how.plan(spec, source.resolve(spec, _ignore), _ignore)
    loaded: LoadedModel = how.load(plan, _ignore)
    return loaded


def _ignore(_: object) -> None:
    pass


@pytest.fixture(autouse=True)
def steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernels in C, or as it is without a compiler."""
    if getattr(request, "param", None) == "on torch":
        monkeypatch.setenv("MODELCOMPOSE_NATIVE", "0")


BOTH = pytest.mark.parametrize("steps", ["in C", "on torch"], indirect=True)


def _both(names: Iterable[str], quick: Container[str] | None = None) -> pytest.MarkDecorator:
    """A test of models by name, each with its steps in C and on torch.

    Slow are those that are not among the ``quick`` ones, and of a variant the second.
    """

    def case(name: str, steps: str) -> Any:
        second = name in VARIANTS and steps == "on torch" and has_kernels(name)
        is_slow = second or (quick is not None and name not in quick)
        return pytest.param(name, steps, marks=pytest.mark.slow if is_slow else ())

    return pytest.mark.parametrize(
        ("name", "steps"),
        [
            *(case(name, "in C") for name in names if has_kernels(name)),
            *(case(name, "on torch") for name in names if name not in ONLY_IN_C),
        ],
        indirect=["steps"],
    )


@pytest.fixture(scope="module")
def twins_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Twins]:
    """Twins by a name of OPTIONS or VARIANTS, made when they are first asked for."""
    known: dict[str, Twins] = {}

    def twins_of(name: str) -> Twins:
        if name not in known:
            architecture, options = {**OPTIONS, **VARIANTS}[name]
            folder = tmp_path_factory.mktemp("models") / "m"
            options = {**tiny_models.with_context(architecture, CONTEXT), **options}
            tiny_models.save(folder, architecture, seed=3, vectors=True, **options)
            known[name] = Twins(folder)
        return known[name]

    return twins_of


@dataclass(frozen=True)
class Arrival:
    """A request of ASKED, so many steps after the one before, and cancelled after so many more."""

    number: int
    gap: int = 0
    cancelled_after: int | None = None


class Asking:
    """A request in a scheduler, and what came of it."""

    def __init__(self, asked: Ask, streamed: Deltas) -> None:
        prompt, parameters = asked
        self.asked = asked
        self.streamed = streamed
        self.request = GenerationRequest(
            prompt, GenerationParameters(**parameters), streamed, Generation(_ignore),
            QueuePosition(None), None, None,
        )  # fmt: skip
        self.group: SequenceGroup | None = None
        self.outcome: GenerationResult | Exception | None = None


class Driver:
    """A scheduler, whose steps are made on this thread."""

    def __init__(
        self, loaded: LoadedModel, before_step: Callable[[Scheduler], None] = _ignore
    ) -> None:
        self.loaded = loaded
        self.scheduler = Scheduler(loaded, self._deliver, most=64, counters=Counters())
        self.before_step = before_step
        self.step_number = 0
        self._open: list[Asking] = []

    def add(self, asked: Ask) -> Asking:
        asking = Asking(asked, Deltas())
        request = asking.request
        request.begin()
        self._open.append(asking)
        self.scheduler.add(request, resolve(self.loaded, request.prompt, request.parameters))
        asking.group = self.scheduler._groups[-1]
        return asking

    def step(self) -> None:
        self.before_step(self.scheduler)
        self.scheduler.step()
        self.step_number += 1
        assert self.step_number < MOST_STEPS, "it does not end"

    def run(self, arrivals: Sequence[Arrival]) -> list[Asking]:
        """All to their ends."""
        made, cancels = [], []
        for arrival in arrivals:
            for _ in range(arrival.gap):
                self._cancel(cancels)
                self.step()
            made.append(self.add(ASKED[arrival.number]))
            if arrival.cancelled_after is not None:
                cancels.append((self.step_number + arrival.cancelled_after, made[-1]))
        while self.scheduler.busy:
            self._cancel(cancels)
            self.step()
        assert not self._open
        return made

    def finish(self, askings: list[Asking]) -> list[Asking]:
        """Steps until these have ended."""
        while any(each.outcome is None for each in askings):
            self.step()
        return askings

    def _cancel(self, cancels: list[tuple[int, Asking]]) -> None:
        for when, asking in cancels:
            if when == self.step_number:
                asking.request.cancelled.set()

    def _deliver(self, request: GenerationRequest, outcome: Any) -> None:
        asking = next(each for each in self._open if each.request is request)
        self._open.remove(asking)
        asking.outcome = outcome


def check(twins: Twins, askings: Sequence[Asking]) -> None:
    """Each has what generate() gives, or if it was cancelled, a beginning of it."""
    for asking in askings:
        wanted, result, group = twins.wanted(asking.asked), asking.outcome, asking.group
        assert isinstance(result, GenerationResult), result
        assert group is not None
        prefix = len(group.prompt)
        made = [sequence.tokens[prefix:] for sequence in group.sequences]
        assert result.usage["generated"] == sum(map(len, made))
        for number, (tokens, text, reason) in enumerate(
            zip(made, result.texts, result.finish_reasons, strict=True)
        ):
            whole = wanted.tokens[number]
            assert tokens == whole[: len(tokens)]
            assert text == asking.streamed.texts[number]
            if reason == "cancelled":
                assert asking.request.cancelled.is_set()
                assert text == twins.text(
                    asking.asked[0], list(group.params.tokens), tokens, asking.asked[1]
                )
                continue
            assert text == wanted.texts[number]
            if reason != "stop":
                assert tokens == whole
                assert reason == ("eos" if whole[-1] in group.params.stop_ids else "length")


ARRIVALS = st.lists(
    st.builds(
        Arrival,
        st.integers(0, len(ASKED) - 1),
        st.integers(0, 25),
        st.none() | st.none() | st.integers(0, 60),
    ),
    min_size=3,
    max_size=9,
)
EVERYBODY = [
    *(Arrival(number, gap=number % 3) for number in [*range(len(ASKED)), 9, 2]),
    Arrival(1, cancelled_after=25),
]
SOME = [Arrival(0), Arrival(1, 3), Arrival(5), Arrival(8, 2), Arrival(9), Arrival(4, 0, 20)]


@_both([*OPTIONS, *VARIANTS])
def test_everybody_at_once(name: str, twins_of: Callable[[str], Twins]) -> None:
    twins = twins_of(name)
    driver = Driver(twins.loaded())
    check(twins, driver.run(EVERYBODY if name in OPTIONS else SOME))
    again = driver.run([Arrival(1), Arrival(9), Arrival(2)])
    check(twins, again)
    assert all(_result(each).usage["reused"] > 100 for each in again)


def _result(asking: Asking) -> GenerationResult:
    assert isinstance(asking.outcome, GenerationResult)
    return asking.outcome


@_both([*OPTIONS], quick=("gemma3_text", "gpt2"))
@settings(max_examples=3, deadline=None)
@given(arrivals=ARRIVALS)
def test_any_arrival(name: str, twins_of: Callable[[str], Twins], arrivals: list[Arrival]) -> None:
    twins = twins_of(name)
    check(twins, Driver(twins.loaded()).run(arrivals))


@BOTH
@settings(max_examples=10, deadline=None)
@given(arrivals=ARRIVALS, slabs=st.integers(5, 12))
def test_any_arrival_where_memory_is_short(
    twins_of: Callable[[str], Twins], arrivals: list[Arrival], slabs: int
) -> None:
    """The longest text alone needs two slabs of 256 and 384 tokens at the moment it moves."""
    twins = twins_of("llama")
    budget = slabs * 128 * _token_bytes(twins)
    driver = Driver(twins.loaded(budget), before_step=_check_budget)
    check(twins, driver.run(arrivals))


@BOTH
def test_who_had_to_wait_for_memory_goes_on_where_it_was(
    twins_of: Callable[[str], Twins],
) -> None:
    twins = twins_of("llama")
    waited: set[Any] = set()

    def look(scheduler: Scheduler) -> None:
        _check_budget(scheduler)
        waited.update(each for each in scheduler._waiting if len(each.tokens) > len(each.prompt))

    driver = Driver(twins.loaded(6 * 128 * _token_bytes(twins)), before_step=look)
    check(twins, driver.run([Arrival(number) for number in (0, 4, 7, 8, 10, 0, 4, 8)]))
    assert len(waited) > 1


@BOTH
def test_rows_that_are_free_are_no_reason_to_fail(twins_of: Callable[[str], Twins]) -> None:
    """Each would fit by itself; the row that one left to wait is room for the other."""
    twins = twins_of("llama")
    driver = Driver(twins.loaded(6 * 128 * _token_bytes(twins)), before_step=_check_budget)
    check(twins, driver.run([Arrival(2), Arrival(9, 8)]))


def _token_bytes(twins: Twins) -> int:
    config = twins.pristine.config
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4


def _check_budget(scheduler: Scheduler) -> None:
    cache = scheduler._cache
    assert cache.budget is not None
    assert cache.bytes + scheduler._prefixes.bytes <= cache.budget


@BOTH
def test_texts_are_the_same_alone_and_among_others(twins_of: Callable[[str], Twins]) -> None:
    """Seeds of several sequences and of one, with and without top_k."""
    twins = twins_of("llama")
    together = Driver(twins.loaded()).run(EVERYBODY)
    for number in (8, 9, 10):
        (alone,) = Driver(twins.loaded()).run([Arrival(number)])
        assert [_result(alone).texts] * len(_where(together, number)) == [
            _result(asking).texts for asking in _where(together, number)
        ]


def _where(together: list[Asking], number: int) -> list[Asking]:
    return [
        asking
        for asking, arrival in zip(together, EVERYBODY, strict=True)
        if arrival.number == number
    ]


@_both([*OPTIONS, *VARIANTS])
def test_a_model_that_was_made_faster_still_generates_the_same(
    name: str, twins_of: Callable[[str], Twins]
) -> None:
    twins = twins_of(name)
    loaded = twins.in_torch()
    make_runner(loaded)
    model: Any = loaded.model
    inputs = torch.tensor([loaded.tokenizer("Once upon a time")["input_ids"]])
    options = {"attention_mask": torch.ones_like(inputs), "max_new_tokens": 40}
    for each in ({"num_beams": 3, "num_return_sequences": 2}, {"num_beams": 1}):
        ours = model.generate(inputs, do_sample=False, **options, **each)
        theirs = twins.pristine.generate(inputs, do_sample=False, **options, **each)
        assert ours.tolist() == theirs.tolist()


@BOTH
def test_a_pass_gives_the_scores_of_the_model(twins_of: Callable[[str], Twins]) -> None:
    """Beside the tokens, which forgive: scores as near as rounding."""
    for name in OPTIONS if kernels() else sorted({*OPTIONS} - ONLY_IN_C):
        twins = twins_of(name)
        loaded = twins.loaded()
        model = make_runner(loaded)
        tokens = loaded.tokenizer(STORY)["input_ids"]
        slot = model.cache.open(len(tokens))
        with torch.inference_mode():
            found = []
            for start in range(0, len(tokens), 50):
                part = tokens[start : start + 50]
                found.append(model.forward(part, range(len(part)), (), [(slot, len(part))]))
                slot.length += len(part)
            wanted = twins.pristine(torch.tensor([tokens])).logits[0]
        error = (torch.cat(list(map(torch.as_tensor, found))) - wanted).abs().max() / wanted.std()
        assert error < 1e-4, name


def in_torch(model: Any) -> Any:
    """A runner on torch."""
    loaded: Any = SimpleNamespace(model=model, device="cpu", cache_budget=None)
    return torch_runner(loaded)


@pytest.mark.parametrize(
    ("architecture", "options", "reason"),
    [
        ("mamba", {}, "something else than keys and values"),
        ("lfm2_moe", {}, "a state besides keys and values"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "depend on the longest text of a batch",
        ),
    ],
)
def test_what_cannot_run_in_steps_is_known(
    architecture: str, options: dict[str, Any], reason: str
) -> None:
    """And is as it was."""
    with pytest.raises(Unsupported, match=reason) as caught:
        in_torch(tiny_models.make(architecture, **options))
    assert not caught.value.is_changed


def test_all_that_has_kernels_is_tried() -> None:
    assert set(FAMILIES) <= set(OPTIONS)
    for name, (architecture, options) in {**OPTIONS, **VARIANTS}.items():
        model = tiny_models.make(architecture, **options)
        assert layers.are_known(model) == (architecture in LLAMAS), name


@BOTH
def test_what_is_not_finite_stays_with_the_text_where_it_came_up(
    twins_of: Callable[[str], Twins],
) -> None:
    """Others move into the row that it leaves, and it reached further than they do."""
    twins = twins_of("llama")
    long: Ask = (STORY[:110], {**GREEDY, "max_output_length": 20})
    beside: list[Ask] = [(prompt, GREEDY) for prompt in ("fox", "wood", "a friend", "there")]
    theirs = {token for each in beside for token in _all_tokens(twins, each)}
    token = next(each for each in twins.wanted(long).tokens[0][4:] if each not in theirs)

    loaded = twins.in_torch()
    model: Any = loaded.model
    with torch.no_grad():
        model.get_input_embeddings().weight[token] = torch.nan
    driver = Driver(loaded)
    first = [driver.add(each) for each in (long, *beside[:2])]
    while first[0].outcome is None:
        driver.step()
    assert "not finite" in str(first[0].outcome)
    assert len(first[0].group.sequences[0].tokens) > 30  # type: ignore[union-attr]
    later = [driver.add(each) for each in beside[2:]]
    check(twins, [*driver.finish(first[1:]), *driver.finish(later)])


def _all_tokens(twins: Twins, asked: Ask) -> list[int]:
    return [*twins.tokens(asked[0]), *twins.wanted(asked).tokens[0]]


# Behind the interface


@pytest.fixture
def cache() -> Iterator[ModelCache]:
    cache = ModelCache()
    yield cache
    cache.close()


@BOTH
def test_beams_and_others_at_the_same_time(
    twins_of: Callable[[str], Twins], cache: ModelCache
) -> None:
    """Texts of others go on between the tokens of a beam search, also of those who come then."""
    twins = twins_of("llama")
    events: list[str] = []
    searching = threading.Event()
    with done(cache.acquire(ModelSpec(str(twins.folder)))) as lease:
        beams: Ask = ("fox", {**GREEDY, "num_beams": 3, "max_output_length": 60})
        before = [_submit(lease, ASKED[number], events, f"before {number}") for number in (0, 8)]
        search = _submit(lease, beams, events, "search", on_start=searching.set)
        assert searching.wait(60)
        during = [_submit(lease, ASKED[number], events, f"during {number}") for number in (6, 3)]
        for future, asked in zip(
            [*before, search, *during],
            [ASKED[0], ASKED[8], beams, ASKED[6], ASKED[3]],
            strict=True,
        ):
            assert done(future).texts == twins.wanted(asked).texts
    end = events.index("search ended")
    began = events.index("search began")
    assert events[began:end].count("before 0") > 20
    assert "during 3 ended" in events[:end]


def _submit(
    lease: Lease,
    asked: Ask,
    events: list[str],
    name: str,
    on_start: Callable[[], None] = lambda: None,
) -> Any:
    prompt, parameters = asked

    def on_text(sequence: int, offset: int, text: str) -> None:
        if offset == 0:
            events.append(f"{name} began")
            on_start()
        else:
            events.append(name)

    generation = lease.generate(prompt, GenerationParameters(**parameters), on_text)
    generation.future.add_done_callback(lambda _: events.append(f"{name} ended"))
    return generation.future


@pytest.mark.parametrize("architecture", ["t5", "blenderbot", "mamba"])
def test_models_without_a_scheduler_give_the_same_among_others(
    architecture: str, lease_of: Callable[[str], Lease]
) -> None:
    lease = lease_of(architecture)
    asked = [
        GenerationParameters(do_sample=False, max_output_length=30),
        GenerationParameters(seed=4, max_output_length=30, num_return_sequences=2),
        GenerationParameters(do_sample=False, num_beams=2, max_output_length=20),
    ]
    alone = [done(lease.generate("Once upon", each).future).texts for each in asked]
    futures = [lease.generate("Once upon", each).future for each in asked * 2]
    assert [done(future).texts for future in futures] == alone * 2


@BOTH
def test_reused_beginnings_change_nothing(
    twins_of: Callable[[str], Twins], cache: ModelCache
) -> None:
    twins = twins_of("llama")
    with done(cache.acquire(ModelSpec(str(twins.folder)))) as lease:
        for number in (1, 9, 2, 3, 1):
            prompt, parameters = ASKED[number]
            result = ask(lease, prompt, **parameters)
            assert result.texts == twins.wanted(ASKED[number]).texts
            assert 0 <= result.usage["reused"] < result.usage["prompt"]
        assert result.usage["reused"] == result.usage["prompt"] - 1
