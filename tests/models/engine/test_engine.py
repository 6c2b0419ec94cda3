"""An engine's requests: who starts when, what they are told, how they end, and what fails alone."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from standins import tiny_models

from modelcompose_jupyter.document.parameters import GenerationParameters
from modelcompose_jupyter.errors import InputError, ModelError
from modelcompose_jupyter.models import Generation, GenerationResult, ModelSpec, memory
from modelcompose_jupyter.models.engine import engine, prefill_chunk
from modelcompose_jupyter.models.engine.engine import Engine
from modelcompose_jupyter.models.engine.kv_cache import KVCache, Slab
from modelcompose_jupyter.models.engine.native_runner import NativeRunner
from modelcompose_jupyter.models.engine.sampling_params import SamplingParams
from modelcompose_jupyter.models.engine.scheduler import Scheduler
from modelcompose_jupyter.models.request_queue import QueueUpdates
from modelcompose_jupyter.models.tokenization.detokenizer import Decoder
from modelcompose_jupyter.models.weights import loader, source, torch_loader
from modelcompose_jupyter.models.weights.loaded_model import LoadedModel

from ..conftest import done, eventually

FolderOf = Callable[[str], Path]
Start = Callable[..., Engine]
LONG = "Numbers: " + " ".join(str(number) for number in range(100, 118))
"""About 70 tokens."""
WAIT = 60


def load(
    folder: Path, change: Callable[[Any], None] | None = None, budget: int | None = None
) -> LoadedModel:
    spec = ModelSpec(str(folder), cache_budget=budget)
    how: Any = loader if change is None else torch_loader
    plan = how.plan(spec, source.resolve(spec, _ignore), _ignore)
    loaded: LoadedModel = how.load(plan, _ignore)
    if change is not None:
        with torch.no_grad():
            change(loaded.model)
    return loaded


def _ignore(_: object) -> None:
    pass


@pytest.fixture
def start(folder_of: FolderOf) -> Iterator[Start]:
    """Starts engines of a tiny model; they are closed at the end."""
    engines: list[Engine] = []

    def start(
        folder: Path | None = None,
        change: Callable[[Any], None] | None = None,
        budget: int | None = None,
    ) -> Engine:
        ready = threading.Event()
        found: list[BaseException] = []

        def on_loaded(outcome: LoadedModel | BaseException) -> None:
            if isinstance(outcome, BaseException):
                found.append(outcome)
            ready.set()

        chosen = folder or folder_of("llama")
        made = Engine("model test", lambda: load(chosen, change, budget), on_loaded)
        engines.append(made)
        made.start()
        assert ready.wait(WAIT)
        assert not found, found
        return made

    yield start
    for each in engines:
        assert each.close(WAIT)


def submit(
    engine: Engine,
    prompt: str = "Once upon a",
    on_text: Any = None,
    on_queued: Any = None,
    owner: Any = (),
    **parameters: Any,
) -> Generation:
    """``exactly`` is how many tokens it gets."""
    exactly = parameters.pop("exactly", 5)
    lengths = {"min_output_length": exactly, "max_output_length": exactly}
    asked = GenerationParameters(**{"seed": 1, **lengths, **parameters})
    return engine.submit(prompt, asked, on_text, on_queued, owner=owner)


def result(generation: Generation) -> GenerationResult:
    outcome = done(generation.future)
    assert isinstance(outcome, GenerationResult)
    return outcome


def failure(generation: Generation) -> ModelError:
    with pytest.raises(ModelError) as caught:
        done(generation.future)
    return caught.value


class Held:
    """A request that keeps the engine's thread, in on_text, until it is let go."""

    def __init__(self, engine: Engine) -> None:
        self._reached, self._go_on = threading.Event(), threading.Event()
        self.generation = submit(engine, "held", self._on_text, exactly=2)
        assert self._reached.wait(WAIT)

    def _on_text(self, *_: object) -> None:
        self._reached.set()
        assert self._go_on.wait(WAIT)

    def let_go(self) -> None:
        self._go_on.set()


