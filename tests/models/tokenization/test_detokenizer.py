"""Text while its tokens come: what is shown stays, and the end is what was shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from standins.tokenizers_of_kinds import KINDS, tokenizer_of

from modelcompose_jupyter.models.tokenization import detokenizer as detokenizer_module
from modelcompose_jupyter.models.tokenization.detokenizer import (
    Decoder,
    Detokenizer,
    find_stop,
    stop_begun,
)

LOSSLESS = ("byte-level", "byte-fallback")
TEXTS = [
    "옛날 옛적에 작은 여우가 살았습니다",
    "日本語の東京都、吾輩は猫である。",
    "a 👩‍🔬 and 👨‍👩‍👧‍👦 🏳️‍🌈 🇰🇷 ok",
    "é ü ñ, naïve e\u0301 한",
    "tabs\tand\nlines\n\n  and blanks  ",
    "\ufffd it is written here \ufffd",
    "\ufffd",
    "",
]
ANY_TEXT = st.one_of(
    st.sampled_from(TEXTS),
    st.text(max_size=12),
    st.text(alphabet="옛날여우日本語東京 🦊👩\u200d🔬\ufe0f\ufffda.,!?' nt", max_size=16),
)


def tokens_of(kind: str, text: str) -> list[int]:
    return list(tokenizer_of(kind)(text, add_special_tokens=False)["input_ids"])


def as_it_comes(kind: str, prompt: Sequence[int], tokens: Sequence[int], stops: Any = ()) -> str:
    """The whole text, of its deltas."""
    detokenizer = Detokenizer(Decoder(tokenizer_of(kind)), prompt, stops)
    deltas = []
    for token in tokens:
        deltas.append(detokenizer.push(token))
        if detokenizer.stopped:
            break
    deltas.append(detokenizer.finish())
    assert detokenizer.finish() == ""
    return "".join(deltas)


def continued(kind: str, prompt: Sequence[int], tokens: Sequence[int]) -> str:
    """What tokens add to a prompt, as the tokenizer itself decodes both."""
    decode = tokenizer_of(kind).decode
    before = decode(list(prompt), skip_special_tokens=True)
    whole = decode([*prompt, *tokens], skip_special_tokens=True)
    assert whole.startswith(before)
    return str(whole[len(before) :])


@pytest.mark.parametrize("kind", LOSSLESS)
@settings(max_examples=150, deadline=None)
@given(prompt=ANY_TEXT, text=ANY_TEXT)
@example(prompt="옛날옛날", text="여여여")
@example(prompt="日本語日本語", text="東京都")
@example(prompt="날", text="여여여여")
@example(prompt="a", text="\n🦊")
def test_every_cut_shows_whole_characters_alone(kind: str, prompt: str, text: str) -> None:
    before, tokens = tokens_of(kind, prompt), tokens_of(kind, text)
    if kind == "byte-fallback" and tokens[:1] == tokens_of(kind, " ")[:1]:
        before = before or tokens_of(kind, "a")  # its first blank is a mark, not a text
    whole = continued(kind, before, tokens)
    ends = [as_it_comes(kind, before, tokens[:cut]) for cut in range(len(tokens) + 1)]
    assert ends[-1] == whole
    assert all(whole.startswith(each) for each in ends)
    lost = [len(whole.encode()) - len(each.encode()) for each in ends]
    assert lost == sorted(lost, reverse=True)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_tokens_come_a_text_ends_before_its_first_stop(
    kind: str, data: st.DataObject
) -> None:
    ids = st.lists(st.integers(0, len(tokenizer_of(kind)) - 1), max_size=24)
    prompt, tokens = data.draw(ids), data.draw(ids)
    whole = as_it_comes(kind, prompt, tokens)
    parts = st.text(min_size=1, max_size=3)
    if whole:
        places = st.integers(0, len(whole) - 1)
        parts |= places.flatmap(lambda at: st.just(whole[at : at + 3]))
    stops = data.draw(st.lists(parts))
    stopped = as_it_comes(kind, prompt, tokens, stops)
    assert whole.startswith(stopped)
    assert not any(stop in stopped for stop in stops)
    assert (stopped == whole) == (find_stop(whole, stops) is None)


@settings(max_examples=150, deadline=None)
@given(prefix=ANY_TEXT, data=st.data())
def test_wrong_bytes_spoil_no_character_beside_them(prefix: str, data: st.DataObject) -> None:
    """A byte-fallback decoder gives a whole run up for one wrong byte."""
    kind = "byte-fallback"
    byte = [tokenizer_of(kind).convert_tokens_to_ids(f"<0x{each:02X}>") for each in range(256)]
    run = data.draw(st.binary(max_size=12))
    tokens = [byte[each] for each in prefix.encode()] + [byte[each] for each in run]
    text = (prefix.encode() + run).decode("utf-8", "replace")
    shown = as_it_comes(kind, tokens_of(kind, "a"), tokens)
    assert text.startswith(shown)
    assert text.removeprefix(shown).strip("\ufffd") == ""


@pytest.mark.parametrize("kind", ["wordpiece", "wordpiece, cleaned up"])
@pytest.mark.parametrize(
    "text",
    [
        "the fox did n't do a thing .",
        "once ' upon ' a time , i ' ve re m",
        "옛날에 여우가",
        "n ' t !",
    ],
)
def test_words_are_shown_as_the_tokenizer_joins_them(kind: str, text: str) -> None:
    before, tokens = tokens_of(kind, "once upon"), tokens_of(kind, text)
    for cut in range(len(tokens) + 1):
        assert as_it_comes(kind, before, tokens[:cut]) == continued(kind, before, tokens[:cut])


def test_a_first_blank_is_shown_behind_special_tokens() -> None:
    kind = "byte-fallback"
    tokenizer = tokenizer_of(kind)
    begins = tokens_of(kind, "a") + [tokenizer.bos_token_id] * 20
    assert as_it_comes(kind, begins, tokens_of(kind, "to")) == " to"
    inside = [tokenizer.eos_token_id] * 20
    assert as_it_comes(kind, tokens_of(kind, "a"), inside + tokens_of(kind, "to")) == " to"


def test_a_character_that_the_prompt_begins_is_finished() -> None:
    for kind in LOSSLESS:
        prompt, rest = tokens_of(kind, "날")[:-1], tokens_of(kind, "날")[-1:]
        if rest and prompt:
            assert as_it_comes(kind, prompt, rest) == "날"


def test_a_special_token_inside_a_character_is_not_seen() -> None:
    for kind in LOSSLESS:
        tokens = tokens_of(kind, "🦊")
        assert len(tokens) > 1
        eos = tokenizer_of(kind).eos_token_id
        text = as_it_comes(kind, tokens_of(kind, "a"), [*tokens[:1], eos, *tokens[1:]])
        assert text.endswith("🦊")


def test_a_token_costs_the_same_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []  # tokens
    searched: list[int] = []  # characters
    decoder = Decoder(tokenizer_of("byte-level"))

    def decode(ids: Sequence[int]) -> str:
        decoded.append(len(ids))
        return decoder(ids)

    def counted(search: Callable[..., Any]) -> Callable[..., Any]:
        def counting(text: str, stops: Sequence[str]) -> Any:
            searched.append(len(text))
            return search(text, stops)

        return counting

    for search in (find_stop, stop_begun):
        monkeypatch.setattr(detokenizer_module, search.__name__, counted(search))
    text = "옛날 옛적에 " * 400
    detokenizer = Detokenizer(decode, [], ["옛적에 여우", "늑대"])
    deltas = [detokenizer.push(token) for token in tokens_of("byte-level", text)]
    assert "".join([*deltas, detokenizer.finish()]) == text
    assert max(decoded) < 20
    assert max(searched) < 40
    assert max(map(len, deltas)) < 10
