"""Which markers a model has, where its prompt leaves it, and a reply taken apart as it comes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standins import chat_templates
from standins.thinking_models import (
    CHANNELS,
    GPT_OSS,
    GRANITE,
    MAGISTRAL,
    OPENED,
    QWEN_3,
    SMOLLM_3,
    THINK,
    tokenizer,
)

from modelcompose_jupyter.models.tokenization.detokenizer import Decoder
from modelcompose_jupyter.models.tokenization.marker_tokens import MarkerTokens, begun
from modelcompose_jupyter.models.tokenization.reply_text import ReplyText
from modelcompose_jupyter.models.tokenization.thinking import (
    KNOWN,
    Markers,
    Phase,
    Reply,
    Thinking,
    find,
    switch,
)
from modelcompose_jupyter.models.tokenization.token_texts import TokenTexts

PLAIN, _, _, HARMONY, *_ = KNOWN


class Model:
    """A tokenizer, and what is made of it for thoughts."""

    def __init__(self, template: str, markers: tuple[str, ...], special: bool = False) -> None:
        self.tokenizer = tokenizer(template, markers, special=special)
        self.decode = Decoder(self.tokenizer)
        self.texts = TokenTexts(self.decode)
        self.tokens = MarkerTokens(self.tokenizer, self.decode, self.texts)
        found = find(self.decode.added, template)
        assert found is not None
        self.markers = found

    def reply(self, phase: Phase = Phase.BEGIN, *, trims: bool = True) -> Reply:
        return Reply(Thinking(self.markers, phase), self.texts, trims=trims)

    def read(
        self, text: str, phase: Phase = Phase.BEGIN, stops: tuple[str, ...] = ()
    ) -> tuple[str, str, int]:
        """The thoughts and the answer of a text, and how many tokens the first have."""
        reader = ReplyText(self.decode, (), stops, self.reply(phase))
        added = [reader.push(token) for token in self.decode.encoded(text)]
        added.append(reader.finish())
        thought = "".join(each.reasoning for each in added)
        return thought, "".join(each.text for each in added), reader.reasoning_tokens


WHOLE = Model(QWEN_3, THINK)
SPECIAL = Model(QWEN_3, THINK, special=True)
PIECES = Model(QWEN_3, ())
CHANNELLED = Model(GPT_OSS, CHANNELS, special=True)


@pytest.mark.parametrize(
    ("added", "template", "opening"),
    [
        (THINK, "", "<think>"),
        ((), QWEN_3, "<think>"),
        ((), chat_templates.DEEPSEEK, "<think>"),
        (("[THINK]", "[/THINK]"), MAGISTRAL, "[THINK]"),
        (("<|channel|>", "<|end|>"), GPT_OSS, "<|channel|>analysis<|message|>"),
        ((), "{# Here is my thought process: … Here is my response: … #}", "Here is my thought"),
    ],
)
def test_markers_are_found(added: tuple[str, ...], template: str, opening: str) -> None:
    found = find(frozenset(added), template)
    assert found is not None and found.opening.startswith(opening)


@pytest.mark.parametrize(
    ("added", "template"), [((), ""), (("<think>",), ""), ((), "no </think>"), (CHANNELS, "")]
)
def test_what_has_no_pair_of_markers_has_none(added: tuple[str, ...], template: str) -> None:
    assert find(frozenset(added), template) is None


@pytest.mark.parametrize(
    ("template", "on", "off"),
    [
        (QWEN_3, {"enable_thinking": True}, {"enable_thinking": False}),
        (SMOLLM_3, {"enable_thinking": True}, {"enable_thinking": False}),
        (GRANITE, {"thinking": True}, {"thinking": False}),
        (OPENED, {}, {}),
        (GPT_OSS, {}, {"reasoning_effort": "low"}),
        ("{{ reasoning_effort == 'none' }}", {}, {"reasoning_effort": "none"}),
        ("{% for m in messages %}{{ m.thinking }}{% endfor %}", {}, {}),
        ("{% if %}", {}, {}),
    ],
)
def test_switches_are_those_that_a_template_reads(template: str, on: Any, off: Any) -> None:
    assert (switch(template, True), switch(template, False)) == (on, off)


@pytest.mark.parametrize(
    ("markers", "prompt", "begun", "phase"),
    [
        (PLAIN, "<|im_start|>assistant\n", "", Phase.BEGIN),
        (PLAIN, "assistant\n<think>\n", "", Phase.THOUGHT),
        (PLAIN, "assistant\n<think>\n\n</think>\n\n", "", Phase.ANSWER),
        (PLAIN, "user: say <think> twice\nassistant\n", "", Phase.BEGIN),
        (PLAIN, "assistant\nOnce upon", "Once upon", Phase.ANSWER),
        (PLAIN, "assistant\n<think>\nHm", "<think>\nHm", Phase.THOUGHT),
        (PLAIN, "assistant\n<think>Hm</think> A", "<think>Hm</think> A", Phase.ANSWER),
        (HARMONY, "<|start|>assistant", "", Phase.BEGIN),
        (HARMONY, "<|start|>assistant<|channel|>analysis<|message|>", "", Phase.THOUGHT),
        (HARMONY, "<|start|>assistant<|channel|>final<|message|>", "", Phase.ANSWER),
    ],
)
def test_a_prompt_says_where_a_reply_is(
    markers: Markers, prompt: str, begun: str, phase: Phase
) -> None:
    assert markers.phase_behind(prompt, begun) is phase


@pytest.mark.parametrize("model", [WHOLE, SPECIAL, PIECES], ids=["whole", "special", "pieces"])
@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("<think>\nA fox.\n</think>\n\nThe dog", "A fox.\n", "The dog"),
        ("\n<think> A fox</think>The dog", "A fox", "The dog"),
        ("<think></think> The dog", "", "The dog"),
        ("<think>\n\n</think>\n\n", "", ""),
        ("<think>A </thin ice> is </thi", "A </thin ice> is ", ""),
        ("<think>A fox", "A fox", ""),
        ("The <think>A</think> dog", "", "The <think>A</think> dog"),
        ("<think>A</think>B <think>C</think>", "A", "B <think>C</think>"),
        (" <b>The</b>", "", " <b>The</b>"),
        ("<thin", "", "<thin"),
        ("\n\n", "", "\n\n"),
        ("<think>한 🦊.</think>한 🦊", "한 🦊.", "한 🦊"),
        ("", "", ""),
    ],
)
def test_a_reply_is_taken_apart(model: Model, text: str, thought: str, answer: str) -> None:
    found = model.read(text)[:2]
    if model is SPECIAL:  # as special tokens within an answer are shown nowhere
        answer = answer.replace("<think>", "").replace("</think>", "")
    assert found == (thought, answer)


def test_a_thought_that_the_prompt_has_opened() -> None:
    assert WHOLE.read("A fox</think>The dog", Phase.THOUGHT)[:2] == ("A fox", "The dog")
    assert WHOLE.read("A fox</think>The dog", Phase.ANSWER)[:2] == ("", "A fox</think>The dog")


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        (
            "<|channel|>analysis<|message|>A fox.<|end|><|start|>assistant<|channel|>final"
            "<|message|>The dog",
            "A fox.", "The dog",
        ),
        ("<|channel|>final<|message|>The dog", "", "The dog"),
        (
            "<|channel|>analysis<|message|>A.<|end|><|start|>assistant<|channel|>analysis<|message|>"
            "B.<|end|><|start|>assistant<|channel|>final<|message|>C.",
            "A.\n\nB.", "C.",
        ),
        ("<|channel|>analysis<|message|>A fox.<|end|>", "A fox.", ""),
        ("The dog", "", "The dog"),
    ],
)  # fmt: skip
def test_a_reply_of_channels_is_taken_apart(text: str, thought: str, answer: str) -> None:
    assert CHANNELLED.read(text)[:2] == (thought, answer)


def test_tokens_of_thoughts_are_counted_without_markers() -> None:
    count = len(WHOLE.decode.encoded("A small fox."))
    for model in (WHOLE, PIECES):
        assert model.read("<think>A small fox. </think>The dog")[2] in (count, count + 1)
    assert WHOLE.read("<think></think>The dog")[2] == 0


def test_stops_are_looked_for_in_the_answer() -> None:
    text = "<think>A fox\n\nstops</think>\n\nThe dog stops here"
    assert WHOLE.read(text, stops=("\n\n", " stops"))[:2] == ("A fox\n\nstops", "The dog")


def test_a_copy_goes_on_by_itself() -> None:
    one = PIECES.reply()
    tokens = PIECES.decode.encoded("<think>")
    for token in tokens[:-1]:
        one.take(token)
    other = copy.copy(one)
    one.take(tokens[-1])
    assert (one.phase, other.phase) == (Phase.THOUGHT, Phase.BEGIN)
    assert list(other.held) == tokens[:-1]


@given(
    st.lists(
        st.sampled_from(["<", "think", ">", "</", "a", " b", "\n", "한", "</think>", "<think>"])
    )
)
def test_nothing_is_lost_but_markers_and_blanks(pieces: list[str]) -> None:
    text = "".join(pieces)
    for model in (WHOLE, PIECES):
        thought, answer, count = model.read(text)
        said = text.lstrip()
        if not said.startswith("<think>"):
            assert (thought, answer, count) == ("", text, 0)
            continue
        inner, closing, rest = said.removeprefix("<think>").partition("</think>")
        if not closing:  # its beginning is not shown
            inner = inner[: len(inner) - max(begun(inner, "</think>"), default=0)]
        assert (thought, answer) == (inner.lstrip(), rest.lstrip())


def test_all_tokens_that_would_complete_a_marker_are_known() -> None:
    mask = PIECES.tokens.not_completing("<think>", begun("a<think", "<think>"))
    closing = PIECES.tokenizer.get_vocab()[">"]
    assert not mask[closing]
    assert mask.sum() >= len(mask) - 3
    whole = WHOLE.tokens.not_completing("<think>", ())
    assert [*(~whole).nonzero()[0]] == [*WHOLE.tokens.of("<think>")]
    assert WHOLE.tokens.can_write(PLAIN)
    assert begun("x<th", "<think>") == (3,)
    assert begun("<think>", "<think>") == ()