class Script:
    """What is to happen after so many tokens of a request, on the engine's thread."""

    def __init__(self, **at: Callable[[], None]) -> None:
        self._at = {int(name.removeprefix("at_")): action for name, action in at.items()}
        self.tokens = 0

    def __call__(self, sequence: int, offset: int, text: str) -> None:
        if offset:  # else it is the prompt
            self.tokens += 1
            self._at.pop(self.tokens, lambda: None)()


# Who starts when


def test_a_queue_that_is_full_refuses(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MOST_QUEUED", 3)
    model = start()
    held = Held(model)
    queued = [submit(model) for _ in range(3)]
    with pytest.raises(ModelError, match="3 requests wait") as caught:
        submit(model)
    assert caught.value.code == "busy"
    queued.pop().cancel()
    queued.append(submit(model))
    held.let_go()
    assert [result(each).finish_reasons for each in queued] == [["length"]] * 3


def test_owners_take_turns(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MOST_SEQUENCES", 1)
    model = start()
    held = Held(model)
    order: list[str] = []
    asked = ["a1", "a2", "a3", "b1", "b2", "c1"]
    made = [
        submit(model, name, lambda _, offset, text: offset or order.append(text), owner=(name[0],))
        for name in asked
    ]
    held.let_go()
    for each in made:
        result(each)
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_without_an_owner_each_is_its_own(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MOST_SEQUENCES", 1)
    model = start()
    held = Held(model)
    order: list[str] = []
    made = [
        submit(model, name, lambda _, offset, text: offset or order.append(text))
        for name in ["first", "second", "third"]
    ]
    held.let_go()
    for each in made:
        result(each)
    assert order == ["first", "second", "third"]


def test_places_fall_and_end_at_the_start(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MOST_SEQUENCES", 1)
    model = start()
    held = Held(model)
    told: list[list[int]] = [[] for _ in range(5)]
    made = [
        submit(model, on_queued=places.append, owner=("one" if number < 3 else "other",))
        for number, places in enumerate(told)
    ]
    assert [places[0] for places in told] == [1, 2, 3, 2, 4]
    made[0].cancel()
    assert result(made[0]).finish_reasons == ["cancelled"]
    held.let_go()
    for each in made:
        result(each)
    for places in told[1:]:
        assert places == sorted(set(places), reverse=True)
        assert places[-1] == 0
    assert told[0] == [1]


def test_of_very_many_who_wait_each_is_told_a_few_times(start: Start) -> None:
    model = start()
    held = Held(model)
    told: list[list[int]] = [[] for _ in range(800)]
    made = [submit(model, on_queued=places.append, exactly=1) for places in told]
    held.let_go()
    for each in made:
        result(each)
    waited = [places for places in told if places]
    assert len(waited) >= 800 - QueueUpdates.MOST_TOLD  # the others may have run before
    assert {places[-1] for places in waited} == {0}
    assert sum(map(len, waited)) < 800 * 20  # and not a number for each request before


def test_who_need_not_wait_is_told_nothing(start: Start) -> None:
    model = start()
    places: list[int] = []
    result(submit(model, on_queued=places.append))
    assert places in ([], [0])


def test_counts(start: Start) -> None:
    model = start()
    held = Held(model)
    made = [submit(model) for _ in range(2)]
    assert (model.running, model.queued) == (1, 2)
    held.let_go()
    for each in [held.generation, *made]:
        result(each)
    assert (model.running, model.queued) == (0, 0)


# Cancelling


def test_cancel_while_queued_ends_at_once(start: Start) -> None:
    model = start()
    held = Held(model)
    generation = submit(model, "fox", num_return_sequences=2)
    generation.cancel()
    assert result(generation).texts == ["fox", "fox"]
    assert result(generation).finish_reasons == ["cancelled", "cancelled"]
    held.let_go()
    assert result(held.generation).finish_reasons == ["length"]


def test_cancel_while_some_sequences_have_not_begun(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "MOST_SEQUENCES", 2)
    model = start()
    script = Script(at_6=lambda: generation.cancel())
    generation = submit(model, "fox", script, num_return_sequences=4, exactly=80)
    found = result(generation)
    assert found.finish_reasons == ["cancelled"] * 4
    assert found.texts[2:] == ["fox", "fox"]
    assert all(len(text) > len("fox") for text in found.texts[:2])
    assert result(submit(model)).finish_reasons == ["length"]


def test_cancel_while_the_prompt_is_read(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefill_chunk, "_MOST", 16)
    model = start()
    made: list[Generation] = []
    script = Script(
        at_3=lambda: made.append(submit(model, LONG)),
        at_5=lambda: made[0].cancel(),
    )
    first = submit(model, on_text=script, exactly=20)
    assert result(first).usage["generated"] == 20
    found = result(made[0])
    assert found.finish_reasons == ["cancelled"]
    assert found.usage["generated"] == 0
    assert found.texts == [LONG]
    again = result(submit(model, LONG))
    assert 16 <= again.usage["reused"] < again.usage["prompt"] - 1


def test_cancel_while_it_is_written(start: Start) -> None:
    model = start()
    script = Script(at_4=lambda: generation.cancel())
    other = submit(model, "fox", exactly=40)
    generation = submit(model, on_text=script, exactly=40)
    found = result(generation)
    assert found.finish_reasons == ["cancelled"]
    assert found.usage["generated"] < 12
    assert result(other).usage["generated"] == 40


def test_cancel_while_generate_runs(start: Start) -> None:
    """A beam search is cancelled from a text that goes on beside it, and the other way round."""
    model = start()
    made: list[Generation] = []
    script = Script(
        at_2=lambda: made.append(submit(model, num_beams=2, exactly=100)),
        at_8=lambda: made.append(submit(model, "beside it", exactly=100)),
        at_12=lambda: made[1].cancel(),
        at_16=lambda: made[0].cancel(),
    )
    first = submit(model, "fox", script, exactly=40)
    assert result(first).usage["generated"] == 40
    assert result(made[0]).finish_reasons == ["cancelled"]
    assert 0 < result(made[0]).usage["generated"] < 40
    assert result(made[1]).finish_reasons == ["cancelled"]


def test_cancel_what_waits_for_its_turn(start: Start) -> None:
    """Of two beam searches the second waits, and ends at once."""
    model = start()
    made: list[Generation] = []
    ended: list[bool] = []
    script = Script(
        at_2=lambda: made.extend(submit(model, num_beams=2, exactly=length) for length in (60, 61)),
        at_8=lambda: made[1].cancel(),
        at_14=lambda: ended.extend(each.future.done() for each in made),
    )
    first = submit(model, "fox", script, exactly=40)
    assert result(first).usage["generated"] == 40
    assert result(made[0]).finish_reasons == ["length"]
    assert result(made[1]).finish_reasons == ["cancelled"]
    assert ended == [False, True]


def test_a_second_search_keeps_nobody_waiting(start: Start) -> None:
    """Others begin although two searches are there, of which one waits for the other."""
    model = start()
    made: list[Generation] = []
    ended: list[bool] = []
    script = Script(
        at_2=lambda: made.extend(submit(model, num_beams=2, exactly=60) for _ in range(2)),
        at_4=lambda: made.append(submit(model, "wood", exactly=5)),
        at_20=lambda: ended.extend(each.future.done() for each in made),
    )
    first = submit(model, "fox", script, exactly=40)
    result(first)
    assert ended == [False, False, True]
    assert [result(each).finish_reasons for each in made] == [["length"]] * 3


# Ends


def test_close_serves_what_is_queued(start: Start) -> None:
    model = start()
    held = Held(model)
    made = [submit(model), submit(model, num_beams=2), submit(model, "fox")]
    closing = threading.Thread(target=model.close)
    closing.start()
    eventually(lambda: model._closed)
    with pytest.raises(ModelError) as caught:
        submit(model)
    assert caught.value.code == "model_unloaded"
    held.let_go()
    closing.join(WAIT)
    assert [each.future.done() for each in made] == [True] * 3
    assert [result(each).finish_reasons for each in made] == [["length"]] * 3


def test_nothing_is_left_after_close(start: Start) -> None:
    kept: list[weakref.ref[Any]] = []
    others = {id(each) for each in gc.get_objects() if isinstance(each, KVCache)}
    model = start(change=lambda loaded: kept.append(weakref.ref(loaded)))
    generations = [submit(model, LONG), submit(model, num_beams=2)]
    with pytest.raises(InputError):
        done(submit(model, "fox " * 200).future)
    results = [result(each) for each in generations]
    every = [each for each in gc.get_objects() if isinstance(each, KVCache)]
    caches = [each for each in every if id(each) not in others]
    kept += [weakref.ref(each) for each in caches]
    assert len(kept) > 1
    del every, caches
    assert model.close(WAIT)
    gc.collect()
    assert [each() for each in kept if each() is not None] == []
    assert len(results) == 2


def test_a_load_that_fails_is_told(tmp_path: Path) -> None:
    outcomes: list[Any] = []
    model = Engine("model test", lambda: load(tmp_path / "nothing"), outcomes.append)
    model.start()
    assert model.close(WAIT)
    assert [type(each) for each in outcomes] == [ModelError]
    assert outcomes[0].__traceback__ is None


# What fails alone


def some_texts(model: Engine) -> list[list[str]]:
    made = [submit(model, prompt, exactly=60) for prompt in ("fox", "wood", "a friend")]
    return [result(each).texts for each in made]


def beside(model: Engine, fails: Callable[[], Generation]) -> list[list[str]]:
    """The same texts while another request fails, which begins after the first few tokens."""
    made: list[Generation] = []
    script = Script(at_5=lambda: made.append(fails()))
    made.append(submit(model, "fox", script, exactly=60))
    made += [submit(model, prompt, exactly=60) for prompt in ("wood", "a friend")]
    texts = [result(made[0]).texts]
    failed, *others = sorted(made[1:], key=lambda each: isinstance(_outcome(each), ModelError),
                             reverse=True)  # fmt: skip
    failure(failed)
    return [*texts, *(result(each).texts for each in others)]


def _outcome(generation: Generation) -> Any:
    return generation.future.exception(WAIT) or generation.future.result()


def test_an_error_in_a_step_fails_one_alone(start: Start, tmp_path: Path) -> None:
    """A token that the embedding has no row for."""
    tokenizer = tiny_models.tokenizer()
    folder = tiny_models.save(tmp_path / "m")
    tokenizer.add_tokens(["unheard"])
    tokenizer.save_pretrained(folder)
    model = start(folder)
    alone = some_texts(model)
    made: list[Generation] = []

    def fails() -> Generation:
        made.append(submit(model, "an unheard word"))
        return made[0]

    assert beside(model, fails) == alone
    assert failure(made[0]).code == "run_failed"
    assert some_texts(model) == alone


def test_memory_that_runs_out_in_a_step_fails_one_alone(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = start()
    alone = some_texts(model)
    (token,) = tiny_models.tokenizer()("Q")["input_ids"]
    assert not any("Q" in text for (text,) in alone)
    forward = NativeRunner.forward

    def run(self: NativeRunner, tokens: list[int], *rest: Any) -> torch.Tensor:
        if token in tokens:
            torch.empty(2**62, dtype=torch.uint8)
        return forward(self, tokens, *rest)

    monkeypatch.setattr(NativeRunner, "forward", run)
    made: list[Generation] = []

    def fails() -> Generation:
        made.append(submit(model, "Q"))
        return made[0]

    assert beside(model, fails) == alone
    assert failure(made[0]).code == "out_of_memory"
    assert some_texts(model) == alone


def test_scores_that_are_not_finite_fail_one_alone(start: Start) -> None:
    (token,) = tiny_models.tokenizer()("Q")["input_ids"]

    def spoil(model: Any) -> None:
        model.get_input_embeddings().weight[token] = torch.nan

    model = start(change=spoil)
    alone = some_texts(model)
    made: list[Generation] = []

    def fails() -> Generation:
        made.append(submit(model, "fox Q"))
        return made[0]

    assert beside(model, fails) == alone
    assert "not finite" in str(failure(made[0]))
    assert some_texts(model) == alone


def test_memory_for_keys_and_values_that_runs_out_fails_one_alone(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = start()
    alone = some_texts(model)
    allocate = Slab.allocate

    def run(self: Slab, rows: int) -> None:
        if self.capacity > 64:
            torch.empty(2**62, dtype=torch.uint8)
        allocate(self, rows)

    monkeypatch.setattr(Slab, "allocate", run)
    made: list[Generation] = []

    def fails(prompt: str, exactly: int) -> Generation:
        made.append(submit(model, prompt, exactly=exactly))
        return made[-1]

    assert beside(model, lambda: fails(LONG, 5)) == alone  # has no room to begin with
    assert beside(model, lambda: fails("fox", 80)) == alone  # has none to go on with
    assert [failure(each).code for each in made] == ["out_of_memory"] * 2
    assert some_texts(model) == alone


def test_a_text_that_cannot_be_decoded_fails_alone(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokenizers raise for tokens that only pad the vocabulary of the model."""
    model = start()
    alone = some_texts(model)
    answer = result(submit(model, LONG, exactly=20)).texts[0][len(LONG) :]
    marker = next(letter for letter in answer[1:] if letter not in f"{LONG}{alone}")
    decode = Decoder.__call__

    def run(self: Decoder, ids: list[int]) -> str:
        text = decode(self, ids)
        if marker in text:
            raise IndexError("piece id is out of range")
        return text

    monkeypatch.setattr(Decoder, "__call__", run)
    made: list[Generation] = []

    def fails() -> Generation:
        made.append(submit(model, LONG, exactly=20))
        return made[0]

    assert beside(model, fails) == alone
    assert failure(made[0]).code == "run_failed"


def test_a_text_for_which_nothing_is_computed_fails_alone(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the cause, the model's thread does not compute without an end."""
    model = start()
    alone = some_texts(model)
    resolve = engine.resolve

    def settled(loaded: LoadedModel, prompt: Any, *rest: Any) -> SamplingParams:
        found = resolve(loaded, prompt, *rest)
        return replace(found, tokens=[]) if prompt == "nothing" else found

    monkeypatch.setattr(engine, "resolve", settled)
    made: list[Generation] = []

    def fails() -> Generation:
        made.append(submit(model, "nothing"))
        return made[0]

    assert beside(model, fails) == alone
    assert failure(made[0]).code == "run_failed"
    assert failure(submit(model, "nothing")).code == "run_failed"
    eventually(lambda: model.running == model.queued == 0)


def test_a_text_that_is_too_large_fails_none_that_waits(start: Start, tmp_path: Path) -> None:
    """It makes the others wait before it fails itself."""
    folder = tiny_models.save(tmp_path / "m", **tiny_models.with_context("llama", 512))
    for words in (20, 100):
        model = start(folder, budget=80 * 1024)
        large = submit(model, "fox " * words, exactly=300)
        others = [submit(model, "dog " * 3, exactly=120) for _ in range(3)]
        assert failure(large).code == "out_of_memory"
        assert [result(each).finish_reasons for each in others] == [["length"]] * 3


def test_a_request_that_never_ran_shows_what_it_gives(start: Start) -> None:
    model = start()
    shown: list[tuple[int, int, str]] = []
    first = submit(model, LONG, exactly=50, num_beams=2, do_sample=False)
    waits = submit(model, "fox", lambda *told: shown.append(told), num_beams=2, do_sample=False)
    waits.cancel()
    first.cancel()
    assert result(waits).texts == [text for _, _, text in shown] == ["fox"]
    result(first)


def test_a_step_that_brings_nobody_further_fails_all(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = start()
    monkeypatch.setattr(Scheduler, "_compose", lambda self, drafts: ([], []))
    monkeypatch.setattr(Scheduler, "_advance", lambda self, slabs, parts: None)
    for prompt in ("fox", LONG):
        assert failure(submit(model, prompt)).code == "run_failed"
    monkeypatch.setattr(Scheduler, "_admit", lambda self: None)
    assert failure(submit(model, "fox")).code == "run_failed"


def test_options_of_the_model_that_only_generate_knows_are_heeded(
    start: Start, tmp_path: Path
) -> None:
    folder = tiny_models.save(tmp_path / "m", generation={"no_repeat_ngram_size": 1})
    tokens = torch.tensor([tiny_models.tokenizer()("fox")["input_ids"]])
    whole = load(folder).model.generate(
        tokens, attention_mask=torch.ones_like(tokens), do_sample=False, max_new_tokens=60
    )
    text = tiny_models.text_of(tiny_models.tokenizer(), whole[0].tolist())
    asked = {"do_sample": False, "min_output_length": None, "max_output_length": 60}
    assert result(submit(start(folder), "fox", **asked)).texts == [text]
    assert result(submit(start(), "fox", **asked)).texts != [text]


def test_a_request_that_is_refused_disturbs_nobody(start: Start) -> None:
    model = start()
    alone = some_texts(model)
    made: list[Generation] = []

    def fails() -> None:
        made.append(submit(model, "fox " * 200))

    script = Script(at_5=fails)
    first = submit(model, "fox", script, exactly=60)
    assert result(first).texts == alone[0]
    with pytest.raises(InputError, match="context"):
        done(made[0].future)


# Long prompts


def test_a_long_prompt_is_read_in_parts_while_others_go_on(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefill_chunk, "_MOST", 16)
    model = start()
    events: list[str] = []
    made: list[Generation] = []

    def long(sequence: int, offset: int, text: str) -> None:
        events.append("long" if offset else "prompt")

    script = Script(at_4=lambda: made.append(submit(model, LONG, long)))

    def on_text(sequence: int, offset: int, text: str) -> None:
        events.append("text")
        script(sequence, offset, text)

    first = submit(model, on_text=on_text, exactly=60)
    result(first)
    found = result(made[0])
    begun, told = events.index("prompt"), events.index("long")
    parts = (found.usage["prompt"] - found.usage["reused"]) // 16
    assert parts >= 3
    assert events[begun:told].count("text") >= parts - 1
    # Characters of several bytes come with their last token, so it can be fewer than steps.


# What is reused


def test_a_slider_that_moved_reuses_the_prompt(start: Start) -> None:
    model = start()
    first = result(submit(model, LONG, temperature=0.5))
    second = result(submit(model, LONG, temperature=0.6))
    assert first.usage["reused"] == 0
    assert second.usage["reused"] == second.usage["prompt"] - 1


def test_a_cancelled_text_is_reused(start: Start) -> None:
    model = start()
    script = Script(at_3=lambda: generation.cancel())
    generation = submit(model, LONG, script, exactly=60)
    assert result(generation).finish_reasons == ["cancelled"]
    again = result(submit(model, LONG))
    assert again.usage["reused"] == again.usage["prompt"] - 1


def test_the_sequences_of_a_request_share_its_prompt(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prompt's tokens go through the model once."""
    model = start()
    counted: list[int] = []
    forward = NativeRunner.forward

    def run(self: NativeRunner, tokens: list[int], *rest: Any) -> torch.Tensor:
        counted.append(len(tokens))
        return forward(self, tokens, *rest)

    monkeypatch.setattr(NativeRunner, "forward", run)
    found = result(submit(model, LONG, num_return_sequences=4, exactly=3))
    assert found.usage["reused"] == 0
    assert sum(counted) <= found.usage["prompt"] + 3 + 4 * 3


def test_another_engine_knows_nothing_of_it(start: Start) -> None:
    first = start()
    result(submit(first, LONG))
    assert first.close(WAIT)
    assert result(submit(start(), LONG)).usage["reused"] == 0


def test_a_step_that_fails_as_a_whole_fails_its_texts_and_not_the_thread(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start()
    compose, calls = Scheduler._compose, []

    def failing(scheduler: Scheduler, drafts: Any) -> Any:
        calls.append(drafts)
        if len(calls) == 3:
            raise KeyboardInterrupt("not an Exception")
        return compose(scheduler, drafts)

    monkeypatch.setattr(Scheduler, "_compose", failing)
    assert "KeyboardInterrupt" in failure(submit(engine, exactly=9)).message
    assert result(submit(engine, exactly=3)).usage["generated"] == 3


def test_beams_beyond_the_memory_are_refused_before_it_is_full(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, free = start(), [10**12]
    monkeypatch.setattr(memory, "available", lambda device: free[0])
    told: list[str] = []

    def on_text(sequence: int, offset: int, text: str) -> None:
        told.append(text)
        free[0] = 100_000

    beams = {"num_beams": 200, "num_return_sequences": 2, "do_sample": False}
    fails = failure(submit(model, LONG, on_text, **beams, exactly=40))  # full on the way
    assert (fails.code, len(told)) == ("out_of_memory", 2)
    fails = failure(submit(model, LONG, on_text, **beams))
    assert fails.code == "out_of_memory"
    assert "num_beams" in str(fails)
    free[0] = 10**12
    assert result(submit(model, **beams)).usage["generated"] == 10
