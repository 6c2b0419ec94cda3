"""Streaming, stop sequences and cancelling, between one token and the next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from standins import tiny_models
from standins.tokenizers_of_kinds import KINDS, tokenizer_of

from modelcompose_jupyter.document.parameters import GenerationParameters
from modelcompose_jupyter.models import Lease, ModelCache, ModelSpec
from modelcompose_jupyter.models.engine.sampling_params import SamplingParams
from modelcompose_jupyter.models.engine.stopping_criteria import StoppingCriteria
from modelcompose_jupyter.models.engine.stream import Stream
from modelcompose_jupyter.models.request_queue import QueuePosition
from modelcompose_jupyter.models.tokenization.detokenizer import Detokenizer, find_stop, stop_begun

from ..conftest import Deltas, ask, done

LeaseOf = Callable[[str], Lease]
TOKENIZER = tiny_models.tokenizer()


@pytest.fixture
def lease(lease_of: LeaseOf) -> Lease:
    return lease_of("llama")


def decode(ids: list[int]) -> str:
    return str(TOKENIZER.decode(ids, skip_special_tokens=True))


@pytest.mark.parametrize("architecture", ["llama", "codegen", "blenderbot", "t5"])
def test_deltas_add_up_to_the_text(architecture: str, lease_of: LeaseOf) -> None:
    for seed in range(5):
        streamed = Deltas()
        result = ask(
            lease_of(architecture), "작은 🦊", seed=seed, temperature=2.0, top_k=0, top_p=1.0,
            max_output_length=40, on_text=streamed,
        )  # fmt: skip
        assert streamed.texts[0] == result.texts[0]


@pytest.mark.parametrize("kind", KINDS)
def test_deltas_add_up_with_tokenizers_of_every_kind(
    kind: str, cache: ModelCache, tmp_path: Path
) -> None:
    tokenizer = tokenizer_of(kind)
    tiny_models.save(tmp_path, vocab_size=len(tokenizer))
    tokenizer.save_pretrained(tmp_path)
    with done(cache.acquire(ModelSpec(str(tmp_path)))) as lease:
        for seed in range(6):
            streamed = Deltas()
            result = ask(
                lease, "once 옛날", seed=seed, temperature=2.0, top_k=0, top_p=1.0,
                max_output_length=10 + seed, on_text=streamed,
            )  # fmt: skip
            assert streamed.texts[0] == result.texts[0] != "once 옛날"


@pytest.mark.parametrize("kind", ["byte-level", "byte-fallback"])
def test_a_prompt_that_is_cut_keeps_whole_characters_alone(
    kind: str, cache: ModelCache, tmp_path: Path
) -> None:
    tokenizer, prompt = tokenizer_of(kind), "a 옛날에 🦊가"
    tiny_models.save(tmp_path, vocab_size=len(tokenizer))
    tokenizer.save_pretrained(tmp_path)
    with done(cache.acquire(ModelSpec(str(tmp_path)))) as lease:
        for limit in range(1, len(tokenizer(prompt)["input_ids"])):
            given = {"max_input_length": limit, "max_output_length": 3, "do_sample": False}
            whole = ask(lease, prompt, **given)
            alone = ask(lease, prompt, **given, include_prompt=False)
            kept = whole.texts[0].removesuffix(alone.texts[0])
            assert prompt.startswith(kept) and whole.usage["prompt"] <= limit
            if kept:  # an empty one begins with a token of its own
                assert (
                    alone.texts
                    == ask(
                        lease, kept, do_sample=False, max_output_length=3, include_prompt=False
                    ).texts
                )


def test_the_prompt_comes_first(lease: Lease) -> None:
    streamed = Deltas()
    ask(lease, "Once", max_output_length=3, on_text=streamed)
    assert streamed.calls[0] == (0, 0, "Once")


def test_a_listener_that_fails_fails_nothing(lease: Lease) -> None:
    def on_text(sequence: int, offset: int, text: str) -> None:
        raise RuntimeError("page is gone")

    result = ask(lease, max_output_length=5, seed=1, on_text=on_text)
    assert result.texts == ask(lease, max_output_length=5, seed=1).texts
    assert "page is gone" in result.warnings[-1]


def deltas_of(prompt: list[int], tokens: list[int]) -> tuple[list[str], str]:
    """The text of each token, and the rest at the end."""
    detokenizer = Detokenizer(decode, prompt, [])
    return [detokenizer.push(token) for token in tokens], detokenizer.finish()


@pytest.mark.parametrize("text", ["옛날 옛적에 작은 여우가", "a 👩‍🔬 and 🎉🦊", "é ü ñ, naïve"])
def test_characters_are_shown_whole(text: str) -> None:
    deltas, rest = deltas_of([], TOKENIZER(text)["input_ids"])
    assert "".join(deltas) == text
    assert rest == ""


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40), st.text(max_size=20))
def test_any_text_comes_out_as_it_went_in(prompt: str, text: str) -> None:
    before, after = TOKENIZER(prompt)["input_ids"], TOKENIZER(text)["input_ids"]
    deltas, rest = deltas_of(before, after)
    assert "".join([*deltas, rest]) == decode([*before, *after])[len(decode(before)) :]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(TOKENIZER) - 1), max_size=40))
def test_any_tokens_end_as_the_tokenizer_decodes_them(tokens: list[int]) -> None:
    deltas, rest = deltas_of([], tokens)
    assert "".join([*deltas, rest]) == decode(tokens)


@settings(max_examples=60, deadline=None)
@given(st.text("abc ", min_size=1, max_size=30), st.lists(st.text("abc ", min_size=1, max_size=4)))
def test_nothing_of_a_stop_sequence_is_ever_shown(text: str, stops: list[str]) -> None:
    ends = (end for end in range(len(text)) if find_stop(text[: end + 1], stops) is not None)
    end = next(ends, None)
    wanted = text if end is None else text[: find_stop(text[: end + 1], stops)]
    detokenizer = Detokenizer(lambda ids: "".join(map(chr, ids)), [], stops)
    shown = ""
    for char in text:
        shown += detokenizer.push(ord(char))
        assert wanted.startswith(shown)
        if detokenizer.stopped:
            break
    assert shown + detokenizer.finish() == wanted
    assert detokenizer.stopped == (end is not None)


def test_what_may_be_a_stop_is_held_back() -> None:
    assert stop_begun("go on\n\nUs", ["\n\nUser:"]) == 4
    assert stop_begun("go on", ["\n\nUser:"]) == 0
    assert stop_begun("", ["x"]) == 0


@pytest.mark.parametrize("architecture", ["llama", "t5"])
@pytest.mark.parametrize("beams", [1, 2])
def test_stop_sequence_over_tokens(architecture: str, beams: int, lease_of: LeaseOf) -> None:
    lease = lease_of(architecture)
    options = {"do_sample": False, "num_beams": beams, "include_prompt": False}
    whole = ask(lease, max_output_length=40, **options).texts[0]
    if architecture == "t5":
        options.pop("include_prompt")
    stop = whole[len(whole) // 3 : len(whole) // 3 + 5]
    streamed = Deltas()
    result = ask(
        lease,
        max_output_length=40,
        stop_sequences=[stop, "never there"],
        on_text=streamed,
        **options,
    )
    if beams == 1:
        assert result.texts == [whole[: whole.find(stop)]]
        assert result.finish_reasons == ["stop"]
        assert result.usage["generated"] < 40
    assert stop not in result.texts[0]
    assert streamed.texts.get(0, "") == result.texts[0]
    assert result.parameters["stop_sequences"] == [stop, "never there"]


def test_stop_sequences_of_the_generation_config(
    tmp_path: Path, folder_of: Callable[[str], Path], cache: ModelCache
) -> None:
    with done(cache.acquire(ModelSpec(str(folder_of("llama"))))) as lease:
        whole = ask(lease, "fox", do_sample=False, include_prompt=False, max_output_length=30)
    stop = whole.texts[0][6:9]
    folder = tiny_models.save(tmp_path / "m", generation={"stop_strings": [stop]})
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        result = ask(lease, "fox", do_sample=False, include_prompt=False, max_output_length=30)
        other = ask(
            lease, "fox", do_sample=False, include_prompt=False, max_output_length=30,
            stop_sequences=["never there"],
        )  # fmt: skip
    assert result.finish_reasons == ["stop"]
    assert other.texts == whole.texts


def test_each_sequence_stops_on_its_own(lease: Lease) -> None:
    options = {"seed": 1, "num_return_sequences": 4, "max_output_length": 30, "temperature": 1.5}
    plain = ask(lease, "fox", include_prompt=False, **options)
    stop = plain.texts[2][4:7]
    stopped = ask(lease, "fox", include_prompt=False, stop_sequences=[stop], **options)
    for before, after, reason in zip(
        plain.texts, stopped.texts, stopped.finish_reasons, strict=True
    ):
        assert after == before.split(stop)[0]
        assert (reason == "stop") == (stop in before)


@pytest.mark.parametrize("beams", [1, 2])
def test_cancel_ends_within_a_token(lease: Lease, beams: int) -> None:
    """The engine is held in on_text after some tokens; no token may follow the one it is in."""
    reached, go_on = threading.Event(), threading.Event()
    calls: list[str] = []

    def on_text(sequence: int, offset: int, text: str) -> None:
        calls.append(text)
        if len(calls) == 4 or beams > 1:
            reached.set()
            go_on.wait(30)

    asked = GenerationParameters(seed=1, num_beams=beams, max_output_length=100)
    generation = lease.generate("Once upon a", asked, on_text)
    assert reached.wait(30)
    generation.cancel()
    generation.cancel()
    go_on.set()
    result = done(generation.future)
    assert result.finish_reasons == ["cancelled"]
    if beams == 1:
        assert len(calls) <= 5
        assert result.texts == ["".join(calls)]
        assert 3 <= result.usage["generated"] <= 8
    else:
        assert result.usage["generated"] <= 1
    generation.cancel()


def test_tokens_after_the_end_are_not_taken() -> None:
    """On MPS generate() goes on for a step after the criterion ended a row."""
    asked = SamplingParams(
        prompt="", tokens=[1], seed=1, stop_ids=frozenset({2}), max_new_tokens=9,
        include_prompt=False, num_return_sequences=2,
    )  # fmt: skip
    stream = Stream(asked, None)
    watch = StoppingCriteria(asked, decode, [1], threading.Event(), stream, None, lambda: None)
    ids = torch.tensor([[1], [1]])
    ended = []
    for step in ([40, 41], [2, 42], [50, 43], [51, 2], [52, 53]):
        ids = torch.cat([ids, torch.tensor(step)[:, None]], dim=1)
        ended.append(watch(ids).tolist())
    watch.finish(ids)
    assert ended == [[False, False], [True, False], [True, False], [True, True], [True, True]]
    assert stream.texts() == [decode([40]), decode([41, 42, 43])]
    assert (watch.reasons, watch.generated) == (["eos", "eos"], 6)


def test_a_queued_request_is_cancelled_at_once(lease: Lease) -> None:
    running, go_on = threading.Event(), threading.Event()

    def hold(sequence: int, offset: int, text: str) -> None:
        running.set()
        go_on.wait(30)

    first = lease.generate("a", GenerationParameters(max_output_length=2), hold)
    assert running.wait(30)
    second = lease.generate("b", GenerationParameters(max_output_length=2))
    third = lease.generate("c", GenerationParameters(max_output_length=2, seed=1))
    assert (lease.info.running, lease.info.queued) == (1, 2)
    second.cancel()
    result = second.future.result(0)
    assert (result.texts, result.finish_reasons) == (["b"], ["cancelled"])
    assert result.parameters["seed"] >= 0
    go_on.set()
    assert done(first.future).finish_reasons == ["length"]
    assert done(third.future).texts[0].startswith("c")


def test_requests_are_served_in_order(lease: Lease) -> None:
    order: list[str] = []
    asked = GenerationParameters(max_output_length=2)
    generations = []
    for name in "abcdef":
        generation = lease.generate(name, asked)
        generation.future.add_done_callback(lambda _, name=name: order.append(name))
        generations.append(generation)
    for generation in generations:
        done(generation.future)
    assert order == list("abcdef")


def test_who_waits_is_told_how_many_are_ahead(lease_of: LeaseOf) -> None:
    lease = lease_of("mamba")  # which generates one after the other
    running, go_on = threading.Event(), threading.Event()

    def hold(sequence: int, offset: int, text: str) -> None:
        running.set()
        go_on.wait(30)

    asked = GenerationParameters(max_output_length=2)
    told: list[list[int]] = [[] for _ in range(5)]
    first = lease.generate("a", asked, hold, told[0].append)
    assert running.wait(30)
    waiting = [lease.generate("b", asked, None, each.append) for each in told[1:]]
    assert told == [[], [1], [2], [3], [4]]
    waiting[1].cancel()
    assert told == [[], [1], [2], [3, 2], [4, 3]]
    go_on.set()
    for generation in (first, *waiting):
        done(generation.future)
    assert told == [[], [1, 0], [2], [3, 2, 1, 0], [4, 3, 2, 1, 0]]


def test_a_place_that_is_told_late_is_not_told() -> None:
    told: list[int] = []
    place = QueuePosition(told.append)
    for ahead in (5, 3, 4, 3, 0, 1):
        place.tell(ahead)
    assert told == [5, 3, 0]
    place = QueuePosition(told.append)
    place.tell(0)
    place.tell(1)
    assert told == [5, 3, 0]


def test_a_listener_of_places_that_fails_is_told_once() -> None:
    calls: list[int] = []

    def fail(ahead: int) -> None:
        calls.append(ahead)
        raise RuntimeError("page is gone")

    place = QueuePosition(fail)
    place.tell(2)
    place.tell(1)
    assert calls == [2]
