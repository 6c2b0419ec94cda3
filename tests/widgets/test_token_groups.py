"""Tokens that are shown as one, and their colours: in the browser, in the kernel, for all eyes."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standins.tokens import token

import modelcompose_jupyter.widgets as widgets
from modelcompose_jupyter.token_html import HUE, LINES, OPACITIES, STEPS, step
from modelcompose_jupyter.workflow.token_groups import cut, groups

FOLDER = Path(widgets.__file__).parent
TEXTS = st.lists(st.sampled_from(["", "a", " be", "\n", "한"]), max_size=12)


@given(TEXTS, st.booleans())
def test_groups_add_something_each_and_hold_all_tokens_at_the_end(
    texts: list[str], ended: bool
) -> None:
    tokens = [token(text, id=place) for place, text in enumerate(texts)]
    found = list(groups(tokens, ended=ended))
    held = [each for group in found for each in group.tokens]
    assert held == tokens[: len(held)]
    assert [group.first for group in found] == [group.tokens[0].id for group in found]
    assert [group.text for group in found if group.text] == [text for text in texts if text]
    if ended:
        assert len(held) == len(tokens)
        beyond = [group for group in found if not group.text]
        assert found[len(found) - len(beyond) :] == beyond
        assert all(len(group.tokens) == 1 for group in beyond)
    else:
        assert all(group.text for group in found)


def test_tokens_of_one_character_are_as_likely_as_all_of_them_together() -> None:
    (group,) = groups([token("", 0.5), token("", 0.5), token("한", 0.1)], ended=True)
    assert group.probability == pytest.approx(0.025)


@given(TEXTS, st.integers(0, 20))
def test_what_is_beyond_the_end_of_a_text_adds_nothing_to_it(texts: list[str], length: int) -> None:
    tokens = [token(text, id=place) for place, text in enumerate(texts)]
    left = cut(tokens, length)
    assert "".join(each.text for each in left) == "".join(texts)[:length]
    assert [each.id for each in left] == [each.id for each in tokens]


def test_steps_are_the_browsers_and_end_with_the_least_likely() -> None:
    script = (FOLDER / "token_words.js").read_text("utf-8")
    (written,) = re.findall(r"TOKEN_STEPS = \[([^]]*)\]", script)
    assert tuple(map(float, written.split(","))) == STEPS
    assert [step(each) for each in (1.0, 0.9, 0.5, 0.3, 0.02, 0.001, None)] == [0, 0, 2, 2, 4, 5, 0]


def test_colours_are_the_style_sheets() -> None:
    style = (FOLDER / "run_view.css").read_text("utf-8")
    rules = re.findall(r'\.modelcompose-token\[data-step="(\d)"\] \{([^}]*)\}', style)
    assert [int(number) for number, _ in rules] == [1, 2, 3, 4, 5]
    for number, rule in rules:
        hue, opacity = re.findall(r"rgb\(([\d ]+) / ([\d.]+)\)", rule)[0]
        assert hue.split() == HUE.split(",")
        assert float(opacity) == OPACITIES[int(number)]
        lines = re.findall(r"underline (\w+)", rule)
        assert lines == [LINES[int(number)]] if int(number) in LINES else not lines


def luminance(colour: tuple[float, ...]) -> float:
    """Of sRGB in 0 to 255, as WCAG has it."""
    linear = [
        v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in map(_of_1, colour)
    ]
    return sum(share * each for share, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _of_1(value: float) -> float:
    return value / 255


# JupyterLab's content and its ground; the text of the dark theme, and a dimmer one.
THEMES = {
    "light": ((255, 255, 255), (33, 33, 33)),
    "dark": ((17, 17, 17), (255, 255, 255)),
    "dim": ((17, 17, 17), (224, 224, 224)),
}


@pytest.mark.parametrize("theme", THEMES)
def test_colours_are_told_apart_by_lightness_alone_and_text_on_them_is_read(theme: str) -> None:
    ground, text = THEMES[theme]
    hue = tuple(map(int, HUE.split(",")))
    grounds = [
        tuple(opacity * a + (1 - opacity) * b for a, b in zip(hue, ground, strict=True))
        for opacity in OPACITIES
    ]
    lights = [luminance(each) for each in grounds]
    lightness = [116 * each ** (1 / 3) - 16 for each in lights]
    steps = [b - a for a, b in pairwise(lightness)]
    assert all(abs(each) > 4.5 for each in steps)
    assert len({each > 0 for each in steps}) == 1
    for light in lights:
        most, least = sorted((light, luminance(text)), reverse=True)
        assert (most + 0.05) / (least + 0.05) >= 4.5
