"""Coloured text that a notebook keeps."""

from __future__ import annotations

import html
import re

import pytest
from standins.tokens import a_run, token

from modelcompose_jupyter import token_html as module
from modelcompose_jupyter.token_html import percent, run_html, token_html, visible


def text_of(shown: str) -> str:
    """What is read where no style and no tooltip is left, as on a page that takes them out."""
    return html.unescape(re.sub(r"<[^>]*>", "", shown))


def test_the_text_is_as_it_is_and_what_is_unlikely_has_colour() -> None:
    tokens = [token(" <sure>", 0.95), token(" maybe", 0.5), token("\n", 0.001)]
    shown = token_html(tokens, before="It & I")
    assert text_of(shown) == "It & I <sure> maybe\n"
    assert "<sure>" not in shown
    colours = re.findall(r'<span( style="[^"]*")? title="[^"]*">([^<]*)</span>', shown)
    assert [bool(style) for style, _ in colours] == [False, True, True]
    assert [text for _, text in colours] == ["&lt;sure&gt;", "maybe", "\n"]
    assert "underline solid" in colours[2][0]


def test_a_tooltip_says_what_was_likely() -> None:
    (title,) = re.findall(r'title="([^"]*)"', token_html([token(" dark", 0.42)]))
    assert html.unescape(title).splitlines() == ["␣dark  42 %, rank 1", "    ␣other  42 %"]


def test_the_end_of_a_text_and_what_a_stop_sequence_has_cut_are_shown_as_such() -> None:
    run = a_run("", [token("one"), token("\nStop"), token("", name="<|end|>")], text="one")
    assert text_of(run_html(run)) == "one↵Stop<|end|>"
    assert re.findall("<code>([^<]*)</code>", run_html(run)) == ["↵Stop", "&lt;|end|&gt;"]


def test_a_run_without_tokens_has_none() -> None:
    assert run_html(a_run("", [], text="plain")) == ""


def test_long_texts_take_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_EXPLAINED", 2)
    monkeypatch.setattr(module, "_MOST_COLOURED", 4)
    shown = token_html([token(" a", 0.2)] * 6)
    assert (shown.count("title="), shown.count("background-color")) == (2, 4)
    assert text_of(shown) == " a" * 6


def test_probabilities_and_blanks_are_seen() -> None:
    shares = (1.0, 0.996, 0.42, 0.0996, 0.042, 0.001, 0.0001)
    words = ["> 99 %", "> 99 %", "42 %", "10 %", "4.2 %", "0.1 %", "< 0.1 %"]
    assert [percent(each) for each in shares] == words
    assert visible(" a\t\r\n\n") == "␣a⇥↵↵↵"
