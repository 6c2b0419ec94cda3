"""Thoughts in the engine: apart from the text, off where they are off, within a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from standins import thinking_models
from standins.thinking_models import (
    BRACKETS,
    CHANNELS,
    GPT_OSS,
    GRANITE,
    MAGISTRAL,
    OPENED,
    QWEN_3,
    SMOLLM_3,
    THINK,
)

from modelcompose_jupyter.document.parameters import GenerationParameters
from modelcompose_jupyter.errors import InputError
from modelcompose_jupyter.models import (
    Beginning,
    Extension,
    GenerationResult,
    Lease,
    ModelCache,
    ModelSpec,
)

from ..conftest import WAIT, Deltas, done

SAID: list[Any] = [{"role": "user", "content": "Hello, fox"}]
KINDS: dict[str, dict[str, Any]] = {
    "qwen 3": {"template": QWEN_3},
    "smollm 3": {"template": SMOLLM_3},
    "magistral": {"template": MAGISTRAL, "markers": BRACKETS, "special": True},
    "in pieces": {"template": QWEN_3, "markers": ()},
    "gpt-oss": {"template": GPT_OSS, "markers": CHANNELS, "special": True},
}
"""How models mark their thoughts."""
MARKS = {
    "qwen 3": ("<think>\n", "\n</think>\n\n"),
    "smollm 3": ("<think>\n", "\n</think>\n"),
    "magistral": ("[THINK]", "[/THINK]"),
    "in pieces": ("<think>\n", ".</think>\n\n"),
    "gpt-oss": (
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
}
RUNTIMES: dict[str, tuple[str, dict[str, str]]] = {
    "in C": ("llama", {}),
    "on torch": ("llama", {"MODELCOMPOSE_NATIVE": "0"}),
    "one by one": ("mamba", {}),
}

LeaseOf = Callable[..., Lease]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    folders: dict[tuple[str, str], Path] = {}

    def folder_of(kind: str, architecture: str = "llama", **options: Any) -> Path:
        key = (kind, architecture)
        if key not in folders:
            given = KINDS.get(kind) or options
            folder = tmp_path_factory.mktemp("thinking")
            folders[key] = thinking_models.save(folder, **given, architecture=architecture)
        return folders[key]

    return folder_of


@pytest.fixture
def lease_of(cache: ModelCache, folder_of: Callable[..., Path]) -> LeaseOf:
    def lease_of(kind: str = "qwen 3", architecture: str = "llama", **options: Any) -> Lease:
        model = options.pop("model", {})
        folder = folder_of(kind, architecture, **options)
        found: Lease = done(cache.acquire(ModelSpec(str(folder), **model)))
        return found

    return lease_of


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The architecture that runs in each way that there is."""
    architecture, environment = RUNTIMES[request.param]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return architecture


class Thoughts(Deltas):
    """Collects what is streamed of thoughts."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[int] = []

    def told(self, sequence: int, offset: int, text: str, tokens: int) -> None:
        self(sequence, offset, text)
        self.counts.append(tokens)


def ids(kind: str, text: str) -> list[int]:
    """The tokens of a text."""
    given = KINDS[kind]
    made = thinking_models.tokenizer(
        given["template"], given.get("markers", THINK), special=given.get("special", False)
    )
    found: list[int] = made.encode(text, add_special_tokens=False)
    return found


def ask(
    lease: Lease,
    begins: Sequence[int] = (),
    *,
    messages: Any = None,
    on_text: Any = None,
    on_reasoning: Any = None,
    on_tokens: Any = None,
    extension: Extension | None = None,
    **parameters: Any,
) -> GenerationResult:
    """One request to its end, whose text begins with some tokens."""
    given = {"seed": 1, "temperature": 1.0, "max_output_length": 40, **parameters}
    asked = GenerationParameters(**given)
    grammar = None if asked.format is None else done(lease.compile(asked.format.llguidance))
    generation = lease.generate(
        messages or SAID,
        asked,
        on_text,
        extension=extension,
        beginning=Beginning([list(begins)]) if begins else None,
        grammar=grammar,
        on_reasoning=on_reasoning,
        on_tokens=on_tokens,
    )
    return generation.future.result(WAIT)


# Apart from the text


@pytest.mark.parametrize("kind", KINDS)
def test_thoughts_are_apart_from_the_text(kind: str, lease_of: LeaseOf, runtime: str) -> None:
    opening, closing = MARKS[kind]
    begins = ids(kind, f"{opening}A small fox.{closing}The dog")
    texts, thoughts = Deltas(), Thoughts()
    with lease_of(kind, runtime) as lease:
        result = ask(lease, begins, on_text=texts, on_reasoning=thoughts.told)
    assert result.reasoning == ["A small fox." + "." * (kind == "in pieces")]
    assert result.texts[0].startswith("The dog")
    assert texts.texts[0] == result.texts[0]
    assert thoughts.texts[0] == result.reasoning[0]
    count = len(ids(kind, f"{opening}A small fox.")) - len(ids(kind, opening.strip()))
    assert result.reasoning_tokens[0] in (count, count + 1)  # a line's end before the marker is one
    assert result.usage["reasoning"] == result.reasoning_tokens[0]


def test_without_a_thought_the_text_is_as_it_was(lease_of: LeaseOf, runtime: str) -> None:
    with lease_of("qwen 3", runtime) as lease:
        known = ask(lease, ids("qwen 3", "\n < A dog"))
    assert known.texts[0].startswith("\n < A dog")
    assert (known.reasoning, known.usage["reasoning"]) == ([""], 0)


@pytest.mark.parametrize("kind", ["qwen 3", "in pieces"])
def test_a_marker_within_the_answer_is_text(kind: str, lease_of: LeaseOf) -> None:
    with lease_of(kind) as lease:
        result = ask(lease, ids(kind, "The tag <think> opens a thought, </think> ends it"))
    assert result.texts[0].startswith("The tag <think> opens a thought, </think> ends it")
    assert result.reasoning == [""]


def test_stop_sequences_end_the_answer_alone(lease_of: LeaseOf, runtime: str) -> None:
    begins = ids("qwen 3", "<think>\nA fox\n\nand a dog\n</think>\n\nThe fox")
    with lease_of("qwen 3", runtime) as lease:
        result = ask(lease, begins, stop_sequences=["dog", "\n\n", " fox"])
    assert result.reasoning == ["A fox\n\nand a dog"]
    assert (result.texts, result.finish_reasons) == (["The"], ["stop"])


def test_what_is_cut_within_a_thought_has_no_text(lease_of: LeaseOf, runtime: str) -> None:
    begins = ids("qwen 3", "<think>\nA small fox who")
    with lease_of("qwen 3", runtime) as lease:
        result = ask(lease, begins, max_output_length=len(begins))
    assert (result.texts, result.reasoning) == ([""], ["A small fox who"])
    assert result.finish_reasons == ["length"]


def test_the_beginning_of_a_marker_is_not_shown_where_it_is_cut(lease_of: LeaseOf) -> None:
    begins = ids("in pieces", "<think>\nA fox</thi")
    with lease_of("in pieces") as lease:
        result = ask(lease, begins, max_output_length=len(begins))
    assert (result.texts, result.reasoning) == ([""], ["A fox"])


def test_a_prompt_may_open_the_thought(lease_of: LeaseOf, runtime: str) -> None:
    with lease_of("opened", runtime, template=OPENED) as lease:
        result = ask(lease, ids("qwen 3", "A fox\n</think>\n\nThe dog"))
        cut = ask(lease, ids("qwen 3", "A fox"), max_output_length=2)
    assert result.reasoning == ["A fox"]
    assert result.texts[0].startswith("The dog")
    assert (cut.texts, cut.reasoning) == ([""], ["A fox"])


def test_several_sequences_think_each_by_itself(lease_of: LeaseOf, runtime: str) -> None:
    with lease_of("opened", runtime, template=OPENED) as lease:
        result = ask(lease, num_return_sequences=3, thinking_budget=5, max_output_length=12)
        alone = ask(lease, thinking_budget=5, max_output_length=12)
    assert result.reasoning_tokens == [5, 5, 5]
    assert len(set(result.reasoning)) == 3
    assert all(result.texts)
    assert (result.reasoning[0], result.texts[0]) == (alone.reasoning[0], alone.texts[0])


def test_a_beam_search_tells_thoughts_at_its_end(lease_of: LeaseOf) -> None:
    begins = ids("qwen 3", "<think>\nA fox\n</think>\n\nThe dog")
    with lease_of() as lease:
        options = {"num_beams": 2, "do_sample": False, "temperature": None}
        result = ask(lease, begins, **options, stop_sequences=["fox"])
        off = ask(lease, **options, thinking=False, max_output_length=3)
    assert result.reasoning == ["A fox"]
    assert result.texts[0].startswith("The dog")
    assert off.finish_reasons == ["length"]
    with pytest.raises(ValueError, match="a beam search cannot hold to 'thinking_budget'"):
        GenerationParameters(num_beams=2, thinking_budget=1)


# Off is off


@pytest.mark.parametrize("kind", ["qwen 3", "smollm 3", "magistral"])
def test_off_is_off(kind: str, lease_of: LeaseOf, runtime: str) -> None:
    opening = ids(kind, MARKS[kind][0].strip())
    opened = set()
    with lease_of(kind, runtime) as lease:
        for seed in range(12):
            told: list[Any] = []

            def take(*each: Any, told: list[Any] = told) -> None:
                told.extend(each[3])

            asked = {"temperature": 5.0, "top_k": 0, "top_p": 1.0, "seed": seed, "logprobs": 0}
            ask(lease, **asked, thinking=False, on_tokens=take)
            opened |= {each["id"] for each in told} & set(opening)
        assert not opened
        with pytest.raises(InputError, match="it is not to think"):
            ask(lease, opening, thinking=False)


def test_off_is_off_where_the_marker_is_written_in_pieces(lease_of: LeaseOf) -> None:
    with lease_of("in pieces") as lease:
        for text in ("<think>", "Well, <think>"):
            begins = ids("in pieces", text)
            with pytest.raises(InputError, match="it is not to think"):
                ask(lease, begins, thinking=False)
            result = ask(lease, begins[:-1], thinking=False, temperature=9.0)
            assert result.texts[0].startswith(text[:-1])
            assert "<think>" not in result.texts[0]


def test_off_is_off_where_the_template_opens_the_thought(lease_of: LeaseOf, runtime: str) -> None:
    with lease_of("opened", runtime, template=OPENED) as lease:
        result = ask(lease, thinking=False)
    assert (result.reasoning, result.usage["reasoning"]) == ([""], 0)
    assert result.texts[0]
    assert result.warnings == [each for each in result.warnings if "thinking" not in each]


def test_off_is_off_where_answers_have_a_marker(lease_of: LeaseOf) -> None:
    told: list[Any] = []
    with lease_of("gpt-oss") as lease:
        result = ask(lease, thinking=False, logprobs=0, on_tokens=lambda *a: told.extend(a[3]))
    header = ids("gpt-oss", "<|channel|>final<|message|>")
    assert [each["id"] for each in told[: len(header)]] == header
    assert (result.reasoning, result.warnings) == ([""], [])


@pytest.mark.parametrize(
    ("template", "asked", "warning"),
    [
        (QWEN_3, {"thinking": True}, None),
        (QWEN_3, {"thinking": False}, None),
        (QWEN_3, {"enable_thinking": False}, None),
        (GRANITE, {"thinking": False}, None),
        (GRANITE, {"enable_thinking": False}, None),
        (OPENED, {"thinking": True}, None),
        (OPENED, {"thinking": False}, None),
        (MAGISTRAL, {"thinking": True}, "thinking has no effect: the model's chat template"),
        (QWEN_3, {"thinking": False, "thinking_budget": 3}, "thinking_budget has no effect"),
    ],
)  # fmt: skip
def test_what_has_no_effect_is_said(
    template: str, asked: dict[str, Any], warning: str | None, cache: ModelCache, tmp_path: Path
) -> None:
    folder = thinking_models.save(tmp_path / "model", template)
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        warnings = ask(lease, **asked, max_output_length=3).warnings
    assert [each for each in warnings if "thinking" in each] == (
        [] if warning is None else warnings
    )
    assert warning is None or warnings[0].startswith(warning)


@pytest.mark.parametrize("kind", ["qwen 3", "smollm 3"])
def test_the_switch_is_that_of_the_template(kind: str, lease_of: LeaseOf) -> None:
    with lease_of(kind) as lease:
        prompts = {
            name: ask(lease, **asked, max_output_length=1).usage["prompt"]
            for name, asked in {
                "auto": {"thinking": "auto"}, "nothing": {}, "on": {"thinking": True},
                "off": {"thinking": False}, "alias": {"enable_thinking": False},
            }.items()
        }  # fmt: skip
        system = [{"role": "system", "content": "/no_think"}, *SAID]
        said = ask(lease, messages=system, max_output_length=30, temperature=3.0)
    assert prompts["auto"] == prompts["nothing"] == prompts["on"]
    assert prompts["off"] == prompts["alias"] > prompts["on"]
    assert said.reasoning == [""]


def test_a_reply_that_has_begun_goes_on_in_its_part(lease_of: LeaseOf) -> None:
    def begun(said: str) -> Any:
        return [*SAID, {"role": "assistant", "content": said}]

    with lease_of() as lease:
        answer = ask(lease, ids("qwen 3", "<think>"), messages=begun("Once upon"))
        thought = ask(
            lease, messages=begun("<think>\nA fox"), thinking_budget=4, max_output_length=9
        )
    assert answer.texts[0].startswith("<think>")
    assert (answer.reasoning, thought.usage["reasoning"]) == ([""], 4)
    assert thought.texts[0]


# A budget


def test_a_template_may_read_the_budget(cache: ModelCache, tmp_path: Path) -> None:
    template = "{{ thinking_budget | default('none') }}" + OPENED
    folder = thinking_models.save(tmp_path / "model", template)
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        prompts = [
            ask(lease, **asked, max_output_length=1).usage["prompt"]
            for asked in ({"thinking_budget": 5}, {"thinking_budget": 1234567890}, {})
        ]
    assert len(set(prompts)) == 3


@pytest.mark.parametrize("budget", [0, 1, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_a_budget_ends_a_thought(kind: str, budget: int, lease_of: LeaseOf, runtime: str) -> None:
    opening, _ = MARKS[kind]
    told: list[Any] = []
    with lease_of(kind, runtime) as lease:
        result = ask(
            lease, ids(kind, opening.strip()), thinking_budget=budget, logprobs=0,
            on_tokens=lambda *each: told.extend(each[3]),
        )  # fmt: skip
    assert result.usage["reasoning"] == budget
    assert result.texts[0]
    parts = [each.get("part", "text") for each in told]
    thought = parts.count("reasoning")
    assert parts == ["reasoning"] * thought + ["text"] * (len(parts) - thought)
    closing = ids(kind, MARKS[kind][1].strip(".\n"))
    begin = len(ids(kind, opening.strip())) + budget
    assert [each["id"] for each in told[begin : begin + len(closing)]] == closing


def test_a_budget_changes_no_token_before_its_end(lease_of: LeaseOf, runtime: str) -> None:
    with lease_of("opened", runtime, template=OPENED) as lease:
        short, long = (ask(lease, thinking_budget=each) for each in (4, 20))
        together = [
            lease.generate(
                SAID,
                GenerationParameters(
                    seed=seed, temperature=1.0, max_output_length=40, thinking_budget=4
                ),
            )
            for seed in (3, 1, 2)
        ]
        others = [each.future.result(WAIT) for each in together]
    assert long.reasoning[0].startswith(short.reasoning[0].rstrip("\ufffd"))
    assert (others[1].reasoning, others[1].texts) == (short.reasoning, short.texts)


@pytest.mark.parametrize("options", [{"prompt_lookup": 4}, {"driver": "huggingface"}], ids=str)
def test_drafts_change_nothing(options: dict[str, Any], lease_of: LeaseOf) -> None:
    results = []
    for model in ({}, options):
        with lease_of("opened", template=OPENED, model=model) as lease:
            result = ask(lease, thinking_budget=12, do_sample=False, temperature=None)
            results.append((result.reasoning, result.texts))
    assert results[0] == results[1]


def test_a_longer_text_begins_as_the_shorter_one(lease_of: LeaseOf) -> None:
    with lease_of("opened", template=OPENED) as lease:
        cut = ask(lease, max_output_length=5, thinking_budget=9)
        longer = ask(
            lease, max_output_length=5, thinking_budget=9, extension=Extension(25, cut.tokens)
        )
        once = ask(lease, max_output_length=30, thinking_budget=9)
    assert (cut.texts, cut.reasoning_tokens) == ([""], [5])
    assert (longer.reasoning, longer.texts) == (once.reasoning, once.texts)
    assert longer.usage["accepted_tokens"] >= 4


def test_a_thought_can_be_stopped(lease_of: LeaseOf) -> None:
    with lease_of("opened", template=OPENED) as lease:
        asked = GenerationParameters(seed=1, temperature=1.0)
        told: list[str] = []

        def stop(_: int, __: int, text: str, ___: int) -> None:
            told.append(text)
            generation.cancel()

        generation = lease.generate(SAID, asked, on_reasoning=stop)
        result = generation.future.result(WAIT)
    assert (result.texts, result.finish_reasons) == ([""], ["cancelled"])
    assert result.reasoning[0].startswith(told[0])


# With a format


@pytest.mark.parametrize("kind", KINDS)
def test_a_format_begins_behind_the_thought(kind: str, lease_of: LeaseOf, runtime: str) -> None:
    opening, _ = MARKS[kind]
    with lease_of(kind, runtime) as lease:
        result = ask(
            lease, ids(kind, opening.strip()), thinking_budget=6, temperature=3.0,
            format={"choices": ["yes", " no", "perhaps"]},
        )  # fmt: skip
    assert result.usage["reasoning"] == 6
    assert result.texts[0] in ("yes", " no", "perhaps")
    assert result.finish_reasons == ["eos"]


@pytest.mark.parametrize("letters", ["A-C", "<A-C"])
@pytest.mark.parametrize("thinking", [None, True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_format_holds_whether_a_thought_comes_or_not(
    kind: str, thinking: bool | None, letters: str, lease_of: LeaseOf
) -> None:
    thought = 0
    with lease_of(kind) as lease:
        for seed in range(12):
            result = ask(
                lease, seed=seed, temperature=9.0, top_k=0, thinking=thinking, thinking_budget=3,
                format={"regex": f"[{letters}]{{2,4}}"}, max_output_length=60,
            )  # fmt: skip
            thought += result.usage["reasoning"] > 0
            assert result.finish_reasons == ["eos"]
            assert 2 <= len(result.texts[0]) <= 4
            assert set(result.texts[0]) <= set("<ABC")
    if thinking is False:
        assert thought == 0
    elif (kind, letters) != ("in pieces", "<A-C"):  # it takes luck to get past its first piece
        assert thought > 0


def test_a_text_of_a_format_does_not_end_within_its_thought(lease_of: LeaseOf) -> None:
    ended = ids("qwen 3", "<think>\nA fox</s>")
    with lease_of() as lease:
        assert ask(lease, ended).finish_reasons == ["eos"]
        with pytest.raises(InputError, match="it cannot end within a thought"):
            ask(lease, ended, format={"choices": ["yes"]})


def test_a_format_that_wants_the_marker_gets_it(lease_of: LeaseOf) -> None:
    with lease_of() as lease:
        result = ask(lease, thinking=False, format={"choices": ["a <think> tag"]})
    assert result.texts == ["a <think> tag"]


# Tokens


def test_tokens_say_what_they_are_of(lease_of: LeaseOf, runtime: str) -> None:
    begins = ids("qwen 3", "<think>\nA small fox\n</think>\n\nThe dog")
    told: dict[int, Any] = {}

    def take(_: int, part: str, offset: int, tokens: list[Any], __: int) -> None:
        assert part == "text"
        told.update(enumerate(tokens, offset))

    with lease_of("qwen 3", runtime) as lease:
        result = ask(lease, begins, logprobs=1, on_tokens=take)
    tokens = [told[place] for place in range(len(told))]
    assert [each["id"] for each in tokens[: len(begins)]] == begins
    thought = "".join(each["text"] for each in tokens if each.get("part") == "reasoning")
    assert thought.rstrip() == result.reasoning[0] == "A small fox"
    answer = "".join(each["text"] for each in tokens if each.get("part") is None)
    assert answer == result.texts[0]
